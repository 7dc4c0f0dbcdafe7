//! Sending messages.

use serde_json::json;

use super::Served;
use crate::common::{PATIENCE, bounded, on, silent};
use crate::edge::wait_until;
use caxton_router::{Message, Outcome, Performative};

#[test]
pub fn a_message_is_accepted_confirmed_or_answered() {
    bounded(|| {
        let served = Served::start();
        served.register_echo("echo");
        let mut client = served.client();
        let request = json!({"performative": "request", "receiver": ["echo"], "content": "tea?"});
        let accepted = client.post("/v1/messages", &request).expect(202);
        assert!(accepted["message"].as_str().is_some_and(|id| id.len() == 33 && id.starts_with('m')), "{accepted}");
        let receipt = client.post("/v1/messages?wait=receipt", &request).expect(200);
        assert_eq!(receipt["receipt"], "delivered");
        assert!(receipt["message"].as_str().is_some_and(|id| id.len() == 33), "{receipt}");
        let mut processed = request.clone();
        processed["X-caxton-receipt"] = "processed".into();
        assert_eq!(client.post("/v1/messages?wait=receipt", &processed).expect(200)["receipt"], "processed");
        let reply = client.post("/v1/messages?wait=reply&timeout_ms=60000", &request).expect(200);
        assert_eq!((&reply["performative"], &reply["content"]), (&"inform".into(), &"tea?".into()));
        assert_eq!(reply["sender"], "echo", "its sender is named although native agents send only ids");
        served.stop();
    });
}

#[test]
pub fn a_message_belongs_to_the_trace_of_its_request() {
    const CONTEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    bounded(|| {
        let served = Served::start();
        served.register("relay", || {
            on(|message, context| {
                let on = Message::builder(Performative::Request).receiver("clerk").content(message.content().clone());
                context.send(on.build().expect("it is valid")).expect("there is room");
                Outcome::Done
            })
        });
        let mut client = served.client();
        client.json("PUT", "/v1/agents/clerk", &json!({})).expect(201);
        client.json("PUT", "/v1/agents/asker", &json!({})).expect(201);
        let mut send = |header: &str, message: serde_json::Value| {
            let headers = format!("Content-Type: application/json\r\n{header}");
            client.request("POST", "/v1/messages", &headers, &message.to_string()).expect(202);
        };
        let request = json!({"performative": "request", "receiver": ["relay"], "content": "tea?"});
        send(&format!("traceparent: {CONTEXT}\r\n"), request.clone());
        let mut own = request;
        own["X-caxton-traceparent"] = CONTEXT.into();
        send("traceparent: malformed\r\n", own);
        let mut reader = served.client();
        let mut next = |agent: &str| {
            let path = format!("/v1/agents/{agent}/messages?max=1&wait_ms=60000");
            let message = reader.get(&path).expect(200)["messages"][0]["message"].clone();
            let context = message["X-caxton-traceparent"].as_str().unwrap_or_default().to_owned();
            assert_eq!(context.get(3..35), CONTEXT.get(3..35), "{message}");
            (message["content"].clone(), context)
        };
        for _ in 0..2 {
            let (content, trace) = next("clerk");
            let reply = json!({"performative": "inform", "sender": "clerk", "receiver": ["asker"], "content": content});
            send(&format!("traceparent: {trace}\r\n"), reply);
            assert_eq!(next("asker").0, "tea?");
        }
        served.stop();
    });
}

#[test]
pub fn messages_come_and_go_in_the_string_form_too() {
    bounded(|| {
        let served = Served::start();
        served.register_echo("echo");
        let mut client = served.client();
        let text = "(request :receiver (set (agent-identifier :name echo)) :content \"tea?\")";
        for media in ["text/x-fipa-acl", "text/plain; charset=utf-8"] {
            let headers = format!("Content-Type: {media}\r\nAccept: text/x-fipa-acl\r\n");
            let reply = client.request("POST", "/v1/messages?wait=reply", &headers, text);
            assert_eq!(reply.status, 200, "{}", reply.text());
            assert_eq!(reply.header("content-type"), Some("text/x-fipa-acl"));
            assert!(reply.text().starts_with("(inform") && reply.text().contains("tea?"), "{}", reply.text());
        }
        served.stop();
    });
}

#[test]
pub fn what_cannot_be_sent_is_refused_with_the_reason() {
    bounded(|| {
        let served = Served::with(|config| config.message.content_bytes_max = 1_000.try_into().expect("it is legal"));
        served.register("silent", silent);
        let mut client = served.client();
        let to = |receiver: &str| json!({"performative": "inform", "receiver": [receiver], "content": "x"});
        let problem = client.post("/v1/messages?wait=receipt", &to("nobody")).problem(422, "unknown-receiver");
        assert_eq!(problem["effect"], "failed");
        client.post("/v1/messages?wait=reply&timeout_ms=50", &to("silent")).problem(504, "timed-out");
        let mut foreign = to("silent");
        foreign["sender"] = "stranger".into();
        client.post("/v1/messages", &foreign).problem(422, "unknown-sender");
        client.post("/v1/messages?wait=reply", &foreign).problem(422, "sender-given");
        for own in ["ams", "df", &served.router.gateway(0)] {
            foreign["sender"] = own.into();
            client.post("/v1/messages", &foreign).problem(403, "foreign-sender");
        }
        let mut durable = to("silent");
        durable["X-caxton-reliability"] = "durable".into();
        client.post("/v1/messages", &durable).problem(422, "durability-unavailable");
        let mut identified = to("silent");
        identified["X-caxton-message-id"] = format!("m{}", "0".repeat(31) + "1").into();
        client.post("/v1/messages", &identified).problem(422, "message-id-given");
        let mut large = to("silent");
        large["content"] = "x".repeat(1_001).into();
        assert!([400, 413].contains(&client.post("/v1/messages", &large).status));
        for (body, expected) in
            [("{", "malformed-message"), ("{\"performative\":\"inform\",\"colour\":1}", "malformed-message")]
        {
            client.request("POST", "/v1/messages", "Content-Type: application/json\r\n", body).problem(400, expected);
        }
        client.request("POST", "/v1/messages", "", "{}").problem(415, "unsupported-media-type");
        client.post("/v1/messages?wait=forever", &to("silent")).problem(400, "bad-parameter");
        client.post("/v1/messages?timeout_ms=0", &to("silent")).problem(400, "bad-parameter");
        client.post("/v1/messages?timeout=1", &to("silent")).problem(400, "bad-parameter");
        let length = format!("Content-Type: application/json\r\nX-A: {}\r\n", "b".repeat(100));
        let huge = client.request("POST", "/v1/messages", &length, &"x".repeat(8 << 20));
        huge.problem(413, "body-too-large");
        served.stop();
    });
}

#[test]
pub fn a_request_with_an_idempotency_key_is_carried_out_once() {
    bounded(|| {
        let served = Served::start();
        let (heard, told) = flume::unbounded();
        served.register("listener", move || {
            let heard = heard.clone();
            on(move |message, context| {
                let _ = heard.send(());
                if message.performative() == Performative::Request {
                    let reply = message.reply(Performative::Inform).content("done").build().expect("it is valid");
                    context.send(reply).expect("there is room");
                }
                Outcome::Done
            })
        });
        let mut client = served.client();
        let body = json!({"performative": "request", "receiver": ["listener"], "content": "pay"}).to_string();
        let headers = "Content-Type: application/json\r\nIdempotency-Key: k-1\r\n";
        let mut send = |path: &str, headers: &str, body: &str| client.request("POST", path, headers, body);
        let first = send("/v1/messages?wait=reply", headers, &body);
        assert_eq!(first.status, 200, "{}", first.text());
        let again = send("/v1/messages?wait=reply", headers, &body);
        assert_eq!((again.status, &again.body), (200, &first.body));
        assert_eq!(told.drain().count(), 1);
        send("/v1/messages?wait=reply", headers, &body.replace("pay", "stay")).problem(422, "idempotency-key-reused");
        send("/v1/messages", headers, &body).problem(422, "idempotency-key-reused");
        let empty = "Content-Type: application/json\r\nIdempotency-Key:  \r\n";
        send("/v1/messages", empty, &body).problem(400, "bad-idempotency-key");
        let other_form = format!("{headers}Accept: text/x-fipa-acl\r\n");
        send("/v1/messages?wait=reply", &other_form, &body).problem(422, "idempotency-key-reused");
        // What has failed without any effect can be tried again, whatever was wrong.
        let headers = "Content-Type: application/json\r\nIdempotency-Key: k-2\r\n";
        let body = json!({"performative": "inform", "sender": "buyer", "receiver": ["listener"]}).to_string();
        send("/v1/messages", headers, &body).problem(422, "unknown-sender");
        served.client().json("PUT", "/v1/agents/buyer", &json!({})).expect(201);
        send("/v1/messages", headers, &body).expect(202);
        served.stop();
    });
}

#[test]
fn requests_that_wait_leave_room_for_others() {
    bounded(|| {
        let served = Served::with(|config| config.set("doors.connections_max", "4", "this test").expect("it is legal"));
        let (heard, told) = flume::bounded(3);
        served.register("silent", move || {
            let heard = heard.clone();
            on(move |_, _| {
                // Nobody waits for those that follow.
                let _ = heard.try_send(());
                Outcome::Done
            })
        });
        let message = json!({"performative": "request", "receiver": ["silent"], "content": "tea?"});
        let mut waiting: Vec<_> = (0..3).map(|_| served.client()).collect();
        for (number, client) in waiting.iter_mut().enumerate() {
            // One that has a key goes on without its client.
            let headers = format!(
                "Content-Type: application/json\r\n{}",
                if number == 0 { "Idempotency-Key: k\r\n" } else { "" }
            );
            let path = "/v1/messages?wait=reply&timeout_ms=300000";
            client.send("POST", path, &headers, message.to_string().as_bytes());
            told.recv_timeout(PATIENCE).expect("the message arrives");
        }
        let mut other = served.client();
        other.post("/v1/messages?wait=receipt", &message).problem(503, "too-many-streams");
        other.request("POST", "/v1/agents/silent/drain", "", "").problem(503, "too-many-streams");
        other.post("/v1/messages", &message).expect(202);
        drop(waiting);
        wait_until("there is room again", || other.post("/v1/messages?wait=receipt", &message).status == 200);
        served.doors.close();
        served.router.shutdown(PATIENCE).expect("this is no shard's thread");
    });
}

#[test]
fn messages_that_wait_for_room_leave_room_for_others() {
    bounded(|| {
        let served = Served::with(|config| {
            config.set("doors.connections_max", "8", "this test").expect("it is legal");
            config.set("doors.grace_ms", "600000", "this test").expect("it is legal");
            config.set("mailbox.messages", "100", "this test").expect("it is legal");
        });
        let mut other = served.client();
        other.json("PUT", "/v1/agents/full", &json!({"overflow": "back-pressure"})).expect(201);
        other.request("POST", "/v1/agents/full/suspend", "", "").expect(200);
        let message = json!({"performative": "inform", "receiver": ["full"], "content": "tea"});
        let is_full = |other: &mut super::Client<_>| other.get("/v1/agents/full").expect(200)["closed"] == true;
        while !is_full(&mut other) {
            other.post("/v1/messages", &message).expect(202);
        }
        let (ended, ends) = flume::bounded(7);
        for _ in 0..7 {
            let (mut client, ended) = (served.client(), ended.clone());
            let headers = "Content-Type: application/json\r\n";
            client.send("POST", "/v1/messages?timeout_ms=300000", headers, message.to_string().as_bytes());
            std::thread::spawn(move || ended.send(client.read()));
        }
        // Six of them wait, and take all places. One of seven is refused, while the others go on.
        let refused = ends.recv_timeout(PATIENCE).expect("one does not wait").problem(503, "too-many-streams");
        assert_eq!(refused["effect"], "possible", "it may have been accepted at this moment");
        other.get("/v1/agents/full/messages?wait_ms=1").problem(503, "too-many-streams");
        let refused = other.post("/v1/messages?timeout_ms=300000", &message).problem(503, "too-many-streams");
        assert_eq!(refused["effect"], "possible", "it may have been accepted at this moment");
        other.request("DELETE", "/v1/agents/full", "", "").expect(204);
        for _ in 0..6 {
            ends.recv_timeout(PATIENCE).expect("it ends with the agent");
        }
        served.stop();
    });
}
