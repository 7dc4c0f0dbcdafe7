//! What the journal needs of a disk, as one that is there and one that is simulated.
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
    /// Past the page cache, each write durable when it completes (`O_DIRECT|O_DSYNC`).
    Direct,
    /// Through the page cache, each write followed by an fdatasync.
    Buffered,
}

/// Bytes that begin at a multiple of 4096 in memory, as direct writes need it.
#[derive(Debug)]
pub struct Buffer {
    /// Never grows, so that the aligned place in it stays where it is.
    bytes: Vec<u8>,
    start: usize,
    capacity: usize,
    length: usize,
}

impl Buffer {
    /// A buffer for up to `capacity` bytes, with none in it.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.next_multiple_of(ALIGNMENT);
        let bytes = vec![0; capacity + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        Self { bytes, start, capacity, length: 0 }
    }

    /// How many bytes it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }

    /// Its bytes, to be filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }

    /// Sets the length, at most the capacity, and gives the bytes to be filled; they hold what was there before.
    pub fn resize(&mut self, length: usize) -> &mut [u8] {
        self.length = length.min(self.capacity);
        &mut self.bytes[self.start..self.start + self.length]
    }
}

/// A file of the journal.
pub trait DiskFile {
    /// Begins to write the buffer at `offset`, a multiple of 4096 as its length is; at most one write is in flight.
    ///
    /// # Errors
    ///
    /// The write could not be begun; nothing was written.
    fn submit(&mut self, offset: u64, buffer: Buffer) -> Result<(), (io::Error, Buffer)>;
    /// The outcome of the write in flight if there is one; does not wait. The buffer comes back either way.
    fn poll(&mut self) -> Option<(io::Result<()>, Buffer)>;
    /// Reads at most as many bytes as there are; blocks.
    ///
    /// # Errors
    ///
    /// As reported by the disk.
    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;
    /// Fills the buffer from `offset`, past the page cache where the file is written so; blocks. Returns how many bytes there
    /// were. Meant for a file that is written at the same time: what lies in the page cache then would have to be thrown out
    /// at each write.
    ///
    /// # Errors
    ///
    /// As reported by the disk.
    fn read_past_cache(&mut self, offset: u64, buffer: &mut Buffer) -> io::Result<usize>;
    /// The length in bytes.
    ///
    /// # Errors
    ///
    /// As reported by the disk.
    fn length(&self) -> io::Result<u64>;
    /// How it is written.
    fn mode(&self) -> WriteMode;
}

/// Files that are only looked at.
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
    /// As reported by the disk, or it is no file.
    fn length(&self, path: &Path) -> io::Result<u64>;
    /// Reads so many bytes from the beginning of a file; fewer if it has no more.
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
    /// Opens a file that is there.
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
    /// Gives a file another name; durable once the directory was synced.
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
    /// The names in a directory, in order.
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
    /// The outcome of the directory sync in flight if there is one; does not wait.
    fn poll_directory_sync(&mut self) -> Option<io::Result<()>>;
    /// Sleeps until something that was submitted is complete, until it is woken, or for this long.
    fn wait(&mut self, timeout: Duration);
    /// Ends a [`wait`](Disk::wait), the present one or the next.
    fn waker(&self) -> Waker;
    /// Bytes that an ordinary user may still write.
    ///
    /// # Errors
    ///
    /// As reported by the disk.
    fn free_space(&self, directory: &Path) -> io::Result<u64>;
    /// Whether the file system keeps anything when the power goes.
    ///
    /// # Errors
    ///
    /// As reported by the disk.
    fn durable(&self, directory: &Path) -> io::Result<bool>;
}
