//! The parts of WASI 0.2 that a component can be granted: clocks, pseudo-random numbers and lines in its log, each only
//! if its manifest requests it by name and `wasm.wasi` allows it. Never files, sockets or HTTP.
//!
//! | grant | interfaces |
//! |---|---|
//! | `clocks` | `wasi:clocks/monotonic-clock`, `wasi:clocks/wall-clock`, `wasi:io/poll` |
//! | `random` | `wasi:random/random`, `insecure`, `insecure-seed` |
//! | `stdout` | `wasi:cli/stdout`, `stderr`, and what language runtimes need besides: `environment` (empty), `exit` (a trap), `stdin` (ended), `terminal-*` (none), `wasi:io/streams`, `error`, `poll` |
//! | `stubs` | every other one may be imported; calling it traps |
//!
//! # Invariants
//!
//! - What is not granted is not linked, so a guest that imports it cannot be loaded.
//! - Every call counts as one host call (`wasm.host_calls`).
//! - Nothing blocks the shard's thread. A guest that waits for a clock is suspended, and the wait counts against its
//!   time limit for the message.
//! - Handles, pollables, lines, writes and random bytes are limited.

mod clocks;
mod io;
mod output;
mod random;
mod stubs;

use std::sync::Arc;

use caxton_shards::message::AgentId;
use wasmtime::component::types::Component as ComponentType;
use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
use wasmtime::{Engine, Store};

use self::bindings::wasi::{cli, clocks as wasi_clocks, random as wasi_random};
use self::output::Lines;
use super::clock::Clock;
use super::guest::Problem;
use super::host::{GuestLimits, Host};
use super::log::{LogGate, LogLevel};
use crate::config::{Grant, Grants};

mod bindings {
    wasmtime::component::bindgen!({
        path: "src/wasm/wit/wasi",
        world: "granted",
        require_store_data_send: true,
        imports: { default: trappable },
        with: {
            "wasi:io/error": wasmtime_wasi_io::bindings::wasi::io::error,
            "wasi:io/poll": wasmtime_wasi_io::bindings::wasi::io::poll,
            "wasi:io/streams": wasmtime_wasi_io::bindings::wasi::io::streams,
            "wasi:cli/terminal-input.terminal-input": super::output::Terminal,
            "wasi:cli/terminal-output.terminal-output": super::output::Terminal,
        },
    });
}

/// Maximum number of streams and pollables of one guest.
const TABLE_ENTRIES_MAX: usize = 1_024;
/// Maximum number of resource handles of one guest, including its own resources.
const HANDLES_MAX: usize = 10_000;
/// Maximum size of the data passed in one call besides a message or a stored value, in bytes.
const CALL_BYTES: u64 = 64 << 10;
/// Factor between the data that may be passed and the maximum content. Content that exceeds the limit by less is
/// refused with the reason, instead of trapping.
const CALL_CONTENTS: u64 = 4;

/// The router's side of a guest's use of WASI.
pub(super) struct Wasi {
    table: ResourceTable,
    stdout: Lines,
    stderr: Lines,
}

impl Wasi {
    pub fn new(me: AgentId, log: &LogGate, clock: &Arc<Clock>) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(TABLE_ENTRIES_MAX);
        let [stdout, stderr] = [LogLevel::Info, LogLevel::Warn].map(|level| Lines::new(level, me, log, clock));
        Self { table, stdout, stderr }
    }
}

impl Host {
    /// Ends a call: printed text without a line end becomes a line.
    pub fn end_of_output(&mut self) {
        if self.permissions.wasi.has(Grant::Stdout) {
            self.wasi.stdout.end();
            self.wasi.stderr.end();
        }
    }
}

/// Limits what a component can make the router keep and copy. Wasmtime's own limits are for more trusted programs.
pub(super) fn bound<T>(store: &mut Store<T>, limits: &GuestLimits) {
    let content = limits.message_bytes.into_inner().max(limits.state_bytes.into_inner());
    let bytes = CALL_BYTES.saturating_add(content.saturating_mul(CALL_CONTENTS));
    store.set_hostcall_fuel(usize::try_from(bytes).unwrap_or(usize::MAX));
    store.set_max_component_handles(HANDLES_MAX);
}

/// Returns the grants that include an interface; empty for one that is never granted.
fn grants_of(interface: &str) -> &'static [Grant] {
    let Some((name, version)) = interface.split_once('@') else { return &[] };
    if !version.starts_with("0.2.") {
        return &[];
    }
    match name {
        "wasi:clocks/monotonic-clock" | "wasi:clocks/wall-clock" => &[Grant::Clocks],
        "wasi:random/random" | "wasi:random/insecure" | "wasi:random/insecure-seed" => &[Grant::Random],
        "wasi:io/poll" => &[Grant::Clocks, Grant::Stdout],
        "wasi:cli/stdout"
        | "wasi:cli/stderr"
        | "wasi:cli/stdin"
        | "wasi:cli/environment"
        | "wasi:cli/exit"
        | "wasi:cli/terminal-input"
        | "wasi:cli/terminal-output"
        | "wasi:cli/terminal-stdin"
        | "wasi:cli/terminal-stdout"
        | "wasi:cli/terminal-stderr"
        | "wasi:io/streams"
        | "wasi:io/error" => &[Grant::Stdout],
        _ => &[],
    }
}

fn is_given(interface: &str, grants: Grants) -> bool {
    grants_of(interface).iter().any(|grant| grants.has(*grant))
}

/// Whether this is the name of a WASI interface.
pub(super) fn is_wasi(interface: &str) -> bool {
    interface.starts_with("wasi:")
}

/// Returns the WASI interfaces that a component imports.
pub(super) fn imports<'a>(kind: &'a ComponentType, engine: &'a Engine) -> impl Iterator<Item = String> + 'a {
    kind.imports(engine).map(|(name, _)| name).filter(|name| is_wasi(name)).map(str::to_owned)
}

/// Returns why a component cannot import this WASI interface, if so.
pub(super) fn missing(interface: &str, grants: Grants) -> Option<Problem> {
    if is_given(interface, grants) || grants.has(Grant::Stubs) {
        return None;
    }
    let said = match grants_of(interface) {
        [] => "never granted; `stubs` lets it be imported and traps when it is called".to_owned(),
        by => {
            let names: Vec<_> = by.iter().map(|grant| format!("`{grant}`")).collect();
            format!("not granted; {} in `wasi` under [permissions] of its manifest gives it", names.join(" or "))
        }
    };
    Some(Problem(format!("it imports {interface}: {said}")))
}

/// Links the granted parts of WASI, and stubs for the component's other imports if they are granted.
pub(super) fn link(linker: &mut Linker<Host>, component: &Component, grants: Grants) -> wasmtime::Result<()> {
    use wasmtime_wasi_io::bindings::wasi::io as wasi_io;
    fn itself(host: &mut Host) -> &mut Host {
        host
    }
    type Itself = HasSelf<Host>;
    if grants.has(Grant::Clocks) || grants.has(Grant::Stdout) {
        wasi_io::poll::add_to_linker::<_, Itself>(linker, itself)?;
    }
    if grants.has(Grant::Clocks) {
        wasi_clocks::monotonic_clock::add_to_linker::<_, Itself>(linker, itself)?;
        wasi_clocks::wall_clock::add_to_linker::<_, Itself>(linker, itself)?;
    }
    if grants.has(Grant::Random) {
        wasi_random::random::add_to_linker::<_, Itself>(linker, itself)?;
        wasi_random::insecure::add_to_linker::<_, Itself>(linker, itself)?;
        wasi_random::insecure_seed::add_to_linker::<_, Itself>(linker, itself)?;
    }
    if grants.has(Grant::Stdout) {
        wasi_io::error::add_to_linker::<_, Itself>(linker, itself)?;
        wasi_io::streams::add_to_linker::<_, Itself>(linker, itself)?;
        cli::environment::add_to_linker::<_, Itself>(linker, itself)?;
        cli::exit::add_to_linker::<_, Itself>(linker, itself)?;
        cli::stdin::add_to_linker::<_, Itself>(linker, itself)?;
        cli::stdout::add_to_linker::<_, Itself>(linker, itself)?;
        cli::stderr::add_to_linker::<_, Itself>(linker, itself)?;
        cli::terminal_input::add_to_linker::<_, Itself>(linker, itself)?;
        cli::terminal_output::add_to_linker::<_, Itself>(linker, itself)?;
        cli::terminal_stdin::add_to_linker::<_, Itself>(linker, itself)?;
        cli::terminal_stdout::add_to_linker::<_, Itself>(linker, itself)?;
        cli::terminal_stderr::add_to_linker::<_, Itself>(linker, itself)?;
    }
    if grants.has(Grant::Stubs) {
        stubs::link(linker, component, |interface| is_given(interface, grants))?;
    }
    Ok(())
}
