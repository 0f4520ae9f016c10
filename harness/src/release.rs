//! Releases of Linux, as suites name them and as `uname -r` gives them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::yaml::value::from_text;

/// A release of Linux by its first two numbers.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
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
        let (major, minor) = text.strip_prefix("Linux ")?.split_once('.')?;
        Some(Self::new(major.parse().ok()?, minor.parse().ok()?))
    }

    /// The release of `6.12.117+deb12-cloud-amd64`.
    pub fn of_kernel(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        let mut number = || numbers.next()?.parse().ok();
        Some(Self::new(number()?, number()?))
    }
}

impl Serialize for Release {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Release {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a release with the word before it, such as Linux 6.11";
        from_text(deserializer, expected, Self::parse)
    }
}

crate::yaml::value::inline_schema!(
    Release,
    {"type": "string", "pattern": "^Linux [0-9]+\\.[0-9]+$"}
);

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {}.{}", self.major, self.minor)
    }
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
        for wrong in ["5.10", "Linux", "Linux 6", "Linux 6.x", "linux 6.1"] {
            assert_eq!(Release::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Release::of_kernel("next"), None);
    }
}
