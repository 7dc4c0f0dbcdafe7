//! Writes bytes to a file and to disk, through an `io_uring` of the VFS.

#![allow(unsafe_code)] // The kernel receives addresses, and descriptors come from SQLite.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use io_uring::{IoUring, opcode, squeue, types};
use rustix::io::Errno;

use super::queue::Stretch;
use crate::store::journal::{Severity, severity};

/// Maximum number of operations in flight.
const OPERATIONS_MAX: u32 = 64;
/// Marks the completion of a sync; writes are identified by index.
const SYNC: u64 = u64::MAX;

/// The operation that failed.
#[derive(Debug)]
pub(super) enum Fault {
    Write(io::Error),
    Sync(io::Error),
}

/// Writes to files. Descriptors are open for the duration of a call.
pub(super) trait Writer: Send + Sync {
    /// Writes everything; if `sync` is set it is on disk on return.
    fn write(&self, file: RawFd, stretches: Vec<Stretch>, sync: bool) -> Result<(), Fault>;
    /// Called when a file was opened; `wal` distinguishes the two.
    fn opened(&self, _file: RawFd, _wal: bool) {}
    /// Called when SQLite's own VFS has synced the file.
    fn synced(&self, _file: RawFd) {}
    /// Called when SQLite's own VFS has changed the file's length.
    fn truncated(&self, _file: RawFd, _length: u64) {}
}

/// Writes through an `io_uring`. A ring that fails is given up, because operations may be left in it.
pub(super) struct UringWriter(Mutex<Option<IoUring>>);

impl UringWriter {
    pub fn new() -> io::Result<Self> {
        IoUring::builder().build(OPERATIONS_MAX).map(|ring| Self(Mutex::new(Some(ring))))
    }
}

impl Writer for UringWriter {
    fn write(&self, file: RawFd, mut stretches: Vec<Stretch>, sync: bool) -> Result<(), Fault> {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let linked = sync && stretches.len() == 1;
        while !stretches.is_empty() {
            let later = stretches.split_off(stretches.len().min(OPERATIONS_MAX as usize / 2));
            if write_some(&mut ring, file, stretches, linked)? {
                return Ok(());
            }
            stretches = later;
        }
        if !sync {
            return Ok(());
        }
        let (done, _) = complete(&mut ring, &[fsync(file)], Vec::new()).map_err(Fault::Sync)?;
        done.iter().try_for_each(|(_, result)| result_of(*result)).map_err(Fault::Sync)
    }
}

fn fsync(file: RawFd) -> squeue::Entry {
    opcode::Fsync::new(types::Fd(file)).flags(types::FsyncFlags::DATASYNC).build().user_data(SYNC)
}

/// The completed operation, and its result.
type Completion = (u64, i32);

fn result_of(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(()) }
}

/// Writes a few stretches; if `linked`, the only one with a sync linked to it. Returns whether that was synced.
fn write_some(ring: &mut Option<IoUring>, file: RawFd, stretches: Vec<Stretch>, linked: bool) -> Result<bool, Fault> {
    let flags = if linked { squeue::Flags::IO_LINK } else { squeue::Flags::empty() };
    let write = |(place, stretch): (u64, &Stretch)| {
        let length = u32::try_from(stretch.bytes.len()).unwrap_or(u32::MAX);
        let entry = opcode::Write::new(types::Fd(file), stretch.bytes.as_ptr(), length).offset(stretch.offset);
        entry.build().flags(flags).user_data(place)
    };
    let mut entries: Vec<_> = (0..).zip(&stretches).map(write).collect();
    if linked {
        entries.push(fsync(file));
    }
    let (done, stretches) = complete(ring, &entries, stretches).map_err(Fault::Write)?;
    let mut whole = true;
    for (place, result) in done.iter().filter(|(place, _)| *place != SYNC) {
        match result_of(*result) {
            // The kernel was interrupted, or lacked memory: an ordinary call does all of it.
            Err(error) if severity(&error) == Severity::Passing => {}
            result => result.map_err(Fault::Write)?,
        }
        let Some(stretch) = usize::try_from(*place).ok().and_then(|place| stretches.get(place)) else { continue };
        let written = usize::try_from(*result).unwrap_or(0);
        if written < stretch.bytes.len() {
            whole = false;
            write_rest(file, stretch, written).map_err(Fault::Write)?;
        }
    }
    if !linked {
        return Ok(false);
    }
    if whole {
        done.iter().try_for_each(|(_, result)| result_of(*result)).map_err(Fault::Sync)?;
    } else {
        // A short write breaks the link, so that the sync did not happen.
        sync_data(file).map_err(Fault::Sync)?;
    }
    Ok(true)
}

/// Writes the rest of a stretch.
fn write_rest(file: RawFd, stretch: &Stretch, mut written: usize) -> io::Result<()> {
    // SAFETY: the descriptor belongs to an open file of SQLite, which closes it only after this call.
    let file = unsafe { BorrowedFd::borrow_raw(file) };
    while let Some(rest) = stretch.bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pwrite(file, rest, stretch.offset + written as u64) {
            // Some file systems report that they are full by writing nothing.
            Ok(0) => return Err(io::ErrorKind::StorageFull.into()),
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Replaces the linked sync, with an ordinary call.
fn sync_data(file: RawFd) -> io::Result<()> {
    // SAFETY: as in `write_rest`.
    let file = unsafe { BorrowedFd::borrow_raw(file) };
    Ok(rustix::fs::fdatasync(file)?)
}

/// Writes with ordinary calls, for the recording writer.
pub(super) fn write_plainly(file: RawFd, stretches: &[Stretch]) -> io::Result<()> {
    stretches.iter().try_for_each(|stretch| write_rest(file, stretch, 0))
}

/// Submits entries and waits until all of them are complete. The entries point into `owned`, which is then returned.
fn complete(
    ring: &mut Option<IoUring>,
    entries: &[squeue::Entry],
    owned: Vec<Stretch>,
) -> io::Result<(Vec<Completion>, Vec<Stretch>)> {
    let Some(uring) = ring else { return Err(io::Error::other("the io_uring has failed before")) };
    // SAFETY: the bytes that the entries point to belong to `owned`, which is neither moved on the heap, changed nor
    // freed before every entry was reported as complete; if waiting is impossible, it is leaked. The descriptor is open
    // for the duration of this call.
    unsafe { uring.submission().push_multiple(entries) }.map_err(io::Error::other)?;
    let mut done = Vec::with_capacity(entries.len());
    while done.len() < entries.len() {
        let waited = uring.submit_and_wait(1);
        done.extend(uring.completion().map(|completion| (completion.user_data(), completion.result())));
        if let Err(error) = waited
            && !matches!(Errno::from_io_error(&error), Some(Errno::INTR | Errno::BUSY | Errno::AGAIN))
            && done.len() < entries.len()
        {
            std::mem::forget(owned);
            *ring = None;
            return Err(error);
        }
    }
    Ok((done, owned))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn many_stretches_and_a_single_one_are_written_and_synced() {
        let file = tempfile::tempfile().expect("a file");
        let writer = UringWriter::new().expect("a ring");
        let stretches =
            |count: u64| (0..count).map(|place| Stretch { offset: place * 10, bytes: vec![b'a'; 5] }).collect();
        writer.write(file.as_raw_fd(), stretches(300), true).expect("they are written");
        writer.write(file.as_raw_fd(), stretches(1), true).expect("it is written");
        writer.write(file.as_raw_fd(), Vec::new(), true).expect("it is synced");
        let mut bytes = [0; 5];
        file.read_exact_at(&mut bytes, 2990).expect("they are there");
        assert_eq!(&bytes, b"aaaaa");
    }

    #[test]
    fn what_the_kernel_refuses_is_told() {
        let writer = UringWriter::new().expect("a ring");
        let one = |offset| vec![Stretch { offset, bytes: vec![1; 10] }];
        for sync in [true, false] {
            assert!(matches!(writer.write(-1, one(0), sync), Err(Fault::Write(_))));
        }
        assert!(matches!(writer.write(-1, Vec::new(), true), Err(Fault::Sync(_))));
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("it is there");
        let fault = writer.write(full.as_raw_fd(), one(0), true);
        assert!(matches!(&fault, Err(Fault::Write(error)) if error.kind() == io::ErrorKind::StorageFull), "{fault:?}");
    }
}
