//! The same layer with a writer that takes notes, for tests of power cuts: what stands on the disk when the power goes is made
//! from the notes, by dice.

use std::collections::HashMap;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::queue::Stretch;
use super::writer::{Fault, Writer, write_plainly};
use super::{VfsError, register_as};

/// What a disk writes as a whole, in bytes.
const SECTOR_BYTES: usize = 512;

/// Which of a database's two files.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FileKind {
    /// The database itself.
    Database,
    /// Its write-ahead log.
    Log,
}

#[derive(Clone, Debug)]
enum Note {
    Wrote(FileKind, u64, Vec<u8>),
    Truncated(FileKind, u64),
    Synced(FileKind),
    /// Whoever writes through the layer has come so far.
    Reached(u64),
}

/// What goes wrong from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// Syncs are reported as done, and are not.
    pub forgets_syncs: bool,
    /// The next sync fails.
    pub sync_fails: bool,
    /// There is no room for the next write.
    pub no_space: bool,
}

#[derive(Debug, Default)]
struct Notes {
    open: HashMap<RawFd, FileKind>,
    taken: Vec<Note>,
    faults: Faults,
}

/// The notes on one database that is written through a layer of its own.
#[derive(Clone, Debug, Default)]
pub struct Recording(Arc<Mutex<Notes>>);

/// A database's files as they may stand after the power was cut; a file that never was synced may be missing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Image {
    /// The bytes of each file.
    pub files: HashMap<FileKind, Vec<u8>>,
    /// How far the writer had come.
    pub reached: u64,
}

impl Recording {
    /// Makes a layer of this name known to SQLite.
    ///
    /// # Errors
    /// SQLite refuses.
    pub fn register(name: &str) -> Result<Self, VfsError> {
        let recording = Self::default();
        register_as(name, Box::new(recording.clone()))?;
        Ok(recording)
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything, for another database.
    pub fn clear(&self) {
        *self.notes() = Notes::default();
    }

    /// What goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.notes().faults = faults;
    }

    /// Notes how far the test has come.
    pub fn reach(&self, number: u64) {
        self.notes().taken.push(Note::Reached(number));
    }

    /// How many notes there are.
    pub fn len(&self) -> usize {
        self.notes().taken.len()
    }

    /// Whether nothing happened yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The files if the power was cut behind so many notes. Whatever was not synced is there or not, sector by sector.
    pub fn cut(&self, after: usize, mut is_there: impl FnMut() -> bool) -> Image {
        let notes = self.notes();
        let happened = notes.taken.iter().take(after);
        // The bytes that are on disk, and whether the file's name is.
        let mut files: HashMap<FileKind, (Vec<u8>, bool)> = HashMap::new();
        let mut unsynced: Vec<&Note> = Vec::new();
        let mut reached = 0;
        for note in happened {
            match note {
                Note::Reached(number) => reached = *number,
                Note::Synced(kind) => {
                    let (bytes, named) = files.entry(*kind).or_default();
                    *named = true;
                    unsynced.retain(|note| !apply(note, *kind, bytes, &mut || true));
                }
                Note::Wrote(..) | Note::Truncated(..) => unsynced.push(note),
            }
        }
        for kind in [FileKind::Database, FileKind::Log] {
            let known = files.contains_key(&kind);
            let (bytes, named) = files.entry(kind).or_default();
            *named |= known || is_there();
            for note in &unsynced {
                apply(note, kind, bytes, &mut is_there);
            }
        }
        let files = files.into_iter().filter(|(_, (_, named))| *named).map(|(kind, (bytes, _))| (kind, bytes));
        Image { files: files.collect(), reached }
    }
}

/// Does to a file what a note says, as far as the dice have it. Returns whether the note is about this file.
fn apply(note: &Note, of: FileKind, bytes: &mut Vec<u8>, is_there: &mut impl FnMut() -> bool) -> bool {
    match note {
        Note::Wrote(kind, offset, written) if *kind == of => {
            let offset = usize::try_from(*offset).unwrap_or(usize::MAX);
            for (place, sector) in written.chunks(SECTOR_BYTES).enumerate() {
                if is_there() {
                    let from = offset + place * SECTOR_BYTES;
                    if bytes.len() < from + sector.len() {
                        bytes.resize(from + sector.len(), 0);
                    }
                    bytes[from..from + sector.len()].copy_from_slice(sector);
                }
            }
            true
        }
        Note::Truncated(kind, length) if *kind == of => {
            if is_there() {
                bytes.resize(usize::try_from(*length).unwrap_or(usize::MAX), 0);
            }
            true
        }
        _ => false,
    }
}

impl Writer for Recording {
    fn write(&self, file: RawFd, stretches: Vec<Stretch>, sync: bool) -> Result<(), Fault> {
        let mut notes = self.notes();
        if notes.faults.no_space && !stretches.is_empty() {
            notes.faults.no_space = false;
            return Err(Fault::Write(io::ErrorKind::StorageFull.into()));
        }
        write_plainly(file, &stretches).map_err(Fault::Write)?;
        let Some(kind) = notes.open.get(&file).copied() else { return Ok(()) };
        notes.taken.extend(stretches.into_iter().map(|stretch| Note::Wrote(kind, stretch.offset, stretch.bytes)));
        if sync && notes.faults.sync_fails {
            return Err(Fault::Sync(io::ErrorKind::Other.into()));
        }
        if sync && !notes.faults.forgets_syncs {
            notes.taken.push(Note::Synced(kind));
        }
        Ok(())
    }

    fn opened(&self, file: RawFd, wal: bool) {
        let kind = if wal { FileKind::Log } else { FileKind::Database };
        self.notes().open.insert(file, kind);
    }

    fn synced(&self, file: RawFd) {
        let mut notes = self.notes();
        if let Some(kind) = notes.open.get(&file).copied().filter(|_| !notes.faults.forgets_syncs) {
            notes.taken.push(Note::Synced(kind));
        }
    }

    fn truncated(&self, file: RawFd, length: u64) {
        let mut notes = self.notes();
        if let Some(kind) = notes.open.get(&file).copied() {
            notes.taken.push(Note::Truncated(kind, length));
        }
    }
}
