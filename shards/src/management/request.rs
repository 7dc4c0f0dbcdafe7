//! The request protocol (FIPA SC00026): reading requests and sending replies.

use std::collections::VecDeque;

use super::exception::Exception;
use super::{ONTOLOGY, fields};
use crate::codec::sl::{self, Term};
use crate::message::{Correlation, DeliveryOptions, Message, MessageId, ParameterValue, Performative, Receipt};
use crate::shard::agent::Context;
use crate::shard::io::SendErrorKind;

/// Maximum length of a request's content, in bytes.
pub const REQUEST_BYTES_MAX: usize = 16_384;
/// Maximum number of replies waiting for room. Beyond it subscriptions end that would add to them.
pub const REPLIES_WAITING_MAX: usize = 4_096;
/// The parameter in which a reply explains to people what is wrong.
pub const EXPLANATION: &str = "X-explanation";
/// Delay before a reply that found no room is tried again, in milliseconds.
const REPLY_AGAIN_MS: u64 = 20;
/// The supported content languages: all of them contain SL0.
const LANGUAGES: [&str; 4] = ["fipa-sl0", "fipa-sl", "fipa-sl1", "fipa-sl2"];
/// The protocol in which an agree precedes the result.
const REQUEST_PROTOCOL: &str = "fipa-request";

/// Observes the replies of `ams` and `df`.
pub trait Observer {
    /// Called when a reply to a message is sent.
    fn replied(&mut self, question: &Message, reply: ObservedReply<'_>);
    /// Called when no further reply follows, except for those of a subscription.
    fn handled(&mut self, question: &Message);
}

/// A reply sent by `ams` or `df`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ObservedReply<'a> {
    /// The reply's id.
    pub id: MessageId,
    /// Its performative.
    pub performative: Performative,
    /// The number of its receivers.
    pub receivers: usize,
    /// Its content.
    pub content: &'a str,
}

/// A requested action.
pub(super) struct Action {
    /// The whole action, which the reply repeats.
    pub action: Term,
    /// The act to perform.
    pub act: Term,
}

/// Checks the content parameters of a message and reads its content.
pub(super) fn read_content(message: &Message) -> Result<Vec<Term>, Exception> {
    let unsupported =
        |parameter, explanation: &str| Exception::UnsupportedValue { parameter, explanation: explanation.into() };
    let unrecognised =
        |explanation: String| Exception::UnrecognisedValue { parameter: "content", explanation: explanation.into() };
    if message.language().is_some_and(|language| !LANGUAGES.iter().any(|known| language.eq_ignore_ascii_case(known))) {
        return Err(unsupported("language", "expected fipa-sl0"));
    }
    if message.ontology().is_some_and(|ontology| !ontology.eq_ignore_ascii_case(ONTOLOGY)) {
        return Err(unsupported("ontology", "expected fipa-agent-management"));
    }
    if message.content().len() > REQUEST_BYTES_MAX {
        return Err(unsupported("content", &format!("the limit is {REQUEST_BYTES_MAX} bytes")));
    }
    let text = message.content().as_text().ok_or_else(|| unrecognised("it is not UTF-8".to_owned()))?;
    sl::parse(text).map_err(|error| unrecognised(error.to_string()))
}

/// Returns the single action of a content.
pub(super) fn read_action(content: &[Term]) -> Result<Action, Exception> {
    let [action] = content else { return Err(Exception::UnexpectedArgumentCount) };
    let [_, act] = action.parts_of("action").ok_or_else(|| Exception::UnrecognisedValue {
        parameter: "content",
        explanation: "expected (action agent-identifier what-to-do)".into(),
    })?;
    Ok(Action { action: action.clone(), act: act.clone() })
}

/// Creates the exception for an unsupported action.
pub(super) fn unknown_act(act: &Term, allowed: &'static str) -> Exception {
    match act.head().or(act.as_text()) {
        Some(_) => Exception::UnsupportedFunction { function: fields::beginning(act), allowed },
        None => Exception::UnrecognisedValue {
            parameter: "content",
            explanation: format!("expected one of the actions {allowed}").into(),
        },
    }
}

/// Whether the message's protocol has an agree before the result. It is optional there, and meaningless elsewhere.
fn has_agree(message: &Message) -> bool {
    message.protocol().is_some_and(|protocol| protocol.eq_ignore_ascii_case(REQUEST_PROTOCOL))
}

/// A reply, which may have to wait for room.
struct Answer {
    question: Message,
    performative: Performative,
    content: String,
    /// For people, if the content alone does not explain what is wrong.
    explanation: Option<String>,
    /// A mark under which the sender is notified when the reply was read.
    mark: Option<Correlation>,
    /// Whether no other reply follows.
    last: bool,
}

impl Answer {
    fn new(question: &Message, performative: Performative, content: &[Term]) -> Self {
        let content = sl::print(content);
        Self { question: question.clone(), performative, content, explanation: None, mark: None, last: true }
    }

    fn message(&self) -> Option<Message> {
        let mut builder = self.question.reply(self.performative).content(self.content.as_str());
        if let Some(explanation) = &self.explanation {
            let text = ParameterValue::text(explanation.as_str().into());
            builder = builder.user_parameter(EXPLANATION, text);
        }
        if let Some(mark) = self.mark {
            let options = DeliveryOptions { receipt: Receipt::Processed, ..DeliveryOptions::default() };
            builder = builder.reply_with(mark).options(options);
        }
        builder.build().ok()
    }
}

/// Sends replies; those that find no room are sent later, in order.
#[derive(Default)]
pub(super) struct Replies {
    observer: Option<Box<dyn Observer>>,
    waiting: VecDeque<Answer>,
}

impl Replies {
    pub fn observe(&mut self, observer: Box<dyn Observer>) {
        self.observer = Some(observer);
    }

    /// Whether so many replies wait that nothing dispensable should be added.
    pub fn are_many(&self) -> bool {
        self.waiting.len() >= REPLIES_WAITING_MAX
    }

    /// Sends an agree, if the protocol has one.
    pub fn agree(&mut self, question: &Message, action: &Term, context: &mut Context<'_>) {
        if has_agree(question) {
            self.say(question, Performative::Agree, &[action.clone(), Term::of("true")], context);
        }
    }

    /// Reports that the action was performed.
    pub fn done(&mut self, question: &Message, action: &Term, context: &mut Context<'_>) {
        let done = Term::compound("done", [action.clone()]);
        self.send(Answer::new(question, Performative::Inform, &[done]), context);
    }

    /// Like [`Replies::done`], with a notification when the reply was read.
    pub fn done_for_good(&mut self, question: &Message, action: &Term, mark: Correlation, context: &mut Context<'_>) {
        let done = Term::compound("done", [action.clone()]);
        let answer = Answer::new(question, Performative::Inform, &[done]);
        self.send(Answer { mark: Some(mark), ..answer }, context);
    }

    /// Sends a result.
    pub fn result(&mut self, question: &Message, action: &Term, found: Term, context: &mut Context<'_>) {
        let result = Term::compound("result", [action.clone(), found]);
        self.send(Answer::new(question, Performative::Inform, &[result]), context);
    }

    /// Sends an exception. Malformed content is not repeated.
    pub fn except(&mut self, question: &Message, action: Option<&Term>, why: &Exception, context: &mut Context<'_>) {
        // In the protocol a failure follows an agree.
        if let (Performative::Failure, Some(action)) = (why.performative(), action) {
            self.agree(question, action, context);
        }
        let terms: Vec<Term> = action.cloned().into_iter().chain([why.term()]).collect();
        let answer = Answer::new(question, why.performative(), &terms);
        self.send(Answer { explanation: Some(why.to_string()), ..answer }, context);
    }

    /// Replies that the act is not supported. Replies are not replied to, so that no loop can arise.
    pub fn do_not_understand(&mut self, question: &Message, act: Performative, context: &mut Context<'_>) {
        match act {
            Performative::Agree
            | Performative::Inform
            | Performative::Failure
            | Performative::Refuse
            | Performative::NotUnderstood => self.ignore(question),
            other => self.except(question, None, &Exception::UnsupportedAct(other.as_str().into()), context),
        }
    }

    /// Sends no reply to this message.
    fn ignore(&mut self, question: &Message) {
        if let Some(observer) = &mut self.observer {
            observer.handled(question);
        }
    }

    /// Sends a reply that others may follow.
    pub fn say(&mut self, question: &Message, performative: Performative, terms: &[Term], context: &mut Context<'_>) {
        let answer = Answer::new(question, performative, terms);
        self.send(Answer { last: false, ..answer }, context);
    }

    /// Sends the final reply, except for those of a subscription.
    pub fn answer(
        &mut self,
        question: &Message,
        performative: Performative,
        terms: &[Term],
        context: &mut Context<'_>,
    ) {
        self.send(Answer::new(question, performative, terms), context);
    }

    fn send(&mut self, answer: Answer, context: &mut Context<'_>) {
        self.waiting.push_back(answer);
        self.flush(context);
    }

    /// Sends waiting replies as far as there is room.
    pub fn flush(&mut self, context: &mut Context<'_>) {
        while let Some(answer) = self.waiting.pop_front() {
            let sent = answer.message().map(|message| {
                let receivers = receivers(&message);
                context.send(message).map(|id| (id, receivers))
            });
            match sent {
                Some(Ok((id, receivers))) => {
                    if let Some(observer) = &mut self.observer {
                        let Answer { performative, ref content, .. } = answer;
                        observer.replied(&answer.question, ObservedReply { id, performative, receivers, content });
                    }
                }
                Some(Err(rejected)) if is_for_now(rejected.kind()) => {
                    self.waiting.push_front(answer);
                    context.wake_at(context.now().monotonic_ms() + REPLY_AGAIN_MS);
                    return;
                }
                Some(Err(rejected)) if answer.performative == Performative::Inform => {
                    // The result exceeds the router's limit for a message.
                    let why = Exception::InternalError(rejected.to_string().into());
                    let failure = Answer::new(&answer.question, Performative::Failure, &[why.term()]);
                    self.waiting.push_front(Answer { last: answer.last, ..failure });
                    continue;
                }
                // No other reply can be sent either.
                Some(Err(_)) | None => {}
            }
            if answer.last
                && let Some(observer) = &mut self.observer
            {
                observer.handled(&answer.question);
            }
        }
    }
}

/// Whether there may be room later.
fn is_for_now(error: &SendErrorKind) -> bool {
    matches!(error, SendErrorKind::Full | SendErrorKind::MemoryFull { .. })
}

fn receivers(reply: &Message) -> usize {
    match reply.receiver() {
        crate::message::Receiver::Agents(agents) => agents.len(),
        _ => 1,
    }
}
