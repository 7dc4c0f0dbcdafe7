//! Dead letters of durable messages: kept, replayed, and found by the next start.

use std::num::NonZeroU8;

use caxton_shards::agent::Outcome;
use caxton_shards::api::{Answer, Input, JournalCondition, ReplayError, Stage};
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::message::{AgentId, Message, Performative, Reliability};

use super::{failing, journalled, letters, send, settle, stall, started, stopped};
use crate::common::{Log, Script, World, inform, text};

/// Returns the texts of all dead letters in the journals if the machine crashes now.
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
        // Both are replayed, and another one is dead-lettered before they are durable.
        let token = world.token();
        world.give(shard.into(), Input::ReplayDeadLetters(Box::default(), Some(receiver), token));
        world.step(shard.into());
        let nobody = AgentId::of(&world.name_on(shard, "nobody"));
        world.send_later(inform(sender, nobody, "third").reliability(Reliability::Durable).build().unwrap());
        world.run();
        // The machine may crash after any record of the letters' shard, before a record of the receiver's.
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
    // A start with a smaller limit drops them for good.
    let recovery = world.journals(&[world.committed(0)], 1_000);
    let setup = journalled(1, 2).configured(|config| config.dead_letters_max = 1);
    let mut world = setup.start_from(recovery, world.now().wall);
    settle(&mut world);
    assert_eq!(letters_after_crash(&world), ["4"]);
}

#[test]
fn a_durable_letter_waits_for_a_receiver_that_is_known_and_stays_where_nobody_is() {
    for shards in 1..3 {
        let attempts = Log::new();
        let mut world = journalled(1, 1).start();
        let sender = world.register(Script::idle().registration("sender".parse().unwrap()));
        world.register(failing(&attempts).registration("persistent".parse().unwrap()).persistent());
        world.register(failing(&attempts).registration("passing".parse().unwrap()));
        for receiver in ["persistent", "passing"] {
            let message = inform(sender, AgentId::of_text(receiver), receiver);
            send(&mut world, message.attempts_max(NonZeroU8::MIN));
        }
        // No agent is registered: as when a tool replays them.
        let mut world = started(journalled(shards, 2), stopped(&world), &world);
        let mut refused = 0;
        for shard in 0..world.nodes.len() {
            let token = world.token();
            world.give(shard, Input::ReplayDeadLetters(Box::default(), None, token));
            settle(&mut world);
            let Some(Answer::DeadLettersReplayed(portion)) = world.take_answer(shard, token) else { panic!() };
            refused += portion.refused.iter().filter(|error| matches!(error, ReplayError::NoReceiver { .. })).count();
            assert_eq!(
                portion.refused.len() + portion.replayed.len(),
                world.dead_letters(shard).len() + portion.replayed.len()
            );
        }
        assert_eq!(refused, 1);
        let recovery = stopped(&world);
        assert_eq!(letters(&recovery), [("passing".to_owned(), DeadLetterReason::AttemptsExhausted, 1, 0)]);
        assert_eq!(recovery.unsettled().map(|kept| text(&kept.message)).collect::<Vec<_>>(), ["persistent"]);
    }
}

#[test]
fn a_letter_sent_again_after_a_crash_comes_under_the_same_id_whatever_the_number_of_shards() {
    let heard = Log::new();
    let mut world = journalled(3, 1).start();
    let sender = world.register(Script::idle().registration("sender".parse().unwrap()));
    let failing = world.add(2, "failing", failing(&Log::new()));
    send(&mut world, inform(sender, failing, "tea").attempts_max(NonZeroU8::MIN));
    let cast = |world: &mut World| {
        world.register(Script::listener(&heard).registration("receiver".parse().unwrap()));
        let letter = (0..world.nodes.len()).flat_map(|shard| world.dead_letters(shard)).next().unwrap();
        let token = world.token();
        let to = Some(AgentId::of_text("receiver"));
        world.give(letter.id.shard.as_usize(), Input::ReplayDeadLetters(Box::default(), to, token));
        world.run();
    };
    let mut boot = 1;
    for shards in [2, 1, 3] {
        // What the receiver's shard has is durable; that the letter is gone is not.
        cast(&mut world);
        let receivers = world.shard_of(AgentId::of_text("receiver"));
        let kept: Vec<u64> = (0..world.nodes.len())
            .map(
                |shard| {
                    if shard == receivers { world.nodes[shard].records.len() as u64 } else { world.committed(shard) }
                },
            )
            .collect();
        let mut recovery = world.journals(&kept, 1_000);
        if recovery.dead_letters().count() == 0 {
            // Both are on one shard, and the message was known there: the last record says that the letter is gone.
            let kept: Vec<u64> =
                kept.iter().enumerate().map(|(shard, kept)| kept - u64::from(shard == receivers)).collect();
            recovery = world.journals(&kept, 1_000);
        }
        assert_eq!(recovery.dead_letters().count(), 1);
        boot += 1;
        world = started(journalled(shards, boot), recovery, &world);
    }
    cast(&mut world);
    settle(&mut world);
    assert_eq!(heard.take().iter().map(text).collect::<Vec<_>>(), ["tea"], "it came several times and is handled once");
}

#[test]
fn an_expired_durable_message_is_kept_as_a_dead_letter_whenever_it_expires() {
    let waiting = |world: &mut World, boot: u64| {
        let sender = world.register(Script::idle().registration("sender".parse().unwrap()));
        let receiver = world.add_inbox(0, "receiver", u32::try_from(boot).unwrap(), 1);
        for content in ["in the inbox", "in the mailbox"] {
            let lifetime = crate::common::lifetime(if content == "in the inbox" { 60_000 } else { 2_000 });
            send(world, inform(sender, receiver, content).time_to_live(lifetime));
        }
    };
    // While the router runs.
    let mut world = journalled(1, 1).start();
    waiting(&mut world, 1);
    world.advance(5_000);
    settle(&mut world);
    let total = world.total();
    assert_eq!((total.expired, total.dead_lettered), (1, 0), "it counts as expired");
    let letter = world.dead_letters(0).pop().unwrap();
    assert_eq!((letter.reason, text(&letter.message)), (DeadLetterReason::Expired, "in the mailbox".to_owned()));
    assert!(letter.last_error.unwrap().contains(Stage::Mailbox.explanation()));
    let recovery = stopped(&world);
    assert_eq!(letters(&recovery), [("in the mailbox".to_owned(), DeadLetterReason::Expired, 0, 0)]);
    // While it was down.
    let mut world = journalled(1, 1).start();
    waiting(&mut world, 1);
    let (recovery, later) = (stopped(&world), world.now().wall.0 + 10_000);
    let mut world = journalled(1, 2).start_from(recovery, caxton_shards::message::WallTime(later));
    settle(&mut world);
    world.advance(2_000);
    settle(&mut world);
    let recovery = stopped(&world);
    assert_eq!(letters(&recovery), [("in the mailbox".to_owned(), DeadLetterReason::Expired, 0, 0)]);
    assert_eq!(recovery.messages(), 1);
    // It can be replayed, with a lifetime of its own.
    let heard = Log::new();
    let name = world.name_on(0, "helper");
    let helper = world.register(Script::listener(&heard).registration(name));
    let token = world.token();
    world.give(0, Input::ReplayDeadLetters(Box::default(), Some(helper), token));
    settle(&mut world);
    assert_eq!(heard.letters(), ["in the mailbox"]);
}

#[test]
fn a_replayed_message_that_was_not_taken_in_is_replayed_after_a_start() {
    let mut world = journalled(1, 1).start();
    let sender = world.register(Script::idle().registration("sender".parse().unwrap()));
    let failing = world.add(0, "failing", failing(&Log::new()));
    let short = crate::common::lifetime(500);
    send(&mut world, inform(sender, failing, "tea").attempts_max(NonZeroU8::MIN).time_to_live(short));
    let replay = |world: &mut World| {
        let token = world.token();
        world.give(0, Input::ReplayDeadLetters(Box::default(), None, token));
        world.run();
    };
    // Its lifetime ends while it waits for a full journal.
    replay(&mut world);
    stall(&mut world, 0);
    let recovery = stopped(&world);
    assert_eq!(
        letters(&recovery),
        [("tea".to_owned(), DeadLetterReason::AttemptsExhausted, 1, 0)],
        "the letter stays as it was"
    );

    let mut world = started(journalled(1, 2), recovery, &world);
    world.register(Script::idle().registration("sender".parse().unwrap()));
    let (_, heard) = world.add_listener(0, "failing");
    replay(&mut world);
    settle(&mut world);
    assert_eq!(heard.texts(), ["tea"]);
    assert!(world.dead_letters(0).is_empty());
}

#[test]
fn a_message_stays_until_the_dead_letter_of_what_its_handler_sent_is_durable() {
    let mut world = journalled(2, 1).start();
    let receiver = AgentId::of(&world.name_on(1, "receiver"));
    world.register(Script::idle().registration(world.name_on(1, "receiver")));
    let short = crate::common::lifetime(500);
    let (sender, _) = world.add_listener(0, "sender");
    let forwarding = Script::new(move |message, context| {
        if message.performative() == Performative::Failure {
            return Outcome::Done;
        }
        let message = Message::builder(Performative::Inform).receiver(receiver).content("onward").time_to_live(short);
        context.send(message.reliability(Reliability::Durable).build().unwrap()).unwrap();
        Outcome::Done
    });
    let forwarder = world.add(0, "forwarder", forwarding);
    world.give(1, Input::Journal(JournalCondition::Full));
    world.send_later(inform(sender, forwarder, "first").reliability(Reliability::Durable).build().unwrap());
    for _ in 0..4 {
        world.run();
        world.commit_next(0, u64::MAX);
    }
    world.advance(2_000);
    for _ in 0..4 {
        world.run();
        world.commit_next(0, u64::MAX);
    }
    assert_eq!(world.total().expired, 1, "its lifetime has ended before its journal went on");
    let recovery = world.journals(&[world.committed(0), world.committed(1)], 1_000);
    assert_eq!(recovery.unsettled().map(|kept| text(&kept.message)).collect::<Vec<_>>(), ["first"]);

    world.give(1, Input::Journal(JournalCondition::Ready));
    settle(&mut world);
    let recovery = stopped(&world);
    assert_eq!(letters(&recovery), [("onward".to_owned(), DeadLetterReason::Expired, 0, 0)]);
    assert_eq!(recovery.messages(), 0, "what set it off is settled");
}
