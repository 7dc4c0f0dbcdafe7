//! A guest's manifest: limits that differ from the settings, and permissions, as a TOML file beside the module.

use std::path::{Path, PathBuf};

use caxton_shards::domain::{AgentName, CapabilityName, DomainError};
use caxton_shards::message::AgentId;
use serde::Deserialize;

use super::host::{GuestLimits, Permissions};
use crate::config::{Grant, Setting};

/// Maximum size of a manifest, in bytes.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// A manifest cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It cannot be read.
    #[error("{}: cannot be read: {reason}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// The operating system's error.
        reason: String,
    },
    /// It is not valid TOML, or has an unknown key.
    #[error("{}: {reason}", path.display())]
    Form {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// A value is outside its limits.
    #[error("{}: {key}: {source}", path.display())]
    Value {
        /// Which file.
        path: PathBuf,
        /// Which key.
        key: &'static str,
        /// What is wrong with it.
        source: DomainError,
    },
}

/// The contents of a manifest. Omitted keys change nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Manifest {
    limits: Limits,
    /// Capabilities that its agents provide from the beginning.
    pub offers: Vec<CapabilityName>,
    permissions: Permissions,
}

type Limits = Vec<fn_of::Change>;

/// Changes of limits, as values.
mod fn_of {
    use super::GuestLimits;
    use caxton_shards::domain::{
        GuestCallMs, GuestMemoryBytes, GuestMessageBytes, GuestStateBytes, GuestTableElements, HostCallCount, LogRate,
    };

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Change {
        Memory(GuestMemoryBytes),
        Table(GuestTableElements),
        Call(GuestCallMs),
        HostCalls(HostCallCount),
        Message(GuestMessageBytes),
        State(GuestStateBytes),
        Log(LogRate),
    }

    impl Change {
        pub fn apply(self, limits: &mut GuestLimits) {
            match self {
                Self::Memory(value) => limits.memory_bytes = value,
                Self::Table(value) => limits.table_elements = value,
                Self::Call(value) => limits.call_ms = value,
                Self::HostCalls(value) => limits.host_calls = value,
                Self::Message(value) => limits.message_bytes = value,
                Self::State(value) => limits.state_bytes = value,
                Self::Log(value) => limits.log_lines = value,
            }
        }
    }
}

/// The file's format.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct File {
    limits: LimitsSection,
    permissions: PermissionsSection,
    offers: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct LimitsSection {
    memory_bytes: Option<toml::Value>,
    table_elements: Option<toml::Value>,
    call_ms: Option<toml::Value>,
    host_calls: Option<toml::Value>,
    message_bytes: Option<toml::Value>,
    state_bytes: Option<toml::Value>,
    log_lines: Option<toml::Value>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct PermissionsSection {
    send_to: Option<Vec<String>>,
    address: Option<Vec<String>>,
    offer: Option<Vec<String>>,
    wasi: Vec<String>,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    ///
    /// Returns the first error, with its position.
    pub fn load(path: &Path) -> Result<Self, ManifestError> {
        let unreadable =
            |error: std::io::Error| ManifestError::File { path: path.to_owned(), reason: error.to_string() };
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > MANIFEST_BYTES_MAX {
            let reason = format!("it has {size} bytes: the limit is {MANIFEST_BYTES_MAX}");
            return Err(ManifestError::Form { path: path.to_owned(), reason });
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(path, &text)
    }

    /// Reads the manifest beside a module, if there is one: `echo.toml` for `echo.wasm`.
    ///
    /// # Errors
    ///
    /// As for [`Manifest::load`].
    pub fn beside(module: &Path) -> Result<Self, ManifestError> {
        let path = Self::path_beside(module);
        if path.exists() { Self::load(&path) } else { Ok(Self::default()) }
    }

    /// Returns the path of the manifest that belongs to a module: `echo.toml` beside `echo.wasm`.
    pub fn path_beside(module: &Path) -> PathBuf {
        module.with_extension("toml")
    }

    /// Parses a manifest. `path` is used in errors.
    ///
    /// # Errors
    ///
    /// As for [`Manifest::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ManifestError> {
        let file: File = toml::from_str(text).map_err(|error| ManifestError::Form {
            path: path.to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        })?;
        let bad = |key| move |source| ManifestError::Value { path: path.to_owned(), key, source };
        let mut limits = Limits::new();
        let LimitsSection { memory_bytes, table_elements, call_ms, host_calls, message_bytes, state_bytes, log_lines } =
            file.limits;
        change(&mut limits, memory_bytes, fn_of::Change::Memory).map_err(bad("limits.memory_bytes"))?;
        change(&mut limits, table_elements, fn_of::Change::Table).map_err(bad("limits.table_elements"))?;
        change(&mut limits, call_ms, fn_of::Change::Call).map_err(bad("limits.call_ms"))?;
        change(&mut limits, host_calls, fn_of::Change::HostCalls).map_err(bad("limits.host_calls"))?;
        change(&mut limits, message_bytes, fn_of::Change::Message).map_err(bad("limits.message_bytes"))?;
        change(&mut limits, state_bytes, fn_of::Change::State).map_err(bad("limits.state_bytes"))?;
        change(&mut limits, log_lines, fn_of::Change::Log).map_err(bad("limits.log_lines"))?;
        let capabilities = |names: Vec<String>, key| {
            names.into_iter().map(CapabilityName::try_new).collect::<Result<Vec<_>, _>>().map_err(bad(key))
        };
        let set = |names: Option<Vec<String>>, key| {
            names.map(|names| capabilities(names, key).map(|names| names.into_iter().collect())).transpose()
        };
        let send_to = file.permissions.send_to.map(|names| {
            let ids = names.into_iter().map(|name| AgentName::try_new(name).map(|name| AgentId::of(&name)));
            ids.collect::<Result<_, _>>().map_err(bad("permissions.send_to"))
        });
        Ok(Self {
            limits,
            offers: capabilities(file.offers, "offers")?,
            permissions: Permissions {
                send_to: send_to.transpose()?,
                address: set(file.permissions.address, "permissions.address")?,
                offer: set(file.permissions.offer, "permissions.offer")?,
                wasi: file
                    .permissions
                    .wasi
                    .iter()
                    .map(|name| Grant::of_name(name))
                    .collect::<Result<_, _>>()
                    .map_err(bad("permissions.wasi"))?,
            },
        })
    }

    /// Returns these limits with the manifest's changes.
    pub fn limits(&self, mut limits: GuestLimits) -> GuestLimits {
        self.limits.iter().for_each(|change| change.apply(&mut limits));
        limits
    }

    /// Creates a manifest with permissions only.
    pub fn permitting(permissions: Permissions) -> Self {
        Self { permissions, ..Self::default() }
    }

    /// Returns the guest's permissions.
    pub fn permissions(&self) -> Permissions {
        self.permissions.clone()
    }
}

fn change<Value: Setting>(
    limits: &mut Limits,
    value: Option<toml::Value>,
    make: fn(Value) -> fn_of::Change,
) -> Result<(), DomainError> {
    let text = match value {
        None => return Ok(()),
        Some(toml::Value::String(text)) => text,
        Some(toml::Value::Integer(number)) => number.to_string(),
        Some(other) => other.type_str().to_owned(),
    };
    limits.push(make(Value::read(&text)?));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(text: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(Path::new("guest.toml"), text)
    }

    #[test]
    fn what_a_manifest_says_holds_and_the_rest_stays() {
        let manifest = parse(
            "offers = [\"echo\"]\n[limits]\nmemory_bytes = \"64 MiB\"\ncall_ms = 100\n[permissions]\nsend_to = [\"ada\"]\nwasi = [\"stdout\"]\n",
        )
        .expect("the manifest is legal");
        let usual = GuestLimits::of(&Config::default().wasm);
        let limits = manifest.limits(usual);
        assert_eq!(limits.memory_bytes.into_inner(), 64 << 20);
        assert_eq!(limits.call_ms.into_inner(), 100);
        assert_eq!(limits.host_calls, usual.host_calls);
        assert_eq!(manifest.permissions().send_to, Some([AgentId::of_text("ada")].into()));
        assert_eq!(manifest.permissions().offer, None);
        assert_eq!(manifest.permissions().wasi, [Grant::Stdout].into_iter().collect());
        assert_eq!(manifest.offers.len(), 1);
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, complaint) in [
            ("[limits]\nmemory_bytes = 1", "guest.toml: limits.memory_bytes: guest memory 1 is out of range"),
            ("[limits]\nmemory = 1", "unknown field `memory`"),
            ("[permissions]\noffer = [\"\"]", "guest.toml: permissions.offer"),
            ("[permissions]\nwasi = [\"clock\"]", "clocks, random, stdout, stubs; did you mean clocks?"),
            (
                "[permissions]\nwasi = [\"sockets\"]",
                "guest.toml: permissions.wasi: WASI grant \"sockets\" is not allowed",
            ),
            ("limits", "guest.toml"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }
}
