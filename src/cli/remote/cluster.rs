//! `caxton cluster`: what a running router knows of its cluster, and what is wrong with it.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::{put, put_json};
use super::table::Table;
use super::{Failure, Remote, lasting, list, number, text};
use crate::cli::doctor::explain;
use crate::cli::{counted, printable};

const PATH: [&str; 2] = ["v1", "cluster"];
/// The status of a finding because of which the cluster does not work as it should.
const PROBLEM: &str = "problem";

/// Arguments of `caxton cluster`.
#[derive(Debug, Args)]
pub struct ClusterArguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the nodes of the cluster and the links to them, as a running router sees them
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// Say what is wrong with the cluster as a running router sees it, and what to do
    #[command(after_help = "\
What is examined: the connection to NATS, the numbers, secrets and versions of the nodes, whether they are alive, and the \
links to them. Each node sees the cluster for itself: ask them all.

Exit status: 0 if messages reach every node, also with warnings; 1 if a problem keeps them from it, or the router is in no \
cluster or does not respond; 2 if the arguments cannot be used.")]
    Doctor {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        remote: Remote,
    },
}

/// Runs `caxton cluster`.
pub fn run(arguments: &ClusterArguments) -> ExitCode {
    super::end(match &arguments.verb {
        Verb::Status { json, remote } => show(remote, *json),
        Verb::Doctor { json, remote } => examine(remote, *json),
    })
}

fn show(remote: &Remote, json: bool) -> Result<ExitCode, Failure> {
    let cluster = remote.client()?.get(&PATH).document()?;
    if json {
        put_json(&cluster)?;
    } else {
        put(&readable(&cluster))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn examine(remote: &Remote, json: bool) -> Result<ExitCode, Failure> {
    let cluster = remote.client()?.get(&PATH).document()?;
    let findings = list(&cluster, "findings");
    let is_in_order = findings.iter().all(|finding| text(finding, "status") != PROBLEM);
    if json {
        put_json(&json!({ "in_order": is_in_order, "findings": findings }))?;
    } else {
        put(&explained(findings, is_in_order))?;
    }
    Ok(if is_in_order { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn explained(findings: &[Value], is_in_order: bool) -> String {
    let explain = |finding: &Value| {
        explain(text(finding, "status"), text(finding, "name"), text(finding, "found"), finding["mend"].as_str())
    };
    let mut lines: String = findings.iter().map(explain).collect();
    lines.push_str(if is_in_order {
        "Messages reach every node that is alive.\n"
    } else {
        "The cluster does not work as it should.\n"
    });
    lines
}

fn readable(cluster: &Value) -> String {
    let mut lines = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(lines, "{:<15}{value}", format!("{name}:"));
    };
    let connection = if cluster["connected"] == true { "connected to NATS for" } else { "not connected to NATS for" };
    let time = lasting(number(cluster, "connection_for_ms"));
    line("cluster", printable(text(cluster, "name")).into_owned());
    line("this node", format!("{}, {connection} {time}", number(cluster, "node")));
    line("remote agents", number(cluster, "remote_agents").to_string());
    line("lost", counted(number(cluster, "lost"), "message"));
    let troubles = list(cluster, "findings").iter().filter(|finding| text(finding, "status") != "ok").count();
    if troubles > 0 {
        line("not in order", format!("{}: see `caxton cluster doctor`", counted(troubles, "finding")));
    }
    let nodes = nodes(list(cluster, "nodes"));
    if nodes.is_empty() { format!("{lines}\nno other nodes\n") } else { format!("{lines}\n{nodes}") }
}

fn nodes(nodes: &[Value]) -> Table {
    let mut table = Table::new([
        ">node",
        "health",
        ">for",
        ">shards",
        ">agents",
        ">pending",
        "link",
        ">sent",
        ">received",
        ">resent",
        ">in flight",
        ">unsettled",
        ">round trip",
    ]);
    for node in nodes {
        let (load, link) = (&node["load"], &node["link"]);
        let figure =
            |of: &Value, name: &str| of[name].as_u64().map_or_else(|| "-".to_owned(), |value| value.to_string());
        table.row(&[
            figure(node, "node"),
            text(node, "health").to_owned(),
            lasting(number(node, "for_ms")),
            figure(node, "shards"),
            figure(load, "agents"),
            figure(load, "pending"),
            state(link).to_owned(),
            figure(link, "messages_sent"),
            figure(link, "messages_received"),
            figure(link, "retransmitted"),
            figure(link, "frames_in_flight"),
            figure(link, "unsettled"),
            link["round_trip_ms"].as_u64().map_or_else(|| "-".to_owned(), |time| format!("{time} ms")),
        ]);
    }
    table
}

/// Returns the state of a link as one word.
fn state(link: &Value) -> &'static str {
    match link {
        Value::Null => "-",
        link if link["open"] != true => "opening",
        link if link["silent"] == true => "silent",
        link if link["full"] == true => "full",
        _ => "open",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> Value {
        let link = |open: bool, silent: bool, full: bool| {
            json!({"open": open, "silent": silent, "full": full, "messages_sent": 5, "messages_received": 1_234,
                "retransmitted": 2, "frames_in_flight": 3, "unsettled": 4, "round_trip_ms": 7})
        };
        let node = |number: u64, health: &str, load: Value, link: Value| json!({"node": number, "health": health, "for_ms": 61_000, "shards": 2, "load": load, "link": link});
        let load = json!({"agents": 9, "pending": 8});
        json!({
            "name": "plant\u{1b}", "node": 1, "connected": true, "connection_for_ms": 5_000, "remote_agents": 3, "lost": 1,
            "nodes": [
                node(2, "alive", load, link(true, false, false)),
                node(3, "dead", Value::Null, link(true, true, true)),
                node(4, "suspect", Value::Null, link(true, false, true)),
                node(5, "alive", Value::Null, link(false, false, false)),
                node(6, "alive", Value::Null, Value::Null),
            ],
            "findings": [
                {"name": "nats", "status": "ok", "found": "connected to NATS for 5.0 s", "mend": null},
                {"name": "node", "status": "problem", "found": "node 3 has been dead for 61.0 s", "mend": "start it again"},
            ],
        })
    }

    #[test]
    fn nodes_are_a_table() {
        let text = readable(&cluster());
        for line in [
            "cluster:       plant\\u{1b}\n",
            "this node:     1, connected to NATS for 5s\n",
            "remote agents: 3\n",
            "lost:          1 message\n",
            "not in order:  1 finding: see `caxton cluster doctor`\n",
            "node  health     for  shards  agents  pending  link     sent  received  resent  in flight  unsettled  round trip\n",
            "   2  alive    1m 1s       2       9        8  open        5      1234       2          3          4        7 ms\n",
            "   3  dead     1m 1s       2       -        -  silent      5      1234       2          3          4        7 ms\n",
            "   4  suspect  1m 1s       2       -        -  full        5      1234       2          3          4        7 ms\n",
            "   5  alive    1m 1s       2       -        -  opening     5      1234       2          3          4        7 ms\n",
            "   6  alive    1m 1s       2       -        -  -           -         -       -          -          -           -\n",
        ] {
            assert!(text.contains(line), "no {line:?} in {text}");
        }
        let alone = json!({"name": "plant", "node": 1, "connected": false, "connection_for_ms": 0, "nodes": [], "findings": []});
        let text = readable(&alone);
        assert!(text.contains("not connected to NATS for 0s\n") && text.ends_with("\nno other nodes\n"), "{text}");
    }

    #[test]
    fn findings_are_explained() {
        let cluster = cluster();
        let text = explained(list(&cluster, "findings"), false);
        assert_eq!(
            text,
            "ok       nats: connected to NATS for 5.0 s\nproblem  node: node 3 has been dead for 61.0 s\n         \
             to fix it: start it again\nThe cluster does not work as it should.\n"
        );
    }
}
