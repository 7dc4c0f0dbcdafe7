//! `caxton dlq` for a running router.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use caxton_router::dead_letter::DeadLetterId;
use caxton_router::domain::AgentName;
use serde_json::{Value, json};
use ureq::http::Method;

use super::client::Call;
use super::output::{put, put_json};
use super::table::Table;
use super::{Failure, Remote, number, pages, put_list, text};
use crate::cli::{counted, printable, printable_lines};

/// How long a replay or a purge of many may take. If it takes longer, the router goes on.
const CHANGE_WITHIN: Duration = Duration::from_mins(5);
const PATH: [&str; 2] = ["v1", "dead-letters"];

/// Which dead letters are meant, for a change.
pub enum Which {
    One(DeadLetterId),
    Some(Vec<(&'static str, String)>),
    All,
}

impl Which {
    fn path<'a>(&self, id: &'a str, behind: &[&'a str]) -> Vec<&'a str> {
        let one = if let Self::One(_) = self { vec![id] } else { Vec::new() };
        [&PATH[..], &one, behind].concat()
    }

    fn id(&self) -> String {
        if let Self::One(id) = self { id.to_string() } else { String::new() }
    }

    fn select<'a>(&self, call: Call<'a>) -> Call<'a> {
        match self {
            Self::One(_) => call,
            Self::All => call.query("all", true).waiting(CHANGE_WITHIN),
            Self::Some(parameters) => with(call, parameters).waiting(CHANGE_WITHIN),
        }
    }
}

fn with<'a>(call: Call<'a>, parameters: &[(&'static str, String)]) -> Call<'a> {
    parameters.iter().fold(call, |call, (name, value)| call.query(name, value))
}

/// Lists dead letters, newest first.
pub fn list_all(remote: &Remote, parameters: &[(&'static str, String)], limit: u64, json: bool) -> ExitCode {
    super::end(try_list(remote, parameters, limit, json))
}

fn try_list(
    remote: &Remote,
    parameters: &[(&'static str, String)],
    limit: u64,
    json: bool,
) -> Result<ExitCode, Failure> {
    let client = remote.client()?;
    let letters = pages(|| with(client.get(&PATH), parameters), "dead_letters", limit)?;
    put_list(&letters, limit, json, table)
}

fn table(letters: &[Value]) -> String {
    let mut table =
        Table::new(["id", "given up at", "reason", "performative", "sender", "receiver", ">attempts", "conversation"]);
    for letter in letters {
        let or_none = |name: &str| letter[name].as_str().unwrap_or("-").to_owned();
        table.row(&[
            or_none("id"),
            time(number(letter, "last_ms")),
            or_none("reason"),
            or_none("performative"),
            or_none("sender"),
            or_none("receiver"),
            number(letter, "attempts").to_string(),
            or_none("conversation"),
        ]);
    }
    if table.is_empty() { "no dead letters\n".to_owned() } else { table.to_string() }
}

fn time(ms: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_millis(ms));
    // Later years have no form.
    time.filter(|_| ms < 253_402_300_800_000)
        .map_or_else(|| ms.to_string(), |time| humantime::format_rfc3339_seconds(time).to_string())
}

/// Shows a dead letter with its message.
pub fn show(remote: &Remote, id: DeadLetterId, json: bool) -> ExitCode {
    super::end(try_show(remote, id, json))
}

fn try_show(remote: &Remote, id: DeadLetterId, json: bool) -> Result<ExitCode, Failure> {
    let letter = remote.client()?.get(&[&PATH[..], &[&id.to_string()]].concat()).document()?;
    if json {
        put_json(&letter)?;
    } else {
        put(&shown(&letter))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(letter: &Value) -> String {
    let mut lines = format!("{}: {}\n", printable(text(letter, "id")), printable(text(letter, "explanation")));
    if let Some(error) = letter["last_error"].as_str() {
        let _ = writeln!(lines, "last error: {}", printable(error));
    }
    let _ = writeln!(lines, "attempts: {}, replays: {}", number(letter, "attempts"), number(letter, "replays"));
    let (first, last) = (time(number(letter, "first_ms")), time(number(letter, "last_ms")));
    let _ = writeln!(lines, "accepted at {first}, given up at {last}, shard {}", number(letter, "shard"));
    let _ = writeln!(lines, "{}", printable_lines(&format!("{:#}", letter["message"])));
    lines
}

/// Replays dead letters.
pub fn replay(remote: &Remote, which: &Which, to: Option<&AgentName>, json: bool) -> ExitCode {
    super::end(try_replay(remote, which, to, json))
}

fn try_replay(remote: &Remote, which: &Which, to: Option<&AgentName>, json: bool) -> Result<ExitCode, Failure> {
    let (client, id) = (remote.client()?, which.id());
    let call = which.select(client.post(&which.path(&id, &["replay"]))).query_some("to", to);
    let done = call.document()?;
    if json {
        put_json(&done)?;
    } else if let Which::One(id) = which {
        put(&format!("{id} was replayed as {}\n", printable(text(&done, "message"))))?;
    } else {
        let refusal = done["refusal"].as_str();
        let refusal = refusal.map_or_else(String::new, |why| format!(", the first because {}", printable(why)));
        put(&format!("{} were replayed, {} were not{refusal}\n", number(&done, "replayed"), number(&done, "refused")))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Deletes dead letters.
pub fn purge(remote: &Remote, which: &Which, json: bool) -> ExitCode {
    super::end(try_purge(remote, which, json))
}

fn try_purge(remote: &Remote, which: &Which, json: bool) -> Result<ExitCode, Failure> {
    let (client, id) = (remote.client()?, which.id());
    let response = which.select(client.request(Method::DELETE, &which.path(&id, &[]))).send()?;
    let purged = if let Which::One(_) = which { 1 } else { number(&response.json()?, "purged") };
    if json {
        put_json(&json!({ "purged": purged }))?;
    } else {
        put(&format!("deleted {}\n", counted(purged, "dead letter")))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_is_a_row_and_is_shown_with_its_message() {
        let letter = json!({
            "id": "d0-1", "reason": "mailbox-full", "explanation": "its mailbox was full", "last_error": null, "attempts": 2,
            "replays": 1, "first_ms": 1_000, "last_ms": 5_000, "shard": 0, "sender": null, "receiver": "bob",
            "performative": "inform", "conversation": null, "message": {"performative": "inform", "content": "\u{9b}"},
        });
        let table = table(std::slice::from_ref(&letter));
        let row = "d0-1  1970-01-01T00:00:05Z  mailbox-full  inform        -       bob              2  -\n";
        assert!(table.ends_with(row), "{table}");
        let text = shown(&letter);
        assert!(text.starts_with("d0-1: its mailbox was full\nattempts: 2, replays: 1\n"), "{text}");
        assert!(text.contains("\"content\": \"\\u009b\""), "{text}");
        assert_eq!(super::table(&[]), "no dead letters\n");
    }
}
