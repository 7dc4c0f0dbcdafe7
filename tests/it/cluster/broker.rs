//! A small server of core NATS that loses, repeats and holds back messages as a test demands.
//!
//! It runs on its own thread and supports what `async-nats` needs: subjects with wildcards, queue groups, headers, and
//! requests without responders. It has no accounts, no streams and no TLS. Everything that it keeps is bounded: a
//! client that does not read is disconnected, and messages held back beyond [`HELD_MAX`] are lost and counted.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, watch};

use protocol::{Delivery, Operation, Parser, Publication};
use subjects::matches;

/// What clients and servers of NATS say to each other: the same file as in the router's door for NATS.
#[allow(dead_code)] // The door uses more of it than this server.
#[path = "../../../src/edge/nats/protocol.rs"]
mod protocol;
/// Subjects and their wildcards: the same file as in the router's door for NATS.
#[allow(dead_code)] // The door uses more of it than this server.
#[path = "../../../src/edge/nats/subjects.rs"]
mod subjects;

/// Maximum size of a message, in bytes.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Maximum number of bytes that wait for a client to read them. A client with more is disconnected.
const OUTPUT_BYTES_MAX: usize = 64 << 20;
/// Maximum number of messages that are held back.
pub const HELD_MAX: usize = 100_000;
/// Maximum number of subscriptions of a client.
const SUBSCRIPTIONS_MAX: usize = 10_000;
/// Maximum number of connections.
const CLIENTS_MAX: usize = 256;

/// The server. It ends when it is dropped.
pub struct Broker {
    address: SocketAddr,
    shared: Arc<Shared>,
    running: Option<Running>,
}

/// How many messages are lost or doubled, of those whose subjects begin with a certain text.
#[derive(Clone, Debug)]
pub struct Faults {
    /// How these subjects begin. Empty means all subjects.
    pub subjects: String,
    /// How many of a thousand messages are lost.
    pub lost_per_mille: u64,
    /// How many of a thousand messages arrive twice.
    pub doubled_per_mille: u64,
}

/// Numbers of messages since the server began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Published by clients.
    pub published: u64,
    /// Delivered to subscriptions.
    pub delivered: u64,
    /// Lost on purpose.
    pub lost: u64,
    /// Delivered twice on purpose.
    pub doubled: u64,
    /// Lost because too many were held back.
    pub overflowed: u64,
}

struct Running {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Broker {
    /// Starts a server on a free port of the loopback interface.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let shared = Arc::new(Shared::default());
        let running = Some(run(listener, &shared));
        Self { address, shared, running }
    }

    /// Returns the URL for clients.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Closes all connections and the port.
    pub fn stop(&mut self) {
        if let Some(Running { stop, thread }) = self.running.take() {
            let _ = stop.send(true);
            thread.join().expect("it does not panic");
            self.shared.lock().clients.clear();
        }
    }

    /// Closes all connections, and opens the same port again.
    pub fn restart(&mut self) {
        self.stop();
        let listener = TcpListener::bind(self.address).expect("the port is free again");
        self.running = Some(run(listener, &self.shared));
    }

    /// Loses and doubles messages from now on. The seed decides which.
    pub fn fail(&self, seed: u64, faults: Faults) {
        let mut state = self.shared.lock();
        (state.dice, state.faults) = (Dice(seed | 1), Some(faults));
    }

    /// Stops losing and doubling messages.
    pub fn heal(&self) {
        self.shared.lock().faults = None;
    }

    /// Holds back messages whose subjects begin with this text.
    pub fn pause(&self, subjects: &str) {
        self.shared.lock().paused.push(subjects.to_owned());
    }

    /// Delivers the messages that were held back, in order, and holds back no more.
    pub fn resume(&self) {
        let mut state = self.shared.lock();
        state.paused.clear();
        for message in std::mem::take(&mut state.held) {
            state.deliver(&message);
        }
    }

    /// Returns the numbers of messages.
    pub fn counts(&self) -> Counts {
        self.shared.lock().counts
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(listener: TcpListener, shared: &Arc<Shared>) -> Running {
    let (stop, stopped) = watch::channel(false);
    let shared = Arc::clone(shared);
    let serve = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        // All connections end here, because their tasks end with the runtime.
        runtime.block_on(accept(listener, shared, stopped));
    };
    Running { stop, thread: std::thread::spawn(serve) }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    listener.set_nonblocking(true).expect("it is a socket");
    let listener = tokio::net::TcpListener::from_std(listener).expect("the runtime takes it");
    loop {
        tokio::select! {
            _ = stopped.changed() => return,
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { return };
                if shared.lock().clients.len() < CLIENTS_MAX {
                    open(stream, &shared);
                }
            }
        }
    }
}

fn open(stream: TcpStream, shared: &Arc<Shared>) {
    stream.set_nodelay(true).expect("it is a socket");
    let (reader, writer) = stream.into_split();
    let output = Arc::new(Output::default());
    let id = {
        let mut state = shared.lock();
        state.last_client += 1;
        let id = state.last_client;
        let client = Client {
            output: Arc::clone(&output),
            subscriptions: BTreeMap::new(),
            echo: true,
            hears_of_no_responders: false,
        };
        state.clients.insert(id, client);
        id
    };
    let info = format!(
        "{{\"server_id\":\"TEST\",\"server_name\":\"test\",\"version\":\"2.10.0\",\"go\":\"\",\"host\":\"127.0.0.1\",\
         \"port\":0,\"headers\":true,\"proto\":1,\"max_payload\":{PAYLOAD_BYTES_MAX},\"client_id\":{id}}}"
    );
    output.put(|bytes| protocol::put_info(bytes, &info));
    let write = tokio::spawn(write(writer, output));
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        read(id, reader, &shared).await;
        shared.lock().clients.remove(&id);
        write.abort();
    });
}

async fn read(id: u64, mut reader: OwnedReadHalf, shared: &Shared) {
    let (mut input, mut parser) = (Vec::new(), Parser::new(PAYLOAD_BYTES_MAX));
    loop {
        if !matches!(reader.read_buf(&mut input).await, Ok(1..)) {
            return;
        }
        let mut begin = 0;
        loop {
            match parser.next(&input[begin..]) {
                Ok(Some((operation, length))) => {
                    let mut state = shared.lock();
                    state.carry_out(id, &operation);
                    // The client was removed because it did not read.
                    if !state.clients.contains_key(&id) {
                        return;
                    }
                    begin += length;
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
        input.drain(..begin);
    }
}

async fn write(mut writer: OwnedWriteHalf, output: Arc<Output>) {
    loop {
        let bytes = std::mem::take(&mut *output.bytes.lock().unwrap_or_else(PoisonError::into_inner));
        if bytes.is_empty() {
            output.more.notified().await;
        } else if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

#[derive(Default)]
struct Shared(Mutex<State>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that wait to be written to a client.
#[derive(Default)]
struct Output {
    bytes: Mutex<Vec<u8>>,
    more: Notify,
}

impl Output {
    /// Appends bytes; returns whether there was room.
    fn put(&self, append: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        append(&mut bytes);
        self.more.notify_one();
        bytes.len() <= OUTPUT_BYTES_MAX
    }
}

struct Client {
    output: Arc<Output>,
    /// The subscriptions, by the ids that the client chose.
    subscriptions: BTreeMap<Vec<u8>, Subscription>,
    /// Whether the client receives messages that it publishes itself.
    echo: bool,
    /// Whether the client is told when nobody is subscribed to the subject of a request.
    hears_of_no_responders: bool,
}

struct Subscription {
    subject: Vec<u8>,
    queue: Option<Vec<u8>>,
    /// The number of messages after which the subscription ends.
    left: Option<u64>,
}

#[derive(Default)]
struct State {
    clients: BTreeMap<u64, Client>,
    last_client: u64,
    paused: Vec<String>,
    held: Vec<Published>,
    faults: Option<Faults>,
    dice: Dice,
    counts: Counts,
}

/// A message on its way.
#[derive(Clone)]
struct Published {
    client: u64,
    subject: Vec<u8>,
    reply: Option<Vec<u8>>,
    headers: Vec<u8>,
    payload: Vec<u8>,
}

impl State {
    fn carry_out(&mut self, id: u64, operation: &Operation<'_>) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        match *operation {
            Operation::Connect(options) => {
                let options: serde_json::Value = serde_json::from_slice(options).unwrap_or_default();
                client.echo = options["echo"].as_bool().unwrap_or(true);
                client.hears_of_no_responders = options["no_responders"].as_bool().unwrap_or_default();
            }
            Operation::Publish(Publication { subject, reply, headers, payload }) => self.publish(Published {
                client: id,
                subject: subject.to_vec(),
                reply: reply.map(<[u8]>::to_vec),
                headers: headers.to_vec(),
                payload: payload.to_vec(),
            }),
            Operation::Subscribe { subject, queue, sid } => {
                if client.subscriptions.len() < SUBSCRIPTIONS_MAX {
                    let (subject, queue) = (subject.to_vec(), queue.map(<[u8]>::to_vec));
                    client.subscriptions.insert(sid.to_vec(), Subscription { subject, queue, left: None });
                }
            }
            Operation::Unsubscribe { sid, after: None } => {
                client.subscriptions.remove(sid);
            }
            Operation::Unsubscribe { sid, after } => {
                if let Some(subscription) = client.subscriptions.get_mut(sid) {
                    subscription.left = after;
                }
            }
            Operation::Ping => {
                client.output.put(|bytes| bytes.extend_from_slice(b"PONG\r\n"));
            }
            Operation::Pong | Operation::Ok | Operation::Error(_) => {}
        }
    }

    fn publish(&mut self, message: Published) {
        self.counts.published += 1;
        let begins = |start: &String| message.subject.starts_with(start.as_bytes());
        if self.paused.iter().any(begins) {
            if self.held.len() < HELD_MAX {
                self.held.push(message);
            } else {
                self.counts.overflowed += 1;
            }
            return;
        }
        if let Some(faults) = self.faults.as_ref().filter(|faults| begins(&faults.subjects)) {
            let roll = self.dice.below(1_000);
            if roll < faults.lost_per_mille {
                self.counts.lost += 1;
                return;
            }
            if roll < faults.lost_per_mille + faults.doubled_per_mille {
                self.counts.doubled += 1;
                self.deliver(&message);
            }
        }
        self.deliver(&message);
    }

    fn deliver(&mut self, message: &Published) {
        let takers = self.takers(message);
        if takers.is_empty() {
            self.refuse(message);
        }
        for (id, sid) in takers {
            let Some(client) = self.clients.get_mut(&id) else { continue };
            let delivery = Delivery {
                subject: &message.subject,
                sid: &sid,
                reply: message.reply.as_deref(),
                headers: &message.headers,
                payload: &message.payload,
            };
            self.counts.delivered += 1;
            let has_room = client.output.put(|bytes| protocol::put_message(bytes, &delivery));
            let left = client.subscriptions.get_mut(&sid).and_then(|subscription| subscription.left.as_mut());
            if left.is_some_and(|left| {
                *left = left.saturating_sub(1);
                *left == 0
            }) {
                client.subscriptions.remove(&sid);
            }
            if !has_room {
                self.clients.remove(&id);
            }
        }
    }

    /// Returns the subscriptions that receive a message: all those without a queue group, and one of each group.
    fn takers(&mut self, message: &Published) -> Vec<(u64, Vec<u8>)> {
        let mut takers = Vec::new();
        let mut groups: BTreeMap<Vec<u8>, Vec<(u64, Vec<u8>)>> = BTreeMap::new();
        for (id, client) in &self.clients {
            if *id == message.client && !client.echo {
                continue;
            }
            for (sid, subscription) in &client.subscriptions {
                if !matches(&subscription.subject, &message.subject) {
                    continue;
                }
                let taker = (*id, sid.clone());
                match &subscription.queue {
                    None => takers.push(taker),
                    Some(queue) => groups.entry(queue.clone()).or_default().push(taker),
                }
            }
        }
        for mut members in groups.into_values() {
            let chosen = self.dice.below(members.len() as u64);
            takers.push(members.swap_remove(usize::try_from(chosen).expect("it is an index")));
        }
        takers
    }

    /// Tells the sender of a request that nobody is subscribed to its subject.
    fn refuse(&mut self, message: &Published) {
        let Some(reply) = message.reply.clone() else { return };
        if !self.clients.get(&message.client).is_some_and(|client| client.hears_of_no_responders) {
            return;
        }
        let headers = b"NATS/1.0 503\r\n\r\n".to_vec();
        let refusal = Published { client: 0, subject: reply, reply: None, headers, payload: Vec::new() };
        self.deliver(&refusal);
    }
}

/// A pseudo-random number generator (xorshift64*).
struct Dice(u64);

impl Default for Dice {
    fn default() -> Self {
        Self(1)
    }
}

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}
