//! How what a program reads is changed at random, and how often that is tried.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "no package uses all of it"
)]

use arbtest::arbitrary::{Result, Unstructured};
use arbtest::{ArbTest, arbtest};

/// Runs a target for a second, or as long as was asked for, and tells how often it ran.
pub fn fuzz<P: FnMut(&mut Unstructured<'_>) -> Result<()>>(name: &str, mut target: P) {
    let seconds = std::env::var("FUZZ_SECONDS")
        .ok()
        .and_then(|seconds| seconds.parse::<u64>().ok())
        .unwrap_or(1);
    let mut executions = 0_u64;
    let counted: ArbTest<_> = arbtest(|input| {
        executions += 1;
        target(input)
    });
    counted.budget_ms(seconds * 1000).run();
    // ci/campaign adds them up.
    println!("fuzz {name}: {executions} executions");
}

/// Changes bytes, takes some out, puts some in, or cuts the end off.
pub fn changed(mut bytes: Vec<u8>, input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    for _ in 0..input.int_in_range(0..=8)? {
        let at = input.choose_index(bytes.len().max(1))?;
        match input.int_in_range(0..=5)? {
            0..=2 if at < bytes.len() => bytes[at] = input.arbitrary()?,
            3 => bytes.truncate(at),
            4 => {
                let end = (at + input.int_in_range(0..=16)?).min(bytes.len());
                bytes.drain(at.min(end)..end);
            }
            _ => {
                let inserted: Vec<u8> = input.arbitrary()?;
                bytes.splice(at..at, inserted);
            }
        }
    }
    Ok(bytes)
}

/// Changes digits, so that the rest stays what it was; now and then anything.
pub fn with_other_numbers(mut text: Vec<u8>, input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    for _ in 0..input.int_in_range(0..=16)? {
        let at = input.choose_index(text.len())?;
        if let Some(digit) = text[at..].iter().position(u8::is_ascii_digit) {
            text[at + digit] = input.int_in_range(b'0'..=b'9')?;
        }
    }
    if input.ratio(1, 4)? {
        text = changed(text, input)?;
    }
    Ok(text)
}

/// Changes a text by whole words and lines, so that most of it is still understood: a
/// word or a line stands where another one stood, twice, or not at all.
pub fn with_other_words(text: &str, input: &mut Unstructured<'_>) -> Result<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..input.int_in_range(1..=4)? {
        let at = input.choose_index(lines.len().max(1))?;
        let from = input.choose_index(lines.len().max(1))?;
        let Some(other) = lines.get(from).cloned() else {
            break;
        };
        match input.int_in_range(0..=7)? {
            0 => lines.insert(at, other),
            1 => drop(lines.remove(at)),
            2 => lines[at].insert(0, ' '),
            _ => {
                let is_end = |c: char| c.is_whitespace() || "{}[],:\"".contains(c);
                let words: Vec<&str> = lines[at].split_inclusive(is_end).collect();
                let others: Vec<&str> = other.split_inclusive(is_end).collect();
                if words.is_empty() || others.is_empty() {
                    continue;
                }
                let place = input.choose_index(words.len())?;
                let word = others[input.choose_index(others.len())?].trim_matches(is_end);
                let end: String = words[place].chars().filter(|c| is_end(*c)).collect();
                let (before, behind) = (words[..place].concat(), words[place + 1..].concat());
                lines[at] = format!("{before}{word}{end}{behind}");
            }
        }
    }
    Ok(lines.join("\n"))
}
