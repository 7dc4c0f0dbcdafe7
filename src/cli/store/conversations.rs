//! `caxton conv`: conversations of durable messages in a data directory, as lists and as sequence diagrams.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use caxton_router::AgentId;
use caxton_router::message::ConversationId;
use caxton_router::store::inspect::{Exchange, Inspection};
use clap::{Args, Subcommand};

use super::{counted, look, printable, see, unreachable_place};

/// Width of a participant's column, in characters.
const COLUMN: usize = 24;

/// Arguments of `caxton conv`.
#[derive(Debug, Args)]
pub struct ConversationArguments {
    #[command(subcommand)]
    verb: ConversationVerb,
}

#[derive(Debug, Subcommand)]
enum ConversationVerb {
    /// List conversations, oldest first; safe while a router uses the directory
    Ls {
        /// The data directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Draw a conversation as a sequence diagram, with its protocol violations; safe while a router uses the directory
    Show {
        /// The data directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Its id, as printed by `ls` or as in the messages
        #[arg(value_name = "ID")]
        id: String,
        /// Print Mermaid syntax
        #[arg(long)]
        mermaid: bool,
    },
}

/// Runs `caxton conv`.
pub fn run(arguments: &ConversationArguments) -> ExitCode {
    let (ConversationVerb::Ls { directory } | ConversationVerb::Show { directory, .. }) = &arguments.verb;
    if let Some(code) = unreachable_place(directory) {
        return code;
    }
    match &arguments.verb {
        ConversationVerb::Ls { directory } => see(look(directory), |inspection| Ok(list(inspection))),
        ConversationVerb::Show { directory, id, mermaid } => {
            see(look(directory), |inspection| show(directory, inspection, id, *mermaid))
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
            name_of(&names, *initiator)
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
    let draw = |exchange: &Exchange| if mermaid { in_mermaid(exchange, &names) } else { in_text(exchange, &names) };
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
    names.get(&agent).map_or_else(|| agent.to_string().chars().take(12).collect(), |name| printable(name).into_owned())
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

/// Draws columns for participants, arrows for messages.
fn in_text(exchange: &Exchange, names: &BTreeMap<AgentId, String>) -> String {
    let participants = participants(exchange);
    let mut text = String::new();
    for agent in &participants {
        let name: String = name_of(names, *agent).chars().take(COLUMN - 2).collect();
        let _ = write!(text, "{name:<COLUMN$}");
    }
    text = text.trim_end().to_owned() + "\n";
    for step in &exchange.steps {
        let place = |agent: Option<AgentId>| participants.iter().position(|other| Some(*other) == agent);
        let (Some(from), Some(to)) = (place(step.message.sender()), place(step.message.target())) else { continue };
        let mut line: Vec<char> = vec![' '; participants.len() * COLUMN];
        for column in 0..participants.len() {
            line[column * COLUMN] = '|';
        }
        let label = step.message.performative().to_string();
        let (left, right) = (from.min(to) * COLUMN, from.max(to) * COLUMN);
        if from == to {
            let arrow = format!("<- {label}");
            line.splice(left + 1..(left + 1 + arrow.chars().count()).min(left + COLUMN), arrow.chars());
        } else {
            line[left + 1..right].fill('-');
            if from < to {
                line[right - 1] = '>';
            } else {
                line[left + 1] = '<';
            }
            let at = left + 3;
            for (place, letter) in format!(" {label} ").chars().enumerate().take(right.saturating_sub(at + 1)) {
                line[at + place] = letter;
            }
        }
        let mut line: String = line.into_iter().collect::<String>().trim_end().to_owned();
        if step.violates {
            line.push_str("   violates the protocol");
        }
        text.push_str(&line);
        text.push('\n');
    }
    text.push_str(if exchange.closed { "ended\n" } else { "open\n" });
    text
}

fn in_mermaid(exchange: &Exchange, names: &BTreeMap<AgentId, String>) -> String {
    let participants = participants(exchange);
    let mut text = String::from("sequenceDiagram\n");
    for (place, agent) in participants.iter().enumerate() {
        let _ = writeln!(text, "    participant a{place} as {}", name_of(names, *agent).replace([';', ':', '#'], " "));
    }
    for step in &exchange.steps {
        let place = |agent: Option<AgentId>| participants.iter().position(|other| Some(*other) == agent);
        let (Some(from), Some(to)) = (place(step.message.sender()), place(step.message.target())) else { continue };
        let _ = writeln!(text, "    a{from}->>a{to}: {}", step.message.performative());
        if step.violates {
            let _ = writeln!(text, "    Note over a{to}: violates the protocol");
        }
    }
    text
}
