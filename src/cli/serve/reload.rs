//! SIGHUP: reading again what may change while the daemon runs.
//!
//! Tokens, certificates, routing rules, protocols, routing plugins, the modules of agents and limits are read again. All are
//! checked before the first is replaced: a mistake in any of them leaves everything as it was. The file of the audit is
//! opened again. Other settings that have changed are named: they apply at the next start.

use std::io;
use std::thread::{Builder, Scope};

use caxton_router::error::CallError;
use caxton_router::router::{Changes, Reload};
use caxton_router::serve::{Doors, DoorsReload};
use caxton_router::{Config, Router};
use futures_lite::future::block_on;
use signal_hook::consts::signal::SIGHUP;
use signal_hook::iterator::{Handle, Signals};

use super::guests::{Deployed, Replacement};
use super::manager;
use crate::cli::complain;
use crate::cli::interrupt::Interrupt;

/// What a reload reads and changes.
#[derive(Clone, Copy)]
pub struct Reloadable<'a> {
    pub router: &'a Router,
    pub doors: &'a Doors,
    pub deployed: &'a Deployed,
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
        match self.prepare(load) {
            Ok(prepared) => self.apply(prepared),
            Err(mistakes) => format!("{UNCHANGED}: {mistakes}"),
        }
    }

    /// Reads and checks everything, and changes nothing.
    fn prepare(&self, load: impl Fn() -> Result<Config, String>) -> Result<Prepared<'_>, String> {
        let config = load()?;
        let doors = self.doors.prepare_reload(&config).map_err(|error| error.to_string())?;
        let settings = self.router.prepare_reload(config).map_err(|error| error.to_string())?;
        let guests = self.deployed.load_changed(|| self.interrupt.signal().is_none())?;
        Ok(Prepared { settings, doors, guests })
    }

    /// Replaces what was prepared. Nothing of it has a mistake, but an agent may have gone.
    fn apply(&self, Prepared { settings, doors, guests }: Prepared<'_>) -> String {
        let Changes { applied, at_next_start, .. } = settings.changes().clone();
        let applying = block_on(settings.apply());
        if matches!(applying, Err(CallError::Stopped)) {
            return format!("{UNCHANGED}: the router has stopped");
        }
        let audit = doors.audit_path().map(|audit| format!("audit: {} was opened again", audit.display()));
        doors.apply();
        let mut lines = vec!["SIGHUP: tokens and certificates were read again".to_owned()];
        lines.extend(audit);
        lines.extend(applied);
        if let Err(late) = applying {
            lines.push(format!("the shard takes the changes over later: {late}"));
        }
        lines.extend(guests.into_iter().map(|guest| guest.apply(self.router)));
        if !at_next_start.is_empty() {
            lines.push(format!("settings that apply at the next start: {}", at_next_start.join(", ")));
        }
        lines.join("\n")
    }
}

const UNCHANGED: &str = "SIGHUP: nothing was changed";

/// What was read again and has no mistakes.
struct Prepared<'a> {
    settings: Reload,
    doors: DoorsReload,
    guests: Vec<Replacement<'a>>,
}
