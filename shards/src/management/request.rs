//! The exchange around a request (FIPA SC00026): what is read out of the message, and how it is answered.

use std::collections::VecDeque;

use super::exception::Exception;
use super::{ONTOLOGY, fields};
use crate::codec::sl::{self, Term};
use crate::message::{Correlation, DeliveryOptions, Message, MessageId, ParameterValue, Performative, Receipt};
use crate::shard::agent::Context;
use crate::shard::io::SendError;

/// The longest content of a request, in bytes.
pub const REQUEST_BYTES_MAX: usize = 16_384;
/// How many answers wait for room. Beyond it subscriptions end that would add to them.
pub const REPLIES_WAITING_MAX: usize = 4_096;
/// The parameter in which an answer says to people what is wrong.
pub const EXPLANATION: &str = "X-explanation";
/// How long an answer that found no room waits before it is tried again, in milliseconds.
const REPLY_AGAIN_MS: u64 = 20;
/// The content languages that are understood: all of them contain SL0.
const LANGUAGES: [&str; 4] = ["fipa-sl0", "fipa-sl", "fipa-sl1", "fipa-sl2"];
/// The protocol under which an agree is sent before the result.
const REQUEST_PROTOCOL: &str = "fipa-request";

/// Sees what `ams` and `df` answer.
pub trait Observer {
    /// A message is being answered: this reply goes out.
    fn replied(&mut self, question: &Message, reply: ObservedReply<'_>);
    /// Nothing more is answered to the message, except for what a subscription brings.
    fn handled(&mut self, question: &Message);
}

/// A reply of `ams` or `df` that goes out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ObservedReply<'a> {
    /// The reply.
    pub id: MessageId,
    /// What it does.
    pub performative: Performative,
    /// To how many agents it goes.
    pub receivers: usize,
    /// What it says.
    pub content: &'a str,
}

/// An action that was asked for.
pub(super) struct Action {
    /// The whole, as the answer repeats it.
    pub action: Term,
    /// What is to be done.
    pub act: Term,
}

/// Checks what a message says about its content, and reads that.
pub(super) fn read_content(message: &Message) -> Result<Vec<Term>, Exception> {
    let unsupported =
        |parameter, explanation: &str| Exception::UnsupportedValue { parameter, explanation: explanation.into() };
    let unrecognised =
        |explanation: String| Exception::UnrecognisedValue { parameter: "content", explanation: explanation.into() };
    if message.language().is_some_and(|language| !LANGUAGES.iter().any(|known| language.eq_ignore_ascii_case(known))) {
        return Err(unsupported("language", "allowed is fipa-sl0"));
    }
    if message.ontology().is_some_and(|ontology| !ontology.eq_ignore_ascii_case(ONTOLOGY)) {
        return Err(unsupported("ontology", "allowed is fipa-agent-management"));
    }
    if message.content().len() > REQUEST_BYTES_MAX {
        return Err(unsupported("content", &format!("allowed are up to {REQUEST_BYTES_MAX} bytes")));
    }
    let text = message.content().as_text().ok_or_else(|| unrecognised("it is not UTF-8".to_owned()))?;
    sl::parse(text).map_err(|error| unrecognised(error.to_string()))
}

/// The one action of a content.
pub(super) fn read_action(content: &[Term]) -> Result<Action, Exception> {
    let [action] = content else { return Err(Exception::UnexpectedArgumentCount) };
    let [_, act] = action.parts_of("action").ok_or_else(|| Exception::UnrecognisedValue {
        parameter: "content",
        explanation: "expected (action agent-identifier what-to-do)".into(),
    })?;
    Ok(Action { action: action.clone(), act: act.clone() })
}

/// An action that the agent does not perform.
pub(super) fn unknown_act(act: &Term, allowed: &'static str) -> Exception {
    match act.head().or(act.as_text()) {
        Some(_) => Exception::UnsupportedFunction { function: fields::beginning(act), allowed },
        None => Exception::UnrecognisedValue {
            parameter: "content",
            explanation: format!("expected an action: allowed are {allowed}").into(),
        },
    }
}

/// Whether the protocol of a message has an agree before the result. It is optional there, and means nothing elsewhere.
fn has_agree(message: &Message) -> bool {
    message.protocol().is_some_and(|protocol| protocol.eq_ignore_ascii_case(REQUEST_PROTOCOL))
}

/// An answer, which may have to wait for room.
struct Answer {
    question: Message,
    performative: Performative,
    content: String,
    /// For people, where the content says no more than what is wrong.
    explanation: Option<String>,
    /// Its sender wants to hear when it was read, under this mark.
    mark: Option<Correlation>,
    /// No other follows.
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

/// Sends answers, those that find no room later and in their order.
#[derive(Default)]
pub(super) struct Replies {
    observer: Option<Box<dyn Observer>>,
    waiting: VecDeque<Answer>,
}

impl Replies {
    pub fn observe(&mut self, observer: Box<dyn Observer>) {
        self.observer = Some(observer);
    }

    /// Whether so much waits that nothing should add to it which can be done without.
    pub fn are_many(&self) -> bool {
        self.waiting.len() >= REPLIES_WAITING_MAX
    }

    /// Agrees to do what was asked for, where the protocol knows an agree.
    pub fn agree(&mut self, question: &Message, action: &Term, context: &mut Context<'_>) {
        if has_agree(question) {
            self.say(question, Performative::Agree, &[action.clone(), Term::of("true")], context);
        }
    }

    /// Tells that it was done.
    pub fn done(&mut self, question: &Message, action: &Term, context: &mut Context<'_>) {
        let done = Term::compound("done", [action.clone()]);
        self.send(Answer::new(question, Performative::Inform, &[done]), context);
    }

    /// As [`Replies::done`], and wants to hear when that was read.
    pub fn done_for_good(&mut self, question: &Message, action: &Term, mark: Correlation, context: &mut Context<'_>) {
        let done = Term::compound("done", [action.clone()]);
        let answer = Answer::new(question, Performative::Inform, &[done]);
        self.send(Answer { mark: Some(mark), ..answer }, context);
    }

    /// Tells what was found.
    pub fn result(&mut self, question: &Message, action: &Term, found: Term, context: &mut Context<'_>) {
        let result = Term::compound("result", [action.clone(), found]);
        self.send(Answer::new(question, Performative::Inform, &[result]), context);
    }

    /// Tells why it was not done. What could not be read is not repeated.
    pub fn except(&mut self, question: &Message, action: Option<&Term>, why: &Exception, context: &mut Context<'_>) {
        // A failure is one of what was agreed to.
        if let (Performative::Failure, Some(action)) = (why.performative(), action) {
            self.agree(question, action, context);
        }
        let terms: Vec<Term> = action.cloned().into_iter().chain([why.term()]).collect();
        let answer = Answer::new(question, why.performative(), &terms);
        self.send(Answer { explanation: Some(why.to_string()), ..answer }, context);
    }

    /// Tells that the act is not handled. What answers something is not answered, so that nobody is told in circles.
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

    /// Nothing is answered to this message.
    fn ignore(&mut self, question: &Message) {
        if let Some(observer) = &mut self.observer {
            observer.handled(question);
        }
    }

    /// Answers something, and something else later.
    pub fn say(&mut self, question: &Message, performative: Performative, terms: &[Term], context: &mut Context<'_>) {
        let answer = Answer::new(question, performative, terms);
        self.send(Answer { last: false, ..answer }, context);
    }

    /// Answers something, and nothing else except for what a subscription brings.
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

    /// Sends what waits, as far as there is room.
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
                Some(Err(rejected)) if is_for_now(&rejected.error) => {
                    self.waiting.push_front(answer);
                    context.wake_at(context.now().monotonic_ms() + REPLY_AGAIN_MS);
                    return;
                }
                Some(Err(rejected)) if answer.performative == Performative::Inform => {
                    // The result is longer than the router allows a message to be.
                    let why = Exception::InternalError(rejected.to_string().into());
                    let failure = Answer::new(&answer.question, Performative::Failure, &[why.term()]);
                    self.waiting.push_front(Answer { last: answer.last, ..failure });
                    continue;
                }
                // Nothing else can be said either.
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
fn is_for_now(error: &SendError) -> bool {
    matches!(error, SendError::Full | SendError::MemoryFull { .. })
}

fn receivers(reply: &Message) -> usize {
    match reply.receiver() {
        crate::message::Receiver::Agents(agents) => agents.len(),
        _ => 1,
    }
}
