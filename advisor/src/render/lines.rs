//! Lines of text for people: how wide, how coloured, where they break.

use std::fmt::Write as _;

use advisor_report::escape::inert;
use anstyle::{AnsiColor, Style};
use textwrap::Options;

use crate::rules::Severity;

/// Wider lines than this are hard to read.
pub(super) const WIDEST: usize = 100;
/// Narrower ones break every other word.
pub(super) const NARROWEST: usize = 40;
/// The column at which the text of a field begins.
pub(super) const INDENT: &str = "            ";

/// The column at which a numbered finding begins, after its number and severity.
pub(super) const NUMBERED_INDENT: &str = "               ";

pub(super) const STRONG: Style = Style::new().bold();
pub(super) const FAINT: Style = Style::new().dimmed();

/// The colour of a severity.
pub(super) fn severity_style(severity: Severity) -> Style {
    let colour = match severity {
        Severity::Critical => AnsiColor::Red,
        Severity::Warning => AnsiColor::Yellow,
        Severity::Notice => AnsiColor::Cyan,
    };
    colour.on_default().bold()
}

/// The lines of a text, without what a terminal would obey.
pub(super) fn wrapped(content: &str, first: &str, others: &str, width: usize) -> Vec<String> {
    textwrap::wrap(&inert(content), plain(width, first, others))
        .into_iter()
        .map(std::borrow::Cow::into_owned)
        .collect()
}

/// The first lines of a finding: its number, its severity, and what is wrong.
pub(super) fn numbered(
    text: &mut String,
    number: usize,
    severity: Severity,
    content: &str,
    width: usize,
) {
    let style = severity_style(severity);
    let mut lines = wrapped(content, NUMBERED_INDENT, NUMBERED_INDENT, width).into_iter();
    let first = lines.next().unwrap_or_default();
    let _ = writeln!(
        text,
        "{number:>3}. {style}{severity:<9}{style:#} {STRONG}{}{STRONG:#}",
        first.trim_start()
    );
    for line in lines {
        let _ = writeln!(text, "{STRONG}{line}{STRONG:#}");
    }
}

pub(super) fn heading(text: &mut String, title: &str) {
    let _ = writeln!(text, "\n{STRONG}{title}{STRONG:#}");
}

/// A labelled text whose lines stand under one another.
pub(super) fn field(text: &mut String, label: &str, content: &str, width: usize) {
    let content = inert(content);
    let mut lines = textwrap::wrap(&content, plain(width, INDENT, INDENT)).into_iter();
    let first = lines.next().unwrap_or_default();
    let _ = writeln!(text, "   {FAINT}{label:<9}{FAINT:#}{}", first.trim_start());
    for line in lines {
        let _ = writeln!(text, "{line}");
    }
}

pub(super) fn fill(text: &mut String, content: &str, first: &str, others: &str, width: usize) {
    text.push_str(&textwrap::fill(
        &inert(content),
        plain(width, first, others),
    ));
    text.push('\n');
}

/// Lines that break between words only: a command has to stay whole.
pub(super) fn plain<'a>(width: usize, first: &'a str, others: &'a str) -> Options<'a> {
    Options::new(width)
        .initial_indent(first)
        .subsequent_indent(others)
        .break_words(false)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit)
}
