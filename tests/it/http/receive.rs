//! Receiving messages: long polls, acknowledgements, redelivery, and server-sent events.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use caxton_router::AgentId;
use caxton_router::dead_letter::DeadLetterReason;
use futures_lite::future::block_on;
use serde_json::{Value, json};

use super::{Client, Served};
use crate::common::{PATIENCE, bounded, hold_up, message_to, name_on};
use crate::edge::wait_until;

fn tell(client: &mut Client<TcpStream>, receiver: &str, content: &str) {
    let message = json!({"performative": "inform", "receiver": [receiver], "content": content});
    client.post("/v1/messages?wait=receipt", &message).expect(200);
}

/// Returns the number of clients of the agent.
fn clients(client: &mut Client<TcpStream>) -> u64 {
    client.get("/v1/agents/clerk").expect(200)["outside"]["clients"].as_u64().expect("it is a number")
}

/// Returns the deliveries of a poll.
fn poll(client: &mut Client<TcpStream>, path: &str) -> Vec<Value> {
    client.get(path).expect(200)["messages"].as_array().expect("it is a list").clone()
}

fn contents(deliveries: &[Value]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery["message"]["content"].as_str().expect("it is text")).collect()
}

#[test]
pub fn a_long_poll_returns_what_is_there_or_waits_for_it() {
    bounded(|| {
        let served = Served::start();
        let (mut client, mut sender) = (served.client(), served.client());
        client.json("PUT", "/v1/agents/clerk", &json!({})).expect(201);
        assert!(poll(&mut client, "/v1/agents/clerk/messages").is_empty());
        assert!(poll(&mut client, "/v1/agents/clerk/messages?wait_ms=20").is_empty());
        for content in ["1", "2", "3"] {
            tell(&mut sender, "clerk", content);
        }
        let mut taken = Vec::new();
        while taken.len() < 3 {
            let some = poll(&mut client, "/v1/agents/clerk/messages?max=2&wait_ms=60000");
            assert!((1..=2).contains(&some.len()), "{some:?}");
            taken.extend(some);
        }
        assert_eq!(contents(&taken), ["1", "2", "3"]);
        assert_eq!(taken[0]["deliveries"], 1);
        assert_eq!(taken[0]["id"], taken[0]["message"]["X-caxton-message-id"]);
        client.send("GET", "/v1/agents/clerk/messages?wait_ms=60000", "", b"");
        wait_until("the poll waits", || clients(&mut sender) == 1);
        tell(&mut sender, "clerk", "4");
        let late = client.read().expect(200);
        assert_eq!(contents(late["messages"].as_array().expect("it is a list")), ["4"]);
        client.get("/v1/agents/nobody/messages").problem(404, "unknown-agent");
        client.post("/v1/agents/clerk/ack", &json!({"ids": []})).problem(409, "other-mode");
        client.get("/v1/agents/clerk/messages?max=0").problem(400, "bad-parameter");
        // Its agent goes while it waits.
        client.send("GET", "/v1/agents/clerk/messages?wait_ms=60000", "", b"");
        wait_until("the poll waits", || clients(&mut sender) == 1);
        sender.request("DELETE", "/v1/agents/clerk", "", "").expect(204);
        client.read().problem(410, "deregistered");
        served.stop();
    });
}

#[test]
pub fn an_outside_agent_sends_and_replies_in_its_own_name() {
    bounded(|| {
        let served = Served::start();
        served.register_echo("echo");
        let mut client = served.client();
        client.json("PUT", "/v1/agents/clerk", &json!({})).expect(201);
        let question = json!({
            "performative": "request", "sender": "clerk", "receiver": ["echo"], "content": "tea?", "reply-with": "q-1",
            "conversation-id": "c-1",
        });
        client.post("/v1/messages", &question).expect(202);
        let deliveries = poll(&mut client, "/v1/agents/clerk/messages?wait_ms=60000");
        assert_eq!(contents(&deliveries), ["tea?"]);
        let reply = &deliveries[0]["message"];
        assert_eq!((&reply["sender"], &reply["receiver"]), (&"echo".into(), &json!(["clerk"])));
        assert_eq!(reply["in-reply-to"], "q-1");
        served.stop();
    });
}

#[test]
pub fn unacknowledged_messages_are_handed_out_again_and_then_given_up() {
    bounded(|| {
        let served = Served::start();
        let mut client = served.client();
        client.json("PUT", "/v1/agents/clerk", &json!({"acknowledged": true})).expect(201);
        tell(&mut client, "clerk", "done");
        let first = poll(&mut client, "/v1/agents/clerk/messages?wait_ms=60000");
        assert_eq!(contents(&first), ["done"]);
        let ack = json!({"ids": [first[0]["id"]]});
        assert_eq!(client.post("/v1/agents/clerk/ack", &ack).expect(200)["acknowledged"], 1);
        assert_eq!(client.post("/v1/agents/clerk/ack", &ack).expect(200)["acknowledged"], 0, "it is done already");
        tell(&mut client, "clerk", "never");
        let path = "/v1/agents/clerk/messages?wait_ms=60000&visibility_ms=100";
        for times in 1..=5 {
            let again = poll(&mut client, path);
            assert_eq!((contents(&again), &again[0]["deliveries"]), (vec!["never"], &times.into()));
        }
        assert!(poll(&mut client, "/v1/agents/clerk/messages?wait_ms=500&visibility_ms=100").is_empty());
        let letters = || served.router.blocking().dead_letters(10).expect("it runs");
        wait_until("it is given up", || !letters().is_empty());
        let letter = letters().remove(0);
        assert_eq!(letter.reason, DeadLetterReason::AttemptsExhausted);
        assert_eq!(letter.last_error.as_deref(), Some("it was handed out 5 times and not acknowledged"));
        // A client can give one up itself.
        tell(&mut client, "clerk", "broken");
        let broken = poll(&mut client, "/v1/agents/clerk/messages?wait_ms=60000");
        let reject = json!({"rejected": [broken[0]["id"]], "reason": "it makes no sense"});
        assert_eq!(client.post("/v1/agents/clerk/ack", &reject).expect(200)["rejected"], 1);
        wait_until("it is given up", || {
            letters().iter().any(|letter| letter.last_error.as_deref() == Some("it makes no sense"))
        });
        client.post("/v1/agents/clerk/ack", &json!({"ids": ["m1"]})).problem(422, "bad-message-id");
        client.request("POST", "/v1/agents/clerk/ack", "", "").problem(400, "bad-document");
        served.stop();
    });
}

/// Begins a stream, and reads what comes first.
pub fn begin_stream(client: &mut Client<TcpStream>, path: &str) {
    client.send("GET", path, "", b"");
    let (status, head) = client.read_head();
    assert_eq!(status, 200, "{head}");
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    assert_eq!(client.chunk(), ": attached\n\n");
}

#[test]
pub fn a_stream_sends_messages_as_they_come_and_ends_with_its_agent() {
    bounded(|| {
        let served = Served::start();
        let (mut client, mut sender) = (served.client(), served.client());
        sender.json("PUT", "/v1/agents/clerk", &json!({})).expect(201);
        begin_stream(&mut client, "/v1/agents/clerk/stream");
        assert_eq!(sender.get("/v1/agents/clerk").expect(200)["outside"]["clients"], 1);
        let mut heard = String::new();
        for content in ["1", "2", "3"] {
            tell(&mut sender, "clerk", content);
        }
        while heard.matches("data: ").count() < 3 {
            heard.push_str(&client.chunk());
        }
        let events: Vec<&str> = heard.split("\n\n").filter(|event| event.contains("data: ")).collect();
        for (event, content) in events.iter().zip(["1", "2", "3"]) {
            let data = event.lines().find_map(|line| line.strip_prefix("data: ")).expect("there is data");
            let message: Value = serde_json::from_str(data).expect("it is JSON");
            assert_eq!(message["content"], content);
            assert!(event.contains(&format!("id: {}", message["X-caxton-message-id"].as_str().expect("it has one"))));
        }
        sender.request("DELETE", "/v1/agents/clerk", "", "").expect(204);
        let mut last = client.chunk();
        while !last.contains("event: end") {
            last = client.chunk();
        }
        assert!(last.contains("data: deregistered"), "{last}");
        served.stop();
    });
}

#[test]
pub fn a_stream_that_nobody_reads_holds_back_the_senders() {
    bounded(|| {
        let served = Served::with(|config| config.mailbox.messages = 100.try_into().expect("it is legal"));
        let (mut client, mut sender) = (served.client(), served.client());
        sender.json("PUT", "/v1/agents/clerk", &json!({"overflow": "back-pressure"})).expect(201);
        begin_stream(&mut client, "/v1/agents/clerk/stream");
        let message = json!({"performative": "inform", "receiver": ["clerk"], "content": "x".repeat(20_000)});
        let began = Instant::now();
        let refusal = loop {
            assert!(began.elapsed() < PATIENCE, "the senders are never held back");
            let sent = sender.post("/v1/messages?timeout_ms=500", &message);
            if sent.status != 202 {
                break sent;
            }
        };
        assert!([429, 503].contains(&refusal.status), "{}", refusal.text());
        // Reading makes room again.
        let mut read = 0;
        while read < 200 {
            read += client.chunk().matches("data: ").count();
        }
        sender.post("/v1/messages?timeout_ms=60000", &message).expect(202);
        // The agent is gone although nobody reads its stream.
        sender.request("DELETE", "/v1/agents/clerk", "", "").expect(204);
        assert_eq!(sender.get("/v1/agents/clerk").expect(200)["state"], "stopped");
        drop(client);
        served.doors.close();
        served.router.shutdown(PATIENCE).expect("this is no shard's thread");
    });
}

#[test]
fn what_a_reader_does_not_acknowledge_goes_to_one_that_waits_already() {
    bounded(|| {
        let served = Served::start();
        let mut sender = served.client();
        sender.json("PUT", "/v1/agents/clerk", &json!({"acknowledged": true})).expect(201);
        let mut readers = [served.client(), served.client()];
        for (number, reader) in (1..).zip(&mut readers) {
            reader.send("GET", "/v1/agents/clerk/messages?wait_ms=30000&visibility_ms=100", "", b"");
            wait_until("it waits", || clients(&mut sender) == number);
        }
        tell(&mut sender, "clerk", "for one of them");
        // Whichever gets it first, the other one gets it then.
        let mut times = readers.map(|mut reader| reader.read().expect(200)["messages"][0]["deliveries"].clone());
        times.sort_by_key(Value::as_u64);
        assert_eq!(times, [Value::from(1), Value::from(2)]);
        sender.request("DELETE", "/v1/agents/clerk", "", "").expect(204);
        served.stop();
    });
}

#[test]
fn what_is_handed_out_again_is_limited_in_size_as_it_was_at_first() {
    bounded(|| {
        let served = Served::start();
        let mut client = served.client();
        client.json("PUT", "/v1/agents/clerk", &json!({"acknowledged": true})).expect(201);
        for _ in 0..5 {
            tell(&mut client, "clerk", &"x".repeat(150_000));
        }
        let path = "/v1/agents/clerk/messages?max=256&wait_ms=60000&visibility_ms=2000";
        let mut known = std::collections::BTreeSet::new();
        while known.len() < 5 {
            let some = poll(&mut client, path);
            assert!((1..=2).contains(&some.len()), "{}", some.len());
            known.extend(some.iter().map(|delivery| delivery["id"].to_string()));
        }
        // Now all of them are due.
        std::thread::sleep(Duration::from_millis(2_500));
        assert!((1..=2).contains(&poll(&mut client, path).len()));
        client.request("DELETE", "/v1/agents/clerk", "", "").expect(204);
        served.stop();
    });
}

#[test]
fn a_poll_does_not_wait_for_names_that_a_blocked_shard_knows() {
    bounded(|| {
        let served = Served::start();
        let clerk = name_on(&served.router, 0, "clerk");
        let teller = block_on(served.router.inbox(name_on(&served.router, 1, "teller")).open()).expect("it opens");
        let mut client = served.client();
        client.json("PUT", &format!("/v1/agents/{clerk}"), &json!({})).expect(201);
        block_on(teller.send(message_to(AgentId::of(&clerk), "hello"))).expect("it is sent");
        let barrier = hold_up(&served.router, 1);
        let deliveries = poll(&mut client, &format!("/v1/agents/{clerk}/messages?wait_ms=60000"));
        assert_eq!(contents(&deliveries), ["hello"]);
        barrier.open();
        drop(teller);
        served.stop();
    });
}

#[test]
fn an_agent_that_the_router_removes_is_gone_for_its_clients() {
    bounded(|| {
        let served = Served::with(|config| config.set("doors.grace_ms", "600000", "this test").expect("it is legal"));
        let mut client = served.client();
        let clerk = AgentId::of_text("clerk");
        client.json("PUT", "/v1/agents/clerk", &json!({})).expect(201);
        tell(&mut client, "clerk", "never taken");
        assert!(served.router.blocking().deregister(clerk).expect("it runs"));
        client.get("/v1/agents/clerk/messages").problem(410, "deregistered");
        client.get("/v1/agents/clerk/messages").problem(404, "unknown-agent");
        assert_eq!(client.get("/v1/stats").expect(200)["outside_agents"], 0, "its place is free");
        // What was dead-lettered is not handed out again.
        client.json("PUT", "/v1/agents/clerk", &json!({"acknowledged": true})).expect(201);
        tell(&mut client, "clerk", "unfinished");
        let path = "/v1/agents/clerk/messages?wait_ms=60000&visibility_ms=100";
        assert_eq!(contents(&poll(&mut client, path)), ["unfinished"]);
        assert_eq!(served.router.blocking().drain(clerk, Duration::ZERO).expect("it is drained").left, 1);
        std::thread::sleep(Duration::from_millis(150));
        client.get(path).problem(410, "deregistered");
        let letters = served.router.blocking().dead_letters(10).expect("it runs");
        assert!(letters.iter().any(|letter| letter.reason == DeadLetterReason::DrainDeadline), "{letters:?}");
        served.stop();
    });
}

#[test]
fn a_head_takes_no_messages() {
    bounded(|| {
        let served = Served::start();
        let mut client = served.client();
        client.json("PUT", "/v1/agents/clerk", &json!({})).expect(201);
        tell(&mut client, "clerk", "for GET");
        client.send("HEAD", "/v1/agents/clerk/messages?wait_ms=60000", "", b"");
        let (status, head) = client.read_head();
        assert!(status == 405 && head.contains("allow: get\r\n"), "{head}");
        let mut client = served.client();
        assert_eq!(contents(&poll(&mut client, "/v1/agents/clerk/messages?wait_ms=60000")), ["for GET"]);
        served.stop();
    });
}
