//! Errors in a text, with their positions.
//!
//! Errors are sent back in a `not-understood` and appear in logs and on terminals, so everything they quote from the
//! input is cut and escaped.

use std::borrow::Cow;

use super::strictness::StrictnessError;
use crate::domain::DomainError;
use crate::message::{MessageError, TransportEnvelopeError};

/// Maximum length of an excerpt of the input in an error, in characters.
pub const EXCERPT_CHARACTERS_MAX: usize = 32;

/// A text is not a valid message. Nothing took effect.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}, column {column}: {kind}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The position in the input, in bytes from 0.
    pub offset: usize,
    /// What is wrong there.
    pub kind: ParseErrorKind,
}

/// What is wrong with a text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// Something else is expected here.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What is expected.
        expected: Cow<'static, str>,
        /// What is there: an excerpt in quotes, or `the end of the input`.
        found: String,
    },
    /// A string or a parenthesis that begins here is not closed.
    #[error("{what} begins here and is not closed")]
    Unclosed {
        /// What is not closed.
        what: &'static str,
    },
    /// A byte-length-encoded string claims more bytes than there are.
    #[error("the length says {claimed} bytes, but {available} bytes follow")]
    LengthBeyondEnd {
        /// The claimed length; `u64::MAX` if it is larger.
        claimed: u64,
        /// The number of bytes that follow.
        available: usize,
    },
    /// A parameter that is neither standard nor user-defined.
    #[error("unknown parameter {name}: names of user-defined parameters begin with X- (FIPA SC00061)")]
    UnknownParameter {
        /// The name, as an excerpt in quotes.
        name: String,
    },
    /// A user-defined parameter has an invalid name.
    #[error(
        "{name} cannot be the name of a user-defined parameter: expected a word that is not a parameter of FIPA SC00061"
    )]
    ParameterName {
        /// The name, as an excerpt in quotes.
        name: String,
    },
    /// A parameter that may occur once occurs twice.
    #[error("the parameter :{name} is given twice")]
    RepeatedParameter {
        /// The parameter.
        name: &'static str,
    },
    /// The value is not valid for the parameter.
    #[error("{value} is not a valid value of :{parameter}: expected {allowed}")]
    IllegalValue {
        /// The parameter.
        parameter: &'static str,
        /// The value, as an excerpt in quotes.
        value: String,
        /// What the parameter accepts.
        allowed: Cow<'static, str>,
    },
    /// The form has no place for this element.
    #[error("unknown {what} {name}{}; expected {allowed}", hint(*.nearest))]
    Unknown {
        /// What it is and where, such as `member of a message`.
        what: &'static str,
        /// Its name, as an excerpt in quotes.
        name: String,
        /// The allowed name most similar to it, if one is similar.
        nearest: Option<&'static str>,
        /// What is allowed instead.
        allowed: Cow<'static, str>,
    },
    /// The input is not well-formed XML or JSON.
    #[error("not well-formed {form}: {reason}")]
    NotWellFormed {
        /// `XML` or `JSON`.
        form: &'static str,
        /// The parser's error message.
        reason: String,
    },
    /// An XML construct that is legal elsewhere but refused here.
    #[error("{what} is refused: {reason}")]
    Forbidden {
        /// The construct.
        what: &'static str,
        /// Why it is refused.
        reason: &'static str,
    },
    /// A name or performative that the router does not accept.
    #[error(transparent)]
    Refused(DomainError),
    /// Parameters that exclude each other.
    #[error("{0}")]
    Contradiction(&'static str),
    /// Something is longer than allowed.
    #[error("{what} is too long: the limit is {limit} bytes")]
    TooLong {
        /// What is too long.
        what: Cow<'static, str>,
        /// The limit in bytes.
        limit: usize,
    },
    /// There are too many of something.
    #[error("too many {what}: the limit is {limit}")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Parentheses or resolvers nest deeper than allowed.
    #[error("nested too deep: the limit is {limit} levels of {what}")]
    NestedTooDeep {
        /// What nests.
        what: &'static str,
        /// The maximum depth.
        limit: usize,
    },
    /// Bytes outside content and byte-length-encoded values that are not UTF-8.
    #[error("{what} is not UTF-8")]
    NotUtf8 {
        /// What is not UTF-8.
        what: Cow<'static, str>,
    },
    /// The message is valid only in lenient mode.
    #[error(transparent)]
    NotStrict(StrictnessError),
    /// The parts of a transport envelope are valid, but their combination is not.
    #[error(transparent)]
    Envelope(TransportEnvelopeError),
    /// The parts are valid, but their combination is not.
    #[error(transparent)]
    Message(MessageError),
}

fn hint(nearest: Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

/// A fault at a byte of the input. Line and column are computed only for errors that leave the module.
///
/// The fault is boxed to keep the `Result` small: its success value is usually a few words long.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub offset: usize,
    fault: Box<ParseErrorKind>,
}

impl Refusal {
    pub fn new(offset: usize, fault: ParseErrorKind) -> Self {
        Self { offset, fault: Box::new(fault) }
    }

    /// Returns what is wrong, for a value that stands alone.
    pub fn into_kind(self) -> ParseErrorKind {
        *self.fault
    }

    pub fn locate(self, input: &[u8]) -> ParseError {
        let mut place = Place::START;
        place.advance(input, self.offset);
        self.at(place)
    }

    pub fn at(self, place: Place) -> ParseError {
        ParseError { line: place.line, column: place.column, offset: self.offset, kind: *self.fault }
    }
}

/// A position in the input as lines and characters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub offset: usize,
    pub line: usize,
    pub column: usize,
}

impl Place {
    pub const START: Self = Self { offset: 0, line: 1, column: 1 };

    /// Moves forward to `offset`.
    pub fn advance(&mut self, input: &[u8], offset: usize) {
        let mut skipped = input.get(self.offset..offset).unwrap_or_default();
        if self.offset == 0 {
            skipped = skipped.strip_prefix(BYTE_ORDER_MARK).unwrap_or(skipped);
        }
        let mut line = skipped;
        if let Some(end) = memchr::memrchr(b'\n', skipped) {
            self.line += memchr::memchr_iter(b'\n', skipped).count();
            self.column = 1;
            line = &skipped[end + 1..];
        }
        self.column += line.iter().filter(|byte| !is_continuation(**byte)).count();
        self.offset = offset;
    }
}

/// The byte order mark that some editors put in front of UTF-8.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Whether the byte continues a UTF-8 character rather than beginning one.
fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// Returns the beginning of `bytes` in quotes, escaped and cut.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    const BYTES_MAX: usize = 4 * EXCERPT_CHARACTERS_MAX;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(BYTES_MAX)]);
    let mut shown: String = text.chars().take(EXCERPT_CHARACTERS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(EXCERPT_CHARACTERS_MAX).is_some() || bytes.len() > BYTES_MAX {
        shown.push('…');
    }
    format!("\"{shown}\"")
}
