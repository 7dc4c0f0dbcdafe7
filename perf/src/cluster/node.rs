//! A process that is a node of the cluster: it embeds the router.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use caxton_router::cluster::{Cluster, Health, NodeView};
use caxton_router::config::Preset;
use caxton_router::{AgentId, Config, Message, Performative, Registration, Router};
use clap::Args;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

use super::agents::{ECHO, Echo, Sink, Source, Window, message, sink_name, source_name};
use super::process::{milliseconds, number, serve};
use super::stamp::{Pace, Stamp, now_ns};
use super::tally::Tally;
use crate::doors::PATIENCE;

/// Maximum number of messages that are handed over together where there is a pace.
const BATCH_MAX: u64 = 256;

/// Arguments of a node.
#[derive(Args)]
pub struct Arguments {
    /// The address of the NATS server
    #[arg(long)]
    nats: String,
    /// The node's number: 1 or 2
    #[arg(long)]
    number: u16,
    /// A setting
    #[arg(long)]
    set: Vec<String>,
    /// The directory of its journal
    #[arg(long)]
    data: Option<PathBuf>,
}

struct Node {
    router: Router,
    cluster: Option<Cluster>,
    tally: Arc<Tally>,
    pace: Arc<OnceLock<Pace>>,
    /// The agents that send.
    sources: Vec<AgentId>,
    is_durable: bool,
}

/// Runs a node until the standard input ends.
///
/// # Errors
///
/// The router does not start, or cannot join the cluster.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let mut config = Config::preset(Preset::Production);
    let node = arguments.number.to_string();
    let settings = [
        ("cluster.nats", arguments.nats.as_str()),
        ("cluster.name", "perf"),
        ("router.node", &node),
        ("mailbox.overflow", "back-pressure"),
        ("log.level", "error"),
    ];
    let pair = |setting| str::split_once(setting, '=').ok_or_else(|| format!("{setting:?} is not KEY=VALUE"));
    let chosen = arguments.set.iter().map(|setting| pair(setting)).collect::<Result<Vec<_>, _>>()?;
    for (key, value) in settings.into_iter().chain(chosen) {
        config.set(key, value, "the benchmark").map_err(|error| error.to_string())?;
    }
    if let Some(data) = &arguments.data {
        config.store.directory = data.clone().into();
    }
    let number = arguments.number;
    let starting = std::thread::spawn(move || {
        take_cores(number)?;
        Router::builder().config(config).start().map_err(|error| error.to_string())
    });
    let router = starting.join().map_err(|_| "the start panicked".to_owned())??;
    let cluster = Some(Cluster::join(&router).map_err(|error| error.to_string())?);
    let (tally, pace) = (Arc::new(Tally::new()?), Arc::default());
    let mut node = Node { router, cluster, tally, pace, sources: Vec::new(), is_durable: false };
    serve(|words| node.act(words))
}

/// Restricts this thread, and the shards of the router that it starts, to half of the cores. So each node has its own
/// cores, as on a host of its own. All other threads run on any core.
fn take_cores(number: u16) -> Result<(), String> {
    let text = |error: rustix::io::Errno| format!("the cores of this process: {error}");
    let allowed = sched_getaffinity(None).map_err(text)?;
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    let (first, second) = cores.split_at(cores.len().div_ceil(2));
    let own = if number.is_multiple_of(2) && !second.is_empty() { second } else { first };
    let mut set = CpuSet::new();
    for core in own {
        set.set(*core);
    }
    sched_setaffinity(None, &set).map_err(text)
}

impl Node {
    fn act(&mut self, words: &[&str]) -> Result<Value, String> {
        match words {
            ["meet", other] => self.wait_until(number(other)?, |other| other.health == Health::Alive),
            ["watch", other] => self.wait_until(number(other)?, |other| other.health == Health::Dead),
            ["sinks", pairs] => self.receive(number(pairs)?),
            ["sources", pairs, messages, ack_every, kind] => {
                let (messages, ack_every) = (number(messages)?, number(ack_every)?);
                self.send(number(pairs)?, Window { messages, ack_every, is_durable: *kind == "durable" })
            }
            ["go"] => self.go(),
            ["pace", per_second, warm_up, time] => {
                self.send_at(Pace::begin(number(per_second)?, milliseconds(warm_up)?, milliseconds(time)?))
            }
            ["echo"] => self.register(vec![Registration::native(ECHO, || Echo)]).map(|_| Value::Null),
            ["ask", per_second, warm_up, time] => {
                self.ask_at(Pace::begin(number(per_second)?, milliseconds(warm_up)?, milliseconds(time)?))
            }
            ["over"] => {
                self.tally.is_over.store(true, Ordering::Relaxed);
                Ok(Value::Null)
            }
            ["counts"] => self.tally.check().map(|()| self.tally.counts()),
            ["latencies"] => self.tally.check().map(|()| self.tally.latencies()),
            ["link"] => self.link(),
            ["stop"] => self.stop(),
            _ => Err(format!("{words:?} is not known")),
        }
    }

    /// Waits until another node is like this in this node's view, and returns the time.
    fn wait_until(&self, other: u16, is_so: impl Fn(&NodeView) -> bool) -> Result<Value, String> {
        let cluster = self.cluster.as_ref().ok_or("the node has stopped")?;
        let is_other = |node: &NodeView| node.node.into_inner() == other && is_so(node);
        let view = cluster.wait_until(PATIENCE, |view| view.nodes.iter().any(is_other));
        match view.map_err(|error| error.to_string())? {
            Some(_) => Ok(json!({ "at_ns": now_ns() })),
            None => Err(format!("the node sees {:?}", cluster.view())),
        }
    }

    fn register(&self, registrations: Vec<Registration>) -> Result<Vec<AgentId>, String> {
        let registered = self.router.blocking().register_all(registrations);
        registered.into_iter().map(|agent| agent.map_err(|error| error.to_string())).collect()
    }

    fn receive(&self, pairs: u32) -> Result<Value, String> {
        let sink = |pair| {
            let tally = Arc::clone(&self.tally);
            Registration::native(sink_name(pair), move || Sink::new(pair, &tally))
        };
        self.register((0..pairs).map(sink).collect()).map(|_| Value::Null)
    }

    fn send(&mut self, pairs: u32, window: Window) -> Result<Value, String> {
        let source = |pair| {
            let (tally, pace) = (Arc::clone(&self.tally), Arc::clone(&self.pace));
            Registration::native(source_name(pair), move || Source::new((pair, pairs), window, &tally, &pace))
        };
        self.sources = self.register((0..pairs).map(source).collect())?;
        self.is_durable = window.is_durable;
        Ok(Value::Null)
    }

    /// Makes all senders begin.
    fn go(&self) -> Result<Value, String> {
        let start = |agent: &AgentId| Message::builder(Performative::Request).receiver(*agent).build();
        let starts: Result<Vec<_>, _> = self.sources.iter().map(start).collect();
        let starts = starts.map_err(|error| error.to_string())?;
        self.router.blocking().tell_all(starts).map_err(|error| error.to_string())?;
        Ok(Value::Null)
    }

    /// Sends in the names of the agents in turn, at this pace.
    fn send_at(&self, pace: Pace) -> Result<Value, String> {
        let _ = self.pace.set(pace);
        let pairs = self.sources.len() as u64;
        let mut number = 0;
        while number < pace.total() {
            let end = pace.wait_for(number, BATCH_MAX);
            let messages = (number..end).map(|number| {
                let pair = u32::try_from(number % pairs).unwrap_or_default();
                let due_ns = if self.is_durable { 0 } else { pace.counted_from_ns(number) };
                let stamp = Stamp { pair, number: number / pairs, due_ns, wants_ack: false };
                let mut message = message(AgentId::of_text(&sink_name(pair)), &stamp, self.is_durable)?;
                message.set_sender_if_absent(self.sources[pair as usize]);
                Ok(message)
            });
            let messages: Vec<Message> = messages.collect::<Result<_, String>>()?;
            self.router.blocking().tell_all(messages).map_err(|error| error.to_string())?;
            self.tally.sent.fetch_add(end - number, Ordering::Relaxed);
            number = end;
        }
        self.tally.check().map(|()| self.tally.counts())
    }

    /// Sends requests at this pace, one after the other.
    fn ask_at(&self, pace: Pace) -> Result<Value, String> {
        let echo = AgentId::of_text(ECHO);
        for number in 0..pace.total() {
            pace.wait_for(number, 1);
            let content = Stamp { pair: 0, number, due_ns: 0, wants_ack: false }.content();
            let request = Message::builder(Performative::Request).receiver(echo).content(&content[..]).build();
            let request = request.map_err(|error| error.to_string())?;
            let reply = self.router.blocking().ask(request, PATIENCE).map_err(|error| error.to_string())?;
            if reply.content().as_bytes() != content {
                return Err(format!("request {number} got another reply"));
            }
            self.tally.record(pace.counted_from_ns(number));
        }
        Ok(self.tally.latencies())
    }

    /// Returns the figures of the links to other nodes, which are up to a second old.
    fn link(&self) -> Result<Value, String> {
        let view = self.cluster.as_ref().ok_or("the node has stopped")?.view();
        let links = || view.nodes.iter().filter_map(|node| node.link);
        Ok(json!({
            "messages": links().map(|link| link.messages_sent).sum::<u64>(),
            "frames": links().map(|link| link.frames_sent).sum::<u64>(),
            "frames_again": links().map(|link| link.retransmitted).sum::<u64>(),
        }))
    }

    fn stop(&mut self) -> Result<Value, String> {
        self.tally.check()?;
        let report = self.router.shutdown(PATIENCE).map_err(|error| error.to_string())?;
        if let Some(cluster) = self.cluster.take() {
            cluster.leave();
        }
        if report.balances() { Ok(Value::Null) } else { Err(format!("the accounts do not balance: {report:?}")) }
    }
}
