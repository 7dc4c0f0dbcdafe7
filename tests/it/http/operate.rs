//! What operators do: conversations, dead letters with their audit, routes, figures, events and backups.

use serde_json::{Value, json};

use super::Served;
use crate::common::{bounded, silent};
use crate::edge::wait_until;

#[test]
pub fn a_conversation_is_shown_while_it_is_open() {
    bounded(|| {
        let served = Served::start();
        served.register("seller", silent);
        let mut client = served.client();
        client.json("PUT", "/v1/agents/buyer", &json!({})).expect(201);
        let request = json!({
            "performative": "request", "sender": "buyer", "receiver": ["seller"], "content": "tea",
            "protocol": "fipa-request", "conversation-id": "deal-1", "reply-with": "r-1",
        });
        client.post("/v1/messages", &request).expect(202);
        let conversation = client.get("/v1/agents/buyer/conversations/deal-1").expect(200);
        assert_eq!((&conversation["initiator"], &conversation["messages"]), (&"buyer".into(), &1.into()));
        assert_eq!(conversation["participants"], json!(["buyer", "seller"]));
        let step = &conversation["history"][0];
        assert_eq!(
            (&step["performative"], &step["from"], &step["to"]),
            (&"request".into(), &"buyer".into(), &"seller".into())
        );
        client.get("/v1/agents/buyer/conversations/deal-2").problem(404, "unknown-conversation");
        client.get("/v1/agents/seller/conversations/deal-1").problem(404, "unknown-conversation");
        served.stop();
    });
}

#[test]
pub fn open_conversations_are_listed_page_by_page() {
    bounded(|| {
        let served = Served::start();
        served.register("seller", silent);
        let mut client = served.client();
        for buyer in ["ann", "bob"] {
            client.json("PUT", &format!("/v1/agents/{buyer}"), &json!({})).expect(201);
            for number in 0..3 {
                let request = json!({
                    "performative": if number == 0 { "query-ref" } else { "request" }, "sender": buyer,
                    "receiver": ["seller"], "protocol": if number == 0 { "fipa-query" } else { "fipa-request" },
                    "conversation-id": format!("{buyer}-{number}"), "reply-with": "r",
                });
                client.post("/v1/messages", &request).expect(202);
            }
        }
        let mut listed = |query: &str| {
            let (mut found, mut path) = (Vec::new(), format!("/v1/conversations?limit=2&{query}"));
            loop {
                let page = client.get(&path).expect(200);
                let conversations = page["conversations"].as_array().expect("it is a list").clone();
                assert!(conversations.len() <= 2);
                found.extend(conversations);
                let Some(next) = page["next"].as_str() else { return found };
                path = format!("/v1/conversations?limit=2&{query}&cursor={next}");
            }
        };
        assert_eq!((listed("").len(), listed("agent=seller").len(), listed("agent=nobody").len()), (6, 6, 0));
        assert_eq!((listed("protocol=fipa-request").len(), listed("state=requested").len()), (4, 4));
        let query = listed("agent=bob&protocol=fipa-query");
        assert_eq!(query.len(), 1, "{query:?}");
        assert_eq!((&query[0]["initiator"], &query[0]["participants"]), (&"bob".into(), &json!(["bob", "seller"])));
        assert_eq!((&query[0]["messages"], &query[0]["protocol"]), (&1.into(), &"fipa-query".into()));
        // What the list shows is shown by its id.
        let id = query[0]["id"].as_str().expect("it has an id");
        client.get(&format!("/v1/agents/bob/conversations/{id}")).expect(200);
        client.get("/v1/conversations?cursor=x").problem(400, "bad-parameter");
        client.get("/v1/conversations?by=bob").problem(400, "bad-parameter");
        served.stop();
    });
}

#[test]
fn the_file_of_the_audit_may_be_moved_away() {
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let (audit, moved) = (directory.path().join("audit.jsonl"), directory.path().join("audit.1"));
        let file = audit.clone();
        let served = Served::with(|config| config.doors.audit = file.into());
        let mut client = served.client();
        let mut purge = || client.request("DELETE", "/v1/dead-letters?all=true", "", "").expect(200);
        let lines = |path| std::fs::read_to_string(path).expect("it is written").lines().count();
        purge();
        std::fs::rename(&audit, &moved).expect("it is moved");
        purge();
        served.doors.reload(served.router.config()).expect("it can be opened");
        assert_eq!((lines(&moved), lines(&audit)), (2, 0), "what was noted before is in the former file");
        purge();
        let mut elsewhere = served.router.config().clone();
        elsewhere.doors.audit = directory.path().join("nowhere/audit.jsonl").into();
        let error = served.doors.reload(&elsewhere).expect_err("there is no such directory");
        assert!(error.to_string().starts_with("doors.audit: "), "{error}");
        purge();
        served.stop();
        assert_eq!((lines(&moved), lines(&audit)), (2, 2), "a mistake changes nothing");
    });
}

#[test]
pub fn dead_letters_are_found_replayed_and_purged_and_each_change_is_audited() {
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let audit = directory.path().join("audit.jsonl");
        let file = audit.clone();
        let served = Served::with(|config| config.doors.audit = file.into());
        let mut client = served.client();
        for number in 1..=5 {
            let receiver = if number % 2 == 0 { "even" } else { "odd" };
            let message = json!({"performative": "inform", "receiver": [receiver], "content": number.to_string()});
            client.post("/v1/messages?wait=receipt", &message).problem(422, "unknown-receiver");
        }
        let page = client.get("/v1/dead-letters?receiver=odd&limit=2&reason=unknown-receiver").expect(200);
        let letters = page["dead_letters"].as_array().expect("it is a list");
        assert_eq!(letters.len(), 2);
        assert_eq!((&letters[0]["receiver"], &letters[0]["performative"]), (&"odd".into(), &"inform".into()));
        let next = page["next"].as_str().expect("there is more");
        let rest = client.get(&format!("/v1/dead-letters?receiver=odd&limit=2&cursor={next}")).expect(200);
        assert_eq!(rest["dead_letters"].as_array().expect("it is a list").len(), 1);
        let id = letters[0]["id"].as_str().expect("it has an id").to_owned();
        let letter = client.get(&format!("/v1/dead-letters/{id}")).expect(200);
        assert_eq!(letter["message"]["receiver"], json!(["odd"]));
        client.request("POST", &format!("/v1/dead-letters/{id}/replay"), "", "").problem(409, "not-replayed");
        served.register("odd", silent);
        served.register("other", silent);
        let replayed = client.request("POST", &format!("/v1/dead-letters/{id}/replay"), "", "").expect(200);
        assert!(replayed["message"].as_str().is_some_and(|id| id.starts_with('m')), "{replayed}");
        client.get(&format!("/v1/dead-letters/{id}")).problem(404, "unknown-dead-letter");
        let summary = client.request("POST", "/v1/dead-letters/replay?receiver=odd&to=other", "", "").expect(200);
        assert_eq!((&summary["replayed"], &summary["refused"]), (&2.into(), &0.into()));
        client.request("POST", "/v1/dead-letters/replay", "", "").problem(400, "filter-missing");
        client.request("DELETE", "/v1/dead-letters", "", "").problem(400, "filter-missing");
        let left = client.get("/v1/dead-letters?performative=inform&since=0&until=9999-01-01T00:00:00Z").expect(200);
        let id = left["dead_letters"][0]["id"].as_str().expect("it has an id").to_owned();
        client.request("DELETE", &format!("/v1/dead-letters/{id}"), "", "").expect(204);
        client.request("DELETE", &format!("/v1/dead-letters/{id}"), "", "").problem(404, "unknown-dead-letter");
        assert_eq!(client.request("DELETE", "/v1/dead-letters?all=true", "", "").expect(200)["purged"], 1);
        for (path, reason) in [
            ("/v1/dead-letters?reason=sulking", "bad-parameter"),
            ("/v1/dead-letters?since=soon", "bad-parameter"),
            ("/v1/dead-letters?cursor=x", "bad-parameter"),
            ("/v1/dead-letters/x", "bad-parameter"),
        ] {
            client.get(path).problem(400, reason);
        }
        served.stop();
        let text = std::fs::read_to_string(audit).expect("it is written");
        let entries: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
        let brief: Vec<_> = entries
            .iter()
            .map(|entry| format!("{} {} {}", entry["operation"], entry["identity"], entry["outcome"]).replace('"', ""))
            .collect();
        assert_eq!(
            brief,
            [
                "dead-letters.replay local not-replayed",
                "dead-letters.replay local done",
                "dead-letters.replay local done",
                "dead-letters.purge local done",
                "dead-letters.purge local unknown-dead-letter",
                "dead-letters.purge local done",
            ]
        );
        assert_eq!(
            (&entries[2]["subject"], &entries[2]["result"]["replayed"]),
            (&"receiver=odd to=other".into(), &2.into())
        );
    });
}

#[test]
pub fn a_dry_run_says_where_a_message_would_go() {
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let rules = directory.path().join("rules.toml");
        std::fs::write(&rules, "[orders]\nontology = 'trading'\nto_capability = 'orders'\n")
            .expect("it can be written");
        let files = rules.display().to_string();
        let served = Served::with(|config| config.set("rules.files", &files, "this test").expect("it is legal"));
        let mut client = served.client();
        client.json("PUT", "/v1/agents/broker", &json!({"capabilities": ["orders"]})).expect(201);
        let route = client.post("/v1/route", &json!({"performative": "request", "ontology": "trading"})).expect(200);
        assert_eq!(route["rule"], json!({"number": 1, "to_capability": "orders"}));
        assert_eq!(route["capability"]["name"], "orders");
        let receiver = &route["receivers"][0];
        assert_eq!((&receiver["name"], &receiver["outcome"]), (&"broker".into(), &"delivered".into()));
        let none = client.post("/v1/route", &json!({"performative": "request", "ontology": "other"})).expect(200);
        assert_eq!((&none["dead_letter"], &none["receivers"]), (&"no-route".into(), &json!([])));
        let unknown = client.post("/v1/route", &json!({"performative": "inform", "receiver": ["nobody"]})).expect(200);
        assert_eq!(unknown["receivers"][0]["outcome"], "unknown-receiver");
        let capable = json!({"performative": "inform", "X-caxton-capability": "flying"});
        assert_eq!(client.post("/v1/route", &capable).expect(200)["dead_letter"], "no-provider");
        assert_eq!(client.get("/v1/stats").expect(200)["account"]["accepted"], 0, "nothing was sent");
        served.stop();
    });
}

#[test]
pub fn figures_and_events_say_what_happens() {
    bounded(|| {
        let served = Served::start();
        let (mut client, mut other) = (served.client(), served.client());
        client.send("GET", "/v1/events", "", b"");
        assert_eq!(client.read_head().0, 200);
        assert_eq!(client.chunk(), ": subscribed\n\n");
        served.register("worker", silent);
        let message = json!({"performative": "inform", "receiver": ["nobody"]});
        other.post("/v1/messages?wait=receipt", &message).problem(422, "unknown-receiver");
        let mut heard = String::new();
        while !(heard.contains("event: agent-registered") && heard.contains("event: dead-lettered")) {
            heard.push_str(&client.chunk());
        }
        assert!(heard.contains("\"agent\":\"worker\"") && heard.contains("\"reason\":\"unknown-receiver\""), "{heard}");
        let stats = other.get("/v1/stats").expect(200);
        assert_eq!((&stats["agents"], &stats["dead_letters"]), (&1.into(), &1.into()));
        assert_eq!(stats["account"]["dead_lettered_by_reason"], json!({"unknown-receiver": 1}));
        assert_eq!(stats["shards"].as_array().map(Vec::len), Some(2));
        assert!(stats["latencies"]["end_to_end"]["buckets"].is_array() && stats["journal"].is_null(), "{stats}");
        // What shards give on request is there at a later look.
        wait_until("the shards have given their lanes", || {
            let stats = other.get("/v1/stats").expect(200);
            let lanes = stats["lanes"].as_array().expect("it is a list").clone();
            let ends: Vec<_> = lanes.iter().map(|lane| (lane["from"].as_u64(), lane["to"].as_u64())).collect();
            ends == [(Some(0), Some(1)), (Some(1), Some(0))] && lanes.iter().all(|lane| lane["credits_max"] != 0)
        });
        drop(client);
        served.stop();
    });
}

#[test]
pub fn a_backup_is_made_while_the_router_runs() {
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let (data, backups) = (directory.path().join("data"), directory.path().join("backups"));
        std::fs::create_dir(&backups).expect("it can be made");
        let to = backups.clone();
        let served = Served::with(|config| {
            config.store.directory = data.into();
            config.doors.backups = to.into();
        });
        let mut client = served.client();
        client.json("PUT", "/v1/agents/keeper", &json!({"persistent": true, "acknowledged": true})).expect(201);
        let message = json!({"performative": "inform", "receiver": ["keeper"], "X-caxton-reliability": "durable"});
        client.post("/v1/messages", &message).expect(202);
        let journal = client.get("/v1/stats").expect(200)["journal"].clone();
        assert!(journal["commits"].as_u64() > Some(0) && journal["journal_bytes"].as_u64() > Some(0), "{journal}");
        assert_eq!(journal["refusing_shards"], json!([]));
        let backup = client.post("/v1/backup", &json!({"name": "first"})).expect(201);
        assert_eq!((&backup["messages"], &backup["agents"]), (&1.into(), &1.into()));
        assert!(backups.join("first").is_dir());
        client.post("/v1/backup", &json!({"name": "first"})).problem(409, "backup-failed");
        client.post("/v1/backup", &json!({"name": "../first"})).problem(422, "bad-document");
        served.doors.close();
        served.router.shutdown(crate::common::PATIENCE).expect("this is no shard's thread");
        let plain = Served::start();
        plain.client().post("/v1/backup", &json!({"name": "x"})).problem(409, "backups-not-configured");
        plain.stop();
    });
}

#[test]
pub fn a_router_in_no_cluster_shows_none() {
    bounded(|| {
        let served = Served::start();
        served.client().get("/v1/cluster").problem(404, "no-cluster");
        served.stop();
    });
}
