//! Records of the stages of watched messages, from which traces and latencies are made outside the shard.
//!
//! Whether a message is watched is decided when it is admitted, by one comparison: a hash of its conversation's id, or
//! of its own id, against a threshold. So all messages of a conversation are watched or none is, on every shard, and
//! nothing has to travel with a message but one bit. A message that fails, expires or is slow is watched from then on.
//!
//! Invariants: watching changes nothing that a shard does. The records of a turn are bounded; those that find no room
//! are counted.

mod record;
mod recorder;

pub use record::{Admitted, Cause, StageEvent, StageRecord};
pub(crate) use recorder::Recorder;
pub use recorder::{RECORDS_PER_TURN_MAX, Watching};
