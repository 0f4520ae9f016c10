//! Releases of Linux, as `uname -r` gives them and as suites name them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A release of Linux by its first two numbers.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Release {
    major: u32,
    minor: u32,
}

impl Release {
    /// A release by its numbers.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Reads `Linux 6.11`. The word is there because YAML takes a bare 5.10 for
    /// the number 5.1.
    pub fn parse(text: &str) -> Option<Self> {
        let (_, minor) = text.strip_prefix("Linux ")?.split_once('.')?;
        let is_whole = minor.bytes().all(|byte| byte.is_ascii_digit());
        is_whole.then(|| Self::of_kernel(&text["Linux ".len()..]))?
    }

    /// The release of `6.12.117+deb12-cloud-amd64`; `None` where it does not
    /// begin with two numbers.
    pub fn of_kernel(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        let major = numbers.next()?;
        let minor = numbers.next()?;
        if release.as_bytes().get(major.len()) != Some(&b'.') {
            return None;
        }
        Some(Self::new(major.parse().ok()?, minor.parse().ok()?))
    }

    /// How many releases of Linux two are apart: 5 for 6.18 and 7.3, because 7.0
    /// came after 6.19. `None` where one is older than 3.0.
    pub fn distance(self, other: Self) -> Option<u32> {
        Some(self.ordinal()?.abs_diff(other.ordinal()?))
    }

    /// The place of a release in the order in which they came, from 3.0 on: 3.19,
    /// 4.20, 5.19 and 6.19 were the last of theirs.
    fn ordinal(self) -> Option<u32> {
        let lines_before = self.major.checked_sub(3)?;
        // One more for 4.20.
        let before = lines_before.checked_mul(20)?;
        before
            .checked_add(u32::from(self.major > 4))?
            .checked_add(self.minor)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {}.{}", self.major, self.minor)
    }
}

/// The line of a kernel release: `6.18` of `6.18.44-cloud`; the whole text where
/// it does not begin with two numbers.
pub fn kernel_line(release: &str) -> String {
    Release::of_kernel(release).map_or_else(
        || release.to_owned(),
        |Release { major, minor }| format!("{major}.{minor}"),
    )
}

/// How many releases of Linux two kernels are apart, see [`Release::distance`].
pub fn release_distance(one: &str, other: &str) -> Option<u32> {
    Release::of_kernel(one)?.distance(Release::of_kernel(other)?)
}

/// Of `known` the one whose release is nearest to `wanted`, and how many
/// releases they are apart; of two that are as near the older. `None` where
/// no distance is known.
pub fn nearest<T>(
    known: impl IntoIterator<Item = T>,
    release_of: impl Fn(&T) -> &str,
    wanted: &str,
) -> Option<(T, u32)> {
    let wanted = Release::of_kernel(wanted)?;
    known
        .into_iter()
        .filter_map(|one| {
            let release = Release::of_kernel(release_of(&one))?;
            Some((one, release.distance(wanted)?, release))
        })
        .min_by_key(|(_, distance, release)| (*distance, *release))
        .map(|(one, distance, _)| (one, distance))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_ordered_by_their_numbers() {
        let old = Release::parse("Linux 5.10").unwrap();
        let new = Release::of_kernel("6.12.117+deb12-cloud-amd64").unwrap();
        assert!(old < new && Release::parse("Linux 6.9").unwrap() < new);
        assert_eq!(new.to_string(), "Linux 6.12");
        assert_eq!(Release::of_kernel("7.3-rc1"), Some(Release::new(7, 3)));
        for wrong in [
            "5.10",
            "Linux",
            "Linux 6",
            "Linux 6.x",
            "linux 6.1",
            "Linux 6.1.2",
            "Linux 6-1",
        ] {
            assert_eq!(Release::parse(wrong), None, "{wrong}");
        }
        for wrong in ["", "next", "6", "6-1", ".6.1", "é.1", "99999999999.1"] {
            assert_eq!(Release::of_kernel(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_line_of_a_kernel_is_its_first_two_numbers() {
        for (release, line) in [
            ("6.18.44-fc", "6.18"),
            ("6.12", "6.12"),
            ("7.0-rc3", "7.0"),
            ("6", "6"),
            ("", ""),
        ] {
            assert_eq!(kernel_line(release), line);
        }
    }

    #[test]
    fn releases_are_counted_in_the_order_in_which_they_came() {
        for (one, other, distance) in [
            ("6.12.1", "6.12.117+deb12-cloud-amd64", 0),
            ("6.18.44", "6.12.117", 6),
            ("6.18.44", "7.3.4+deb13", 5),
            ("6.19", "7.0-rc1", 1),
            ("5.19.17", "6.0", 1),
            ("4.20", "5.0", 1),
            ("4.19.3", "5.10.2", 12),
            ("3.19", "4.0", 1),
        ] {
            assert_eq!(
                release_distance(one, other),
                Some(distance),
                "{one} {other}"
            );
            assert_eq!(
                release_distance(other, one),
                Some(distance),
                "{other} {one}"
            );
        }
        for unknown in ["", "6", "next", "2.6.32", "99999999999.1", "4294967295.1"] {
            assert_eq!(release_distance(unknown, "6.12"), None, "{unknown}");
        }
    }

    #[test]
    fn of_two_that_are_as_near_the_older_is_nearest() {
        let nearest = |known: &[&'static str], wanted| {
            nearest(known.iter().copied(), |release| release, wanted)
        };
        let debian = ["7.3.4", "6.12.117", "6.1.0-56", "5.10.0"];
        assert_eq!(nearest(&debian, "6.18.5"), Some(("7.3.4", 5)));
        assert_eq!(nearest(&debian, "6.12.9"), Some(("6.12.117", 0)));
        assert_eq!(nearest(&["6.14", "6.12"], "6.13.1"), Some(("6.12", 1)));
        assert_eq!(nearest(&["nonsense", "6.1"], "6.13"), Some(("6.1", 12)));
        assert_eq!(nearest(&debian, "nonsense"), None);
        assert_eq!(nearest(&[], "6.12"), None);
    }
}
