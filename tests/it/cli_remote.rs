//! The commands for a running router: what they print of a daemon, what they change there, and how they fail.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cli_serve::Daemon;
use crate::common::PATIENCE;
use crate::program;

/// A daemon of the test's own, with an agent `echo` in WebAssembly.
struct Served {
    daemon: Daemon,
    url: String,
    directory: tempfile::TempDir,
}

impl Served {
    fn start() -> Self {
        Self::with(|_| Vec::new())
    }

    /// Starts it with the arguments for this directory.
    fn with(arguments: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let echo = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/guests/echo/raw.wat");
        let mut all = ["--http", "0", "--set", &format!("agents.deploy=echo={echo}")].map(str::to_owned).to_vec();
        all.extend(arguments(directory.path()));
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        let mut daemon = Daemon::start(&directory.path().join("data"), &all);
        let url = format!("http://{}", daemon.http());
        Self { daemon, url, directory }
    }

    /// Runs a command that is told where the daemon is.
    fn run(&self, line: &str) -> Done {
        self.run_words(&line.split(' ').collect::<Vec<_>>(), "")
    }

    fn run_words(&self, words: &[&str], input: &str) -> Done {
        run(&[words, &["--url", &self.url]].concat(), input)
    }

    /// Starts a command that goes on until it is told to stop.
    fn begin(&self, line: &str) -> Running {
        let mut command = program::caxton();
        command.args(line.split(' ')).args(["--url", &self.url]).env("HOME", "/nowhere").env_remove("XDG_CONFIG_HOME");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        Running { child, output }
    }

    fn stop(self) {
        self.daemon.send(Signal::TERM);
        let (status, rest) = self.daemon.end();
        assert!(status.code().is_some_and(|code| code <= 1), "{status}: {rest}");
    }
}

/// A command that goes on, killed if the test does not see its end.
struct Running {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it writes text");
        line.trim_end().to_owned()
    }

    /// Sends SIGTERM, and returns how it ended.
    fn stop(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
        self.child.wait().expect("it ends").code()
    }

    /// Waits for its end, and returns what else it wrote.
    fn end(mut self) -> Done {
        let (mut text, mut errors) = (String::new(), String::new());
        self.output.read_to_string(&mut text).expect("it writes text");
        let mut pipe = self.child.stderr.take().expect("it is piped");
        pipe.read_to_string(&mut errors).expect("it writes text");
        Done { code: self.child.wait().expect("it ends").code(), text, errors }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command did.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    text: String,
    errors: String,
}

impl Done {
    /// Returns what was printed by a command that succeeded.
    fn well(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.text
    }

    fn json(self) -> Value {
        let text = self.well();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Returns the complaint of a command that failed like this.
    fn failed(self, code: i32) -> String {
        assert_eq!((self.code, self.text.as_str()), (Some(code), ""), "{self:?}");
        self.errors
    }
}

/// Runs a command without contexts.
fn run(words: &[&str], input: &str) -> Done {
    run_at_home(words, input, Path::new("/nowhere"))
}

fn run_at_home(words: &[&str], input: &str, home: &Path) -> Done {
    let mut command = program::caxton();
    command.args(words).env("HOME", home).env_remove("XDG_CONFIG_HOME");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // It may not read its input.
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("it prints UTF-8");
    Done { code: status.code(), text: text(stdout), errors: text(stderr) }
}

/// Tries until a command prints this.
fn wait_for(served: &Served, line: &str, expected: &str) -> String {
    let began = Instant::now();
    loop {
        let text = served.run(line).well();
        if text.contains(expected) {
            return text;
        }
        assert!(began.elapsed() < PATIENCE, "no {expected:?} in {text}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn agents_are_listed_shown_suspended_resumed_and_removed() {
    let served = Served::start();
    let list = served.run("agent ls").well();
    assert!(list.starts_with("agent") && list.contains("\necho "), "{list}");
    let rows = served.run("agent ls --json").well();
    let names: Vec<Value> =
        rows.lines().map(|row| serde_json::from_str::<Value>(row).expect("JSON")["name"].clone()).collect();
    assert!(names.contains(&"echo".into()), "{rows}");
    let cut = served.run("agent ls --limit 1 --json");
    assert!(cut.errors.contains("there are more than 1"), "{cut:?}");
    assert_eq!(cut.well().lines().count(), 1);
    assert!(served.run("agent list --prefix ec --kind handler").well().contains("\necho "));
    assert_eq!(served.run("agent ls --prefix nobody").well(), "no agents\n");
    assert_eq!(served.run("agent ls --capability echo.nothing --shard 0 --state active --json").well(), "");
    assert!(served.run("agent ls --state sulking").failed(2).contains("suspended"));
    let shown = served.run("agent show echo").well();
    assert!(shown.starts_with("name:         echo\n") && shown.contains("state:        active\n"), "{shown}");
    assert_eq!(served.run("agent show echo --json").json()["state"], "active");
    assert_eq!(served.run("agent suspend echo").well(), "echo is suspended\n");
    assert_eq!(served.run("agent resume echo --json").json()["state"], "active");
    assert!(served.run("agent show nobody").failed(1).starts_with("unknown-agent: "));
    assert!(served.run("agent resume nobody").failed(1).starts_with("unknown-agent: "));
    assert_eq!(served.run("agent drain echo --deadline 5").well(), "echo is removed; it has handled everything\n");
    let mut ann = served.begin("sub ann --json");
    wait_for(&served, "agent ls", "ann ");
    assert_eq!(
        served.run("send --to ann --content hello --wait receipt").well().split(' ').nth(1),
        Some("delivered\n")
    );
    assert!(ann.line().contains("hello"));
    assert_eq!(served.run("agent rm ann").well(), "ann is deregistered\n");
    let ended = ann.end();
    // It may not have acknowledged the message by then.
    assert!(["deregistered", "unknown-agent"].iter().any(|reason| ended.errors.contains(reason)), "{ended:?}");
    assert_eq!(ended.code, Some(1));
    served.stop();
}

#[test]
fn messages_are_sent_and_requests_get_replies() {
    let served = Served::start();
    let accepted = served.run("send --to echo --content hello").well();
    assert!(accepted.starts_with('m') && accepted.ends_with(" accepted\n"), "{accepted}");
    assert_eq!(served.run("send --to echo --content hello --wait receipt --json").json()["receipt"], "delivered");
    let reply = served.run("request --to echo --content tea? --timeout 60").well();
    assert!(reply.starts_with('(') && reply.contains("tea?"), "{reply}");
    let from_input = served.run_words(&["request", "--to", "echo", "--content", "-", "--json"], "from a pipe").json();
    assert_eq!(from_input["content"], "from a pipe");
    let durable = served.run("send --to echo --content kept --durable --idempotency-key k1 --json").json();
    assert_eq!(served.run("send --to echo --content kept --durable --idempotency-key k1 --json").json(), durable);
    assert!(served.run("request --to nobody --content x").failed(1).starts_with("unknown-receiver: "));
    assert!(served.run("send --to nobody --wait receipt").failed(1).contains("see `caxton dlq ls`"));
    assert!(served.run("send").failed(2).contains("no message is given"));
    assert!(served.run("send --from stranger --to echo").failed(1).starts_with("unknown-sender: "));
    served.stop();
}

#[test]
fn a_file_of_messages_is_sent_and_each_mistake_has_its_line() {
    let served = Served::start();
    let receiver = |name: &str| format!("(request :receiver (set (agent-identifier :name {name})) :content \"x\")\n");
    let text = format!("{}(request :receiver\n{}{}", receiver("echo"), receiver("nobody"), receiver("echo"));
    let done = served.run_words(&["send", "-", "--wait", "receipt"], &text);
    assert_eq!((done.code, done.text.lines().count()), (Some(1), 2), "{done:?}");
    assert!(done.errors.contains("-:3:2: expected") && done.errors.contains("unknown-receiver: "), "{done:?}");
    let file = served.directory.path().join("messages.acl");
    std::fs::write(&file, receiver("echo").repeat(3)).expect("it is written");
    let path = file.to_str().expect("the path is UTF-8");
    assert_eq!(served.run(&format!("send {path}")).well().lines().count(), 3);
    assert!(served.run("send /nowhere.acl").failed(2).contains("/nowhere.acl"));
    assert!(served.run(&format!("send {path} --to echo")).failed(2).contains("cannot be used with"));
    served.stop();
}

#[test]
fn a_dry_run_says_where_a_message_would_go() {
    let served = Served::start();
    let route = served.run("send --dry-run --to echo").well();
    assert!(route.starts_with("echo on shard 0, active, 0 messages in its mailbox: it is delivered\n"), "{route}");
    assert_eq!(served.run("send --dry-run --to echo --json").json()["receivers"][0]["outcome"], "delivered");
    let nobody = served.run("send --dry-run --to nobody");
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.text.contains("there is no such agent"), "{nobody:?}");
    let unprovided = served.run("send --dry-run --capability pricing");
    assert!(
        unprovided.code == Some(1) && unprovided.text.contains("no agent provides the capability"),
        "{unprovided:?}"
    );
    assert!(served.run("dlq ls").well().starts_with("no dead letters"), "nothing was sent");
    served.stop();
}

#[test]
fn a_subscriber_prints_and_acknowledges_what_comes() {
    let served = Served::start();
    let mut ann = served.begin("sub ann --capability tea --count 3");
    wait_for(&served, "df tea", "ann\n");
    assert_eq!(served.run("df tea --json").json()["agents"][0], "ann");
    assert_eq!(served.run("df coffee").well(), "no agent provides coffee\n");
    for content in ["one", "two", "three"] {
        served.run(&format!("send --capability tea --content {content}")).well();
        let line = ann.line();
        assert!(line.starts_with("(inform") && line.contains(content), "{line}");
    }
    ann.end().well();
    wait_for(&served, "agent show ann", "mailbox:      0 messages");
    let mut again = served.begin("sub ann --json");
    served.run("send --to ann --content four").well();
    assert_eq!(serde_json::from_str::<Value>(&again.line()).expect("JSON")["content"], "four");
    assert_eq!(again.stop(), Some(0), "a signal ends it");
    assert!(served.run("sub echo").failed(1).contains(": "), "an agent of the router is nobody's");
    served.stop();
}

#[test]
fn figures_events_and_traces_are_printed() {
    let served = Served::start();
    served.run("request --to echo --content x").well();
    let stats = served.run("stats").well();
    assert!(stats.contains("messages:") && stats.contains("shard  agents"), "{stats}");
    assert!(served.run("stats --json").json()["account"]["accepted"].as_u64() >= Some(1));
    let mut all = served.begin("events --json --kind dead-lettered");
    let mut one = served.begin("events --kind dead-lettered --count 1");
    let mut trace = served.begin("trace --conversation c1 --count 1");
    // Until the streams are open, events pass by.
    let began = Instant::now();
    let (sender, lines) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for running in [&mut all, &mut one, &mut trace] {
                sender.send(running.line()).expect("it is received");
            }
        });
        let mut received = Vec::new();
        while received.len() < 3 {
            assert!(began.elapsed() < PATIENCE, "{received:?}");
            served.run("send --to nobody --conversation c1").well();
            received.extend(lines.recv_timeout(Duration::from_millis(100)));
        }
        assert_eq!(serde_json::from_str::<Value>(&received[0]).expect("JSON")["data"]["reason"], "unknown-receiver");
        assert!(received[1].starts_with("dead-lettered") && received[1].contains("reason=unknown-receiver"));
        assert!(received[2].starts_with("dead-lettered"), "{received:?}");
    });
    assert!(served.run("trace").failed(2).contains("--conversation"));
    served.stop();
}

#[test]
fn dead_letters_are_listed_shown_replayed_and_purged() {
    let served = Served::start();
    for conversation in ["c1", "c2", "c3"] {
        let line = format!("send --to nobody --content lost --conversation {conversation} --wait receipt");
        assert_eq!(served.run(&line).code, Some(1));
    }
    let list = served.run("dlq ls").well();
    assert!(list.lines().count() == 4 && list.contains("unknown-receiver"), "{list}");
    let rows = served.run("dlq ls --json --conversation c2 --since 1h").well();
    let letter: Value = serde_json::from_str(&rows).expect("there is one");
    let id = letter["id"].as_str().expect("it has an id");
    assert_eq!((&letter["conversation"], &letter["receiver"]), (&"c2".into(), &"nobody".into()));
    let shown = served.run(&format!("dlq show {id}")).well();
    assert!(shown.starts_with(&format!("{id}: ")) && shown.contains("\"lost\""), "{shown}");
    assert_eq!(served.run(&format!("dlq show {id} --json")).json()["message"]["content"], "lost");
    let replayed = served.run(&format!("dlq replay {id} --to echo")).well();
    assert!(replayed.starts_with(&format!("{id} was replayed as m")), "{replayed}");
    assert!(served.run(&format!("dlq show {id}")).failed(1).starts_with("unknown-dead-letter: "));
    assert!(served.run("dlq replay").failed(2).contains("--all"));
    assert!(served.run("dlq purge").failed(2).contains("--all"));
    assert_eq!(served.run("dlq replay --conversation c1 --to echo --json").json()["replayed"], 1);
    assert_eq!(served.run("dlq purge --reason unknown-receiver").well(), "deleted 1 dead letter\n");
    assert_eq!(served.run("dlq purge --all --json").json()["purged"], 0);
    let directory = served.directory.path().to_str().expect("the path is UTF-8");
    assert!(served.run(&format!("dlq ls {directory}")).failed(2).contains("not both"));
    served.stop();
}

#[test]
fn an_open_conversation_is_drawn() {
    let served = Served::start();
    let _ann = served.begin("sub ann");
    let _bob = served.begin("sub bob");
    wait_for(&served, "agent ls", "ann ");
    wait_for(&served, "agent ls", "bob ");
    served.run("send --from ann --to bob --performative request --protocol fipa-request --conversation c1").well();
    let began = Instant::now();
    let shown = loop {
        let shown = served.run("conv show c1 --by ann");
        if shown.code == Some(0) {
            break shown.well();
        }
        assert!(began.elapsed() < PATIENCE, "{shown:?}");
    };
    let listed = served.run("conv list --agent bob --protocol fipa-request").well();
    assert!(listed.starts_with("conversation") && listed.contains("ann, bob"), "{listed}");
    assert_eq!(served.run("conv ls --json").json()["initiator"], "ann");
    assert_eq!(served.run("conv ls --state agreed").well(), "no open conversations\n");
    assert!(served.run("conv ls /nowhere --agent bob").failed(2).contains("--agent"));
    assert!(shown.starts_with("ann                     bob\n|-- request ----------->|\n"), "{shown}");
    assert!(shown.contains("fipa-request with bob: "), "{shown}");
    assert!(served.run("conv show c1 --by ann --mermaid").well().contains("a0->>a1: request"));
    assert_eq!(served.run("conv show c1 --by ann --json").json()["initiator"], "ann");
    let mut trace = served.begin("trace --conversation c1 --by ann --count 1");
    assert!(trace.line().contains("ann -> bob: request"));
    trace.end().well();
    assert!(served.run("conv show c2 --by ann").failed(1).starts_with("unknown-conversation: "));
    assert!(served.run("conv show c1").failed(2).contains("--by"));
    served.stop();
}

#[test]
fn top_prints_samples() {
    let served = Served::start();
    served.run("agent suspend echo").well();
    served.run("send --to echo --content waits").well();
    let text = served.run("top --once --interval 0.2").well();
    for part in [
        "caxton top http://127.0.0.1:",
        "per second: accepted ",
        "p50, p99: end to end ",
        "in mailboxes ",
        "journal: commits ",
        "shard  agents  waiting",
        "agent\n",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let sample = served.run("top --once --json --interval 0.2").json();
    assert!(sample["per_second"]["accepted"].is_number() && sample["stats"]["shards"].is_array(), "{sample}");
    assert!(sample["latencies"]["end_to_end"].is_object() && sample["stats"]["journal"]["commits"].is_number());
    assert_eq!(sample["agents"][0]["agent"], "echo", "{sample}");
    let mut samples = served.begin("top --json --interval 0.1");
    for _ in 0..2 {
        assert!(serde_json::from_str::<Value>(&samples.line()).expect("JSON")["health"].is_string());
    }
    assert_eq!(samples.stop(), Some(0), "a signal ends it");
    assert!(served.run("top").failed(2).contains("--once"), "there is no terminal");
    served.stop();
}

#[test]
fn without_a_router_a_command_says_what_to_check() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let url = format!("http://{free}");
    for line in [
        "agent ls",
        "agent show ann",
        "df tea",
        "send --to ann",
        "request --to ann",
        "sub ann",
        "stats",
        "events",
        "dlq ls",
        "dlq purge --all",
        "conv show c1 --by ann",
        "trace --conversation c1",
        "top --once",
    ] {
        let words: Vec<_> = line.split(' ').chain(["--url", &url]).collect();
        let complaint = run(&words, "").failed(1);
        assert!(complaint.starts_with(&url) && complaint.contains("is `caxton serve` running"), "{line}: {complaint}");
    }
    for line in
        ["stats --url ftp://x", "stats --url http://x/v1", "stats --context north", "stats --token-file /nowhere"]
    {
        let complaint = run(&line.split(' ').collect::<Vec<_>>(), "").failed(2);
        assert!(!complaint.is_empty(), "{line}");
    }
    // Something else listens.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let _ = stream.read(&mut [0; 4_096]);
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno");
    });
    let complaint = run(&["stats", "--url", &url], "").failed(1);
    assert!(complaint.contains("this is not a router's HTTP API"), "{complaint}");
    other.join().expect("it does not panic");
}

#[test]
fn a_router_is_reached_at_its_socket() {
    let mut socket = String::new();
    let mut served = Served::with(|directory| {
        socket = directory.join("caxton.sock").display().to_string();
        ["--socket", &socket, "--set", "http.socket_mode=0666"].map(str::to_owned).into()
    });
    assert_eq!(served.daemon.line("http: unix:"), socket);
    served.url = format!("unix:{socket}");
    assert!(served.run("agent ls").well().contains("\necho "));
    assert!(served.run("stats --json").json()["account"].is_object());
    assert!(run(&["health", &served.url], "").well().starts_with("healthy"));
    let mut ann = served.begin("sub ann --json");
    wait_for(&served, "agent ls", "ann ");
    served.run("send --to ann --content hello --wait receipt").well();
    assert!(ann.line().contains("hello"));
    assert_eq!(ann.stop(), Some(0));
    let home = served.directory.path();
    let contexts = home.join(".config/caxton");
    std::fs::create_dir_all(&contexts).expect("it is created");
    let text = format!("default = \"here\"\n[context.here]\nurl = \"unix:{socket}\"\n");
    std::fs::write(contexts.join("contexts.toml"), text).expect("it is written");
    run_at_home(&["stats"], "", home).well();
    // Another user, whom the mode of the socket lets in.
    if rustix::process::geteuid().is_root() {
        std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o755)).expect("it is the test's own");
        let mut command = program::caxton();
        command.args(["stats", "--url", &served.url]).uid(65_534).env("HOME", "/nowhere");
        let output = command.output().expect("the program starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && errors.starts_with("foreign-user: "), "{output:?}");
    }
    let other = format!("unix:{}", home.join("other.sock").display());
    let complaint = run(&["stats", "--url", &other], "").failed(1);
    assert!(complaint.starts_with(&other) && complaint.contains("is `caxton serve` running"), "{complaint}");
    assert!(run(&["stats", "--url", "unix:x.sock"], "").failed(2).contains("unix:/run/caxton/caxton.sock"));
    served.stop();
    assert!(!Path::new(&socket).exists());
}

#[test]
fn a_context_names_the_router_and_its_token() {
    let mut token = String::new();
    let served = Served::with(|directory| {
        let tokens = directory.join("tokens.toml").display().to_string();
        token = run(&["token", "ann", "--agents", "ann", "--operations", "observe", "--file", &tokens], "").well();
        vec!["--set".to_owned(), format!("doors.tokens={tokens}")]
    });
    let home = served.directory.path();
    let directory = home.join(".config/caxton");
    std::fs::create_dir_all(&directory).expect("it is created");
    std::fs::write(directory.join("ann.token"), &token).expect("it is written");
    let contexts =
        format!("default = \"here\"\n[context.here]\nurl = \"{}\"\ntoken_file = \"ann.token\"\n", served.url);
    std::fs::write(directory.join("contexts.toml"), contexts).expect("it is written");
    for line in ["stats", "stats --context here"] {
        run_at_home(&line.split(' ').collect::<Vec<_>>(), "", home).well();
    }
    let unknown = run_at_home(&["stats", "--context", "there"], "", home).failed(2);
    assert!(unknown.contains("known are here"), "{unknown}");
    assert!(run_at_home(&["send", "--to", "echo"], "", home).failed(1).starts_with("operation-not-permitted: "));
    assert!(served.run("stats").failed(1).contains("--token-file"), "the token of a context is not for another URL");
    let wrong = home.join("wrong.token");
    std::fs::write(&wrong, format!("cxt_{}\n", "0".repeat(64))).expect("it is written");
    let line = format!("stats --token-file {}", wrong.display());
    assert!(served.run(&line).failed(1).starts_with("token-unknown: "));
    served.stop();
}
