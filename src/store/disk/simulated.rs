//! A disk in memory, for tests: deterministic, and its power can be cut.
//!
//! After a cut, every write that was reported as complete is present. Of a write in flight, each 512-byte sector is
//! present or not; names that were created, changed or removed since the last sync of the directory may be undone, in
//! any combination.

use super::{Buffer, Disk, DiskFile, Files, WriteMode};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

const SECTOR_BYTES: usize = 512;

/// The faults of a simulated disk. The lists contain error numbers (`errno`): the next operations of that kind fail
/// with them, in order, and change nothing.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Opening files.
    pub opens: Vec<i32>,
    /// Creating files.
    pub creates: Vec<i32>,
    /// Creating files that then cannot be opened.
    pub creates_unopened: Vec<i32>,
    /// Renaming files.
    pub renames: Vec<i32>,
    /// Removing files.
    pub removes: Vec<i32>,
    /// Beginning writes.
    pub submits: Vec<i32>,
    /// Completing writes.
    pub writes: Vec<i32>,
    /// Beginning directory syncs.
    pub sync_begins: Vec<i32>,
    /// Completing directory syncs.
    pub syncs: Vec<i32>,
    /// Whether writes never complete.
    pub hangs: bool,
    /// The number of bytes that may still be written; `None` for any number.
    pub free_space: Option<u64>,
    /// Every n-th write is reported as complete but lost in a power cut: a lying disk.
    pub forgets_every: Option<u64>,
    /// Whether directory syncs are reported as complete but do nothing.
    pub forgets_names: bool,
}

/// A disk in memory; clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    state: Rc<RefCell<State>>,
}

#[derive(Debug, Default)]
struct State {
    dice: u64,
    faults: Faults,
    /// By number: what is read, and what is present after a power cut.
    contents: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    changes: Vec<Change>,
    writes: u64,
    syncing: bool,
}

#[derive(Clone, Debug, Default)]
struct Content {
    read: Vec<u8>,
    durable: Vec<u8>,
    in_flight: Option<(usize, Vec<u8>)>,
}

#[derive(Clone, Debug)]
enum Change {
    Created(PathBuf, usize),
    Renamed(PathBuf, PathBuf),
    Removed(PathBuf),
}

impl SimulatedDisk {
    /// Creates an empty disk; the seed determines how long writes take.
    pub fn new(seed: u64) -> Self {
        Self { state: Rc::new(RefCell::new(State { dice: seed, ..State::default() })) }
    }

    /// Sets the faults from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.state.borrow_mut().faults = faults;
    }

    /// Returns the remaining faults.
    pub fn faults(&self) -> Faults {
        self.state.borrow().faults.clone()
    }

    /// Changes existing bytes, like a failing disk. Bytes past the end of the file are ignored.
    pub fn damage(&self, path: &Path, offset: usize, bytes: &[u8]) {
        let mut state = self.state.borrow_mut();
        let Some(file) = state.names.get(path).copied() else { return };
        let content = &mut state.contents[file];
        for side in [&mut content.read, &mut content.durable] {
            side.iter_mut().skip(offset).zip(bytes).for_each(|(old, new)| *old = *new);
        }
    }

    /// Returns the disk in a possible state after a power cut now.
    #[must_use]
    pub fn power_cut(&self, seed: u64) -> Self {
        let old = self.state.borrow();
        let mut state = State { dice: seed, ..State::default() };
        for content in &old.contents {
            let mut durable = content.durable.clone();
            if let Some((offset, bytes)) = &content.in_flight {
                for (index, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                    if roll(&mut state.dice).is_multiple_of(2) {
                        put(&mut durable, offset + index * SECTOR_BYTES, sector);
                    }
                }
            }
            state.contents.push(Content { read: durable.clone(), durable, in_flight: None });
        }
        state.names = old.durable_names.clone();
        for change in &old.changes {
            if roll(&mut state.dice).is_multiple_of(2) {
                apply(&mut state.names, change);
            }
        }
        state.durable_names = state.names.clone();
        Self { state: Rc::new(RefCell::new(state)) }
    }
}

impl Disk for SimulatedDisk {
    type File = SimulatedFile;

    fn open(&mut self, path: &Path) -> io::Result<SimulatedFile> {
        fail(&mut self.state.borrow_mut().faults.opens)?;
        let file = *self.state.borrow().names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(SimulatedFile { state: Rc::clone(&self.state), file, write: None })
    }

    fn create(&mut self, path: &Path) -> io::Result<SimulatedFile> {
        let mut state = self.state.borrow_mut();
        fail(&mut state.faults.creates)?;
        if !state.names.contains_key(path) {
            let file = state.contents.len();
            state.contents.push(Content::default());
            state.change(Change::Created(path.to_owned(), file));
        }
        fail(&mut state.faults.creates_unopened)?;
        drop(state);
        self.open(path)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        fail(&mut state.faults.renames)?;
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change(Change::Renamed(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        fail(&mut state.faults.removes)?;
        state.change(Change::Removed(path.to_owned()));
        Ok(())
    }

    fn list(&mut self, directory: &Path) -> io::Result<Vec<String>> {
        let state = self.state.borrow();
        let here = state.names.keys().filter(|path| path.parent() == Some(directory));
        Ok(here.filter_map(|path| path.file_name()?.to_str().map(String::from)).collect())
    }

    fn submit_directory_sync(&mut self, _directory: &Path) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        fail(&mut state.faults.sync_begins)?;
        state.syncing = true;
        Ok(())
    }

    fn poll_directory_sync(&mut self) -> Option<io::Result<()>> {
        let mut state = self.state.borrow_mut();
        if !state.syncing || roll(&mut state.dice).is_multiple_of(2) {
            return None;
        }
        state.syncing = false;
        if let Err(error) = fail(&mut state.faults.syncs) {
            return Some(Err(error));
        }
        if !state.faults.forgets_names {
            state.durable_names = state.names.clone();
            state.changes.clear();
        }
        Some(Ok(()))
    }

    fn wait(&mut self, _timeout: Duration) {}

    fn waker(&self) -> Waker {
        Waker::noop().clone()
    }

    fn free_space(&self, _directory: &Path) -> io::Result<u64> {
        Ok(self.state.borrow().faults.free_space.unwrap_or(u64::MAX))
    }

    fn durable(&self, _directory: &Path) -> io::Result<bool> {
        Ok(true)
    }
}

impl Files for SimulatedDisk {
    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.clone().list(directory)
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        self.clone().open(path)?.length()
    }

    fn read(&self, path: &Path, length: u64) -> io::Result<Vec<u8>> {
        let mut file = self.clone().open(path)?;
        let length = usize::try_from(length.min(file.length()?)).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        file.read_at(0, &mut bytes)?;
        Ok(bytes)
    }
}

/// A file of a simulated disk.
#[derive(Debug)]
pub struct SimulatedFile {
    state: Rc<RefCell<State>>,
    file: usize,
    write: Option<Buffer>,
}

impl DiskFile for SimulatedFile {
    fn submit(&mut self, offset: u64, buffer: Buffer) -> Result<(), (io::Error, Buffer)> {
        let Ok(offset) = usize::try_from(offset) else { return Err((io::ErrorKind::FileTooLarge.into(), buffer)) };
        if self.write.is_some() {
            return Err((io::ErrorKind::ResourceBusy.into(), buffer));
        }
        if let Err(error) = fail(&mut self.state.borrow_mut().faults.submits) {
            return Err((error, buffer));
        }
        self.state.borrow_mut().contents[self.file].in_flight = Some((offset, buffer.bytes().to_vec()));
        self.write = Some(buffer);
        Ok(())
    }

    fn poll(&mut self) -> Option<(io::Result<()>, Buffer)> {
        self.write.as_ref()?;
        let mut state = self.state.borrow_mut();
        if state.faults.hangs || roll(&mut state.dice).is_multiple_of(2) {
            return None;
        }
        let buffer = self.write.take()?;
        let (offset, bytes) = state.contents[self.file].in_flight.take()?;
        if let Err(error) = fail(&mut state.faults.writes) {
            return Some((Err(error), buffer));
        }
        state.writes += 1;
        let forgotten = state.faults.forgets_every.is_some_and(|every| state.writes.is_multiple_of(every));
        let content = &mut state.contents[self.file];
        put(&mut content.read, offset, &bytes);
        if !forgotten {
            put(&mut content.durable, offset, &bytes);
        }
        Some((Ok(()), buffer))
    }

    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let state = self.state.borrow();
        let content = &state.contents[self.file].read;
        let rest = content.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let count = rest.len().min(bytes.len());
        bytes[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn read_past_cache(&mut self, offset: u64, buffer: &mut Buffer) -> io::Result<usize> {
        self.read_at(offset, buffer.bytes_mut())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.state.borrow().contents[self.file].read.len() as u64)
    }

    fn mode(&self) -> WriteMode {
        WriteMode::Direct
    }
}

impl State {
    fn change(&mut self, change: Change) {
        apply(&mut self.names, &change);
        self.changes.push(change);
    }
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, change: &Change) {
    match change {
        Change::Created(path, file) => {
            names.insert(path.clone(), *file);
        }
        Change::Renamed(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
        Change::Removed(path) => {
            names.remove(path);
        }
    }
}

/// Fails with the first of these errors, and removes it.
fn fail(errors: &mut Vec<i32>) -> io::Result<()> {
    if errors.is_empty() { Ok(()) } else { Err(io::Error::from_raw_os_error(errors.remove(0))) }
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

/// `SplitMix64`.
fn roll(dice: &mut u64) -> u64 {
    *dice = dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *dice;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
