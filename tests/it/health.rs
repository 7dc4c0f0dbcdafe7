//! Health: what is wrong shows by name and clears by itself, in the program, over HTTP and for `caxton health`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use caxton_router::health::{Phase, Status};
use caxton_router::{Outcome, Router};

use crate::common::{PATIENCE, bounded, hold_up, message_to, name_on, on, shutdown, silent, start, start_with};
use crate::edge::{address_of, get, listening, wait_until};

fn status(router: &Router, component: &str) -> Status {
    let health = router.health();
    health.component(component).unwrap_or_else(|| panic!("there is no {component}: {health:?}")).status()
}

/// Waits until what is served says this of a part. Returns its reason.
fn wait_for(router: &Router, component: &str, wanted: &str) -> String {
    wait_for_why(router, component, wanted, "")
}

/// The same, with a reason that contains this text: details may be a little older than the status.
fn wait_for_why(router: &Router, component: &str, wanted: &str, because: &str) -> String {
    let mut why = String::new();
    wait_until(&format!("{component} is {wanted}: {because}"), || {
        let (_, body) = get(address_of(router), "/healthz");
        let health: serde_json::Value = serde_json::from_str(&body).expect("it is JSON");
        let parts = health["components"].as_array().expect("there are parts").clone();
        let part = parts.into_iter().find(|part| part["name"] == component).expect("the part is there");
        part["why"].as_str().unwrap_or_default().clone_into(&mut why);
        part["status"] == wanted && why.contains(because)
    });
    why
}

#[test]
fn a_router_that_works_is_healthy_live_and_ready() {
    bounded(|| {
        let router = start_with(2, listening);
        let health = router.health();
        assert_eq!((health.status(), health.phase()), (Status::Healthy, Phase::Running), "{health}");
        assert!(health.is_live() && health.is_ready());
        for name in ["shard-0", "shard-1", "rings", "memory", "breakers", "telemetry", "edge"] {
            assert_eq!(status(&router, name), Status::Healthy, "{name}");
        }
        assert_eq!(get(address_of(&router), "/healthz").0, 200);
        shutdown(&router);
        let health = router.health();
        assert!(health.phase() == Phase::Stopped && !health.is_ready() && health.is_live(), "{health}");
    });
}

#[test]
fn a_blocked_shard_is_degraded_by_the_agents_name_and_clears_by_itself() {
    bounded(|| {
        let router = start_with(2, listening);
        let barrier = hold_up(&router, 1);
        let why = wait_for(&router, "shard-1", "degraded");
        let agent = name_on(&router, 1, "blocker").to_string();
        assert!(why.contains(&format!("{agent:?}")) && why.contains("has not returned"), "{why}");
        assert_eq!(status(&router, "shard-0"), Status::Healthy);
        let health = router.health();
        let part = health.component("shard-1").expect("it is there");
        assert!(health.is_live() && part.why().is_some_and(|why| why.contains(&agent)));
        barrier.open();
        wait_for(&router, "shard-1", "healthy");
        assert!(router.health().component("shard-1").expect("it is there").why().is_none());
        shutdown(&router);
    });
}

#[test]
fn an_open_breaker_shows_and_clears() {
    bounded(|| {
        let router = start_with(1, |config| {
            listening(config);
            for (key, value) in [
                ("retry.attempts", "0"),
                ("breaker.failures", "3"),
                ("breaker.window_ms", "1 min"),
                ("breaker.open_ms", "50 ms"),
                ("breaker.open_ms_max", "50 ms"),
                ("breaker.probes", "1"),
            ] {
                config.set(key, value, "the test").expect("the setting is allowed");
            }
        });
        let unwell = Arc::new(AtomicBool::new(true));
        let switch = Arc::clone(&unwell);
        let agent = router.blocking().register(name_on(&router, 0, "agent"), move || {
            let unwell = Arc::clone(&switch);
            on(move |_, _| if unwell.load(Ordering::Relaxed) { Outcome::failed("unwell") } else { Outcome::Done })
        });
        let agent = agent.expect("it is registered");
        for _ in 0..3 {
            router.blocking().tell(message_to(agent, "x")).expect("the router runs");
        }
        let name = name_on(&router, 0, "agent").to_string();
        let why = wait_for_why(&router, "breakers", "degraded", &format!("{name:?}"));
        assert!(why.contains("1 agent is not called"), "{why}");
        assert!(get(address_of(&router), "/readyz").1.contains(&name));
        assert!(router.health().is_ready(), "the others can be called");
        unwell.store(false, Ordering::Relaxed);
        router.blocking().tell(message_to(agent, "x")).expect("the router runs");
        wait_for(&router, "breakers", "healthy");
        shutdown(&router);
    });
}

#[test]
fn a_draining_router_is_live_and_not_ready() {
    bounded(|| {
        let router = start_with(2, listening);
        let barrier = hold_up(&router, 0);
        let address = address_of(&router);
        let other = router.clone();
        let stop = std::thread::spawn(move || other.shutdown(PATIENCE).expect("this is no shard's thread"));
        wait_until("it drains", || get(address, "/readyz").0 == 503);
        assert_eq!(router.health().phase(), Phase::Draining);
        assert_eq!(get(address, "/livez").0, 200);
        barrier.open();
        assert!(stop.join().expect("it stops").balances());
    });
}

#[cfg(feature = "cli")]
mod command {
    use super::*;
    use crate::program::caxton;
    use std::process::Output;

    fn ask(arguments: &[&str]) -> Output {
        caxton().arg("health").args(arguments).output().expect("the program runs")
    }

    fn text(output: &Output) -> (Option<i32>, String, String) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    #[test]
    fn the_command_says_whether_a_router_is_ready() {
        bounded(|| {
            let router = start_with(1, listening);
            let address = address_of(&router);
            let url = format!("http://{address}");
            let (code, printed, _) = text(&ask(&[&url]));
            assert_eq!((code, printed.as_str()), (Some(0), "healthy, running\n"));
            let json: serde_json::Value = serde_json::from_str(&text(&ask(&[&url, "--json"])).1).expect("it is JSON");
            assert_eq!((&json["ready"], &json["status"]), (&true.into(), &"healthy".into()));
            assert_eq!(text(&ask(&[&format!("{url}/livez")])).0, Some(0));
            assert_eq!(text(&ask(&[&format!("{url}/nothing")])).0, Some(1));
            let setting = caxton().arg("health").env("CAXTON_METRICS_LISTEN", address.to_string()).output();
            assert_eq!(text(&setting.expect("it runs")).0, Some(0));
            let barrier = hold_up(&router, 0);
            wait_for(&router, "shard-0", "degraded");
            let (code, printed, _) = text(&ask(&[&url]));
            assert_eq!(code, Some(0));
            assert!(printed.starts_with("degraded, running\ndegraded  shard-0: a call of the agent"), "{printed}");
            let other = router.clone();
            let stop = std::thread::spawn(move || other.shutdown(PATIENCE).expect("this is no shard's thread"));
            wait_until("it drains", || text(&ask(&[&url])).0 == Some(1));
            barrier.open();
            stop.join().expect("it stops");
            let (code, _, complaint) = text(&ask(&[&url, "--timeout", "2"]));
            assert_eq!(code, Some(1));
            assert!(complaint.contains("no response"), "{complaint}");
        });
    }

    #[test]
    fn slow_agents_are_printed_as_a_table() {
        bounded(|| {
            let router = start_with(1, listening);
            let url = format!("http://{}", address_of(&router));
            let (code, printed, _) = text(&ask(&[&url, "--slow"]));
            assert_eq!((code, printed.as_str()), (Some(0), "no agent has waiting messages\n"));
            let slow = router.blocking().register("slow", silent).expect("it is registered");
            router.blocking().suspend(slow).expect("it is registered");
            router.blocking().send(message_to(slow, "x")).expect("it is accepted");
            wait_until("its message waits", || text(&ask(&[&url, "--slow"])).1.contains("suspended"));
            let (code, printed, _) = text(&ask(&[&url, "--slow", "1"]));
            let lines: Vec<Vec<&str>> = printed.lines().map(|line| line.split_whitespace().collect()).collect();
            assert_eq!((code, lines.len(), lines[1][2], lines[1].last()), (Some(0), 2, "1", Some(&"\"slow\"")));
            let json: serde_json::Value = serde_json::from_str(&text(&ask(&[&url, "--slow", "--json"])).1).unwrap();
            assert_eq!(json["agents"][0]["agent"], "slow");
            assert_eq!(text(&ask(&[&format!("{url}/livez"), "--slow"])).0, Some(2));
            assert_eq!(text(&ask(&[&url, "--slow", "0"])).0, Some(2));
            router.blocking().resume(slow).expect("it is registered");
            shutdown(&router);
        });
    }

    #[test]
    fn without_a_router_to_ask_the_arguments_are_at_fault() {
        let (code, _, complaint) = text(&ask(&[]));
        assert_eq!(code, Some(2));
        assert!(complaint.contains("metrics.listen names no port"), "{complaint}");
        assert_eq!(text(&ask(&["https://127.0.0.1:1"])).0, Some(2));
    }

    #[test]
    fn files_for_monitoring_are_printed() {
        let print = |what: &str| caxton().args(["config", what]).output().expect("the program runs");
        let (code, alerts, _) = text(&print("alerts"));
        assert!(code == Some(0) && alerts.contains("- alert: CaxtonShardBlocked"), "{alerts}");
        let dashboard = text(&print("dashboard")).1;
        assert!(serde_json::from_str::<serde_json::Value>(&dashboard).is_ok(), "{dashboard}");
    }

    #[test]
    fn a_command_that_runs_a_router_serves_its_metrics_while_it_does() {
        use std::io::{BufRead as _, BufReader, Write as _};
        let mut route = caxton();
        route.args(["route", "-", "--shards", "1", "--metrics", "0", "--timeout", "60"]);
        let mut child = route
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut input = child.stdin.take().expect("it is piped");
        input.write_all(b"(request :sender (agent-identifier :name a) :receiver (set (agent-identifier :name b)) :content \"x\")\n").expect("it reads");
        input.flush().expect("it reads");
        let errors = BufReader::new(child.stderr.take().expect("it is piped"));
        let line =
            errors.lines().map_while(Result::ok).find(|line| line.starts_with("metrics: ")).expect("it says where");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("there is one");
        let address = address.parse().expect("it is an address");
        wait_until("the message is counted", || {
            get(address, "/metrics").1.contains("messaging_client_consumed_messages_total 2")
        });
        drop(input);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn health_needs_no_listener_and_says_since_when_a_call_has_not_returned() {
    /// Less than the time after which a shard counts as blocked, so that the time of a check would be noticed.
    const TOLERANCE_MS: u64 = 300;
    let now_ms = || u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    bounded(move || {
        let router = start(1);
        assert!(router.health().component("edge").is_none());
        let before_ms = now_ms();
        let barrier = hold_up(&router, 0);
        let held_up_ms = now_ms();
        let since = || router.health().component("shard-0").expect("it is there").since().0;
        wait_until("it shows", || status(&router, "shard-0") == Status::Degraded);
        let first = since();
        std::thread::sleep(Duration::from_millis(2 * TOLERANCE_MS));
        let call_began = before_ms.saturating_sub(TOLERANCE_MS)..=held_up_ms + TOLERANCE_MS;
        for since in [first, since()] {
            assert!(call_began.contains(&since), "{since} is not in {call_began:?}");
        }
        barrier.open();
        wait_until("it clears", || status(&router, "shard-0") == Status::Healthy);
        assert!(since() > held_up_ms + TOLERANCE_MS, "it has been healthy since a later check");
        shutdown(&router);
    });
}

#[test]
fn slow_agents_are_named_on_request_and_blocked_shards_hold_up_nobody() {
    bounded(|| {
        let router = start_with(2, listening);
        let address = address_of(&router);
        let ask = |query: &str| {
            let (status, body) = get(address, &format!("/healthz/slow{query}"));
            let json: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
            (status, json)
        };
        assert_eq!(ask(""), (200, serde_json::json!({ "agents": [], "failed": [] })));
        let name = name_on(&router, 0, "slow").to_string();
        let slow = router.blocking().register(name.as_str(), silent).expect("it is registered");
        router.blocking().suspend(slow).expect("it is registered");
        for _ in 0..3 {
            router.blocking().send(message_to(slow, "x")).expect("it is accepted");
        }
        wait_until("its messages wait", || ask("?limit=5").1["agents"][0]["messages"] == 3);
        let (code, found) = ask("?limit=1");
        let agent = &found["agents"][0];
        assert_eq!((code, &agent["agent"], &agent["shard"]), (200, &name.as_str().into(), &0.into()));
        assert_eq!((&agent["state"], &agent["in_inbox"]), (&"suspended".into(), &0.into()));
        assert!(agent["bytes"].as_u64() > Some(0) && agent["oldest_ms"].is_u64(), "{agent}");
        for query in ["?limit=0", "?limit=257", "?all"] {
            assert_eq!(ask(query).0, 400, "{query}");
        }
        let barrier = hold_up(&router, 1);
        let (code, found) = ask("");
        assert_eq!((code, &found["agents"][0]["agent"]), (503, &name.as_str().into()), "the other shard responds");
        let failed = found["failed"][0].as_str().unwrap_or_default();
        assert!(failed.starts_with("shard 1 did not respond in time"), "{failed}");
        barrier.open();
        router.blocking().resume(slow).expect("it is registered");
        wait_until("they are handled", || ask("").1["agents"] == serde_json::json!([]));
        shutdown(&router);
    });
}
