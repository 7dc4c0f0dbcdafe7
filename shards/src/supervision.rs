//! Agents that fail: made anew by their factory, so often and no oftener, and stopped beyond that.
//!
//! Invariants: no code of an agent unwinds into the shard, whether it is called, dropped, or drops what it panicked
//! with; an agent is made anew at most as often within a window as its policy allows, and removed when it would have to
//! be more often; what waits for it meanwhile stays in its mailbox.
//!
//! A message whose handling panics is tried again like any failed attempt, and each of its attempts makes the agent
//! anew. All of them together count once: the attempts are bounded already, so that one poison message ends among the
//! dead letters and never stops an agent whose policy allows at least one restart.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::agent::{Agent, Factory};
use crate::domain::{RestartCount, RestartDelayMs, RestartWindowMs};
use crate::interface::Event;
use crate::lifecycle::{AgentState, StopReason};
use crate::registry::{AgentIndex, Behaviour, Standing};
use crate::shard::{Alarm, Shard};
use crate::timer::TimerKey;

/// Up to here the wait doubles with each start that fails in a row, in milliseconds.
pub const RESTART_BACKOFF_MS_MAX: u64 = 5_000;
/// The shortest wait after a start that failed, in milliseconds: its neighbours have their turn before the next one.
const FAILED_START_DELAY_MS_MIN: u64 = 1;

/// How often an agent may be made anew, and how long it waits for that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RestartPolicy {
    /// The most restarts within the window. The next one stops the agent instead.
    pub restarts: RestartCount,
    /// The window that slides over the restarts.
    pub window_ms: RestartWindowMs,
    /// How long an agent waits before it is made anew. The wait doubles with each start that fails in a row, up to
    /// [`RESTART_BACKOFF_MS_MAX`] or the delay itself if that is longer.
    pub delay_ms: RestartDelayMs,
}

/// What an agent's supervision remembers of it.
#[derive(Default)]
pub(crate) struct Restarts {
    /// The agent's own policy, if it has one.
    pub own_policy: Option<RestartPolicy>,
    /// Restarts since it was registered.
    pub total: u64,
    /// When the restarts of the window were. There are no more than the policy allows.
    recent: VecDeque<u64>,
    /// Starts that failed in a row.
    failed_starts: u32,
    /// For the next start.
    pub timer: Option<TimerKey>,
}

/// Why an agent is made anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RestartCause {
    /// Something failed.
    Failure,
    /// A message failed that had failed before.
    SameMessage,
    /// It could not be made, or not be started.
    FailedStart,
}

impl Restarts {
    /// Notes a restart. Answers how long it has to wait, or nothing when there were too many.
    fn note(&mut self, policy: RestartPolicy, now_ms: u64, cause: RestartCause) -> Option<u64> {
        let window_ms = u64::from(policy.window_ms.into_inner());
        while self.recent.front().is_some_and(|at_ms| now_ms - at_ms >= window_ms) {
            self.recent.pop_front();
        }
        if cause != RestartCause::SameMessage {
            if self.recent.len() >= policy.restarts.as_usize() {
                return None;
            }
            self.recent.push_back(now_ms);
        }
        self.total += 1;
        let delay_ms = u64::from(policy.delay_ms.into_inner());
        if cause != RestartCause::FailedStart {
            self.failed_starts = 0;
            return Some(delay_ms);
        }
        let first_ms = delay_ms.max(FAILED_START_DELAY_MS_MIN);
        let longest_ms = RESTART_BACKOFF_MS_MAX.max(delay_ms);
        let growth = 1_u64.checked_shl(self.failed_starts).unwrap_or(u64::MAX);
        self.failed_starts = self.failed_starts.saturating_add(1);
        Some(first_ms.saturating_mul(growth).min(longest_ms))
    }
}

impl Shard {
    /// Makes an agent anew, at once or when its delay is over. One that was made anew too often is removed.
    #[cold]
    pub(crate) fn restart(&mut self, index: AgentIndex, cause: RestartCause) {
        let (now_ms, policy) = (self.now_ms, self.config.supervision);
        let Some(slot) = self.agents.get_mut(index) else { return };
        let (id, generation) = (slot.id, slot.generation);
        let restarts = slot.extras().restarts();
        let policy = restarts.own_policy.unwrap_or(policy);
        let Some(delay_ms) = restarts.note(policy, now_ms, cause) else {
            return self.remove_agent(index, StopReason::RestartsExhausted);
        };
        let total = restarts.total;
        slot.standing.add(Standing::RESTARTING);
        self.report(|| Event::AgentRestarted { agent: id, restarts: total, delay_ms });
        self.report_state(index);
        if delay_ms == 0 {
            return self.start_anew(index);
        }
        match self.timers.insert(now_ms + delay_ms, Alarm::Restart { agent: index, generation }) {
            Ok(timer) => {
                if let Some(slot) = self.agents.get_mut(index) {
                    slot.extras().restarts().timer = Some(timer);
                }
                self.watch_over(index);
            }
            // An agent that could never be started again would only collect mail.
            Err(_) => self.remove_agent(index, StopReason::RestartsExhausted),
        }
    }

    /// The wait before a restart is over.
    #[cold]
    pub(crate) fn restart_is_due(&mut self, index: AgentIndex, generation: u32) {
        let Some(slot) = self.agents.get_mut(index).filter(|slot| slot.generation == generation) else { return };
        slot.extras().restarts().timer = None;
        // A suspended agent is not called, not even to be started: that waits until it is resumed.
        if !slot.standing.is(Standing::SUSPENDED) {
            self.start_anew(index);
            self.go_on(index);
        }
    }

    /// Makes an agent anew and starts it. Whoever calls this sees to it that the agent is scheduled.
    pub(crate) fn start_anew(&mut self, index: AgentIndex) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        let id = slot.id;
        if !slot.maker.exists() {
            return;
        }
        self.agents.calling.begin(index);
        let Some(slot) = self.agents.get_mut(index) else { return };
        let made = slot.maker.make().map(|agent| slot.behaviour = Behaviour::Native(agent));
        if let Err(what) = made.and_then(|()| self.start_agent(index)) {
            self.report(|| Event::AgentPanicked { agent: id, what });
            return self.restart(index, RestartCause::FailedStart);
        }
        // It may have left while it was started.
        let Some(slot) = self.agents.get_mut(index).filter(|slot| !slot.standing.is(Standing::LEAVING)) else { return };
        slot.standing.remove(Standing::RESTARTING);
        slot.extras().restarts().failed_starts = 0;
        self.report_state(index);
    }

    /// Tells observers which state an agent has come into.
    pub(crate) fn report_state(&mut self, index: AgentIndex) {
        if !self.watch_events {
            return;
        }
        let Some((agent, state)) = self.agents.get(index).map(|slot| (slot.id, AgentState::of(slot.standing))) else {
            return;
        };
        self.report(|| Event::StateChanged { agent, state });
    }
}

/// What belongs to agents is dropped where a panic does no harm.
impl Drop for Shard {
    fn drop(&mut self) {
        let agents: Vec<AgentIndex> = self.agents.iter_with_leaving().collect();
        for agent in agents {
            if let Some(slot) = self.agents.get_mut(agent) {
                discard(std::mem::replace(&mut slot.behaviour, Behaviour::Away));
            }
        }
    }
}

/// An agent's factory, if it has one. It is dropped where a panic does no harm: it owns whatever its closure has captured.
pub(crate) struct Maker(Option<Factory>);

impl Maker {
    /// For agents that nobody makes anew.
    pub const NONE: Self = Self(None);

    pub fn new(factory: Factory) -> Self {
        Self(Some(factory))
    }

    pub fn exists(&self) -> bool {
        self.0.is_some()
    }

    /// A new agent, or the text of the factory's panic.
    pub fn make(&mut self) -> Result<Box<dyn Agent>, String> {
        match &mut self.0 {
            Some(factory) => guarded(factory),
            None => Err("its factory is gone".to_owned()),
        }
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        discard(self.0.take());
    }
}

/// Calls code that belongs to an agent. Answers what it answers, or the text of its panic.
///
/// The shard's own state is only changed by its own methods, which do not panic half-way; what the agent leaves behind
/// of itself is thrown away by the caller.
#[inline]
pub(crate) fn guarded<R>(call: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(text_of_panic)
}

/// Drops something that belongs to an agent, whatever its destructor does.
pub(crate) fn discard<T>(value: T) {
    let _ = guarded(|| drop(value));
}

#[cold]
fn text_of_panic(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a text".to_owned()
    };
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        // What panics when it is dropped may do so for ever; its memory is the price of ending here.
        std::mem::forget(again);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(restarts: u16, window_ms: u32, delay_ms: u32) -> RestartPolicy {
        RestartPolicy {
            restarts: restarts.try_into().unwrap(),
            window_ms: window_ms.try_into().unwrap(),
            delay_ms: delay_ms.try_into().unwrap(),
        }
    }

    #[test]
    fn as_many_restarts_as_allowed_fit_into_any_window() {
        let policy = policy(2, 1_000, 0);
        let mut restarts = Restarts::default();
        let mut note = |now_ms, cause| restarts.note(policy, now_ms, cause);
        assert_eq!(note(0, RestartCause::Failure), Some(0));
        assert_eq!(note(600, RestartCause::Failure), Some(0));
        assert_eq!(note(999, RestartCause::Failure), None);
        assert_eq!(note(999, RestartCause::SameMessage), Some(0), "a message that fails again is not counted again");
        assert_eq!(note(1_000, RestartCause::Failure), Some(0));
        assert_eq!(note(1_599, RestartCause::Failure), None);
        assert_eq!(restarts.total, 4);
    }

    #[test]
    fn the_wait_doubles_while_starts_fail_and_is_bounded() {
        let mut restarts = Restarts::default();
        let policy = policy(1_000, 60_000, 10);
        let mut note = |cause| restarts.note(policy, 0, cause).unwrap();
        assert_eq!(note(RestartCause::Failure), 10);
        assert_eq!([(); 4].map(|()| note(RestartCause::FailedStart)), [10, 20, 40, 80]);
        for _ in 0..100 {
            assert!(note(RestartCause::FailedStart) <= RESTART_BACKOFF_MS_MAX);
        }
        assert_eq!(note(RestartCause::FailedStart), RESTART_BACKOFF_MS_MAX);
        assert_eq!(note(RestartCause::Failure), 10);
        assert_eq!(note(RestartCause::FailedStart), 10);
    }

    #[test]
    fn what_panics_when_it_is_dropped_after_a_panic_ends_here() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("in the payload");
            }
        }
        let result = guarded(|| std::panic::panic_any(Bomb));
        assert_eq!(result, Err("a panic without a text".to_owned()));
        discard(Bomb);
    }
}
