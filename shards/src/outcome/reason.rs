//! Why a message became a dead letter.

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $text:literal;)+) => {
        /// Why a message became a dead letter.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum DeadLetterReason {
            $($(#[$doc])* $variant,)+
        }

        impl DeadLetterReason {
            /// All reasons.
            pub const ALL: [DeadLetterReason; DeadLetterReason::COUNT] = [$(DeadLetterReason::$variant),+];
            /// How many there are.
            pub const COUNT: usize = [$($word),+].len();

            /// The reason as one word, for counters and JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(DeadLetterReason::$variant => $word,)+ }
            }

            /// The reason as a sentence.
            pub const fn explanation(self) -> &'static str {
                match self { $(DeadLetterReason::$variant => $text,)+ }
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
    /// A reply found the receiver's mailbox full, and its room for replies too.
    RepliesFull = "replies-full", "the receiver's mailbox is full, and so is its room for replies";
    /// The message made room for a newer one in a full mailbox.
    Displaced = "displaced", "the receiver's mailbox was full and the message made room for a newer one";
    /// The shard holds as many bytes of messages as its share of the memory budget allows.
    MemoryFull = "memory-full", "the receiver's shard holds as many bytes of messages as the memory budget allows";
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
    /// The message asks to be durable, and the receiver's shard could not write it down.
    NotJournalled = "not-journalled", "the message is to be durable and the journal of the receiver's shard takes nothing now";
    /// A durable message's lifetime ended before it was handled. It counts as expired, and not as given up.
    Expired = "expired", "the message's lifetime ended before it was handled";
    /// The router was told to stop before the message was handled.
    Stopped = "stopped", "the router stopped before the message was handled";
}

impl DeadLetterReason {
    /// The reason's place in [`DeadLetterReason::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for DeadLetterReason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}
