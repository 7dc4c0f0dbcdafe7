//! The content language SL0 (FIPA SC00008), spoken with `ams` and `df`.
//!
//! [`parse`] reads a content, [`print()`] writes one. A content is a list of expressions. Actions, propositions and
//! terms alike are a [`Term`] here, because SL0 writes all of them in the same way; interpreting them is up to the
//! reader. Guarantees:
//!
//! - A content that was read, written and read again equals itself.
//! - Input controls nothing but its own length: its size, its nesting and the number of its terms are checked against
//!   limits before memory is allocated.
//! - Nothing is lost silently: what cannot be understood is refused with its line, its column and the reason.
//!
//! # What is accepted beyond SL0
//!
//! - Any case of `set` and `sequence`; [`Term::is`] compares all other words without regard to case.
//! - Variables (`?x`) and identifying expressions (`(iota ?x ...)`) of SL2, which SC00035 needs for subscriptions.
//! - A parameter without a value (`:name :type x`), which real platforms send. It is kept as one that is absent.
//!
//! Strings are those of the message's string form: see [`message::text`](crate::codec::text).

mod parse;
mod print;

pub use parse::parse;
pub use print::print;

/// Maximum length of a content that is read, in bytes.
pub const SL_BYTES_MAX: usize = 1 << 20;
/// Maximum nesting depth of parentheses. The content's own are the first level.
pub const SL_NESTING_MAX: usize = 64;
/// Maximum number of terms and parameters of a content.
pub const SL_TERMS_MAX: usize = 65_536;

/// An expression of SL0.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Term {
    /// A word, number or date; written without quotes.
    Atom(Box<str>),
    /// A string, without its quotes and escapes.
    Text(Box<str>),
    /// A variable, without its question mark.
    Variable(Box<str>),
    /// Terms in no particular order.
    Set(Vec<Term>),
    /// Terms in order.
    Sequence(Vec<Term>),
    /// A word with arguments: a functional term, an action or a proposition.
    Compound(Box<Compound>),
}

/// A word with arguments.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Compound {
    /// The word.
    pub head: Box<str>,
    /// The arguments.
    pub arguments: Vec<Argument>,
}

/// One argument of a [`Compound`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Argument {
    /// A positional argument.
    Plain(Term),
    /// A named argument, written with a colon. The value is `None` if none was written.
    Named(Box<str>, Option<Term>),
}

impl Term {
    /// Creates a word or, if the text cannot be written as one, a string.
    pub fn of(text: &str) -> Self {
        if is_word(text) { Self::Atom(text.into()) } else { Self::Text(text.into()) }
    }

    /// Creates a number.
    pub fn number(number: u64) -> Self {
        Self::Atom(number.to_string().into())
    }

    /// Creates a word with positional arguments, such as `(done x)`.
    pub fn compound(head: &str, arguments: impl IntoIterator<Item = Self>) -> Self {
        let arguments = arguments.into_iter().map(Argument::Plain).collect();
        Self::Compound(Box::new(Compound { head: head.into(), arguments }))
    }

    /// Creates a word with named arguments, such as `(agent-identifier :name x)`.
    pub fn record(head: &str, arguments: impl IntoIterator<Item = (&'static str, Self)>) -> Self {
        let named = |(name, value): (&str, Self)| Argument::Named(name.into(), Some(value));
        Self::Compound(Box::new(Compound { head: head.into(), arguments: arguments.into_iter().map(named).collect() }))
    }

    /// Returns the text of a word, number, date or string.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Atom(text) | Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the arguments if the term has this head, ignoring case.
    pub fn arguments_of(&self, head: &str) -> Option<&[Argument]> {
        match self {
            Self::Compound(compound) if compound.head.eq_ignore_ascii_case(head) => Some(&compound.arguments),
            _ => None,
        }
    }

    /// Returns the positional arguments if the term has this head and exactly `COUNT` arguments, all positional.
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

    /// Whether the term is this word, ignoring case.
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Self::Atom(text) if text.eq_ignore_ascii_case(word))
    }

    /// Returns the elements of a set or a sequence.
    pub fn elements(&self) -> Option<&[Self]> {
        match self {
            Self::Set(elements) | Self::Sequence(elements) => Some(elements),
            _ => None,
        }
    }

    /// Returns the head of a [`Compound`].
    pub fn head(&self) -> Option<&str> {
        match self {
            Self::Compound(compound) => Some(&compound.head),
            _ => None,
        }
    }
}

/// Whether a word may contain the byte.
fn is_word_byte(byte: u8) -> bool {
    byte > 0x20 && byte != 0x7f && !matches!(byte, b'(' | b')' | b'"')
}

/// Whether the text can be written without quotes and reads back as the same atom.
fn is_word(text: &str) -> bool {
    text.bytes().all(is_word_byte) && !text.starts_with([':', '?', '#']) && !text.is_empty()
}
