//! `caxton store`, `caxton dlq` and `caxton conv`: tools for a data directory. Without one, `dlq` and `conv` ask a running
//! router.
//!
//! Reading is safe while a router uses the directory. Changing is not: `dlq replay`, `dlq purge` and `store compact`
//! start a temporary router, which the directory's lock refuses while another one runs.
//!
//! Exit status: 0 on success; 1 if the directory is damaged, in use, or lacks what was asked for; 2 if it cannot be
//! read.

mod conversations;
mod filter;
mod letters;
mod tool;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use caxton_router::Message;
use caxton_router::codec::text::{self, NoNames};
use caxton_router::store::backup::backup;
use caxton_router::store::inspect::{Inspection, inspect};
use caxton_router::store::journal::JournalSummary;
use caxton_router::store::projector::examine;
use caxton_router::store::recover::Repair;
use clap::{Args, Subcommand};

pub use self::conversations::{ConversationArguments, run as run_conversations};
pub use self::letters::{LetterArguments, run as run_letters};
use self::tool::with_router;
use super::{counted, fail, print, printable, printable_lines, refuse};

/// Said if a command is told of two places.
const ONE_PLACE: &str =
    "name a data directory, or a running router by --url, --context, --token-file or --certificate: not both";

/// Arguments of `caxton store`.
#[derive(Debug, Args)]
pub struct StoreArguments {
    #[command(subcommand)]
    verb: StoreVerb,
}

#[derive(Debug, Subcommand)]
enum StoreVerb {
    /// Read everything and report the contents and any damage; safe while a router uses the directory
    Check(Place),
    /// Print everything that a start would find, one JSON object per line; safe while a router uses the directory
    Dump(Place),
    /// Copy everything that a start would find to another directory; safe while a router uses the directory
    Backup {
        /// The data directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// The directory to copy to; it must be empty or not exist
        #[arg(value_name = "TO")]
        to: PathBuf,
    },
    /// Plan the repair of a damaged directory and print what would be lost; with --yes, perform it. No router may use
    /// the directory
    Recover {
        /// The data directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Perform the repair. Nothing is removed: files in the way are moved into a directory beside it
        #[arg(long)]
        yes: bool,
    },
    /// Rewrite what is needed and free the rest of the space; no router may use the directory
    Compact(Place),
}

/// A data directory.
#[derive(Debug, Args)]
pub struct Place {
    /// The data directory
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// Runs `caxton store`.
pub fn run(arguments: &StoreArguments) -> ExitCode {
    let (StoreVerb::Check(Place { directory })
    | StoreVerb::Dump(Place { directory })
    | StoreVerb::Backup { directory, .. }
    | StoreVerb::Recover { directory, .. }
    | StoreVerb::Compact(Place { directory })) = &arguments.verb;
    if let Some(code) = unreachable_place(directory) {
        return code;
    }
    match &arguments.verb {
        StoreVerb::Check(place) => see(look(&place.directory), |inspection| Ok(check(inspection))),
        StoreVerb::Dump(place) => see(look(&place.directory), |inspection| Ok(dump(inspection))),
        StoreVerb::Backup { directory, to } => finish(back_up(directory, to)),
        StoreVerb::Recover { directory, yes } => finish(recover(directory, *yes)),
        StoreVerb::Compact(place) => finish(compact(&place.directory)),
    }
}

fn finish(done: Result<String, String>) -> ExitCode {
    match done {
        Ok(text) => print(&text),
        Err(complaint) => fail(&complaint),
    }
}

/// Prints what is intact, and reports damage.
fn see(inspection: Result<Inspection, String>, show: impl FnOnce(&Inspection) -> Result<String, String>) -> ExitCode {
    let inspection = match inspection {
        Ok(inspection) => inspection,
        Err(complaint) => return finish(Err(complaint)),
    };
    let shown = finish(show(&inspection));
    match inspection.complaint() {
        Some(damage) => finish(Err(format!("{damage}\nWhat was printed is what is intact"))),
        None => shown,
    }
}

/// Ends because a directory cannot be read, as for every other file named in an argument.
fn unreachable_place(directory: &Path) -> Option<ExitCode> {
    let complaint = match std::fs::read_dir(directory) {
        Ok(_) => return None,
        Err(error) => format!("the data directory: {}: {error}", directory.display()),
    };
    Some(refuse(&complaint))
}

fn look(directory: &Path) -> Result<Inspection, String> {
    inspect(directory).map_err(|error| error.to_string())
}

/// Like [`look`], but refuses damage.
fn look_at_whole(directory: &Path) -> Result<Inspection, String> {
    let inspection = look(directory)?;
    inspection.complaint().map_or(Ok(()), Err)?;
    Ok(inspection)
}

fn back_up(directory: &Path, to: &Path) -> Result<String, String> {
    let copied = backup(directory, to).map_err(|error| error.to_string())?;
    Ok(format!(
        "{} has {}, {}, {} and {}; a router can start from it\n",
        to.display(),
        counted(copied.messages, "message"),
        counted(copied.dead_letters, "dead letter"),
        counted(copied.agents, "agent"),
        counted(copied.conversations, "open conversation")
    ))
}

fn recover(directory: &Path, yes: bool) -> Result<String, String> {
    let plan = Repair::plan(directory).map_err(|error| error.to_string())?;
    let Some(repair) = plan else { return Ok("nothing is damaged, and nothing was changed\n".to_owned()) };
    let mut text = String::new();
    for step in &repair.steps {
        let _ = writeln!(text, "{step}");
    }
    for lost in &repair.lost {
        let _ = writeln!(text, "lost: {lost}");
    }
    if repair.lost.is_empty() {
        text.push_str("nothing that was acknowledged is lost\n");
    }
    if !yes {
        text.push_str("nothing was changed: run it again with --yes\n");
        return Ok(text);
    }
    let aside = repair.apply().map_err(|error| format!("{text}{error}"))?;
    let _ = writeln!(text, "done; what was in the way is in {}", aside.display());
    Ok(text)
}

fn check(inspection: &Inspection) -> String {
    let Inspection { generation, shards, in_use, recovery, conversations, journals, damage, .. } = inspection;
    let mut text = String::new();
    let state = if *in_use { "in use by a router" } else { "not in use" };
    let _ = writeln!(text, "generation {generation} of {}, {state}", counted(shards, "shard"));
    for (shard, journal) in journals.iter().enumerate() {
        let Some(journal) = journal else {
            let _ = writeln!(text, "shard {shard}: damaged");
            continue;
        };
        let _ = writeln!(text, "shard {shard}: {}", counted(journal.records(), "record"));
        for segment in &journal.segments {
            let torn = segment.torn_at.map_or_else(String::new, |offset| format!(", a torn write at byte {offset}"));
            let name = segment.path.file_name().unwrap_or_default().display();
            let _ = writeln!(
                text,
                "  {name}: {}, {}, {}{torn}",
                counted(segment.frames, "frame"),
                counted(segment.records, "record"),
                counted(segment.bytes, "byte")
            );
        }
    }
    for path in &inspection.databases {
        let _ = writeln!(text, "{}: {}", path.display(), database(path, *in_use));
    }
    for note in &inspection.notes {
        let _ = writeln!(text, "note: {note}");
    }
    for damage in damage {
        let _ = writeln!(text, "damaged: {damage}");
    }
    let open = conversations.values().filter(|exchange| !exchange.closed).count();
    let (finds, end) = match damage.len() {
        0 => ("a start finds", "nothing is damaged".to_owned()),
        1 => ("a start is refused; intact are", "1 thing is damaged or missing".to_owned()),
        count => ("a start is refused; intact are", format!("{count} things are damaged or missing")),
    };
    let _ = writeln!(
        text,
        "{finds} {}, {}, {} and {}; {end}",
        counted(recovery.messages(), "message"),
        counted(recovery.dead_letters().count(), "dead letter"),
        counted(recovery.agents().count(), "agent"),
        counted(open, "open conversation"),
    );
    text
}

/// Describes how far a database has come. It is only a view of the journal, so damage to it loses nothing.
fn database(path: &Path, in_use: bool) -> String {
    match examine(path, in_use) {
        Ok(found) if found.integrity == "ok" => {
            format!("shows everything up to record {}; its integrity is ok", found.record)
        }
        Ok(found) => format!("{}; the next start creates a new one", found.integrity),
        Err(error) => format!("it cannot be read: {error}; the next start creates a new one"),
    }
}

fn dump(inspection: &Inspection) -> String {
    let mut text = String::new();
    for agent in inspection.recovery.agents() {
        let line = serde_json::json!({
            "agent": agent.name.to_string(),
            "capabilities": agent.capabilities.iter().map(|name| &**name).collect::<Vec<_>>(),
        });
        let _ = writeln!(text, "{line}");
    }
    for message in inspection.recovery.unsettled() {
        let line = serde_json::json!({
            "message": message.message.id().map(|id| id.to_string()),
            "receiver": &*message.receiver_name,
            "expires_ms": message.expires.0,
            "acl": acl(&message.message),
        });
        let _ = writeln!(text, "{line}");
    }
    for letter in inspection.recovery.dead_letters() {
        let _ = writeln!(text, "{}", letters::json(letter));
    }
    text
}

/// Returns a message in the string form of FIPA SC00070. Agents whose names it does not contain are shown by id.
fn acl(message: &Message) -> String {
    let mut output = Vec::new();
    text::print(message, &NoNames, &mut output);
    String::from_utf8_lossy(&output).into_owned()
}

fn compact(directory: &Path) -> Result<String, String> {
    let before = look_at_whole(directory)?;
    let (records, messages) = with_router(directory, |router| {
        let found = router.recovered().unwrap_or_default();
        Ok((found.records, found.messages))
    })?;
    let after = look_at_whole(directory)?;
    let count =
        |inspection: &Inspection| inspection.journals.iter().flatten().map(JournalSummary::records).sum::<u64>();
    Ok(format!(
        "{} of generation {} became {} of generation {}; {} still undelivered\n",
        counted(records, "record"),
        before.generation,
        count(&after),
        after.generation,
        counted(messages, "message")
    ))
}
