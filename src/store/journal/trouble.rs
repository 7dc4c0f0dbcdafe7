//! Errors of the disk that do not end the journal: no room, and what the system could not do just now.
//!
//! A write that failed with one of these is tried again; only what says that the disk itself is broken (EIO, EROFS, a failed
//! sync) is final.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::JournalState;

/// The first retry after an error that is likely to pass comes after so many milliseconds, each further one after twice as many.
const FIRST_RETRY_MS: u64 = 10;
/// No retry comes later than this after the one before it, in milliseconds.
pub const RETRY_INTERVAL_MS: u64 = 500;
/// An error that is likely to pass is reported once it has come so often in a row.
const TRIES_UNREPORTED: u32 = 3;

/// What an error means for the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// The file system, a quota or a limit leaves no room. It goes on when there is some.
    NoRoom,
    /// The system could not do it just now: it lacks descriptors or memory, or was interrupted.
    Passing,
    /// The disk is broken, or refuses for a reason that does not pass by itself.
    Final,
}

/// What an error means for the journal.
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

/// Says what an error of the kind [`Severity::NoRoom`] means, in words.
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

/// An error that does not end the journal, and when to try again.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    state: JournalState,
    reported: bool,
    tries: u32,
    retry_at_ms: u64,
}

impl Trouble {
    /// Nothing if the error is final. `before` is what came of the try before this one.
    pub fn of(error: &io::Error, what: &str, directory: &Path, before: Option<&Self>, now_ms: u64) -> Option<Self> {
        let tries = before.map_or(0, |trouble| trouble.tries) + 1;
        // Once it was reported it stays so until something succeeds, whatever the errors are called.
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
                        "{what} in {}: {error}; it is tried again",
                        directory.display()
                    )),
                    reported: reported || tries > TRIES_UNREPORTED,
                    tries,
                    retry_at_ms: now_ms + wait_ms.min(RETRY_INTERVAL_MS),
                })
            }
        }
    }

    /// Whether it is time to try again.
    pub fn is_over(&self, now_ms: u64) -> bool {
        now_ms >= self.retry_at_ms
    }

    /// When to try again, in milliseconds.
    pub fn retry_at_ms(&self) -> u64 {
        self.retry_at_ms
    }

    /// What to say of it; nothing if it may well have passed before anybody notices.
    pub fn state(&self) -> Option<&JournalState> {
        self.reported.then_some(&self.state)
    }
}
