//! What travels between shards: messages by value, and control data.

use std::mem::MaybeUninit;

use crate::dead_letter::DeadLetter;
use crate::mailbox::{Envelope, PackedMessage};
use crate::message::journal_ref::JournalRef;
use crate::message::{AgentId, BodyPool, PlainBody, Term};
use crate::routing::capabilities::Provider;
use crate::shard::agent::Registration;
use crate::shard::control::admin::AdminControl;
use crate::shard::control::journal::Acknowledgement;

/// A frame between shards.
#[allow(clippy::large_enum_variant)] // Freeing a message on another core would cost more than the copy.
pub enum ShardFrame {
    /// A message; it holds a credit.
    Message(PackedMessage),
    /// Control data.
    Control(Control),
}

impl ShardFrame {
    /// Copies a plain message into its slot. A separate function, so that the compiler knows that the two do not
    /// overlap and copies directly.
    #[inline(never)]
    pub(crate) fn copy_in<'slot>(plain: PlainBody<'_>, slot: &'slot mut MaybeUninit<Self>) -> &'slot mut Self {
        slot.write(Self::Message(PackedMessage::copy_of(plain)))
    }

    /// Copies a [plain](crate::message::Message::plain) message into an envelope of the receiving shard; returns `None`
    /// for anything else.
    #[inline]
    pub(crate) fn copy_out(&self, spares: &mut BodyPool) -> Option<Envelope> {
        match self {
            Self::Message(parcel) => parcel.copy_out(spares),
            Self::Control(_) => None,
        }
    }
}

/// Control data between shards.
pub enum Control {
    /// The router's own message to an agent.
    Notice(Box<Envelope>),
    /// An agent provides a capability.
    Advertise(Term, Provider),
    /// An agent no longer provides a capability.
    Withdraw(Term, AgentId),
    /// Requests [`Control::BarrierPassed`], once everything sent before has been handled.
    Barrier(u64),
    /// The barrier of this number was passed.
    BarrierPassed(u64),
    /// The number of messages waiting at a provider.
    Load(AgentId, u32),
    /// Whether a provider's circuit breaker lets messages pass.
    Available(AgentId, bool),
    /// Whether messages for an agent have to wait where they are, because its mailbox is full.
    Closed(AgentId, bool),
    /// An agent on the sending shard registers an agent on this one.
    Register(Box<Registration>, AgentId),
    /// The outcomes of durable messages that the other shard had accepted.
    #[allow(private_interfaces)] // Only shards create and read it.
    Committed(Vec<Acknowledgement>),
    /// A dead letter that this shard's journal cannot take, for the shard that accepted its durable message.
    #[allow(private_interfaces)] // Only shards create and read it.
    KeepLetter(Box<DeadLetter>, JournalRef),
    /// Reminds the shard itself of a survey that is under way.
    Survey,
    /// Inquiries and changes by an agent about others, and the responses.
    #[allow(private_interfaces)] // Only shards create and read it.
    Oversee(Box<AdminControl>),
}

const _: () = assert!(size_of::<ShardFrame>() <= 384, "what crosses fills six cache lines");
