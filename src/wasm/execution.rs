//! A guest in the middle of a call: running, waiting for its agent's answer, or suspended until its turn.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Waker};

use caxton_shards::agent::{Context, Outcome, Polled};
use caxton_shards::api::Now;
use wasmtime::Store;

use super::guest::explain;
use super::host::{Answer, Desk, Host, Question};
use super::turns::Place;

/// The state of an instance.
pub(super) enum Stage<C> {
    /// There is none.
    New,
    Starting(Execution<C>),
    /// It can be called.
    Idle(C),
    Handling(Execution<C>),
}

impl<C> Stage<C> {
    /// Takes the instance, if it can be called.
    pub fn take_idle(&mut self) -> Option<C> {
        match std::mem::replace(self, Self::New) {
            Self::Idle(instance) => Some(instance),
            other => {
                *self = other;
                None
            }
        }
    }

    /// Whether a start that took longer has ended, and why it failed if it did.
    pub fn has_started(&self, failed: &mut Option<String>) -> Option<Result<(), String>> {
        match self {
            Self::Starting(_) => None,
            _ => Some(failed.take().map_or(Ok(()), Err)),
        }
    }
}

/// Returns an agent's result of being started. A start that takes longer continues when the agent is polled.
pub(super) fn begun(ready: Option<Result<(), String>>, context: &mut Context<'_>) -> Outcome {
    match ready {
        Some(Ok(())) => Outcome::Done,
        Some(Err(text)) => Outcome::failed(text),
        None => {
            context.poll_me();
            Outcome::Suspended
        }
    }
}

/// Returns a polled agent's result about its start. A failure is reported when the next message finds no instance, and
/// a new one does not start either; or to whoever requests it.
pub(super) fn polled(ready: Option<Result<(), String>>, failed: &mut Option<String>) -> Polled {
    match ready {
        None => Polled::Waiting,
        Some(outcome) => {
            *failed = outcome.err();
            Polled::Finished
        }
    }
}

/// A running call and its result: the guest, ready for the next call, or why there is no guest any more.
pub(super) struct Execution<C> {
    future: Pin<Box<dyn Future<Output = Result<C, String>>>>,
    desk: Arc<Desk>,
    suspended: bool,
    /// Its place in the queue, while it is suspended and does not sleep.
    place: Option<Place>,
}

impl<C> Execution<C> {
    pub fn new(desk: Arc<Desk>, future: impl Future<Output = Result<C, String>> + 'static) -> Self {
        Self { future: Box::pin(future), desk, suspended: false, place: None }
    }

    /// Continues, unless it sleeps or it is another guest's turn. Returns the result, or `None` if it has to continue
    /// later.
    pub fn go_on(&mut self, now: Now, mut answer: impl FnMut(Question) -> Answer) -> Option<Result<C, String>> {
        if self.desk.clock.sleeps_at(now) {
            return None;
        }
        if self.suspended && !self.place.get_or_insert_with(Place::new).comes_up(now) {
            return None;
        }
        self.desk.clock.begin_turn(now);
        #[cfg(feature = "telemetry")]
        let began = super::figures::begin();
        let ended = self.advance(&mut answer);
        #[cfg(feature = "telemetry")]
        super::figures::end(began);
        ended
    }

    /// Runs it until its end, or until it is suspended.
    fn advance(&mut self, answer: &mut impl FnMut(Question) -> Answer) -> Option<Result<C, String>> {
        // Nobody is woken: a suspended guest is polled again on a later turn of the shard.
        let mut context = std::task::Context::from_waker(Waker::noop());
        loop {
            match self.future.as_mut().poll(&mut context) {
                Poll::Ready(outcome) => return Some(outcome),
                Poll::Pending => {
                    let Some(question) = self.desk.question() else {
                        self.suspended = true;
                        if self.desk.clock.sleeps() {
                            // It takes no turns from others, and queues behind them when it wakes.
                            self.place = None;
                        } else {
                            self.place.get_or_insert_with(Place::new);
                        }
                        return None;
                    };
                    self.desk.answer(answer(question));
                }
            }
        }
    }
}

/// Saves the state changed by the handled message, on disk if it is to survive the process. The guest is suspended
/// until it is there.
pub(super) async fn save(store: &mut Store<Host>) -> Result<(), String> {
    #[cfg(feature = "store")]
    write_down(store.data()).await?;
    store.data_mut().save();
    Ok(())
}

/// Has what the message changed written down. Returns when it is on disk.
#[cfg(feature = "store")]
async fn write_down(host: &Host) -> Result<(), String> {
    if let Some(states) = host.states.as_ref().filter(|_| !host.unsaved.is_empty()) {
        let written = states.write(host.me, host.unsaved.clone())?;
        std::future::poll_fn(|_| match written.try_recv() {
            Ok(outcome) => Poll::Ready(outcome),
            Err(flume::TryRecvError::Empty) => Poll::Pending,
            Err(flume::TryRecvError::Disconnected) => Poll::Ready(Err("it was not written down".to_owned())),
        })
        .await?;
    }
    Ok(())
}

/// Calls a guest with a new slice.
pub(super) async fn call<R>(
    store: &mut Store<Host>,
    call: impl AsyncFnOnce(&mut Store<Host>) -> wasmtime::Result<R>,
) -> Result<R, String> {
    let slice = store.data().slice_epochs();
    store.set_epoch_deadline(slice);
    let outcome = call(store).await.map_err(|error| explain(&error));
    #[cfg(feature = "telemetry")]
    if outcome.is_err() {
        super::figures::count_trap();
    }
    store.data_mut().end_of_output();
    outcome
}
