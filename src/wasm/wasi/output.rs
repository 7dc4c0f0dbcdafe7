//! `wasi:cli`: whole lines of output go to the guest's log, within its rate; everything else is empty, ended or absent.

use std::sync::{Arc, Mutex, PoisonError};

use caxton_shards::message::AgentId;
use wasmtime::component::Resource;
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::bytes::Bytes;
use wasmtime_wasi_io::poll::Pollable;
use wasmtime_wasi_io::streams::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, StreamError, StreamResult,
};

use super::bindings::wasi::cli::{
    environment, exit, stderr, stdin, stdout, terminal_input, terminal_output, terminal_stderr, terminal_stdin,
    terminal_stdout,
};
use crate::wasm::clock::Clock;
use crate::wasm::host::Host;
use crate::wasm::log::{LINE_BYTES_MAX, LogGate, LogLevel, LogLine};

/// Maximum number of bytes in one write.
const WRITE_BYTES_MAX: usize = 4_096;

/// The guest exited. It traps: its agent is restarted for the next message.
#[derive(Debug, thiserror::Error)]
#[error("it ended itself with exit code {0}")]
struct Exited(u8);

/// One of a guest's two outputs. Clones are the same output.
#[derive(Clone)]
pub(super) struct Lines(Arc<Mutex<Line>>);

struct Line {
    level: LogLevel,
    me: AgentId,
    log: LogGate,
    clock: Arc<Clock>,
    /// The unfinished line, up to the length at which lines are cut off.
    begun: Vec<u8>,
}

impl Lines {
    pub fn new(level: LogLevel, me: AgentId, log: &LogGate, clock: &Arc<Clock>) -> Self {
        let (log, clock) = (log.clone(), Arc::clone(clock));
        Self(Arc::new(Mutex::new(Line { level, me, log, clock, begun: Vec::new() })))
    }

    fn write(&self, bytes: &[u8]) {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pieces = bytes.split(|byte| *byte == b'\n');
        if let Some(first) = pieces.next() {
            line.add(first);
        }
        for piece in pieces {
            line.end();
            line.add(piece);
        }
    }

    /// Ends an unfinished line.
    pub fn end(&self) {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !line.begun.is_empty() {
            line.end();
        }
    }
}

impl Line {
    /// Cuts off what is longer than a line of the log.
    fn add(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES_MAX - self.begun.len();
        self.begun.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end(&mut self) {
        let text = String::from_utf8_lossy(&self.begun).trim_end_matches('\r').to_owned();
        self.begun.clear();
        let at = self.clock.now().wall;
        self.log.write(LogLine { at, agent: self.me, level: self.level, text, fields: Vec::new() });
    }
}

#[async_trait]
impl Pollable for Lines {
    /// There is always room: what is too much is counted, and not kept.
    async fn ready(&mut self) {}
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > WRITE_BYTES_MAX {
            let (bytes, limit) = (bytes.len(), WRITE_BYTES_MAX);
            return Err(StreamError::trap(&format!("it wrote {bytes} bytes at once: the limit is {limit}")));
        }
        Lines::write(self, &bytes);
        Ok(())
    }

    /// Lines are never held back, and an unfinished line has to wait for its end.
    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

/// An input that has ended.
struct Ended;

#[async_trait]
impl Pollable for Ended {
    async fn ready(&mut self) {}
}

impl InputStream for Ended {
    fn read(&mut self, _size: usize) -> StreamResult<Bytes> {
        Err(StreamError::Closed)
    }
}

/// There are no terminals.
pub enum Terminal {}

impl stdout::Host for Host {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.count_call()?;
        let lines: DynOutputStream = Box::new(self.wasi.stdout.clone());
        Ok(self.wasi.table.push(lines)?)
    }
}

impl stderr::Host for Host {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.count_call()?;
        let lines: DynOutputStream = Box::new(self.wasi.stderr.clone());
        Ok(self.wasi.table.push(lines)?)
    }
}

impl stdin::Host for Host {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        self.count_call()?;
        let ended: DynInputStream = Box::new(Ended);
        Ok(self.wasi.table.push(ended)?)
    }
}

impl environment::Host for Host {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        self.count_call()?;
        Ok(Vec::new())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        self.count_call()?;
        Ok(Vec::new())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        self.count_call()?;
        Ok(None)
    }
}

impl exit::Host for Host {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        Err(Exited(u8::from(status.is_err())).into())
    }

    fn exit_with_code(&mut self, code: u8) -> wasmtime::Result<()> {
        Err(Exited(code).into())
    }
}

impl terminal_input::Host for Host {}
impl terminal_output::Host for Host {}

impl terminal_input::HostTerminalInput for Host {
    fn drop(&mut self, terminal: Resource<Terminal>) -> wasmtime::Result<()> {
        self.wasi.table.delete(terminal)?;
        Ok(())
    }
}

impl terminal_output::HostTerminalOutput for Host {
    fn drop(&mut self, terminal: Resource<Terminal>) -> wasmtime::Result<()> {
        self.wasi.table.delete(terminal)?;
        Ok(())
    }
}

impl terminal_stdin::Host for Host {
    fn get_terminal_stdin(&mut self) -> wasmtime::Result<Option<Resource<Terminal>>> {
        self.count_call()?;
        Ok(None)
    }
}

impl terminal_stdout::Host for Host {
    fn get_terminal_stdout(&mut self) -> wasmtime::Result<Option<Resource<Terminal>>> {
        self.count_call()?;
        Ok(None)
    }
}

impl terminal_stderr::Host for Host {
    fn get_terminal_stderr(&mut self) -> wasmtime::Result<Option<Resource<Terminal>>> {
        self.count_call()?;
        Ok(None)
    }
}
