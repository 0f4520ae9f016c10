//! The word that a misspelled one may mean.

/// A misspelled word has a change in so many letters at most.
const LETTERS_A_CHANGE: usize = 3;

/// `; did you mean "reason"?`, or nothing where no known word is near.
pub(crate) fn meant(word: &str, known: impl IntoIterator<Item = &'static str>) -> String {
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|known| (strsim::osa_distance(&lower, &known.to_lowercase()), known))
        .min()
        .filter(|(changes, _)| changes * LETTERS_A_CHANGE <= lower.chars().count())
        .map_or_else(String::new, |(_, known)| {
            format!("; did you mean {known:?}?")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_word_that_is_near_is_meant() {
        let known = ["code", "reason", "LB101"];
        assert_eq!(meant("Reson", known), "; did you mean \"reason\"?");
        assert_eq!(meant("LB999", known), "");
        assert_eq!(meant("", known), "");
    }
}
