//! Where a message stands to the journal, in the four bytes that its body has left for that.

use crate::base::index::{Lsn, ShardIndex};

/// Where a message stands to the journal: nowhere, in a record, or awaited by somebody with a waiter.
///
/// It is four bytes, because that is what a message's body has left. Of a record's sequence they keep the remainder, which is
/// enough: a journal never holds so many records that two of them have the same one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct JournalRef(u32);

impl JournalRef {
    pub const NOT: Self = Self(0);
    const TICKET: u32 = 1 << 31;
    const SHARD_SHIFT: u32 = 21;
    /// Of a waiter: the message is a dead letter's that stays until the message has come to its receiver.
    const REPLAY: u32 = 1 << 20;
    /// Of a waiter: whoever waits is a caller from outside.
    const CALLER: u32 = 1 << 19;
    pub(crate) const PLACE_MASK: u32 = Self::CALLER - 1;
    /// Of so many records in a row each has a remainder of its own.
    const RECORDS: u64 = Self::TICKET as u64 - 1;

    #[allow(clippy::cast_possible_truncation)] // A remainder of 31 bits fits.
    pub(crate) fn in_record(sequence: Lsn) -> Self {
        Self((sequence.0 % Self::RECORDS) as u32 + 1)
    }

    pub(crate) fn awaited(shard: ShardIndex, place: u32, by_caller: bool) -> Self {
        debug_assert!(place <= Self::PLACE_MASK, "there are fewer waiters");
        let caller = if by_caller { Self::CALLER } else { 0 };
        Self(Self::TICKET | (u32::from(shard.0) << Self::SHARD_SHIFT) | caller | place)
    }

    /// Whether a caller from outside waits, and no message or dead letter that could wait as well.
    pub(crate) fn is_awaited_by_caller(self) -> bool {
        self.0 & (Self::TICKET | Self::CALLER) == Self::TICKET | Self::CALLER
    }

    /// The same waiter, of a dead letter that is replayed.
    pub(crate) fn of_replay(self) -> Self {
        Self(self.0 | Self::REPLAY)
    }

    /// Whether it is the message of a dead letter which stays, unchanged, if this message does not come to its receiver.
    #[inline]
    pub fn is_replay(self) -> bool {
        self.0 & (Self::TICKET | Self::REPLAY) == Self::TICKET | Self::REPLAY
    }

    /// The same waiter, for a message that is not the whole of a dead letter.
    pub(crate) fn in_part(self) -> Self {
        if self.is_replay() { Self(self.0 & !Self::REPLAY) } else { self }
    }

    /// Whether it stands in a record.
    #[inline]
    pub fn is_in_record(self) -> bool {
        self.0 != 0 && self.0 & Self::TICKET == 0
    }

    /// Whether it stands in no record and nobody waits.
    #[inline]
    pub fn is_not(self) -> bool {
        self.0 == 0
    }

    /// The record that it stands in, which is `last` or one before it.
    pub(crate) fn record(self, last: Lsn) -> Option<Lsn> {
        let remainder = u64::from(self.0).checked_sub(1).filter(|_| self.is_in_record())?;
        let behind = (last.0 % Self::RECORDS + Self::RECORDS - remainder) % Self::RECORDS;
        last.0.checked_sub(behind).map(Lsn)
    }

    pub(crate) fn waiter(self) -> Option<Self> {
        (self.0 & Self::TICKET != 0).then_some(self)
    }

    #[allow(clippy::cast_possible_truncation)] // Ten bits remain.
    pub(crate) fn shard(self) -> ShardIndex {
        ShardIndex((self.0 >> Self::SHARD_SHIFT) as u16 & 0x3ff)
    }

    pub(crate) fn place(self) -> u32 {
        self.0 & Self::PLACE_MASK
    }
}

/// The mark on a message's body. A copy of a message has none: it was not journalled, and nobody waits for it.
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
