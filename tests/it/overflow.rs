//! Full mailboxes as seen by an embedder: sends that wait, tries that are returned, messages that make room.

use std::time::Duration;

use caxton_router::agent::OverflowPolicy;
use caxton_router::config::Config;
use caxton_router::dead_letter::DeadLetterReason;
use caxton_router::domain::{LifetimeMs, MailboxCapacity, MemoryBudget};
use caxton_router::error::SendErrorKind;
use caxton_router::{AgentId, Inbox, Message, Performative, Router};
use futures_lite::future::block_on;

use crate::common::{PATIENCE, bounded, message_to, name_on, shutdown, silent, start_with, text_of};

const MAILBOX: u32 = 4;

fn small_mailboxes(config: &mut Config) {
    config.mailbox.messages = MailboxCapacity::try_new(MAILBOX).expect("the capacity is allowed");
}

/// Opens an inbox whose owner is slow, and fills it and its mailbox.
fn open_full(router: &Router, policy: OverflowPolicy) -> (Inbox, u32) {
    let inbox = block_on(router.inbox(name_on(router, 0, "slow")).overflow(policy).open());
    let inbox = inbox.expect("the inbox is opened");
    let window = caxton_router::router::INBOX_WINDOW;
    for number in 0..window + MAILBOX {
        router.blocking().send(message_to(inbox.id(), &number.to_string())).expect("there is room");
    }
    while router.blocking().agent(inbox.id()).expect("the router runs").expect("it is there").mailbox_messages < MAILBOX
    {
        std::thread::yield_now();
    }
    (inbox, window + MAILBOX)
}

fn receive(inbox: &Inbox) -> String {
    text_of(&inbox.blocking().recv_within(PATIENCE).expect("a message comes"))
}

/// Sends until a sender has to wait: messages on the receiver's shard stall there.
fn close(router: &Router, receiver: AgentId) {
    router.blocking().send(message_to(receiver, "closes")).expect("it is accepted");
    while !router.blocking().agent(receiver).expect("the router runs").expect("it is there").closed {
        std::thread::yield_now();
    }
}

fn short_lived(receiver: AgentId) -> Message {
    let lifetime = LifetimeMs::try_new(300).expect("the lifetime is allowed");
    let builder = Message::builder(Performative::Inform).receiver(receiver).time_to_live(lifetime);
    builder.content("in vain").build().expect("the message is valid")
}

#[test]
fn a_send_waits_until_there_is_room_or_its_time_is_over() {
    bounded(|| {
        let router = start_with(1, small_mailboxes);
        let (inbox, sent) = open_full(&router, OverflowPolicy::BackPressure);
        close(&router, inbox.id());
        let closed = SendErrorKind::ReceiverFull { receiver: inbox.id(), policy: OverflowPolicy::BackPressure };

        let back = router.blocking().send(short_lived(inbox.id())).expect_err("nobody makes room in time");
        assert_eq!((back.kind(), text_of(back.message()).as_str()), (&closed, "in vain"));

        let waiting = std::thread::spawn({
            let (router, message) = (router.clone(), message_to(inbox.id(), "patient"));
            move || router.blocking().send(message)
        });
        while router.stats().shards[0].waiting == 0 {
            std::thread::yield_now();
        }
        let numbers: Vec<_> = (0..sent).map(|_| receive(&inbox)).collect();
        assert_eq!(numbers, (0..sent).map(|number| number.to_string()).collect::<Vec<_>>());
        assert_eq!((receive(&inbox).as_str(), receive(&inbox).as_str()), ("closes", "patient"));
        waiting.join().expect("no panic").expect("it was accepted when there was room");
        assert_eq!(shutdown(&router).stats.account().dead_lettered, 0);
    });
}

#[test]
fn a_try_gives_the_message_back_at_once_and_others_are_not_held_up() {
    bounded(|| {
        let router = start_with(2, small_mailboxes);
        let (inbox, _) = open_full(&router, OverflowPolicy::BackPressure);
        let quick = router.blocking().register(name_on(&router, 0, "quick"), silent).expect("it is registered");
        close(&router, inbox.id());
        let closed = SendErrorKind::ReceiverFull { receiver: inbox.id(), policy: OverflowPolicy::BackPressure };
        // The other shard is informed soon.
        for _ in 0..2 {
            loop {
                let handle = router.try_send(message_to(inbox.id(), "now")).expect("the channel has room");
                match handle.blocking().accepted() {
                    Ok(_) => std::thread::yield_now(),
                    Err(back) => {
                        assert_eq!((back.kind(), text_of(back.message()).as_str()), (&closed, "now"));
                        break;
                    }
                }
            }
        }
        for _ in 0..100 {
            router.blocking().send(message_to(quick, "passes")).expect("nobody waits for the slow one");
        }
        assert_eq!(router.stats().receivers_closed(), 1);
        // What was accepted reaches the inbox, and no more.
        while router.stats().account().pending > 0 {
            let _ = inbox.blocking().recv_within(Duration::from_millis(100));
        }
        shutdown(&router);
    });
}

#[test]
fn the_oldest_is_found_among_the_dead_letters() {
    bounded(|| {
        let router = start_with(1, small_mailboxes);
        let (inbox, sent) = open_full(&router, OverflowPolicy::DropOldest);
        router.blocking().send(message_to(inbox.id(), "newest")).expect("it is accepted");
        let letters = router.blocking().dead_letters(10).expect("the router runs");
        assert_eq!(letters.len(), 1);
        // What is already in the owner's inbox has left the mailbox.
        let oldest = (sent - MAILBOX).to_string();
        assert_eq!((letters[0].reason, text_of(&letters[0].message)), (DeadLetterReason::Displaced, oldest));
        while receive(&inbox) != "newest" {}
        shutdown(&router);
    });
}

#[test]
fn beyond_the_budget_a_send_is_refused() {
    bounded(|| {
        let router = start_with(1, |config| {
            config.memory.budget = MemoryBudget::try_new(1 << 20).expect("the budget is allowed");
        });
        let large = "x".repeat(2 << 20);
        let slow = router.blocking().register(name_on(&router, 0, "slow"), silent).expect("it is registered");
        let back = router.blocking().send(message_to(slow, &large)).expect_err("there is no memory for it");
        assert_eq!(
            (back.kind(), back.message().content().len()),
            (&SendErrorKind::MemoryFull { limit: 1 << 20 }, large.len())
        );
        router.blocking().send(message_to(slow, "small")).expect("there is memory for it");
        let report = shutdown(&router);
        assert_eq!(report.stats.shards[0].refused_for_memory, 1);
        assert_eq!(report.stats.memory_bytes(), (0, 1 << 20));
    });
}
