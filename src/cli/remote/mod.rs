//! The commands for a running router: a client of its HTTP API.
//!
//! A command finds the router by its options or by a named context ([`contexts`]), asks it ([`client`]), and prints a
//! table for people or, with `--json`, what the router has said. What the router or an agent has said is escaped like
//! every text from outside.

pub mod agents;
mod client;
pub mod cluster;
mod contexts;
pub mod conversations;
pub mod dead_letters;
pub mod events;
mod incoming;
pub mod messages;
mod options;
mod output;
pub mod receive;
pub mod stats;
mod table;
pub mod top;
pub mod trace;

pub use self::options::Remote;

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use self::client::{Call, Trouble};
use self::output::{put, put_json};
use super::{complain, counted, fail, printing_failed, refuse};

/// Maximum number of entries of a page of a list.
const PAGE_MAX: u64 = 1_000;

/// Why a command was not carried out.
#[derive(Debug)]
pub enum Failure {
    /// The arguments, or a file that they name, cannot be used.
    Unusable(String),
    /// The router was not reached, or it has refused.
    Failed(String),
    /// Standard output cannot be written.
    Output(std::io::Error),
}

impl Failure {
    /// Prints the failure, and returns the exit status.
    pub fn end(&self) -> ExitCode {
        match self {
            Self::Unusable(complaint) => refuse(complaint),
            Self::Failed(complaint) => fail(complaint),
            Self::Output(error) => printing_failed(error),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

/// Ends a command.
pub fn end(done: Result<ExitCode, Failure>) -> ExitCode {
    done.unwrap_or_else(|failure| failure.end())
}

/// Returns the entries of a list, page by page, and whether there are more than `limit`.
fn pages<'a>(call: impl Fn() -> Call<'a>, entries: &str, limit: u64) -> Result<(Vec<Value>, bool), Trouble> {
    let mut found = Vec::new();
    let mut next: Option<String> = None;
    loop {
        // One more than asked for says whether there are more: a page that is full has a cursor even if it is the last.
        let left = limit.saturating_add(1) - found.len() as u64;
        let page = call().query("limit", left.min(PAGE_MAX)).query_some("cursor", next.as_ref()).document()?;
        found.extend_from_slice(list(&page, entries));
        let more = found.len() as u64 > limit;
        match page["next"].as_str() {
            Some(cursor) if !more => next = Some(cursor.to_owned()),
            _ => {
                found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
                return Ok((found, more));
            }
        }
    }
}

/// Prints the entries of a list, as a table or as a JSON object per line, and says whether there are more.
fn put_list(
    (entries, more): &(Vec<Value>, bool),
    limit: u64,
    json: bool,
    table: impl Fn(&[Value]) -> String,
) -> Result<ExitCode, Failure> {
    if json {
        for entry in entries {
            put_json(entry)?;
        }
    } else {
        put(&table(entries))?;
    }
    if *more {
        complain(&format!("there are more than {limit}: --limit N lists more"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns a member that is a text, or nothing.
fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// Returns a member that is a number, or zero.
fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_default()
}

/// Returns the elements of a member that is a list.
fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

/// Returns the texts of a member that is a list of texts, separated by commas.
fn words(value: &Value, name: &str) -> String {
    list(value, name).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

/// Returns a member that is a number, with its noun.
fn counted_of(value: &Value, name: &str, noun: &str) -> String {
    counted(number(value, name), noun)
}

/// Returns a time for people, with its unit.
fn briefly(seconds: f64) -> String {
    // Multiplying by a thousand leaves traces of binary fractions.
    let digits = |value: f64| format!("{}", (value * 100.0).round() / 100.0);
    match seconds {
        _ if seconds.is_infinite() => "longer".to_owned(),
        _ if seconds < 1e-3 => format!("{} us", digits(seconds * 1e6)),
        _ if seconds < 1.0 => format!("{} ms", digits(seconds * 1e3)),
        _ => format!("{} s", digits(seconds)),
    }
}

/// Returns a length of time for people, to the second: `3d 4h`, `12m 5s`.
fn lasting(milliseconds: u64) -> String {
    let seconds = milliseconds / 1_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

/// Returns a size for people: `12.3 MiB`.
fn sized(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// Parses a number of seconds that the API accepts as milliseconds.
fn parse_seconds(text: &str, allowed: std::ops::RangeInclusive<f64>) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if allowed.contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("expected {} to {} seconds", allowed.start(), allowed.end())),
    }
}

/// Returns whole milliseconds, for a parameter.
fn milliseconds(time: Duration) -> u128 {
    time.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_for_people() {
        let lengths = [999, 59_000, 725_000, 7_260_000, 273_600_000].map(lasting);
        assert_eq!(lengths, ["0s", "59s", "12m 5s", "2h 1m", "3d 4h"]);
    }

    #[test]
    fn what_is_missing_is_nothing() {
        let value = serde_json::json!({"agents": ["ann", "bob"]});
        assert_eq!((text(&value, "x"), number(&value, "x"), list(&value, "x").len()), ("", 0, 0));
        assert_eq!(words(&value, "agents"), "ann, bob");
    }
}
