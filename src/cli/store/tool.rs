//! The temporary router that a tool starts on a data directory, to change something there.
//!
//! It does not know the settings of the router that the directory belongs to, so it uses the largest limits: it can
//! recover whatever that router accepted.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use caxton_router::config::Preset;
use caxton_router::domain::{
    ContentLimit, ConversationCapacity, ConversationTimeoutMs, DeadLetterBytes, DeadLetterCapacity, DuplicatesWindow,
    MailboxBytes, MailboxCapacity, MaxParticipants, MemoryBudget, OutboxCapacity, PendingCapacity, SegmentBytes,
    SegmentCount, ShardCount,
};
use caxton_router::store::inspect::Inspection;
use caxton_router::{Config, Router};

use super::super::interrupt::Interrupt;
use super::look_at_whole;

/// Time limit for a temporary router to write what was sent, and to stop.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// How often the progress is checked.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Takes the maximum value of a setting.
macro_rules! largest {
    ($($place:expr => $type:ident),+ $(,)?) => {
        $($place = $type::try_new($type::MAXIMUM).map_err(|error| error.to_string())?;)+
    };
}

/// Returns settings with room for everything in a directory.
fn settings(inspection: &Inspection) -> Result<Config, String> {
    let mut config = Config::preset(Preset::Production);
    largest!(
        config.mailbox.messages => MailboxCapacity,
        config.mailbox.bytes => MailboxBytes,
        config.memory.budget => MemoryBudget,
        config.message.content_bytes_max => ContentLimit,
        config.delivery.outbox => OutboxCapacity,
        config.delivery.pending_max => PendingCapacity,
        config.dead_letters.messages => DeadLetterCapacity,
        config.dead_letters.bytes => DeadLetterBytes,
        config.conversation.timeout_ms => ConversationTimeoutMs,
        config.conversation.participants_max => MaxParticipants,
        config.conversation.open_max => ConversationCapacity,
        config.store.segments_max => SegmentCount,
        config.store.duplicates_window => DuplicatesWindow,
    );
    // As long as the existing files, so that it takes no more room than the directory's own router.
    let segments = inspection.journals.iter().flatten().flat_map(|journal| &journal.segments);
    let lengths = segments.filter_map(|segment| fs::metadata(&segment.path).ok()).map(|file| file.len());
    if let Some(longest) = lengths.max() {
        let bytes = longest.clamp(SegmentBytes::MINIMUM, SegmentBytes::MAXIMUM);
        config.store.segment_bytes = SegmentBytes::try_new(bytes).map_err(|error| error.to_string())?;
    }
    Ok(config)
}

/// Waits until everything sent is on disk at its receiver.
pub fn wait_until_kept(router: &Router) {
    let began = Instant::now();
    let is_kept = || {
        let stats = router.stats();
        stats.queued == 0 && stats.shards.iter().all(|shard| shard.commits_awaited == 0)
    };
    // What is not kept by then is still a dead letter.
    while !is_kept() && began.elapsed() < STOP_WITHIN {
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Performs an action with a temporary router. A signal ends the start or the action; what was done until then is kept,
/// and the directory stays valid.
pub fn with_router<T>(directory: &Path, act: impl FnOnce(&Router) -> Result<T, String>) -> Result<T, String> {
    let interrupt = Interrupt::listen()?;
    // A mistyped path must not become a new store.
    let inspection = look_at_whole(directory)?;
    let config = settings(&inspection)?;
    let shards = ShardCount::try_new(inspection.shards).map_err(|error| error.to_string())?;
    drop(inspection);
    let builder =
        Router::builder().config(config).shards(shards).store(directory).cancelled_by(interrupt.cancel_start());
    let router = builder.start().map_err(|error| error.to_string())?;
    let watch = interrupt.watch(&router, STOP_WITHIN, || {});
    let done = act(&router);
    // No agent is registered that could handle anything, so there is nothing to wait for: changes are written before
    // the end.
    router.shutdown(Duration::ZERO).map_err(|error| error.to_string())?;
    drop(watch);
    match (done, interrupt.signal()) {
        (Err(complaint), Some(signal)) => {
            Err(format!("{signal}: {complaint}; what was done before is done, and nothing else was changed"))
        }
        (done, _) => done,
    }
}
