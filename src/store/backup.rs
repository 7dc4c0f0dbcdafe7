//! A backup of a data directory, made while a router uses it: a separate directory from which a router can start.
//!
//! The shards' journals cannot be read at one moment, so they are read twice: the first pass records how far each had
//! come, and the second takes everything present, but treats as settled only what was settled in the first pass. A
//! message is settled only after its effects are durable; so whatever the settled messages of the first pass have sent
//! is there in the second one. A message settled between the two is in the backup, and may be handled again from there.
//!
//! The guests' state is copied last: a message that changed it is settled only after the change is on disk, so no
//! change is missing that the journals say was made. A change may be present whose message will be handled again, as
//! after a crash.

use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

use caxton_shards::domain::{DuplicatesWindow, ShardCount};
use caxton_shards::journal::record::{Lsn, Records};
use caxton_shards::routing::partition::{Partition, ShardIndex};
use caxton_shards::shard::recovery::{RecoveredState, Recovery};

use super::directory::{DataDirectory, LOCK, Recovered, STATES_FILE, StoreError, check_state, shard_directory};
use super::disk::direct::DirectDisk;
use super::disk::host::HostFiles;
use super::inspect::{is_in_use, whole};
use super::journal::{Journal, JournalId, JournalOptions, JournalState, JournalSummary, scan};
use super::manifest::{MANIFEST, Manifest, NEXT, read_manifest};
use super::sizing::{check_room, segments_needed};
use crate::clock::wall_time;
#[cfg(feature = "wasm")]
use crate::wasm::copy_states;

/// Maximum number of passes while the router writes faster than it can be read.
const LOOKS_MAX: u32 = 20;
/// The number of messages whose ids are kept.
pub(super) const WINDOW: usize = DuplicatesWindow::MAXIMUM as usize;
/// The length of the backup's files in bytes.
const SEGMENT_BYTES: u64 = 64 << 20;
/// Time limit of one wait for a write of the backup.
const WRITE_WAIT: Duration = Duration::from_millis(10);

/// Copies what a start would find in `from` to `to`, a directory that is empty or does not exist.
///
/// # Errors
///
/// `from` is not a data directory, is damaged, or is written too fast; `to` is not empty or cannot be written.
pub fn backup(from: &Path, to: &Path) -> Result<Recovered, StoreError> {
    let failed = |error| StoreError::Directory { path: to.to_owned(), error };
    if to.exists() && fs::read_dir(to).map_err(failed)?.next().is_some() {
        if !is_unfinished(to)? {
            return Err(failed(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "it is not empty, and a backup does not overwrite anything",
            )));
        }
        if is_in_use(to) {
            return Err(StoreError::InUse { path: to.to_owned() });
        }
        // The remains of an interrupted backup belong to nobody.
        empty(to).map_err(failed)?;
    }
    let (manifest, recovery) = read(from)?;
    let written = write(from, to, &manifest, recovery);
    if written.is_err() && is_unfinished(to).unwrap_or(false) {
        // Frees the space. The manifest stays, so that no router starts there as if this were a backup.
        let _ = clear(to);
    }
    written
}

/// Whether a directory contains nothing but an unfinished backup.
fn is_unfinished(directory: &Path) -> Result<bool, StoreError> {
    if let Some(manifest) = read_manifest(directory)? {
        return Ok(manifest.copying);
    }
    // Before there is a manifest there is at most an empty lock file.
    let failed = |error| StoreError::Directory { path: directory.to_owned(), error };
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_new_lock = entry.file_name() == LOCK && entry.metadata().is_ok_and(|file| file.len() == 0);
        if !is_new_lock && entry.file_name() != NEXT {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes an unfinished backup; its manifest, which marks it as such, goes last.
fn empty(directory: &Path) -> io::Result<()> {
    clear(directory)?;
    match fs::remove_file(directory.join(MANIFEST)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes everything but the manifest.
fn clear(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            fs::remove_dir_all(&path)?;
        } else if !path.ends_with(MANIFEST) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Reads a consistent state, in several tries if a router writes meanwhile.
fn read(from: &Path) -> Result<(Manifest, Recovery), StoreError> {
    let mut looks = 0;
    loop {
        looks += 1;
        match look(from) {
            Ok(Some(found)) => return Ok(found),
            Ok(None) if looks >= LOOKS_MAX => {
                return Err(StoreError::NotWritten(format!(
                    "{}: the router used its files anew before they could be read, {looks} times; try again when it has less to do",
                    from.display()
                )));
            }
            Err(StoreError::Journal(_)) if looks < LOOKS_MAX => {}
            Ok(None) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads everything; returns `None` if the router has reused a file meanwhile, or was restarted.
fn look(from: &Path) -> Result<Option<(Manifest, Recovery)>, StoreError> {
    let (manifest, _) = whole(from)?;
    let directory = |id: &JournalId| shard_directory(from, id.generation, id.shard);
    let mut first = Vec::new();
    for id in manifest.journals() {
        first.push(scan(&HostFiles, &directory(&id), &id, |_, _, _| Ok(()))?);
    }
    let mut recovery = Recovery::new(WINDOW).of_shards(manifest.shards);
    for (id, before) in manifest.journals().zip(&first) {
        let summary = scan(&HostFiles, &directory(&id), &id, |sequence, kind, body| {
            let shard = ShardIndex(id.shard);
            let taken = if sequence <= before.last {
                recovery.take(shard, sequence, kind, body)
            } else {
                recovery.take_without_release(shard, sequence, kind, body)
            };
            taken.map_err(|fault| fault.to_string())
        })?;
        check_state(&directory(&id), &summary.catalogue, &manifest)?;
        let oldest = |summary: &JournalSummary| summary.segments.first().map(|segment| segment.path.clone());
        if oldest(&summary) != oldest(before) {
            return Ok(None);
        }
    }
    Ok((read_manifest(from)?.as_ref() == Some(&manifest)).then_some((manifest, recovery)))
}

/// Writes a directory of one shard; a start divides it among its shards.
fn write(from: &Path, to: &Path, manifest: &Manifest, recovery: Recovery) -> Result<Recovered, StoreError> {
    let mut directory = DataDirectory::open_copy(to, 1, manifest.boot_epoch)?;
    directory.prepare()?;
    let one = ShardCount::try_new(1).map_err(|error| StoreError::NotWritten(error.to_string()))?;
    let share: RecoveredState = recovery.divide(Partition::new(one)).into_iter().next().unwrap_or_default();
    check_room(to, segments_needed(&share, SEGMENT_BYTES), SEGMENT_BYTES, 1)?;
    let records = write_journal(&directory.shard(0), directory.journal(0), &share)?;
    let states = from.join(STATES_FILE);
    if states.exists() {
        #[cfg(feature = "wasm")]
        copy_states(&states, &to.join(STATES_FILE), is_in_use(from))
            .map_err(|error| StoreError::NotWritten(error.to_string()))?;
        #[cfg(not(feature = "wasm"))]
        return Err(StoreError::NotWritten(format!(
            "{}: the guests' state is copied by the Cargo feature `wasm`, which this program was built without",
            states.display()
        )));
    }
    directory.commit()?;
    directory.close()?;
    Ok(Recovered {
        messages: share.messages(),
        dead_letters: share.letters(),
        agents: share.agents(),
        conversations: share.conversations(),
        records: records.0,
        ..Recovered::default()
    })
}

/// Writes a complete journal with these contents. Blocks until all of it is on disk and was read back.
pub(super) fn write_journal(directory: &Path, id: JournalId, share: &RecoveredState) -> Result<Lsn, StoreError> {
    let options = JournalOptions {
        directory: directory.to_owned(),
        id,
        segment_bytes: SEGMENT_BYTES,
        segments_max: usize::MAX / 4,
        retained_messages: u64::MAX / 4,
        history: 0,
    };
    let failed = |error| StoreError::Directory { path: directory.to_owned(), error };
    let disk = DirectDisk::new().map_err(StoreError::Ring)?;
    let mut journal = Journal::create(disk, options).map_err(failed)?;
    let mut records = Records::after(Lsn(0));
    let mut failure = None;
    share.write_down(&mut records, |records| {
        if failure.is_none() {
            failure = write_out(&mut journal, records).err();
        }
        records.clear();
    });
    match failure {
        Some(what) => return Err(StoreError::NotWritten(what)),
        None => write_out(&mut journal, &records).map_err(StoreError::NotWritten)?,
    }
    let closed = journal.complete(&HostFiles, wall_time()).and_then(|()| journal.close(wall_time()));
    closed.map_err(StoreError::NotWritten)?;
    Ok(records.last())
}

/// Appends records and waits until they are on disk.
fn write_out(journal: &mut Journal<DirectDisk>, records: &Records) -> Result<(), String> {
    journal.append(records.bytes());
    let began = Instant::now();
    loop {
        journal.poll(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        match journal.state() {
            JournalState::Failed(what) | JournalState::NoSpace(what) => return Err(what),
            _ if !journal.is_busy() => return Ok(()),
            _ => journal.wait(WRITE_WAIT),
        }
    }
}
