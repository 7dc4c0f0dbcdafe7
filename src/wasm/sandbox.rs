//! What all guests share: the engine, the pool of instances, the functions they may import.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use wasmtime::component::Linker as ComponentLinker;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, Linker, PoolingAllocationConfig, Store};

use super::cache::Cache;
use super::guest::{Guest, GuestError};
use super::host::{GuestLimits, Host, PARTS_MAX};
use super::log::{Log, LogLine};
use super::manifest::Manifest;
use super::ticker::Ticker;
use super::{bounds, component, raw, wasi};
use crate::config::WasmConfig;
use crate::doctor::{allowed_cores, explain_sandbox, probe_threads};

/// Stack that the router's own functions may use when a guest calls them, in bytes.
const HOST_STACK_BYTES: usize = 256 << 10;
/// How many module instances, tables and memories there may be for each guest on average. Most have one of each.
const PARTS_PER_GUEST: u32 = 4;
/// How much a module may need beside its memory and tables, in bytes.
const INSTANCE_BYTES_MAX: usize = 1 << 20;

/// Why no guest can run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The engine does not start: mostly the address space or the number of mappings is limited.
    #[error("WebAssembly can't be run with room for {guests} guests: {reason}. {mend}")]
    Engine {
        /// How many guests there was to be room for.
        guests: u32,
        /// What wasmtime said.
        reason: String,
        /// Which of the host's limits explains it and what to do about it, in the words of `caxton doctor`.
        mend: String,
    },
    /// The thread that ends slices could not be started.
    #[error("a helper thread could not be started: {0}")]
    Thread(#[from] io::Error),
}

/// Runs guests, until its last clone and the last guest are dropped.
#[derive(Clone)]
pub struct Sandbox(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub engine: Engine,
    pub config: WasmConfig,
    pub ticker: Ticker,
    pub raw: Linker<Host>,
    pub components: ComponentLinker<Host>,
    pub cache: Option<Cache>,
    pub log: Arc<Log>,
}

impl Sandbox {
    /// Makes room for guests.
    ///
    /// # Errors
    /// The machine does not have the address space, or refuses a thread.
    pub fn start(config: &WasmConfig) -> Result<Self, SandboxError> {
        let failed = |error: wasmtime::Error| SandboxError::Engine {
            guests: config.guests.into_inner(),
            reason: format!("{error:#}"),
            mend: explain_sandbox(config)
                .unwrap_or_else(|| "A smaller wasm.guests needs less address space".to_owned()),
        };
        let engine = Engine::new(&engine_config(config)).map_err(failed)?;
        let raw = raw::linker(&engine).map_err(failed)?;
        let components = component::linker(&engine).map_err(failed)?;
        let ticker = Ticker::start(engine.clone())?;
        ticker.outlast(config.slice_ms.into_inner());
        let cache = config.cache.path().map(|path| Cache::new(path, &engine));
        Ok(Self(Arc::new(Inner { engine, config: config.clone(), ticker, raw, components, cache, log: Log::new() })))
    }

    /// Checks a module and compiles it, or takes it from the cache. This can take seconds: it is not for a shard's thread.
    ///
    /// # Errors
    /// What is wrong with the module, and what is missing.
    pub fn load(&self, name: &str, bytes: &[u8]) -> Result<Guest, GuestError> {
        self.load_with(name, bytes, &Manifest::default())
    }

    /// As [`Sandbox::load`], with what a manifest says. A component that imports WASI needs one that grants it.
    ///
    /// # Errors
    /// As [`Sandbox::load`]; or the manifest asks for what `wasm.wasi` does not allow.
    pub fn load_with(&self, name: &str, bytes: &[u8], manifest: &Manifest) -> Result<Guest, GuestError> {
        Guest::load(self, name, bytes, manifest)
    }

    /// As [`Sandbox::load`], from a file. Files that end in `.wat` are text.
    ///
    /// # Errors
    /// As [`Sandbox::load`]; or the file can't be read.
    pub fn load_file(&self, path: &Path) -> Result<Guest, GuestError> {
        self.load_file_with(path, &Manifest::default())
    }

    /// As [`Sandbox::load_with`], from a file. Files that end in `.wat` are text.
    ///
    /// # Errors
    /// As [`Sandbox::load_with`]; or the file can't be read.
    pub fn load_file_with(&self, path: &Path, manifest: &Manifest) -> Result<Guest, GuestError> {
        self.load_with(&path.display().to_string(), &read_module(path, &self.0.config)?, manifest)
    }

    /// The settings that guests run with.
    pub fn config(&self) -> &WasmConfig {
        &self.0.config
    }

    /// What the settings allow every guest.
    pub fn limits(&self) -> GuestLimits {
        GuestLimits::of(&self.0.config)
    }

    /// The next line that a guest logged, if there is one.
    pub fn next_log_line(&self) -> Option<LogLine> {
        self.0.log.receiver.try_recv().ok()
    }

    /// Waits for the next line that a guest logs.
    pub async fn log_line(&self) -> Option<LogLine> {
        self.0.log.receiver.recv_async().await.ok()
    }

    /// How many lines were not kept, because a guest wrote too many or nobody read them.
    pub fn log_lines_lost(&self) -> u64 {
        self.0.log.lost.load(Ordering::Relaxed)
    }

    /// A store for one guest.
    pub(super) fn store(&self, host: Host) -> Store<Host> {
        let limits = host.limits;
        let mut store = Store::new(&self.0.engine, host);
        wasi::bound(&mut store, &limits);
        store.limiter(|host| &mut host.usage);
        store.epoch_deadline_callback(|mut context| context.data_mut().slice_is_over());
        store
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Sandbox").field("config", &self.0.config).finish_non_exhaustive()
    }
}

/// A module's bytes. Files that end in `.wat` are text.
pub(super) fn read_module(path: &Path, config: &WasmConfig) -> Result<Vec<u8>, GuestError> {
    let failed = |error: io::Error| GuestError::File { path: path.to_owned(), reason: error.to_string() };
    let most = config.module_bytes.into_inner();
    let mut bytes = Vec::new();
    // What is larger is not read, and one byte more tells that it is.
    File::open(path).map_err(failed)?.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    bounds::check_size(bytes.len(), config)
        .map_err(|excess| GuestError::TooLarge { name: path.display().to_string(), excess })?;
    if path.extension().is_none_or(|extension| extension != "wat") {
        return Ok(bytes);
    }
    let module = wat::parse_bytes(&bytes);
    let invalid =
        |error: wat::Error| GuestError::Invalid { name: path.display().to_string(), reason: error.to_string() };
    Ok(module.map_err(invalid)?.into_owned())
}

fn engine_config(config: &WasmConfig) -> Config {
    let guests = config.guests.into_inner();
    let stack = usize::try_from(config.stack_bytes.into_inner()).unwrap_or(usize::MAX);
    let memory = usize::try_from(config.memory_bytes.into_inner()).unwrap_or(usize::MAX);
    let parts = guests.saturating_mul(PARTS_PER_GUEST);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(parts)
        .total_component_instances(guests)
        // A component of several modules has its memory in one of them.
        .total_memories(guests)
        .total_tables(parts)
        // A guest keeps the stack of its first call for the next one.
        .total_stacks(guests)
        .max_core_instance_size(INSTANCE_BYTES_MAX)
        .max_component_instance_size(INSTANCE_BYTES_MAX)
        .max_core_instances_per_component(u32::try_from(PARTS_MAX).unwrap_or(u32::MAX))
        .max_memories_per_component(u32::try_from(PARTS_MAX).unwrap_or(u32::MAX))
        .max_tables_per_component(u32::try_from(PARTS_MAX).unwrap_or(u32::MAX))
        .max_tables_per_module(u32::try_from(PARTS_MAX).unwrap_or(u32::MAX))
        .table_elements(config.table_elements.as_usize().max(MANIFEST_TABLE_ELEMENTS_MAX))
        // A manifest may ask for more than the settings give everybody; the guest's own limit holds then.
        .max_memory_size(memory.max(MANIFEST_MEMORY_BYTES_MAX));
    let mut engine = Config::new();
    // What compiles in parallel panics where it gets no threads.
    let helpers = allowed_cores().len() as u64;
    engine.parallel_compilation(helpers > 1 && probe_threads(helpers).started == helpers);
    engine
        .epoch_interruption(true)
        .concurrency_support(false)
        .max_wasm_stack(stack)
        .async_stack_size(stack + HOST_STACK_BYTES)
        .relaxed_simd_deterministic(true)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(8))
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    engine
}

/// The most elements of one table that a manifest can give a guest.
const MANIFEST_TABLE_ELEMENTS_MAX: usize = 100_000;
/// The most memory that a manifest can give a guest, in bytes: all that 32 bits address.
const MANIFEST_MEMORY_BYTES_MAX: usize = 4 << 30;
