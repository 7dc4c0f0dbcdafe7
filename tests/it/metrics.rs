//! Metrics: a scrape is well-formed and says the same as the router's own account, to the message.

use std::collections::{BTreeMap, HashSet};
use std::io::Write as _;
use std::process::{Command, Stdio};

use caxton_router::config::Preset;
use caxton_router::dead_letter::DeadLetterReason;
use caxton_router::protocol::Mode;
use caxton_router::stats::{Account, Stage};
use caxton_router::{Message, Outcome, Performative, Router};

use crate::common::{
    PATIENCE, bounded, echo, message_to, name_on, on, request_to, shutdown, silent, skipped, start_with,
};
use crate::edge::{address_of, get, listening, wait_until};

/// The series of a scrape: names with labels, and values.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    /// Parses the text as strictly as the specification of `OpenMetrics` 1.0 demands of what is exposed.
    fn parse(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").expect("it ends with the mark of its end");
        let (mut series, mut families) = (BTreeMap::new(), HashSet::new());
        let mut family: Option<(String, String)> = None;
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# ") {
                let mut words = rest.splitn(3, ' ');
                let (what, name, text) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
                match what {
                    "HELP" => assert!(families.insert(name.to_owned()), "{name} is there twice"),
                    "TYPE" => {
                        assert!(["counter", "gauge", "histogram"].contains(&text), "{line}");
                        family = Some((name.to_owned(), text.to_owned()));
                    }
                    "UNIT" => assert!(name.ends_with(&format!("_{text}")), "{line}"),
                    _ => panic!("{line}"),
                }
                assert!(families.contains(name), "{line}");
                continue;
            }
            let (name, kind) = family.as_ref().unwrap_or_else(|| panic!("{line} belongs to no family"));
            let (key, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            let base = key.split('{').next().unwrap();
            let suffixes: &[&str] = match kind.as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                _ => &["_bucket", "_sum", "_count"],
            };
            assert!(suffixes.iter().any(|suffix| base == format!("{name}{suffix}")), "{line} is not of {name}");
            if let Some((_, labels)) = key.split_once('{') {
                let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
                for label in labels.split("\",") {
                    let (label, text) = label.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
                    assert!(label.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_'), "{line}");
                    assert!(!text.is_empty() && label != "agent", "{line}");
                }
            }
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(value >= 0.0 && series.insert(key.to_owned(), value).is_none(), "{line}");
        }
        Self(series)
    }

    fn of(&self, key: &str) -> f64 {
        *self.0.get(key).unwrap_or_else(|| panic!("there is no {key}"))
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // They are counts.
    fn count(&self, key: &str) -> u64 {
        self.of(key) as u64
    }

    /// Returns the sum of all series of a name.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // They are counts.
    fn sum(&self, name: &str) -> u64 {
        let own = self.0.iter().filter(|(key, _)| key.split('{').next() == Some(name));
        own.map(|(_, value)| value).sum::<f64>() as u64
    }
}

fn scrape(router: &Router, path: &str) -> Scrape {
    let (status, text) = get(address_of(router), path);
    assert_eq!(status, 200);
    Scrape::parse(&text)
}

/// Deliveries that [`load`] causes: of each round two requests, their replies, and two more messages.
const LOAD_ACCEPTED: u64 = 50 * 6;

/// Sends messages that are handled, fail, expire, and find no receiver, within shards and between them.
fn load(router: &Router) {
    let blocking = router.blocking();
    let echoes: Vec<_> = (0..2).map(|shard| blocking.register(name_on(router, shard, "echo"), echo).unwrap()).collect();
    let unwell = blocking.register(name_on(router, 0, "unwell"), || on(|_, _| Outcome::failed("unwell"))).unwrap();
    let nobody = caxton_router::AgentId::of(&name_on(router, 1, "nobody"));
    for number in 0..50 {
        for echo in &echoes {
            blocking.ask(request_to(*echo, &number.to_string()), PATIENCE).unwrap();
        }
        blocking.tell(message_to(unwell, "x")).unwrap();
        blocking.tell(message_to(nobody, "x")).unwrap();
    }
}

#[test]
fn a_scrape_says_the_same_as_the_routers_own_account() {
    bounded(|| {
        let router = start_with(2, |config| {
            listening(config);
            config.set("retry.attempts", "0", "test").unwrap();
        });
        load(&router);
        // What was told last may not have been accepted yet.
        wait_until("nothing moves", || {
            let stats = router.stats();
            stats.account().accepted >= LOAD_ACCEPTED && stats.in_progress() == 0
        });
        let public = scrape(&router, "/metrics");
        let internal = scrape(&router, "/metrics/internal");
        let stats = router.stats();
        let account = stats.account();
        assert_account(&public, &account);
        for reason in DeadLetterReason::ALL {
            let key = format!("caxton_messages_dead_lettered_total{{reason=\"{reason}\"}}");
            assert_eq!(public.count(&key), account.dead_by_reason[reason.index()], "{key}");
        }
        for stage in Stage::ALL {
            let key = format!("caxton_messages_expired_total{{stage=\"{}\"}}", stage.as_str());
            assert_eq!(public.count(&key), account.expired_by_stage[stage.index()], "{key}");
        }
        for (shard, figures) in stats.shards.iter().enumerate() {
            let of = |name: &str| internal.count(&format!("caxton_shard_{name}{{shard=\"{shard}\"}}"));
            assert_eq!(of("messages_accepted_total"), figures.account.accepted);
            assert_eq!(of("messages_processed_total"), figures.account.processed);
            assert_eq!((of("messages_arrived_total"), of("agents")), (figures.account.arrived, figures.agents as u64));
        }
        let sent: u64 = internal.sum("caxton_ring_sent_total");
        assert_eq!(sent, account.departed);
        assert_eq!(public.count("caxton_agents"), stats.agents() as u64);
        assert_eq!(public.count("caxton_dead_letters"), stats.dead_letters() as u64);
        assert!(public.of("process_memory_usage_bytes") > 0.0 && public.of("process_thread_count") > 2.0);
        assert_eq!(public.count("caxton_health{component=\"shard-0\"}"), 0, "it is healthy");
        let report = shutdown(&router);
        assert_eq!(report.stats.account().accepted, account.accepted);
    });
}

fn assert_account(scrape: &Scrape, account: &Account) {
    let (sent, handled) = ("messaging_client_sent_messages_total", "messaging_client_consumed_messages_total");
    assert_eq!((scrape.count(sent), scrape.count(handled)), (account.accepted, account.processed));
    for (name, count) in [
        ("caxton_messages_dead_lettered_total", account.dead_lettered),
        ("caxton_messages_expired_total", account.expired),
        ("caxton_messages_recovered_total", account.recovered),
        ("caxton_messages_kept_total", account.kept),
        ("caxton_messages_retried_total", account.retried),
        ("caxton_messages_refused_total", account.refused),
        ("caxton_messages_pending", account.pending),
        ("caxton_messages_crossing", account.departed - account.arrived),
        ("caxton_notices_total", account.notices),
    ] {
        assert_eq!(scrape.sum(name), count, "{name}");
    }
    let out = ["dead_lettered_total", "expired_total", "kept_total", "pending", "crossing"];
    let out: u64 = out.into_iter().map(|name| scrape.sum(&format!("caxton_messages_{name}"))).sum();
    assert_eq!(scrape.count(sent) + scrape.sum("caxton_messages_recovered_total"), scrape.count(handled) + out);
}

#[test]
fn latencies_lose_no_count_on_their_way() {
    bounded(|| {
        let router = start_with(2, |config| {
            listening(config);
            config.set("telemetry.sampling", "1", "test").unwrap();
        });
        let agent = router.blocking().register(name_on(&router, 1, "echo"), echo).unwrap();
        for _ in 0..100 {
            router.blocking().ask(request_to(agent, "x"), PATIENCE).unwrap();
        }
        wait_until("they are measured", || {
            scrape(&router, "/metrics").count("messaging_process_duration_seconds_count") >= 100
        });
        let scrape = scrape(&router, "/metrics");
        for name in ["caxton_message_duration_seconds", "messaging_process_duration_seconds"] {
            let count = scrape.count(&format!("{name}_count"));
            assert_eq!(count, scrape.count(&format!("{name}_bucket{{le=\"+Inf\"}}")), "{name}");
            assert!(scrape.of(&format!("{name}_sum")) > 0.0, "{name}");
        }
        assert!((scrape.of("caxton_telemetry_sampling") - 1.0).abs() < 1e-9);
        shutdown(&router);
    });
}

#[test]
fn conversations_and_violations_are_counted_by_protocol() {
    bounded(|| {
        let router = start_with(1, |config| {
            listening(config);
            config.protocols.mode = Mode::Observe;
        });
        let agent = router.blocking().register(name_on(&router, 0, "agent"), silent).unwrap();
        let inbox = futures_lite::future::block_on(router.inbox(name_on(&router, 0, "asker")).open()).unwrap();
        let message = |act| {
            let builder = Message::builder(act)
                .receiver(agent)
                .protocol("fipa-request")
                .conversation(caxton_router::message::ConversationId::of_text("one"));
            builder.content("x").build().unwrap()
        };
        inbox.blocking().send(message(Performative::Request)).unwrap();
        inbox.blocking().send(message(Performative::Cfp)).unwrap();
        let open = "caxton_protocol_conversations{protocol=\"fipa-request\"}";
        let violated = "caxton_protocol_violations_total{protocol=\"fipa-request\",kind=\"act\",action=\"observed\"}";
        wait_until("both are counted", || scrape(&router, "/metrics").of(violated) > 0.0);
        let scrape = scrape(&router, "/metrics");
        assert_eq!((scrape.count(open), scrape.count(violated)), (1, 1));
        let state = "caxton_protocol_states{protocol=\"fipa-request\",state=\"requested\"}";
        assert_eq!((scrape.count(state), scrape.sum("caxton_protocol_states")), (1, 1));
        assert_eq!(scrape.sum("caxton_protocol_violations_total"), router.stats().conformance().violations());
        assert_eq!(scrape.count("caxton_conversations"), 1);
        drop(inbox);
        shutdown(&router);
    });
}

#[test]
fn prometheus_own_parser_reads_a_scrape() {
    const PARSE: &str = "\
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
families = list(text_string_to_metric_families(sys.stdin.read()))
print(len(families), sum(len(family.samples) for family in families))";
    let python = || Command::new("python3");
    let present = python().args(["-c", "import prometheus_client"]).output();
    if !present.is_ok_and(|output| output.status.success()) {
        skipped("python3 or its package prometheus_client is not installed");
        return;
    }
    bounded(move || {
        let router = start_with(2, |config| {
            listening(config);
            config.set("retry.attempts", "0", "test").unwrap();
            config.protocols.mode = Mode::Observe;
        });
        load(&router);
        for path in ["/metrics", "/metrics/internal"] {
            let (_, text) = get(address_of(&router), path);
            let mut command = python();
            command.args(["-c", PARSE]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
            let counts = String::from_utf8(output.stdout).unwrap();
            let (families, samples) = counts.trim().split_once(' ').unwrap();
            assert!(families.parse::<u32>().unwrap() > 10, "{counts}");
            assert_eq!(samples.parse::<usize>().unwrap(), Scrape::parse(&text).0.len(), "{path}");
        }
        router.shutdown(PATIENCE).unwrap();
    });
}

#[test]
fn every_preset_serves_nothing_unless_it_is_told_to() {
    for preset in Preset::ALL {
        assert_eq!(caxton_router::Config::preset(preset).metrics.listen.address(), None);
    }
}
