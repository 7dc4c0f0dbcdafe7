//! A handler's effects. They are applied when the handler is done, and discarded if it fails.

use crate::mailbox::Envelope;
use crate::message::{ConversationId, Reliability, Term};
use crate::shard::agent::Registration;
use crate::shard::control::admin::AdminEffect;

/// The effects so far of the handler being called.
#[derive(Default)]
pub(crate) struct Effects {
    list: Vec<Effect>,
    weighed: Weighed,
}

/// How many of the effects were weighed, and their weight in bytes.
#[derive(Clone, Copy, Default)]
struct Weighed {
    count: usize,
    bytes: u64,
}

/// An effect of a handler, applied when it is done.
pub(crate) enum Effect {
    Send(Envelope),
    CloseConversation(ConversationId),
    Register(Box<Registration>),
    Deregister,
    Advertise(Term),
    Withdraw(Term),
    Oversee(Box<AdminEffect>),
}

impl Effect {
    /// Whether it sends a durable message.
    pub(crate) fn is_durable(&self) -> bool {
        matches!(self, Self::Send(envelope) if envelope.message.reliability() == Reliability::Durable)
    }

    /// Returns its weight in bytes.
    pub(crate) fn weight(&self) -> u64 {
        match self {
            Self::Send(envelope) => u64::from(envelope.weight()),
            _ => 0,
        }
    }
}

impl Effects {
    #[inline(always)]
    pub fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// Takes the last effect.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<Effect> {
        self.list.pop()
    }

    #[inline(always)]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Effect> {
        self.list.iter()
    }

    /// Takes all effects, in order.
    pub fn take(&mut self) -> Vec<Effect> {
        self.weighed = Weighed::default();
        std::mem::take(&mut self.list)
    }

    /// Continues with these effects: those of a suspended handler, or an empty list for reuse.
    pub fn put_back(&mut self, effects: Vec<Effect>) {
        self.weighed = Weighed::default();
        self.list = effects;
    }

    /// Drops all effects: the handler failed.
    pub fn discard(&mut self) {
        self.weighed = Weighed::default();
        self.list.clear();
    }

    /// Returns the weight of all effects, in bytes. Most handlers send one or two messages, so weights are computed
    /// only from the third one on; nothing is weighed twice.
    #[inline(always)]
    pub fn weight(&mut self) -> u64 {
        match &*self.list {
            [] => 0,
            [effect] => effect.weight(),
            _ => self.weigh(),
        }
    }

    #[inline(never)]
    fn weigh(&mut self) -> u64 {
        let Weighed { count, bytes } = self.weighed;
        let count = if count > self.list.len() { 0 } else { count };
        let before = if count == 0 { 0 } else { bytes };
        let bytes = before + self.list[count..].iter().map(Effect::weight).sum::<u64>();
        self.weighed = Weighed { count: self.list.len(), bytes };
        bytes
    }
}
