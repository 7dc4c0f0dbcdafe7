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
    /// `warn,caxton::event=debug`; by default as log.level or else `RUST_LOG` says, and if neither is set, none, but for
    /// `serve` that of the preset
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
}

impl LogOption {
    /// Begins to log as a daemon does: without being asked, at the level of the preset. The log ends when the result is
    /// dropped.
    ///
    /// # Errors
    ///
    /// Text for the operator.
    pub fn begin_always(&self, config: &mut Config) -> Result<LogWriter, String> {
        self.apply(config)?;
        begin(config)
    }

    /// Begins to log, if that is asked for. The log ends when the result is dropped.
    ///
    /// # Errors
    ///
    /// Text for the operator.
    pub fn begin(&self, config: &mut Config) -> Result<Option<LogWriter>, String> {
        if self.apply(config)? { begin(config).map(Some) } else { Ok(None) }
    }

    /// Sets the level that was asked for, if any. Returns whether one was, here or in the settings.
    fn apply(&self, config: &mut Config) -> Result<bool, String> {
        let (level, origin) = match &self.log {
            Some(level) => (level.clone(), "--log"),
            None if is_unsaid(config, LEVEL) => match std::env::var(COMMON_VARIABLE) {
                Ok(level) if !level.is_empty() => (level, COMMON_VARIABLE),
                _ => return Ok(false),
            },
            None => return Ok(true),
        };
        config.set(LEVEL, &level, origin).map_err(|error| error.to_string())?;
        Ok(true)
    }
}

fn begin(config: &Config) -> Result<LogWriter, String> {
    let log = LogWriter::new(&config.log, io::stderr());
    let log = log.map_err(|error| format!("the log cannot be written: {error}"))?;
    let installed = tracing::dispatcher::set_global_default(log.dispatch().clone());
    installed.map_err(|error| format!("the log cannot be written: {error}"))?;
    Ok(log)
}

/// Whether the command writes a log.
pub fn is_written() -> bool {
    tracing::dispatcher::has_been_set()
}
