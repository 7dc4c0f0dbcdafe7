//! Starting and stopping a router, and its handle for embedders.

mod blocking;
mod builder;
pub(crate) mod calls;
mod cancel;
pub(crate) mod conversations;
mod cursor;
pub(crate) mod dead_letters;
pub(crate) mod error;
pub(crate) mod events;
#[cfg(feature = "serve")]
pub(crate) mod flow;
pub(crate) mod inbox;
mod inbox_builder;
pub(crate) mod lifecycle;
#[cfg(feature = "telemetry")]
mod observation;
pub(crate) mod reconfigure;
pub(crate) mod reload;
#[cfg(feature = "cluster")]
pub(crate) mod remote;
pub(crate) mod report;
mod shutdown;
pub(crate) mod slow_consumers;
#[cfg(feature = "store")]
pub(crate) mod store;
#[cfg(feature = "telemetry")]
mod telemetry;

use std::fmt;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[cfg(feature = "wasm")]
use caxton_shards::api::PLUGINS_MAX;
use caxton_shards::api::{ConversationLimits, LiveConfig, RegistrationError};
use caxton_shards::journal::record::Durability;
use caxton_shards::mesh::mesh;
use caxton_shards::message::IdSpace;
use caxton_shards::routing::partition::Partition;
use caxton_shards::routing::rules::RULES_MAX;
use caxton_shards::shard::{RetryPolicy, ShardConfig};
use caxton_shards::supervision::RestartPolicy;
use caxton_shards::supervision::breaker::BreakerPolicy;
use caxton_shards::trace::Watching;
use glommio::ExecutorJoinHandle;

use self::error::CallError;
use self::reload::Additions;
use self::report::Report;
#[cfg(feature = "store")]
use self::store::Store;
use crate::clock::{Clock, wall_time};
use crate::config::{Config, ConfigErrors, lane_capacity};
use crate::doctor::{Demand, Finding, Status, allowed_cores, examine_at_start};
use crate::drive::{FailureHandlers, Launch, executor, run_shard};
#[cfg(feature = "telemetry")]
use crate::edge::{Edge, ListenError, listen};
use crate::shard_handle::{RouterPhase, ShardHandle, Shared};
#[cfg(feature = "store")]
use crate::store::StoreError;
#[cfg(feature = "telemetry")]
use crate::telemetry::TraceSink;
#[cfg(feature = "telemetry")]
use crate::telemetry::logs::RouterLog;
#[cfg(feature = "wasm")]
use crate::wasm::{Plugin, PluginsError};
use crate::watchdog::{WatchdogHandle, watch};
pub use blocking::Blocking;
pub use builder::RouterBuilder;
pub use calls::Sent;
#[cfg(feature = "wasm")]
pub(crate) use calls::not_on_a_shard;
pub use cancel::CancelStart;
pub use inbox::Inbox;
pub use inbox_builder::{INBOX_WINDOW, InboxBuilder};
pub use reload::{Changes, Reload};

/// Why a router did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// This host cannot run the router with this configuration. Nothing was started or changed.
    #[error("{}", host_in_words(problems))]
    Host {
        /// The problems that prevent the start and their remedies, as reported by `caxton doctor`.
        problems: Vec<Finding>,
    },
    /// A shard's executor could not be started although the host passed the checks.
    #[error(
        "shard {shard} could not start: {reason}. No check of `caxton doctor` explains it: run it beside what else limits this \
         process, and report what both say"
    )]
    Executor {
        /// The shard.
        shard: usize,
        /// The error of glommio or the kernel.
        reason: String,
    },
    /// There are more routing rules than the limit.
    #[error("{count} routing rules: the limit is {RULES_MAX}")]
    TooManyRules {
        /// The number of rules.
        count: usize,
    },
    /// There are more routing plugins than the limit.
    #[cfg(feature = "wasm")]
    #[error("{count} routing plugins: the limit is {PLUGINS_MAX}")]
    TooManyPlugins {
        /// The number of plugins.
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
    /// Telemetry cannot be set up as the settings say.
    #[cfg(feature = "telemetry")]
    #[error("telemetry could not start: {0}")]
    Telemetry(String),
    /// The address for metrics and health cannot be listened on. Nothing was started.
    #[cfg(feature = "telemetry")]
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A helper thread could not be started.
    #[error("a helper thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}

impl StartError {
    /// Whether the settings, or files that they name, are the reason, and not the host or the data directory.
    pub fn is_of_settings(&self) -> bool {
        match self {
            Self::Config(_) | Self::TooManyRules { .. } => true,
            #[cfg(feature = "wasm")]
            Self::Plugins(_) | Self::TooManyPlugins { .. } => true,
            _ => false,
        }
    }
}

/// Returns one sentence for each problem of a host.
fn host_in_words(problems: &[Finding]) -> String {
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    format!("this host cannot run the router. {}. Run `caxton doctor` to examine the whole host", problems.join(". "))
}

/// A running router: a handle that can be cloned and used from any thread.
///
/// The router stops when [`Router::shutdown`] is called; when the last handle is dropped, with the deadline
/// `shutdown.deadline_ms` of its settings; or at a signal, if [`Router::shutdown_on_signal`] was called.
///
/// ```
/// use std::time::Duration;
///
/// use caxton_router::prelude::*;
///
/// struct Greeter;
///
/// impl Agent for Greeter {
///     fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
///         let name = message.content().as_text().unwrap_or("stranger");
///         let greeting = context.reply(message, Performative::Inform).content(format!("Hello, {name}!")).build();
///         match greeting.map(|greeting| context.send(greeting)) {
///             Ok(Ok(_)) => Outcome::Done,
///             _ => Outcome::failed("the greeting could not be sent"),
///         }
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # futures_lite::future::block_on(async {
/// let router = Router::builder().start()?;
/// let greeter = router.register("greeter", || Greeter).await?;
/// let request = Message::builder(Performative::Request).receiver(greeter).content("world").build()?;
/// let reply = router.ask(request, Duration::from_secs(5)).await?;
/// assert_eq!(reply.content().as_text(), Some("Hello, world!"));
/// router.shutdown(Duration::from_secs(5))?;
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Clone)]
pub struct Router {
    inner: Arc<Inner>,
    /// The timeout of its calls.
    timeout: Duration,
}

/// Returns a handle that does not keep the router running.
pub(crate) struct WeakRouter(Weak<Inner>);

impl WeakRouter {
    /// Returns the router, unless all its handles were dropped.
    pub fn upgrade(&self) -> Option<Router> {
        self.0.upgrade().map(Router::new)
    }
}

struct Inner {
    shared: Arc<Shared>,
    threads: Mutex<Threads>,
    /// The end of draining, once the router is being stopped.
    drained_by: Mutex<Option<Instant>>,
    /// Where durable messages are stored.
    #[cfg(feature = "store")]
    store: Mutex<Option<Store>>,
    /// Warnings of the start.
    warnings: Vec<Finding>,
    /// What can be replaced while it runs.
    live: Mutex<LiveConfig>,
    /// The settings that were taken over last.
    settings: Mutex<Config>,
    /// What the program added to the settings.
    additions: Additions,
    /// The log of the program that started it, if it has one.
    #[cfg(feature = "telemetry")]
    log: Option<RouterLog>,
    /// The thread that serves HTTP.
    #[cfg(feature = "telemetry")]
    edge: Mutex<Option<Edge>>,
}

#[derive(Default)]
struct Threads {
    executors: Vec<ExecutorJoinHandle<()>>,
    watchdog: Option<JoinHandle<()>>,
    #[cfg(feature = "telemetry")]
    telemetry: Option<ExecutorJoinHandle<()>>,
    /// The final report, once the router has stopped.
    report: Option<Report>,
}

impl Router {
    fn new(inner: Arc<Inner>) -> Self {
        let timeout = inner.shared.config.router.call_timeout_ms.as_duration();
        Self { inner, timeout }
    }

    /// Returns a builder with the settings of [`Preset::Development`](crate::config::Preset::Development).
    pub fn builder() -> RouterBuilder {
        RouterBuilder::new()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    /// Returns a handle that does not keep the router running.
    pub(crate) fn downgrade(&self) -> WeakRouter {
        WeakRouter(Arc::downgrade(&self.inner))
    }

    /// Returns the number of shards.
    pub fn shard_count(&self) -> u16 {
        self.shared().partition.shard_count()
    }

    /// The map from agents to shards.
    pub fn partition(&self) -> Partition {
        self.shared().partition
    }

    /// Returns the start's warnings about this host, which make the router slower or smaller than it could be, as
    /// reported by `caxton doctor`.
    pub fn host_warnings(&self) -> &[Finding] {
        &self.inner.warnings
    }

    /// Returns the settings with which the router was started.
    pub fn config(&self) -> &Config {
        &self.shared().config
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Router").field("shards", &self.shard_count()).finish_non_exhaustive()
    }
}

/// The embedder's additions to each shard.
#[derive(Clone)]
pub(crate) struct Extensions {
    pub failure_handlers: Option<FailureHandlers>,
    #[cfg(feature = "wasm")]
    pub plugins: Vec<Plugin>,
    /// For the telemetry thread.
    #[cfg(feature = "telemetry")]
    pub trace_sinks: Vec<TraceSink>,
}

fn start(
    config: &Config,
    live: &LiveConfig,
    additions: Additions,
    #[cfg_attr(not(any(feature = "telemetry", feature = "wasm")), expect(unused_mut, reason = "nothing is changed"))]
    mut extensions: Extensions,
    cancel: &CancelStart,
) -> Result<Router, StartError> {
    #[cfg(feature = "telemetry")]
    let began = Instant::now();
    let demand = Demand::of(config, allowed_cores().len());
    #[cfg(feature = "telemetry")]
    let demand = if extensions.trace_sinks.is_empty() { demand } else { demand.with_telemetry() };
    let warnings = fit_host(&demand)?;
    let cores = allowed_cores();
    let shards = config.router.shards.resolve(cores.len(), config.has_store());
    let count = usize::from(shards.into_inner());
    let spare_cores = cores.get(count..).unwrap_or_default();
    let partition = Partition::new(shards).of_node(config.router.node);
    #[cfg(feature = "wasm")]
    extensions.plugins.splice(0..0, Plugin::configured(&config.plugins, &config.wasm, shards.into_inner(), &[])?);
    // Before there is anything to stop.
    #[cfg(feature = "telemetry")]
    let listener = config.metrics.listen.address().map(|address| listen("metrics.listen", address)).transpose()?;
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
    // From here on a probe is told that the router is starting: reading a large store takes time.
    #[cfg(feature = "telemetry")]
    let edge = listener.map(|listener| observation::serve(&shared, listener)).transpose()?;
    #[cfg(feature = "store")]
    let mut store = match Store::open(config, partition, wall_time().0, cancel) {
        Ok(store) => store,
        Err(error) => {
            #[cfg(feature = "telemetry")]
            if let Some(edge) = edge {
                edge.stop();
            }
            return Err(if cancel.is_cancelled() { StartError::Cancelled } else { error.into() });
        }
    };
    #[cfg(feature = "telemetry")]
    let log = RouterLog::of_caller(&shared);
    #[cfg(feature = "telemetry")]
    let log_sender = match &log {
        Some(log) => {
            log.starting(config, shards, &warnings);
            match log.begin(&shared) {
                Ok(sender) => sender,
                Err(error) => {
                    #[cfg(feature = "store")]
                    if let Some(store) = store {
                        store.give_up();
                    }
                    if let Some(edge) = edge {
                        edge.stop();
                    }
                    return Err(error.into());
                }
            }
        }
        None => None,
    };
    let mut inner = Inner::new(Arc::clone(&shared), warnings);
    #[cfg(feature = "telemetry")]
    {
        inner.log = log;
        inner.edge = Mutex::new(edge);
    }
    inner.live = Mutex::new(live.clone());
    inner.additions = additions;
    let router = Router::new(Arc::new(inner));
    #[cfg(feature = "wasm")]
    shared.set_plugins(extensions.plugins.clone());
    let boot_epoch = wall_time().0;
    #[cfg(feature = "store")]
    let boot_epoch = store.as_ref().map_or(boot_epoch, |store| store.directory.boot_epoch());
    #[cfg(feature = "cluster")]
    shared.boot_epoch.store(boot_epoch, std::sync::atomic::Ordering::Relaxed);
    #[cfg(feature = "telemetry")]
    let mut feeds = match router.begin_telemetry(std::mem::take(&mut extensions.trace_sinks), clock.start()) {
        Ok(feeds) => feeds,
        Err(error) => {
            abandon(&router);
            #[cfg(feature = "store")]
            if let Some(store) = store {
                store.give_up();
            }
            return Err(error);
        }
    };
    let (ready_sender, ready) = flume::bounded(count);
    let mut failure = None;
    for (index, (port, work)) in ports.into_iter().zip(works).enumerate() {
        #[cfg_attr(
            not(any(feature = "store", feature = "telemetry")),
            expect(unused_mut, reason = "nothing is changed")
        )]
        let mut shard_config = shard_config(config, live, partition, index, boot_epoch);
        #[cfg(feature = "store")]
        let store = store.as_mut().and_then(|store| store.launch(config, index, spare_cores, cancel));
        #[cfg(feature = "store")]
        if let Some(launch) = &store {
            // What an earlier run left was accepted, so there is room for it whatever the limit is now.
            launch.recovered.make_room(&mut shard_config);
        }
        #[cfg(feature = "telemetry")]
        let feed = feeds.next();
        #[cfg(feature = "telemetry")]
        if feed.is_some() {
            shard_config.watching = crate::telemetry::watching(config, &shared.telemetry);
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
            #[cfg(feature = "telemetry")]
            feed,
            core: index.checked_rem(cores.len()).map(|place| cores[place]),
            #[cfg(feature = "telemetry")]
            log: log_sender.clone(),
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
    #[cfg(feature = "telemetry")]
    drop(log_sender);
    // A shard whose executor failed drops its sender silently; `join` returns its error.
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
                // A core without a shard; if there is none, the kernel decides.
                core_affinity::set_for_current(core_affinity::CoreId { id: core });
            }
            watch(&watched, &parker, clock.start());
        })?;
        router.inner.threads.lock().unwrap_or_else(PoisonError::into_inner).watchdog = Some(watchdog);
        // Dropping the handle stops the shards.
        crate::management::begin(&router).map_err(StartError::Management)?;
        #[cfg(feature = "telemetry")]
        shared.health.set_started();
        #[cfg(feature = "telemetry")]
        if let Some(log) = &router.inner.log {
            #[cfg(feature = "store")]
            if let Some(recovered) = router.recovered() {
                log.recovered(&recovered);
            }
            log.running(count, began.elapsed());
        }
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

/// Stops the shards that did start and returns why another did not.
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
    shared.subscribers.clear();
    // After the log, which may be exported.
    #[cfg(feature = "telemetry")]
    {
        let thread = router.inner.threads.lock().unwrap_or_else(PoisonError::into_inner).telemetry.take();
        router.inner.end_telemetry(thread);
    }
    // Dropping the handle has nothing left to wait for.
    router.inner.set_unstarted();
    failure.unwrap_or_else(|| StartError::Executor { shard: 0, reason: "its thread ended without a reason".to_owned() })
}

/// Examines the host and returns its warnings.
///
/// # Errors
///
/// Returns the problems that keep a router with this demand from running.
fn fit_host(demand: &Demand) -> Result<Vec<Finding>, StartError> {
    let mut findings = examine_at_start(demand);
    findings.retain(|finding| finding.status != Status::Ok);
    if findings.iter().all(|finding| finding.status != Status::Problem) {
        return Ok(findings);
    }
    findings.retain(|finding| finding.status == Status::Problem);
    Err(StartError::Host { problems: findings })
}

/// Something has changed since the host was examined, or no check covers it.
fn start_error(config: &Config, shard: usize, error: &glommio::GlommioError<()>) -> StartError {
    let demand = Demand::of(config, allowed_cores().len());
    fit_host(&demand).err().unwrap_or_else(|| StartError::Executor { shard, reason: error.to_string() })
}

/// Returns the configuration of one shard.
#[allow(clippy::cast_possible_truncation)] // There are at most 1024 shards.
fn shard_config(
    config: &Config,
    live: &LiveConfig,
    partition: Partition,
    index: usize,
    boot_epoch: u64,
) -> ShardConfig {
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
        protocols: live.protocols.clone(),
        rules: Arc::clone(&live.rules),
        // Durable messages are refused.
        durability: Durability::Unavailable,
        durable_lifetime_ms: 0,
        duplicates_window: 0,
        looks_for_absent: config.is_in_cluster(),
        watching: Watching::default(),
        seed: unpredictable() ^ boot_epoch ^ ((index as u64) << 32),
    };
    #[cfg(feature = "store")]
    let shard_config = store::with_durability(shard_config, &config.store);
    shard_config
}

/// Returns a number unknown to peers: it seeds the hash tables whose keys peers choose.
fn unpredictable() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(())
}
