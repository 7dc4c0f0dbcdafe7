//! The loads of NATS clients.

use std::fmt::Display;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::client::{Client, PATIENCE, times as new_times};
use super::server::{Kind, Server};
use crate::figures::Figures;

/// Size of a message's content, in bytes.
const CONTENT_BYTES: usize = 200;
/// Maximum number of messages under way. No server has to drop any, and none has to wait for the client.
const WINDOW: u64 = 8_192;
/// Number of messages that a publisher writes at once.
const BATCH: u64 = 64;
/// Requests per second of the latency load.
const REQUESTS_PER_SECOND: u64 = 5_000;
/// Number of durable messages under way.
const DURABLE_WINDOW: u64 = 256;
/// Time before the figures count, so that caches and connections are warm.
const WARM_UP: Duration = Duration::from_millis(500);

fn text(error: impl Display) -> String {
    error.to_string()
}

/// Counts what arrived, and wakes who waits for it.
#[derive(Default)]
struct Arrived {
    count: AtomicU64,
    has_ended: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Arrived {
    fn add(&self, count: u64) {
        self.count.fetch_add(count, Ordering::Release);
        let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.changed.notify_all();
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Waits until so many have arrived. Returns whether they have.
    fn wait_for(&self, wanted: u64) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while self.count() < wanted {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.has_ended.load(Ordering::Relaxed) {
                return false;
            }
            guard = self.changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// Receives until `wanted` messages have arrived; the publisher says how many those are.
fn count_deliveries(mut client: Client, arrived: &Arrived, wanted: &AtomicU64) -> Result<(), String> {
    let received = loop {
        if arrived.count() >= wanted.load(Ordering::Acquire) {
            break Ok(());
        }
        let mut count = 0;
        match client.receive(|delivery| count += u64::from(delivery.payload.len() == CONTENT_BYTES)) {
            Ok(_) => arrived.add(count),
            Err(error) => break Err(text(error)),
        }
    };
    arrived.has_ended.store(true, Ordering::Relaxed);
    arrived.add(0);
    received
}

/// The subject of the agent that everything is sent to.
fn subject(server: &Server, name: &str) -> String {
    if server.kind == Kind::Caxton { format!("agent.{name}") } else { format!("load.{name}") }
}

/// One publisher, one subscriber: how many messages per second arrive, and what each costs the server.
pub fn throughput(server: &Server, time: Duration) -> Result<Figures, String> {
    let subject = subject(server, "sink");
    let mut subscriber = Client::connect(server.nats).map_err(text)?;
    subscriber.subscribe(&subject, 1).map_err(text)?;
    let mut publisher = Client::connect(server.nats).map_err(text)?;
    let mut message = format!("PUB {subject} {CONTENT_BYTES}\r\n").into_bytes();
    message.extend(std::iter::repeat_n(b'x', CONTENT_BYTES));
    message.extend_from_slice(b"\r\n");
    let batch = message.repeat(usize::try_from(BATCH).unwrap_or(1));
    let (arrived, wanted) = (Arrived::default(), AtomicU64::new(u64::MAX));
    std::thread::scope(|scope| {
        let counting = scope.spawn(|| count_deliveries(subscriber, &arrived, &wanted));
        let mut sent = 0;
        let mut publish_for = |time: Duration, sent: &mut u64| -> Result<(), String> {
            let began = Instant::now();
            while began.elapsed() < time {
                if !arrived.wait_for((*sent + BATCH).saturating_sub(WINDOW)) {
                    return Err(format!("{} of {sent} messages arrived", arrived.count()));
                }
                publisher.write(&batch).map_err(text)?;
                *sent += BATCH;
            }
            Ok(())
        };
        let measured = publish_for(WARM_UP, &mut sent).and_then(|()| {
            let (began, cpu, before) = (Instant::now(), server.cpu_time()?, arrived.count());
            publish_for(time, &mut sent)?;
            let (seconds, cpu) = (began.elapsed().as_secs_f64(), server.cpu_time()?.saturating_sub(cpu));
            let count = (arrived.count() - before) as f64;
            Ok(vec![("messages per second", count / seconds), ("CPU ns per message", cpu.as_nanos() as f64 / count)])
        });
        wanted.store(sent, Ordering::Release);
        let all = arrived.wait_for(sent);
        if measured.is_err() || !all {
            // Ends the subscriber, which waits for the socket.
            let _ = publisher.write(b"");
        }
        if !all {
            return Err(format!("{} of {sent} messages arrived", arrived.count()));
        }
        // One more message wakes the subscriber, if it has read everything before it learnt how much that is.
        let _ = publisher.write(&message);
        counting.join().map_err(|_| "the subscriber panicked".to_owned())??;
        measured
    })
}

/// Requests at a fixed rate, and the time from when each was due until its reply arrived.
pub fn latency(server: &Server, time: Duration) -> Result<Figures, String> {
    let subject = subject(server, "echo");
    let mut responder = Client::connect(server.nats).map_err(text)?;
    responder.subscribe(&subject, 1).map_err(text)?;
    let mut requester = Client::connect(server.nats).map_err(text)?;
    requester.subscribe("_INBOX.perf.*", 1).map_err(text)?;
    let requests = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX) * REQUESTS_PER_SECOND / 1_000;
    let (warm_up, total) = (requests(WARM_UP), requests(WARM_UP + time));
    let interval = Duration::from_secs(1) / u32::try_from(REQUESTS_PER_SECOND).unwrap_or(1);
    let mut writer = requester.writer().map_err(text)?;
    let ends = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let echo = scope.spawn(|| -> Result<(), String> {
            let mut writer = responder.writer().map_err(text)?;
            let mut out = Vec::new();
            while !ends.load(Ordering::Relaxed) {
                out.clear();
                responder
                    .receive(|delivery| {
                        let Some(reply) = delivery.reply else { return };
                        out.extend_from_slice(b"PUB ");
                        out.extend_from_slice(reply);
                        out.extend_from_slice(format!(" {}\r\n", delivery.payload.len()).as_bytes());
                        out.extend_from_slice(delivery.payload);
                        out.extend_from_slice(b"\r\n");
                    })
                    .map_err(text)?;
                writer.write_all(&out).map_err(text)?;
            }
            Ok(())
        });
        let began = Instant::now();
        let due = move |number: u64| began + interval * u32::try_from(number).unwrap_or(u32::MAX);
        let asking = scope.spawn(move || -> Result<(), String> {
            let content = "x".repeat(CONTENT_BYTES);
            let mut out = Vec::new();
            let mut number = 0;
            while number < total {
                let now = Instant::now();
                if due(number) > now {
                    std::thread::sleep(due(number) - now);
                }
                // Those that are late go together.
                out.clear();
                let now = Instant::now();
                while number < total && due(number) <= now {
                    out.extend_from_slice(
                        format!("PUB {subject} _INBOX.perf.{number} {CONTENT_BYTES}\r\n{content}\r\n").as_bytes(),
                    );
                    number += 1;
                }
                writer.write_all(&out).map_err(text)?;
            }
            Ok(())
        });
        let mut times = new_times().map_err(text)?;
        let (mut replies, mut error) = (0, None);
        while replies < total {
            let received = requester.receive(|delivery| {
                let now = Instant::now();
                replies += 1;
                let number = delivery
                    .subject
                    .strip_prefix(b"_INBOX.perf.")
                    .and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u64>().ok());
                match number {
                    _ if delivery.payload.len() != CONTENT_BYTES => {
                        error = Some(format!("a request failed: {}", String::from_utf8_lossy(delivery.headers)));
                    }
                    Some(number) if number >= warm_up => {
                        let taken = now.saturating_duration_since(due(number)).as_nanos();
                        times.saturating_record(u64::try_from(taken).unwrap_or(u64::MAX));
                    }
                    _ => {}
                }
            });
            if let Err(broken) = received {
                error = Some(format!("{replies} of {total} replies arrived: {broken}"));
            }
            if error.is_some() {
                break;
            }
        }
        ends.store(true, Ordering::Relaxed);
        asking.join().map_err(|_| "the requester panicked".to_owned())??;
        // One more request lets the responder see that it is over.
        let _ = requester.write(format!("PUB {} _INBOX.perf.end 0\r\n\r\n", self::subject(server, "echo")).as_bytes());
        echo.join().map_err(|_| "the responder panicked".to_owned())??;
        match error {
            Some(error) => Err(error),
            None => Ok(vec![
                ("p50 us", times.value_at_quantile(0.5) as f64 / 1e3),
                ("p99 us", times.value_at_quantile(0.99) as f64 / 1e3),
            ]),
        }
    })
}

/// Durable messages, each of which the server acknowledges once it is on disk.
pub fn durable(server: &Server, time: Duration) -> Result<Figures, String> {
    let mut figures = Vec::new();
    for (window, name) in [(1, "one at a time per second"), (DURABLE_WINDOW, "256 under way per second")] {
        figures.push((name, durable_with(server, time, window)?));
    }
    Ok(figures)
}

fn durable_with(server: &Server, time: Duration, window: u64) -> Result<f64, String> {
    let subject = subject(server, &format!("durable{window}"));
    let mut publisher = Client::connect(server.nats).map_err(text)?;
    publisher.subscribe("_INBOX.durable.*", 1).map_err(text)?;
    let content = "x".repeat(CONTENT_BYTES);
    let mut receiver = Client::connect(server.nats).map_err(text)?;
    let message = if server.kind == Kind::Caxton {
        receiver.subscribe(&subject, 1).map_err(text)?;
        let headers =
            "NATS/1.0\r\nCaxton-Performative: inform\r\nCaxton-Reliability: durable\r\nCaxton-Ack: accepted\r\n\r\n";
        let total = headers.len() + CONTENT_BYTES;
        format!("HPUB {subject} _INBOX.durable.1 {} {total}\r\n{headers}{content}\r\n", headers.len())
    } else {
        let stream =
            format!("{{\"name\":\"D{window}\",\"subjects\":[\"{subject}\"],\"storage\":\"file\",\"num_replicas\":1}}");
        let create = format!("PUB $JS.API.STREAM.CREATE.D{window} _INBOX.durable.0 {}\r\n{stream}\r\n", stream.len());
        publisher.write(create.as_bytes()).map_err(text)?;
        let mut created = false;
        while !created {
            publisher
                .receive(|delivery| created = !String::from_utf8_lossy(delivery.payload).contains("\"error\""))
                .map_err(text)?;
        }
        format!("PUB {subject} _INBOX.durable.1 {CONTENT_BYTES}\r\n{content}\r\n")
    };
    let is_over = AtomicBool::new(false);
    let wanted = AtomicU64::new(u64::MAX);
    let arrived = Arrived::default();
    std::thread::scope(|scope| {
        let takes = server.kind == Kind::Caxton;
        let (arrived, wanted, is_over) = (&arrived, &wanted, &is_over);
        let counting = takes.then(|| scope.spawn(move || count_deliveries(receiver, arrived, wanted)));
        let (mut sent, mut acknowledged, mut refused) = (0, 0, None);
        let began = Instant::now();
        let mut out = Vec::new();
        while !is_over.load(Ordering::Relaxed) || acknowledged < sent {
            out.clear();
            if began.elapsed() >= time {
                is_over.store(true, Ordering::Relaxed);
            } else {
                while sent < acknowledged + window {
                    out.extend_from_slice(message.as_bytes());
                    sent += 1;
                }
                publisher.write(&out).map_err(text)?;
            }
            if acknowledged < sent {
                publisher
                    .receive(|delivery| {
                        acknowledged += 1;
                        let status = delivery.headers.strip_prefix(b"NATS/1.0 ").is_some();
                        let said = [delivery.headers, delivery.payload].concat();
                        let said = String::from_utf8_lossy(&said).into_owned();
                        if status || said.contains("Error") || said.contains("\"error\"") {
                            refused = Some(said);
                        }
                    })
                    .map_err(text)?;
            }
            if let Some(refused) = refused {
                return Err(format!("a durable message was refused: {refused}"));
            }
        }
        let rate = acknowledged as f64 / began.elapsed().as_secs_f64();
        if let Some(counting) = counting {
            wanted.store(sent, Ordering::Release);
            if !arrived.wait_for(sent) {
                return Err(format!("{} of {sent} durable messages arrived", arrived.count()));
            }
            let _ = publisher.write(message.as_bytes());
            counting.join().map_err(|_| "the subscriber panicked".to_owned())??;
        }
        Ok(rate)
    })
}
