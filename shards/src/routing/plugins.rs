//! Routing plugins: the embedder's code that inspects every message before it is accepted.
//!
//! Plugins are called in order, on the sender's shard, and each sees the changes of the previous ones. They see
//! messages from agents and embedders, but not the router's own.

use crate::message::{Message, ParameterValue, Receiver};
use crate::routing::rules::Destination;
use crate::supervision::catch_panic;

/// Maximum number of plugins of a router: each of them is called for every message.
pub const PLUGINS_MAX: usize = 16;

/// A plugin's decision about a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The message passes unchanged.
    Pass,
    /// The message is sent elsewhere.
    Reroute(Destination),
    /// The message is not accepted, and its sender is told why.
    Refuse(Box<str>),
    /// The message passes with these user-defined parameters, which replace existing ones of the same name.
    Annotate(Vec<(Box<str>, Box<str>)>),
}

/// A plugin of one shard. It shares the shard's thread, so it must not block.
pub trait RoutePlugin {
    /// Returns its name for errors.
    fn name(&self) -> &str;

    /// Decides about a message.
    fn judge(&mut self, message: &Message) -> Verdict;
}

/// The plugins of a shard.
pub(crate) struct Plugins {
    list: Vec<Box<dyn RoutePlugin>>,
    /// Whether messages outside conversations are checked before they are accepted even without plugins.
    is_always_asked: bool,
}

/// Why a plugin did not let a message pass.
pub(crate) struct PluginRefusal {
    pub plugin: Box<str>,
    pub reason: Box<str>,
}

impl Plugins {
    /// Creates an empty set. `is_always_asked` makes messages outside conversations be checked all the same.
    pub fn new(is_always_asked: bool) -> Self {
        Self { list: Vec::new(), is_always_asked }
    }

    /// Adds a plugin after the others, or returns it if there are [`PLUGINS_MAX`] already.
    pub fn add(&mut self, plugin: Box<dyn RoutePlugin>) -> Result<(), Box<dyn RoutePlugin>> {
        if self.list.len() >= PLUGINS_MAX {
            return Err(plugin);
        }
        self.list.push(plugin);
        Ok(())
    }

    /// Replaces all plugins. Of those beyond [`PLUGINS_MAX`] none is used.
    pub fn replace(&mut self, mut plugins: Vec<Box<dyn RoutePlugin>>) {
        plugins.truncate(PLUGINS_MAX);
        self.list = plugins;
    }

    /// Sets whether messages outside conversations are checked before they are accepted even without plugins.
    pub fn set_always_asked(&mut self, is_always_asked: bool) {
        self.is_always_asked = is_always_asked;
    }

    /// Whether the message is checked before it is accepted.
    #[inline(always)]
    pub fn have_to_judge(&self, message: &Message) -> bool {
        !self.list.is_empty() || self.is_always_asked && message.conversation().is_none()
    }

    /// Passes a message that is about to be accepted to every plugin.
    pub fn judge(&mut self, message: &mut Message) -> Result<(), PluginRefusal> {
        for plugin in &mut self.list {
            let refusal = |by: &str, reason: &str| PluginRefusal { plugin: by.into(), reason: reason.into() };
            match catch_panic(|| plugin.judge(message)) {
                Ok(Verdict::Pass) => {}
                Ok(Verdict::Reroute(Destination::Agent(agent))) => message.set_receiver(Receiver::Agent(agent)),
                Ok(Verdict::Reroute(Destination::Capability(term, choice))) => {
                    message.set_receiver(Receiver::Capability(term, choice));
                }
                Ok(Verdict::Refuse(reason)) => return Err(refusal(plugin.name(), &reason)),
                Ok(Verdict::Annotate(parameters)) => {
                    for (name, value) in parameters {
                        let set = message.annotate(&name, ParameterValue::text(value));
                        set.map_err(|reason| refusal(plugin.name(), &reason))?;
                    }
                }
                // Its decision is unknown, so nothing passes.
                Err(what) => return Err(refusal(plugin.name(), &format!("it panicked: {what}"))),
            }
        }
        Ok(())
    }
}
