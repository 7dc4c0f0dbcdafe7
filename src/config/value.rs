//! Parsing values from text and formatting them in TOML: plain numbers, sizes and times.

use super::choice::AutoOr;
use bytesize::ByteSize;
use caxton_shards::api::OverflowPolicy;
use caxton_shards::codec::text::Strictness;
#[cfg(any(feature = "telemetry", feature = "wasm"))]
use caxton_shards::domain::LogRate;
#[cfg(feature = "cluster")]
use caxton_shards::domain::RemoteAgentCount;
use caxton_shards::domain::{
    BackoffDelayMs, BackoffFactor, BackoffJitter, BatchSize, BreakerDelayMs, BreakerThreshold, BreakerWindowMs,
    CallTimeoutMs, ChannelCapacity, ContentLimit, ConversationCapacity, ConversationTimeoutMs, DeadLetterBytes,
    DeadLetterCapacity, DescriptionCapacity, DomainError, HistoryLength, MailboxBytes, MailboxCapacity,
    MaxParticipants, MemoryBudget, MessageTimeoutMs, NodeId, OutboxCapacity, PendingCapacity, PlatformName, ProbeCount,
    RestartCount, RestartDelayMs, RestartWindowMs, RetryCount, ShutdownDeadlineMs, SlowCallMs, SpinMicroseconds,
    SubscriptionCapacity, TurnQuota,
};
#[cfg(feature = "wasm")]
use caxton_shards::domain::{
    BlockDepth, ComponentParts, FunctionBytes, GuestCallMs, GuestCount, GuestMemoryBytes, GuestMessageBytes,
    GuestSliceMs, GuestStackBytes, GuestStateBytes, GuestTableElements, HostCallCount, ModuleBytes, ModuleFunctions,
};
#[cfg(feature = "serve")]
use caxton_shards::domain::{ConnectionCount, ConnectionIdleMs, OutsideAgentCount, OutsideGraceMs, RequestRate};
#[cfg(feature = "store")]
use caxton_shards::domain::{DuplicatesWindow, DurableLifetimeMs, HistoryRows, SegmentBytes, SegmentCount};
#[cfg(feature = "telemetry")]
use caxton_shards::domain::{
    ExportFileBytes, ExportFileCount, ExportQueueBytes, ExportQueueRequests, ExportTimeoutMs, KeptRate,
    MetricIntervalMs, RecordRate, SamplingRatio, SlowMessageMs,
};
use std::fmt::Display;
#[cfg(feature = "wasm")]
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A type that a key can have.
pub(crate) trait Setting: Sized {
    /// Parses the value from a file or a variable.
    fn read(text: &str) -> Result<Self, DomainError>;

    /// Formats the value in TOML, such that parsing it gives the same value.
    fn show(&self) -> String;
}

/// Whether a text can stand between quotes in TOML as it is.
pub(super) fn is_plain(text: &str) -> bool {
    !text.contains(|letter: char| letter.is_control() || matches!(letter, '"' | '\\'))
}

/// Reads a list of files by name, such as `seller=seller.wasm, buyer=buyer.wasm`: at most `max`, each with a name of its own.
#[cfg(feature = "wasm")]
pub(super) fn read_named<N: PartialEq>(
    text: &str,
    max: usize,
    name_of: impl Fn(&str) -> Result<N, DomainError>,
    refuse: impl Fn() -> DomainError,
) -> Result<Vec<(N, PathBuf)>, DomainError> {
    if !is_plain(text) {
        return Err(refuse());
    }
    let mut files = Vec::new();
    for entry in entries(text) {
        let (name, file) = entry.split_once('=').ok_or_else(&refuse)?;
        let (name, file) = (name_of(name.trim())?, file.trim());
        let is_taken = files.iter().any(|(other, _)| *other == name);
        if file.is_empty() || is_taken || files.len() >= max {
            return Err(refuse());
        }
        files.push((name, PathBuf::from(file)));
    }
    Ok(files)
}

/// Formats a list of files by name in TOML.
#[cfg(feature = "wasm")]
pub(super) fn show_named<N: Display>(files: &[(N, PathBuf)]) -> String {
    let files: Vec<_> = files.iter().map(|(name, file)| format!("{name}={}", file.display())).collect();
    format!("\"{}\"", files.join(", "))
}

/// Splits a list; an empty text is an empty list.
pub(super) fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

/// Numbers without a unit.
macro_rules! plain {
    ($($type:ident),+ $(,)?) => {
        $(impl Setting for $type {
            fn read(text: &str) -> Result<Self, DomainError> {
                text.parse()
            }

            fn show(&self) -> String {
                self.to_string()
            }
        })+
    };
}

/// Numbers with a unit, which may also be written as text with another unit.
macro_rules! with_unit {
    ($($type:ident: $convert:path, $example:literal, $show:path;)+) => {
        $(impl Setting for $type {
            fn read(text: &str) -> Result<Self, DomainError> {
                match $convert(text) {
                    Some(number) => number.parse(),
                    None => Err(DomainError::not_a_number(
                        Self::FIELD,
                        text,
                        format!("{}, or text such as \"{}\"", Self::allowed(), $example),
                    )),
                }
            }

            fn show(&self) -> String {
                $show(u64::from(self.into_inner()))
            }
        })+
    };
}

plain! {
    BackoffFactor, BackoffJitter, BatchSize, BreakerThreshold, ChannelCapacity, ConversationCapacity,
    DeadLetterCapacity, HistoryLength, MailboxCapacity, MaxParticipants, NodeId, OutboxCapacity, PendingCapacity,
    ProbeCount, RestartCount, RetryCount, TurnQuota,
    DescriptionCapacity, SubscriptionCapacity,
}

#[cfg(feature = "store")]
plain! {
    DuplicatesWindow, HistoryRows, SegmentCount,
}

#[cfg(feature = "telemetry")]
plain! {
    ExportFileCount, ExportQueueRequests,
}

#[cfg(feature = "wasm")]
plain! {
    GuestCount, GuestTableElements, HostCallCount, ModuleFunctions, BlockDepth, ComponentParts,
}

#[cfg(any(feature = "telemetry", feature = "wasm"))]
plain! {
    LogRate,
}

with_unit! {
    ContentLimit: bytes, "10 MiB", show_bytes;
    DeadLetterBytes: bytes, "64 MiB", show_bytes;
    MemoryBudget: bytes, "256 MiB", show_bytes;
    MailboxBytes: bytes, "16 MiB", show_bytes;
    BackoffDelayMs: milliseconds, "500 ms", show_number;
    BreakerDelayMs: milliseconds, "1 s", show_number;
    BreakerWindowMs: milliseconds, "10 s", show_number;
    ConversationTimeoutMs: milliseconds, "10 min", show_number;
    MessageTimeoutMs: milliseconds, "10 s", show_number;
    RestartDelayMs: milliseconds, "100 ms", show_number;
    RestartWindowMs: milliseconds, "1 min", show_number;
    SlowCallMs: milliseconds, "1 s", show_number;
    ShutdownDeadlineMs: milliseconds, "20 s", show_number;
    CallTimeoutMs: milliseconds, "30 s", show_number;
    SpinMicroseconds: microseconds, "50 us", show_number;
}

#[cfg(feature = "store")]
with_unit! {
    SegmentBytes: bytes, "64 MiB", show_bytes;
    DurableLifetimeMs: milliseconds, "1 h", show_number;
}

#[cfg(feature = "telemetry")]
with_unit! {
    ExportFileBytes: bytes, "64 MiB", show_bytes;
    ExportQueueBytes: bytes, "16 MiB", show_bytes;
    ExportTimeoutMs: milliseconds, "10 s", show_number;
    MetricIntervalMs: milliseconds, "1 min", show_number;
}

#[cfg(feature = "cluster")]
plain! {
    RemoteAgentCount,
}

#[cfg(feature = "serve")]
plain! {
    ConnectionCount, OutsideAgentCount, RequestRate,
}

#[cfg(feature = "serve")]
with_unit! {
    OutsideGraceMs: milliseconds, "1 min", show_number;
    ConnectionIdleMs: milliseconds, "1 min", show_number;
}

#[cfg(feature = "wasm")]
with_unit! {
    ModuleBytes: bytes, "64 MiB", show_bytes;
    FunctionBytes: bytes, "1 MiB", show_bytes;
    GuestMemoryBytes: bytes, "10 MiB", show_bytes;
    GuestStackBytes: bytes, "256 KiB", show_bytes;
    GuestMessageBytes: bytes, "100 KiB", show_bytes;
    GuestStateBytes: bytes, "64 KiB", show_bytes;
    GuestSliceMs: milliseconds, "2 ms", show_number;
    GuestCallMs: milliseconds, "5 s", show_number;
}

#[cfg(feature = "telemetry")]
plain! {
    KeptRate, RecordRate, SamplingRatio,
}

#[cfg(feature = "telemetry")]
with_unit! {
    SlowMessageMs: milliseconds, "1 s", show_number;
}

impl Setting for OverflowPolicy {
    fn read(text: &str) -> Result<Self, DomainError> {
        text.parse()
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Setting for Strictness {
    fn read(text: &str) -> Result<Self, DomainError> {
        text.parse()
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Setting for bool {
    fn read(text: &str) -> Result<Self, DomainError> {
        text.trim().parse().map_err(|_| DomainError::not_allowed("switch", text, "true or false"))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for PlatformName {
    fn read(text: &str) -> Result<Self, DomainError> {
        text.parse()
    }

    fn show(&self) -> String {
        // The only character in these names that TOML escapes.
        format!("\"{}\"", self.to_string().replace('\\', "\\\\"))
    }
}

impl<T: Display + FromStr<Err = DomainError>> Setting for AutoOr<T> {
    fn read(text: &str) -> Result<Self, DomainError> {
        text.parse()
    }

    fn show(&self) -> String {
        match self {
            Self::Automatic => format!("\"{self}\""),
            Self::Exactly(_) => self.to_string(),
        }
    }
}

/// Returns a number, possibly negative, in the key's own unit. It stays text, so that the domain type checks it and
/// reports errors.
fn bare_number(text: &str) -> Option<String> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.to_owned())
}

fn bytes(text: &str) -> Option<String> {
    let text = text.trim();
    bare_number(text).or_else(|| text.parse::<ByteSize>().ok().map(|size| size.as_u64().to_string()))
}

fn milliseconds(text: &str) -> Option<String> {
    time(text, Duration::from_millis(1))
}

fn microseconds(text: &str) -> Option<String> {
    time(text, Duration::from_micros(1))
}

/// Refuses times that are not a whole number of units: rounding would change the meaning.
fn time(text: &str, unit: Duration) -> Option<String> {
    let text = text.trim();
    bare_number(text).or_else(|| {
        let nanoseconds = humantime::parse_duration(text).ok()?.as_nanos();
        (nanoseconds % unit.as_nanos() == 0).then(|| (nanoseconds / unit.as_nanos()).to_string())
    })
}

fn show_number(number: u64) -> String {
    number.to_string()
}

/// Returns the size in the largest binary unit that keeps the number whole, or in bytes.
fn show_bytes(bytes: u64) -> String {
    for (factor, unit) in [(bytesize::GIB, "GiB"), (bytesize::MIB, "MiB"), (bytesize::KIB, "KiB")] {
        if bytes != 0 && bytes.is_multiple_of(factor) {
            return format!("\"{} {unit}\"", bytes / factor);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_text_with_a_unit() {
        for (text, expected) in [
            ("16777216", Some(16 << 20)),
            ("16 MiB", Some(16 << 20)),
            (" 16MiB ", Some(16 << 20)),
            ("1.5 KiB", Some(1_536)),
            ("2 MB", Some(2_000_000)),
            ("4 GiB", Some(4 << 30)),
            ("5 GiB", None),
            ("999999999 EiB", None),
            ("-1", None),
            ("16 parsecs", None),
            ("", None),
        ] {
            assert_eq!(MailboxBytes::read(text).ok().map(MailboxBytes::into_inner), expected, "{text:?}");
        }
        assert_eq!(
            MailboxBytes::read("much").expect_err("no number").to_string(),
            "mailbox bytes \"much\" is not a number: expected 1024 to 4294967296 bytes, or text such as \"16 MiB\""
        );
    }

    #[test]
    fn times_are_numbers_or_text_with_a_unit() {
        for (text, expected) in [
            ("10000", Some(10_000)),
            ("10 s", Some(10_000)),
            ("10s", Some(10_000)),
            ("1.5 s", Some(1_500)),
            ("1min 30s", Some(90_000)),
            ("1500 us", None),
            ("1 hour", None),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(MessageTimeoutMs::read(text).ok().map(MessageTimeoutMs::into_inner), expected, "{text:?}");
        }
        assert_eq!(SpinMicroseconds::read("1 ms").map(SpinMicroseconds::into_inner), Ok(1_000));
    }

    #[test]
    fn a_shown_size_reads_back() {
        for bytes in [1_024, 1_025, 1 << 20, 3 << 20, 1 << 30, 1 << 32] {
            let size = MailboxBytes::try_new(bytes).expect("the size is allowed");
            assert_eq!(MailboxBytes::read(size.show().trim_matches('"')), Ok(size));
        }
        assert_eq!(ContentLimit::try_new(0).map(|limit| limit.show()), Ok("0".to_owned()));
    }
}
