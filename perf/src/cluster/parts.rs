//! The parts of the measurement. Each run of a part has its own NATS server and two processes.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::process::Process;
use super::stamp::now_ns;
use crate::doors::{Kind, PATIENCE, Server};
use crate::figures::Figures;

/// Time before anything is counted. Connections are made in it, agents are found, and caches become warm.
const WARM_UP: Duration = Duration::from_secs(1);
/// Number of pairs of agents, unless a part has a single pair.
const PAIRS: u32 = 64;
/// Messages per second of the latency of messages.
const MESSAGES_PER_SECOND: u32 = 10_000;
/// Requests per second. Each is answered before the next one is due.
const REQUESTS_PER_SECOND: u32 = 500;
/// Durable messages per second of their latency.
const DURABLE_PER_SECOND: u32 = 5_000;
/// Number of durable messages of a pair under way.
const DURABLE_WINDOW: u32 = 64;
/// Polling interval while a part waits for counts.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Minimum time for which a node is idle before it is killed.
const IDLE: Duration = Duration::from_millis(1_500);

/// What carries the messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// Two nodes of a cluster.
    Cluster,
    /// Two clients of NATS.
    Bare,
}

impl System {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Bare => "async-nats",
        }
    }
}

/// The parameters of a run.
pub struct Run<'a> {
    pub system: System,
    /// The command `nats-server`.
    pub nats_server: &'a Path,
    /// Settings of nodes, each as `KEY=VALUE`.
    pub settings: &'a [String],
    /// How long to measure.
    pub time: Duration,
    /// The number of the run, from 0.
    pub number: usize,
}

/// Two processes and what connects them.
struct Pair {
    sender: Process,
    receiver: Process,
    server: Server,
    _data: Option<[TempDir; 2]>,
}

/// The counts of both processes at about the same time.
struct Moment {
    sender: Value,
    receiver: Value,
    nats_ns: u64,
}

fn field(value: &Value, name: &str) -> Result<u64, String> {
    value[name].as_u64().ok_or_else(|| format!("a process does not say {name}"))
}

impl Pair {
    /// Starts both processes, and waits until they know each other.
    fn start(run: &Run<'_>, is_durable: bool) -> Result<Self, String> {
        let server = Server::start(Kind::Nats, run.nats_server, run.nats_server)?;
        let nats = format!("nats://{}", server.nats);
        let data = is_durable.then(|| Ok([TempDir::new()?, TempDir::new()?]));
        let data = data.transpose().map_err(|error: std::io::Error| error.to_string())?;
        let start = |number: usize| {
            let data = data.as_ref().map(|data| data[number - 1].path());
            let number = number.to_string();
            let arguments = match run.system {
                System::Cluster => {
                    let settings = run.settings.iter().flat_map(|setting| ["--set", setting]);
                    ["cluster-node", "--nats", &nats, "--number", &number].into_iter().chain(settings).collect()
                }
                System::Bare => vec!["cluster-bare", "--nats", &nats],
            };
            Process::start(&arguments, data, run.time)
        };
        let (mut sender, mut receiver) = (start(1)?, start(2)?);
        sender.call("meet 2")?;
        receiver.call("meet 1")?;
        Ok(Self { sender, receiver, server, _data: data })
    }

    /// Adds the agents. The receivers come first, so that the senders find them.
    fn add_agents(&mut self, pairs: u32, window: u32, ack_every: u32, kind: &str) -> Result<(), String> {
        self.receiver.call(&format!("sinks {pairs}"))?;
        self.sender.call(&format!("sources {pairs} {window} {ack_every} {kind}"))?;
        Ok(())
    }

    fn moment(&mut self) -> Result<Moment, String> {
        let nats_ns = u64::try_from(self.server.cpu_time()?.as_nanos()).unwrap_or(u64::MAX);
        Ok(Moment { sender: self.sender.call("counts")?, receiver: self.receiver.call("counts")?, nats_ns })
    }

    /// Waits until everything that was sent has been handled, and acknowledged if that is wanted.
    fn settle(&mut self, with_acknowledgements: bool) -> Result<(), String> {
        let (mut changed, mut before) = (Instant::now(), 0);
        loop {
            let Moment { sender, receiver, .. } = self.moment()?;
            let (sent, handled) = (field(&sender, "sent")?, field(&receiver, "handled")?);
            let acknowledged = if with_acknowledgements { field(&sender, "acknowledged")? } else { handled };
            if sent == handled && sent == acknowledged {
                return Ok(());
            }
            if before != handled + acknowledged {
                (changed, before) = (Instant::now(), handled + acknowledged);
            }
            if changed.elapsed() > PATIENCE {
                return Err(format!("{sent} messages were sent, {handled} handled, {acknowledged} acknowledged"));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Ends both processes. Fails if one of them reports that something went wrong, such as a message that arrived
    /// twice.
    fn stop(mut self) -> Result<(), String> {
        self.sender.call("stop")?;
        self.receiver.call("stop")?;
        Ok(())
    }
}

/// Messages of 64 pairs at a fixed rate: the time from when each was due until it was handled.
pub fn messages(run: &Run<'_>) -> Result<Figures, String> {
    paced(run, MESSAGES_PER_SECOND, false)
}

fn paced(run: &Run<'_>, per_second: u32, is_durable: bool) -> Result<Figures, String> {
    let mut pair = Pair::start(run, is_durable)?;
    pair.add_agents(PAIRS, 1, 1, if is_durable { "durable" } else { "volatile" })?;
    pair.sender.call(&pace("pace", per_second, run.time))?;
    pair.settle(is_durable)?;
    let measured = if is_durable { &mut pair.sender } else { &mut pair.receiver };
    let latencies = measured.call("latencies")?;
    pair.stop()?;
    quantiles(&latencies, per_second, run.time)
}

/// Requests at a modest rate: the time from when each was due until its reply came.
pub fn requests(run: &Run<'_>) -> Result<Figures, String> {
    let mut pair = Pair::start(run, false)?;
    pair.receiver.call("echo")?;
    let latencies = pair.sender.call(&pace("ask", REQUESTS_PER_SECOND, run.time))?;
    pair.stop()?;
    quantiles(&latencies, REQUESTS_PER_SECOND, run.time)
}

/// Messages of 64 pairs as fast as possible.
pub fn throughput(run: &Run<'_>) -> Result<Figures, String> {
    stream(run, PAIRS, 256, 64)
}

/// Messages of one pair as fast as possible.
pub fn one_pair(run: &Run<'_>) -> Result<Figures, String> {
    stream(run, 1, 1_000, 125)
}

fn stream(run: &Run<'_>, pairs: u32, window: u32, ack_every: u32) -> Result<Figures, String> {
    let mut pair = Pair::start(run, false)?;
    pair.add_agents(pairs, window, ack_every, "volatile")?;
    let (from, to) = flow(&mut pair, run.time)?;
    pair.settle(false)?;
    let link = pair.sender.call("link")?;
    pair.stop()?;
    let of = |moment: &Value, name: &str| field(moment, name);
    let handled = of(&to.receiver, "handled")? - of(&from.receiver, "handled")?;
    let ns = of(&to.receiver, "at_ns")? - of(&from.receiver, "at_ns")?;
    let sender = of(&to.sender, "cpu_ns")? - of(&from.sender, "cpu_ns")?;
    let receiver = of(&to.receiver, "cpu_ns")? - of(&from.receiver, "cpu_ns")?;
    let nats = to.nats_ns.saturating_sub(from.nats_ns);
    if handled == 0 {
        return Err("nothing was handled".to_owned());
    }
    let each = |cpu_ns: u64| cpu_ns as f64 / handled as f64;
    Ok(vec![
        ("messages per second", handled as f64 * 1e9 / ns as f64),
        ("CPU ns, sender", each(sender)),
        ("CPU ns, receiver", each(receiver)),
        ("CPU ns, nats-server", each(nats)),
        ("CPU ns, all", each(sender + receiver + nats)),
        ("messages per frame", of(&link, "messages")? as f64 / of(&link, "frames")?.max(1) as f64),
        ("frames sent again", of(&link, "frames_again")? as f64),
    ])
}

/// Durable messages of 64 pairs as fast as they are acknowledged from end to end.
pub fn durable(run: &Run<'_>) -> Result<Figures, String> {
    let mut pair = Pair::start(run, true)?;
    pair.add_agents(PAIRS, DURABLE_WINDOW, 1, "durable")?;
    let (from, to) = flow(&mut pair, run.time)?;
    pair.settle(true)?;
    pair.stop()?;
    let acknowledged = field(&to.sender, "acknowledged")? - field(&from.sender, "acknowledged")?;
    let ns = field(&to.sender, "at_ns")? - field(&from.sender, "at_ns")?;
    Ok(vec![("acknowledged per second", acknowledged as f64 * 1e9 / ns as f64)])
}

/// Durable messages at a fixed rate: the time from when each was due until its sender had the receipt.
pub fn durable_paced(run: &Run<'_>) -> Result<Figures, String> {
    paced(run, DURABLE_PER_SECOND, true)
}

/// The time from when a node is killed until another node knows that it is dead.
pub fn dead_node(run: &Run<'_>) -> Result<Figures, String> {
    let mut pair = Pair::start(run, false)?;
    // Each run kills the node at a different moment between two probes.
    std::thread::sleep(IDLE + Duration::from_millis(137) * u32::try_from(run.number % 10).unwrap_or_default());
    pair.sender.tell("watch 2")?;
    let killed_ns = now_ns();
    pair.receiver.kill();
    let seen_ns = field(&pair.sender.response()?, "at_ns")?;
    Ok(vec![("ms until seen as dead", seen_ns.saturating_sub(killed_ns) as f64 / 1e6)])
}

/// Has the agents send as fast as they may, and returns the counts at the beginning and the end of the measurement.
fn flow(pair: &mut Pair, time: Duration) -> Result<(Moment, Moment), String> {
    pair.sender.call("go")?;
    std::thread::sleep(WARM_UP);
    let from = pair.moment()?;
    std::thread::sleep(time);
    let to = pair.moment()?;
    pair.sender.call("over")?;
    Ok((from, to))
}

fn pace(verb: &str, per_second: u32, time: Duration) -> String {
    format!("{verb} {per_second} {} {}", WARM_UP.as_millis(), time.as_millis())
}

/// Returns the quantiles of the latencies, of which there have to be as many as messages counted.
fn quantiles(latencies: &Value, per_second: u32, time: Duration) -> Result<Figures, String> {
    let (count, wanted) = (field(latencies, "count")?, time.as_secs_f64() * f64::from(per_second));
    // Rounding may add or remove one.
    if (count as f64 - wanted).abs() > 1.5 {
        return Err(format!("{count} latencies of {wanted} messages"));
    }
    let microseconds = |name: &str| field(latencies, name).map(|ns| ns as f64 / 1e3);
    Ok(vec![
        ("p50 us", microseconds("p50_ns")?),
        ("p99 us", microseconds("p99_ns")?),
        ("longest us", microseconds("max_ns")?),
    ])
}
