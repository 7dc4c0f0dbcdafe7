//! The SL parser.

use super::{Argument, Compound, SL_BYTES_MAX, SL_NESTING_MAX, SL_TERMS_MAX, Term, is_word_byte};
use crate::codec::text::readings::{self, Grammar};
use crate::codec::text::{EXCERPT_CHARACTERS_MAX, ParseError, ParseErrorKind};

/// Maximum effort of searching for another reading, in steps per byte of the content.
const STEPS_PER_BYTE: usize = 8;

/// Reads a content: expressions in parentheses, such as `((action x (search ...)))`.
///
/// # Errors
///
/// Returns the first fault in the text, with its position.
pub fn parse(text: &str) -> Result<Vec<Term>, ParseError> {
    let read = |closing: &[usize]| Reader { text, position: 0, depth: 0, terms: 0, closing }.content();
    read(&[])
        .or_else(|refusal| another_reading(text, read, refusal))
        .map_err(|Refusal { offset, fault }| locate(text, offset, *fault))
}

/// Rereads a content that cannot be read if a quote after a backslash never ends a string: platforms write a string
/// that ends in a backslash as `"C:\"`. It is accepted if exactly one way to end strings after backslashes gives a
/// content.
#[cold]
fn another_reading(text: &str, read: impl Fn(&[usize]) -> Read<Vec<Term>>, refusal: Refusal) -> Read<Vec<Term>> {
    if text.len() > SL_BYTES_MAX || memchr::memmem::find(text.as_bytes(), b"\\\"").is_none() {
        return Err(refusal);
    }
    let start = text.len() - text.trim_ascii_start().len();
    let mut steps = text.len().saturating_mul(STEPS_PER_BYTE);
    match readings::only(text.as_bytes(), start, Grammar::Content, SL_NESTING_MAX, &mut steps) {
        Some(closing) => read(&closing),
        None => Err(refusal),
    }
}

/// A fault at a byte of the text.
struct Refusal {
    offset: usize,
    fault: Box<ParseErrorKind>,
}

type Read<T> = Result<T, Refusal>;

fn refusal<T>(offset: usize, fault: ParseErrorKind) -> Read<T> {
    Err(Refusal { offset, fault: Box::new(fault) })
}

/// Finds the line and the column of a byte.
fn locate(text: &str, offset: usize, kind: ParseErrorKind) -> ParseError {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    let lines = before.bytes().filter(|byte| *byte == b'\n').count();
    ParseError { line: lines + 1, column: line.chars().count() + 1, offset, kind }
}

struct Reader<'a> {
    text: &'a str,
    position: usize,
    depth: usize,
    terms: usize,
    /// Positions of quotes after backslashes that end their strings, in order.
    closing: &'a [usize],
}

impl<'a> Reader<'a> {
    fn content(&mut self) -> Read<Vec<Term>> {
        if self.text.len() > SL_BYTES_MAX {
            return refusal(SL_BYTES_MAX, ParseErrorKind::TooLong { what: "the content".into(), limit: SL_BYTES_MAX });
        }
        self.skip_space();
        let opening = self.position;
        self.open("the parenthesis that begins a content")?;
        let expressions = self.terms_until_closed(opening)?;
        self.skip_space();
        if self.peek().is_some() {
            return self.expected("the end of the content");
        }
        Ok(expressions)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)) {
            self.position += 1;
        }
    }

    fn expected<T>(&self, expected: &'static str) -> Read<T> {
        let rest = self.text.get(self.position..).unwrap_or_default();
        let found = match rest.chars().next() {
            None => "the end of the content".to_owned(),
            Some(first) => {
                let word = rest.split(|next: char| !u8::try_from(next).is_ok_and(is_word_byte)).next();
                let shown = word.filter(|word| !word.is_empty()).unwrap_or(&rest[..first.len_utf8()]);
                let cut: String = shown.chars().take(EXCERPT_CHARACTERS_MAX).flat_map(char::escape_debug).collect();
                format!("\"{cut}\"")
            }
        };
        refusal(self.position, ParseErrorKind::Expected { expected: expected.into(), found })
    }

    fn open(&mut self, expected: &'static str) -> Read<()> {
        if self.peek() != Some(b'(') {
            return self.expected(expected);
        }
        if self.depth >= SL_NESTING_MAX {
            let fault = ParseErrorKind::NestedTooDeep { what: "parentheses", limit: SL_NESTING_MAX };
            return refusal(self.position, fault);
        }
        self.depth += 1;
        self.position += 1;
        Ok(())
    }

    fn closes(&mut self, opening: usize) -> Read<bool> {
        self.skip_space();
        match self.peek() {
            Some(b')') => {
                self.position += 1;
                self.depth -= 1;
                Ok(true)
            }
            None => refusal(opening, ParseErrorKind::Unclosed { what: "a parenthesis" }),
            Some(_) => Ok(false),
        }
    }

    /// Reads terms up to and including the closing parenthesis.
    fn terms_until_closed(&mut self, opening: usize) -> Read<Vec<Term>> {
        let mut terms = Vec::new();
        while !self.closes(opening)? {
            terms.push(self.term()?);
        }
        Ok(terms)
    }

    fn count(&mut self) -> Read<()> {
        self.terms += 1;
        if self.terms > SL_TERMS_MAX {
            return refusal(self.position, ParseErrorKind::TooMany { what: "terms", limit: SL_TERMS_MAX });
        }
        Ok(())
    }

    fn term(&mut self) -> Read<Term> {
        self.count()?;
        match self.peek() {
            Some(b'(') => self.parenthesised(),
            Some(b'"') => Ok(Term::Text(self.string()?)),
            Some(b'?') => {
                self.position += 1;
                Ok(Term::Variable(self.word("a variable's name")?.into()))
            }
            Some(b'#') => match self.counted_string()? {
                Some(text) => Ok(Term::Text(text)),
                None => self.expected("digits and a quote behind #"),
            },
            Some(b':') => self.expected("a term"),
            _ => Ok(Term::Atom(self.word("a term")?.into())),
        }
    }

    fn parenthesised(&mut self) -> Read<Term> {
        let opening = self.position;
        self.open("a parenthesis")?;
        self.skip_space();
        if matches!(self.peek(), Some(b':' | b'?' | b'#')) {
            return self.expected("a word that says what the parenthesis is");
        }
        let head = self.word("a word that says what the parenthesis is")?;
        if head.eq_ignore_ascii_case("set") {
            return Ok(Term::Set(self.terms_until_closed(opening)?));
        }
        if head.eq_ignore_ascii_case("sequence") {
            return Ok(Term::Sequence(self.terms_until_closed(opening)?));
        }
        let mut arguments = Vec::new();
        while !self.closes(opening)? {
            arguments.push(if self.peek() == Some(b':') {
                self.count()?;
                self.position += 1;
                let name = self.word("a parameter's name behind the colon")?;
                self.skip_space();
                let value = match self.peek() {
                    Some(b':' | b')') | None => None,
                    Some(_) => Some(self.term()?),
                };
                Argument::Named(name.into(), value)
            } else {
                Argument::Plain(self.term()?)
            });
        }
        Ok(Term::Compound(Box::new(Compound { head: head.into(), arguments })))
    }

    fn word(&mut self, expected: &'static str) -> Read<&'a str> {
        let rest = &self.text.as_bytes()[self.position..];
        let length = rest.iter().position(|byte| !is_word_byte(*byte)).unwrap_or(rest.len());
        match self.text.get(self.position..self.position + length) {
            Some(word) if length > 0 => {
                self.position += length;
                Ok(word)
            }
            _ => self.expected(expected),
        }
    }

    /// A quote after a backslash does not end a string; every other backslash stands for itself.
    fn string(&mut self) -> Read<Box<str>> {
        let opening = self.position;
        let inside = self.text.get(opening + 1..).unwrap_or_default();
        let bytes = inside.as_bytes();
        let mut search = 0;
        while let Some(distance) = memchr::memchr(b'"', &bytes[search..]) {
            let quote = search + distance;
            if quote == 0 || bytes[quote - 1] != b'\\' || self.closing.binary_search(&(opening + 1 + quote)).is_ok() {
                self.position = opening + 1 + quote + 1;
                return Ok(inside.get(..quote).unwrap_or_default().replace("\\\"", "\"").into());
            }
            search = quote + 1;
        }
        refusal(opening, ParseErrorKind::Unclosed { what: "a string" })
    }

    /// Reads `#`, digits, a quote and that many bytes; returns `None` for anything else.
    fn counted_string(&mut self) -> Read<Option<Box<str>>> {
        let offset = self.position;
        let rest = self.text.get(offset + 1..).unwrap_or_default();
        let Some((digits, inside)) = rest.split_once('"') else { return Ok(None) };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(None);
        }
        let claimed: u64 = digits.parse().unwrap_or(u64::MAX);
        let available = inside.len();
        let Some(length) = usize::try_from(claimed).ok().filter(|length| *length <= available) else {
            return refusal(offset, ParseErrorKind::LengthBeyondEnd { claimed, available });
        };
        let Some(text) = inside.get(..length) else {
            return refusal(offset, ParseErrorKind::NotUtf8 { what: "a string that ends within a character".into() });
        };
        self.position = offset + 1 + digits.len() + 1 + length;
        Ok(Some(text.into()))
    }
}
