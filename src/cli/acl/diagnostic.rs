//! Diagnostics in the style of compilers: the position, the fault, the line, and a caret under the position.

use std::fmt::Write as _;

use caxton_router::codec::text::ParseError;

use super::form::Form;
use crate::cli::input::Source;
use crate::cli::printable;

/// Maximum length of the shown line, in characters.
const LINE_CHARACTERS_MAX: usize = 100;
/// Number of characters before the caret, if the line is longer.
const BEFORE_CARET_CHARACTERS: usize = 60;
/// For a form without lines, the number of bytes shown before the caret and from it on.
const BYTES_BEFORE_CARET: usize = 16;
const BYTES_BEHIND_CARET: usize = 16;
/// Number of bytes examined on either side of a position: more than the characters shown can have.
const NEAR_BYTES: usize = 4 * LINE_CHARACTERS_MAX;

/// Returns the diagnostic, as several lines.
pub fn diagnostic(source: &Source, form: Form, error: &ParseError) -> String {
    let ParseError { line, column, kind, .. } = error;
    let (shown, caret) = if form.has_lines() {
        shown_line(&source.bytes, error.offset)
    } else {
        shown_bytes(&source.bytes, error.offset)
    };
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let mut text = format!("{}:{line}:{column}: error: {kind}\n", printable(&source.name));
    let _ = writeln!(text, " {number} | {shown}\n {margin} | {}^", " ".repeat(caret));
    text
}

/// Returns the bytes around a position in hexadecimal, and the number of characters before the position.
fn shown_bytes(bytes: &[u8], offset: usize) -> (String, usize) {
    let offset = offset.min(bytes.len());
    let start = offset.saturating_sub(BYTES_BEFORE_CARET);
    let end = bytes.len().min(offset + BYTES_BEHIND_CARET);
    let mut shown = String::new();
    for byte in &bytes[start..end] {
        let _ = write!(shown, "{byte:02x} ");
    }
    let lead = if start > 0 { "… " } else { "" };
    let trail = if end < bytes.len() { "…" } else { "" };
    (format!("{lead}{shown}{trail}").trim_end().to_owned(), lead.chars().count() + 3 * (offset - start))
}

/// Returns the part of the line around a byte, without characters that control a terminal, and the number of characters
/// before the byte.
fn shown_line(bytes: &[u8], offset: usize) -> (String, usize) {
    let offset = offset.min(bytes.len());
    let near = offset.saturating_sub(NEAR_BYTES);
    let before = bytes[near..offset].rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let far = bytes.len().min(offset + NEAR_BYTES);
    let after = bytes[offset..far].split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut left = harmless(before.strip_prefix(b"\xef\xbb\xbf").unwrap_or(before));
    let is_cut = before.len() == NEAR_BYTES || left.len() > BEFORE_CARET_CHARACTERS;
    if is_cut && left.len() > BEFORE_CARET_CHARACTERS {
        left.drain(..left.len() - BEFORE_CARET_CHARACTERS);
        left.insert(0, '…');
    }
    let caret = left.len();
    let right = harmless(after);
    let room = LINE_CHARACTERS_MAX - BEFORE_CARET_CHARACTERS + BEFORE_CARET_CHARACTERS.saturating_sub(caret);
    let mut line: String = left.into_iter().chain(right.iter().copied().take(room)).collect();
    if right.len() > room {
        line.push('…');
    }
    (line.trim_end().to_owned(), caret)
}

/// Replaces each such character by one other, so that the caret is in the right place.
fn harmless(bytes: &[u8]) -> Vec<char> {
    let show = |character: char| match character {
        '\t' | '\r' => ' ',
        character if character.is_control() => '\u{fffd}',
        character => character,
    };
    String::from_utf8_lossy(bytes).chars().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_place() {
        let input = "(inform\n\t:x ä y)\r\n".as_bytes();
        assert_eq!(shown_line(input, 9), (" :x ä y)".to_owned(), 1));
        assert_eq!(shown_line(input, 14), (" :x ä y)".to_owned(), 5));
        assert_eq!(shown_line(input, 0), ("(inform".to_owned(), 0));
        assert_eq!(shown_line(input, input.len()), (String::new(), 0));
        assert_eq!(shown_line(b"\xef\xbb\xbf<a \x1b\xff>", 5), ("<a \u{fffd}\u{fffd}>".to_owned(), 2));
    }

    #[test]
    fn bytes_are_shown_by_their_digits() {
        assert_eq!(shown_bytes(&[0xfa, 0x10, 0x08], 1), ("fa 10 08".to_owned(), 3));
        assert_eq!(shown_bytes(&[0xfa], 1), ("fa".to_owned(), 3));
        let (shown, caret) = shown_bytes(&[7; 100], 50);
        assert!(shown.starts_with("… 07") && shown.ends_with("07 …"), "{shown}");
        assert_eq!(caret, 2 + 3 * BYTES_BEFORE_CARET);
    }

    #[test]
    fn long_lines_are_cut_on_both_sides() {
        let line = format!("{}^{}", "a".repeat(5_000), "b".repeat(5_000));
        let (shown, caret) = shown_line(line.as_bytes(), 5_000);
        assert_eq!(shown.chars().nth(caret), Some('^'));
        assert_eq!(shown.chars().count(), LINE_CHARACTERS_MAX + 2);
        assert!(shown.starts_with("…a") && shown.ends_with("b…"));
        let (shown, caret) = shown_line(line.as_bytes(), 0);
        assert_eq!(caret, 0);
        assert!(shown.starts_with('a') && shown.chars().count() == LINE_CHARACTERS_MAX + 1);
    }
}
