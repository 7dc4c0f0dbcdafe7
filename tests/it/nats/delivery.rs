//! Durable messages, slow clients and full receivers.

use std::io::Read as _;

use caxton_router::AgentId;
use caxton_router::message::Reliability;

use super::{Client, Served, router_gets, wait_until_left};
use crate::common::{PATIENCE, bounded, echo, text_of};
use crate::edge::wait_until;

#[test]
fn what_is_written_of_an_agent_that_is_given_up_is_no_dead_letter() {
    const MESSAGES: usize = 1_000;
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let served = Served::with_store(directory.path());
        let (mut slow, mut sender) = (served.client(), served.client());
        slow.subscribe("agent.slow", "1");
        // More than the kernel takes for a client that does not read, in messages that do not keep it from being read.
        sender.publish_durably("agent.slow", MESSAGES, |_| "x".repeat(20_000));
        let account = || served.router.stats().account();
        wait_until("the first messages are written", || account().processed > 0);
        let done = router_gets(&served, "done");
        slow.say("UNSUB 1\r\nPUB agent.done 0\r\n\r\nPING\r\n");
        // It is carried out before anything more is read.
        done.blocking().recv_within(PATIENCE).expect("it comes");
        let (messages, mut written) = (MESSAGES as u64, 0);
        loop {
            let line = slow.line();
            if line == "PONG" {
                break;
            }
            let total: usize = line.rsplit(' ').next().and_then(|total| total.parse().ok()).expect("a message");
            slow.stream.read_exact(&mut vec![0; total + 2]).expect("a payload comes");
            written += 1;
        }
        // With the message to the other inbox.
        wait_until("each message is accounted for", || account().processed + account().dead_lettered > messages);
        let account = account();
        assert_eq!((account.processed, account.dead_lettered), (written + 1, messages - written));
        served.stop();
    });
}

#[test]
fn what_a_broken_connection_was_not_written_is_handed_out_again() {
    const MESSAGES: usize = 1_000;
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let served = Served::with_store(directory.path());
        let (mut slow, mut sender) = (served.client(), served.client());
        slow.subscribe("agent.slow", "1");
        let payload = "x".repeat(20_000);
        sender.publish_durably("agent.slow", MESSAGES, |number| format!("{number} {payload}"));
        // What the kernel does not take of it stays with the router.
        slow.stream.get_ref().shutdown(std::net::Shutdown::Write).expect("it is connected");
        wait_until_left(&served, "slow");
        let number_of = |text: &[u8]| -> usize {
            let digits: String = text.iter().map(|byte| char::from(*byte)).take_while(char::is_ascii_digit).collect();
            digits.parse().expect("a number")
        };
        let mut read = Vec::new();
        slow.stream.read_to_end(&mut read).expect("it is closed");
        // Each message ends with its payload; the last one may be cut off.
        let whole = read.windows(payload.len() + 2).filter(|bytes| bytes.ends_with(b"x\r\n")).count();
        assert!(whole < MESSAGES, "the kernel has taken everything");
        let mut next = served.client();
        next.say("SUB agent.slow 1\r\n");
        let first = number_of(next.next().payload.as_bytes());
        assert!(first <= whole, "{whole} were read, and {first} came next");
        for number in first + 1..MESSAGES {
            assert_eq!(number_of(next.next().payload.as_bytes()), number);
        }
        next.settle();
        wait_until("all are processed", || served.router.stats().account().processed >= MESSAGES as u64);
        served.stop();
    });
}

#[test]
fn what_a_connection_was_not_written_comes_first_for_the_one_that_takes_its_agent_over() {
    const MESSAGES: usize = 1_000;
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let served = Served::with_store(directory.path());
        let (mut half_open, mut sender) = (served.client(), served.client());
        half_open.subscribe("agent.slow", "1");
        let payload = "x".repeat(20_000);
        // More than the kernel takes for a client that does not read.
        sender.publish_durably("agent.slow", MESSAGES, |number| format!("{number} {payload}"));
        sender.publish("agent.slow", "", &[], &format!("{MESSAGES} the newest"));
        sender.settle();
        let mut next = served.client();
        next.say("SUB agent.slow 1\r\n");
        let number_of =
            |text: &str| -> usize { text.split(' ').next().and_then(|word| word.parse().ok()).expect("a number") };
        let first = number_of(&next.next().payload);
        assert!(first < MESSAGES, "the kernel has taken everything");
        for number in first + 1..=MESSAGES {
            assert_eq!(number_of(&next.next().payload), number);
        }
        wait_until("all are processed", || served.router.stats().account().processed > MESSAGES as u64);
        // Everything before was written to the former connection.
        for number in 0..first {
            assert_eq!(number_of(&half_open.next().payload), number);
        }
        served.stop();
    });
}

#[test]
fn durable_messages_are_acknowledged_when_they_are_on_disk() {
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_path_buf();
        let served = Served::start(1, |config| config.store.directory = path.into());
        let inbox = router_gets(&served, "clerk");
        let mut client = served.client();
        client.say("SUB _INBOX.acks 1\r\n");
        for number in 0..50 {
            client.publish("agent.clerk", "_INBOX.acks", &[("Caxton-Reliability", "durable")], &number.to_string());
        }
        for _ in 0..50 {
            let ack = client.next();
            assert!(ack.headers.contains("Caxton-Accepted: m"), "{}", ack.headers);
            assert!(ack.payload.starts_with("{\"stream\":\"caxton\",\"seq\":"), "{}", ack.payload);
        }
        for number in 0..50 {
            let message = inbox.blocking().recv_within(PATIENCE).expect("it comes");
            assert_eq!((message.reliability(), text_of(&message)), (Reliability::Durable, number.to_string()));
        }
        let receipt = [("Caxton-Ack", "receipt")];
        client.publish("agent.clerk", "_INBOX.acks", &receipt, "tell me");
        let told_of = inbox.blocking().recv_within(PATIENCE).expect("it comes");
        assert_eq!(text_of(&told_of), "tell me");
        let accepted = format!("Caxton-Accepted: {}\r\n", told_of.id().expect("it has one"));
        let receipt = client.next();
        assert!(receipt.headers.contains(&accepted), "{} {accepted}", receipt.headers);
        served.stop();
    });
}

#[test]
fn a_client_that_does_not_read_holds_up_its_own_mailbox_alone() {
    bounded(|| {
        let served = Served::start(1, |config| {
            config.set("mailbox.messages", "1000", "the test").expect("a number");
        });
        let (mut slow, mut sender) = (served.client(), served.client());
        slow.subscribe("agent.slow", "1");
        let payload = "x".repeat(10_000);
        for _ in 0..5_000 {
            sender.publish("agent.slow", "", &[], &payload);
        }
        sender.settle();
        let stats = served.router.stats().account();
        assert!(stats.dead_lettered > 0, "what finds no room is given up: {stats:?}");
        // Others are served meanwhile, and what was kept arrives in the end.
        served.router.blocking().register("echo", echo).expect("the agent is registered");
        sender.say("SUB _INBOX.1 1\r\n");
        sender.publish("agent.echo", "_INBOX.1", &[], "still here");
        assert_eq!(sender.next().payload, "still here");
        assert_eq!(slow.next().payload, payload);
        served.stop();
    });
}

#[test]
fn a_full_receiver_holds_up_its_sender_and_nobody_else() {
    bounded(|| {
        const MESSAGES: usize = 20_000;
        let served = Served::start(1, |config| {
            config.set("mailbox.overflow", "back-pressure", "the test").expect("a policy");
            config.set("message.timeout_ms", "300000", "the test").expect("a time");
        });
        served.router.blocking().register("echo", echo).expect("the agent is registered");
        let (mut slow, mut other) = (served.client(), served.client());
        slow.subscribe("agent.slow", "1");
        let address = served.address;
        let sender = std::thread::spawn(move || {
            let mut sender = Client::connect(address, "");
            let payload = "x".repeat(1_000);
            for number in 0..MESSAGES {
                sender.publish("agent.slow", "", &[], &format!("{number} {payload}"));
            }
            sender
        });
        other.say("SUB _INBOX.1 1\r\n");
        for number in 0..200 {
            other.publish("agent.echo", "_INBOX.1", &[], &number.to_string());
            assert_eq!(other.next().payload, number.to_string());
        }
        for number in 0..MESSAGES {
            let payload = slow.next().payload;
            assert_eq!(payload.split(' ').next(), Some(number.to_string().as_str()));
        }
        sender.join().expect("everything was taken").settle();
        assert_eq!(served.router.stats().account().dead_lettered, 0);
        served.stop();
    });
}

#[test]
fn connections_that_send_as_the_same_agent_fill_its_outbox_together_and_hold_up_nobody_else() {
    bounded(|| {
        const MESSAGES: u64 = 500;
        let served = Served::start(1, |config| {
            config.set("mailbox.overflow", "back-pressure", "the test").expect("a policy");
            config.set("mailbox.messages", "10", "the test").expect("a number");
            config.set("delivery.outbox", "40", "the test").expect("a number");
            config.set("message.timeout_ms", "300000", "the test").expect("a time");
        });
        served.router.blocking().register("echo", echo).expect("the agent is registered");
        let slow = served.router.blocking().register("slow", echo).expect("the agent is registered");
        served.router.blocking().suspend(slow).expect("it is registered");
        let senders = [0, 1].map(|_| {
            let mut sender = served.client();
            sender.say("SUB agent.sender group 1\r\n");
            sender.settle();
            std::thread::spawn(move || {
                for number in 0..MESSAGES {
                    sender.publish("agent.slow", "", &[], &number.to_string());
                }
                sender
            })
        });
        let mut other = served.client();
        other.say("SUB _INBOX.1 1\r\n");
        // Until the senders have to wait, and after that.
        let sender = AgentId::of_text("sender");
        let mut rounds = 0;
        while rounds < 200 {
            other.publish("agent.echo", "_INBOX.1", &[], &rounds.to_string());
            assert_eq!(other.next().payload, rounds.to_string());
            let view = served.router.blocking().agent(sender).expect("it runs").expect("it is registered");
            assert!(view.outbox + view.waiting <= 40, "{view:?}");
            rounds += u64::from(view.outbox + view.waiting > 20);
        }
        served.router.blocking().resume(slow).expect("it is registered");
        for sender in senders {
            sender.join().expect("everything was taken").settle();
        }
        wait_until("all were handled", || served.router.stats().account().processed >= 2 * MESSAGES);
        assert_eq!(served.router.stats().account().dead_lettered, 0);
        served.stop();
    });
}
