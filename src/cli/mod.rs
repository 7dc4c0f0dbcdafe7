//! The verbs of the `caxton` command, one module each.

pub mod bench;
pub mod config;
pub mod doctor;
pub mod interrupt;
pub mod route;
pub mod sim;

use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;

/// Prints to standard output. A reader that has gone, as in `caxton config show | head`, is no failure.
pub fn print(text: &str) -> ExitCode {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("cannot write to standard output: {error}");
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}
