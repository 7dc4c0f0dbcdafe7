//! The subcommands of `caxton`, one module each.

pub mod acl;
pub mod agent;
pub mod bench;
pub mod config;
mod diagram;
pub mod doctor;
pub mod health;
mod input;
pub mod interrupt;
mod log;
pub mod remote;
pub mod route;
pub mod serve;
mod settings;
pub mod shell;
pub mod sim;
pub mod store;
pub mod token;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;

use caxton_router::config::LogFormat;
use caxton_router::logs::{escape, is_obeyed};

/// The meaning of the exit status, for every command.
pub const EXIT_STATUS: &str = "\
Exit status, the same for every verb:
  0  it was done, and nothing was found wrong
  1  it was not done, or something was found wrong: a malformed message, a damaged store, a host that cannot run the router, \
a message that was not processed, standard output that cannot be written
  2  the arguments, the settings or a file that they name cannot be used; nothing was done
  130, 143  a second SIGINT or SIGTERM ended it at once; the first has it come to its end in good order";

/// The exit status if arguments, settings or a file that they name cannot be used.
const UNUSABLE: u8 = 2;

/// Prints an error. Standard error may be closed.
pub fn complain(complaint: &str) {
    let _ = writeln!(io::stderr(), "{}", printable_lines(complaint));
}

/// Ends after parsing the arguments, with the requested help or an error. Quoted arguments, such as file names, may
/// come from elsewhere and are escaped.
pub fn mistaken(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    if printable_lines(&text) != text {
        return if error.use_stderr() { refuse(text.trim_end()) } else { print(&text) };
    }
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(UNUSABLE) } else { ExitCode::SUCCESS }
}

/// Ends because arguments, settings or a file that they name cannot be used, and prints why.
pub fn refuse(complaint: &str) -> ExitCode {
    complain(complaint);
    ExitCode::from(UNUSABLE)
}

/// Ends because something failed or was found wrong, and prints what.
pub fn fail(complaint: &str) -> ExitCode {
    complain(complaint);
    ExitCode::FAILURE
}

/// Ends after printing failed. A closed pipe, as in `caxton route FILE | head`, is not a failure.
fn printing_failed(error: &io::Error) -> ExitCode {
    if error.kind() == ErrorKind::BrokenPipe {
        return ExitCode::SUCCESS;
    }
    fail(&format!("cannot write to standard output: {error}"))
}

/// Escapes a single-line text from outside, such as a file's name: characters that control a terminal become `\u{1b}`
/// or `\n`.
pub fn printable(text: &str) -> Cow<'_, str> {
    escape(text, LogFormat::Text)
}

/// Like [`printable`], for several lines, including JSON: such characters are escaped as in JSON, `\u001b`.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    let is_escaped = |character| is_obeyed(character) && !matches!(character, '\n' | '\t');
    if !text.chars().any(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_escaped(character) {
            // All of them are in the basic plane.
            let _ = write!(shown, "\\u{:04x}", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Returns a number with its noun: `1 dead letter`, `2 dead letters`.
pub fn counted(count: impl std::fmt::Display, noun: &str) -> String {
    let count = count.to_string();
    let ending = if count == "1" { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

/// Returns a number without decimals and with separators: `1,234,567`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Figures are positive and below 2^64.
pub fn thousands(value: f64) -> String {
    let digits = (value.max(0.0) as u64).to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Prints to standard output. A closed pipe, as in `caxton config show | head`, is not a failure.
pub fn print(text: &str) -> ExitCode {
    let mut output = io::stdout().lock();
    match output.write_all(printable_lines(text).as_bytes()).and_then(|()| output.flush()) {
        Err(error) => printing_failed(&error),
        Ok(()) => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noun_has_its_plural_unless_there_is_one() {
        assert_eq!(
            [counted(0, "agent"), counted(1, "agent"), counted("1,234", "agent")],
            ["0 agents", "1 agent", "1,234 agents"]
        );
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped_and_nothing_else() {
        let shown = printable("a\u{1b}[31mb\n\t\u{9b}\u{7f}\u{202e}");
        assert_eq!(shown, "a\\u{1b}[31mb\\n\\t\\u{9b}\\u{7f}\\u{202e}");
        assert_eq!(printable_lines("a\n\tb\r\u{7}"), "a\n\tb\\u000d\\u0007");
        for plain in ["", "plain \"quoted\" \\ ünïcödé 漢字 🙂"] {
            assert!(matches!(printable(plain), Cow::Borrowed(text) if text == plain), "{plain}");
        }
    }
}
