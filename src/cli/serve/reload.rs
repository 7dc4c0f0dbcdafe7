//! SIGHUP: reading again what may change while the daemon runs.
//!
//! Tokens, certificates, routing rules and the modules of agents are read again. Other settings that have changed, and files
//! of protocols and plugins, are named: they apply at the next start. A mistake in the settings, in the rules, in the tokens
//! or in a certificate leaves everything as it was.

use std::io;
use std::thread::{Builder, Scope};

use caxton_router::serve::Doors;
use caxton_router::{Config, Router};
use signal_hook::consts::signal::SIGHUP;
use signal_hook::iterator::{Handle, Signals};

use super::guests::Deployed;
use super::manager;
use super::stamp::StartFiles;
use crate::cli::complain;
use crate::cli::interrupt::Interrupt;

/// Settings whose files are read again under their old names.
const READ_AGAIN: [&str; 5] =
    ["doors.tokens", "doors.certificate", "doors.key", "doors.client_certificates", "rules.files"];

/// What a reload reads and changes.
#[derive(Clone, Copy)]
pub struct Reloadable<'a> {
    pub router: &'a Router,
    pub doors: &'a Doors,
    pub deployed: &'a Deployed,
    pub files: &'a StartFiles,
    pub interrupt: &'a Interrupt,
}

/// SIGHUP, listened for from the beginning of the start, when its default action would end the process.
pub struct Hangups(Signals);

impl Hangups {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// The operating system does not let the process listen.
    pub fn listen() -> io::Result<Self> {
        Signals::new([SIGHUP]).map(Self)
    }

    /// Obeys the signals that have arrived and those to come. `load` reads the settings of the command.
    ///
    /// # Errors
    ///
    /// The operating system has no thread for it.
    pub fn obey<'scope, 'a: 'scope>(
        mut self,
        scope: &'scope Scope<'scope, 'a>,
        reloadable: Reloadable<'a>,
        load: impl Fn() -> Result<Config, String> + Send + 'a,
    ) -> io::Result<Reloads> {
        let handle = self.0.handle();
        let is_stopping = move || reloadable.interrupt.signal().is_some();
        let reload = move || {
            for _ in self.0.forever() {
                manager::reloading();
                complain(&reloadable.reload(&load));
                if !is_stopping() {
                    manager::reloaded();
                }
            }
        };
        Builder::new().name("caxton-reload".to_owned()).spawn_scoped(scope, reload)?;
        Ok(Reloads(handle))
    }
}

/// Obeys SIGHUP until it is dropped.
pub struct Reloads(Handle);

impl Drop for Reloads {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Reloadable<'_> {
    /// Reads everything again, and returns what came of it.
    fn reload(&self, load: impl Fn() -> Result<Config, String>) -> String {
        const UNCHANGED: &str = "SIGHUP: nothing was changed";
        let config = match load() {
            Ok(config) => config,
            Err(mistakes) => return format!("{UNCHANGED}: {mistakes}"),
        };
        let rules = match config.rules.load() {
            Ok(rules) => rules,
            Err(mistakes) => return format!("{UNCHANGED}: {mistakes}"),
        };
        if let Err(error) = self.doors.reload(&config) {
            return format!("{UNCHANGED}: {error}");
        }
        let mut lines = vec!["SIGHUP: tokens and certificates were read again".to_owned()];
        let (former, count) = (self.router.rules(), rules.len());
        if rules != former {
            lines.push(match self.router.blocking().replace_rules(rules) {
                Ok(()) => format!("rules: {count} take the place of {}", former.len()),
                Err(error) => format!("rules: {error}"),
            });
        }
        lines.extend(self.deployed.replace_changed(self.router, || self.interrupt.signal().is_none()));
        for (setting, file) in self.files.changed() {
            lines.push(format!("{setting}: {} has changed: it applies at the next start", file.display()));
        }
        let changed = changed(self.router.config(), &config);
        if !changed.is_empty() {
            lines.push(format!("settings that apply at the next start: {}", changed.join(", ")));
        }
        lines.join("\n")
    }
}

/// Returns the settings that differ and are not read again, each with its new value.
fn changed(running: &Config, read: &Config) -> Vec<String> {
    let pairs = running.values().zip(read.values());
    let differ = pairs.filter(|(old, new)| old.shown != new.shown && !READ_AGAIN.contains(&new.key));
    differ.map(|(_, new)| format!("{} = {}", new.key, new.shown)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_read_again_is_named() {
        let running = Config::default();
        let mut read = running.clone();
        assert!(changed(&running, &read).is_empty());
        read.set("mailbox.messages", "77", "test").expect("a legal value");
        read.set("doors.tokens", "/etc/tokens.toml", "test").expect("a legal value");
        assert_eq!(changed(&running, &read), ["mailbox.messages = 77"]);
    }
}
