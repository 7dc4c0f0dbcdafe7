//! Sending and receiving over a WebSocket.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Client, Served};
use crate::common::bounded;

/// Opens a WebSocket.
pub fn open(mut client: Client<TcpStream>, path: &str) -> Client<TcpStream> {
    let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    client.send("GET", path, headers, b"");
    let (status, head) = client.read_head();
    assert_eq!(status, 101, "{head}");
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    client
}

/// Sends a frame of text.
fn send(client: &mut Client<TcpStream>, value: &Value) {
    client.stream.get_mut().write_all(&frame_of(value)).expect("it is sent");
}

/// Returns a frame of text, with an empty mask.
fn frame_of(value: &Value) -> Vec<u8> {
    let text = value.to_string();
    let mut frame = vec![0x81];
    if text.len() < 126 {
        frame.push(0x80 | u8::try_from(text.len()).expect("it is short"));
    } else {
        frame.push(0xfe);
        frame.extend_from_slice(&u16::try_from(text.len()).expect("it is short").to_be_bytes());
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// Returns the next frame of text. Pings before it are answered.
fn next(client: &mut Client<TcpStream>) -> Value {
    loop {
        let (kind, body) = read_frame(client).expect("a frame comes");
        match kind {
            1 => return serde_json::from_slice(&body).expect("it is JSON"),
            8 => panic!("the WebSocket was closed: {body:?}"),
            9 => client.stream.get_mut().write_all(&[0x8a, 0x80, 0, 0, 0, 0]).expect("the pong is sent"),
            _ => {}
        }
    }
}

/// Reads the next frame. Returns its kind and its body.
pub fn read_frame(client: &mut Client<TcpStream>) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    client.stream.read_exact(&mut head)?;
    let length = match head[1] {
        126 => {
            let mut length = [0; 2];
            client.stream.read_exact(&mut length)?;
            usize::from(u16::from_be_bytes(length))
        }
        short => usize::from(short),
    };
    let mut body = vec![0; length];
    client.stream.read_exact(&mut body)?;
    Ok((head[0] & 0xf, body))
}

#[test]
pub fn an_agent_sends_receives_and_acknowledges_on_one_connection() {
    bounded(|| {
        let served = Served::start();
        served.register_echo("echo");
        let mut other = served.client();
        other.json("PUT", "/v1/agents/clerk", &json!({"acknowledged": true})).expect(201);
        let mut socket = open(served.client(), "/v1/agents/clerk/ws");
        let question = json!({"performative": "request", "receiver": ["echo"], "content": "tea?", "reply-with": "q"});
        send(&mut socket, &json!({"type": "send", "ref": 1, "message": question}));
        let (mut sent, mut reply) = (Value::Null, Value::Null);
        while sent.is_null() || reply.is_null() {
            let frame = next(&mut socket);
            if frame["type"] == "sent" { sent = frame } else { reply = frame }
        }
        assert_eq!(sent["ref"], 1);
        assert_eq!((&reply["type"], &reply["deliveries"]), (&"message".into(), &1.into()));
        assert_eq!((&reply["message"]["content"], &reply["message"]["in-reply-to"]), (&"tea?".into(), &"q".into()));
        send(&mut socket, &json!({"type": "ack", "ids": [reply["id"]]}));
        assert_eq!(next(&mut socket)["acknowledged"], 1);
        send(&mut socket, &json!({"type": "dance"}));
        let problem = next(&mut socket);
        assert_eq!((&problem["type"], &problem["reason"]), (&"problem".into(), &"bad-document".into()));
        send(&mut socket, &json!({"type": "send", "message": {"performative": "inform", "sender": "ams"}}));
        assert_eq!(next(&mut socket)["reason"], "foreign-sender");
        assert_eq!(other.get("/v1/agents/clerk").expect(200)["outside"]["clients"], 1);
        other.get("/v1/agents/clerk/ws").problem(400, "no-websocket");
        drop(socket);
        served.stop();
    });
}

#[test]
fn a_client_that_only_listens_to_a_busy_agent_stays_and_gets_everything() {
    bounded(|| {
        const IDLE: Duration = Duration::from_secs(3);
        let served = Served::with(|config| config.set("doors.idle_ms", "3000", "this test").expect("it is legal"));
        let mut other = served.client();
        other.json("PUT", "/v1/agents/clerk", &json!({})).expect(201);
        let mut socket = open(served.client(), "/v1/agents/clerk/ws");
        let (began, mut number) = (Instant::now(), 0_u32);
        while began.elapsed() < 2 * IDLE {
            let content = number.to_string();
            let message = json!({"performative": "inform", "receiver": ["clerk"], "content": content});
            other.post("/v1/messages", &message).expect(202);
            assert_eq!(next(&mut socket)["message"]["content"], content);
            number += 1;
        }
        drop(socket);
        served.stop();
    });
}

#[test]
fn a_websocket_keeps_nobody_from_being_served() {
    bounded(|| {
        let served = Served::with(|config| config.set("doors.connections_max", "4", "this test").expect("it is legal"));
        served.client().json("PUT", "/v1/agents/clerk", &json!({"acknowledged": true})).expect(201);
        let mut socket = open(served.client(), "/v1/agents/clerk/ws");
        let idle: Vec<_> = (0..6).map(|_| served.client()).collect();
        assert_eq!(served.client().get("/livez").status, 200);
        send(&mut socket, &json!({"type": "ack", "ids": []}));
        assert_eq!(next(&mut socket)["type"], "acknowledged", "it stays, because it is no idle connection");
        drop((idle, socket));
        served.stop();
    });
}

#[test]
fn what_a_websocket_sends_and_acknowledges_is_limited_as_requests_are() {
    bounded(|| {
        let served =
            Served::with(|config| config.set("doors.requests_per_second", "5", "this test").expect("it is legal"));
        served.client().json("PUT", "/v1/agents/clerk", &json!({})).expect(201);
        let mut socket = open(served.client(), "/v1/agents/clerk/ws");
        send(&mut socket, &json!({"type": "ack", "ids": [format!("m{}1", "0".repeat(31))]}));
        assert_eq!(next(&mut socket)["reason"], "other-mode");
        let message = json!({"performative": "inform", "receiver": ["nobody"]});
        let refused = (0..1_000).find_map(|_| {
            send(&mut socket, &json!({"type": "send", "message": message}));
            let response = std::iter::repeat_with(|| next(&mut socket)).find(|frame| frame["type"] != "message");
            response.filter(|response| response["type"] == "problem")
        });
        assert_eq!(refused.expect("there is a limit")["reason"], "too-many-requests");
        drop(socket);
        served.doors.close();
        served.router.shutdown(crate::common::PATIENCE).expect("this is no shard's thread");
    });
}

#[test]
fn a_client_that_keeps_sending_gets_its_messages_and_ends_with_its_agent() {
    bounded(|| {
        // Far more frames than are read at a time.
        const SOON: usize = 5_000;
        let served = Served::start();
        let mut other = served.client();
        other.json("PUT", "/v1/agents/clerk", &json!({})).expect(201);
        let mut socket = open(served.client(), "/v1/agents/clerk/ws");
        let message = json!({"performative": "inform", "receiver": ["clerk"], "content": "tea"});
        let frames = frame_of(&json!({"type": "send", "message": message})).repeat(1_000);
        let mut writer = socket.stream.get_ref().try_clone().expect("it can be shared");
        // It writes until the WebSocket is closed.
        let writing = std::thread::spawn(move || while writer.write_all(&frames).is_ok() {});
        let comes = (0..SOON).any(|_| match read_frame(&mut socket).expect("a frame comes") {
            (1, body) => serde_json::from_slice::<Value>(&body).expect("it is JSON")["type"] == "message",
            _ => false,
        });
        assert!(comes, "it gets its messages while it sends");
        other.request("DELETE", "/v1/agents/clerk", "", "").expect(204);
        // What has been read by then is refused, as its sender is gone; nothing further is read.
        let mut refused = 0;
        while let Ok((1 | 9, body)) = read_frame(&mut socket) {
            refused += usize::from(String::from_utf8_lossy(&body).contains("unknown-sender"));
            assert!(refused < SOON, "the WebSocket of an agent that is gone stays open");
        }
        writing.join().expect("it ends");
        served.doors.close();
        served.router.shutdown(crate::common::PATIENCE).expect("this is no shard's thread");
    });
}
