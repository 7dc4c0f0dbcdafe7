//! What a shard writes to its journal, and what a start makes of it.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::num::NonZeroU8;

use caxton_shards::agent::Outcome;
use caxton_shards::interface::Input;
use caxton_shards::message::{AgentId, MessageBuilder, Reliability};
use caxton_shards::record::{AppendSequence, Durability, Projects, Record, RecordClass};
use common::{Script, Setup, World, inform, text};

/// The records from this one on.
fn records(world: &World, from: usize) -> Vec<Record> {
    world.nodes[0].records[from..].iter().map(|(kind, body)| Record::read(*kind, body).unwrap()).collect()
}

#[test]
fn a_message_that_waits_for_long_is_shown_once_and_so_is_its_end() {
    let mut world = Setup::new(1).configured(|config| config.durability = Durability::Journal).start();
    let sender = world.add(0, "sender", Script::new(|_, _| Outcome::Done));
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

/// A router whose shards have journals.
fn journalled(shards: u16, boot_epoch: u64) -> Setup {
    Setup::new(shards).configured(|config| {
        config.durability = Durability::Journal;
        config.id_space.boot_epoch = boot_epoch;
    })
}

/// Commits and runs until nothing more happens at the present moment.
fn settle(world: &mut World) {
    for _ in 0..20 {
        world.run();
        for shard in 0..world.nodes.len() {
            world.commit_next(shard, u64::MAX);
        }
    }
    world.run();
}

/// Sends a message of which its sender waits to hear that it is durable. The answer is for [`World::take_answer`].
fn send(world: &mut World, message: MessageBuilder) {
    world.send_later(message.reliability(Reliability::Durable).build().unwrap());
    settle(world);
}

/// The texts of all dead letters in the journals of a machine that stops when these are committed.
fn letters_after_crash(world: &World) -> Vec<String> {
    let committed: Vec<u64> = (0..world.nodes.len()).map(|shard| world.committed(shard)).collect();
    let recovery = world.journals(&committed, 1_000);
    recovery.dead_letters().map(|letter| text(&letter.message)).collect()
}

#[test]
fn a_letter_that_is_being_replayed_stays_in_the_journal_whatever_letters_come_meanwhile() {
    for (shard, to) in [(0, 0), (0, 1), (1, 0)] {
        let mut world = journalled(2, 1).start();
        let (sender, _) = world.add_listener(0, "sender");
        let failing = world.add(shard, "failing", Script::new(|_, _| Outcome::failed("not now")));
        let (receiver, heard) = world.add_listener(to, "receiver");
        for content in ["first", "second"] {
            send(&mut world, inform(sender, failing, content).attempts_max(NonZeroU8::MIN));
        }
        assert_eq!(letters_after_crash(&world), ["first", "second"]);
        // Both are sent again, and another one dies before they are durable.
        let token = world.token();
        world.give(shard.into(), Input::ReplayDeadLetters(Box::default(), Some(receiver), token));
        world.step(shard.into());
        let nobody = AgentId::of(&world.name_on(shard, "nobody"));
        world.send_later(inform(sender, nobody, "third").reliability(Reliability::Durable).build().unwrap());
        world.run();
        // The machine may stop behind any record of the letters' shard, before a record of the receiver's.
        let (from, into) = (usize::from(shard), usize::from(to));
        let step = |world: &mut World, shard: usize| {
            let left = letters_after_crash(world);
            let recovery = world.journals(&[world.committed(0), world.committed(1)], 1_000);
            let waiting: Vec<_> = recovery.unsettled().map(|kept| text(&kept.message)).collect();
            for content in ["first", "second"] {
                let is_there = |texts: &[String]| texts.iter().any(|text| text == content);
                let heard = is_there(&heard.texts());
                assert!(is_there(&left) || is_there(&waiting) || heard, "{content} is lost: {left:?} {waiting:?}");
            }
            world.commit_next(shard, 1);
            world.run();
            world.committed(shard) < world.nodes[shard].records.len() as u64
        };
        while step(&mut world, from) {}
        while step(&mut world, into) {}
        settle(&mut world);
        assert_eq!(letters_after_crash(&world), ["third"]);
        world.assert_settled();
    }
}

#[test]
fn letters_that_made_room_for_newer_ones_leave_the_journal() {
    let setup = journalled(1, 1).configured(|config| config.dead_letters_max = 2);
    let mut world = setup.start();
    let (sender, _) = world.add_listener(0, "sender");
    for number in 0..5 {
        send(&mut world, inform(sender, AgentId::of_text("nobody"), &number.to_string()));
    }
    assert_eq!(letters_after_crash(&world), ["3", "4"]);
    // A start under a smaller limit drops them for good.
    let recovery = world.journals(&[world.committed(0)], 1_000);
    let setup = journalled(1, 2).configured(|config| config.dead_letters_max = 1);
    let mut world = setup.start_from(recovery, world.now().wall);
    settle(&mut world);
    assert_eq!(letters_after_crash(&world), ["4"]);
}
