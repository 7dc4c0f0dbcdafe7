//! The audit: who changed what, and with what outcome.
//!
//! Each entry is an event of `tracing` with the target [`AUDIT`] and, if the setting `doors.audit` names a file, a line
//! of JSON at its end. A thread of its own writes the file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::SystemTime;

use serde_json::{Value, json};

/// The target of the audit's events.
const AUDIT: &str = "caxton::audit";
/// Maximum number of entries on their way to the file. Further operations wait.
const ENTRIES_WAITING_MAX: usize = 1_024;

/// The audit. Dropping it writes what is left.
#[derive(Debug)]
pub(crate) struct Audit {
    file: Option<flume::Sender<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Audit {
    /// Opens the audit, with a file or without.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else { return Ok(Self { file: None, thread: None }) };
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let (sender, entries) = flume::bounded(ENTRIES_WAITING_MAX);
        let thread = std::thread::Builder::new().name("caxton-audit".to_owned());
        let thread = thread.spawn(move || write(file, &entries))?;
        Ok(Self { file: Some(sender), thread: Some(thread) })
    }

    /// Adds an entry.
    pub async fn note(&self, identity: &str, operation: &str, subject: &str, outcome: &str, result: Value) {
        tracing::info!(target: AUDIT, identity, operation, subject, outcome, result = %result, "audit");
        let Some(file) = &self.file else { return };
        let entry = json!({
            "time": humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            "identity": identity,
            "operation": operation,
            "subject": subject,
            "outcome": outcome,
            "result": result,
        });
        // The thread has ended only if it could not be helped, which it has said.
        let _ = file.send_async(format!("{entry}\n")).await;
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.file.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write(mut file: File, entries: &flume::Receiver<String>) {
    while let Ok(entry) = entries.recv() {
        if let Err(error) = file.write_all(entry.as_bytes()) {
            tracing::error!(target: AUDIT, %error, entry, "the audit's file cannot be written");
        }
    }
}
