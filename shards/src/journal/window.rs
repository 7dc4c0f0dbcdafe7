//! The deduplication window: the most recent durable messages, so that a repeated one is not dispatched again.
//!
//! Invariants: a message is identified by its id, receiver and sender together, compared in full, so no choice of ids
//! can make another sender's message look like a duplicate. At least the newest `most` messages are known, and fewer
//! than twice as many, besides those of an earlier run, which are dropped once `most` others have arrived.

use hashbrown::hash_table::Entry;
use hashbrown::{HashSet, HashTable};

use crate::base::hashing::Seeded;
use crate::base::index::ShardIndex;
use crate::journal::record::{HandledMessage, Origin};
use crate::message::{AgentId, MessageId};
use crate::routing::partition::Partition;

/// The most recent messages.
///
/// There are two generations. When the young one has `most` messages it becomes the old one, whose entries are dropped
/// all at once: finding the oldest message for every new one cost 60 ns per message, because it is no longer in the
/// cache.
#[derive(Debug)]
pub(crate) struct DedupWindow {
    young: Generation,
    old: Generation,
    /// Messages of earlier runs: what all shards of that run remembered of the agents that live here now.
    inherited: HashTable<DedupKey>,
    /// The same from records that do not name the sender: an id from any sender matches.
    unsigned: HashSet<(MessageId, AgentId), Seeded>,
    /// Seeded, so that ids chosen outside cannot be made to collide.
    hasher: Seeded,
    most: usize,
}

/// The identity of a message in the window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DedupKey {
    pub id: MessageId,
    pub receiver: AgentId,
    /// None for messages sent from outside without a sender.
    pub sender: Option<AgentId>,
}

impl DedupKey {
    #[inline]
    fn hash(&self, hasher: Seeded) -> u64 {
        let (id, sender) = (self.id.to_u128(), self.sender.map_or(0, AgentId::table_bits));
        #[allow(clippy::cast_possible_truncation)] // It is one half.
        hasher.hash_words(id as u64, (id >> 64) as u64, self.receiver.table_bits() ^ sender.rotate_left(32))
    }
}

impl DedupWindow {
    pub fn new(most: usize, seed: u64) -> Self {
        Self {
            young: Generation::default(),
            old: Generation::default(),
            inherited: HashTable::new(),
            unsigned: HashSet::with_hasher(Seeded::new(seed)),
            hasher: Seeded::new(seed),
            most,
        }
    }

    /// Records a message. Returns whether it is new.
    pub fn note(&mut self, arrival: DedupKey) -> bool {
        if self.most == 0 {
            return true;
        }
        let hash = arrival.hash(self.hasher);
        if self.old.has(hash, arrival) || self.has_restored(hash, arrival) {
            return false;
        }
        if !self.young.insert(hash, arrival, self.hasher) {
            return false;
        }
        if self.young.is_full(self.most) {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
            self.inherited = HashTable::new();
            self.unsigned = HashSet::with_hasher(self.hasher);
        }
        true
    }

    /// Whether a message is in the window.
    pub fn has(&self, arrival: DedupKey) -> bool {
        let hash = arrival.hash(self.hasher);
        self.old.has(hash, arrival) || self.young.has(hash, arrival) || self.has_restored(hash, arrival)
    }

    #[inline]
    fn has_restored(&self, hash: u64, arrival: DedupKey) -> bool {
        (!self.inherited.is_empty() || !self.unsigned.is_empty()) && self.is_restored(hash, arrival)
    }

    #[cold]
    fn is_restored(&self, hash: u64, arrival: DedupKey) -> bool {
        self.inherited.find(hash, |other| *other == arrival).is_some()
            || self.unsigned.contains(&(arrival.id, arrival.receiver))
    }

    /// Removes a message that was just recorded and could not be kept: its sender may retry.
    #[cold]
    pub fn forget(&mut self, arrival: DedupKey) {
        let hash = arrival.hash(self.hasher);
        self.young.remove(hash, arrival);
        self.old.remove(hash, arrival);
    }

    /// Records a message of an earlier run.
    #[cold]
    pub fn restore(&mut self, handled: &HandledMessage) {
        let HandledMessage { id, receiver, sender } = *handled;
        let sender = match sender {
            _ if self.most == 0 => return,
            Origin::Unknown => {
                self.unsigned.insert((id, receiver));
                return;
            }
            Origin::Outside => None,
            Origin::Agent(agent) => Some(agent),
        };
        let arrival = DedupKey { id, receiver, sender };
        let hash = arrival.hash(self.hasher);
        if self.inherited.find(hash, |other| *other == arrival).is_none() {
            let hasher = self.hasher;
            self.inherited.insert_unique(hash, arrival, |other| other.hash(hasher));
        }
    }
}

/// Messages in the order of their arrival, with an index.
///
/// The index holds places instead of the keys themselves, which are 48 bytes each: it stays in the cache, and a key is
/// read only when its hash is found.
#[derive(Debug, Default)]
struct Generation {
    keys: Vec<DedupKey>,
    index: HashTable<u32>,
}

impl Generation {
    /// Whether it has `most` keys, or as many places were used by keys that were removed.
    #[inline]
    fn is_full(&self, most: usize) -> bool {
        self.index.len() >= most || self.keys.len() >= 2 * most
    }

    #[inline]
    fn has(&self, hash: u64, key: DedupKey) -> bool {
        self.index.find(hash, |place| self.keys[*place as usize] == key).is_some()
    }

    /// Adds a key. Returns whether it is new.
    #[inline]
    fn insert(&mut self, hash: u64, key: DedupKey, hasher: Seeded) -> bool {
        let Self { keys, index } = self;
        let Ok(next) = u32::try_from(keys.len()) else { return true };
        let same = |place: &u32| keys[*place as usize] == key;
        match index.entry(hash, same, |place| keys[*place as usize].hash(hasher)) {
            Entry::Occupied(_) => return false,
            Entry::Vacant(place) => place.insert(next),
        };
        keys.push(key);
        true
    }

    /// Removes a key. Its place stays in use unless it is the last one, as it is for a key that was just added.
    fn remove(&mut self, hash: u64, key: DedupKey) {
        let Self { keys, index } = self;
        if let Ok(entry) = index.find_entry(hash, |place| keys[*place as usize] == key) {
            let (place, _) = entry.remove();
            if place as usize + 1 == keys.len() {
                keys.pop();
            }
        }
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.index.clear();
    }
}

/// The agents in whose names shards send messages from outside without a sender. They depend on the number of shards,
/// and all of them mean the same sender: the embedder.
#[derive(Debug)]
pub(crate) struct Gateways {
    partition: Partition,
    /// By shard, once one of its agents has sent something.
    known: Vec<Option<AgentId>>,
}

impl Gateways {
    pub fn new(partition: Partition) -> Self {
        Self { partition, known: vec![None; usize::from(partition.shard_count())] }
    }

    /// Returns the sender as the window records it: none for a gateway.
    #[inline]
    pub fn sender(&mut self, sender: Option<AgentId>) -> Option<AgentId> {
        let agent = sender?;
        let shard = self.partition.shard_of(agent);
        let gateway = self.of(shard);
        (gateway != agent).then_some(agent)
    }

    /// The gateway of a shard.
    #[inline]
    pub fn of(&mut self, shard: ShardIndex) -> AgentId {
        match self.known.get(shard.as_usize()) {
            Some(Some(gateway)) => *gateway,
            _ => self.learn(shard),
        }
    }

    #[cold]
    fn learn(&mut self, shard: ShardIndex) -> AgentId {
        let gateway = AgentId::of_text(&self.partition.gateway_name(shard));
        if let Some(known) = self.known.get_mut(shard.as_usize()) {
            *known = Some(gateway);
        }
        gateway
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ShardCount;

    fn arrival(number: usize, receiver: &str, sender: &str) -> DedupKey {
        DedupKey {
            id: MessageId::from_u128(number as u128).expect("it is not zero"),
            receiver: AgentId::of_text(receiver),
            sender: Some(AgentId::of_text(sender)),
        }
    }

    #[test]
    fn a_window_remembers_at_least_so_many_messages_and_fewer_than_twice_as_many() {
        const MOST: usize = 100;
        let mut window = DedupWindow::new(MOST, 7);
        for number in 1..=1_000 {
            assert!(window.note(arrival(number, "one", "x")), "{number} is new");
            assert!(!window.note(arrival(number, "one", "x")), "{number} is known");
            assert!(window.note(arrival(number, "two", "x")), "{number} is new to another one");
            // Each number stands for two messages.
            if let Some(kept) = number.checked_sub(MOST / 2 - 1).filter(|kept| *kept > 0) {
                assert!(!window.note(arrival(kept, "one", "x")), "{kept} is known when {number} has come");
            }
            assert!(window.young.index.len() + window.old.index.len() < 2 * MOST);
        }
        assert!(window.note(arrival(1_000 - MOST, "one", "x")), "what is long gone is forgotten");
        let mut none = DedupWindow::new(0, 7);
        assert!(none.note(arrival(1, "one", "x")) && none.note(arrival(1, "one", "x")), "nothing is remembered");
    }

    #[test]
    fn what_was_inherited_is_known_until_as_many_others_have_come() {
        const MOST: usize = 10;
        let mut window = DedupWindow::new(MOST, 7);
        let handled = |number, sender| HandledMessage {
            id: arrival(number, "", "").id,
            receiver: AgentId::of_text("one"),
            sender,
        };
        // Several shards of the earlier run may have remembered this many each.
        for number in 1..=5 * MOST {
            window.restore(&handled(number, Origin::Agent(AgentId::of_text("x"))));
        }
        window.restore(&handled(1_000, Origin::Unknown));
        assert!((1..=5 * MOST).all(|number| !window.note(arrival(number, "one", "x"))));
        assert!(window.note(arrival(1, "one", "y")), "another sender's message of the same id");
        assert!(!window.note(arrival(1_000, "one", "y")), "nobody wrote down who had sent it");
        for number in 0..MOST {
            window.note(arrival(2_000 + number, "one", "x"));
        }
        assert!(window.note(arrival(1, "one", "x")));
    }

    #[test]
    fn a_message_that_was_not_kept_may_come_again() {
        let mut window = DedupWindow::new(2, 7);
        for number in 1..5 {
            assert!(window.note(arrival(number, "one", "x")));
            window.forget(arrival(number, "one", "x"));
            assert!(window.note(arrival(number, "one", "x")));
        }
    }

    #[test]
    fn places_of_removed_messages_are_bounded() {
        const MOST: usize = 10;
        let mut window = DedupWindow::new(MOST, 7);
        for number in (1..10_000).step_by(2) {
            window.note(arrival(number, "one", "x"));
            window.note(arrival(number + 1, "one", "x"));
            window.forget(arrival(number, "one", "x"));
            assert!(window.young.keys.len() < 2 * MOST && window.old.keys.len() <= 2 * MOST);
        }
        assert!(!window.note(arrival(9_998, "one", "x")) && window.note(arrival(9_997, "one", "x")));
    }

    #[test]
    fn gateways_stand_for_the_outside_whatever_the_number_of_shards() {
        for shards in [1, 2, 3, 7] {
            let partition = Partition::new(ShardCount::try_new(shards).expect("a legal number"));
            let mut gateways = Gateways::new(partition);
            for shard in 0..shards {
                let gateway = AgentId::of_text(&partition.gateway_name(ShardIndex(shard)));
                assert_eq!(gateways.sender(Some(gateway)), None);
            }
            let agent = AgentId::of_text("somebody");
            assert_eq!((gateways.sender(Some(agent)), gateways.sender(None)), (Some(agent), None));
        }
    }
}
