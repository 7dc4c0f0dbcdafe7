//! The code table of one direction of a connection (SC00069): repeated text is replaced by a number.
//!
//! Both ends keep a table and update it alike, message by message: every word, string and byte-length-encoded string
//! spelled out in a message with the header FB gets the smallest free code (SC00069, section 2.3), and every use of a
//! code makes it the most recently used one. When no code is free, the least recently used eighth of the table is
//! evicted. The ends cannot detect that their tables differ, so a table that may be out of step is not read from.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Maximum size of the text in one table, in bytes, so that a peer cannot fill memory with 2^16 long strings.
pub const CODE_TABLE_BYTES_MAX: usize = 4 << 20;

/// The number of entries of a code table: 2^8 to 2^16. Both ends agree on it before the first message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CodeTableSize(u8);

impl CodeTableSize {
    /// 256 entries, with codes of one byte.
    pub const SMALLEST: Self = Self(8);
    /// 65,536 entries.
    pub const LARGEST: Self = Self(16);

    /// Returns the size of 2^`bits` entries if `bits` is 8 to 16.
    pub fn of_bits(bits: u8) -> Option<Self> {
        (Self::SMALLEST.0..=Self::LARGEST.0).contains(&bits).then_some(Self(bits))
    }

    /// Returns the number of entries.
    pub fn entries(self) -> usize {
        1 << self.0
    }

    /// Returns the length of a code in a message, in bytes.
    pub(super) fn code_bytes(self) -> usize {
        if self == Self::SMALLEST { 1 } else { 2 }
    }
}

/// The kind of an entry in the message that brought it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum EntryKind {
    Word,
    /// A string, without its terminator.
    String,
    /// A byte-length-encoded string.
    Bytes,
}

/// An entry of a table.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Entry {
    pub kind: EntryKind,
    pub bytes: Box<[u8]>,
}

/// Marks the end of a list of places.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Place {
    entry: Option<Entry>,
    /// The entry used next before this one.
    older: u32,
    /// The entry used next after this one.
    newer: u32,
}

/// The entries, their codes, and the order of their use.
#[derive(Debug)]
pub(super) struct CodeTable {
    size: CodeTableSize,
    places: Vec<Place>,
    /// Freed codes, smallest on top.
    free: BinaryHeap<Reverse<u16>>,
    oldest: u32,
    newest: u32,
    bytes: usize,
}

impl CodeTable {
    pub fn new(size: CodeTableSize) -> Self {
        Self { size, places: Vec::new(), free: BinaryHeap::new(), oldest: NONE, newest: NONE, bytes: 0 }
    }

    pub fn size(&self) -> CodeTableSize {
        self.size
    }

    /// Returns the total size of the entries' text, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the entry with this code and makes it the most recently used one.
    pub fn get(&mut self, code: u16) -> Option<&Entry> {
        self.places.get(usize::from(code))?.entry.as_ref()?;
        self.touch(code);
        self.places.get(usize::from(code))?.entry.as_ref()
    }

    /// Makes an entry the most recently used one.
    pub fn touch(&mut self, code: u16) {
        if self.newest != u32::from(code) {
            self.unlink(code);
            self.link(code);
        }
    }

    /// Inserts an entry, and returns its code and the evicted entries.
    pub fn insert(&mut self, entry: Entry) -> (u16, Vec<Entry>) {
        let mut gone = Vec::new();
        if self.free.is_empty() && self.places.len() == self.size.entries() {
            for _ in 0..self.size.entries() >> 3 {
                gone.extend(self.evict());
            }
        }
        self.bytes += entry.bytes.len();
        let code = if let Some(Reverse(code)) = self.free.pop() {
            self.places[usize::from(code)].entry = Some(entry);
            code
        } else {
            self.places.push(Place { entry: Some(entry), older: NONE, newer: NONE });
            // There are at most 65,536 places.
            u16::try_from(self.places.len() - 1).unwrap_or(u16::MAX)
        };
        self.link(code);
        debug_assert!(self.places.len() <= self.size.entries());
        (code, gone)
    }

    fn evict(&mut self) -> Option<Entry> {
        let code = u16::try_from(self.oldest).ok()?;
        self.unlink(code);
        self.free.push(Reverse(code));
        let entry = self.places[usize::from(code)].entry.take()?;
        self.bytes -= entry.bytes.len();
        Some(entry)
    }

    fn link(&mut self, code: u16) {
        let (code, older) = (u32::from(code), self.newest);
        self.places[code as usize].older = older;
        self.places[code as usize].newer = NONE;
        match self.places.get_mut(older as usize) {
            Some(place) => place.newer = code,
            None => self.oldest = code,
        }
        self.newest = code;
    }

    fn unlink(&mut self, code: u16) {
        let Place { older, newer, .. } = self.places[usize::from(code)];
        match self.places.get_mut(older as usize) {
            Some(place) => place.newer = newer,
            None => self.oldest = newer,
        }
        match self.places.get_mut(newer as usize) {
            Some(place) => place.older = older,
            None => self.newest = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(number: usize) -> Entry {
        Entry { kind: EntryKind::Word, bytes: number.to_string().into_bytes().into() }
    }

    #[test]
    fn sizes_are_powers_from_8_to_16() {
        assert_eq!(CodeTableSize::of_bits(7), None);
        assert_eq!(CodeTableSize::of_bits(17), None);
        assert_eq!(CodeTableSize::of_bits(8).map(CodeTableSize::entries), Some(256));
        assert_eq!(CodeTableSize::of_bits(16), Some(CodeTableSize::LARGEST));
        assert_eq!(CodeTableSize::LARGEST.entries(), 65_536);
    }

    #[test]
    fn a_full_table_gives_back_the_eighth_that_was_used_least_recently() {
        let mut table = CodeTable::new(CodeTableSize::SMALLEST);
        for number in 0..256 {
            assert_eq!(table.insert(word(number)), (u16::try_from(number).unwrap(), Vec::new()));
        }
        // Codes 0 and 2 are used again, so that 1, 3, 4, ... are the oldest.
        for code in [0, 2] {
            assert_eq!(table.get(code), Some(&word(usize::from(code))));
        }
        let (code, gone) = table.insert(word(256));
        let expected: Vec<Entry> = std::iter::once(1).chain(3..34).map(word).collect();
        assert_eq!(gone, expected);
        assert_eq!(gone.len(), 256 >> 3);
        assert_eq!(code, 1, "the first code that was given back");
        assert_eq!(table.insert(word(257)), (3, Vec::new()));
        assert_eq!(table.get(1), Some(&word(256)));
        assert_eq!(table.get(33), None, "it was given back and not used again");
        assert_eq!(table.get(0), Some(&word(0)));
        let held: usize = table.places.iter().flat_map(|place| &place.entry).map(|entry| entry.bytes.len()).sum();
        assert_eq!(table.bytes(), held);
    }

    #[test]
    fn the_largest_table_uses_every_code() {
        let mut table = CodeTable::new(CodeTableSize::LARGEST);
        for number in 0..65_536 {
            table.insert(word(number));
        }
        assert_eq!(table.get(u16::MAX), Some(&word(65_535)));
        let (code, gone) = table.insert(word(65_536));
        assert_eq!((code, gone.len()), (0, 8_192));
    }
}
