//! The parts of WASI that a guest can be granted, by name.

use std::fmt;

use super::error::closest;
use super::value::Setting;
use caxton_shards::domain::DomainError;

/// A part of WASI that a guest has only if it is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grant {
    /// Reading the time, and waiting for it: `wasi:clocks`.
    Clocks,
    /// Pseudo-random numbers: `wasi:random`.
    Random,
    /// Writing lines to the guest's log, and what language runtimes need besides: `wasi:cli`. There are no arguments,
    /// no environment, no input and no terminal.
    Stdout,
    /// Importing anything else of WASI, without function: a guest that calls it traps.
    Stubs,
}

impl Grant {
    /// All grants.
    pub const ALL: [Self; 4] = [Self::Clocks, Self::Random, Self::Stdout, Self::Stubs];

    /// Returns its name in manifests and in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clocks => "clocks",
            Self::Random => "random",
            Self::Stdout => "stdout",
            Self::Stubs => "stubs",
        }
    }

    /// Returns the grant with this name.
    ///
    /// # Errors
    ///
    /// There is none. The error contains all names, and the most similar one.
    pub fn of_name(name: &str) -> Result<Self, DomainError> {
        Self::ALL.into_iter().find(|grant| grant.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name);
            let hint = closest(name, names.iter().map(|name| (*name).to_owned()));
            let hint = hint.map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
            DomainError::not_allowed("WASI grant", name, format!("{}{hint}", names.join(", ")))
        })
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// A set of grants; empty by default.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Grants(u8);

impl Grants {
    /// No grants.
    pub const NONE: Self = Self(0);

    /// Whether the set contains this grant.
    pub fn has(self, grant: Grant) -> bool {
        self.0 & grant.bit() != 0
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the grants that are not among the others.
    #[must_use]
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Iterates over the grants, in the order of [`Grant::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Grant> {
        Grant::ALL.into_iter().filter(move |grant| self.has(*grant))
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(grants: I) -> Self {
        Self(grants.into_iter().fold(0, |bits, grant| bits | grant.bit()))
    }
}

/// Writes the names separated by commas.
impl fmt::Display for Grants {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, grant) in self.iter().enumerate() {
            write!(formatter, "{}{grant}", if place == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Grants {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.iter()).finish()
    }
}

impl Setting for Grants {
    fn read(text: &str) -> Result<Self, DomainError> {
        text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(Grant::of_name).collect()
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_order_and_shown_in_one() {
        let grants = Grants::read(" stdout ,clocks,").expect("both exist");
        assert_eq!(grants.to_string(), "clocks, stdout");
        assert_eq!(Grants::read(grants.show().trim_matches('"')), Ok(grants));
        assert_eq!(Grants::read(""), Ok(Grants::NONE));
        assert_eq!(grants.without([Grant::Clocks].into_iter().collect()).to_string(), "stdout");
    }

    #[test]
    fn an_unknown_name_is_refused_with_those_that_there_are() {
        let error = Grants::read("clocks, randon").expect_err("there is no such grant").to_string();
        assert!(error.contains("clocks, random, stdout, stubs; did you mean random?"), "{error}");
        let error = Grants::read("sockets").expect_err("there is no such grant").to_string();
        assert!(error.ends_with("clocks, random, stdout, stubs"), "{error}");
    }
}
