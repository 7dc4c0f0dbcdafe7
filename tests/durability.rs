//! Durable messages with the real journal: what was acknowledged is there after a restart.

mod common;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use caxton_router::dead_letter::DeadLetterReason;
use caxton_router::domain::ShardCount;
use caxton_router::error::SendErrorKind;
use caxton_router::error::StartError;
use caxton_router::event::{Event, JournalCondition};
use caxton_router::message::Reliability;
use caxton_router::router::CancelStart;
use caxton_router::stats::Ending;
use caxton_router::store::StoreError;
use caxton_router::{Agent, Config, Context, Message, Outcome, Performative, Registration, Router};
use common::{PATIENCE, bounded, name, shutdown};
use futures_lite::future::block_on;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

type Heard = Arc<Mutex<Vec<String>>>;

struct Listener(Heard);

impl Agent for Listener {
    fn handle(&mut self, message: &Message, _: &mut Context<'_>) -> Outcome {
        self.0.lock().expect("nobody panicked").push(message.content().as_text().unwrap_or_default().to_owned());
        Outcome::Done
    }
}

/// Never finishes a message.
struct Stubborn;

impl Agent for Stubborn {
    fn handle(&mut self, _: &Message, _: &mut Context<'_>) -> Outcome {
        Outcome::Suspended
    }

    fn resume(&mut self, _: &Message, _: &mut Context<'_>) -> Outcome {
        Outcome::Suspended
    }
}

fn start(directory: &Path, shards: u16) -> Router {
    Router::builder()
        .shards(ShardCount::try_new(shards).expect("a legal number of shards"))
        .store(directory)
        .start()
        .expect("the router starts")
}

fn durable(receiver: &str, content: &str) -> Message {
    let receiver = caxton_router::AgentId::of_text(receiver);
    let message = Message::builder(Performative::Inform).receiver(receiver).content(content);
    message.reliability(Reliability::Durable).build().expect("a legal message")
}

#[test]
fn what_was_acknowledged_and_not_handled_is_handled_after_a_restart_with_any_number_of_shards() {
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let router = start(directory.path(), 2);
        for agent in ["one", "two", "three"] {
            router
                .blocking()
                .register_one(Registration::native(name(agent), || Stubborn).persistent())
                .expect("the agent is registered");
            for number in 0..10 {
                router.blocking().send(durable(agent, &format!("{agent} {number}"))).expect("it is on disk");
            }
        }
        let report = router.shutdown(Duration::from_millis(50)).expect("it stops");
        assert!(report.balances(), "{report}");
        assert_eq!(report.stats.account().kept, 30, "{report}");
        drop(router);
        for shards in [3, 1] {
            let router = start(directory.path(), shards);
            let found = router.recovered().expect("there is a store");
            assert_eq!((found.messages, found.agents), (30, 3));
            router.shutdown(Duration::from_millis(50)).expect("it stops");
        }
        let router = start(directory.path(), 2);
        let heard: Heard = Heard::default();
        for agent in ["one", "two", "three"] {
            let heard = Arc::clone(&heard);
            let registration = Registration::native(name(agent), move || Listener(Arc::clone(&heard)));
            router.blocking().register_one(registration.persistent()).expect("the agent takes over what waits for it");
        }
        let report = router.shutdown(PATIENCE).expect("it stops");
        assert!(report.balances() && report.drained, "{report}");
        drop(router);
        let heard = heard.lock().expect("nobody panicked").clone();
        for agent in ["one", "two", "three"] {
            let of_agent: Vec<_> = heard.iter().filter(|text| text.starts_with(agent)).cloned().collect();
            let expected: Vec<_> = (0..10).map(|number| format!("{agent} {number}")).collect();
            assert_eq!(of_agent, expected);
        }
        let router = start(directory.path(), 2);
        assert_eq!(router.recovered().expect("there is a store").messages, 0, "what was handled is released");
        shutdown(&router);
    });
}

/// Replies to everything, durably if it was asked so.
struct Echo;

impl Agent for Echo {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        let answer = message.reply(Performative::Inform).content("heard").build().expect("a legal message");
        assert_eq!(answer.reliability(), message.reliability());
        context.send(answer).expect("there is room");
        Outcome::Done
    }
}

#[test]
fn a_durable_answer_that_was_handed_to_its_asker_is_not_left_to_the_next_start() {
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let router = start(directory.path(), 2);
        router.blocking().register(name("echo"), || Echo).expect("the agent is registered");
        for _ in 0..10 {
            let answer = router.blocking().ask(durable("echo", "x"), PATIENCE).expect("it is answered");
            assert_eq!(answer.content().as_text(), Some("heard"));
        }
        shutdown(&router);
        drop(router);
        let router = start(directory.path(), 2);
        assert_eq!(router.recovered().expect("there is a store").messages, 0, "questions and answers are released");
        shutdown(&router);
    });
}

#[test]
fn what_the_owner_of_an_inbox_did_not_acknowledge_comes_again_after_a_restart() {
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let router = start(directory.path(), 2);
        let open = |router: &Router| {
            block_on(router.inbox(name("clerk")).persistent().acknowledged().open()).expect("it is opened")
        };
        let text = |message: &Message| message.content().as_text().unwrap_or_default().to_owned();
        let inbox = open(&router);
        for content in ["done", "in work", "not taken"] {
            router.blocking().send(durable("clerk", content)).expect("it is on disk");
        }
        let done = inbox.blocking().recv_within(PATIENCE).expect("a message comes");
        assert!(inbox.acknowledge(&done));
        assert_eq!(text(&inbox.blocking().recv_within(PATIENCE).expect("a message comes")), "in work");
        let report = router.shutdown(Duration::from_millis(50)).expect("it stops");
        assert!(report.balances(), "{report}");
        assert_eq!((report.stats.account().processed, report.stats.account().kept), (1, 2), "{report}");
        drop((inbox, router));

        let router = start(directory.path(), 1);
        assert_eq!(router.recovered().expect("there is a store").messages, 2);
        let inbox = open(&router);
        for content in ["in work", "not taken"] {
            let message = inbox.blocking().recv_within(PATIENCE).expect("a message comes");
            assert_eq!(text(&message), content);
            assert!(inbox.acknowledge(&message));
        }
        shutdown(&router);
        drop((inbox, router));
        let router = start(directory.path(), 2);
        assert_eq!(router.recovered().expect("there is a store").messages, 0, "what was acknowledged is released");
        shutdown(&router);
    });
}

#[test]
fn two_routers_do_not_share_a_directory() {
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let router = start(directory.path(), 1);
        let second = Router::builder().store(directory.path()).start();
        assert!(matches!(second, Err(StartError::Store(StoreError::InUse { .. }))), "{second:?}");
        shutdown(&router);
        drop(router);
        shutdown(&start(directory.path(), 1));
    });
}

#[test]
fn without_a_store_a_durable_message_is_refused() {
    bounded(|| {
        let router = Router::builder().start().expect("the router starts");
        let refused = router.blocking().send(durable("anybody", "x")).expect_err("there is no store");
        assert_eq!(refused.kind(), &SendErrorKind::DurabilityUnavailable);
        shutdown(&router);
    });
}

#[test]
fn a_durable_message_that_comes_to_nobody_is_answered_for_and_kept_as_a_dead_letter() {
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let router = start(directory.path(), 2);
        let refused = router.blocking().send(durable("nobody", "x")).expect_err("there is no such agent");
        assert!(matches!(refused.kind(), SendErrorKind::NotKept { .. }), "{refused:?}");
        shutdown(&router);
        drop(router);
        let router = start(directory.path(), 1);
        assert_eq!(router.recovered().expect("there is a store").dead_letters, 1);
        assert_eq!(router.blocking().dead_letters(10).expect("the router runs").len(), 1);
        shutdown(&router);
    });
}

#[test]
fn a_directory_that_cannot_be_used_is_named_with_what_to_do() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    std::fs::write(&file, "x").expect("it is written");
    let error = Router::builder().store(&file).start().expect_err("a file is no directory").to_string();
    assert!(error.contains(&file.display().to_string()), "{error}");
    let manifest = directory.path().join("manifest.toml");
    std::fs::write(&manifest, "version = 99\n").expect("it is written");
    let error = Router::builder().store(directory.path()).start().expect_err("it is of another version").to_string();
    assert!(error.contains("version 99") && error.contains("use the program that wrote it"), "{error}");
}

#[test]
fn a_file_system_in_memory_keeps_nothing_and_says_so() {
    let Ok(directory) = tempfile::tempdir_in("/dev/shm") else {
        println!("there is no file system in memory here");
        return;
    };
    bounded(move || {
        let router = start(directory.path(), 1);
        assert!(!router.is_durable(), "memory is no disk");
        router.blocking().register_one(Registration::native(name("one"), || Stubborn)).expect("it is registered");
        // Writes are buffered there, and messages are kept all the same while the machine runs.
        router.blocking().send(durable("one", "hello")).expect("it is written");
        router.shutdown(Duration::ZERO).expect("it stops");
        drop(router);
        let router = start(directory.path(), 1);
        assert_eq!(router.recovered().expect("there is a store").messages, 1);
        router.shutdown(Duration::ZERO).expect("it stops");
    });
}

/// Names the directory on a small file system in which a child works.
const SMALL: &str = "CAXTON_SMALL_FILE_SYSTEM";

fn small_segments() -> Config {
    let mut config = Config::default();
    config.set("store.segment_bytes", "4 MiB", "test").expect("it is legal");
    config.set("mailbox.messages", "100000", "test").expect("it is legal");
    config.set("mailbox.bytes", "1 GiB", "test").expect("it is legal");
    config
}

/// Sends from several threads at once, until each of them was refused. Returns how many messages were kept.
fn send_until_refused(router: &Router, content: &str) -> u64 {
    let send = || {
        let mut kept = 0_u64;
        let refusal = loop {
            match router.blocking().send(durable("one", content)) {
                Ok(_) => kept += 1,
                Err(rejected) => break SendErrorKind::from(rejected),
            }
            assert!(kept < 10_000, "there is room without end");
        };
        let full = matches!(&refusal, SendErrorKind::JournalFull)
            || matches!(&refusal, SendErrorKind::NotKept { ending, .. } if *ending == Ending::DeadLettered(DeadLetterReason::NotJournalled));
        assert!(full, "{refusal}");
        kept
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(send)).collect();
        threads.into_iter().map(|thread| thread.join().expect("it hears of it")).sum()
    })
}

fn wait_until_kept(router: &Router, content: &str) {
    let began = std::time::Instant::now();
    while router.blocking().send(durable("one", content)).is_err() {
        assert!(began.elapsed() < PATIENCE, "it does not go on: {:?}", router.journal_complaints());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Asserts that a part of the router has this status for this reason.
#[cfg(feature = "telemetry")]
fn assert_unhealthy(router: &Router, part: &str, status: caxton_router::health::Status, why: &str) {
    let health = router.health();
    let part = health.component(part).expect("there is such a part");
    assert!(part.status() == status && part.why().is_some_and(|said| said.contains(why)), "{part:?}");
}

/// Waits until a part of the router is healthy again.
#[cfg(feature = "telemetry")]
fn wait_until_healthy(router: &Router, part: &str) {
    let began = std::time::Instant::now();
    let healthy = || router.health().component(part).expect("there is such a part").why().is_none();
    while !healthy() {
        assert!(began.elapsed() < PATIENCE, "{}", router.health());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs on a file system of 24 MiB, part of which is taken by a file and freed later.
fn fill(directory: &Path) {
    let filler = directory.join("filler");
    std::fs::write(&filler, vec![1; 6 << 20]).expect("there is room for it");
    let one = ShardCount::try_new(1).expect("one shard");
    let begin = || Router::builder().config(small_segments()).shards(one).store(directory.join("data")).start();
    let router = begin().expect("it starts");
    let events = block_on(router.events()).expect("it runs");
    let stubborn = || Registration::native(name("one"), || Stubborn).persistent();
    router.blocking().register_one(stubborn()).expect("it is registered");
    let content = "x".repeat(10_000);
    let kept = send_until_refused(&router, &content);
    assert!(kept > 500, "only {kept} were kept before it was full");
    let complaints = router.journal_complaints();
    assert!(complaints.iter().any(|(shard, what)| *shard == 0 && what.contains("no space left")), "{complaints:?}");
    #[cfg(feature = "telemetry")]
    assert_unhealthy(&router, "journal", caxton_router::health::Status::Degraded, "no space left");
    #[cfg(feature = "telemetry")]
    assert_unhealthy(&router, "disk", caxton_router::health::Status::Unhealthy, "make room");
    // There is room again, without any notification.
    std::fs::remove_file(&filler).expect("it is removed");
    wait_until_kept(&router, &content);
    #[cfg(feature = "telemetry")]
    wait_until_healthy(&router, "journal");
    let journal = |event| if let Event::JournalChanged { condition, .. } = event { Some(condition) } else { None };
    let conditions: Vec<_> = std::iter::from_fn(|| events.try_next()).filter_map(journal).collect();
    // It may have continued before anyone had to be notified.
    assert!(matches!(conditions[..], [] | [JournalCondition::Full, JournalCondition::Ready]), "{conditions:?}");
    let report = router.shutdown(Duration::ZERO).expect("it stops");
    assert!(report.balances() && report.stats.account().kept > kept, "{report}");
    let kept = report.stats.account().kept;
    drop(router);
    // A start without room for a second copy fails at once and leaves everything unchanged.
    let listed = || {
        let entries = std::fs::read_dir(directory.join("data")).expect("it is there");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("it is there").file_name()).collect();
        names.sort();
        names
    };
    let before = listed();
    for _ in 0..2 {
        let refused = begin().expect_err("there is no room");
        // If there is not even room for the first segment, the host check reports it first.
        let said = refused.to_string();
        assert!(said.contains("free at least") || said.contains("are free; the first segments"), "{said}");
        assert_eq!(listed(), before);
    }
    println!("{kept} were kept before the file system was full");
}

#[test]
fn a_full_file_system_refuses_and_goes_on_by_itself() {
    if let Ok(directory) = std::env::var(SMALL) {
        return fill(Path::new(&directory));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let script = "mount -t tmpfs -o size=24m none \"$CAXTON_SMALL_FILE_SYSTEM\" && exec \"$0\" --nocapture --exact \
                  a_full_file_system_refuses_and_goes_on_by_itself";
    let this = std::env::current_exe().expect("this program has a path");
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new("unshare");
        command.args(arguments).args(["sh", "-c", script]).arg(&this).env(SMALL, directory.path());
        command.output()
    };
    // Requires the right to mount, in a name space of its own.
    let may_mount = std::process::Command::new("unshare").args(["-Urm", "true"]).output();
    if !may_mount.is_ok_and(|output| output.status.success()) {
        println!("no file system can be mounted here");
        return;
    }
    let output = run(&["-Urm"]).expect("it runs");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && text.contains("were kept before"), "{text}");
}

/// Names the directory in which a child works that may not write long files.
const SHORT_FILES: &str = "CAXTON_SHORT_FILES";

fn limit_files(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum }).expect("it may be lower");
}

fn write_short_files(directory: &Path) {
    let one = ShardCount::try_new(1).expect("one shard");
    let begin = || Router::builder().config(small_segments()).shards(one).store(directory.join("data")).start();
    let router = begin().expect("it starts");
    router.blocking().register_one(Registration::native(name("one"), || Stubborn)).expect("it is registered");
    limit_files(Some(2 << 20));
    let content = "x".repeat(10_000);
    let kept = send_until_refused(&router, &content);
    let complaints = router.journal_complaints();
    assert!(complaints.iter().any(|(_, what)| what.contains("ulimit -f")), "{complaints:?}");
    limit_files(None);
    wait_until_kept(&router, &content);
    let report = router.shutdown(Duration::ZERO).expect("it stops");
    assert!(report.balances() && report.stats.account().kept > kept, "{report}");
    drop(router);
    limit_files(Some(2 << 20));
    let refused = begin().expect_err("no segment can be made");
    assert!(matches!(&refused, StartError::Store(StoreError::FileSizeLimit { .. })), "{refused}");
    println!("{kept} were kept in short files");
}

#[test]
fn a_limit_on_the_size_of_files_is_a_full_disk_and_does_not_end_the_process() {
    if let Ok(directory) = std::env::var(SHORT_FILES) {
        return write_short_files(Path::new(&directory));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let this = std::env::current_exe().expect("this program has a path");
    let mut command = std::process::Command::new(this);
    command.args([
        "--nocapture",
        "--exact",
        "a_limit_on_the_size_of_files_is_a_full_disk_and_does_not_end_the_process",
    ]);
    let output = command.env(SHORT_FILES, directory.path()).output().expect("it runs");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && text.contains("in short files"), "{}: {text}", output.status);
}

/// Damages the files of a running router, and waits until it accepts nothing more. Returns why.
fn spoil(harm: impl Fn(&Path)) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let router = start(&data, 2);
    let events = block_on(router.events()).expect("it runs");
    for agent in ["one", "two", "three", "four"] {
        router.blocking().register_one(Registration::native(name(agent), || Stubborn)).expect("it is registered");
    }
    router.blocking().send(durable("one", "x")).expect("it is on disk");
    harm(&data);
    let began = std::time::Instant::now();
    let refusal = loop {
        // One of them is on each shard, or both on one: then the other one does not matter here.
        let refused = ["one", "two", "three", "four"].map(|agent| router.blocking().send(durable(agent, "x")));
        if let Some(Err(rejected)) = refused.into_iter().find(Result::is_err) {
            break SendErrorKind::from(rejected);
        }
        assert!(began.elapsed() < PATIENCE, "nothing is noticed");
        std::thread::sleep(Duration::from_millis(20));
    };
    let failed = matches!(&refusal, SendErrorKind::JournalFailed)
        || matches!(&refusal, SendErrorKind::NotKept { ending, .. } if *ending == Ending::DeadLettered(DeadLetterReason::NotJournalled));
    assert!(failed, "{refusal}");
    let failed = |event| matches!(event, Event::JournalChanged { condition: JournalCondition::Failed, .. });
    while !events.blocking().next_within(PATIENCE).is_ok_and(failed) {
        assert!(began.elapsed() < PATIENCE, "no event tells of it");
    }
    let complaints = router.journal_complaints();
    #[cfg(feature = "telemetry")]
    {
        let said = complaints.first().map(|(_, what)| what.clone()).unwrap_or_default();
        assert_unhealthy(&router, "journal", caxton_router::health::Status::Unhealthy, &said);
        assert!(!router.health().is_ready() && router.health().is_live());
    }
    assert!(router.shutdown(Duration::ZERO).expect("it stops").balances());
    complaints.first().map(|(_, what)| what.clone()).unwrap_or_default()
}

#[test]
fn files_that_are_removed_or_replaced_while_the_router_runs_are_missed() {
    bounded(|| {
        let segment = |data: &Path| data.join("gen-1/shard-0/0000000000000001.journal");
        let removed = |what: String| assert!(what.contains("was removed while the router was running"), "{what}");
        removed(spoil(|data| std::fs::remove_dir_all(data).expect("it is removed")));
        removed(spoil(|data| std::fs::remove_dir_all(data.join("gen-1")).expect("it is removed")));
        removed(spoil(|data| std::fs::remove_file(segment(data)).expect("it is removed")));
        removed(spoil(|data| std::fs::remove_file(data.join("manifest.toml")).expect("it is removed")));
        let replaced = |what: String| assert!(what.contains("was replaced"), "{what}");
        replaced(spoil(|data| {
            std::fs::rename(data, data.with_file_name("elsewhere")).expect("it is moved");
            std::fs::create_dir_all(segment(data).parent().expect("a directory")).expect("it is made");
        }));
        replaced(spoil(|data| {
            let (own, copy) = (segment(data), data.join("copy"));
            std::fs::copy(&own, &copy).expect("it is copied");
            std::fs::rename(&copy, &own).expect("it is replaced");
        }));
    });
}

#[test]
fn what_an_earlier_run_left_is_kept_under_smaller_limits() {
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let begin = |settings: &[(&str, &str)]| {
            let mut config = Config::default();
            for (key, value) in settings {
                config.set(key, value, "test").expect("it is legal");
            }
            let one = ShardCount::try_new(1).expect("one shard");
            Router::builder().config(config).shards(one).store(directory.path()).start().expect("it starts")
        };
        let router = begin(&[]);
        router
            .blocking()
            .register_one(Registration::native(name("one"), || Stubborn).persistent())
            .expect("registered");
        let content = "x".repeat(100_000);
        for _ in 0..60 {
            router.blocking().send(durable("nobody", &content)).expect_err("there is no such agent");
            router.blocking().send(durable("one", &content[..1_000])).expect("it is on disk");
        }
        router.shutdown(Duration::ZERO).expect("it stops");
        drop(router);
        let small = [
            ("dead_letters.messages", "10"),
            ("dead_letters.bytes", "1 MiB"),
            ("mailbox.messages", "5"),
            ("mailbox.bytes", "16 KiB"),
            ("memory.budget", "1 MiB"),
            ("store.segment_bytes", "1 MiB"),
            ("store.segments_max", "4"),
        ];
        for _ in 0..2 {
            let router = begin(&small);
            let found = router.recovered().expect("there is a store");
            assert_eq!((found.dead_letters, found.messages, found.agents), (60, 60, 1));
            assert_eq!(router.stats().shards[0].dead_letters, 60);
            assert!(router.shutdown(Duration::ZERO).expect("it stops").balances());
        }
    });
}

#[test]
fn a_start_is_cancelled_and_leaves_what_there_was() {
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let router = start(directory.path(), 1);
        router
            .blocking()
            .register_one(Registration::native(name("one"), || Stubborn).persistent())
            .expect("registered");
        router.blocking().send(durable("one", "x")).expect("it is on disk");
        router.shutdown(Duration::ZERO).expect("it stops");
        drop(router);
        let cancel = CancelStart::new();
        cancel.cancel();
        let one = ShardCount::try_new(1).expect("one shard");
        let cancelled = Router::builder().shards(one).store(directory.path()).cancelled_by(&cancel).start();
        assert!(matches!(cancelled, Err(StartError::Cancelled)), "{cancelled:?}");
        let left: Vec<_> = std::fs::read_dir(directory.path()).expect("it is there").flatten().collect();
        assert!(left.iter().all(|entry| entry.file_name() != "gen-2"), "{left:?}");
        let router = start(directory.path(), 1);
        assert_eq!(router.recovered().expect("there is a store").messages, 1);
        assert!(router.shutdown(Duration::ZERO).expect("it stops").balances());
    });
}
