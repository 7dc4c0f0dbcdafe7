//! The `ams@...` and `df@...` that a file names: they answer as those of a router do, whichever platform is theirs, and
//! what they answer is written down.

use std::sync::Arc;

use caxton_router::domain::{AgentName, PlatformName};
use caxton_router::{Config, Message, Registration};
use caxton_shards::management::{AMS, Ams, DF, Df, ObservedReply, Observer, Platform};

use super::journal::{Fates, Journal, Reply};

/// An agent of a platform's own.
pub enum Office {
    Ams(Platform),
    Df(Platform),
}

impl Office {
    /// What an agent of this name is to its platform, if it is one of its own.
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

    /// The agent, which writes down what it answers.
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
