//! Figures of a whole router without a scenario in `caxton bench`: questions and replies across shards, the cost of an
//! idle router, and the memory of agents and conversations.
//!
//! `cargo bench --bench router` runs all of them; a word after `--` selects those whose names contain it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use caxton_router::config::Preset;
use caxton_router::domain::{AgentName, ShardCount};
use caxton_router::routing::ShardIndex;
use caxton_router::{Agent, AgentId, Config, Context, Message, Outcome, Performative, Registration, Router};
use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MILLION: usize = 1_000_000;

fn router(shards: u16) -> Router {
    let mut config = Config::preset(Preset::Production);
    config.set("conversation.open_max", "2000000", "the benchmark").expect("the key exists");
    let shards = ShardCount::try_new(shards).expect("the number is legal");
    Router::builder().config(config).shards(shards).start().expect("the router starts")
}

fn name(text: String) -> AgentName {
    AgentName::try_new(text).expect("the name is legal")
}

fn name_on(router: &Router, shard: u16, prefix: &str) -> AgentName {
    name(router.partition().name_on(ShardIndex(shard), prefix))
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

fn cpu_time() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), u32::try_from(used.tv_nsec).unwrap_or(0))
}

/// An agent that does nothing: its memory is what the router needs for it.
struct Idle;

impl Agent for Idle {
    fn handle(&mut self, _: &Message, _: &mut Context<'_>) -> Outcome {
        Outcome::Done
    }
}

/// Answers every question.
struct Answerer;

impl Agent for Answerer {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        let answer = message.reply(Performative::Inform).content(message.content().as_bytes()).build();
        if answer.is_ok_and(|answer| context.send(answer).is_ok()) {
            Outcome::Done
        } else {
            Outcome::failed("the answer could not be sent")
        }
    }
}

/// Asks, waits for the reply, and asks again as often as it was told to.
struct Asker {
    partner: AgentId,
    asked: Instant,
    left: u64,
    done: Arc<AtomicU64>,
    times: Arc<Mutex<Histogram<u64>>>,
    waiting: std::thread::Thread,
}

impl Asker {
    fn ask(&mut self, context: &mut Context<'_>) {
        self.asked = Instant::now();
        let question = Message::builder(Performative::QueryRef)
            .receiver(self.partner)
            .reply_with(context.new_correlation())
            .content([b'q'; 200].as_slice())
            .build();
        let sent = question.is_ok_and(|question| context.send(question).is_ok());
        assert!(sent, "one question at a time always finds room");
    }
}

impl Agent for Asker {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        if message.performative() == Performative::Request {
            self.left = message.content().as_text().and_then(|text| text.parse().ok()).unwrap_or(1);
        } else {
            let took = u64::try_from(self.asked.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.times.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(took);
            self.left -= 1;
            self.done.fetch_add(1, Ordering::Release);
        }
        if self.left > 0 {
            self.ask(context);
        } else {
            self.waiting.unpark();
        }
        Outcome::Done
    }
}

/// Measures questions from an agent on one shard to an agent on another: `rounds` times `questions` in a row.
fn ask_and_reply(label: &str, rounds: u64, questions: u64, pause: Duration) {
    let router = router(2);
    let answerer = name_on(&router, 1, "answerer");
    let asker = name_on(&router, 0, "asker");
    let times = Arc::new(Mutex::new(Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("legal bounds")));
    let done = Arc::new(AtomicU64::new(0));
    let partner = AgentId::of(&answerer);
    let (shared_times, shared_done, waiting) = (Arc::clone(&times), Arc::clone(&done), std::thread::current());
    let registered = [
        router.blocking().register(answerer, || Answerer),
        router.blocking().register(asker.clone(), move || Asker {
            partner,
            asked: Instant::now(),
            left: 0,
            done: Arc::clone(&shared_done),
            times: Arc::clone(&shared_times),
            waiting: waiting.clone(),
        }),
    ];
    assert!(registered.iter().all(Result::is_ok), "{registered:?}");
    for round in 1..=rounds {
        let begin = Message::builder(Performative::Request)
            .receiver(AgentId::of(&asker))
            .content(questions.to_string())
            .build()
            .expect("the message is legal");
        router.blocking().tell(begin).expect("the router runs");
        while done.load(Ordering::Acquire) < round * questions {
            std::thread::park_timeout(Duration::from_secs(1));
        }
        // Long enough for both shards to park, if there is a pause at all.
        std::thread::sleep(pause);
    }
    let report = router.shutdown(Duration::from_secs(5)).expect("this is no shard's thread");
    assert!(report.balances() && report.stats.account().dead_lettered == 0, "{report:?}");
    let times = times.lock().unwrap_or_else(PoisonError::into_inner);
    let microseconds = |quantile| times.value_at_quantile(quantile) as f64 / 1_000.0;
    println!(
        "{label:<44} p50 {:>8.2} us   p99 {:>8.2} us   ({} questions)",
        microseconds(0.5),
        microseconds(0.99),
        times.len()
    );
}

/// Measures the CPU time of a router with a thousand idle agents.
fn idle_router() {
    const SECONDS: u64 = 5;
    let router = router(2);
    let agents = (0..1_000).map(|number| Registration::native(name(format!("idle-{number}")), || Idle)).collect();
    assert!(router.blocking().register_all(agents).iter().all(Result::is_ok));
    std::thread::sleep(Duration::from_secs(1));
    let before = cpu_time();
    std::thread::sleep(Duration::from_secs(SECONDS));
    let used = cpu_time().saturating_sub(before);
    println!("{:<44} {:.2} % of a core", "idle router, 2 shards", used.as_secs_f64() / SECONDS as f64 * 100.0);
}

/// Measures the registration rate of a million agents and the memory of each. They are registered in portions, so that
/// the list of registrations is not measured.
fn a_million_agents() {
    const PORTION: usize = 10_000;
    let router = router(2);
    let before = resident_bytes();
    let mut took = Duration::ZERO;
    for portion in 0..MILLION / PORTION {
        let numbers = portion * PORTION..(portion + 1) * PORTION;
        let registrations: Vec<Registration> =
            numbers.map(|number| Registration::native(name(format!("agent-{number}")), || Idle)).collect();
        let started = Instant::now();
        let results = router.blocking().register_all(registrations);
        took += started.elapsed();
        assert!(results.iter().all(Result::is_ok));
    }
    println!("{:<44} {:.2} M agents/s", "registration of a million agents", MILLION as f64 / 1e6 / took.as_secs_f64());
    let each = resident_bytes().saturating_sub(before) as f64 / MILLION as f64;
    println!("{:<44} {each:.0} bytes each", "memory of an idle agent, at a million");
    assert_eq!(router.stats().agents(), MILLION);
}

/// Begins conversations with another agent, a thousand at a time.
struct Opener {
    partner: AgentId,
    left: usize,
}

impl Agent for Opener {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        if message.performative() != Performative::Inform && self.left > 0 {
            for _ in 0..self.left.min(500) {
                let conversation = context.new_conversation();
                let first =
                    Message::builder(Performative::Inform).receiver(self.partner).conversation(conversation).build();
                assert!(first.is_ok_and(|first| context.send(first).is_ok()), "500 at a time find room");
                self.left -= 1;
            }
            let next = Message::builder(Performative::Request).receiver(context.id()).build();
            assert!(next.is_ok_and(|next| context.send(next).is_ok()), "and one more");
        }
        Outcome::Done
    }
}

/// Measures the memory of an open conversation without its history.
fn a_million_conversations() {
    let mut config = Config::preset(Preset::Production);
    for (key, value) in [("conversation.open_max", "2000000"), ("conversation.history", "0")] {
        config.set(key, value, "the benchmark").expect("the key exists");
    }
    let one = ShardCount::try_new(1).expect("one is legal");
    let router = Router::builder().config(config).shards(one).start().expect("the router starts");
    let partner = router.blocking().register(name("partner".to_owned()), || Idle).expect("a new name");
    let opener = router
        .blocking()
        .register(name("opener".to_owned()), move || Opener { partner, left: MILLION })
        .expect("a new name");
    let before = resident_bytes();
    let begin = Message::builder(Performative::Request).receiver(opener).build().expect("the message is legal");
    router.blocking().tell(begin).expect("the router runs");
    while router.stats().conversations() < MILLION {
        std::thread::sleep(Duration::from_millis(5));
    }
    let each = resident_bytes().saturating_sub(before) as f64 / MILLION as f64;
    println!("{:<44} {each:.0} bytes each", "memory of an open conversation, at a million");
}

fn main() {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let figures: [(&str, fn()); 5] = [
        ("agents", a_million_agents),
        ("conversations", a_million_conversations),
        ("busy", || ask_and_reply("ask and reply across shards, busy router", 1, 200_000, Duration::ZERO)),
        ("idle-ask", || ask_and_reply("ask and reply across shards, idle router", 300, 1, Duration::from_millis(5))),
        ("idle-router", idle_router),
    ];
    for (label, figure) in figures {
        if label.contains(&wanted) {
            figure();
        }
    }
}
