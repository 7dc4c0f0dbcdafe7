//! Configuration: resources, time limits and retries.
//!
//! A value comes from the last of these sources that sets it:
//!
//! 1. the preset, which has a value for every key,
//! 2. for the section `otlp`, the variables of OpenTelemetry such as `OTEL_EXPORTER_OTLP_ENDPOINT`,
//! 3. a TOML file,
//! 4. environment variables, `CAXTON_MAILBOX_MESSAGES` for the key `mailbox.messages`,
//! 5. the program itself: [`Config::set`], or the public fields.
//!
//! The preset is chosen the same way: `preset = "production"` in the file, `CAXTON_PRESET`, or the argument of
//! [`Config::load`], the last being the strongest. Without any of them it is [`Preset::Development`].
//!
//! Nothing is ignored: an unknown key or `CAXTON_` variable is an error that suggests the most similar one, and a value
//! outside its limits is an error that states where it was written and what is allowed. [`Config::load`] reports all
//! errors at once.
//!
//! Sizes are numbers of bytes or text such as `"16 MiB"`; times are numbers of the unit in which the key's name ends,
//! or text such as `"10 s"`.
//!
//! The list of keys, with their values in each preset, is the table in `keys.rs`. Every key is read by code.

mod choice;
#[cfg(feature = "cluster")]
mod cluster;
#[cfg(any(feature = "store", feature = "telemetry", feature = "wasm"))]
mod directory;
mod environment;
mod error;
mod file;
mod files;
#[cfg(feature = "serve")]
mod guests;
mod keys;
#[cfg(feature = "telemetry")]
mod listen;
mod live;
#[cfg(feature = "telemetry")]
mod log;
#[cfg(feature = "telemetry")]
mod otel;
#[cfg(feature = "telemetry")]
mod otlp;
#[cfg(feature = "wasm")]
mod plugins;
mod preset;
mod protocols;
mod rings;
mod rules;
mod shards;
#[cfg(feature = "serve")]
mod socket;
#[cfg(feature = "store")]
mod store;
mod table;
mod value;
#[cfg(feature = "wasm")]
mod wasi;

pub use choice::AutoOr;
#[cfg(feature = "cluster")]
pub use cluster::{
    CLUSTER_KEY_BYTES_MAX, CLUSTER_KEY_BYTES_MIN, CLUSTER_NAME_BYTES_MAX, ClusterName, NATS_SERVERS_MAX, NatsServers,
};
#[cfg(any(feature = "store", feature = "telemetry", feature = "wasm"))]
pub use directory::Directory;
#[cfg(feature = "serve")]
pub use directory::FilePath;
pub use environment::process_environment;
pub use error::{ConfigError, ConfigErrors, Origin, Place};
pub use file::FILE_BYTES_MAX;
pub use files::{FILES_MAX, FileList};
#[cfg(feature = "serve")]
pub use guests::{GUESTS_MAX, GuestFiles};
#[cfg(feature = "cluster")]
pub use keys::ClusterConfig;
#[cfg(feature = "store")]
pub use keys::StoreConfig;
#[cfg(feature = "serve")]
pub use keys::{AgentsConfig, DoorsConfig, HttpConfig, NatsConfig};
pub use keys::{
    BreakerConfig, ChannelConfig, Config, ConversationConfig, DeadLetterConfig, DeliveryConfig, DriveConfig,
    MailboxConfig, ManagementConfig, MessageConfig, ProtocolsConfig, RetryConfig, RingConfig, RouterConfig,
    RulesConfig, ShutdownConfig, SupervisionConfig,
};
#[cfg(feature = "telemetry")]
pub use keys::{LogConfig, MetricsConfig, OtlpConfig};
#[cfg(feature = "wasm")]
pub use keys::{PluginsConfig, WasmConfig};
#[cfg(feature = "telemetry")]
pub use listen::ListenAddress;
#[cfg(feature = "telemetry")]
pub use log::{LEVELS_MAX, LogFormat, LogLevels};
#[cfg(feature = "telemetry")]
pub(crate) use otel::counts as signal_endpoint_counts;
#[cfg(feature = "telemetry")]
pub use otlp::{CertificateFile, Compression, Endpoint, ExportHeaders, ResourceAttributes, ServiceName};
#[cfg(feature = "wasm")]
pub use plugins::{OnFailure, PluginFiles};
pub use preset::Preset;
pub use protocols::{EXCEPTIONS_MAX, ProtocolModes};
pub(crate) use rings::lane_capacity;
pub use rings::{RingChoice, automatic_ring_capacity, ring_bytes};
pub use shards::{ShardChoice, automatic_shard_count};
#[cfg(feature = "serve")]
pub use socket::{SOCKET_PATH_BYTES_MAX, SocketMode, SocketPath};
#[cfg(feature = "store")]
pub use store::Vfs;
#[cfg(feature = "wasm")]
pub(crate) use value::Setting;
#[cfg(feature = "wasm")]
pub use wasi::{Grant, Grants};

use keys::{KEYS, Key};
use std::fmt::Write as _;
use std::path::Path;

/// The key that chooses the preset, and the suffix of its variable.
const PRESET_KEY: &str = "preset";

impl Default for Config {
    /// Returns the values of [`Preset::Development`].
    fn default() -> Self {
        Self::preset(Preset::default())
    }
}

impl Config {
    /// Loads a configuration from a preset, a file and the environment.
    ///
    /// `preset` overrides what the file and the environment choose. `environment` is a list of variables, as returned
    /// by [`process_environment`]; those that begin neither with `CAXTON_` nor with `OTEL_` are skipped.
    ///
    /// # Errors
    ///
    /// Returns all errors in the file and the environment; nothing is applied then.
    pub fn load(
        preset: Option<Preset>,
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let mut assignments = Vec::new();
        if let Some(path) = file {
            match file::read(path) {
                Ok(text) => assignments = file::assignments(path, &text, &mut errors),
                Err(error) => errors.push(error),
            }
        }
        let environment: Vec<_> = environment.into_iter().collect();
        #[cfg(feature = "telemetry")]
        let protocols = otel::Protocols::of(&environment);
        #[cfg(feature = "telemetry")]
        assignments.splice(..0, otel::assignments(&environment, &mut errors));
        assignments.extend(environment::assignments(environment, &mut errors));
        #[cfg_attr(not(feature = "telemetry"), expect(unused_mut, reason = "the protocols are set"))]
        let mut config = Self::assemble(preset, &assignments, &mut errors);
        #[cfg(feature = "telemetry")]
        {
            config.provenance.export_protocols = protocols;
        }
        if errors.is_empty() { Ok(config) } else { Err(ConfigErrors::new(errors)) }
    }

    /// Sets one key by its name, such as `mailbox.messages`, from text as in the environment.
    ///
    /// `by` names the source, for errors and for [`Config::to_toml`]; for example `--set`.
    ///
    /// # Errors
    ///
    /// The key is unknown or the value outside its limits; the configuration is unchanged then.
    pub fn set(&mut self, key: &str, value: &str, by: &str) -> Result<(), ConfigError> {
        let origin = Origin::Program { by: by.to_owned() };
        let index = keys::find(key).ok_or_else(|| ConfigError::unknown_key(origin.clone(), key))?;
        self.assign(index, value, origin)
    }

    /// Reads the files of protocols and rules named in the settings, and checks what only all settings together show, as
    /// a start of the router does.
    ///
    /// # Errors
    ///
    /// Returns all errors found.
    pub fn check_files(&self) -> Result<(), ConfigErrors> {
        let checks = [self.protocols.check(), self.rules.load().map(drop), self.check_export(), self.check_cluster()];
        let errors: Vec<_> = checks.into_iter().filter_map(Result::err).flat_map(ConfigErrors::into_all).collect();
        if errors.is_empty() { Ok(()) } else { Err(ConfigErrors::new(errors)) }
    }

    /// Checks that the variables of OpenTelemetry name a protocol that is spoken, for endpoints that something is sent to.
    #[cfg_attr(
        not(feature = "telemetry"),
        expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "only with the feature there are any")
    )]
    pub(crate) fn check_export(&self) -> Result<(), ConfigErrors> {
        #[cfg(feature = "telemetry")]
        {
            let errors = self.export_errors();
            if !errors.is_empty() {
                return Err(ConfigErrors::new(errors));
            }
        }
        Ok(())
    }

    /// Checks that a router of a cluster has what it needs, and reads the files that its settings name.
    #[cfg_attr(
        not(feature = "cluster"),
        expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "only with the feature there is any")
    )]
    pub(crate) fn check_cluster(&self) -> Result<(), ConfigErrors> {
        #[cfg(feature = "cluster")]
        {
            let errors = self.cluster_errors();
            if !errors.is_empty() {
                return Err(ConfigErrors::new(errors));
            }
        }
        Ok(())
    }

    /// Whether the settings name a cluster.
    #[cfg_attr(not(feature = "cluster"), expect(clippy::unused_self, reason = "only with the feature there is one"))]
    pub(crate) fn is_in_cluster(&self) -> bool {
        #[cfg(feature = "cluster")]
        return self.cluster.is_enabled();
        #[cfg(not(feature = "cluster"))]
        false
    }

    #[cfg(feature = "telemetry")]
    fn export_errors(&self) -> Vec<ConfigError> {
        otel::check_protocols(self, &self.provenance.export_protocols)
    }

    /// Whether metrics are served: by themselves, or beside the HTTP API.
    #[cfg(feature = "telemetry")]
    pub(crate) fn serves_metrics(&self) -> bool {
        #[cfg(feature = "serve")]
        if self.http.listen.address().is_some() || self.http.socket.path().is_some() {
            return true;
        }
        self.metrics.listen.address().is_some()
    }

    /// Whether there is to be a store.
    #[cfg_attr(not(feature = "store"), expect(clippy::unused_self, reason = "only with the feature there can be one"))]
    pub(crate) fn has_store(&self) -> bool {
        #[cfg(feature = "store")]
        return self.store.directory.path().is_some();
        #[cfg(not(feature = "store"))]
        false
    }

    /// Returns the preset on which the other sources are based.
    pub fn chosen_preset(&self) -> Preset {
        self.provenance.preset
    }

    /// Returns the source that chose the preset.
    pub fn preset_origin(&self) -> &Origin {
        &self.provenance.preset_origin
    }

    /// Iterates over every key with its value and origin, in the order of [`Config::to_toml`].
    pub fn values(&self) -> impl Iterator<Item = ConfigValue> {
        let value = |(index, key): (usize, &Key)| ConfigValue {
            key: key.path,
            shown: (key.show)(self),
            origin: self.origin_at(index),
        };
        KEYS.iter().enumerate().map(value)
    }

    /// Returns the origin of a key's value, or `None` if there is no such key.
    pub fn origin(&self, key: &str) -> Option<Origin> {
        keys::find(key).map(|index| self.origin_at(index))
    }

    /// Returns the whole configuration as a TOML file that [`Config::load`] reads back, with the origin of each value
    /// in a comment.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        self.write_toml(&mut text).expect("writing to a string does not fail");
        text
    }

    fn write_toml(&self, text: &mut String) -> std::fmt::Result {
        let Provenance { preset, preset_origin, .. } = &self.provenance;
        writeln!(text, "# The preset whose values hold where nothing else is said: {}.", Preset::allowed())?;
        writeln!(text, "{PRESET_KEY} = \"{preset}\"  # {preset_origin}")?;
        let mut section = "";
        for (key, ConfigValue { shown, origin, .. }) in KEYS.iter().zip(self.values()) {
            if key.section != section {
                section = key.section;
                writeln!(text, "\n# {}\n[{section}]", key.section_documentation)?;
            }
            writeln!(text, "# {}\n{} = {shown}  # {origin}", key.documentation, key.name)?;
        }
        Ok(())
    }

    fn assemble(preset: Option<Preset>, assignments: &[Assignment], errors: &mut Vec<ConfigError>) -> Self {
        let (preset, preset_origin) = choose_preset(preset, assignments, errors);
        let mut config = Self::preset(preset);
        config.provenance.preset_origin = preset_origin;
        for assignment in assignments {
            if let Target::Key(index) = assignment.target
                && let Err(error) = config.assign(index, &assignment.text, assignment.origin.clone())
            {
                errors.push(error);
            }
        }
        config
    }

    fn assign(&mut self, index: usize, text: &str, origin: Origin) -> Result<(), ConfigError> {
        let key = &KEYS[index];
        if let Err(error) = (key.write)(self, text) {
            return Err(ConfigError::BadValue { origin, key: key.path, source: error });
        }
        self.provenance.values[index] = Provided { shown: (key.show)(self), origin };
        Ok(())
    }

    /// The fields are public, so a value may have changed since it was read; then its origin is the program.
    fn origin_at(&self, index: usize) -> Origin {
        let provided = &self.provenance.values[index];
        if (KEYS[index].show)(self) == provided.shown {
            provided.origin.clone()
        } else {
            Origin::Program { by: "program".to_owned() }
        }
    }
}

/// The origins of a configuration's values.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Provenance {
    preset: Preset,
    preset_origin: Origin,
    /// One entry for each of [`KEYS`], in order.
    values: Vec<Provided>,
    /// The protocols that variables of OpenTelemetry name.
    #[cfg(feature = "telemetry")]
    export_protocols: otel::Protocols,
}

/// A value as provided by its source.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Provided {
    shown: String,
    origin: Origin,
}

impl Provenance {
    fn of_preset(preset: Preset, shown: impl Iterator<Item = String>) -> Self {
        let origin = Origin::Preset(preset);
        let values = shown.map(|shown| Provided { shown, origin: origin.clone() }).collect();
        Self {
            preset,
            preset_origin: Origin::Program { by: "program".to_owned() },
            values,
            #[cfg(feature = "telemetry")]
            export_protocols: otel::Protocols::default(),
        }
    }
}

/// The value of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigValue {
    /// Its name, such as `mailbox.messages`.
    pub key: &'static str,
    /// The value, as in a TOML file.
    pub shown: String,
    /// Its origin.
    pub origin: Origin,
}

/// A source's assignment to one key.
#[derive(Debug, Clone)]
struct Assignment {
    target: Target,
    text: String,
    origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Preset,
    Key(usize),
}

/// Takes the strongest choice; weaker ones are reported too if they name no preset.
fn choose_preset(
    argument: Option<Preset>,
    assignments: &[Assignment],
    errors: &mut Vec<ConfigError>,
) -> (Preset, Origin) {
    let mut choice = (Preset::default(), Origin::Default);
    for assignment in assignments.iter().filter(|assignment| assignment.target == Target::Preset) {
        match assignment.text.parse() {
            Ok(preset) => choice = (preset, assignment.origin.clone()),
            Err(source) => {
                let origin = assignment.origin.clone();
                errors.push(ConfigError::BadValue { origin, key: PRESET_KEY, source });
            }
        }
    }
    match argument {
        Some(preset) => (preset, Origin::Program { by: "command line or program".to_owned() }),
        None => choice,
    }
}

impl Key {
    /// Returns the environment variable that sets this key.
    fn variable(&self) -> String {
        format!("{}{}_{}", environment::PREFIX, self.section.to_uppercase(), self.name.to_uppercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_field_is_the_programs() {
        let mut config = Config::preset(Preset::Testing);
        assert_eq!(config.origin("retry.attempts"), Some(Origin::Preset(Preset::Testing)));
        config.retry.attempts = "7".parse().expect("seven retries are allowed");
        assert_eq!(config.origin("retry.attempts"), Some(Origin::Program { by: "program".to_owned() }));
        assert_eq!(config.origin("retry.tempo"), None);
    }

    #[test]
    fn setting_a_key_checks_it_and_remembers_who_did() {
        let mut config = Config::default();
        config.set("mailbox.bytes", "2 MiB", "--set").expect("two mebibytes are allowed");
        assert_eq!(config.mailbox.bytes.into_inner(), 2 << 20);
        assert_eq!(config.origin("mailbox.bytes"), Some(Origin::Program { by: "--set".to_owned() }));

        let before = config.clone();
        let error = config.set("mailbox.bytes", "1", "--set").expect_err("one byte is too little");
        assert_eq!(
            error.to_string(),
            "--set: mailbox.bytes: mailbox bytes 1 is out of range: expected 1024 to 4294967296 bytes"
        );
        let error = config.set("mailbox.byte", "1", "--set").expect_err("there is no such key");
        assert_eq!(error.to_string(), "--set: unknown key mailbox.byte; did you mean mailbox.bytes?");
        assert_eq!(config, before);
    }

    #[test]
    fn a_configuration_can_be_shared() {
        fn shared<T: Send + Sync + Clone + std::fmt::Debug>(_: &T) {}
        shared(&Config::default());
    }
}
