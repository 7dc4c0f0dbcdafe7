//! Routing plugins: code of the embedder's that sees every message before it is accepted.
//!
//! Plugins are asked in their order, on the sender's shard, and each sees what those before it have made of the message. They see
//! what agents and embedders send, and nothing of what the router itself says.

use crate::message::{Message, ParameterValue, Receiver};
use crate::routing::rules::Destination;
use crate::supervision::catch_panic;

/// The most plugins of a router: each of them is asked for every message.
pub const PLUGINS_MAX: usize = 16;

/// What a plugin makes of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It goes on as it is.
    Pass,
    /// It goes somewhere else.
    Reroute(Destination),
    /// It is not accepted, and its sender is told why.
    Refuse(Box<str>),
    /// It goes on with these user-defined parameters. One that it has already gets the new value.
    Annotate(Vec<(Box<str>, Box<str>)>),
}

/// A plugin of one shard. It shares the shard's thread, so it must not block.
pub trait RoutePlugin {
    /// What it is called in errors.
    fn name(&self) -> &str;

    /// Judges a message.
    fn judge(&mut self, message: &Message) -> Verdict;
}

/// The plugins of a shard.
pub(crate) struct Plugins {
    list: Vec<Box<dyn RoutePlugin>>,
    /// Whether messages in no conversation are looked at before they are accepted, whether there are plugins or not.
    is_always_asked: bool,
}

/// Why a plugin did not let a message pass.
pub(crate) struct PluginRefusal {
    pub plugin: Box<str>,
    pub reason: Box<str>,
}

impl Plugins {
    /// No plugins. `is_always_asked` has messages in no conversation looked at all the same.
    pub fn new(is_always_asked: bool) -> Self {
        Self { list: Vec::new(), is_always_asked }
    }

    /// Adds a plugin behind the others, or gives it back if there are [`PLUGINS_MAX`] already.
    pub fn add(&mut self, plugin: Box<dyn RoutePlugin>) -> Result<(), Box<dyn RoutePlugin>> {
        if self.list.len() >= PLUGINS_MAX {
            return Err(plugin);
        }
        self.list.push(plugin);
        self.is_always_asked = true;
        Ok(())
    }

    /// Whether something looks at the message before it is accepted.
    #[inline(always)]
    pub fn have_to_judge(&self, message: &Message) -> bool {
        self.is_always_asked && (message.conversation().is_none() || !self.list.is_empty())
    }

    /// Has every plugin judge a message that is about to be accepted.
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
                // What it would have said is not known, so nothing goes past it.
                Err(what) => return Err(refusal(plugin.name(), &format!("it panicked: {what}"))),
            }
        }
        Ok(())
    }
}
