//! Limits the part of an input that a message may be read from: valid UTF-8, and no longer than a message may be.

use super::text::{ParseErrorKind, Refusal};

/// How many bytes may be read again after malformed messages, for each byte of the input.
pub(super) const REREAD_PER_BYTE: usize = 8;

/// Why the readable part of the input ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// The input ends.
    Input,
    /// A byte is not UTF-8.
    NotUtf8,
    /// The message would exceed the limit, in bytes.
    Limit(usize),
}

impl End {
    /// Returns the refusal of a message that reaches this end, at `offset`; `None` if the input ends there.
    pub fn refusal(self, offset: usize) -> Option<Refusal> {
        let fault = match self {
            Self::Input => return None,
            Self::NotUtf8 => ParseErrorKind::NotUtf8 { what: "the message".into() },
            Self::Limit(limit) => ParseErrorKind::TooLong { what: "the message".into(), limit },
        };
        Some(Refusal::new(offset, fault))
    }
}

/// Returns the longest UTF-8 prefix of the bytes.
pub(super) fn readable_part(bytes: &[u8]) -> (&str, End) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text, End::Input),
        Err(error) => (std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(), End::NotUtf8),
    }
}

/// Windows of an input, each byte of which is checked once.
#[derive(Debug)]
pub(super) struct Readable<'a> {
    input: &'a [u8],
    /// The start of the text known to be UTF-8.
    base: usize,
    text: &'a str,
}

impl<'a> Readable<'a> {
    pub fn new(input: &'a [u8]) -> Self {
        Self { input, base: 0, text: "" }
    }

    /// Returns the readable part from `position` on: up to `most` bytes.
    pub fn window(&mut self, position: usize, most: usize) -> (&'a str, End) {
        let known = position.checked_sub(self.base).and_then(|start| self.text.get(start..));
        let rest = known.filter(|rest| !rest.is_empty()).unwrap_or_else(|| readable_part(&self.input[position..]).0);
        if known.is_none_or(str::is_empty) {
            (self.base, self.text) = (position, rest);
        }
        if rest.len() > most {
            // The part cut off is beyond the limit, so a whole character may be removed.
            let cut = (0..=most).rev().find(|place| rest.is_char_boundary(*place)).unwrap_or(0);
            return (&rest[..cut], End::Limit(most));
        }
        let is_all = position + rest.len() == self.input.len();
        (rest, if is_all { End::Input } else { End::NotUtf8 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_at_the_limit_at_what_is_not_utf_8_or_at_the_end() {
        let mut readable = Readable::new(b"\xc3\xa4bc\xffde");
        assert_eq!(readable.window(0, 10), ("äbc", End::NotUtf8));
        assert_eq!(readable.window(0, 1), ("", End::Limit(1)));
        assert_eq!(readable.window(2, 2), ("bc", End::NotUtf8));
        assert_eq!(readable.window(3, 10), ("c", End::NotUtf8));
        assert_eq!(readable.window(4, 10), ("", End::NotUtf8));
        assert_eq!(readable.window(5, 10), ("de", End::Input));
        assert_eq!(readable.window(1, 10), ("", End::NotUtf8));
    }
}
