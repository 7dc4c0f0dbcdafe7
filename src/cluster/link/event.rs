//! What goes into a link and what comes out of it.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use caxton_shards::domain::AgentName;
use caxton_shards::message::{AgentId, Message};

use super::frame::NodeRun;

/// Maximum length of the reason for a refusal, in bytes. A longer one is cut.
pub const REASON_BYTES_MAX: usize = 512;

/// Refers to a durable message until it is settled. The sending side chooses it, and does not use it for two messages at
/// once.
pub type Tag = NonZeroU64;

/// How much more may be sent to an agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Credit {
    pub messages: u32,
    /// The messages' size as the link encoded them.
    pub bytes: u64,
}

/// A message to send to the other node.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The tag under which the peer settles the message. None if it is not to be settled.
    pub tag: Option<Tag>,
    /// The sender's name. None for a notice, which is in the name of the router.
    pub sender: Option<&'a AgentName>,
    /// The agent of the other node that it is for.
    pub target: AgentId,
    /// The message.
    pub message: &'a Message,
    /// How much of the message's lifetime is left. None leaves its lifetime as it is.
    pub remaining: Option<Duration>,
}

/// Refers to a message that arrived, so that the link's owner can say what became of it. It has no effect once the
/// sender's node was restarted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received {
    pub(super) boot_epoch: u64,
    pub(super) tag: Option<Tag>,
    pub(super) target: AgentId,
    pub(super) credit: Credit,
}

impl Received {
    /// Whether the message is to be settled or refused.
    pub fn is_to_be_settled(self) -> bool {
        self.tag.is_some()
    }
}

/// A message came from the other node.
#[derive(Clone, PartialEq, Debug)]
pub struct Arrival {
    /// Stands for the message.
    pub received: Received,
    /// The sender and its name. None for a notice, which is in the name of the router.
    pub sender: Option<(AgentId, Arc<AgentName>)>,
    /// The agent of this node that it is for.
    pub target: AgentId,
    /// The message, with the rest of its lifetime. Its sender is set.
    pub message: Message,
}

/// The link cannot take a message. It is unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Too much is on its way to the node. [`LinkEvent::Writable`] says when to try again.
    #[error("too much is on its way to the node")]
    Full,
    /// Too much is on its way to the target. [`LinkEvent::Room`] says when to try again.
    #[error("too much is on its way to the agent")]
    NoRoom,
    /// The message is larger than the largest frame. Trying again is of no use.
    #[error("the message takes {bytes} bytes on its way to another node, and the limit is {bytes_max}")]
    TooLarge {
        /// Its size in a frame.
        bytes: usize,
        /// The largest possible size.
        bytes_max: usize,
    },
}

/// What happened on a link.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum LinkEvent {
    /// The peer was met for the first time.
    Connected(NodeRun),
    /// The peer was started again. Everything on its way is lost.
    PeerRestarted {
        /// The peer's new run.
        peer: NodeRun,
        /// Number of volatile messages that it may not have received.
        volatile_lost: u64,
        /// Tags of messages that were not settled, in ascending order. They can be sent again.
        unsettled: Vec<Tag>,
    },
    /// A message arrived.
    Message(Arrival),
    /// The peer settled a message.
    Settled(Tag),
    /// The peer refused a message.
    Refused {
        /// The message's tag.
        tag: Tag,
        /// Why, for people.
        reason: Box<str>,
    },
    /// An agent is not on the peer's node any more.
    Gone(AgentId),
    /// An agent that had too much on its way has room again.
    Room(AgentId),
    /// A link that was full takes messages again.
    Writable,
}

/// What a link has done, and what is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinkFigures {
    /// Frames handed to the transport, repetitions included.
    pub frames_sent: u64,
    /// Frames taken from the transport, those of no use included.
    pub frames_received: u64,
    /// Messages and notices taken from the owner.
    pub messages_sent: u64,
    /// Messages and notices handed to the owner.
    pub messages_received: u64,
    /// Bytes of the frames sent.
    pub bytes_sent: u64,
    /// Bytes of the frames received.
    pub bytes_received: u64,
    /// Frames of data sent again.
    pub retransmitted: u64,
    /// Frames of data received again.
    pub duplicates: u64,
    /// Frames of data that arrived before an earlier one.
    pub out_of_order: u64,
    /// Frames of another run of this node or of the peer.
    pub stale: u64,
    /// Frames that could not be read.
    pub damaged: u64,
    /// Messages that could not be decoded and were refused.
    pub unreadable: u64,
    /// Volatile messages on their way when the peer was started again.
    pub volatile_lost: u64,
    /// How often the peer was started again.
    pub peer_restarts: u64,
    /// Frames sent and not acknowledged.
    pub frames_in_flight: usize,
    /// Bytes kept until they are acknowledged, those not sent yet included.
    pub bytes_in_flight: usize,
    /// Messages that are to be settled by the peer.
    pub unsettled: usize,
    /// Targets that have messages on their way.
    pub targets: usize,
    /// Estimated time to the peer and back.
    pub round_trip_ms: Option<u64>,
    /// Whether the peer was met, so that messages leave.
    pub is_open: bool,
    /// Whether nothing has come from the peer for a while, although it says that it is alive several times in that time.
    pub is_silent: bool,
    /// Whether a message that is to be settled would not be taken now: too much is not acknowledged or not settled.
    pub is_full: bool,
}
