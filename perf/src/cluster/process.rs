//! The processes of a run. Each is this program again. It reads commands from its standard input, one per line, and
//! responds to each with a line of JSON.
//!
//! A process ends when the one that started it ends, for whatever reason.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};
use serde_json::{Value, json};

use crate::doors::PATIENCE;

/// A process that was started.
pub struct Process {
    child: Child,
    input: ChildStdin,
    responses: Receiver<String>,
    patience: Duration,
}

impl Process {
    /// Starts this program with these arguments. None of its responses takes longer than `time` and some more.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start(arguments: &[&str], data: Option<&Path>, time: Duration) -> Result<Self, String> {
        let text = |error: std::io::Error| format!("a process cannot be started: {error}");
        let mut command = Command::new(std::env::current_exe().map_err(text)?);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(data) = data {
            command.arg("--data").arg(data);
        }
        let mut child = command.spawn().map_err(text)?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = (input, output) else { return Err("a process has no input".to_owned()) };
        let (sender, responses) = sync_channel(1);
        // This thread ends with the process.
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.map(|line| sender.send(line)).take_while(Result::is_ok).for_each(drop);
        });
        Ok(Self { child, input, responses, patience: time + 3 * PATIENCE })
    }

    /// Sends it a command. [`Process::response`] has to follow.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn tell(&mut self, what: &str) -> Result<(), String> {
        writeln!(self.input, "{what}").map_err(|error| format!("{what}: the process has ended: {error}"))
    }

    /// Returns its response.
    ///
    /// # Errors
    ///
    /// What went wrong there.
    pub fn response(&mut self) -> Result<Value, String> {
        let line = self.responses.recv_timeout(self.patience);
        let line = line.map_err(|_| "a process has ended, or does not respond".to_owned())?;
        let mut value: Value = serde_json::from_str(&line).map_err(|error| format!("{line}: {error}"))?;
        match value["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(value["done"].take()),
        }
    }

    /// Sends it a command, and returns its response.
    ///
    /// # Errors
    ///
    /// As for the two.
    pub fn call(&mut self, what: &str) -> Result<Value, String> {
        self.tell(what)?;
        self.response().map_err(|error| format!("{}: {error}", what.split(' ').next().unwrap_or_default()))
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Executes the commands of the process that started this one, until there are no more.
///
/// # Errors
///
/// The standard output is closed.
pub fn serve(mut act: impl FnMut(&[&str]) -> Result<Value, String>) -> Result<(), String> {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        let response = match act(&words) {
            Ok(value) => json!({ "done": value }),
            Err(error) => json!({ "error": error }),
        };
        let mut output = std::io::stdout().lock();
        writeln!(output, "{response}").and_then(|()| output.flush()).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Reads a number out of what a process is told.
///
/// # Errors
///
/// It is none.
pub fn number<N: std::str::FromStr>(word: &str) -> Result<N, String> {
    word.parse().map_err(|_| format!("{word:?} is not a number that is expected here"))
}

/// Reads a time in milliseconds.
///
/// # Errors
///
/// It is no number.
pub fn milliseconds(word: &str) -> Result<Duration, String> {
    number(word).map(Duration::from_millis)
}
