//! `wasi:io`: streams and pollables of `wasmtime-wasi-io`, with each call counted and waiting limited.

use wasmtime::component::Resource;
use wasmtime_wasi_io::bindings::wasi::io::{error, poll, streams};
use wasmtime_wasi_io::poll::DynPollable;
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream, Error, StreamError, StreamResult};

use super::clocks::Patience;
use crate::wasm::host::{Excess, Host};

/// Maximum number of pollables that a guest waits for at a time.
const POLLABLES_MAX: usize = 256;

type Output = Resource<DynOutputStream>;
type Input = Resource<DynInputStream>;

impl Host {
    /// Counts a call that may wait, and returns its limit.
    fn begin_waiting(&mut self) -> wasmtime::Result<Patience> {
        self.count_call()?;
        Ok(self.patience())
    }

    /// Counts a call of a stream.
    fn count_stream(&mut self) -> StreamResult<()> {
        self.count_call().map_err(StreamError::Trap)
    }
}

impl poll::Host for Host {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        if pollables.len() > POLLABLES_MAX {
            return Err(Excess::Pollables { pollables: pollables.len(), limit: POLLABLES_MAX }.into());
        }
        let patience = self.begin_waiting()?;
        let ready = patience.wait(poll::Host::poll(&mut self.wasi.table, pollables)).await?;
        self.spend(patience.waited_ns());
        ready
    }
}

impl poll::HostPollable for Host {
    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        self.count_call()?;
        let ready = poll::HostPollable::ready(&mut self.wasi.table, pollable).await;
        // It only polled, and continues whatever the result.
        self.desk.clock.stay_awake();
        ready
    }

    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        let patience = self.begin_waiting()?;
        let ready = patience.wait(poll::HostPollable::block(&mut self.wasi.table, pollable)).await?;
        self.spend(patience.waited_ns());
        ready
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::HostPollable::drop(&mut self.wasi.table, pollable)
    }
}

impl error::Host for Host {}

impl error::HostError for Host {
    fn to_debug_string(&mut self, error: Resource<Error>) -> wasmtime::Result<String> {
        self.count_call()?;
        error::HostError::to_debug_string(&mut self.wasi.table, error)
    }

    fn drop(&mut self, error: Resource<Error>) -> wasmtime::Result<()> {
        error::HostError::drop(&mut self.wasi.table, error)
    }
}

impl streams::Host for Host {
    fn convert_stream_error(&mut self, error: StreamError) -> wasmtime::Result<streams::StreamError> {
        streams::Host::convert_stream_error(&mut self.wasi.table, error)
    }
}

/// The streams of guests are always ready, so none of these calls waits.
impl streams::HostOutputStream for Host {
    fn check_write(&mut self, stream: Output) -> StreamResult<u64> {
        self.count_stream()?;
        streams::HostOutputStream::check_write(&mut self.wasi.table, stream)
    }

    fn write(&mut self, stream: Output, bytes: Vec<u8>) -> StreamResult<()> {
        self.count_stream()?;
        streams::HostOutputStream::write(&mut self.wasi.table, stream, bytes)
    }

    async fn blocking_write_and_flush(&mut self, stream: Output, bytes: Vec<u8>) -> StreamResult<()> {
        self.count_stream()?;
        streams::HostOutputStream::blocking_write_and_flush(&mut self.wasi.table, stream, bytes).await
    }

    fn flush(&mut self, stream: Output) -> StreamResult<()> {
        self.count_stream()?;
        streams::HostOutputStream::flush(&mut self.wasi.table, stream)
    }

    async fn blocking_flush(&mut self, stream: Output) -> StreamResult<()> {
        self.count_stream()?;
        streams::HostOutputStream::blocking_flush(&mut self.wasi.table, stream).await
    }

    fn subscribe(&mut self, stream: Output) -> wasmtime::Result<Resource<DynPollable>> {
        self.count_call()?;
        streams::HostOutputStream::subscribe(&mut self.wasi.table, stream)
    }

    fn write_zeroes(&mut self, stream: Output, bytes: u64) -> StreamResult<()> {
        self.count_stream()?;
        streams::HostOutputStream::write_zeroes(&mut self.wasi.table, stream, bytes)
    }

    async fn blocking_write_zeroes_and_flush(&mut self, stream: Output, bytes: u64) -> StreamResult<()> {
        self.count_stream()?;
        streams::HostOutputStream::blocking_write_zeroes_and_flush(&mut self.wasi.table, stream, bytes).await
    }

    fn splice(&mut self, stream: Output, from: Input, bytes: u64) -> StreamResult<u64> {
        self.count_stream()?;
        streams::HostOutputStream::splice(&mut self.wasi.table, stream, from, bytes)
    }

    async fn blocking_splice(&mut self, stream: Output, from: Input, bytes: u64) -> StreamResult<u64> {
        self.count_stream()?;
        streams::HostOutputStream::blocking_splice(&mut self.wasi.table, stream, from, bytes).await
    }

    async fn drop(&mut self, stream: Output) -> wasmtime::Result<()> {
        streams::HostOutputStream::drop(&mut self.wasi.table, stream).await
    }
}

impl streams::HostInputStream for Host {
    fn read(&mut self, stream: Input, bytes: u64) -> StreamResult<Vec<u8>> {
        self.count_stream()?;
        streams::HostInputStream::read(&mut self.wasi.table, stream, bytes)
    }

    async fn blocking_read(&mut self, stream: Input, bytes: u64) -> StreamResult<Vec<u8>> {
        self.count_stream()?;
        streams::HostInputStream::blocking_read(&mut self.wasi.table, stream, bytes).await
    }

    fn skip(&mut self, stream: Input, bytes: u64) -> StreamResult<u64> {
        self.count_stream()?;
        streams::HostInputStream::skip(&mut self.wasi.table, stream, bytes)
    }

    async fn blocking_skip(&mut self, stream: Input, bytes: u64) -> StreamResult<u64> {
        self.count_stream()?;
        streams::HostInputStream::blocking_skip(&mut self.wasi.table, stream, bytes).await
    }

    fn subscribe(&mut self, stream: Input) -> wasmtime::Result<Resource<DynPollable>> {
        self.count_call()?;
        streams::HostInputStream::subscribe(&mut self.wasi.table, stream)
    }

    async fn drop(&mut self, stream: Input) -> wasmtime::Result<()> {
        streams::HostInputStream::drop(&mut self.wasi.table, stream).await
    }
}
