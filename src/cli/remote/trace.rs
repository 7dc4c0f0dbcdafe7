//! `caxton trace`: follows a conversation or a message in a running router.
//!
//! The router's events say what goes wrong: dead letters, expired messages, missing replies, violations. With the agent
//! that began the conversation, its messages are followed too: the router keeps the last ones of each open
//! conversation.

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use caxton_router::domain::AgentName;
use caxton_router::message::ConversationId;
use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, ServerEvent, Trouble};
use super::events::show;
use super::incoming::{Incoming, data};
use super::output::{put, put_json};
use super::{Failure, Remote, list, text};
use crate::cli::interrupt::Interrupt;
use crate::cli::printable;

/// How often the conversation is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Arguments of `caxton trace`.
#[derive(Debug, Args)]
#[command(after_help = "\
`caxton send --dry-run` says where a message would go. `caxton dlq ls --conversation ID` says what has become of messages already.

Exit status: 0 if it was ended by a signal, by --count or by a closed pipe; 1 if the router does not respond, refuses, or stops; \
2 if the arguments or the context cannot be used.")]
pub struct TraceArguments {
    /// The id of the conversation, as in its messages
    #[arg(long, value_name = "ID", required_unless_present = "message")]
    conversation: Option<String>,
    /// The agent that began the conversation: its messages are followed too
    #[arg(long, value_name = "NAME", requires = "conversation")]
    by: Option<AgentName>,
    /// The id of a message, as `caxton send` prints it
    #[arg(long, value_name = "ID")]
    message: Option<String>,
    /// End after this number of lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Runs `caxton trace`.
pub fn run(arguments: &TraceArguments) -> ExitCode {
    super::end(arguments.follow())
}

impl TraceArguments {
    fn follow(&self) -> Result<ExitCode, Failure> {
        let interrupt = Interrupt::listen().map_err(Failure::Failed)?;
        let client = self.remote.client()?;
        let mut events = Incoming::read(client.get(&["v1", "events"]).stream()?);
        let mut left = self.count.unwrap_or(u64::MAX);
        let mut exchange = Followed::default();
        let mut due = Instant::now();
        while left > 0 && interrupt.signal().is_none() {
            if let (Some(by), Some(id)) = (&self.by, &self.conversation)
                && Instant::now() >= due
            {
                for entry in
                    exchange.news(&client, by, id)?.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX))
                {
                    if self.json {
                        put_json(&json!({ "event": "message", "data": entry }))?;
                    } else {
                        put(&readable(&entry))?;
                    }
                    left -= 1;
                }
                due = Instant::now() + LOOK_EVERY;
                continue;
            }
            let Some(event) = events.wait()? else { continue };
            if self.concerns(&event) {
                show(&event, self.json)?;
                left -= 1;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Whether an event belongs to what is followed.
    fn concerns(&self, event: &ServerEvent) -> bool {
        let said = data(event);
        let is_message = self.message.as_deref().is_some_and(|id| text(&said, "message") == id);
        // A violation has the id as it is in the messages, everything else what the router made of it.
        let is_conversation = self.conversation.as_deref().is_some_and(|id| {
            let conversation = text(&said, "conversation");
            conversation == id || conversation == ConversationId::of_text(id).to_string()
        });
        is_message || is_conversation || event.kind == "lost"
    }
}

/// The messages of a conversation that have been printed.
#[derive(Default)]
struct Followed(HashSet<String>);

impl Followed {
    /// Returns the messages that are new. There are none while the conversation is not open.
    fn news(&mut self, client: &Client, by: &AgentName, id: &str) -> Result<Vec<Value>, Failure> {
        let view = match client.get(&["v1", "agents", by.as_ref(), "conversations", id]).document() {
            Err(Trouble::Problem(problem)) if problem.status == 404 => return Ok(Vec::new()),
            view => view?,
        };
        Ok(self.only_new(list(&view, "history")))
    }

    fn only_new(&mut self, history: &[Value]) -> Vec<Value> {
        let key = |entry: &Value| format!("{} {}", text(entry, "message"), text(entry, "to"));
        // The router keeps the last messages only, and so does this.
        let known = std::mem::take(&mut self.0);
        self.0 = history.iter().map(key).collect();
        history.iter().filter(|entry| !known.contains(&key(entry))).cloned().collect()
    }
}

fn readable(entry: &Value) -> String {
    let said = format!("{} -> {}: {}", text(entry, "from"), text(entry, "to"), text(entry, "performative"));
    format!("{:<22}  {}  {}\n", "message", printable(&said), printable(text(entry, "message")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_messages_are_told() {
        let entry = |id: &str| json!({"message": id, "from": "ann", "to": "bob", "performative": "request"});
        let mut followed = Followed::default();
        assert_eq!(followed.only_new(&[entry("m1"), entry("m2")]).len(), 2);
        assert_eq!(followed.only_new(&[entry("m1"), entry("m2"), entry("m3")]), [entry("m3")]);
        assert_eq!(readable(&entry("m3")), "message                 ann -> bob: request  m3\n");
    }
}
