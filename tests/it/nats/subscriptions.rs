//! Subscriptions: to agents and to replies, in queue groups, taken over, and ended.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use caxton_router::AgentId;

use super::{Client, Served, agent_over_http, router_gets, wait_until_left};
use crate::common::{PATIENCE, bounded, echo};
use crate::edge::wait_until;

#[test]
fn subscriptions_are_for_agents_and_replies() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let _taken = router_gets(&served, "taken");
        let mut client = served.client();
        for subject in ["foo", "agent.>", "agent.*", "agent.taken", ">", "_INBOXfoo"] {
            client.say(&format!("SUB {subject} 9\r\n"));
            let error = client.line();
            let expected = format!("-ERR 'Permissions Violation for Subscription to \"{subject}\": ");
            assert!(error.starts_with(&expected), "{error}");
        }
        client.say("SUB a..b 1\r\n");
        assert_eq!(client.line(), "-ERR 'Invalid Subject'");
        client.subscribe("agent.mine", "1");
        client.say("SUB agent.mine 2\r\n");
        assert!(client.line().contains("this connection has subscribed to it"));
        client.settle();
        served.stop();
    });
}

#[test]
fn a_subscription_ends_when_it_should() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        served.router.blocking().register("echo", echo).expect("the agent is registered");
        let mut client = served.client();
        client.say("SUB _INBOX.1 1\r\nUNSUB 1 2\r\n");
        for number in 0..3 {
            client.publish("agent.echo", "_INBOX.1", &[], &number.to_string());
        }
        assert_eq!([client.next().payload, client.next().payload], ["0", "1"]);
        client.subscribe("agent.mine", "2");
        client.say("UNSUB 2\r\nSUB _INBOX.2 3\r\n");
        client.publish("agent.mine", "_INBOX.2", &[], "x");
        let gone = client.next();
        assert!(gone.headers.starts_with("NATS/1.0 503"), "{}", gone.headers);
        served.stop();
    });
}

#[test]
fn an_agent_that_is_given_up_can_be_subscribed_to_at_once() {
    bounded(|| {
        let served = Served::start(2, |_| {});
        let mut client = served.client();
        client.subscribe("agent.mine", "0");
        for number in 1..300 {
            client.say(&format!("UNSUB {}\r\nSUB agent.mine {number}\r\n", number - 1));
            client.publish("agent.mine", "", &[], "x");
            assert_eq!(client.next().sid, number.to_string());
        }
        served.stop();
    });
}

#[test]
fn what_was_published_before_a_subscription_ends_is_sent() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let clerk = router_gets(&served, "clerk");
        let mut client = served.client();
        for number in 0..200 {
            client.say(&format!("SUB agent.mine {number}\r\nPUB agent.clerk 1\r\nx\r\nUNSUB {number}\r\n"));
            let message = clerk.blocking().recv_within(PATIENCE).expect("it comes");
            assert_eq!(message.sender(), Some(AgentId::of_text("mine")));
        }
        served.stop();
    });
}

#[test]
fn a_number_stands_for_its_first_subscription() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let mut client = Client::open(served.address);
        client.say("CONNECT {\"verbose\":true}\r\n");
        assert_eq!(client.line(), "+OK");
        for subject in ["agent.mine", "agent.other", "_INBOX.mine"] {
            client.say(&format!("SUB {subject} 1\r\n"));
            assert_eq!(client.line(), "+OK");
        }
        let mut sender = served.client();
        sender.say("SUB _INBOX.1 1\r\n");
        sender.publish("agent.other", "_INBOX.1", &[], "x");
        assert!(sender.next().headers.starts_with("NATS/1.0 503"), "it is not registered");
        sender.publish("agent.mine", "", &[], "y");
        assert_eq!(client.next().payload, "y");
        client.say("UNSUB 1\r\nSUB agent.other 1\r\n");
        assert_eq!([client.line(), client.line()], ["+OK", "+OK"]);
        sender.publish("agent.other", "", &[], "z");
        assert_eq!(client.next().subject, "agent.other");
        served.stop();
    });
}

#[test]
fn a_subscription_that_ends_takes_no_more_than_it_wants() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let mut client = served.client();
        client.subscribe("agent.mine", "1");
        drop(client);
        wait_until_left(&served, "mine");
        let mut sender = served.client();
        for number in 0..20 {
            sender.publish("agent.mine", "", &[], &number.to_string());
        }
        sender.settle();
        let mut client = served.client();
        client.say("SUB agent.mine 1\r\nUNSUB 1 5\r\n");
        for number in 0..5 {
            assert_eq!(client.next().payload, number.to_string());
        }
        client.settle();
        wait_until("the others are dead-lettered", || served.router.stats().account().dead_lettered == 15);
        served.stop();
    });
}

#[test]
fn connections_of_a_queue_group_share_a_mailbox_and_get_their_own_replies() {
    bounded(|| {
        let served = Served::start(2, |_| {});
        served.router.blocking().register("echo", echo).expect("the agent is registered");
        let mut workers = [served.client(), served.client()];
        for worker in &mut workers {
            worker.say("SUB agent.worker group 1\r\nSUB _INBOX.w 2\r\n");
            worker.settle();
        }
        for round in 0..20 {
            for (place, worker) in workers.iter_mut().enumerate() {
                let text = format!("{round} of {place}");
                worker.publish("agent.echo", "_INBOX.w", &[], &text);
                let reply = worker.next();
                assert_eq!((reply.sid.as_str(), reply.payload), ("2", text));
            }
        }
        let mut client = served.client();
        for number in 0..100 {
            client.publish("agent.worker", "", &[], &number.to_string());
        }
        client.settle();
        let mut seen: Vec<u32> = Vec::new();
        for worker in &mut workers {
            worker.stream.get_mut().set_read_timeout(Some(Duration::from_millis(10))).expect("a timeout");
        }
        let mut lines = [String::new(), String::new()];
        while seen.len() < 100 {
            for (worker, line) in workers.iter_mut().zip(&mut lines) {
                // What was read of a line when the time is over is continued.
                while worker.stream.read_line(line).is_ok() && line.ends_with('\n') {
                    if !line.starts_with("MSG") && !line.starts_with("HMSG") {
                        seen.extend(line.trim().parse::<u32>());
                    }
                    line.clear();
                }
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        served.stop();
    });
}

#[test]
fn a_lost_connection_finds_its_mailbox_again() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let mut client = served.client();
        client.subscribe("agent.mine", "1");
        drop(client);
        wait_until_left(&served, "mine");
        let mut sender = served.client();
        sender.publish("agent.mine", "", &[], "while you were out");
        sender.settle();
        let mut client = served.client();
        client.say("SUB agent.mine 1\r\n");
        assert_eq!(client.next().payload, "while you were out");
        served.stop();
    });
}

#[test]
fn an_agent_that_the_router_removes_is_lost_and_the_connection_is_not() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let mut client = served.client();
        client.subscribe("agent.mine", "1");
        let drained = served.router.blocking().drain(AgentId::of_text("mine"), PATIENCE).expect("it is there");
        assert_eq!(drained.left, 0);
        let error = client.line();
        assert!(error.contains("the router has removed the agent"), "{error}");
        client.subscribe("agent.mine", "2");
        client.publish("agent.mine", "", &[], "again");
        assert_eq!(client.next().sid, "2");
        served.stop();
    });
}

#[test]
fn a_second_connection_takes_the_agent_over_unless_they_share() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let (mut first, mut second) = (served.client(), served.client());
        first.subscribe("agent.mine", "1");
        second.subscribe("agent.mine", "1");
        let error = first.line();
        assert!(error.starts_with("-ERR 'Permissions Violation for Subscription to \"agent.mine\""), "{error}");
        let mut sender = served.client();
        for number in 0..10 {
            sender.publish("agent.mine", "", &[], &number.to_string());
            assert_eq!(second.next().payload, number.to_string());
        }
        first.settle();
        served.stop();
    });
}

#[test]
fn a_member_of_a_queue_group_that_does_not_read_keeps_nothing_from_the_others() {
    bounded(|| {
        let served = Served::start(1, |config| {
            config.set("mailbox.bytes", "64 MiB", "the test").expect("a size");
        });
        let (mut stuck, mut other, mut sender) = (served.client(), served.client(), served.client());
        stuck.say("SUB agent.worker group 1\r\n");
        stuck.settle();
        sender.publish("agent.worker", "", &[], "first");
        assert_eq!(stuck.next().payload, "first");
        for _ in 0..100 {
            stuck.settle();
        }
        // More than the kernel takes for a client that does not read.
        let large = "x".repeat(2_000_000);
        for _ in 0..20 {
            sender.publish("agent.worker", "", &[], &large);
        }
        sender.settle();
        other.say("SUB agent.worker group 1\r\n");
        for number in 0..20 {
            sender.publish("agent.worker", "", &[], &number.to_string());
            while other.next().payload != number.to_string() {}
        }
        // The stuck one was not given up meanwhile, which would have left its share to the other one.
        let agent = agent_over_http(&served, "worker");
        assert!(agent.contains("\"clients\":2"), "{agent}");
        served.stop();
    });
}

#[test]
fn an_agent_that_others_deregister_is_lost() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let mut client = served.client();
        client.subscribe("agent.mine", "1");
        let mut http = TcpStream::connect(served.doors.http_address().expect("it listens")).expect("it listens");
        http.write_all(b"DELETE /v1/agents/mine HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .expect("it is read");
        let mut reply = String::new();
        http.read_to_string(&mut reply).expect("it is text");
        assert!(reply.starts_with("HTTP/1.1 2"), "{reply}");
        let error = client.line();
        assert!(error.contains("the agent was deregistered"), "{error}");
        client.settle();
        served.stop();
    });
}
