//! One shard: the path of a message from top to bottom.
//!
//! A shard is a state machine. [`Shard::step`] is one turn: it takes in messages from other shards and from the world,
//! advances time, calls the agents that have mail, and passes on what they sent. It reads no clock and waits for
//! nothing; its behaviour is determined by its inputs and by its agents.
//!
//! A message passes the stages in `path/`, all of them `impl Shard`: `admit` (from outside or from a handler), `route`
//! and `transfer` (to the right shard), `converse` (through its conversation), `deliver` and `enqueue` (into the
//! mailbox, or `overflow` if that is full), `dispatch` (to the handler), `settle` (its end). The control plane is in
//! `control/`: registration, restarts, expected replies, the journal, replays of dead letters.
//!
//! The fields of a shard are visible only in this folder. The components of which it consists are in the folders beside
//! it and do not know it, which `shards/tests/it/layers.rs` checks.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::index::ShardIndex;
use crate::base::rng::SplitMix64;
use crate::base::time::Clock;
use crate::conversation::{Conformance, Conversations};
use crate::dead_letter::DeadLetters;
use crate::flow_control::FlowControl;
use crate::journal::commits::ShardJournal;
use crate::journal::record::Records;
use crate::mailbox::Held;
use crate::mesh::Port;
use crate::message::{AgentId, IdSource};
use crate::replies::Replies;
use crate::routing::capabilities::Capabilities;
use crate::routing::partition::Partition;
use crate::routing::plugins::Plugins;
use crate::shard::agent::Effects;
use crate::shard::agent::registry::{AgentFlags, AgentIndex, Behaviour, Registry};
use crate::shard::control::Operations;
use crate::shard::inquiries::Inquiries;
use crate::shard::io::{Input, Now, Output, RegistrationError, Snapshot};
use crate::shard::lifecycle::Lifecycle;
use crate::shard::links::Links;
use crate::shard::live_config::LiveConfig;
use crate::shard::outputs::Outputs;
use crate::shard::scheduler::Scheduler;
use crate::shard::timers::Timers;
use crate::stats::account::Account;
use crate::stats::calling::Calling;
use crate::stats::ledger::Ledger;
use crate::supervision::{Supervision, drop_quietly};

pub(crate) mod agent;
mod alarm;
mod config;
pub(crate) mod control;
pub(crate) mod delivery_error;
pub(crate) mod details;
mod event;
mod inquiries;
pub(crate) mod io;
mod lifecycle;
pub(crate) mod links;
pub(crate) mod live_config;
mod outputs;
pub(crate) mod path;
mod scheduler;
pub(crate) mod shard_frame;
mod timers;
pub(crate) mod wanted;
mod words;

pub use crate::supervision::RetryPolicy;
pub(crate) use alarm::Alarm;
pub use config::ShardConfig;
pub use control::restore as recovery;
pub use shard_frame::{Control, ShardFrame};

/// Maximum number of messages taken from each incoming ring per turn: one chunk.
pub const ARRIVALS_PER_TURN_MAX: usize = 256;
/// Maximum number of messages dispatched per turn before the rings are checked again.
pub const DISPATCHES_PER_TURN_MAX: u32 = 512;
/// Maximum number of inputs from the world per turn.
pub const INPUTS_PER_TURN_MAX: usize = 256;
/// Maximum number of timers fired per turn.
pub const TIMERS_PER_TURN_MAX: usize = 1_024;
/// Maximum number of agents added per turn because others registered them while they were started.
pub const REGISTRATIONS_PER_TURN_MAX: usize = 256;
/// Maximum number of copies per turn and sender of messages to several receivers.
pub const FAN_OUT_PER_TURN_MAX: u32 = 256;
/// Interval of the sweeps for expired messages that wait for something other than a timer, in milliseconds.
pub(crate) const SWEEP_INTERVAL_MS: u64 = 1_000;
/// Maximum number of timers of a shard.
pub const TIMERS_MAX: usize = 16_000_000;
pub use crate::replies::asks::ASKS_MAX;

/// The result of a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]

pub struct Turn {
    /// Whether anything was done.
    pub worked: bool,
    /// Whether there is more to do right now.
    pub more: bool,
    /// Whether an agent polls a source of its own, so that the shard must not sleep.
    pub polling: bool,
    /// When there will be something to do even without new inputs, in milliseconds of monotonic time.
    pub next_deadline_ms: Option<u64>,
}

/// The phase of a shard's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ShardPhase {
    Running,
    /// Nothing more is admitted from outside.
    Draining,
    /// Everything pending was given up, and so is what arrives.
    Stopped,
}

/// One core's share of the router.
pub struct Shard {
    pub(in crate::shard) config: ShardConfig,
    pub(in crate::shard) live: LiveConfig,
    pub(in crate::shard) index: ShardIndex,
    pub(in crate::shard) ids: IdSource,
    pub(in crate::shard) rng: SplitMix64,
    pub(in crate::shard) phase: ShardPhase,
    pub(in crate::shard) clock: Clock,
    pub(in crate::shard) links: Links,
    pub(in crate::shard) held: Held,
    pub(in crate::shard) agents: Registry,
    pub(in crate::shard) scheduler: Scheduler,
    pub(in crate::shard) lifecycle: Lifecycle,
    pub(in crate::shard) effects: Effects,
    pub(in crate::shard) flow_control: FlowControl,
    pub(in crate::shard) capabilities: Capabilities,
    pub(in crate::shard) conversations: Conversations,
    pub(in crate::shard) timers: Timers,
    pub(in crate::shard) supervision: Supervision,
    pub(in crate::shard) plugins: Plugins,
    pub(in crate::shard) dead_letters: DeadLetters,
    pub(in crate::shard) ledger: Ledger,
    pub(in crate::shard) replies: Replies,
    /// Agents that manage others, and what waits for them.
    pub(in crate::shard) inquiries: Inquiries,
    pub(in crate::shard) operations: Operations,
    pub(in crate::shard) journal: ShardJournal,
    pub(in crate::shard) outputs: Outputs,
}

impl Shard {
    /// Creates a shard without agents. `port` is its end of the mesh, `now` the time at which its timers start.
    pub fn new(mut config: ShardConfig, port: Port<ShardFrame>, now: Now) -> Self {
        let index = ShardIndex(config.id_space.shard);
        config.partition = config.partition.of_node(config.id_space.node);
        let agents = Registry::new(&gateway_name(config.partition, index));
        Self {
            effects: Effects::default(),
            outputs: Outputs::new(config.watching),
            timers: Timers::new(now.monotonic_ms()),
            plugins: Plugins::new(!config.protocols.is_empty()),
            capabilities: Capabilities::new(index),
            conversations: Conversations::new(config.conversations, config.protocols.clone(), config.seed),
            index,
            ids: IdSource::new(config.id_space),
            rng: SplitMix64::new(config.seed),
            scheduler: Scheduler::default(),
            lifecycle: Lifecycle::default(),
            held: Held::new(config.pending_max, config.memory_max),
            links: Links::new(port),
            flow_control: FlowControl::default(),
            supervision: Supervision::new(&config.breaker),
            replies: Replies::new(config.seed),
            ledger: Ledger::default(),
            clock: Clock::new(now),
            phase: ShardPhase::Running,
            agents,
            dead_letters: DeadLetters::new(index, config.dead_letters_max, config.dead_letter_bytes_max),
            inquiries: Inquiries::default(),
            operations: Operations::default(),
            journal: ShardJournal::new(config.durability, config.partition, config.duplicates_window, config.seed),
            live: LiveConfig::new(Arc::clone(&config.rules), config.protocols.clone()),
            config,
        }
    }

    /// Runs one turn. Takes inputs from the front of `inputs`, possibly leaving some for the next turn; appends to
    /// `outputs`.
    pub fn step(&mut self, now: Now, inputs: &mut VecDeque<Input>, outputs: &mut Vec<Output>) -> Turn {
        let since_last_ns = self.clock.advance(now);
        self.supervision.call_times.begin_turn(since_last_ns);
        let lifetime_ms = u64::from(self.config.message_timeout.into_inner());
        self.outputs.recorder.begin_turn(self.clock.now_ms(), lifetime_ms);
        self.outputs.swap(outputs);

        let arrived = self.receive_from_shards();
        let heard = self.hear_loopback();
        let fired = self.fire_timers();
        self.flush_transit();
        let flushed = self.move_lines() + self.flush_outboxes();
        let taken = self.take_inputs(inputs);
        let dispatched = self.dispatch_committed();
        let registered = self.register_waiting();
        let handled = self.run_agents();
        self.supervision.call_times.end_turn(handled);
        let polled = self.poll_agents();
        let stalled = self.let_stalled_in();
        self.post_loads();
        self.flush_outgoing();
        let drained = self.end_drains();
        let carries = self.continue_compaction();
        self.links.return_credits();
        self.agents.calling.end();
        self.ledger.set_pending(self.held.pending());
        debug_assert!(self.ledger.account().balances(), "{} lost count: {:?}", self.index, self.ledger.account());

        self.outputs.swap(outputs);
        let worked = arrived + heard + fired + flushed + taken + dispatched + registered + stalled > 0
            || handled > 0
            || polled
            || drained;
        let more = self.scheduler.has_more()
            || self.lifecycle.registrations() > 0
            || carries
            || self.journal.has_committed()
            || self.flow_control.queues.has_more()
            || arrived >= ARRIVALS_PER_TURN_MAX
            || fired >= TIMERS_PER_TURN_MAX
            // An input that found no room may find some after what this turn did.
            || (worked && !inputs.is_empty())
            || self.links.has_fan_outs()
            || self.links.loopback() > 0;
        Turn { worked, more, polling: self.scheduler.polls(), next_deadline_ms: self.timers.next_deadline() }
    }

    /// Returns the records written so far, to be passed to the journal and cleared.
    pub fn records(&mut self) -> &mut Records {
        self.journal.records_mut()
    }

    /// Makes what this shard sent visible to the others, and returns those whose doorbell to ring.
    pub fn flush(&mut self) -> &[usize] {
        self.links.flush()
    }

    /// Whether something has arrived since the last turn. Check it again after arming a doorbell.
    pub fn has_incoming(&mut self) -> bool {
        self.links.has_incoming()
    }

    /// Returns the number of messages in the rings to other shards: departed from this shard and not yet arrived. For
    /// checking that over all shards, what departed either arrived or is in a ring.
    pub fn messages_in_flight(&mut self) -> usize {
        self.links.messages_in_flight()
    }

    /// Whether the shard has nothing left to do for any message: none is pending and no posts wait.
    pub fn is_quiet(&self) -> bool {
        self.ledger.account().pending == 0
            && !self.scheduler.has_more()
            && self.links.is_quiet()
            && self.lifecycle.is_quiet()
            && !self.flow_control.queues.has_asked()
            && self.inquiries.is_quiet()
            && self.journal.waiters() == 0
            && self.journal.records().count() == 0
    }

    /// Whether nothing waits anywhere, not even a notice for an agent that is not called.
    pub(crate) fn keeps_nothing(&self) -> bool {
        self.held.len() == 0
    }

    /// Asserts what must hold once nothing is pending on any shard: every place and every credit was returned. For
    /// tests: it looks at every agent.
    pub fn assert_at_rest(&mut self) {
        let index = self.index;
        assert!(self.is_quiet(), "{index} is not quiet: {:?}", self.ledger.account());
        assert_eq!(self.held.len(), 0, "{index} keeps envelopes");
        assert_eq!(self.held.memory_bytes(), 0, "{index} counts bytes that are nowhere");
        assert_eq!(self.held.outside(), 0, "{index} counts messages that are nowhere");
        assert!(self.effects.is_empty() && !self.scheduler.has_next_turn(), "{index} has something left to do");
        self.links.assert_at_rest();
        assert!(!self.flow_control.queues.exist(), "{index} has receivers that are closed");
        for agent in self.agents.iter_with_leaving() {
            let Some(slot) = self.agents.get(agent) else { continue };
            assert!(!slot.flags.is(AgentFlags::CLOSED) && !slot.flags.is(AgentFlags::WAITING), "{} waits", slot.name);
            assert!(!slot.is_leaving(), "{} has left and is still there", slot.name);
            assert_eq!((slot.mailbox.held(), slot.mailbox.held_bytes()), (0, 0), "the mailbox of {} leaks", slot.name);
            assert!(slot.outbox.is_empty() && slot.outbox_length == 0, "the outbox of {} leaks", slot.name);
            assert!(!slot.has_in_hand() && slot.blocked.is_none() && !slot.queued, "{} is not idle", slot.name);
        }
    }

    /// Returns the running totals.
    pub fn account(&self) -> &Account {
        self.ledger.account()
    }

    /// Returns the figures.
    pub fn snapshot(&self) -> Snapshot {
        let (refusals, breakers, waits) =
            (self.ledger.refusals(), self.supervision.breakers(), self.flow_control.queues.figures());
        Snapshot {
            account: *self.ledger.account(),
            agents: self.agents.len() - 1,
            conversations: self.conversations.len(),
            conversations_opened: self.conversations.opened(),
            dead_letters: self.dead_letters.len(),
            dead_letters_dropped: self.dead_letters.dropped(),
            dead_letters_replayed: self.dead_letters.replayed(),
            breakers_open: breakers.open,
            breakers_opened: breakers.opened,
            timers: self.timers.len(),
            questions: self.replies.pending.len(),
            replies_missing: self.replies.pending.unanswered(),
            replies_late: self.replies.pending.late(),
            memory_bytes: self.held.memory_bytes(),
            memory_bytes_max: self.config.memory_max,
            refused_for_memory: refusals.for_memory,
            refused_by_receiver: refusals.for_receiver,
            replies_beyond: refusals.replies_beyond,
            receivers_closed: waits.closed_here,
            receivers_closed_so_far: waits.closed_so_far,
            stalled: waits.stalled,
            stalled_so_far: waits.stalled_so_far,
            waiting: waits.waiting,
            waiting_so_far: waits.waiting_so_far,
            conformance: self.conversations.conformance(),
            duplicates: self.journal.duplicates(),
            commits_awaited: self.journal.waiters(),
        }
    }

    /// Returns the protocol figures.
    pub fn conformance(&self) -> Conformance {
        self.conversations.conformance()
    }

    /// Returns the id of the shard's own agent for embedders without an inbox.
    pub fn gateway_id(&self) -> Option<AgentId> {
        self.agents.gateway_id()
    }

    /// Returns the name of an agent of this shard, also of one that was removed lately.
    pub fn remembered_name_of(&self, agent: AgentId) -> Option<Arc<str>> {
        let slot = self.agents.find(agent).and_then(|index| self.agents.get(index));
        let former = || self.agents.find_former(agent).map(|former| Arc::from(&*former.name));
        slot.map(|slot| Arc::clone(&slot.name)).or_else(former)
    }

    /// Returns the agent being called, for an observer on another thread.
    pub fn calling(&self) -> Arc<Calling> {
        Arc::clone(&self.agents.calling)
    }

    pub(crate) fn is_here(&self, shard: ShardIndex) -> bool {
        shard == self.index
    }

    fn fire_timers(&mut self) -> usize {
        let mut fired = self.timers.take_due(self.clock.now_ms());
        let count = fired.len();
        for alarm in fired.drain(..) {
            match alarm {
                Alarm::Release { place, agent } => self.deliver_due(place, agent),
                Alarm::Conversation(index) => self.on_conversation_timeout(index),
                Alarm::CachedInitiator(key) => self.on_initiator_timeout(key),
                Alarm::Ask(correlation) => self.give_up_asking(correlation),
                Alarm::PendingReply { place, number } => self.on_reply_timeout(place, number),
                Alarm::Sweep(agent) => self.sweep(agent),
                Alarm::Restart(agent) => self.on_restart_due(agent),
                Alarm::DrainDeadline(agent) => self.on_drain_end(agent),
                Alarm::Breaker(agent) => self.poll_breaker(agent),
                Alarm::SweepLines => self.sweep_lines(),
                Alarm::SweepTransit(to) => self.sweep_transit(to),
                Alarm::SweepCommits => self.sweep_commits(),
                Alarm::Wake(agent) => self.wake(agent),
                Alarm::Replays(request) => self.answer_replays(request),
            }
        }
        self.timers.give_back(fired);
        count
    }
}

/// Agents' values are dropped where a panic does no harm.
impl Drop for Shard {
    fn drop(&mut self) {
        let agents: Vec<AgentIndex> = self.agents.iter_with_leaving().collect();
        for agent in agents {
            if let Some(slot) = self.agents.get_mut(agent) {
                drop_quietly(std::mem::replace(&mut slot.behaviour, Behaviour::Running));
            }
        }
    }
}

/// Returns the name of a shard's own agent for embedders without an inbox.
pub fn gateway_name(partition: Partition, shard: ShardIndex) -> String {
    partition.gateway_name(shard)
}

/// Returns the error for a registration during shutdown.
pub(crate) fn stopping() -> RegistrationError {
    RegistrationError::Stopping
}
