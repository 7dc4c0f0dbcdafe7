//! The settings of a command: options override the environment, which overrides a file, which overrides a preset.

use std::path::{Path, PathBuf};

use caxton_router::Router;
use caxton_router::config::{Config, ListenAddress, Origin, Preset, SocketPath, process_environment};
use caxton_router::serve::Doors;
use clap::Args;

use super::complain;

/// The origin of a value given on the command line.
const SET_OPTION: &str = "--set";

/// The options for settings.
#[derive(Debug, Default, Args)]
pub struct Settings {
    /// The preset to start from: development, testing or production; by default that of the file or `CAXTON_PRESET`,
    /// else development, and for bench production
    #[arg(long)]
    preset: Option<Preset>,
    /// A TOML file with settings; variables such as `CAXTON_MAILBOX_MESSAGES` override it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key, such as mailbox.messages=1000; overrides all other sources; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Settings {
    /// Loads the settings, and reads the files of rules and protocols that they name. `usual` is the default preset.
    ///
    /// # Errors
    ///
    /// Text for the operator, one line per error.
    pub fn load(&self, usual: Preset) -> Result<Config, String> {
        let environment: Vec<_> = process_environment().collect();
        let config = load(self.preset, Some(usual), self.config.as_deref(), &environment, &self.set)?;
        config.check_files().map_err(|errors| errors.to_string())?;
        Ok(config)
    }
}

/// The option for metrics and health over HTTP.
#[derive(Debug, Default, Args)]
pub struct MetricsOption {
    /// Serve metrics and health over HTTP at this address while the router runs, like the setting metrics.listen: a port
    /// of the loopback interface such as 9464, 0 for one that is free, or an address such as 0.0.0.0:9464
    #[arg(long, value_name = "ADDR")]
    metrics: Option<ListenAddress>,
}

impl MetricsOption {
    /// Overrides the setting.
    pub fn apply(&self, config: &mut Config) {
        if let Some(address) = self.metrics {
            config.metrics.listen = address;
        }
    }
}

/// The options for the doors.
#[derive(Debug, Default, Args)]
pub struct DoorsOptions {
    /// Serve the HTTP API at this address, like the setting http.listen: a port of the loopback interface such as 7411,
    /// 0 for one that is free, or an address such as 0.0.0.0:7411
    #[arg(long, value_name = "ADDR")]
    http: Option<ListenAddress>,
    /// Serve the HTTP API at this Unix socket, like the setting http.socket: an absolute path
    #[arg(long, value_name = "PATH")]
    socket: Option<SocketPath>,
    /// Serve clients of NATS at this address, like the setting nats.listen
    #[arg(long, value_name = "ADDR")]
    nats: Option<ListenAddress>,
}

impl DoorsOptions {
    /// Overrides the settings.
    pub fn apply(&self, config: &mut Config) {
        if let Some(address) = self.http {
            config.http.listen = address;
        }
        if let Some(path) = &self.socket {
            config.http.socket = path.clone();
        }
        if let Some(address) = self.nats {
            config.nats.listen = address;
        }
    }
}

/// Whether the settings open a door.
pub fn has_doors(config: &Config) -> bool {
    let listens = [config.http.listen, config.nats.listen].iter().any(|listen| listen.address().is_some());
    listens || config.http.socket.path().is_some()
}

/// Prints where the doors are.
pub fn tell_door_addresses(doors: &Doors) {
    let (http, nats) = if doors.are_encrypted() { ("https", "tls") } else { ("http", "nats") };
    if let Some(address) = doors.http_address() {
        complain(&format!("http: {http}://{address}/"));
    }
    if let Some(path) = doors.socket_path() {
        complain(&format!("http: unix:{}", path.display()));
    }
    if let Some(address) = doors.nats_address() {
        complain(&format!("nats: {nats}://{address}"));
    }
}

/// Prints where a router serves metrics and health, if it does.
pub fn tell_metrics_address(router: &Router) {
    if let Some(address) = router.metrics_address() {
        complain(&format!("metrics: http://{address}/metrics, health: http://{address}/healthz"));
    }
}

/// Loads settings from all sources.
///
/// # Errors
///
/// Text for the operator, one line per error.
pub fn load(
    preset: Option<Preset>,
    usual: Option<Preset>,
    file: Option<&Path>,
    environment: &[(String, String)],
    set: &[String],
) -> Result<Config, String> {
    let load = |preset| Config::load(preset, file, environment.to_vec()).map_err(|errors| errors.to_string());
    let mut config = load(preset)?;
    if usual.is_some() && *config.preset_origin() == Origin::Default {
        config = load(usual)?;
    }
    let mistakes: Vec<_> = set.iter().filter_map(|setting| apply(&mut config, setting).err()).collect();
    if mistakes.is_empty() { Ok(config) } else { Err(mistakes.join("\n")) }
}

fn apply(config: &mut Config, setting: &str) -> Result<(), String> {
    let Some((key, value)) = setting.split_once('=') else {
        return Err(format!("{SET_OPTION}: \"{}\" is not a setting: expected KEY=VALUE", setting.escape_debug()));
    };
    config.set(key.trim(), value.trim(), SET_OPTION).map_err(|error| error.to_string())
}

/// The directory of compiled modules, in the data directory.
const COMPILED_MODULES: &str = "modules";

/// Keeps compiled modules in the data directory, if there is one and no other place is set.
pub fn keep_compiled_modules(config: &mut Config) {
    if let Some(directory) = config.store.directory.path()
        && config.wasm.cache.path().is_none()
    {
        config.wasm.cache = directory.join(COMPILED_MODULES).into();
    }
}

/// Whether no source but the preset set a key.
pub fn is_unsaid(config: &Config, key: &str) -> bool {
    matches!(config.origin(key), Some(Origin::Preset(_)))
}

/// Returns the settings of a file, the environment or `--set`, each as `key = value`.
pub fn said(config: &Config) -> Vec<String> {
    let said = |origin: &Origin| match origin {
        Origin::File { .. } | Origin::Environment { .. } => true,
        Origin::Program { by } => by == SET_OPTION,
        Origin::Default | Origin::Preset(_) => false,
    };
    config
        .values()
        .filter(|value| said(&value.origin))
        .map(|value| format!("{} = {}", value.key, value.shown))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(preset: Option<Preset>, environment: &[(&str, &str)], set: &[&str]) -> Result<Config, String> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment: Vec<_> = environment.collect();
        let set: Vec<String> = set.iter().map(|setting| (*setting).to_owned()).collect();
        load(preset, Some(Preset::Production), None, &environment, &set)
    }

    #[test]
    fn the_usual_preset_is_for_want_of_a_choice() {
        let chosen = |preset, environment: &[(&str, &str)]| {
            loaded(preset, environment, &[]).expect("legal settings").chosen_preset()
        };
        assert_eq!(chosen(None, &[]), Preset::Production);
        assert_eq!(chosen(None, &[("CAXTON_PRESET", "testing")]), Preset::Testing);
        assert_eq!(chosen(Some(Preset::Development), &[("CAXTON_PRESET", "testing")]), Preset::Development);
    }

    #[test]
    fn the_command_line_goes_before_the_environment_and_that_before_the_preset() {
        let environment = [("CAXTON_MAILBOX_MESSAGES", "7"), ("CAXTON_RING_CAPACITY", "64")];
        let config = loaded(None, &environment, &["mailbox.messages = 9"]).expect("legal settings");
        assert_eq!(config.mailbox.messages.into_inner(), 9);
        assert_eq!(config.ring.capacity.to_string(), "64");
        assert!(!is_unsaid(&config, "mailbox.messages") && is_unsaid(&config, "mailbox.bytes"));
        assert_eq!(said(&config), ["mailbox.messages = 9", "ring.capacity = 64"]);
    }

    #[test]
    fn mistakes_are_told_all_at_once() {
        let mistakes = loaded(None, &[], &["mailbox.messages", "mailbox.mesages=3", "ring.capacity=0"]);
        let mistakes = mistakes.expect_err("three mistakes");
        assert_eq!(mistakes.lines().count(), 3, "{mistakes}");
        assert!(mistakes.contains("did you mean mailbox.messages?"), "{mistakes}");
    }
}
