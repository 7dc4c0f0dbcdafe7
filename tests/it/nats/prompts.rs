//! The Synadia Agent Protocol: agents that can be prompted, as its callers see them.

use caxton_router::agent::Registration;
use caxton_router::{AgentId, Outcome, Performative};
use serde_json::{Value, json};

use super::{Client, Served};
use crate::common::{bounded, echo, on, text_of};

const ORACLE: &str = "agents.prompt.caxton.router.oracle";

/// A router with an agent that can be prompted, and a client that gets all replies.
fn with_oracle() -> (Served, Client) {
    let served = Served::start(2, |_| {});
    let oracle = Registration::native("oracle", echo).offering("prompt");
    served.router.blocking().register_one(oracle).expect("the agent is registered");
    served.router.blocking().register("other", echo).expect("the agent is registered");
    let mut client = served.client();
    client.subscribe("_INBOX.>", "1");
    (served, client)
}

fn in_json(payload: &str) -> Value {
    serde_json::from_str(payload).expect("it is JSON")
}

#[test]
fn an_agent_is_described_with_its_status_and_its_figures() {
    bounded(|| {
        let (served, mut client) = with_oracle();
        let mut asked = |subject: &str| {
            client.publish(subject, "_INBOX.srv", &[], "");
            in_json(&client.next().payload)
        };
        let info = asked("$SRV.INFO.agents");
        let id = AgentId::of_text("oracle").to_string();
        let metadata = json!({"agent": "caxton", "owner": "router", "session": "oracle", "protocol_version": "0.3"});
        assert_eq!((&info["id"], &info["metadata"]), (&json!(id), &metadata));
        let endpoints = info["endpoints"].as_array().expect("it has endpoints");
        assert_eq!((&endpoints[0]["subject"], &endpoints[1]["name"]), (&json!(ORACLE), &json!("status")));
        let status = asked(endpoints[1]["subject"].as_str().expect("it has one"));
        let of_status = ["agent", "owner", "session", "instance_id", "interval_s"].map(|name| status[name].clone());
        assert_eq!(of_status, [json!("caxton"), json!("router"), json!("oracle"), json!(id), json!(30)]);
        assert!(status["ts"].as_str().is_some_and(|time| time.ends_with('Z')), "{status}");
        assert_eq!(asked("$SRV.PING")["type"], "io.nats.micro.v1.ping_response");
        assert_eq!(asked("$SRV.STATS.agents")["endpoints"][0]["num_requests"], 0);
        client.publish(ORACLE, "_INBOX.prompt", &[], "why?");
        let chunks = [client.next().payload, client.next().payload, client.next().payload];
        assert_eq!(chunks[0], "{\"type\":\"status\",\"data\":\"ack\"}");
        assert_eq!((&in_json(&chunks[1])["data"], chunks[2].as_str()), (&json!("why?"), ""));
        client.publish(&format!("$SRV.STATS.agents.{id}"), "_INBOX.srv", &[], "");
        let counted = in_json(&client.next().payload);
        let endpoint = &counted["endpoints"][0];
        assert_eq!((&endpoint["num_requests"], &endpoint["num_errors"]), (&json!(1), &json!(0)));
        assert!(endpoint["processing_time"].as_u64().is_some_and(|time_ns| time_ns > 0), "{counted}");
        for nobody in ["agents.status.caxton.router.other", "agents.status.caxton.router.nobody"] {
            client.publish(nobody, "_INBOX.srv", &[], "");
            assert!(client.next().headers.starts_with("NATS/1.0 503"), "{nobody}");
        }
        served.stop();
    });
}

#[test]
fn an_error_ends_the_reply_to_a_prompt_and_is_counted() {
    bounded(|| {
        let (served, mut client) = with_oracle();
        let grumpy = || {
            on(|message, context| {
                let refusal = context.reply(message, Performative::Refuse).content(format!("no {}", text_of(message)));
                let _ = context.send(refusal.build().expect("it is valid"));
                Outcome::Done
            })
        };
        let grumpy = Registration::native("grumpy", grumpy).offering("prompt");
        let id = served.router.blocking().register_one(grumpy).expect("the agent is registered");
        client.publish("agents.prompt.caxton.router.grumpy", "_INBOX.prompt", &[], "tea");
        let chunks = [client.next(), client.next(), client.next()];
        assert!(chunks[1].headers.contains("Nats-Service-Error-Code: 400\r\n"), "{}", chunks[1].headers);
        assert_eq!(
            (chunks[1].payload.as_str(), chunks[2].headers.as_str(), chunks[2].payload.as_str()),
            ("no tea", "", "")
        );
        client.publish(&format!("$SRV.STATS.agents.{id}"), "_INBOX.srv", &[], "");
        let endpoint = in_json(&client.next().payload)["endpoints"][0].clone();
        assert_eq!((&endpoint["num_errors"], &endpoint["last_error"]), (&json!(1), &json!("no tea")));
        // What is no prompt is not passed on.
        client.publish(ORACLE, "_INBOX.prompt", &[], "");
        let chunks = [client.next(), client.next()];
        assert!(chunks[0].headers.contains("Nats-Service-Error-Code: 400\r\n"), "{}", chunks[0].headers);
        assert_eq!((chunks[1].headers.as_str(), chunks[1].payload.as_str()), ("", ""));
        served.stop();
    });
}

#[test]
fn every_subscriber_gets_heartbeats_at_once() {
    bounded(|| {
        let (served, mut first) = with_oracle();
        let mut second = served.client();
        for client in [&mut first, &mut second] {
            client.say("SUB agents.hb.*.*.* 2\r\n");
            let beat = client.next();
            assert_eq!(beat.subject, "agents.hb.caxton.router.oracle");
            let beat = in_json(&beat.payload);
            let id = AgentId::of_text("oracle").to_string();
            assert_eq!((&beat["instance_id"], &beat["session"]), (&json!(id), &json!("oracle")));
        }
        first.settle();
        served.stop();
    });
}
