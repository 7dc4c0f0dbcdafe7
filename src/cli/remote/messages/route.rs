//! `caxton send --dry-run`: where a message would go, and why.

use std::fmt::Write as _;

use serde_json::Value;

use super::super::client::Client;
use super::super::output::{put, put_json};
use super::super::{list, number, text};
use super::{Body, Failed};
use crate::cli::{counted, printable};

/// What becomes of a message that arrives.
const ARRIVING: [&str; 2] = ["delivered", "waits"];

/// Prints where a message would go. Returns whether it would reach every receiver.
pub fn explain(client: &Client, body: Body, json: bool) -> Result<bool, Failed> {
    let route = client.post(&["v1", "route"]).body(body.media, body.bytes).document()?;
    if json {
        put_json(&route)?;
    } else {
        put(&readable(&route))?;
    }
    let arrives = list(&route, "receivers").iter().all(|receiver| ARRIVING.contains(&text(receiver, "outcome")));
    Ok(route["dead_letter"].is_null() && arrives)
}

fn readable(route: &Value) -> String {
    let mut lines = String::new();
    if route["rule"].is_object() {
        let rule = &route["rule"];
        let to = rule["to_agent"].as_str().map(|agent| format!("agent {agent}"));
        let to = to.or_else(|| rule["to_capability"].as_str().map(|capability| format!("capability {capability}")));
        let _ = writeln!(lines, "rule {} sends it to {}", number(rule, "number"), printable(&to.unwrap_or_default()));
    }
    if route["capability"].is_object() {
        let capability = &route["capability"];
        let (name, choice) = (text(capability, "name"), text(capability, "choice"));
        let receives = text(capability, "receives");
        let _ = writeln!(
            lines,
            "capability {}, choice {}: {} receives it",
            printable(name),
            printable(choice),
            printable(receives)
        );
    }
    let receivers = list(route, "receivers");
    for receiver in receivers {
        let mut line = format!("{} on shard {}", printable(text(receiver, "name")), number(receiver, "shard"));
        if let Some(state) = receiver["state"].as_str() {
            let waiting = counted(number(receiver, "mailbox_messages"), "message");
            let _ = write!(line, ", {}, {waiting} in its mailbox", printable(state));
        }
        let _ = writeln!(lines, "{line}: {}", outcome(text(receiver, "outcome")));
    }
    let more = number(route, "receivers_in_all").saturating_sub(receivers.len() as u64);
    if more > 0 {
        let _ = writeln!(lines, "and {}", counted(more, "more receiver"));
    }
    if let Some(reason) = route["dead_letter"].as_str() {
        let why = match reason {
            "no-provider" => "no agent provides the capability",
            "no-route" => "it has no receiver, and no rule applies to it",
            _ => "it cannot be routed",
        };
        let _ = writeln!(lines, "it is dead-lettered, {}: {why}", printable(reason));
    }
    let conversation = &route["conversation"];
    if conversation.is_object() {
        let protocol = conversation["protocol"].as_str().unwrap_or("no protocol");
        let begun = if conversation["open"] == true {
            format!("is open, {}", counted(number(conversation, "messages"), "message"))
        } else {
            "is begun by it".to_owned()
        };
        let states = super::super::words(conversation, "states");
        let states = if states.is_empty() { states } else { format!(", in {states}") };
        let _ = writeln!(lines, "its conversation {begun}, {}{}", printable(protocol), printable(&states));
    }
    lines
}

/// Returns what would become of the message at a receiver.
fn outcome(word: &str) -> String {
    match word {
        "delivered" => "it is delivered".to_owned(),
        "waits" => "it waits there".to_owned(),
        "unknown-receiver" => "it is dead-lettered: there is no such agent".to_owned(),
        other => format!("it is dead-lettered: {}", printable(other)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_route_is_explained_for_people() {
        let route = json!({
            "rule": {"number": 3, "to_capability": "pricing"},
            "capability": {"name": "pricing", "choice": "any", "receives": "one of the providers"},
            "receivers": [
                {"name": "ann", "shard": 1, "state": "active", "mailbox_messages": 2, "outcome": "delivered"},
                {"name": "bob", "shard": 0, "state": null, "mailbox_messages": null, "outcome": "unknown-receiver"},
            ],
            "receivers_in_all": 5,
            "dead_letter": null,
            "conversation": {"open": true, "messages": 4, "protocol": "fipa-request", "states": ["agreed"]},
        });
        let expected = "\
rule 3 sends it to capability pricing
capability pricing, choice any: one of the providers receives it
ann on shard 1, active, 2 messages in its mailbox: it is delivered
bob on shard 0: it is dead-lettered: there is no such agent
and 3 more receivers
its conversation is open, 4 messages, fipa-request, in agreed
";
        assert_eq!(readable(&route), expected);
        let nowhere = json!({"rule": null, "capability": null, "receivers": [], "receivers_in_all": 0,
            "dead_letter": "no-route", "conversation": {"open": false, "protocol": null}});
        let expected = "it is dead-lettered, no-route: it has no receiver, and no rule applies to it\n\
                        its conversation is begun by it, no protocol\n";
        assert_eq!(readable(&nowhere), expected);
    }
}
