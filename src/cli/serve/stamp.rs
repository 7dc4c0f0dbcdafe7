//! What a file was like when it was read, to notice that it has changed.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// The size of a file and the time of its last change; `None` if it cannot be looked at.
pub type Stamp = Option<(u64, SystemTime)>;

/// Returns what a file is like now. Take it before the file is read, so that a later change is noticed.
pub fn stamp(file: &Path) -> Stamp {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}
