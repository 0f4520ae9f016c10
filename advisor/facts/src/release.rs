//! Releases of Linux: of which line one is, and how far two are apart.

/// The line of a kernel release: `6.18` of `6.18.44-cloud`.
pub fn kernel_line(release: &str) -> &str {
    let end = release
        .match_indices(|c: char| !c.is_ascii_digit())
        .map(|(at, _)| at)
        .nth(1);
    &release[..end.unwrap_or(release.len())]
}

/// How many releases of Linux two are apart, by their first two numbers: 0 for
/// 6.12.1 and 6.12.117, 5 for 6.18 and 7.3, because 7.0 came after 6.19. `None`
/// where one has no such numbers, or is older than 3.0.
pub fn release_distance(one: &str, other: &str) -> Option<u32> {
    Some(ordinal(one)?.abs_diff(ordinal(other)?))
}

/// Of `known` the one whose release is nearest to `wanted`, and how many
/// releases they are apart; of two that are as near the older. `None` where
/// no distance is known.
pub fn nearest<T>(
    known: impl IntoIterator<Item = T>,
    release_of: impl Fn(&T) -> &str,
    wanted: &str,
) -> Option<(T, u32)> {
    let wanted = ordinal(wanted)?;
    known
        .into_iter()
        .filter_map(|one| {
            let place = ordinal(release_of(&one))?;
            Some((one, place.abs_diff(wanted), place))
        })
        .min_by_key(|(_, distance, place)| (*distance, *place))
        .map(|(one, distance, _)| (one, distance))
}

/// The place of a release in the order in which they came, from 3.0 on: 3.19,
/// 4.20, 5.19 and 6.19 were the last of theirs.
fn ordinal(release: &str) -> Option<u32> {
    let (major, minor) = kernel_line(release).split_once(|c: char| !c.is_ascii_digit())?;
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    let lines_before = major.checked_sub(3)?;
    // One more for 4.20.
    let before = lines_before.checked_mul(20)?;
    before.checked_add(u32::from(major > 4))?.checked_add(minor)
}

#[cfg(test)]
mod tests {
    use super::*;

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
