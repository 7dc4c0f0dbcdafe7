//! Failed attempts: the message is retried later, kept as a dead letter, or only reported.
//!
//! The [`FailureHandler`] decides. The default one uses exponential backoff with jitter and turns the message into a
//! dead letter after the last attempt; an embedder can install its own.
//!
//! It is asked about failed and panicked handlers only. The router does not retry a message that finds a full mailbox,
//! because nothing would bound what waits beside the mailbox. A message that asks not to wait for an open circuit
//! breaker has been answered already.

use crate::message::{AgentId, Message};

/// Maximum delay between two attempts: an hour, in milliseconds.
pub const RETRY_DELAY_MS_MAX: u64 = 3_600_000;
/// Minimum delay between two attempts, in milliseconds.
pub const RETRY_DELAY_MS_MIN: u64 = 1;

/// The backoff between attempts: `delay_ms` first, then multiplied by `factor` each time, plus or minus the jitter.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RetryPolicy {
    /// Attempts after the first one, for messages that do not set their own number.
    pub retries: u8,
    /// The first delay.
    pub delay_ms: u32,
    /// The factor by which the delay grows.
    pub factor: f64,
    /// Maximum deviation in either direction, as a fraction of the delay: 0.0 to 1.0.
    pub jitter: f64,
}

/// Decides about a message whose handler failed.
///
/// Each shard has its own instance, created and called on the shard's thread: it must not block, and need not be
/// `Send`. It should decide only from its arguments, including [`FailedAttempt::random`], so that a simulation with the
/// same seed decides the same. If it panics, that message is treated by default, and observers are notified.
pub trait FailureHandler {
    /// Returns the decision for the message.
    fn decide(&mut self, failure: &FailedAttempt<'_>) -> Decision;
}

/// A failed attempt to handle a message.
#[derive(Clone, Copy, Debug)]
pub struct FailedAttempt<'a> {
    /// How it failed.
    pub cause: FailureCause,
    /// The number of the attempt, from 1.
    pub attempt: u8,
    /// Maximum number of attempts for the message, from its own settings or the router's.
    pub attempts_max: u8,
    /// Milliseconds since the message's lifetime began: since its admission, or since its delivery time if it was
    /// delayed.
    pub age_ms: u64,
    /// Remaining lifetime in milliseconds.
    pub remaining_ms: u64,
    /// Whose handler failed.
    pub receiver: AgentId,
    /// The handler's explanation, or the panic's message.
    pub explanation: &'a str,
    /// The message.
    pub message: &'a Message,
    /// The router's backoff between attempts.
    pub policy: RetryPolicy,
    /// A number from the shard's own generator: the same seed gives the same numbers.
    pub random: u64,
}

/// How an attempt failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FailureCause {
    /// The handler returned a failure.
    Failed,
    /// The handler panicked.
    Panicked,
}

/// The decision about a message whose handler failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Retries it after this number of milliseconds, clamped to [`RETRY_DELAY_MS_MIN`]..=[`RETRY_DELAY_MS_MAX`]. If its
    /// lifetime ends before, it expires then. After the last allowed attempt, this counts as [`Decision::DeadLetter`].
    RetryAfter(u64),
    /// Keeps it as a dead letter and notifies its sender.
    DeadLetter,
    /// Notifies its sender but does not keep it. It still counts as a dead letter.
    ReplyWithFailure,
}

impl FailedAttempt<'_> {
    /// Whether the message may be retried.
    pub fn may_retry(&self) -> bool {
        self.attempt < self.attempts_max
    }

    /// Returns the router's default decision: exponential backoff with jitter, then a dead letter.
    pub fn by_default(&self) -> Decision {
        if self.may_retry() {
            Decision::RetryAfter(self.policy.delay_ms(self.attempt, self.random))
        } else {
            Decision::DeadLetter
        }
    }

    /// Returns the decision with its limits applied.
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
    /// Returns the delay after this attempt (from 1) in milliseconds. `random` selects the value within the jitter.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // The delay is positive and bounded.
    pub fn delay_ms(&self, attempt: u8, random: u64) -> u64 {
        let most = RETRY_DELAY_MS_MAX as f64;
        let growth = self.factor.powi(i32::from(attempt.max(1)) - 1);
        let delay_ms = (f64::from(self.delay_ms) * growth).min(most);
        // The upper 53 bits of the number as a fraction in 0..1, excluding 1.
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
