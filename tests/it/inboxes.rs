//! Agents outside the shards, behind an inbox.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use caxton_router::agent::StopReason;
use caxton_router::dead_letter::DeadLetterReason;
use caxton_router::error::RegistrationError;
use caxton_router::error::{AskError, SendErrorKind};
use caxton_router::error::{CallError, ReceiveError};
use caxton_router::event::Event;
use caxton_router::message::{Choice, is_notice};
use caxton_router::message::{Receipt, WallTime};
use caxton_router::router::INBOX_WINDOW;
use caxton_router::{AgentId, Inbox, Message, Outcome, Performative, Router};
use futures_lite::future::block_on;

use crate::common::{
    PATIENCE, bounded, capability, echo, hold_up, message_to, name, name_on, on, request_to, shutdown, silent, start,
    start_with, text_of,
};

fn open(router: &Router, text: &str) -> Inbox {
    router.inbox(name(text)).blocking().open().expect("the inbox is opened")
}

fn receive(inbox: &Inbox) -> String {
    text_of(&inbox.blocking().recv_within(PATIENCE).expect("a message comes"))
}

/// Drops an inbox and waits until its agent is gone. The owner does not wait for the shard.
fn drop_and_wait(inbox: Inbox, router: &Router) {
    let events = block_on(router.events()).expect("the router runs");
    let agent = inbox.id();
    drop(inbox);
    let gone = Event::Deregistered { agent, why: StopReason::InboxClosed };
    while events.blocking().next_within(PATIENCE).expect("the agent leaves") != gone {}
}

fn dead_by(router: &Router, reason: DeadLetterReason) -> u64 {
    router.stats().account().dead_by_reason[reason.index()]
}

#[test]
fn a_message_to_an_inbox_is_taken_by_its_owner() {
    bounded(|| {
        let router = start(2);
        let inbox = open(&router, "clerk");
        assert!(inbox.try_recv().is_none());
        router.blocking().send(message_to(inbox.id(), "first")).expect("it is accepted");
        assert_eq!(receive(&inbox), "first");
        router.blocking().send(message_to(inbox.id(), "second")).expect("it is accepted");
        assert_eq!(text_of(&block_on(inbox.recv()).expect("a message comes")), "second");
        assert_eq!(inbox.blocking().recv_within(Duration::ZERO).err(), Some(ReceiveError::TimedOut));
        assert_eq!(shutdown(&router).stats.account().processed, 2);
    });
}

#[test]
fn a_message_goes_there_and_its_answer_comes_back() {
    bounded(|| {
        let router = start(2);
        let agent = router.blocking().register(name("echo"), echo).expect("the agent is registered");
        let inbox = open(&router, "clerk");
        inbox.blocking().send(request_to(agent, "from a thread")).expect("it is accepted");
        assert_eq!(receive(&inbox), "from a thread");
        block_on(inbox.send(request_to(agent, "from a task"))).expect("it is accepted");
        let answer = block_on(inbox.recv()).expect("the answer comes");
        assert_eq!((text_of(&answer).as_str(), answer.sender()), ("from a task", Some(agent)));
        shutdown(&router);
    });
}

#[test]
fn the_owner_of_an_inbox_answers_questions() {
    bounded(|| {
        let router = start(2);
        let inbox = open(&router, "clerk");
        let id = inbox.id();
        let owner = std::thread::spawn(move || {
            for _ in 0..100 {
                let question = inbox.blocking().recv_within(PATIENCE).expect("a question comes");
                let reply = question.reply(Performative::Inform).content(question.content().clone());
                inbox.blocking().send(reply.build().expect("the reply is valid")).expect("it is accepted");
            }
        });
        for number in 0..100 {
            let reply =
                router.blocking().ask(request_to(id, &number.to_string()), PATIENCE).expect("the owner answers");
            assert_eq!(text_of(&reply), number.to_string());
        }
        owner.join().expect("the owner is done");
        shutdown(&router);
    });
}

#[test]
fn an_inbox_sends_in_its_own_name_only() {
    bounded(|| {
        let router = start(1);
        let inbox = open(&router, "clerk");
        let other = router.blocking().register(name("silent"), silent).expect("the agent is registered");
        inbox.blocking().send(message_to(other, "x")).expect("it is accepted");
        let own = Message::builder(Performative::Inform).receiver(other).sender(inbox.id());
        inbox.blocking().send(own.build().expect("it is valid")).expect("it is its own name");
        // Neither a stranger's name, nor that of an agent, nor that of the router's gateway.
        for forged in [AgentId::of_text("nobody"), other, AgentId::of_text(&router.gateway(0))] {
            let forged = Message::builder(Performative::Inform).receiver(other).sender(forged);
            let rejected = inbox.blocking().send(forged.build().expect("it is valid")).expect_err("it is forged");
            assert_eq!(rejected.kind(), &SendErrorKind::ForeignSender);
        }
        assert_eq!(shutdown(&router).stats.account().accepted, 2);
    });
}

#[test]
fn the_name_of_an_inbox_is_taken_once() {
    bounded(|| {
        let router = start(2);
        let inbox = open(&router, "clerk");
        let again = router.inbox(name("clerk")).blocking().open().expect_err("the name is taken");
        let duplicate = RegistrationError::Duplicate { name: "clerk".to_owned() };
        assert_eq!(again, CallError::Refused(duplicate));
        // The refused inbox takes nothing with it.
        router.blocking().send(message_to(inbox.id(), "still here")).expect("it is accepted");
        assert_eq!(receive(&inbox), "still here");
        shutdown(&router);
    });
}

#[test]
fn an_inbox_can_offer_a_capability() {
    bounded(|| {
        let router = start(2);
        let offered = capability("advise");
        let inbox = block_on(router.inbox(name("adviser")).offering(offered.clone()).open());
        let inbox = inbox.expect("the inbox is opened");
        assert_eq!(router.blocking().discover(&offered), Ok(vec![inbox.id()]));
        let request_by = |offered| {
            let builder = Message::builder(Performative::Request).capability(offered, Choice::Any);
            builder.content("what now").build().expect("it is valid")
        };
        router.blocking().send(request_by(&offered)).expect("it is accepted");
        assert_eq!(receive(&inbox), "what now");
        drop_and_wait(inbox, &router);
        let failure = router.blocking().ask(request_by(&offered), PATIENCE);
        assert!(matches!(failure, Err(AskError::Undeliverable(_))), "{failure:?}");
        shutdown(&router);
    });
}

#[test]
fn more_messages_than_the_window_arrive_in_order() {
    bounded(|| {
        let router = start_with(2, |config| {
            config.mailbox.messages = 10_000.try_into().expect("the capacity is allowed");
        });
        let inbox = open(&router, "clerk");
        let count = 10 * INBOX_WINDOW;
        let messages = (0..count).map(|number| message_to(inbox.id(), &number.to_string())).collect();
        router.blocking().tell_all(messages).expect("the router runs");
        for number in 0..count {
            assert_eq!(receive(&inbox), number.to_string());
        }
        let report = shutdown(&router);
        assert_eq!(report.stats.account().processed, u64::from(count));
    });
}

#[test]
fn what_was_not_taken_from_a_dropped_inbox_becomes_dead_letters() {
    bounded(|| {
        let router = start_with(2, |config| {
            config.mailbox.messages = 10_000.try_into().expect("the capacity is allowed");
        });
        let inbox = open(&router, "clerk");
        let id = inbox.id();
        let count = 3 * u64::from(INBOX_WINDOW);
        for number in 0..count {
            router.blocking().send(message_to(id, &number.to_string())).expect("it is accepted");
        }
        for _ in 0..10 {
            receive(&inbox);
        }
        drop_and_wait(inbox, &router);
        router.blocking().register(name("clerk"), silent).expect("the name is free again");
        assert_eq!(dead_by(&router, DeadLetterReason::Deregistered), count - 10);
        let account = shutdown(&router).stats.account();
        assert_eq!((account.processed, account.dead_lettered), (10, count - 10));
    });
}

#[test]
fn an_inbox_that_is_given_up_while_it_is_opened_leaves_nothing_behind() {
    bounded(|| {
        let router = start(1);
        let barrier = hold_up(&router, 0);
        let mut opening = Box::pin(router.inbox(name("clerk")).open());
        // The call is queued in the first poll, and its response cannot arrive while the shard is held up.
        assert!(block_on(futures_lite::future::poll_once(&mut opening)).is_none());
        drop(opening);
        barrier.open();
        router.blocking().register(name("clerk"), silent).expect("the name is free again");
        shutdown(&router);
    });
}

#[test]
fn messages_for_a_slow_owner_expire() {
    bounded(|| {
        let router = start(2);
        let inbox = open(&router, "clerk");
        let events = block_on(router.events()).expect("the router runs");
        let lifetime = 1_000.try_into().expect("a second is allowed");
        for _ in 0..=INBOX_WINDOW {
            let builder = Message::builder(Performative::Inform).receiver(inbox.id()).time_to_live(lifetime);
            router.blocking().send(builder.build().expect("it is valid")).expect("it is accepted");
        }
        // What the inbox has room for has left the shard; the last one waits, and not for long.
        let event = events.blocking().next_within(PATIENCE).expect("a message expires");
        assert!(matches!(event, Event::Expired { .. }), "{event:?}");
        drop(inbox);
        assert_eq!(shutdown(&router).stats.account().expired, 1);
    });
}

#[test]
fn a_message_counts_as_processed_when_it_is_taken() {
    bounded(|| {
        let router = start(2);
        let clerk = open(&router, "clerk");
        let sender = open(&router, "sender");
        let builder = Message::builder(Performative::Inform).receiver(clerk.id()).receipt(Receipt::Processed);
        sender.blocking().send(builder.build().expect("it is valid")).expect("it is accepted");
        let account = router.stats().account();
        assert_eq!(account.processed, 0, "{account:?}");
        clerk.blocking().recv_within(PATIENCE).expect("the message comes");
        assert!(receive(&sender).contains("processed"));
        shutdown(&router);
    });
}

#[test]
fn the_owner_hears_what_could_not_be_delivered() {
    bounded(|| {
        let router = start(2);
        let inbox = open(&router, "clerk");
        inbox.blocking().send(message_to(AgentId::of_text("nobody"), "x")).expect("it is accepted");
        let notice = inbox.blocking().recv_within(PATIENCE).expect("the router says so");
        assert_eq!(notice.performative(), Performative::Failure);
        assert!(text_of(&notice).contains("unknown-receiver"), "{}", text_of(&notice));
        shutdown(&router);
    });
}

#[test]
fn an_inbox_hears_that_its_router_has_stopped() {
    bounded(|| {
        let router = start(2);
        let inbox = open(&router, "clerk");
        let waiting = std::thread::spawn(move || {
            assert_eq!(block_on(inbox.recv()).err(), Some(ReceiveError::Stopped));
            assert_eq!(inbox.blocking().recv_within(PATIENCE).err(), Some(ReceiveError::Stopped));
            let message = message_to(inbox.id(), "x");
            assert_eq!(inbox.blocking().send(message).expect_err("too late").kind(), &SendErrorKind::Stopping);
        });
        shutdown(&router);
        waiting.join().expect("the owner was told");
    });
}

#[test]
fn a_stopping_router_waits_for_what_lies_in_an_inbox() {
    bounded(|| {
        let router = start(2);
        let inbox = open(&router, "clerk");
        for _ in 0..10 {
            router.blocking().send(message_to(inbox.id(), "x")).expect("it is accepted");
        }
        let owner = std::thread::spawn(move || {
            let mut taken = 0;
            while inbox.blocking().recv_within(PATIENCE).is_ok() {
                taken += 1;
            }
            taken
        });
        assert_eq!(shutdown(&router).stats.account().processed, 10);
        assert_eq!(owner.join().ok(), Some(10));
    });
}

#[test]
fn what_lies_in_an_inbox_at_the_deadline_is_given_up() {
    bounded(|| {
        let router = start(2);
        let inbox = open(&router, "clerk");
        for _ in 0..10 {
            router.blocking().send(message_to(inbox.id(), "x")).expect("it is accepted");
        }
        receive(&inbox);
        let report = router.shutdown(Duration::ZERO).expect("this is no shard's thread");
        assert!(!report.drained && report.balances(), "{report:?}");
        assert_eq!((report.stats.account().processed, report.stats.account().dead_lettered), (1, 9));
        assert_eq!(inbox.blocking().recv_within(PATIENCE).err(), Some(ReceiveError::Stopped));
    });
}

#[test]
fn waiting_for_an_inbox_inside_a_handler_is_refused() {
    bounded(|| {
        let router = start(2);
        let inbox = std::sync::Arc::new(open(&router, "clerk"));
        let (answered, answers) = flume::bounded(1);
        let agent = router.blocking().register(name_on(&router, 0, "waiter"), move || {
            let (inbox, answered) = (inbox.clone(), answered.clone());
            on(move |_, _| {
                let _ = answered.send(inbox.blocking().recv_within(PATIENCE).err());
                Outcome::Done
            })
        });
        router.blocking().send(message_to(agent.expect("the agent is registered"), "x")).expect("it is accepted");
        assert_eq!(answers.recv_timeout(PATIENCE), Ok(Some(ReceiveError::WouldDeadlock)));
        shutdown(&router);
    });
}

#[test]
fn an_asker_hears_that_no_answer_came_by_the_moment_it_named_and_knows_a_late_one() {
    bounded(|| {
        let router = start(2);
        let [asker, expert] = [(0, "asker"), (1, "expert")].map(|(shard, prefix)| {
            router.inbox(name_on(&router, shard, prefix)).blocking().open().expect("it is opened")
        });
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right");
        let soon_ms = u64::try_from(since_epoch.as_millis()).expect("the year is near") + 50;
        let question = Message::builder(Performative::Request).receiver(expert.id()).content("tea?");
        let question = question.reply_with_text("my question").reply_by(WallTime(soon_ms));
        asker.blocking().send(question.build().expect("it is valid")).expect("it is accepted");
        let question = expert.blocking().recv_within(PATIENCE).expect("the question arrives");
        let notice = asker.blocking().recv_within(PATIENCE).expect("the router tells of the missing answer");
        assert!(is_notice(&notice) && notice.performative() == Performative::Failure);
        assert_eq!(notice.in_reply_to_text().as_deref(), Some("my question"));
        assert!(text_of(&notice).contains("no reply came by"), "{}", text_of(&notice));
        let answer = question.reply(Performative::Inform).content("at last").build().expect("it is valid");
        expert.blocking().send(answer).expect("it is accepted");
        let answer = asker.blocking().recv_within(PATIENCE).expect("the answer arrives");
        assert!(answer.is_late() && text_of(&answer) == "at last");
        let report = shutdown(&router);
        assert!(report.balances());
        let figures = report.stats.shards[0];
        assert_eq!((figures.replies_missing, figures.replies_late), (1, 1));
    });
}

fn open_acknowledged(router: &Router, text: &str) -> Inbox {
    block_on(router.inbox(name(text)).acknowledged().open()).expect("the inbox is opened")
}

/// Returns the number of processed messages, once the shard has handled everything sent to it before.
fn processed(router: &Router) -> u64 {
    assert_eq!(router.blocking().deregister(AgentId::of(&name("nobody"))), Ok(false));
    router.stats().account().processed
}

#[test]
fn a_message_is_processed_when_it_is_acknowledged_in_whatever_order() {
    bounded(|| {
        let router = start(1);
        let inbox = open_acknowledged(&router, "clerk");
        for text in ["first", "second", "third"] {
            router.blocking().send(message_to(inbox.id(), text)).expect("it is accepted");
        }
        let taken: Vec<_> = (0..3).map(|_| inbox.blocking().recv_within(PATIENCE).expect("a message comes")).collect();
        assert_eq!(processed(&router), 0, "taking is not enough");
        for (place, so_far) in [(2, 1), (0, 2), (1, 3)] {
            assert!(inbox.acknowledge(&taken[place]));
            assert_eq!(processed(&router), so_far, "after message {place}");
            assert!(!inbox.acknowledge(&taken[place]), "once is enough");
        }
        assert!(shutdown(&router).drained);
    });
}

#[test]
fn one_message_that_takes_long_does_not_hold_up_the_others() {
    bounded(|| {
        let router = start_with(1, |config| {
            config.mailbox.messages = 10_000.try_into().expect("so many are allowed");
        });
        let inbox = open_acknowledged(&router, "clerk");
        let all = 4 * INBOX_WINDOW;
        for number in 0..all {
            router.blocking().send(message_to(inbox.id(), &number.to_string())).expect("it is accepted");
        }
        let long = inbox.blocking().recv_within(PATIENCE).expect("a message comes");
        for number in 1..all {
            let message = inbox.blocking().recv_within(PATIENCE).expect("the next one comes");
            assert_eq!(text_of(&message), number.to_string());
            assert!(inbox.acknowledge(&message));
        }
        assert_eq!(processed(&router), u64::from(all) - 1);
        assert!(inbox.acknowledge(&long));
        assert_eq!(shutdown(&router).stats.account().processed, u64::from(all));
    });
}

#[cfg(feature = "store")]
#[test]
fn after_a_shutdown_only_what_was_not_acknowledged_is_handed_out_again() {
    use caxton_router::config::Preset;
    use caxton_router::message::Reliability;
    bounded(|| {
        let directory = tempfile::tempdir().expect("there is room");
        let run = |kept: &[&str], sent: &[&str], done: &[&str]| {
            let builder = Router::builder().preset(Preset::Testing).store(directory.path());
            let router = builder.shards(1.try_into().expect("one is allowed")).start().expect("the router starts");
            let inbox = open_acknowledged(&router, "clerk");
            for text in sent {
                let builder = Message::builder(Performative::Inform).receiver(inbox.id()).content(*text);
                let message = builder.reliability(Reliability::Durable).build().expect("it is valid");
                router.blocking().send(message).expect("it is on disk");
            }
            let taken: Vec<_> = kept
                .iter()
                .chain(sent)
                .map(|_| inbox.blocking().recv_within(PATIENCE).expect("a message comes"))
                .collect();
            let texts: Vec<_> = taken.iter().map(text_of).collect();
            assert_eq!(texts, kept.iter().chain(sent).map(ToString::to_string).collect::<Vec<_>>());
            assert!(inbox.try_recv().is_none());
            for message in taken.iter().rev().filter(|message| done.contains(&text_of(message).as_str())) {
                assert!(inbox.acknowledge(message), "{}", text_of(message));
            }
            let report = router.shutdown(Duration::ZERO).expect("this is no shard's thread");
            assert!(report.balances(), "{report}");
            for message in taken {
                assert!(!inbox.acknowledge(&message), "it is left to the next start");
            }
        };
        run(&[], &["a", "b", "c", "d", "e"], &["b", "d", "e"]);
        run(&["a", "c"], &["f", "g"], &["c", "f"]);
        run(&["a", "g"], &[], &["a", "g"]);
        run(&[], &[], &[]);
    });
}

#[test]
fn an_inbox_without_acknowledgements_has_nothing_to_acknowledge() {
    bounded(|| {
        let router = start(1);
        let inbox = open(&router, "clerk");
        router.blocking().send(message_to(inbox.id(), "taken")).expect("it is accepted");
        let message = inbox.blocking().recv_within(PATIENCE).expect("a message comes");
        assert!(!inbox.acknowledge(&message));
        assert_eq!(processed(&router), 1);
    });
}

#[test]
fn no_more_is_handed_out_than_may_wait_to_be_acknowledged() {
    bounded(|| {
        let router = start(1);
        let inbox = open_acknowledged(&router, "clerk");
        let all = INBOX_WINDOW + 44;
        for number in 0..all {
            router.blocking().send(message_to(inbox.id(), &number.to_string())).expect("it is accepted");
        }
        processed(&router);
        let first = inbox.blocking().recv_within(PATIENCE).expect("a message comes");
        let mut taken: Vec<_> = std::iter::from_fn(|| inbox.try_recv()).collect();
        assert_eq!(taken.len() + 1, INBOX_WINDOW as usize);
        assert!(inbox.acknowledge(&first));
        assert_eq!(receive(&inbox), INBOX_WINDOW.to_string(), "there is room for one");
        assert!(inbox.try_recv().is_none());
        for message in taken.drain(..) {
            assert!(inbox.acknowledge(&message));
        }
        let rest: Vec<_> = (INBOX_WINDOW + 1..all).map(|_| receive(&inbox)).collect();
        assert_eq!(rest, (INBOX_WINDOW + 1..all).map(|number| number.to_string()).collect::<Vec<_>>());
    });
}

#[test]
fn what_is_not_acknowledged_when_the_inbox_goes_is_a_dead_letter() {
    bounded(|| {
        let router = start(2);
        let inbox = open_acknowledged(&router, "clerk");
        for text in ["done", "in work", "not taken"] {
            router.blocking().send(message_to(inbox.id(), text)).expect("it is accepted");
        }
        let done = inbox.blocking().recv_within(PATIENCE).expect("a message comes");
        assert_eq!(receive(&inbox), "in work");
        assert!(inbox.acknowledge(&done));
        drop_and_wait(inbox, &router);
        let report = shutdown(&router);
        assert!(report.balances(), "{report}");
        assert_eq!(report.stats.account().dead_by_reason[DeadLetterReason::Deregistered.index()], 2);
        let texts: Vec<_> = report.dead_letters.iter().map(|letter| text_of(&letter.message)).collect();
        assert!(
            texts.iter().any(|text| text == "in work") && texts.iter().any(|text| text == "not taken"),
            "{texts:?}"
        );
    });
}

#[test]
fn what_an_owner_has_not_acknowledged_becomes_dead_letters_when_its_agent_is_deregistered() {
    bounded(|| {
        let router = start(1);
        let inbox = router.inbox("clerk").acknowledged().blocking().open().expect("the inbox is opened");
        let agent = inbox.id();
        for number in 0..3 {
            router.blocking().send(message_to(agent, &number.to_string())).expect("it is accepted");
        }
        let taken: Vec<Message> =
            (0..2).map(|_| inbox.blocking().recv_within(PATIENCE).expect("it is there")).collect();
        assert!(inbox.acknowledge(&taken[0]));
        assert!(router.blocking().deregister(agent).expect("the router runs"));
        let letters = router.blocking().dead_letters(10).expect("the router runs");
        assert!(!inbox.acknowledge(&taken[1]), "its sender was told that it is lost");
        let reasons: Vec<_> = letters.iter().map(|letter| letter.reason).collect();
        assert_eq!(reasons, [DeadLetterReason::Deregistered; 2]);
        assert_eq!(shutdown(&router).stats.account().processed, 1);
    });
}

#[test]
fn the_name_of_a_dropped_inbox_is_free_at_once() {
    bounded(|| {
        let router = start(2);
        for _ in 0..300 {
            drop(open(&router, "mine"));
        }
        shutdown(&router);
    });
}
