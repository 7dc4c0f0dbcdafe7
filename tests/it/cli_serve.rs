//! `caxton serve`: the daemon starts, says where it is, is told by signals what to do, and refuses to be reached
//! unprotected.

mod kills;
mod reload;

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::edge::{exchange, get, wait_until};
use crate::program;

/// A running daemon, killed if the test does not see its end.
pub struct Daemon {
    child: Child,
    errors: BufReader<ChildStderr>,
}

impl Daemon {
    /// Starts it with one shard.
    pub fn start(data: &Path, arguments: &[&str]) -> Self {
        let mut command = program::caxton();
        command.args(["serve", "--shards", "1", "--data"]).arg(data).args(arguments);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let errors = BufReader::new(child.stderr.take().expect("it is piped"));
        Self { child, errors }
    }

    /// Returns the next line that begins like this, without the beginning.
    pub fn line(&mut self, beginning: &str) -> String {
        let mut line = String::new();
        while self.errors.read_line(&mut line).expect("it writes text") > 0 {
            if let Some(rest) = line.trim_end().strip_prefix(beginning) {
                return rest.to_owned();
            }
            line.clear();
        }
        panic!("it does not write \"{beginning}\"");
    }

    /// Returns where it serves the HTTP API, from the line that says so.
    pub fn http(&mut self) -> SocketAddr {
        self.line("http: http://").trim_end_matches('/').parse().expect("an address")
    }

    /// Sends a signal.
    pub fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Waits for its end, and returns what else it wrote.
    pub fn end(mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        self.errors.read_to_string(&mut rest).expect("it writes text");
        (self.child.wait().expect("it ends"), rest)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_serves_until_it_is_told_to_stop() {
    let data = tempfile::tempdir().expect("a directory");
    for signal in [Signal::TERM, Signal::INT] {
        let mut daemon = Daemon::start(data.path(), &["--http", "0"]);
        let address = daemon.http();
        assert!(address.ip().is_loopback());
        assert_eq!(daemon.line("data: "), data.path().display().to_string());
        assert_eq!(get(address, "/readyz").0, 200);
        daemon.send(signal);
        let (status, rest) = daemon.end();
        assert!(status.success(), "{status}: {rest}");
    }
}

#[test]
fn a_second_signal_says_what_is_left_behind() {
    let data = tempfile::tempdir().expect("a directory");
    let mut daemon = Daemon::start(data.path(), &["--http", "0", "--shutdown-timeout", "600"]);
    let address = daemon.http();
    let request = |method: &str, path: &str, body: &str| {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n",
            body.len()
        );
        let head = head + "Content-Type: application/json\r\n\r\n";
        let response = exchange(address, (head + body).as_bytes()).expect("it responds");
        assert!(response.starts_with("HTTP/1.1 20"), "{response}");
    };
    request("PUT", "/v1/agents/clerk", "{}");
    request("POST", "/v1/messages", r#"{"performative": "inform", "receiver": ["clerk"], "content": "tea"}"#);
    daemon.send(Signal::TERM);
    // Nobody takes the message, so that the router drains for ten minutes.
    wait_until("it drains", || get(address, "/readyz").0 == 503);
    daemon.send(Signal::TERM);
    let (status, rest) = daemon.end();
    assert_eq!(status.code(), Some(143), "{rest}");
    assert!(rest.contains("ended at once: ") && rest.contains("1 of 1 accepted messages are left behind"), "{rest}");
}

#[test]
fn agents_of_the_settings_are_deployed_and_replaced() {
    let data = tempfile::tempdir().expect("a directory");
    let module = data.path().join("echo.wat");
    let echo = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/guests/echo/raw.wat");
    std::fs::copy(echo, &module).expect("the example is there");
    let deploy = format!("agents.deploy=echo@example.org={}", module.display());
    let mut daemon = Daemon::start(&data.path().join("data"), &["--http", "0", "--set", &deploy]);
    assert_eq!(daemon.line("deployed: "), "1 agent");
    let text = std::fs::read_to_string(&module).expect("it is there");
    std::fs::write(&module, format!("{text}\n;; changed\n")).expect("it can be written");
    daemon.send(Signal::HUP);
    assert_eq!(daemon.line("echo@example.org: "), "its new module takes over");
    std::fs::write(module.with_extension("toml"), "[limits]\ncall_ms = 100\n").expect("it can be written");
    daemon.send(Signal::HUP);
    assert_eq!(daemon.line("echo@example.org: "), "its new module takes over", "its manifest has changed");
    std::fs::write(&module, "(module").expect("it can be written");
    daemon.send(Signal::HUP);
    assert!(daemon.line("SIGHUP: nothing was changed: agents.deploy: echo@example.org: ").contains("echo.wat"));
    daemon.send(Signal::TERM);
    assert!(daemon.end().0.success());
}

#[test]
fn a_door_to_other_hosts_needs_tokens_and_a_certificate() {
    let data = tempfile::tempdir().expect("a directory");
    let (status, complaint) = Daemon::start(data.path(), &["--http", "0.0.0.0:0"]).end();
    assert_eq!(status.code(), Some(1));
    assert!(complaint.contains("http.listen: 0.0.0.0:0 can be reached from other hosts, which requires doors.tokens"));
    let tokens = data.path().join("tokens.toml");
    std::fs::write(&tokens, "").expect("it can be written");
    let set = format!("doors.tokens={}", tokens.display());
    let (status, complaint) = Daemon::start(data.path(), &["--nats", "0.0.0.0:0", "--set", &set]).end();
    assert_eq!(status.code(), Some(1));
    assert!(complaint.contains("requires doors.certificate and doors.key"), "{complaint}");
}
