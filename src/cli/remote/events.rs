//! `caxton events`: what happens in a running router, as it happens.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::client::ServerEvent;
use super::incoming::{Incoming, data};
use super::output::{put, put_json};
use super::{Failure, Remote};
use crate::cli::interrupt::Interrupt;
use crate::cli::printable;

/// Arguments of `caxton events`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: 0 if it was ended by a signal, by --count or by a closed pipe; 1 if the router does not respond, refuses, or stops; \
2 if the arguments or the context cannot be used.")]
pub struct EventsArguments {
    /// Print only events of these kinds, separated by commas, such as dead-lettered,protocol-violation
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    kind: Vec<String>,
    /// End after this number of events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Runs `caxton events`.
pub fn run(arguments: &EventsArguments) -> ExitCode {
    super::end(arguments.follow())
}

impl EventsArguments {
    fn follow(&self) -> Result<ExitCode, Failure> {
        let interrupt = Interrupt::listen().map_err(Failure::Failed)?;
        let mut events = Incoming::read(self.remote.client()?.get(&["v1", "events"]).stream()?);
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 && interrupt.signal().is_none() {
            let Some(event) = events.wait()? else { continue };
            if self.kind.is_empty() || self.kind.contains(&event.kind) || event.kind == "lost" {
                show(&event, self.json)?;
                left -= 1;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints an event.
pub(super) fn show(event: &ServerEvent, json: bool) -> Result<(), Failure> {
    if json {
        put_json(&json!({ "event": event.kind, "data": data(event) }))?;
    } else {
        put(&readable(event))?;
    }
    Ok(())
}

fn readable(event: &ServerEvent) -> String {
    let said = match data(event) {
        Value::Object(members) => {
            let known = members.iter().filter(|(_, value)| !value.is_null());
            let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            known.map(|(name, value)| format!("{name}={}", word(value))).collect::<Vec<_>>().join("  ")
        }
        other => other.to_string(),
    };
    format!("{:<22}  {}\n", printable(&event.kind), printable(&said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let event = ServerEvent {
            kind: "dead-lettered".to_owned(),
            id: String::new(),
            data: r#"{"message":"m1","receiver":"bob\u001b","conversation":null,"shard":0}"#.to_owned(),
        };
        assert_eq!(readable(&event), "dead-lettered           message=m1  receiver=bob\\u{1b}  shard=0\n");
    }
}
