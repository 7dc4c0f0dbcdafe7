//! The newest dead letters of a shard.
//!
//! Invariants: letters are kept in order of arrival; they are bounded by number and by bytes, and the oldest make room;
//! a letter being replayed counts against the bounds and makes no room, and returns to its place unless its message
//! reaches its receiver; a search examines a bounded number of letters and returns where to continue, so that no
//! request holds up the shard.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{DeadLetter, DeadLetterId, DeadLetterSearch};
use crate::base::index::ShardIndex;
use crate::message::WallTime;
use crate::message::delivery_meta::DeliveryFlags;

/// Maximum number of letters that one turn examines for one search.
pub const LETTERS_SEARCHED_MAX: usize = 4_096;
/// Maximum number of letters in one response of a shard, and replayed by one turn for one request.
pub const LETTERS_PER_ANSWER_MAX: usize = 256;

/// The newest dead letters of a shard. The counters in [`Account`](crate::stats::account::Account) count all of them.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    shard: ShardIndex,
    letters: BTreeMap<u64, DeadLetter>,
    /// Letters whose messages were sent again and have not reached their receivers yet.
    replaying: BTreeMap<u64, DeadLetter>,
    next: u64,
    bytes: u64,
    messages_max: usize,
    bytes_max: u64,
    dropped: u64,
    /// The number of letters replayed successfully.
    replayed: u64,
}

impl DeadLetters {
    pub fn new(shard: ShardIndex, messages_max: usize, bytes_max: u64) -> Self {
        let (letters, replaying) = (BTreeMap::new(), BTreeMap::new());
        Self { shard, letters, replaying, next: 1, bytes: 0, messages_max, bytes_max, dropped: 0, replayed: 0 }
    }

    /// Returns the id of the next letter.
    pub fn next_id(&self) -> DeadLetterId {
        self.id(self.next)
    }

    fn id(&self, number: u64) -> DeadLetterId {
        DeadLetterId { shard: self.shard, number }
    }

    /// Adds a letter, which must have the next id. Returns the numbers of the oldest ones, which were dropped to make
    /// room.
    pub fn push(&mut self, letter: DeadLetter) -> Vec<u64> {
        debug_assert_eq!(letter.id, self.next_id(), "letters are numbered in the order in which they come");
        self.next += 1;
        self.bytes += letter.weight();
        self.letters.insert(letter.id.number, letter);
        self.make_room()
    }

    fn make_room(&mut self) -> Vec<u64> {
        let mut dropped = Vec::new();
        while self.letters.len() + self.replaying.len() > self.messages_max || self.bytes > self.bytes_max {
            let Some((number, oldest)) = self.letters.pop_first() else { break };
            self.bytes -= oldest.weight();
            self.dropped += 1;
            dropped.push(number);
        }
        dropped
    }

    /// Adds a letter of an earlier run. It keeps its id, unless that now belongs to another shard or is taken: then it
    /// gets the next one. Returns its id and the numbers of the letters dropped to make room.
    pub fn take_back(&mut self, mut letter: DeadLetter) -> (DeadLetterId, Vec<u64>) {
        if letter.id.shard != self.shard || self.letters.contains_key(&letter.id.number) {
            letter.id = self.next_id();
        }
        letter.shard = self.shard;
        let id = letter.id;
        self.next = self.next.max(id.number + 1);
        self.bytes += letter.weight();
        self.letters.insert(id.number, letter);
        (id, self.make_room())
    }

    /// Removes all letters, oldest first.
    pub fn take_all(&mut self) -> Vec<DeadLetter> {
        self.bytes = 0;
        self.letters.append(&mut self.replaying);
        std::mem::take(&mut self.letters).into_values().collect()
    }

    /// Sets a letter aside while its message is sent again, and returns a copy.
    pub fn begin_replay(&mut self, id: DeadLetterId) -> Option<DeadLetter> {
        self.get(id)?;
        let letter = self.letters.remove(&id.number)?;
        let mut copy = letter.clone();
        // Copies do not keep delivery metadata.
        let text_borne = letter.message.delivery_meta().is_text_borne();
        copy.message.delivery_meta_mut().flags.set(DeliveryFlags::TEXT_BORNE, text_borne);
        self.replaying.insert(id.number, letter);
        Some(copy)
    }

    /// Drops a letter whose message has reached its receiver.
    pub fn end_replay(&mut self, id: DeadLetterId) {
        if let Some(letter) = self.replaying.remove(&id.number) {
            self.bytes -= letter.weight();
            self.replayed += 1;
        }
    }

    /// Puts back, unchanged, a letter whose message has not reached its receiver. Returns the numbers of the letters
    /// dropped because there are too many meanwhile.
    pub fn restore(&mut self, id: DeadLetterId) -> Vec<u64> {
        if let Some(letter) = self.replaying.remove(&id.number) {
            self.letters.insert(id.number, letter);
        }
        self.make_room()
    }

    /// Returns a letter, even while it is being replayed.
    pub fn kept(&self, id: DeadLetterId) -> Option<&DeadLetter> {
        self.get(id).or_else(|| self.replaying.get(&id.number).filter(|letter| letter.id == id))
    }

    /// Returns the number of letters.
    pub fn len(&self) -> usize {
        self.letters.len()
    }

    /// Returns when the oldest dead letter was given up.
    pub fn oldest(&self) -> Option<WallTime> {
        self.letters.first_key_value().map(|(_, letter)| letter.last)
    }

    /// Returns the number of letters dropped to make room for newer ones.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Returns the number of letters replayed successfully.
    pub fn replayed(&self) -> u64 {
        self.replayed
    }

    pub fn get(&self, id: DeadLetterId) -> Option<&DeadLetter> {
        self.letters.get(&id.number).filter(|letter| letter.id == id)
    }

    /// Like [`DeadLetters::get`], but also finds a letter whose message is being sent again.
    pub fn find(&self, id: DeadLetterId) -> Option<&DeadLetter> {
        self.get(id).or_else(|| self.replaying.get(&id.number).filter(|letter| letter.id == id))
    }

    /// Removes a letter.
    pub fn take(&mut self, id: DeadLetterId) -> Option<DeadLetter> {
        self.get(id)?;
        let letter = self.letters.remove(&id.number)?;
        self.bytes -= letter.weight();
        Some(letter)
    }

    /// Returns copies of the selected letters, newest first, at most `limit` and [`LETTERS_PER_ANSWER_MAX`]; and, if
    /// older letters were not examined, the one before which to continue.
    pub fn list(&self, search: &DeadLetterSearch, limit: usize) -> (Vec<DeadLetter>, Option<DeadLetterId>) {
        let range = self.range(search);
        let limit = limit.min(LETTERS_PER_ANSWER_MAX);
        let (mut found, mut looked_at, mut last) = (Vec::new(), 0, range.end);
        for (number, letter) in self.letters.range(range).rev() {
            if found.len() >= limit || looked_at >= LETTERS_SEARCHED_MAX {
                return (found, Some(self.id(last)));
            }
            looked_at += 1;
            last = *number;
            if search.filter.matches(letter) {
                found.push(letter.clone());
            }
        }
        (found, None)
    }

    /// Returns the ids of the selected letters, oldest first, at most `limit`; and, if newer letters were not examined,
    /// the one after which to continue.
    pub fn select(&self, search: &DeadLetterSearch, limit: usize) -> (Vec<DeadLetterId>, Option<DeadLetterId>) {
        let range = self.range(search);
        let (mut found, mut looked_at, mut last) = (Vec::new(), 0, range.start.saturating_sub(1));
        for (number, letter) in self.letters.range(range) {
            if found.len() >= limit || looked_at >= LETTERS_SEARCHED_MAX {
                return (found, Some(self.id(last)));
            }
            looked_at += 1;
            last = *number;
            if search.filter.matches(letter) {
                found.push(letter.id);
            }
        }
        (found, None)
    }

    /// Returns the range of numbers that a search covers.
    fn range(&self, search: &DeadLetterSearch) -> Range<u64> {
        let mut first = search.after.map_or(0, |id| id.number.saturating_add(1));
        let mut end = search.before.map_or(self.next, |id| id.number.min(self.next));
        if let Some(id) = search.filter.id {
            first = first.max(id.number);
            end = end.min(id.number.saturating_add(1));
        }
        first.min(end)..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letter::{DeadLetterFilter, DeadLetterReason};
    use crate::message::{Message, Performative};

    fn push(letters: &mut DeadLetters, content: &str) -> DeadLetterId {
        let id = letters.next_id();
        letters.push(DeadLetter {
            id,
            message: Message::builder(Performative::Inform).content(content).build().unwrap(),
            reason: DeadLetterReason::NoRoute,
            attempts: 0,
            last_error: None,
            first: WallTime(0),
            last: WallTime(0),
            shard: letters.shard,
            replays: 0,
        });
        id
    }

    fn store(messages_max: usize, bytes_max: u64) -> DeadLetters {
        DeadLetters::new(ShardIndex(3), messages_max, bytes_max)
    }

    fn contents(letters: &[DeadLetter]) -> Vec<&str> {
        letters.iter().map(|letter| letter.message.content().as_text().unwrap()).collect()
    }

    #[test]
    fn the_oldest_make_room_by_number_and_by_bytes() {
        let mut letters = store(2, 1 << 20);
        for content in ["a", "b", "c"] {
            push(&mut letters, content);
        }
        let (kept, _) = letters.list(&DeadLetterSearch::default(), 9);
        assert_eq!(contents(&kept), ["c", "b"]);
        assert_eq!((letters.len(), letters.dropped()), (2, 1));

        let mut letters = store(100, 2_000);
        push(&mut letters, &"x".repeat(5_000));
        assert_eq!((letters.len(), letters.bytes), (0, 0));
    }

    #[test]
    fn what_is_taken_out_no_longer_counts_and_its_number_is_not_used_again() {
        let mut letters = store(100, 1 << 20);
        let id = push(&mut letters, "a");
        let elsewhere = DeadLetterId { shard: ShardIndex(0), ..id };
        assert!(letters.take(elsewhere).is_none(), "another shard's number");
        assert_eq!(letters.take(id).unwrap().id, id);
        assert!(letters.take(id).is_none());
        assert_eq!((letters.len(), letters.bytes), (0, 0));
        assert_ne!(push(&mut letters, "b"), id);
    }

    #[test]
    fn a_search_looks_at_so_many_letters_and_goes_on_where_it_stopped() {
        let count = LETTERS_SEARCHED_MAX + 10;
        let mut letters = store(count, u64::MAX);
        let oldest = push(&mut letters, "needle");
        for _ in 1..count - 1 {
            push(&mut letters, "hay");
        }
        let newest = push(&mut letters, "needle");
        let mut search = DeadLetterSearch::default();
        search.filter.performative = Some(Performative::Request);
        let (found, next) = letters.list(&search, 9);
        assert_eq!((found.len(), next), (0, Some(DeadLetterId { number: 11, ..oldest })));
        search.before = next;
        assert_eq!(letters.list(&search, 9).1, None);

        let (found, next) = letters.select(&DeadLetterSearch::default(), usize::MAX);
        assert_eq!((found.len(), found[0]), (LETTERS_SEARCHED_MAX, oldest));
        let (found, next) = letters.select(&DeadLetterSearch { after: next, ..DeadLetterSearch::default() }, 99);
        assert_eq!((found.len(), found.last(), next), (10, Some(&newest), None));
    }

    #[test]
    fn a_search_between_letters_that_are_gone_or_the_wrong_way_round_finds_what_is_there() {
        let mut letters = store(2, 1 << 20);
        let ids = ["a", "b", "c"].map(|content| push(&mut letters, content));
        let find = |after, before, id: Option<DeadLetterId>| {
            let filter = id.map_or_else(DeadLetterFilter::default, DeadLetterFilter::only);
            let search = DeadLetterSearch { filter, after, before };
            contents(&letters.list(&search, 9).0).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(find(Some(ids[0]), Some(ids[2]), None), ["b"]);
        assert!(find(Some(ids[2]), Some(ids[0]), None).is_empty());
        assert_eq!(find(None, None, Some(ids[2])), ["c"]);
        assert!(find(None, None, Some(ids[0])).is_empty(), "it made room");
        assert!(find(None, Some(ids[1]), Some(ids[2])).is_empty());
    }

    #[test]
    fn a_search_without_a_limit_to_fill_says_where_the_newest_letter_ends() {
        let mut letters = store(9, 1 << 20);
        assert_eq!(letters.list(&DeadLetterSearch::default(), 0).1, None);
        push(&mut letters, "a");
        assert_eq!(letters.list(&DeadLetterSearch::default(), 0).1, Some(letters.next_id()));
    }
}
