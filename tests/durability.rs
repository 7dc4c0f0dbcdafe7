//! Durable messages, through the real journal: what was acknowledged is there after a restart.

mod common;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use caxton_router::domain::ShardCount;
use caxton_router::router::StartError;
use caxton_router::store::StoreError;
use caxton_router::{
    Agent, Config, Context, Message, Outcome, Performative, Registration, Reliability, Router, SendError,
};
use common::{PATIENCE, bounded, name, shutdown};
use futures_lite::future::block_on;

type Heard = Arc<Mutex<Vec<String>>>;

struct Listener(Heard);

impl Agent for Listener {
    fn handle(&mut self, message: &Message, _: &mut Context<'_>) -> Outcome {
        self.0.lock().expect("nobody panicked").push(message.content().as_text().unwrap_or_default().to_owned());
        Outcome::Done
    }
}

/// Never comes to an end with anything.
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
                .blocking_register_one(Registration::native(name(agent), || Stubborn).persistent())
                .expect("the agent is registered");
            for number in 0..10 {
                router.blocking_send(durable(agent, &format!("{agent} {number}"))).expect("it is on disk");
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
            router.blocking_register_one(registration.persistent()).expect("the agent takes over what waits for it");
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

/// Answers everything, as durably as it was asked.
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
        router.blocking_register(name("echo"), || Echo).expect("the agent is registered");
        for _ in 0..10 {
            let answer = router.blocking_ask(durable("echo", "x"), PATIENCE).expect("it is answered");
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
            block_on(router.open_acknowledged_inbox(name("clerk"), Registration::persistent)).expect("it is opened")
        };
        let text = |message: &Message| message.content().as_text().unwrap_or_default().to_owned();
        let inbox = open(&router);
        for content in ["done", "in work", "not taken"] {
            router.blocking_send(durable("clerk", content)).expect("it is on disk");
        }
        let done = inbox.blocking_recv(PATIENCE).expect("a message comes");
        assert!(inbox.acknowledge(&done));
        assert_eq!(text(&inbox.blocking_recv(PATIENCE).expect("a message comes")), "in work");
        let report = router.shutdown(Duration::from_millis(50)).expect("it stops");
        assert!(report.balances(), "{report}");
        assert_eq!((report.stats.account().processed, report.stats.account().kept), (1, 2), "{report}");
        drop((inbox, router));

        let router = start(directory.path(), 1);
        assert_eq!(router.recovered().expect("there is a store").messages, 2);
        let inbox = open(&router);
        for content in ["in work", "not taken"] {
            let message = inbox.blocking_recv(PATIENCE).expect("a message comes");
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
        let refused = router.blocking_send(durable("anybody", "x")).expect_err("there is no store");
        assert_eq!(refused.error, SendError::DurabilityUnavailable);
        shutdown(&router);
    });
}

#[test]
fn a_durable_message_that_comes_to_nobody_is_answered_for_and_kept_as_a_dead_letter() {
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let router = start(directory.path(), 2);
        let refused = router.blocking_send(durable("nobody", "x")).expect_err("there is no such agent");
        assert!(matches!(refused.error, SendError::NotKept { .. }), "{refused:?}");
        shutdown(&router);
        drop(router);
        let router = start(directory.path(), 1);
        assert_eq!(router.recovered().expect("there is a store").dead_letters, 1);
        assert_eq!(router.blocking_dead_letters(10).expect("the router runs").len(), 1);
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
        router.blocking_register_one(Registration::native(name("one"), || Stubborn)).expect("it is registered");
        // Writes are buffered there, and messages are kept all the same while the machine runs.
        router.blocking_send(durable("one", "hello")).expect("it is written");
        router.shutdown(Duration::ZERO).expect("it stops");
        drop(router);
        let router = start(directory.path(), 1);
        assert_eq!(router.recovered().expect("there is a store").messages, 1);
        router.shutdown(Duration::ZERO).expect("it stops");
    });
}

/// Names the directory on a small file system that a child works in.
const SMALL: &str = "CAXTON_SMALL_FILE_SYSTEM";

/// What happens on a file system of 24 MiB, of which a file takes a part that is given back later.
fn fill(directory: &Path) {
    let filler = directory.join("filler");
    std::fs::write(&filler, vec![1; 6 << 20]).expect("there is room for it");
    let mut config = Config::default();
    config.set("store.segment_bytes", "4 MiB", "test").expect("it is legal");
    config.set("mailbox.messages", "100000", "test").expect("it is legal");
    config.set("mailbox.bytes", "1 GiB", "test").expect("it is legal");
    let one = ShardCount::try_new(1).expect("one shard");
    let router = Router::builder().config(config).shards(one).store(directory.join("data")).start().expect("it starts");
    router.blocking_register_one(Registration::native(name("one"), || Stubborn)).expect("it is registered");
    let content = "x".repeat(10_000);
    let mut kept = 0_u64;
    let refusal = loop {
        match router.blocking_send(durable("one", &content)) {
            Ok(_) => kept += 1,
            Err(rejected) => break rejected.error,
        }
        assert!(kept < 10_000, "the file system is not small");
    };
    assert!(matches!(refusal, SendError::JournalFull), "{refusal}");
    assert!(kept > 500, "only {kept} were kept before it was full");
    let complaints = router.journal_complaints();
    assert!(complaints.iter().any(|(shard, what)| *shard == 0 && what.contains("no space left")), "{complaints:?}");
    // There is room again, and nobody has to be told.
    std::fs::remove_file(&filler).expect("it is removed");
    let began = std::time::Instant::now();
    while router.blocking_send(durable("one", &content)).is_err() {
        assert!(began.elapsed() < PATIENCE, "it does not go on: {:?}", router.journal_complaints());
        std::thread::sleep(Duration::from_millis(50));
    }
    let report = router.shutdown(Duration::ZERO).expect("it stops");
    assert!(report.balances() && report.stats.account().kept > kept, "{report}");
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
    // Without the right to mount, in a name space of its own.
    let may_mount = std::process::Command::new("unshare").args(["-Urm", "true"]).output();
    if !may_mount.is_ok_and(|output| output.status.success()) {
        println!("no file system can be mounted here");
        return;
    }
    let output = run(&["-Urm"]).expect("it runs");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && text.contains("were kept before"), "{text}");
}
