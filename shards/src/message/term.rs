//! Short words that many messages share: protocols, ontologies, languages, encodings, capabilities.
//!
//! A [`Term`] is four bytes and compares as a number, so that content-based rules and protocol tables never compare
//! text on the path of a message. The vocabulary behind it is shared by the whole process, only grows, and is bounded:
//! when it is full, further words stay with their message as text (see [`Details`](super::Details)), which costs an
//! allocation but loses nothing.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::{OnceLock, RwLock};

use hashbrown::HashMap;

/// The most words that the vocabulary holds.
pub const VOCABULARY_TERMS_MAX: usize = 65_536;
/// The longest word that becomes a term, in bytes: that of the longest capability name.
pub const TERM_BYTES_MAX: usize = 400;

/// A word of the process-wide vocabulary.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Term(NonZeroU32);

struct Vocabulary {
    words: Vec<&'static str>,
    terms: HashMap<&'static str, Term>,
}

/// The words are leaked: they are bounded in number and length, and a term stays valid as long as the process lives.
fn vocabulary() -> &'static RwLock<Vocabulary> {
    static VOCABULARY: OnceLock<RwLock<Vocabulary>> = OnceLock::new();
    VOCABULARY.get_or_init(|| RwLock::new(Vocabulary { words: Vec::new(), terms: HashMap::new() }))
}

impl Term {
    /// The term for `word`, which is added to the vocabulary if it is new.
    ///
    /// Answers nothing if the word is longer than [`TERM_BYTES_MAX`] or new to a full vocabulary.
    pub fn of(word: &str) -> Option<Self> {
        if word.len() > TERM_BYTES_MAX {
            return None;
        }
        if let Some(term) = Self::find(word) {
            return Some(term);
        }
        let mut vocabulary = vocabulary().write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(term) = vocabulary.terms.get(word) {
            return Some(*term);
        }
        if vocabulary.words.len() >= VOCABULARY_TERMS_MAX {
            return None;
        }
        let word: &'static str = Box::leak(word.to_owned().into_boxed_str());
        vocabulary.words.push(word);
        let number = u32::try_from(vocabulary.words.len()).ok()?;
        let term = Self(NonZeroU32::new(number)?);
        vocabulary.terms.insert(word, term);
        Some(term)
    }

    /// The term for `word` if the vocabulary has it.
    pub fn find(word: &str) -> Option<Self> {
        let vocabulary = vocabulary().read().unwrap_or_else(std::sync::PoisonError::into_inner);
        vocabulary.terms.get(word).copied()
    }

    /// Its number in the vocabulary: from 1 to [`VOCABULARY_TERMS_MAX`].
    #[inline]
    pub(crate) const fn number(self) -> usize {
        self.0.get() as usize
    }

    /// The word.
    pub fn as_str(self) -> &'static str {
        let vocabulary = vocabulary().read().unwrap_or_else(std::sync::PoisonError::into_inner);
        vocabulary.words.get(self.0.get() as usize - 1).copied().unwrap_or_default()
    }
}

impl fmt::Display for Term {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Term({:?})", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_word_is_the_same_term() {
        let term = Term::of("fipa-request").unwrap();
        assert_eq!(Term::of("fipa-request"), Some(term));
        assert_eq!(Term::find("fipa-request"), Some(term));
        assert_eq!(term.as_str(), "fipa-request");
        assert_ne!(Term::of("FIPA-Request"), Some(term));
    }

    #[test]
    fn a_word_beyond_the_limit_is_no_term() {
        assert_eq!(Term::of(&"x".repeat(TERM_BYTES_MAX + 1)), None);
        assert!(Term::of(&"x".repeat(TERM_BYTES_MAX)).is_some());
        assert_eq!(Term::find("never interned by anyone"), None);
    }
}
