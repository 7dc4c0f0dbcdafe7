//! What operators can query while a router runs: the databases that show the journals' contents.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use caxton_router::dead_letter::DeadLetterFilter;
use caxton_router::domain::{CapabilityName, ShardCount};
use caxton_router::message::{ConversationId, Reliability};
use caxton_router::store::projector::DATABASE;
use caxton_router::{Agent, AgentId, Config, Context, Message, Outcome, Performative, Registration, Router};
use rusqlite::{Connection, OpenFlags};

use crate::common::{PATIENCE, bounded, name, shutdown};

/// Answers requests.
struct Answerer;

impl Agent for Answerer {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        if message.performative() == Performative::Request {
            let reply = message.reply(Performative::Inform).reliability(Reliability::Durable).build().unwrap();
            context.send(reply).unwrap();
        }
        Outcome::Done
    }
}

fn start(directory: &Path, shards: u16, settings: &[(&str, &str)]) -> Router {
    let mut config = Config::default();
    // On a busy machine a handler may seem to be slow.
    config.breaker.slow_calls = 0.try_into().expect("no breaker is allowed");
    for (key, value) in settings {
        config.set(key, value, "test").unwrap();
    }
    Router::builder().config(config).shards(ShardCount::try_new(shards).unwrap()).store(directory).start().unwrap()
}

/// Stops a router that has a delayed message, which stays for the next start.
fn stop(router: &Router) {
    let report = router.shutdown(Duration::from_millis(200)).unwrap();
    assert!(report.balances(), "{report:?}");
    assert_eq!(report.stats.account().kept, 1);
}

fn databases(directory: &Path) -> Vec<PathBuf> {
    let generation = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let generation = generation.filter(|path| path.is_dir()).max().unwrap();
    let mut shards: Vec<_> = std::fs::read_dir(generation).unwrap().map(|entry| entry.unwrap().path()).collect();
    shards.sort();
    shards.into_iter().map(|shard| shard.join(DATABASE)).collect()
}

/// The database is opened by this process too, so there must be a single copy of SQLite: its locks are per process.
fn query(path: &Path, sql: &str) -> Vec<String> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    connection.busy_timeout(PATIENCE).unwrap();
    let mut statement = connection.prepare(sql).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        let cells = (0..columns).map(|column| match row.get_ref(column).unwrap() {
            rusqlite::types::ValueRef::Null => "null".to_owned(),
            rusqlite::types::ValueRef::Integer(value) => value.to_string(),
            rusqlite::types::ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
            other => format!("{other:?}"),
        });
        Ok(cells.collect::<Vec<_>>().join("|"))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// Returns the results of all databases together, in order.
fn all(directory: &Path, sql: &str) -> Vec<String> {
    let mut rows: Vec<_> = databases(directory).iter().flat_map(|path| query(path, sql)).collect();
    rows.sort();
    rows
}

/// Waits until the databases return this.
fn wait_for(directory: &Path, sql: &str, expected: &[&str]) {
    let began = Instant::now();
    loop {
        let found = all(directory, sql);
        if found == expected {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{sql}: {found:?} instead of {expected:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn durable(to: &str, content: &str) -> caxton_router::message::MessageBuilder {
    let message = Message::builder(Performative::Request).sender(AgentId::of_text("asker"));
    message.receiver(AgentId::of_text(to)).reliability(Reliability::Durable).content(content)
}

fn both_ways(test: impl Fn(&str)) {
    for vfs in ["uring", "unix"] {
        test(vfs);
    }
}

#[test]
fn agents_conversations_letters_and_waiting_messages_can_be_queried_while_the_router_runs() {
    bounded(|| {
        both_ways(|vfs| {
            let directory = tempfile::tempdir().unwrap();
            let router = start(directory.path(), 2, &[("store.vfs", vfs)]);
            let capability = CapabilityName::try_new("answering").unwrap();
            for agent in ["asker", "answerer"] {
                let registration = Registration::native(name(agent), || Answerer).persistent();
                router.blocking().register_one(registration.offering(capability.clone())).unwrap();
            }
            let conversation = ConversationId::of_text("one");
            router
                .blocking()
                .send(durable("answerer", "a question").conversation(conversation).build().unwrap())
                .unwrap();
            router.blocking().send(durable("nobody", "lost").build().unwrap()).unwrap_err();
            let later = caxton_router::message::WallTime(
                u64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis())
                    .unwrap()
                    + 3_600_000,
            );
            router.blocking().send(durable("answerer", "later").deliver_at(later).build().unwrap()).unwrap();

            let path = directory.path();
            wait_for(path, "SELECT name FROM agents", &["answerer", "asker"]);
            wait_for(
                path,
                "SELECT capability, n.name FROM capabilities JOIN names n USING (agent)",
                &["answering|answerer", "answering|asker"],
            );
            wait_for(
                path,
                "SELECT sender, performative, receiver FROM history",
                &["answerer|inform|asker", "asker|request|answerer"],
            );
            wait_for(
                path,
                "SELECT id, initiator, steps, violations FROM conversation_list",
                &[&format!("{conversation}|asker|2|0")],
            );
            wait_for(
                path,
                "SELECT id, participant FROM participants",
                &[&format!("{conversation}|answerer"), &format!("{conversation}|asker")],
            );
            wait_for(
                path,
                "SELECT reason, receiver FROM dead_letter_list",
                &[&format!("unknown-receiver|{}", AgentId::of_text("nobody"))],
            );
            wait_for(
                path,
                "SELECT l.receiver, w.acl LIKE '%later%' FROM waiting_list l JOIN waiting w",
                &["answerer|1"],
            );
            assert_eq!(all(path, "PRAGMA integrity_check"), ["ok", "ok"]);

            // What no longer exists disappears.
            router.blocking().purge_dead_letters(&DeadLetterFilter::default()).unwrap();
            router.blocking().deregister(AgentId::of_text("asker")).unwrap();
            wait_for(path, "SELECT reason FROM dead_letter_list", &[]);
            wait_for(path, "SELECT name FROM agents", &["answerer"]);
            stop(&router);
            // The next start shows what it found.
            drop(router);
            let router = start(directory.path(), 1, &[("store.vfs", vfs)]);
            wait_for(path, "SELECT receiver FROM waiting_list", &["answerer"]);
            wait_for(path, "SELECT name FROM agents", &["answerer"]);
            stop(&router);
        });
    });
}

#[test]
fn a_burst_is_caught_up_and_only_the_newest_history_is_kept() {
    bounded(|| {
        both_ways(|vfs| {
            let directory = tempfile::tempdir().unwrap();
            let router = start(
                directory.path(),
                1,
                &[
                    ("store.vfs", vfs),
                    ("store.history", "500"),
                    ("mailbox.messages", "10000"),
                    ("mailbox.bytes", "1 GiB"),
                ],
            );
            router.blocking().register_one(Registration::native(name("answerer"), || Answerer)).unwrap();
            router.blocking().register_one(Registration::native(name("asker"), || Answerer)).unwrap();
            for burst in 0..20 {
                let messages = (0..200).map(|number| {
                    let conversation = ConversationId::of_text(&format!("conversation {burst} {number}"));
                    durable("answerer", "a question").conversation(conversation).build().unwrap()
                });
                router.blocking().tell_all(messages.collect()).unwrap();
            }
            // Nothing is missing from the newest part, whether older steps became rows or not.
            let last = ConversationId::of_text("conversation 19 199");
            assert_eq!(router.stats().account().dead_lettered, 0, "every question has a place");
            let path = directory.path();
            let answered = format!("SELECT performative FROM history WHERE id = '{last}' AND performative = 'inform'");
            wait_for(path, &answered, &["inform"]);
            shutdown(&router);
            let steps: u64 = all(path, "SELECT count(*) FROM steps")[0].parse().unwrap();
            assert!((500..=600).contains(&steps), "{steps}");
            let orphans =
                "SELECT count(*) FROM steps WHERE conversation NOT IN (SELECT conversation FROM conversations)";
            assert_eq!(all(path, orphans), ["0"]);
            assert_eq!(
                all(
                    path,
                    "SELECT count(*) FROM conversations WHERE conversation NOT IN (SELECT conversation FROM steps) AND last NOT IN (SELECT record FROM steps)"
                ),
                ["0"]
            );
            assert_eq!(all(path, "PRAGMA integrity_check"), ["ok"]);
        });
    });
}
