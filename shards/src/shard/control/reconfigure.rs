//! Replaces the part of the configuration that can change while the shard runs.

use crate::shard::Shard;
use crate::shard::live_config::{LiveConfig, LiveLimits};

impl Shard {
    /// Takes over a later version, all of it in this step. Plugins and protocols that are the same keep their state.
    #[cold]
    pub(in crate::shard) fn reconfigure(&mut self, live: LiveConfig) {
        if live.version() <= self.live.version() {
            return;
        }
        if !live.protocols.is_clone_of(&self.live.protocols) {
            self.plugins.set_always_asked(!live.protocols.is_empty());
            self.conversations.replace_protocols(live.protocols.clone());
        }
        if let Some(plugins) = &live.plugins
            && !self.live.plugins.as_ref().is_some_and(|former| former.is_clone_of(plugins))
        {
            self.plugins.replace(plugins.make());
        }
        if let Some(limits) = live.limits
            && self.live.limits != Some(limits)
        {
            self.set_limits(limits);
        }
        self.live = live;
    }

    fn set_limits(&mut self, limits: LiveLimits) {
        let LiveLimits { conversation_timeout_ms, participants_max, .. } = limits;
        self.config.mailbox_messages = limits.mailbox_messages;
        self.config.mailbox_bytes = limits.mailbox_bytes;
        self.config.message_timeout = limits.message_timeout;
        self.config.content_max = limits.content_max;
        self.config.batch = limits.batch;
        self.config.turn_quota = limits.turn_quota;
        self.conversations.set_limits(conversation_timeout_ms, participants_max);
    }
}
