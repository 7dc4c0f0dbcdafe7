//! A message's reference to the journal, packed into the four bytes left in its body.

use crate::base::index::{Lsn, ShardIndex};

/// A message's reference to the journal: none, a record, or a waiter.
///
/// It takes four bytes, which is what a message's body has left. Of a record's LSN only the remainder is
/// stored, which is unambiguous because a journal never holds two records with the same remainder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct JournalRef(u32);

impl JournalRef {
    pub const NOT: Self = Self(0);
    const TICKET: u32 = 1 << 31;
    const SHARD_SHIFT: u32 = 21;
    /// Waiter flag: the message belongs to a dead letter that is kept until the message has reached its receiver.
    const REPLAY: u32 = 1 << 20;
    /// Waiter flag: a caller from outside waits.
    const CALLER: u32 = 1 << 19;
    pub(crate) const PLACE_MASK: u32 = Self::CALLER - 1;
    /// The number of consecutive records with distinct remainders.
    const RECORDS: u64 = Self::TICKET as u64 - 1;

    pub(crate) fn in_record(sequence: Lsn) -> Self {
        Self((sequence.0 % Self::RECORDS) as u32 + 1)
    }

    pub(crate) fn awaited(shard: ShardIndex, place: u32, by_caller: bool) -> Self {
        debug_assert!(place <= Self::PLACE_MASK, "there are fewer waiters");
        let caller = if by_caller { Self::CALLER } else { 0 };
        Self(Self::TICKET | (u32::from(shard.0) << Self::SHARD_SHIFT) | caller | place)
    }

    /// Whether a caller from outside waits, rather than a message or a dead letter.
    pub(crate) fn is_awaited_by_caller(self) -> bool {
        self.0 & (Self::TICKET | Self::CALLER) == Self::TICKET | Self::CALLER
    }

    /// Returns the same waiter, marked as that of a replayed dead letter.
    pub(crate) fn of_replay(self) -> Self {
        Self(self.0 | Self::REPLAY)
    }

    /// Whether this is the message of a replayed dead letter, which stays unchanged unless the message reaches its
    /// receiver.
    #[inline]
    pub fn is_replay(self) -> bool {
        self.0 & (Self::TICKET | Self::REPLAY) == Self::TICKET | Self::REPLAY
    }

    /// Returns the same waiter, for a message that is only part of a dead letter.
    pub(crate) fn in_part(self) -> Self {
        if self.is_replay() { Self(self.0 & !Self::REPLAY) } else { self }
    }

    /// Whether the message is in a record.
    #[inline]
    pub fn is_in_record(self) -> bool {
        self.0 != 0 && self.0 & Self::TICKET == 0
    }

    /// Whether the message is in no record and nobody waits.
    #[inline]
    pub fn is_not(self) -> bool {
        self.0 == 0
    }

    /// Returns the message's record, which is `last` or an earlier one.
    pub(crate) fn record(self, last: Lsn) -> Option<Lsn> {
        let remainder = u64::from(self.0).checked_sub(1).filter(|_| self.is_in_record())?;
        let behind = (last.0 % Self::RECORDS + Self::RECORDS - remainder) % Self::RECORDS;
        last.0.checked_sub(behind).map(Lsn)
    }

    pub(crate) fn waiter(self) -> Option<Self> {
        (self.0 & Self::TICKET != 0).then_some(self)
    }

    pub(crate) fn shard(self) -> ShardIndex {
        ShardIndex((self.0 >> Self::SHARD_SHIFT) as u16 & 0x3ff)
    }

    pub(crate) fn place(self) -> u32 {
        self.0 & Self::PLACE_MASK
    }
}

/// The journal reference in a message's body. A copy of a message has none: it was not journalled, and nobody waits for
/// it.
#[derive(Debug)]
pub(crate) struct JournalMark(pub JournalRef);

impl JournalMark {
    pub const NONE: Self = Self(JournalRef::NOT);
}

impl Clone for JournalMark {
    fn clone(&self) -> Self {
        Self::NONE
    }
}

impl PartialEq for JournalMark {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
