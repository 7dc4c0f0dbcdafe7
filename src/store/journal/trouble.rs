//! Disk errors that do not end the journal: lack of room, and temporary failures of the system.
//!
//! A write that failed with one of these is retried; only errors that mean that the disk itself is broken (EIO, EROFS,
//! a failed sync) are final.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::JournalState;

/// Delay before the first retry after a temporary error, in milliseconds; it doubles with each further one.
const FIRST_RETRY_MS: u64 = 10;
/// Maximum delay between two retries, in milliseconds.
pub const RETRY_INTERVAL_MS: u64 = 500;
/// Number of consecutive occurrences after which a temporary error is reported.
const TRIES_UNREPORTED: u32 = 3;

/// The severity of an error for the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// The file system, a quota or a limit leaves no room. Writing continues once there is some.
    NoRoom,
    /// A temporary failure: the system lacks descriptors or memory, or was interrupted.
    Passing,
    /// The disk is broken, or refuses for a permanent reason.
    Final,
}

/// Returns the severity of an error for the journal.
pub fn severity(error: &io::Error) -> Severity {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Severity::NoRoom,
        io::ErrorKind::ResourceBusy
        | io::ErrorKind::Interrupted
        | io::ErrorKind::WouldBlock
        | io::ErrorKind::OutOfMemory => Severity::Passing,
        _ => match Errno::from_io_error(error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS) => Severity::Passing,
            _ => Severity::Final,
        },
    }
}

/// Describes an error of the kind [`Severity::NoRoom`].
pub fn no_room(error: &io::Error, directory: &Path) -> String {
    let directory = directory.display();
    match error.kind() {
        io::ErrorKind::QuotaExceeded => format!("the disk quota is used up in {directory}"),
        io::ErrorKind::FileTooLarge => format!(
            "a file in {directory} may not become long enough for a segment of the journal: raise the limit on the size of \
             files (ulimit -f), or lower store.segment_bytes and start anew"
        ),
        _ => format!("there is no space left in {directory}"),
    }
}

/// An error that does not end the journal, and when to retry.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    state: JournalState,
    reported: bool,
    tries: u32,
    retry_at_ms: u64,
}

impl Trouble {
    /// Returns `None` if the error is final. `before` is the error of the previous try.
    pub fn of(error: &io::Error, what: &str, directory: &Path, before: Option<&Self>, now_ms: u64) -> Option<Self> {
        let tries = before.map_or(0, |trouble| trouble.tries) + 1;
        // Once reported it stays so until something succeeds, even if the error changes.
        let reported = before.is_some_and(|trouble| trouble.reported);
        match severity(error) {
            Severity::Final => None,
            Severity::NoRoom => Some(Self {
                state: JournalState::NoSpace(no_room(error, directory)),
                reported: true,
                tries,
                retry_at_ms: now_ms + RETRY_INTERVAL_MS,
            }),
            Severity::Passing => {
                let wait_ms = FIRST_RETRY_MS << (tries - 1).min(8);
                Some(Self {
                    state: JournalState::Obstructed(format!(
                        "{what} in {}: {error}; it is retried",
                        directory.display()
                    )),
                    reported: reported || tries > TRIES_UNREPORTED,
                    tries,
                    retry_at_ms: now_ms + wait_ms.min(RETRY_INTERVAL_MS),
                })
            }
        }
    }

    /// Whether it is time to retry.
    pub fn is_over(&self, now_ms: u64) -> bool {
        now_ms >= self.retry_at_ms
    }

    /// Returns when to retry, in milliseconds.
    pub fn retry_at_ms(&self) -> u64 {
        self.retry_at_ms
    }

    /// Returns the state to report; `None` if the error may well pass unnoticed.
    pub fn state(&self) -> Option<&JournalState> {
        self.reported.then_some(&self.state)
    }
}
