//! What travels between shards: messages by value, and what the shards have to tell each other.

use std::mem::MaybeUninit;

use crate::dead_letter::DeadLetter;
use crate::mailbox::{Envelope, PackedMessage};
use crate::message::journal_ref::JournalRef;
use crate::message::{AgentId, BodyPool, PlainBody, Term};
use crate::routing::capabilities::Provider;
use crate::shard::agent::Registration;
use crate::shard::control::admin::AdminControl;
use crate::shard::control::journal::Acknowledgement;

/// What travels between shards. Messages go by value, because an allocation that another core frees costs more than
/// the copy; notices are rare.
#[allow(clippy::large_enum_variant)]
pub enum ShardFrame {
    /// A message; it holds a credit.
    Message(PackedMessage),
    /// Something that the shards have to tell each other.
    Control(Control),
}

impl ShardFrame {
    /// Writes a plain message to where it crosses. A function of its own, so that the compiler knows that the two are different
    /// places, and copies straight from one to the other.
    #[inline(never)]
    pub(crate) fn copy_in<'slot>(plain: PlainBody<'_>, slot: &'slot mut MaybeUninit<Self>) -> &'slot mut Self {
        slot.write(Self::Message(PackedMessage::copy_of(plain)))
    }

    /// A [plain](crate::message::Message::plain) message in an envelope of the receiving shard; nothing for all else.
    #[inline]
    pub(crate) fn copy_out(&self, spares: &mut BodyPool) -> Option<Envelope> {
        match self {
            Self::Message(parcel) => parcel.copy_out(spares),
            Self::Control(_) => None,
        }
    }
}

/// What shards tell each other, beside messages.
pub enum Control {
    /// The router's own message to an agent.
    Notice(Box<Envelope>),
    /// An agent offers a capability.
    Advertise(Term, Provider),
    /// An agent no longer offers a capability.
    Withdraw(Term, AgentId),
    /// Answer with [`Control::BarrierPassed`]: then everything sent before has been seen.
    Barrier(u64),
    /// The barrier of this number was passed.
    BarrierPassed(u64),
    /// So many messages wait at a provider.
    Load(AgentId, u32),
    /// Whether a provider's circuit breaker lets messages through.
    Available(AgentId, bool),
    /// Whether messages for an agent are to wait where they are, because its mailbox is full.
    Closed(AgentId, bool),
    /// An agent on the sending shard registers an agent on this one.
    Register(Box<Registration>, AgentId),
    /// What became of durable messages that the other shard had accepted.
    #[allow(private_interfaces)] // Nobody outside makes a notice or takes one apart.
    Committed(Vec<Acknowledgement>),
    /// A durable message that the other shard accepted was given up, and nothing can be written down here.
    #[allow(private_interfaces)]
    KeepLetter(Box<DeadLetter>, JournalRef),
    /// What one agent wants to know or change of others, and the answers.
    #[allow(private_interfaces)] // Nobody outside makes a notice or takes one apart.
    Oversee(Box<AdminControl>),
}

const _: () = assert!(size_of::<ShardFrame>() <= 384, "what crosses fills six cache lines");
