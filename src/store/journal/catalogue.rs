//! The catalogue of a journal: which segments must exist, their length, and how far the journal has come.
//!
//! A journal consists of files whose names and lengths alone would suggest that it is empty if they are gone. A small
//! file beside them therefore records what must exist. It is written before a segment is used for the first time and
//! before one is given up, once a second to record how far the journal has come, and at the end. None of that delays a
//! commit.
//!
//! The file has two entries of 4 KiB, written alternately, each within one sector: a write torn by a power cut leaves
//! the other entry. So one is always intact, and the newer intact one is valid.
//!
//! | Bytes | What |
//! |---|---|
//! | 0..8 | `CAXTONC` and a zero |
//! | 8..10 | format version, 1 |
//! | 10..12 | shard |
//! | 12..14 | number of shards of the generation |
//! | 14..16 | flags: 1 everything inherited is present and was read back, 2 closed |
//! | 16..32 | identity of the data directory |
//! | 32..40 | generation |
//! | 40..48 | boot epoch |
//! | 48..56 | revision, from 1 |
//! | 56..64 | length of a segment in bytes |
//! | 64..72 | oldest segment |
//! | 72..80 | newest segment |
//! | 80..88 | the segment whose file becomes the newest one; zero if that has its own file |
//! | 88..96 | number of the oldest segment's first frame |
//! | 96..104 | LSN of the oldest segment's first record |
//! | 104..112 | number of the last frame known to be on disk |
//! | 112..120 | LSN of its last record |
//! | 120..128 | LSN of the last inherited record |
//! | 128..136 | wall time in milliseconds |
//! | 136..140 | CRC-32 (ISO-HDLC) of bytes 0..136 |

use std::io;
use std::path::{Path, PathBuf};

use caxton_shards::journal::frame::BLOCK_BYTES;
use caxton_shards::journal::record::Lsn;
use caxton_shards::message::WallTime;

use crate::store::disk::{Buffer, Disk, DiskFile, Files};
use crate::store::manifest::Identity;

/// The file's name.
pub const CATALOGUE: &str = "catalogue";
/// The format version that is written, and the only one that is read.
const FORMAT_VERSION: u16 = 1;
const MAGIC: [u8; 8] = *b"CAXTONC\0";
const CRC_AT: usize = 136;
const ENTRY_BYTES: usize = CRC_AT + 4;
const FILE_BYTES: usize = 2 * BLOCK_BYTES;
const COMPLETE: u16 = 1;
const CLOSED: u16 = 2;

/// The identity of a journal. No two journals have the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JournalId {
    /// The data directory.
    pub directory: Identity,
    /// The generation in it.
    pub generation: u64,
    /// The generation's number of shards.
    pub shards: u16,
    /// The shard.
    pub shard: u16,
    /// The boot epoch of the run that writes it.
    pub boot_epoch: u64,
}

impl JournalId {
    /// Returns the tag in every frame of the journal, which distinguishes them from others.
    pub fn tag(&self) -> u32 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.directory.0.to_le_bytes());
        hasher.update(&self.generation.to_le_bytes());
        hasher.update(&self.boot_epoch.to_le_bytes());
        let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
        u32::from_le_bytes([a, b, c, d])
    }
}

/// The contents of a catalogue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Catalogue {
    /// The identity of the journal.
    pub id: JournalId,
    /// The length of a segment in bytes. A segment with a longer record is longer.
    pub segment_bytes: u64,
    /// The oldest segment.
    pub first: u64,
    /// The newest segment.
    pub last: u64,
    /// The segment whose file becomes the newest one: as long as it has its old name, the newest one does not exist.
    pub reused: Option<u64>,
    /// The number of the oldest segment's first frame.
    pub first_frame: u64,
    /// The LSN of the oldest segment's first record.
    pub first_record: Lsn,
    /// The last frame known to be on disk.
    pub frame: u64,
    /// Its last record.
    pub committed: Lsn,
    /// The last record left by an earlier run, once all of them are on disk and were read back.
    pub inherited: Option<Lsn>,
    /// Whether nothing is written any more.
    pub closed: bool,
    /// When this was written.
    pub wall: WallTime,
}

impl Catalogue {
    /// Creates the catalogue of a journal whose first segment is being created.
    pub(super) fn new(id: JournalId, segment_bytes: u64) -> Self {
        Self {
            id,
            segment_bytes,
            first: 1,
            last: 1,
            reused: None,
            first_frame: 1,
            first_record: Lsn(1),
            frame: 0,
            committed: Lsn(0),
            inherited: None,
            closed: false,
            wall: WallTime(0),
        }
    }

    fn encode(&self, revision: u64) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        let flags = u16::from(self.inherited.is_some()) * COMPLETE + u16::from(self.closed) * CLOSED;
        bytes[..8].copy_from_slice(&MAGIC);
        let words = [FORMAT_VERSION, self.id.shard, self.id.shards, flags];
        for (place, word) in bytes[8..16].chunks_exact_mut(2).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes[16..32].copy_from_slice(&self.id.directory.0.to_le_bytes());
        let numbers = [
            self.id.generation,
            self.id.boot_epoch,
            revision,
            self.segment_bytes,
            self.first,
            self.last,
            self.reused.unwrap_or(0),
            self.first_frame,
            self.first_record.0,
            self.frame,
            self.committed.0,
            self.inherited.map_or(0, |last| last.0),
            self.wall.0,
        ];
        for (place, number) in bytes[32..CRC_AT].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let sum = checksum(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&sum);
        bytes
    }

    /// Decodes one entry, with its revision.
    fn decode(bytes: &[u8]) -> Result<(Self, u64), String> {
        let entry = bytes.get(..ENTRY_BYTES).ok_or("it is too short")?;
        if entry[..8] != MAGIC {
            return Err("it is not an entry of a catalogue".to_owned());
        }
        let word = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
        let number = |index: usize| u64::from_le_bytes(std::array::from_fn(|byte| entry[32 + 8 * index + byte]));
        if word(8) != FORMAT_VERSION {
            return Err(format!(
                "its format version is {}, and this program reads {FORMAT_VERSION}: use the program that wrote it",
                word(8)
            ));
        }
        if entry[CRC_AT..] != checksum(&entry[..CRC_AT]) {
            return Err("its checksum does not match".to_owned());
        }
        let catalogue = Self {
            id: JournalId {
                directory: Identity(u128::from_le_bytes(std::array::from_fn(|byte| entry[16 + byte]))),
                generation: number(0),
                shards: word(12),
                shard: word(10),
                boot_epoch: number(1),
            },
            segment_bytes: number(3),
            first: number(4),
            last: number(5),
            reused: Some(number(6)).filter(|number| *number > 0),
            first_frame: number(7),
            first_record: Lsn(number(8)),
            frame: number(9),
            committed: Lsn(number(10)),
            inherited: Some(Lsn(number(11))).filter(|_| word(14) & COMPLETE > 0),
            closed: word(14) & CLOSED > 0,
            wall: WallTime(number(12)),
        };
        catalogue.is_possible().map(|()| (catalogue, number(2)))
    }

    fn is_possible(&self) -> Result<(), String> {
        let possible = self.first > 0
            && self.first <= self.last
            && self.first_frame > 0
            && self.first_record.0 > 0
            && self.segment_bytes > 0
            && self.segment_bytes.is_multiple_of(BLOCK_BYTES as u64)
            && self.reused.is_none_or(|reused| reused + 1 == self.first && self.first < self.last)
            && self.id.shard < self.id.shards;
        if possible { Ok(()) } else { Err("it contains impossible values".to_owned()) }
    }

    /// Reads the catalogue of the journal in a directory.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with it: it is missing, damaged, or of another version.
    pub fn read(files: &impl Files, directory: &Path) -> Result<Self, String> {
        let path = path(directory);
        let length = files.length(&path).map_err(|error| error.to_string())?;
        if length != FILE_BYTES as u64 {
            return Err(format!("it has {length} bytes instead of {FILE_BYTES}"));
        }
        let bytes = files.read(&path, length).map_err(|error| error.to_string())?;
        let (even, odd) = bytes.split_at_checked(BLOCK_BYTES).ok_or("it became shorter while it was read")?;
        let ((even, even_revision), (odd, odd_revision)) = (Self::decode(even)?, Self::decode(odd)?);
        if even_revision % 2 != 0 || odd_revision % 2 != 1 || even_revision.abs_diff(odd_revision) != 1 {
            return Err(format!("its entries are of the revisions {even_revision} and {odd_revision}"));
        }
        if even.id != odd.id || even.segment_bytes != odd.segment_bytes {
            return Err("its entries are of two journals".to_owned());
        }
        Ok(if even_revision > odd_revision { even } else { odd })
    }
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    crc32fast::hash(bytes).to_le_bytes()
}

pub(super) fn path(directory: &Path) -> PathBuf {
    directory.join(CATALOGUE)
}

/// Writes a catalogue, one entry at a time. Never waits.
pub(super) struct Ledger<F> {
    file: F,
    /// The intended contents.
    entry: Catalogue,
    /// The revision of the last entry on disk.
    revision: u64,
    /// Numbers of changes: in total, in the last entry written, and in the entry in flight.
    changes: u64,
    durable: u64,
    /// The last change to the set of segments.
    named: u64,
    writing: Option<u64>,
    buffer: Option<Buffer>,
}

impl<F: DiskFile> Ledger<F> {
    /// Creates the file, and begins to write both entries. Its name is durable once the directory was synced.
    pub fn create<D: Disk<File = F>>(disk: &mut D, directory: &Path, entry: Catalogue) -> io::Result<Self> {
        let mut file = disk.create(&path(directory))?;
        let mut buffer = Buffer::new(FILE_BYTES);
        let bytes = buffer.resize(FILE_BYTES);
        bytes.fill(0);
        for (place, revision) in [(0, 2), (BLOCK_BYTES, 1)] {
            bytes[place..place + ENTRY_BYTES].copy_from_slice(&entry.encode(revision));
        }
        file.submit(0, buffer).map_err(|(error, _)| error)?;
        Ok(Self { file, entry, revision: 1, changes: 1, durable: 0, named: 1, writing: Some(1), buffer: None })
    }

    /// Returns the intended contents.
    pub fn entry(&self) -> &Catalogue {
        &self.entry
    }

    /// Changes the intended contents. Returns a number by which to check whether the change is [durable](Self::has).
    pub fn change(&mut self, change: impl FnOnce(&mut Catalogue)) -> u64 {
        change(&mut self.entry);
        self.changes += 1;
        self.changes
    }

    /// Like [`change`](Self::change), for a change to the set of segments.
    pub fn name(&mut self, change: impl FnOnce(&mut Catalogue)) -> u64 {
        self.named = self.change(change);
        self.named
    }

    /// Returns the last change to the set of segments.
    pub fn named(&self) -> u64 {
        self.named
    }

    /// Whether a change is on disk.
    pub fn has(&self, change: u64) -> bool {
        self.durable >= change
    }

    /// Whether something is being written, or waits to be.
    pub fn is_busy(&self) -> bool {
        self.durable < self.changes
    }

    /// Continues writing changes.
    ///
    /// # Errors
    ///
    /// An entry was not written; the previous one is still valid. The next call writes it again.
    pub fn poll(&mut self) -> io::Result<()> {
        if let Some(change) = self.writing {
            let Some((result, buffer)) = self.file.poll() else { return Ok(()) };
            self.writing = None;
            self.buffer = Some(buffer);
            result?;
            self.durable = change;
            self.revision += 1;
        }
        if self.durable < self.changes { self.begin() } else { Ok(()) }
    }

    fn begin(&mut self) -> io::Result<()> {
        let mut buffer = self.buffer.take().unwrap_or_else(|| Buffer::new(BLOCK_BYTES));
        let revision = self.revision + 1;
        let bytes = buffer.resize(BLOCK_BYTES);
        bytes.fill(0);
        bytes[..ENTRY_BYTES].copy_from_slice(&self.entry.encode(revision));
        let place = if revision.is_multiple_of(2) { 0 } else { BLOCK_BYTES as u64 };
        match self.file.submit(place, buffer) {
            Ok(()) => self.writing = Some(self.changes),
            Err((error, buffer)) => {
                self.buffer = Some(buffer);
                return Err(error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::simulated::SimulatedDisk;

    fn id() -> JournalId {
        JournalId { directory: Identity(7), generation: 3, shards: 2, shard: 1, boot_epoch: 11 }
    }

    fn until_durable(ledger: &mut Ledger<impl DiskFile>, change: u64) {
        while !ledger.has(change) {
            ledger.poll().expect("the disk has no faults");
        }
    }

    #[test]
    fn a_power_cut_leaves_the_last_durable_entry_or_the_one_that_was_being_written() {
        for seed in 0..300 {
            let mut disk = SimulatedDisk::new(seed);
            let directory = Path::new("/journal");
            let mut ledger = Ledger::create(&mut disk, directory, Catalogue::new(id(), 4096)).expect("it is made");
            until_durable(&mut ledger, 1);
            disk.submit_directory_sync(directory).expect("it begins");
            while disk.poll_directory_sync().is_none() {}
            for last in 2..=1 + seed % 7 {
                let change = ledger.change(|entry| entry.last = last);
                until_durable(&mut ledger, change);
            }
            let durable = ledger.entry().last;
            ledger.change(|entry| entry.last += 1);
            for _ in 0..seed % 4 {
                ledger.poll().expect("the disk has no faults");
            }
            let read = Catalogue::read(&disk.power_cut(seed), directory).expect("it is whole");
            assert!(read.last == durable || read.last == durable + 1, "seed {seed}: {read:?}");
        }
    }

    #[test]
    fn one_changed_bit_is_found_wherever_it_is() {
        let entry = Catalogue { last: 3, reused: Some(1), first: 2, ..Catalogue::new(id(), 8192) }.encode(5);
        assert!(Catalogue::decode(&entry).is_ok_and(|(read, revision)| read.last == 3 && revision == 5));
        for bit in 0..ENTRY_BYTES * 8 {
            let mut changed = entry;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Catalogue::decode(&changed).is_err(), "bit {bit}");
        }
    }
}
