//! The protocol of NATS itself: greeting, errors, sizes, tokens, and the end.

use std::io::Read as _;
use std::time::{Duration, Instant};

use caxton_router::serve::NewToken;

use super::{Client, Served, router_gets};
use crate::common::{PATIENCE, bounded, text_of};

#[test]
fn the_server_says_who_it_is_and_answers_pings() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let mut client = served.client();
        for member in ["\"headers\":true", "\"proto\":1", "\"auth_required\":false", "\"max_payload\":10551296"] {
            assert!(client.info.contains(member), "{}", client.info);
        }
        client.settle();
        client.say("ping\nPiNg \r\n");
        assert_eq!([client.line(), client.line()], ["PONG", "PONG"]);
        client.say("CONNECT {\"verbose\":true}\r\nSUB _INBOX.a 1\r\nPUB agent.nobody 0\r\n\r\nUNSUB 1\r\n");
        assert_eq!([client.line(), client.line(), client.line(), client.line()], ["+OK"; 4]);
        served.stop();
    });
}

#[test]
fn a_client_is_told_that_the_doors_are_closed() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let mut clients = [served.client(), served.client()];
        for client in &mut clients {
            client.settle();
        }
        served.stop();
        for client in &mut clients {
            let info = client.line();
            assert!(info.starts_with("INFO ") && info.contains("\"ldm\":true"), "{info}");
            assert_eq!(client.line(), "", "it is closed");
        }
    });
}

#[test]
fn echo_is_left_out_on_request() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let mut client = Client::connect(served.address, ",\"echo\":false");
        client.subscribe("agent.mine", "1");
        client.publish("agent.mine", "", &[], "to myself");
        let mut other = served.client();
        other.publish("agent.mine", "", &[], "to you");
        assert_eq!(client.next().payload, "to you");
        served.stop();
    });
}

#[test]
fn what_is_no_protocol_ends_the_connection() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        for (said, expected) in [
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), "-ERR 'Unknown Protocol Operation'"),
            ("PUB agent.x 99999999\r\n".to_owned(), "-ERR 'Maximum Payload Violation'"),
            (format!("PUB {} 0\r\n\r\n", "x".repeat(5_000)), "-ERR 'Maximum Control Line Exceeded'"),
            ("CONNECT nonsense\r\n".to_owned(), "-ERR 'Unknown Protocol Operation'"),
        ] {
            let mut client = Client::open(served.address);
            client.say(&said);
            assert_eq!(client.line(), expected);
            let mut rest = String::new();
            let _ = client.stream.read_to_string(&mut rest);
            assert_eq!(rest, "", "{said}");
        }
        served.client().settle();
        served.stop();
    });
}

#[test]
fn a_large_message_arrives_in_pieces_and_goes_through() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let (mut sender, mut receiver) = (served.client(), served.client());
        receiver.subscribe("agent.bulk", "1");
        let payload: String = (0..3_000_000_u32).map(|number| char::from(b'a' + (number % 26) as u8)).collect();
        sender.publish("agent.bulk", "", &[], &payload);
        sender.publish("agent.bulk", "", &[], "small");
        assert!(receiver.next().payload == payload, "it is the same");
        assert_eq!(receiver.next().payload, "small");
        served.stop();
    });
}

#[test]
fn a_token_says_who_a_client_is() {
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let (mine, other) = (NewToken::random().expect("random"), NewToken::random().expect("random"));
        let file = directory.path().join("tokens.toml");
        let text = format!(
            "[[token]]\nname = 'billing'\nhash = '{}'\nagents = ['bill-*']\noperations = ['send', 'receive']\n\
             [[token]]\nname = 'reader'\nhash = '{}'\nagents = ['reader']\noperations = ['receive']\n",
            mine.hash, other.hash
        );
        std::fs::write(&file, text).expect("it can be written");
        let served = Served::start(1, |config| config.doors.tokens = file.clone().into());
        let inbox = router_gets(&served, "clerk");
        for said in ["CONNECT {\"auth_token\":\"wrong\"}\r\n", "CONNECT {}\r\n", "PING\r\n"] {
            let mut client = Client::open(served.address);
            assert!(client.info.contains("\"auth_required\":true"), "{}", client.info);
            client.say(said);
            assert_eq!(client.line(), "-ERR 'Authorization Violation'", "{said}");
        }
        let mut client = Client::connect(served.address, &format!(",\"auth_token\":\"{}\"", mine.secret));
        client.say("SUB agent.clark 1\r\n");
        assert!(client.line().starts_with("-ERR 'Permissions Violation for Subscription to \"agent.clark\""));
        client.publish("agent.clerk", "", &[], "from whom?");
        let message = inbox.blocking().recv_within(PATIENCE).expect("it comes");
        let view =
            served.router.blocking().agent(message.sender().expect("a sender")).expect("it runs").expect("it is there");
        assert!(view.name.starts_with("billing-nats-"), "{}", view.name);
        client.subscribe("agent.bill-7", "1");
        client.publish("agent.clerk", "", &[("Caxton-Sender", "bill-8")], "forged");
        assert!(client.line().starts_with("-ERR 'Permissions Violation for Publish to \"agent.clerk\""));
        let mut reader = Client::connect(served.address, &format!(",\"user\":\"x\",\"pass\":\"{}\"", other.secret));
        reader.subscribe("agent.reader", "1");
        reader.publish("agent.clerk", "", &[], "may not");
        assert!(reader.line().contains("this token may not send"));
        // Whose the agents of a connection are does not change.
        let mut client = Client::connect(served.address, &format!(",\"auth_token\":\"{}\"", mine.secret));
        client.subscribe("agent.bill-9", "1");
        client.say(&format!("CONNECT {{\"verbose\":true,\"auth_token\":\"{}\"}}\r\n", mine.secret));
        assert_eq!(client.line(), "+OK");
        client.say(&format!("CONNECT {{\"auth_token\":\"{}\"}}\r\n", other.secret));
        assert_eq!(client.line(), "-ERR 'Authorization Violation'");
        let mut client = Client::connect(served.address, &format!(",\"auth_token\":\"{}\"", mine.secret));
        // A token that is removed ends what was connected with it, though nothing is said there.
        let text = std::fs::read_to_string(&file).expect("it is there");
        let (kept, _) = text.rsplit_once("[[token]]").expect("there are two");
        std::fs::write(&file, kept).expect("it can be written");
        served.doors.reload(served.router.config()).expect("the file is right");
        assert_eq!(reader.line(), "-ERR 'User Authentication Revoked'");
        client.settle();
        served.stop();
    });
}

#[test]
fn clients_that_publish_too_fast_are_slowed_down_and_lose_nothing() {
    bounded(|| {
        let served = Served::start(1, |config| {
            config.set("nats.messages_per_second", "100", "the test").expect("a number");
        });
        let inbox = router_gets(&served, "clerk");
        let mut client = served.client();
        let began = Instant::now();
        for number in 0..200 {
            client.publish("agent.clerk", "", &[], &number.to_string());
        }
        client.settle();
        // The first hundred are taken at once. A slow machine only takes longer.
        assert!(began.elapsed() >= Duration::from_millis(950), "{:?}", began.elapsed());
        for number in 0..200 {
            assert_eq!(text_of(&inbox.blocking().recv_within(PATIENCE).expect("it comes")), number.to_string());
        }
        served.stop();
    });
}

#[test]
fn agents_that_subscriptions_register_and_deregister_are_audited() {
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let audit = directory.path().join("audit.jsonl");
        let file = audit.clone();
        let served = Served::start(1, |config| config.doors.audit = file.into());
        let _taken = router_gets(&served, "taken");
        let (mut client, mut other) = (served.client(), served.client());
        client.subscribe("agent.mine", "1");
        // It is registered already.
        other.say("SUB agent.mine group 1\r\n");
        other.settle();
        client.say("SUB agent.taken 2\r\n");
        assert!(client.line().starts_with("-ERR"));
        other.say("UNSUB 1\r\n");
        other.settle();
        client.say("UNSUB 1\r\n");
        client.settle();
        served.stop();
        let text = std::fs::read_to_string(audit).expect("it is written");
        let entries = text.lines().map(|line| {
            let entry: serde_json::Value = serde_json::from_str(line).expect("it is JSON");
            ["operation", "identity", "subject", "outcome"]
                .map(|name| entry[name].as_str().unwrap_or("-").to_owned())
                .join(" ")
        });
        let expected = [
            "agents.register local mine done",
            "agents.register local taken duplicate",
            "agents.deregister local mine done",
        ];
        assert_eq!(entries.collect::<Vec<_>>(), expected);
    });
}
