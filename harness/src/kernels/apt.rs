//! Mirrors of Debian in this machine's apt configuration: one-line
//! `sources.list` files and deb822 `.sources` files (sources.list(5)).

use std::fs;
use std::path::{Path, PathBuf};

use super::catalogue::ArchiveKind;

/// Where apt keeps its sources.
const DIRECTORY: &str = "/etc/apt";

/// An archive of this machine's apt sources.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AptSource {
    /// Where it is.
    pub uri: String,
    /// Its suites.
    pub suites: Vec<String>,
    /// The keyring that signs it, or the key itself in several lines; apt's own
    /// trusted keys where there is none.
    pub signed_by: Option<String>,
}

/// A mirror of Debian.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mirror {
    /// Where it is.
    pub uri: String,
    /// As in [`AptSource`].
    pub signed_by: Option<String>,
}

/// The code names of Debian's releases. A suite is a code name, or a code name,
/// a dash and more.
const RELEASES: &[&str] = &[
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// All sources of this machine.
pub fn sources() -> Vec<AptSource> {
    sources_below(Path::new(DIRECTORY))
}

fn sources_below(directory: &Path) -> Vec<AptSource> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory.join("sources.list.d"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    files.insert(0, directory.join("sources.list"));
    files
        .iter()
        .filter_map(|file| {
            let text = fs::read_to_string(file).ok()?;
            match file.extension()?.to_str()? {
                "list" => Some(parse_lines(&text)),
                "sources" => Some(parse_stanzas(&text)),
                _ => None,
            }
        })
        .flatten()
        .collect()
}

/// The mirror of one of Debian's archives among the sources. Without a source
/// of the security archive, it is taken to be beside the main one.
pub fn mirror(sources: &[AptSource], kind: ArchiveKind) -> Option<Mirror> {
    let of = |kind: ArchiveKind| {
        sources
            .iter()
            .find(|source| {
                source
                    .suites
                    .iter()
                    .any(|suite| kind_of(suite) == Some(kind))
            })
            .map(|source| Mirror {
                uri: source.uri.clone(),
                signed_by: source.signed_by.clone(),
            })
    };
    of(kind).or_else(|| match kind {
        ArchiveKind::Main => None,
        ArchiveKind::Security => of(ArchiveKind::Main).map(|main| main.security()),
    })
}

impl Mirror {
    /// The security archive, where mirrors put it: beside the main one.
    #[must_use]
    pub fn security(&self) -> Self {
        Self {
            uri: format!("{}-security", self.uri.trim_end_matches('/')),
            signed_by: self.signed_by.clone(),
        }
    }
}

/// Which archive a suite is in; `None` where it is not one of Debian's.
fn kind_of(suite: &str) -> Option<ArchiveKind> {
    let (release, rest) = suite.split_once(['-', '/']).unwrap_or((suite, ""));
    if !RELEASES.contains(&release) {
        return None;
    }
    match rest {
        "" | "updates" if !suite.contains('/') => Some(ArchiveKind::Main),
        "backports" | "proposed-updates" => Some(ArchiveKind::Main),
        // Releases up to buster: "buster/updates".
        "security" | "updates" => Some(ArchiveKind::Security),
        _ => None,
    }
}

/// `deb [signed-by=/usr/share/keyrings/a.gpg] URI SUITE COMPONENT...`
fn parse_lines(text: &str) -> Vec<AptSource> {
    text.lines()
        .filter_map(|line| {
            let line = line.split('#').next()?.trim();
            let mut rest = line.strip_prefix("deb")?;
            if !rest.starts_with(char::is_whitespace) {
                return None;
            }
            rest = rest.trim_start();
            let mut signed_by = None;
            if let Some(options) = rest.strip_prefix('[') {
                let (options, after) = options.split_once(']')?;
                signed_by = options
                    .split_whitespace()
                    .find_map(|option| option.strip_prefix("signed-by="))
                    .map(str::to_owned);
                rest = after;
            }
            let mut words = rest.split_whitespace();
            Some(AptSource {
                uri: words.next()?.to_owned(),
                suites: vec![words.next()?.to_owned()],
                signed_by,
            })
        })
        .collect()
}

/// Stanzas of `Key: value`, where a line that starts with white space goes on
/// with the value before.
fn parse_stanzas(text: &str) -> Vec<AptSource> {
    let mut sources = Vec::new();
    let mut stanza: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            sources.extend(sources_of(&stanza));
            stanza.clear();
        } else if line.starts_with(char::is_whitespace) {
            if let Some((_, value)) = stanza.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((key, value)) = line.split_once(':') {
            stanza.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    sources
}

fn sources_of(stanza: &[(String, String)]) -> Vec<AptSource> {
    let value = |key: &str| {
        stanza
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    };
    let words = |key: &str| value(key).unwrap_or_default().split_whitespace();
    if !words("types").any(|kind| kind == "deb") || value("enabled") == Some("no") {
        return Vec::new();
    }
    let suites: Vec<String> = words("suites").map(str::to_owned).collect();
    words("uris")
        .map(|uri| AptSource {
            uri: uri.to_owned(),
            suites: suites.clone(),
            signed_by: value("signed-by").map(str::to_owned),
        })
        .collect()
}

/// A `.sources` file of one suite of a mirror.
pub fn stanza(mirror: &Mirror, suite: &str) -> String {
    let signed_by = mirror
        .signed_by
        .as_ref()
        .map(|key| format!("Signed-By: {key}\n"))
        .unwrap_or_default();
    format!(
        "Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\nArchitectures: amd64\n\
         {signed_by}\n",
        mirror.uri
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE_LINE: &str = "\
# deb http://commented.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/a.gpg] http://mirror.example/debian bookworm main contrib
deb-src http://mirror.example/debian bookworm main
deb http://mirror.example/debian-security bookworm-security main # comment
debfoo http://mirror.example/x bookworm main
deb https://packages.example/node nodistro main
";

    const DEB822: &str = "\
Types: deb deb-src
# a comment within
URIs: http://mirror.example/debian/
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/b.gpg

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: trixie

types: deb
uris: https://packages.example/ubuntu
suites: noble noble-security
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQENBF
 -----END PGP PUBLIC KEY BLOCK-----
";

    #[test]
    fn the_mirror_is_found_in_one_line_sources() {
        let sources = parse_lines(ONE_LINE);
        assert_eq!(sources.len(), 3);
        let main = mirror(&sources, ArchiveKind::Main).unwrap();
        assert_eq!(main.uri, "http://mirror.example/debian");
        assert_eq!(main.signed_by.as_deref(), Some("/usr/share/keyrings/a.gpg"));
        let security = mirror(&sources, ArchiveKind::Security).unwrap();
        assert_eq!(security.uri, "http://mirror.example/debian-security");
        assert_eq!(security.signed_by, None);
    }

    #[test]
    fn the_mirror_is_found_in_deb822_sources() {
        let sources = parse_stanzas(DEB822);
        assert_eq!(sources.len(), 2);
        let main = mirror(&sources, ArchiveKind::Main).unwrap();
        assert_eq!(main.uri, "http://mirror.example/debian/");
        // No source: beside the main one.
        let security = mirror(&sources, ArchiveKind::Security).unwrap();
        assert_eq!(security.uri, "http://mirror.example/debian-security");
        assert_eq!(
            security.signed_by.as_deref(),
            Some("/usr/share/keyrings/b.gpg")
        );
        let key = sources[1].signed_by.as_deref().unwrap();
        assert!(key.starts_with("\n -----BEGIN") && key.ends_with("BLOCK-----"));
        assert_eq!(mirror(&sources[1..], ArchiveKind::Main), None);
    }

    #[test]
    fn sources_are_read_from_both_places_and_no_others() {
        let directory = tempfile::tempdir().unwrap();
        let parts = directory.path().join("sources.list.d");
        fs::create_dir(&parts).unwrap();
        fs::write(directory.path().join("sources.list"), ONE_LINE).unwrap();
        fs::write(parts.join("debian.sources"), DEB822).unwrap();
        fs::write(parts.join("old.sources.disabled"), DEB822).unwrap();
        assert_eq!(sources_below(directory.path()).len(), 5);
        assert!(sources_below(&directory.path().join("none")).is_empty());
    }

    #[test]
    fn suites_are_told_apart() {
        for (suite, kind) in [
            ("bookworm", Some(ArchiveKind::Main)),
            ("bookworm-updates", Some(ArchiveKind::Main)),
            ("trixie-backports", Some(ArchiveKind::Main)),
            ("stable-security", Some(ArchiveKind::Security)),
            ("bullseye/updates", Some(ArchiveKind::Security)),
            ("bookworm-pgdg", None),
            ("noble-security", None),
        ] {
            assert_eq!(kind_of(suite), kind, "{suite}");
        }
    }

    #[test]
    fn a_stanza_reads_back_as_it_was() {
        let mirror = Mirror {
            uri: "http://mirror.example/debian".to_owned(),
            signed_by: parse_stanzas(DEB822)[1].signed_by.clone(),
        };
        let read = parse_stanzas(&stanza(&mirror, "bullseye"));
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].uri, mirror.uri);
        assert_eq!(read[0].suites, ["bullseye"]);
        assert_eq!(read[0].signed_by, mirror.signed_by);
    }
}
