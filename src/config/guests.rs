//! The agents in WebAssembly that a daemon deploys.

use std::path::{Path, PathBuf};

use caxton_shards::domain::{AgentName, DomainError};

use super::value::{Setting, read_named, show_named};

/// Maximum number of agents that a daemon deploys by its settings.
pub const GUESTS_MAX: usize = 1_000;

/// Modules by the names of their agents.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GuestFiles(Vec<(AgentName, PathBuf)>);

impl GuestFiles {
    /// Iterates over the agents' names and modules.
    pub fn iter(&self) -> impl Iterator<Item = (&AgentName, &Path)> {
        self.0.iter().map(|(name, file)| (name, file.as_path()))
    }

    /// Returns the number of agents.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no agents.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Setting for GuestFiles {
    fn read(text: &str) -> Result<Self, DomainError> {
        const ALLOWED: &str = "up to 1000 agents such as \"seller=seller.wasm\" with commas between them, each with a name of its \
                               own, without quotes, backslashes and control characters";
        const { assert!(GUESTS_MAX == 1_000, "the text says so") };
        let refuse = || DomainError::not_allowed("agents to deploy", text, ALLOWED);
        read_named(text, GUESTS_MAX, |name| AgentName::try_new(name), refuse).map(Self)
    }

    fn show(&self) -> String {
        show_named(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_and_their_modules_read_back() {
        let guests = GuestFiles::read("seller@example.org=a.wasm, buyer = b/c.wat").expect("two agents");
        assert_eq!(guests.len(), 2);
        assert_eq!(GuestFiles::read(guests.show().trim_matches('"')), Ok(guests));
        for text in ["a.wasm", "a=", "a=b.wasm,a=c.wasm", "a=\"b\""] {
            let error = GuestFiles::read(text).expect_err(text).to_string();
            assert!(error.contains("seller=seller.wasm"), "{error}");
        }
        assert!(GuestFiles::read("=b.wasm").is_err());
    }
}
