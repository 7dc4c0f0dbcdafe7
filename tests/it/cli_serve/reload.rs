//! SIGHUP: what is read again, what it changes, and what a mistake leaves as it was.

use std::net::SocketAddr;
use std::path::PathBuf;

use rustix::process::Signal;
use tempfile::TempDir;

use super::Daemon;
use crate::edge::{exchange, get};

/// A protocol in which a request is followed by this act.
fn protocol(reply: &str) -> String {
    format!(
        r#"[house-haggle]
start = "idle"
ends = ["answered"]
steps = [
    {{ from = "idle", by = "initiator", act = "request", to = "asked" }},
    {{ from = "asked", by = "participant", act = "{reply}", to = "answered" }},
]
"#
    )
}

/// Settings in a directory of their own, with the files that they name.
struct Settings {
    directory: TempDir,
}

impl Settings {
    fn new() -> Self {
        let settings = Self { directory: tempfile::tempdir().expect("a directory") };
        settings.write("rules.toml", "");
        settings.write("protocols.toml", &protocol("inform"));
        settings
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("it can be written");
    }

    /// Writes the settings, with these lines at the end.
    fn set(&self, more: &str) {
        let [rules, protocols] = ["rules.toml", "protocols.toml"].map(|name| self.path(name).display().to_string());
        let files = format!("[rules]\nfiles = \"{rules}\"\n[protocols]\nfiles = \"{protocols}\"\nmode = \"enforce\"\n");
        self.write("caxton.toml", &(files + more));
    }

    /// Starts a daemon with them.
    fn start(&self) -> (Daemon, SocketAddr) {
        let file = self.path("caxton.toml").display().to_string();
        let mut daemon = Daemon::start(&self.path("data"), &["--http", "0", "--config", &file]);
        let address = daemon.http();
        daemon.line("data: ");
        (daemon, address)
    }
}

/// Sends a request, and returns whether it succeeded, with the response.
fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> (bool, String) {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    let head = format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    let response = exchange(address, (head + body).as_bytes()).expect("it responds");
    (response.starts_with("HTTP/1.1 20"), response)
}

/// Sends a message to an outside agent.
fn send(address: SocketAddr, act: &str, content: &str) -> (bool, String) {
    let body = format!(r#"{{"performative": "{act}", "receiver": ["clerk"], "content": "{content}"}}"#);
    request(address, "POST", "/v1/messages", &body)
}

#[test]
fn rules_protocols_and_limits_change_and_the_rest_is_named() {
    let settings = Settings::new();
    settings.set("[mailbox]\nmessages = 10\n");
    let (mut daemon, address) = settings.start();
    assert!(request(address, "PUT", "/v1/agents/clerk", "{}").0);
    settings.write("rules.toml", "[everything]\nto_agent = \"clerk\"\n");
    settings.write("protocols.toml", &protocol("propose"));
    let limits = "[message]\ncontent_bytes_max = 8\n[doors]\nagents_max = 1\n[mailbox]\nmessages = 20\n";
    settings.set(&format!("{limits}[router]\nnode = 7\n"));
    daemon.send(Signal::HUP);
    daemon.line("SIGHUP: tokens and certificates were read again");
    assert_eq!(daemon.line("rules: "), "1 take the place of 0");
    assert_eq!(daemon.line("protocols: "), "house-haggle has another definition");
    let applied = daemon.line("settings that apply from now on: ");
    assert_eq!(applied, "mailbox.messages = 20, message.content_bytes_max = 8, doors.agents_max = 1");
    assert_eq!(daemon.line("settings that apply at the next start: "), "router.node = 7");
    // The doors and the shards have the new limits, and what is there stays.
    assert!(send(address, "inform", "short").0 && !send(address, "inform", "longer than eight").0);
    let (_, refused) = request(address, "PUT", "/v1/agents/second", "{}");
    assert!(refused.contains("the limit is doors.agents_max"), "{refused}");
    assert_eq!(get(address, "/v1/agents/clerk").0, 200);
    // The second time, only what has not been taken over is named.
    daemon.send(Signal::HUP);
    daemon.line("SIGHUP: tokens and certificates were read again");
    assert_eq!(daemon.line("settings that apply"), " at the next start: router.node = 7");
}

#[test]
fn a_mistake_anywhere_leaves_everything_as_it_was() {
    let settings = Settings::new();
    settings.set("");
    let (mut daemon, address) = settings.start();
    let tokens = format!("[doors]\ntokens = \"{}\"\n", settings.path("tokens.toml").display());
    let mistakes = [
        ("caxton.toml", "[mailbox]\nmessages = many\n"),
        ("rules.toml", "[everything]\nto = \"clerk\"\n"),
        ("protocols.toml", "[house-haggle]\nstart = \"idle\"\n"),
        ("tokens.toml", "[[token]]\nname = \"ann\"\n"),
    ];
    for (name, mistake) in mistakes {
        // What is right in the other files is not taken over either.
        settings.write("rules.toml", "[everything]\nto_agent = \"clerk\"\n");
        settings.write("protocols.toml", &protocol("propose"));
        settings.write("tokens.toml", "");
        settings.set(&format!("[mailbox]\nmessages = 60\n{tokens}"));
        settings.write(name, mistake);
        daemon.send(Signal::HUP);
        assert!(daemon.line("SIGHUP: nothing was changed: ").contains(name), "{name}");
    }
    settings.write("rules.toml", "");
    settings.write("protocols.toml", &protocol("inform"));
    settings.set("");
    daemon.send(Signal::HUP);
    daemon.line("SIGHUP: tokens and certificates were read again");
    assert_eq!(get(address, "/readyz").0, 200);
    daemon.send(Signal::TERM);
    let (status, rest) = daemon.end();
    let is_changed = ["rules: ", "protocols: ", "settings that apply"].iter().any(|change| rest.contains(change));
    assert!(status.success() && !is_changed, "{rest}");
}

#[test]
fn routing_plugins_are_replaced_and_a_module_that_is_none_changes_nothing() {
    let settings = Settings::new();
    let example = |name: &str| {
        let path = format!("{}/examples/guests/{name}/component.wat", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).expect("the example is there")
    };
    settings.set("");
    let (mut daemon, address) = settings.start();
    assert!(request(address, "PUT", "/v1/agents/clerk", "{}").0 && send(address, "cancel", "now").0);
    let refuses_because = |reason: &str| {
        let (passed, response) = send(address, "cancel", "now");
        assert!(!passed && response.contains(reason), "{response}");
    };
    settings.write("plugin.wat", &example("gatekeeper"));
    settings
        .set(&format!("[plugins]\nfiles = \"gatekeeper={}\"\ncall_ms = 5000\n", settings.path("plugin.wat").display()));
    daemon.send(Signal::HUP);
    assert_eq!(daemon.line("plugins: "), "gatekeeper is asked from now on");
    daemon.line("settings that apply from now on: plugins.files = ");
    refuses_because("no cancelling now");
    settings.write("plugin.wat", &example("echo"));
    settings.write("rules.toml", "[everything]\nto_agent = \"clerk\"\n");
    daemon.send(Signal::HUP);
    let mistake = daemon.line("SIGHUP: nothing was changed: plugins.files: gatekeeper: ");
    assert!(mistake.contains("not a valid routing plugin"), "{mistake}");
    refuses_because("no cancelling now");
    settings.write("plugin.wat", &example("gatekeeper").replace("no cancelling now", "no cancelling yet"));
    daemon.send(Signal::HUP);
    assert_eq!(daemon.line("rules: "), "1 take the place of 0", "they were not taken over before");
    assert_eq!(daemon.line("plugins: "), "gatekeeper: its new module takes over");
    refuses_because("no cancelling yet");
    settings.set("");
    daemon.send(Signal::HUP);
    assert_eq!(daemon.line("plugins: "), "gatekeeper is no longer asked");
    daemon.line("settings that apply from now on: plugins.files = ");
    assert!(send(address, "cancel", "now").0);
}
