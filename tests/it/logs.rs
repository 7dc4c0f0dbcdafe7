//! Logs: what a subscriber is given of a router, and what a writer makes of it.

use std::collections::HashMap;
use std::fmt::Debug;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use caxton_router::config::{LogConfig, Preset};
use caxton_router::logs::{EVENT, LOG, LogWriter, RECORDS_WAITING_MAX, ROUTER, RateLimit};
use caxton_router::message::{ConversationId, Correlation, TraceContext, WallTime};
use caxton_router::{Agent as _, AgentId, Config, Message, Outcome, Performative, Registration, Router};
use serde_json::Value;
use tracing::dispatcher::with_default;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use crate::common::{PATIENCE, bounded, echo, message_to, name, on, request_to, shutdown, silent, start_with};

/// A captured event.
#[derive(Clone, Debug)]
pub struct Line {
    pub level: Level,
    pub target: &'static str,
    pub fields: HashMap<&'static str, String>,
}

impl Line {
    pub fn text(&self, field: &str) -> &str {
        self.fields.get(field).map_or("", String::as_str)
    }

    fn number(&self, field: &str) -> u64 {
        self.text(field).parse().unwrap_or_else(|_| panic!("{field} is a number: {self:?}"))
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

/// A subscriber that keeps everything.
#[derive(Clone, Default)]
pub struct Capture {
    lines: Arc<Mutex<Vec<Line>>>,
    /// Taken from before an event of a shard is kept, if there is one.
    gate: Option<flume::Receiver<()>>,
}

impl Capture {
    /// Runs `work` with this subscriber, up to a level.
    pub fn during<T>(&self, level: Level, work: impl FnOnce() -> T) -> T {
        let levels = LevelFilter::from_level(level);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(self.clone().with_filter(levels)), work)
    }

    /// Returns the events with this message.
    pub fn of(&self, message: &str) -> Vec<Line> {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|line| line.text("message") == message).cloned().collect()
    }

    fn only(&self, message: &str) -> Line {
        let mut found = self.of(message);
        assert_eq!(found.len(), 1, "{message}: {found:?}");
        found.remove(0)
    }
}

impl<S: Subscriber> Layer<S> for Capture {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut line = Line { level: *metadata.level(), target: metadata.target(), fields: HashMap::new() };
        event.record(&mut line);
        if let Some(gate) = self.gate.as_ref().filter(|_| metadata.target() == EVENT) {
            // Disconnected once it is open.
            let _ = gate.recv();
        }
        self.lines.lock().unwrap().push(line);
    }
}

/// Starts a router without agents of its own, whose log is captured.
fn start(capture: &Capture, level: Level) -> Router {
    capture.during(level, || start_with(2, |config| config.management.enabled = false))
}

/// Sends messages that are dead-lettered, and waits until they are.
fn send_to_nobody(router: &Router, count: u64) {
    let events = router.blocking().events().expect("the router runs");
    for _ in 0..count {
        router.blocking().send(message_to(AgentId::of_text("nobody"), "secret")).expect("it is accepted");
        // One at a time, so that no event is lost.
        loop {
            let event = events.blocking().next_within(PATIENCE).expect("the router reports it");
            if matches!(event, caxton_router::event::Event::DeadLettered { .. }) {
                break;
            }
        }
    }
    assert_eq!((router.stats().account().dead_lettered, events.lost()), (count, 0));
}

#[test]
fn a_routers_life_and_its_events_are_logged_with_their_fields() {
    bounded(|| {
        let capture = Capture::default();
        let router = start(&capture, Level::TRACE);
        let panics = Registration::native(name("fragile"), || on(|_, _| -> Outcome { panic!("a planned panic") }));
        let agent = router.blocking().register_one(panics).expect("it is registered");
        let conversation = ConversationId::of_text("talk");
        let message = Message::builder(Performative::Inform).receiver(AgentId::of_text("nobody"));
        let message = message.conversation(conversation).content("secret").build().expect("it is legal");
        let id = router.blocking().send(message).expect("it is accepted");
        router.blocking().send(message_to(agent, "secret")).expect("it is accepted");
        let report = router.shutdown(PATIENCE).expect("this is no shard's thread");

        let starts = capture.only("router starts");
        assert_eq!((starts.level, starts.target, starts.text("shards")), (Level::INFO, ROUTER, "2"));
        assert_eq!(starts.text("preset"), "testing");
        let origin = |line: &Line| line.text("setting") == "management.enabled" && line.text("from") == "program";
        assert!(capture.of("setting differs from the preset").iter().any(origin));
        capture.only("router runs");
        capture.only("router drains");
        assert_eq!(capture.only("agent registered").text("agent"), "fragile");
        let panicked = &capture.of("agent panicked")[0];
        assert_eq!((panicked.level, panicked.target, panicked.text("agent")), (Level::ERROR, EVENT, "fragile"));
        assert_eq!(panicked.text("panic"), "a planned panic");
        assert_eq!(capture.of("agent restarts after a failure")[0].text("agent"), "fragile");

        let letters = capture.of("message was dead-lettered");
        let letter = letters.iter().find(|line| line.text("reason") == "unknown-receiver").expect("it is logged");
        assert_eq!((letter.level, letter.text("message_id")), (Level::DEBUG, id.to_string().as_str()));
        assert_eq!(letter.text("conversation_id"), conversation.to_string());
        assert_eq!(letter.text("receiver"), AgentId::of_text("nobody").to_string());
        let letter = letters.iter().find(|line| line.text("receiver") == "fragile").expect("it has the agent's name");
        assert_eq!(letter.text("reason"), "attempts-exhausted");

        let stopped = capture.only("router stopped");
        assert_eq!(stopped.number("accepted"), report.stats.account().accepted);
        assert_eq!(stopped.number("dead_lettered"), 2);
        let lines = capture.lines.lock().unwrap();
        let last = lines.last().expect("there are lines");
        assert_eq!(last.text("message"), "router stopped", "the events come before it");
        let leaks = |line: &&Line| line.fields.values().any(|value| value.contains("secret"));
        assert!(!lines.iter().any(|line| leaks(&line)), "no content is logged");
    });
}

#[test]
fn a_missing_reply_is_logged_with_the_asked_agent_and_its_trace() {
    bounded(|| {
        let capture = Capture::default();
        let router = capture.during(Level::DEBUG, || start_with(1, |config| config.management.enabled = false));
        let expert = router.blocking().register(name("expert"), silent).expect("it is registered");
        let asker = router.inbox("asker").blocking().open().expect("it is opened");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_millis();
        let soon = WallTime(u64::try_from(now).expect("it fits") + 50);
        let conversation = ConversationId::of_text("talk");
        let context = TraceContext { trace_id: [7; 16], span_id: [3; 8], flags: 1 };
        let question = Message::builder(Performative::Request).receiver(expert).conversation(conversation);
        let question = question.reply_with(Correlation::of_text("q")).reply_by(soon).trace(context);
        let id = asker.blocking().send(question.build().expect("it is legal")).expect("it is accepted");
        let notice = asker.blocking().recv_within(PATIENCE).expect("it is told");
        assert_eq!(notice.performative(), Performative::Failure);
        shutdown(&router);
        let line = capture.only("no reply in time");
        assert_eq!((line.text("agent"), line.text("asked")), ("asker", "expert"));
        assert_eq!((line.text("message_id"), line.text("trace_id")), (id.to_string().as_str(), &*"07".repeat(16)));
        assert_eq!(line.text("conversation_id"), conversation.to_string());
    });
}

#[test]
fn a_slow_call_is_logged_with_the_agents_name() {
    bounded(|| {
        let capture = Capture::default();
        let router = capture.during(Level::WARN, || {
            start_with(1, |config| {
                config.set("breaker.slow_call_ms", "20 ms", "the test").expect("the setting is allowed");
                config.set("breaker.slow_calls", "1000", "the test").expect("the setting is allowed");
            })
        });
        let sleepy = router.blocking().register(name("sleepy"), || {
            let mut echo = echo();
            on(move |message, context| {
                std::thread::sleep(Duration::from_millis(25));
                echo.handle(message, context)
            })
        });
        let sleepy = sleepy.expect("it is registered");
        // The first one makes the shard time its calls.
        for _ in 0..3 {
            router.blocking().ask(request_to(sleepy, "?"), PATIENCE).expect("it replies");
        }
        shutdown(&router);
        let lines = capture.of("slow call: other agents of the shard waited");
        let named = lines.iter().filter(|line| line.text("agent") == "sleepy" && line.number("took_ms") >= 25);
        assert!(named.count() >= 2 && lines[0].level == Level::WARN, "{lines:?}");
    });
}

#[test]
fn at_info_messages_are_counted_exactly_and_not_logged_one_by_one() {
    bounded(|| {
        let capture = Capture::default();
        let router = start(&capture, Level::INFO);
        send_to_nobody(&router, 1_000);
        shutdown(&router);
        assert!(capture.of("message was dead-lettered").is_empty());
        let counted = capture.of("messages were dead-lettered");
        assert!(counted.iter().all(|line| line.level == Level::WARN && line.text("reason") == "unknown-receiver"));
        assert_eq!(counted.iter().map(|line| line.number("count")).sum::<u64>(), 1_000);
        assert!(capture.lines.lock().unwrap().iter().all(|line| line.level <= Level::INFO));
    });
}

#[test]
fn what_the_log_is_too_slow_for_is_counted_and_holds_up_nobody() {
    bounded(|| {
        let count = 2 * RECORDS_WAITING_MAX as u64;
        let (open, gate) = flume::bounded(0);
        let capture = Capture { gate: Some(gate), ..Capture::default() };
        let router = start(&capture, Level::TRACE);
        // All of them are settled while the log stands still.
        send_to_nobody(&router, count);
        drop(open);
        shutdown(&router);
        let logged = capture.of("message was dead-lettered").len() as u64;
        let lost = capture.of("records were lost on their way to the log: it was too slow");
        let lost: u64 = lost.iter().map(|line| line.number("count")).sum();
        assert!(lost > 0, "the channel is not that large");
        assert_eq!(logged + lost, count);
    });
}

#[test]
fn a_rate_limit_counts_exactly_per_place_and_interval() {
    let now = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&now);
    let limit =
        RateLimit::with_clock(10, Duration::from_secs(1), move || Duration::from_millis(clock.load(Ordering::Relaxed)));
    let capture = Capture::default();
    let subscriber = tracing_subscriber::registry().with(capture.clone()).with(limit.clone());
    let many = |count: u64| (0..count).for_each(|_| tracing::error!("many"));
    let few = |count: u64| (0..count).for_each(|_| tracing::debug!("few"));
    tracing::subscriber::with_default(subscriber, || {
        many(1_000);
        few(5);
        limit.report_due();
        assert_eq!((capture.of("many").len(), capture.of("few").len()), (10, 5));
        assert!(capture.of("suppressed 990 more like this").is_empty(), "the interval is not over");
        now.store(1_000, Ordering::Relaxed);
        limit.report_due();
        let line = capture.only("suppressed 990 more like this");
        assert_eq!((line.level, line.target, line.number("suppressed")), (Level::ERROR, LOG, 990));
        assert!(line.text("site").contains("logs.rs"), "{line:?}");
        limit.report_due();
        capture.only("suppressed 990 more like this");

        many(13);
        few(10);
        limit.report_all();
        assert_eq!((capture.of("many").len(), capture.of("few").len()), (20, 15));
        capture.only("suppressed 3 more like this");
        // A new interval begins although nobody has reported the last one.
        many(7);
        now.store(2_500, Ordering::Relaxed);
        many(1);
        limit.report_due();
        capture.only("suppressed 7 more like this");
        assert_eq!(capture.of("many").len(), 21);
    });
}

/// Bytes that others can look at.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).expect("it is UTF-8")
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn settings(changes: &[(&str, &str)]) -> LogConfig {
    let mut config = Config::preset(Preset::Production);
    for (key, value) in changes {
        config.set(key, value, "this test").expect("it is legal");
    }
    config.log
}

/// Returns what is written while `work` runs.
fn written(settings: &LogConfig, work: impl FnOnce()) -> String {
    let output = Output::default();
    let log = LogWriter::new(settings, output.clone()).expect("a thread starts");
    with_default(log.dispatch(), work);
    drop(log);
    output.text()
}

/// What a terminal would obey, and what would look like another line.
const HOSTILE: &str = "a\u{1b}[31m\u{9b}1m\r\nforged\u{202e}\u{7}\t\"";

#[test]
fn json_lines_parse_and_hold_nothing_that_a_terminal_obeys() {
    let text = written(&settings(&[]), || {
        tracing::info!(target: EVENT, agent = HOSTILE, count = 3, shown = %HOSTILE, "event {HOSTILE}");
        tracing::debug!("it is not enabled");
    });
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!text.trim_end_matches('\n').chars().any(caxton_router::logs::is_obeyed), "{text:?}");
    let line: Value = serde_json::from_str(&text).expect("it is an object");
    assert_eq!((line["level"].as_str(), line["target"].as_str()), (Some("INFO"), Some(EVENT)));
    assert_eq!((line["agent"].as_str(), line["count"].as_u64()), (Some(HOSTILE), Some(3)));
    assert!(line["message"].as_str().is_some_and(|message| message.starts_with("event a")), "{line}");
    assert!(line["timestamp"].is_string());
}

#[test]
fn text_lines_hold_nothing_that_a_terminal_obeys() {
    let text = written(&settings(&[("log.format", "text"), ("log.level", "off,caxton=trace")]), || {
        tracing::trace!(target: EVENT, agent = HOSTILE, shown = %HOSTILE, "event {HOSTILE}");
        tracing::error!("it is not enabled");
    });
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!text.trim_end_matches('\n').chars().any(caxton_router::logs::is_obeyed), "{text:?}");
    assert!(text.contains("TRACE caxton::event: event a"), "{text}");
}

#[test]
fn a_writer_says_what_it_suppressed_before_it_ends() {
    // Other targets than that of the log itself are off: the line is written all the same.
    let levels = ("log.level", "off,it::logs=info");
    let text = written(&settings(&[levels, ("log.lines_per_second", "0")]), || {
        (0..7).for_each(|number| tracing::info!(target: "it::logs", number, "often"));
    });
    let counts = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).expect("it is an object");
        line["suppressed"].as_u64().expect("only this is written")
    });
    assert_eq!(counts.sum::<u64>(), 7, "{text}");
}

/// A writer that lets nobody go on once it is told to block, until the other end of its channel is dropped.
struct Blocking {
    blocks: Arc<AtomicBool>,
    released: flume::Receiver<()>,
}

impl Write for Blocking {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.blocks.load(Ordering::Acquire) {
            let _ = self.released.recv();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_log_that_blocks_keeps_no_router_from_stopping() {
    bounded(|| {
        let blocks = Arc::new(AtomicBool::new(false));
        let (release, released) = flume::bounded(0);
        let writer = Blocking { blocks: Arc::clone(&blocks), released };
        let log = LogWriter::new(&Config::default().log, writer).expect("the thread starts");
        let router = with_default(log.dispatch(), || start_with(1, |_| ()));
        blocks.store(true, Ordering::Release);
        let report = shutdown(&router);
        assert!(report.drained, "{report:?}");
        drop(release);
    });
}
