//! The initiators of conversations that text-borne messages belong to.
//!
//! A message between native agents states its conversation's initiator. FIPA text does not, so the participant's shard
//! records it when the message arrives: keyed by (participant, conversation id, peer), bounded, and dropped when the
//! note is not used for a conversation's timeout.

use hashbrown::HashMap;

use crate::base::hashing::Seeded;
use crate::message::{AgentId, ConversationId, Correlation, Term};

/// Maximum number of cached initiators of a shard. Beyond it a reply that arrives as text begins a conversation of its
/// own.
pub const INITIATORS_CACHED_MAX: usize = 1_000_000;
/// Maximum number of cached initiators added by the messages of one agent, so that it cannot use up those of all
/// others.
pub const INITIATORS_CACHED_PER_PEER_MAX: usize = INITIATORS_CACHED_MAX / 8;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct InitiatorKey {
    pub participant: AgentId,
    pub conversation: ConversationId,
    pub peer: AgentId,
}

/// What a participant's shard knows about a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CachedInitiator {
    /// The initiator.
    pub initiator: AgentId,
    /// The `reply-with` of the peer's last message.
    pub asked: Option<Correlation>,
    /// The protocol named by the peer's last message.
    pub protocol: Option<Term>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    note: CachedInitiator,
    used_ms: u64,
}

/// The cached initiators of one shard.
#[derive(Debug)]
pub(crate) struct InitiatorCache {
    notes: HashMap<InitiatorKey, Entry, Seeded>,
    by_peer: HashMap<AgentId, usize, Seeded>,
}

impl InitiatorCache {
    pub fn new(seed: u64) -> Self {
        let seeded = Seeded::new(seed);
        Self { notes: HashMap::with_hasher(seeded), by_peer: HashMap::with_hasher(seeded) }
    }

    /// Writes an entry. Returns whether it is new, so that its timer has to be armed.
    pub fn write(&mut self, key: InitiatorKey, note: CachedInitiator, now_ms: u64) -> bool {
        if let Some(entry) = self.notes.get_mut(&key) {
            *entry = Entry { note, used_ms: now_ms };
            return false;
        }
        let of_peer = self.by_peer.get(&key.peer).copied().unwrap_or_default();
        if self.notes.len() >= INITIATORS_CACHED_MAX || of_peer >= INITIATORS_CACHED_PER_PEER_MAX {
            return false;
        }
        self.by_peer.insert(key.peer, of_peer + 1);
        self.notes.insert(key, Entry { note, used_ms: now_ms });
        true
    }

    /// Returns an entry and marks it as used.
    pub fn read(&mut self, key: &InitiatorKey, now_ms: u64) -> Option<CachedInitiator> {
        let entry = self.notes.get_mut(key)?;
        entry.used_ms = now_ms;
        Some(entry.note)
    }

    /// Whether there is an entry.
    pub fn has(&self, key: &InitiatorKey) -> bool {
        self.notes.contains_key(key)
    }

    /// Drops an entry that was not used for `timeout_ms`, or returns when to check again.
    pub fn time_out(&mut self, key: &InitiatorKey, now_ms: u64, timeout_ms: u64) -> Option<u64> {
        let ends_ms = self.notes.get(key)?.used_ms + timeout_ms;
        if now_ms < ends_ms {
            return Some(ends_ms);
        }
        self.notes.remove(key);
        if let Some(count) = self.by_peer.get_mut(&key.peer) {
            *count -= 1;
            if *count == 0 {
                self.by_peer.remove(&key.peer);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_has_a_share_and_gets_it_back() {
        let [participant, greedy, other] = ["a", "b", "c"].map(AgentId::of_text);
        let key = |peer, number: usize| {
            let conversation = ConversationId::of_text(&format!("c{:032x}", number + 1));
            InitiatorKey { participant, conversation, peer }
        };
        let note = CachedInitiator { initiator: greedy, asked: None, protocol: None };
        let mut notes = InitiatorCache::new(1);
        assert!((0..INITIATORS_CACHED_PER_PEER_MAX).all(|number| notes.write(key(greedy, number), note, 0)));
        assert!(!notes.write(key(greedy, INITIATORS_CACHED_PER_PEER_MAX), note, 0));
        assert!(notes.write(key(other, 0), note, 0), "others have theirs");
        assert_eq!(notes.time_out(&key(greedy, 7), 100, 100), None);
        assert!(notes.write(key(greedy, INITIATORS_CACHED_PER_PEER_MAX), note, 0));
    }

    #[test]
    fn a_note_is_read_until_it_was_not_used_for_the_timeout() {
        let [participant, peer] = ["a", "b"].map(AgentId::of_text);
        let key = InitiatorKey { participant, conversation: ConversationId::of_text("x"), peer };
        let note = CachedInitiator { initiator: peer, asked: None, protocol: None };
        let mut notes = InitiatorCache::new(1);
        assert!(notes.write(key, note, 0));
        assert!(!notes.write(key, note, 10), "the note is there already");
        assert_eq!(notes.read(&key, 50), Some(note));
        assert_eq!(notes.time_out(&key, 100, 100), Some(150));
        assert_eq!(notes.time_out(&key, 150, 100), None);
        assert_eq!(notes.read(&key, 150), None);
    }
}
