//! The lexer: words, strings and lists.
//!
//! A lexer moves forward over a window of the input, byte by byte outside strings and from quote to quote inside them.
//! It copies nothing: a [`Value`] borrows from the input until its parameter's limit has been checked.

use std::borrow::Cow;

use super::Limits;
use super::error::{ParseErrorKind, Refusal, excerpt};
use crate::message::word::{Class, class};
use crate::message::{Expression, PARAMETER_BYTES_MAX, ParameterValue};

/// The result of reading.
pub(crate) type Read<T> = Result<T, Refusal>;

/// Returns the position of the next byte that is not white space, at or after `offset`, or the end.
pub(super) fn behind_space(input: &[u8], offset: usize) -> usize {
    let rest = input.get(offset..).unwrap_or_default();
    offset + rest.iter().take_while(|byte| class(**byte) == Class::Space).count()
}

/// A value in the input.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    /// The position of its start.
    pub offset: usize,
    pub kind: Kind<'a>,
}

#[derive(Clone, Copy)]
pub(super) enum Kind<'a> {
    /// A word, a number or a date.
    Bare(&'a [u8]),
    /// The inside of a quoted string, and the number of escaped quotes in it.
    Quoted(&'a [u8], usize),
    /// The bytes of a byte-length-encoded string.
    Counted(&'a [u8]),
    /// An expression, with its parentheses.
    List(&'a [u8]),
}

impl<'a> Value<'a> {
    /// Returns the length of the value in bytes once escapes are resolved.
    pub fn len(&self) -> usize {
        match self.kind {
            Kind::Bare(bytes) | Kind::Counted(bytes) | Kind::List(bytes) => bytes.len(),
            Kind::Quoted(bytes, escapes) => bytes.len() - escapes,
        }
    }

    /// Returns the bytes with escapes resolved. They are copied only if there are escapes.
    pub fn bytes(&self) -> Cow<'a, [u8]> {
        match self.kind {
            Kind::Bare(bytes) | Kind::Counted(bytes) | Kind::List(bytes) | Kind::Quoted(bytes, 0) => {
                Cow::Borrowed(bytes)
            }
            Kind::Quoted(bytes, escapes) => Cow::Owned(unescape(bytes, escapes)),
        }
    }

    /// Returns the value as text.
    pub fn text(&self, parameter: &str) -> Read<Cow<'a, str>> {
        let not_utf8 = || Refusal::new(self.offset, ParseErrorKind::NotUtf8 { what: format!(":{parameter}").into() });
        match self.bytes() {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| not_utf8()),
            Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|_| not_utf8()),
        }
    }
}

/// Iterates over the positions of quotes. Quotes often occur close together, as in JSON: after each one the next few
/// bytes are compared one by one, which is faster than starting a vectorised search for each.
pub(crate) fn quotes(bytes: &[u8]) -> impl Iterator<Item = usize> {
    const NEAR_BYTES: usize = 16;
    let mut search = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(search..)?;
        let near = if search == 0 { &[] } else { &rest[..rest.len().min(NEAR_BYTES)] };
        let distance = match near.iter().position(|byte| *byte == b'"') {
            Some(distance) => distance,
            None => near.len() + memchr::memchr(b'"', &rest[near.len()..])?,
        };
        search += distance + 1;
        Some(search - 1)
    })
}

/// Removes the backslash before each quote inside a string. A quote is never the first byte.
pub(crate) fn unescape(bytes: &[u8], escapes: usize) -> Vec<u8> {
    let mut plain = Vec::with_capacity(bytes.len() - escapes);
    let mut copied = 0;
    for quote in quotes(bytes) {
        plain.extend_from_slice(&bytes[copied..quote - 1]);
        copied = quote;
    }
    plain.extend_from_slice(&bytes[copied..]);
    plain
}

/// A position to rewind to.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    position: usize,
    depth: usize,
}

/// The state of reading within a window of the input.
pub(super) struct Lexer<'a> {
    input: &'a [u8],
    position: usize,
    /// The number of open parentheses.
    depth: usize,
    nesting_max: usize,
    /// Whether the window ends before the input, at the limit for a message.
    window_is_cut: bool,
    message_bytes_max: usize,
    /// Quotes after backslashes that end their strings, in order: see [`super::readings`].
    closing: Vec<usize>,
}

impl<'a> Lexer<'a> {
    /// Starts at `start`, with a window of the maximum message length.
    pub fn new(input: &'a [u8], start: usize, limits: &Limits) -> Self {
        let end = start.saturating_add(limits.message_bytes_max).min(input.len());
        Self {
            input: &input[..end],
            position: start,
            depth: 0,
            nesting_max: limits.nesting_max,
            window_is_cut: end < input.len(),
            message_bytes_max: limits.message_bytes_max,
            closing: Vec::new(),
        }
    }

    /// Makes strings also end at these quotes, although a backslash precedes them.
    pub fn end_strings_at(&mut self, closing: Vec<usize>) {
        self.closing = closing;
    }

    /// Returns all that the lexer may look at.
    pub fn window(&self) -> &'a [u8] {
        self.input
    }

    #[inline]
    pub fn position(&self) -> usize {
        self.position
    }

    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.input.get(self.position).copied()
    }

    /// Skips the byte that `peek` returned.
    #[inline]
    pub fn step(&mut self) {
        self.position += 1;
    }

    /// Returns a mark for [`Lexer::rewind`].
    pub fn mark(&self) -> Mark {
        Mark { position: self.position, depth: self.depth }
    }

    /// Rewinds, by no more than a parenthesis and the word after it.
    pub fn rewind(&mut self, mark: Mark) {
        self.position = mark.position;
        self.depth = mark.depth;
    }

    #[inline]
    pub fn skip_space(&mut self) {
        self.position = behind_space(self.input, self.position);
    }

    /// Creates the error for an unexpected token at the current position.
    #[cold]
    pub fn expected(&self, expected: impl Into<Cow<'static, str>>) -> Refusal {
        let rest = &self.input[self.position..];
        let found = match rest.first() {
            None if self.window_is_cut => return self.message_too_long(),
            None => "the end of the input".to_owned(),
            Some(byte) if class(*byte) == Class::Word => {
                excerpt(&rest[..rest.iter().position(|byte| class(*byte) != Class::Word).unwrap_or(rest.len())])
            }
            Some(byte) => excerpt(&[*byte]),
        };
        Refusal::new(self.position, ParseErrorKind::Expected { expected: expected.into(), found })
    }

    fn message_too_long(&self) -> Refusal {
        let fault = ParseErrorKind::TooLong { what: "the message".into(), limit: self.message_bytes_max };
        Refusal::new(self.input.len(), fault)
    }

    /// Creates the error for something begun at `offset` that reaches the end of the window.
    fn unclosed(&mut self, offset: usize, what: &'static str) -> Refusal {
        self.position = self.input.len();
        if self.window_is_cut {
            self.message_too_long()
        } else {
            Refusal::new(offset, ParseErrorKind::Unclosed { what })
        }
    }

    /// Enters parentheses.
    pub fn open(&mut self, expected: &'static str) -> Read<()> {
        if self.peek() != Some(b'(') {
            return Err(self.expected(expected));
        }
        self.deeper()?;
        self.position += 1;
        Ok(())
    }

    /// Leaves parentheses, if they end here.
    pub fn close(&mut self) -> bool {
        let closes = self.peek() == Some(b')');
        if closes {
            self.position += 1;
            self.depth -= 1;
        }
        closes
    }

    fn deeper(&mut self) -> Read<()> {
        if self.depth >= self.nesting_max {
            let fault = ParseErrorKind::NestedTooDeep { what: "parentheses", limit: self.nesting_max };
            return Err(Refusal::new(self.position, fault));
        }
        self.depth += 1;
        Ok(())
    }

    /// Reads a performative, or the word after an opening parenthesis; a colon or a quote ends it too.
    pub fn head(&mut self) -> &'a [u8] {
        self.skip_space();
        self.take_while(|byte| class(byte) == Class::Word && !matches!(byte, b':' | b'"'))
    }

    /// Reads a parameter's name, after its colon. A quote ends it: no name contains one.
    pub fn name(&mut self) -> &'a [u8] {
        self.take_while(|byte| class(byte) == Class::Word && byte != b'"')
    }

    #[inline]
    fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = &self.input[self.position..];
        let length = rest.iter().position(|byte| !belongs(*byte)).unwrap_or(rest.len());
        self.position += length;
        &rest[..length]
    }

    /// Reads any value.
    pub fn value(&mut self, expected: &'static str) -> Read<Value<'a>> {
        self.skip_space();
        let offset = self.position;
        let kind = match self.peek() {
            Some(b'"') => {
                let (bytes, escapes) = self.quoted()?;
                Kind::Quoted(bytes, escapes)
            }
            Some(b'#') => match self.counted()? {
                Some(bytes) => {
                    // Some writers add a closing quote that is not needed. Nothing else can begin with a quote here.
                    if self.peek() == Some(b'"') {
                        self.position += 1;
                    }
                    Kind::Counted(bytes)
                }
                None => Kind::Bare(self.bare()),
            },
            Some(b'(') => Kind::List(self.list()?),
            Some(byte) if class(byte) == Class::Word && byte != b':' => Kind::Bare(self.bare()),
            _ => return Err(self.expected(expected)),
        };
        Ok(Value { offset, kind })
    }

    /// Reads the value of a textual parameter, within their common limit.
    pub fn parameter_value(&mut self, parameter: &str) -> Read<Value<'a>> {
        let value = self.value("a word, a string or an expression")?;
        if value.len() > PARAMETER_BYTES_MAX {
            let fault = ParseErrorKind::TooLong { what: format!(":{parameter}").into(), limit: PARAMETER_BYTES_MAX };
            return Err(Refusal::new(value.offset, fault));
        }
        Ok(value)
    }

    /// Reads a textual parameter.
    pub fn text(&mut self, parameter: &'static str) -> Read<(usize, Cow<'a, str>)> {
        let value = self.parameter_value(parameter)?;
        Ok((value.offset, value.text(parameter)?))
    }

    fn bare(&mut self) -> &'a [u8] {
        self.take_while(|byte| class(byte) == Class::Word)
    }

    fn quoted(&mut self) -> Read<(&'a [u8], usize)> {
        let opening = self.position;
        let bytes = &self.input[opening + 1..];
        let mut escapes = 0;
        for quote in quotes(bytes) {
            // The byte before an escaped quote cannot be the end of another escape, which would be a quote itself.
            if quote > 0 && bytes[quote - 1] == b'\\' && !self.closes_at(opening + 1 + quote) {
                escapes += 1;
            } else {
                self.position = opening + 1 + quote + 1;
                return Ok((&bytes[..quote], escapes));
            }
        }
        Err(self.unclosed(opening, "a string"))
    }

    #[inline]
    fn closes_at(&self, quote: usize) -> bool {
        !self.closing.is_empty() && self.closing.binary_search(&quote).is_ok()
    }

    /// Returns the source of a list as it is kept: strings that end in a backslash are written with their length.
    pub fn kept_list(&self, offset: usize, list: &'a [u8]) -> Cow<'a, [u8]> {
        let end = offset + list.len();
        if !self.closing.iter().any(|quote| (offset..end).contains(quote)) {
            return Cow::Borrowed(list);
        }
        let mut inside = Self { input: &self.input[..end], position: offset, closing: self.closing.clone(), ..*self };
        let mut kept = Vec::with_capacity(list.len());
        while let Some(byte) = inside.peek() {
            let start = inside.position;
            match (byte, inside.list_part()) {
                (b'"', Ok(())) if self.closing.binary_search(&(inside.position - 1)).is_ok() => {
                    let quoted = &inside.input[start + 1..inside.position - 1];
                    let escapes = quotes(quoted).count();
                    let plain = unescape(quoted, escapes);
                    kept.extend_from_slice(format!("#{}\"", plain.len()).as_bytes());
                    kept.extend_from_slice(&plain);
                }
                (_, Ok(())) => kept.extend_from_slice(&inside.input[start..inside.position]),
                (byte, Err(_)) => {
                    kept.push(byte);
                    inside.position = start + 1;
                }
            }
        }
        Cow::Owned(kept)
    }

    /// Reads `#`, digits, a quote and that many bytes; returns `None` for a word that begins with `#`.
    fn counted(&mut self) -> Read<Option<&'a [u8]>> {
        let offset = self.position;
        let digits = self.input[offset + 1..].iter().take_while(|byte| byte.is_ascii_digit());
        let (count, claimed) = digits.fold((0, 0_u64), |(count, claimed), digit| {
            (count + 1, claimed.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
        });
        let quote = offset + 1 + count;
        if count == 0 || self.input.get(quote) != Some(&b'"') {
            return Ok(None);
        }
        let start = quote + 1;
        let available = self.input.len() - start;
        match usize::try_from(claimed) {
            Ok(length) if length <= available => {
                self.position = start + length;
                Ok(Some(&self.input[start..self.position]))
            }
            _ if self.window_is_cut => Err(self.message_too_long()),
            _ => Err(Refusal::new(offset, ParseErrorKind::LengthBeyondEnd { claimed, available })),
        }
    }

    /// Reads an expression in parentheses, without interpreting its parts.
    fn list(&mut self) -> Read<&'a [u8]> {
        let start = self.position;
        let outside = self.depth;
        loop {
            self.skip_space();
            match self.peek() {
                Some(b'(') => {
                    self.deeper()?;
                    self.position += 1;
                }
                Some(b')') => {
                    self.close();
                    if self.depth == outside {
                        return Ok(&self.input[start..self.position]);
                    }
                }
                Some(_) => self.list_part()?,
                None => return Err(self.unclosed(start, "a parenthesis")),
            }
        }
    }

    fn list_part(&mut self) -> Read<()> {
        match self.peek() {
            Some(b'"') => self.quoted().map(drop),
            Some(b'#') => {
                if self.counted()?.is_none() {
                    self.bare();
                }
                Ok(())
            }
            Some(byte) if class(byte) == Class::Word => {
                self.bare();
                Ok(())
            }
            _ => Err(self.expected("a word, a string or a parenthesis")),
        }
    }

    /// Returns the position after the parenthesis that closes the one at the current position, or `None`. Invalid parts
    /// are skipped, and neither depth nor the length of a part is limited.
    pub fn past_balanced(&mut self) -> Option<usize> {
        let mut open = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'(' => open += 1,
                b')' if open <= 1 => return Some(self.position + 1),
                b')' => open -= 1,
                _ if class(byte) == Class::Word => {
                    let start = self.position;
                    if self.list_part().is_err() {
                        // Only an unterminated string and a length beyond the end fail here.
                        self.position = self.input.len();
                        return None;
                    }
                    debug_assert!(self.position > start);
                    continue;
                }
                _ => {}
            }
            self.position += 1;
        }
        None
    }
}

/// Whether `bytes` may be written without quotes: a word, a number or a date of SC00070.
impl Expression {
    /// Parses text that is exactly one parenthesised expression.
    ///
    /// # Errors
    ///
    /// Returns the text if it is anything else, or nests deeper than [`NESTING_MAX`](super::NESTING_MAX).
    pub fn new(text: impl Into<Box<str>>) -> Result<Self, Box<str>> {
        let text = text.into();
        if is_list(text.as_bytes()) { Ok(Self::of_source(text)) } else { Err(text) }
    }
}

impl ParameterValue {
    /// Creates an expression from text. Text that is not an expression becomes a string.
    pub fn list(text: impl Into<Box<str>>) -> Self {
        Expression::new(text).map_or_else(Self::text, Self::List)
    }
}

/// Whether `bytes` are exactly one expression in parentheses.
pub(crate) fn is_list(bytes: &[u8]) -> bool {
    let limits = Limits { message_bytes_max: usize::MAX, ..Limits::default() };
    let mut lexer = Lexer::new(bytes, 0, &limits);
    // A list is always inside a message.
    lexer.depth = 1;
    bytes.first() == Some(&b'(') && lexer.list().is_ok_and(|list| list.len() == bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_one_expression_and_nothing_else() {
        for list in ["()", "(a)", "( a (b) \"c)\" #1\")x)", "(a\"b)"] {
            assert!(is_list(list.as_bytes()), "{list}");
        }
        for other in ["", "a", "(", "(a", "(a) ", " (a)", "(a)(b)", "(a) b", "(\")", "(#9\"a)", "(\0)"] {
            assert!(!is_list(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_list_inside_a_message_reaches_the_nesting_limit() {
        let nested = |depth: usize| format!("{}{}", "(".repeat(depth), ")".repeat(depth));
        assert!(is_list(nested(super::super::NESTING_MAX - 1).as_bytes()));
        assert!(!is_list(nested(super::super::NESTING_MAX).as_bytes()));
    }
}
