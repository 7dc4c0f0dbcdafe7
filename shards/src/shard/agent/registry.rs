//! The agents of a shard: found by id in constant time, stored in few bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashTable;

pub use crate::base::index::AgentIndex;
use crate::base::index::{AgentKey, ShardIndex};
use crate::base::slab::{NONE, Slab};
use crate::flow_control::policy::OverflowPolicy;
use crate::flow_control::stalled::Stalled;
use crate::journal::record::Lsn;
use crate::mailbox::{Envelope, Mailbox, Queue, Reservation};
use crate::message::{AgentId, Message, Term};
use crate::shard::agent::factory::AgentFactory;
use crate::shard::agent::tombstones::{Tombstone, Tombstones};
use crate::shard::agent::{Agent, Effect};
use crate::shard::control::lifecycle::{AgentState, Drain, StopReason};
use crate::shard::io::InboxNumber;
use crate::stats::calling::Calling;
use crate::supervision::breaker::BreakerPolicy;
use crate::supervision::{AgentBreaker, BreakerGate, Restarts};

/// Maximum number of agents of a shard.
pub const AGENTS_MAX: usize = 100_000_000;

/// What handles an agent's messages.
pub(crate) enum Behaviour {
    Native(Box<dyn Agent>),
    /// The handler is being called.
    Running,
    InboxState(Box<InboxState>),
    /// The router's own agent for embedders without an inbox.
    Gateway,
}

/// The state of an agent that takes its messages from an inbox outside the shard.
pub(crate) struct InboxState {
    pub inbox: InboxNumber,
    /// The remaining room in the inbox.
    pub room: u32,
    pub window: u32,
    /// Messages in the inbox not reported as taken.
    pub handed_out: u32,
    /// Messages reported as taken or acknowledged, so far.
    pub taken: u64,
    /// Whether its owner acknowledges messages with a record, or whose senders want a receipt, by number: then `taken` does
    /// not tell which they were.
    pub by_number: bool,
    /// Whether it stands for an agent of another node, which sends the receipts.
    pub is_proxy: bool,
    /// Why the agent is removed once its inbox has given back what was not processed.
    pub closing: Option<StopReason>,
    /// Messages in the inbox whose senders want a processed receipt, each with its delivery number.
    pub receipts: VecDeque<(u64, Message)>,
    /// Messages in the inbox with a journal record, each with its delivery number.
    pub journalled: VecDeque<(u64, Lsn)>,
}

impl InboxState {
    pub fn new(inbox: InboxNumber, window: u32, by_number: bool) -> Self {
        Self {
            inbox,
            room: window,
            window,
            handed_out: 0,
            taken: 0,
            by_number,
            is_proxy: false,
            closing: None,
            receipts: VecDeque::new(),
            journalled: VecDeque::new(),
        }
    }

    /// Counts a message that its owner has finished, and returns its record and, if its sender wants a receipt, the message.
    pub fn finish(&mut self, number: u64) -> (Option<Lsn>, Option<Message>) {
        self.handed_out -= 1;
        self.taken += 1;
        self.room = self.room.saturating_add(1).min(self.window);
        (take_numbered(&mut self.journalled, number), take_numbered(&mut self.receipts, number))
    }
}

/// Removes the entry with this number; numbers increase from front to back.
fn take_numbered<T>(queue: &mut VecDeque<(u64, T)>, number: u64) -> Option<T> {
    let place = queue.binary_search_by_key(&number, |(number, _)| *number).ok()?;
    queue.remove(place).map(|(_, item)| item)
}

/// State that few agents have.
#[derive(Default)]
pub(crate) struct ColdState {
    pub capabilities: Vec<Term>,
    pub in_hand: Option<Suspended>,
    pub restarts: Option<Box<Restarts>>,
    pub drain: Option<Drain>,
    /// Present from the first failed or slow call on.
    pub breaker: Option<Box<AgentBreaker>>,
    /// Its own policy, which overrides the router's.
    pub breaker_policy: Option<BreakerPolicy>,
    /// Present while it is closed.
    pub stalled: Option<Box<Stalled>>,
    /// The number of messages it sent that wait for closed receivers.
    pub waiting: u32,
    /// Whether a directory has a description of it, and wants to know when it is gone.
    pub described: bool,
    /// Whether it is persistent.
    pub outlives: bool,
    /// Its journal record.
    pub record: Option<Lsn>,
}

impl ColdState {
    pub fn restarts(&mut self) -> &mut Restarts {
        self.restarts.get_or_insert_default()
    }
}

/// Deviations from an ordinary agent: bits of one byte, so that a single test finds none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct AgentFlags(u8);

impl AgentFlags {
    pub const ORDINARY: Self = Self(0);
    /// It is removed and stays only until its outbox is empty.
    pub const LEAVING: Self = Self(1);
    /// It handles no messages until it is resumed.
    pub const SUSPENDED: Self = Self(1 << 1);
    /// It waits to be restarted, and started.
    pub const RESTARTING: Self = Self(1 << 2);
    /// It is removed once it has handled its messages.
    pub const DRAINING: Self = Self(1 << 3);
    /// Its mailbox was full, and what others send it waits until there is room again.
    pub const CLOSED: Self = Self(1 << 4);
    /// Something that it sent waits for a closed receiver.
    pub const WAITING: Self = Self(1 << 5);
    /// It provides a capability.
    pub const PROVIDER: Self = Self(1 << 6);
    /// It is not registered yet, but existed in an earlier run, has messages of an earlier run, or is looked for on
    /// other nodes.
    pub const ABSENT: Self = Self(1 << 7);
    /// Flags that require notification when its mailbox holds less.
    pub const ROOM_MATTERS: Self = Self(Self::PROVIDER.0 | Self::CLOSED.0);
    /// Flags that keep it from being called.
    const HALTED: Self =
        Self(Self::LEAVING.0 | Self::SUSPENDED.0 | Self::RESTARTING.0 | Self::WAITING.0 | Self::ABSENT.0);
    /// Flags that keep it from accepting messages as usual.
    pub const TAKES_NOTHING: Self = Self(Self::DRAINING.0 | Self::CLOSED.0);

    #[inline]
    pub const fn is(self, bits: Self) -> bool {
        self.0 & bits.0 != 0
    }

    pub fn add(&mut self, bits: Self) {
        self.0 |= bits.0;
    }

    pub fn remove(&mut self, bits: Self) {
        self.0 &= !bits.0;
    }
}

/// A message whose handler is suspended, with its effects so far.
pub(crate) struct Suspended {
    pub envelope: Envelope,
    pub effects: Vec<Effect>,
}

/// One agent.
///
/// Fields used on the path of every message come first, within two cache lines.
#[repr(C, align(64))]
pub(crate) struct AgentSlot {
    pub mailbox: Mailbox,
    pub outbox: Queue,
    /// Whether its circuit breaker lets messages pass.
    pub gate: BreakerGate,
    /// What happens to a message that finds its mailbox full.
    pub overflow: OverflowPolicy,
    /// Whether it is in the run queue.
    pub queued: bool,
    /// Whether it is polled.
    pub polled: bool,
    /// Whether it provides a capability.
    pub provider: bool,
    /// Whether its load has changed since the last announcement.
    pub load_changed: bool,
    pub flags: AgentFlags,
    /// Whether a sweep timer is armed for messages that expire while it is not called.
    pub swept: bool,
    pub id: AgentId,
    pub behaviour: Behaviour,
    pub cold: Option<Box<ColdState>>,
    pub outbox_length: u32,
    /// Distinguishes this agent from an earlier one in the same place.
    pub generation: u32,
    pub name: Arc<str>,
    pub maker: AgentFactory,
    /// Set while its outbox waits for credit at this shard. Its slot is kept as long.
    pub blocked: Option<ShardIndex>,
    /// The first of its pending replies.
    pub first_reply: u32,
}

const _: () = assert!(std::mem::offset_of!(AgentSlot, name) <= 128, "what a message looks at lies in two cache lines");

impl AgentSlot {
    /// Returns its key, given its place.
    #[inline(always)]
    pub fn key(&self, index: AgentIndex) -> AgentKey {
        AgentKey { index, generation: self.generation }
    }

    /// Marks its load as changed. Returns whether it was not marked before and the other shards want to know.
    #[inline(always)]
    pub fn begins_load_change(&mut self) -> bool {
        self.provider && !std::mem::replace(&mut self.load_changed, true)
    }

    /// Whether it could be called with another message now.
    #[inline]
    pub fn may_be_called(&self) -> bool {
        self.outbox.is_empty() && !self.is_halted() && self.gate != BreakerGate::Open && !self.has_in_hand()
    }

    /// Whether it must not be called now, whatever waits for it.
    #[inline]
    pub fn is_halted(&self) -> bool {
        self.flags.is(AgentFlags::HALTED)
    }

    #[inline]
    pub fn is_leaving(&self) -> bool {
        self.flags.is(AgentFlags::LEAVING)
    }

    /// Returns the number of messages that it has sent and that have not left it: those in its outbox, and those that
    /// wait for closed receivers.
    pub fn on_way(&self) -> u32 {
        self.outbox_length + self.cold.as_ref().map_or(0, |cold| cold.waiting)
    }

    /// Whether it stands for an agent of another node.
    #[cold]
    pub fn is_proxy(&self) -> bool {
        matches!(&self.behaviour, Behaviour::InboxState(outside) if outside.is_proxy)
    }

    /// Whether its handler has an unfinished message.
    pub fn has_in_hand(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| cold.in_hand.is_some())
    }

    pub fn cold(&mut self) -> &mut ColdState {
        self.cold.get_or_insert_default()
    }
}

/// All agents of a shard.
pub(crate) struct Registry {
    slots: Slab<AgentSlot>,
    index: HashTable<Indexed>,
    generation: u32,
    /// Returns the router's own agent for embedders without an inbox.
    gateway: AgentIndex,
    /// Removed agents.
    former: Tombstones,
    /// The agent being called.
    pub calling: Arc<Calling>,
}

/// An agent's place, with bits of its id, so that a growing table need not read every agent again.
#[derive(Clone, Copy)]
struct Indexed {
    bits: u32,
    place: u32,
}

impl Indexed {
    #[allow(clippy::cast_possible_truncation)] // Half of the bits are enough to tell agents apart in a table.
    fn new(id: AgentId, place: u32) -> Self {
        Self { bits: id.table_bits() as u32, place }
    }

    /// The id is already a hash; the multiplication spreads its bits over the whole word.
    #[inline]
    fn hash(self) -> u64 {
        u64::from(self.bits).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

impl Registry {
    /// Creates the registry of a shard: only its gateway at first.
    pub fn new(gateway_name: &str) -> Self {
        let mut agents = Self {
            slots: Slab::new(AGENTS_MAX),
            index: HashTable::new(),
            generation: 0,
            gateway: AgentIndex(NONE),
            former: Tombstones::new(),
            calling: Arc::new(Calling::new()),
        };
        let id = AgentId::of_text(gateway_name);
        if let Some(gateway) = agents.insert(id, gateway_name, Behaviour::Gateway, AgentFactory::NONE) {
            agents.gateway = gateway;
        }
        agents
    }

    /// The router's own agent for embedders without an inbox.
    #[inline(always)]
    pub fn gateway(&self) -> AgentIndex {
        self.gateway
    }

    pub fn gateway_id(&self) -> Option<AgentId> {
        self.get(self.gateway).map(|slot| slot.id)
    }

    /// Returns the agent with this id, unless it is the gateway.
    pub fn find_own(&self, id: AgentId) -> Option<AgentIndex> {
        self.find(id).filter(|index| *index != self.gateway)
    }

    /// Returns what is remembered of a removed agent.
    pub fn find_former(&self, id: AgentId) -> Option<&Tombstone> {
        self.former.find(id)
    }

    /// Remembers a removed agent.
    pub fn bury(&mut self, agent: AgentId, name: Box<str>, why: StopReason, restarts: u64) {
        self.former.remember(agent, name, why, restarts);
    }

    /// Forgets a removed agent that exists again.
    pub fn revive(&mut self, agent: AgentId) {
        self.former.forget(agent);
    }

    /// Whether the agent that accepted a message is still in its place, and accepts it.
    #[inline]
    pub fn is_still_there(&self, agent: AgentKey) -> bool {
        self.resolve(agent).is_some_and(|slot| !slot.is_leaving())
    }

    /// Returns an agent's life-cycle state.
    pub fn state_of(&self, index: AgentIndex) -> AgentState {
        self.get(index).map_or(AgentState::Stopped, |slot| AgentState::of(slot.flags))
    }

    /// Whether an agent's mailbox is not empty.
    #[inline]
    pub fn has_mail(&self, index: AgentIndex) -> bool {
        self.get(index).is_some_and(|slot| slot.mailbox.has_mail())
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Returns the agent with this id.
    #[inline]
    pub fn find(&self, id: AgentId) -> Option<AgentIndex> {
        let wanted = Indexed::new(id, 0);
        let same = |found: &Indexed| {
            found.bits == wanted.bits && self.slots.get(found.place).is_some_and(|slot| slot.id == id)
        };
        self.index.find(wanted.hash(), same).map(|found| AgentIndex(found.place))
    }

    /// Returns the agent with this id, which is probably in this place.
    #[inline]
    pub fn find_near(&self, id: AgentId, place: AgentIndex) -> Option<AgentIndex> {
        if self.lies_at(id, place) { Some(place) } else { self.find(id) }
    }

    /// Whether the agent with this id is in this place.
    #[inline(always)]
    pub fn lies_at(&self, id: AgentId, place: AgentIndex) -> bool {
        self.get(place).is_some_and(|slot| slot.id == id && !slot.is_leaving())
    }

    /// Returns an exclusive upper bound of the places of agents.
    pub fn places(&self) -> u32 {
        self.slots.places()
    }

    #[inline]
    pub fn get(&self, index: AgentIndex) -> Option<&AgentSlot> {
        self.slots.get(index.0)
    }

    #[inline]
    pub fn get_mut(&mut self, index: AgentIndex) -> Option<&mut AgentSlot> {
        self.slots.get_mut(index.0)
    }

    /// Returns the agent of this key, if it still exists.
    #[inline(always)]
    pub fn resolve(&self, key: AgentKey) -> Option<&AgentSlot> {
        self.get(key.index).filter(|slot| slot.generation == key.generation)
    }

    /// Like [`Self::resolve`], mutably.
    #[inline(always)]
    pub fn resolve_mut(&mut self, key: AgentKey) -> Option<&mut AgentSlot> {
        self.get_mut(key.index).filter(|slot| slot.generation == key.generation)
    }

    /// Returns the key of the agent in this place.
    #[inline]
    pub fn key(&self, index: AgentIndex) -> Option<AgentKey> {
        self.get(index).map(|slot| slot.key(index))
    }

    /// Returns the reservation of a message in the mailbox of the agent in this place.
    pub fn reservation(&self, index: AgentIndex, envelope: &Envelope) -> Reservation {
        self.key(index).map_or(Reservation::Nothing, |key| Reservation::in_mailbox(key, envelope))
    }

    /// Adds an agent whose id is not in the registry. Returns `None` if there are too many.
    pub fn insert(&mut self, id: AgentId, name: &str, behaviour: Behaviour, maker: AgentFactory) -> Option<AgentIndex> {
        self.generation = self.generation.wrapping_add(1);
        let name: Arc<str> = name.into();
        let slot = AgentSlot {
            id,
            name: Arc::clone(&name),
            behaviour,
            maker,
            mailbox: Mailbox::EMPTY,
            outbox: Queue::EMPTY,
            outbox_length: 0,
            generation: self.generation,
            cold: None,
            gate: BreakerGate::Closed,
            overflow: OverflowPolicy::Reject,
            queued: false,
            polled: false,
            blocked: None,
            provider: false,
            load_changed: false,
            flags: AgentFlags::ORDINARY,
            swept: false,
            first_reply: NONE,
        };
        let place = self.slots.insert(slot).ok()?;
        self.calling.enter(AgentIndex(place), name);
        let indexed = Indexed::new(id, place);
        self.index.insert_unique(indexed.hash(), indexed, |indexed| indexed.hash());
        Some(AgentIndex(place))
    }

    /// Makes the agent unknown. Its slot stays until [`Registry::remove`].
    pub fn forget(&mut self, index: AgentIndex) {
        let Some(id) = self.get(index).map(|slot| slot.id) else { return };
        if let Ok(entry) = self.index.find_entry(Indexed::new(id, 0).hash(), |found| found.place == index.0) {
            entry.remove();
        }
    }

    /// Frees the agent's slot.
    pub fn remove(&mut self, index: AgentIndex) -> Option<AgentSlot> {
        let slot = self.slots.remove(index.0)?;
        self.calling.leave(index);
        Some(slot)
    }

    /// Iterates over all agents, including those that only wait for their outbox.
    pub fn iter_with_leaving(&self) -> impl Iterator<Item = AgentIndex> {
        self.slots.iter().map(|(place, _)| AgentIndex(place))
    }

    /// Iterates over all agents that are not leaving.
    pub fn iter(&self) -> impl Iterator<Item = (AgentIndex, &AgentSlot)> {
        self.slots.iter().map(|(place, slot)| (AgentIndex(place), slot)).filter(|(_, slot)| !slot.is_leaving())
    }
}
