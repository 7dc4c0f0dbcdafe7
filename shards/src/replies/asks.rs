//! Questions from outside the shards that wait for replies, by the `reply-with` that the reply repeats.

use foldhash::quality::FixedState;
use hashbrown::HashMap;

use crate::base::hashing::Seeded;
use crate::base::index::Token;
use crate::base::timer_wheel::TimerKey;
use crate::message::Correlation;

/// Maximum number of questions from outside that a shard waits for.
pub const ASKS_MAX: usize = 65_536;

/// What a caller waits for after it has sent a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Awaited {
    /// The reply. An `agree` and a receipt are none.
    Reply,
    /// The receipt that the message asks for. Replies are taken and ignored.
    Receipt,
}

/// A question from outside that waits for its reply.
#[derive(Debug)]
pub(crate) struct PendingAsk {
    pub token: Token,
    pub awaited: Awaited,
    pub timer: Option<TimerKey>,
}

/// The questions from outside that wait for replies.
#[derive(Debug)]
pub(crate) struct Asks {
    by_correlation: HashMap<Correlation, PendingAsk, Seeded>,
    /// For callers that give up.
    by_token: HashMap<Token, Correlation, FixedState>,
}

impl Asks {
    pub fn new(seed: u64) -> Self {
        Self {
            by_correlation: HashMap::with_hasher(Seeded::new(seed)),
            by_token: HashMap::with_hasher(FixedState::default()),
        }
    }

    pub fn len(&self) -> usize {
        self.by_correlation.len()
    }

    /// Whether no further question can be asked.
    pub fn is_full(&self) -> bool {
        self.len() >= ASKS_MAX
    }

    /// Whether a caller waits for a reply to this.
    pub fn contains(&self, correlation: Correlation) -> bool {
        self.by_correlation.contains_key(&correlation)
    }

    /// Whether a caller waits for this kind of response to this.
    pub fn awaits(&self, correlation: Correlation, awaited: Awaited) -> bool {
        self.by_correlation.get(&correlation).is_some_and(|ask| ask.awaited == awaited)
    }

    pub fn insert(&mut self, correlation: Correlation, ask: PendingAsk) {
        self.by_token.insert(ask.token, correlation);
        self.by_correlation.insert(correlation, ask);
    }

    /// Removes a question that was answered or given up. The caller has to cancel its timer.
    pub fn remove(&mut self, correlation: Correlation) -> Option<PendingAsk> {
        let ask = self.by_correlation.remove(&correlation)?;
        self.by_token.remove(&ask.token);
        Some(ask)
    }

    /// Returns the question of the caller with this token.
    pub fn find(&self, token: Token) -> Option<Correlation> {
        self.by_token.get(&token).copied()
    }

    /// Returns all questions.
    pub fn all(&self) -> Vec<Correlation> {
        self.by_correlation.keys().copied().collect()
    }
}
