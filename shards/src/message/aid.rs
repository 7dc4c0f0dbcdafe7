//! Agent identifiers (FIPA SC00023): a name, transport addresses, and resolvers.

use super::details::{PARAMETER_BYTES_MAX, UserParameter, is_kept_parameter_name, weight_of};
use super::id::AgentId;
use crate::domain::AgentName;

/// Maximum number of addresses, resolvers or user-defined parameters of an identifier.
pub const AID_ENTRIES_MAX: usize = 64;
/// Maximum nesting depth of resolvers: an identifier may name resolvers that name resolvers.
pub const AID_DEPTH_MAX: usize = 8;

/// An identifier breaks a limit.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AidError {
    /// A list is too long.
    #[error("has {count} {entries}: the limit is {AID_ENTRIES_MAX}")]
    TooManyEntries {
        /// `addresses`, `resolvers` or `user-defined parameters`.
        entries: &'static str,
        /// The number of entries.
        count: usize,
    },
    /// Resolvers are nested too deep.
    #[error("has resolvers nested deeper than {AID_DEPTH_MAX} levels")]
    NestedTooDeep,
    /// An address or a parameter is too long.
    #[error("has an address or a parameter of {bytes} bytes: the limit is {PARAMETER_BYTES_MAX} bytes")]
    EntryTooLong {
        /// The length in bytes.
        bytes: usize,
    },
    /// A user-defined parameter's name is not a word, or is the name of a standard parameter.
    #[error("has the parameter {name:?}: a name is a word that is not a parameter of FIPA SC00061")]
    ParameterName {
        /// The refused name.
        name: String,
    },
}

/// An agent identifier (AID). The name alone identifies the agent; the rest helps to reach it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Aid {
    /// The agent's globally unique name.
    pub name: AgentName,
    /// Transport addresses, in order of preference.
    pub addresses: Vec<Box<str>>,
    /// Agents that can resolve the name to addresses, in order of preference.
    pub resolvers: Vec<Aid>,
    /// User-defined parameters, each with a name that begins with `X-`.
    pub user_parameters: Vec<UserParameter>,
}

impl Aid {
    /// Returns the memory that it takes, in bytes.
    pub(super) fn weight(&self) -> usize {
        size_of::<Self>()
            + self.name.as_ref().len()
            + self.addresses.iter().map(|address| size_of_val(address) + address.len()).sum::<usize>()
            + self.resolvers.iter().map(Self::weight).sum::<usize>()
            + weight_of(&self.user_parameters)
    }

    /// Creates an identifier that consists of a name only.
    pub fn new(name: AgentName) -> Self {
        Self { name, addresses: Vec::new(), resolvers: Vec::new(), user_parameters: Vec::new() }
    }

    /// Returns the id of the agent with this name.
    pub fn id(&self) -> AgentId {
        AgentId::of(&self.name)
    }

    /// Checks the limits that every message form relies on.
    pub(super) fn check(&self) -> Result<(), AidError> {
        self.check_at(1)
    }

    fn check_at(&self, depth: usize) -> Result<(), AidError> {
        if depth > AID_DEPTH_MAX {
            return Err(AidError::NestedTooDeep);
        }
        for (entries, count) in [
            ("addresses", self.addresses.len()),
            ("resolvers", self.resolvers.len()),
            ("user-defined parameters", self.user_parameters.len()),
        ] {
            if count > AID_ENTRIES_MAX {
                return Err(AidError::TooManyEntries { entries, count });
            }
        }
        let named = self.user_parameters.iter().map(|parameter| parameter.name.len().max(parameter.value.bytes()));
        if let Some(bytes) =
            self.addresses.iter().map(|address| address.len()).chain(named).find(|bytes| *bytes > PARAMETER_BYTES_MAX)
        {
            return Err(AidError::EntryTooLong { bytes });
        }
        if let Some(parameter) = self.user_parameters.iter().find(|parameter| !is_kept_parameter_name(&parameter.name))
        {
            return Err(AidError::ParameterName { name: parameter.name.chars().take(64).collect() });
        }
        self.resolvers.iter().try_for_each(|resolver| resolver.check_at(depth + 1))
    }
}
