//! SIGHUP: reading again what may change while the daemon runs.
//!
//! Tokens, certificates and the modules of agents are read again. Other settings that have changed are named, and apply at
//! the next start. A mistake in the settings, in the tokens or in a certificate leaves everything as it was.

use std::io;
use std::thread::{Builder, Scope};

use caxton_router::serve::Doors;
use caxton_router::{Config, Router};
use signal_hook::consts::signal::SIGHUP;
use signal_hook::iterator::{Handle, Signals};

use super::guests::Deployed;
use super::manager;
use crate::cli::complain;

/// Settings whose files are read again under their old names.
const READ_AGAIN: [&str; 4] = ["doors.tokens", "doors.certificate", "doors.key", "doors.client_certificates"];

/// Obeys SIGHUP until it is dropped.
pub struct Reloads(Handle);

impl Reloads {
    /// Begins to listen. `load` reads the settings of the command.
    ///
    /// # Errors
    ///
    /// The operating system does not let the process listen, or has no thread for it.
    pub fn listen<'scope, 'a: 'scope>(
        scope: &'scope Scope<'scope, 'a>,
        router: &'a Router,
        doors: &'a Doors,
        deployed: &'a Deployed,
        load: impl Fn() -> Result<Config, String> + Send + 'a,
    ) -> io::Result<Self> {
        let mut signals = Signals::new([SIGHUP])?;
        let handle = signals.handle();
        let reload = move || {
            for _ in signals.forever() {
                manager::reloading();
                complain(&reload(router, doors, deployed, &load));
                manager::reloaded();
            }
        };
        Builder::new().name("caxton-reload".to_owned()).spawn_scoped(scope, reload)?;
        Ok(Self(handle))
    }
}

impl Drop for Reloads {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Reads everything again, and says what came of it.
fn reload(router: &Router, doors: &Doors, deployed: &Deployed, load: impl Fn() -> Result<Config, String>) -> String {
    const UNCHANGED: &str = "SIGHUP: nothing was changed";
    let config = match load() {
        Ok(config) => config,
        Err(mistakes) => return format!("{UNCHANGED}: {mistakes}"),
    };
    if let Err(error) = doors.reload(&config) {
        return format!("{UNCHANGED}: {error}");
    }
    let mut lines = vec!["SIGHUP: tokens and certificates were read again".to_owned()];
    lines.extend(deployed.replace_changed(router));
    let changed = changed(router.config(), &config);
    if !changed.is_empty() {
        lines.push(format!("settings that apply at the next start: {}", changed.join(", ")));
    }
    lines.join("\n")
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
