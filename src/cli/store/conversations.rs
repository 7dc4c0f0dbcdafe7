//! `caxton conv`: conversations, as lists and as sequence diagrams: those of durable messages in a data directory, and the
//! open ones of a running router.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use caxton_router::AgentId;
use caxton_router::domain::AgentName;
use caxton_router::message::ConversationId;
use caxton_router::store::inspect::{Exchange, Inspection};
use clap::{Args, Subcommand};

use super::{ONE_PLACE, counted, look, printable, see, unreachable_place};
use crate::cli::diagram::{Diagram, Step};
use crate::cli::refuse;
use crate::cli::remote::Remote;
use crate::cli::remote::conversations::{Filter, Form, list_all as list_running, show as show_running};

/// Arguments of `caxton conv`.
#[derive(Debug, Args)]
pub struct ConversationArguments {
    #[command(subcommand)]
    verb: ConversationVerb,
}

#[derive(Debug, Subcommand)]
enum ConversationVerb {
    /// List conversations: of a data directory, oldest first, also while a router uses it; or the open ones of a running
    /// router
    #[command(visible_alias = "list")]
    Ls {
        /// The data directory; without it a running router is asked
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
        #[command(flatten)]
        filter: Filter,
        /// The number of conversations at most, of a running router
        #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u64).range(1..))]
        #[arg(conflicts_with = "directory")]
        limit: u64,
        /// Print one JSON object per line, for those of a running router
        #[arg(long, conflicts_with = "directory")]
        json: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// Draw a conversation as a sequence diagram: of a data directory, with its protocol violations, also while a router
    /// uses it; or an open one of a running router
    #[command(allow_missing_positional = true)]
    Show {
        /// The data directory; without it a running router is asked
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
        /// Its id, as printed by `ls` or as in the messages
        #[arg(value_name = "ID")]
        id: String,
        /// The agent that began it; needed for a running router
        #[arg(long, value_name = "NAME", required_unless_present = "directory", conflicts_with = "directory")]
        by: Option<AgentName>,
        /// Print Mermaid syntax
        #[arg(long, conflicts_with = "json")]
        mermaid: bool,
        /// Print what a running router says as JSON
        #[arg(long, conflicts_with = "directory")]
        json: bool,
        #[command(flatten)]
        remote: Remote,
    },
}

/// Runs `caxton conv`.
pub fn run(arguments: &ConversationArguments) -> ExitCode {
    match &arguments.verb {
        ConversationVerb::Ls { directory: Some(_), remote, .. } if remote.is_named() => refuse(ONE_PLACE),
        ConversationVerb::Ls { directory: None, filter, limit, json, remote } => {
            list_running(remote, filter, *limit, *json)
        }
        ConversationVerb::Ls { directory: Some(directory), .. } => {
            unreachable_place(directory).unwrap_or_else(|| see(look(directory), |inspection| Ok(list(inspection))))
        }
        ConversationVerb::Show { directory: Some(_), remote, .. } if remote.is_named() => refuse(ONE_PLACE),
        ConversationVerb::Show { directory: Some(directory), id, mermaid, .. } => unreachable_place(directory)
            .unwrap_or_else(|| see(look(directory), |inspection| show(directory, inspection, id, *mermaid))),
        ConversationVerb::Show { directory: None, id, by, mermaid, json, remote } => {
            let Some(by) = by else { return refuse("--by: name the agent that began the conversation") };
            let form = if *json {
                Form::Json
            } else if *mermaid {
                Form::Mermaid
            } else {
                Form::Text
            };
            show_running(remote, by, id, form)
        }
    }
}

fn list(inspection: &Inspection) -> String {
    let names = names(inspection);
    let mut found: Vec<_> = inspection.conversations.iter().collect();
    found.sort_by_key(|(_, exchange)| exchange.steps.first().map(|step| step.at));
    let mut text = String::new();
    for ((initiator, id), exchange) in found {
        let state = if exchange.closed { "ended" } else { "open" };
        let violations = exchange.steps.iter().filter(|step| step.violates).count();
        let broken = if violations > 0 { format!(", {}", counted(violations, "violation")) } else { String::new() };
        let protocol = exchange.steps.iter().find_map(|step| step.message.protocol()).unwrap_or("no protocol");
        let _ = writeln!(
            text,
            "{id} {state:<5} {}{broken}, {}, begun by {}",
            counted(exchange.steps.len(), "message"),
            printable(protocol),
            printable(&name_of(&names, *initiator))
        );
    }
    if text.is_empty() {
        text.push_str("no conversations of durable messages\n");
    }
    text
}

fn show(directory: &Path, inspection: &Inspection, id: &str, mermaid: bool) -> Result<String, String> {
    let wanted = ConversationId::of_text(id);
    let found: Vec<_> = inspection.conversations.iter().filter(|((_, id), _)| *id == wanted).collect();
    if found.is_empty() {
        return Err(format!("there is no conversation {} in {}", printable(id), directory.display()));
    }
    let names = names(inspection);
    let draw = |exchange: &Exchange| {
        let diagram = diagram(exchange, &names);
        let end = if exchange.closed { "ended" } else { "open" };
        if mermaid { diagram.in_mermaid() } else { format!("{}{end}\n", diagram.in_text()) }
    };
    // Several agents may have begun conversations with the same id.
    Ok(found.into_iter().map(|(_, exchange)| draw(exchange)).collect::<Vec<_>>().join("\n"))
}

/// Returns the names found in records, by agent id.
fn names(inspection: &Inspection) -> BTreeMap<AgentId, String> {
    let mut names = BTreeMap::new();
    let mut note = |name: &str| {
        if !name.is_empty() {
            names.insert(AgentId::of_text(name), name.to_owned());
        }
    };
    inspection.recovery.agents().for_each(|agent| note(agent.name.as_ref()));
    inspection.recovery.unsettled().for_each(|message| note(&message.receiver_name));
    for step in inspection.conversations.values().flat_map(|exchange| &exchange.steps) {
        note(&step.initiator_name);
        if let Some(details) = step.message.details() {
            details.sender.iter().chain(&details.receivers).for_each(|aid| note(aid.name.as_ref()));
        }
    }
    names
}

fn name_of(names: &BTreeMap<AgentId, String>, agent: AgentId) -> String {
    names.get(&agent).map_or_else(|| agent.to_string().chars().take(12).collect(), Clone::clone)
}

fn participants(exchange: &Exchange) -> Vec<AgentId> {
    let mut participants = Vec::new();
    for step in &exchange.steps {
        for agent in [step.message.sender(), step.message.target()].into_iter().flatten() {
            if !participants.contains(&agent) {
                participants.push(agent);
            }
        }
    }
    participants
}

fn diagram(exchange: &Exchange, names: &BTreeMap<AgentId, String>) -> Diagram {
    let agents = participants(exchange);
    let place = |agent: Option<AgentId>| agents.iter().position(|other| Some(*other) == agent);
    let steps = exchange.steps.iter().filter_map(|step| {
        let (from, to) = (place(step.message.sender())?, place(step.message.target())?);
        Some(Step { from, to, performative: step.message.performative().to_string(), violates: step.violates })
    });
    Diagram { participants: agents.iter().map(|agent| name_of(names, *agent)).collect(), steps: steps.collect() }
}
