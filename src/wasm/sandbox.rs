//! State shared by all guests: the engine, the pool of instances, and the functions they may import.

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

/// Stack for the router's own functions when a guest calls them, in bytes.
const HOST_STACK_BYTES: usize = 256 << 10;
/// Average number of module instances, of tables and of memories per guest. Most have one of each.
const PARTS_PER_GUEST: u32 = 4;
/// Maximum size of a module instance besides its memory and tables, in bytes.
const INSTANCE_BYTES_MAX: usize = 1 << 20;

/// No guest can run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The engine does not start, usually because the address space or the number of mappings is limited.
    #[error("WebAssembly cannot be run with room for {guests} guests: {reason}. {mend}")]
    Engine {
        /// The number of guests for which room was requested.
        guests: u32,
        /// Wasmtime's error.
        reason: String,
        /// Which of the host's limits explains it and what to do, as in `caxton doctor`.
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
    /// Reserves room for guests.
    ///
    /// # Errors
    ///
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

    /// Checks and compiles a module, or takes it from the cache. This can take seconds; do not call it on a shard's
    /// thread.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the module, or missing.
    pub fn load(&self, name: &str, bytes: &[u8]) -> Result<Guest, GuestError> {
        self.load_with(name, bytes, &Manifest::default())
    }

    /// Like [`Sandbox::load`], with a manifest. A component that imports WASI needs one that grants it.
    ///
    /// # Errors
    ///
    /// As for [`Sandbox::load`]; or the manifest requests what `wasm.wasi` does not allow.
    pub fn load_with(&self, name: &str, bytes: &[u8], manifest: &Manifest) -> Result<Guest, GuestError> {
        Guest::load(self, name, bytes, manifest)
    }

    /// Like [`Sandbox::load`], from a file. Files that end in `.wat` are text.
    ///
    /// # Errors
    ///
    /// As for [`Sandbox::load`]; or the file cannot be read.
    pub fn load_file(&self, path: &Path) -> Result<Guest, GuestError> {
        self.load_file_with(path, &Manifest::default())
    }

    /// Like [`Sandbox::load_with`], from a file. Files that end in `.wat` are text.
    ///
    /// # Errors
    ///
    /// As for [`Sandbox::load_with`]; or the file cannot be read.
    pub fn load_file_with(&self, path: &Path, manifest: &Manifest) -> Result<Guest, GuestError> {
        self.load_with(&path.display().to_string(), &read_module(path, &self.0.config)?, manifest)
    }

    /// Returns the settings of its guests.
    pub fn config(&self) -> &WasmConfig {
        &self.0.config
    }

    /// Returns the limits that the settings give to every guest.
    pub fn limits(&self) -> GuestLimits {
        GuestLimits::of(&self.0.config)
    }

    /// Returns the next line logged by a guest, if there is one.
    pub fn next_log_line(&self) -> Option<LogLine> {
        self.0.log.receiver.try_recv().ok()
    }

    /// Waits for the next line logged by a guest.
    pub async fn log_line(&self) -> Option<LogLine> {
        self.0.log.receiver.recv_async().await.ok()
    }

    /// Returns the number of lines lost, because a guest wrote too many or nobody read them.
    pub fn log_lines_lost(&self) -> u64 {
        self.0.log.lost.load(Ordering::Relaxed)
    }

    /// Creates the store of one guest.
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

/// Reads a module's bytes. Files that end in `.wat` are text.
pub(super) fn read_module(path: &Path, config: &WasmConfig) -> Result<Vec<u8>, GuestError> {
    let failed = |error: io::Error| GuestError::File { path: path.to_owned(), reason: error.to_string() };
    let most = config.module_bytes.into_inner();
    let mut bytes = Vec::new();
    // Larger files are not read; reading one byte more than allowed detects them.
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
        // A manifest may request more than the settings' default; the guest's own limit then applies.
        .max_memory_size(memory.max(MANIFEST_MEMORY_BYTES_MAX));
    let mut engine = Config::new();
    // Parallel compilation panics if it gets no threads.
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

/// Maximum number of elements of one table that a manifest can grant.
const MANIFEST_TABLE_ELEMENTS_MAX: usize = 100_000;
/// Maximum memory that a manifest can grant, in bytes: all that 32 bits address.
const MANIFEST_MEMORY_BYTES_MAX: usize = 4 << 30;
