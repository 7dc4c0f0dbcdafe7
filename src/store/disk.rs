//! The disk interface of the journal, with a real and a simulated implementation.
//!
//! Writes and directory syncs are submitted and polled, so that a shard never blocks on them. A write that is reported
//! as complete is durable, and so is its file's length; a name is durable once its directory was synced.

use std::io;
use std::path::Path;
use std::task::Waker;
use std::time::Duration;

pub mod direct;
pub mod host;
mod kernel;
pub mod simulated;
mod submitter;

const ALIGNMENT: usize = 4096;

/// How a file is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteMode {
    /// Bypassing the page cache, each write durable when it completes (`O_DIRECT|O_DSYNC`).
    Direct,
    /// Through the page cache, each write followed by an fdatasync.
    Buffered,
}

/// A buffer aligned to 4096 bytes in memory, as direct writes require.
#[derive(Debug)]
pub struct Buffer {
    /// Never reallocated, so that the aligned place in it stays valid.
    bytes: Vec<u8>,
    start: usize,
    capacity: usize,
    length: usize,
}

impl Buffer {
    /// Creates an empty buffer for up to `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.next_multiple_of(ALIGNMENT);
        let bytes = vec![0; capacity + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        Self { bytes, start, capacity, length: 0 }
    }

    /// Returns the capacity in bytes.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Returns its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }

    /// Returns its bytes, mutably.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }

    /// Sets the length, at most the capacity, and returns the bytes; they keep their former contents.
    pub fn resize(&mut self, length: usize) -> &mut [u8] {
        self.length = length.min(self.capacity);
        &mut self.bytes[self.start..self.start + self.length]
    }
}

/// A file of the journal.
pub trait DiskFile {
    /// Begins to write the buffer at `offset`; offset and length are multiples of 4096. At most one write is in flight.
    ///
    /// # Errors
    ///
    /// The write could not be begun; nothing was written.
    fn submit(&mut self, offset: u64, buffer: Buffer) -> Result<(), (io::Error, Buffer)>;
    /// Returns the outcome of the write in flight if there is one; does not wait. The buffer is returned either way.
    fn poll(&mut self) -> Option<(io::Result<()>, Buffer)>;
    /// Reads at most `bytes.len()` bytes; blocks.
    ///
    /// # Errors
    ///
    /// As reported by the disk.
    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;
    /// Fills the buffer from `offset`, bypassing the page cache if the file is written so; blocks. Returns the number
    /// of bytes read. For a file being written at the same time: each write would have to evict what is in the page
    /// cache.
    ///
    /// # Errors
    ///
    /// As reported by the disk.
    fn read_past_cache(&mut self, offset: u64, buffer: &mut Buffer) -> io::Result<usize>;
    /// Returns the length in bytes.
    ///
    /// # Errors
    ///
    /// As reported by the disk.
    fn length(&self) -> io::Result<u64>;
    /// Returns how it is written.
    fn mode(&self) -> WriteMode;
}

/// Read-only access to files.
pub trait Files {
    /// Returns the names in a directory, in order.
    ///
    /// # Errors
    ///
    /// As reported by the disk, as for every function here.
    fn names(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// Returns the length of a file in bytes.
    ///
    /// # Errors
    ///
    /// As reported by the disk, or it is not a file.
    fn length(&self, path: &Path) -> io::Result<u64>;
    /// Reads up to `length` bytes from the beginning of a file.
    ///
    /// # Errors
    ///
    /// As reported by the disk.
    fn read(&self, path: &Path, length: u64) -> io::Result<Vec<u8>>;
}

/// A disk with directories and files.
pub trait Disk {
    /// Its files.
    type File: DiskFile;
    /// Opens an existing file.
    ///
    /// # Errors
    ///
    /// As reported by the disk, as for every function here.
    fn open(&mut self, path: &Path) -> io::Result<Self::File>;
    /// Creates a file, or opens an empty one of that name.
    ///
    /// # Errors
    ///
    /// As reported by the disk.
    fn create(&mut self, path: &Path) -> io::Result<Self::File>;
    /// Renames a file; durable once the directory was synced.
    ///
    /// # Errors
    ///
    /// As reported by the disk.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; durable once the directory was synced.
    ///
    /// # Errors
    ///
    /// As reported by the disk.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
    /// Returns the names in a directory, in order.
    ///
    /// # Errors
    ///
    /// As reported by the disk.
    fn list(&mut self, directory: &Path) -> io::Result<Vec<String>>;
    /// Begins to sync a directory; at most one such sync is in flight.
    ///
    /// # Errors
    ///
    /// The sync could not be begun.
    fn submit_directory_sync(&mut self, directory: &Path) -> io::Result<()>;
    /// Returns the outcome of the directory sync in flight if there is one; does not wait.
    fn poll_directory_sync(&mut self) -> Option<io::Result<()>>;
    /// Sleeps until a submitted operation is complete, until it is woken, or for this long.
    fn wait(&mut self, timeout: Duration);
    /// Returns a waker that ends a [`wait`](Disk::wait), the current one or the next.
    fn waker(&self) -> Waker;
    /// Returns the free space available to an ordinary user, in bytes.
    ///
    /// # Errors
    ///
    /// As reported by the disk.
    fn free_space(&self, directory: &Path) -> io::Result<u64>;
    /// Whether the file system survives a power cut.
    ///
    /// # Errors
    ///
    /// As reported by the disk.
    fn durable(&self, directory: &Path) -> io::Result<bool>;
}
