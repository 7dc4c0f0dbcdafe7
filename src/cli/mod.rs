//! The verbs of the `caxton` command, one module each.

pub mod acl;
pub mod agent;
pub mod bench;
pub mod config;
pub mod doctor;
mod input;
pub mod interrupt;
pub mod route;
mod settings;
pub mod sim;
pub mod store;

use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;

/// Tells people what is wrong. Where nobody reads standard error, there is nobody to tell.
fn complain(complaint: &str) {
    let _ = writeln!(io::stderr(), "{complaint}");
}

/// Ends after printing failed. A reader that has gone, as in `caxton route FILE | head`, is no failure.
fn printing_failed(error: &io::Error) -> ExitCode {
    if error.kind() == ErrorKind::BrokenPipe {
        return ExitCode::SUCCESS;
    }
    complain(&format!("cannot write to standard output: {error}"));
    ExitCode::FAILURE
}

/// The text without anything that a terminal would obey.
fn printable(text: &str) -> String {
    if text.chars().any(char::is_control) { text.escape_debug().to_string() } else { text.to_owned() }
}

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
