//! Interned words: protocols, ontologies, languages, encodings, capabilities.
//!
//! A [`Term`] is four bytes and compares as a number, so that content-based rules and protocol tables never compare
//! text on the path of a message. The vocabulary is shared by the whole process, only grows, and is bounded. Words from
//! messages have a share of it: once that is full, further words stay with their message as text (see
//! [`Details`](super::Details)), which costs an allocation but loses nothing, and registrations still have room.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::{OnceLock, RwLock};

use hashbrown::HashMap;

/// Maximum number of words in the vocabulary.
pub const VOCABULARY_TERMS_MAX: usize = 65_536;
/// Maximum number of words added by messages: protocols, ontologies, languages, encodings and capabilities that neither
/// a registration nor the configuration named. Further ones stay with their message as text.
pub const MESSAGE_TERMS_MAX: usize = 32_768;
/// Maximum number of user-defined performatives added by messages. Further ones are refused.
pub const PERFORMATIVE_TERMS_MAX: usize = 4_096;
/// Maximum length of a term, in bytes: that of the longest capability name.
pub const TERM_BYTES_MAX: usize = 400;

const _: () = assert!(
    MESSAGE_TERMS_MAX + PERFORMATIVE_TERMS_MAX < VOCABULARY_TERMS_MAX,
    "whatever messages bring, there is room for what agents and the configuration register"
);

/// A word of the process-wide vocabulary.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Term(NonZeroU32);

/// The origin of a word, which determines its share of the vocabulary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Origin {
    /// A registration or the configuration.
    Registered,
    /// A message.
    Message,
    /// A message's performative.
    Performative,
}

#[derive(Default)]
struct Vocabulary {
    words: Vec<&'static str>,
    terms: HashMap<&'static str, Term>,
    /// The number of words added by messages, and of performatives.
    by_messages: usize,
    performatives: usize,
}

/// The words are leaked: they are bounded in number and length, and a term is valid as long as the process runs.
fn vocabulary() -> &'static RwLock<Vocabulary> {
    static VOCABULARY: OnceLock<RwLock<Vocabulary>> = OnceLock::new();
    VOCABULARY.get_or_init(RwLock::default)
}

impl Vocabulary {
    /// Returns the term for a word. A new word is added if its origin's share has room.
    fn add(&mut self, word: &str, origin: Origin) -> Option<Term> {
        if let Some(term) = self.terms.get(word) {
            return Some(*term);
        }
        let has_room = match origin {
            Origin::Registered => true,
            Origin::Message => self.by_messages < MESSAGE_TERMS_MAX,
            Origin::Performative => self.performatives < PERFORMATIVE_TERMS_MAX,
        };
        if !has_room || self.words.len() >= VOCABULARY_TERMS_MAX {
            return None;
        }
        let number = u32::try_from(self.words.len() + 1).ok()?;
        let term = Term(NonZeroU32::new(number)?);
        let word: &'static str = Box::leak(word.to_owned().into_boxed_str());
        self.words.push(word);
        self.terms.insert(word, term);
        self.by_messages += usize::from(origin == Origin::Message);
        self.performatives += usize::from(origin == Origin::Performative);
        Some(term)
    }
}

impl Term {
    /// Returns the term for a word of a registration or of the configuration. A new word is added; messages cannot use
    /// up the room for these words.
    ///
    /// Returns `None` if the word is longer than [`TERM_BYTES_MAX`], or new and the vocabulary is full.
    pub fn of(word: &str) -> Option<Self> {
        Self::of_origin(word, Origin::Registered)
    }

    /// Returns the term for a word of a message. A new word is added only while messages have added fewer than
    /// [`MESSAGE_TERMS_MAX`].
    pub fn of_message(word: &str) -> Option<Self> {
        Self::of_origin(word, Origin::Message)
    }

    /// Returns the term for a performative. Messages can add at most [`PERFORMATIVE_TERMS_MAX`] new ones.
    pub(crate) fn of_performative(word: &str) -> Option<Self> {
        Self::of_origin(word, Origin::Performative)
    }

    fn of_origin(word: &str, origin: Origin) -> Option<Self> {
        if word.len() > TERM_BYTES_MAX {
            return None;
        }
        if let Some(term) = Self::find(word) {
            return Some(term);
        }
        vocabulary().write().unwrap_or_else(std::sync::PoisonError::into_inner).add(word, origin)
    }

    /// Returns the term for `word` if it is in the vocabulary.
    pub fn find(word: &str) -> Option<Self> {
        let vocabulary = vocabulary().read().unwrap_or_else(std::sync::PoisonError::into_inner);
        vocabulary.terms.get(word).copied()
    }

    /// Returns the term's number in the vocabulary: 1 to [`VOCABULARY_TERMS_MAX`].
    #[inline]
    pub(crate) const fn number(self) -> usize {
        self.0.get() as usize
    }

    /// Returns the word.
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
    fn messages_fill_their_share_and_registrations_have_theirs() {
        let mut vocabulary = Vocabulary::default();
        let mut add = |word: &str, origin| vocabulary.add(word, origin).is_some();
        for number in 0..MESSAGE_TERMS_MAX {
            assert!(add(&format!("word-{number}"), Origin::Message));
        }
        assert!(!add("one-more", Origin::Message));
        assert!(add("word-7", Origin::Message), "what is known stays known");
        for number in 0..PERFORMATIVE_TERMS_MAX {
            assert!(add(&format!("act-{number}"), Origin::Performative));
        }
        assert!(!add("one-more", Origin::Performative));
        for number in MESSAGE_TERMS_MAX + PERFORMATIVE_TERMS_MAX..VOCABULARY_TERMS_MAX {
            assert!(add(&format!("capability-{number}"), Origin::Registered));
        }
        assert!(!add("one-more", Origin::Registered));
    }

    #[test]
    fn a_word_beyond_the_limit_is_no_term() {
        assert_eq!(Term::of(&"x".repeat(TERM_BYTES_MAX + 1)), None);
        assert!(Term::of(&"x".repeat(TERM_BYTES_MAX)).is_some());
        assert_eq!(Term::find("never interned by anyone"), None);
    }
}
