//! `caxton agent ls` and its sisters, and `caxton df`: the agents of a running router.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use caxton_router::domain::{AgentName, CapabilityName};
use clap::{Args, Subcommand};
use serde_json::Value;
use ureq::http::Method;

use super::client::{Client, Trouble};
use super::output::{put, put_json};
use super::table::Table;
use super::{Failure, Remote, counted_of, list, milliseconds, number, pages, put_list, sized, text, words};
use crate::cli::{counted, printable};

/// Limits of `--deadline`, in seconds.
const DEADLINE_SECONDS: std::ops::RangeInclusive<f64> = 0.0..=300.0;

/// What is done with the agents of a running router.
#[derive(Debug, Subcommand)]
pub enum AgentVerb {
    /// List the agents of a running router
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        filter: Filter,
        /// The number of agents at most
        #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u64).range(1..))]
        limit: u64,
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// Show an agent of a running router
    Show(OneAgent),
    /// Suspend an agent of a running router: its messages wait
    Suspend(OneAgent),
    /// Resume a suspended agent of a running router
    Resume(OneAgent),
    /// Remove an agent of a running router once it has handled its messages
    Drain {
        /// Seconds after which what is left is dead-lettered
        #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = parse_deadline)]
        deadline: Duration,
        #[command(flatten)]
        agent: OneAgent,
    },
    /// Deregister an agent of a running router at once: what it has not handled is dead-lettered
    Rm(OneAgent),
}

/// Which agents are listed: those to which everything given applies.
#[derive(Debug, Default, Args)]
pub struct Filter {
    /// Only those whose names begin with this
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// Only those that provide this capability
    #[arg(long, value_name = "NAME")]
    capability: Option<CapabilityName>,
    /// Only those of this shard
    #[arg(long, value_name = "NUMBER")]
    shard: Option<u16>,
    /// Only those in this state
    #[arg(long, value_name = "STATE", value_parser = ["initiated", "active", "suspended", "draining", "stopped"])]
    state: Option<String>,
    /// Only those that get their messages in this way; outside: those of clients of the doors
    #[arg(long, value_name = "KIND", value_parser = ["handler", "inbox", "absent", "proxy", "outside"])]
    kind: Option<String>,
}

/// One agent.
#[derive(Debug, Args)]
pub struct OneAgent {
    /// Its name
    name: AgentName,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Arguments of `caxton df`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: 0 if the router has responded, also if no agent provides it; 1 if it does not respond or refuses; 2 if the \
arguments or the context cannot be used.")]
pub struct ProvidersArguments {
    /// The capability's name
    capability: CapabilityName,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

fn parse_deadline(text: &str) -> Result<Duration, String> {
    super::parse_seconds(text, DEADLINE_SECONDS)
}

/// Runs the verbs of `caxton agent` for a running router.
pub fn run(verb: &AgentVerb) -> ExitCode {
    super::end(act(verb))
}

fn act(verb: &AgentVerb) -> Result<ExitCode, Failure> {
    match verb {
        AgentVerb::Ls { filter, limit, json, remote } => {
            put_list(&find(&remote.client()?, filter, *limit)?, *limit, *json, table)
        }
        AgentVerb::Show(one) => {
            let agent = one.client()?.get(&one.path(&[])).document()?;
            one.tell(&agent, &shown(&agent))
        }
        AgentVerb::Suspend(one) => one.change("suspend"),
        AgentVerb::Resume(one) => one.change("resume"),
        AgentVerb::Drain { agent: one, deadline } => {
            let client = one.client()?;
            let call = client.post(&one.path(&["drain"])).query("deadline_ms", milliseconds(*deadline));
            let drained = call.waiting(*deadline).document()?;
            let left = match number(&drained, "left") {
                0 => "it has handled everything".to_owned(),
                left => format!("{} dead-lettered", counted(left, "message")),
            };
            one.tell(&drained, &format!("{} is removed; {left}\n", one.name))
        }
        AgentVerb::Rm(one) => {
            one.client()?.request(Method::DELETE, &one.path(&[])).send()?;
            let said = serde_json::json!({ "deregistered": one.name.to_string() });
            one.tell(&said, &format!("{} is deregistered\n", one.name))
        }
    }
}

impl OneAgent {
    fn client(&self) -> Result<Client, Failure> {
        self.remote.client()
    }

    fn path<'a>(&'a self, behind: &[&'a str]) -> Vec<&'a str> {
        [&["v1", "agents", self.name.as_ref()], behind].concat()
    }

    fn change(&self, how: &str) -> Result<ExitCode, Failure> {
        let agent = self.client()?.post(&self.path(&[how])).document()?;
        self.tell(&agent, &format!("{} is {}\n", self.name, text(&agent, "state")))
    }

    fn tell(&self, document: &Value, for_people: &str) -> Result<ExitCode, Failure> {
        if self.json {
            put_json(document)?;
        } else {
            put(for_people)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Returns agents, and whether there are more.
pub(super) fn all(client: &Client, limit: u64) -> Result<(Vec<Value>, bool), Trouble> {
    find(client, &Filter::default(), limit)
}

fn find(client: &Client, filter: &Filter, limit: u64) -> Result<(Vec<Value>, bool), Trouble> {
    let call = || {
        let call = client.get(&["v1", "agents"]).query_some("prefix", filter.prefix.as_ref());
        let call = call.query_some("capability", filter.capability.as_ref()).query_some("shard", filter.shard);
        call.query_some("state", filter.state.as_ref()).query_some("kind", filter.kind.as_ref())
    };
    pages(call, "agents", limit)
}

fn table(agents: &[Value]) -> String {
    let mut table = Table::new(["agent", "state", ">shard", ">messages", ">outbox", ">restarts", "capabilities"]);
    for agent in agents {
        table.row(&[
            text(agent, "name").to_owned(),
            state(agent),
            number(agent, "shard").to_string(),
            number(agent, "mailbox_messages").to_string(),
            number(agent, "outbox").to_string(),
            number(agent, "restarts").to_string(),
            words(agent, "capabilities"),
        ]);
    }
    if table.is_empty() { "no agents\n".to_owned() } else { table.to_string() }
}

/// Returns the state of an agent, and what is peculiar about it.
fn state(agent: &Value) -> String {
    let mut state = text(agent, "state").to_owned();
    if agent["closed"] == true {
        state.push_str(", full");
    }
    match agent["outside"]["clients"].as_u64() {
        Some(0) => state.push_str(", no client"),
        Some(_) => state.push_str(", outside"),
        None => {}
    }
    state
}

/// Describes an agent, a line for each property.
fn shown(agent: &Value) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{:<14}{}", format!("{name}:"), printable(value));
    };
    let word = |name: &str| super::text(agent, name).to_owned();
    line("name", &word("name"));
    line("id", &word("id"));
    line("kind", &word("kind"));
    line("state", &word("state"));
    if let Some(why) = agent["stopped_because"].as_str() {
        line("stopped", why);
    }
    line("shard", &number(agent, "shard").to_string());
    let waiting = counted_of(agent, "mailbox_messages", "message");
    let full = if agent["closed"] == true { ", full" } else { "" };
    line("mailbox", &format!("{waiting}, {}{full}", sized(number(agent, "mailbox_bytes"))));
    line("overflow", &word("overflow"));
    let outbox = counted_of(agent, "outbox", "message");
    line("outbox", &format!("{outbox}, {} for full mailboxes", counted_of(agent, "waiting", "message")));
    line("restarts", &number(agent, "restarts").to_string());
    let capabilities = words(agent, "capabilities");
    line("capabilities", if capabilities.is_empty() { "none" } else { &capabilities });
    if let Some(outside) = agent["outside"].as_object() {
        let outside = Value::Object(outside.clone());
        let mode = if outside["acknowledged"] == true { "acknowledged" } else { "processed when taken" };
        let clients = counted_of(&outside, "clients", "client");
        line("outside", &format!("registered by {}, {clients}, messages are {mode}", super::text(&outside, "owner")));
    }
    text
}

/// Runs `caxton df`.
pub fn run_providers(arguments: &ProvidersArguments) -> ExitCode {
    super::end(providers(arguments))
}

fn providers(arguments: &ProvidersArguments) -> Result<ExitCode, Failure> {
    let client = arguments.remote.client()?;
    let capability = arguments.capability.to_string();
    let found = client.get(&["v1", "capabilities", &capability]).document()?;
    let agents = list(&found, "agents");
    if arguments.json {
        put_json(&found)?;
    } else if agents.is_empty() {
        put(&format!("no agent provides {capability}\n"))?;
    } else {
        let lines: Vec<_> =
            agents.iter().filter_map(Value::as_str).map(|name| format!("{}\n", printable(name))).collect();
        put(&lines.concat())?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_agent_is_described_for_people() {
        let agent = json!({
            "name": "ann\u{1b}", "id": "a1", "kind": "outside", "state": "active", "stopped_because": null, "shard": 1, "mailbox_messages": 1,
            "mailbox_bytes": 2_048, "outbox": 0, "waiting": 2, "overflow": "reject", "closed": true, "restarts": 3,
            "capabilities": ["pricing", "tea"], "outside": {"owner": "billing", "clients": 0, "acknowledged": true},
        });
        let text = shown(&agent);
        for line in [
            "name:         ann\\u{1b}\n",
            "kind:         outside\n",
            "mailbox:      1 message, 2.0 KiB, full\n",
            "outbox:       0 messages, 2 messages for full mailboxes\n",
            "capabilities: pricing, tea\n",
            "outside:      registered by billing, 0 clients, messages are acknowledged\n",
        ] {
            assert!(text.contains(line), "no {line:?} in {text}");
        }
        let table = table(&[agent]);
        assert!(table.contains("active, full, no client") && table.contains("pricing, tea"), "{table}");
        assert_eq!(super::table(&[]), "no agents\n");
    }
}
