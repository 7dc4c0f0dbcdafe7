//! Who began the conversations that text-borne messages belong to.
//!
//! A message between native agents says who began its conversation. FIPA text does not, so the shard of a participant
//! notes it when the message arrives: keyed (participant, conversation id, peer), bounded, and dropped when the note
//! was not used for a conversation's timeout.

use foldhash::quality::FixedState;
use hashbrown::HashMap;

use crate::message::{AgentId, ConversationId};

/// The most notes of one shard. Beyond it a reply that came as text begins a conversation of its own.
pub const NOTES_MAX: usize = 1_000_000;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct NoteKey {
    pub participant: AgentId,
    pub conversation: ConversationId,
    pub peer: AgentId,
}

#[derive(Clone, Copy, Debug)]
struct Note {
    initiator: AgentId,
    used_ms: u64,
}

/// The notes of one shard.
#[derive(Debug)]
pub(crate) struct Notes {
    notes: HashMap<NoteKey, Note, FixedState>,
}

impl Notes {
    pub fn new() -> Self {
        Self { notes: HashMap::with_hasher(FixedState::default()) }
    }

    /// Notes an initiator. Answers whether the note is new, so that its timer has to be armed.
    pub fn write(&mut self, key: NoteKey, initiator: AgentId, now_ms: u64) -> bool {
        if self.notes.len() >= NOTES_MAX && !self.notes.contains_key(&key) {
            return false;
        }
        self.notes.insert(key, Note { initiator, used_ms: now_ms }).is_none()
    }

    /// The initiator that was noted.
    pub fn read(&mut self, key: &NoteKey, now_ms: u64) -> Option<AgentId> {
        let note = self.notes.get_mut(key)?;
        note.used_ms = now_ms;
        Some(note.initiator)
    }

    /// Drops a note that was not used for `timeout_ms`, or answers when to look again.
    pub fn time_out(&mut self, key: &NoteKey, now_ms: u64, timeout_ms: u64) -> Option<u64> {
        let ends_ms = self.notes.get(key)?.used_ms + timeout_ms;
        if now_ms < ends_ms {
            return Some(ends_ms);
        }
        self.notes.remove(key);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_until_it_was_not_used_for_the_timeout() {
        let [participant, peer] = ["a", "b"].map(AgentId::of_text);
        let key = NoteKey { participant, conversation: ConversationId::of_text("x"), peer };
        let mut notes = Notes::new();
        assert!(notes.write(key, peer, 0));
        assert!(!notes.write(key, peer, 10), "the note is there already");
        assert_eq!(notes.read(&key, 50), Some(peer));
        assert_eq!(notes.time_out(&key, 100, 100), Some(150));
        assert_eq!(notes.time_out(&key, 150, 100), None);
        assert_eq!(notes.read(&key, 150), None);
    }
}
