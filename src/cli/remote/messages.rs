//! `caxton send` and `caxton request`: messages for a running router.

mod compose;
mod route;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use caxton_router::codec::text::Strictness;
use clap::{Args, ValueEnum};
use serde_json::Value;

use self::compose::Composed;
use super::client::{ACL, Client, JSON, Trouble};
use super::output::{put, put_json};
use super::{Failure, Remote, milliseconds, text};
use crate::cli::input::Source;
use crate::cli::{complain, printable};

/// Limits of `--timeout`, in seconds.
const TIMEOUT_SECONDS: std::ops::RangeInclusive<f64> = 0.001..=300.0;
/// Performatives of replies that say that something was not done.
const REFUSALS: [&str; 3] = ["refuse", "failure", "not-understood"];

/// What is sent.
#[derive(Debug, Args)]
pub struct Messages {
    /// Send the messages of this file, which are in the string form of FIPA SC00070; - is the standard input
    #[arg(value_name = "FILE|-", conflicts_with = "one")]
    file: Option<PathBuf>,
    #[command(flatten)]
    composed: Composed,
    /// An idempotency key: the same message with the same key is sent once, however often this is called within 10
    /// minutes
    #[arg(long, value_name = "KEY", conflicts_with = "file")]
    idempotency_key: Option<String>,
    /// Seconds to wait for what is waited for
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = parse_timeout)]
    timeout: Duration,
    /// Print what the router responds as JSON, one object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Arguments of `caxton send`.
#[derive(Debug, Args)]
#[command(after_help = "\
caxton send --to ann --content hello
caxton send --capability pricing --performative request --content '(price tea)' --wait reply
caxton send messages.acl

Exit status: 0 if every message got what was waited for; 1 if one did not, or was malformed, or the reply is refuse, failure or \
not-understood; 2 if the arguments, the file or the context cannot be used. With --dry-run: 0 if every message would reach a \
receiver, 1 if one would not.")]
pub struct SendArguments {
    /// What is waited for: that it is accepted (a durable message is on disk then), that it was delivered, or the reply
    #[arg(long, value_name = "WHAT", default_value = "accepted")]
    wait: Until,
    /// Send nothing, and print where it would go now, and why
    #[arg(long, conflicts_with_all = ["wait", "idempotency_key"])]
    dry_run: bool,
    #[command(flatten)]
    messages: Messages,
}

/// Arguments of `caxton request`.
#[derive(Debug, Args)]
#[command(after_help = "\
caxton request --to ann --content 'tea?'

Exit status: 0 if there is a reply; 1 if there is none in time, the message was not delivered, or the reply is refuse, failure or \
not-understood; 2 if the arguments, the file or the context cannot be used.")]
pub struct RequestArguments {
    #[command(flatten)]
    messages: Messages,
}

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Until {
    Accepted,
    Receipt,
    Reply,
}

impl Until {
    fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Receipt => "receipt",
            Self::Reply => "reply",
        }
    }
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    super::parse_seconds(text, TIMEOUT_SECONDS)
}

/// Runs `caxton send`.
pub fn run_send(arguments: &SendArguments) -> ExitCode {
    let SendArguments { messages, wait, dry_run } = arguments;
    super::end(messages.each("inform", |client, body| {
        if *dry_run { route::explain(client, body, messages.json) } else { messages.send(client, body, *wait) }
    }))
}

/// Runs `caxton request`.
pub fn run_request(arguments: &RequestArguments) -> ExitCode {
    let messages = &arguments.messages;
    super::end(messages.each("request", |client, body| messages.send(client, body, Until::Reply)))
}

/// A message, and its media type.
struct Body {
    media: &'static str,
    bytes: Vec<u8>,
}

impl Messages {
    /// Does something with each message, and returns whether all of that was as it should be.
    fn each(
        &self,
        performative: &str,
        mut act: impl FnMut(&Client, Body) -> Result<bool, Failed>,
    ) -> Result<ExitCode, Failure> {
        let client = self.remote.client()?;
        let Some(file) = &self.file else {
            let message = self.composed.message(performative)?;
            let is_well = act(&client, Body { media: JSON, bytes: message.to_string().into_bytes() })?;
            return Ok(exit_status(is_well));
        };
        let source = Source::read(file).map_err(Failure::Unusable)?;
        let mut is_well = true;
        // What is malformed for the router is said by the router, which may read strictly.
        for message in source.messages(Strictness::default()) {
            let (line, column, done) = match message {
                Ok(located) => {
                    let bytes = source.bytes[located.range.clone()].to_vec();
                    let done = act(&client, Body { media: ACL, bytes });
                    (located.line, located.column, done)
                }
                Err(error) => (error.line, error.column, Err(Failed::Message(error.kind.to_string()))),
            };
            match done {
                Ok(done) => is_well &= done,
                Err(Failed::Message(complaint)) => {
                    complain(&format!("{}:{line}:{column}: {complaint}", printable(&source.name)));
                    is_well = false;
                }
                Err(Failed::All(failure)) => return Err(failure),
            }
        }
        Ok(exit_status(is_well))
    }

    /// Sends a message. Returns whether the reply, if there is one, says that it was done.
    fn send(&self, client: &Client, body: Body, until: Until) -> Result<bool, Failed> {
        let call = client.post(&["v1", "messages"]).body(body.media, body.bytes);
        let call = call.query("wait", until.as_str()).query("timeout_ms", milliseconds(self.timeout));
        let call = call.waiting(self.timeout).key(self.idempotency_key.as_deref());
        let as_text = until == Until::Reply && !self.json;
        let response = call.accept(if as_text { ACL } else { JSON }).send()?;
        if as_text {
            let reply = response.text();
            put(&format!("{}\n", reply.trim_end()))?;
            let performative = reply.trim_start().trim_start_matches('(').split([' ', ')', '\n']).next();
            return Ok(!performative.is_some_and(is_refusal));
        }
        let document = response.json()?;
        if self.json {
            put_json(&document)?;
        } else {
            put(&readable(&document))?;
        }
        Ok(until != Until::Reply || !is_refusal(text(&document, "performative")))
    }
}

fn is_refusal(performative: &str) -> bool {
    REFUSALS.iter().any(|refusal| refusal.eq_ignore_ascii_case(performative))
}

/// Returns the response to a message that was accepted or delivered.
fn readable(document: &Value) -> String {
    let receipt = document["receipt"].as_str().unwrap_or("accepted");
    format!("{} {receipt}\n", printable(text(document, "message")))
}

fn exit_status(is_well: bool) -> ExitCode {
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Why something was not done with a message.
enum Failed {
    /// Because of the message. Others may do better.
    Message(String),
    /// No message can do better.
    All(Failure),
}

impl From<Trouble> for Failed {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            // Without access no message is sent.
            Trouble::Problem(problem) if problem.status != 401 => Self::Message(problem.to_string()),
            trouble => Self::All(trouble.into()),
        }
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::All(error.into())
    }
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Message(complaint) => Self::Failed(complaint),
            Failed::All(failure) => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_is_told_from_a_reply() {
        assert!(is_refusal("refuse") && is_refusal("NOT-UNDERSTOOD") && !is_refusal("inform") && !is_refusal(""));
    }

    #[test]
    fn what_was_accepted_is_told_by_its_id() {
        assert_eq!(readable(&json!({"message": "m1"})), "m1 accepted\n");
        assert_eq!(readable(&json!({"message": "m1", "receipt": "delivered"})), "m1 delivered\n");
    }
}
