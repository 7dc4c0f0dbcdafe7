//! Which protocols conversations are held to.

use std::sync::Arc;

use super::definition::{Definition, Flaw};
use super::engine::{Guard, Rules, Verdict};
use super::{Mode, ProtocolView, Violation, library};
use crate::message::{AgentId, Message, Term, WallTime};

/// The most protocols of a router, the library's own included.
pub const PROTOCOLS_MAX: usize = 256;

/// The protocols that a router checks, and what it does about those who break them. Cloning it is cheap.
///
/// The default checks nothing.
#[derive(Clone, Debug, Default)]
pub struct Rulebook(Option<Arc<Book>>);

#[derive(Debug)]
struct Book {
    rules: Vec<Rules>,
    /// By the number of a term: the protocol's place among the rules, from one; zero stands for none.
    by_term: Vec<u16>,
}

/// Why a rulebook could not be made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RulebookError {
    /// A mode is given for a protocol that there is not.
    #[error("there is no protocol {name:?}: known are {}", .known.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// The protocols that there are.
        known: Vec<String>,
    },
    /// Two protocols have one name.
    #[error("there are two protocols named {name:?}: choose another name")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// There are too many protocols.
    #[error("there are {count} protocols: allowed are up to {PROTOCOLS_MAX}, the router's own included")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// A definition is wrong.
    #[error("the protocol {name:?} can't be used: {}", .flaws.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Flawed {
        /// The protocol.
        name: String,
        /// What is wrong.
        flaws: Vec<Flaw>,
    },
    /// A name could not become a term.
    #[error("the protocol {name:?} can't be named in messages: the process-wide vocabulary is full")]
    VocabularyFull {
        /// The name.
        name: String,
    },
}

impl Rulebook {
    /// The library's protocols and `own` ones, all in this mode but for `exceptions`, which name a protocol each.
    ///
    /// # Errors
    /// The first thing that is wrong; see [`RulebookError`].
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
                if known.contains(&name) {
                    return Err(RulebookError::Duplicate { name });
                }
                known.push(name);
            }
            let flaws = definition.flaws();
            if !flaws.is_empty() {
                return Err(RulebookError::Flawed { name: definition.name.clone(), flaws });
            }
        }
        if let Some((name, _)) = exceptions.iter().find(|(name, _)| !known.contains(name)) {
            return Err(RulebookError::Unknown { name: name.clone(), known });
        }
        let mut book = Book { rules: Vec::new(), by_term: Vec::new() };
        for definition in &definitions {
            let exception = exceptions.iter().rev().find(|(name, _)| names(definition).contains(name));
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

    /// The names of the protocols that are checked, and how.
    pub fn checked(&self) -> impl Iterator<Item = (&str, Mode)> {
        self.0.iter().flat_map(|book| &book.rules).map(|rules| (rules.name.as_str(), rules.mode))
    }

    /// The place of the checked protocol of this name.
    #[inline]
    pub(crate) fn find(&self, name: Term) -> Option<u16> {
        self.0.as_ref()?.by_term.get(name.number())?.checked_sub(1)
    }

    #[inline]
    fn rules(&self, place: u16) -> Option<&Rules> {
        self.0.as_ref()?.rules.get(usize::from(place))
    }

    /// Takes a step in a conversation: see [`Rules::step`].
    #[inline]
    pub(crate) fn step(&self, guard: &mut Guard, from: usize, to: usize, message: &Message, now: WallTime) -> Verdict {
        match self.rules(guard.protocol) {
            Some(rules) => rules.step(guard, from, to, message, now),
            None => Verdict::Allowed,
        }
    }

    /// Says what was wrong with a message that was forbidden.
    pub(crate) fn explain(
        &self,
        guard: &Guard,
        between: (usize, usize),
        message: &Message,
        initiator: AgentId,
    ) -> Option<Violation> {
        self.rules(guard.protocol)?.explain(guard, between, message, initiator)
    }

    /// How a conversation stands.
    pub(crate) fn view(&self, guard: &Guard, participants: &[AgentId]) -> Option<ProtocolView> {
        Some(self.rules(guard.protocol)?.view(guard, participants))
    }
}

impl Book {
    fn add(&mut self, definition: &Definition, mode: Mode, names: &[String]) -> Result<(), RulebookError> {
        let place = u16::try_from(self.rules.len() + 1).unwrap_or(u16::MAX);
        let mut terms = Vec::new();
        for name in names {
            // Platforms write the names of protocols in either case.
            for spelling in [name.clone(), name.to_ascii_uppercase()] {
                let term = Term::of(&spelling).ok_or_else(|| RulebookError::VocabularyFull { name: name.clone() })?;
                if self.by_term.len() <= term.number() {
                    self.by_term.resize(term.number() + 1, 0);
                }
                self.by_term[term.number()] = place;
                terms.push(term);
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
        assert_eq!(find("fipa-request"), find("FIPA-REQUEST"));
        assert_eq!(find("fipa-auction-dutch"), find("fipa-dutch-auction"));
        assert!(find("fipa-request").is_some());
        assert_eq!((find("fipa-query"), find("house")), (None, None));
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
        let flawed = Definition { name: "own".to_owned(), ends: Vec::new(), ..request };
        let error = Rulebook::new(Mode::Off, &[], &[flawed]).unwrap_err();
        assert!(matches!(error, RulebookError::Flawed { .. }), "{error}");
    }
}
