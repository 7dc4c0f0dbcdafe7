//! Handling several messages in one call: their number, their settlement, and the fairness between agents.

use caxton_shards::agent::Outcome;
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::shard::DISPATCHES_PER_TURN_MAX;

use crate::common::{Log, Script, Setup, World, inform, lifetime, text};

/// Logs the number of messages in each call.
fn counting(log: &Log<usize>) -> Script {
    let log = log.clone();
    Script::idle().batched(move |batch| {
        let mut messages = 0;
        while batch.next().is_some() {
            messages += 1;
            batch.settle(Outcome::Done);
        }
        log.push(messages);
    })
}

#[test]
fn a_batch_is_bounded_by_the_router_by_the_agent_and_by_the_quota() {
    for (own, sizes) in [(None, vec![16, 16, 16, 16, 16]), (Some(40), vec![16; 5]), (Some(30), vec![16; 5])] {
        let mut world = World::new(1);
        let log = Log::new();
        let script = own.map_or_else(|| counting(&log), |own| counting(&log).in_batches_of(own));
        let agent = world.add(0, "agent", script);
        for _ in 0..80 {
            world.send_later(inform(agent, agent, "x").build().unwrap());
        }
        world.run();
        assert_eq!(log.take(), sizes);
    }
    let mut world = World::new(1);
    let log = Log::new();
    let agent = world.add(0, "agent", counting(&log).in_batches_of(10));
    for _ in 0..80 {
        world.send_later(inform(agent, agent, "x").build().unwrap());
    }
    world.run();
    assert_eq!(log.take(), [10, 10, 10, 10, 10, 10, 4, 10, 6], "the quota of 64 ends the seventh batch");
    world.assert_settled();
}

#[test]
fn an_agent_with_much_mail_delays_another_by_no_more_than_its_quota() {
    let mut world = Setup::new(1)
        .configured(|config| {
            config.mailbox_messages = 10_000.try_into().unwrap();
            config.mailbox_bytes = (1 << 30).try_into().unwrap();
        })
        .start();
    let order = Log::new();
    let [busy_log, quiet_log] = [order.clone(), order.clone()];
    // Everything is in the mailboxes before any agent is called, because a first message holds up the inputs.
    let busy = world.add(
        0,
        "busy",
        Script::new(move |_, _| {
            busy_log.push("busy");
            Outcome::Done
        }),
    );
    let quiet = world.add(
        0,
        "quiet",
        Script::new(move |_, _| {
            quiet_log.push("quiet");
            Outcome::Done
        }),
    );
    let seeder = world.add(
        0,
        "seeder",
        Script::new(move |_, context| {
            for _ in 0..90 {
                context.send(inform(context.id(), busy, "x").build().unwrap()).unwrap();
            }
            Outcome::Done
        }),
    );
    for _ in 0..100 {
        world.send_later(inform(seeder, seeder, "go").build().unwrap());
    }
    world.step(0);
    order.take();
    let waiting = world.total().pending;
    assert!(waiting > 1_000, "{waiting} messages wait");
    world.send_later(inform(quiet, quiet, "x").build().unwrap());
    world.run();
    let position = order.take().iter().position(|who| *who == "quiet").unwrap();
    assert!(position <= 64 * 2, "the other agent had to wait for {position} messages");
    world.assert_settled();
}

#[test]
fn one_turn_hands_out_no_more_than_its_bound_and_says_that_there_is_more() {
    let mut world = World::new(1);
    let (agent, heard) = world.add_listener(0, "agent");
    let sender = world.add(
        0,
        "sender",
        Script::new(move |_, context| {
            for _ in 0..90 {
                context.send(inform(context.id(), agent, "x").build().unwrap()).unwrap();
            }
            Outcome::Done
        }),
    );
    for _ in 0..10 {
        world.send_later(inform(sender, sender, "go").build().unwrap());
    }
    let turn = world.step(0);
    assert!(turn.more && heard.len() <= DISPATCHES_PER_TURN_MAX as usize + 64, "{}", heard.len());
    world.run();
    assert_eq!(heard.len(), 900);
}

#[test]
fn a_message_that_fails_in_the_middle_ends_the_batch_and_the_others_are_handled() {
    let mut world = World::new(1);
    let log = Log::new();
    let handled = log.clone();
    let agent = world.add(
        0,
        "agent",
        Script::idle().batched(move |batch| {
            while let Some((message, _)) = batch.next() {
                let content = text(message);
                let failed = content == "2";
                handled.push(content);
                batch.settle(if failed { Outcome::failed("no") } else { Outcome::Done });
                if failed {
                    assert!(batch.next().is_none() && batch.remaining() == 0);
                }
            }
        }),
    );
    let sender = world.add(0, "sender", Script::idle());
    for number in 1..=4 {
        world.send_later(inform(sender, agent, &number.to_string()).build().unwrap());
    }
    world.advance(10_000);
    assert_eq!(log.take(), ["1", "2", "3", "4", "2", "2", "2"]);
    assert_eq!((world.total().processed, world.dead(DeadLetterReason::AttemptsExhausted)), (3, 1));
    world.assert_settled();
}

#[test]
fn a_message_that_was_not_settled_counts_as_done() {
    let mut world = World::new(1);
    let (receiver, heard) = world.add_listener(0, "receiver");
    let agent = world.add(
        0,
        "agent",
        Script::idle().batched(move |batch| {
            while let Some((message, mut context)) = batch.next() {
                let content = text(message);
                context.send(inform(context.id(), receiver, &content).build().unwrap()).unwrap();
            }
        }),
    );
    for number in 1..=3 {
        world.send_later(inform(agent, agent, &number.to_string()).build().unwrap());
    }
    world.run();
    assert_eq!(heard.texts(), ["1", "2", "3"]);
    world.assert_settled();
}

#[test]
fn an_agent_that_takes_nothing_is_asked_again_when_more_comes_or_after_a_while_but_does_not_keep_the_shard_busy() {
    let mut world = World::new(1);
    let calls = Log::new();
    let log = calls.clone();
    let agent = world.add(0, "agent", Script::idle().batched(move |_| log.push(())));
    let sender = world.add(0, "sender", Script::idle());
    let message = || inform(sender, agent, "x").time_to_live(lifetime(2_500)).build().unwrap();
    world.send(message()).unwrap();
    world.run();
    assert_eq!(calls.take().len(), 1);
    world.send(message()).unwrap();
    world.run();
    assert_eq!(calls.take().len(), 1);
    world.advance(2_000);
    assert!((1..=2).contains(&calls.take().len()));
    world.advance(2_000);
    assert_eq!(world.total().expired, 2);
    world.assert_settled();
}

#[test]
fn an_agent_that_panics_before_it_takes_anything_does_not_keep_the_shard_busy() {
    let mut world = World::new(1);
    let made = Log::new();
    let agent = world.add(0, "agent", Script::idle().batched(|_| panic!("at once")).counted(&made));
    let sender = world.add(0, "sender", Script::idle());
    world.send(inform(sender, agent, "x").time_to_live(lifetime(2_500)).build().unwrap()).unwrap();
    world.advance(4_000);
    assert!(made.len() < 6, "it was made {} times", made.len());
    assert_eq!(world.total().expired, 1);
    world.assert_settled();
}

#[test]
fn an_agent_that_leaves_is_given_nothing_more_of_its_batch() {
    let mut world = World::new(1);
    let log = Log::new();
    let handled = log.clone();
    let agent = world.add(
        0,
        "agent",
        Script::new(move |message, context| {
            handled.push(text(message));
            context.deregister();
            Outcome::Done
        }),
    );
    for number in 1..=3 {
        world.send_later(inform(agent, agent, &number.to_string()).build().unwrap());
    }
    world.run();
    assert_eq!(log.take(), ["1"]);
    assert_eq!(world.dead(DeadLetterReason::Deregistered), 2);
    world.assert_settled();
}

#[test]
fn only_one_message_of_an_agent_is_suspended_at_a_time() {
    let mut world = World::new(1);
    let log = Log::new();
    let (handled, resumed) = (log.clone(), log.clone());
    let agent = world.add(
        0,
        "agent",
        Script::idle()
            .batched(move |batch| {
                while let Some((message, _)) = batch.next() {
                    handled.push(text(message));
                    batch.settle(Outcome::Suspended);
                }
            })
            .resuming(move |message, _| {
                resumed.push(format!("{} again", text(message)));
                Outcome::Done
            }),
    );
    for number in 1..=3 {
        world.send_later(inform(agent, agent, &number.to_string()).build().unwrap());
    }
    world.run();
    assert_eq!(log.take(), ["1", "1 again", "2", "2 again", "3", "3 again"]);
    world.assert_settled();
}
