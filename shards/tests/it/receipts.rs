//! Receipts: none, delivered, processed; for which messages, when, and how many.

use std::num::NonZeroU8;

use caxton_shards::agent::{Outcome, Registration};
use caxton_shards::api::{InboxNumber, Input, is_notice};
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::message::{AgentId, Choice, Correlation, Message, Performative, Receipt, WallTime};

use crate::common::{Log, Script, WALL_START_MS, World, capability, inform, lifetime, request, text};

const BOTH: [Receipt; 2] = [Receipt::Delivered, Receipt::Processed];

fn word(receipt: Receipt) -> &'static str {
    match receipt {
        Receipt::None => "none",
        Receipt::Delivered => "((delivered ",
        Receipt::Processed => "((processed ",
    }
}

/// Fails this many attempts before it handles a message.
fn failing(times: u32) -> Script {
    let mut left = times;
    Script::new(move |_, _| {
        left = left.saturating_sub(1);
        if left > 0 { Outcome::failed("not yet") } else { Outcome::Done }
    })
}

#[track_caller]
fn assert_told(told: &Log<Message>, words: &[&str]) {
    let notices = told.notices();
    let fits = notices.len() == words.len() && notices.iter().zip(words).all(|(notice, word)| notice.contains(word));
    assert!(fits, "{notices:?} instead of {words:?}");
}

#[test]
fn an_inbox_is_delivered_to_when_the_message_waits_for_it_and_processes_what_it_takes() {
    for shard in 0..2 {
        let mut world = World::new(2);
        let (sender, told) = world.add_listener(0, "sender");
        let inbox = world.add_inbox(shard, "inbox", 7, 1);
        for receipt in [Receipt::None, Receipt::Delivered, Receipt::Processed] {
            world.send(inform(sender, inbox, "x").receipt(receipt).build().unwrap()).unwrap();
        }
        world.run();
        assert_told(&told, &["((delivered "]);
        for taken in 1..=3 {
            assert_eq!(world.take_delivered(usize::from(shard)).len(), 1);
            let input = Input::Taken { agent: inbox, inbox: InboxNumber(7), messages: 1, notices: 0 };
            world.give(usize::from(shard), input);
            world.run();
            assert_eq!(told.len(), if taken < 3 { 1 } else { 2 }, "only the last one wants to be told of");
        }
        assert_told(&told, &["((delivered ", "((processed "]);
        world.assert_settled();
    }
}

#[test]
fn an_inbox_as_sender_is_told_too() {
    for shard in 0..2 {
        for receipt in BOTH {
            let mut world = World::new(2);
            let inbox = world.add_inbox(0, "inbox", 7, 5);
            let receiver = world.add(shard, "receiver", Script::idle());
            world.send(inform(inbox, receiver, "x").receipt(receipt).build().unwrap()).unwrap();
            world.run();
            let delivered = world.take_delivered(0);
            assert!(delivered.len() == 1 && is_notice(&delivered[0]) && text(&delivered[0]).starts_with(word(receipt)));
        }
    }
}

#[test]
fn each_of_several_receivers_is_told_of_by_name() {
    for receipt in BOTH {
        let mut world = World::new(2);
        let (sender, told) = world.add_listener(0, "sender");
        let receivers =
            [(0, "one"), (1, "two"), (1, "three")].map(|(shard, name)| world.add(shard, name, Script::idle()));
        let message = Message::builder(Performative::Inform).sender(sender).receivers(receivers);
        world.send(message.receipt(receipt).build().unwrap()).unwrap();
        world.run();
        let notices = told.notices();
        assert_eq!(notices.len(), 3);
        for receiver in receivers {
            let about = notices.iter().filter(|notice| notice.contains(&receiver.to_string()));
            assert_eq!(about.filter(|notice| notice.starts_with(word(receipt))).count(), 1, "{notices:?}");
        }
        world.assert_settled();
    }
}

#[test]
fn every_provider_of_a_capability_is_told_of() {
    let mut world = World::new(2);
    let (sender, told) = world.add_listener(0, "sender");
    for shard in 0..2 {
        let name = world.name_on(shard, "provider");
        world.register(Script::idle().offering("receipts").registration(name));
    }
    let message = Message::builder(Performative::Inform).sender(sender);
    let message = message.capability(&capability("receipts"), Choice::All).receipt(Receipt::Processed);
    world.send(message.build().unwrap()).unwrap();
    world.run();
    assert_told(&told, &["((processed ", "((processed "]);
    world.assert_settled();
}

#[test]
fn a_message_that_is_tried_again_is_told_of_once() {
    for receipt in BOTH {
        let mut world = World::new(2);
        let (sender, told) = world.add_listener(0, "sender");
        let receiver = world.add(1, "receiver", failing(3));
        world.send(inform(sender, receiver, "x").receipt(receipt).build().unwrap()).unwrap();
        world.run();
        assert_eq!(told.len(), usize::from(receipt == Receipt::Delivered), "it was not handled yet");
        world.advance(10_000);
        assert_eq!(world.total().retried, 2);
        assert_told(&told, &[word(receipt)]);
        world.assert_settled();
    }
}

#[test]
fn a_suspended_message_is_processed_when_it_is_finished() {
    let mut world = World::new(2);
    let (sender, told) = world.add_listener(0, "sender");
    let mut left = 3;
    let script = Script::new(|_, _| Outcome::Suspended).resuming(move |_, _| {
        left -= 1;
        if left > 0 { Outcome::Suspended } else { Outcome::Done }
    });
    let receiver = world.add(0, "receiver", script);
    world.send(inform(sender, receiver, "x").receipt(Receipt::Processed).build().unwrap()).unwrap();
    world.step(0);
    world.step(0);
    assert_eq!(told.len(), 0);
    world.run();
    assert_told(&told, &["((processed "]);
    world.assert_settled();
}

#[test]
fn a_dead_letter_is_never_reported_as_processed() {
    for shard in 0..2 {
        let mut world = World::new(2);
        let (sender, told) = world.add_listener(0, "sender");
        let receiver = world.add(shard, "receiver", failing(99));
        let nobody = AgentId::of(&world.name_on(shard, "nobody"));
        for to in [receiver, nobody] {
            let message = inform(sender, to, "x").receipt(Receipt::Processed).attempts_max(NonZeroU8::MIN);
            world.send(message.build().unwrap()).unwrap();
            world.run();
        }
        assert_told(&told, &["attempts-exhausted", "unknown-receiver"]);
        assert_eq!(
            (world.dead(DeadLetterReason::AttemptsExhausted), world.dead(DeadLetterReason::UnknownReceiver)),
            (1, 1)
        );
        world.assert_settled();
    }
}

#[test]
fn an_expired_message_is_never_reported_as_processed() {
    let mut world = World::new(2);
    let (sender, told) = world.add_listener(0, "sender");
    let inbox = world.add_inbox(1, "inbox", 7, 1);
    for content in ["fills the inbox", "x"] {
        let message = inform(sender, inbox, content).receipt(Receipt::Processed).time_to_live(lifetime(1_000));
        world.send(message.build().unwrap()).unwrap();
    }
    world.advance(3_000);
    assert_told(&told, &["(expired "]);
}

#[test]
fn what_the_owner_of_an_inbox_gave_back_is_not_reported_as_processed() {
    let mut world = World::new(1);
    let (sender, told) = world.add_listener(0, "sender");
    let name = world.name_on(0, "inbox");
    let inbox = world.register(Registration::outside(name, InboxNumber(7), 5));
    for number in 0..3 {
        let message = inform(sender, inbox, &number.to_string()).receipt(Receipt::Processed);
        world.send(message.build().unwrap()).unwrap();
    }
    world.run();
    let mut delivered = world.take_delivered(0);
    let unread = delivered.split_off(1);
    world.give(0, Input::Closed(inbox, InboxNumber(7), unread));
    world.run();
    let notices = told.notices();
    let count = |word: &str| notices.iter().filter(|notice| notice.contains(word)).count();
    assert_eq!((count("((processed "), count("(deregistered ")), (1, 2), "{notices:?}");
    world.assert_settled();
}

#[test]
fn what_was_taken_tells_nothing_of_what_the_owner_acknowledges() {
    let mut world = World::new(1);
    let (sender, told) = world.add_listener(0, "sender");
    let name = world.name_on(0, "inbox");
    let inbox = InboxNumber(7);
    let agent = world.register(Registration::outside(name, inbox, 5).acknowledged());
    world.send(inform(sender, agent, "1").receipt(Receipt::Processed).build().unwrap()).unwrap();
    world.send(inform(sender, agent, "2").build().unwrap()).unwrap();
    world.run();
    world.give(0, Input::Taken { agent, inbox, messages: 1, notices: 0 });
    world.run();
    assert_eq!(told.notices().len(), 0, "the second one was taken");
    world.give(0, Input::Acknowledged { agent, inbox, numbers: vec![1] });
    world.run();
    assert_told(&told, &["((processed "]);
    world.assert_settled();
}

#[test]
fn a_reply_can_ask_for_receipts_and_receipts_name_the_message_by_its_reply_with() {
    for shard in 0..2 {
        for receipt in BOTH {
            let mut world = World::new(2);
            let told = Log::new();
            let log = told.clone();
            let correlation = Correlation::of_text("the reply itself");
            let answering = world.add(
                shard,
                "answering",
                Script::new(move |message, context| {
                    if is_notice(message) {
                        log.push(message.clone());
                    } else {
                        let reply = message.reply(Performative::Inform).receipt(receipt).reply_with(correlation);
                        context.send(reply.build().unwrap()).unwrap();
                    }
                    Outcome::Done
                }),
            );
            let (asker, heard) = world.add_listener(0, "asker");
            world.send(request(asker, answering, "tea?").build().unwrap()).unwrap();
            world.run();
            assert_eq!((heard.len(), heard.notices().len()), (1, 0), "the asker wanted no receipt");
            let told = told.take();
            assert!(told.len() == 1 && text(&told[0]).starts_with(word(receipt)));
            assert_eq!(told[0].in_reply_to(), Some(correlation));
            world.assert_settled();
        }
    }
}

#[test]
fn a_reply_to_a_question_from_outside_is_processed_when_it_answers_it() {
    for receipt in BOTH {
        let mut world = World::new(2);
        let told = Log::new();
        let log = told.clone();
        let answering = world.add(
            1,
            "answering",
            Script::new(move |message, context| {
                if is_notice(message) {
                    log.push(message.clone());
                } else {
                    context.send(message.reply(Performative::Inform).receipt(receipt).build().unwrap()).unwrap();
                }
                Outcome::Done
            }),
        );
        let question = Message::builder(Performative::Request).receiver(answering).build().unwrap();
        let asked = world.ask(0, question, 1_000);
        world.run();
        assert!(world.take_reply(0, asked).unwrap().is_ok());
        assert_told(&told, &[word(receipt)]);
        world.assert_settled();
    }
}

#[test]
fn a_message_for_later_is_delivered_when_the_mailbox_has_it_and_processed_at_its_moment() {
    for receipt in BOTH {
        let mut world = World::new(2);
        let (sender, told) = world.add_listener(0, "sender");
        let receiver = world.add(1, "receiver", Script::idle());
        let message = inform(sender, receiver, "x").receipt(receipt).deliver_at(WallTime(WALL_START_MS + 5_000));
        world.send(message.build().unwrap()).unwrap();
        world.advance(4_999);
        assert_eq!(told.len(), usize::from(receipt == Receipt::Delivered));
        world.advance(1);
        assert_told(&told, &[word(receipt)]);
        world.assert_settled();
    }
}

#[test]
fn a_receipt_for_a_sender_that_has_gone_disturbs_nobody() {
    let mut world = World::new(2);
    let sender = world.add(0, "sender", Script::idle());
    let receiver = world.add(1, "receiver", Script::idle());
    world.pause(1, true);
    world.send(inform(sender, receiver, "x").receipt(Receipt::Processed).build().unwrap()).unwrap();
    world.run();
    world.deregister(sender);
    world.pause(1, false);
    world.run();
    assert_eq!((world.total().processed, world.total().notices_coalesced), (1, 1));
    world.assert_settled();
}
