//! Text from elsewhere, made harmless for whoever reads it.

/// A text from elsewhere, with nothing in it that a terminal would obey:
/// control characters and those that turn the direction of the text.
pub fn inert(text: &str) -> String {
    let mut inert = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || turns(character) {
            inert.extend(character.escape_unicode());
        } else {
            inert.push(character);
        }
    }
    inert
}

/// The same of an answer of several lines, in which colours (ESC [ ... m) are our own.
pub fn inert_but_colours(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_control() || turns(c)) {
        safe.push_str(&rest[..at]);
        rest = &rest[at..];
        let colour = rest.strip_prefix("\x1b[").and_then(|code| {
            let end = code.find(|c: char| !c.is_ascii_digit() && c != ';')?;
            code[end..]
                .starts_with('m')
                .then_some("\x1b[".len() + end + 1)
        });
        let length = match rest.chars().next() {
            Some('\n' | '\t') => 1,
            first => colour.unwrap_or_else(|| {
                let obeyed = first.unwrap_or_default();
                safe.extend(obeyed.escape_unicode());
                rest = &rest[obeyed.len_utf8()..];
                0
            }),
        };
        safe.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    safe + rest
}

fn turns(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
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
    fn of_an_answer_only_colours_are_obeyed() {
        assert_eq!(
            inert_but_colours("\x1b[1;31merror\x1b[0m: a\x1b]0;t\x07\rb\u{9b}K\n\tc\x1b[2J\x1b["),
            "\x1b[1;31merror\x1b[0m: a\\u{1b}]0;t\\u{7}\\u{d}b\\u{9b}K\n\tc\\u{1b}[2J\\u{1b}["
        );
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
