//! kill -9 under load: every acknowledged message completes, after any number of crashes.
//!
//! A child of this program runs a router and sends durable messages: some pass through a chain of two agents, some
//! begin a conversation checked against `fipa-request`, and some fail and are replayed as dead letters. It records
//! which of them were acknowledged and which completed. The parent kills it at a random moment, again and again, each
//! time with another number of shards, and finally lets it finish. `CAXTON_CRASH_CYCLES=1000` runs more cycles than
//! usual.
//!
//! Another child kills itself on one of its messages: that one is dead-lettered, and the others are handled.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use caxton_router::dead_letter::{DeadLetterFilter, DeadLetterReason};
use caxton_router::domain::{AgentName, ShardCount};
use caxton_router::event::Event;
use caxton_router::message::WallTime;
use caxton_router::message::{ConversationId, Reliability};
use caxton_router::sim::Dice;
use caxton_router::store::projector::DATABASE;
use caxton_router::{Agent, AgentId, Config, Context, Message, Outcome, Performative, Registration, Router};
use rusqlite::{Connection, OpenFlags};

/// Names the directory in which a child works.
const CHILD: &str = "CAXTON_CRASH_CHILD";
/// Names the directory of a child that one of its messages kills.
const POISONED: &str = "CAXTON_CRASH_POISONED";
/// Makes a child send nothing, handle what is there, and end.
const FINISH: &str = "CAXTON_CRASH_FINISH";
const CYCLES: u64 = 30;
/// Far longer than anything here takes: reaching it means a defect.
const PATIENCE: Duration = Duration::from_mins(1);
/// Number of messages sent at the same time in a cycle.
const IN_FLIGHT: u64 = 64;
/// Number of agents of each kind.
const WIDTH: u64 = 4;

/// Lines passed to the kernel before anything continues: a killed process loses none of them.
#[derive(Clone)]
struct Lines(Arc<Mutex<File>>);

impl Lines {
    fn open(path: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(path).expect("the file can be written");
        Self(Arc::new(Mutex::new(file)))
    }

    fn write(&self, line: &str) {
        let mut file = self.0.lock().expect("nobody panicked");
        file.write_all(format!("{line}\n").as_bytes()).expect("the line is written");
    }
}

/// Forwards messages to the next agent.
struct First(AgentId);

impl Agent for First {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        let next = Message::builder(Performative::Inform).receiver(self.0).content(message.content().clone());
        match next.reliability(Reliability::Durable).build().map(|next| context.send(next)) {
            Ok(Ok(_)) => Outcome::Done,
            _ => Outcome::failed("there is no room now"),
        }
    }
}

/// Records completed messages.
struct Last(Lines);

impl Agent for Last {
    fn handle(&mut self, message: &Message, _: &mut Context<'_>) -> Outcome {
        self.0.write(message.content().as_text().unwrap_or_default());
        Outcome::Done
    }
}

/// Sends a request to another agent, in a conversation of its own that ends when it is done.
struct Asker(AgentId, Lines);

impl Agent for Asker {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        let Some(text) = message.content().as_text() else { return Outcome::Done };
        let conversation = ConversationId::of_text(text);
        if message.conversation().is_none() {
            let request = Message::builder(Performative::Request).receiver(self.0).content(text);
            let request = request.conversation(conversation).protocol("fipa-request").reliability(Reliability::Durable);
            return match request.build().map(|request| context.send(request)) {
                Ok(Ok(_)) => Outcome::Done,
                _ => Outcome::failed("there is no room now"),
            };
        }
        if message.performative() == Performative::Inform {
            self.1.write(text);
            context.close_conversation(conversation);
        }
        Outcome::Done
    }
}

/// Agrees, and reports completion.
struct Answerer;

impl Agent for Answerer {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        for act in [Performative::Agree, Performative::Inform] {
            let reply = message.reply(act).content(message.content().clone()).reliability(Reliability::Durable);
            if !matches!(reply.build().map(|reply| context.send(reply)), Ok(Ok(_))) {
                return Outcome::failed("there is no room now");
            }
        }
        Outcome::Done
    }
}

/// Fails at first, and succeeds once the message is a replayed dead letter.
struct Moody(Lines);

impl Agent for Moody {
    fn handle(&mut self, message: &Message, _: &mut Context<'_>) -> Outcome {
        if message.replay().is_none() {
            return Outcome::failed("not the first time");
        }
        self.0.write(message.content().as_text().unwrap_or_default());
        Outcome::Done
    }
}

/// Registers all agents.
fn cast(router: &Router, ended: &Lines) {
    for number in 0..WIDTH {
        let agent = |kind: &str| name(&format!("{kind}-{number}"));
        let [last, answerer] = ["last", "answerer"].map(|kind| AgentId::of(&agent(kind)));
        let [to_last, to_asker, to_moody] = [(); 3].map(|()| ended.clone());
        let registrations = vec![
            Registration::native(agent("last"), move || Last(to_last.clone())).persistent(),
            Registration::native(agent("first"), move || First(last)).persistent(),
            Registration::native(agent("answerer"), || Answerer).persistent(),
            Registration::native(agent("asker"), move || Asker(answerer, to_asker.clone())).persistent(),
            Registration::native(agent("moody"), move || Moody(to_moody.clone())).persistent(),
        ];
        for result in router.blocking().register_all(registrations) {
            result.expect("the agent takes over what waits for it");
        }
    }
}

/// Records violations, and messages in conversations that were dead-lettered.
fn watch(router: &Router, directory: &Path) {
    let events = router.blocking().events().expect("the router runs");
    let wrong = Lines::open(&directory.join("wrong"));
    std::thread::spawn(move || {
        while let Ok(event) = events.blocking().next_within(PATIENCE) {
            let in_conversation = [
                DeadLetterReason::ProtocolViolation,
                DeadLetterReason::NotInConversation,
                DeadLetterReason::AmbiguousConversation,
            ];
            match event {
                Event::ProtocolViolation(violation) => wrong.write(&violation.to_string().replace('\n', " ")),
                Event::DeadLettered { reason, .. } if in_conversation.contains(&reason) => wrong.write(reason.as_str()),
                _ => {}
            }
        }
    });
}

/// Lets everything complete, and records what does not.
fn finish(router: &Router, directory: &Path) {
    let until = Instant::now() + PATIENCE;
    loop {
        let summary =
            router.blocking().replay_dead_letters(&DeadLetterFilter::default(), None).expect("the router runs");
        let stats = router.stats();
        let done = stats.account().pending == 0 && stats.dead_letters() == 0 && summary.replayed + summary.refused == 0;
        if done || Instant::now() > until {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let dead = Lines::open(&directory.join("dead"));
    for letter in router.blocking().dead_letters(usize::MAX).expect("the router runs") {
        let text = letter.message.content().as_text().unwrap_or_default().to_owned();
        dead.write(&format!("{text} {} {}", letter.reason, letter.attempts));
    }
}

fn name(text: &str) -> AgentName {
    AgentName::try_new(text).expect("a legal name")
}

/// Runs the child until it is killed or done.
fn child(directory: &Path) {
    let cycle = std::env::var("CAXTON_CRASH_CYCLE").expect("it is set").parse::<u64>().expect("it is a number");
    let shards = ShardCount::try_new(1 + u16::try_from(cycle % 3).expect("it is small")).expect("it is legal");
    let mut config = Config::default();
    let vfs = if cycle.is_multiple_of(2) { "uring" } else { "unix" };
    // Messages waiting from earlier cycles must not block new ones.
    let settings = [
        ("mailbox.messages", "10000"),
        ("dead_letters.messages", "1000000"),
        // Some agents fail every message once.
        ("breaker.failures", "0"),
        ("store.vfs", vfs),
        ("protocols.mode", "enforce"),
    ];
    for (key, value) in settings {
        config.set(key, value, "test").expect("it is legal");
    }
    let builder = Router::builder().config(config).shards(shards).store(directory.join("data"));
    let router = builder.start().expect("the router starts");
    let (acknowledged, ended) = (Lines::open(&directory.join("acknowledged")), Lines::open(&directory.join("ended")));
    watch(&router, directory);
    cast(&router, &ended);
    if std::env::var(FINISH).is_ok() {
        finish(&router, directory);
        let report = router.shutdown(PATIENCE).expect("this is no shard's thread");
        assert!(report.balances() && report.drained, "{report}");
        return;
    }
    println!("ready");
    let senders: Vec<_> = (0..IN_FLIGHT)
        .map(|sender| {
            let (router, acknowledged) = (router.clone(), acknowledged.clone());
            std::thread::spawn(move || {
                for number in 0_u64.. {
                    let text = format!("{cycle}-{sender}-{number}");
                    let kind = ["first", "asker", "moody"][usize::try_from(number % 3).expect("it is small")];
                    let receiver = AgentId::of_text(&format!("{kind}-{}", number / 3 % WIDTH));
                    let message = Message::builder(Performative::Inform).receiver(receiver).content(text.clone());
                    let message = if kind == "moody" { message.attempts_max(NonZeroU8::MIN) } else { message };
                    let message = message.reliability(Reliability::Durable).build().expect("a legal message");
                    if router.blocking().send(message).is_ok() {
                        acknowledged.write(&text);
                    }
                }
            })
        })
        .collect();
    while router.blocking().replay_dead_letters(&DeadLetterFilter::default(), None).is_ok() {
        std::thread::yield_now();
    }
    for sender in senders {
        let _ = sender.join();
    }
}

fn spawn(directory: &Path, cycle: u64, finish: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args(["--exact", "what_was_acknowledged_survives_kill_9", "--nocapture"]);
    command.env(CHILD, directory).env("CAXTON_CRASH_CYCLE", cycle.to_string());
    if finish {
        command.env(FINISH, "1");
    }
    command.stdout(Stdio::piped()).spawn().expect("the child starts")
}

fn lines(path: PathBuf) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // The last line may be incomplete.
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
}

/// Checks that the databases of a killed router are intact. Returns how many rows of them record progress.
fn check_databases(data: &Path) -> u64 {
    let mut shown = 0;
    let entries =
        std::fs::read_dir(data).expect("the directory is there").map(|entry| entry.expect("it can be read").path());
    for generation in entries.filter(|path| path.is_dir()) {
        for shard in std::fs::read_dir(&generation).expect("it can be read") {
            let path = shard.expect("it can be read").path().join(DATABASE);
            if !path.exists() {
                continue;
            }
            let connection = Connection::open(&path).expect("it can be opened");
            let integrity: String =
                connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it can be read");
            assert_eq!(integrity, "ok", "{}", path.display());
            // A database that was just being created has no table yet.
            let record = connection.query_row("SELECT record FROM progress", [], |row| row.get::<_, u64>(0));
            shown += u64::from(record.is_ok_and(|record| record > 0));
        }
    }
    shown
}

/// Whether a database of a running router records progress.
fn has_rows(data: &Path) -> bool {
    let folders = |path: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    folders(data).iter().flat_map(|generation| folders(generation)).any(|shard| {
        Connection::open_with_flags(shard.join(DATABASE), OpenFlags::SQLITE_OPEN_READ_ONLY)
            .and_then(|connection| connection.query_row("SELECT record FROM progress", [], |row| row.get::<_, u64>(0)))
            .is_ok_and(|record| record > 0)
    })
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "still not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    if let Ok(directory) = std::env::var(CHILD) {
        return child(Path::new(&directory));
    }
    let cycles = std::env::var("CAXTON_CRASH_CYCLES").map_or(CYCLES, |text| text.parse().expect("it is a number"));
    let directory = tempfile::tempdir().expect("a directory");
    let seed = std::env::var("CAXTON_CRASH_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("CAXTON_CRASH_SEED={seed}");
    let mut dice = Dice::new(seed);
    let mut shown = 0;
    for cycle in 0..cycles {
        let mut child = spawn(directory.path(), cycle, false);
        let mut output = std::io::BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        loop {
            line.clear();
            let read = std::io::BufRead::read_line(&mut output, &mut line).expect("the child can be read");
            assert!(read > 0, "the child of cycle {cycle} ended before it was ready");
            if line.contains("ready") {
                break;
            }
        }
        // The moment of the crash is what is random.
        std::thread::sleep(Duration::from_millis(dice.below(150)));
        if cycle == 0 {
            // However slow the machine is, there is something to lose.
            wait_until("messages are acknowledged", || lines(directory.path().join("acknowledged")).len() > 1_000);
            wait_until("a database is written", || has_rows(&directory.path().join("data")));
        }
        child.kill().expect("the child is killed");
        child.wait().expect("the child has ended");
        shown += check_databases(&directory.path().join("data"));
    }
    let finished = spawn(directory.path(), cycles, true).wait_with_output().expect("the last child ends");
    assert!(finished.status.success(), "{}", String::from_utf8_lossy(&finished.stdout));
    let mut ended: BTreeMap<String, u64> = BTreeMap::new();
    for line in lines(directory.path().join("ended")) {
        *ended.entry(line).or_default() += 1;
    }
    let acknowledged = lines(directory.path().join("acknowledged"));
    let lost: Vec<_> = acknowledged.iter().filter(|message| !ended.contains_key(*message)).collect();
    let repeated = ended.values().filter(|count| **count > 1).count();
    println!("{} acknowledged, {} ended, {repeated} of them more than once", acknowledged.len(), ended.len());
    let (dead, wrong) = (lines(directory.path().join("dead")), lines(directory.path().join("wrong")));
    assert!(dead.is_empty(), "{} messages failed for good: {dead:?}", dead.len());
    assert!(wrong.is_empty(), "{} legal messages were taken for violations: {wrong:?}", wrong.len());
    assert!(lost.is_empty(), "{} of {} acknowledged messages are lost: {lost:?}", lost.len(), acknowledged.len());
    println!("{shown} databases had rows");
    assert!(shown > 0, "no database was ever written");
}

/// Runs the child that one message kills: it sends three messages in its first run, and then handles what is there.
fn poisoned_child(directory: &Path) {
    let handled = Lines::open(&directory.join("handled"));
    let router = Router::builder().store(directory.join("data")).start().expect("the router starts");
    let worker = Registration::native(name("worker"), move || Worker(handled.clone()));
    let is_first = router.recovered().is_none_or(|found| found.messages == 0 && found.dead_letters == 0);
    let worker = router.blocking().register_one(worker.persistent()).expect("it takes over what waits for it");
    if is_first {
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("the clock is set");
        let now_ms = u64::try_from(since_1970.as_millis()).expect("it fits");
        // All of them are acknowledged before the last one can be handled.
        for (text, delay_ms) in [("before", 500), ("behind", 700), ("poison", 600)] {
            let message = Message::builder(Performative::Inform).receiver(worker).content(text);
            let message = message.attempts_max(NonZeroU8::new(3).expect("it is not zero"));
            let message = message.deliver_at(WallTime(now_ms + delay_ms)).reliability(Reliability::Durable);
            // The process may end before the last one is acknowledged.
            router.blocking().send(message.build().expect("a legal message")).expect("it is accepted");
        }
    }
    let until = Instant::now() + PATIENCE;
    while router.stats().account().pending > 0 || router.stats().dead_letters() == 0 {
        assert!(Instant::now() < until, "the messages do not come to their end");
        std::thread::sleep(Duration::from_millis(5));
    }
    let dead = Lines::open(&directory.join("dead"));
    for letter in router.blocking().dead_letters(9).expect("the router runs") {
        let text = letter.message.content().as_text().unwrap_or_default().to_owned();
        dead.write(&format!("{text} {} {}", letter.reason, letter.attempts));
    }
    router.shutdown(PATIENCE).expect("this is no shard's thread");
}

/// Is killed by one of its messages, together with its process.
struct Worker(Lines);

impl Agent for Worker {
    fn handle(&mut self, message: &Message, _: &mut Context<'_>) -> Outcome {
        let text = message.content().as_text().unwrap_or_default();
        self.0.write(text);
        if text == "poison" {
            std::process::abort();
        }
        Outcome::Done
    }
}

#[test]
fn a_message_that_kills_the_process_becomes_a_dead_letter_after_its_attempts() {
    if let Ok(directory) = std::env::var(POISONED) {
        return poisoned_child(Path::new(&directory));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let mut killed = 0;
    loop {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.args(["--exact", "a_message_that_kills_the_process_becomes_a_dead_letter_after_its_attempts"]);
        let ended = command.env(POISONED, directory.path()).output().expect("the child starts");
        if ended.status.success() {
            break;
        }
        let aborted = std::os::unix::process::ExitStatusExt::signal(&ended.status);
        assert!(aborted.is_some(), "{}", String::from_utf8_lossy(&ended.stdout));
        killed += 1;
        assert!(killed < 10, "it is handled for ever");
    }
    let handled = lines(directory.path().join("handled"));
    let times = |text: &str| handled.iter().filter(|line| *line == text).count();
    assert_eq!((killed, times("poison")), (3, 3));
    assert!(times("before") > 0 && times("behind") > 0, "{handled:?}");
    assert_eq!(lines(directory.path().join("dead")), ["poison attempts-exhausted 3"]);
}
