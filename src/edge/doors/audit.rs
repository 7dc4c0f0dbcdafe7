//! The audit: who changed what, and with what outcome.
//!
//! Each entry is an event of `tracing` with the target [`AUDIT`] and, if the setting `doors.audit` names a file, a line
//! of JSON at its end. A thread of its own writes the file, which can be replaced at any time: what was noted before is
//! written to the former one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use serde_json::{Value, json};

/// The target of the audit's events.
const AUDIT: &str = "caxton::audit";
/// Maximum number of entries on their way to the file. Further operations wait.
const ENTRIES_WAITING_MAX: usize = 1_024;

/// The audit. Dropping it writes what is left.
#[derive(Debug)]
pub(crate) struct Audit(Mutex<Option<AuditFile>>);

/// A file of the audit that is being written. Dropping it waits until everything is.
#[derive(Debug)]
pub(crate) struct AuditFile {
    entries: Option<flume::Sender<String>>,
    thread: Option<JoinHandle<()>>,
}

impl AuditFile {
    /// Opens a file, to write at its end. There is none without a path.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, or there is no thread for it.
    pub fn open(path: Option<&Path>) -> io::Result<Option<Self>> {
        let Some(path) = path else { return Ok(None) };
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let (sender, entries) = flume::bounded(ENTRIES_WAITING_MAX);
        let thread = std::thread::Builder::new().name("caxton-audit".to_owned());
        let thread = thread.spawn(move || write(file, &entries))?;
        Ok(Some(Self { entries: Some(sender), thread: Some(thread) }))
    }
}

impl Drop for AuditFile {
    fn drop(&mut self) {
        self.entries.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Audit {
    /// Creates the audit, with a file or without.
    pub fn new(file: Option<AuditFile>) -> Self {
        Self(Mutex::new(file))
    }

    fn lock(&self) -> MutexGuard<'_, Option<AuditFile>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes further entries to this file, and returns once the former one holds those before. That may wait for the
    /// thread of the doors, which must not call it.
    pub fn replace(&self, file: Option<AuditFile>) {
        let former = std::mem::replace(&mut *self.lock(), file);
        drop(former);
    }

    /// Adds an entry.
    pub async fn note(&self, identity: &str, operation: &str, subject: &str, outcome: &str, result: Value) {
        tracing::info!(target: AUDIT, identity, operation, subject, outcome, result = %result, "audit");
        let Some(entries) = self.lock().as_ref().and_then(|file| file.entries.clone()) else { return };
        let entry = json!({
            "time": humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            "identity": identity,
            "operation": operation,
            "subject": subject,
            "outcome": outcome,
            "result": result,
        });
        // The thread has ended only if it could not be helped, which it has said.
        let _ = entries.send_async(format!("{entry}\n")).await;
    }
}

fn write(mut file: File, entries: &flume::Receiver<String>) {
    while let Ok(entry) = entries.recv() {
        if let Err(error) = file.write_all(entry.as_bytes()) {
            tracing::error!(target: AUDIT, %error, entry, "the audit's file cannot be written");
        }
    }
}
