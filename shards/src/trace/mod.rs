//! Records of the stages of watched messages, from which traces and latencies are made outside the shard.
//!
//! Whether a message is watched is decided when it is admitted, by one comparison: a hash of its conversation's id, or
//! of its own id, against a threshold. So all messages of a conversation are watched or none is, on every shard, and
//! nothing has to travel with a message but one bit. A message that fails, expires or is slow is watched from then on.
//!
//! What a handler sends without a conversation, or in the conversation of the message that it handles, belongs to the
//! trace of that message. It is given that one's trace context, so that the trace goes on wherever the message goes.
//!
//! Invariants: watching changes nothing that a shard does; a message that is given a context weighs no more. The records
//! of a turn are bounded; those that find no room are counted.

mod ids;
mod record;
mod recorder;

pub use ids::{SpanPart, TraceIds};
pub use record::{Admitted, Cause, StageEvent, StageRecord};
pub(crate) use recorder::Recorder;
pub use recorder::{HOPS_MAX, RECORDS_PER_TURN_MAX, Watching};
