//! `caxton dlq`: dead letters in a data directory or of a running router.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use caxton_router::AgentId;
use caxton_router::dead_letter::{DeadLetter, DeadLetterFilter, DeadLetterId};
use caxton_router::domain::AgentName;
use caxton_router::store::inspect::Inspection;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::filter::Filter;
use super::tool::{wait_until_kept, with_router};
use super::{ONE_PLACE, acl, counted, finish, look, printable, printable_lines, see, unreachable_place};
use crate::cli::refuse;
use crate::cli::remote::Remote;
use crate::cli::remote::dead_letters::{self, Which};

/// Arguments of `caxton dlq`.
#[derive(Debug, Args)]
pub struct LetterArguments {
    #[command(subcommand)]
    verb: LetterVerb,
}

#[derive(Debug, Subcommand)]
enum LetterVerb {
    /// List dead letters: those of a data directory, oldest first and also while a router uses it, or those of a running
    /// router, newest first
    Ls {
        /// The data directory; without it a running router is asked
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
        /// The number of dead letters at most
        #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u64).range(1..),
            conflicts_with = "directory")]
        limit: u64,
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        remote: Remote,
    },
    /// Show a dead letter with its whole message; safe while a router uses the directory
    #[command(allow_missing_positional = true)]
    Show {
        /// The data directory; without it a running router is asked
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
        /// Its id, such as d0-17
        #[arg(value_name = "ID")]
        id: DeadLetterId,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// Replay dead letters: their messages are sent again. No router may use the directory, of which durable messages to
    /// persistent agents are queued for their receivers. Letters whose messages do not arrive stay
    Replay(ChangeArguments<ReplayOptions>),
    /// Delete dead letters; no router may use the directory
    Purge(ChangeArguments<NoOptions>),
}

/// The arguments of a change.
#[derive(Debug, Args)]
struct ChangeArguments<T: Args> {
    /// The data directory; without it the dead letters are those of a running router
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Its id, such as d0-17. A directory of such a name is written ./d0-17
    #[arg(value_name = "ID")]
    id: Option<DeadLetterId>,
    /// All dead letters
    #[arg(long, conflicts_with = "id")]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    own: T,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
struct ReplayOptions {
    /// Send to this agent instead of the original receiver
    #[arg(long, value_name = "NAME")]
    to: Option<AgentName>,
}

#[derive(Debug, Args)]
struct NoOptions {}

/// Where the dead letters of a change are, and which of them are meant.
enum Target<'a> {
    Store(&'a Path, DeadLetterFilter, Option<DeadLetterId>),
    Running(Which),
}

impl<T: Args> ChangeArguments<T> {
    /// Returns what is meant. `by_default_all`: whether a data directory alone means all that is in it.
    fn target(&self, by_default_all: bool) -> Result<Target<'_>, String> {
        let alone = self.directory.as_ref().filter(|_| self.id.is_none());
        let id_alone = alone.and_then(|argument| argument.to_str()?.parse::<DeadLetterId>().ok());
        let directory = if id_alone.is_some() { None } else { self.directory.as_deref() };
        let id = id_alone.or(self.id);
        if directory.is_some() && self.remote.is_named() {
            return Err(ONE_PLACE.to_owned());
        }
        match (id, self.filter.is_empty(), self.all) {
            (Some(_), false, _) | (Some(_), _, true) | (None, false, true) => {
                return Err(
                    "name one dead letter by its id, some by a filter, or --all: not several of that".to_owned()
                );
            }
            (None, true, false) if directory.is_none() || !by_default_all => {
                return Err("name a dead letter by its id, some by a filter such as --reason, or --all".to_owned());
            }
            _ => {}
        }
        Ok(match (directory, id) {
            (Some(directory), _) => {
                let filter = id.map_or_else(|| self.filter.for_store(), DeadLetterFilter::only);
                Target::Store(directory, filter, id)
            }
            (None, Some(id)) => Target::Running(Which::One(id)),
            (None, None) if self.all => Target::Running(Which::All),
            (None, None) => Target::Running(Which::Some(self.filter.parameters())),
        })
    }
}

/// Runs `caxton dlq`.
pub fn run(arguments: &LetterArguments) -> ExitCode {
    match &arguments.verb {
        LetterVerb::Ls { directory: Some(_), remote, .. } | LetterVerb::Show { directory: Some(_), remote, .. }
            if remote.is_named() =>
        {
            refuse(ONE_PLACE)
        }
        LetterVerb::Ls { directory: Some(directory), json, filter, .. } => {
            let filter = filter.for_store();
            at(directory, || see(look(directory), |inspection| Ok(list(inspection, &filter, *json))))
        }
        LetterVerb::Ls { directory: None, limit, json, filter, remote } => {
            dead_letters::list_all(remote, &filter.parameters(), *limit, *json)
        }
        LetterVerb::Show { directory: Some(directory), id, json, .. } => {
            at(directory, || see(look(directory), |inspection| show(directory, inspection, *id, *json)))
        }
        LetterVerb::Show { directory: None, id, json, remote } => dead_letters::show(remote, *id, *json),
        LetterVerb::Replay(change) => {
            let to = change.own.to.as_ref();
            match change.target(true) {
                Err(complaint) => refuse(&complaint),
                Ok(Target::Running(which)) => dead_letters::replay(&change.remote, &which, to, change.json),
                Ok(Target::Store(directory, filter, id)) => {
                    at(directory, || finish(replay(directory, &filter, id, to, change.json)))
                }
            }
        }
        LetterVerb::Purge(change) => match change.target(false) {
            Err(complaint) => refuse(&complaint),
            Ok(Target::Running(which)) => dead_letters::purge(&change.remote, &which, change.json),
            Ok(Target::Store(directory, filter, id)) => {
                at(directory, || finish(purge(directory, &filter, id, change.json)))
            }
        },
    }
}

/// Does something with a data directory, if it can be read.
fn at(directory: &Path, act: impl FnOnce() -> ExitCode) -> ExitCode {
    unreachable_place(directory).unwrap_or_else(act)
}

fn list(inspection: &Inspection, filter: &DeadLetterFilter, as_json: bool) -> String {
    let mut text = String::new();
    for letter in inspection.recovery.dead_letters().filter(|letter| filter.matches(letter)) {
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

fn show(directory: &Path, inspection: &Inspection, id: DeadLetterId, as_json: bool) -> Result<String, String> {
    let letter = inspection.recovery.dead_letters().find(|letter| letter.id == id);
    let letter = letter.ok_or_else(|| format!("there is no dead letter {id} in {}", directory.display()))?;
    if as_json {
        return Ok(format!("{}\n", json(letter)));
    }
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

fn replay(
    directory: &Path,
    filter: &DeadLetterFilter,
    id: Option<DeadLetterId>,
    to: Option<&AgentName>,
    as_json: bool,
) -> Result<String, String> {
    let to = to.map(AgentId::of);
    with_router(directory, |router| {
        if let Some(id) = id {
            let message = router.blocking().replay_dead_letter(id, to).map_err(|error| error.to_string())?;
            wait_until_kept(router);
            let done = json!({ "message": message.to_string() });
            return Ok(if as_json { format!("{done}\n") } else { format!("{id} was replayed as {message}\n") });
        }
        let summary = router.blocking().replay_dead_letters(filter, to).map_err(|error| error.to_string())?;
        wait_until_kept(router);
        let (replayed, refused) = (summary.replayed, summary.refused);
        let refusal = summary.refusal.map(|refusal| refusal.to_string());
        if as_json {
            return Ok(format!("{}\n", json!({ "replayed": replayed, "refused": refused, "refusal": refusal })));
        }
        let refusal = refusal.map_or_else(String::new, |refusal| format!(", the first because {refusal}"));
        Ok(format!("{replayed} were replayed, {refused} were not{refusal}\n"))
    })
}

fn purge(
    directory: &Path,
    filter: &DeadLetterFilter,
    id: Option<DeadLetterId>,
    as_json: bool,
) -> Result<String, String> {
    with_router(directory, |router| {
        let purged = router.blocking().purge_dead_letters(filter).map_err(|error| error.to_string())?;
        match (id, purged) {
            (Some(id), 0) => Err(format!("there is no dead letter {id} in {}", directory.display())),
            _ if as_json => Ok(format!("{}\n", json!({ "purged": purged }))),
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
