//! Messages that the router gave up on, with the reason, kept within bounds for someone to look at.

use std::collections::VecDeque;

use crate::message::{Message, WallTime};
use crate::partition::ShardIndex;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $text:literal;)+) => {
        /// Why a message became a dead letter.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Reason {
            $($(#[$doc])* $variant,)+
        }

        impl Reason {
            /// All reasons.
            pub const ALL: [Reason; Reason::COUNT] = [$(Reason::$variant),+];
            /// How many there are.
            pub const COUNT: usize = [$($word),+].len();

            /// The reason as one word, for counters and JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(Reason::$variant => $word,)+ }
            }

            /// The reason as a sentence.
            pub const fn explanation(self) -> &'static str {
                match self { $(Reason::$variant => $text,)+ }
            }
        }
    };
}

reasons! {
    /// No agent has the receiver's name.
    UnknownReceiver = "unknown-receiver", "no agent with that name is registered";
    /// No agent offers the capability.
    NoProvider = "no-provider", "no agent offers the capability";
    /// A message without receiver matched no routing rule.
    NoRoute = "no-route", "the message names no receiver and no routing rule matches it";
    /// The receiver was deregistered, while the message waited or before it came.
    Deregistered = "deregistered", "the receiver was deregistered";
    /// The receiver is being drained.
    Draining = "draining", "the receiver is draining: it takes no new messages and finishes what it has";
    /// The receiver was drained and had not handled the message in time.
    DrainDeadline = "drain-deadline", "the receiver was drained and had not handled the message at the deadline";
    /// The receiver was stopped because it failed too often.
    RestartsExhausted = "restarts-exhausted", "the receiver is stopped: it would have had to be restarted too often";
    /// The receiver's mailbox has as many messages or bytes as it may hold.
    MailboxFull = "mailbox-full", "the receiver's mailbox is full";
    /// The shard holds as many messages as it may.
    ShardFull = "shard-full", "the receiver's shard holds as many messages as it may";
    /// Every attempt failed.
    AttemptsExhausted = "attempts-exhausted", "every attempt to handle the message failed";
    /// The failure handler decided against another attempt.
    NotRetried = "not-retried", "an attempt to handle the message failed and it is not tried again";
    /// The receiver's circuit breaker is open, and the message asks not to wait.
    BreakerOpen = "breaker-open", "the receiver is not called for a while, and the message does not wait";
    /// The conversation has as many participants as it may.
    TooManyParticipants = "too-many-participants", "the conversation has as many participants as it may";
    /// The shard has as many open conversations as it may.
    TooManyConversations = "too-many-conversations", "the initiator's shard has as many open conversations as it may";
    /// The conversation is not open, or the sender is not part of it.
    NotInConversation = "not-in-conversation", "the conversation is not open or the sender takes no part in it";
    /// Both ends began a conversation of the same id.
    AmbiguousConversation = "ambiguous-conversation", "sender and receiver each began a conversation with this id";
    /// The conversation's protocol does not allow the message now.
    ProtocolViolation = "protocol-violation", "the conversation's protocol does not allow the message now";
    /// An answer that nobody waits for any more.
    NobodyAsked = "nobody-asked", "nobody waits for this answer any more";
    /// The message was queued, but when its turn came it could not be admitted.
    NotAdmitted = "not-admitted", "the message was queued but could not be admitted";
    /// The router was told to stop before the message was handled.
    Stopped = "stopped", "the router stopped before the message was handled";
}

impl Reason {
    /// The reason's place in [`Reason::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A message that was given up.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The whole message.
    pub message: Message,
    /// Why.
    pub reason: Reason,
    /// How often it was tried.
    pub attempts: u8,
    /// When it was given up.
    pub at: WallTime,
    /// Where.
    pub shard: ShardIndex,
}

/// The newest dead letters of a shard. The counters in [`Account`](crate::account::Account) count them all.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    letters: VecDeque<DeadLetter>,
    bytes: u64,
    messages_max: usize,
    bytes_max: u64,
    dropped: u64,
}

impl DeadLetters {
    pub fn new(messages_max: usize, bytes_max: u64) -> Self {
        Self { letters: VecDeque::new(), bytes: 0, messages_max, bytes_max, dropped: 0 }
    }

    /// Keeps a letter; the oldest ones make room for it.
    pub fn push(&mut self, letter: DeadLetter) {
        self.bytes += letter.message.weight() as u64;
        self.letters.push_back(letter);
        while self.letters.len() > self.messages_max || (self.bytes > self.bytes_max && !self.letters.is_empty()) {
            if let Some(oldest) = self.letters.pop_front() {
                self.bytes -= oldest.message.weight() as u64;
                self.dropped += 1;
            }
        }
    }

    /// The newest letters, newest first.
    pub fn newest(&self, count: usize) -> Vec<DeadLetter> {
        self.letters.iter().rev().take(count).cloned().collect()
    }

    /// How many letters made room for newer ones.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Performative;

    fn letter(content: &str) -> DeadLetter {
        let message = Message::builder(Performative::Inform).content(content).build().unwrap();
        DeadLetter { message, reason: Reason::NoRoute, attempts: 0, at: WallTime(0), shard: ShardIndex(0) }
    }

    #[test]
    fn the_oldest_make_room_by_number_and_by_bytes() {
        let mut letters = DeadLetters::new(2, 1 << 20);
        for content in ["a", "b", "c"] {
            letters.push(letter(content));
        }
        let kept: Vec<_> = letters.newest(9).iter().map(|letter| letter.message.content().clone()).collect();
        assert_eq!(kept, ["c".into(), "b".into()]);
        assert_eq!(letters.dropped(), 1);

        let mut letters = DeadLetters::new(100, 2_000);
        letters.push(letter(&"x".repeat(5_000)));
        assert_eq!(letters.newest(9).len(), 0);
    }

    #[test]
    fn every_reason_has_its_own_word() {
        let words: std::collections::HashSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::COUNT);
        assert!(Reason::ALL.iter().enumerate().all(|(index, reason)| reason.index() == index));
    }
}
