//! A guest in the middle of something: it runs, asks its agent something, or is suspended until its turn comes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use caxton_shards::interface::Now;
use wasmtime::Store;

use super::guest::explain;
use super::host::{Answer, Desk, Host, Question};
use super::turns::Place;

/// What runs, and what it gives: the guest itself, ready for the next call, or why there is no guest any more.
pub(super) struct Execution<C> {
    future: Pin<Box<dyn Future<Output = Result<C, String>>>>,
    desk: Arc<Desk>,
    /// Once it was suspended.
    place: Option<Place>,
}

impl<C> Execution<C> {
    pub fn new(desk: Arc<Desk>, future: impl Future<Output = Result<C, String>> + 'static) -> Self {
        Self { future: Box::pin(future), desk, place: None }
    }

    /// Goes on, unless it is another guest's turn. Answers what came of it, or nothing if it has to go on later.
    pub fn go_on(&mut self, now: Now, mut answer: impl FnMut(Question) -> Answer) -> Option<Result<C, String>> {
        if self.place.as_ref().is_some_and(|place| !place.comes_up(now)) {
            return None;
        }
        // Nobody is woken: whoever is suspended is looked at again on a later turn of the shard.
        let mut context = Context::from_waker(Waker::noop());
        loop {
            match self.future.as_mut().poll(&mut context) {
                Poll::Ready(outcome) => return Some(outcome),
                Poll::Pending => {
                    let Some(question) = self.desk.question() else {
                        self.place.get_or_insert_with(Place::new);
                        return None;
                    };
                    self.desk.answer(answer(question));
                }
            }
        }
    }
}

/// The message was handled: what it changed is remembered, on disk where it is to outlive the process. The guest is suspended
/// until it is there.
pub(super) async fn save(store: &mut Store<Host>) -> Result<(), String> {
    let host = store.data_mut();
    if let Some(states) = host.states.as_ref().filter(|_| !host.unsaved.is_empty()) {
        let written = states.write(host.me, host.unsaved.clone())?;
        std::future::poll_fn(|_| match written.try_recv() {
            Ok(outcome) => Poll::Ready(outcome),
            Err(flume::TryRecvError::Empty) => Poll::Pending,
            Err(flume::TryRecvError::Disconnected) => Poll::Ready(Err("it was not written down".to_owned())),
        })
        .await?;
    }
    store.data_mut().save();
    Ok(())
}

/// Calls into a guest with a new slice.
pub(super) async fn call<R>(
    store: &mut Store<Host>,
    call: impl AsyncFnOnce(&mut Store<Host>) -> wasmtime::Result<R>,
) -> Result<R, String> {
    let slice = store.data().slice_epochs();
    store.set_epoch_deadline(slice);
    call(store).await.map_err(|error| explain(&error))
}
