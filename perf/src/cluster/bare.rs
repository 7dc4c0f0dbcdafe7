//! A process that does the same work with a NATS client alone. Each message is one packet, and nothing stores, checks
//! or repeats it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{Client, Subject, Subscriber};
use clap::Args;
use futures_lite::StreamExt as _;
use futures_lite::future::poll_once;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::process::{milliseconds, number, serve};
use super::stamp::{Pace, Stamp};
use super::tally::Tally;
use crate::doors::PATIENCE;

/// Number of messages of a pair that are sent in a row.
const IN_A_ROW: u64 = 64;

/// Arguments of such a process.
#[derive(Args)]
pub struct Arguments {
    /// The address of the NATS server
    #[arg(long)]
    nats: String,
}

struct Bare {
    nats: String,
    runtime: Runtime,
    client: Client,
    tally: Arc<Tally>,
    sources: Option<Sources>,
}

/// The senders.
struct Sources {
    acks: Subscriber,
    window: u64,
    ack_every: u64,
    pairs: Vec<Pair>,
}

struct Pair {
    subject: Subject,
    next: u64,
    acknowledged: u64,
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Executes the commands on the standard input until it ends.
///
/// # Errors
///
/// The server cannot be reached.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    // The connection gets its own thread, as in the usual runtime on a host with few cores.
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(text)?;
    let client = runtime.block_on(async_nats::connect(&arguments.nats)).map_err(text)?;
    let tally = Arc::new(Tally::new()?);
    let mut bare = Bare { nats: arguments.nats.clone(), runtime, client, tally, sources: None };
    serve(|words| bare.act(words))
}

impl Bare {
    fn act(&mut self, words: &[&str]) -> Result<Value, String> {
        match words {
            ["meet", _] | ["stop"] => self.tally.check().map(|()| Value::Null),
            ["sinks", pairs] => self.receive(number(pairs)?),
            ["sources", pairs, window, ack_every, _] => {
                self.prepare(number(pairs)?, number(window)?, number(ack_every)?)
            }
            ["go"] => self.go(),
            ["pace", per_second, warm_up, time] => {
                self.send_at(Pace::begin(number(per_second)?, milliseconds(warm_up)?, milliseconds(time)?))
            }
            ["echo"] => self.echo(),
            ["ask", per_second, warm_up, time] => {
                self.ask_at(Pace::begin(number(per_second)?, milliseconds(warm_up)?, milliseconds(time)?))
            }
            ["over"] => {
                self.tally.is_over.store(true, Ordering::Relaxed);
                Ok(Value::Null)
            }
            // Each message is a packet.
            ["link"] => Ok(json!({ "messages": 1, "frames": 1, "frames_again": 0 })),
            ["counts"] => self.tally.check().map(|()| self.tally.counts()),
            ["latencies"] => self.tally.check().map(|()| self.tally.latencies()),
            _ => Err(format!("{words:?} is not known")),
        }
    }

    fn subscribe(&self, subject: &'static str) -> Result<Subscriber, String> {
        let subscribing = async {
            let subscriber = self.client.subscribe(subject).await.map_err(text)?;
            // The server has registered the subscription once it has responded.
            self.client.flush().await.map_err(text)?;
            Ok(subscriber)
        };
        self.runtime.block_on(subscribing)
    }

    fn receive(&self, pairs: u32) -> Result<Value, String> {
        let mut messages = self.subscribe("bare.message.*")?;
        let (client, tally) = (self.client.clone(), Arc::clone(&self.tally));
        self.runtime.spawn(async move {
            let mut next = vec![0; pairs as usize];
            while let Some(message) = messages.next().await {
                let pair = message.subject.rsplit('.').next().and_then(|pair| pair.parse::<u32>().ok());
                let Some((pair, next)) = pair.and_then(|pair| Some((pair, next.get_mut(pair as usize)?))) else {
                    tally.fail(format!("a message came for {}", message.subject));
                    continue;
                };
                let stamp = tally.take(pair, next, &message.payload);
                if stamp.is_some_and(|stamp| stamp.wants_ack) {
                    let ack = [&pair.to_le_bytes()[..], &next.to_le_bytes()].concat();
                    if let Err(error) = client.publish("bare.ack", ack.into()).await {
                        tally.fail(text(error));
                    }
                }
            }
        });
        Ok(Value::Null)
    }

    fn prepare(&mut self, pairs: u32, window: u64, ack_every: u64) -> Result<Value, String> {
        let acks = self.subscribe("bare.ack")?;
        let pair = |pair| Pair { subject: format!("bare.message.{pair}").into(), next: 0, acknowledged: 0 };
        self.sources = Some(Sources { acks, window, ack_every, pairs: (0..pairs).map(pair).collect() });
        Ok(Value::Null)
    }

    fn go(&mut self) -> Result<Value, String> {
        let mut sources = self.sources.take().ok_or("there are no sources")?;
        let (client, tally, handle) = (self.client.clone(), Arc::clone(&self.tally), self.runtime.handle().clone());
        std::thread::spawn(move || {
            if let Err(why) = handle.block_on(sources.send(&client, &tally)) {
                tally.fail(why);
            }
        });
        Ok(Value::Null)
    }

    fn send_at(&mut self, pace: Pace) -> Result<Value, String> {
        let sources = self.sources.take().ok_or("there are no sources")?;
        let pairs = sources.pairs.len() as u64;
        for number in 0..pace.total() {
            pace.wait_for(number, 1);
            let pair = u32::try_from(number % pairs).unwrap_or_default();
            let due_ns = pace.counted_from_ns(number);
            let stamp = Stamp { pair, number: number / pairs, due_ns, wants_ack: false };
            let subject = sources.pairs[pair as usize].subject.clone();
            let publish = self.client.publish(subject, stamp.content().to_vec().into());
            self.runtime.block_on(publish).map_err(text)?;
            self.tally.sent.fetch_add(1, Ordering::Relaxed);
        }
        Ok(self.tally.counts())
    }

    fn echo(&self) -> Result<Value, String> {
        let mut requests = self.subscribe("bare.echo")?;
        let (client, tally) = (self.client.clone(), Arc::clone(&self.tally));
        self.runtime.spawn(async move {
            while let Some(request) = requests.next().await {
                let Some(reply) = request.reply else { continue };
                if let Err(error) = client.publish(reply, request.payload).await {
                    tally.fail(text(error));
                }
            }
        });
        Ok(Value::Null)
    }

    /// Sends requests at this pace, one after the other. The connection is on the thread that waits, which is the
    /// fastest way.
    fn ask_at(&self, pace: Pace) -> Result<Value, String> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(text)?;
        let client = runtime.block_on(async_nats::connect(&self.nats)).map_err(text)?;
        for number in 0..pace.total() {
            pace.wait_for(number, 1);
            let content = Stamp { pair: 0, number, due_ns: 0, wants_ack: false }.content();
            let request =
                async { tokio::time::timeout(PATIENCE, client.request("bare.echo", content.to_vec().into())).await };
            let reply = runtime.block_on(request).map_err(text)?.map_err(text)?;
            if reply.payload[..] != content {
                return Err(format!("request {number} got another reply"));
            }
            self.tally.record(pace.counted_from_ns(number));
        }
        Ok(self.tally.latencies())
    }
}

impl Sources {
    /// Sends as fast as the receiver acknowledges.
    async fn send(&mut self, client: &Client, tally: &Tally) -> Result<(), String> {
        while !tally.is_over.load(Ordering::Relaxed) {
            let mut sent = 0;
            for (number, pair) in self.pairs.iter_mut().enumerate() {
                let room = self.window - (pair.next - pair.acknowledged);
                for _ in 0..room.min(IN_A_ROW) {
                    let wants_ack = (pair.next + 1).is_multiple_of(self.ack_every);
                    let number = u32::try_from(number).unwrap_or_default();
                    let stamp = Stamp { pair: number, number: pair.next, due_ns: 0, wants_ack };
                    client.publish(pair.subject.clone(), stamp.content().to_vec().into()).await.map_err(text)?;
                    pair.next += 1;
                    sent += 1;
                }
            }
            tally.sent.fetch_add(sent, Ordering::Relaxed);
            if sent == 0 {
                let ack = tokio::time::timeout(Duration::from_millis(100), self.acks.next()).await;
                self.take_ack(ack.ok().flatten(), tally);
            }
            while let Some(Some(ack)) = poll_once(self.acks.next()).await {
                self.take_ack(Some(ack), tally);
            }
        }
        Ok(())
    }

    fn take_ack(&mut self, ack: Option<async_nats::Message>, tally: &Tally) {
        let Some(ack) = ack else { return };
        let Some((pair, rest)) = ack.payload.split_first_chunk() else { return };
        let (pair, Some(next)) = (u32::from_le_bytes(*pair) as usize, rest.first_chunk()) else { return };
        let Some(pair) = self.pairs.get_mut(pair) else { return };
        let newly = u64::from_le_bytes(*next).saturating_sub(pair.acknowledged);
        pair.acknowledged += newly;
        tally.acknowledged.fetch_add(newly, Ordering::Relaxed);
    }
}
