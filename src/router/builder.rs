//! The options for starting a router.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

#[cfg(feature = "wasm")]
use caxton_shards::api::PLUGINS_MAX;
use caxton_shards::api::{FailureHandler, LiveConfig};
use caxton_shards::domain::ShardCount;
use caxton_shards::protocol::{Definition, Mode};
use caxton_shards::routing::partition::ShardIndex;
use caxton_shards::routing::rules::{RULES_MAX, Rule};

use super::reload::Additions;
use super::{CancelStart, Extensions, Router, StartError, start};
use crate::config::{Config, Preset, ShardChoice, process_environment};
use crate::drive::FailureHandlers;
#[cfg(feature = "telemetry")]
use crate::telemetry::{MessageTrace, TraceSink};
#[cfg(feature = "wasm")]
use crate::wasm::Plugin;

/// The options for starting a router.
///
/// ```
/// use std::time::Duration;
///
/// use caxton_router::config::Preset;
/// use caxton_router::router::Router;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let router = Router::builder().preset(Preset::Testing).shards(2.try_into()?).start()?;
/// assert_eq!(router.shard_count(), 2);
/// # router.shutdown(Duration::from_secs(5))?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until `start` is called"]
pub struct RouterBuilder {
    config: Config,
    rules: Vec<Rule>,
    protocols: Vec<Definition>,
    failure_handlers: Option<FailureHandlers>,
    #[cfg(feature = "wasm")]
    plugins: Vec<Plugin>,
    #[cfg(feature = "telemetry")]
    trace_sinks: Vec<TraceSink>,
    cancel: CancelStart,
}

impl fmt::Debug for RouterBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let builder = &mut formatter.debug_struct("RouterBuilder");
        builder.field("config", &self.config).field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl RouterBuilder {
    pub(super) fn new() -> Self {
        Self {
            config: Config::default(),
            rules: Vec::new(),
            protocols: Vec::new(),
            failure_handlers: None,
            #[cfg(feature = "wasm")]
            plugins: Vec::new(),
            #[cfg(feature = "telemetry")]
            trace_sinks: Vec::new(),
            cancel: CancelStart::new(),
        }
    }

    /// Uses the settings of a preset.
    pub fn preset(mut self, preset: Preset) -> Self {
        self.config = Config::preset(preset);
        self
    }

    /// Uses these settings.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Uses the settings of a preset, a TOML file and the environment, in increasing precedence.
    ///
    /// # Errors
    ///
    /// Returns every mistake in the file and the environment.
    pub fn load(mut self, preset: Option<Preset>, file: Option<&Path>) -> Result<Self, StartError> {
        self.config = Config::load(preset, file, process_environment())?;
        Ok(self)
    }

    /// Stores durable messages, conversations and agents in this directory; overrides the settings.
    #[cfg(feature = "store")]
    pub fn store(mut self, directory: impl Into<std::path::PathBuf>) -> Self {
        self.config.store.directory = directory.into().into();
        self
    }

    /// Sets the number of shards; overrides the settings.
    pub fn shards(mut self, shards: ShardCount) -> Self {
        self.config.router.shards = ShardChoice::Exactly(shards);
        self
    }

    /// Adds a rule for messages that name no agent. Rules are tried in the order of addition, after those of
    /// `rules.files`, up to [`RULES_MAX`] in all.
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Sets the mode of protocol checks; overrides the settings, except for protocols with a mode of their own.
    pub fn protocols(mut self, mode: Mode) -> Self {
        self.config.protocols.mode = mode;
        self
    }

    /// Adds an embedder's protocol, checked in the same mode as the others.
    pub fn protocol(mut self, definition: Definition) -> Self {
        self.protocols.push(definition);
        self
    }

    /// Installs embedders' handlers for failed attempts. `make` is called once per shard, on the shard's thread, so its
    /// result need not be `Send`.
    ///
    /// A panic in `make` stops the router, like every panic outside an agent.
    pub fn failure_handler<H: FailureHandler + 'static>(
        mut self,
        make: impl Fn(ShardIndex) -> H + Send + Sync + 'static,
    ) -> Self {
        self.failure_handlers = Some(Arc::new(move |shard| Box::new(make(shard))));
        self
    }

    /// Adds a routing plugin that sees every message before it is accepted, after those of `plugins.files` and those
    /// added before, up to [`PLUGINS_MAX`] in all.
    #[cfg(feature = "wasm")]
    pub fn plugin(mut self, plugin: Plugin) -> Self {
        self.plugins.push(plugin);
        self
    }

    /// Passes the trace of each message that is traced to this channel: those of `telemetry.sampling`, and all that
    /// fail, expire or are slow. A trace that finds the channel full is dropped and counted.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use caxton_router::prelude::*;
    ///
    /// let (sender, traces) = flume::bounded(1_000);
    /// let router = Router::builder().traces_to(sender).start()?;
    /// let nobody = AgentId::of_text("nobody");
    /// router.blocking().send(Message::builder(Performative::Inform).receiver(nobody).build()?)?;
    /// router.shutdown(std::time::Duration::from_secs(5))?;
    /// let trace = traces.recv()?;
    /// assert!(trace.has_failed());
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "telemetry")]
    pub fn traces_to(mut self, traces: flume::Sender<MessageTrace>) -> Self {
        self.trace_sinks.push(traces);
        self
    }

    /// Sets the switch that cancels the start.
    pub fn cancelled_by(mut self, cancel: &CancelStart) -> Self {
        self.cancel = cancel.clone();
        self
    }

    /// Examines the host as `caxton doctor` does, starts the shards, and waits until all of them run.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::Host`] with all problems of this host and their remedies before anything is started;
    /// otherwise the error of the first shard that could not start, after stopping the others.
    pub fn start(self) -> Result<Router, StartError> {
        self.config.check_export()?;
        self.config.check_cluster()?;
        let mut rules = self.config.rules.load()?;
        rules.extend_from_slice(&self.rules);
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
            #[cfg(feature = "telemetry")]
            trace_sinks: self.trace_sinks,
        };
        let additions = Additions { rules: self.rules, protocols: self.protocols };
        start(&self.config, &LiveConfig::new(rules.into(), rulebook), additions, extensions, &self.cancel)
    }
}
