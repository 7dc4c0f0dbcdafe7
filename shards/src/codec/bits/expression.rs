//! Values: tokens, and expressions given as tokens or as source text.

use std::borrow::Cow;

use super::code;
use super::reader::{Reader, Token, literal};
use crate::codec::text::{ParseErrorKind, Read, Refusal, is_list, quotes};
use crate::message::date::read as read_date;
use crate::message::word::is_atom;
use crate::message::{PARAMETER_BYTES_MAX, ParameterValue, WallTime};

/// The value of a parameter, with the position of its code.
pub(super) struct Value<'a> {
    pub offset: usize,
    pub kind: Kind<'a>,
}

pub(super) enum Kind<'a> {
    Token(Token<'a>),
    /// The source text of an expression given as tokens.
    List(Vec<u8>),
    /// Source text given as a string.
    Source(Cow<'a, [u8]>),
}

impl<'a> Value<'a> {
    /// Returns the value without quotes and escapes.
    pub fn bytes(self) -> Cow<'a, [u8]> {
        match self.kind {
            Kind::Token(Token::Word(bytes) | Token::String(bytes) | Token::Raw(bytes) | Token::Bytes(bytes)) => bytes,
            Kind::Token(Token::Number(bytes)) | Kind::List(bytes) => bytes.into(),
            Kind::Token(Token::Date(date)) => date.as_bytes().to_vec().into(),
            Kind::Source(source) => match source {
                Cow::Borrowed(source) => literal(source).unwrap_or(Cow::Borrowed(source)),
                Cow::Owned(source) => literal(&source).map(Cow::into_owned).unwrap_or(source).into(),
            },
        }
    }

    /// Returns the time if the value is a date; a relative one counts from `now`.
    pub fn moment(&self, now: WallTime) -> Option<WallTime> {
        match &self.kind {
            Kind::Token(token) => read_date(token.bytes(), now),
            Kind::List(_) => None,
            Kind::Source(source) => read_date(literal(source).as_deref().unwrap_or(source), now),
        }
    }

    /// Returns the value as text.
    pub fn text(self, parameter: &str) -> Read<Cow<'a, str>> {
        let offset = self.offset;
        text_of(self.bytes(), offset, parameter)
    }

    /// Returns the value as it is kept for the receiver. What is not a word or an expression of SC00070 is kept as a
    /// string.
    pub fn kept(self, parameter: &str) -> Read<ParameterValue> {
        let offset = self.offset;
        let boxed = |bytes| text_of(bytes, offset, parameter).map(Box::<str>::from);
        Ok(match self.kind {
            Kind::Token(Token::Bytes(bytes)) => ParameterValue::Binary(bytes.into_owned().into()),
            Kind::Token(Token::String(bytes) | Token::Raw(bytes)) => ParameterValue::text(boxed(bytes)?),
            Kind::Token(Token::Word(bytes)) => bare(boxed(bytes)?),
            Kind::Token(Token::Number(bytes)) => bare(boxed(bytes.into())?),
            Kind::Token(Token::Date(date)) => bare(boxed(date.as_bytes().to_vec().into())?),
            Kind::List(source) => source_value(&boxed(source.into())?),
            Kind::Source(source) => source_value(&boxed(source)?),
        })
    }
}

fn bare(text: Box<str>) -> ParameterValue {
    if is_atom(text.as_bytes()) { ParameterValue::Atom(text) } else { ParameterValue::text(text) }
}

/// Parses source text: an expression, a word or number, a string literal, or else plain text.
pub(super) fn source_value(source: &str) -> ParameterValue {
    let bytes = source.as_bytes();
    if is_list(bytes) {
        return ParameterValue::list(source);
    }
    match literal(bytes).map(Cow::into_owned).map(String::from_utf8) {
        Some(Ok(plain)) => ParameterValue::text(plain.into()),
        _ => bare(source.into()),
    }
}

fn text_of<'a>(bytes: Cow<'a, [u8]>, offset: usize, parameter: &str) -> Read<Cow<'a, str>> {
    let not_utf8 = || Refusal::new(offset, ParseErrorKind::NotUtf8 { what: format!(":{parameter}").into() });
    match bytes {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| not_utf8()),
        Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|_| not_utf8()),
    }
}

impl<'a> Reader<'a, '_> {
    /// Reads any value of up to `limit` bytes.
    #[inline]
    pub fn value(&mut self, what: &str, limit: usize) -> Read<Value<'a>> {
        let offset = self.position();
        let code = self.byte("a value")?;
        let kind = match code {
            code::SOURCE => self.source()?,
            code::DOWN | code::DOWN_AND..=0x79 => Kind::List(self.list(code, what, limit)?),
            _ => Kind::Token(self.token(code, "a word, a string, a number, a date or an expression")?),
        };
        let length = match &kind {
            Kind::Token(token) => token.bytes().len(),
            Kind::List(source) => source.len(),
            Kind::Source(source) => source.len(),
        };
        if length > limit {
            return Err(too_long(offset, what, limit));
        }
        Ok(Value { offset, kind })
    }

    /// Reads the value of a textual parameter, within their common limit.
    #[inline]
    pub fn parameter_value(&mut self, what: &str) -> Read<Value<'a>> {
        self.value(what, PARAMETER_BYTES_MAX)
    }

    /// Reads a textual parameter.
    #[inline]
    pub fn text(&mut self, parameter: &'static str) -> Read<(usize, Cow<'a, str>)> {
        let value = self.parameter_value(parameter)?;
        Ok((value.offset, value.text(parameter)?))
    }

    fn source(&mut self) -> Read<Kind<'a>> {
        let code = self.byte("a string")?;
        match self.token(code, "a string, which has the source text of an expression")? {
            Token::String(bytes) | Token::Raw(bytes) | Token::Bytes(bytes) => Ok(Kind::Source(bytes)),
            _ => {
                Err(self.expected_at(self.position() - 1, "the end of a string with the source text of an expression"))
            }
        }
    }

    /// Reads the expression that begins with `code` and returns its source text.
    fn list(&mut self, code: u8, what: &str, limit: usize) -> Read<Vec<u8>> {
        let start = self.position() - 1;
        let mut source = Source { text: Vec::new(), is_opened: true, what, limit };
        let mut depth = 0_usize;
        let mut code = code;
        loop {
            let offset = self.position() - 1;
            let follows = match code {
                code::DOWN | code::DOWN_AND..=0x79 => {
                    depth += 1;
                    // The message itself is the first level.
                    if depth >= self.nesting_max {
                        let fault = ParseErrorKind::NestedTooDeep { what: "parentheses", limit: self.nesting_max };
                        return Err(Refusal::new(offset, fault));
                    }
                    source.open(offset)?;
                    (code != code::DOWN).then(|| code::fused(code))
                }
                code::UP | code::UP_AND..=0x59 => {
                    depth -= 1;
                    source.close(offset)?;
                    if depth == 0 && code != code::UP {
                        return Err(self.expected_at(offset, "0x40: the expression that began ends here"));
                    }
                    (code != code::UP).then(|| code::fused(code))
                }
                _ => Some(code),
            };
            if let Some(code) = follows {
                let token = self.token(code, "a part of an expression, or its end")?;
                source.token(offset, &token)?;
            }
            if depth == 0 {
                debug_assert!(self.position() > start);
                return Ok(source.text);
            }
            code = self.byte("a part of an expression, or its end")?;
        }
    }
}

#[cold]
fn too_long(offset: usize, what: &str, limit: usize) -> Refusal {
    let what = if what == "content" { "the content".into() } else { format!(":{what}").into() };
    Refusal::new(offset, ParseErrorKind::TooLong { what, limit })
}

/// Source text being assembled.
struct Source<'w> {
    text: Vec<u8>,
    /// Whether the innermost parentheses are still empty.
    is_opened: bool,
    what: &'w str,
    limit: usize,
}

impl Source<'_> {
    fn append(&mut self, offset: usize, bytes: &[u8]) -> Read<()> {
        if self.text.len() + bytes.len() > self.limit {
            return Err(too_long(offset, self.what, self.limit));
        }
        self.text.extend_from_slice(bytes);
        Ok(())
    }

    /// Adds a space before everything but the first part of an expression.
    fn separate(&mut self, offset: usize) -> Read<()> {
        if std::mem::take(&mut self.is_opened) { Ok(()) } else { self.append(offset, b" ") }
    }

    fn open(&mut self, offset: usize) -> Read<()> {
        self.separate(offset)?;
        self.is_opened = true;
        self.append(offset, b"(")
    }

    fn close(&mut self, offset: usize) -> Read<()> {
        self.is_opened = false;
        self.append(offset, b")")
    }

    fn token(&mut self, offset: usize, token: &Token<'_>) -> Read<()> {
        self.separate(offset)?;
        let bytes = token.bytes();
        match token {
            Token::Bytes(_) => self.counted(offset, bytes),
            Token::String(_) | Token::Raw(_) => self.quoted(offset, bytes),
            _ if is_atom(bytes) => self.append(offset, bytes),
            _ => self.quoted(offset, bytes),
        }
    }

    fn quoted(&mut self, offset: usize, bytes: &[u8]) -> Read<()> {
        if bytes.ends_with(b"\\") {
            return self.counted(offset, bytes);
        }
        self.append(offset, b"\"")?;
        let mut copied = 0;
        for quote in quotes(bytes) {
            self.append(offset, &bytes[copied..quote])?;
            self.append(offset, b"\\")?;
            copied = quote;
        }
        self.append(offset, &bytes[copied..])?;
        self.append(offset, b"\"")
    }

    fn counted(&mut self, offset: usize, bytes: &[u8]) -> Read<()> {
        self.append(offset, format!("#{}\"", bytes.len()).as_bytes())?;
        self.append(offset, bytes)
    }
}
