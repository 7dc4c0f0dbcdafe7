//! `caxton serve`: the router as a daemon.
//!
//! Startup: settings, host, router, agents of the settings, doors; then the service manager is told that it is ready. A
//! SIGTERM or SIGINT drains: what is pending is handled while the doors stay open, so that outside agents can take their
//! messages; then they close. SIGHUP reads again what may change while it runs ([`reload`]).

mod guests;
mod manager;
mod reload;
mod stamp;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use caxton_router::cluster::Cluster;
use caxton_router::config::{Preset, ShardChoice};
use caxton_router::doctor::Demand;
use caxton_router::domain::ShardCount;
use caxton_router::error::StartError;
use caxton_router::serve::Doors;
use caxton_router::stats::Report;
use caxton_router::{Config, Router};
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::guests::{Deployed, Guests};
use self::reload::{Hangups, Reloadable};
use super::interrupt::{self, Interrupt};
use super::log::LogOption;
use super::settings::{self, DoorsOptions, MetricsOption, Settings};
use super::{complain, counted, fail, refuse};

/// Where the HTTP API is served if no setting opens a door.
const USUAL_HTTP: &str = "127.0.0.1:7411";
/// Open files besides those that the settings demand.
const OPEN_FILES_SPARE: u64 = 64;
/// A wait for a signal that is repeated. Signals end it early.
const WAIT: Duration = Duration::from_hours(1);

/// Arguments of `caxton serve`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --data and the setting store.directory, data is kept in $STATE_DIRECTORY, or else in caxton below $XDG_DATA_HOME or \
~/.local/share. Without --http, --socket, --nats and their settings, the HTTP API is served at 127.0.0.1:7411. Other hosts can reach a door \
only if doors.tokens, doors.certificate and doors.key are set.

SIGTERM or SIGINT drains what is pending, up to shutdown.deadline_ms, and a second one ends the process at once. SIGHUP \
reads tokens, certificates, rules, protocols, routing plugins, the modules of agents and limits again, and replaces all of \
them unless one has a mistake; the file of the audit is opened again. It names the settings that have changed otherwise: they \
apply at the next start.

Exit status: 0 if it was stopped by a signal and everything came to its end; 1 if it could not start, or something was left \
behind; 2 if the arguments or the settings cannot be used.")]
pub struct ServeArguments {
    #[command(flatten)]
    settings: Settings,
    /// Number of shards; by default as in the settings
    #[arg(long)]
    shards: Option<ShardCount>,
    /// Keep durable messages, conversations and agents in this data directory
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    doors: DoorsOptions,
    #[command(flatten)]
    metrics: MetricsOption,
    #[command(flatten)]
    log: LogOption,
    /// Seconds for draining after SIGTERM or SIGINT; by default as in the settings
    #[arg(long, value_name = "SECONDS", value_parser = interrupt::parse_timeout)]
    shutdown_timeout: Option<Duration>,
}

/// Runs `caxton serve`.
pub fn run(arguments: &ServeArguments) -> ExitCode {
    let prepared = arguments.config().and_then(|mut config| {
        let log = arguments.log.begin_always(&mut config)?;
        Ok((config, log))
    });
    let (config, _log) = match prepared {
        Ok(prepared) => prepared,
        Err(complaint) => return refuse(&complaint),
    };
    let interrupt = match Interrupt::listen() {
        Ok(interrupt) => interrupt,
        Err(complaint) => return fail(&complaint),
    };
    match arguments.serve(config, &interrupt) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(stop) => {
            let (Stop::Arguments(complaint) | Stop::Start(complaint)) = &stop;
            manager::failed(complaint);
            if matches!(stop, Stop::Arguments(_)) { refuse(complaint) } else { fail(complaint) }
        }
    }
}

/// Why the daemon does not run.
enum Stop {
    /// The settings, or a file that they name, cannot be used.
    Arguments(String),
    /// The router or the doors did not start.
    Start(String),
}

impl From<StartError> for Stop {
    fn from(error: StartError) -> Self {
        if error.is_of_settings() { Self::Arguments(error.to_string()) } else { Self::Start(error.to_string()) }
    }
}

impl ServeArguments {
    /// Loads the settings, and overrides them with the options.
    fn config(&self) -> Result<Config, String> {
        let mut config = self.settings.load(Preset::Development)?;
        self.metrics.apply(&mut config);
        if let Some(shards) = self.shards {
            config.router.shards = ShardChoice::Exactly(shards);
        }
        self.doors.apply(&mut config);
        if !settings::has_doors(&config) {
            config.set("http.listen", USUAL_HTTP, "caxton serve").map_err(|error| error.to_string())?;
        }
        if let Some(directory) = self.data.clone() {
            config.store.directory = directory.into();
        } else if config.store.directory.path().is_none() {
            let directory = usual_directory(|name| env::var_os(name).map(PathBuf::from));
            config.store.directory = directory.ok_or("--data: name a data directory, because HOME is not set")?.into();
        }
        settings::keep_compiled_modules(&mut config);
        Ok(config)
    }

    /// Serves until a signal. Returns whether everything came to its end.
    fn serve(&self, config: Config, interrupt: &Interrupt) -> Result<bool, Stop> {
        let hangups = Hangups::listen().map_err(|error| Stop::Start(format!("cannot listen for SIGHUP: {error}")))?;
        raise_open_files(&config);
        let guests = Guests::load(&config).map_err(Stop::Arguments)?;
        let router = Router::builder().config(config).cancelled_by(interrupt.cancel_start()).start();
        let router = match router {
            // A signal during the start is obeyed, and nothing was left behind.
            Err(StartError::Cancelled) => return Ok(true),
            router => router?,
        };
        for warning in router.host_warnings() {
            complain(&format!("warning: {warning}"));
        }
        for warning in router.recovered().unwrap_or_default().warnings {
            complain(&warning);
        }
        let deadline = self.shutdown_timeout.unwrap_or(router.config().shutdown.deadline_ms.as_duration());
        let deployed = guests.deploy(&router).and_then(|deployed| {
            let doors = Doors::open(&router).map_err(|error| error.to_string())?;
            let cluster = router.config().cluster.is_enabled().then(|| Cluster::join(&router));
            let cluster = cluster.transpose().map_err(|error| error.to_string())?;
            Ok((deployed, doors, cluster))
        });
        let served = deployed.and_then(|(deployed, doors, cluster)| {
            let reloadable = Reloadable { router: &router, doors: &doors, deployed: &deployed, interrupt };
            let report = self.serve_until_signal(hangups, reloadable, deadline)?;
            doors.close();
            if let Some(cluster) = cluster {
                cluster.leave();
            }
            Ok(report)
        });
        let report = served.map_err(|complaint| {
            // Nothing was accepted from outside yet.
            let _ = router.shutdown(deadline);
            Stop::Start(complaint)
        })?;
        complain(&report.to_string());
        Ok(report.balances() && report.left_behind() == 0)
    }

    /// Serves until a signal, and then until the router has stopped. The doors stay open meanwhile, so that outside agents
    /// can take what is theirs.
    fn serve_until_signal(
        &self,
        hangups: Hangups,
        reloadable: Reloadable<'_>,
        deadline: Duration,
    ) -> Result<Report, String> {
        let Reloadable { router, doors, deployed, interrupt, .. } = reloadable;
        std::thread::scope(|scope| {
            let reloads = hangups.obey(scope, reloadable, || self.config());
            let reloads = reloads.map_err(|error| format!("cannot listen for SIGHUP: {error}"))?;
            tell(router, doors, deployed);
            let _watchdog = manager::ready(router);
            // A second signal says what is left behind.
            let _watch = interrupt.watch(router, deadline, manager::stopping);
            while !interrupt.wait(WAIT) {}
            drop(reloads);
            // The signal has begun this; here its end is waited for.
            router.shutdown(deadline).map_err(|error| error.to_string())
        })
    }
}

/// Raises this process's limit on open files, as far as it may by itself, to what the settings allow to be open. What is
/// still missing then is a warning of the start.
fn raise_open_files(config: &Config) {
    let demand = Demand::of(config, std::thread::available_parallelism().map_or(1, usize::from));
    let wanted = demand.open_files() + demand.connections() + OPEN_FILES_SPARE;
    let limit = getrlimit(Resource::Nofile);
    let raised = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if limit.current.is_some_and(|current| current < raised) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit });
    }
}

/// Prints where the router can be reached.
fn tell(router: &Router, doors: &Doors, deployed: &Deployed) {
    settings::tell_door_addresses(doors);
    settings::tell_metrics_address(router);
    let cluster = &router.config().cluster;
    if let Some(name) = cluster.name.as_str().filter(|_| cluster.is_enabled()) {
        complain(&format!(
            "cluster: node {} of {name}, over {}",
            router.config().router.node,
            cluster.nats.urls().join(", ")
        ));
    }
    if let Some(directory) = router.config().store.directory.path() {
        complain(&format!("data: {}", directory.display()));
    }
    if deployed.count() > 0 {
        complain(&format!("deployed: {}", counted(deployed.count(), "agent")));
    }
}

/// Returns the data directory of a daemon that was told none.
fn usual_directory(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let is_absolute = |path: &PathBuf| path.is_absolute();
    // Of several, which systemd separates by colons, the first.
    let first = |paths: PathBuf| paths.to_str().and_then(|paths| paths.split(':').next()).map(PathBuf::from);
    let state = variable("STATE_DIRECTORY").and_then(first).filter(is_absolute);
    state.or_else(|| {
        let data = variable("XDG_DATA_HOME").filter(is_absolute);
        let home = || variable("HOME").filter(is_absolute).map(|home| home.join(".local/share"));
        data.or_else(home).map(|data| data.join("caxton"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_kept_where_the_service_manager_says_or_below_the_home() {
        let directory = |variables: &[(&str, &str)]| {
            let found = usual_directory(|name| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| PathBuf::from(value))
            });
            found.map(|path| path.display().to_string())
        };
        let home = ("HOME", "/home/ann");
        assert_eq!(directory(&[home]).as_deref(), Some("/home/ann/.local/share/caxton"));
        assert_eq!(directory(&[home, ("XDG_DATA_HOME", "/data")]).as_deref(), Some("/data/caxton"));
        let state = ("STATE_DIRECTORY", "/var/lib/caxton:/var/lib/other");
        assert_eq!(directory(&[home, state]).as_deref(), Some("/var/lib/caxton"));
        assert_eq!(directory(&[("XDG_DATA_HOME", "relative")]), None);
        assert_eq!(directory(&[]), None);
    }
}
