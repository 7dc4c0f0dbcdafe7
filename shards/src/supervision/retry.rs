//! What becomes of a message whose handler failed: tried again later, kept as a dead letter, or only reported.
//!
//! The [`FailureHandler`] decides. The default one waits exponentially longer from attempt to attempt, with jitter, and
//! makes a dead letter of what failed as often as it may; an embedder can install its own.
//!
//! It is asked about failed and panicked handlers only. A message that finds a full mailbox is not tried again by the
//! router, because nothing would bound what waits beside the mailbox; and one that asks not to wait for an open circuit
//! breaker has had its answer already.

use crate::message::{AgentId, Message};

/// The longest delay between two attempts: an hour, in milliseconds.
pub const RETRY_DELAY_MS_MAX: u64 = 3_600_000;
/// The shortest delay between two attempts, in milliseconds.
pub const RETRY_DELAY_MS_MIN: u64 = 1;

/// How failed attempts are repeated: after `delay_ms`, then `factor` times as long each time, give or take the jitter.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RetryPolicy {
    /// Attempts after the first one, for messages that do not set their own number.
    pub retries: u8,
    /// The first delay.
    pub delay_ms: u32,
    /// By how much the delay grows.
    pub factor: f64,
    /// How far a delay strays from that, either way, as a fraction of it: 0.0 to 1.0.
    pub jitter: f64,
}

/// Decides what becomes of a message whose handler failed.
///
/// Each shard has its own, made and called on the shard's thread: it must not block, and it need not be `Send`. What
/// it decides is all that it changes, so it should decide by what it is given, [`FailedAttempt::random`] included: then a
/// simulation with the same seed decides the same. If it panics, that one message is treated as by default, and observers
/// hear of it.
pub trait FailureHandler {
    /// What becomes of the message.
    fn decide(&mut self, failure: &FailedAttempt<'_>) -> Decision;
}

/// An attempt to handle a message that failed.
#[derive(Clone, Copy, Debug)]
pub struct FailedAttempt<'a> {
    /// How it failed.
    pub cause: FailureCause,
    /// Which attempt it was, counted from 1.
    pub attempt: u8,
    /// How many attempts the message may have, by its own settings or the router's.
    pub attempts_max: u8,
    /// How long ago the message's lifetime began, in milliseconds: when it was admitted or, if it was to be delivered
    /// later, then.
    pub age_ms: u64,
    /// How much of its lifetime is left, in milliseconds.
    pub remaining_ms: u64,
    /// Whose handler failed.
    pub receiver: AgentId,
    /// What the handler said to it, or the panic's message.
    pub explanation: &'a str,
    /// The message.
    pub message: &'a Message,
    /// How the router repeats attempts.
    pub policy: RetryPolicy,
    /// A number from the shard's own generator: the same seed gives the same numbers.
    pub random: u64,
}

/// How an attempt failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FailureCause {
    /// The handler answered that it failed.
    Failed,
    /// The handler panicked.
    Panicked,
}

/// What becomes of a message whose handler failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// It is tried again after so many milliseconds: [`RETRY_DELAY_MS_MIN`] to [`RETRY_DELAY_MS_MAX`], anything else
    /// counts as the nearer one of these. If its lifetime ends before, it expires then. After the last attempt that the
    /// message may have, this counts as [`Decision::DeadLetter`].
    RetryAfter(u64),
    /// It is given up and kept as a dead letter, and its sender hears of it.
    DeadLetter,
    /// It is given up and its sender hears of it, but it is not kept. It counts as a dead letter all the same.
    ReplyWithFailure,
}

impl FailedAttempt<'_> {
    /// Whether the message may be tried again.
    pub fn may_retry(&self) -> bool {
        self.attempt < self.attempts_max
    }

    /// What the router decides without a handler of the embedder's: exponential backoff with jitter, then a dead letter.
    pub fn by_default(&self) -> Decision {
        if self.may_retry() {
            Decision::RetryAfter(self.policy.delay_ms(self.attempt, self.random))
        } else {
            Decision::DeadLetter
        }
    }

    /// The decision as it is carried out.
    pub(super) fn within_limits(&self, decision: Decision) -> Decision {
        match decision {
            Decision::RetryAfter(delay_ms) if self.may_retry() => {
                Decision::RetryAfter(delay_ms.clamp(RETRY_DELAY_MS_MIN, RETRY_DELAY_MS_MAX))
            }
            Decision::RetryAfter(_) => Decision::DeadLetter,
            decision => decision,
        }
    }
}

impl RetryPolicy {
    /// How long to wait after this attempt, counted from 1, in milliseconds. `random` decides where within the jitter.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // The delay is positive and bounded.
    pub fn delay_ms(&self, attempt: u8, random: u64) -> u64 {
        let most = RETRY_DELAY_MS_MAX as f64;
        let growth = self.factor.powi(i32::from(attempt.max(1)) - 1);
        let delay_ms = (f64::from(self.delay_ms) * growth).min(most);
        // The upper 53 bits of the number as a fraction from 0 to 1, without 1.
        let fraction = (random >> 11) as f64 / (1_u64 << 53) as f64;
        let strayed_ms = delay_ms * (1.0 + self.jitter * (2.0 * fraction - 1.0));
        (strayed_ms.round() as u64).clamp(RETRY_DELAY_MS_MIN, RETRY_DELAY_MS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: RetryPolicy = RetryPolicy { retries: 3, delay_ms: 100, factor: 2.0, jitter: 0.0 };

    #[test]
    fn delays_grow_by_the_factor_up_to_the_maximum() {
        assert_eq!([1, 2, 3, 4].map(|attempt| POLICY.delay_ms(attempt, 7)), [100, 200, 400, 800]);
        assert_eq!(POLICY.delay_ms(255, 7), RETRY_DELAY_MS_MAX);
    }

    #[test]
    fn jitter_strays_either_way_as_far_as_it_says() {
        let policy = RetryPolicy { jitter: 0.5, ..POLICY };
        assert_eq!([0, 1 << 63, u64::MAX].map(|random| policy.delay_ms(1, random)), [50, 100, 150]);
    }

    #[test]
    fn a_decision_is_carried_out_within_its_limits() {
        let message = Message::builder(crate::message::Performative::Inform).build().unwrap();
        let mut attempt = FailedAttempt {
            cause: FailureCause::Failed,
            attempt: 1,
            attempts_max: 2,
            age_ms: 0,
            remaining_ms: 0,
            receiver: AgentId::of_text("receiver"),
            explanation: "",
            message: &message,
            policy: POLICY,
            random: 0,
        };
        for (asked, carried_out) in [(0, RETRY_DELAY_MS_MIN), (5_000, 5_000), (u64::MAX, RETRY_DELAY_MS_MAX)] {
            let decision = attempt.within_limits(Decision::RetryAfter(asked));
            assert_eq!(decision, Decision::RetryAfter(carried_out));
        }
        attempt.attempt = 2;
        assert_eq!(attempt.by_default(), Decision::DeadLetter);
        assert_eq!(attempt.within_limits(Decision::RetryAfter(1)), Decision::DeadLetter);
        assert_eq!(attempt.within_limits(Decision::ReplyWithFailure), Decision::ReplyWithFailure);
    }

    proptest! {
        #[test]
        fn a_delay_stays_within_its_jitter_and_its_limits(
            delay_ms in 1..3_600_000_u32, factor in 1.0..10.0_f64, jitter in 0.0..=1.0_f64, attempt in 1..=255_u8,
            random in any::<u64>(),
        ) {
            let policy = RetryPolicy { retries: 3, delay_ms, factor, jitter };
            let without = RetryPolicy { jitter: 0.0, ..policy }.delay_ms(attempt, random) as f64;
            let with = policy.delay_ms(attempt, random);
            prop_assert!((RETRY_DELAY_MS_MIN..=RETRY_DELAY_MS_MAX).contains(&with));
            prop_assert!((with as f64 - without).abs() <= without * jitter + 1.0, "{} is not near {}", with, without);
        }
    }
}
