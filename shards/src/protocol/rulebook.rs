//! The rulebook: the protocols that conversations are checked against.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use super::definition::{Definition, DefinitionError};
use super::engine::{Guard, Rules, Verdict};
use super::{Mode, ProtocolView, Violation, library};
use crate::message::{AgentId, Message, Performative, Term, VOCABULARY_TERMS_MAX, WallTime};

/// Maximum number of protocols of a router, including the library's.
pub const PROTOCOLS_MAX: usize = 256;

/// The protocols that a router checks, and how it treats violations. Cheap to clone.
///
/// The default checks nothing.
#[derive(Clone, Debug, Default)]
pub struct Rulebook(Option<Arc<Book>>);

#[derive(Debug)]
struct Book {
    rules: Vec<Rules>,
    /// By term number: the protocol's index among the rules, counted from one, or [`UNKNOWN`]. Zero means that the term
    /// was not looked up yet: names are case-insensitive, and new spellings arrive with messages.
    by_term: Box<[AtomicU16]>,
}

/// Marks a term that is not a checked protocol.
const UNKNOWN: u16 = u16::MAX;
const _: () = assert!(PROTOCOLS_MAX < UNKNOWN as usize, "a protocol's place is a protocol's place");

/// A rulebook could not be created.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RulebookError {
    /// A mode is given for an unknown protocol.
    #[error("there is no protocol {name:?}: known are {}", .known.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// The known protocols.
        known: Vec<String>,
    },
    /// Two protocols have the same name.
    #[error("there are two protocols named {name:?}: choose another name")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// There are too many protocols.
    #[error("there are {count} protocols: the limit is {PROTOCOLS_MAX}, the router's own included")]
    TooMany {
        /// The number of protocols.
        count: usize,
    },
    /// A definition is invalid.
    #[error("the protocol {name:?} cannot be used: {}", .errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Flawed {
        /// The protocol.
        name: String,
        /// The errors.
        errors: Vec<DefinitionError>,
    },
    /// The vocabulary has no room for a name.
    #[error("the protocol {name:?} cannot be named in messages: the process-wide vocabulary is full")]
    VocabularyFull {
        /// The name.
        name: String,
    },
}

impl Rulebook {
    /// Creates a rulebook of the library's protocols and `own` ones, all in `mode` except for `exceptions`.
    ///
    /// # Errors
    ///
    /// Returns the first error; see [`RulebookError`].
    pub fn new(mode: Mode, exceptions: &[(String, Mode)], own: &[Definition]) -> Result<Self, RulebookError> {
        let definitions: Vec<Definition> = library().chain(own.iter().cloned()).collect();
        if definitions.len() > PROTOCOLS_MAX {
            return Err(RulebookError::TooMany { count: definitions.len() });
        }
        let names = |definition: &Definition| {
            [&definition.name].into_iter().chain(&definition.aliases).cloned().collect::<Vec<String>>()
        };
        let mut known: Vec<String> = Vec::new();
        for definition in &definitions {
            for name in names(definition) {
                if known.iter().any(|other| other.eq_ignore_ascii_case(&name)) {
                    return Err(RulebookError::Duplicate { name });
                }
                known.push(name);
            }
            let errors = definition.errors();
            if !errors.is_empty() {
                return Err(RulebookError::Flawed { name: definition.name.clone(), errors });
            }
        }
        let is_known = |name: &str| known.iter().any(|known| known.eq_ignore_ascii_case(name));
        if let Some((name, _)) = exceptions.iter().find(|(name, _)| !is_known(name)) {
            return Err(RulebookError::Unknown { name: name.clone(), known });
        }
        let by_term = (0..=VOCABULARY_TERMS_MAX).map(|_| AtomicU16::new(0)).collect();
        let mut book = Book { rules: Vec::new(), by_term };
        for definition in &definitions {
            let is_name = |name: &str| names(definition).iter().any(|own| own.eq_ignore_ascii_case(name));
            let exception = exceptions.iter().rev().find(|(name, _)| is_name(name));
            let mode = exception.map_or(mode, |(_, mode)| *mode);
            if mode != Mode::Off {
                book.add(definition, mode, &names(definition))?;
            }
        }
        Ok(if book.rules.is_empty() { Self(None) } else { Self(Some(Arc::new(book))) })
    }

    /// Whether nothing is checked.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the names of the checked protocols and their modes.
    pub fn checked(&self) -> impl Iterator<Item = (&str, Mode)> {
        self.0.iter().flat_map(|book| &book.rules).map(|rules| (rules.name.as_str(), rules.mode))
    }

    /// Returns the index of the checked protocol with this name.
    #[inline]
    pub(crate) fn find(&self, name: Term) -> Option<u16> {
        let book = self.0.as_ref()?;
        let place = book.by_term.get(name.number())?.load(Ordering::Relaxed).wrapping_sub(1);
        if usize::from(place) < book.rules.len() { Some(place) } else { book.find_spelling(name) }
    }

    /// Whether an exchange of this protocol can begin with this act.
    pub(crate) fn may_begin(&self, protocol: u16, act: Performative) -> bool {
        self.rules(protocol).is_some_and(|rules| rules.may_begin(act))
    }

    /// Whether agents may speak in this protocol that its initiator did not address first.
    pub(crate) fn others_speak(&self, protocol: u16) -> bool {
        self.rules(protocol).is_some_and(Rules::others_speak)
    }

    /// Whether a message between these indices of a conversation would be allowed now.
    pub(crate) fn allows(&self, guard: &Guard, from: usize, to: usize, message: &Message) -> bool {
        self.rules(guard.protocol).is_none_or(|rules| rules.allows(guard, from, to, message))
    }

    /// Ends an exchange that a platform could not deliver to: the one with `named`, an index in the conversation, or
    /// the only one that is under way.
    pub(crate) fn lose(&self, guard: &mut Guard, named: Option<usize>, participants: usize) {
        let Some(rules) = self.rules(guard.protocol) else { return };
        let mut under_way = (1..participants).filter(|party| rules.is_under_way(guard, *party));
        let only = match (under_way.next(), under_way.next()) {
            (Some(party), None) => Some(party),
            _ => None,
        };
        match named.or(only) {
            Some(party) => rules.lose(guard, party),
            None => guard.delivery_failed = true,
        }
    }

    /// Describes what is wrong with a message that belongs to no conversation and does not begin one.
    pub(crate) fn explain_beginning(&self, protocol: u16, message: &Message) -> Option<Violation> {
        let mut guard = Guard::default();
        guard.begin(protocol);
        self.explain(&guard, (0, 1), message, message.sender()?)
    }

    #[inline]
    fn rules(&self, place: u16) -> Option<&Rules> {
        self.0.as_ref()?.rules.get(usize::from(place))
    }

    /// Takes a step in a conversation: see [`Rules::step`].
    #[inline(always)]
    pub(crate) fn step(&self, guard: &mut Guard, from: usize, to: usize, message: &Message, now: WallTime) -> Verdict {
        match self.rules(guard.protocol) {
            Some(rules) => rules.step(guard, from, to, message, now),
            None => Verdict::Allowed,
        }
    }

    /// Advances a conversation that lost steps to where a message is allowed: see [`Rules::catch_up`].
    pub(crate) fn catch_up(&self, guard: &mut Guard, from: usize, to: usize, message: &Message) -> bool {
        self.rules(guard.protocol).is_some_and(|rules| rules.catch_up(guard, from, to, message))
    }

    /// Describes what is wrong with a forbidden message.
    pub(crate) fn explain(
        &self,
        guard: &Guard,
        between: (usize, usize),
        message: &Message,
        initiator: AgentId,
    ) -> Option<Violation> {
        self.rules(guard.protocol)?.explain(guard, between, message, initiator)
    }

    /// Returns the names of a protocol's states, by number.
    pub(crate) fn state_names(&self, protocol: usize) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(move |book| book.rules.get(protocol)).flat_map(Rules::state_names)
    }

    /// Returns the number of a conversation's state: see [`Rules::standing`].
    pub(crate) fn standing(&self, guard: &Guard) -> u8 {
        self.rules(guard.protocol).map_or(0, |rules| rules.standing(guard))
    }

    /// Returns the names of a conversation's protocol and of the state it has reached.
    pub(crate) fn protocol_and_state(&self, guard: &Guard) -> Option<(&str, &str)> {
        let rules = self.rules(guard.protocol)?;
        Some((rules.name.as_str(), rules.state_name(rules.standing(guard))))
    }

    /// Returns the state of a conversation.
    pub(crate) fn view(&self, guard: &Guard, participants: &[AgentId]) -> Option<ProtocolView> {
        Some(self.rules(guard.protocol)?.view(guard, participants))
    }
}

impl Book {
    /// Looks up a name that was not seen in this spelling before.
    #[cold]
    fn find_spelling(&self, name: Term) -> Option<u16> {
        let entry = self.by_term.get(name.number())?;
        if entry.load(Ordering::Relaxed) == UNKNOWN {
            return None;
        }
        // The names of checked protocols are in the vocabulary.
        let lower = Term::find(&name.as_str().to_ascii_lowercase());
        let found = lower.and_then(|lower| self.by_term.get(lower.number()));
        let place = found.map_or(0, |entry| entry.load(Ordering::Relaxed));
        let known = (1..=self.rules.len()).contains(&usize::from(place));
        entry.store(if known { place } else { UNKNOWN }, Ordering::Relaxed);
        known.then(|| place - 1)
    }

    fn add(&mut self, definition: &Definition, mode: Mode, names: &[String]) -> Result<(), RulebookError> {
        let place = u16::try_from(self.rules.len() + 1).unwrap_or(u16::MAX);
        let mut terms = Vec::new();
        for name in names {
            // Platforms write protocol names in either case.
            for spelling in [name.clone(), name.to_ascii_lowercase(), name.to_ascii_uppercase()] {
                let term = Term::of(&spelling).ok_or_else(|| RulebookError::VocabularyFull { name: name.clone() })?;
                if let Some(entry) = self.by_term.get(term.number()) {
                    entry.store(place, Ordering::Relaxed);
                }
                if !terms.contains(&term) {
                    terms.push(term);
                }
            }
        }
        self.rules.push(Rules::new(definition, mode, terms));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exceptions(pairs: &[(&str, Mode)]) -> Vec<(String, Mode)> {
        pairs.iter().map(|(name, mode)| ((*name).to_owned(), *mode)).collect()
    }

    #[test]
    fn each_protocol_has_its_own_mode() {
        let modes = exceptions(&[("fipa-query", Mode::Off), ("fipa-request", Mode::Enforce)]);
        let rulebook = Rulebook::new(Mode::Observe, &modes, &[]).unwrap();
        let checked: Vec<_> = rulebook.checked().collect();
        assert!(
            checked.contains(&("fipa-request", Mode::Enforce)) && checked.contains(&("fipa-propose", Mode::Observe))
        );
        assert_eq!(checked.len(), 10);
        let find = |name: &str| rulebook.find(Term::of(name).unwrap());
        for spelling in ["FIPA-REQUEST", "FIPA-Request", "fipa-reQuest"] {
            assert_eq!(find("fipa-request"), find(spelling), "{spelling}");
            assert_eq!(find("fipa-request"), find(spelling), "{spelling}, looked up once more");
        }
        assert_eq!(find("fipa-auction-dutch"), find("fipa-dutch-auction"));
        assert!(find("fipa-request").is_some());
        assert_eq!((find("fipa-query"), find("house"), find("house")), (None, None, None));
    }

    #[test]
    fn what_checks_nothing_is_empty() {
        assert!(Rulebook::default().is_empty());
        assert!(Rulebook::new(Mode::Off, &[], &[]).unwrap().is_empty());
        assert!(!Rulebook::new(Mode::Off, &exceptions(&[("fipa-propose", Mode::Observe)]), &[]).unwrap().is_empty());
    }

    #[test]
    fn what_is_unknown_or_there_twice_is_refused() {
        let error = Rulebook::new(Mode::Off, &exceptions(&[("fipa-reqest", Mode::Off)]), &[]).unwrap_err();
        assert!(error.to_string().contains("known are fipa-request, fipa-query,"), "{error}");
        let request = library().next().unwrap();
        let error = Rulebook::new(Mode::Off, &[], std::slice::from_ref(&request)).unwrap_err();
        assert_eq!(error, RulebookError::Duplicate { name: "fipa-request".to_owned() });
        let other_case = Definition { name: "Fipa-Request".to_owned(), ..request.clone() };
        let error = Rulebook::new(Mode::Off, &[], &[other_case]).unwrap_err();
        assert_eq!(error, RulebookError::Duplicate { name: "Fipa-Request".to_owned() });
        assert!(Rulebook::new(Mode::Off, &exceptions(&[("FIPA-Propose", Mode::Observe)]), &[]).is_ok());
        let flawed = Definition { name: "own".to_owned(), ends: Vec::new(), ..request };
        let error = Rulebook::new(Mode::Off, &[], &[flawed]).unwrap_err();
        assert!(matches!(error, RulebookError::Flawed { .. }), "{error}");
    }
}
