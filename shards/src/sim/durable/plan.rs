//! What a run is like, as far as its seed decides that beforehand.

use crate::domain::NodeId;
use crate::journal::record::Durability;
use crate::message::IdSpace;
use crate::outcome::DeadLetterReason;
use crate::protocol::{Mode, Rulebook};
use crate::shard::path::overflow::OverflowPolicy;
use crate::sim::Setup;
use crate::sim::dice::Dice;

/// The most shards of a run.
pub(super) const SHARDS_MAX: u16 = 4;
/// More ids than there ever are, so that nothing is forgotten.
const LARGE_WINDOW: usize = 10_000;
/// The purpose of the plan's numbers among those of a seed.
const PURPOSE: u64 = 2;
/// Long enough that nothing ends while the run goes on.
const LONG_MS: u32 = 86_400_000;

/// What a run is like.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools)] // Each is a kind of thing that happens, or does not.
pub(super) struct Plan {
    pub seed: u64,
    /// The number of shards of the first start.
    pub shards: u16,
    /// Whether each start has a number of shards of its own.
    pub alternates: bool,
    /// Of so many messages per shard the ids are remembered.
    pub window: usize,
    /// Mailboxes, outboxes and rings are tiny.
    pub tiny: bool,
    pub overflow: OverflowPolicy,
    /// What is done about agents that break a protocol. They do not.
    pub mode: Mode,
    /// Attempts after the first one.
    pub retries: u8,
    /// One attempt in so many fails.
    pub fails_in: u64,
    /// The most messages that the world sends.
    pub messages: u64,
    /// The most crashes and clean stops.
    pub crashes: u32,
    /// What the world sends, by its weight.
    pub weights: [u32; Kind::ALL.len()],
    /// Dead letters are replayed and purged.
    pub replays: bool,
    /// Agents that outlive the process are deregistered and registered again.
    pub guests: bool,
    /// Some messages have short lifetimes, or are to be delivered later.
    pub hurried: bool,
    /// Senders choose the ids of some messages, the same ones as others, and send some of them twice.
    pub chosen_ids: bool,
}

/// What a message of the world sets off.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    /// It goes through one agent of each stage.
    Chain,
    /// It goes to several agents of the last stage.
    Several,
    /// Its receiver begins a request.
    Request,
    /// Its receiver calls for proposals.
    ContractNet,
    /// Its receiver subscribes, and cancels that in the end.
    Subscribe,
    /// It is for an agent that comes and goes.
    Guest,
    /// It is for an agent outside the shards.
    Inbox,
    /// Every attempt to handle it fails.
    Poison,
    /// Nobody has its receiver's name.
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

    /// Whether agents converse over it by a protocol.
    pub fn converses(self) -> bool {
        matches!(self, Self::Request | Self::ContractNet | Self::Subscribe)
    }
}

impl Plan {
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice::of(seed, PURPOSE);
        // A run that does a little of everything, or mostly one thing.
        let mostly = dice.once_in(2).then(|| dice.index(Kind::ALL.len()));
        let mut weights = [6, 2, 3, 2, 2, 2, 2, 1, 1];
        if let Some(kind) = mostly {
            weights[kind] = 40;
        }
        let overflow = dice.pick(&OverflowPolicy::ALL);
        if overflow == OverflowPolicy::BackPressure {
            // Agents that talk to each other would wait for each other in a circle until their messages expire.
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

    /// Whether nothing is forgotten that could come again, so that whoever keeps to a protocol is never seen to break it.
    pub fn remembers_all(&self) -> bool {
        self.window == LARGE_WINDOW
    }

    /// How often a message is tried.
    pub fn attempts_max(&self) -> u32 {
        u32::from(self.retries) + 1
    }

    pub fn setup(&self, shards: u16, boot_epoch: u64) -> Setup {
        let lanes = if self.tiny { (2, 2) } else { (4, 4) };
        Setup::new(shards).lanes(lanes.0, lanes.1).configured(|config| {
            config.durability = Durability::Journal;
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

    /// Whether a message may be given up for this reason, so that it is kept as a dead letter.
    pub fn expects(&self, reason: DeadLetterReason) -> bool {
        match reason {
            DeadLetterReason::UnknownReceiver
            | DeadLetterReason::Deregistered
            | DeadLetterReason::AttemptsExhausted
            | DeadLetterReason::NotJournalled
            | DeadLetterReason::Stopped => true,
            DeadLetterReason::MailboxFull | DeadLetterReason::RepliesFull | DeadLetterReason::Displaced => self.tiny,
            DeadLetterReason::ProtocolViolation | DeadLetterReason::AmbiguousConversation => !self.remembers_all(),
            // What is replayed does not begin a conversation anew that has been closed meanwhile.
            DeadLetterReason::NotInConversation => self.replays || !self.remembers_all(),
            // What has a short lifetime may be found to have expired.
            DeadLetterReason::Expired => self.hurried,
            _ => false,
        }
    }
}
