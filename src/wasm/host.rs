//! The router's side of a guest: its limits, its permissions, and the state of its current call.

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

/// Maximum number of memories, of tables and of module instances of one guest. A component of several modules has some
/// of each: a Python interpreter consists of nearly forty.
pub(super) const PARTS_MAX: usize = 64;
/// Maximum length of a key of a guest's stored state, in bytes.
pub(super) const STATE_KEY_BYTES_MAX: usize = 256;
/// The ontology of the messages sent by a guest's timers.
pub const TIMER_ONTOLOGY: &str = "caxton-timer";

/// The limits of one guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestLimits {
    /// Memory in bytes, all its memories together.
    pub memory_bytes: GuestMemoryBytes,
    /// Elements of all its tables together.
    pub table_elements: GuestTableElements,
    /// Time for one message, over all slices.
    pub call_ms: GuestCallMs,
    /// Host calls for one message.
    pub host_calls: HostCallCount,
    /// Size of a message's content in bytes.
    pub message_bytes: GuestMessageBytes,
    /// Size of its stored state in bytes.
    pub state_bytes: GuestStateBytes,
    /// Lines in its log per second.
    pub log_lines: LogRate,
}

impl GuestLimits {
    /// Returns the limits that the settings give to every guest.
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

/// The agents a guest may send to, the capabilities it may provide, and its parts of WASI. It may always send to
/// itself, and reply to messages.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Permissions {
    /// The agents it may send to. Without a list it may send to all or, if there is a list of capabilities, to none by
    /// name.
    pub send_to: Option<HashSet<AgentId>>,
    /// The capabilities it may address. Without a list all or, if there is a list of agents, none.
    pub address: Option<HashSet<CapabilityName>>,
    /// The capabilities it may provide; all if there is no list.
    pub offer: Option<HashSet<CapabilityName>>,
    /// The granted parts of WASI; none by default. Raw modules have none.
    pub wasi: Grants,
}

impl Permissions {
    /// Checks whether a guest may send this message.
    pub(super) fn allow(&self, me: AgentId, message: &Message) -> Result<(), String> {
        if self.send_to.is_none() && self.address.is_none() {
            return Ok(());
        }
        match message.receiver() {
            Receiver::Agent(agent) => {
                let listed = self.send_to.as_ref().is_some_and(|allowed| allowed.contains(agent));
                let refusal =
                    || format!("this guest may not send to {agent}: its manifest does not list it in send_to");
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
            _ => Err("this guest may only send to the agents and capabilities that its manifest lists".to_owned()),
        }
    }

    pub(super) fn allow_offer(&self, capability: &CapabilityName) -> Result<(), String> {
        match &self.offer {
            Some(allowed) if !allowed.contains(capability) => {
                Err(format!("this guest may not provide {capability}: its manifest does not list it in offer"))
            }
            _ => Ok(()),
        }
    }
}

/// A guest's stored state. It belongs to the agent and not to the instance, so that it survives a restart.
#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: BTreeMap<String, Vec<u8>>,
    bytes: u64,
    #[cfg(feature = "store")]
    lost: Option<String>,
}

#[cfg(feature = "store")]
impl Memory {
    /// Creates the state stored by an earlier run.
    pub fn holding(entries: BTreeMap<String, Vec<u8>>) -> Self {
        let bytes = entries.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum();
        Self { entries, bytes, lost: None }
    }

    /// Marks the state stored by an earlier run as unreadable. Its guest does not start.
    pub fn lost(reason: String) -> Self {
        Self { lost: Some(reason), ..Self::default() }
    }

    fn is_whole(&self) -> Result<(), String> {
        self.lost.as_ref().map_or(Ok(()), |reason| Err(format!("its stored state cannot be read: {reason}")))
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

/// A question that only the shard can answer. The guest is paused meanwhile; no time passes.
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

/// Passes a guest's questions to its agent and the answers back, and holds its clock. Guest and agent use it
/// alternately, on one thread.
#[derive(Default)]
pub(super) struct Desk {
    question: Mutex<Option<Question>>,
    answer: Mutex<Option<Answer>>,
    pub clock: Arc<Clock>,
}

impl Desk {
    /// Asks the agent, and waits for the answer.
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

/// A limit that a guest exceeded. It traps.
#[derive(Debug, thiserror::Error)]
pub(super) enum Excess {
    #[error("it ran for more than {0} ms, which is the limit for one message")]
    Time(u32),
    #[error("it made more than {0} host calls for one message")]
    HostCalls(u32),
    #[error("its result is outside its memory")]
    Pointer,
    #[error("its result has {bytes} bytes: the limit is {limit} bytes")]
    Answer { bytes: usize, limit: usize },
    #[error("it asked for {bytes} random bytes at once: the limit is {limit}")]
    RandomBytes { bytes: u64, limit: u64 },
    #[error("it waits for {pollables} things at once: the limit is {limit}")]
    Pollables { pollables: usize, limit: usize },
}

/// The data of a guest's store.
pub(super) struct Host {
    pub me: AgentId,
    pub limits: GuestLimits,
    pub permissions: Arc<Permissions>,
    pub desk: Arc<Desk>,
    pub memory: SharedMemory,
    /// Changes to the stored state, applied once the message has been handled.
    pub unsaved: BTreeMap<String, Option<Vec<u8>>>,
    /// Where the state is stored, if it is to survive the process.
    #[cfg(feature = "store")]
    pub states: Option<GuestStates>,
    pub log: LogGate,
    /// The time at the beginning of the call.
    pub now: WallTime,
    random: u64,
    /// The remaining host calls of this call.
    calls_left: u32,
    calls_max: u32,
    slices: u32,
    slices_max: u32,
    slice_epochs: u64,
    pub usage: Usage,
    pub wasi: Wasi,
    /// The only memory of a raw guest.
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

    /// Refuses to start a guest whose memory of an earlier run cannot be read.
    #[cfg(feature = "store")]
    pub fn has_its_memory(&self) -> Result<(), String> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).is_whole()
    }

    /// Resets the guest's limits for this many messages.
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

    /// Counts a host call.
    pub fn count_call(&mut self) -> wasmtime::Result<()> {
        if self.calls_left == 0 {
            return Err(Excess::HostCalls(self.calls_max).into());
        }
        self.calls_left -= 1;
        Ok(())
    }

    /// Ends a slice: the guest yields to others, or traps if its time is used up.
    pub fn slice_is_over(&mut self) -> wasmtime::Result<UpdateDeadline> {
        self.slices += 1;
        if self.slices >= self.slices_max {
            return Err(Excess::Time(self.limits.call_ms.into_inner()).into());
        }
        Ok(UpdateDeadline::Yield(self.slice_epochs))
    }

    /// Returns the remaining time for the message.
    pub fn time_left_ns(&self) -> u64 {
        u64::from(self.slices_max.saturating_sub(self.slices)).saturating_mul(self.slice_ns())
    }

    /// Subtracts waiting time from its time for the message. Less than a slice is counted by the epochs, which continue
    /// while it sleeps.
    pub fn spend(&mut self, waited_ns: u64) {
        let slices = u32::try_from(waited_ns / self.slice_ns()).unwrap_or(u32::MAX);
        self.slices = self.slices.saturating_add(slices);
    }

    fn slice_ns(&self) -> u64 {
        self.slice_epochs.max(1) * u64::from(EPOCH.subsec_nanos())
    }

    /// Returns the next number of the guest's own generator (`SplitMix64`).
    pub fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a value for `reply-with`. It only has to be unique per asking agent.
    pub fn new_correlation(&mut self) -> Correlation {
        Correlation::new(self.random().try_into().unwrap_or(std::num::NonZeroU64::MIN))
    }

    /// Returns an id for a conversation of the guest. It only has to be unique per initiator.
    pub fn new_conversation(&mut self) -> ConversationId {
        let id = (u128::from(self.random()) << 64) | u128::from(self.random() | 1);
        ConversationId::from_u128(id).unwrap_or_else(|| ConversationId::of_text("c"))
    }

    /// Returns a stored value, including the changes of this message.
    pub fn recall(&self, key: &str) -> Option<Vec<u8>> {
        match self.unsaved.get(key) {
            Some(value) => value.clone(),
            None => self.memory.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned(),
        }
    }

    /// Stores a value, or returns why it cannot.
    pub fn remember(&mut self, key: String, value: Option<Vec<u8>>) -> Result<(), String> {
        if key.len() > STATE_KEY_BYTES_MAX {
            return Err(format!("the key has {} bytes: the limit is {STATE_KEY_BYTES_MAX}", key.len()));
        }
        let limit = self.limits.state_bytes.into_inner();
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let length =
            |key: &String, value: &Option<Vec<u8>>| value.as_ref().map_or(0, |value| (key.len() + value.len()) as u64);
        let mut bytes = memory.bytes + length(&key, &value);
        // A replaced value no longer counts.
        bytes -= memory.get(&key).map_or(0, |old| (key.len() + old.len()) as u64);
        for (unsaved, value) in self.unsaved.iter().filter(|(unsaved, _)| **unsaved != key) {
            bytes += length(unsaved, value);
            bytes -= memory.get(unsaved).map_or(0, |old| (unsaved.len() + old.len()) as u64);
        }
        drop(memory);
        if bytes > limit && value.is_some() {
            return Err(format!("with it this guest's stored state would have {bytes} bytes: the limit is {limit}"));
        }
        self.unsaved.insert(key, value);
        Ok(())
    }

    /// Applies the changes of a handled message.
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

/// The memory and table sizes of an instance, and how much they may still grow.
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

#[cfg(feature = "telemetry")]
impl Drop for Usage {
    fn drop(&mut self) {
        super::figures::shrink(self.memory_bytes);
    }
}

impl ResourceLimiter for Usage {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let (before, limit) = (self.memory_bytes, self.limits.memory_bytes.into_inner());
        let grows = grow(&mut self.memory_bytes, desired.saturating_sub(current), limit);
        #[cfg(feature = "telemetry")]
        super::figures::grow(self.memory_bytes - before);
        #[cfg(not(feature = "telemetry"))]
        let _ = before;
        Ok(grows)
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

/// Adds to the used amount, if it stays within the limit.
fn grow(used: &mut usize, more: usize, limit: u64) -> bool {
    let wanted = used.saturating_add(more);
    let fits = wanted as u64 <= limit;
    if fits {
        *used = wanted;
    }
    fits
}
