//! Taking over settings that were read again.
//!
//! Everything is read and checked before anything is changed: rules, protocols, routing plugins and limits change together,
//! in one step of each shard, or not at all.

use std::sync::{Arc, PoisonError};

use caxton_shards::api::LiveLimits;
#[cfg(feature = "wasm")]
use caxton_shards::api::{PLUGINS_MAX, PluginMaker};
use caxton_shards::protocol::{Definition, Rulebook};
use caxton_shards::routing::rules::{RULES_MAX, Rule};

use super::Router;
use super::calls::not_on_a_shard;
use super::error::CallError;
use super::reconfigure::TooManyRulesError;
use crate::config::{Config, ConfigErrors};
use crate::shard_handle::RouterPhase;
#[cfg(feature = "wasm")]
use crate::wasm::{Plugin, PluginsError};

/// Why settings cannot be taken over. Nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// The settings, or files with rules or protocols that they name, have mistakes.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// There are more routing rules than the limit.
    #[error(transparent)]
    TooManyRules(#[from] TooManyRulesError),
    /// There are more routing plugins than the limit.
    #[cfg(feature = "wasm")]
    #[error("{count} routing plugins: the limit is {PLUGINS_MAX}")]
    TooManyPlugins {
        /// The number of plugins.
        count: usize,
    },
    /// A routing plugin cannot be used.
    #[cfg(feature = "wasm")]
    #[error("plugins.files: {0}")]
    Plugins(#[from] PluginsError),
}

/// What a program added to the settings when it built its router.
#[derive(Default)]
pub(super) struct Additions {
    pub rules: Vec<Rule>,
    pub protocols: Vec<Definition>,
}

/// Settings that were read again and can be taken over.
#[must_use = "nothing changes until they are applied"]
pub struct Reload {
    router: Router,
    config: Config,
    rules: Vec<Rule>,
    protocols: Rulebook,
    /// All plugins, if any has changed.
    #[cfg(feature = "wasm")]
    plugins: Option<Vec<Plugin>>,
    changes: Changes,
}

/// What taking over settings changes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Changes {
    /// What applies from then on, one line for each change.
    pub applied: Vec<String>,
    /// Settings whose new values apply at the next start, such as `router.node = 7`.
    pub at_next_start: Vec<String>,
}

impl std::fmt::Debug for Reload {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Reload").field("changes", &self.changes).finish_non_exhaustive()
    }
}

impl Router {
    /// Reads the files that these settings name, and checks everything in them that can change while the router runs:
    /// routing rules, protocols, routing plugins and [limits](crate::manual::operations). Nothing changes before
    /// [`Reload::apply`]. Compiling a changed plugin can take seconds; this blocks the calling thread.
    ///
    /// What the program gave to [`RouterBuilder`](super::RouterBuilder) is kept; what it set by [`Router::replace_rules`] and
    /// [`Router::replace_protocols`] is replaced. Doors take over what is theirs by `Doors::prepare_reload`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use caxton_router::Router;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let router = Router::builder().start()?;
    /// let mut config = router.config().clone();
    /// config.set("mailbox.messages", "500", "this program")?;
    /// config.set("router.node", "7", "this program")?;
    /// let reload = router.prepare_reload(config)?;
    /// assert_eq!(reload.changes().applied, ["settings that apply from now on: mailbox.messages = 500"]);
    /// assert_eq!(reload.changes().at_next_start, ["router.node = 7"]);
    /// futures_lite::future::block_on(reload.apply())?;
    /// # router.shutdown(Duration::from_secs(5))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the settings, or with a file that they name.
    pub fn prepare_reload(&self, config: Config) -> Result<Reload, ReloadError> {
        config.check_export()?;
        config.check_cluster()?;
        let own = &self.inner.additions;
        let mut rules = config.rules.load()?;
        rules.extend(own.rules.iter().cloned());
        if rules.len() > RULES_MAX {
            return Err(TooManyRulesError { count: rules.len() }.into());
        }
        let protocols = config.protocols.rulebook(&own.protocols)?;
        let settings = self.inner.settings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut changes = Changes { applied: Vec::new(), at_next_start: config.differences(self.config(), false) };
        let former = self.rule_set();
        if *former != *rules {
            changes.applied.push(format!("rules: {} take the place of {}", rules.len(), former.len()));
        }
        let of_protocols = protocols.changes_since(&self.protocols());
        changes.applied.extend(of_protocols.into_iter().map(|change| format!("protocols: {change}")));
        #[cfg(feature = "wasm")]
        let plugins = self.changed_plugins(&settings, &config, &mut changes.applied)?;
        let limits = config.differences(&settings, true);
        if !limits.is_empty() {
            changes.applied.push(format!("settings that apply from now on: {}", limits.join(", ")));
        }
        Ok(Reload {
            router: self.clone(),
            config,
            rules,
            protocols,
            #[cfg(feature = "wasm")]
            plugins,
            changes,
        })
    }

    /// Loads the plugins of these settings. Returns all plugins if any has changed, and adds what has.
    #[cfg(feature = "wasm")]
    fn changed_plugins(
        &self,
        settings: &Config,
        config: &Config,
        changes: &mut Vec<String>,
    ) -> Result<Option<Vec<Plugin>>, ReloadError> {
        let former = self.shared().plugins();
        let (former, own) = former.split_at(settings.plugins.files.len().min(former.len()));
        let count = config.plugins.files.len() + own.len();
        if count > PLUGINS_MAX {
            return Err(ReloadError::TooManyPlugins { count });
        }
        // The room of guests is reserved at the start.
        let wasm = &self.config().wasm;
        let mut plugins = Plugin::configured(&config.plugins, wasm, self.shard_count(), former)?;
        let find = |plugins: &[Plugin], name: &str| plugins.iter().find(|plugin| plugin.name() == name).cloned();
        for plugin in &plugins {
            match find(former, plugin.name()) {
                None => changes.push(format!("plugins: {} is asked from now on", plugin.name())),
                Some(former) if former.is_clone_of(plugin) => {}
                Some(_) => changes.push(format!("plugins: {}: its new module takes over", plugin.name())),
            }
        }
        let gone = former.iter().filter(|former| find(&plugins, former.name()).is_none());
        changes.extend(gone.map(|former| format!("plugins: {} is no longer asked", former.name())));
        let is_same =
            plugins.len() == former.len() && plugins.iter().zip(former).all(|(one, two)| one.is_clone_of(two));
        plugins.extend_from_slice(own);
        Ok(if is_same { None } else { Some(plugins) })
    }
}

impl Reload {
    /// Returns what applying changes.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Applies the changes, and returns once every shard has them. Each shard takes all of them over in one step, between two
    /// messages: what was accepted before stays accepted, and open conversations keep their protocols. If a routing plugin has
    /// changed, each shard gets new instances of all.
    ///
    /// # Errors
    ///
    /// Returns an error and changes nothing if this is a shard's own thread or the router has stopped. If a shard does not
    /// respond in time, that is an error too: it takes the changes over as soon as it does anything.
    pub async fn apply(self) -> Result<(), CallError> {
        let Self { router, config, rules, protocols, .. } = self;
        not_on_a_shard()?;
        if router.shared().phase() != RouterPhase::Running {
            return Err(CallError::Stopped);
        }
        #[cfg(feature = "wasm")]
        let maker = self.plugins.map(|plugins| {
            let made = plugins.clone();
            router.shared().set_plugins(plugins);
            PluginMaker::new(move || made.iter().map(Plugin::for_shard).collect())
        });
        let limits = limits(&config);
        *router.inner.settings.lock().unwrap_or_else(PoisonError::into_inner) = config;
        router
            .replace(|live| {
                live.rules = Arc::from(rules);
                // What is the same stays the same, so that the shards have nothing to compare.
                if !protocols.changes_since(&live.protocols).is_empty() {
                    live.protocols = protocols;
                }
                #[cfg(feature = "wasm")]
                if maker.is_some() {
                    live.plugins = maker;
                }
                if live.limits.is_some() || limits != self::limits(router.config()) {
                    live.limits = Some(limits);
                }
            })
            .await
    }
}

/// Returns the limits that can change while a router runs.
fn limits(config: &Config) -> LiveLimits {
    LiveLimits {
        mailbox_messages: config.mailbox.messages,
        mailbox_bytes: config.mailbox.bytes,
        message_timeout: config.message.timeout_ms,
        content_max: config.message.content_bytes_max,
        batch: config.delivery.batch,
        turn_quota: config.delivery.turn_quota,
        conversation_timeout_ms: u64::from(config.conversation.timeout_ms.into_inner()),
        participants_max: usize::from(config.conversation.participants_max.into_inner()),
    }
}
