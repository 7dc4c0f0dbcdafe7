//! The door for clients of NATS: what any of them publishes becomes a message, and an agent's messages become theirs.
//!
//! A client speaks the [protocol](protocol) of NATS; [mapping] says what its subjects and [headers](headers) mean in ACL,
//! [render] what messages are to it, and a [connection](connection) carries it out. There is no subject space here as in NATS: a subject stands for an agent, a
//! capability or a question, and messages go through the router like all others, to one mailbox.
//!
//! Everything is bounded: connections, subscriptions, questions and replies that are remembered, what a client may have
//! on its way into the router, and what waits to be written to it.

mod connection;
mod exchanges;
mod figures;
mod header_names;
mod headers;
mod heartbeats;
mod mapping;
mod options;
mod prompts;
mod protocol;
mod refusal;
mod render;
mod subjects;

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use caxton_shards::api::SendErrorKind;
use caxton_shards::domain::ContentLimit;
use caxton_shards::message::{AgentId, MessageId};
use futures_lite::future::or;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use self::connection::Arrived;
pub(crate) use self::figures::{ByReason, NatsFigures, Traffic};
use self::heartbeats::Heartbeats;
use self::prompts::PromptFigures;
use super::doors::DoorContext;
use super::doors::room::Room;
use crate::router::flow::Flows;

/// Maximum size of a message of a client, its headers included, whatever the router's limit for content is.
const PAYLOAD_BYTES_MAX: usize = 64 << 20;
/// Delay before accepting again after that failed, for example because no file descriptor is free.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Time for connections to tell their clients that they are closed.
const CLOSED_WITHIN: Duration = Duration::from_millis(200);
/// Maximum number of agents whose names are remembered.
const NAMES_MAX: usize = 16_384;
/// Maximum memory of replies that wait for a connection, in bytes. One of them may be larger.
const POST_BYTES_MAX: usize = 4 << 20;
/// Time after which an agent whose name was not found is looked up again.
const UNNAMED_FOR: Duration = Duration::from_secs(5);

/// What the connections of this door share.
struct Door {
    context: Arc<DoorContext>,
    /// The server's id.
    id: String,
    local: SocketAddr,
    /// The number of the last connection.
    connections: AtomicU32,
    /// Where each connection gets what others have for it.
    posts: Mutex<HashMap<u32, Arc<Post>>>,
    figures: Arc<NatsFigures>,
    /// When it was opened.
    started: SystemTime,
    prompts: PromptFigures,
    heartbeats: Heartbeats,
    names: Mutex<HashMap<AgentId, Named>>,
    /// How much of what each agent sends is on its way.
    flows: Arc<Flows>,
    /// The connections that have subscribed to agents without a queue group.
    subscribers: Mutex<HashMap<AgentId, u32>>,
}

/// What is known of an agent's name.
#[derive(Clone, Debug)]
enum Named {
    /// It has this one.
    Name(Arc<str>),
    /// It is a client's that has not chosen one.
    Anonymous,
    /// Nobody knew it at this time.
    Unknown(Instant),
}

/// What happens outside a connection's own task.
enum Event {
    /// A message that was sent was accepted, or not.
    Sent { reply: Box<[u8]>, result: Result<MessageId, SendErrorKind> },
    /// Another connection, which takes messages of the same agent, has taken one that is for this connection.
    Reply(Arrived),
    /// Another connection has subscribed to this agent, and takes nothing out of its inbox before it gets the guard.
    TakenOver(AgentId, HandOver),
}

/// The promise of a connection to give back what it has taken for an agent. Dropping it keeps the promise.
struct HandOver(#[expect(dead_code, reason = "the other end notices that it is dropped")] oneshot::Sender<Infallible>);

/// What a connection waits for that has taken an agent over.
type HandedOver = oneshot::Receiver<Infallible>;

/// Events for a connection. Those that are no replies are bounded by what puts them there.
struct Post {
    state: Mutex<PostState>,
    figures: Arc<NatsFigures>,
}

#[derive(Default)]
struct PostState {
    events: Vec<Event>,
    /// Agents that others have taken over, which is handled even while the client does not read.
    taken_over: Vec<Event>,
    /// The connection's agents: replies to others are none of its.
    agents: HashSet<AgentId>,
    /// The memory that replies take, about.
    bytes: usize,
    is_full: bool,
    waker: Option<Waker>,
}

/// A connection has not handled replies until there was no room for more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct PostFull;

impl Post {
    fn new(figures: &Arc<NatsFigures>) -> Self {
        Self { state: Mutex::default(), figures: Arc::clone(figures) }
    }

    fn lock(&self) -> MutexGuard<'_, PostState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_agent(&self, agent: AgentId) {
        self.lock().agents.insert(agent);
    }

    fn remove_agent(&self, agent: AgentId) {
        self.lock().agents.remove(&agent);
    }

    /// Adds an event that is no reply.
    fn put(&self, event: Event) {
        let mut state = self.lock();
        state.events.push(event);
        Self::wake(state);
    }

    fn take_over(&self, agent: AgentId, hand_over: HandOver) {
        let mut state = self.lock();
        state.taken_over.push(Event::TakenOver(agent, hand_over));
        Self::wake(state);
    }

    /// Adds a reply that another connection has taken. Returns it if the connection does not have its agent, or is gone.
    /// One for which there is no room is given back to its inbox, if it is to be acknowledged, and the connection is told.
    fn put_reply(&self, arrived: Arrived) -> Option<Arrived> {
        let bytes = size_of::<Event>() + arrived.message.weight();
        let mut state = self.lock();
        if !state.agents.contains(&arrived.agent) {
            return Some(arrived);
        }
        let left = if state.bytes == 0 || state.bytes + bytes <= POST_BYTES_MAX {
            state.bytes += bytes;
            state.events.push(Event::Reply(arrived));
            None
        } else {
            state.is_full = true;
            Some(arrived)
        };
        Self::wake(state);
        if let Some(arrived) = left {
            self.drop_reply(&Event::Reply(arrived), "slow-consumer");
        }
        None
    }

    /// Counts a reply that nobody gets, unless dropping it puts it back into its inbox.
    fn drop_reply(&self, event: &Event, reason: &'static str) {
        if matches!(event, Event::Reply(arrived) if arrived.held.is_none()) {
            self.figures.dropped.count(reason);
        }
    }

    fn wake(mut state: MutexGuard<'_, PostState>) {
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Gives back what the connection has not handled, as it is gone, and every later reply.
    fn close(&self) {
        let mut state = self.lock();
        state.agents.clear();
        let left = (std::mem::take(&mut state.events), std::mem::take(&mut state.taken_over));
        drop(state);
        left.0.iter().for_each(|event| self.drop_reply(event, "gone"));
        drop(left);
    }

    /// Returns what has come, or only what others have taken over if nothing else can be handled now.
    fn poll(&self, context: &mut Context<'_>, takes_replies: bool) -> Poll<Result<Vec<Event>, PostFull>> {
        let mut state = self.lock();
        if takes_replies && state.is_full {
            return Poll::Ready(Err(PostFull));
        }
        let mut events = Vec::new();
        if takes_replies {
            state.bytes = 0;
            std::mem::swap(&mut events, &mut state.events);
        }
        events.append(&mut state.taken_over);
        if events.is_empty() {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(events))
    }
}

impl Door {
    fn new(context: Arc<DoorContext>, local: SocketAddr) -> Self {
        Self {
            id: format!("CAXTON{:016X}{:08X}", crate::clock::wall_time().0, std::process::id()),
            local,
            connections: AtomicU32::new(first_connection()),
            posts: Mutex::default(),
            names: Mutex::default(),
            flows: Flows::new(&context.router),
            figures: Arc::clone(&context.router.shared().nats),
            started: SystemTime::now(),
            prompts: PromptFigures::default(),
            heartbeats: Heartbeats::new(),
            subscribers: Mutex::default(),
            context,
        }
    }

    /// Returns the maximum length of a payload, headers included, of a connection that begins now.
    fn payload_max(&self) -> usize {
        self.content_max().as_usize().saturating_add(protocol::HEADERS_BYTES_MAX).min(PAYLOAD_BYTES_MAX)
    }

    /// Returns the maximum size of a message's content.
    fn content_max(&self) -> ContentLimit {
        self.context.content_max()
    }

    fn posts(&self) -> MutexGuard<'_, HashMap<u32, Arc<Post>>> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a connection the only one that has subscribed to an agent. A client that lost its connection thereby takes its
    /// agent back from it, whether or not that was noticed. Returns what to wait for before anything is taken out of the
    /// agent's inbox: what the former one has not written is put back in front of that.
    fn take_over(&self, agent: AgentId, connection: u32) -> Option<HandedOver> {
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        let former = subscribers.insert(agent, connection).and_then(|former| self.posts().get(&former).cloned());
        drop(subscribers);
        let (hand_over, handed_over) = oneshot::channel();
        former?.take_over(agent, HandOver(hand_over));
        Some(handed_over)
    }

    /// Forgets that a connection has subscribed to an agent.
    fn forget_subscriber(&self, agent: AgentId, connection: u32) {
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        if subscribers.get(&agent) == Some(&connection) {
            subscribers.remove(&agent);
        }
    }

    /// Returns what is known of an agent's name.
    fn name_of(&self, agent: AgentId) -> Option<Named> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names
            .get(&agent)
            .filter(|named| !matches!(named, Named::Unknown(since) if since.elapsed() >= UNNAMED_FOR))
            .cloned()
    }

    fn set_name(&self, agent: AgentId, name: Named) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= NAMES_MAX {
            names.retain(|_, named| matches!(named, Named::Anonymous));
        }
        names.insert(agent, name);
    }

    fn forget_name(&self, agent: AgentId) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).remove(&agent);
    }
}

/// Returns a number to begin with that cannot be guessed: replies to durable messages of an earlier run name a connection
/// that is none of this run's.
fn first_connection() -> u32 {
    use std::hash::{BuildHasher, RandomState};

    (RandomState::new().hash_one(0) & u64::from(u32::MAX >> 1)).try_into().unwrap_or(0)
}

/// Serves clients of NATS until the doors are closed.
pub(crate) async fn serve(listener: TcpListener, context: Arc<DoorContext>) {
    let Ok(local) = listener.local_addr() else { return };
    let room = Arc::new(Room::default());
    let mut closing = context.closing.clone();
    let door = Arc::new(Door::new(context, local));
    let closed = async move {
        let _ = closing.wait_for(|closing| *closing).await;
    };
    let heartbeats = async {
        door.heartbeats.send(&door.context.router).await;
    };
    let serve = or(heartbeats, accept(listener, Arc::clone(&door), Arc::clone(&room)));
    or(closed, serve).await;
    // Until the last connection has said so to its client.
    let _ = tokio::time::timeout(CLOSED_WITHIN, room.is_empty()).await;
}

async fn accept(listener: TcpListener, door: Arc<Door>, room: Arc<Room>) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let Some(place) = room.enter(door.context.connections_max()) else {
            turn_away(&stream);
            door.figures.closed.count("too-many");
            continue;
        };
        let door = Arc::clone(&door);
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            door.figures.connections.fetch_add(1, Ordering::Relaxed);
            let figures = Arc::clone(&door.figures);
            let reason = connection::serve(door, stream, peer).await;
            figures.connections.fetch_sub(1, Ordering::Relaxed);
            figures.closed.count(reason);
            drop(place);
        });
    }
}

/// Tells a client that there are too many, as far as it can be told at once.
fn turn_away(stream: &TcpStream) {
    let mut output = Vec::new();
    protocol::put_error(&mut output, "maximum connections exceeded");
    let _ = stream.try_write(&output);
}

#[cfg(test)]
mod tests {
    use caxton_shards::message::{Message, Performative};

    use super::*;

    #[test]
    fn a_connection_gets_replies_for_its_agents_until_it_handles_too_few_or_is_gone() {
        let figures = Arc::<NatsFigures>::default();
        let post = Post::new(&figures);
        let mut context = Context::from_waker(Waker::noop());
        let reply = |bytes: usize| {
            let message = Message::builder(Performative::Inform).content(vec![b'x'; bytes]).build();
            Arrived { agent: AgentId::of_text("asker"), message: message.expect("it is valid"), held: None }
        };
        assert!(post.put_reply(reply(1)).is_some(), "the connection does not have the agent");
        post.add_agent(AgentId::of_text("asker"));
        let put = |bytes| assert!(post.put_reply(reply(bytes)).is_none());
        put(2 * POST_BYTES_MAX);
        let polled = post.poll(&mut context, true);
        assert!(matches!(polled, Poll::Ready(Ok(events)) if events.len() == 1), "one may be larger");
        for _ in 0..3 {
            put(POST_BYTES_MAX / 4);
        }
        assert!(matches!(post.poll(&mut context, true), Poll::Ready(Ok(events)) if events.len() == 3));
        assert!(post.poll(&mut context, true).is_pending());
        for _ in 0..5 {
            put(POST_BYTES_MAX / 4);
        }
        assert!(matches!(post.poll(&mut context, true), Poll::Ready(Err(PostFull))));
        let (hand_over, mut handed_over) = oneshot::channel();
        post.take_over(AgentId::of_text("asker"), HandOver(hand_over));
        let polled = post.poll(&mut context, false);
        assert!(matches!(polled, Poll::Ready(Ok(events)) if matches!(events[..], [Event::TakenOver(..)])));
        assert_eq!(handed_over.try_recv(), Err(oneshot::error::TryRecvError::Closed), "the event was dropped");
        assert!(post.poll(&mut context, false).is_pending());
        post.close();
        assert!(post.lock().events.is_empty(), "they are given back");
        assert!(post.put_reply(reply(1)).is_some(), "the connection is gone");
        assert_eq!(figures.dropped.all(), [("gone", 3), ("slow-consumer", 2)]);
    }
}

#[cfg(test)]
pub(crate) mod told {
    //! What a client is told of the engine's errors.

    use caxton_shards::api::{DeliveryError, SendErrorKind};

    use super::refusal::Refusal;

    /// Returns reason and status of a message that is not accepted.
    pub(crate) fn of_send(kind: &SendErrorKind) -> (String, u16) {
        told(&Refusal::of_send_error(kind))
    }

    /// Returns reason and status of a message that failed.
    pub(crate) fn of_delivery(error: &DeliveryError) -> (String, u16) {
        told(&Refusal::of_delivery_error(error))
    }

    fn told(refusal: &Refusal) -> (String, u16) {
        (refusal.reason.word.to_owned(), refusal.code())
    }
}
