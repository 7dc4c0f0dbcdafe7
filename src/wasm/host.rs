//! What stands behind a guest on the router's side: its limits, what it may do, and what it is in the middle of.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use caxton_shards::api::SendErrorKind;
use caxton_shards::domain::{
    CapabilityName, GuestCallMs, GuestMemoryBytes, GuestMessageBytes, GuestStateBytes, GuestTableElements,
    HostCallCount, LogRate,
};
use caxton_shards::message::{
    AgentId, ConversationId, Correlation, Message, MessageId, Performative, Receiver, Term, WallTime,
};
use wasmtime::{ResourceLimiter, UpdateDeadline};

use super::clock::Clock;
use super::log::LogGate;
#[cfg(feature = "store")]
use super::states::GuestStates;
use super::ticker::EPOCH;
use super::wasi::Wasi;
use crate::config::{Grants, WasmConfig};

/// How many memories, tables and module instances one guest may consist of. A component of several modules has some of each: an
/// interpreter of Python consists of nearly forty.
pub(super) const PARTS_MAX: usize = 64;
/// The longest key under which a guest has something remembered, in bytes.
pub(super) const STATE_KEY_BYTES_MAX: usize = 256;
/// The ontology of the messages that a guest's timers send.
pub const TIMER_ONTOLOGY: &str = "caxton-timer";

/// What one guest may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestLimits {
    /// Bytes of memory, all its memories together.
    pub memory_bytes: GuestMemoryBytes,
    /// Elements of all its tables together.
    pub table_elements: GuestTableElements,
    /// Time for one message, in all slices.
    pub call_ms: GuestCallMs,
    /// Calls of the router for one message.
    pub host_calls: HostCallCount,
    /// Bytes of a message's content.
    pub message_bytes: GuestMessageBytes,
    /// Bytes that are remembered for it.
    pub state_bytes: GuestStateBytes,
    /// Lines in its log per second.
    pub log_lines: LogRate,
}

impl GuestLimits {
    /// What the settings say for every guest.
    pub fn of(config: &WasmConfig) -> Self {
        Self {
            memory_bytes: config.memory_bytes,
            table_elements: config.table_elements,
            call_ms: config.call_ms,
            host_calls: config.host_calls,
            message_bytes: config.message_bytes,
            state_bytes: config.state_bytes,
            log_lines: config.log_lines,
        }
    }
}

/// Whom a guest may write to, what it may offer, and what it has of WASI. It may always write to itself, and answer whoever writes to it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Permissions {
    /// The agents it may write to. Without a list it may write to everyone or, where there is a list of capabilities, to
    /// nobody by name.
    pub send_to: Option<HashSet<AgentId>>,
    /// The capabilities it may address. Without a list every one or, where there is a list of agents, none.
    pub address: Option<HashSet<CapabilityName>>,
    /// The capabilities it may offer; every one if there is no list.
    pub offer: Option<HashSet<CapabilityName>>,
    /// What of WASI it is granted; nothing if it is not said. Raw modules have none of it.
    pub wasi: Grants,
}

impl Permissions {
    /// Whether a guest may send this message.
    pub(super) fn allow(&self, me: AgentId, message: &Message) -> Result<(), String> {
        if self.send_to.is_none() && self.address.is_none() {
            return Ok(());
        }
        match message.receiver() {
            Receiver::Agent(agent) => {
                let listed = self.send_to.as_ref().is_some_and(|allowed| allowed.contains(agent));
                let refusal =
                    || format!("this guest may not write to {agent}: its manifest does not list it in send_to");
                if listed || *agent == me { Ok(()) } else { Err(refusal()) }
            }
            Receiver::Capability(term, _) => {
                let is_it = |capability: &CapabilityName| Term::find(capability.as_ref()) == Some(*term);
                let listed = self.address.as_ref().is_some_and(|allowed| allowed.iter().any(is_it));
                let refusal = || {
                    let capability = term.as_str();
                    format!("this guest may not address {capability}: its manifest does not list it in address")
                };
                if listed { Ok(()) } else { Err(refusal()) }
            }
            // Guests have no other receivers.
            _ => Err("this guest may only write to the agents and capabilities that its manifest lists".to_owned()),
        }
    }

    pub(super) fn allow_offer(&self, capability: &CapabilityName) -> Result<(), String> {
        match &self.offer {
            Some(allowed) if !allowed.contains(capability) => {
                Err(format!("this guest may not offer {capability}: its manifest does not list it in offer"))
            }
            _ => Ok(()),
        }
    }
}

/// What is remembered for a guest. It belongs to the agent and not to the instance, so that it outlives a restart.
#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: BTreeMap<String, Vec<u8>>,
    bytes: u64,
    #[cfg(feature = "store")]
    lost: Option<String>,
}

#[cfg(feature = "store")]
impl Memory {
    /// What was remembered in an earlier run.
    pub fn holding(entries: BTreeMap<String, Vec<u8>>) -> Self {
        let bytes = entries.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum();
        Self { entries, bytes, lost: None }
    }

    /// What was remembered in an earlier run can't be read. Its guest does not start.
    pub fn lost(reason: String) -> Self {
        Self { lost: Some(reason), ..Self::default() }
    }

    fn is_whole(&self) -> Result<(), String> {
        self.lost.as_ref().map_or(Ok(()), |reason| Err(format!("what it had remembered can't be read: {reason}")))
    }
}

impl Memory {
    pub fn get(&self, key: &str) -> Option<&Vec<u8>> {
        self.entries.get(key)
    }

    fn set(&mut self, key: String, value: Option<Vec<u8>>) {
        let size = |key: &str, value: &Vec<u8>| (key.len() + value.len()) as u64;
        if let Some(before) = self.entries.remove(&key) {
            self.bytes -= size(&key, &before);
        }
        if let Some(value) = value {
            self.bytes += size(&key, &value);
            self.entries.insert(key, value);
        }
    }
}

pub(super) type SharedMemory = Arc<Mutex<Memory>>;

/// What only the shard can answer. The guest stands still meanwhile; no time passes.
pub(super) enum Question {
    Send(Box<Message>),
    Reply(Performative, Vec<u8>),
    Discover(CapabilityName),
    Offer(CapabilityName),
    Withdraw(CapabilityName),
}

pub(super) enum Answer {
    Sent(Result<MessageId, SendErrorKind>),
    Found(Vec<AgentId>),
    Done(Result<(), SendErrorKind>),
}

/// Where a guest's questions lie until its agent answers them, and its time. Guest and agent use it in turns, on one thread.
#[derive(Default)]
pub(super) struct Desk {
    question: Mutex<Option<Question>>,
    answer: Mutex<Option<Answer>>,
    pub clock: Arc<Clock>,
}

impl Desk {
    /// Asks the agent, and waits until it has answered.
    pub async fn ask(self: Arc<Self>, question: Question) -> Answer {
        *self.question.lock().unwrap_or_else(PoisonError::into_inner) = Some(question);
        std::future::poll_fn(move |_| match self.answer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(answer) => std::task::Poll::Ready(answer),
            None => std::task::Poll::Pending,
        })
        .await
    }

    pub fn question(&self) -> Option<Question> {
        self.question.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }
}

/// A limit that a guest went over. It traps.
#[derive(Debug, thiserror::Error)]
pub(super) enum Excess {
    #[error("it ran for more than {0} ms, which is all that it may for one message")]
    Time(u32),
    #[error("it called the router more than {0} times over one message")]
    HostCalls(u32),
    #[error("its answer lies outside its memory")]
    Pointer,
    #[error("its answer has {bytes} bytes: allowed are {limit} bytes")]
    Answer { bytes: usize, limit: usize },
    #[error("it asked for {bytes} random bytes at once: allowed are {limit}")]
    RandomBytes { bytes: u64, limit: u64 },
    #[error("it waits for {pollables} things at once: allowed are {limit}")]
    Pollables { pollables: usize, limit: usize },
}

/// The data of a guest's store.
pub(super) struct Host {
    pub me: AgentId,
    pub limits: GuestLimits,
    pub permissions: Arc<Permissions>,
    pub desk: Arc<Desk>,
    pub memory: SharedMemory,
    /// What is to be remembered once the message has been handled.
    pub unsaved: BTreeMap<String, Option<Vec<u8>>>,
    /// Where it is written down, if it is to outlive the process.
    #[cfg(feature = "store")]
    pub states: Option<GuestStates>,
    pub log: LogGate,
    /// The time at the beginning of the call.
    pub now: WallTime,
    random: u64,
    /// Host calls that are left for this call.
    calls_left: u32,
    calls_max: u32,
    slices: u32,
    slices_max: u32,
    slice_epochs: u64,
    pub usage: Usage,
    pub wasi: Wasi,
    /// The one memory of a raw guest.
    pub raw_memory: Option<wasmtime::Memory>,
}

impl Host {
    pub fn new(
        me: AgentId,
        limits: GuestLimits,
        permissions: Arc<Permissions>,
        memory: SharedMemory,
        log: LogGate,
        slice_ms: u32,
    ) -> Self {
        let desk = Arc::<Desk>::default();
        Self {
            me,
            limits,
            permissions,
            wasi: Wasi::new(me, &log, &desk.clock),
            desk,
            memory,
            unsaved: BTreeMap::new(),
            #[cfg(feature = "store")]
            states: None,
            log,
            now: WallTime(0),
            random: 0,
            calls_left: 0,
            calls_max: 0,
            slices: 0,
            slices_max: limits.call_ms.into_inner().div_ceil(slice_ms).max(1),
            slice_epochs: u64::from(slice_ms),
            usage: Usage::new(limits),
            raw_memory: None,
        }
    }

    /// Has what the guest remembers written down there.
    #[cfg(feature = "store")]
    pub fn remembering(mut self, states: Option<GuestStates>) -> Self {
        self.states = states;
        self
    }

    /// Refuses to start a guest whose memory of an earlier run can't be read.
    #[cfg(feature = "store")]
    pub fn has_its_memory(&self) -> Result<(), String> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).is_whole()
    }

    /// Gives the guest what it may use for so many messages.
    pub fn begin(&mut self, now: WallTime, messages: u32) {
        self.now = now;
        self.calls_max = self.limits.host_calls.into_inner().saturating_mul(messages);
        self.calls_left = self.calls_max;
        self.slices = 0;
    }

    pub fn seed(&mut self, seed: u64) {
        self.random = seed;
    }

    pub fn slice_epochs(&self) -> u64 {
        self.slice_epochs
    }

    /// Counts a call of the router.
    pub fn count_call(&mut self) -> wasmtime::Result<()> {
        if self.calls_left == 0 {
            return Err(Excess::HostCalls(self.calls_max).into());
        }
        self.calls_left -= 1;
        Ok(())
    }

    /// The end of a slice: the guest is to let others have their turn, unless it has had its time.
    pub fn slice_is_over(&mut self) -> wasmtime::Result<UpdateDeadline> {
        self.slices += 1;
        if self.slices >= self.slices_max {
            return Err(Excess::Time(self.limits.call_ms.into_inner()).into());
        }
        Ok(UpdateDeadline::Yield(self.slice_epochs))
    }

    /// What is left of its time for the message.
    pub fn time_left_ns(&self) -> u64 {
        u64::from(self.slices_max.saturating_sub(self.slices)).saturating_mul(self.slice_ns())
    }

    /// Takes time that it waited from its time for the message. What is less than a slice is counted by its epochs, which go on
    /// while it sleeps.
    pub fn spend(&mut self, waited_ns: u64) {
        let slices = u32::try_from(waited_ns / self.slice_ns()).unwrap_or(u32::MAX);
        self.slices = self.slices.saturating_add(slices);
    }

    fn slice_ns(&self) -> u64 {
        self.slice_epochs.max(1) * u64::from(EPOCH.subsec_nanos())
    }

    /// The next number of the guest's own generator (`SplitMix64`).
    pub fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A value for `reply-with`. It need be unique for one asker only.
    pub fn new_correlation(&mut self) -> Correlation {
        Correlation::new(self.random().try_into().unwrap_or(std::num::NonZeroU64::MIN))
    }

    /// An id for a conversation of the guest's, which need be unique for one initiator only.
    pub fn new_conversation(&mut self) -> ConversationId {
        let id = (u128::from(self.random()) << 64) | u128::from(self.random() | 1);
        ConversationId::from_u128(id).unwrap_or_else(|| ConversationId::of_text("c"))
    }

    /// What is remembered, with what this message has changed.
    pub fn recall(&self, key: &str) -> Option<Vec<u8>> {
        match self.unsaved.get(key) {
            Some(value) => value.clone(),
            None => self.memory.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned(),
        }
    }

    /// Has something remembered, or says why not.
    pub fn remember(&mut self, key: String, value: Option<Vec<u8>>) -> Result<(), String> {
        if key.len() > STATE_KEY_BYTES_MAX {
            return Err(format!("the key has {} bytes: allowed are {STATE_KEY_BYTES_MAX}", key.len()));
        }
        let limit = self.limits.state_bytes.into_inner();
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let length =
            |key: &String, value: &Option<Vec<u8>>| value.as_ref().map_or(0, |value| (key.len() + value.len()) as u64);
        let mut bytes = memory.bytes + length(&key, &value);
        // What is replaced counts no more.
        bytes -= memory.get(&key).map_or(0, |old| (key.len() + old.len()) as u64);
        for (unsaved, value) in self.unsaved.iter().filter(|(unsaved, _)| **unsaved != key) {
            bytes += length(unsaved, value);
            bytes -= memory.get(unsaved).map_or(0, |old| (unsaved.len() + old.len()) as u64);
        }
        drop(memory);
        if bytes > limit && value.is_some() {
            return Err(format!("with it {bytes} bytes would be remembered for this guest: allowed are {limit}"));
        }
        self.unsaved.insert(key, value);
        Ok(())
    }

    /// The message was handled: what it changed is remembered.
    pub fn save(&mut self) {
        if self.unsaved.is_empty() {
            return;
        }
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in std::mem::take(&mut self.unsaved) {
            memory.set(key, value);
        }
    }
}

/// What an instance has of memory and tables, and how much more it may have.
pub(super) struct Usage {
    limits: GuestLimits,
    memory_bytes: usize,
    table_elements: usize,
}

impl Usage {
    pub fn new(limits: GuestLimits) -> Self {
        Self { limits, memory_bytes: 0, table_elements: 0 }
    }
}

impl ResourceLimiter for Usage {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(grow(&mut self.memory_bytes, desired.saturating_sub(current), self.limits.memory_bytes.into_inner()))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let limit = u64::from(self.limits.table_elements.into_inner());
        Ok(grow(&mut self.table_elements, desired.saturating_sub(current), limit))
    }

    fn instances(&self) -> usize {
        PARTS_MAX
    }

    fn tables(&self) -> usize {
        PARTS_MAX
    }

    fn memories(&self) -> usize {
        PARTS_MAX
    }
}

/// Adds to what is used, if that stays within the limit.
fn grow(used: &mut usize, more: usize, limit: u64) -> bool {
    let wanted = used.saturating_add(more);
    let fits = wanted as u64 <= limit;
    if fits {
        *used = wanted;
    }
    fits
}
