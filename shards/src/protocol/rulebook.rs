//! The rulebook: the protocols that conversations are checked against.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use super::definition::{Definition, DefinitionError};
use super::engine::Rules;
use super::{Mode, library};
use crate::message::{Term, VOCABULARY_TERMS_MAX};

/// Maximum number of protocols of a router, including the library's.
pub const PROTOCOLS_MAX: usize = 256;

/// The protocols that a router checks, and how it treats violations. Cheap to clone.
///
/// The default checks nothing.
#[derive(Clone, Debug, Default)]
pub struct Rulebook(Option<Arc<Book>>);

#[derive(Debug)]
struct Book {
    rules: Vec<Arc<Rules>>,
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

    /// Returns the checked protocols, in the order of their indices.
    pub(crate) fn rules(&self) -> &[Arc<Rules>] {
        self.0.as_ref().map_or(&[], |book| &book.rules)
    }

    /// Whether two rulebooks are clones of one.
    pub(crate) fn is_clone_of(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        }
    }

    /// Returns how this rulebook differs from an earlier one, one line for each protocol: that it is checked, is no longer
    /// checked, has another definition, or another mode.
    pub fn changes_since(&self, former: &Self) -> Vec<String> {
        let find = |rules: &[Arc<Rules>], name: &str| rules.iter().find(|rules| rules.name == name).cloned();
        let change = |rules: &Arc<Rules>| match find(former.rules(), &rules.name) {
            None => Some(format!("{} is checked: {}", rules.name, rules.mode)),
            Some(former) if former == *rules => None,
            Some(former) if former.mode != rules.mode => {
                let definition = if former.has_definition_of(rules) { "" } else { ", with another definition" };
                Some(format!("{} is on {} instead of {}{definition}", rules.name, rules.mode, former.mode))
            }
            Some(_) => Some(format!("{} has another definition", rules.name)),
        };
        let gone = former.rules().iter().filter(|former| find(self.rules(), &former.name).is_none());
        let gone = gone.map(|former| format!("{} is no longer checked", former.name));
        self.rules().iter().filter_map(change).chain(gone).collect()
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
        self.rules.push(Arc::new(Rules::new(definition, mode, terms)));
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
    fn changes_are_named_by_protocol() {
        let of =
            |pairs: &[(&str, Mode)], own: &[Definition]| Rulebook::new(Mode::Off, &exceptions(pairs), own).unwrap();
        let own = Definition { name: "own".to_owned(), aliases: Vec::new(), ..library().next().unwrap() };
        let other = Definition { others_speak: true, ..own.clone() };
        let former =
            of(&[("fipa-request", Mode::Enforce), ("fipa-query", Mode::Observe), ("own", Mode::Observe)], &[own]);
        let modes = [("fipa-request", Mode::Observe), ("fipa-propose", Mode::Observe), ("own", Mode::Observe)];
        let expected = [
            "fipa-request is on observe instead of enforce",
            "fipa-propose is checked: observe",
            "own has another definition",
            "fipa-query is no longer checked",
        ];
        assert_eq!(of(&modes, &[other]).changes_since(&former), expected);
        assert_eq!(former.changes_since(&former.clone()), Vec::<String>::new());
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
