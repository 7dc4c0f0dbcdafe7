//! Which messages are watched, and the records of a turn.

use std::cell::Cell;

use crate::message::{Message, TraceContext};
use crate::trace::ids::TraceIds;
use crate::trace::record::{Cause, StageRecord};

/// Maximum number of records of one turn. Beyond it they are dropped and counted.
pub const RECORDS_PER_TURN_MAX: usize = 8_192;

/// How often a trace is handed on from a message to one that is sent in its handler, without a conversation. Agents that
/// write to themselves without end would otherwise be watched for good once one of their messages is.
pub const HOPS_MAX: u8 = 16;

/// Which messages a shard watches. By default none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Watching {
    /// The part of all conversations, and of messages without one, that is watched, in 2^32nds: at most 2^32, for all.
    pub threshold: u64,
    /// The part of the traces begun and sampled elsewhere that is watched, in 2^32nds: at most 2^32, for all. A hash of
    /// the trace's id decides.
    pub followed_threshold: u64,
    /// Makes that hash, and the ids of traces, differ from router to router, so that no peer can choose ids that are
    /// always watched.
    pub salt: u64,
    /// Whether messages that fail, expire or are slow are watched from then on.
    pub keeps: bool,
    /// The age from which a message is slow when its handler gets it, in milliseconds.
    pub slow_ms: u64,
    /// Maximum number of messages per second that are kept because they fail, expire or are slow. Beyond it they are
    /// counted.
    pub kept_per_second_max: u32,
}

impl Watching {
    /// Watches every message.
    pub const ALL: Self = Self {
        threshold: 1 << 32,
        followed_threshold: 1 << 32,
        salt: 0,
        keeps: true,
        slow_ms: 1_000,
        kept_per_second_max: u32::MAX,
    };
}

/// The records of a shard, and which messages are watched.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    watching: Watching,
    /// A message whose lifetime ends no later than this may be slow or expired: the present, and what
    /// [`Self::begin_turn`] adds to it.
    due_ms: u64,
    /// Whether a message that is being admitted may concern this recorder: some are watched, or one that belongs to a
    /// trace is being handled.
    is_open: bool,
    /// The message whose handler is being called, if it is watched or has a trace context.
    handling: Option<Handling>,
    records: Vec<StageRecord>,
    lost: u64,
    /// Messages that were not kept because there were too many.
    unkept: u64,
    /// Messages of traces sampled elsewhere that were not watched because there were too many. A message that is being
    /// chosen is counted, which changes nothing else.
    unfollowed: Cell<u64>,
    kept_since_ms: u64,
    kept: u32,
}

/// A message whose handler is being called.
#[derive(Clone, Copy, Debug)]
struct Handling {
    message: Cause,
    is_watched: bool,
    /// How often its trace was handed on before.
    hops: u8,
}

impl Recorder {
    pub fn watch(&mut self, watching: Watching) {
        self.watching = watching;
        self.is_open = self.watching.threshold != 0 || self.handling.is_some();
    }

    pub fn watching(&self) -> Watching {
        self.watching
    }

    /// Begins a turn at this time. `lifetime_ms` is that of a message that names none.
    #[inline]
    pub fn begin_turn(&mut self, now_ms: u64, lifetime_ms: u64) {
        let margin_ms = if self.watching.keeps { lifetime_ms.saturating_sub(self.watching.slow_ms) } else { 0 };
        self.due_ms = now_ms + margin_ms;
    }

    /// Returns the end of lifetime up to which a message may be slow or expired.
    #[inline(always)]
    pub fn due_ms(&self) -> u64 {
        self.due_ms
    }

    /// Whether a message that is being admitted may have to be watched, or to be given a trace. It must have its id.
    #[inline(always)]
    pub fn concerns(&self, message: &Message) -> bool {
        self.is_open && (self.hits(message) || self.handling.is_some() || message.is_in_trace())
    }

    #[inline(always)]
    fn hits(&self, message: &Message) -> bool {
        let (low, high) = match (message.conversation(), message.id()) {
            (Some(conversation), _) => conversation.words(),
            (None, Some(id)) => id.words(),
            (None, None) => return false,
        };
        let hash = (low ^ high.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        hash < self.watching.threshold
    }

    /// Whether a message that is being admitted is to be watched.
    pub fn chooses(&self, message: &Message) -> bool {
        let is_sampled = |context: &TraceContext| context.is_valid() && context.flags & 1 == 1;
        self.watching.threshold != 0
            && (self.hits(message)
                || message.trace_hops() <= HOPS_MAX
                    && message.trace().filter(is_sampled).is_some_and(|context| self.follows(context)))
    }

    /// Hands the trace of the message that is being handled on to one that is sent in its handler, unless that one
    /// belongs to another conversation or was given another trace.
    pub fn hand_on(&self, message: &mut Message) {
        let Some(Handling { message: handled, is_watched, hops }) = self.handling else { return };
        let hops = match message.conversation() {
            Some(conversation) if handled.conversation == Some(conversation) => 0,
            // Another conversation is another trace.
            Some(_) => return,
            None => (hops + 1).min(HOPS_MAX + 1),
        };
        match (message.trace().filter(TraceContext::is_valid), handled.context) {
            // A reply has it already.
            (Some(own), Some(context)) if own.trace_id == context.trace_id => message.give_trace(own, hops),
            (Some(_), _) => {}
            _ if hops > HOPS_MAX => {}
            // Its ids follow from the conversation.
            (None, None) if message.conversation().is_some() => {}
            _ if is_watched => message.give_trace(self.ids().of_handler(handled, message.sender()), hops),
            (None, Some(context)) => message.give_trace(context, hops),
            (None, None) => {}
        }
    }

    fn ids(&self) -> TraceIds {
        TraceIds::new(self.watching.salt)
    }

    /// Gives a watched message that leaves the shard its own trace context, which its reader passes on.
    pub fn send_on(&self, message: &mut Message) {
        if let Some(context) = self.ids().of_message(message) {
            message.give_trace(context, 0);
        }
    }

    /// Whether a trace that was sampled before is watched here: the same for all its messages, on every shard.
    #[allow(clippy::cast_possible_truncation)] // Both halves are used.
    fn follows(&self, context: TraceContext) -> bool {
        let id = u128::from_be_bytes(context.trace_id) ^ u128::from(self.watching.salt);
        let (high, low) = ((id >> 64) as u64, id as u64);
        let mixed = (low ^ high.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = (mixed ^ (mixed >> 32)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32;
        let follows = hash < self.watching.followed_threshold;
        if !follows {
            self.unfollowed.set(self.unfollowed.get() + 1);
        }
        follows
    }

    /// Whether one more message may be kept because it fails, expires or is slow.
    pub fn may_keep(&mut self, now_ms: u64) -> bool {
        if !self.watching.keeps {
            return false;
        }
        if now_ms >= self.kept_since_ms + 1_000 {
            (self.kept_since_ms, self.kept) = (now_ms, 0);
        }
        if self.kept >= self.watching.kept_per_second_max {
            self.unkept += 1;
            return false;
        }
        self.kept += 1;
        true
    }

    /// Notes that the handler of a message is called that is watched or has a trace context.
    pub fn begin_handling(&mut self, message: &Message) {
        let handling = Cause::of(message);
        self.handling = handling.map(|cause| Handling {
            message: cause,
            is_watched: message.is_watched(),
            hops: message.trace_hops(),
        });
        self.is_open = self.watching.threshold != 0 || self.handling.is_some();
    }

    /// Notes that no such handler is being called any more.
    pub fn end_handling(&mut self) {
        self.handling = None;
        self.is_open = self.watching.threshold != 0;
    }

    /// Returns the watched message whose handler is being called.
    pub fn cause(&self) -> Option<Cause> {
        self.handling.filter(|handling| handling.is_watched).map(|handling| handling.message)
    }

    pub fn record(&mut self, record: StageRecord) {
        if self.records.len() < RECORDS_PER_TURN_MAX {
            self.records.push(record);
        } else {
            self.lost += 1;
        }
    }

    /// Returns the records, to be taken.
    pub fn records_mut(&mut self) -> &mut Vec<StageRecord> {
        &mut self.records
    }

    /// Returns the number of records that were dropped.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Returns the number of messages that were not kept because there were too many.
    pub fn unkept(&self) -> u64 {
        self.unkept
    }

    /// Returns the number of messages of traces sampled elsewhere that were not watched because there were too many.
    pub fn unfollowed(&self) -> u64 {
        self.unfollowed.get()
    }
}
