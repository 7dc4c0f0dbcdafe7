//! `caxton dlq`: dead letters in a data directory.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use caxton_router::AgentId;
use caxton_router::dead_letter::{DeadLetter, DeadLetterFilter, DeadLetterId};
use caxton_router::domain::AgentName;
use caxton_router::store::inspect::Inspection;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::tool::{wait_until_kept, with_router};
use super::{acl, counted, finish, look, printable, printable_lines, see, unreachable_place};

/// Arguments of `caxton dlq`.
#[derive(Debug, Args)]
pub struct LetterArguments {
    #[command(subcommand)]
    verb: LetterVerb,
}

#[derive(Debug, Subcommand)]
enum LetterVerb {
    /// List the dead letters, oldest first; safe while a router uses the directory
    Ls {
        /// The data directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Show a dead letter with its whole message; safe while a router uses the directory
    Show {
        /// The data directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Its id, such as d0-17
        #[arg(value_name = "ID")]
        id: DeadLetterId,
    },
    /// Replay one or all dead letters; no router may use the directory. Durable messages to persistent agents are
    /// queued for their receivers; other letters stay unchanged
    Replay {
        /// The data directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Its id; by default all of them
        #[arg(value_name = "ID")]
        id: Option<DeadLetterId>,
        /// Send to this agent instead of the original receiver
        #[arg(long, value_name = "NAME")]
        to: Option<AgentName>,
    },
    /// Delete one or all dead letters; no router may use the directory
    Purge {
        /// The data directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Its id
        #[arg(value_name = "ID", required_unless_present = "all")]
        id: Option<DeadLetterId>,
        /// Delete all of them
        #[arg(long, conflicts_with = "id")]
        all: bool,
    },
}

/// Runs `caxton dlq`.
pub fn run(arguments: &LetterArguments) -> ExitCode {
    let (LetterVerb::Ls { directory, .. }
    | LetterVerb::Show { directory, .. }
    | LetterVerb::Replay { directory, .. }
    | LetterVerb::Purge { directory, .. }) = &arguments.verb;
    if let Some(code) = unreachable_place(directory) {
        return code;
    }
    match &arguments.verb {
        LetterVerb::Ls { directory, json } => see(look(directory), |inspection| Ok(list(inspection, *json))),
        LetterVerb::Show { directory, id } => see(look(directory), |inspection| show(directory, inspection, *id)),
        LetterVerb::Replay { directory, id, to } => finish(replay(directory, *id, to.as_ref())),
        LetterVerb::Purge { directory, id, .. } => finish(purge(directory, *id)),
    }
}

fn list(inspection: &Inspection, as_json: bool) -> String {
    let mut text = String::new();
    for letter in inspection.recovery.dead_letters() {
        if as_json {
            let _ = writeln!(text, "{}", json(letter));
            continue;
        }
        let receiver = letter.message.target().map_or_else(|| "nobody".to_owned(), |target| target.to_string());
        let performative = letter.message.performative();
        let _ = writeln!(
            text,
            "{:<10} {:<20} {performative:<16} {receiver}",
            letter.id.to_string(),
            letter.reason.as_str()
        );
    }
    if text.is_empty() && !as_json {
        text.push_str("no dead letters\n");
    }
    text
}

fn show(directory: &Path, inspection: &Inspection, id: DeadLetterId) -> Result<String, String> {
    let letter = inspection.recovery.dead_letters().find(|letter| letter.id == id);
    let letter = letter.ok_or_else(|| format!("there is no dead letter {id} in {}", directory.display()))?;
    let mut text = String::new();
    let _ = writeln!(text, "{id}: {}", letter.reason.explanation());
    if let Some(error) = &letter.last_error {
        let _ = writeln!(text, "last error: {}", printable(error));
    }
    let _ = writeln!(text, "attempts: {}, replays: {}", letter.attempts, letter.replays);
    let _ = writeln!(text, "accepted at {} ms, given up at {} ms since 1970", letter.first.0, letter.last.0);
    let _ = writeln!(text, "{}", printable_lines(&acl(&letter.message)));
    Ok(text)
}

fn replay(directory: &Path, id: Option<DeadLetterId>, to: Option<&AgentName>) -> Result<String, String> {
    let to = to.map(AgentId::of);
    with_router(directory, |router| {
        if let Some(id) = id {
            let message = router.blocking().replay_dead_letter(id, to).map_err(|error| error.to_string())?;
            wait_until_kept(router);
            return Ok(format!("{id} was replayed as {message}\n"));
        }
        let filter = DeadLetterFilter::default();
        let summary = router.blocking().replay_dead_letters(&filter, to).map_err(|error| error.to_string())?;
        wait_until_kept(router);
        let refusal = summary.refusal.map_or_else(String::new, |refusal| format!(", the first because {refusal}"));
        Ok(format!("{} were replayed, {} were not{refusal}\n", summary.replayed, summary.refused))
    })
}

fn purge(directory: &Path, id: Option<DeadLetterId>) -> Result<String, String> {
    with_router(directory, |router| {
        let filter = id.map_or_else(DeadLetterFilter::default, DeadLetterFilter::only);
        let purged = router.blocking().purge_dead_letters(&filter).map_err(|error| error.to_string())?;
        match (id, purged) {
            (Some(id), 0) => Err(format!("there is no dead letter {id} in {}", directory.display())),
            _ => Ok(format!("deleted {}\n", counted(purged, "dead letter"))),
        }
    })
}

/// Returns a dead letter as JSON.
pub(super) fn json(letter: &DeadLetter) -> Value {
    json!({
        "dead_letter": letter.id.to_string(),
        "reason": letter.reason.as_str(),
        "last_error": letter.last_error.as_deref(),
        "attempts": letter.attempts,
        "replays": letter.replays,
        "first_ms": letter.first.0,
        "last_ms": letter.last.0,
        "receiver": letter.message.target().map(|target| target.to_string()),
        "sender": letter.message.sender().map(|sender| sender.to_string()),
        "acl": acl(&letter.message),
    })
}
