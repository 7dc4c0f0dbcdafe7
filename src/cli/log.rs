//! The log of a command, on standard error. Standard output belongs to the command's results.
//!
//! There is none unless somebody asks for it: with `--log`, with the setting `log.level` in a file, the environment or
//! `--set`, or else with `RUST_LOG`. A preset alone asks for nothing.

use std::io;

use caxton_router::Config;
use caxton_router::logs::LogWriter;
use clap::Args;

use super::settings::is_unsaid;

/// The setting.
const LEVEL: &str = "log.level";
/// The variable that many programs have in common.
const COMMON_VARIABLE: &str = "RUST_LOG";

/// The option for the log.
#[derive(Debug, Args)]
pub struct LogOption {
    /// Write a log to standard error: off, error, warn, info, debug or trace, also for single targets, such as
    /// `warn,caxton::event=debug`; by default there is none, unless log.level is set, or else `RUST_LOG`
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
}

impl LogOption {
    /// Begins to log, if that is asked for. The log ends when the result is dropped.
    ///
    /// # Errors
    ///
    /// Text for the operator.
    pub fn begin(&self, config: &mut Config) -> Result<Option<LogWriter>, String> {
        let (level, origin) = match &self.log {
            Some(level) => (Some(level.clone()), "--log"),
            None if is_unsaid(config, LEVEL) => match std::env::var(COMMON_VARIABLE) {
                Ok(level) if !level.is_empty() => (Some(level), COMMON_VARIABLE),
                _ => return Ok(None),
            },
            None => (None, ""),
        };
        if let Some(level) = level {
            config.set(LEVEL, &level, origin).map_err(|error| error.to_string())?;
        }
        let log = LogWriter::new(&config.log, io::stderr());
        let log = log.map_err(|error| format!("the log cannot be written: {error}"))?;
        let installed = tracing::dispatcher::set_global_default(log.dispatch().clone());
        installed.map_err(|error| format!("the log cannot be written: {error}"))?;
        Ok(Some(log))
    }
}

/// Whether the command writes a log.
pub fn is_written() -> bool {
    tracing::dispatcher::has_been_set()
}
