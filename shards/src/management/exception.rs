//! The exceptions of FIPA SC00023, section 6.3: why a request to `ams` or `df` was not performed.

use std::borrow::Cow;

use crate::codec::sl::Term;
use crate::message::Performative;

/// A request was not performed. Nothing changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Exception {
    /// The agent does not support the performative.
    #[error("the act {0} is not handled here")]
    UnsupportedAct(Box<str>),
    /// The agent does not support the value of a message parameter.
    #[error("the message's parameter {parameter} is not handled here: {explanation}")]
    UnsupportedValue {
        /// The message's parameter.
        parameter: &'static str,
        /// What is wrong with its value, and what is allowed.
        explanation: Box<str>,
    },
    /// The value of a message parameter is malformed.
    #[error("the message's parameter {parameter} cannot be read: {explanation}")]
    UnrecognisedValue {
        /// The message's parameter.
        parameter: &'static str,
        /// What is wrong with its value, and where.
        explanation: Box<str>,
    },
    /// The agent does not support the action.
    #[error("there is no action {function:?} here: expected {allowed}")]
    UnsupportedFunction {
        /// The action.
        function: Box<str>,
        /// The supported actions.
        allowed: &'static str,
    },
    /// The sender is not allowed to do this.
    #[error("the sender may not do this: {0}")]
    Unauthorised(&'static str),
    /// An argument of an action is of the wrong kind.
    #[error("the action's argument {0} was not expected")]
    UnexpectedArgument(Box<str>),
    /// An action has too few or too many arguments.
    #[error("the action has the wrong number of arguments")]
    UnexpectedArgumentCount,
    /// A mandatory parameter is absent or has no value.
    #[error("{object} lacks its parameter {parameter}")]
    MissingParameter {
        /// The object, such as `service-description`.
        object: &'static str,
        /// The parameter.
        parameter: &'static str,
    },
    /// An object has an unknown or repeated parameter.
    #[error("{object} has an unexpected parameter {parameter}")]
    UnexpectedParameter {
        /// The object.
        object: &'static str,
        /// The parameter.
        parameter: Box<str>,
    },
    /// The value of an object's parameter is malformed or not allowed.
    #[error("the parameter {parameter} of {object} has a value that is not allowed")]
    UnrecognisedParameterValue {
        /// The object.
        object: &'static str,
        /// The parameter.
        parameter: &'static str,
    },
    /// The agent already has a description.
    #[error("the agent is registered already")]
    AlreadyRegistered,
    /// The agent has no description.
    #[error("the agent is not registered")]
    NotRegistered,
    /// The router could not perform the request.
    #[error("{0}")]
    InternalError(Cow<'static, str>),
}

impl Exception {
    /// Returns the act that reports the exception: SC00023 classifies exceptions by it.
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

    /// Returns the proposition that states the exception.
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
