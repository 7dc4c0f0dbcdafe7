//! Starting and stopping a router, and the handle by which embedders use it.

mod blocking;
mod calls;
mod cancel;
pub(crate) mod dead_letters;
pub(crate) mod error;
pub(crate) mod events;
pub(crate) mod inbox;
mod inbox_builder;
mod lifecycle;
pub(crate) mod report;
mod shutdown;
#[cfg(feature = "store")]
pub(crate) mod store;

use std::fmt;
use std::num::NonZeroU16;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[cfg(feature = "wasm")]
use caxton_shards::api::PLUGINS_MAX;
use caxton_shards::api::{ConversationLimits, FailureHandler, RegistrationError};
use caxton_shards::domain::ShardCount;
use caxton_shards::journal::record::Durability;
use caxton_shards::mesh::mesh;
use caxton_shards::message::IdSpace;
use caxton_shards::protocol::{Definition, Mode, Rulebook};
use caxton_shards::routing::partition::{Partition, ShardIndex};
use caxton_shards::routing::rules::{RULES_MAX, Rule};
use caxton_shards::shard::{RetryPolicy, ShardConfig};
use caxton_shards::supervision::RestartPolicy;
use caxton_shards::supervision::breaker::BreakerPolicy;
use glommio::ExecutorJoinHandle;

use self::error::CallError;
use self::report::Report;
#[cfg(feature = "store")]
use self::store::Store;
use crate::config::{Config, ConfigErrors, Preset, ShardChoice, lane_capacity, process_environment};
use crate::doctor::{Finding, Status, allowed_cores, examine_at_start};
use crate::drive::{Clock, FailureHandlers, Launch, executor, run_shard, wall_time};
use crate::shard_handle::{RouterPhase, ShardHandle, Shared};
#[cfg(feature = "store")]
use crate::store::StoreError;
#[cfg(feature = "wasm")]
use crate::wasm::{Plugin, PluginsError};
use crate::watchdog::{WatchdogHandle, watch};
pub use blocking::Blocking;
pub use calls::Sent;
#[cfg(feature = "wasm")]
pub(crate) use calls::not_on_a_shard;
pub use cancel::CancelStart;
pub use inbox::Inbox;
pub use inbox_builder::{INBOX_WINDOW, InboxBuilder};

/// Why a router did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// This host cannot run the router as it is configured. Nothing was started or changed.
    #[error("{}", host_in_words(problems))]
    Host {
        /// What was found that keeps the router from starting, and what mends it, in the words of `caxton doctor`.
        problems: Vec<Finding>,
    },
    /// A shard's executor could not be started, although the host was found fit for it.
    #[error(
        "shard {shard} could not start: {reason}. No check of `caxton doctor` explains it: run it beside what else limits this \
         process, and report what both say"
    )]
    Executor {
        /// Which shard.
        shard: usize,
        /// What glommio or the kernel said.
        reason: String,
    },
    /// There are more routing rules than a router takes.
    #[error("{count} routing rules: the limit is {RULES_MAX}")]
    TooManyRules {
        /// How many there are.
        count: usize,
    },
    /// There are more routing plugins than a router takes.
    #[cfg(feature = "wasm")]
    #[error("{count} routing plugins: the limit is {PLUGINS_MAX}")]
    TooManyPlugins {
        /// How many there are.
        count: usize,
    },
    /// A routing plugin of the settings cannot be used.
    #[cfg(feature = "wasm")]
    #[error("plugins.files: {0}")]
    Plugins(#[from] PluginsError),
    /// The platform's own agents could not be registered.
    #[error("the agents ams and df could not be registered: {0}")]
    Management(CallError<RegistrationError>),
    /// The start was [cancelled](CancelStart).
    #[error("the start was cancelled before it was complete; what an earlier run left is as it was")]
    Cancelled,
    /// The store cannot be used.
    #[cfg(feature = "store")]
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A helper thread could not be started.
    #[error("a helper thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// The problems of a host in one sentence for each.
fn host_in_words(problems: &[Finding]) -> String {
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    format!("this host cannot run the router. {}. Run `caxton doctor` to examine the whole host", problems.join(". "))
}

/// Everything that can be said before a router starts.
#[must_use = "a builder does nothing until `start` is called"]
pub struct RouterBuilder {
    config: Config,
    rules: Vec<Rule>,
    protocols: Vec<Definition>,
    failure_handlers: Option<FailureHandlers>,
    #[cfg(feature = "wasm")]
    plugins: Vec<Plugin>,
    cancel: CancelStart,
}

impl fmt::Debug for RouterBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let builder = &mut formatter.debug_struct("RouterBuilder");
        builder.field("config", &self.config).field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl RouterBuilder {
    /// Takes the settings of a preset.
    pub fn preset(mut self, preset: Preset) -> Self {
        self.config = Config::preset(preset);
        self
    }

    /// Takes these settings.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Takes the settings of a preset, a TOML file and the environment, in this order.
    ///
    /// # Errors
    /// Every mistake in the file and in the environment.
    pub fn load(mut self, preset: Option<Preset>, file: Option<&Path>) -> Result<Self, StartError> {
        self.config = Config::load(preset, file, process_environment())?;
        Ok(self)
    }

    /// Keeps durable messages, conversations and agents in this directory, whatever the settings say.
    #[cfg(feature = "store")]
    pub fn store(mut self, directory: impl Into<std::path::PathBuf>) -> Self {
        self.config.store.directory = directory.into().into();
        self
    }

    /// Runs this many shards, whatever the settings say.
    pub fn shards(mut self, shards: ShardCount) -> Self {
        self.config.router.shards = ShardChoice::Exactly(shards);
        self
    }

    /// Adds a rule for messages that name no agent. Rules are tried in the order in which they were added, behind those of
    /// `rules.files`, up to [`RULES_MAX`] of them in all.
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Holds conversations to their protocols in this mode, whatever the settings say. Protocols with a mode of their own
    /// in the settings keep it.
    pub fn protocols(mut self, mode: Mode) -> Self {
        self.config.protocols.mode = mode;
        self
    }

    /// Adds a protocol of the embedder's own, to be checked in the same mode as the others.
    pub fn protocol(mut self, definition: Definition) -> Self {
        self.protocols.push(definition);
        self
    }

    /// Has handlers of the embedder's own decide what becomes of messages whose handling failed. `make` is called once
    /// for each shard, on the shard's thread, so that what it makes need not be `Send`.
    ///
    /// A `make` that panics stops the router, as every panic outside an agent does.
    pub fn failure_handler<H: FailureHandler + 'static>(
        mut self,
        make: impl Fn(ShardIndex) -> H + Send + Sync + 'static,
    ) -> Self {
        self.failure_handlers = Some(Arc::new(move |shard| Box::new(make(shard))));
        self
    }

    /// Has a routing plugin see every message before it is accepted, behind those of `plugins.files` and those that were added before, up to
    /// [`PLUGINS_MAX`] of them.
    #[cfg(feature = "wasm")]
    pub fn plugin(mut self, plugin: Plugin) -> Self {
        self.plugins.push(plugin);
        self
    }

    /// Has this cancel the start.
    pub fn cancelled_by(mut self, cancel: &CancelStart) -> Self {
        self.cancel = cancel.clone();
        self
    }

    /// Examines the host as `caxton doctor` does, starts the shards, and waits until all of them run.
    ///
    /// # Errors
    /// [`StartError::Host`] with everything that keeps the router from running on this host and what mends it, before anything was
    /// started; otherwise the first shard that could not start: the others are stopped again.
    pub fn start(self) -> Result<Router, StartError> {
        let mut rules = self.config.rules.load()?;
        rules.extend(self.rules);
        if rules.len() > RULES_MAX {
            return Err(StartError::TooManyRules { count: rules.len() });
        }
        #[cfg(feature = "wasm")]
        {
            let plugins = self.config.plugins.files.len() + self.plugins.len();
            if plugins > PLUGINS_MAX {
                return Err(StartError::TooManyPlugins { count: plugins });
            }
        }
        let rulebook = self.config.protocols.rulebook(&self.protocols)?;
        let extensions = Extensions {
            failure_handlers: self.failure_handlers,
            #[cfg(feature = "wasm")]
            plugins: self.plugins,
        };
        start(&self.config, &rules, &rulebook, extensions, &self.cancel)
    }
}

/// A running router: a handle that can be cloned and used from any thread.
///
/// The router stops when [`Router::shutdown`] is called or the last handle is dropped, which gives it the time of
/// `shutdown.deadline_ms` in its settings; or at a signal, where [`Router::shutdown_on_signal`] was called.
#[derive(Clone)]
pub struct Router {
    inner: Arc<Inner>,
    /// How long its calls wait.
    timeout: Duration,
}

/// As a [`Router`], but the router stops without regard to it.
pub(crate) struct WeakRouter(Weak<Inner>);

impl WeakRouter {
    /// The router, unless all its handles were dropped.
    pub fn upgrade(&self) -> Option<Router> {
        self.0.upgrade().map(Router::new)
    }
}

struct Inner {
    shared: Arc<Shared>,
    threads: Mutex<Threads>,
    /// When draining ends, once somebody stops the router.
    drained_by: Mutex<Option<Instant>>,
    /// Where durable messages are kept.
    #[cfg(feature = "store")]
    store: Mutex<Option<Store>>,
    /// What the start found that is not as it should be.
    warnings: Vec<Finding>,
}

#[derive(Default)]
struct Threads {
    executors: Vec<ExecutorJoinHandle<()>>,
    watchdog: Option<JoinHandle<()>>,
    /// What the router did, once it has stopped.
    report: Option<Report>,
}

impl Router {
    fn new(inner: Arc<Inner>) -> Self {
        let timeout = inner.shared.config.router.call_timeout_ms.as_duration();
        Self { inner, timeout }
    }

    /// A router with the settings of [`Preset::Development`], to be changed before it starts.
    pub fn builder() -> RouterBuilder {
        RouterBuilder {
            config: Config::default(),
            rules: Vec::new(),
            protocols: Vec::new(),
            failure_handlers: None,
            #[cfg(feature = "wasm")]
            plugins: Vec::new(),
            cancel: CancelStart::new(),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    /// A handle that does not keep the router running.
    pub(crate) fn downgrade(&self) -> WeakRouter {
        WeakRouter(Arc::downgrade(&self.inner))
    }

    /// How many shards there are.
    pub fn shard_count(&self) -> u16 {
        self.shared().partition.shard_count()
    }

    /// The map from agents to shards.
    pub fn partition(&self) -> Partition {
        self.shared().partition
    }

    /// What the start found on this host that makes the router slower or smaller than it could be, in the words of `caxton doctor`.
    pub fn host_warnings(&self) -> &[Finding] {
        &self.inner.warnings
    }

    /// The settings that the router runs with.
    pub fn config(&self) -> &Config {
        &self.shared().config
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Router").field("shards", &self.shard_count()).finish_non_exhaustive()
    }
}

/// What the embedder adds to each shard.
#[derive(Clone)]
pub(crate) struct Extensions {
    pub failure_handlers: Option<FailureHandlers>,
    #[cfg(feature = "wasm")]
    pub plugins: Vec<Plugin>,
}

fn start(
    config: &Config,
    rules: &[Rule],
    rulebook: &Rulebook,
    #[cfg_attr(not(feature = "wasm"), expect(unused_mut, reason = "only plugins are added to"))]
    mut extensions: Extensions,
    cancel: &CancelStart,
) -> Result<Router, StartError> {
    let warnings = fit_host(config)?;
    let cores = allowed_cores();
    let shards = config.router.shards.resolve(cores.len(), config.has_store());
    let count = usize::from(shards.into_inner());
    let spare_cores = cores.get(count..).unwrap_or_default();
    let partition = Partition::new(shards);
    #[cfg(feature = "wasm")]
    extensions.plugins.splice(0..0, Plugin::configured(config, shards)?);
    // Before there is anything to stop.
    #[cfg(feature = "store")]
    let mut store = match Store::open(config, partition, wall_time().0, cancel) {
        Err(_) if cancel.is_cancelled() => return Err(StartError::Cancelled),
        opened => opened?,
    };
    let capacity = lane_capacity(config.ring.capacity, shards);
    let ports = mesh(NonZeroU16::new(shards.into_inner()).unwrap_or(NonZeroU16::MIN), capacity);
    let mut works = Vec::with_capacity(count);
    let links = (0..count)
        .map(|_| {
            let (sender, receiver) = flume::bounded(config.channel.capacity.as_usize());
            works.push(receiver);
            ShardHandle::new(sender)
        })
        .collect();
    let (bell, parker) = WatchdogHandle::new();
    let clock = Clock::new();
    let shared = Arc::new(Shared::new(links, partition, config.clone(), bell, clock.start()));
    let router = Router::new(Arc::new(Inner::new(Arc::clone(&shared), warnings)));

    let boot_epoch = wall_time().0;
    #[cfg(feature = "store")]
    let boot_epoch = store.as_ref().map_or(boot_epoch, |store| store.directory.boot_epoch());
    let (ready_sender, ready) = flume::bounded(count);
    let mut failure = None;
    for (index, (port, work)) in ports.into_iter().zip(works).enumerate() {
        let mut shard_config = shard_config(config, rules, partition, index, boot_epoch);
        shard_config.protocols = rulebook.clone();
        #[cfg(feature = "store")]
        let store = store.as_mut().and_then(|store| store.launch(config, index, spare_cores, cancel));
        #[cfg(feature = "store")]
        if let Some(launch) = &store {
            // What an earlier run left was accepted, so there is room for it whatever the limit is now.
            launch.recovered.make_room(&mut shard_config);
        }
        let launch = Launch {
            config: shard_config,
            extensions: extensions.clone(),
            port,
            work,
            shared: Arc::clone(&shared),
            clock: clock.clone(),
            #[cfg(feature = "store")]
            store,
            core: index.checked_rem(cores.len()).map(|place| cores[place]),
        };
        let ready = ready_sender.clone();
        let spawned = executor(index).spawn(move || run_shard(launch, ready));
        match spawned {
            Ok(handle) => {
                router.inner.threads.lock().unwrap_or_else(PoisonError::into_inner).executors.push(handle);
            }
            Err(error) => failure = failure.or(Some(start_error(config, index, &error))),
        }
    }
    drop(ready_sender);
    // A shard whose executor failed drops its sender without a word; its error waits in `join`.
    let started = ready.iter().count();
    if failure.is_none() && started == count && !cancel.is_cancelled() {
        #[cfg(feature = "store")]
        if let Some(mut store) = store {
            if let Err(error) = store.directory.commit() {
                abandon(&router);
                store.give_up();
                return Err(error.into());
            }
            store.begin(&shared)?;
            *router.inner.store.lock().unwrap_or_else(PoisonError::into_inner) = Some(store);
        }
        let pinned = spare_cores.first().copied();
        let watched = Arc::clone(&shared);
        let watchdog = std::thread::Builder::new().name("caxton-watchdog".to_owned()).spawn(move || {
            if let Some(core) = pinned {
                // A core that no shard has; without one the kernel decides.
                core_affinity::set_for_current(core_affinity::CoreId { id: core });
            }
            watch(&watched, &parker, clock.start());
        })?;
        router.inner.threads.lock().unwrap_or_else(PoisonError::into_inner).watchdog = Some(watchdog);
        // Dropping the handle stops what runs.
        crate::management::begin(&router).map_err(StartError::Management)?;
        return Ok(router);
    }
    #[cfg(feature = "store")]
    let complaint = shared
        .links
        .iter()
        .find_map(|link| link.journal.complaint.lock().unwrap_or_else(PoisonError::into_inner).clone());
    let unstarted = abandon(&router);
    #[cfg(feature = "store")]
    if let Some(store) = store {
        store.give_up();
    }
    if cancel.is_cancelled() {
        return Err(StartError::Cancelled);
    }
    #[cfg(feature = "store")]
    let failure = failure.or(complaint.map(|complaint| StoreError::NotWritten(complaint).into()));
    Err(failure.unwrap_or(unstarted))
}

/// Ends the shards that did start and answers why another did not.
fn abandon(router: &Router) -> StartError {
    let shared = router.shared();
    for stage in [RouterPhase::Draining, RouterPhase::Stopping, RouterPhase::Leaving] {
        shared.advance_to(stage);
    }
    let executors = std::mem::take(&mut router.inner.threads.lock().unwrap_or_else(PoisonError::into_inner).executors);
    let mut failure = None;
    for (shard, executor) in executors.into_iter().enumerate() {
        if let Err(error) = executor.join() {
            failure.get_or_insert_with(|| start_error(&shared.config, shard, &error));
        }
    }
    // There is nothing left that dropping the handle would have to wait for.
    router.inner.set_unstarted();
    failure.unwrap_or_else(|| StartError::Executor { shard: 0, reason: "its thread ended without a reason".to_owned() })
}

/// Examines the host. Answers what is not as it should be.
///
/// # Errors
/// What keeps a router with these settings from running.
fn fit_host(config: &Config) -> Result<Vec<Finding>, StartError> {
    let mut findings = examine_at_start(config);
    findings.retain(|finding| finding.status != Status::Ok);
    if findings.iter().all(|finding| finding.status != Status::Problem) {
        return Ok(findings);
    }
    findings.retain(|finding| finding.status == Status::Problem);
    Err(StartError::Host { problems: findings })
}

/// Something has changed since the host was examined, or no check knows it.
fn start_error(config: &Config, shard: usize, error: &glommio::GlommioError<()>) -> StartError {
    fit_host(config).err().unwrap_or_else(|| StartError::Executor { shard, reason: error.to_string() })
}

/// What one shard needs of the configuration.
#[allow(clippy::cast_possible_truncation)] // There are at most 1024 shards.
fn shard_config(config: &Config, rules: &[Rule], partition: Partition, index: usize, boot_epoch: u64) -> ShardConfig {
    let shard_config = ShardConfig {
        id_space: IdSpace { node: config.router.node, boot_epoch, shard: index as u16 },
        partition,
        mailbox_messages: config.mailbox.messages,
        mailbox_bytes: config.mailbox.bytes,
        overflow: config.mailbox.overflow,
        // The budget is the router's; each shard gets its share.
        memory_max: config.memory.budget.into_inner() / u64::from(partition.shard_count()),
        message_timeout: config.message.timeout_ms,
        content_max: config.message.content_bytes_max,
        batch: config.delivery.batch,
        turn_quota: config.delivery.turn_quota,
        outbox: config.delivery.outbox,
        pending_max: config.delivery.pending_max.as_usize(),
        retry: RetryPolicy {
            retries: config.retry.attempts.into_inner(),
            delay_ms: config.retry.delay_ms.into_inner(),
            factor: config.retry.factor.into_inner(),
            jitter: config.retry.jitter.into_inner(),
        },
        breaker: BreakerPolicy {
            failures: config.breaker.failures,
            window_ms: config.breaker.window_ms,
            slow_call_ms: config.breaker.slow_call_ms,
            slow_calls: config.breaker.slow_calls,
            open_ms: config.breaker.open_ms,
            open_ms_max: config.breaker.open_ms_max,
            probes: config.breaker.probes,
        },
        supervision: RestartPolicy {
            restarts: config.supervision.restarts,
            window_ms: config.supervision.window_ms,
            delay_ms: config.supervision.delay_ms,
        },
        // The bounds are the router's; each shard gets its share.
        dead_letters_max: config.dead_letters.messages.as_usize().div_ceil(usize::from(partition.shard_count())),
        dead_letter_bytes_max: config.dead_letters.bytes.into_inner() / u64::from(partition.shard_count()),
        conversations: ConversationLimits {
            open_max: config.conversation.open_max.as_usize(),
            participants_max: usize::from(config.conversation.participants_max.into_inner()),
            history: usize::from(config.conversation.history.into_inner()),
            timeout_ms: u64::from(config.conversation.timeout_ms.into_inner()),
        },
        protocols: Rulebook::default(),
        rules: rules.to_vec(),
        // Durable messages are refused.
        durability: Durability::Unavailable,
        durable_lifetime_ms: 0,
        duplicates_window: 0,
        seed: unpredictable() ^ boot_epoch ^ ((index as u64) << 32),
    };
    #[cfg(feature = "store")]
    let shard_config = store::with_durability(shard_config, &config.store);
    shard_config
}

/// A number that no peer can know: the shards' tables hash with it what peers choose.
fn unpredictable() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(())
}
