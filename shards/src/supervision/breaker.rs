//! Circuit breakers: they stop calls to an agent that keeps failing or keeps its shard waiting.
//!
//! While closed, a breaker counts failed and slow calls. When the number of either kind within the window reaches the
//! policy's threshold, it opens: the agent is not called for a while. Then it is half-open: a few messages are tried as
//! probes. If all of them succeed it closes; if one fails it opens again, for twice as long, up to a maximum.
//!
//! The state machine is pure: it takes events with their times and returns state changes. How the shard reacts is in
//! `shard/control/breakers.rs`.
//!
//! Invariants: calls older than the window never count, and no more of them are kept than would open the breaker; a
//! breaker that closes has no history.

use std::collections::VecDeque;

use crate::domain::{BreakerDelayMs, BreakerThreshold, BreakerWindowMs, ProbeCount, SlowCallMs};

/// Factor by which the delay grows each time a half-open breaker opens again.
pub const REOPENING_FACTOR: u32 = 2;

/// When an agent's circuit breaker opens, and how it closes again. By default it never opens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BreakerPolicy {
    /// Number of failed calls within the window that open it. Zero: failed calls never do.
    pub failures: BreakerThreshold,
    /// The window in which failed and slow calls are counted.
    pub window_ms: BreakerWindowMs,
    /// Duration from which a call counts as slow.
    pub slow_call_ms: SlowCallMs,
    /// Number of slow calls within the window that open it. Zero: slow calls never do, and are neither
    /// looked for nor reported.
    pub slow_calls: BreakerThreshold,
    /// The initial duration of the open state.
    pub open_ms: BreakerDelayMs,
    /// Maximum duration of the open state, however often its probes fail. Less than `open_ms` counts as `open_ms`.
    pub open_ms_max: BreakerDelayMs,
    /// Number of consecutive messages that have to succeed before it closes.
    pub probes: ProbeCount,
}

impl BreakerPolicy {
    /// Whether the breaker can open at all.
    pub fn is_on(&self) -> bool {
        self.failures.into_inner() > 0 || self.slow_calls.into_inner() > 0
    }

    /// Returns the duration in nanoseconds from which a call is slow, if slow calls count.
    pub(crate) fn slow_call_ns(&self) -> Option<u64> {
        (self.slow_calls.into_inner() > 0).then(|| u64::from(self.slow_call_ms.into_inner()) * 1_000_000)
    }
}

/// The state of a circuit breaker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BreakerState {
    /// All messages pass.
    Closed,
    /// No message passes.
    Open {
        /// The duration in milliseconds, from its opening.
        for_ms: u64,
    },
    /// A few messages are tried.
    HalfOpen,
}

/// The outcome of a call, as far as it concerns a breaker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Observation {
    /// The handler failed or panicked.
    Failed,
    /// The handler succeeded, but took longer than the policy allows.
    Slow,
}

/// The breaker of one agent.
#[derive(Debug)]
pub(crate) struct Breaker {
    policy: BreakerPolicy,
    state: State,
    failures: Recent,
    slow_calls: Recent,
    /// The number of times it opened since it was closed.
    openings: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Closed,
    Open { until_ms: u64 },
    HalfOpen { succeeded: u16 },
}

impl Breaker {
    pub fn new(policy: BreakerPolicy) -> Self {
        Self { policy, state: State::Closed, failures: Recent::EMPTY, slow_calls: Recent::EMPTY, openings: 0 }
    }

    /// Returns how many messages may be tried before the next check, or `None` if all pass.
    pub fn probes_left(&self) -> Option<u32> {
        match self.state {
            State::Closed => None,
            State::Open { .. } => Some(0),
            State::HalfOpen { succeeded } => Some(u32::from(self.policy.probes.into_inner().saturating_sub(succeeded))),
        }
    }

    /// Returns when to poll the breaker, if it is open.
    pub fn opens_until_ms(&self) -> Option<u64> {
        match self.state {
            State::Open { until_ms } => Some(until_ms),
            State::Closed | State::HalfOpen { .. } => None,
        }
    }

    /// Records a failed or slow call. Returns the new state if it changed.
    pub fn observe(&mut self, what: Observation, now_ms: u64) -> Option<BreakerState> {
        let (recent, threshold) = match what {
            Observation::Failed => (&mut self.failures, self.policy.failures),
            Observation::Slow => (&mut self.slow_calls, self.policy.slow_calls),
        };
        let threshold = usize::from(threshold.into_inner());
        let window_ms = u64::from(self.policy.window_ms.into_inner());
        match self.state {
            State::Closed if threshold > 0 && recent.add(now_ms, window_ms, threshold) => Some(self.open(now_ms)),
            // A failed probe counts, whatever had opened the breaker.
            State::HalfOpen { .. } if threshold > 0 || what == Observation::Failed => Some(self.open(now_ms)),
            State::Closed | State::HalfOpen { .. } | State::Open { .. } => None,
        }
    }

    /// Records successful calls. Returns the new state if it changed.
    pub fn succeed(&mut self, calls: u64) -> Option<BreakerState> {
        let State::HalfOpen { succeeded } = &mut self.state else { return None };
        *succeeded = succeeded.saturating_add(u16::try_from(calls).unwrap_or(u16::MAX));
        if *succeeded < self.policy.probes.into_inner() {
            return None;
        }
        self.close();
        Some(BreakerState::Closed)
    }

    /// Advances time. Returns the new state if it changed.
    pub fn poll(&mut self, now_ms: u64) -> Option<BreakerState> {
        match self.state {
            State::Open { until_ms } if until_ms <= now_ms => {
                self.state = State::HalfOpen { succeeded: 0 };
                Some(BreakerState::HalfOpen)
            }
            _ => None,
        }
    }

    /// Closes the breaker unconditionally.
    pub fn close(&mut self) {
        *self = Self::new(self.policy);
    }

    fn open(&mut self, now_ms: u64) -> BreakerState {
        let first = self.policy.open_ms.into_inner();
        let most = self.policy.open_ms_max.into_inner().max(first);
        let for_ms = u64::from(first.saturating_mul(REOPENING_FACTOR.saturating_pow(self.openings)).min(most));
        self.openings = self.openings.saturating_add(1);
        self.state = State::Open { until_ms: now_ms.saturating_add(for_ms) };
        (self.failures, self.slow_calls) = (Recent::EMPTY, Recent::EMPTY);
        BreakerState::Open { for_ms }
    }
}

/// The times of recent calls of one kind, oldest first.
#[derive(Debug)]
struct Recent(VecDeque<u64>);

impl Recent {
    const EMPTY: Self = Self(VecDeque::new());

    /// Adds a call. Returns whether the number within the window has reached the threshold.
    fn add(&mut self, now_ms: u64, window_ms: u64, threshold: usize) -> bool {
        while self.0.front().is_some_and(|then| now_ms.saturating_sub(*then) >= window_ms) || self.0.len() >= threshold
        {
            self.0.pop_front();
        }
        self.0.push_back(now_ms);
        self.0.len() >= threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy(failures: u16, slow_calls: u16, probes: u16) -> BreakerPolicy {
        BreakerPolicy {
            failures: failures.try_into().unwrap(),
            window_ms: 1_000.try_into().unwrap(),
            slow_call_ms: 50.try_into().unwrap(),
            slow_calls: slow_calls.try_into().unwrap(),
            open_ms: 100.try_into().unwrap(),
            open_ms_max: 350.try_into().unwrap(),
            probes: probes.try_into().unwrap(),
        }
    }

    fn opened(policy: BreakerPolicy) -> Breaker {
        let mut breaker = Breaker::new(policy);
        while breaker.observe(Observation::Failed, 0).is_none() {}
        breaker
    }

    #[test]
    fn it_opens_with_the_last_of_so_many_failures_within_the_window() {
        let mut breaker = Breaker::new(policy(3, 0, 1));
        for now_ms in [0, 400, 1_000, 1_399] {
            assert_eq!(breaker.observe(Observation::Failed, now_ms).is_some(), now_ms == 1_399, "at {now_ms}");
        }
        assert_eq!((breaker.probes_left(), breaker.opens_until_ms()), (Some(0), Some(1_499)));
        assert_eq!(breaker.observe(Observation::Failed, 1_400), None, "an open breaker does not open again");
    }

    #[test]
    fn slow_calls_and_failures_are_counted_apart() {
        let mut breaker = Breaker::new(policy(2, 2, 1));
        assert_eq!(breaker.observe(Observation::Failed, 0), None);
        assert_eq!(breaker.observe(Observation::Slow, 0), None);
        assert_eq!(breaker.observe(Observation::Slow, 0), Some(BreakerState::Open { for_ms: 100 }));
    }

    #[test]
    fn a_threshold_of_zero_never_opens_it() {
        assert!(!BreakerPolicy::default().is_on());
        for (what, policy) in [(Observation::Failed, policy(0, 1, 1)), (Observation::Slow, policy(1, 0, 1))] {
            let mut breaker = Breaker::new(policy);
            assert!((0..10_000).all(|_| breaker.observe(what, 0).is_none()), "{what:?}");
            assert!(policy.is_on());
        }
    }

    #[test]
    fn it_is_half_open_when_its_delay_is_over_and_closes_when_every_probe_succeeded() {
        let mut breaker = opened(policy(1, 0, 3));
        assert_eq!(breaker.poll(99), None);
        assert_eq!(breaker.poll(100), Some(BreakerState::HalfOpen));
        assert_eq!(breaker.probes_left(), Some(3));
        assert_eq!((breaker.succeed(2), breaker.probes_left()), (None, Some(1)));
        assert_eq!((breaker.succeed(1), breaker.probes_left()), (Some(BreakerState::Closed), None));
        assert_eq!(breaker.succeed(1), None);
    }

    #[test]
    fn a_probe_that_fails_or_is_slow_opens_it_again_for_longer_up_to_the_maximum() {
        let mut breaker = opened(policy(5, 5, 2));
        for (what, for_ms) in
            [(Observation::Failed, 200), (Observation::Slow, 350), (Observation::Failed, 350), (Observation::Slow, 350)]
        {
            let now_ms = breaker.opens_until_ms().unwrap();
            breaker.poll(now_ms);
            breaker.succeed(1);
            assert_eq!(breaker.observe(what, now_ms), Some(BreakerState::Open { for_ms }));
        }
    }

    #[test]
    fn a_breaker_that_closed_begins_anew() {
        let mut breaker = opened(policy(2, 0, 1));
        breaker.poll(100);
        breaker.succeed(1);
        assert_eq!(breaker.observe(Observation::Failed, 101), None);
        assert_eq!(breaker.observe(Observation::Failed, 102), Some(BreakerState::Open { for_ms: 100 }));
    }

    proptest! {
        /// Compares with a model that keeps every failure and scans all of them.
        #[test]
        fn it_opens_exactly_when_the_window_is_full(
            steps in proptest::collection::vec((0..600_u64, any::<bool>()), 1..200),
            failures in 1..6_u16,
            slow_calls in 0..4_u16,
        ) {
            let policy = policy(failures, slow_calls, 1);
            let mut breaker = Breaker::new(policy);
            let (mut now_ms, mut seen) = (0, Vec::new());
            for (passed_ms, slow) in steps {
                now_ms += passed_ms;
                let what = if slow { Observation::Slow } else { Observation::Failed };
                let threshold = usize::from(if slow { slow_calls } else { failures });
                seen.push((now_ms, what));
                let counted = seen.iter().filter(|(then, kind)| *kind == what && now_ms - then < 1_000).count();
                let opens = threshold > 0 && counted >= threshold;
                prop_assert_eq!(breaker.observe(what, now_ms).is_some(), opens);
                prop_assert!(breaker.failures.0.len() <= usize::from(failures));
                prop_assert!(breaker.slow_calls.0.len() <= usize::from(slow_calls));
                if opens {
                    now_ms = breaker.opens_until_ms().unwrap();
                    prop_assert_eq!(breaker.poll(now_ms - 1), None);
                    prop_assert_eq!(breaker.poll(now_ms), Some(BreakerState::HalfOpen));
                    prop_assert_eq!(breaker.succeed(1), Some(BreakerState::Closed));
                    seen.clear();
                }
            }
        }

        /// In any sequence of events, a breaker is not open for longer than allowed, passes no more than its probes
        /// while half-open, and takes only valid transitions.
        #[test]
        fn it_moves_only_along_its_edges(events in proptest::collection::vec((0..4_u8, 0..300_u64), 1..300)) {
            let mut breaker = Breaker::new(policy(2, 1, 3));
            let (mut now_ms, mut state) = (0, BreakerState::Closed);
            for (event, passed_ms) in events {
                now_ms += passed_ms;
                let changed = match event {
                    0 => breaker.observe(Observation::Failed, now_ms),
                    1 => breaker.observe(Observation::Slow, now_ms),
                    2 => breaker.succeed(1),
                    _ => breaker.poll(now_ms),
                };
                if let Some(changed) = changed {
                    let allowed = matches!(
                        (state, changed),
                        (BreakerState::Closed | BreakerState::HalfOpen, BreakerState::Open { for_ms: 100..=350 })
                            | (BreakerState::Open { .. }, BreakerState::HalfOpen)
                            | (BreakerState::HalfOpen, BreakerState::Closed)
                    );
                    prop_assert!(allowed, "{:?} to {:?}", state, changed);
                    state = changed;
                }
                match state {
                    BreakerState::Closed => prop_assert_eq!(breaker.probes_left(), None),
                    BreakerState::Open { .. } => prop_assert_eq!(breaker.probes_left(), Some(0)),
                    BreakerState::HalfOpen => prop_assert!(matches!(breaker.probes_left(), Some(1..=3))),
                }
            }
        }
    }
}
