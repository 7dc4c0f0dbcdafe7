//! Damaged data directories: a start serves everything that was acknowledged, or it refuses and changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use caxton_router::domain::ShardCount;
use caxton_router::store::{DataDirectory, StoreError};
use caxton_router::{AgentId, Message, Performative, Reliability, Router};
use caxton_shards::partition::Partition;

/// Every file below a directory with its bytes.
type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

fn tree(directory: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).expect("it can be read") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                tree.insert(path.clone(), None);
                waiting.push(path);
            } else {
                tree.insert(path.clone(), Some(fs::read(&path).expect("it can be read")));
            }
        }
    }
    tree
}

fn start(directory: &Path, shards: u16) -> Router {
    let shards = ShardCount::try_new(shards).expect("a legal number of shards");
    Router::builder().shards(shards).store(directory).start().expect("the router starts")
}

/// Keeps dead letters: they stay until somebody removes them.
fn keep(router: &Router, count: usize) {
    for number in 0..count {
        let receiver = AgentId::of_text(&format!("nobody-{number}"));
        let message = Message::builder(Performative::Inform).receiver(receiver).reliability(Reliability::Durable);
        router.blocking_send(message.build().expect("a legal message")).expect_err("there is no such agent");
    }
}

fn stop(router: &Router) {
    router.shutdown(Duration::from_secs(10)).expect("it stops");
}

/// Opens a directory as a start does, up to where it would begin to write. Returns how many dead letters it finds.
fn open(directory: &Path) -> Result<usize, StoreError> {
    let one = ShardCount::try_new(1).expect("one shard");
    let (_, found) = DataDirectory::open(directory, 1, 1)?.recover(1_000, Partition::new(one))?;
    Ok(found.dead_letters)
}

/// A directory of a router of two shards that has stopped, with 20 dead letters.
fn stopped() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let router = start(directory.path(), 2);
    keep(&router, 20);
    stop(&router);
    directory
}

/// What is done to a directory, and what the refusal has to name.
type Damage = (fn(&Path), &'static str);

#[test]
fn what_the_manifest_does_not_account_for_is_refused_and_stays_as_it_is() {
    let generation = |directory: &Path, number: u64| directory.join(format!("gen-{number}"));
    let damages: [Damage; 9] = [
        (|directory| fs::remove_file(directory.join("manifest.toml")).expect("it is there"), "no manifest"),
        (|directory| fs::write(directory.join("manifest.toml"), "").expect("it is written"), "manifest.toml"),
        (
            |directory| {
                let path = directory.join("manifest.toml");
                let text = fs::read_to_string(&path).expect("it is there");
                fs::write(&path, text.replace("shards = 2", "shards = 1")).expect("it is written");
            },
            "checksum",
        ),
        (|directory| fs::remove_dir_all(directory.join("gen-1")).expect("it is there"), "expected: generation 1"),
        (|directory| fs::create_dir(directory.join("gen-7")).expect("it is made"), "older than the directory"),
        (
            |directory| fs::remove_dir_all(directory.join("gen-1/shard-1")).expect("it is there"),
            "directory of a shard is missing",
        ),
        (
            |directory| fs::remove_dir_all(directory.join("gen-1/shard-0")).expect("it is there"),
            "directory of a shard is missing",
        ),
        (|directory| fs::create_dir(directory.join("gen-1/shard-2")).expect("it is made"), "a shard more"),
        (
            |directory| {
                fs::remove_file(directory.join("manifest.toml")).expect("it is there");
                fs::remove_dir_all(directory.join("gen-1")).expect("it is there");
            },
            "lock file says",
        ),
    ];
    for (place, (damage, named)) in damages.iter().enumerate() {
        let directory = stopped();
        assert!(generation(directory.path(), 1).exists());
        damage(directory.path());
        for lock in ["there", "removed"] {
            if lock == "removed" && *named != "lock file says" {
                fs::remove_file(directory.path().join("lock")).expect("it is there");
            }
            let before = tree(directory.path());
            let refusal = open(directory.path()).expect_err("it is damaged").to_string();
            assert!(refusal.contains(named), "damage {place}: {refusal}");
            let refusal = Router::builder().store(directory.path()).start().expect_err("it is damaged").to_string();
            assert!(refusal.contains(named), "damage {place}: {refusal}");
            assert!(tree(directory.path()) == before, "damage {place}: something was changed");
        }
    }
}

#[test]
fn the_generation_before_the_present_one_is_kept_until_the_router_stops() {
    let directory = stopped();
    let generations = || {
        let mut names: Vec<_> = fs::read_dir(directory.path())
            .expect("it can be read")
            .filter_map(|entry| entry.expect("it can be read").file_name().into_string().ok())
            .filter(|name| name.starts_with("gen-"))
            .collect();
        names.sort_unstable();
        names
    };
    assert_eq!(generations(), ["gen-1"]);
    let router = start(directory.path(), 3);
    assert_eq!(generations(), ["gen-1", "gen-2"]);
    stop(&router);
    drop(router);
    assert_eq!(generations(), ["gen-2"]);
    assert_eq!(open(directory.path()).expect("it is whole"), 20);
}

#[test]
fn nobody_else_can_read_what_the_store_writes() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let router = start(&data, 1);
    keep(&router, 1);
    let copy = directory.path().join("copy");
    caxton_router::store::backup::backup(&data, &copy).expect("it is copied");
    for (path, bytes) in tree(directory.path()) {
        let mode = fs::metadata(&path).expect("it is there").permissions().mode() & 0o777;
        let expected = if bytes.is_some() { 0o600 } else { 0o700 };
        assert_eq!(mode, expected, "{} has the mode {mode:o}", path.display());
    }
    stop(&router);
}
