//! The participant of requests and queries.

use crate::message::notice::is_notice;
use crate::message::{Message, Performative};
use crate::shard::agent::{Agent, Context, Outcome};

/// A service's reply to a request or a query.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The action was performed, or this is the requested information.
    Inform(String),
    /// The service agrees and replies to the message later; it keeps the message for that.
    Agree,
    /// The service refuses, with the reason.
    Refuse(String),
    /// The action failed, with the reason.
    Failure(String),
    /// The content was not understood, with the reason.
    NotUnderstood(String),
}

/// The application part of a [`Service`].
pub trait Serve {
    /// Handles a `request`, `request-when`, `query-if` or `query-ref`.
    fn serve(&mut self, request: &Message, context: &mut Context<'_>) -> Answer;

    /// Called when the initiator cancels what was agreed on. Returns whether the service has stopped, which is reported
    /// to the initiator.
    fn cancelled(&mut self, cancel: &Message, context: &mut Context<'_>) -> bool {
        let _ = (cancel, context);
        true
    }
}

/// An agent that serves requests (SC00026, SC00028) and queries (SC00027), and answers anything else with
/// `not-understood`.
///
/// ```
/// use caxton_shards::agent::{Agent, Context};
/// use caxton_shards::message::Message;
/// use caxton_shards::roles::{Answer, Serve, Service};
///
/// struct Greeter;
///
/// impl Serve for Greeter {
///     fn serve(&mut self, request: &Message, _: &mut Context<'_>) -> Answer {
///         match request.content().as_text() {
///             Some(name) => Answer::Inform(format!("hello, {name}")),
///             None => Answer::NotUnderstood("the content is a name".to_owned()),
///         }
///     }
/// }
///
/// let agent: Box<dyn Agent> = Box::new(Service(Greeter));
/// # drop(agent);
/// ```
#[derive(Clone, Debug)]
pub struct Service<S>(pub S);

impl<S: Serve> Agent for Service<S> {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        use Performative::{Cancel, Failure, NotUnderstood, QueryIf, QueryRef, Request, RequestWhen};
        match message.performative() {
            Request | RequestWhen | QueryIf | QueryRef => {
                let (act, said) = match self.0.serve(message, context) {
                    Answer::Inform(result) => (Performative::Inform, result),
                    Answer::Agree => (Performative::Agree, String::new()),
                    Answer::Refuse(why) => (Performative::Refuse, why),
                    Answer::Failure(why) => (Failure, why),
                    Answer::NotUnderstood(why) => (NotUnderstood, why),
                };
                context.answer(message, act, said).into()
            }
            Cancel => {
                let act = if self.0.cancelled(message, context) { Performative::Inform } else { Failure };
                context.answer(message, act, "").into()
            }
            _ if is_notice(message) => Outcome::Done,
            _ => context.object(message, "request, request-when, query-if, query-ref or cancel").into(),
        }
    }
}
