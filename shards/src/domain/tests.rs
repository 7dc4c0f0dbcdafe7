//! Tests of the numbers and priorities.

use super::*;
use std::time::Duration;

/// Checks both limits of a numeric type, just inside and just outside, as a number and as text.
macro_rules! check_edges {
    ($($name:ident: $below:literal, $minimum:literal to $maximum:literal, $above:literal, $allowed:literal;)+) => {
        $(
            for (text, accepted) in
                [($below, false), ($minimum, true), ($maximum, true), ($above, false)]
            {
                let name = stringify!($name);
                match text.parse::<$name>() {
                    Ok(value) => {
                        assert!(accepted, "{name} accepts {text}");
                        assert_eq!(value.to_string(), text, "{name} prints what it read");
                        assert_eq!($name::try_from(value.into_inner()), Ok(value), "{name} from a number");
                    }
                    Err(error) => {
                        assert!(!accepted, "{name} refuses {text}: {error}");
                        let field = $name::FIELD;
                        assert_eq!(
                            error.to_string(),
                            format!("{field} {text} is out of range: expected {}", $allowed)
                        );
                        if let Ok(number) = text.parse() {
                            assert_eq!($name::try_new(number), Err(error), "{name}: same error for a number");
                        }
                    }
                }
                assert!("".parse::<$name>().is_err(), "{name} refuses nothing at all");
                assert!("many".parse::<$name>().is_err(), "{name} refuses words");
            }
            assert_eq!($name::MINIMUM.to_string(), $minimum);
            assert_eq!($name::MAXIMUM.to_string(), $maximum);
            assert_eq!($name::allowed(), $allowed);
        )+
    };
}

#[test]
fn every_number_has_its_limits() {
    check_edges! {
        MailboxCapacity: "0", "1" to "100000", "100001", "1 to 100000 messages";
        MailboxBytes: "1023", "1024" to "4294967296", "4294967297", "1024 to 4294967296 bytes";
        ChannelCapacity: "0", "1" to "1000000", "1000001", "1 to 1000000 messages";
        RingCapacity: "0", "1" to "1000000", "1000001", "1 to 1000000 messages";
        ShardCount: "0", "1" to "1024", "1025", "1 to 1024 shards";
        BatchSize: "0", "1" to "10000", "10001", "1 to 10000 messages";
        MessageTimeoutMs: "999", "1000" to "300000", "300001", "1000 to 300000 milliseconds";
        ConversationTimeoutMs: "999", "1000" to "86400000", "86400001", "1000 to 86400000 milliseconds";
        ShutdownDeadlineMs: "-1", "0" to "3600000", "3600001", "0 to 3600000 milliseconds";
        CallTimeoutMs: "0", "1" to "3600000", "3600001", "1 to 3600000 milliseconds";
        MaxParticipants: "0", "1" to "10000", "10001", "1 to 10000 agents";
        RetryCount: "-1", "0" to "100", "101", "0 to 100 retries";
        RestartCount: "-1", "0" to "10000", "10001", "0 to 10000 restarts";
        RestartWindowMs: "0", "1" to "86400000", "86400001", "1 to 86400000 milliseconds";
        RestartDelayMs: "-1", "0" to "60000", "60001", "0 to 60000 milliseconds";
        BackoffFactor: "0.99", "1" to "10", "10.01", "1 to 10";
        BackoffJitter: "-0.01", "0" to "1", "1.01", "0 to 1";
        SamplingRatio: "-0.01", "0" to "1", "1.01", "0 to 1";
        SlowMessageMs: "0", "1" to "86400000", "86400001", "1 to 86400000 milliseconds";
        RecordRate: "0", "1" to "100000000", "100000001", "1 to 100000000 records per second";
        ConnectionCount: "0", "1" to "1000000", "1000001", "1 to 1000000 connections";
        OutsideAgentCount: "0", "1" to "1000000", "1000001", "1 to 1000000 agents";
        RemoteAgentCount: "0", "1" to "1000000", "1000001", "1 to 1000000 agents";
        OutsideGraceMs: "-1", "0" to "86400000", "86400001", "0 to 86400000 milliseconds";
        RequestRate: "-1", "0" to "10000000", "10000001", "0 to 10000000 requests per second";
        ConnectionIdleMs: "999", "1000" to "86400000", "86400001", "1000 to 86400000 milliseconds";
        KeptRate: "-1", "0" to "1000000", "1000001", "0 to 1000000 messages per second";
        BreakerThreshold: "-1", "0" to "1000", "1001", "0 to 1000 calls";
        BreakerWindowMs: "99", "100" to "3600000", "3600001", "100 to 3600000 milliseconds";
        SlowCallMs: "0", "1" to "60000", "60001", "1 to 60000 milliseconds";
        BreakerDelayMs: "9", "10" to "3600000", "3600001", "10 to 3600000 milliseconds";
        ProbeCount: "0", "1" to "1000", "1001", "1 to 1000 messages";
        BackoffDelayMs: "0", "1" to "3600000", "3600001", "1 to 3600000 milliseconds";
        ContentLimit: "-1", "0" to "1073741824", "1073741825", "0 to 1073741824 bytes";
        HistoryLength: "-1", "0" to "1024", "1025", "0 to 1024 messages";
        TurnQuota: "0", "1" to "10000", "10001", "1 to 10000 messages";
        DeadLetterCapacity: "0", "1" to "10000000", "10000001", "1 to 10000000 messages";
        DeadLetterBytes: "1023", "1024" to "1099511627776", "1099511627777", "1024 to 1099511627776 bytes";
        ConversationCapacity: "0", "1" to "100000000", "100000001", "1 to 100000000 conversations";
        OutboxCapacity: "0", "1" to "100000", "100001", "1 to 100000 messages";
        PendingCapacity: "0", "1" to "100000000", "100000001", "1 to 100000000 messages";
        SpinMicroseconds: "-1", "0" to "1000000", "1000001", "0 to 1000000 microseconds";
        ExportTimeoutMs: "0", "1" to "600000", "600001", "1 to 600000 milliseconds";
        MetricIntervalMs: "99", "100" to "3600000", "3600001", "100 to 3600000 milliseconds";
        ExportQueueRequests: "0", "1" to "100000", "100001", "1 to 100000 requests";
        ExportQueueBytes: "65535", "65536" to "4294967296", "4294967297", "65536 to 4294967296 bytes";
        ExportFileBytes: "1023", "1024" to "1099511627776", "1099511627777", "1024 to 1099511627776 bytes";
        ExportFileCount: "0", "1" to "10000", "10001", "1 to 10000 files";
        NodeId: "-1", "0" to "65535", "65536", "0 to 65535";
    }
}

#[test]
fn an_error_names_field_value_and_limits() {
    let error = MailboxCapacity::try_new(0).expect_err("zero is refused");
    assert_eq!(error.to_string(), "mailbox capacity 0 is out of range: expected 1 to 100000 messages");

    let error = "a few".parse::<MailboxCapacity>().expect_err("words are refused");
    assert_eq!(error.to_string(), "mailbox capacity \"a few\" is not a number: expected 1 to 100000 messages");
}

#[test]
fn defaults_are_as_documented() {
    assert_eq!(MaxParticipants::default().into_inner(), 100);
    assert_eq!(ContentLimit::default().as_usize(), 10 * 1024 * 1024);
    assert_eq!(NodeId::default().into_inner(), 0);
    assert_eq!(Priority::default(), Priority::Normal);
}

#[test]
fn times_become_durations_of_their_unit() {
    assert_eq!("1000".parse().map(MessageTimeoutMs::as_duration), Ok(Duration::from_secs(1)));
    assert_eq!("90000".parse().map(ConversationTimeoutMs::as_duration), Ok(Duration::from_secs(90)));
    assert_eq!("5".parse().map(BackoffDelayMs::as_duration), Ok(Duration::from_millis(5)));
    assert_eq!("50".parse().map(SpinMicroseconds::as_duration), Ok(Duration::from_micros(50)));
}

#[test]
fn factor_and_jitter_refuse_what_is_not_finite() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
        assert!(BackoffFactor::try_new(value).is_err(), "{value}");
        assert!(BackoffJitter::try_new(value).is_err(), "{value}");
    }
    let [small, large] = [1.5, 2.0].map(|value| BackoffFactor::try_new(value).expect("it is in range"));
    assert!(small < large);
}

#[test]
fn priorities_are_ordered_lanes_with_names() {
    for (place, priority) in Priority::ALL.into_iter().enumerate() {
        assert_eq!(priority.index(), place);
        assert_eq!(priority.to_string().parse(), Ok(priority));
        assert_eq!(priority.name().to_uppercase().parse(), Ok(priority));
    }
    assert!(Priority::ALL.is_sorted());
    assert_eq!(
        "high est".parse::<Priority>().expect_err("not a lane").to_string(),
        "priority \"high est\" is not allowed: expected low, normal, high or urgent"
    );
}
