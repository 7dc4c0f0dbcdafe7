//! Numbered entries that wait for replies, bounded in number, in memory and in time.

use std::collections::VecDeque;
use std::time::Instant;

/// Maximum number of entries. The oldest one makes room for a new one.
pub(super) const EXCHANGES_MAX: usize = 16_384;
/// Maximum memory of the entries, in bytes. The oldest ones make room for a new one; one may be larger.
const EXCHANGES_BYTES_MAX: usize = 16 << 20;
/// Maximum number of settled entries, which are kept for further replies.
const SETTLED_MAX: usize = 1_024;

/// Entries with consecutive numbers, oldest first.
#[derive(Debug)]
pub(super) struct Exchanges<T> {
    /// The number of the first entry.
    first: u32,
    entries: VecDeque<Option<Entry<T>>>,
    /// The memory that they take, about.
    bytes: usize,
    /// The numbers of settled entries, in the order in which they were settled.
    settled: VecDeque<u32>,
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    bytes: usize,
    ends: Instant,
    settled: bool,
}

impl<T> Default for Exchanges<T> {
    fn default() -> Self {
        Self { first: 0, entries: VecDeque::new(), bytes: 0, settled: VecDeque::new() }
    }
}

impl<T> Exchanges<T> {
    /// Adds an entry that is kept until `ends`, and returns its number. It takes `bytes` outside itself.
    #[allow(clippy::cast_possible_truncation)] // There are few entries, and numbers begin again.
    pub fn add(&mut self, value: T, bytes: usize, now: Instant, ends: Instant) -> u32 {
        self.expire(now);
        let bytes = size_of::<Option<Entry<T>>>() + bytes;
        while self.entries.len() >= EXCHANGES_MAX
            || !self.entries.is_empty() && self.bytes + bytes > EXCHANGES_BYTES_MAX
        {
            self.remove_first();
        }
        let number = self.first.wrapping_add(self.entries.len() as u32);
        self.bytes += bytes;
        self.entries.push_back(Some(Entry { value, bytes, ends, settled: false }));
        number
    }

    fn remove_first(&mut self) {
        let removed = self.entries.pop_front().flatten();
        self.bytes -= removed.map_or(0, |entry| entry.bytes);
        self.first = self.first.wrapping_add(1);
    }

    fn place(&self, number: u32) -> usize {
        number.wrapping_sub(self.first) as usize
    }

    /// Returns an entry whose time is not over.
    pub fn get(&self, number: u32, now: Instant) -> Option<&T> {
        let entry = self.entries.get(self.place(number))?.as_ref();
        entry.filter(|entry| entry.ends > now).map(|entry| &entry.value)
    }

    /// Removes the oldest entries, as long as their time is over.
    pub fn expire(&mut self, now: Instant) {
        while self.entries.front().is_some_and(|entry| entry.as_ref().is_none_or(|entry| entry.ends <= now)) {
            self.remove_first();
        }
    }

    /// Marks that the reply has come. The entry is kept for more of them, as long as few others are settled.
    pub fn settle(&mut self, number: u32) {
        let place = self.place(number);
        let Some(Some(entry)) = self.entries.get_mut(place) else { return };
        if std::mem::replace(&mut entry.settled, true) {
            return;
        }
        self.settled.push_back(number);
        if self.settled.len() > SETTLED_MAX
            && let Some(oldest) = self.settled.pop_front()
        {
            let place = self.place(oldest);
            let removed = self.entries.get_mut(place).and_then(Option::take);
            self.bytes -= removed.map_or(0, |entry| entry.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn entries_are_found_by_number_until_they_are_too_many_or_too_old() {
        let (mut exchanges, now) = (Exchanges::default(), Instant::now());
        exchanges.first = u32::MAX - 10;
        let later = now + Duration::from_secs(1);
        let numbers: Vec<u32> = (0..100).map(|value| exchanges.add(value, 0, now, later)).collect();
        assert!(numbers.iter().zip(0..).all(|(number, value)| exchanges.get(*number, now) == Some(&value)));
        assert_eq!(exchanges.get(numbers[99], later), None, "it is too old");
        exchanges.expire(now);
        assert_eq!(exchanges.entries.len(), 100);
        exchanges.expire(later);
        assert_eq!(exchanges.entries.len(), 0, "what is too old is not kept");
        let number = exchanges.add(100, 0, later, later + Duration::from_secs(1));
        assert_eq!(exchanges.get(number, now), Some(&100));
        for value in 0..=EXCHANGES_MAX {
            exchanges.add(value, 0, now, later);
        }
        assert_eq!((exchanges.get(number, now), exchanges.entries.len()), (None, EXCHANGES_MAX));
    }

    #[test]
    fn large_entries_make_room_for_each_other() {
        let (mut exchanges, now) = (Exchanges::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        let numbers: Vec<u32> =
            (0..10).map(|value| exchanges.add(value, EXCHANGES_BYTES_MAX / 4, now, later)).collect();
        let kept = numbers.iter().filter(|number| exchanges.get(**number, now).is_some()).count();
        assert_eq!((kept, exchanges.get(numbers[9], now)), (3, Some(&9)));
        let number = exchanges.add(10, 2 * EXCHANGES_BYTES_MAX, now, later);
        assert_eq!((exchanges.get(number, now), exchanges.entries.len()), (Some(&10), 1), "one may be larger");
        exchanges.expire(later);
        assert_eq!(exchanges.bytes, 0, "nothing is left");
    }

    #[test]
    fn settled_entries_are_kept_while_they_are_few() {
        let (mut exchanges, now) = (Exchanges::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        let numbers: Vec<u32> = (0..=SETTLED_MAX).map(|value| exchanges.add(value, 0, now, later)).collect();
        for number in &numbers[..SETTLED_MAX] {
            exchanges.settle(*number);
            exchanges.settle(*number);
        }
        assert_eq!(exchanges.get(numbers[0], now), Some(&0));
        exchanges.settle(numbers[SETTLED_MAX]);
        assert_eq!((exchanges.get(numbers[0], now), exchanges.get(numbers[1], now)), (None, Some(&1)));
    }
}
