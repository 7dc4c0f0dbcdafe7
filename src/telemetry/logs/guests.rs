//! The lines that guests write, from their shard's thread to the router's log.

use std::cell::RefCell;
use std::sync::Arc;

use caxton_shards::message::AgentId;
use caxton_shards::stats::Calling;
use tracing::{Level, debug, enabled, error, info, trace, warn};

use super::{GUEST, LogSender, Record};
use crate::wasm::{LogLevel, LogLine};

thread_local! {
    /// The log of this thread's shard, and the agent that it is calling.
    static HEARER: RefCell<Option<(LogSender, Arc<Calling>)>> = const { RefCell::new(None) };
}

impl LogSender {
    /// Passes on what guests write on this thread, for as long as it runs.
    pub fn hear_guests(&self, calling: Arc<Calling>) {
        if self.guests.is_some() {
            HEARER.set(Some((self.clone(), calling)));
        }
    }
}

/// Stops passing on what guests write on this thread.
pub(crate) fn stop_hearing() {
    HEARER.set(None);
}

/// Passes on a line, if it is logged.
pub(crate) fn hear(line: &LogLine) {
    HEARER.with_borrow(|hearer| {
        let Some((log, calling)) = hearer else { return };
        if log.guests.is_some_and(|lowest| line.level >= lowest) {
            // A routing plugin writes while another agent, or none, is being called.
            let name = calling.agent().filter(|name| AgentId::of_text(name) == line.agent);
            log.send(Record::Guest { line: line.clone(), name });
        }
    });
}

/// Returns the lowest level that is logged.
pub(super) fn lowest_enabled() -> Option<LogLevel> {
    let enabled = [
        (LogLevel::Trace, enabled!(target: GUEST, Level::TRACE)),
        (LogLevel::Debug, enabled!(target: GUEST, Level::DEBUG)),
        (LogLevel::Info, enabled!(target: GUEST, Level::INFO)),
        (LogLevel::Warn, enabled!(target: GUEST, Level::WARN)),
        (LogLevel::Error, enabled!(target: GUEST, Level::ERROR)),
    ];
    enabled.into_iter().find(|(_, enabled)| *enabled).map(|(level, _)| level)
}

/// Logs a line. What comes from the guest is in fields, where subscribers escape it.
pub(super) fn log(line: &LogLine, name: Option<&str>) {
    let agent = name.map_or_else(|| line.agent.to_string(), str::to_owned);
    let fields: Vec<String> = line.fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let (agent, text, fields) = (agent.as_str(), line.text.as_str(), fields.join(" "));
    let fields = Some(fields.as_str()).filter(|fields| !fields.is_empty());
    match line.level {
        LogLevel::Trace => trace!(target: GUEST, agent, text, fields, "guest"),
        LogLevel::Debug => debug!(target: GUEST, agent, text, fields, "guest"),
        LogLevel::Info => info!(target: GUEST, agent, text, fields, "guest"),
        LogLevel::Warn => warn!(target: GUEST, agent, text, fields, "guest"),
        LogLevel::Error => error!(target: GUEST, agent, text, fields, "guest"),
    }
}
