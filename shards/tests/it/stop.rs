//! Draining and stopping: what is refused, what is dead-lettered, and that the accounts balance to the end.

use caxton_shards::agent::{Outcome, Registration};
use caxton_shards::api::{Answer, AskError, InboxNumber, Input, RegistrationError, SendErrorKind, Stage};
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::domain::AgentName;
use caxton_shards::journal::record::Durability;
use caxton_shards::message::{AgentId, Message, Performative, Reliability, WallTime};

use crate::common::{Log, Script, Setup, WALL_START_MS, World, assert_refused, inform};

#[test]
fn a_draining_shard_admits_nothing_from_outside_and_finishes_what_it_has() {
    let mut world = World::new(2);
    let (far, heard) = world.add_listener(1, "far");
    let told = Log::new();
    let knows = told.clone();
    let agent = world.add(
        0,
        "agent",
        Script::new(move |_, context| {
            context.send(inform(context.id(), far, "still").build().unwrap()).unwrap();
            knows.push(context.is_draining());
            Outcome::Done
        }),
    );
    let message = || inform(agent, agent, "x").build().unwrap();
    world.send(message()).unwrap();
    let admitted = world.send_later(message());
    world.give(0, Input::Drain);
    let refused = world.send_later(message());
    world.tell(message());
    let asked = world.ask(0, Message::builder(Performative::Request).receiver(far).build().unwrap(), 1_000);
    let name = AgentName::try_new(world.name_on(0, "late").to_string()).unwrap();
    let registered = world.register_later(Script::idle().registration(name));
    world.run();
    assert!(world.take_sent(0, admitted).unwrap().is_ok());
    assert_refused(world.take_sent(0, refused).unwrap(), SendErrorKind::Stopping);
    assert!(matches!(world.take_reply(0, asked), Some(Err(AskError::Rejected(_)))));
    let Some(Answer::Registered(results)) = world.take_answer(0, registered) else { panic!("not answered") };
    assert_eq!(results, [Err(RegistrationError::Stopping)]);
    assert_eq!(world.dead(DeadLetterReason::NotAdmitted), 1, "what was queued is answered for");
    assert!(!heard.is_empty(), "a handler can still send");
    let mut told = told.take();
    told.dedup();
    assert_eq!(told, [false, true], "a handler knows that the router drains");
    world.assert_settled();
}

#[test]
fn a_stop_gives_up_everything_wherever_it_is() {
    let mut world = Setup::new(3).lanes(2, 4).configured(|config| config.durability = Durability::Journal).start();
    let inbox = world.add_inbox(0, "inbox", 1, 1);
    let (far, _) = world.add_listener(1, "far");
    let slow = world.add(0, "slow", Script::new(|_, _| Outcome::Suspended).resuming(|_, _| Outcome::Suspended));
    let failing = world.add(0, "failing", Script::new(|_, _| Outcome::failed("no")));
    let sender = world.add(0, "sender", Script::idle());
    let traveller = world.add(2, "traveller", Script::idle());
    let home = world.add(0, "home", Script::idle());
    let id = caxton_shards::message::ConversationId::of_text("talk");
    let all = Message::builder(Performative::Inform).sender(home).receivers([traveller, far]).conversation(id);
    world.send(all.build().unwrap()).unwrap();
    world.run();
    world.pause(1, true);
    let later = inform(sender, sender, "delayed").deliver_at(WallTime(WALL_START_MS + 5_000));
    let several = Message::builder(Performative::Inform).sender(home).receivers([far, sender, failing, inbox]);
    let messages = [
        inform(sender, inbox, "in the inbox"),
        inform(sender, inbox, "in the mailbox"),
        inform(sender, slow, "in hand"),
        inform(sender, failing, "between attempts"),
        later,
        inform(sender, sender, "not committed").reliability(Reliability::Durable),
        inform(sender, far, "in the ring"),
        inform(sender, far, "in the outbox"),
        several,
    ];
    for message in messages {
        world.tell(message.build().unwrap());
        world.step(0);
    }
    for _ in 0..3 {
        let through = inform(traveller, far, "in transit").conversation_of(id, home);
        world.send_later(through.build().unwrap());
        world.step(2);
        world.step(0);
    }
    for _ in 0..3 {
        world.step(0);
    }
    let asked = world.ask(0, Message::builder(Performative::Request).receiver(sender).build().unwrap(), 60_000);
    world.step(0);
    let before = *world.nodes[0].shard.account();
    assert!(before.pending > 9, "{before:?}");
    // As a driver does: the inbox's contents are returned first.
    let leftovers = world.take_delivered(0);
    world.give(0, Input::Closed(inbox, InboxNumber(1), leftovers));
    for shard in 0..3 {
        world.give(shard, Input::Stop);
    }
    world.step(0);
    let after = *world.nodes[0].shard.account();
    assert_eq!(after.pending, 0, "{after:?}");
    let [stopped, deregistered] =
        [DeadLetterReason::Stopped, DeadLetterReason::Deregistered].map(|reason| after.dead_by_reason[reason.index()]);
    assert_eq!((stopped + deregistered + after.kept, deregistered, after.kept), (before.pending, 2, 1));
    assert!(matches!(world.take_reply(0, asked), Some(Err(AskError::Stopped))));
    let unfinished = world.nodes[0].shard.unfinished();
    assert_eq!((unfinished.total(), unfinished.asks), (stopped + after.kept, 1), "{unfinished:?}");
    // What is still in the rings is dead-lettered on arrival, and late timers and commits find nothing.
    world.pause(1, false);
    world.commit(0, 1);
    world.advance(100_000);
    let total = world.total();
    assert_eq!((total.pending, total.departed), (0, total.arrived), "{total:?}");
    assert_refused(world.send(inform(sender, sender, "x").build().unwrap()), SendErrorKind::Stopping);
}

#[test]
fn a_registration_that_waits_for_its_barrier_is_answered_when_the_router_stops() {
    let mut world = World::new(2);
    world.run();
    world.pause(1, true);
    let name = world.name_on(0, "agent");
    let token = world.register_later(Script::idle().offering("stop.barrier").registration(name));
    world.run();
    world.give(0, Input::Stop);
    world.run();
    assert!(matches!(world.take_answer(0, token), Some(Answer::Registered(_))));
    world.pause(1, false);
    world.run();
    world.assert_settled();
}

#[test]
fn agents_hear_what_was_given_up_but_can_send_and_register_nothing_more() {
    let mut world = World::new(1);
    let log = Log::new();
    let heard = log.clone();
    let agent = world.add(
        0,
        "agent",
        Script::new(move |message, context| {
            let name = AgentName::try_new("child").unwrap();
            if heard.is_empty() {
                context.register(Registration::outside(name, InboxNumber(1), 1));
            }
            let sent = context.send(inform(context.id(), AgentId::of_text("x"), "x").build().unwrap());
            heard.push((message.performative(), sent.map_err(SendErrorKind::from)));
            Outcome::Done
        }),
    );
    let later = inform(agent, agent, "delayed").deliver_at(WallTime(WALL_START_MS + 5_000));
    world.send(later.build().unwrap()).unwrap();
    world.stop_all();
    let heard = log.take();
    assert!(heard.len() >= 2, "the failure, and the refusal of the registration");
    assert!(heard.iter().all(|told| *told == (Performative::Failure, Err(SendErrorKind::Stopping))), "{heard:?}");
    assert_eq!(world.snapshot(0).agents, 1);
    world.advance(10_000);
    assert_eq!(world.total().pending, 0);
}

/// Returns what was left on all shards together.
fn unfinished(world: &World, stage: Stage) -> u64 {
    world.nodes.iter().map(|node| node.shard.unfinished().at(stage)).sum()
}

#[test]
fn what_is_left_at_the_stop_is_counted_where_it_stood() {
    let mut world = Setup::new(2).lanes(2, 4).configured(|config| config.durability = Durability::Journal).start();
    let (far, _) = world.add_listener(1, "far");
    let slow = world.add(0, "slow", Script::new(|_, _| Outcome::Suspended).resuming(|_, _| Outcome::Suspended));
    let failing = world.add(0, "failing", Script::new(|_, _| Outcome::failed("no")));
    let inbox = world.add_inbox(0, "inbox", 1, 2);
    let sender = world.add(0, "sender", Script::idle());
    let send = |world: &mut World, builder: caxton_shards::message::MessageBuilder| {
        world.tell(builder.build().unwrap());
        world.step(0);
    };
    for _ in 0..3 {
        send(&mut world, inform(sender, slow, "one in hand, the others behind it"));
    }
    send(&mut world, inform(sender, failing, "between attempts"));
    for _ in 0..4 {
        send(&mut world, inform(sender, sender, "delayed").deliver_at(WallTime(WALL_START_MS + 5_000)));
    }
    send(&mut world, inform(sender, sender, "not committed").reliability(Reliability::Durable));
    for _ in 0..2 {
        send(&mut world, inform(sender, inbox, "in the inbox"));
    }
    // The other shard stops first. There is credit for one message to it; the others wait at their sender.
    world.pause(1, true);
    world.give(1, Input::Stop);
    world.step(1);
    for _ in 0..2 {
        send(&mut world, inform(sender, far, "in the ring, and behind it"));
    }
    let everyone = Message::builder(Performative::Inform).sender(sender).receivers([far, sender, failing]);
    send(&mut world, everyone.reply_by(WallTime(WALL_START_MS + 60_000)));
    world.step(0);
    let pending = world.nodes[0].shard.account().pending;
    world.give(0, Input::Stop);
    world.tell(inform(sender, sender, "behind the stop").build().unwrap());
    let leftovers = world.take_delivered(0);
    world.give(0, Input::Closed(inbox, InboxNumber(1), leftovers));
    world.step(0);
    let here = world.nodes[0].shard.unfinished();
    assert_eq!(here.total(), pending + 1, "{here:?}");
    world.pause(1, false);
    world.run();
    let places = [
        (Stage::Queued, 1),
        (Stage::Outbox, 4),
        (Stage::Crossing, 1),
        (Stage::Commit, 1),
        (Stage::Delayed, 4),
        (Stage::Mailbox, 2),
        (Stage::Suspended, 1),
        (Stage::Retry, 1),
        (Stage::Inbox, 2),
    ];
    assert_eq!(places.map(|(place, _)| (place, unfinished(&world, place))), places);
    assert_eq!(here.questions, 1);
    let total: u64 = world.nodes.iter().map(|node| node.shard.unfinished().total()).sum();
    assert_eq!((total, world.total().pending), (world.dead(DeadLetterReason::Stopped) + world.total().kept, 0));
    assert_eq!(world.total().kept, 1, "what stands in the journal is left to the next start");
}

#[test]
fn a_shard_that_was_done_has_no_remains_but_open_conversations() {
    let mut world = World::new(1);
    let (agent, _) = world.add_listener(0, "agent");
    let id = caxton_shards::message::ConversationId::of_text("talk");
    world.send(inform(agent, agent, "x").conversation(id).build().unwrap()).unwrap();
    world.drain_all();
    assert_eq!(world.nodes[0].shard.unfinished(), caxton_shards::api::Unfinished::default(), "it has not stopped");
    world.stop_all();
    let unfinished = world.nodes[0].shard.unfinished();
    assert_eq!((unfinished.total(), unfinished.conversations, unfinished.questions), (0, 1, 0));
}

#[test]
fn the_owner_of_an_inbox_hears_what_became_of_its_messages_when_the_router_stopped() {
    let mut world = World::new(2);
    let inbox = world.add_inbox(0, "inbox", 1, 2);
    let idle = world.add(1, "idle", Script::new(|_, _| Outcome::Suspended).resuming(|_, _| Outcome::Suspended));
    world.send(inform(idle, inbox, "never taken").build().unwrap()).unwrap();
    world.run();
    world.send(inform(inbox, idle, "never handled").build().unwrap()).unwrap();
    for _ in 0..3 {
        world.step(0);
        world.step(1);
    }
    let leftovers = world.take_delivered(0);
    assert_eq!(leftovers.len(), 1);
    for shard in 0..2 {
        world.give(shard, Input::Stop);
    }
    world.give(0, Input::Returned(inbox, InboxNumber(1), leftovers));
    world.run();
    let told = world.take_delivered(0);
    let [failure] = told.as_slice() else { panic!("{told:?}") };
    assert!(caxton_shards::api::is_notice(failure));
    assert!(crate::common::text(failure).contains("stopped"), "{}", crate::common::text(failure));
    assert_eq!(world.dead(DeadLetterReason::Stopped), 2);
    // What the owner no longer reads is counted.
    world.give(1, Input::Tell(inform(inbox, idle, "too late").build().unwrap()));
    world.give(0, Input::Closed(inbox, InboxNumber(1), Vec::new()));
    world.run();
    let total = world.total();
    assert_eq!((world.dead(DeadLetterReason::Stopped), total.notices_coalesced), (3, 1), "{total:?}");
}
