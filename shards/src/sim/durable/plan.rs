//! The part of a run that its seed determines in advance.

use crate::domain::NodeId;
use crate::flow_control::policy::OverflowPolicy;
use crate::journal::record::Durability;
use crate::message::IdSpace;
use crate::outcome::DeadLetterReason;
use crate::protocol::{Mode, Rulebook};
use crate::sim::Setup;
use crate::sim::dice::Dice;
use crate::trace::Watching;

/// Maximum number of shards of a run.
pub(super) const SHARDS_MAX: u16 = 4;
/// More ids than ever occur, so that nothing is forgotten.
const LARGE_WINDOW: usize = 10_000;
/// The purpose of the plan's numbers among those of a seed.
const PURPOSE: u64 = 2;
/// Long enough that nothing expires during the run.
const LONG_MS: u32 = 86_400_000;

/// The plan of a run.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools)] // Each is a kind of event that happens, or does not.
pub(super) struct Plan {
    pub seed: u64,
    /// The number of shards at the first start.
    pub shards: u16,
    /// Whether each start has its own number of shards.
    pub alternates: bool,
    /// The deduplication window per shard, in messages.
    pub window: usize,
    /// Whether mailboxes, outboxes and rings are tiny.
    pub tiny: bool,
    pub overflow: OverflowPolicy,
    /// How protocol violations are treated. There are none.
    pub mode: Mode,
    /// Attempts after the first one.
    pub retries: u8,
    /// One in this many attempts fails.
    pub fails_in: u64,
    /// Maximum number of messages that the world sends.
    pub messages: u64,
    /// Maximum number of crashes and orderly stops.
    pub crashes: u32,
    /// What the world sends, by weight.
    pub weights: [u32; Kind::ALL.len()],
    /// Whether dead letters are replayed and purged.
    pub replays: bool,
    /// Whether persistent agents are deregistered and registered again.
    pub guests: bool,
    /// Whether some messages have short lifetimes or delayed delivery.
    pub hurried: bool,
    /// Whether senders choose the ids of some messages, also equal ones, and send some of them twice.
    pub chosen_ids: bool,
}

/// What a message of the world triggers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    /// It passes through one agent of each stage.
    Chain,
    /// It is sent to several agents of the last stage.
    Several,
    /// Its receiver begins a request.
    Request,
    /// Its receiver calls for proposals.
    ContractNet,
    /// Its receiver subscribes, and cancels the subscription at the end.
    Subscribe,
    /// It is for an agent that is registered and deregistered repeatedly.
    Guest,
    /// It is for an agent outside the shards.
    Inbox,
    /// Every attempt to handle it fails.
    Poison,
    /// No agent has its receiver's name.
    Nobody,
}

impl Kind {
    pub const ALL: [Self; 9] = [
        Self::Chain,
        Self::Several,
        Self::Request,
        Self::ContractNet,
        Self::Subscribe,
        Self::Guest,
        Self::Inbox,
        Self::Poison,
        Self::Nobody,
    ];

    pub fn letter(self) -> char {
        match self {
            Self::Chain => 'c',
            Self::Several => 'm',
            Self::Request => 'r',
            Self::ContractNet => 'n',
            Self::Subscribe => 's',
            Self::Guest => 'g',
            Self::Inbox => 'i',
            Self::Poison => 'x',
            Self::Nobody => 'o',
        }
    }

    pub fn of_letter(letter: char) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.letter() == letter)
    }

    /// Whether it starts a conversation with a protocol.
    pub fn converses(self) -> bool {
        matches!(self, Self::Request | Self::ContractNet | Self::Subscribe)
    }
}

impl Plan {
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice::of(seed, PURPOSE);
        // A run does a little of everything, or mostly one thing.
        let mostly = dice.once_in(2).then(|| dice.index(Kind::ALL.len()));
        let mut weights = [6, 2, 3, 2, 2, 2, 2, 1, 1];
        if let Some(kind) = mostly {
            weights[kind] = 40;
        }
        let overflow = dice.pick(&OverflowPolicy::ALL);
        if overflow == OverflowPolicy::BackPressure {
            // Agents that converse would wait for each other in a circle until their messages expire.
            for (weight, kind) in weights.iter_mut().zip(Kind::ALL) {
                *weight = if kind.converses() { 0 } else { *weight };
            }
        }
        let small_window = dice.once_in(4);
        let (tiny, replays) = (dice.once_in(3), dice.once_in(2));
        Self {
            seed,
            shards: u16::try_from(dice.between(1, SHARDS_MAX.into())).unwrap_or(1),
            alternates: !dice.once_in(4),
            window: if small_window { dice.between(1, 40) as usize } else { LARGE_WINDOW },
            tiny,
            overflow,
            mode: dice.pick(&[Mode::Enforce, Mode::Enforce, Mode::Observe, Mode::Off]),
            retries: if replays { dice.pick(&[0, 1, 2, 9]) } else { dice.pick(&[1, 9, 9, 9]) },
            fails_in: u64::from(dice.between(3, 20)),
            messages: u64::from(dice.between(20, 80)),
            crashes: dice.between(0, 4),
            weights,
            replays,
            guests: dice.once_in(2),
            hurried: dice.once_in(3),
            chosen_ids: dice.once_in(3),
        }
    }

    /// Whether nothing that could arrive again is forgotten, so that an agent that follows a protocol never appears to
    /// violate it.
    pub fn remembers_all(&self) -> bool {
        self.window == LARGE_WINDOW
    }

    /// Returns the maximum number of attempts for a message.
    pub fn attempts_max(&self) -> u32 {
        u32::from(self.retries) + 1
    }

    pub fn setup(&self, shards: u16, boot_epoch: u64) -> Setup {
        let lanes = if self.tiny { (2, 2) } else { (4, 4) };
        Setup::new(shards).lanes(lanes.0, lanes.1).configured(|config| {
            config.durability = Durability::Journal;
            config.watching = Watching::ALL;
            config.id_space = IdSpace { node: NodeId::default(), boot_epoch, shard: 0 };
            config.durable_lifetime_ms = LONG_MS;
            config.duplicates_window = self.window;
            config.retry.retries = self.retries;
            config.conversations.timeout_ms = LONG_MS.into();
            config.protocols = Rulebook::new(self.mode, &[], &[]).expect("the library has no flaws");
            config.overflow = self.overflow;
            if self.tiny {
                config.mailbox_messages = 3.try_into().expect("a legal capacity");
                config.outbox = 8.try_into().expect("a legal outbox");
            }
        })
    }

    /// Whether a message may be dead-lettered for this reason.
    pub fn expects(&self, reason: DeadLetterReason) -> bool {
        match reason {
            DeadLetterReason::UnknownReceiver
            | DeadLetterReason::Deregistered
            | DeadLetterReason::AttemptsExhausted
            | DeadLetterReason::NotJournalled
            | DeadLetterReason::Stopped => true,
            DeadLetterReason::MailboxFull | DeadLetterReason::RepliesFull | DeadLetterReason::Displaced => self.tiny,
            DeadLetterReason::ProtocolViolation | DeadLetterReason::AmbiguousConversation => !self.remembers_all(),
            // A replayed message does not reopen a conversation that has been closed since.
            DeadLetterReason::NotInConversation => self.replays || !self.remembers_all(),
            // A message with a short lifetime may have expired.
            DeadLetterReason::Expired => self.hurried,
            _ => false,
        }
    }
}
