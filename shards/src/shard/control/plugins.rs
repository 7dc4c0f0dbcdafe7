//! Routing plugins: code of the embedder's that sees every message before it is accepted.
//!
//! Plugins are asked in their order, on the sender's shard, and each sees what those before it have made of the message. They see
//! what agents and embedders send, and nothing of what the router itself says.

use crate::message::{Message, ParameterValue, Receiver};
use crate::routing::rules::Destination;
use crate::shard::Shard;
use crate::shard::io::SendErrorKind;
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

impl Shard {
    /// Adds a plugin behind the others.
    ///
    /// # Errors
    /// There are [`PLUGINS_MAX`] already; the plugin comes back.
    pub fn add_plugin(&mut self, plugin: Box<dyn RoutePlugin>) -> Result<(), Box<dyn RoutePlugin>> {
        if self.plugins.list.len() >= PLUGINS_MAX {
            return Err(plugin);
        }
        self.plugins.list.push(plugin);
        self.plugins.judge = true;
        Ok(())
    }

    /// Whether [`Shard::ask_plugins`] has something to do.
    #[inline(always)]
    pub(in crate::shard) fn has_to_judge(&self, message: &Message) -> bool {
        self.plugins.judge && (message.conversation().is_none() || !self.plugins.list.is_empty())
    }

    /// Has every plugin judge a message that is about to be accepted. One that can't be held to the protocol that it names is
    /// counted.
    #[cold]
    pub(in crate::shard) fn ask_plugins(&mut self, message: &mut Message) -> Result<(), SendErrorKind> {
        self.dialogue.conversations.count_unchecked(message);
        for plugin in &mut self.plugins.list {
            let refused =
                |by: &str, reason: &str| SendErrorKind::RefusedByPlugin { plugin: by.into(), reason: reason.into() };
            match catch_panic(|| plugin.judge(message)) {
                Ok(Verdict::Pass) => {}
                Ok(Verdict::Reroute(Destination::Agent(agent))) => message.set_receiver(Receiver::Agent(agent)),
                Ok(Verdict::Reroute(Destination::Capability(term, choice))) => {
                    message.set_receiver(Receiver::Capability(term, choice));
                }
                Ok(Verdict::Refuse(reason)) => return Err(refused(plugin.name(), &reason)),
                Ok(Verdict::Annotate(parameters)) => {
                    for (name, value) in parameters {
                        let set = message.annotate(&name, ParameterValue::text(value));
                        set.map_err(|reason| refused(plugin.name(), &reason))?;
                    }
                }
                // What it would have said is not known, so nothing goes past it.
                Err(what) => return Err(refused(plugin.name(), &format!("it panicked: {what}"))),
            }
        }
        Ok(())
    }
}
