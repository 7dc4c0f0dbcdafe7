//! The agents of a node: those that send, those that receive, and one that responds.

use std::num::NonZeroU64;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use caxton_router::error::DeliveryError;
use caxton_router::message::{Correlation, Receipt, Reliability, is_notice};
use caxton_router::{Agent, AgentId, Context, Message, Outcome, Performative};

use super::stamp::{Pace, Stamp};
use super::tally::{Once, Tally};

/// Returns the name of the agent that sends in a pair.
pub fn source_name(pair: u32) -> String {
    format!("source-{pair}")
}

/// Returns the name of the agent that receives in a pair.
pub fn sink_name(pair: u32) -> String {
    format!("sink-{pair}")
}

/// The name of the agent that responds.
pub const ECHO: &str = "echo";

/// Builds a message of a pair. A durable one asks for a receipt once its receiver has handled it.
///
/// # Errors
///
/// The content is not allowed.
pub fn message(target: AgentId, stamp: &Stamp, is_durable: bool) -> Result<Message, String> {
    let mut builder = Message::builder(Performative::Inform).receiver(target).content(&stamp.content()[..]);
    if is_durable {
        let number = NonZeroU64::MIN.saturating_add(stamp.number);
        builder = builder.reliability(Reliability::Durable).receipt(Receipt::Processed);
        builder = builder.reply_with(Correlation::new(number));
    }
    builder.build().map_err(|error| error.to_string())
}

/// How the agents that send do so.
#[derive(Clone, Copy)]
pub struct Window {
    /// Maximum number of messages of a pair under way.
    pub messages: u64,
    /// After how many volatile messages the receiver acknowledges them.
    pub ack_every: u64,
    pub is_durable: bool,
}

/// Sends as fast as its receiver acknowledges. Where there is a pace, others send in its name.
pub struct Source {
    pub pair: u32,
    pub pairs: u32,
    pub window: Window,
    pub tally: Arc<Tally>,
    pub pace: Arc<OnceLock<Pace>>,
    target: AgentId,
    next: u64,
    acknowledged: u64,
    receipts: Once,
}

impl Source {
    pub fn new((pair, pairs): (u32, u32), window: Window, tally: &Arc<Tally>, pace: &Arc<OnceLock<Pace>>) -> Self {
        Self {
            pair,
            pairs,
            window,
            tally: Arc::clone(tally),
            pace: Arc::clone(pace),
            target: AgentId::of_text(&sink_name(pair)),
            next: 0,
            acknowledged: 0,
            receipts: Once::default(),
        }
    }

    fn fill(&mut self, context: &mut Context<'_>) {
        let before = self.next;
        while self.next - self.acknowledged < self.window.messages && !self.tally.is_over.load(Ordering::Relaxed) {
            let wants_ack = !self.window.is_durable && (self.next + 1).is_multiple_of(self.window.ack_every);
            let stamp = Stamp { pair: self.pair, number: self.next, due_ns: 0, wants_ack };
            let sent = message(self.target, &stamp, self.window.is_durable)
                .and_then(|message| context.send(message).map_err(|error| error.to_string()));
            if let Err(why) = sent {
                self.tally.fail(format!("pair {}: message {} was refused: {why}", self.pair, self.next));
                break;
            }
            self.next += 1;
        }
        self.tally.sent.fetch_add(self.next - before, Ordering::Relaxed);
    }

    fn take_notice(&mut self, notice: &Message) {
        if let Some(error) = DeliveryError::of_notice(notice) {
            return self.tally.fail(format!("pair {}: {error}", self.pair));
        }
        let Some(number) = notice.in_reply_to().map(|correlation| correlation.get() - 1) else {
            return self.tally.fail(format!("pair {}: the router says {:?}", self.pair, notice.content().as_text()));
        };
        if !self.receipts.take(number) {
            self.tally.fail(format!("pair {}: the receipt of message {number} came twice", self.pair));
        }
        self.acknowledged = self.receipts.count();
        self.tally.acknowledged.fetch_add(1, Ordering::Relaxed);
        if let Some(pace) = self.pace.get() {
            self.tally.record(pace.counted_from_ns(number * u64::from(self.pairs) + u64::from(self.pair)));
        }
    }
}

impl Agent for Source {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        if is_notice(message) {
            self.take_notice(message);
        } else if let Some(count) = message.content().as_bytes().first_chunk() {
            let acknowledged = u64::from_le_bytes(*count);
            let newly = acknowledged.saturating_sub(self.acknowledged);
            self.acknowledged += newly;
            self.tally.acknowledged.fetch_add(newly, Ordering::Relaxed);
        }
        if self.pace.get().is_none() {
            self.fill(context);
        }
        Outcome::Done
    }
}

/// Checks and counts what it gets.
pub struct Sink {
    pair: u32,
    source: AgentId,
    next: u64,
    tally: Arc<Tally>,
}

impl Sink {
    pub fn new(pair: u32, tally: &Arc<Tally>) -> Self {
        Self { pair, source: AgentId::of_text(&source_name(pair)), next: 0, tally: Arc::clone(tally) }
    }
}

impl Agent for Sink {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        if message.sender() != Some(self.source) {
            self.tally.fail(format!("pair {}: a message of another sender came", self.pair));
            return Outcome::Done;
        }
        let stamp = self.tally.take(self.pair, &mut self.next, message.content().as_bytes());
        if stamp.is_some_and(|stamp| stamp.wants_ack) {
            let reply = context.reply(message, Performative::Inform).content(&self.next.to_le_bytes()[..]).build();
            let sent = reply.map_err(|error| error.to_string());
            let sent = sent.and_then(|reply| context.send(reply).map_err(|error| error.to_string()));
            if let Err(why) = sent {
                self.tally.fail(format!("pair {}: an acknowledgement was refused: {why}", self.pair));
            }
        }
        Outcome::Done
    }
}

/// Replies with what it gets.
pub struct Echo;

impl Agent for Echo {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        context.answer(message, Performative::Inform, message.content().clone()).into()
    }
}
