//! The routing plugins loaded at start.

use std::path::{Path, PathBuf};

use super::value::{Setting, read_named, show_named};
use caxton_shards::api::PLUGINS_MAX;
use caxton_shards::domain::DomainError;

/// Plugins by name, in calling order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PluginFiles(Vec<(String, PathBuf)>);

impl PluginFiles {
    /// Iterates over names and modules.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.0.iter().map(|(name, file)| (name.as_str(), file.as_path()))
    }

    /// Returns the number of plugins.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no plugins.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Setting for PluginFiles {
    fn read(text: &str) -> Result<Self, DomainError> {
        const ALLOWED: &str = "up to 16 plugins such as \"gatekeeper=gatekeeper.wasm\" with commas between them, each with a name of its \
                               own, without quotes, backslashes and control characters";
        const { assert!(PLUGINS_MAX == 16, "the text says so") };
        let refuse = || DomainError::not_allowed("plugin files", text, ALLOWED);
        let name_of = |name: &str| if name.is_empty() { Err(refuse()) } else { Ok(name.to_owned()) };
        read_named(text, PLUGINS_MAX, name_of, refuse).map(Self)
    }

    fn show(&self) -> String {
        show_named(&self.0)
    }
}

/// What happens to a message on which a plugin failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnFailure {
    /// It is refused: nothing passes a plugin that fails.
    #[default]
    Refuse,
    /// It continues as if the plugin had let it pass.
    Pass,
}

impl Setting for OnFailure {
    fn read(text: &str) -> Result<Self, DomainError> {
        match text.trim() {
            "refuse" => Ok(Self::Refuse),
            "pass" => Ok(Self::Pass),
            _ => Err(DomainError::not_allowed("failure of a plugin", text, "refuse or pass")),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Refuse => "\"refuse\"".to_owned(),
            Self::Pass => "\"pass\"".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_keep_their_order_and_read_back() {
        let files = PluginFiles::read(" second=b.wasm, first = a.wasm ,").expect("both are legal");
        assert_eq!(files.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["second", "first"]);
        assert_eq!(PluginFiles::read(files.show().trim_matches('"')), Ok(files));
        for text in ["a.wasm", "=a.wasm", "a=", "a=b.wasm,a=c.wasm", "a=\"b\""] {
            let error = PluginFiles::read(text).expect_err(text).to_string();
            assert!(error.contains("gatekeeper=gatekeeper.wasm"), "{error}");
        }
        let many: Vec<_> = (0..=PLUGINS_MAX).map(|number| format!("p{number}=p.wasm")).collect();
        assert!(PluginFiles::read(&many.join(",")).is_err() && PluginFiles::read(&many[1..].join(",")).is_ok());
    }

    #[test]
    fn a_failure_has_one_of_two_outcomes() {
        for outcome in [OnFailure::Refuse, OnFailure::Pass] {
            assert_eq!(OnFailure::read(outcome.show().trim_matches('"')), Ok(outcome));
        }
        assert!(OnFailure::read("open").is_err());
    }
}
