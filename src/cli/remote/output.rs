//! Standard output of commands that print as they go on.

use std::io::{self, Write as _};

use serde_json::Value;

use crate::cli::printable_lines;

/// Prints a text that ends with a line's end, and flushes it.
///
/// # Errors
///
/// Standard output cannot be written. A closed pipe is no failure, but ends the command.
pub fn put(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(printable_lines(text).as_bytes())?;
    output.flush()
}

/// Prints JSON on one line.
///
/// # Errors
///
/// As [`put`].
pub fn put_json(value: &Value) -> io::Result<()> {
    put(&format!("{value}\n"))
}
