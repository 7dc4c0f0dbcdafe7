//! Failures: retries, dead letters, restarts, and handlers that take too long.

use std::num::NonZeroU8;

use caxton_shards::agent::{Outcome, Supervision};
use caxton_shards::api::{CONTROL_LANE_MAX, Event, InboxNumber, Input, Stage, is_notice};
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::message::{AgentId, Message, Performative, Receipt, WallTime};

use crate::common::{Log, Script, Setup, WALL_START_MS, World, inform, lifetime, text};

/// Fails each message as often as it says, and logs when.
fn failing(times: &Log<u64>) -> Script {
    let times = times.clone();
    Script::new(move |message, context| {
        if is_notice(message) {
            return Outcome::Done;
        }
        times.push(context.now().monotonic_ms());
        Outcome::failed("the tea is cold")
    })
}

#[test]
fn a_failed_message_is_tried_again_after_growing_delays_and_then_given_up_with_an_explanation() {
    for shard in 0..2 {
        let mut world = World::new(2);
        let (sender, told) = world.add_listener(0, "sender");
        let times = Log::new();
        let receiver = world.add(shard, "receiver", failing(&times));
        world.send(inform(sender, receiver, "x").build().unwrap()).unwrap();
        world.advance(10_000);
        assert_eq!(times.take(), [0, 100, 300, 700]);
        assert_eq!((world.total().retried, world.dead(DeadLetterReason::AttemptsExhausted)), (3, 1));
        let notices = told.notices();
        assert!(notices.len() == 1 && notices[0].contains("attempts-exhausted"), "{notices:?}");
        assert!(notices[0].contains("the tea is cold"), "{notices:?}");
        assert_eq!(world.dead_letters(usize::from(shard))[0].attempts, 4);
        world.assert_settled();
    }
}

#[test]
fn a_message_can_set_its_own_number_of_attempts() {
    let mut world = World::new(1);
    let times = Log::new();
    let agent = world.add(0, "agent", failing(&times));
    world.send(inform(agent, agent, "x").attempts_max(NonZeroU8::MIN).build().unwrap()).unwrap();
    world.advance(10_000);
    assert_eq!(times.take(), [0]);
    world.send(inform(agent, agent, "x").attempts_max(NonZeroU8::new(2).unwrap()).build().unwrap()).unwrap();
    world.advance(10_000);
    assert_eq!(times.take(), [10_000, 10_100]);
}

#[test]
fn a_message_that_waits_for_its_next_attempt_counts_against_the_mailbox() {
    let mut world = Setup::new(1).configured(|config| config.mailbox_messages = 2.try_into().unwrap()).start();
    let times = Log::new();
    let agent = world.add(0, "agent", failing(&times));
    for _ in 0..3 {
        world.send(inform(agent, agent, "x").build().unwrap()).unwrap();
        world.run();
    }
    assert_eq!(world.dead(DeadLetterReason::MailboxFull), 1);
    world.advance(10_000);
    world.assert_settled();
}

#[test]
fn what_a_failed_attempt_did_is_discarded_and_what_the_last_one_did_takes_place() {
    let mut world = World::new(1);
    let (receiver, heard) = world.add_listener(0, "receiver");
    let mut attempts = 0;
    let agent = world.add(
        0,
        "agent",
        Script::new(move |_, context| {
            attempts += 1;
            context.send(inform(context.id(), receiver, &attempts.to_string()).build().unwrap()).unwrap();
            context.advertise(&crate::common::capability(&format!("failures.{attempts}"))).unwrap();
            match attempts {
                1 => Outcome::failed("not yet"),
                2 => panic!("not now"),
                _ => Outcome::Done,
            }
        }),
    );
    world.send(inform(agent, agent, "x").build().unwrap()).unwrap();
    world.advance(10_000);
    assert_eq!(heard.texts(), ["3"]);
    assert_eq!(world.discover(0, "failures.1"), []);
    assert_eq!(world.discover(0, "failures.2"), []);
    assert_eq!(world.discover(0, "failures.3"), [agent]);
    assert_eq!(world.total().accepted, 2, "what was discarded was never accepted");
    world.assert_settled();
}

#[test]
fn a_panic_makes_the_agent_anew_and_disturbs_nobody_else() {
    let mut world = World::new(1);
    world.watch_events();
    let (made, handled) = (Log::new(), Log::new());
    let log = handled.clone();
    let mut panicked = false;
    let agent = world.add(
        0,
        "agent",
        Script::new(move |message, _| {
            assert!(text(message) != "2" || std::mem::replace(&mut panicked, true), "something is wrong");
            log.push(text(message));
            Outcome::Done
        })
        .counted(&made),
    );
    let (other, heard) = world.add_listener(0, "other");
    for number in 1..=3 {
        world.send_later(inform(other, agent, &number.to_string()).build().unwrap());
        world.send_later(inform(agent, other, &number.to_string()).build().unwrap());
    }
    world.advance(1_000);
    assert_eq!(handled.take(), ["1", "3", "2"], "the message is tried again behind the others");
    assert_eq!((heard.len(), made.len()), (3, 2));
    let what = "something is wrong".to_owned();
    assert!(world.take_events(0).contains(&Event::AgentPanicked { agent, what }));
    world.assert_settled();
}

#[test]
fn an_agent_decides_after_a_failure_whether_it_goes_on_is_made_anew_or_leaves() {
    for (verdict, times_made, stays) in
        [(Supervision::Resume, 1, true), (Supervision::Restart, 2, true), (Supervision::Stop, 1, false)]
    {
        let mut world = World::new(1);
        let (made, stopped) = (Log::new(), Log::new());
        let log = stopped.clone();
        let mut failed = false;
        let script =
            Script::new(
                move |_, _| {
                    if std::mem::replace(&mut failed, true) { Outcome::Done } else { Outcome::failed("once") }
                },
            );
        let agent =
            world.add(0, "agent", script.supervised(move |_| verdict).stopping(move || log.push(())).counted(&made));
        let other = world.add(0, "other", Script::idle());
        for _ in 0..2 {
            world.send_later(inform(other, agent, "x").build().unwrap());
        }
        world.advance(1_000);
        assert_eq!((made.len(), stopped.len()), (times_made, usize::from(!stays)), "{verdict:?}");
        let expected = if stays { (2, 0) } else { (0, 2) };
        assert_eq!((world.total().processed, world.dead(DeadLetterReason::Deregistered)), expected, "{verdict:?}");
        world.assert_settled();
    }
}

#[test]
fn an_agent_that_panics_wherever_it_is_called_takes_nothing_down_with_it() {
    let mut world = World::new(1);
    let made = Log::new();
    let agent = world.add(
        0,
        "agent",
        Script::new(|message, _| if is_notice(message) { Outcome::Done } else { Outcome::failed("once") })
            .supervised(|_| panic!("in supervise"))
            .counted(&made),
    );
    world.send(inform(agent, agent, "x").attempts_max(NonZeroU8::MIN).build().unwrap()).unwrap();
    world.run();
    assert_eq!(made.len(), 2, "an agent that cannot say what to do is made anew");
    let stubborn = world.add(0, "stubborn", Script::idle().stopping(|| panic!("in stopped")));
    assert!(world.deregister(stubborn));
    assert!(!world.deregister(stubborn));
    world.assert_settled();
}

#[test]
fn an_agent_that_can_never_be_made_anew_is_stopped_and_its_mail_given_up() {
    let mut world = World::new(1);
    let mut starts = 0;
    let agent = world.add(
        0,
        "agent",
        Script::new(|_, _| panic!("in handle")).starting(move |_| {
            starts += 1;
            assert!(starts == 1, "not again");
        }),
    );
    for _ in 0..2 {
        world.send_later(inform(agent, agent, "x").build().unwrap());
    }
    world.advance(10_000);
    assert_eq!((world.snapshot(0).agents, world.dead(DeadLetterReason::RestartsExhausted)), (0, 2));
    world.assert_settled();
}

#[test]
fn a_message_expires_in_the_mailbox_while_crossing_or_while_delayed() {
    let mut world = Setup::new(2).lanes(2, 1).start();
    world.watch_events();
    let inbox = world.add_inbox(0, "inbox", 1, 1);
    let times = Log::new();
    let failing = world.add(0, "failing", failing(&times));
    let far = world.add(1, "far", Script::idle());
    let (sender, told) = world.add_listener(0, "sender");
    world.pause(1, true);
    let mortal = |to, content: &str| inform(sender, to, content).time_to_live(lifetime(1_000)).build().unwrap();
    world.send(mortal(inbox, "fills the inbox")).unwrap();
    world.send(mortal(inbox, "mailbox")).unwrap();
    world.send(mortal(failing, "delayed")).unwrap();
    for _ in 0..2 {
        world.send(mortal(far, "crossing")).unwrap();
    }
    world.advance(3_000);
    assert_eq!(times.take(), [0, 100, 300, 700], "the next attempt would come after the lifetime's end");
    let phases: Vec<Stage> = world
        .take_events(0)
        .iter()
        .filter_map(|event| match event {
            Event::Expired { stage, .. } => Some(*stage),
            _ => None,
        })
        .collect();
    assert_eq!(phases.len(), 2, "{phases:?}");
    assert!(phases.contains(&Stage::Mailbox) && phases.contains(&Stage::Crossing));
    // What is in the ring expires when it arrives.
    world.pause(1, false);
    world.run();
    assert_eq!(world.total().expired, 3);
    let expired = told.notices().iter().filter(|notice| notice.contains("(expired ")).count();
    assert_eq!(expired, 3);
    world.give(0, Input::Taken { agent: inbox, inbox: InboxNumber(1), messages: 1, notices: 0 });
    world.run();
    world.assert_settled();
}

#[test]
fn a_message_whose_lifetime_ends_before_its_next_attempt_expires_as_waiting_for_it() {
    let mut world = Setup::new(1).configured(|config| config.retry.delay_ms = 800).start();
    world.watch_events();
    let times = Log::new();
    let agent = world.add(0, "agent", failing(&times));
    world.send(inform(agent, agent, "x").time_to_live(lifetime(1_000)).build().unwrap()).unwrap();
    world.advance(999);
    assert_eq!((times.take(), world.total().expired), (vec![0, 800], 0));
    world.advance(1);
    assert_eq!(world.total().expired, 1);
    assert!(world.take_events(0).iter().any(|event| matches!(event, Event::Expired { stage: Stage::Retry, .. })));
    world.assert_settled();
}

#[test]
fn a_message_is_not_dispatched_before_its_moment_and_lives_from_then() {
    for shard in 0..2 {
        let mut world = World::new(2);
        let sender = world.add(0, "sender", Script::idle());
        let (receiver, heard) = world.add_listener(shard, "receiver");
        let message = inform(sender, receiver, "later").time_to_live(lifetime(1_000));
        world.send(message.deliver_at(WallTime(WALL_START_MS + 5_000)).build().unwrap()).unwrap();
        let past = inform(sender, receiver, "now").deliver_at(WallTime(1)).build().unwrap();
        world.send(past).unwrap();
        world.advance(4_999);
        assert_eq!(heard.texts(), ["now"]);
        world.advance(1);
        assert_eq!(heard.texts(), ["now", "later"]);
        world.assert_settled();
    }
}

#[test]
fn a_suspended_agent_goes_on_in_later_turns_and_keeps_what_it_did_and_its_other_mail_waits() {
    let mut world = World::new(1);
    let (receiver, heard) = world.add_listener(0, "receiver");
    let handled = Log::new();
    let (handling, resuming) = (handled.clone(), handled.clone());
    let mut resumed = 0;
    let agent = world.add(
        0,
        "agent",
        Script::new(move |message, context| {
            handling.push(text(message));
            context.send(inform(context.id(), receiver, "before").build().unwrap()).unwrap();
            if text(message) == "long" { Outcome::Suspended } else { Outcome::Done }
        })
        .resuming(move |message, context| {
            resumed += 1;
            resuming.push(format!("{} again", text(message)));
            context.send(inform(context.id(), receiver, &resumed.to_string()).build().unwrap()).unwrap();
            if resumed < 3 { Outcome::Suspended } else { Outcome::Done }
        }),
    );
    for content in ["long", "short"] {
        world.send_later(inform(receiver, agent, content).build().unwrap());
    }
    for turn in 1..=3 {
        world.step(0);
        assert_eq!((handled.len(), heard.len()), (turn, 0), "it is called once per turn");
    }
    world.run();
    assert_eq!(handled.take(), ["long", "long again", "long again", "long again", "short"]);
    assert_eq!(heard.texts(), ["before", "1", "2", "3", "before"]);
    world.assert_settled();
}

#[test]
fn a_suspended_message_that_fails_is_tried_again_from_the_beginning_without_what_it_did() {
    let mut world = World::new(1);
    let (receiver, heard) = world.add_listener(0, "receiver");
    let mut attempts = 0;
    let agent = world.add(
        0,
        "agent",
        Script::new(move |_, context| {
            attempts += 1;
            context.send(inform(context.id(), receiver, &attempts.to_string()).build().unwrap()).unwrap();
            if attempts < 3 { Outcome::Suspended } else { Outcome::Done }
        })
        .resuming(|message, _| {
            assert!(message.content().len() == 1, "the message is still there");
            Outcome::failed("no")
        }),
    );
    world.send(inform(agent, agent, "x").build().unwrap()).unwrap();
    world.advance(1_000);
    assert_eq!((heard.texts(), world.total().retried), (vec!["3".to_owned()], 2));
    world.assert_settled();
}

#[test]
fn mail_behind_a_suspended_message_expires_in_time() {
    let mut world = World::new(1);
    let sender = world.add(0, "sender", Script::idle());
    let agent = world.add(0, "agent", Script::new(|_, _| Outcome::Suspended).resuming(|_, _| Outcome::Suspended));
    for _ in 0..2 {
        world.send_later(inform(sender, agent, "x").time_to_live(lifetime(1_000)).build().unwrap());
    }
    for _ in 0..30 {
        world.step(0);
        world.now_ms += 100;
    }
    assert_eq!((world.total().expired, world.total().pending), (1, 1));
}

#[test]
fn an_agent_that_is_deregistered_while_suspended_leaves_nothing_behind() {
    let mut world = World::new(1);
    let (other, heard) = world.add_listener(0, "other");
    let agent = world.add(
        0,
        "agent",
        Script::new(move |_, context| {
            context.send(inform(context.id(), other, "never").build().unwrap()).unwrap();
            Outcome::Suspended
        })
        .resuming(|_, _| Outcome::Suspended),
    );
    for _ in 0..2 {
        world.send_later(inform(other, agent, "x").build().unwrap());
    }
    world.step(0);
    assert!(world.deregister(agent));
    world.run();
    assert_eq!((heard.letters().len(), heard.notices().len(), world.dead(DeadLetterReason::Deregistered)), (0, 2, 2));
    world.assert_settled();
}

#[test]
fn a_message_that_asks_for_several_retries_does_not_lose_its_receipt() {
    let mut world = World::new(2);
    let (sender, told) = world.add_listener(0, "sender");
    let mut attempts = 0;
    let receiver = world.add(
        1,
        "receiver",
        Script::new(move |_, _| {
            attempts += 1;
            if attempts < 3 { Outcome::failed("not yet") } else { Outcome::Done }
        }),
    );
    world.send(inform(sender, receiver, "x").receipt(Receipt::Processed).build().unwrap()).unwrap();
    world.advance(1_000);
    let notices = told.notices();
    assert!(notices.len() == 1 && notices[0].contains("processed"), "{notices:?}");
    world.assert_settled();
}

#[test]
fn notices_beyond_the_control_lanes_bound_are_counted_instead_of_kept() {
    let mut world = World::new(2);
    let inbox = world.add_inbox(0, "inbox", 1, 1);
    let notices_max = usize::from(CONTROL_LANE_MAX);
    for _ in 0..notices_max + 10 {
        world.send(inform(inbox, AgentId::of_text("nobody"), "x").build().unwrap()).unwrap();
        world.run();
    }
    // One is in the inbox, and the lane is full behind it.
    assert_eq!(world.total().notices_coalesced, 9);
    for _ in 0..notices_max {
        world.give(0, Input::Taken { agent: inbox, inbox: InboxNumber(1), messages: 0, notices: 1 });
        world.run();
    }
    let delivered = world.take_delivered(0);
    assert_eq!(delivered.len(), notices_max + 1);
    assert!(delivered.iter().all(is_notice));
    world.assert_settled();
}

#[test]
fn a_notice_never_causes_another() {
    let mut world = World::new(2);
    // Fails everything, including notices.
    let agent = world.add(0, "agent", Script::new(|_, _| Outcome::failed("no")));
    world.send(inform(agent, AgentId::of_text("nobody"), "x").build().unwrap()).unwrap();
    world.advance(100_000);
    assert_eq!(world.total().notices, 1);
    // Messages waiting for a deregistered agent are dead-lettered; a notice among them is not reported.
    let inbox = world.add_inbox(1, "inbox", 1, 1);
    for _ in 0..3 {
        world.send(inform(inbox, AgentId::of_text("nobody"), "x").build().unwrap()).unwrap();
        world.run();
    }
    world.deregister(inbox);
    assert_eq!(world.total().notices, 4);
    world.assert_settled();
}

#[test]
fn an_answer_to_the_routers_own_message_ends_without_another_one() {
    let mut world = World::new(1);
    let parrot = world.add(
        0,
        "parrot",
        Script::new(|message, context| {
            let reply = message.reply(Performative::Inform).build().unwrap();
            context.send(reply).unwrap();
            Outcome::Done
        }),
    );
    let nobody = AgentId::of_text("nobody");
    world.send(Message::builder(Performative::Request).sender(parrot).receiver(nobody).build().unwrap()).unwrap();
    world.run();
    assert_eq!((world.total().notices, world.dead(DeadLetterReason::UnknownReceiver)), (1, 2));
    world.assert_settled();
}
