//! Inboxes: agents that live outside the shards.
//!
//! The shard hands an inbox as many messages as it has room for; the rest wait in the agent's mailbox. A message is
//! processed when its owner takes it or, in acknowledged mode, when the owner acknowledges it; either rings the shard,
//! which then hands out more.
//!
//! An acknowledged inbox numbers its messages. Its shard keeps every message until it is acknowledged, in any order, so
//! that unacknowledged ones can be abandoned, or left to the next start, like untaken ones. Only unacknowledged
//! messages take room: one slow message delays no other. Neither side blocks the other: the owner's threads put the
//! numbers of finished messages into a list, which the shard takes.
//!
//! An inbox may have only durable messages acknowledged, and those whose senders want a receipt; all others are processed
//! when they are taken, and are neither kept nor copied.

use std::collections::{BTreeMap, VecDeque};
#[cfg(feature = "serve")]
use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use caxton_shards::api::{InboxNumber, Input, Rejection, SendError, SendErrorKind, is_notice};
use caxton_shards::message::{AgentId, Message, MessageId, Receipt, Reliability};

use super::Router;
use super::calls::not_on_a_shard;
use super::error::WouldDeadlockError;
use crate::deadline::{Deadline, within};

/// State shared by an inbox and its shard.
struct State {
    agent: AgentId,
    number: InboxNumber,
    /// Whether the shard is to look at it.
    touched: AtomicBool,
    /// Processed since the shard last looked: agents' messages and the router's notices.
    messages: AtomicU32,
    notices: AtomicU32,
    closed: AtomicBool,
    done: Mutex<Done>,
}

/// Messages acknowledged or given up since the shard last looked.
#[derive(Default)]
struct Done {
    numbers: Vec<u64>,
    /// Messages given up, each with the reason.
    rejected: Vec<(u64, Box<str>)>,
    /// Whether the shard has taken back the unacknowledged messages, so that acknowledgements come too late.
    too_late: bool,
}

impl State {
    fn done(&self) -> MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which messages are processed when they are acknowledged, and not already when they are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Acknowledging {
    Nothing,
    /// Durable ones, and those whose senders want a receipt.
    #[cfg_attr(not(feature = "serve"), expect(dead_code, reason = "only the doors use it"))]
    Durable,
    Everything,
}

impl Acknowledging {
    /// Whether a message from an agent is to be acknowledged.
    fn concerns(self, message: &Message) -> bool {
        match self {
            Self::Nothing => false,
            Self::Durable => message.reliability() == Reliability::Durable || message.receipt() == Receipt::Processed,
            Self::Everything => true,
        }
    }
}

/// A message on its way to the owner.
struct Handed {
    message: Message,
    /// Its number, if it is to be acknowledged.
    number: Option<u64>,
}

/// The shard's side of an inbox.
pub(crate) struct InboxLink {
    state: Arc<State>,
    sender: flume::Sender<Handed>,
    /// Receives what is left when the inbox is dropped.
    leftovers: flume::Receiver<Handed>,
    /// Tells the owner of the end when it is dropped.
    #[cfg(feature = "serve")]
    _end: flume::Sender<Infallible>,
    kept: Option<Kept>,
}

/// Messages handed out and not acknowledged.
struct Kept {
    acknowledging: Acknowledging,
    /// By number. There are at most as many as the inbox has room for.
    messages: BTreeMap<u64, Message>,
    /// The number of the message handed out last, whether or not it is to be acknowledged.
    last: u64,
}

impl InboxLink {
    pub fn agent(&self) -> AgentId {
        self.state.agent
    }

    /// Begins to look at what the owner has done: what it does from now on is announced again.
    pub fn look(&self) {
        self.state.touched.swap(false, Ordering::AcqRel);
    }

    pub fn is_closed(&self) -> bool {
        self.state.closed.load(Ordering::Acquire)
    }

    /// Returns what was processed since the last call.
    pub fn taken(&mut self, inbox: InboxNumber) -> impl Iterator<Item = Input> {
        let agent = self.state.agent;
        let messages = self.state.messages.swap(0, Ordering::AcqRel);
        let notices = self.state.notices.swap(0, Ordering::AcqRel);
        let taken = (messages + notices > 0).then_some(Input::Taken { agent, inbox, messages, notices });
        let (numbers, messages) = self.kept.as_mut().map_or_else(Default::default, |kept| {
            let (numbers, rejected) = {
                let mut done = self.state.done();
                (std::mem::take(&mut done.numbers), std::mem::take(&mut done.rejected))
            };
            for number in &numbers {
                kept.messages.remove(number);
            }
            let given_up = |(number, why)| Some(Rejection { number, message: kept.messages.remove(&number)?, why });
            (numbers, rejected.into_iter().filter_map(given_up).collect::<Vec<_>>())
        });
        let acknowledged = (!numbers.is_empty()).then_some(Input::Acknowledged { agent, inbox, numbers });
        let rejected = (!messages.is_empty()).then_some(Input::Rejected { agent, inbox, messages });
        taken.into_iter().chain(acknowledged).chain(rejected)
    }

    pub fn put(&mut self, message: Message) {
        let handed = match &mut self.kept {
            Some(kept) if !is_notice(&message) => {
                kept.last += 1;
                if !kept.acknowledging.concerns(&message) {
                    return self.send(Handed { message, number: None });
                }
                // The kept message knows its place in the journal, which a copy does not.
                let handed = Handed { message: message.clone(), number: Some(kept.last) };
                kept.messages.insert(kept.last, message);
                handed
            }
            _ => Handed { message, number: None },
        };
        self.send(handed);
    }

    fn send(&self, handed: Handed) {
        let put = self.sender.try_send(handed);
        debug_assert!(put.is_ok(), "the shard hands out no more than there is room for");
    }

    /// Disables acknowledgements, before the unacknowledged messages are taken back.
    pub fn end_acknowledging(&mut self) {
        self.state.done().too_late = true;
    }

    /// Takes back the agents' messages that were not processed. The router's notices stay.
    pub fn take_back(&mut self) -> Vec<Message> {
        let (notices, messages): (Vec<_>, Vec<_>) =
            self.leftovers.drain().partition(|handed| is_notice(&handed.message));
        for notice in notices {
            self.send(notice);
        }
        self.unprocessed(messages)
    }

    /// Takes the messages that the owner will neither take nor acknowledge any more.
    pub fn leftovers(&mut self) -> Vec<Message> {
        let untaken = self.leftovers.drain().collect();
        self.unprocessed(untaken)
    }

    /// The kept messages include those untaken ones that are to be acknowledged.
    fn unprocessed(&mut self, untaken: Vec<Handed>) -> Vec<Message> {
        let kept = self.kept.as_mut().map(|kept| std::mem::take(&mut kept.messages));
        let others = untaken.into_iter().filter(|handed| handed.number.is_none()).map(|handed| handed.message);
        kept.unwrap_or_default().into_values().chain(others).collect()
    }
}

/// Messages that an owner has taken and not acknowledged, with their numbers, oldest first: at most as many as the
/// inbox has room for.
#[derive(Default)]
struct Ledger(VecDeque<(u64, Option<MessageId>)>);

impl Ledger {
    fn take(&mut self, number: u64, id: Option<MessageId>) {
        self.0.push_back((number, id));
    }

    /// Returns the number of a message that is to be acknowledged.
    fn acknowledge(&mut self, id: Option<MessageId>) -> Option<u64> {
        let place = self.0.iter().position(|(_, taken)| *taken == id)?;
        self.0.remove(place).map(|(number, _)| number)
    }
}

/// Why there is no message or event.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReceiveError {
    /// None arrived in time.
    #[error("nothing came in time")]
    TimedOut,
    /// The router has stopped, or the agent of the inbox was removed.
    #[error("the router has stopped")]
    Stopped,
    /// A blocking call was made on a shard's own thread.
    #[error("a blocking call on a shard's own thread would wait for itself")]
    WouldDeadlock,
}

/// An agent outside the shards: takes its messages here and sends from any thread.
///
/// Dropping the inbox deregisters the agent; messages that were not taken, or not acknowledged in acknowledged mode,
/// are dead-lettered.
///
/// An agent that awaits is an inbox and a task:
///
/// ```
/// use std::time::Duration;
///
/// use caxton_router::prelude::*;
///
/// /// Stands for whatever takes time: a database, an HTTP client, a person.
/// async fn look_up(question: &str) -> String {
///     format!("all about {question}")
/// }
///
/// #[tokio::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let router = Router::builder().start()?;
///     let inbox = router.inbox("librarian").open().await?;
///     tokio::spawn(async move {
///         while let Ok(message) = inbox.recv().await {
///             let found = look_up(message.content().as_text().unwrap_or_default()).await;
///             let Ok(reply) = message.reply(Performative::Inform).content(found).build() else { continue };
///             // The router stops, or the asker has sent too much: there is nobody to tell.
///             let _ = inbox.send(reply).await;
///         }
///     });
///     let question = Message::builder(Performative::QueryRef).receiver("librarian").content("ants").build()?;
///     let reply = router.ask(question, Duration::from_secs(5)).await?;
///     assert_eq!(reply.content().as_text(), Some("all about ants"));
///     tokio::task::spawn_blocking(move || router.shutdown(Duration::from_secs(5))).await??;
///     Ok(())
/// }
/// ```
pub struct Inbox {
    state: Arc<State>,
    receiver: flume::Receiver<Handed>,
    /// Present if messages are to be acknowledged.
    ledger: Option<Mutex<Ledger>>,
    /// Where messages that the owner took are put back.
    #[cfg(feature = "serve")]
    sender: flume::WeakSender<Handed>,
    /// Disconnected once the shard has let the inbox go.
    #[cfg(feature = "serve")]
    end: flume::Receiver<Infallible>,
    router: Router,
    shard: usize,
    /// Number of taken messages after which the shard is notified at the latest.
    tell_after: u32,
}

impl Inbox {
    /// Creates both ends of an inbox with room for `window` messages, with or without acknowledgements.
    pub(super) fn new(
        router: Router,
        (agent, number): (AgentId, InboxNumber),
        window: u32,
        acknowledging: Acknowledging,
    ) -> (Self, InboxLink) {
        let (sender, receiver) = flume::bounded(window as usize);
        let state = Arc::new(State {
            agent,
            number,
            touched: AtomicBool::new(false),
            messages: AtomicU32::new(0),
            notices: AtomicU32::new(0),
            closed: AtomicBool::new(false),
            done: Mutex::default(),
        });
        #[cfg(feature = "serve")]
        let weak = sender.downgrade();
        let acknowledged = acknowledging != Acknowledging::Nothing;
        let kept = acknowledged.then(|| Kept { acknowledging, messages: BTreeMap::new(), last: 0 });
        #[cfg(feature = "serve")]
        let (end_of_link, end) = flume::bounded(0);
        let link = InboxLink {
            state: Arc::clone(&state),
            sender,
            leftovers: receiver.clone(),
            #[cfg(feature = "serve")]
            _end: end_of_link,
            kept,
        };
        let shard = router.shared().partition.shard_of(agent).as_usize();
        let ledger = acknowledged.then(Mutex::default);
        let inbox = Self {
            state,
            receiver,
            ledger,
            #[cfg(feature = "serve")]
            sender: weak,
            #[cfg(feature = "serve")]
            end,
            router,
            shard,
            tell_after: window.div_ceil(2),
        };
        (inbox, link)
    }

    /// Returns the agent's id.
    pub fn id(&self) -> AgentId {
        self.state.agent
    }

    /// Waits for the next message without a time limit.
    ///
    /// # Errors
    ///
    /// Returns [`ReceiveError::Stopped`] when the router has stopped, or the agent was removed, and everything was taken, and
    /// [`ReceiveError::WouldDeadlock`] on a shard's own thread.
    pub async fn recv(&self) -> Result<Message, ReceiveError> {
        self.recv_within(Duration::MAX).await
    }

    /// Waits up to `timeout` for the next message. Dropping the future takes none.
    ///
    /// # Errors
    ///
    /// As for [`Inbox::recv`], and [`ReceiveError::TimedOut`] if none arrived in time.
    pub async fn recv_within(&self, timeout: Duration) -> Result<Message, ReceiveError> {
        not_on_a_shard()?;
        let deadline = Deadline::after(timeout);
        let handed = within(self.router.shared(), self.shard, deadline, self.receiver.recv_async()).await;
        let handed = handed.ok_or(ReceiveError::TimedOut)?.map_err(|_| ReceiveError::Stopped)?;
        Ok(self.took(handed))
    }

    /// Returns the next message if there is one.
    pub fn try_recv(&self) -> Option<Message> {
        let handed = self.receiver.try_recv().ok()?;
        Some(self.took(handed))
    }

    /// Acknowledges a message that the owner took, in any order and from any thread; it is processed then. Returns
    /// false if it was acknowledged before, if the inbox was not [opened](super::InboxBuilder::acknowledged) in
    /// acknowledged mode, if its agent was removed and the message dead-lettered, or if the router has stopped and keeps the
    /// message for the next start.
    ///
    /// Until the shard has noticed the acknowledgement, the receipt is delayed and a durable message is handed out
    /// again after a crash: a message acknowledged at that moment may arrive twice. After a shutdown, no acknowledged
    /// message arrives again.
    pub fn acknowledge(&self, message: &Message) -> bool {
        self.finish(message, |done, number| done.numbers.push(number))
    }

    /// Gives up a message that the owner took and will not finish: it is dead-lettered with the reason
    /// [`AttemptsExhausted`](caxton_shards::dead_letter::DeadLetterReason::AttemptsExhausted) and this explanation, and
    /// its sender is notified. Returns false where [`Inbox::acknowledge`] does.
    pub fn reject(&self, message: &Message, why: impl Into<Box<str>>) -> bool {
        self.finish(message, |done, number| done.rejected.push((number, why.into())))
    }

    /// Puts a message that the owner took and has not acknowledged back, before all that it has not taken.
    #[cfg(feature = "serve")]
    pub(crate) fn put_back(&self, message: Message) {
        let Some(ledger) = &self.ledger else { return };
        let number = ledger.lock().unwrap_or_else(PoisonError::into_inner).acknowledge(message.id());
        let (Some(number), Some(sender)) = (number, self.sender.upgrade()) else { return };
        // The shard takes nothing back meanwhile. What it has taken back is its own.
        let done = self.state.done();
        if done.too_late {
            return;
        }
        let mut waiting: VecDeque<Handed> = self.receiver.drain().collect();
        let comes_later = |handed: &Handed| handed.number.is_none_or(|other| other > number);
        let place = waiting.iter().position(comes_later).unwrap_or(waiting.len());
        waiting.insert(place, Handed { message, number: Some(number) });
        for handed in waiting {
            // What the owner has not acknowledged has kept its room.
            let put = sender.try_send(handed);
            debug_assert!(put.is_ok(), "an unacknowledged message has room");
        }
        drop(done);
    }

    fn finish(&self, message: &Message, note: impl FnOnce(&mut Done, u64)) -> bool {
        let Some(ledger) = &self.ledger else { return false };
        let number = ledger.lock().unwrap_or_else(PoisonError::into_inner).acknowledge(message.id());
        let Some(number) = number else { return false };
        {
            let mut done = self.state.done();
            if done.too_late {
                return false;
            }
            note(&mut done, number);
        }
        self.tell_shard();
        true
    }

    /// Sends a message as this agent and waits until it is accepted, with the call timeout of the handle that opened
    /// the inbox.
    ///
    /// # Errors
    ///
    /// As for [`Router::send`], and [`SendErrorKind::ForeignSender`] if the message names another sender.
    pub async fn send(&self, mut message: Message) -> Result<MessageId, SendError> {
        message.set_sender_if_absent(self.state.agent);
        if message.sender() != Some(self.state.agent) {
            return Err(SendError::new(SendErrorKind::ForeignSender, message));
        }
        self.router.send(message).await
    }

    /// Counts a message as taken, and notifies the shard when nothing is left or half of the room is free again. In
    /// acknowledged mode a message takes room until it is acknowledged.
    fn took(&self, Handed { message, number }: Handed) -> Message {
        if let (Some(number), Some(ledger)) = (number, &self.ledger) {
            ledger.lock().unwrap_or_else(PoisonError::into_inner).take(number, message.id());
            return message;
        }
        let counter = if is_notice(&message) { &self.state.notices } else { &self.state.messages };
        let taken = counter.fetch_add(1, Ordering::AcqRel) + 1;
        if taken >= self.tell_after || self.receiver.is_empty() {
            self.tell_shard();
        }
        message
    }

    /// Takes messages that are there, up to `most` of them and until their contents have `bytes_max` bytes, or waits for the
    /// first one: `wait` holds the wait between calls, and takes a message's wake-up from other owners of the inbox: an
    /// owner that does not go on taking drops it. `into` gets them with whether they are to be acknowledged. The shard
    /// learns of all of them at once, so that this costs less than taking one after the other.
    #[cfg(feature = "serve")]
    pub(crate) fn poll_take(
        &self,
        wait: &mut Option<InboxWait>,
        context: &mut std::task::Context<'_>,
        (most, bytes_max): (usize, usize),
        into: &mut Vec<(Message, bool)>,
    ) -> std::task::Poll<Result<(), ReceiveError>> {
        use std::task::Poll;

        let before = into.len();
        let (mut messages, mut notices, mut bytes) = (0, 0, 0);
        while into.len() - before < most && bytes < bytes_max {
            let handed = match self.receiver.try_recv() {
                Ok(handed) => {
                    // The wait may have been woken for this message. Kept, it would miss the next one, or be woken in
                    // place of another that is still waited for; dropped, it passes on what it was woken for.
                    *wait = None;
                    handed
                }
                Err(_) if into.len() > before => break,
                Err(_) => {
                    let waiting = wait.get_or_insert_with(|| InboxWait(self.receiver.clone().into_recv_async()));
                    let polled = std::pin::Pin::new(&mut waiting.0).poll(context);
                    if polled.is_pending() {
                        return Poll::Pending;
                    }
                    *wait = None;
                    match polled {
                        Poll::Ready(Ok(handed)) => handed,
                        _ => return Poll::Ready(Err(ReceiveError::Stopped)),
                    }
                }
            };
            let Handed { message, number } = handed;
            match (number, &self.ledger) {
                (Some(number), Some(ledger)) => {
                    ledger.lock().unwrap_or_else(PoisonError::into_inner).take(number, message.id());
                }
                _ if is_notice(&message) => notices += 1,
                _ => messages += 1,
            }
            bytes += message.content().len();
            into.push((message, number.is_some()));
        }
        if messages + notices > 0 {
            let taken = self.state.messages.fetch_add(messages, Ordering::AcqRel) + messages;
            let told = self.state.notices.fetch_add(notices, Ordering::AcqRel) + notices;
            if taken.max(told) >= self.tell_after || self.receiver.is_empty() {
                self.tell_shard();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Closes the inbox as dropping it does: it gets nothing further, and its agent is deregistered.
    #[cfg(feature = "serve")]
    pub(crate) fn close(&self) {
        self.state.closed.store(true, Ordering::Release);
        self.tell_shard();
    }

    /// Whether its agent is no longer registered, as far as this is known here. It gets nothing further.
    #[cfg(feature = "serve")]
    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_disconnected()
    }

    /// Waits until its agent [is no longer registered](Self::has_ended).
    #[cfg(feature = "serve")]
    pub(crate) async fn ended(&self) {
        let Err(flume::RecvError::Disconnected) = self.end.recv_async().await;
    }

    fn tell_shard(&self) {
        let shared = self.router.shared();
        // If it is announced already, the shard has not begun to look, and will see this too.
        if !self.state.touched.swap(true, Ordering::AcqRel) {
            shared.links[self.shard].touch(self.state.number);
        }
        shared.ring(self.shard);
    }
}

/// A wait for the next message of an inbox.
#[cfg(feature = "serve")]
pub(crate) struct InboxWait(flume::r#async::RecvFut<'static, Handed>);

impl Drop for Inbox {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::Release);
        self.tell_shard();
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Inbox").field("agent", &self.state.agent).finish_non_exhaustive()
    }
}

impl From<WouldDeadlockError> for ReceiveError {
    fn from(_: WouldDeadlockError) -> Self {
        Self::WouldDeadlock
    }
}

#[cfg(all(test, feature = "serve"))]
mod tests {
    use std::task::{Context, Wake, Waker};

    use caxton_shards::domain::ShardCount;
    use caxton_shards::message::Performative;

    use super::*;

    struct Woken(flume::Sender<()>);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            // It is woken once, however often that happens before it looks.
            let _ = self.0.try_send(());
        }
    }

    /// One of several owners that take out of an inbox.
    struct Taker {
        waker: Arc<Woken>,
        woken: flume::Receiver<()>,
        wait: Option<InboxWait>,
    }

    impl Taker {
        fn new() -> Self {
            let (waker, woken) = flume::bounded(1);
            Self { waker: Arc::new(Woken(waker)), woken, wait: None }
        }

        /// Returns the number of messages taken; `None` if it waits.
        fn take(&mut self, inbox: &Inbox) -> Option<usize> {
            let waker = Waker::from(Arc::clone(&self.waker));
            let mut taken = Vec::new();
            let polled = inbox.poll_take(&mut self.wait, &mut Context::from_waker(&waker), (8, 1_024), &mut taken);
            polled.is_ready().then_some(taken.len())
        }

        /// Waits until it is woken, or was woken since the last call.
        fn is_woken(&self) -> bool {
            self.woken.recv_timeout(Duration::from_mins(1)).is_ok()
        }
    }

    #[test]
    fn one_that_was_woken_and_takes_nothing_more_is_not_woken_in_place_of_others() {
        let router = Router::builder().shards(ShardCount::try_new(1).expect("it is one")).start().expect("it starts");
        let inbox = router.inbox("mine").blocking().open().expect("the inbox is opened");
        let send = || {
            let message = Message::builder(Performative::Inform).receiver("mine").content("x").build();
            router.blocking().send(message.expect("it is valid")).expect("it is accepted");
        };
        let (mut first, mut second) = (Taker::new(), Taker::new());
        assert_eq!(first.take(&inbox), None);
        send();
        assert!(first.is_woken());
        assert_eq!(first.take(&inbox), Some(1));
        for _ in 0..3 {
            assert_eq!(first.take(&inbox), None);
        }
        assert_eq!(second.take(&inbox), None);
        send();
        assert!(first.is_woken());
        assert_eq!(first.take(&inbox), Some(1));
        // The first one is busy elsewhere now.
        send();
        assert!(second.is_woken(), "it is the only one that waits");
        assert_eq!(second.take(&inbox), Some(1));
        drop(inbox);
        router.shutdown(Duration::from_mins(1)).expect("it stops");
    }
}
