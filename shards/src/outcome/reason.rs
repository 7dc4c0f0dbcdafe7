//! Why a message was dead-lettered.

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $text:literal;)+) => {
        /// Why a message was dead-lettered.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum DeadLetterReason {
            $($(#[$doc])* $variant,)+
        }

        impl DeadLetterReason {
            /// All reasons.
            pub const ALL: [DeadLetterReason; DeadLetterReason::COUNT] = [$(DeadLetterReason::$variant),+];
            /// The number of reasons.
            pub const COUNT: usize = [$($word),+].len();

            /// Returns the reason as one word, for counters and JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(DeadLetterReason::$variant => $word,)+ }
            }

            /// Returns the reason as a sentence.
            pub const fn explanation(self) -> &'static str {
                match self { $(DeadLetterReason::$variant => $text,)+ }
            }
        }
    };
}

reasons! {
    /// No agent has the receiver's name.
    UnknownReceiver = "unknown-receiver", "no agent with that name is registered";
    /// No agent provides the capability.
    NoProvider = "no-provider", "no agent provides the capability";
    /// A message without a receiver matched no routing rule.
    NoRoute = "no-route", "the message names no receiver and no routing rule matches it";
    /// The receiver was deregistered while the message waited or before it arrived.
    Deregistered = "deregistered", "the receiver was deregistered";
    /// The receiver is being drained.
    Draining = "draining", "the receiver is draining: it takes no new messages and finishes what it has";
    /// The receiver was drained and did not handle the message before the deadline.
    DrainDeadline = "drain-deadline", "the receiver was drained and did not handle the message before the deadline";
    /// The receiver was stopped because it failed too often.
    RestartsExhausted = "restarts-exhausted", "the receiver is stopped: it failed more often than its restart policy allows";
    /// The receiver's mailbox is full, in messages or bytes.
    MailboxFull = "mailbox-full", "the receiver's mailbox is full";
    /// The receiver's mailbox is full, and so is its room reserved for replies.
    RepliesFull = "replies-full", "the receiver's mailbox is full, and so is its room for replies";
    /// The message was displaced by a newer one in a full mailbox.
    Displaced = "displaced", "the receiver's mailbox was full and the message made room for a newer one";
    /// The shard has used up its share of the memory budget.
    MemoryFull = "memory-full", "the receiver's shard has used up its share of the memory budget";
    /// The shard holds the maximum number of messages.
    ShardFull = "shard-full", "the receiver's shard holds the maximum number of messages";
    /// Every attempt failed.
    AttemptsExhausted = "attempts-exhausted", "every attempt to handle the message failed";
    /// The failure handler decided not to retry.
    NotRetried = "not-retried", "an attempt to handle the message failed and it is not retried";
    /// The receiver's circuit breaker is open, and the message asks not to wait.
    BreakerOpen = "breaker-open", "the receiver's circuit breaker is open, and the message does not wait";
    /// The conversation has the maximum number of participants.
    TooManyParticipants = "too-many-participants", "the conversation has the maximum number of participants";
    /// The shard has the maximum number of open conversations.
    TooManyConversations = "too-many-conversations", "the initiator's shard has the maximum number of open conversations";
    /// The conversation is not open, or the sender is not a participant.
    NotInConversation = "not-in-conversation", "the conversation is not open or the sender is not a participant";
    /// Both agents began a conversation with the same id.
    AmbiguousConversation = "ambiguous-conversation", "sender and receiver each began a conversation with this id";
    /// The conversation's protocol does not allow the message in its current state.
    ProtocolViolation = "protocol-violation", "the conversation's protocol does not allow the message now";
    /// The message is a reply that nobody waits for any more.
    NobodyAsked = "nobody-asked", "nobody waits for this reply any more";
    /// The message was queued but could not be admitted when its turn came.
    NotAdmitted = "not-admitted", "the message was queued but could not be admitted";
    /// The message is durable, and the receiver's shard could not journal it.
    NotJournalled = "not-journalled", "the message is durable and the journal of the receiver's shard accepts nothing now";
    /// A durable message's lifetime ended before it was handled. Counted as expired, not as given up.
    Expired = "expired", "the message's lifetime ended before it was handled";
    /// The router stopped before the message was handled.
    Stopped = "stopped", "the router stopped before the message was handled";
}

impl DeadLetterReason {
    /// Returns the reason's index in [`DeadLetterReason::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for DeadLetterReason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}
