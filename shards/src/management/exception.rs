//! Why a request to `ams` or `df` is not carried out: the exceptions of FIPA SC00023, section 6.3.

use std::borrow::Cow;

use crate::codec::sl::Term;
use crate::message::Performative;

/// Why a request was not carried out. Nothing changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Exception {
    /// The performative is none that this agent handles.
    #[error("the act {0} is not handled here")]
    UnsupportedAct(Box<str>),
    /// This agent does not handle the value of a parameter of the message.
    #[error("the message's parameter {parameter} is not handled here: {explanation}")]
    UnsupportedValue {
        /// The message's parameter.
        parameter: &'static str,
        /// What is wrong with its value, and what is allowed.
        explanation: Box<str>,
    },
    /// The value of a parameter of the message can't be read.
    #[error("the message's parameter {parameter} can't be read: {explanation}")]
    UnrecognisedValue {
        /// The message's parameter.
        parameter: &'static str,
        /// What is wrong with its value, and where.
        explanation: Box<str>,
    },
    /// The action is none that this agent performs.
    #[error("there is no action {function:?} here: allowed are {allowed}")]
    UnsupportedFunction {
        /// The action.
        function: Box<str>,
        /// The actions that there are.
        allowed: &'static str,
    },
    /// The sender may not ask for this.
    #[error("the sender may not do this: {0}")]
    Unauthorised(&'static str),
    /// An action's argument is of the wrong kind.
    #[error("the action's argument {0} was not expected")]
    UnexpectedArgument(Box<str>),
    /// An action has too few or too many arguments.
    #[error("the action has another number of arguments")]
    UnexpectedArgumentCount,
    /// A mandatory parameter is absent, or has no value.
    #[error("{object} lacks its parameter {parameter}")]
    MissingParameter {
        /// The object, such as `service-description`.
        object: &'static str,
        /// The parameter.
        parameter: &'static str,
    },
    /// An object has a parameter that it can't have, or has one twice.
    #[error("{object} has an unexpected parameter {parameter}")]
    UnexpectedParameter {
        /// The object.
        object: &'static str,
        /// The parameter.
        parameter: Box<str>,
    },
    /// The value of an object's parameter can't be read, or is not allowed.
    #[error("the parameter {parameter} of {object} has a value that is not allowed")]
    UnrecognisedParameterValue {
        /// The object.
        object: &'static str,
        /// The parameter.
        parameter: &'static str,
    },
    /// There is a description of this agent already.
    #[error("the agent is registered already")]
    AlreadyRegistered,
    /// There is no description of this agent.
    #[error("the agent is not registered")]
    NotRegistered,
    /// The request could not be carried out for a reason of the router's own.
    #[error("{0}")]
    InternalError(Cow<'static, str>),
}

impl Exception {
    /// The act that tells of it: SC00023 divides exceptions by it.
    pub fn performative(&self) -> Performative {
        match self {
            Self::UnsupportedAct(_) | Self::UnsupportedValue { .. } | Self::UnrecognisedValue { .. } => {
                Performative::NotUnderstood
            }
            Self::UnsupportedFunction { .. }
            | Self::Unauthorised(_)
            | Self::UnexpectedArgument(_)
            | Self::UnexpectedArgumentCount
            | Self::MissingParameter { .. }
            | Self::UnexpectedParameter { .. }
            | Self::UnrecognisedParameterValue { .. } => Performative::Refuse,
            Self::AlreadyRegistered | Self::NotRegistered | Self::InternalError(_) => Performative::Failure,
        }
    }

    /// The proposition that says it.
    pub fn term(&self) -> Term {
        let text = Term::of;
        match self {
            Self::UnsupportedAct(act) => Term::compound("unsupported-act", [text(act)]),
            Self::UnsupportedValue { parameter, .. } => Term::compound("unsupported-value", [text(parameter)]),
            Self::UnrecognisedValue { parameter, .. } => Term::compound("unrecognised-value", [text(parameter)]),
            Self::UnsupportedFunction { function, .. } => Term::compound("unsupported-function", [text(function)]),
            Self::Unauthorised(_) => Term::of("unauthorised"),
            Self::UnexpectedArgument(argument) => Term::compound("unexpected-argument", [text(argument)]),
            Self::UnexpectedArgumentCount => Term::of("unexpected-argument-count"),
            Self::MissingParameter { object, parameter } => {
                Term::compound("missing-parameter", [text(object), text(parameter)])
            }
            Self::UnexpectedParameter { object, parameter } => {
                Term::compound("unexpected-parameter", [text(object), text(parameter)])
            }
            Self::UnrecognisedParameterValue { object, parameter } => {
                Term::compound("unrecognised-parameter-value", [text(object), text(parameter)])
            }
            Self::AlreadyRegistered => Term::of("already-registered"),
            Self::NotRegistered => Term::of("not-registered"),
            Self::InternalError(explanation) => Term::compound("internal-error", [text(explanation)]),
        }
    }
}
