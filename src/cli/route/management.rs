//! The `ams@...` and `df@...` named in a file: they reply like those of a router, on any platform, and their replies
//! are recorded.

use std::sync::Arc;

use caxton_router::domain::{AgentName, PlatformName};
use caxton_router::{Config, Message, Registration};
use caxton_shards::management::{AMS, Ams, DF, Df, ObservedReply, Observer, Platform};

use super::journal::{Fates, Journal, Reply};

/// An agent of a platform itself.
pub enum Office {
    Ams(Platform),
    Df(Platform),
}

impl Office {
    /// Returns the role of an agent of this name, if it is a platform's own.
    pub fn of(name: &AgentName) -> Option<Self> {
        let (local, platform) = name.split_once('@')?;
        let settings = Config::default().management;
        let platform = Platform {
            name: PlatformName::try_new(platform).ok()?,
            descriptions: settings.descriptions,
            subscriptions: settings.subscriptions,
        };
        match local {
            AMS => Some(Self::Ams(platform)),
            DF => Some(Self::Df(platform)),
            _ => None,
        }
    }

    /// Returns the registration of the agent, which records its replies.
    pub fn registration(self, name: AgentName, journal: &Arc<Journal>) -> Registration {
        let writer = Writer { journal: Arc::clone(journal) };
        match self {
            Self::Ams(platform) => {
                Registration::native(name, move || Ams::new(platform.clone()).observed(writer.clone()))
            }
            Self::Df(platform) => {
                Registration::native(name, move || Df::new(platform.clone()).observed(writer.clone()))
            }
        }
    }
}

#[derive(Clone)]
struct Writer {
    journal: Arc<Journal>,
}

impl Observer for Writer {
    fn replied(&mut self, question: &Message, reply: ObservedReply<'_>) {
        let (Some(id), Some(from)) = (question.id(), question.target()) else { return };
        let ObservedReply { id: reply_id, performative, receivers: deliveries, content } = reply;
        let content = Some(content.to_owned());
        let reply = Reply { performative, from, content, deliveries, processed: 0, lost: Fates::new() };
        self.journal.is_being_answered(id, reply_id, reply);
    }

    fn handled(&mut self, question: &Message) {
        if let (Some(id), Some(by)) = (question.id(), question.target())
            && !self.journal.reply_was_processed(id)
        {
            self.journal.was_processed(id, by, None);
        }
    }
}
