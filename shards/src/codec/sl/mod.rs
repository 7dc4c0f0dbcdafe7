//! The content language SL0 (FIPA SC00008): what agents say to `ams` and `df`, and what these answer.
//!
//! [`parse`] reads a content, [`print()`] writes one. A content is a list of expressions; all of them, actions,
//! propositions and terms alike, are a [`Term`] here, because SL0 writes all of them in the same way. What a term means
//! is the business of whoever reads it. What holds:
//!
//! - A content that was read, written and read again equals itself.
//! - Input decides over nothing but its own length: its size, its nesting and the number of its terms are compared with
//!   limits before memory is taken for them.
//! - Nothing is lost silently: what can't be understood is refused with its line, its column and the reason.
//!
//! # What is accepted beyond SL0
//!
//! - Any case of `set` and `sequence`; [`Term::is`] compares every other word without regard to case.
//! - Variables (`?x`) and identifying expressions (`(iota ?x ...)`) of SL2, which SC00035 needs for subscriptions.
//! - A parameter without a value (`:name :type x`), which real platforms send. It is kept as one that is absent.
//!
//! Strings are those of the message's string form: see [`message::text`](crate::codec::text).

mod parse;
mod print;

pub use parse::parse;
pub use print::print;

/// The longest content that is read, in bytes.
pub const SL_BYTES_MAX: usize = 1 << 20;
/// How deep parentheses may nest. The content's own are the first level.
pub const SL_NESTING_MAX: usize = 64;
/// How many terms and parameters a content may have.
pub const SL_TERMS_MAX: usize = 65_536;

/// An expression of SL0.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Term {
    /// A word, a number or a date: written without quotes.
    Atom(Box<str>),
    /// A string, without its quotes and escapes.
    Text(Box<str>),
    /// A variable, without its question mark.
    Variable(Box<str>),
    /// Terms whose order does not matter.
    Set(Vec<Term>),
    /// Terms in an order.
    Sequence(Vec<Term>),
    /// A word with what belongs to it: a functional term, an action, a proposition.
    Compound(Box<Compound>),
}

/// A word with what belongs to it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Compound {
    /// The word.
    pub head: Box<str>,
    /// What stands behind it.
    pub arguments: Vec<Argument>,
}

/// One argument of a [`Compound`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Argument {
    /// An argument by its place.
    Plain(Term),
    /// An argument by its name, written with a colon. The value is absent where none was written.
    Named(Box<str>, Option<Term>),
}

impl Term {
    /// A word or, if the text can't be written as one, a string.
    pub fn of(text: &str) -> Self {
        if is_word(text) { Self::Atom(text.into()) } else { Self::Text(text.into()) }
    }

    /// A number.
    pub fn number(number: u64) -> Self {
        Self::Atom(number.to_string().into())
    }

    /// A word with arguments by their places, such as `(done x)`.
    pub fn compound(head: &str, arguments: impl IntoIterator<Item = Self>) -> Self {
        let arguments = arguments.into_iter().map(Argument::Plain).collect();
        Self::Compound(Box::new(Compound { head: head.into(), arguments }))
    }

    /// A word with arguments by their names, such as `(agent-identifier :name x)`.
    pub fn record(head: &str, arguments: impl IntoIterator<Item = (&'static str, Self)>) -> Self {
        let named = |(name, value): (&str, Self)| Argument::Named(name.into(), Some(value));
        Self::Compound(Box::new(Compound { head: head.into(), arguments: arguments.into_iter().map(named).collect() }))
    }

    /// The text of a word, number, date or string.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Atom(text) | Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What stands behind this head, whatever its case.
    pub fn arguments_of(&self, head: &str) -> Option<&[Argument]> {
        match self {
            Self::Compound(compound) if compound.head.eq_ignore_ascii_case(head) => Some(&compound.arguments),
            _ => None,
        }
    }

    /// The arguments by their places behind this head, if there are as many and no others.
    pub fn parts_of<const COUNT: usize>(&self, head: &str) -> Option<[&Self; COUNT]> {
        let arguments = self.arguments_of(head)?;
        let mut parts = [self; COUNT];
        if arguments.len() != COUNT {
            return None;
        }
        for (part, argument) in parts.iter_mut().zip(arguments) {
            let Argument::Plain(term) = argument else { return None };
            *part = term;
        }
        Some(parts)
    }

    /// Whether it is this word, whatever its case.
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Self::Atom(text) if text.eq_ignore_ascii_case(word))
    }

    /// The elements of a set or a sequence.
    pub fn elements(&self) -> Option<&[Self]> {
        match self {
            Self::Set(elements) | Self::Sequence(elements) => Some(elements),
            _ => None,
        }
    }

    /// The head of a [`Compound`].
    pub fn head(&self) -> Option<&str> {
        match self {
            Self::Compound(compound) => Some(&compound.head),
            _ => None,
        }
    }
}

/// Whether a byte may stand in a word.
fn is_word_byte(byte: u8) -> bool {
    byte > 0x20 && byte != 0x7f && !matches!(byte, b'(' | b')' | b'"')
}

/// Whether the text can be written without quotes and reads back as the same atom.
fn is_word(text: &str) -> bool {
    text.bytes().all(is_word_byte) && !text.starts_with([':', '?', '#']) && !text.is_empty()
}
