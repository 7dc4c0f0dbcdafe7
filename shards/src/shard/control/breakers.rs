//! Circuit breakers of a shard's agents: which are called, which messages are given up, and announcements.
//!
//! A breaker is created with an agent's first failed or slow call and is part of its rarely used state; a call of any
//! other agent costs one check of a flag. While a breaker is open, messages wait in the mailbox within its bounds and
//! their lifetime, except those that ask not to. Messages addressed to a capability go to another provider, on every
//! shard, as soon as the shard has been told; those already waiting stay.
//!
//! The router's own notices neither count as failed or successful calls nor pass an open breaker. A message whose
//! handler is suspended continues, and so does polling.
//!
//! # Slow calls
//!
//! A shard has no clock, and reading one for every message would cost more than most handlers do, so it compares the
//! times of successive turns. Only when a turn that called agents took as long as a slow call does it time each call,
//! with the [`Stopwatch`](crate::supervision::Stopwatch) from its driver, in the next
//! [`TIMED_TURNS`](crate::supervision::TIMED_TURNS) turns that call agents. Calls of a half-open breaker's agent are
//! always timed. As a consequence, the slow call that triggers this is noticed but not attributed, so a breaker opens
//! one slow call late; and several calls that are slow only together cause a period of timing in vain. Without a
//! stopwatch there are no slow calls.
//!
//! Each is counted, and reported as [`Event::SlowCall`] with the agent's name, up to
//! [`SLOW_CALLS_REPORTED_MAX`](crate::supervision::SLOW_CALLS_REPORTED_MAX) times per second.

use std::sync::Arc;

use crate::base::index::AgentKey;
use crate::mailbox::{Envelope, EnvelopeKind};
use crate::message::{Message, WhenUnavailable};
use crate::shard::agent::registry::{AgentIndex, AgentSlot};
use crate::shard::io::Event;
use crate::shard::{Alarm, Shard, ShardPhase};
use crate::supervision::breaker::{BreakerPolicy, BreakerState, Observation};
use crate::supervision::{AgentBreaker, BreakerGate, Call, Stopwatch};

impl Shard {
    /// Gives the shard a clock to time calls with. Without one, no call counts as slow.
    pub fn set_stopwatch(&mut self, stopwatch: Stopwatch) {
        self.supervision.call_times.set_stopwatch(stopwatch);
    }

    /// Begins a call of an agent. `free` means that its breaker is closed.
    #[inline(always)]
    pub(in crate::shard) fn begin_call(&mut self, index: AgentIndex, free: bool) -> Call {
        let quota = self.config.turn_quota.into_inner();
        if free && !self.supervision.call_times.is_due() {
            Call { quota, timed: false, probing_since: None }
        } else {
            self.inspect_call(index, quota)
        }
    }

    /// Returns the call of an agent that is watched, or probed.
    #[cold]
    fn inspect_call(&mut self, index: AgentIndex, quota: u32) -> Call {
        let timed = self.supervision.call_times.is_possible();
        match self.breaker(index).and_then(|guarded| guarded.breaker.probes_left()) {
            Some(probes) => {
                Call { quota: quota.min(probes), timed, probing_since: Some(self.ledger.account().processed) }
            }
            None => Call { quota, timed, probing_since: None },
        }
    }

    /// Ends a call: successes may close the agent's breaker.
    #[inline]
    pub(in crate::shard) fn finish_call(&mut self, index: AgentIndex, visit: Call) {
        if let Some(processed) = visit.probing_since {
            self.count_successes(index, self.ledger.account().processed - processed);
        }
    }

    #[cold]
    fn count_successes(&mut self, index: AgentIndex, calls: u64) {
        if let Some(closed) = self.breaker(index).and_then(|guarded| guarded.breaker.succeed(calls)) {
            self.follow(index, closed);
        }
    }

    /// Reads the stopwatch between two calls of an agent. Returns when the next one begins, if it may be called again.
    #[cold]
    pub(in crate::shard) fn time_call(&mut self, index: AgentIndex, began_ns: Option<u64>) -> Option<u64> {
        let now_ns = self.supervision.call_times.read_ns()?;
        let took_ns = began_ns.map_or(0, |began_ns| now_ns.saturating_sub(began_ns));
        if self.supervision.call_times.is_slow(took_ns) {
            self.count_slow_call(index, took_ns, now_ns);
        }
        (!self.is_shut(index)).then_some(now_ns)
    }

    fn count_slow_call(&mut self, index: AgentIndex, took_ns: u64, now_ns: u64) {
        let slow_ns = self.breaker_policy(index).slow_call_ns();
        if slow_ns.is_none_or(|slow_ns| took_ns < slow_ns) {
            return;
        }
        let report = self.supervision.call_times.count_slow(now_ns / 1_000_000);
        if let (Some(unreported), Some(slot)) = (report, self.agents.get(index)) {
            let (agent, name) = (slot.id, Arc::clone(&slot.name));
            self.outputs.report_exception(|| Event::SlowCall { agent, name, took_ms: took_ns / 1_000_000, unreported });
        }
        self.observe(index, Observation::Slow);
    }

    /// Counts a failed call against an agent.
    #[cold]
    pub(in crate::shard) fn count_failure(&mut self, index: AgentIndex) {
        self.observe(index, Observation::Failed);
    }

    fn observe(&mut self, index: AgentIndex, what: Observation) {
        let policy = self.breaker_policy(index);
        // After the router has stopped, nothing would move a breaker to half-open.
        if !policy.is_on() || self.phase == ShardPhase::Stopped {
            return;
        }
        // The turn may have lasted for some time, and the breaker is to stay open from now on.
        let now_ms =
            self.supervision.call_times.read_ns().map_or(0, |now_ns| now_ns / 1_000_000).max(self.clock.now_ms());
        let Some(slot) = self.agents.get_mut(index).filter(|slot| !slot.is_leaving()) else { return };
        let guarded = slot.cold().breaker.get_or_insert_with(|| Box::new(AgentBreaker::new(policy)));
        if let Some(state) = guarded.breaker.observe(what, now_ms) {
            self.follow(index, state);
        }
    }

    /// Moves an agent's breaker to half-open when its time has come.
    pub(in crate::shard) fn poll_breaker(&mut self, key: AgentKey) {
        if self.phase == ShardPhase::Stopped {
            return;
        }
        let now_ms = self.clock.now_ms();
        let Some(slot) = self.agents.resolve_mut(key) else { return };
        let Some(guarded) = slot.breaker() else { return };
        guarded.timer = None;
        if let Some(state) = guarded.breaker.poll(now_ms) {
            self.follow(key.index, state);
        }
    }

    /// Applies the consequences of a breaker's new state.
    fn follow(&mut self, index: AgentIndex, mut state: BreakerState) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        let (agent, key, before) = (slot.id, slot.key(index), slot.gate);
        let Some(guarded) = slot.breaker() else { return };
        if let Some(until_ms) = guarded.breaker.opens_until_ms() {
            guarded.timer = self.timers.insert(until_ms, Alarm::Breaker(key)).ok();
            if guarded.timer.is_none() {
                // A breaker that nothing would move to half-open is not opened.
                guarded.breaker.close();
                state = BreakerState::Closed;
            }
        }
        let guard = match state {
            BreakerState::Closed => BreakerGate::Closed,
            BreakerState::HalfOpen => BreakerGate::HalfOpen,
            BreakerState::Open { .. } => BreakerGate::Open,
        };
        if guard == before {
            return;
        }
        slot.gate = guard;
        self.supervision.count_gate(index, before, guard);
        self.outputs.report_exception(|| Event::BreakerChanged { agent, state });
        self.publish_breaker(index);
        match guard {
            BreakerGate::Closed => {}
            BreakerGate::HalfOpen => self.schedule(index),
            BreakerGate::Open => self.fail_waiting_fast(index),
        }
    }

    /// Gives up waiting messages of an agent that asked not to wait.
    fn fail_waiting_fast(&mut self, index: AgentIndex) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        let impatient = |envelope: &Envelope| {
            envelope.kind() == EnvelopeKind::Message && envelope.message.when_unavailable() == WhenUnavailable::FailFast
        };
        for place in slot.mailbox.extract(&mut self.held, impatient) {
            if let Some(envelope) = self.held.remove(place) {
                self.fail_fast(envelope, index);
            }
        }
    }

    /// Whether the message would fail fast now.
    pub(in crate::shard) fn fails_fast(&self, index: AgentIndex, message: &Message) -> bool {
        message.when_unavailable() == WhenUnavailable::FailFast && self.is_shut(index)
    }

    pub(in crate::shard) fn is_shut(&self, index: AgentIndex) -> bool {
        self.agents.get(index).is_some_and(|slot| slot.gate == BreakerGate::Open)
    }

    /// Sets an agent's own policy instead of the router's.
    pub(in crate::shard) fn set_breaker_policy(&mut self, index: AgentIndex, policy: BreakerPolicy) {
        if let Some(slot) = self.agents.get_mut(index) {
            slot.cold().breaker_policy = Some(policy);
            self.supervision.call_times.look_for(&policy);
        }
    }

    /// Drops the breaker of an agent that is removed and provides nothing any more.
    pub(in crate::shard) fn drop_breaker(&mut self, index: AgentIndex) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        let Some(guarded) = slot.cold.as_mut().and_then(|cold| cold.breaker.take()) else { return };
        debug_assert!(!guarded.told_shut, "no other shard keeps an agent that is gone in mind");
        let before = std::mem::take(&mut slot.gate);
        self.supervision.forget_gate(index, before);
        if let Some(timer) = guarded.timer {
            self.timers.cancel(timer);
        }
    }

    fn breaker_policy(&self, index: AgentIndex) -> BreakerPolicy {
        let own = self.agents.get(index).and_then(|slot| slot.cold.as_ref()).and_then(|cold| cold.breaker_policy);
        own.unwrap_or(self.config.breaker)
    }

    pub(in crate::shard) fn breaker(&mut self, index: AgentIndex) -> Option<&mut AgentBreaker> {
        self.agents.get_mut(index).and_then(AgentSlot::breaker)
    }
}

impl AgentSlot {
    pub(in crate::shard) fn breaker(&mut self) -> Option<&mut AgentBreaker> {
        self.cold.as_mut().and_then(|cold| cold.breaker.as_deref_mut())
    }
}
