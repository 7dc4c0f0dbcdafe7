//! From a sender to a mailbox: who receives a message, in which order, and what happens without room.

use caxton_shards::agent::Outcome;
use caxton_shards::api::{Answer, Ending, FULL_PATIENCE_MS, Input, JournalCondition, SendErrorKind, Stage, is_notice};
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::domain::Priority;
use caxton_shards::journal::record::{Durability, Record};
use caxton_shards::message::{AgentId, Message, MessageId, Performative, Receipt, Reliability, WallTime};

use crate::common::{Log, Script, Setup, World, assert_refused, inform, lifetime, text};

/// An agent that, on "go", sends `message(n)` for each number below `count`, as far as there is room.
fn flooder(count: usize, message: impl Fn(usize) -> Message + Send + 'static) -> Script {
    Script::new(move |heard, context| {
        if text(heard) == "go" {
            for number in 0..count {
                context.send(message(number)).unwrap();
            }
        }
        Outcome::Done
    })
}

fn go(from: AgentId) -> Message {
    inform(from, from, "go").build().unwrap()
}

#[test]
fn a_message_reaches_an_agent_on_its_own_shard_and_on_another() {
    let mut world = World::new(2);
    let sender = world.add(0, "sender", Script::idle());
    for shard in 0..2 {
        let (receiver, heard) = world.add_listener(shard, "receiver");
        let id = world.send(inform(sender, receiver, "hello").build().unwrap()).unwrap();
        world.run();
        let messages = heard.take();
        assert_eq!(messages.len(), 1);
        assert_eq!(
            (messages[0].id(), messages[0].sender(), messages[0].target()),
            (Some(id), Some(sender), Some(receiver))
        );
    }
    assert_eq!((world.total().processed, world.total().departed), (2, 1));
    world.assert_settled();
}

#[test]
fn an_agent_can_send_to_itself() {
    let mut world = World::new(1);
    let log = Log::new();
    let heard = log.clone();
    let agent = world.add(
        0,
        "agent",
        Script::new(move |message, context| {
            heard.push(message.clone());
            let left: u32 = text(message).parse().unwrap();
            if left > 0 {
                let next = inform(context.id(), context.id(), &(left - 1).to_string()).build().unwrap();
                context.send(next).unwrap();
            }
            Outcome::Done
        }),
    );
    world.send(inform(agent, agent, "3").build().unwrap()).unwrap();
    world.run();
    assert_eq!(log.texts(), ["3", "2", "1", "0"]);
    world.assert_settled();
}

#[test]
fn messages_between_two_agents_keep_their_order_in_each_lane_across_shards() {
    for (credits, uncredited) in [(1, 1), (2, 1), (64, 16)] {
        let mut world = Setup::new(2).lanes(credits, uncredited).start();
        let (receiver, heard) = world.add_listener(1, "receiver");
        let sender = world.add(
            0,
            "sender",
            flooder(90, move |number| {
                let lane = [Priority::Low, Priority::Normal, Priority::High, Priority::Urgent][number % 4];
                Message::builder(Performative::Inform)
                    .receiver(receiver)
                    .priority(lane)
                    .content(number.to_string())
                    .build()
                    .unwrap()
            }),
        );
        world.send(go(sender)).unwrap();
        world.run();
        let numbers: Vec<usize> = heard.texts().iter().map(|number| number.parse().unwrap()).collect();
        assert_eq!(numbers.len(), 90);
        for lane in 0..4 {
            let in_lane: Vec<usize> = numbers.iter().copied().filter(|number| number % 4 == lane).collect();
            assert!(in_lane.is_sorted(), "lane {lane} with {credits} credits: {in_lane:?}");
        }
        world.assert_settled();
    }
}

#[test]
fn urgent_messages_go_before_those_that_waited_longer() {
    let mut world = World::new(1);
    let (receiver, heard) = world.add_listener(0, "receiver");
    let sender = world.add(0, "sender", Script::idle());
    for (content, priority) in
        [("low", Priority::Low), ("normal", Priority::Normal), ("high", Priority::High), ("urgent", Priority::Urgent)]
    {
        world.send_later(inform(sender, receiver, content).priority(priority).build().unwrap());
    }
    world.run();
    assert_eq!(heard.texts(), ["urgent", "high", "normal", "low"]);
}

#[test]
fn a_message_to_several_reaches_each_and_is_given_up_for_the_unknown_ones() {
    let mut world = World::new(3);
    let (first, first_heard) = world.add_listener(0, "first");
    let (second, second_heard) = world.add_listener(1, "second");
    let (sender, sender_heard) = world.add_listener(2, "sender");
    let unknown = [AgentId::of_text("nobody"), AgentId::of_text("no one")];
    let receivers = [unknown[0], first, second, first, unknown[1]];
    let message = Message::builder(Performative::Inform).sender(sender).receivers(receivers).content("all");
    world.send(message.build().unwrap()).unwrap();
    world.run();
    assert_eq!((first_heard.len(), second_heard.len()), (1, 1), "an agent that is named twice gets one copy");
    assert_eq!(world.total().accepted, 4);
    assert_eq!(world.dead(DeadLetterReason::UnknownReceiver), 2);
    let notices = sender_heard.notices();
    assert_eq!(notices.len(), 2);
    assert!(unknown.iter().all(|name| notices.iter().any(|notice| notice.contains(&name.to_string()))), "{notices:?}");
    world.assert_settled();
}

#[test]
fn a_message_to_more_agents_than_there_are_credits_and_copies_per_turn_reaches_all_of_them() {
    for credits in [1, 8, 1_000] {
        let mut world = Setup::new(2).lanes(credits, 2).start();
        let heard = Log::new();
        let receivers: Vec<AgentId> = (0..700)
            .map(|number| world.add(number % 2, &format!("receiver-{number}"), Script::listener(&heard)))
            .collect();
        let sender = world.add(0, "sender", Script::idle());
        let message = Message::builder(Performative::Inform).sender(sender).receivers(receivers).content("all");
        world.send(message.build().unwrap()).unwrap();
        world.send(inform(sender, sender, "after").build().unwrap()).unwrap();
        world.run();
        assert_eq!(heard.len(), 700);
        assert_eq!((world.total().accepted, world.total().processed), (701, 701));
        world.assert_settled();
    }
}

#[test]
fn shards_that_flood_each_other_through_tiny_rings_do_not_wait_for_each_other_for_ever() {
    for shards in [2_u16, 3] {
        for credits in 1..=4 {
            let mut world = Setup::new(shards).lanes(credits, 1).start();
            let heard = Log::new();
            let names: Vec<_> =
                (0..shards * 2).map(|number| world.name_on(number % shards, &format!("flooder-{number}"))).collect();
            let ids: Vec<AgentId> = names.iter().map(AgentId::of).collect();
            for name in names {
                let (others, log) = (ids.clone(), heard.clone());
                world.register(
                    Script::new(move |message, context| {
                        if is_notice(message) {
                            return Outcome::Done;
                        }
                        log.push(message.clone());
                        let left: usize = text(message).parse().unwrap();
                        if left > 0 {
                            for other in &others {
                                let next = inform(context.id(), *other, &(left - 1).to_string());
                                context.send(next.receipt(Receipt::Processed).build().unwrap()).unwrap();
                            }
                        }
                        Outcome::Done
                    })
                    .registration(name),
                );
            }
            for id in &ids {
                world.send_later(inform(*id, *id, "3").build().unwrap());
            }
            world.run();
            let agents = ids.len();
            assert_eq!(heard.len(), agents * (1 + agents + agents.pow(2) + agents.pow(3)), "{shards} shards");
            assert_eq!(world.total().dead_lettered, 0);
            world.assert_settled();
        }
    }
}

#[test]
fn a_sender_that_waits_for_credit_is_refused_beyond_its_outbox_and_goes_on_later() {
    let mut world = Setup::new(2).lanes(2, 1).configured(|config| config.outbox = 3.try_into().unwrap()).start();
    let (receiver, heard) = world.add_listener(1, "receiver");
    let sender = world.add(0, "sender", Script::idle());
    world.pause(1, true);
    // One credit is reserved for messages in transit, so one message leaves, and three wait.
    for number in 0..4 {
        world.send(inform(sender, receiver, &number.to_string()).build().unwrap()).unwrap();
    }
    let refused = inform(sender, receiver, "4").build().unwrap();
    assert_refused(world.send(refused), SendErrorKind::Full);
    assert_eq!(world.total().refused, 1);
    // A tell waits instead of being refused, without counting as refused repeatedly.
    world.tell(inform(sender, receiver, "5").build().unwrap());
    for _ in 0..5 {
        world.step(0);
    }
    assert_eq!(world.total().refused, 1);
    world.pause(1, false);
    world.run();
    assert_eq!(heard.texts(), ["0", "1", "2", "3", "5"]);
    world.assert_settled();
}

#[test]
fn an_agent_whose_outbox_is_not_empty_is_not_called_and_goes_on_when_it_is() {
    let mut world = Setup::new(2).lanes(2, 1).start();
    let (receiver, heard) = world.add_listener(1, "receiver");
    let (sender, called) = world.add_listener(0, "sender");
    let other = world.add(0, "other", Script::idle());
    world.pause(1, true);
    for number in 0..3 {
        world.send(inform(sender, receiver, &number.to_string()).build().unwrap()).unwrap();
    }
    world.send(inform(other, sender, "news").build().unwrap()).unwrap();
    world.run();
    assert_eq!(called.len(), 0);
    world.pause(1, false);
    world.run();
    assert_eq!((called.texts(), heard.len()), (vec!["news".to_owned()], 3));
    world.assert_settled();
}

#[test]
fn a_tell_that_waits_for_room_does_not_hold_up_what_makes_room_or_ends_things() {
    let mut world = Setup::new(2).lanes(1, 1).configured(|config| config.outbox = 1.try_into().unwrap()).start();
    let (receiver, _) = world.add_listener(1, "receiver");
    let sender = world.add(0, "sender", Script::idle());
    world.pause(1, true);
    for number in 0..5 {
        world.tell(inform(sender, receiver, &number.to_string()).build().unwrap());
    }
    world.run();
    assert_eq!(world.nodes[0].inputs.len(), 3, "one message left, one is in the outbox, the others wait");
    world.snapshot(0);
    world.give(0, Input::Stop);
    world.run();
    assert_eq!(world.nodes[0].inputs.len(), 0);
    assert_eq!((world.dead(DeadLetterReason::Stopped), world.dead(DeadLetterReason::NotAdmitted)), (4, 0));
}

#[test]
fn a_mailbox_that_is_full_in_messages_or_in_bytes_gives_the_rest_up_and_tells_the_sender() {
    type Limit = fn(&mut caxton_shards::shard::ShardConfig);
    let in_messages: Limit = |config| config.mailbox_messages = 4.try_into().unwrap();
    let in_bytes: Limit = |config| config.mailbox_bytes = 5_800.try_into().unwrap();
    for (limit, padding) in [(in_messages, 0), (in_bytes, 1_000)] {
        for shard in 0..2 {
            let mut world = Setup::new(2).configured(limit).start();
            let (receiver, heard) = world.add_listener(shard, "receiver");
            let log = Log::new();
            let failures = log.clone();
            let sender = world.add(
                0,
                "sender",
                Script::new(move |message, context| {
                    if is_notice(message) {
                        failures.push(message.clone());
                    } else {
                        for _ in 0..6 {
                            let content = "x".repeat(padding);
                            context.send(inform(context.id(), receiver, &content).build().unwrap()).unwrap();
                        }
                    }
                    Outcome::Done
                }),
            );
            world.send(go(sender)).unwrap();
            world.run();
            assert_eq!(heard.len(), 4, "with {padding} bytes from shard 0 to {shard}");
            assert_eq!(world.dead(DeadLetterReason::MailboxFull), 2);
            let failures = log.take();
            assert_eq!(failures.len(), 2);
            assert!(failures.iter().all(|failure| failure.performative() == Performative::Failure));
            assert!(failures.iter().all(|failure| text(failure).contains("mailbox-full")), "{failures:?}");
            let letters = world.dead_letters(usize::from(shard));
            assert!(letters.len() == 2 && letters.iter().all(|letter| letter.reason == DeadLetterReason::MailboxFull));
            world.assert_settled();
            // What was held is released: there is room for as many again.
            world.send(go(sender)).unwrap();
            world.run();
            assert_eq!(heard.len(), 8);
        }
    }
}

#[test]
fn a_full_shard_refuses_what_is_sent_there_and_gives_up_what_arrives() {
    let mut world = Setup::new(2).configured(|config| config.pending_max = 3).start();
    let inbox = world.add_inbox(1, "inbox", 1, 1);
    let sender = world.add(0, "sender", Script::idle());
    let local = world.add(1, "local", Script::idle());
    for number in 0..6 {
        world.send(inform(sender, inbox, &number.to_string()).build().unwrap()).unwrap();
        world.run();
    }
    assert_eq!(world.dead(DeadLetterReason::ShardFull), 2, "one message is in the inbox and three are in the mailbox");
    assert_refused(world.send(inform(local, inbox, "7").build().unwrap()), SendErrorKind::Full);
    assert_eq!(world.total().pending, 4);
}

#[test]
fn content_beyond_the_limit_is_refused_with_the_message() {
    let mut world = World::new(1);
    let sender = world.add(0, "sender", Script::idle());
    let fits = inform(sender, sender, &"x".repeat(10_000)).build().unwrap();
    world.send(fits).unwrap();
    let long = inform(sender, sender, &"x".repeat(10_001)).build().unwrap();
    let error = SendErrorKind::ContentTooLarge { bytes: 10_001, limit: 10_000 };
    assert_eq!(assert_refused(world.send(long.clone()), error), long);
    world.run();
    world.assert_settled();
}

#[test]
fn an_agent_cannot_send_in_the_name_of_another() {
    let mut world = World::new(1);
    let victim = world.add(0, "victim", Script::idle());
    let errors = Log::new();
    let log = errors.clone();
    let forger = world.add(
        0,
        "forger",
        Script::new(move |_, context| {
            let forged = inform(victim, victim, "forged").build().unwrap();
            log.push(context.send(forged).unwrap_err().kind().clone());
            Outcome::Done
        }),
    );
    world.send(go(forger)).unwrap();
    world.run();
    assert_eq!(errors.take(), [SendErrorKind::ForeignSender]);
    assert_eq!((world.total().refused, world.total().accepted), (1, 1));
}

#[test]
fn an_unregistered_sender_is_refused_or_its_queued_message_becomes_a_dead_letter() {
    let mut world = World::new(1);
    let (receiver, heard) = world.add_listener(0, "receiver");
    let stranger = AgentId::of_text("stranger");
    let message = inform(stranger, receiver, "hello").build().unwrap();
    assert_refused(world.send(message.clone()), SendErrorKind::UnknownSender);
    assert_eq!(world.total().accepted, 0);
    world.tell(message);
    world.run();
    assert_eq!((heard.len(), world.dead(DeadLetterReason::NotAdmitted), world.total().refused), (0, 1, 1));
    assert_eq!(world.dead_letters(0)[0].reason, DeadLetterReason::NotAdmitted);
    world.assert_settled();
}

#[test]
fn a_message_without_sender_is_sent_in_the_name_of_the_shards_gateway() {
    let mut world = World::new(2);
    let (receiver, heard) = world.add_listener(1, "receiver");
    world.tell(Message::builder(Performative::Inform).receiver(receiver).content("hello").build().unwrap());
    world.run();
    assert_eq!(heard.take()[0].sender(), world.nodes[0].shard.gateway_id());
    world.assert_settled();
}

#[test]
fn a_durable_message_is_refused_without_a_journal() {
    let mut world = World::new(1);
    let (receiver, heard) = world.add_listener(0, "receiver");
    let durable = inform(receiver, receiver, "durable").reliability(Reliability::Durable).build().unwrap();
    assert_refused(world.send(durable), SendErrorKind::DurabilityUnavailable);
    world.run();
    assert_eq!(heard.len(), 0);
}

#[test]
fn a_durable_message_is_dispatched_and_reported_as_delivered_when_its_append_is_committed_and_not_before() {
    let mut world = Setup::new(2).configured(|config| config.durability = Durability::Journal).start();
    let (receiver, heard) = world.add_listener(1, "receiver");
    let (sender, told) = world.add_listener(0, "sender");
    for number in 0..3 {
        let message = inform(sender, receiver, &number.to_string()).reliability(Reliability::Durable);
        world.tell(message.receipt(Receipt::Delivered).build().unwrap());
    }
    world.run();
    let records = world.nodes[1].records.iter().map(|(kind, body)| match Record::read(*kind, body).unwrap() {
        Record::Message(kept) => text(&kept.message),
        other => format!("{other:?}"),
    });
    assert!(records.eq(["0", "1", "2"]));
    assert_eq!((heard.len(), told.len(), world.total().pending), (0, 0, 3));
    world.commit(1, 2);
    world.run();
    assert_eq!((heard.texts(), told.notices().len()), (vec!["0".to_owned(), "1".to_owned()], 2));
    world.commit(1, 3);
    world.run();
    assert_eq!((heard.len(), told.notices().len()), (3, 3));
    world.assert_settled();
}

/// A shard on which `count` durable messages wait for their commit, with their sender and their receiver's log.
fn uncommitted(count: usize) -> (World, AgentId, Log<Message>) {
    let mut world = Setup::new(1).configured(|config| config.durability = Durability::Journal).start();
    let sender = world.add(0, "sender", Script::idle());
    let (receiver, heard) = world.add_listener(0, "receiver");
    for number in 0..count {
        let message = inform(sender, receiver, &number.to_string()).reliability(Reliability::Durable);
        world.tell(message.build().unwrap());
    }
    world.run();
    (world, sender, heard)
}

#[test]
fn messages_that_are_committed_together_let_others_in_between() {
    let (mut world, sender, heard) = uncommitted(40);
    let (other, heard_beside) = world.add_listener(0, "other");
    world.commit(0, 40);
    world.tell(inform(sender, other, "volatile").build().unwrap());
    let turn = world.step(0);
    assert!(turn.more && !heard.is_empty() && heard.len() < 40, "{} of 40 were dispatched in one turn", heard.len());
    assert_eq!(heard_beside.len(), 1);
    world.run();
    assert_eq!(heard.texts(), (0..40).map(|number| number.to_string()).collect::<Vec<_>>());
    world.assert_settled();
}

#[test]
fn what_is_committed_is_dispatched_although_the_journal_fails_then() {
    let (mut world, _, heard) = uncommitted(40);
    world.commit(0, 30);
    world.give(0, Input::Journal(JournalCondition::Failed));
    world.run();
    assert_eq!((heard.len(), world.dead(DeadLetterReason::NotJournalled)), (30, 10));
    world.assert_settled();
}

#[test]
fn callers_hear_of_a_journal_that_stays_full_and_may_send_the_same_message_again() {
    let mut world = Setup::new(1).configured(|config| config.durability = Durability::Journal).start();
    let sender = world.add(0, "sender", Script::idle());
    let (receiver, heard) = world.add_listener(0, "receiver");
    let id = MessageId::from_u128(77).unwrap();
    let message = || inform(sender, receiver, "x").id(id).reliability(Reliability::Durable).build().unwrap();
    let token = world.send_later(message());
    world.run();
    world.give(0, Input::Journal(JournalCondition::Full));
    world.run();
    world.advance(FULL_PATIENCE_MS - 1);
    assert!(world.take_answer(0, token).is_none(), "a journal that is full for a moment is waited for");
    world.advance(2);
    let answer = world.take_answer(0, token);
    let refused = Ending::DeadLettered(DeadLetterReason::NotJournalled);
    assert!(matches!(answer, Some(Answer::NotKept(of, ending)) if of == id && ending == refused));
    world.give(0, Input::Journal(JournalCondition::Ready));
    world.commit_next(0, u64::MAX);
    world.run();
    assert!(heard.is_empty(), "what was refused is not dispatched when it is committed");
    let token = world.send_later(message());
    world.run();
    world.commit_next(0, u64::MAX);
    world.run();
    assert!(matches!(world.take_answer(0, token), Some(Answer::Sent(Ok(of))) if of == id));
    assert_eq!((heard.len(), world.dead(DeadLetterReason::NotJournalled)), (1, 1));
    world.assert_settled();
    // After a start it is known only once it was handled.
    let kept = world.nodes[0].records.len() as u64;
    let [first, all] = [3, kept].map(|kept| {
        let mut shares = world.journals(&[kept], 100).divide(world.partition);
        shares.remove(0).handled()
    });
    assert!(first == 0 && all > 0, "{first} and {all}");
}

#[test]
fn what_comes_from_other_shards_is_not_gathered_without_end_for_a_journal_that_stays_full() {
    let mut world = Setup::new(2).configured(|config| config.durability = Durability::Journal).start();
    let sender = world.add(0, "sender", Script::idle());
    let (receiver, heard) = world.add_listener(1, "receiver");
    world.give(1, Input::Journal(JournalCondition::Full));
    world.run();
    world.advance(FULL_PATIENCE_MS + 1);
    let before = world.nodes[1].records.len();
    let durable = || inform(sender, receiver, "x").reliability(Reliability::Durable).build().unwrap();
    let token = world.send_later(durable());
    world.tell(durable());
    world.run();
    world.commit_next(0, u64::MAX);
    world.run();
    let answer = world.take_answer(0, token);
    assert!(matches!(answer, Some(Answer::NotKept(..))));
    assert_eq!((world.nodes[1].records.len(), world.dead(DeadLetterReason::NotJournalled)), (before, 2));
    assert!(heard.is_empty());
    world.assert_settled();
}

#[test]
fn a_durable_message_to_a_journal_that_stays_full_does_not_hold_up_others_from_outside() {
    let mut world = Setup::new(1).configured(|config| config.durability = Durability::Journal).start();
    let sender = world.add(0, "sender", Script::idle());
    let (receiver, heard) = world.add_listener(0, "receiver");
    world.give(0, Input::Journal(JournalCondition::Full));
    world.run();
    world.tell(inform(sender, receiver, "durable").reliability(Reliability::Durable).build().unwrap());
    world.tell(inform(sender, receiver, "volatile").build().unwrap());
    world.advance(FULL_PATIENCE_MS + 1);
    assert_eq!((heard.texts(), world.dead(DeadLetterReason::NotAdmitted)), (vec!["volatile".to_owned()], 1));
    world.assert_settled();
}

#[test]
fn a_durable_message_whose_receiver_was_replaced_before_its_commit_is_not_given_to_the_new_one() {
    let mut world = Setup::new(1).configured(|config| config.durability = Durability::Journal).start();
    let sender = world.add(0, "sender", Script::idle());
    let (receiver, _) = world.add_listener(0, "receiver");
    world.tell(inform(sender, receiver, "old").reliability(Reliability::Durable).build().unwrap());
    world.run();
    world.deregister(receiver);
    let (again, heard) = world.add_listener(0, "receiver");
    assert_eq!(again, receiver);
    world.commit(0, 1);
    world.run();
    assert_eq!((heard.len(), world.dead(DeadLetterReason::Deregistered)), (0, 1));
    world.assert_settled();
}

#[test]
fn receipts_tell_that_a_message_was_delivered_or_processed() {
    for shard in 0..2 {
        let mut world = World::new(2);
        let (sender, told) = world.add_listener(0, "sender");
        let receiver = world.add(shard, "receiver", Script::idle());
        for receipt in [Receipt::None, Receipt::Delivered, Receipt::Processed] {
            world.send(inform(sender, receiver, "x").receipt(receipt).build().unwrap()).unwrap();
            world.run();
        }
        let notices = told.notices();
        assert_eq!(notices.len(), 2);
        assert!(notices[0].starts_with("((delivered ") && notices[1].starts_with("((processed "), "{notices:?}");
        world.assert_settled();
    }
}

#[test]
fn receipts_do_not_pile_up_when_the_ring_back_has_little_room() {
    let mut world = Setup::new(2).lanes(64, 1).start();
    let (receiver, heard) = world.add_listener(1, "receiver");
    let sender = world.add(
        0,
        "sender",
        flooder(90, move |number| {
            Message::builder(Performative::Inform)
                .receiver(receiver)
                .content(number.to_string())
                .receipt(Receipt::Delivered)
                .build()
                .unwrap()
        }),
    );
    world.send(go(sender)).unwrap();
    world.step(0);
    for _ in 0..5 {
        world.step(1);
    }
    // A receipt holds its message's credit, so no more messages can leave than the waiting receipts allow.
    let account = *world.nodes[0].shard.account();
    assert!(account.departed <= 64, "{account:?}");
    world.step(0);
    assert!(world.nodes[0].shard.account().departed <= 66, "{:?}", world.nodes[0].shard.account());
    world.run();
    assert_eq!(heard.len(), 90);
    world.assert_settled();
}

#[test]
fn a_moment_of_delivery_beyond_all_time_does_no_harm() {
    let mut world = World::new(2);
    for shard in 0..2 {
        let (receiver, _) = world.add_listener(shard, "receiver");
        let message = Message::builder(Performative::Inform).receiver(receiver).deliver_at(WallTime(u64::MAX));
        world.tell(message.build().unwrap());
    }
    world.advance(100_000);
    assert_eq!(world.total().pending, 2);
    world.stop_all();
    assert_eq!((world.total().pending, world.dead(DeadLetterReason::Stopped)), (0, 2));
}

#[test]
fn a_message_that_waits_for_credit_beyond_its_lifetime_expires_and_what_is_behind_it_goes_on() {
    let mut world = Setup::new(3).lanes(2, 1).start();
    let stuck = world.add(1, "stuck", Script::idle());
    let (free, heard) = world.add_listener(2, "free");
    let (sender, told) = world.add_listener(0, "sender");
    world.pause(1, true);
    for _ in 0..3 {
        let message = inform(sender, stuck, "stuck").time_to_live(lifetime(1_000)).build().unwrap();
        world.send(message).unwrap();
    }
    world.send(inform(sender, free, "free").build().unwrap()).unwrap();
    world.advance(900);
    assert_eq!(heard.len(), 0, "the order of a sender's outbox holds");
    world.advance(1_200);
    assert_eq!((heard.len(), world.total().expired), (1, 2));
    assert!(told.notices().iter().all(|notice| notice.contains(Stage::Crossing.explanation())), "{:?}", told.notices());
    // The sender can send and be called again, though the other shard is still blocked.
    world.send(inform(sender, free, "again").build().unwrap()).unwrap();
    world.run();
    assert_eq!(heard.len(), 2);
    world.pause(1, false);
    world.run();
    world.advance(3_000);
    world.assert_settled();
}
