//! `caxton store`, `dlq` and `conv`: inspecting and changing a data directory.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use caxton_router::domain::{AgentName, ShardCount};
use caxton_router::message::WallTime;
use caxton_router::message::{ConversationId, Reliability};
use caxton_router::sim::Dice;
use caxton_router::store::inspect::inspect;
use caxton_router::{Agent, AgentId, Context, Message, Outcome, Performative, Registration, Router};

use crate::program;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

fn caxton(arguments: &[&str], directory: &Path) -> (bool, String, String) {
    let (verb, rest) = arguments.split_at(2);
    let output = program::caxton().args(verb).arg(directory).args(rest).output();
    let output = output.expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// Ignores its messages, or fails.
struct Idle(bool);

impl Agent for Idle {
    fn handle(&mut self, _: &Message, _: &mut Context<'_>) -> Outcome {
        if self.0 { Outcome::Done } else { Outcome::failed("it never succeeds") }
    }
}

fn start(directory: &Path) -> Router {
    let shards = ShardCount::try_new(2).expect("two shards");
    let router = Router::builder().shards(shards).store(directory).start().expect("the router starts");
    for (agent, succeeds) in [("buyer", true), ("seller", true)] {
        let name = AgentName::try_new(agent).expect("a legal name");
        let registration = Registration::native(name, move || Idle(succeeds)).persistent();
        router.blocking().register_one(registration).expect("it is registered");
    }
    router
}

fn durable(to: &str) -> caxton_router::message::MessageBuilder {
    let message = Message::builder(Performative::Request).sender(AgentId::of_text("buyer"));
    message.receiver(AgentId::of_text(to)).reliability(Reliability::Durable).content("a \"quoted\" wish")
}

#[test]
fn dead_letters_are_listed_shown_replayed_and_purged() {
    let directory = tempfile::tempdir().expect("a directory");
    let router = start(directory.path());
    for _ in 0..2 {
        router.blocking().send(durable("nobody").build().expect("legal")).expect_err("there is no such agent");
    }
    // Reading is safe while the router runs, changing is not.
    let (ok, listed, errors) = caxton(&["dlq", "ls"], directory.path());
    assert!(ok && listed.lines().count() == 2 && listed.contains("unknown-receiver"), "{listed}{errors}");
    let (ok, _, errors) = caxton(&["dlq", "purge", "--all"], directory.path());
    assert!(!ok && errors.contains("used by another router"), "{errors}");
    router.shutdown(Duration::from_secs(10)).expect("it stops");
    drop(router);
    let id = listed.split_whitespace().next().expect("an id").to_owned();
    let (ok, shown, errors) = caxton(&["dlq", "show", &id], directory.path());
    assert!(
        ok && shown.contains("a \\\"quoted\\\" wish") && shown.contains("no agent with that name"),
        "{shown}{errors}"
    );
    // No agent has the receiver's name: the letters stay unchanged, however often they are replayed.
    for _ in 0..7 {
        let (ok, replayed, errors) = caxton(&["dlq", "replay"], directory.path());
        assert!(
            ok && replayed.starts_with("0 were replayed, 2 were not") && replayed.contains("is not registered"),
            "{replayed}{errors}"
        );
        let (ok, _, errors) = caxton(&["dlq", "replay", &id], directory.path());
        assert!(!ok && errors.contains("its receiver is not registered"), "{errors}");
    }
    let (_, listed_again, _) = caxton(&["dlq", "ls"], directory.path());
    assert_eq!(listed_again, listed);
    let (_, shown, _) = caxton(&["dlq", "show", &id], directory.path());
    assert!(shown.contains("replays: 0"), "{shown}");
    let (ok, replayed, errors) = caxton(&["dlq", "replay", &id, "--to", "seller"], directory.path());
    assert!(ok && replayed.contains("was replayed as"), "{replayed}{errors}");
    let (_, checked, _) = caxton(&["store", "check"], directory.path());
    assert!(checked.contains("1 message, 1 dead letter, 2 agents"), "{checked}");
    let (_, dumped, _) = caxton(&["store", "dump"], directory.path());
    assert_eq!(dumped.lines().filter(|line| line.contains("\"receiver\":\"seller\"")).count(), 1, "{dumped}");
    let (ok, purged, errors) = caxton(&["dlq", "purge", "--all"], directory.path());
    assert!(ok && purged == "deleted 1 dead letter\n", "{purged}{errors}");
    let (ok, compacted, errors) = caxton(&["store", "compact"], directory.path());
    assert!(ok && compacted.contains("1 message still undelivered"), "{compacted}{errors}");
    let (ok, _, errors) = caxton(&["dlq", "show", &id], directory.path());
    assert!(!ok && errors.contains("there is no dead letter"), "{errors}");
}

#[test]
fn a_router_starts_from_a_copy_that_was_made_while_another_one_ran() {
    let (directory, elsewhere) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let router = start(directory.path());
    router.blocking().send(durable("nobody").build().expect("legal")).expect_err("there is no such agent");
    let later = WallTime(u64::MAX / 4);
    for _ in 0..3 {
        router.blocking().send(durable("seller").deliver_at(later).build().expect("legal")).expect("it is kept");
    }
    router.blocking().send(durable("seller").build().expect("legal")).expect("it is kept");
    let copy = elsewhere.path().join("copy");
    let to = copy.to_str().expect("a legal path");
    let (ok, copied, errors) = caxton(&["store", "backup", to], directory.path());
    assert!(ok && copied.contains(" 1 dead letter, 2 agents and 0 open conversations"), "{copied}{errors}");
    let (ok, _, errors) = caxton(&["store", "backup", to], directory.path());
    assert!(!ok && errors.contains("a backup does not overwrite anything"), "{errors}");
    let (ok, checked, errors) = caxton(&["store", "check"], directory.path());
    assert!(ok && checked.contains("in use by a router") && checked.contains("integrity is ok"), "{checked}{errors}");
    let (ok, checked, errors) = caxton(&["store", "check"], &copy);
    assert!(ok && checked.contains("not in use") && checked.contains("1 dead letter, 2 agents"), "{checked}{errors}");
    router.shutdown(Duration::ZERO).expect("it stops");
    let router = start(&copy);
    let found = router.recovered().expect("there is a store");
    // The one without a delivery time may have been handled before the copy was made.
    assert!((3..=4).contains(&found.messages) && found.dead_letters == 1 && found.agents == 2, "{found:?}");
    let report = router.shutdown(Duration::ZERO).expect("it stops");
    assert!(report.balances(), "{report}");
}

#[test]
fn a_conversation_is_drawn_with_what_broke_its_protocol() {
    let directory = tempfile::tempdir().expect("a directory");
    let router = start(directory.path());
    let id = ConversationId::of_text("sale-1");
    let seller = AgentId::of_text("seller");
    let begin = durable("seller").conversation(id).protocol("fipa-request").build().expect("legal");
    router.blocking().send(begin).expect("it is kept");
    for act in [Performative::Agree, Performative::Cfp] {
        let answer = Message::builder(act).sender(seller).receiver(AgentId::of_text("buyer"));
        let answer = answer.conversation_of(id, AgentId::of_text("buyer")).reliability(Reliability::Durable);
        router.blocking().send(answer.build().expect("legal")).expect("it is kept");
    }
    let (ok, listed, errors) = caxton(&["conv", "ls"], directory.path());
    assert!(ok && listed.contains("open  3 messages") && listed.contains("fipa-request"), "{listed}{errors}");
    let name = listed.split_whitespace().next().expect("an id").to_owned();
    let (ok, drawn, errors) = caxton(&["conv", "show", &name], directory.path());
    assert!(ok && drawn.contains("request") && drawn.contains("->") && drawn.contains("<-"), "{drawn}{errors}");
    assert!(drawn.lines().any(|line| line.contains("cfp") && line.ends_with("violates the protocol")), "{drawn}");
    let (_, mermaid, _) = caxton(&["conv", "show", "sale-1", "--mermaid"], directory.path());
    assert!(mermaid.starts_with("sequenceDiagram\n    participant a0 as buyer"), "{mermaid}");
    router.shutdown(Duration::from_secs(10)).expect("it stops");
}

#[test]
fn what_is_no_data_directory_or_is_damaged_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    for verb in [["store", "check"], ["dlq", "ls"], ["conv", "ls"], ["store", "compact"]] {
        let (ok, _, errors) = caxton(&verb, directory.path());
        assert!(!ok && errors.contains("this is not a data directory"), "{errors}");
    }
    let router = start(directory.path());
    for _ in 0..5 {
        router.blocking().send(durable("nobody").build().expect("legal")).expect_err("there is no such agent");
    }
    router.shutdown(Duration::from_secs(10)).expect("it stops");
    drop(router);
    let mut damaged = 0;
    for shard in 0..2 {
        let file = directory.path().join(format!("gen-1/shard-{shard}/0000000000000001.journal"));
        let mut bytes = std::fs::read(&file).expect("it is there");
        // The first frame of several: what follows it was acknowledged later.
        if bytes[4_096..].starts_with(b"CAXTONJ") {
            bytes[100] ^= 1;
            std::fs::write(&file, bytes).expect("it is written");
            damaged += 1;
        }
    }
    assert!(damaged > 0);
    let (ok, _, errors) = caxton(&["store", "check"], directory.path());
    assert!(!ok && errors.contains("is damaged at byte 0") && errors.contains(".journal"), "{errors}");
    let error = Router::builder().store(directory.path()).start().expect_err("nothing of it is served").to_string();
    assert!(error.contains("is damaged at byte 0"), "{error}");
}

/// Returns every name below a directory, with the length of its file.
fn names(directory: &Path) -> Vec<(std::path::PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("it can be read") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            found.extend(names(&path));
        }
        let length = std::fs::metadata(&path).expect("it is there").len();
        found.push((path, length));
    }
    found.sort_unstable();
    found
}

/// Returns a command for a user who may only read the directory, if this user may become another.
fn as_another_user(directory: &Path) -> Option<std::process::Command> {
    let become_nobody = || {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_caxton")]);
        command
    };
    let runs = become_nobody().arg("--version").output().is_ok_and(|output| output.status.success());
    let opened = std::process::Command::new("chmod").arg("-R").arg("a+rX").arg(directory).status();
    (runs && opened.is_ok_and(|status| status.success())).then(become_nobody)
}

#[test]
fn to_look_needs_the_right_to_read_alone_and_changes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let router = start(directory.path());
    router.blocking().send(durable("nobody").build().expect("legal")).expect_err("there is no such agent");
    router.shutdown(Duration::from_secs(10)).expect("it stops");
    drop(router);
    let before = names(directory.path());
    for verb in [["store", "check"], ["store", "dump"], ["dlq", "ls"], ["conv", "ls"]] {
        let (ok, _, errors) = caxton(&verb, directory.path());
        assert!(ok, "{verb:?}: {errors}");
    }
    assert_eq!(names(directory.path()), before);
    let Some(_) = as_another_user(directory.path()) else {
        println!("this user cannot become another one");
        return;
    };
    for verb in [["store", "check"], ["store", "dump"], ["dlq", "ls"], ["conv", "ls"]] {
        let mut command = as_another_user(directory.path()).expect("it ran before");
        let output = command.args(verb).arg(directory.path()).output().expect("it runs");
        assert!(output.status.success(), "{verb:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let elsewhere = tempfile::tempdir().expect("a directory");
    let copy = elsewhere.path().join("copy");
    std::fs::create_dir(&copy).expect("it is made");
    let opened = std::process::Command::new("chmod").arg("-R").arg("a+rwX").arg(elsewhere.path()).status();
    assert!(opened.expect("it runs").success());
    let mut command = as_another_user(directory.path()).expect("it ran before");
    let output = command.args(["store", "backup"]).args([directory.path(), &copy]).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(names(directory.path()), before);
}

#[test]
fn what_is_intact_is_shown_beside_what_is_damaged_and_can_be_recovered() {
    let directory = tempfile::tempdir().expect("a directory");
    let router = start(directory.path());
    for number in 0..20 {
        let nobody = format!("nobody-{number}");
        router.blocking().send(durable(&nobody).build().expect("legal")).expect_err("there is no such agent");
    }
    router.shutdown(Duration::from_secs(10)).expect("it stops");
    drop(router);
    let journal = directory.path().join("gen-1/shard-0/0000000000000001.journal");
    std::fs::OpenOptions::new().write(true).open(&journal).and_then(|file| file.set_len(4_096)).expect("it is cut");
    let (ok, listed, errors) = caxton(&["dlq", "ls"], directory.path());
    assert!(!ok && (1..20).contains(&listed.lines().count()), "{listed}{errors}");
    assert!(errors.contains("it has 4096 bytes; expected: 8388608 bytes"), "{errors}");
    let (ok, checked, errors) = caxton(&["store", "check"], directory.path());
    assert!(!ok && checked.contains("shard 0: damaged") && checked.contains("a start is refused"), "{checked}{errors}");
    let (ok, planned, errors) = caxton(&["store", "recover"], directory.path());
    assert!(ok && planned.contains("lost: generation 1, shard 0") && planned.contains("--yes"), "{planned}{errors}");
    let (ok, done, errors) = caxton(&["store", "recover"], directory.path());
    assert!(ok && done == planned, "{done}{errors}");
    let output = program::caxton().args(["store", "recover", "--yes"]).arg(directory.path()).output();
    assert!(output.expect("it runs").status.success());
    let (ok, checked, errors) = caxton(&["store", "check"], directory.path());
    assert!(ok && checked.contains("nothing is damaged"), "{checked}{errors}");
}

#[test]
fn a_file_of_durable_messages_is_routed_with_a_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = program::caxton()
        .args(["route", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/durable.acl"), "--data"])
        .arg(directory.path())
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let (ok, listed, _) = caxton(&["conv", "ls"], directory.path());
    assert!(ok && listed.contains("fipa-request"), "{listed}");
}

/// Number of times that tools are killed in the usual run, unless `CAXTON_TOOL_KILLS` is set.
const KILLS: u64 = 40;
/// The contents of the template: dead letters with these numbers, and waiting messages with the others.
const LETTERS: std::ops::Range<u32> = 0..60;
const WAITING: std::ops::Range<u32> = 60..100;

fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("it is made");
    for entry in std::fs::read_dir(from).expect("it is there") {
        let path = entry.expect("it is there").path();
        let target = to.join(path.file_name().expect("it has a name"));
        if path.is_dir() {
            copy_directory(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("it is copied");
        }
    }
}

/// Fills a data directory of two shards with dead letters and waiting messages, each with its own number as content.
fn fill(directory: &Path) {
    let mut config = caxton_router::Config::default();
    for (key, value) in [("store.segment_bytes", "256 KiB"), ("breaker.failures", "0")] {
        config.set(key, value, "test").expect("it is legal");
    }
    let shards = ShardCount::try_new(2).expect("two shards");
    let router = Router::builder().config(config).shards(shards).store(directory).start().expect("the router starts");
    for agent in ["buyer", "seller", "other"] {
        let name = AgentName::try_new(agent).expect("a legal name");
        router.blocking().register_one(Registration::native(name, || Idle(false)).persistent()).expect("registered");
    }
    let send = |to: &str, number: u32| {
        let message = durable(to).content(number.to_string()).attempts_max(std::num::NonZeroU8::MIN);
        let message = if WAITING.contains(&number) { message.deliver_at(WallTime(u64::MAX / 4)) } else { message };
        router.blocking().send(message.build().expect("legal")).expect("it is kept");
    };
    for number in LETTERS.chain(WAITING) {
        send(if number.is_multiple_of(2) { "seller" } else { "other" }, number);
    }
    let began = std::time::Instant::now();
    while router.stats().account().dead_lettered < u64::from(LETTERS.end) {
        assert!(began.elapsed() < PATIENCE, "the letters do not come");
        std::thread::yield_now();
    }
    assert!(router.shutdown(Duration::ZERO).expect("it stops").balances());
}

/// Returns the numbers of the dead letters and of the waiting messages.
fn numbers(directory: &Path) -> Result<(BTreeSet<u32>, BTreeSet<u32>), String> {
    let found = inspect(directory).map_err(|error| error.to_string())?;
    found.complaint().map_or(Ok(()), Err)?;
    let number = |message: &Message| message.content().as_text().and_then(|text| text.parse().ok());
    let letters = found.recovery.dead_letters().filter_map(|letter| number(&letter.message)).collect();
    let waiting = found.recovery.unsettled().filter_map(|kept| number(&kept.message)).collect();
    Ok((letters, waiting))
}

/// What a tool may remove.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Takes {
    Nothing,
    OneLetter,
    Letters,
}

/// Runs a tool on a copy of the template and, after this time, kills it. Returns what is wrong then.
fn kill(template: &Path, tool: (&[&str], Takes), after: Duration, gently: bool) -> Result<(), String> {
    let elsewhere = tempfile::tempdir().expect("a directory");
    let (data, copy) = (elsewhere.path().join("data"), elsewhere.path().join("copy"));
    copy_directory(template, &data);
    let (before, _) = numbers(&data)?;
    let is_backup = tool.0[1] == "backup";
    let run = || {
        let mut command = program::caxton();
        command.args(&tool.0[..2]).arg(&data).args(&tool.0[2..]);
        command.args(is_backup.then_some(&copy)).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let mut child = run().spawn().expect("the program runs");
    std::thread::sleep(after);
    if gently {
        let pid = rustix::process::Pid::from_child(&child);
        // It may have ended.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    } else {
        let _ = child.kill();
    }
    child.wait().expect("it ends");
    let (letters, waiting) = numbers(&data)?;
    let lost: Vec<u32> =
        (LETTERS.start..WAITING.end).filter(|n| !letters.contains(n) && !waiting.contains(n)).collect();
    let allowed = match tool.1 {
        Takes::Nothing => 0,
        Takes::OneLetter => 1,
        Takes::Letters => before.len(),
    };
    if lost.len() > allowed || lost.iter().any(|number| WAITING.contains(number)) {
        return Err(format!("{lost:?} are lost"));
    }
    if is_backup {
        let whole = (LETTERS.collect(), WAITING.collect());
        let unfinished = match numbers(&copy) {
            Ok(found) if found == whole => false,
            Ok((letters, waiting)) => return Err(format!("half a copy: {} and {}", letters.len(), waiting.len())),
            Err(_) => true,
        };
        if unfinished && (!run().status().expect("it runs").success() || numbers(&copy)? != whole) {
            return Err("it cannot be copied to the same place again".to_owned());
        }
    }
    let shards = ShardCount::try_new(1).expect("one shard");
    let router = Router::builder().shards(shards).store(&data).start().map_err(|error| error.to_string())?;
    let found = router.recovered().expect("there is a store");
    router.shutdown(Duration::ZERO).expect("it stops");
    // A replayed letter may exist beside its message.
    if found.dead_letters < letters.len() || found.messages < waiting.len() || found.agents != 3 {
        return Err(format!("the next start finds {found:?}"));
    }
    Ok(())
}

#[test]
fn tools_that_are_killed_at_any_moment_lose_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let template = directory.path().join("template");
    fill(&template);
    assert_eq!(numbers(&template), Ok((LETTERS.collect(), WAITING.collect())));
    let id = inspect(&template).expect("it is there").recovery.dead_letters().next().expect("a letter").id.to_string();
    let tools: [(&[&str], Takes); 6] = [
        (&["dlq", "replay"], Takes::Nothing),
        (&["dlq", "replay", &id], Takes::Nothing),
        (&["dlq", "purge", &id], Takes::OneLetter),
        (&["dlq", "purge", "--all"], Takes::Letters),
        (&["store", "compact"], Takes::Nothing),
        (&["store", "backup"], Takes::Nothing),
    ];
    let longest = tools.map(|tool| {
        let began = std::time::Instant::now();
        let (data, copy) = (directory.path().join("data"), directory.path().join("copy"));
        copy_directory(&template, &data);
        let mut command = program::caxton();
        command.args(&tool.0[..2]).arg(&data).args(&tool.0[2..]);
        let output = command.args((tool.0[1] == "backup").then_some(&copy)).output().expect("the program runs");
        assert!(output.status.success(), "{tool:?}: {}", String::from_utf8_lossy(&output.stderr));
        let took = began.elapsed();
        std::fs::remove_dir_all(&data).expect("it is removed");
        u64::try_from(took.as_micros()).expect("it is short")
    });
    let kills = std::env::var("CAXTON_TOOL_KILLS").map_or(KILLS, |text| text.parse().expect("a number"));
    let seed = std::env::var("CAXTON_TOOL_SEED").map_or(1, |text| text.parse().expect("a number"));
    for round in 0..kills {
        let mut dice = Dice::of(seed, round);
        let place = dice.index(tools.len());
        let after = Duration::from_micros(dice.below(longest[place] + 1));
        let gently = dice.once_in(4);
        if let Err(what) = kill(&template, tools[place], after, gently) {
            let (how, tool) = (if gently { "SIGTERM" } else { "SIGKILL" }, tools[place].0);
            panic!("seed {seed}, round {round}: {tool:?} after {after:?} by {how}: {what}");
        }
    }
}
