//! The tokenizer: words, strings, numbers and dates.
//!
//! A reader moves forward over a window of the input without copying: a token borrows from the input until its
//! parameter's limit has been checked.

use std::borrow::Cow;

use super::code;
use super::code_table::{CODE_TABLE_BYTES_MAX, CodeTable, Entry, EntryKind};
use super::number::{self, DATE_BYTES, DateText};
use crate::codec::text::{Limits, ParseErrorKind, Read, Refusal, Strictness, quotes, unescape};
use crate::domain::ContentLimit;
use crate::message::WallTime;
use crate::message::parameter::ParameterSet;

/// The meaning of a code, with what follows it.
pub(super) enum Token<'a> {
    Word(Cow<'a, [u8]>),
    /// A string in the standard form, in quotes or with its length; quotes and escapes are resolved.
    String(Cow<'a, [u8]>),
    /// A string without quotes, as other platforms write it.
    Raw(Cow<'a, [u8]>),
    /// A byte-length-encoded string.
    Bytes(Cow<'a, [u8]>),
    Number(Vec<u8>),
    Date(DateText),
}

impl Token<'_> {
    /// Returns the token without quotes and escapes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Word(bytes) | Self::String(bytes) | Self::Raw(bytes) | Self::Bytes(bytes) => bytes,
            Self::Number(bytes) => bytes,
            Self::Date(date) => date.as_bytes(),
        }
    }
}

/// The state of reading within a window of the input.
pub(super) struct Reader<'a, 't> {
    input: &'a [u8],
    position: usize,
    /// Whether the window ends before the input, at the limit for a message.
    window_is_cut: bool,
    message_bytes_max: usize,
    pub now: WallTime,
    pub nesting_max: usize,
    pub content_max: ContentLimit,
    pub strictness: Strictness,
    /// How many more agent identifiers the message may contain.
    pub aids_left: usize,
    pub aids_max: usize,
    pub given: ParameterSet,
    table: Option<&'t mut CodeTable>,
    /// Whether new text is entered into the table.
    pub learns: bool,
}

impl<'a, 't> Reader<'a, 't> {
    /// Starts at `start`, with a window of the maximum message length.
    #[inline]
    pub fn new(
        input: &'a [u8],
        start: usize,
        now: WallTime,
        limits: &Limits,
        table: Option<&'t mut CodeTable>,
    ) -> Self {
        let end = start.saturating_add(limits.message_bytes_max).min(input.len());
        Self {
            input: &input[..end],
            position: start,
            window_is_cut: end < input.len(),
            message_bytes_max: limits.message_bytes_max,
            now,
            nesting_max: limits.nesting_max,
            content_max: limits.content_max,
            strictness: limits.strictness,
            aids_left: limits.aids_max,
            aids_max: limits.aids_max,
            given: ParameterSet::default(),
            table,
            learns: false,
        }
    }

    #[inline]
    pub fn position(&self) -> usize {
        self.position
    }

    /// Continues without the table.
    pub fn forget_table(&mut self) {
        self.table = None;
    }

    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.input.get(self.position).copied()
    }

    /// Reads the next byte.
    #[inline]
    pub fn byte(&mut self, expected: &'static str) -> Read<u8> {
        let byte = self.peek().ok_or_else(|| self.expected(expected))?;
        self.position += 1;
        Ok(byte)
    }

    /// Reads the next `N` bytes.
    #[inline]
    pub fn array<const N: usize>(&mut self, expected: &'static str) -> Read<&'a [u8; N]> {
        if let Some(bytes) = self.input[self.position..].first_chunk() {
            self.position += N;
            Ok(bytes)
        } else {
            self.position = self.input.len();
            Err(self.expected(expected))
        }
    }

    /// Creates the error for an unexpected token at the current position.
    #[cold]
    pub fn expected(&self, expected: &'static str) -> Refusal {
        self.expected_at(self.position, expected)
    }

    /// Creates the error for an unexpected token at `offset`.
    #[cold]
    pub fn expected_at(&self, offset: usize, expected: &'static str) -> Refusal {
        let found = match self.input.get(offset) {
            None if self.window_is_cut => return self.message_too_long(),
            None => "the end of the input".to_owned(),
            Some(byte) => format!("0x{byte:02x}"),
        };
        Refusal::new(offset, ParseErrorKind::Expected { expected: expected.into(), found })
    }

    #[cold]
    fn message_too_long(&self) -> Refusal {
        let fault = ParseErrorKind::TooLong { what: "the message".into(), limit: self.message_bytes_max };
        Refusal::new(self.input.len(), fault)
    }

    /// Creates the error for something begun at `offset` that reaches the end of the window.
    #[cold]
    fn unclosed(&mut self, offset: usize, what: &'static str) -> Refusal {
        self.position = self.input.len();
        if self.window_is_cut {
            self.message_too_long()
        } else {
            Refusal::new(offset, ParseErrorKind::Unclosed { what })
        }
    }

    /// Reads the token of `code`, which has just been read.
    #[inline]
    pub fn token(&mut self, code: u8, expected: &'static str) -> Read<Token<'a>> {
        let offset = self.position - 1;
        match code {
            code::WORD => {
                let word = self.terminated("a word")?;
                self.learn(EntryKind::Word, word)?;
                Ok(Token::Word(Cow::Borrowed(word)))
            }
            code::STRING => {
                let start = self.position;
                let string = self.string()?;
                self.learn(EntryKind::String, &self.input[start..self.position - 1])?;
                Ok(string)
            }
            code::BYTES_8 => {
                let length = self.byte("a length")?;
                self.bytes(offset, usize::from(length))
            }
            code::BYTES_16 => {
                let length = u16::from_be_bytes(*self.array("a length of two bytes")?);
                self.bytes(offset, usize::from(length))
            }
            code::BYTES_32 => {
                let length = u32::from_be_bytes(*self.array("a length of four bytes")?);
                self.bytes(offset, length as usize)
            }
            code::DECIMAL | code::HEXADECIMAL => self.number(code == code::HEXADECIMAL).map(Token::Number),
            code::WORD_INDEX | code::STRING_INDEX | code::BYTES_INDEX => self.indexed(),
            _ if is_date(code) => self.date(code).map(Token::Date),
            _ => Err(self.expected_at(offset, expected)),
        }
    }

    /// Reads the date of `code`, which has just been read and satisfies [`is_date`].
    pub fn date(&mut self, code: u8) -> Read<DateText> {
        let offset = self.position;
        let digits = self.array::<DATE_BYTES>("a date of nine bytes")?;
        let sign = match code & !code::DESIGNATED {
            code::DATE_LATER => Some(b'+'),
            code::DATE_EARLIER => Some(b'-'),
            _ => None,
        };
        let designator = if code & code::DESIGNATED == 0 { None } else { Some(self.byte("a type designator")?) };
        if designator.is_some_and(|designator| !designator.is_ascii_alphabetic()) {
            return Err(self.expected_at(self.position - 1, "a type designator, which is a letter"));
        }
        DateText::read(sign, digits, designator)
            .map_err(|place| self.expected_at(offset + place, "two digits of a date"))
    }

    /// Reads a number.
    pub fn number(&mut self, is_hexadecimal: bool) -> Read<Vec<u8>> {
        let offset = self.position;
        let rest = &self.input[offset..];
        let Some(length) = number::length(rest) else { return Err(self.unclosed(offset, "a number")) };
        let text = number::read(&rest[..length])
            .map_err(|place| self.expected_at(offset + place, "two characters of a number"))?;
        self.position += length;
        if is_hexadecimal {
            let expected = "a whole number of up to 128 bits, which is to be hexadecimal";
            return number::hexadecimal(&text).ok_or_else(|| self.expected_at(offset, expected));
        }
        Ok(text)
    }

    /// Reads up to and including the terminator, and returns what precedes it.
    pub fn terminated(&mut self, what: &'static str) -> Read<&'a [u8]> {
        let rest = &self.input[self.position..];
        match memchr::memchr(code::TERMINATOR, rest) {
            Some(length) => {
                self.position += length + 1;
                Ok(&rest[..length])
            }
            None => Err(self.unclosed(self.position, what)),
        }
    }

    /// Reads a string and its terminator: quoted or with its length, as in the standard, or neither.
    pub fn string(&mut self) -> Read<Token<'a>> {
        let offset = self.position;
        if let Some((start, length)) = counted(&self.input[offset..]) {
            let start = offset + start;
            let available = self.input.len() - start;
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length >= available {
                self.position = self.input.len();
                if self.window_is_cut {
                    return Err(self.message_too_long());
                }
                return Err(Refusal::new(
                    offset,
                    ParseErrorKind::LengthBeyondEnd { claimed: length as u64, available },
                ));
            }
            self.position = start + length;
            if self.byte("a terminator")? != code::TERMINATOR {
                return Err(self.expected_at(self.position - 1, "0x00, where the string's length says that it ends"));
            }
            return Ok(Token::String(Cow::Borrowed(&self.input[start..start + length])));
        }
        let raw = self.terminated("a string")?;
        Ok(match literal(raw) {
            Some(plain) => Token::String(plain),
            None => Token::Raw(Cow::Borrowed(raw)),
        })
    }

    #[inline]
    fn bytes(&mut self, offset: usize, length: usize) -> Read<Token<'a>> {
        let rest = &self.input[self.position..];
        let Some(bytes) = rest.get(..length) else {
            if self.window_is_cut {
                return Err(self.message_too_long());
            }
            let fault = ParseErrorKind::LengthBeyondEnd { claimed: length as u64, available: rest.len() };
            return Err(Refusal::new(offset, fault));
        };
        self.position += length;
        self.learn(EntryKind::Bytes, bytes)?;
        Ok(Token::Bytes(Cow::Borrowed(bytes)))
    }

    /// Reads an index and returns its entry in the code table. The entry determines the kind: platforms differ in the
    /// codes with which they refer to it.
    #[cold]
    fn indexed(&mut self) -> Read<Token<'a>> {
        let offset = self.position;
        let Some(size) = self.table.as_deref().map(CodeTable::size) else {
            return Err(self.expected_at(offset - 1, "no index: there is no code table here"));
        };
        let index = match size.code_bytes() {
            1 => u16::from(self.byte("an index of one byte")?),
            _ => u16::from_be_bytes(*self.array("an index of two bytes")?),
        };
        let entry = self.table.as_deref_mut().and_then(|table| table.get(index)).cloned();
        let Some(Entry { kind, bytes }) = entry else {
            return Err(self.expected_at(offset, "an index that the code table has"));
        };
        Ok(match kind {
            EntryKind::Word => Token::Word(bytes.into_vec().into()),
            EntryKind::Bytes => Token::Bytes(bytes.into_vec().into()),
            EntryKind::String => stored_string(bytes.into_vec()),
        })
    }

    /// Enters text that is spelled out here into the table.
    #[inline]
    fn learn(&mut self, kind: EntryKind, bytes: &[u8]) -> Read<()> {
        if self.learns { self.learn_now(kind, bytes) } else { Ok(()) }
    }

    #[cold]
    fn learn_now(&mut self, kind: EntryKind, bytes: &[u8]) -> Read<()> {
        let offset = self.position;
        let Some(table) = self.table.as_deref_mut() else { return Ok(()) };
        if table.bytes().saturating_add(bytes.len()) > CODE_TABLE_BYTES_MAX {
            let fault =
                ParseErrorKind::TooLong { what: "the text in the code table".into(), limit: CODE_TABLE_BYTES_MAX };
            return Err(Refusal::new(offset, fault));
        }
        table.insert(Entry { kind, bytes: bytes.into() });
        Ok(())
    }
}

/// Whether `code` begins a date.
#[inline]
pub(super) fn is_date(code: u8) -> bool {
    matches!(code & !code::DESIGNATED, code::DATE | code::DATE_LATER | code::DATE_EARLIER)
}

/// Returns a string from the code table as a token.
fn stored_string(bytes: Vec<u8>) -> Token<'static> {
    if let Some((start, _)) = counted(&bytes) {
        return Token::String(bytes[start..].to_vec().into());
    }
    match literal(&bytes).map(Cow::into_owned) {
        Some(plain) => Token::String(plain.into()),
        None => Token::Raw(bytes.into()),
    }
}

/// Returns where the bytes of `#n"` begin, and their number.
fn counted(bytes: &[u8]) -> Option<(usize, u64)> {
    let digits = bytes.strip_prefix(b"#")?;
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let length = digits[..count]
        .iter()
        .fold(0_u64, |length, digit| length.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    (count > 0 && digits.get(count) == Some(&b'"')).then_some((1 + count + 1, length))
}

/// Returns the inside of the quotes if `bytes` are one string literal of SC00070. Its end is known, so the last quote
/// closes it whatever precedes that.
pub(super) fn literal(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    let inner = bytes.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let mut escapes = 0;
    for quote in quotes(inner) {
        if quote == 0 || inner[quote - 1] != b'\\' {
            return None;
        }
        escapes += 1;
    }
    Some(if escapes == 0 { Cow::Borrowed(inner) } else { Cow::Owned(unescape(inner, escapes)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_told_from_text_that_only_looks_like_one() {
        for (text, plain) in [
            (r#""""#, Some("")),
            (r#""a""#, Some("a")),
            (r#""a\"b""#, Some("a\"b")),
            (r#""a\b""#, Some("a\\b")),
            (r#"""#, None),
            (r#""a"b""#, None),
            (r#""a\""#, Some("a\\")),
            (r#""\"\""#, Some("\"\\")),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(literal(text.as_bytes()).as_deref(), plain.map(str::as_bytes), "{text}");
        }
    }

    #[test]
    fn lengths_of_any_size_are_read_without_overflow() {
        assert_eq!(counted(b"#12\"x"), Some((4, 12)));
        assert_eq!(counted(b"#99999999999999999999999\""), Some((25, u64::MAX)));
        for none in ["", "#", "#1", "#\"", "1\"", "#a\""] {
            assert_eq!(counted(none.as_bytes()), None, "{none}");
        }
    }
}
