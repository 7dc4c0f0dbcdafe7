//! The reason codes: one table of the words by which both doors say why something was not done.
//!
//! A reason is a stable word for programs, with a status as in HTTP. The HTTP door puts it into problem documents, the
//! NATS door into headers. What the engine reports has its reason here, so that the same failure has the same word and
//! status at every door. A dead-lettered message has the reason of its dead letter. The manual's chapters `http` and `nats`
//! list the words; a test compares them with this table.

use caxton_shards::api::{AskError, Ending, FailureReason, SendErrorKind};
use caxton_shards::dead_letter::DeadLetterReason;

/// Why something was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reason {
    /// The word.
    pub word: &'static str,
    /// The usual status, as in HTTP.
    pub status: u16,
}

/// The door that uses a reason. Both use those of dead letters.
#[cfg(test)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    Http,
    Nats,
    Both,
}

macro_rules! reasons {
    ($($constant:ident = $word:literal, $status:literal, $at:ident;)+) => {
        $(pub(crate) const $constant: Reason = Reason { word: $word, status: $status };)+

        /// Every reason except those of dead letters.
        #[cfg(test)]
        const TABLE: &[(Reason, At)] = &[$(($constant, At::$at)),+];
    };
}

reasons! {
    BACKUP_FAILED = "backup-failed", 409, Http;
    BACKUPS_NOT_CONFIGURED = "backups-not-configured", 409, Http;
    BAD_DOCUMENT = "bad-document", 400, Http;
    BAD_IDEMPOTENCY_KEY = "bad-idempotency-key", 400, Http;
    BAD_MESSAGE_ID = "bad-message-id", 422, Http;
    BAD_PARAMETER = "bad-parameter", 400, Http;
    BAD_REQUEST = "bad-request", 400, Http;
    BODIES_FULL = "bodies-full", 503, Http;
    BODY_TOO_LARGE = "body-too-large", 413, Http;
    BODY_TOO_SLOW = "body-too-slow", 408, Http;
    BROKEN_BODY = "broken-body", 400, Http;
    COLLISION = "collision", 409, Http;
    CONTENT_TOO_LARGE = "content-too-large", 413, Both;
    DUPLICATE = "duplicate", 409, Http;
    DURABILITY_UNAVAILABLE = "durability-unavailable", 422, Both;
    FAILED = "failed", 422, Both;
    FILTER_MISSING = "filter-missing", 400, Http;
    FOREIGN_AGENT = "foreign-agent", 403, Http;
    FOREIGN_HOST = "foreign-host", 403, Http;
    FOREIGN_ORIGIN = "foreign-origin", 403, Http;
    FOREIGN_SENDER = "foreign-sender", 403, Both;
    FOREIGN_USER = "foreign-user", 403, Http;
    FULL = "full", 429, Both;
    IDEMPOTENCY_FULL = "idempotency-full", 429, Http;
    IDEMPOTENCY_KEY_REUSED = "idempotency-key-reused", 422, Http;
    IN_PROGRESS = "in-progress", 409, Http;
    INVALID_HEADER = "invalid-header", 400, Nats;
    INVALID_NAME = "invalid-name", 422, Both;
    INVALID_PROMPT = "invalid-prompt", 400, Nats;
    INVALID_SUBJECT = "invalid-subject", 400, Nats;
    JOURNAL_FAILED = "journal-failed", 503, Both;
    JOURNAL_FULL = "journal-full", 503, Both;
    MALFORMED_MESSAGE = "malformed-message", 400, Both;
    MESSAGE_ID_GIVEN = "message-id-given", 422, Http;
    METHOD_NOT_ALLOWED = "method-not-allowed", 405, Http;
    NO_CLUSTER = "no-cluster", 404, Http;
    NO_REPLY = "no-reply", 504, Both;
    NO_RESPONDERS = "no-responders", 503, Nats;
    NO_STORE = "no-store", 409, Http;
    NO_WEBSOCKET = "no-websocket", 400, Http;
    NOT_ACCEPTED = "not-accepted", 503, Both;
    NOT_KEPT = "not-kept", 422, Both;
    NOT_REGISTERED = "not-registered", 422, Http;
    NOT_REPLAYED = "not-replayed", 409, Http;
    OPERATION_NOT_PERMITTED = "operation-not-permitted", 403, Both;
    OTHER_MODE = "other-mode", 409, Http;
    OTHER_OPTIONS = "other-options", 409, Http;
    OTHER_RECEIVERS = "other-receivers", 400, Nats;
    RECEIVER_FULL = "receiver-full", 429, Both;
    REFUSED_BY_PLUGIN = "refused-by-plugin", 422, Both;
    RESERVED = "reserved", 422, Http;
    SENDER_GIVEN = "sender-given", 422, Http;
    STOPPING = "stopping", 503, Both;
    TAKEN = "taken", 409, Http;
    TIMED_OUT = "timed-out", 504, Http;
    TOKEN_EXPIRED = "token-expired", 401, Http;
    TOKEN_MISSING = "token-missing", 401, Http;
    TOKEN_UNKNOWN = "token-unknown", 401, Http;
    TOO_MANY_AGENTS = "too-many-agents", 429, Http;
    TOO_MANY_CAPABILITIES = "too-many-capabilities", 422, Http;
    TOO_MANY_DRAINS = "too-many-drains", 429, Http;
    TOO_MANY_IDS = "too-many-ids", 422, Http;
    TOO_MANY_QUESTIONS = "too-many-questions", 429, Both;
    TOO_MANY_REQUESTS = "too-many-requests", 429, Http;
    TOO_MANY_STREAMS = "too-many-streams", 503, Http;
    UNKNOWN_AGENT = "unknown-agent", 404, Http;
    UNKNOWN_CONVERSATION = "unknown-conversation", 404, Http;
    UNKNOWN_DEAD_LETTER = "unknown-dead-letter", 404, Http;
    UNKNOWN_PATH = "unknown-path", 404, Http;
    UNKNOWN_SENDER = "unknown-sender", 422, Both;
    UNRESPONSIVE = "unresponsive", 503, Both;
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type", 415, Http;
    VOCABULARY_FULL = "vocabulary-full", 429, Http;
    WRONG_STATE = "wrong-state", 409, Http;
}

impl Reason {
    /// Whether the same may succeed a little later.
    pub fn is_temporary(self) -> bool {
        matches!(self.status, 429 | 503)
    }
}

/// Returns why the router has not accepted a message, or has not kept it.
pub(crate) fn of_send(kind: &SendErrorKind) -> Reason {
    match kind {
        SendErrorKind::Full => FULL,
        SendErrorKind::UnknownSender => UNKNOWN_SENDER,
        SendErrorKind::ForeignSender => FOREIGN_SENDER,
        SendErrorKind::ContentTooLarge { .. } => CONTENT_TOO_LARGE,
        SendErrorKind::MemoryFull { .. } => of_dead_letter(DeadLetterReason::MemoryFull),
        SendErrorKind::ReceiverFull { .. } => RECEIVER_FULL,
        SendErrorKind::DurabilityUnavailable => DURABILITY_UNAVAILABLE,
        SendErrorKind::JournalFull => JOURNAL_FULL,
        SendErrorKind::JournalFailed => JOURNAL_FAILED,
        SendErrorKind::NotKept { ending: Ending::DeadLettered(reason), .. } => of_dead_letter(*reason),
        SendErrorKind::NotKept { .. } => NOT_KEPT,
        SendErrorKind::TooManyQuestions { .. } => TOO_MANY_QUESTIONS,
        SendErrorKind::RefusedByPlugin { .. } => REFUSED_BY_PLUGIN,
        SendErrorKind::Stopping => STOPPING,
        SendErrorKind::Unresponsive(_) => UNRESPONSIVE,
        _ => NOT_ACCEPTED,
    }
}

/// Returns why a message was dead-lettered.
pub(crate) fn of_dead_letter(reason: DeadLetterReason) -> Reason {
    let status = match reason {
        DeadLetterReason::MailboxFull
        | DeadLetterReason::RepliesFull
        | DeadLetterReason::Displaced
        | DeadLetterReason::MemoryFull
        | DeadLetterReason::ShardFull
        | DeadLetterReason::TooManyConversations
        | DeadLetterReason::BreakerOpen => 429,
        DeadLetterReason::NotJournalled | DeadLetterReason::Stopped => 503,
        _ => 422,
    };
    Reason { word: reason.as_str(), status }
}

/// Returns why an accepted message failed, as the router reports it to the sender.
pub(crate) fn of_failure(reason: FailureReason) -> Reason {
    match reason {
        FailureReason::DeadLetter(reason) => of_dead_letter(reason),
        FailureReason::NoReply => NO_REPLY,
        _ => FAILED,
    }
}

/// Returns why a message has no reply or receipt.
pub(crate) fn of_ask(error: &AskError) -> Reason {
    match error {
        AskError::Rejected(rejected) => of_send(rejected.kind()),
        AskError::Unresponsive(_) => UNRESPONSIVE,
        AskError::Undeliverable(failure) => of_failure(failure.reason()),
        AskError::TimedOut => TIMED_OUT,
        _ => STOPPING,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use caxton_shards::api::{DeliveryError, OverflowPolicy, UnresponsiveError};
    use caxton_shards::message::{AgentId, Message, MessageId, Performative};
    use caxton_shards::routing::partition::ShardIndex;

    use super::*;
    use crate::edge::{http, nats};

    /// Returns an error of each kind that a sender may get.
    fn send_errors() -> Vec<SendErrorKind> {
        let unresponsive = UnresponsiveError { shard: ShardIndex(0), may_have_changed: true, agent: None };
        let message = MessageId::from_u128(1 << 64 | 1).expect("it is an id");
        let endings = DeadLetterReason::ALL.map(Ending::DeadLettered).into_iter().chain([Ending::Expired]);
        let mut kinds = vec![
            SendErrorKind::Full,
            SendErrorKind::UnknownSender,
            SendErrorKind::ForeignSender,
            SendErrorKind::ContentTooLarge { bytes: 2, limit: 1 },
            SendErrorKind::MemoryFull { limit: 1 },
            SendErrorKind::ReceiverFull { receiver: AgentId::of_text("a"), policy: OverflowPolicy::BackPressure },
            SendErrorKind::DurabilityUnavailable,
            SendErrorKind::JournalFull,
            SendErrorKind::JournalFailed,
            SendErrorKind::TooManyQuestions { limit: 1 },
            SendErrorKind::RefusedByPlugin { plugin: "p".into(), reason: "r".into() },
            SendErrorKind::Stopping,
            SendErrorKind::Unresponsive(unresponsive),
            SendErrorKind::WouldDeadlock,
        ];
        kinds.extend(endings.map(|ending| SendErrorKind::NotKept { message, ending }));
        kinds
    }

    /// Returns an error of each kind that is reported for an accepted message.
    fn delivery_errors() -> impl Iterator<Item = DeliveryError> {
        DeadLetterReason::ALL.map(DeadLetterReason::as_str).into_iter().chain(["no-reply"]).map(|word| {
            let notice = Message::builder(Performative::Failure).sender(AgentId::of_text("ams"));
            let notice = notice.content(format!("((request m1) ({word} \"why\"))").as_str()).build();
            DeliveryError::of_notice(&notice.expect("it can be built")).expect(word)
        })
    }

    #[test]
    fn a_failure_has_the_same_reason_and_status_at_both_doors() {
        // NATS has a status of its own for a message that nobody receives.
        let nobody = ["unknown-receiver", "no-route", "no-provider", "deregistered"];
        let same = |over_http: (String, u16), over_nats: (String, u16)| {
            let status = if nobody.contains(&over_http.0.as_str()) { 503 } else { over_http.1 };
            assert_eq!((over_http.0, status), over_nats);
        };
        for kind in send_errors() {
            same(http::told::of_send(&kind), nats::told::of_send(&kind));
        }
        for error in delivery_errors() {
            let over_nats = nats::told::of_delivery(&error);
            same(http::told::of_ask(&AskError::Undeliverable(Box::new(error))), over_nats);
        }
    }

    #[test]
    fn every_reason_has_a_word_of_its_own_and_those_of_dead_letters_are_no_others() {
        let mut words = BTreeSet::new();
        for (reason, _) in TABLE {
            assert!(words.insert(reason.word), "{} occurs twice", reason.word);
            assert!((400..600).contains(&reason.status), "{reason:?}");
        }
        for reason in DeadLetterReason::ALL {
            assert!(words.insert(reason.as_str()), "{reason} is in the table as well");
        }
    }

    /// Returns the words that a chapter's section "Reasons" lists, with their statuses.
    fn listed(chapter: &str) -> BTreeMap<String, u16> {
        let section = chapter.split_once("\n## Reasons\n").expect("it has the section").1;
        let section = section.split("\n## ").next().unwrap_or_default();
        let mut listed = BTreeMap::new();
        for line in section.lines().filter(|line| line.starts_with("| ")) {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let Some(status) = cells.next().and_then(|cell| cell.parse().ok()) else { continue };
            for word in cells.next().unwrap_or_default().split(", ") {
                let word = word.trim_matches('`').to_owned();
                assert_eq!(listed.insert(word.clone(), status), None, "{word} is listed twice");
            }
        }
        listed
    }

    fn expected(at: At) -> BTreeMap<String, u16> {
        let own = TABLE.iter().filter(|(_, occurs)| *occurs == at || *occurs == At::Both).map(|(reason, _)| *reason);
        let dead_letters = DeadLetterReason::ALL.map(of_dead_letter);
        own.chain(dead_letters).map(|reason| (reason.word.to_owned(), reason.status)).collect()
    }

    #[test]
    fn the_chapters_about_the_doors_list_every_reason_with_its_status() {
        assert_eq!(listed(include_str!("../../manual/http.md")), expected(At::Http), "http.md");
        assert_eq!(listed(include_str!("../../manual/nats.md")), expected(At::Nats), "nats.md");
    }
}
