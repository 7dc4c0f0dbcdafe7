//! Agents: listing, registering and controlling them.

use std::time::{Duration, Instant};

use caxton_router::AgentId;
use caxton_router::agent::Registration;
use caxton_router::dead_letter::DeadLetterReason;
use serde_json::json;

use super::Served;
use super::receive::begin_stream;
use crate::common::{PATIENCE, bounded, hold_up, name_on, silent};

#[test]
pub fn agents_are_listed_page_by_page() {
    bounded(|| {
        let served = Served::start();
        for number in 0..7 {
            served.register(&format!("agent-{number}"), silent);
        }
        let mut client = served.client();
        let (mut names, mut path) = (Vec::new(), "/v1/agents?limit=2".to_owned());
        loop {
            let page = client.get(&path).expect(200);
            let agents = page["agents"].as_array().expect("it is a list").clone();
            assert!(agents.len() <= 2);
            names.extend(agents.iter().map(|agent| agent["name"].as_str().expect("it has a name").to_owned()));
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/v1/agents?limit=2&cursor={next}");
        }
        names.retain(|name| name.starts_with("agent-"));
        names.sort_unstable();
        assert_eq!(names, (0..7).map(|number| format!("agent-{number}")).collect::<Vec<_>>());
        client.get("/v1/agents?cursor=x").problem(400, "bad-parameter");
        client.get("/v1/agents?limit=0").problem(400, "bad-parameter");
        served.stop();
    });
}

#[test]
pub fn agents_are_listed_by_name_capability_shard_state_and_kind() {
    bounded(|| {
        let served = Served::start();
        for name in ["seller-1", "seller-2", "buyer"] {
            served.register(name, silent);
        }
        let mut client = served.client();
        client.json("PUT", "/v1/agents/clerk", &json!({"capabilities": ["listed.filing"]})).expect(201);
        let _inbox = served.router.inbox("box").blocking().open().expect("it is opened");
        client.request("POST", "/v1/agents/buyer/suspend", "", "").expect(200);
        let mut listed = |query: &str| -> Vec<String> {
            let page = client.get(&format!("/v1/agents?{query}")).expect(200);
            assert!(page["next"].is_null(), "{page}");
            let agents = page["agents"].as_array().expect("it is a list");
            let mut names: Vec<_> =
                agents.iter().map(|agent| agent["name"].as_str().expect("it has a name").to_owned()).collect();
            names.sort_unstable();
            names
        };
        assert_eq!(listed("prefix=seller-"), ["seller-1", "seller-2"]);
        assert_eq!(listed("prefix=seller-&state=suspended"), Vec::<String>::new());
        assert_eq!(listed("capability=listed.filing"), ["clerk"]);
        assert_eq!(listed("capability=listed.nothing"), Vec::<String>::new());
        assert_eq!(listed("state=suspended"), ["buyer"]);
        assert_eq!(listed("kind=outside"), ["clerk"]);
        assert_eq!(listed("kind=inbox"), ["box"]);
        let handlers = listed("kind=handler");
        assert!(["buyer", "seller-1", "seller-2"].iter().all(|name| handlers.iter().any(|known| known == name)));
        let both = [listed("shard=0&prefix=seller-"), listed("shard=1&prefix=seller-")].concat();
        assert_eq!((both.len(), listed("shard=2").len()), (2, 0));
        for query in ["state=sulking", "kind=odd", "shard=x", "shard=65536", "capability="] {
            client.get(&format!("/v1/agents?{query}")).problem(400, "bad-parameter");
        }
        served.stop();
    });
}

#[test]
pub fn an_outside_agent_is_registered_shown_and_deregistered() {
    bounded(|| {
        let served = Served::start();
        let mut client = served.client();
        let mut options =
            json!({"capabilities": ["stamping", "filing"], "acknowledged": true, "overflow": "back-pressure"});
        let agent = client.json("PUT", "/v1/agents/clerk%40shop", &options).expect(201);
        assert_eq!((&agent["name"], &agent["state"]), (&"clerk@shop".into(), &"active".into()));
        assert_eq!((&agent["overflow"], &agent["outside"]["acknowledged"]), (&"back-pressure".into(), &true.into()));
        assert_eq!(agent["outside"]["owner"], "local");
        options["capabilities"] = json!(["filing", "stamping"]);
        client.json("PUT", "/v1/agents/clerk@shop", &options).expect(200);
        client.request("PUT", "/v1/agents/clerk@shop", "", "").problem(409, "other-mode");
        client.json("PUT", "/v1/agents/clerk@shop", &json!({"acknowledged": true})).expect(200);
        for (option, value) in
            [("capabilities", json!(["filing"])), ("persistent", json!(true)), ("overflow", json!("reject"))]
        {
            let other = json!({"acknowledged": true, option: value});
            client.json("PUT", "/v1/agents/clerk@shop", &other).problem(409, "other-options");
        }
        let providers = client.get("/v1/capabilities/stamping").expect(200);
        assert_eq!(providers["agents"], json!(["clerk@shop"]));
        assert_eq!(client.get("/v1/capabilities/flying").expect(200)["agents"], json!([]));
        client.request("DELETE", "/v1/agents/clerk@shop", "", "").expect(204);
        let agent = client.get("/v1/agents/clerk@shop").expect(200);
        assert_eq!((&agent["state"], &agent["outside"]), (&"stopped".into(), &json!(null)));
        client.request("DELETE", "/v1/agents/clerk@shop", "", "").problem(404, "unknown-agent");
        client.json("PUT", "/v1/agents/clerk@shop", &json!({})).expect(201);
        client.get("/v1/agents/nobody").problem(404, "unknown-agent");
        client.json("PUT", "/v1/agents/a", &json!({"colour": 1})).problem(400, "bad-document");
        client.json("PUT", "/v1/agents/a", &json!({"overflow": "explode"})).problem(422, "bad-document");
        client.json("PUT", "/v1/agents/a", &json!({"capabilities": [""]})).problem(422, "invalid-name");
        client.json("PUT", "/v1/agents/ams", &json!({})).problem(422, "reserved");
        client.json("PUT", &format!("/v1/agents/{}", "x".repeat(600)), &json!({})).problem(400, "bad-parameter");
        served.register("native", silent);
        client.json("PUT", "/v1/agents/native", &json!({})).problem(409, "duplicate");
        served.stop();
    });
}

#[test]
pub fn agents_are_suspended_resumed_and_drained() {
    bounded(|| {
        let served = Served::start();
        served.register("worker", silent);
        let mut client = served.client();
        assert_eq!(client.request("POST", "/v1/agents/worker/suspend", "", "").expect(200)["state"], "suspended");
        assert_eq!(client.request("POST", "/v1/agents/worker/resume", "", "").expect(200)["state"], "active");
        assert_eq!(client.request("POST", "/v1/agents/worker/drain?deadline_ms=5000", "", "").expect(200)["left"], 0);
        for change in ["suspend", "resume", "drain"] {
            let path = format!("/v1/agents/worker/{change}");
            client.request("POST", &path, "", "").problem(404, "unknown-agent");
        }
        served.register("other", silent);
        client.request("DELETE", "/v1/agents/other", "", "").expect(204);
        client.request("DELETE", "/v1/agents/ams", "", "").problem(409, "reserved");
        served.stop();
    });
}

#[test]
fn an_outside_agent_that_is_drained_is_gone_and_what_it_has_not_acknowledged_is_left() {
    bounded(|| {
        let served = Served::start();
        let (mut client, mut stream) = (served.client(), served.client());
        client.json("PUT", "/v1/agents/clerk", &json!({"acknowledged": true})).expect(201);
        begin_stream(&mut stream, "/v1/agents/clerk/stream");
        client.post("/v1/messages", &json!({"performative": "inform", "receiver": ["clerk"]})).expect(202);
        while !stream.chunk().contains("data: ") {}
        let drained = client.request("POST", "/v1/agents/clerk/drain?deadline_ms=0", "", "").expect(200);
        assert_eq!(drained["left"], 1);
        let mut last = stream.chunk();
        while !last.contains("event: end") {
            last = stream.chunk();
        }
        let letters = served.router.blocking().dead_letters(10).expect("it runs");
        assert_eq!(letters.iter().map(|letter| letter.reason).collect::<Vec<_>>(), [DeadLetterReason::DrainDeadline]);
        // The name is free, also if the program that embeds the router has drained it.
        for _ in 0..2 {
            assert_eq!(client.get("/v1/agents/clerk").expect(200)["outside"], json!(null));
            client.json("PUT", "/v1/agents/clerk", &json!({})).expect(201);
            let drained = served.router.blocking().drain(AgentId::of_text("clerk"), PATIENCE);
            assert_eq!(drained.expect("it is drained").left, 0);
        }
        served.stop();
    });
}

#[test]
fn the_names_of_many_providers_on_a_blocked_shard_are_waited_for_once() {
    bounded(|| {
        // One after the other, they would be waited for three times as long as this.
        const PROVIDERS: usize = 100;
        const SOON: Duration = Duration::from_secs(7);
        let served =
            Served::with(|config| config.set("router.call_timeout_ms", "2000", "this test").expect("it is legal"));
        let name = |shard, number| name_on(&served.router, shard, &format!("provider-{number}"));
        let names: Vec<_> = (0..PROVIDERS).map(|number| name(1, number)).chain([name(0, PROVIDERS)]).collect();
        let registrations =
            names.iter().map(|name| Registration::native(name.clone(), silent).offering("sums")).collect();
        let patient = served.router.within(PATIENCE);
        for registered in patient.blocking().register_all(registrations) {
            registered.expect("it is registered");
        }
        let barrier = hold_up(&patient, 1);
        let mut client = served.client();
        let (found, took) = loop {
            let began = Instant::now();
            let response = client.get("/v1/capabilities/sums");
            if response.status == 200 {
                break (response, began.elapsed());
            }
            // Any shard can be asked for the providers. Another call makes it the other one's turn.
            client.get(&format!("/v1/agents/{}", names[PROVIDERS])).expect(200);
        };
        let found = found.json()["agents"].as_array().expect("it is a list").clone();
        assert_eq!(found.len(), names.len());
        let with_name = found.iter().filter(|shown| names.iter().any(|name| **shown == name.as_str())).count();
        assert_eq!(with_name, 1, "the agent of the shard that responds has its name: {found:?}");
        assert!(took < SOON, "{took:?}");
        barrier.open();
        served.stop();
    });
}
