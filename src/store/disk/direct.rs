//! The disk that is there, through an `io_uring` of its own.
//!
//! Completions are read from memory: asking for them takes no system call and needs no other reactor to run.

#![allow(unsafe_code)] // The kernel is handed addresses.

use super::{ALIGNMENT, Buffer, Disk, DiskFile, WriteMode};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::fs::OFlags;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

/// Operations in flight at once, for all files of one disk, beside the one that waits for the bell.
const OPERATIONS_MAX: u32 = 64;
/// The completion that says that the bell was rung.
const RUNG: u64 = u64::MAX;
/// What the bell is polled for: that it can be read.
const POLLIN: u32 = PollFlags::IN.bits() as u32;
const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;

/// A disk with its own `io_uring`; belongs to the thread that made it.
pub struct DirectDisk {
    ring: Rc<RefCell<Ring>>,
    directory_sync: Option<u64>,
}

impl DirectDisk {
    /// Sets up the ring.
    ///
    /// # Errors
    ///
    /// The kernel refuses an `io_uring`.
    pub fn new() -> io::Result<Self> {
        // One thread submits. Completions are to show up in memory without a system call, so that their work must not be
        // put off to the thread's next one (no COOP_TASKRUN, no DEFER_TASKRUN).
        let uring = IoUring::builder()
            .setup_single_issuer()
            .build(OPERATIONS_MAX)
            .or_else(|_| IoUring::builder().build(OPERATIONS_MAX))?;
        let ring = Ring {
            uring,
            next: 0,
            in_flight: HashMap::new(),
            completed: HashMap::new(),
            bell: Arc::new(Bell(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)),
            listens: false,
            rung: false,
        };
        Ok(Self { ring: Rc::new(RefCell::new(ring)), directory_sync: None })
    }

    fn open_with(&self, path: &Path, create: bool) -> io::Result<DirectFile> {
        let direct = (OFlags::DIRECT | OFlags::DSYNC).bits().cast_signed();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(create);
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

/// A file that is written through the ring of its disk.
pub struct DirectFile {
    ring: Rc<RefCell<Ring>>,
    file: Rc<File>,
    /// Reads need not be aligned, and so go through the page cache.
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
            Err(error) => return Some((Err(error), buffer)),
        };
        if write.syncing {
            return Some((Ok(()), buffer));
        }
        let written = write.written + count;
        // Nothing written at all is how some file systems say that they are full.
        let next = if count == 0 {
            return Some((Err(io::ErrorKind::StorageFull.into()), buffer));
        } else if written < buffer.bytes().len() {
            self.submit_from(write.offset, written, buffer)
        } else if self.mode == WriteMode::Buffered {
            // Not linked to the write: a short write would break the link, and the sync has to come after all of it.
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

/// What ends a wait before anything is complete.
struct Bell(OwnedFd);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // It can fail only when it was rung 2^64 times.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

/// The `io_uring` and what the kernel still uses: files and buffers stay here until their completion, whoever drops them.
struct Ring {
    uring: IoUring,
    next: u64,
    in_flight: HashMap<u64, (Rc<File>, Option<Buffer>)>,
    completed: HashMap<u64, (io::Result<usize>, Option<Buffer>)>,
    bell: Arc<Bell>,
    /// Whether the kernel reports that the bell is rung.
    listens: bool,
    /// The bell was rung since the last wait.
    rung: bool,
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
        // `in_flight`, unmoved on the heap and untouched, until the kernel has reported their completion; dropping the
        // ring waits for that.
        let pushed = unsafe { self.uring.submission().push(&entry) };
        if pushed.is_err() {
            let buffer = self.in_flight.remove(&token).and_then(|(_, buffer)| buffer);
            return Err((io::ErrorKind::ResourceBusy.into(), buffer));
        }
        // An entry that the kernel does not take now is taken at a later call: it stays in the queue.
        let _ = self.uring.submit();
        Ok(token)
    }

    fn poll(&mut self, token: u64) -> Option<(io::Result<usize>, Option<Buffer>)> {
        self.collect();
        if !self.uring.submission().is_empty() {
            let _ = self.uring.submit();
        }
        self.completed.remove(&token)
    }

    fn wait(&mut self, timeout: Duration) {
        if !self.collect() && self.completed.is_empty() && !self.rung {
            if !self.listens {
                let entry = opcode::PollAdd::new(types::Fd(self.bell.0.as_raw_fd()), POLLIN).multi(true).build();
                // SAFETY: the entry points to nothing, and its descriptor is the ring's own.
                self.listens = unsafe { self.uring.submission().push(&entry.user_data(RUNG)) }.is_ok();
            }
            let timespec = types::Timespec::from(timeout);
            // A timeout is as good as a completion here: the caller looks again either way.
            let _ = self.uring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&timespec));
            self.collect();
        }
        self.rung = false;
    }

    /// Takes in what the kernel reports. Answers whether there was something.
    fn collect(&mut self) -> bool {
        let mut any = false;
        for completion in self.uring.completion() {
            any = true;
            if completion.user_data() == RUNG {
                self.rung = true;
                self.listens = cqueue::more(completion.flags());
                continue;
            }
            let result =
                usize::try_from(completion.result()).map_err(|_| io::Error::from_raw_os_error(-completion.result()));
            if let Some((file, buffer)) = self.in_flight.remove(&completion.user_data()) {
                // Only someone who still holds the file will ask for the outcome.
                if buffer.is_none() || Rc::strong_count(&file) > 1 {
                    self.completed.insert(completion.user_data(), (result, buffer));
                }
            }
        }
        any
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        while !self.in_flight.is_empty() {
            match self.uring.submit_and_wait(1) {
                Ok(_) => _ = self.collect(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Freeing what the kernel may still read or write would be unsound; leaking it is not.
                Err(_) => std::mem::forget(std::mem::take(&mut self.in_flight)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::thread;
    use std::time::Instant;

    /// Far longer than any wait that is ended.
    const TIMEOUT: Duration = Duration::from_mins(1);

    /// Runs `check` while an operation is in flight that completes only afterwards: a read from an empty pipe.
    fn while_something_is_in_flight(check: impl FnOnce(&mut DirectDisk)) {
        let mut disk = DirectDisk::new().expect("the kernel has io_uring");
        let (reader, mut writer) = io::pipe().expect("there are pipes");
        let file = Rc::new(File::from(OwnedFd::from(reader)));
        let mut buffer = Buffer::new(1);
        buffer.resize(1);
        let entry = opcode::Read::new(types::Fd(file.as_raw_fd()), buffer.bytes_mut().as_mut_ptr(), 1).build();
        disk.ring.borrow_mut().submit(entry, file, Some(buffer)).map_err(|(error, _)| error).expect("it is submitted");
        let started = Instant::now();
        check(&mut disk);
        assert!(started.elapsed() < TIMEOUT, "a wait was not ended");
        writer.write_all(b"x").expect("the pipe is open");
        disk.wait(TIMEOUT);
        assert!(started.elapsed() < TIMEOUT, "a completion did not end the wait");
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
                // The next look at what is complete sees the bell as well.
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

    /// As while the disk is full: a write is to be tried again, and nothing is being written.
    #[test]
    fn a_wait_for_nothing_but_the_bell_lasts_too_and_is_ended() {
        let mut disk = DirectDisk::new().expect("the kernel has io_uring");
        lasts_as_long_as_it_says(&mut disk);
        let started = Instant::now();
        let waker = disk.waker();
        let ringer = thread::spawn(move || waker.wake());
        disk.wait(TIMEOUT);
        assert!(started.elapsed() < TIMEOUT, "it was not ended");
        ringer.join().expect("it rings");
    }
}
