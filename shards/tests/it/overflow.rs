//! Full mailboxes: which senders are refused or wait, which messages make room; and the memory budget of a shard.

use std::num::NonZeroU64;

use caxton_shards::agent::Outcome;
use caxton_shards::api::{AgentView, Answer, Input, OverflowPolicy, SendErrorKind, Stage, is_notice};
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::domain::Priority;
use caxton_shards::message::{AgentId, Correlation, Message, MessageBuilder, Performative};

use crate::common::{Log, Script, Setup, World, assert_refused, inform, lifetime, text};

/// A router whose mailboxes hold four messages, with this policy.
fn setup(shards: u16, policy: OverflowPolicy) -> Setup {
    Setup::new(shards).configured(|config| {
        config.overflow = policy;
        config.mailbox_messages = 4.try_into().unwrap();
    })
}

fn suspend(world: &mut World, agent: AgentId, suspended: bool) {
    let (shard, token) = (world.shard_of(agent), world.token());
    world.give(shard, if suspended { Input::Suspend(agent, token) } else { Input::Resume(agent, token) });
    world.run();
    let answer = world.nodes[shard].answers.remove(&token.0);
    assert!(matches!(answer, Some(Answer::Changed(Ok(())))), "the agent's state changes");
}

/// A listener that is suspended until the test resumes it.
fn add_sleeper(world: &mut World, shard: u16, prefix: &str) -> (AgentId, Log<Message>) {
    let (agent, log) = world.add_listener(shard, prefix);
    suspend(world, agent, true);
    (agent, log)
}

fn view(world: &mut World, agent: AgentId) -> AgentView {
    let (shard, token) = (world.shard_of(agent), world.token());
    world.give(shard, Input::Agent(agent, token));
    world.run();
    match world.nodes[shard].answers.remove(&token.0) {
        Some(Answer::Agent(Some(view))) => *view,
        _ => panic!("the agent is known"),
    }
}

fn build(builder: MessageBuilder) -> Message {
    builder.build().unwrap()
}

fn tell_numbers(world: &mut World, from: AgentId, to: AgentId, numbers: std::ops::Range<u32>) {
    for number in numbers {
        world.tell(build(inform(from, to, &number.to_string())));
    }
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[test]
fn the_newest_is_refused_by_default() {
    let mut world = setup(1, OverflowPolicy::Reject).start();
    let (sender, heard) = world.add_listener(0, "sender");
    let (receiver, log) = add_sleeper(&mut world, 0, "receiver");
    tell_numbers(&mut world, sender, receiver, 0..6);
    world.run();
    assert_eq!(world.dead(DeadLetterReason::MailboxFull), 2);
    assert_eq!(heard.notices().len(), 2);
    suspend(&mut world, receiver, false);
    assert_eq!(log.letters(), numbers(0..4));
    world.assert_settled();
}

#[test]
fn the_oldest_makes_room_and_its_sender_is_told() {
    let mut world = setup(2, OverflowPolicy::DropOldest).start();
    let (sender, heard) = world.add_listener(1, "sender");
    let (receiver, log) = add_sleeper(&mut world, 0, "receiver");
    tell_numbers(&mut world, sender, receiver, 0..7);
    world.run();
    assert_eq!(world.dead(DeadLetterReason::Displaced), 3);
    let told = heard.notices();
    assert!(told.len() == 3 && told.iter().all(|notice| notice.contains("(displaced ")), "{told:?}");
    assert_eq!(view(&mut world, receiver).overflow, OverflowPolicy::DropOldest);
    suspend(&mut world, receiver, false);
    assert_eq!(log.letters(), numbers(3..7));
    world.assert_settled();
}

#[test]
fn what_is_of_higher_priority_does_not_make_room() {
    let mut world = setup(1, OverflowPolicy::DropOldest).start();
    let (sender, _) = world.add_listener(0, "sender");
    let (receiver, log) = add_sleeper(&mut world, 0, "receiver");
    for (content, priority) in [
        ("urgent", Priority::Urgent),
        ("low", Priority::Low),
        ("normal", Priority::Normal),
        ("high", Priority::High),
        ("displaces low", Priority::Normal),
        ("displaces normal", Priority::Urgent),
        ("is refused", Priority::Low),
    ] {
        world.tell(build(inform(sender, receiver, content).priority(priority)));
    }
    world.run();
    assert_eq!((world.dead(DeadLetterReason::Displaced), world.dead(DeadLetterReason::MailboxFull)), (2, 1));
    suspend(&mut world, receiver, false);
    assert_eq!(log.letters(), ["urgent", "displaces normal", "high", "displaces low"]);
    world.assert_settled();
}

#[test]
fn several_make_room_for_one_that_is_larger_and_none_if_that_is_not_enough() {
    let mut world = setup(1, OverflowPolicy::DropOldest)
        .configured(|config| config.mailbox_bytes = 8_000.try_into().unwrap())
        .start();
    let (sender, _) = world.add_listener(0, "sender");
    let (receiver, log) = add_sleeper(&mut world, 0, "receiver");
    for content in ["a".repeat(2_000), "b".repeat(2_000), "c".repeat(6_500)] {
        world.tell(build(inform(sender, receiver, &content)));
    }
    world.tell(build(inform(sender, receiver, &"d".repeat(9_000))));
    world.run();
    assert_eq!((world.dead(DeadLetterReason::Displaced), world.dead(DeadLetterReason::MailboxFull)), (2, 1));
    suspend(&mut world, receiver, false);
    assert_eq!(log.letters().iter().map(|letter| letter.as_bytes()[0]).collect::<Vec<_>>(), b"c");
    world.assert_settled();
}

#[test]
fn answers_are_taken_beyond_the_limit_and_within_a_bound() {
    for policy in OverflowPolicy::ALL {
        let mut world = setup(1, policy).start();
        let oracle = world.add(0, "oracle", Script::echo());
        let (stranger, _) = world.add_listener(0, "stranger");
        // Sends ten questions when it is told to.
        let log = Log::new();
        let heard = log.clone();
        let asker = world.add(
            0,
            "asker",
            Script::new(move |message, context| {
                if text(message) == "ask" {
                    for number in 0..10 {
                        let correlation = context.new_correlation();
                        let question = Message::builder(Performative::Request).receiver(oracle);
                        let question = question.reply_with(correlation).content(format!("answer {number}"));
                        context.send(question.build().unwrap()).unwrap();
                    }
                } else if !is_notice(message) {
                    heard.push(text(message));
                }
                Outcome::Done
            }),
        );
        world.give(0, Input::Suspend(oracle, caxton_shards::api::Token(1 << 40)));
        world.tell(build(inform(stranger, asker, "ask")));
        world.run();
        // The asking agent is suspended, and its mailbox is full, when the replies arrive.
        let waiting = u64::from(view(&mut world, oracle).mailbox_messages);
        suspend(&mut world, asker, true);
        tell_numbers(&mut world, stranger, asker, 0..4);
        world.run();
        suspend(&mut world, oracle, false);
        let held = view(&mut world, asker).mailbox_messages;
        assert!(held > 4 && held <= 8, "{policy}: {held} of {waiting}");
        let replies = world.snapshot(0).replies_beyond;
        assert_eq!(replies, 4, "{policy}");
        suspend(&mut world, asker, false);
        let letters = log.take();
        assert_eq!(letters.iter().filter(|letter| letter.starts_with("answer")).count(), 4, "{policy}: {letters:?}");
        // Four questions found room in a router that does not wait; with back-pressure all were sent.
        let put = if policy == OverflowPolicy::BackPressure { 10 } else { 4 };
        assert_eq!(world.dead(DeadLetterReason::RepliesFull), put - 4, "{policy}");
        world.assert_settled();
    }
}

#[test]
fn senders_wait_for_a_receiver_that_is_slow_and_everything_arrives_in_order() {
    let mut world = setup(2, OverflowPolicy::BackPressure).lanes(8, 4).start();
    let (receiver, log) = add_sleeper(&mut world, 0, "receiver");
    let near = world.add(0, "near", Script::idle());
    let far = world.add(1, "far", Script::idle());
    for number in 0..30 {
        world.tell(build(inform(near, receiver, &format!("near {number}"))));
        world.tell(build(inform(far, receiver, &format!("far {number}"))));
        world.run();
    }
    assert!(view(&mut world, receiver).closed);
    let (here, there) = (world.snapshot(0), world.snapshot(1));
    assert_eq!((here.receivers_closed, there.receivers_closed), (1, 0));
    assert_eq!(here.stalled + here.waiting + there.waiting, 56, "{here:?} {there:?}");
    assert!(there.waiting >= 28, "what has not left waits with its sender: {there:?}");
    assert_eq!(world.nodes[1].shard.messages_in_flight(), 0);
    suspend(&mut world, receiver, false);
    let letters = log.letters();
    for sender in ["near", "far"] {
        let of_sender: Vec<_> = letters.iter().filter(|letter| letter.starts_with(sender)).cloned().collect();
        assert_eq!(of_sender, (0..30).map(|number| format!("{sender} {number}")).collect::<Vec<_>>());
    }
    assert_eq!(world.total().dead_lettered, 0);
    world.assert_settled();
}

#[test]
fn whoever_waits_for_one_receiver_does_not_hold_up_what_goes_to_others() {
    let mut world = setup(2, OverflowPolicy::BackPressure).lanes(2, 2).start();
    let (slow, _) = add_sleeper(&mut world, 0, "slow");
    let (quick, log) = world.add_listener(0, "quick");
    let sender = world.add(1, "sender", Script::idle());
    let other = world.add(1, "other", Script::idle());
    tell_numbers(&mut world, sender, slow, 0..20);
    world.run();
    tell_numbers(&mut world, sender, quick, 0..10);
    tell_numbers(&mut world, other, quick, 10..20);
    world.run();
    assert_eq!(log.letters().len(), 20, "neither the same sender's nor another's messages wait");
    suspend(&mut world, slow, false);
    world.assert_settled();
}

#[test]
fn an_agent_whose_messages_wait_is_not_called() {
    let mut world = setup(2, OverflowPolicy::BackPressure).start();
    let (slow, log) = add_sleeper(&mut world, 0, "slow");
    let (driver, _) = world.add_listener(1, "driver");
    let calls = Log::new();
    let called = calls.clone();
    let forwarder = world.add(
        1,
        "forwarder",
        Script::new(move |message, context| {
            called.push(());
            let copy = Message::builder(Performative::Inform).receiver(slow).content(message.content().clone());
            context.send(copy.build().unwrap()).unwrap();
            Outcome::Done
        }),
    );
    for number in 0..40 {
        world.tell(build(inform(driver, forwarder, &number.to_string())));
        world.run();
    }
    assert!(calls.len() < 12, "the forwarder was called {} times", calls.len());
    assert_eq!(view(&mut world, forwarder).waiting, 1);
    assert!(view(&mut world, forwarder).closed, "the pressure goes on to who sends to the forwarder");
    suspend(&mut world, slow, false);
    assert_eq!(log.letters(), numbers(0..40));
    world.assert_settled();
}

#[test]
fn what_waits_expires_in_time_wherever_it_waits() {
    let mut world = setup(2, OverflowPolicy::BackPressure).lanes(4, 4).start();
    let (slow, log) = add_sleeper(&mut world, 0, "slow");
    let (sender, heard) = world.add_listener(1, "sender");
    for number in 0..12 {
        world.tell(build(inform(sender, slow, &number.to_string()).time_to_live(lifetime(2_000))));
        world.run();
    }
    assert!(view(&mut world, sender).waiting > 0 && world.snapshot(0).stalled > 0);
    world.advance(4_000);
    let total = world.total();
    assert_eq!((total.expired, total.pending), (12, 0));
    assert_eq!(total.expired_by_stage[Stage::Stalled.index()], 8);
    assert_eq!(heard.notices().len(), 12);
    assert!(!view(&mut world, slow).closed);
    suspend(&mut world, slow, false);
    assert!(log.letters().is_empty());
    world.assert_settled();
}

#[test]
fn a_send_from_outside_waits_for_its_turn_and_a_try_gives_the_message_back() {
    let mut world = setup(2, OverflowPolicy::BackPressure).start();
    let (slow, log) = add_sleeper(&mut world, 0, "slow");
    let sender = world.add(1, "sender", Script::idle());
    tell_numbers(&mut world, sender, slow, 0..5);
    world.run();
    let patient = world.send_later(build(inform(sender, slow, "5")));
    let impatient = world.send_later(build(inform(sender, slow, "late").time_to_live(lifetime(1_000))));
    world.run();
    assert!(world.nodes[1].answers.is_empty(), "both wait");
    let (shard, token) = (1, world.token());
    world.give(shard, Input::TrySend(build(inform(sender, slow, "now")), token));
    world.run();
    let error = SendErrorKind::ReceiverFull { receiver: slow, policy: OverflowPolicy::BackPressure };
    assert_eq!(text(&assert_refused(world.take_sent(shard, token).unwrap(), error.clone())), "now");
    let accepted = world.total().accepted;
    world.advance(3_000);
    assert_eq!(text(&assert_refused(world.take_sent(shard, impatient).unwrap(), error)), "late");
    assert_eq!(world.total().accepted, accepted, "what is refused was never accepted");
    assert_eq!(world.snapshot(shard).refused_by_receiver, 2);
    suspend(&mut world, slow, false);
    world.take_sent(shard, patient).unwrap().unwrap();
    assert_eq!(log.letters(), numbers(0..6));
    world.assert_settled();
}

/// An agent that sends two messages for each one it receives, up to `most`.
fn multiplier(to: Option<AgentId>, most: u32) -> Script {
    let mut sent = 0;
    Script::new(move |message, context| {
        for _ in 0..2 {
            if sent < most && !is_notice(message) {
                sent += 1;
                let copy = Message::builder(Performative::Inform).receiver(to.unwrap_or(context.id()));
                context.send(copy.time_to_live(lifetime(2_000)).content("again").build().unwrap()).unwrap();
            }
        }
        Outcome::Done
    })
}

#[test]
fn an_agent_that_writes_to_itself_does_not_wait_for_itself() {
    let mut world = setup(1, OverflowPolicy::BackPressure).start();
    let agent = world.add(0, "narcissus", multiplier(None, 200));
    world.tell(build(inform(agent, agent, "begin")));
    world.run();
    assert_eq!((world.total().processed, world.total().dead_lettered), (201, 0));
    world.assert_settled();
}

#[test]
fn agents_that_wait_for_each_other_go_on() {
    for shard in [0, 1] {
        let mut world = setup(2, OverflowPolicy::BackPressure).start();
        let names = [world.name_on(0, "one"), world.name_on(shard, "other")];
        let [one, other] = [AgentId::of(&names[0]), AgentId::of(&names[1])];
        for (name, to) in names.into_iter().zip([other, one]) {
            world.register_later(multiplier(Some(to), 200).registration(name));
        }
        world.run();
        world.tell(build(inform(one, other, "begin").time_to_live(lifetime(2_000))));
        world.run();
        world.advance(20_000);
        let total = world.total();
        assert_eq!(total.pending, 0, "{total:?}");
        assert_eq!(total.dead_lettered, 0, "{total:?}");
        assert!(total.processed + total.expired == total.accepted, "{total:?}");
        assert!(!view(&mut world, one).closed && !view(&mut world, other).closed);
    }
}

#[test]
fn a_receiver_that_goes_lets_those_go_on_who_wait_for_it() {
    let mut world = setup(2, OverflowPolicy::BackPressure).start();
    let (slow, _) = add_sleeper(&mut world, 0, "slow");
    let (sender, heard) = world.add_listener(1, "sender");
    for number in 0..10 {
        world.tell(build(inform(sender, slow, &number.to_string())));
        world.run();
    }
    let token = world.token();
    world.give(0, Input::Deregister(slow, token));
    world.run();
    assert_eq!(world.dead(DeadLetterReason::Deregistered), 10);
    assert_eq!(heard.notices().len(), 10);
    world.assert_settled();
}

#[test]
fn a_router_that_stops_gives_up_what_waits() {
    let mut world = setup(2, OverflowPolicy::BackPressure).start();
    let (slow, _) = add_sleeper(&mut world, 0, "slow");
    let sender = world.add(1, "sender", Script::idle());
    for number in 0..10 {
        world.tell(build(inform(sender, slow, &number.to_string())));
        world.run();
    }
    let token = world.send_later(build(inform(sender, slow, "asked")));
    world.run();
    world.give(1, Input::Stop);
    world.run();
    world.stop_all();
    assert_refused(world.take_sent(1, token).unwrap(), SendErrorKind::Stopping);
    assert_eq!((world.dead(DeadLetterReason::Stopped), world.total().pending), (10, 0));
}

#[test]
fn beyond_the_memory_budget_senders_are_refused_and_answers_are_not() {
    let mut world = Setup::new(1).configured(|config| config.memory_max = 80_000).start();
    let (sender, _) = world.add_listener(0, "sender");
    let (receiver, _) = add_sleeper(&mut world, 0, "receiver");
    let (asker, answers) = world.add_listener(0, "asker");
    let oracle = world.add(0, "oracle", Script::echo());
    suspend(&mut world, oracle, true);
    let correlation = Correlation::new(NonZeroU64::MIN);
    world.tell(build(crate::common::request(asker, oracle, "?").reply_with(correlation)));
    world.run();
    let full = SendErrorKind::MemoryFull { limit: 80_000 };
    let mut accepted = 0;
    let refused = loop {
        match world.send(build(inform(sender, receiver, &"x".repeat(5_000)))) {
            Ok(_) => accepted += 1,
            refused => break refused,
        }
    };
    assert_eq!(assert_refused(refused, full).content().len(), 5_000);
    assert!((12..=14).contains(&accepted), "{accepted}");
    let snapshot = world.snapshot(0);
    assert!(snapshot.memory_bytes <= 70_000 + 1_000, "{snapshot:?}");
    assert_eq!((snapshot.memory_bytes_max, snapshot.refused_for_memory), (80_000, 1));
    suspend(&mut world, oracle, false);
    assert_eq!(answers.letters(), ["?"], "whoever has asked gets an answer");
    suspend(&mut world, receiver, false);
    world.send(build(inform(sender, receiver, "small again"))).unwrap();
    world.run();
    assert_eq!(world.snapshot(0).memory_bytes, 0);
    world.assert_settled();
}

#[test]
fn what_a_handler_has_sent_already_counts_against_the_budget() {
    let mut world = Setup::new(1).configured(|config| config.memory_max = 80_000).start();
    let (receiver, log) = world.add_listener(0, "receiver");
    let refused = Log::new();
    let errors = refused.clone();
    let sender = world.add(
        0,
        "sender",
        Script::new(move |_, context| {
            for _ in 0..20 {
                let message = Message::builder(Performative::Inform).receiver(receiver).content("x".repeat(5_000));
                if let Err(rejected) = context.send(message.build().unwrap()) {
                    errors.push(rejected.kind().clone());
                }
            }
            Outcome::Done
        }),
    );
    world.tell(build(inform(sender, sender, "go")));
    world.run();
    let errors = refused.take();
    assert!((6..=8).contains(&errors.len()), "{errors:?}");
    assert!(errors.iter().all(|error| *error == SendErrorKind::MemoryFull { limit: 80_000 }), "{errors:?}");
    assert_eq!(log.letters().len() + errors.len(), 20);
    world.assert_settled();
}
