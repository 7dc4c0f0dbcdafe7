//! Messages, requests and replies, and how refusals are reported.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use caxton_router::message::Choice;
use caxton_router::{Agent, Message, Outcome, Performative};

use super::{Arrived, Client, Served, router_gets};
use crate::common::{PATIENCE, bounded, capability, echo, on, text_of};
use crate::edge::wait_until;

#[test]
fn a_client_sends_to_an_agent_and_another_one_receives() {
    bounded(|| {
        let served = Served::start(2, |_| {});
        let inbox = router_gets(&served, "Night Porter@plant");
        let mut client = served.client();
        client.publish("agent.Night%20Porter@plant", "", &[], "good evening");
        let message = inbox.blocking().recv_within(PATIENCE).expect("it comes");
        assert_eq!((message.performative(), text_of(&message).as_str()), (Performative::Inform, "good evening"));
        let mut subscriber = served.client();
        subscriber.subscribe("agent.seller", "7");
        for number in 0..1_000 {
            client.publish("agent.seller", "", &[], &number.to_string());
        }
        for number in 0..1_000 {
            let expected = Arrived {
                subject: "agent.seller".to_owned(),
                sid: "7".to_owned(),
                reply: None,
                headers: String::new(),
                payload: number.to_string(),
            };
            assert_eq!(subscriber.next(), expected);
        }
        served.stop();
    });
}

#[test]
fn a_request_comes_back_at_its_reply_subject() {
    bounded(|| {
        let served = Served::start(2, |_| {});
        served.router.blocking().register("echo", echo).expect("the agent is registered");
        let mut client = served.client();
        client.say("SUB _INBOX.me.* 1\r\n");
        for number in 0..10 {
            client.publish("agent.echo", &format!("_INBOX.me.{number}"), &[], &format!("question {number}"));
        }
        for number in 0..10 {
            let reply = client.next();
            assert_eq!((reply.subject, reply.payload), (format!("_INBOX.me.{number}"), format!("question {number}")));
            assert_eq!((reply.sid.as_str(), reply.reply), ("1", None));
        }
        served.stop();
    });
}

#[test]
fn a_subscriber_is_asked_and_answers() {
    bounded(|| {
        let served = Served::start(2, |_| {});
        let (mut asker, mut answerer) = (served.client(), served.client());
        answerer.subscribe("agent.oracle", "1");
        asker.subscribe("agent.pythia", "3");
        asker.say("SUB _INBOX.a 2\r\n");
        asker.publish("agent.oracle", "_INBOX.a", &[("Caxton-Conversation-Id", "c1"), ("Shop", "5")], "why?");
        let question = answerer.next();
        assert_eq!(question.payload, "why?");
        for header in ["Caxton-Performative: request", "Caxton-Sender: pythia", "Caxton-Conversation-Id: c1", "Shop: 5"]
        {
            assert!(question.headers.contains(header), "{}", question.headers);
        }
        let reply = question.reply.expect("it asks");
        answerer.publish(&reply, "", &[("Caxton-Performative", "agree")], "");
        answerer.publish(&reply, "", &[("Caxton-Performative", "inform")], "because");
        let agreed = asker.next();
        assert!(agreed.headers.contains("Caxton-Performative: agree"), "{}", agreed.headers);
        let because = asker.next();
        assert_eq!((because.subject.as_str(), because.payload.as_str()), ("_INBOX.a", "because"));
        assert!(because.headers.contains("Caxton-Sender: oracle"), "{}", because.headers);
        // The router's own callers get replies too.
        let request = Message::builder(Performative::QueryRef).receiver("oracle").content("when?").build().unwrap();
        let router = served.router.clone();
        let call = std::thread::spawn(move || router.blocking().ask(request, PATIENCE));
        let question = answerer.next();
        assert!(question.headers.contains("Caxton-Performative: query-ref"), "{}", question.headers);
        answerer.publish(&question.reply.expect("it asks"), "", &[], "soon");
        assert_eq!(text_of(&call.join().expect("no panic").expect("a reply")), "soon");
        served.stop();
    });
}

/// An agent that sends a message of its own for each one, without a conversation.
fn writes_to(next: &'static str) -> impl Agent {
    on(move |message, context| {
        let on = Message::builder(Performative::Inform).receiver(next).content(message.content().clone());
        context.send(on.build().expect("it is valid")).expect("there is room");
        Outcome::Done
    })
}

#[test]
fn a_trace_goes_on_through_agents_and_replies() {
    const CONTEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let has_trace = |arrived: &Arrived| {
        let context = arrived.headers.lines().find_map(|line| line.strip_prefix("traceparent: "));
        assert!(context.is_some_and(|context| context[3..35] == CONTEXT[3..35]), "{}", arrived.headers);
    };
    bounded(move || {
        let served = Served::start(2, |_| {});
        served.router.blocking().register("relay", || writes_to("relay2")).expect("the agent is registered");
        served.router.blocking().register("relay2", || writes_to("oracle")).expect("the agent is registered");
        let (mut asker, mut oracle) = (served.client(), served.client());
        oracle.subscribe("agent.oracle", "1");
        asker.say("SUB _INBOX.a 2\r\n");
        asker.publish("agent.relay", "", &[("traceparent", CONTEXT)], "on");
        has_trace(&oracle.next());
        let whole = r#"{"performative":"inform","content":"because"}"#;
        for (headers, payload) in [(&[][..], "because"), (&[("Content-Type", "application/fipa-acl+json")], whole)] {
            asker.publish("agent.oracle", "_INBOX.a", &[("traceparent", CONTEXT)], "why?");
            let question = oracle.next();
            has_trace(&question);
            oracle.publish(&question.reply.expect("it asks"), "", headers, payload);
            let reply = asker.next();
            has_trace(&reply);
            assert_eq!(reply.payload, "because");
        }
        served.stop();
    });
}

#[test]
fn only_the_agent_that_was_asked_replies() {
    bounded(|| {
        let served = Served::start(2, |_| {});
        let (oracle, mallory) = (router_gets(&served, "oracle"), router_gets(&served, "mallory"));
        let mut asker = served.client();
        asker.subscribe("agent.pythia", "3");
        asker.say("SUB _INBOX.a 2\r\n");
        asker.publish("agent.oracle", "_INBOX.a", &[], "why?");
        let question = oracle.blocking().recv_within(PATIENCE).expect("it comes");
        let forged = Message::builder(Performative::Inform).receiver("pythia").content("forged");
        let forged = forged.in_reply_to(question.reply_with().expect("it asks"));
        mallory.blocking().send(forged.build().expect("it is valid")).expect("it is accepted");
        let forged = asker.next();
        assert_eq!((forged.subject.as_str(), forged.payload.as_str()), ("agent.pythia", "forged"));
        assert!(forged.headers.contains("Caxton-Sender: mallory"), "{}", forged.headers);
        let reply = question.reply(Performative::Inform).content("because");
        oracle.blocking().send(reply.build().expect("it is valid")).expect("it is accepted");
        let reply = asker.next();
        assert_eq!((reply.subject.as_str(), reply.payload.as_str()), ("_INBOX.a", "because"));
        let other = Served::start(1, |_| {});
        let number = |client: &Client| {
            let info: serde_json::Value = serde_json::from_str(&client.info).expect("it is JSON");
            info["client_id"].as_u64()
        };
        assert_ne!(number(&served.client()), number(&other.client()), "numbers do not begin anew");
        other.stop();
        served.stop();
    });
}

#[test]
fn a_connection_replies_as_an_agent_that_it_still_has() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let (mut asker, mut oracle) = (served.client(), served.client());
        oracle.subscribe("agent.oracle", "1");
        asker.publish("agent.oracle", "_INBOX.a", &[], "why?");
        let question = oracle.next();
        oracle.say("UNSUB 1\r\n");
        oracle.publish(&question.reply.expect("it asks"), "", &[], "because");
        let refused = oracle.line();
        assert!(refused.contains("has given up the agent that was asked"), "{refused}");
        served.stop();
    });
}

#[test]
fn nobody_to_answer_is_told_as_in_nats() {
    bounded(|| {
        let served = Served::start(2, |_| {});
        let mut client = served.client();
        client.say("SUB _INBOX.me.* 1\r\n");
        for subject in ["agent.nobody", "capability.nothing", "route", "$JS.API.INFO", "foo.bar", "_R.1.99"] {
            client.publish(subject, "_INBOX.me.1", &[], "x");
            let refused = client.next();
            assert!(refused.headers.starts_with("NATS/1.0 503\r\n"), "{subject}: {}", refused.headers);
            assert_eq!(refused.payload, "", "{subject}");
        }
        let mut simple = Client::open(served.address);
        simple.say("CONNECT {\"verbose\":false}\r\nSUB _INBOX.1 1\r\nPUB agent.nobody _INBOX.1 0\r\n\r\n");
        assert_eq!(simple.next().payload, "no agent with that name is registered");
        served.stop();
    });
}

#[test]
fn refusals_carry_the_reason() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let agent = || {
            on(|message, context| {
                let reply = context.reply(message, Performative::Refuse).content("not today").build();
                let _ = context.send(reply.expect("it is valid"));
                Outcome::Done
            })
        };
        served.router.blocking().register("refuser", agent).expect("the agent is registered");
        let mut client = served.client();
        client.say("SUB _INBOX.me 1\r\n");
        client.publish("agent.refuser", "_INBOX.me", &[], "please");
        let refused = client.next();
        for header in ["Nats-Service-Error-Code: 400", "Nats-Service-Error: not today", "Caxton-Performative: refuse"] {
            assert!(refused.headers.contains(header), "{}", refused.headers);
        }
        client.publish("agent.refuser", "_INBOX.me", &[("Caxton-Priority", "very")], "please");
        let refused = client.next();
        assert!(refused.headers.contains("Caxton-Reason: invalid-header"), "{}", refused.headers);
        client.publish("agent.refuser", "_INBOX.me", &[("Caxton-Reliability", "durable")], "please");
        let refused = client.next();
        assert!(refused.headers.contains("Caxton-Reason: durability-unavailable"), "{}", refused.headers);
        client.publish("agent.refuser", "_INBOX.me", &[("Nats-Msg-Id", "7")], "please");
        let refused = client.next();
        assert!(refused.headers.contains("Nats-Msg-Id: subscribe to agent.NAME first"), "{}", refused.headers);
        client.publish("foo.bar", "", &[], "x");
        assert!(client.line().starts_with("-ERR 'Permissions Violation for Publish to \"foo.bar\""));
        client.settle();
        served.stop();
    });
}

#[test]
fn a_reply_subject_has_a_length_that_can_be_remembered() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let mut client = served.client();
        for _ in 0..2 {
            client.publish("agent.nobody", &format!("_INBOX.{}", "x".repeat(250)), &[], "x");
            assert!(client.line().contains("the reply subject is longer than 256 bytes"));
        }
        client.settle();
        served.stop();
    });
}

#[test]
fn a_reply_that_many_subscriptions_match_is_not_copied_without_limit() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        served.router.blocking().register("echo", echo).expect("the agent is registered");
        let mut client = served.client();
        for number in 0..1_000 {
            client.say(&format!("SUB _INBOX.> {number}\r\n"));
        }
        client.settle();
        client.publish("agent.echo", "_INBOX.1", &[], &"x".repeat(1_000_000));
        let mut read = Vec::new();
        client.stream.read_to_end(&mut read).expect("it is closed");
        assert!(read.len() < 30_000_000, "{} bytes", read.len());
        assert!(read.ends_with(b"-ERR 'Slow Consumer'\r\n") || read.len() > 1_000_000);
        served.client().settle();
        served.stop();
    });
}

#[test]
fn capabilities_are_subjects_too() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let opened = ["first", "second"].map(|name| {
            let inbox = served.router.inbox(name).offering(capability("stamp"));
            inbox.blocking().open().expect("the inbox is opened")
        });
        let mut client = served.client();
        client.publish("capability.stamp", "", &[("Caxton-Choice", Choice::All.as_str())], "x");
        for inbox in &opened {
            assert_eq!(text_of(&inbox.blocking().recv_within(PATIENCE).expect("it comes")), "x");
        }
        served.stop();
    });
}

/// Returns what the metrics say of a series.
fn counted(served: &Served, series: &str) -> u64 {
    let mut http = TcpStream::connect(served.doors.http_address().expect("it listens")).expect("it listens");
    http.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it is read");
    let mut reply = String::new();
    http.read_to_string(&mut reply).expect("it is text");
    let line = reply.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0, |value| value.trim().parse().expect("a number"))
}

#[test]
fn what_clients_do_and_what_is_refused_or_dropped_is_counted() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        served.router.blocking().register("echo", echo).expect("the agent is registered");
        let mut client = served.client();
        client.say("SUB _INBOX.1 1\r\n");
        client.publish("agent.echo", "_INBOX.1", &[], "12345");
        assert_eq!(client.next().payload, "12345");
        client.publish("agent.nobody", "_INBOX.1", &[], "");
        client.next();
        client.publish("nothing", "_INBOX.1", &[], "");
        client.next();
        client.say("SUB nothing 2\r\n");
        client.line();
        // No subscription has this subject.
        client.publish("agent.echo", "_INBOX.2", &[], "");
        let is = |series: &str, count: u64| wait_until(series, || counted(&served, series) == count);
        is("caxton_nats_replies_dropped_total{reason=\"no-subscription\"}", 1);
        is("caxton_nats_connections", 1);
        is("caxton_nats_messages_total{direction=\"in\"}", 4);
        is("caxton_nats_messages_total{direction=\"out\"}", 3);
        is("caxton_nats_traffic_bytes_total{direction=\"in\"}", 5);
        is("caxton_nats_refused_total{reason=\"no-responders\"}", 1);
        is("caxton_nats_refused_total{reason=\"subscription\"}", 1);
        client.say("NONSENSE\r\n");
        is("caxton_nats_connections_closed_total{reason=\"protocol-error\"}", 1);
        is("caxton_nats_connections", 0);
        served.stop();
    });
}
