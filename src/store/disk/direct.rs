//! The real disk, through its own `io_uring`.
//!
//! Completions are read from memory: polling them needs no system call and no other reactor. Operations are passed to
//! the kernel by the thread that owns the disk or, if a core is available for that, by a separate one.

#![allow(unsafe_code)] // The kernel receives addresses.

use super::kernel::{Kernel, OPERATIONS_MAX, WatchdogHandle};
use super::submitter::Submitter;
use super::{ALIGNMENT, Buffer, Disk, DiskFile, WriteMode};
use crate::store::files::FILE_MODE;
use crate::store::journal::{Severity, severity};
use io_uring::{opcode, squeue, types};
use rustix::fs::OFlags;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;

/// A disk with its own `io_uring`; belongs to the thread that created it.
pub struct DirectDisk {
    ring: Rc<RefCell<Ring>>,
    directory_sync: Option<u64>,
}

impl DirectDisk {
    /// Sets up the ring, with the calling thread as submitter.
    ///
    /// # Errors
    ///
    /// The kernel refuses an `io_uring`.
    pub fn new() -> io::Result<Self> {
        let bell = WatchdogHandle::new()?;
        let kernel = Kernel::new(Arc::clone(&bell))?;
        Ok(Self::with(Way::Here(Box::new(kernel)), bell))
    }

    /// Sets up the ring, with a thread of that name on its own core as submitter.
    ///
    /// # Errors
    ///
    /// The kernel refuses an `io_uring` or a thread.
    pub fn beside(name: String, core: usize) -> io::Result<Self> {
        let bell = WatchdogHandle::new()?;
        let submitter = Submitter::spawn(name, core, Arc::clone(&bell))?;
        Ok(Self::with(Way::Beside(submitter), bell))
    }

    fn with(way: Way, bell: Arc<WatchdogHandle>) -> Self {
        let ring = Ring { way, next: 0, in_flight: HashMap::new(), completed: HashMap::new(), bell };
        Self { ring: Rc::new(RefCell::new(ring)), directory_sync: None }
    }

    fn open_with(&self, path: &Path, create: bool) -> io::Result<DirectFile> {
        let direct = (OFlags::DIRECT | OFlags::DSYNC).bits().cast_signed();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(create).mode(FILE_MODE);
        let (file, mode) = match options.clone().custom_flags(direct).open(path) {
            Ok(file) => (file, WriteMode::Direct),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
                (options.open(path)?, WriteMode::Buffered)
            }
            Err(error) => return Err(error),
        };
        let reader = File::open(path)?;
        Ok(DirectFile { ring: Rc::clone(&self.ring), file: Rc::new(file), reader, mode, write: None })
    }
}

impl Disk for DirectDisk {
    type File = DirectFile;

    fn open(&mut self, path: &Path) -> io::Result<DirectFile> {
        self.open_with(path, false)
    }

    fn create(&mut self, path: &Path) -> io::Result<DirectFile> {
        self.open_with(path, true)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&mut self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn submit_directory_sync(&mut self, directory: &Path) -> io::Result<()> {
        let file = Rc::new(File::open(directory)?);
        let entry = opcode::Fsync::new(types::Fd(file.as_raw_fd())).build();
        let token = self.ring.borrow_mut().submit(entry, file, None).map_err(|(error, _)| error)?;
        self.directory_sync = Some(token);
        Ok(())
    }

    fn poll_directory_sync(&mut self) -> Option<io::Result<()>> {
        let (result, _) = self.ring.borrow_mut().poll(self.directory_sync?)?;
        self.directory_sync = None;
        Some(result.map(|_| ()))
    }

    fn wait(&mut self, timeout: Duration) {
        self.ring.borrow_mut().wait(timeout);
    }

    fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.ring.borrow().bell))
    }

    fn free_space(&self, directory: &Path) -> io::Result<u64> {
        let space = rustix::fs::statvfs(directory)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn durable(&self, directory: &Path) -> io::Result<bool> {
        let magic = rustix::fs::statfs(directory)?.f_type.cast_unsigned();
        Ok(magic != TMPFS_MAGIC && magic != RAMFS_MAGIC)
    }
}

/// A file written through its disk's ring.
pub struct DirectFile {
    ring: Rc<RefCell<Ring>>,
    file: Rc<File>,
    /// Reads need not be aligned, and therefore use the page cache.
    reader: File,
    mode: WriteMode,
    write: Option<Write>,
}

struct Write {
    token: u64,
    offset: u64,
    written: usize,
    syncing: bool,
}

impl DirectFile {
    fn submit_from(&mut self, offset: u64, written: usize, buffer: Buffer) -> Result<(), (io::Error, Buffer)> {
        let rest = &buffer.bytes()[written..];
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let entry = opcode::Write::new(types::Fd(self.file.as_raw_fd()), rest.as_ptr(), length)
            .offset(offset + written as u64)
            .build();
        let token = self.hand_over(entry, buffer)?;
        self.write = Some(Write { token, offset, written, syncing: false });
        Ok(())
    }

    fn hand_over(&self, entry: squeue::Entry, buffer: Buffer) -> Result<u64, (io::Error, Buffer)> {
        let submitted = self.ring.borrow_mut().submit(entry, Rc::clone(&self.file), Some(buffer));
        submitted.map_err(|(error, buffer)| (error, buffer.unwrap_or_else(|| Buffer::new(0))))
    }
}

impl DiskFile for DirectFile {
    fn submit(&mut self, offset: u64, buffer: Buffer) -> Result<(), (io::Error, Buffer)> {
        if self.write.is_some() {
            return Err((io::ErrorKind::ResourceBusy.into(), buffer));
        }
        self.submit_from(offset, 0, buffer)
    }

    fn poll(&mut self) -> Option<(io::Result<()>, Buffer)> {
        let (result, buffer) = self.ring.borrow_mut().poll(self.write.as_ref()?.token)?;
        let write = self.write.take()?;
        let buffer = buffer?;
        let count = match result {
            Ok(count) => count,
            // After a failed sync the state on disk is unknown. Only if there was no room is the whole write repeated.
            Err(error) if write.syncing && severity(&error) != Severity::NoRoom => {
                return Some((Err(io::Error::other(format!("its sync failed: {error}"))), buffer));
            }
            Err(error) => return Some((Err(error), buffer)),
        };
        if write.syncing {
            return Some((Ok(()), buffer));
        }
        let written = write.written + count;
        // Some file systems report that they are full by writing nothing.
        let next = if count == 0 {
            return Some((Err(io::ErrorKind::StorageFull.into()), buffer));
        } else if written < buffer.bytes().len() {
            self.submit_from(write.offset, written, buffer)
        } else if self.mode == WriteMode::Buffered {
            // Not linked to the write: a short write would break the link, and the sync must come after all of it.
            let flags = types::FsyncFlags::DATASYNC;
            let entry = opcode::Fsync::new(types::Fd(self.file.as_raw_fd())).flags(flags).build();
            self.hand_over(entry, buffer)
                .map(|token| self.write = Some(Write { token, offset: write.offset, written, syncing: true }))
        } else {
            return Some((Ok(()), buffer));
        };
        next.err().map(|(error, buffer)| (Err(error), buffer))
    }

    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.reader.read_at(bytes, offset)
    }

    fn read_past_cache(&mut self, offset: u64, buffer: &mut Buffer) -> io::Result<usize> {
        let (mut filled, bytes) = (0, buffer.bytes_mut());
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if !filled.is_multiple_of(ALIGNMENT) {
                break;
            }
        }
        Ok(filled)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn mode(&self) -> WriteMode {
        self.mode
    }
}

/// How operations reach the kernel.
enum Way {
    /// Through the thread that owns the disk.
    Here(Box<Kernel>),
    /// Through a separate thread.
    Beside(Submitter),
}

/// The way to the kernel and what the kernel still uses: files and buffers stay here until their completion, even if
/// their owner drops them.
struct Ring {
    way: Way,
    next: u64,
    in_flight: HashMap<u64, (Rc<File>, Option<Buffer>)>,
    completed: HashMap<u64, (io::Result<usize>, Option<Buffer>)>,
    bell: Arc<WatchdogHandle>,
}

impl Ring {
    fn submit(
        &mut self,
        entry: squeue::Entry,
        file: Rc<File>,
        buffer: Option<Buffer>,
    ) -> Result<u64, (io::Error, Option<Buffer>)> {
        self.collect();
        if self.in_flight.len() >= OPERATIONS_MAX as usize {
            return Err((io::ErrorKind::ResourceBusy.into(), buffer));
        }
        let token = self.next;
        self.next += 1;
        let entry = entry.user_data(token);
        self.in_flight.insert(token, (file, buffer));
        // SAFETY: the descriptor and the bytes that the entry points to belong to `file` and `buffer`, which stay in
        // `in_flight`, unmoved on the heap and untouched, until their completion was collected; dropping the ring waits
        // for that.
        let pushed = unsafe {
            match &mut self.way {
                Way::Here(kernel) => kernel.push(&entry),
                Way::Beside(submitter) => submitter.push(&entry),
            }
        };
        if !pushed {
            let buffer = self.in_flight.remove(&token).and_then(|(_, buffer)| buffer);
            return Err((io::ErrorKind::ResourceBusy.into(), buffer));
        }
        match &mut self.way {
            Way::Here(kernel) => kernel.submit(),
            Way::Beside(submitter) => submitter.submit(),
        }
        Ok(token)
    }

    fn poll(&mut self, token: u64) -> Option<(io::Result<usize>, Option<Buffer>)> {
        self.collect();
        if let Way::Here(kernel) = &mut self.way {
            kernel.submit();
        }
        self.completed.remove(&token)
    }

    fn wait(&mut self, timeout: Duration) {
        if self.collect() || !self.completed.is_empty() {
            return;
        }
        match &mut self.way {
            // If the kernel refuses, that counts as a wait that was ended.
            Way::Here(kernel) => _ = kernel.wait(Some(timeout)),
            Way::Beside(submitter) => submitter.wait(timeout),
        }
        self.collect();
    }

    /// Collects completions from the kernel. Returns whether there were any.
    fn collect(&mut self) -> bool {
        let Self { way, in_flight, completed, .. } = self;
        let take = |token, result| {
            if let Some((file, buffer)) = in_flight.remove(&token) {
                // Only a remaining owner of the file will ask for the outcome.
                if buffer.is_none() || Rc::strong_count(&file) > 1 {
                    completed.insert(token, (result, buffer));
                }
            }
        };
        match way {
            Way::Here(kernel) => kernel.collect(take),
            Way::Beside(submitter) => submitter.collect(take),
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        loop {
            let goes_on = match &mut self.way {
                Way::Here(_) if self.in_flight.is_empty() => return,
                Way::Here(kernel) => kernel.wait(None).is_ok(),
                Way::Beside(submitter) => {
                    submitter.close();
                    false
                }
            };
            self.collect();
            if !goes_on {
                // Freeing what the kernel may still read or write would be unsound; leaking it is not.
                std::mem::forget(std::mem::take(&mut self.in_flight));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::fd::OwnedFd;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Instant;

    /// Far longer than any wait that is ended.
    const TIMEOUT: Duration = Duration::from_mins(1);

    fn disks() -> [DirectDisk; 2] {
        let core = core_affinity::get_core_ids().and_then(|cores| cores.first().copied()).map_or(0, |core| core.id);
        [DirectDisk::new(), DirectDisk::beside("disk".to_owned(), core)]
            .map(|disk| disk.expect("the kernel has io_uring"))
    }

    /// Begins to read from a pipe. The owner of the file will ask for the outcome.
    fn read(disk: &DirectDisk) -> (io::PipeWriter, Rc<File>, u64) {
        let (reader, writer) = io::pipe().expect("there are pipes");
        let file = Rc::new(File::from(OwnedFd::from(reader)));
        let mut buffer = Buffer::new(1);
        buffer.resize(1);
        let entry = opcode::Read::new(types::Fd(file.as_raw_fd()), buffer.bytes_mut().as_mut_ptr(), 1).build();
        let submitted = disk.ring.borrow_mut().submit(entry, Rc::clone(&file), Some(buffer));
        (writer, file, submitted.map_err(|(error, _)| error).expect("it is submitted"))
    }

    /// Runs `check` while an operation is in flight that completes only afterwards: a read from an empty pipe.
    fn while_something_is_in_flight(check: impl Fn(&mut DirectDisk)) {
        for mut disk in disks() {
            let (mut writer, ..) = read(&disk);
            let started = Instant::now();
            check(&mut disk);
            assert!(started.elapsed() < TIMEOUT, "a wait was not ended");
            writer.write_all(b"x").expect("the pipe is open");
            disk.wait(TIMEOUT);
            assert!(started.elapsed() < TIMEOUT, "a completion did not end the wait");
        }
    }

    #[test]
    fn a_wait_is_ended_from_another_thread_each_time() {
        while_something_is_in_flight(|disk| {
            for _ in 0..100 {
                let waker = disk.waker();
                let ringer = thread::spawn(move || waker.wake());
                disk.wait(TIMEOUT);
                ringer.join().expect("it rings");
            }
        });
    }

    #[test]
    fn who_is_woken_before_the_wait_does_not_wait() {
        while_something_is_in_flight(|disk| {
            for _ in 0..100 {
                disk.waker().wake_by_ref();
                // The next check for completions also sees the bell.
                disk.ring.borrow_mut().collect();
                disk.wait(TIMEOUT);
            }
        });
    }

    fn lasts_as_long_as_it_says(disk: &mut DirectDisk) {
        let started = Instant::now();
        disk.wait(Duration::from_millis(20));
        assert!(started.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn a_wait_that_nobody_ends_is_over_in_time() {
        while_something_is_in_flight(lasts_as_long_as_it_says);
    }

    /// As while the disk is full: a write is to be retried, and nothing is being written.
    #[test]
    fn a_wait_for_nothing_but_the_bell_lasts_too_and_is_ended() {
        for mut disk in disks() {
            lasts_as_long_as_it_says(&mut disk);
            let started = Instant::now();
            let waker = disk.waker();
            let ringer = thread::spawn(move || waker.wake());
            disk.wait(TIMEOUT);
            assert!(started.elapsed() < TIMEOUT, "it was not ended");
            ringer.join().expect("it rings");
        }
    }

    #[test]
    fn each_operation_of_many_has_its_own_outcome_in_whatever_order_they_complete() {
        for disk in disks() {
            let mut reads: Vec<_> = (0..OPERATIONS_MAX).map(|_| read(&disk)).collect();
            let one_more = disk.ring.borrow_mut().submit(opcode::Nop::new().build(), nothing(), None);
            assert_eq!(one_more.expect_err("that is one too many").0.kind(), io::ErrorKind::ResourceBusy);
            let started = Instant::now();
            while let Some((mut writer, _file, token)) = reads.pop() {
                let byte = u8::try_from(reads.len()).expect("there are fewer");
                writer.write_all(&[byte]).expect("the pipe is open");
                let (result, buffer) = loop {
                    let mut ring = disk.ring.borrow_mut();
                    if let Some(outcome) = ring.poll(token) {
                        break outcome;
                    }
                    ring.wait(TIMEOUT);
                    assert!(started.elapsed() < TIMEOUT, "an operation did not complete");
                };
                assert_eq!(result.expect("it is read"), 1);
                assert_eq!(buffer.expect("the buffer comes back").bytes(), [byte]);
            }
        }
    }

    fn nothing() -> Rc<File> {
        Rc::new(File::open("/dev/null").expect("it is there"))
    }

    /// Dropping a disk waits for the operations in flight: otherwise their buffers would be freed while the kernel uses
    /// them.
    #[test]
    fn a_disk_that_is_dropped_waits_for_what_is_in_flight() {
        for disk in disks() {
            let (mut writer, ..) = read(&disk);
            let finished = Arc::new(AtomicBool::new(false));
            let says = Arc::clone(&finished);
            let other = thread::spawn(move || {
                // Long enough for a disk that does not wait to be gone before this.
                thread::sleep(Duration::from_millis(20));
                says.store(true, Ordering::SeqCst);
                writer.write_all(b"x").expect("somebody still reads");
            });
            drop(disk);
            assert!(finished.load(Ordering::SeqCst), "it did not wait");
            other.join().expect("it writes");
        }
    }
}
