//! `caxton token`: creates a token for a client of the daemon.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use caxton_router::serve::{NewToken, Operation};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::{fail, print};

/// Arguments of `caxton token`.
#[derive(Debug, Args)]
#[command(after_help = "\
The file keeps only the hash of a token: whoever reads it gains no access, and a lost token cannot be shown again. A daemon reads \
the file at its start and at SIGHUP.

Exit status: 0 if the token was created; 1 if the file cannot be written; 2 if the arguments cannot be used.")]
pub struct TokenArguments {
    /// A name for its owner, for logs and for the audit
    name: String,
    /// The agents that its owner may act as, separated by commas; an * at the end stands for every name that begins so
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    agents: Vec<String>,
    /// What its owner may do, separated by commas: send messages, receive them, observe everything, operate the router
    #[arg(long, value_name = "OPERATIONS", value_delimiter = ',', default_value = "send,receive")]
    operations: Vec<Allowed>,
    /// The time after which it gives no access, such as 90d, up to 100 years; by default it has none
    #[arg(long, value_name = "TIME", value_parser = parse_expiry)]
    expires_in: Option<Duration>,
    /// Append it to this file of tokens, which is created if it is missing
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print the token, its hash and its entry in the file as JSON
    #[arg(long)]
    json: bool,
}

/// An operation on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Allowed {
    Send,
    Receive,
    Observe,
    Operate,
}

impl Allowed {
    fn operation(self) -> Operation {
        match self {
            Self::Send => Operation::Send,
            Self::Receive => Operation::Receive,
            Self::Observe => Operation::Observe,
            Self::Operate => Operation::Operate,
        }
    }
}

/// The longest time for which a token may give access: further dates have no form.
const EXPIRES_IN_MAX: Duration = Duration::from_hours(100 * 365 * 24);

fn parse_expiry(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time <= EXPIRES_IN_MAX { Ok(time) } else { Err("expected up to 100 years".to_owned()) }
}

/// Runs `caxton token`.
pub fn run(arguments: &TokenArguments) -> ExitCode {
    let token = match NewToken::random() {
        Ok(token) => token,
        Err(error) => return fail(&format!("no token was created: the kernel has no random bytes: {error}")),
    };
    let entry = arguments.entry(&token.hash, SystemTime::now());
    if let Some(file) = &arguments.file
        && let Err(error) = append(file, &entry)
    {
        return fail(&format!("no token was created: {}: {error}", file.display()));
    }
    if arguments.json {
        return print(&format!("{}\n", json!({ "token": token.secret, "hash": token.hash, "entry": entry })));
    }
    match arguments.file {
        Some(_) => print(&format!("{}\n", token.secret)),
        None => print(&format!("{}\n\n# For the file that doors.tokens names:\n{entry}", token.secret)),
    }
}

impl TokenArguments {
    /// Returns the entry in the file of tokens.
    fn entry(&self, hash: &str, now: SystemTime) -> String {
        let list = |words: Vec<String>| words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", ");
        let operations = self.operations.iter().map(|allowed| allowed.operation().as_str().to_owned()).collect();
        let mut entry = format!(
            "[[token]]\nname = {}\nhash = \"{hash}\"\nagents = [{}]\noperations = [{}]\n",
            quoted(&self.name),
            list(self.agents.clone()),
            list(operations)
        );
        if let Some(time) = self.expires_in {
            let expires = humantime::format_rfc3339_seconds(now + time);
            writeln!(entry, "expires = \"{expires}\"").expect("a time within this millennium has a form");
        }
        entry
    }
}

/// Returns a text as a string of TOML, which has the escapes of JSON, and needs one for DEL too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// Appends an entry in one write, so that a daemon that reads meanwhile sees all of it or nothing.
fn append(file: &Path, entry: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
    file.write_all(format!("\n{entry}").as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_toml_whatever_the_names_are() {
        let arguments = TokenArguments {
            name: "the \"north\"\\\u{7f}".to_owned(),
            agents: vec!["seller".to_owned(), "north-*".to_owned()],
            operations: vec![Allowed::Send, Allowed::Operate],
            expires_in: Some(Duration::from_hours(24)),
            file: None,
            json: false,
        };
        let entry = arguments.entry("00", SystemTime::UNIX_EPOCH);
        let read: toml::Table = entry.parse().expect("it is TOML");
        let read = &read["token"][0];
        assert_eq!(read["name"].as_str(), Some(arguments.name.as_str()));
        assert_eq!(read["agents"].as_array().map(Vec::len), Some(2));
        assert_eq!(read["operations"][1].as_str(), Some("operate"));
        assert_eq!(read["expires"].as_str(), Some("1970-01-02T00:00:00Z"));
    }
}
