//! `wasi:clocks`: the time of the shard's turn, and waiting for a later one.
//!
//! Both clocks stand still within a turn; see [`Clock`]. A waiting guest is suspended and takes no turns until its time
//! has come. Waiting counts against its time limit for the message, after which it traps.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use wasmtime::component::Resource;
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

use super::bindings::wasi::clocks::{monotonic_clock, wall_clock};
use crate::wasm::clock::Clock;
use crate::wasm::host::{Excess, Host};

/// The clocks' resolution in nanoseconds: not finer than the length of a slice.
const RESOLUTION_NS: u32 = 1_000_000;

/// A time that a guest can wait for.
struct Moment {
    at_ns: u64,
    clock: Arc<Clock>,
}

#[async_trait]
impl Pollable for Moment {
    async fn ready(&mut self) {
        poll_fn(|_| {
            if self.clock.now().monotonic_ns >= self.at_ns {
                return Poll::Ready(());
            }
            self.clock.sleep_until(self.at_ns);
            Poll::Pending
        })
        .await;
    }
}

/// How long a guest may wait.
pub(super) struct Patience {
    clock: Arc<Clock>,
    began_ns: u64,
    until_ns: u64,
    call_ms: u32,
}

impl Patience {
    /// Waits for something, within the remaining time for the message.
    pub async fn wait<R>(&self, something: impl Future<Output = R>) -> wasmtime::Result<R> {
        let mut something = pin!(something);
        poll_fn(|context| {
            if let Poll::Ready(result) = something.as_mut().poll(context) {
                // It may also have waited for others.
                self.clock.stay_awake();
                return Poll::Ready(Ok(result));
            }
            if self.clock.now().monotonic_ns >= self.until_ns {
                return Poll::Ready(Err(Excess::Time(self.call_ms).into()));
            }
            self.clock.sleep_until(self.until_ns);
            Poll::Pending
        })
        .await
    }

    /// Returns how long it waited, in nanoseconds.
    pub fn waited_ns(&self) -> u64 {
        self.clock.now().monotonic_ns.saturating_sub(self.began_ns)
    }
}

impl Host {
    /// Returns a limit of the remaining time for the message.
    pub(super) fn patience(&self) -> Patience {
        let began_ns = self.desk.clock.now().monotonic_ns;
        Patience {
            clock: Arc::clone(&self.desk.clock),
            began_ns,
            until_ns: began_ns.saturating_add(self.time_left_ns()),
            call_ms: self.limits.call_ms.into_inner(),
        }
    }

    fn moment(&mut self, at_ns: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let moment = Moment { at_ns, clock: Arc::clone(&self.desk.clock) };
        let moment = self.wasi.table.push(moment)?;
        subscribe(&mut self.wasi.table, moment)
    }
}

impl monotonic_clock::Host for Host {
    fn now(&mut self) -> wasmtime::Result<monotonic_clock::Instant> {
        self.count_call()?;
        Ok(self.desk.clock.now().monotonic_ns)
    }

    fn resolution(&mut self) -> wasmtime::Result<monotonic_clock::Duration> {
        self.count_call()?;
        Ok(u64::from(RESOLUTION_NS))
    }

    fn subscribe_instant(&mut self, at_ns: monotonic_clock::Instant) -> wasmtime::Result<Resource<DynPollable>> {
        self.count_call()?;
        self.moment(at_ns)
    }

    fn subscribe_duration(&mut self, after_ns: monotonic_clock::Duration) -> wasmtime::Result<Resource<DynPollable>> {
        self.count_call()?;
        self.moment(self.desk.clock.now().monotonic_ns.saturating_add(after_ns))
    }
}

impl wall_clock::Host for Host {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        self.count_call()?;
        let wall_ms = self.desk.clock.now().wall.0;
        let nanoseconds = u32::try_from(wall_ms % 1_000).unwrap_or(0) * 1_000_000;
        Ok(wall_clock::Datetime { seconds: wall_ms / 1_000, nanoseconds })
    }

    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        self.count_call()?;
        Ok(wall_clock::Datetime { seconds: 0, nanoseconds: RESOLUTION_NS })
    }
}
