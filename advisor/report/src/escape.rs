//! Text from elsewhere, made harmless for whoever reads it.

/// A text from elsewhere, with nothing in it that a terminal would obey:
/// control characters and those that turn the direction of the text.
pub fn inert(text: &str) -> String {
    let mut inert = String::with_capacity(text.len());
    for character in text.chars() {
        let turns = matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        if character.is_control() || turns {
            inert.extend(character.escape_unicode());
        } else {
            inert.push(character);
        }
    }
    inert
}

/// A text for HTML and XML in which nothing is markup, and no character is one that XML
/// doesn't have.
pub fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in inert(text).chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A text for Markdown in which nothing is markup.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in inert(text).chars() {
        if matches!(
            character,
            '\\' | '`' | '*' | '_' | '<' | '>' | '[' | ']' | '|' | '#' | '&' | '~'
        ) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_and_not_obeyed() {
        assert_eq!(inert("a\x1b[31mb\r\n"), "a\\u{1b}[31mb\\u{d}\\u{a}");
        assert_eq!(inert("\u{202e}gpj.exe\u{9b}"), "\\u{202e}gpj.exe\\u{9b}");
        assert_eq!(inert("für 10 µs"), "für 10 µs");
    }

    #[test]
    fn nothing_from_elsewhere_is_an_element() {
        assert_eq!(
            xml("<img onerror='a' src=\"b\">&\u{1b}\u{ffff}"),
            "&lt;img onerror=&#39;a&#39; src=&quot;b&quot;&gt;&amp;\\u{1b}\u{fffd}"
        );
    }

    #[test]
    fn nothing_from_elsewhere_is_markup() {
        assert_eq!(
            escaped("<b>|x|</b> [a](b) *c*\n"),
            "\\<b\\>\\|x\\|\\</b\\> \\[a\\](b) \\*c\\*\\\\u{a}"
        );
    }
}
