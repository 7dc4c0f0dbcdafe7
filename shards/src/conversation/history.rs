//! A conversation's history: its newest messages.

use crate::message::{MessageId, Performative};

/// One message of a conversation's history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct HistoryEntry {
    /// The message.
    pub message: MessageId,
    /// When it passed, in milliseconds of monotonic time.
    pub at_ms: u64,
    /// Its performative.
    pub performative: Performative,
    /// The sender, as an index into [`ConversationView::participants`](super::ConversationView::participants).
    pub from: u16,
    /// The receiver, as an index into the participants.
    pub to: u16,
    /// Whether it replied to a message whose reply was awaited.
    pub answers: bool,
}

/// The newest messages of a conversation: a ring that overwrites the oldest entry.
#[derive(Debug, Default)]
pub(super) struct History {
    entries: Vec<Remembered>,
    oldest: u32,
}

/// The stored form of a history entry: 32 bytes, because every message of a conversation writes one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remembered {
    message: MessageId,
    /// Milliseconds since the conversation was opened; saturates after 49 days.
    after_ms: u32,
    performative: Performative,
    from: u16,
    /// The receiver and, in the highest bit, whether the message is a reply.
    to: u16,
}

const ANSWERS: u16 = 1 << 15;
const _: () = assert!(crate::domain::MaxParticipants::MAXIMUM < ANSWERS, "a participant's number leaves a bit free");
const _: () = assert!(size_of::<Remembered>() == 32, "two entries fill a cache line");

impl Remembered {
    #[inline(always)]
    pub fn new(
        message: MessageId,
        after_ms: u32,
        performative: Performative,
        (from, to): (u16, u16),
        answers: bool,
    ) -> Self {
        let to = if answers { to | ANSWERS } else { to };
        Self { message, after_ms, performative, from, to }
    }
}

impl History {
    #[inline(always)]
    pub fn push(&mut self, entry: Remembered, entries_max: usize) {
        if self.entries.len() < entries_max {
            self.entries.push(entry);
        } else if let Some(oldest) = self.entries.get_mut(self.oldest as usize) {
            *oldest = entry;
            self.oldest += 1;
            if self.oldest as usize == entries_max {
                self.oldest = 0;
            }
        }
    }

    /// Returns the number of entries that fit without an allocation.
    pub fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.oldest = 0;
    }

    pub fn oldest_first(&self, opened_ms: u64) -> Vec<HistoryEntry> {
        let (newer, older) = self.entries.split_at(self.oldest as usize);
        let entries = older.iter().chain(newer);
        entries
            .map(|entry| HistoryEntry {
                message: entry.message,
                at_ms: opened_ms + u64::from(entry.after_ms),
                performative: entry.performative,
                from: entry.from,
                to: entry.to & !ANSWERS,
                answers: entry.to & ANSWERS != 0,
            })
            .collect()
    }
}
