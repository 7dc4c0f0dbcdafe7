//! Dead letters through a router's handle: found on all its shards, replayed, purged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use caxton_router::dead_letter::{DeadLetterCursor, ReplaySummary};
use caxton_router::dead_letter::{DeadLetterFilter, DeadLetterId, DeadLetterReason, REPLAYS_MAX};
use caxton_router::error::CallError;
use caxton_router::error::ReplayError;
use caxton_router::event::Event;
use caxton_router::message::is_notice;
use caxton_router::routing::ShardIndex;
use caxton_router::{AgentId, Message, Outcome, Performative, Router};
use futures_lite::future::block_on;

use crate::common::{PATIENCE, bounded, message_to, name, name_on, on, shutdown, silent, start, text_of};

/// Has a message dead-lettered, and waits until it is.
fn die(router: &Router, message: Message) {
    let events = router.blocking().events().expect("the router runs");
    let sent = router.blocking().send(message).expect("it is accepted");
    loop {
        if let Event::DeadLettered { message, .. } = events.blocking().next_within(PATIENCE).expect("there is an event")
            && message == sent
        {
            return;
        }
    }
}

/// What a summary says: how many were replayed and refused, and the first refusal.
fn told(summary: Result<ReplaySummary, CallError>) -> (u64, u64, Option<ReplayError>) {
    let summary = summary.expect("the router runs");
    (summary.replayed, summary.refused, summary.refusal)
}

/// Returns the texts of all letters that a filter selects, page by page.
fn found(router: &Router, filter: &DeadLetterFilter, limit: usize) -> Vec<String> {
    let (mut texts, mut cursor) = (Vec::new(), None);
    loop {
        let page = router.blocking().find_dead_letters(filter, limit, cursor.as_ref()).expect("the router runs");
        assert!(page.letters.len() <= limit);
        texts.extend(page.letters.iter().map(|letter| text_of(&letter.message)));
        cursor = page.next;
        if cursor.is_none() {
            return texts;
        }
    }
}

#[test]
fn letters_of_all_shards_are_found_page_by_page_shown_and_thrown_away() {
    bounded(|| {
        let router = start(3);
        let nobody = [0, 1, 2, 1].map(|shard| AgentId::of(&name_on(&router, shard, "nobody")));
        for number in 0..8 {
            die(&router, message_to(nobody[number % 4], &number.to_string()));
        }
        let all = DeadLetterFilter::default();
        for limit in [1, 3, 100] {
            let mut texts = found(&router, &all, limit);
            texts.sort();
            assert_eq!(texts, ["0", "1", "2", "3", "4", "5", "6", "7"], "{limit} to a page");
        }
        let second = DeadLetterFilter { receiver: Some(nobody[1]), ..all };
        assert_eq!(found(&router, &second, 2), ["7", "5", "3", "1"]);
        let id = DeadLetterId { shard: ShardIndex(1), number: 2 };
        let letter = router.blocking().dead_letter(id).expect("the router runs").expect("it is there");
        assert_eq!(
            (letter.id, text_of(&letter.message), letter.reason),
            (id, "3".to_owned(), DeadLetterReason::UnknownReceiver)
        );
        let cursor = DeadLetterCursor(vec![id]);
        let page = router.blocking().find_dead_letters(&second, 9, Some(&cursor)).expect("the router runs");
        assert_eq!(page.letters.iter().map(|letter| text_of(&letter.message)).collect::<Vec<_>>(), ["1"]);

        assert_eq!(router.blocking().purge_dead_letters(&DeadLetterFilter::only(id)), Ok(1));
        assert_eq!(router.blocking().dead_letter(id).expect("the router runs").map(|letter| letter.id), None);
        assert_eq!(router.blocking().purge_dead_letters(&all), Ok(7));
        assert_eq!((router.stats().dead_letters(), router.stats().account().dead_lettered), (0, 8));
        let elsewhere = DeadLetterId { shard: ShardIndex(3), number: 1 };
        assert_eq!(router.blocking().purge_dead_letters(&DeadLetterFilter::only(elsewhere)), Ok(0));
        shutdown(&router);
    });
}

#[test]
fn letters_are_replayed_one_by_one_and_all_together_and_the_reply_finds_the_sender() {
    bounded(|| {
        let router = start(2);
        let cold = Arc::new(AtomicBool::new(true));
        let still_cold = Arc::clone(&cold);
        let kitchen = move || {
            let cold = Arc::clone(&still_cold);
            on(move |message, context| {
                if cold.load(Ordering::Relaxed) {
                    return Outcome::failed("the tea is cold");
                }
                let reply = message.reply(Performative::Inform).content(message.content().clone()).build();
                context.send(reply.expect("the reply is valid")).expect("there is room");
                Outcome::Done
            })
        };
        let kitchen = router.blocking().register(name_on(&router, 1, "kitchen"), kitchen).expect("it is registered");
        let guest = router.inbox(name_on(&router, 0, "guest")).blocking().open().expect("it is opened");
        for number in 0..4 {
            let order = Message::builder(Performative::Request).sender(guest.id()).receiver(kitchen);
            let once = std::num::NonZeroU8::MIN;
            die(&router, order.content(number.to_string()).attempts_max(once).build().expect("it is valid"));
            let failure = guest.blocking().recv_within(PATIENCE).expect("the guest hears of it");
            assert!(is_notice(&failure) && text_of(&failure).contains("the tea is cold"), "{}", text_of(&failure));
        }
        cold.store(false, Ordering::Relaxed);
        let letters = router.blocking().dead_letters(10).expect("the router runs");
        let oldest = letters.last().expect("there are letters");
        assert_eq!((oldest.last_error.as_deref(), oldest.attempts), (Some("the tea is cold"), 1));
        let again = router.blocking().replay_dead_letter(oldest.id, None).expect("it is replayed");
        assert_ne!(Some(again), oldest.message.id());
        let gone = Err(CallError::Refused(ReplayError::Unknown { id: oldest.id }));
        assert_eq!(router.blocking().replay_dead_letter(oldest.id, None), gone);
        let summary = router.blocking().replay_dead_letters(&DeadLetterFilter::default(), None);
        assert_eq!(told(summary), (3, 0, None));
        for number in 0..4 {
            let served = guest.blocking().recv_within(PATIENCE).expect("the order is served");
            assert_eq!((text_of(&served), served.sender()), (number.to_string(), Some(kitchen)));
        }
        assert_eq!((router.stats().dead_letters(), router.stats().dead_letters_replayed()), (0, 4));
        drop(guest);
        shutdown(&router);
    });
}

#[test]
fn letters_are_replayed_to_another_agent_one_by_one_and_by_filter() {
    bounded(|| {
        let router = start(2);
        let guest = router.inbox(name_on(&router, 0, "guest")).blocking().open().expect("it is opened");
        let waiter = router.inbox(name_on(&router, 1, "waiter")).blocking().open().expect("it is opened");
        let gone = [0, 1].map(|shard| AgentId::of(&name_on(&router, shard, "nobody")));
        for (number, receiver) in [gone[0], gone[1], gone[1]].into_iter().enumerate() {
            let order = Message::builder(Performative::Request).sender(guest.id()).receiver(receiver);
            die(&router, order.content(number.to_string()).build().expect("it is valid"));
            assert!(is_notice(&guest.blocking().recv_within(PATIENCE).expect("the guest hears of it")));
        }
        let first = DeadLetterId { shard: ShardIndex(0), number: 1 };
        let again = router.blocking().replay_dead_letter(first, Some(waiter.id())).expect("it is replayed");
        let order = waiter.blocking().recv_within(PATIENCE).expect("it comes");
        assert_eq!((order.id(), text_of(&order), order.sender()), (Some(again), "0".to_owned(), Some(guest.id())));
        assert_eq!(order.replay().map(|replay| replay.times), Some(1));

        let unanswered = DeadLetterFilter { receiver: Some(gone[0]), ..DeadLetterFilter::default() };
        let none = router.blocking().replay_dead_letters(&unanswered, Some(waiter.id()));
        assert_eq!(none, Ok(ReplaySummary::default()), "only what the filter means is replayed");
        let meant = DeadLetterFilter { receiver: Some(gone[1]), ..DeadLetterFilter::default() };
        let summary = router.blocking().replay_dead_letters(&meant, Some(waiter.id()));
        assert_eq!(told(summary), (2, 0, None));
        let orders = [(); 2].map(|()| text_of(&waiter.blocking().recv_within(PATIENCE).expect("it comes")));
        assert_eq!(orders, ["1", "2"], "in the order in which they died");
        assert_eq!(router.stats().dead_letters(), 0);
        drop((guest, waiter));
        shutdown(&router);
    });
}

#[test]
fn a_replay_to_an_agent_that_is_not_there_is_refused_and_changes_nothing() {
    bounded(|| {
        let router = start(2);
        let [first, second] = [0, 1].map(|shard| AgentId::of(&name_on(&router, shard, "nobody")));
        die(&router, message_to(first, "x"));
        let all = DeadLetterFilter::default();
        let letter = router.blocking().dead_letters(1).expect("the router runs").remove(0);
        for attempt in 0..=REPLAYS_MAX {
            let to = Some(if attempt % 2 == 0 { first } else { second });
            let refusal = Some(ReplayError::NoReceiver { id: letter.id });
            let summary = router.blocking().replay_dead_letters(&all, to);
            assert_eq!(told(summary), (0, 1, refusal));
            let found = router.blocking().dead_letters(9).expect("the router runs");
            assert_eq!(format!("{found:?}"), format!("{:?}", [&letter]));
        }
        assert_eq!(router.stats().dead_letters_replayed(), 0);
        shutdown(&router);
    });
}

#[test]
fn replays_to_an_agent_that_fails_come_to_an_end() {
    bounded(|| {
        let router = start(2);
        let failing = [0, 1].map(|shard| {
            let name = name_on(&router, shard, "failing");
            router
                .blocking()
                .register(name, || on(|_, _| Outcome::failed("the tea is cold")))
                .expect("it is registered")
        });
        let message = Message::builder(Performative::Inform).receiver(failing[0]).content("x");
        die(&router, message.attempts_max(std::num::NonZeroU8::MIN).build().expect("it is valid"));
        let all = DeadLetterFilter::default();
        let events = router.blocking().events().expect("the router runs");
        for replays in 1..=REPLAYS_MAX {
            let to = Some(failing[usize::from(replays % 2)]);
            // A letter that results from it, perhaps on a shard asked later, is not replayed in the same call.
            let summary = router.blocking().replay_dead_letters(&all, to);
            assert_eq!(summary.map(|summary| summary.replayed), Ok(1));
            let event = events.blocking().next_within(PATIENCE).expect("it dies again");
            assert!(matches!(event, Event::DeadLettered { .. }), "{event:?}");
        }
        let id = router.blocking().dead_letters(1).expect("the router runs")[0].id;
        let refusal = Some(ReplayError::TooOften { id });
        let summary = router.blocking().replay_dead_letters(&all, None);
        assert_eq!(told(summary), (0, 1, refusal));
        shutdown(&router);
    });
}

#[test]
fn calls_about_dead_letters_answer_on_a_shards_thread_and_after_the_end() {
    bounded(|| {
        let router = start(1);
        let handle = router.clone();
        let (answers, answered) = flume::unbounded();
        let asker = router
            .blocking()
            .register(name("asker"), move || {
                let (router, answers) = (handle.clone(), answers.clone());
                on(move |_, _| {
                    let all = DeadLetterFilter::default();
                    let id = DeadLetterId { shard: ShardIndex(0), number: 1 };
                    let _ = answers.send([
                        router.blocking().find_dead_letters(&all, 1, None).err() == Some(CallError::WouldDeadlock),
                        router.blocking().dead_letter(id).err() == Some(CallError::WouldDeadlock),
                        router.blocking().replay_dead_letter(id, None).err() == Some(CallError::WouldDeadlock),
                        router.blocking().replay_dead_letters(&all, None).err() == Some(CallError::WouldDeadlock),
                        router.blocking().purge_dead_letters(&all).err() == Some(CallError::WouldDeadlock),
                    ]);
                    Outcome::Done
                })
            })
            .expect("it is registered");
        router.blocking().send(message_to(asker, "ask")).expect("it is accepted");
        let refused = answered.recv_timeout(PATIENCE).expect("the handler is called");
        assert_eq!(refused, [true; 5]);
        router.blocking().register(name("silent"), silent).expect("the router still runs");
        shutdown(&router);
        let all = DeadLetterFilter::default();
        assert_eq!(block_on(router.find_dead_letters(&all, 1, None)).err(), Some(CallError::Stopped));
        assert_eq!(block_on(router.replay_dead_letters(&all, None)).err(), Some(CallError::Stopped));
        assert_eq!(block_on(router.purge_dead_letters(&all)).err(), Some(CallError::Stopped));
    });
}
