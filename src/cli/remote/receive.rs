//! `caxton sub`: an outside agent whose messages are printed.
//!
//! A message is acknowledged once it was printed: what was not printed is handed out again, to this command or to
//! another client of the agent.

use std::process::ExitCode;

use caxton_router::codec::text::{self, NoNames};
use caxton_router::codec::{json, text::Limits};
use caxton_router::domain::{AgentName, CapabilityName, ContentLimit};
use clap::Args;
use serde_json::json;
use ureq::http::Method;

use super::client::Client;
use super::incoming::Incoming;
use super::output::put;
use super::{Failure, Remote};
use crate::cli::input::now;
use crate::cli::interrupt::Interrupt;

/// Maximum number of messages that are acknowledged together. The API takes 1,024.
const TOGETHER_MAX: usize = 256;

/// Arguments of `caxton sub`.
#[derive(Debug, Args)]
#[command(after_help = "\
The agent is registered, or taken over if the same token has registered it, with the same capabilities if any are given. Without a client it keeps its mailbox for \
doors.grace_ms, so that it can be taken over again; then it is deregistered. A message is acknowledged once it is printed; what \
was received and not printed is handed out again after 30 s.

Exit status: 0 if it was ended by a signal, by --count or by a closed pipe; 1 if the router does not respond, refuses, or has \
deregistered the agent; 2 if the arguments or the context cannot be used.")]
pub struct SubscribeArguments {
    /// The name of the agent
    name: AgentName,
    /// A capability that it provides; may be repeated
    #[arg(long, value_name = "NAME")]
    capability: Vec<CapabilityName>,
    /// End after this number of messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print the messages as JSON, one per line, instead of the string form
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Runs `caxton sub`.
pub fn run(arguments: &SubscribeArguments) -> ExitCode {
    super::end(arguments.receive())
}

impl SubscribeArguments {
    fn receive(&self) -> Result<ExitCode, Failure> {
        let interrupt = Interrupt::listen().map_err(Failure::Failed)?;
        let client = self.remote.client()?;
        let path = ["v1", "agents", self.name.as_ref()];
        let capabilities: Vec<_> = self.capability.iter().map(ToString::to_string).collect();
        let mut registration = json!({ "acknowledged": true });
        if !capabilities.is_empty() {
            registration["capabilities"] = capabilities.into();
        }
        client.request(Method::PUT, &path).json(&registration).send()?;
        let mut events = Incoming::read(client.get(&[&path[..], &["stream"]].concat()).stream()?);
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 && interrupt.signal().is_none() {
            let Some(first) = events.wait()? else { continue };
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(TOGETHER_MAX);
            let mut ids = Vec::new();
            let more = std::iter::from_fn(|| events.now());
            for event in std::iter::once(first).chain(more).take(most) {
                put(&format!("{}\n", self.written(&event.data)))?;
                ids.push(event.id);
            }
            left -= ids.len() as u64;
            self.acknowledge(&client, &ids)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn acknowledge(&self, client: &Client, ids: &[String]) -> Result<(), Failure> {
        if !ids.is_empty() {
            client.post(&["v1", "agents", self.name.as_ref(), "ack"]).json(&json!({ "ids": ids })).send()?;
        }
        Ok(())
    }

    /// Returns a message as it is printed.
    fn written(&self, data: &str) -> String {
        if self.json {
            return data.to_owned();
        }
        let limit = ContentLimit::try_new(ContentLimit::MAXIMUM).map_or_else(|_| Limits::default(), json::limits);
        let Ok(message) = json::from_json(data.as_bytes(), now(), &limit) else { return data.to_owned() };
        let mut written = Vec::new();
        text::print(&message, &NoNames, &mut written);
        String::from_utf8_lossy(&written).into_owned()
    }
}
