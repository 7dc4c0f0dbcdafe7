//! `caxton conv` for a running router.

use std::fmt::Write as _;
use std::process::ExitCode;

use caxton_router::domain::AgentName;
use clap::Args;
use serde_json::Value;

use super::output::{put, put_json};
use super::table::Table;
use super::{Failure, Remote, lasting, list, number, pages, put_list, text, words};
use crate::cli::diagram::{Diagram, Step};
use crate::cli::{counted, printable};

/// In which form a conversation is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Text,
    Mermaid,
    Json,
}

/// Which open conversations are listed: those to which everything given applies.
#[derive(Debug, Args)]
pub struct Filter {
    /// Only those that follow this protocol
    #[arg(long, value_name = "NAME", conflicts_with = "directory")]
    protocol: Option<String>,
    /// Only those whose protocol is in this state, such as agreed
    #[arg(long, value_name = "STATE", conflicts_with = "directory")]
    state: Option<String>,
    /// Only those in which this agent takes part
    #[arg(long, value_name = "NAME", conflicts_with = "directory")]
    agent: Option<AgentName>,
}

/// Lists open conversations.
pub fn list_all(remote: &Remote, filter: &Filter, limit: u64, json: bool) -> ExitCode {
    super::end(try_list(remote, filter, limit, json))
}

fn try_list(remote: &Remote, filter: &Filter, limit: u64, json: bool) -> Result<ExitCode, Failure> {
    let client = remote.client()?;
    let call = || {
        let call = client.get(&["v1", "conversations"]).query_some("protocol", filter.protocol.as_ref());
        call.query_some("state", filter.state.as_ref()).query_some("agent", filter.agent.as_ref())
    };
    put_list(&pages(call, "conversations", limit)?, limit, json, table)
}

fn table(conversations: &[Value]) -> String {
    let mut table =
        Table::new(["conversation", "protocol", "state", ">messages", ">awaited", ">open", ">idle", "participants"]);
    for conversation in conversations {
        let or_none = |name: &str| conversation[name].as_str().unwrap_or("-").to_owned();
        let named = list(conversation, "participants").len() as u64;
        let more = match number(conversation, "participant_count").saturating_sub(named) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        table.row(&[
            or_none("id"),
            or_none("protocol"),
            or_none("state"),
            number(conversation, "messages").to_string(),
            number(conversation, "awaited_replies").to_string(),
            lasting(number(conversation, "open_for_ms")),
            lasting(number(conversation, "idle_for_ms")),
            format!("{}{more}", words(conversation, "participants")),
        ]);
    }
    if table.is_empty() { "no open conversations\n".to_owned() } else { table.to_string() }
}

/// Shows an open conversation of the agent that began it.
pub fn show(remote: &Remote, by: &AgentName, id: &str, form: Form) -> ExitCode {
    super::end(try_show(remote, by, id, form))
}

fn try_show(remote: &Remote, by: &AgentName, id: &str, form: Form) -> Result<ExitCode, Failure> {
    let view = remote.client()?.get(&["v1", "agents", by.as_ref(), "conversations", id]).document()?;
    match form {
        Form::Json => put_json(&view)?,
        Form::Mermaid => put(&diagram(&view).in_mermaid())?,
        Form::Text => put(&format!("{}{}", diagram(&view).in_text(), state(&view)))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn diagram(view: &Value) -> Diagram {
    let participants: Vec<String> =
        list(view, "participants").iter().map(|name| name.as_str().unwrap_or_default().to_owned()).collect();
    let place = |entry: &Value, name: &str| participants.iter().position(|other| other == text(entry, name));
    let steps = list(view, "history").iter().filter_map(|entry| {
        let performative = text(entry, "performative").to_owned();
        Some(Step { from: place(entry, "from")?, to: place(entry, "to")?, performative, violates: false })
    });
    let steps = steps.collect();
    Diagram { participants, steps }
}

/// Describes how the conversation stands.
fn state(view: &Value) -> String {
    let (messages, shown) = (number(view, "messages"), list(view, "history").len() as u64);
    let mut text = String::new();
    if messages > shown {
        let _ = writeln!(text, "the last {shown} of {}", counted(messages, "message"));
    }
    let (open, idle) = (lasting(number(view, "open_for_ms")), lasting(number(view, "idle_for_ms")));
    let awaited = number(view, "awaited_replies");
    let awaited = if awaited > 0 { format!(", {awaited} awaited") } else { String::new() };
    let _ = writeln!(text, "open for {open}, idle for {idle}{awaited}");
    let protocol = &view["protocol"];
    for party in list(protocol, "parties") {
        let end = if party["may_end"] == true { ", may end here" } else { "" };
        let cancelling = if party["cancelling"] == true { ", is being cancelled" } else { "" };
        let line = format!(
            "{} with {}: {}{end}{cancelling}",
            super::text(protocol, "name"),
            super::text(party, "participant"),
            super::text(party, "state")
        );
        let _ = writeln!(text, "{}", printable(&line));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conversations_are_listed_for_people() {
        let conversation = json!({
            "id": "c1", "participants": ["ann", "bob"], "participant_count": 5, "messages": 7, "awaited_replies": 1,
            "open_for_ms": 61_000, "idle_for_ms": 2_000, "protocol": "fipa-request", "state": null,
        });
        let expected = "\
conversation  protocol      state  messages  awaited   open  idle  participants
c1            fipa-request  -             7        1  1m 1s    2s  ann, bob and 3 more
";
        assert_eq!(table(&[conversation]), expected);
        assert_eq!(table(&[]), "no open conversations\n");
    }

    #[test]
    fn a_conversation_is_drawn_with_its_state() {
        let view = json!({
            "participants": ["ann", "bob"], "messages": 5, "awaited_replies": 1, "open_for_ms": 61_000, "idle_for_ms": 2_000,
            "history": [
                {"message": "m1", "performative": "request", "from": "ann", "to": "bob"},
                {"message": "m2", "performative": "agree", "from": "bob", "to": "ann"},
            ],
            "protocol": {"name": "fipa-request", "parties": [
                {"participant": "bob", "state": "agreed", "may_end": false, "cancelling": true}]},
        });
        let diagram = diagram(&view);
        let expected = "\
ann                     bob
|-- request ----------->|
|<- agree --------------|
";
        assert_eq!(diagram.in_text(), expected);
        let expected = "\
the last 2 of 5 messages
open for 1m 1s, idle for 2s, 1 awaited
fipa-request with bob: agreed, is being cancelled
";
        assert_eq!(state(&view), expected);
        assert!(diagram.in_mermaid().contains("    a1->>a0: agree\n"));
    }
}
