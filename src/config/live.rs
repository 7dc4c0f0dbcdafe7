//! The settings that a running router takes over.

use super::Config;

/// They apply without a restart. Those of the doors are taken over by the doors.
const LIVE: [&str; 26] = [
    "mailbox.messages",
    "mailbox.bytes",
    "message.timeout_ms",
    "message.content_bytes_max",
    "delivery.batch",
    "delivery.turn_quota",
    "conversation.timeout_ms",
    "conversation.participants_max",
    "protocols.mode",
    "protocols.modes",
    "protocols.files",
    "rules.files",
    "plugins.files",
    "plugins.call_ms",
    "plugins.on_failure",
    "doors.tokens",
    "doors.certificate",
    "doors.key",
    "doors.client_certificates",
    "doors.audit",
    "doors.connections_max",
    "doors.agents_max",
    "doors.grace_ms",
    "doors.idle_ms",
    "doors.requests_per_second",
    "nats.messages_per_second",
];

impl Config {
    /// Returns the settings in which this configuration differs from an earlier one, each with its new value: those that a
    /// running router takes over, or the others.
    pub(crate) fn differences(&self, earlier: &Self, live: bool) -> Vec<String> {
        let pairs = earlier.values().zip(self.values());
        let differ = pairs.filter(|(old, new)| old.shown != new.shown && LIVE.contains(&new.key) == live);
        differ.map(|(_, new)| format!("{} = {}", new.key, new.shown)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_running_router_takes_over_is_told_from_the_rest() {
        let earlier = Config::default();
        let mut config = earlier.clone();
        for live in [true, false] {
            assert_eq!(config.differences(&earlier, live), Vec::<String>::new());
        }
        config.set("mailbox.messages", "77", "test").expect("a legal value");
        config.set("router.node", "7", "test").expect("a legal value");
        assert_eq!(config.differences(&earlier, true), ["mailbox.messages = 77"]);
        assert_eq!(config.differences(&earlier, false), ["router.node = 7"]);
    }

    #[cfg(feature = "serve")]
    #[test]
    fn every_setting_that_is_taken_over_exists() {
        let config = Config::default();
        assert_eq!(LIVE.into_iter().find(|key| config.origin(key).is_none()), None);
    }
}
