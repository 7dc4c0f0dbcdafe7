//! `caxton conv show` for a running router.

use std::fmt::Write as _;
use std::process::ExitCode;

use caxton_router::domain::AgentName;
use serde_json::Value;

use super::output::{put, put_json};
use super::{Failure, Remote, lasting, list, number, text};
use crate::cli::diagram::{Diagram, Step};
use crate::cli::{counted, printable};

/// In which form a conversation is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Text,
    Mermaid,
    Json,
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
