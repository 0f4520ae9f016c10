//! The kernels that can be fetched by name: lines of releases in suites of Debian.
//! `debian-6.1` is the newest release of its line, `debian-6.1=6.1.0-47` that one.

use std::cmp::Ordering;
use std::fmt;

/// Which of Debian's archives a suite is in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ArchiveKind {
    /// The archive itself.
    Main,
    /// The archive of security updates.
    Security,
}

/// A line of kernels.
#[derive(Debug)]
pub struct Line {
    /// Its name: `debian-6.12`.
    pub name: &'static str,
    /// The suites that may have its packages.
    pub suites: &'static [(ArchiveKind, &'static str)],
    /// The beginnings of its packages' names, up to the release. The first
    /// package has the vmlinuz.
    pub packages: &'static [&'static str],
}

/// The end of all packages' names: kernels for virtual machines, which are
/// small and have what a guest needs.
pub const FLAVOUR: &str = "-cloud-amd64";

/// All lines, oldest first. A line that mirrors have dropped stays here, for
/// those who have fetched it.
pub static LINES: &[Line] = &[
    Line {
        name: "debian-5.10",
        suites: &[
            (ArchiveKind::Main, "bullseye"),
            (ArchiveKind::Security, "bullseye-security"),
        ],
        packages: &["linux-image-5.10."],
    },
    Line {
        name: "debian-6.1",
        suites: &[
            (ArchiveKind::Main, "bookworm"),
            (ArchiveKind::Security, "bookworm-security"),
        ],
        packages: &["linux-image-6.1."],
    },
    Line {
        name: "debian-6.12",
        suites: &[
            (ArchiveKind::Main, "bookworm"),
            (ArchiveKind::Security, "bookworm-security"),
        ],
        packages: &["linux-image-6.12."],
    },
    Line {
        name: "debian-6.18",
        suites: &[(ArchiveKind::Main, "trixie-backports")],
        packages: &["linux-image-6.18."],
    },
    Line {
        name: "debian-7.3",
        suites: &[(ArchiveKind::Main, "trixie-backports")],
        packages: &["linux-binary-7.3.", "linux-modules-7.3."],
    },
];

/// The line of that name.
pub fn find(name: &str) -> Option<&'static Line> {
    LINES.iter().find(|line| line.name == name)
}

/// A line, or one release of it.
#[derive(Clone, Debug)]
pub struct LineRelease {
    /// The line.
    pub line: &'static Line,
    /// As in the names of packages: `6.1.0-47`, `6.12.117+deb12`. `None` for the newest
    /// at the time of fetching.
    pub release: Option<String>,
}

impl LineRelease {
    /// Parses `LINE` or `LINE=RELEASE`; `None` if no line has this name. A release may
    /// have its flavour, as `uname -r` prints it.
    pub fn parse(name: &str) -> Option<Self> {
        let (line, release) = match name.split_once('=') {
            Some((line, release)) => (line, Some(release)),
            None => (name, None),
        };
        let release = release.map(|release| release.strip_suffix(FLAVOUR).unwrap_or(release));
        let is_word = |text: &str| {
            let is_of_release = |byte: u8| byte.is_ascii_alphanumeric() || b".+~-".contains(&byte);
            text.bytes().all(is_of_release)
                && text.starts_with(|first: char| first.is_ascii_digit())
        };
        if release.is_some_and(|release| !is_word(release)) {
            return None;
        }
        Some(Self {
            line: find(line)?,
            release: release.map(str::to_owned),
        })
    }
}

impl fmt::Display for LineRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.line.name)?;
        match &self.release {
            Some(release) => write!(f, "={release}"),
            None => Ok(()),
        }
    }
}

impl PartialEq for LineRelease {
    fn eq(&self, other: &Self) -> bool {
        self.line.name == other.line.name && self.release == other.release
    }
}

impl Eq for LineRelease {}

/// A package that an archive offers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Offer {
    /// The package's name.
    pub package: String,
    /// Its version.
    pub version: String,
}

impl Line {
    /// Whether a package is the one of this line with the vmlinuz.
    pub fn is_image(&self, package: &str) -> bool {
        self.packages
            .first()
            .is_some_and(|prefix| release_of(package, prefix).is_some())
    }

    /// The names of all packages of the kernel whose image is `package`.
    pub fn packages_of(&self, package: &str) -> Vec<String> {
        let Some(release) = self
            .packages
            .first()
            .and_then(|prefix| release_of(package, prefix))
        else {
            return Vec::new();
        };
        self.packages
            .iter()
            .map(|prefix| format!("{prefix}{release}{FLAVOUR}"))
            .collect()
    }

    /// The release in the name of an image's package: `6.1.0-47`.
    pub fn release_in<'a>(&self, package: &'a str) -> Option<&'a str> {
        let prefix = self.packages.first()?;
        release_of(package, prefix)?;
        let number = prefix.find(|letter: char| letter.is_ascii_digit())?;
        package.get(number..)?.strip_suffix(FLAVOUR)
    }

    /// The images among the offers, oldest first, each in its newest version.
    pub fn images<'a>(&self, offers: &'a [Offer]) -> Vec<&'a Offer> {
        let mut images: Vec<&Offer> = offers
            .iter()
            .filter(|offer| self.is_image(&offer.package))
            .collect();
        images.sort_by(|one, other| compare_versions(&other.version, &one.version));
        let mut seen = std::collections::BTreeSet::new();
        images.retain(|image| seen.insert(image.package.as_str()));
        images.reverse();
        images
    }
}

/// The text between prefix and flavour; `None` where one is missing.
fn release_of<'a>(package: &'a str, prefix: &str) -> Option<&'a str> {
    package.strip_prefix(prefix)?.strip_suffix(FLAVOUR)
}

/// Compares two versions of packages as Debian does (deb-version(7)).
pub fn compare_versions(one: &str, other: &str) -> Ordering {
    fn split(version: &str) -> (u64, &str, &str) {
        let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
        (epoch.parse().unwrap_or(0), upstream, revision)
    }
    let (epoch, upstream, revision) = split(one);
    let (other_epoch, other_upstream, other_revision) = split(other);
    epoch
        .cmp(&other_epoch)
        .then_with(|| compare_parts(upstream, other_upstream))
        .then_with(|| compare_parts(revision, other_revision))
}

/// Compares texts and numbers by turns. In texts, `~` sorts before the end, the
/// end before letters, letters before all else.
fn compare_parts(mut one: &str, mut other: &str) -> Ordering {
    fn rank(byte: Option<u8>) -> i32 {
        match byte {
            Some(b'~') => -1,
            None => 0,
            Some(letter) if letter.is_ascii_alphabetic() => i32::from(letter),
            Some(byte) => i32::from(byte) + 256,
        }
    }
    fn take<'a>(rest: &mut &'a str, of: fn(&u8) -> bool) -> &'a str {
        let end = rest.bytes().take_while(of).count();
        let (taken, left) = rest.split_at(end);
        *rest = left;
        taken
    }
    while !one.is_empty() || !other.is_empty() {
        let text = take(&mut one, |byte| !byte.is_ascii_digit()).as_bytes();
        let other_text = take(&mut other, |byte| !byte.is_ascii_digit()).as_bytes();
        for at in 0..text.len().max(other_text.len()) {
            let order = rank(text.get(at).copied()).cmp(&rank(other_text.get(at).copied()));
            if order.is_ne() {
                return order;
            }
        }
        let number = take(&mut one, u8::is_ascii_digit).trim_start_matches('0');
        let other_number = take(&mut other, u8::is_ascii_digit).trim_start_matches('0');
        let order = (number.len().cmp(&other_number.len())).then_with(|| number.cmp(other_number));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_dpkg_orders_them() {
        let ordered = [
            "6.1.9-1~deb12u1",
            "6.1.9-1",
            "6.1.9-1+b1",
            "6.1.9-2",
            "6.1.10-1~bpo13+1",
            "6.1.10-1",
            "6.12.117-1~deb12u1",
            "6.12.117-1",
            "1:0.1-1",
        ];
        for (index, one) in ordered.iter().enumerate() {
            for (other_index, other) in ordered.iter().enumerate() {
                assert_eq!(
                    compare_versions(one, other),
                    index.cmp(&other_index),
                    "{one} {other}"
                );
            }
        }
        assert_eq!(compare_versions("1.02", "1.2"), Ordering::Equal);
        // A multi-byte character must not be cut in two.
        assert_eq!(compare_versions("1ä2", "1ä2"), Ordering::Equal);
    }

    #[test]
    fn the_newest_image_of_a_line_is_found_among_its_neighbours() {
        let offer = |package: &str, version: &str| Offer {
            package: package.to_owned(),
            version: version.to_owned(),
        };
        let offers = [
            offer("linux-image-6.1.0-9-cloud-amd64", "6.1.27-1"),
            offer("linux-image-6.1.0-56-cloud-amd64", "6.1.192-2"),
            offer("linux-image-6.1.0-56-cloud-amd64-unsigned", "6.1.999-2"),
            offer("linux-image-6.1.0-56-cloud-amd64-dbg", "6.1.999-2"),
            offer("linux-image-6.1.0-57-rt-amd64", "6.1.999-2"),
            offer(
                "linux-image-6.12.117+deb12-cloud-amd64",
                "6.12.117-1~deb12u1",
            ),
        ];
        let newest = |name: &str| {
            find(name)
                .unwrap()
                .images(&offers)
                .last()
                .map(|offer| offer.package.as_str())
        };
        assert_eq!(
            newest("debian-6.1"),
            Some("linux-image-6.1.0-56-cloud-amd64")
        );
        assert_eq!(
            newest("debian-6.12"),
            Some("linux-image-6.12.117+deb12-cloud-amd64")
        );
        assert_eq!(newest("debian-5.10"), None);
        assert_eq!(
            find("debian-7.3")
                .unwrap()
                .packages_of("linux-binary-7.3.4+deb13-cloud-amd64"),
            [
                "linux-binary-7.3.4+deb13-cloud-amd64",
                "linux-modules-7.3.4+deb13-cloud-amd64"
            ]
        );
    }

    #[test]
    fn a_release_is_named_as_its_packages_name_it() {
        let named = |text: &str| LineRelease::parse(text).map(|named| named.to_string());
        assert_eq!(named("debian-6.1").as_deref(), Some("debian-6.1"));
        for text in ["debian-6.1=6.1.0-47", "debian-6.1=6.1.0-47-cloud-amd64"] {
            assert_eq!(named(text).as_deref(), Some("debian-6.1=6.1.0-47"));
        }
        for text in [
            "debian-6",
            "6.1.0-47",
            "debian-6.1=",
            "debian-6.1=../x",
            "=6.1",
        ] {
            assert_eq!(named(text), None, "{text}");
        }
        let release = |line: &str, package| find(line).unwrap().release_in(package);
        assert_eq!(
            release("debian-6.1", "linux-image-6.1.0-47-cloud-amd64"),
            Some("6.1.0-47")
        );
        assert_eq!(
            release("debian-7.3", "linux-binary-7.3.4+deb13-cloud-amd64"),
            Some("7.3.4+deb13")
        );
        assert_eq!(release("debian-6.1", "linux-image-6.1.0-47-rt-amd64"), None);
    }

    #[test]
    fn names_are_distinct_and_sources_are_there() {
        for line in LINES {
            assert!(std::ptr::eq(find(line.name).unwrap(), line));
            assert!(!line.suites.is_empty() && !line.packages.is_empty());
        }
    }
}
