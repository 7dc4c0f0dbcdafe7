//! Extraction of an object's parameters.

use super::exception::Exception;
use crate::codec::sl::{Argument, Term};

/// Maximum number of elements of one set in a description.
pub const ELEMENTS_MAX: usize = 256;

/// The remaining parameters of an object. Those not taken are unexpected.
pub(super) struct Fields<'a> {
    object: &'static str,
    left: Vec<(&'a str, Option<&'a Term>)>,
}

impl<'a> Fields<'a> {
    /// Returns the parameters of an object of this kind.
    pub fn of(term: &'a Term, object: &'static str) -> Result<Self, Exception> {
        let unexpected = |term: &Term| Exception::UnexpectedArgument(beginning(term));
        let arguments = term.arguments_of(object).ok_or_else(|| unexpected(term))?;
        let mut left = Vec::with_capacity(arguments.len().min(ELEMENTS_MAX));
        for argument in arguments {
            match argument {
                Argument::Named(name, value) => left.push((name.as_ref(), value.as_ref())),
                Argument::Plain(term) => return Err(unexpected(term)),
            }
        }
        Ok(Self { object, left })
    }

    /// Takes the value of a parameter. One written without a value counts as absent.
    pub fn take(&mut self, name: &str) -> Option<&'a Term> {
        let place = self.left.iter().position(|(found, _)| found.eq_ignore_ascii_case(name))?;
        self.left.swap_remove(place).1
    }

    /// Takes a word, a number or a string.
    pub fn text(&mut self, name: &'static str) -> Result<Option<Box<str>>, Exception> {
        let Some(term) = self.take(name) else { return Ok(None) };
        term.as_text().map(|text| Some(text.into())).ok_or_else(|| self.unrecognised(name))
    }

    /// Takes a whole number.
    pub fn integer(&mut self, name: &'static str) -> Result<Option<i64>, Exception> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| self.unrecognised(name))
    }

    /// Takes a set and reads its elements one by one. A single element counts as a set of one.
    pub fn set<T>(
        &mut self,
        name: &'static str,
        mut read: impl FnMut(&'a Term) -> Result<Option<T>, Exception>,
    ) -> Result<Vec<T>, Exception> {
        let Some(term) = self.take(name) else { return Ok(Vec::new()) };
        let elements = term.elements().unwrap_or(std::slice::from_ref(term));
        if elements.len() > ELEMENTS_MAX {
            return Err(self.unrecognised(name));
        }
        elements.iter().map(|element| read(element)?.ok_or_else(|| self.unrecognised(name))).collect()
    }

    /// Takes the words of a set, whose name was in the singular in older standards.
    pub fn words(&mut self, name: &'static str, singular: &'static str) -> Result<Vec<Box<str>>, Exception> {
        let mut words = Vec::new();
        for name in [name, singular] {
            for word in self.set(name, |term| Ok(term.as_text()))? {
                let word = Box::from(word);
                if !words.contains(&word) {
                    words.push(word);
                }
            }
        }
        Ok(words)
    }

    /// Creates the exception for a parameter with a malformed value.
    pub fn unrecognised(&self, parameter: &'static str) -> Exception {
        Exception::UnrecognisedParameterValue { object: self.object, parameter }
    }

    /// Refuses remaining parameters, except user-defined ones.
    pub fn end(self) -> Result<(), Exception> {
        let object = self.object;
        let user_defined = |name: &str| name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("x-"));
        match self.left.into_iter().find(|(name, _)| !user_defined(name)) {
            Some((name, _)) => {
                Err(Exception::UnexpectedParameter { object, parameter: name.chars().take(64).collect() })
            }
            None => Ok(()),
        }
    }
}

/// Returns a short description of a term.
pub(super) fn beginning(term: &Term) -> Box<str> {
    let word = term.head().or(term.as_text()).unwrap_or("set");
    word.chars().take(64).collect()
}
