//! The options that select dead letters.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use caxton_router::AgentId;
use caxton_router::Performative;
use caxton_router::dead_letter::{DeadLetterFilter, DeadLetterReason};
use caxton_router::domain::AgentName;
use caxton_router::message::{ConversationId, WallTime};
use clap::Args;

use crate::cli::input::now;

/// Which dead letters are meant. Without an option all of them.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which dead letters")]
pub struct Filter {
    /// Given up for this reason, such as unknown-receiver
    #[arg(long, value_name = "REASON", value_parser = parse_reason)]
    reason: Option<DeadLetterReason>,
    /// Addressed to this agent
    #[arg(long, value_name = "NAME")]
    receiver: Option<AgentName>,
    /// Sent by this agent
    #[arg(long, value_name = "NAME")]
    sender: Option<AgentName>,
    /// Of the conversation with this id
    #[arg(long, value_name = "ID")]
    conversation: Option<String>,
    /// With this performative
    #[arg(long, value_name = "WORD")]
    performative: Option<Performative>,
    /// Given up then or later: a time such as 2027-06-30T12:00:00Z, or how long ago, such as 10m
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    since: Option<WallTime>,
    /// Given up before
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    until: Option<WallTime>,
}

fn parse_reason(text: &str) -> Result<DeadLetterReason, String> {
    let found = DeadLetterReason::ALL.into_iter().find(|reason| reason.as_str() == text);
    found.ok_or_else(|| format!("expected one of {}", DeadLetterReason::ALL.map(DeadLetterReason::as_str).join(", ")))
}

fn parse_moment(text: &str) -> Result<WallTime, String> {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(WallTime(now().0.saturating_sub(ms(ago))));
    }
    let time: SystemTime = humantime::parse_rfc3339_weak(text)
        .map_err(|_| "expected a time such as 2027-06-30T12:00:00Z, or how long ago, such as 10m".to_owned())?;
    Ok(WallTime(ms(time.duration_since(UNIX_EPOCH).unwrap_or_default())))
}

impl Filter {
    /// Whether it selects all.
    pub fn is_empty(&self) -> bool {
        self.parameters().is_empty()
    }

    /// Returns the filter for a store.
    pub fn for_store(&self) -> DeadLetterFilter {
        DeadLetterFilter {
            id: None,
            reason: self.reason,
            receiver: self.receiver.as_ref().map(AgentId::of),
            sender: self.sender.as_ref().map(AgentId::of),
            conversation: self.conversation.as_deref().map(ConversationId::of_text),
            performative: self.performative,
            since: self.since,
            until: self.until,
        }
    }

    /// Returns the parameters for a running router.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let name = |name: &Option<AgentName>| name.as_ref().map(ToString::to_string);
        let time = |time: Option<WallTime>| time.map(|time| time.0.to_string());
        let all = [
            ("reason", self.reason.map(|reason| reason.as_str().to_owned())),
            ("receiver", name(&self.receiver)),
            ("sender", name(&self.sender)),
            ("conversation", self.conversation.clone()),
            ("performative", self.performative.as_ref().map(ToString::to_string)),
            ("since", time(self.since)),
            ("until", time(self.until)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_says_the_same_to_a_store_and_to_a_router() {
        let filter = Filter {
            reason: Some(DeadLetterReason::MailboxFull),
            receiver: Some("bob".parse().expect("a name")),
            since: Some(WallTime(5)),
            ..Filter::default()
        };
        let expected = [("reason", "mailbox-full"), ("receiver", "bob"), ("since", "5")];
        assert_eq!(filter.parameters(), expected.map(|(name, value)| (name, value.to_owned())));
        let for_store = filter.for_store();
        assert_eq!(for_store.reason, Some(DeadLetterReason::MailboxFull));
        assert_eq!((for_store.receiver, for_store.since), (Some(AgentId::of_text("bob")), Some(WallTime(5))));
        assert!(Filter::default().is_empty() && !filter.is_empty());
    }

    #[test]
    fn a_moment_is_a_time_or_how_long_ago_it_was() {
        assert_eq!(parse_moment("1970-01-01T00:00:05Z"), Ok(WallTime(5_000)));
        let ago = parse_moment("10m").expect("it is a time").0;
        assert!(now().0 - ago >= 600_000 && now().0 - ago < 660_000);
        assert!(parse_moment("soon").is_err() && parse_reason("boredom").is_err());
        assert_eq!(parse_reason("mailbox-full"), Ok(DeadLetterReason::MailboxFull));
    }
}
