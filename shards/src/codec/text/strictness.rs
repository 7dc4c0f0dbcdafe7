//! Strict and lenient treatment of FIPA's standards.

use std::fmt;
use std::str::FromStr;

use super::{Names, excerpt};
use crate::domain::DomainError;
use crate::message::details::is_user_parameter_name;
use crate::message::{AgentId, Aid, Message, Receiver, UserParameter};

/// How strictly messages are read and written.
///
/// This governs only extensions that other readers of the standard may refuse or misread: names of agents that are not
/// words of SC00070, such as `"Night Porter@plant"`; user-defined parameters whose names do not begin with `X-`
/// (SC00061); and, in the string form, strings that end in a backslash (`"C:\\"`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Strictness {
    /// Reads everything that has exactly one reading, and writes it so that it reads back.
    #[default]
    Lenient,
    /// Refuses these extensions, with the reason.
    Strict,
}

impl fmt::Display for Strictness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Lenient => "lenient",
            Self::Strict => "strict",
        })
    }
}

impl FromStr for Strictness {
    type Err = DomainError;

    fn from_str(word: &str) -> Result<Self, DomainError> {
        match word.trim() {
            "lenient" => Ok(Self::Lenient),
            "strict" => Ok(Self::Strict),
            _ => Err(DomainError::not_allowed("strictness", word, "lenient or strict")),
        }
    }
}

/// What violates strict mode in a message.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StrictnessError {
    /// An agent's name is not a word.
    #[error("the agent's name {name} is not a word of FIPA SC00070, which strict messages require")]
    AgentName {
        /// The name, as an excerpt in quotes.
        name: String,
    },
    /// The name of a user-defined parameter does not begin with `X-`.
    #[error("the user-defined parameter {name} does not begin with X-, which strict messages require (FIPA SC00061)")]
    ParameterName {
        /// The name, as an excerpt in quotes.
        name: String,
    },
}

/// Checks whether a message can be written strictly, in any form. Agents are named as when it is written.
///
/// # Errors
///
/// Returns the first use of an extension. Nothing was written.
pub fn check_strict(message: &Message, names: &dyn Names) -> Result<(), StrictnessError> {
    let known = message.sender().into_iter().chain(receivers(message).iter().copied());
    for name in known.filter_map(|agent| names.name_of(agent)) {
        check_name(name.as_ref().as_ref(), name.is_word())?;
    }
    let Some(details) = message.details() else { return Ok(()) };
    check(details.sender.iter().chain(&details.receivers).chain(&details.reply_to), &details.user_parameters)
}

fn receivers(message: &Message) -> &[AgentId] {
    match message.receiver() {
        Receiver::Agent(agent) | Receiver::Provider(agent, _) => std::slice::from_ref(agent),
        Receiver::Agents(agents) | Receiver::Member(agents, _) => agents,
        Receiver::Unaddressed | Receiver::Capability(..) => &[],
    }
}

/// Checks that these agents and parameters are allowed in strict mode.
pub(crate) fn check<'a>(
    agents: impl IntoIterator<Item = &'a Aid>,
    parameters: &[UserParameter],
) -> Result<(), StrictnessError> {
    agents.into_iter().try_for_each(check_agent)?;
    match parameters.iter().find(|parameter| !is_user_parameter_name(&parameter.name)) {
        Some(parameter) => Err(StrictnessError::ParameterName { name: excerpt(parameter.name.as_bytes()) }),
        None => Ok(()),
    }
}

fn check_agent(aid: &Aid) -> Result<(), StrictnessError> {
    check_name(aid.name.as_ref(), aid.name.is_word())?;
    check(&aid.resolvers, &aid.user_parameters)
}

fn check_name(name: &str, is_word: bool) -> Result<(), StrictnessError> {
    if is_word { Ok(()) } else { Err(StrictnessError::AgentName { name: excerpt(name.as_bytes()) }) }
}
