//! Helpers of the shard's tests besides the simulator: short constructors of messages.

use caxton_shards::api::{SendError, SendErrorKind};
use caxton_shards::domain::{CapabilityName, LifetimeMs};
use caxton_shards::message::{AgentId, Message, MessageBuilder, MessageId, Performative, WallTime};
pub use caxton_shards::sim::{Dice, Log, Script, Setup, WALL_START_MS, World};

pub fn text(message: &Message) -> String {
    message.content().as_text().unwrap().to_owned()
}

pub fn inform(from: AgentId, to: AgentId, content: &str) -> MessageBuilder {
    Message::builder(Performative::Inform).sender(from).receiver(to).content(content)
}

pub fn request(from: AgentId, to: AgentId, content: &str) -> MessageBuilder {
    Message::builder(Performative::Request).sender(from).receiver(to).content(content)
}

/// Returns the wall-clock time this many milliseconds after the beginning.
pub fn at(milliseconds: u64) -> WallTime {
    WallTime(WALL_START_MS + milliseconds)
}

pub fn lifetime(milliseconds: u32) -> LifetimeMs {
    LifetimeMs::try_new(milliseconds).unwrap()
}

pub fn capability(name: &str) -> CapabilityName {
    CapabilityName::try_new(name).unwrap()
}

#[track_caller]
#[allow(clippy::needless_pass_by_value)] // Tests write the error in the call.
pub fn assert_refused(result: Result<MessageId, SendError>, error: SendErrorKind) -> Message {
    let rejected = result.expect_err("the message should be refused");
    assert_eq!(rejected.kind(), &error);
    rejected.into_message()
}
