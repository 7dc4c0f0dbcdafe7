//! What a shard writes down for the projection beside what it needs itself.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use caxton_shards::interface::Input;
use caxton_shards::message::Reliability;
use caxton_shards::record::{AppendSequence, Durability, Projects, Record, RecordClass};
use common::{Setup, World, inform};

/// The records from this one on.
fn records(world: &World, from: usize) -> Vec<Record> {
    world.nodes[0].records[from..].iter().map(|(kind, body)| Record::read(*kind, body).unwrap()).collect()
}

#[test]
fn a_message_that_waits_for_long_is_shown_once_and_so_is_its_end() {
    let mut world = Setup::new(1).configured(|config| config.durability = Durability::Journal).start();
    let sender = world.add(0, "sender", common::Script::new(|_, _| caxton_shards::agent::Outcome::Done));
    // One message is handed out; the rest waits until it was taken.
    let receiver = world.add_inbox(0, "receiver", 1, 1);
    for content in ["one", "two", "three"] {
        let message = inform(sender, receiver, content).reliability(Reliability::Durable).build().unwrap();
        world.send_later(message);
    }
    world.run();
    world.commit(0, 3);
    world.run();
    let before = world.nodes[0].records.len();
    assert_eq!(before, 3, "each is written down");
    let projects = |(kind, body): &(u8, Vec<u8>)| RecordClass::of(*kind, body).projects == Projects::State;
    assert!(!world.nodes[0].records.iter().any(projects), "nothing has waited for long yet");

    world.give(0, Input::ShowWaiting(AppendSequence(2)));
    world.run();
    let written = records(&world, before);
    let shown: Vec<_> = written
        .iter()
        .map(|record| match record {
            Record::Message(kept) => (kept.shown, kept.replaces, kept.message.content().as_text().unwrap()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        shown,
        [(true, Some(AppendSequence(2)), "two")],
        "the first one is with its owner, the third one is newer"
    );
    let after = world.nodes[0].records.len();
    world.commit(0, after as u64);
    world.give(0, Input::ShowWaiting(AppendSequence(2)));
    world.run();
    assert_eq!(world.nodes[0].records.len(), after, "once is enough");
}
