//! One call from outside: its request on the way into a shard, and the response on the way back.
//!
//! Both sides share one cell. A request stays in it until the shard takes it, so a caller that gives up before that
//! takes it back: nothing was done, and nothing will be. If the shard has begun the call, it is told that nobody waits
//! for the response, so that it can drop the call's state.
//!
//! Invariants: a request is begun by the shard or withdrawn by its caller, never both; a waiting caller is woken by the
//! response, or because the shard's side is gone.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use caxton_shards::api::{Answer, InboxNumber, Input, Token, UnresponsiveError};

use crate::deadline::{Deadline, within};
use crate::router::inbox::InboxLink;
use crate::shard_handle::{GateHolder, Shared};

/// A request to a shard.
pub(crate) struct Request {
    pub input: Input,
    pub token: Token,
    /// For the registration of an agent with an inbox: the shard's end of it.
    pub inbox: Option<(InboxNumber, InboxLink)>,
    pub holder: GateHolder,
}

enum State {
    /// The shard has not taken it.
    Queued(Request),
    /// The shard has taken it.
    Begun,
    Answered(Answer),
    /// It was withdrawn, the response was taken, or there will be none.
    Over,
}

struct Cell {
    state: State,
    /// The waker of the waiting caller.
    waker: Option<Waker>,
}

#[derive(Clone)]
struct Call(Arc<Mutex<Cell>>);

impl Call {
    fn lock(&self) -> MutexGuard<'_, Cell> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates a call to a shard, and returns both ends of it.
pub(crate) fn call(router: &Arc<Shared>, shard: usize, request: Request) -> (Caller, Callee) {
    let token = request.token;
    let call = Call(Arc::new(Mutex::new(Cell { state: State::Queued(request), waker: None })));
    let caller = Caller { call: call.clone(), router: Arc::clone(router), shard, token, withdraws: true };
    (caller, Callee(call))
}

/// Why a call has no response.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// The shard's side is gone.
    Stopped,
    /// The deadline passed first.
    Late(UnresponsiveError),
}

/// The caller's end of a call. Dropping it withdraws the call.
pub(crate) struct Caller {
    call: Call,
    router: Arc<Shared>,
    shard: usize,
    token: Token,
    withdraws: bool,
}

impl Caller {
    /// Waits for the response. At the deadline the call is withdrawn.
    pub async fn answer(mut self, deadline: Deadline) -> Result<Answer, NoAnswer> {
        let router = Arc::clone(&self.router);
        let answered = poll_fn(|context| {
            let mut cell = self.call.lock();
            match std::mem::replace(&mut cell.state, State::Over) {
                State::Answered(answer) => Poll::Ready(Some(answer)),
                State::Over => Poll::Ready(None),
                waiting @ (State::Queued(_) | State::Begun) => {
                    cell.state = waiting;
                    if !cell.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                        cell.waker = Some(context.waker().clone());
                    }
                    Poll::Pending
                }
            }
        });
        match within(&router, self.shard, deadline, answered).await {
            Some(Some(answer)) => Ok(answer),
            Some(None) => Err(NoAnswer::Stopped),
            None => self.end_late(),
        }
    }

    /// Ends the call at its deadline, unless the response has arrived at this moment.
    fn end_late(&mut self) -> Result<Answer, NoAnswer> {
        match self.withdraw() {
            State::Answered(answer) => Ok(answer),
            State::Over => Err(NoAnswer::Stopped),
            State::Queued(_) => Err(NoAnswer::Late(self.router.unresponsive(self.shard, false))),
            State::Begun => Err(NoAnswer::Late(self.router.unresponsive(self.shard, true))),
        }
    }

    /// Stops waiting without withdrawing the call.
    pub fn leave_be(&mut self) {
        self.withdraws = false;
    }

    /// Withdraws the call. Returns its former state.
    fn withdraw(&mut self) -> State {
        let state = {
            let mut cell = self.call.lock();
            cell.waker = None;
            std::mem::replace(&mut cell.state, State::Over)
        };
        if matches!(state, State::Begun) {
            self.router.links[self.shard].give_up(self.token);
            self.router.ring(self.shard);
        }
        self.withdraws = false;
        state
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if self.withdraws {
            self.withdraw();
        }
    }
}

/// The shard's end of a call. Dropping it ends the call without a response.
pub(crate) struct Callee(Call);

impl Callee {
    /// Takes the request, unless its caller has withdrawn it.
    pub fn begin(&self) -> Option<Request> {
        let mut cell = self.0.lock();
        match std::mem::replace(&mut cell.state, State::Begun) {
            State::Queued(request) => Some(request),
            other => {
                cell.state = other;
                None
            }
        }
    }

    /// Passes the response to the caller. It is dropped if the caller is gone.
    pub fn answer(self, answer: Answer) {
        self.end(State::Answered(answer));
    }

    fn end(&self, end: State) {
        let mut cell = self.0.lock();
        if matches!(cell.state, State::Queued(_) | State::Begun) {
            // The request is dropped after the lock is released.
            let before = std::mem::replace(&mut cell.state, end);
            let waker = cell.waker.take();
            drop(cell);
            drop(before);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl Drop for Callee {
    fn drop(&mut self) {
        self.end(State::Over);
    }
}
