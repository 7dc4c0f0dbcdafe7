//! Named contexts: the routers that somebody operates, in `contexts.toml`.
//!
//! ```toml
//! default = "north"
//!
//! [context.north]
//! url = "https://north.example.org:7411"
//! token_file = "north.token"
//! certificate = "north.pem"
//! ```
//!
//! Files are named relative to the directory of `contexts.toml`.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::client::Address;

/// The file, below the directory for configuration.
const FILE: &str = "caxton/contexts.toml";

/// A router, and how it is reached.
#[derive(Clone, Default, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Context {
    pub url: Option<Address>,
    pub token_file: Option<PathBuf>,
    /// The certificates to trust.
    pub certificate: Option<PathBuf>,
    /// What the client shows of itself, where the router asks for it.
    pub client_certificate: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
}

/// The contexts of a file.
#[derive(Default, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Contexts {
    default: Option<String>,
    context: BTreeMap<String, Context>,
    #[serde(skip)]
    file: PathBuf,
}

impl Contexts {
    /// Reads the file of the user. Without one there are no contexts.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is not as it should be.
    pub fn read() -> Result<Self, String> {
        let Some(file) = usual_file(|name| env::var_os(name).map(PathBuf::from)) else { return Ok(Self::default()) };
        match fs::read_to_string(&file) {
            Ok(text) => Self::parse(&text, &file),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Ok(Self { file, ..Self::default() })
            }
            Err(error) => Err(format!("{}: {error}", file.display())),
        }
    }

    fn parse(text: &str, file: &Path) -> Result<Self, String> {
        let mut contexts: Self =
            toml::from_str(text).map_err(|error| format!("{}: {}", file.display(), error.to_string().trim_end()))?;
        let directory = file.parent().unwrap_or(Path::new(""));
        for context in contexts.context.values_mut() {
            let files = [
                &mut context.token_file,
                &mut context.certificate,
                &mut context.client_certificate,
                &mut context.client_key,
            ];
            for file in files.into_iter().flatten() {
                *file = directory.join(&*file);
            }
        }
        file.clone_into(&mut contexts.file);
        Ok(contexts)
    }

    /// Returns the context that `default` names; without it, one that says nothing.
    ///
    /// # Errors
    ///
    /// There is none with this name.
    pub fn default_context(self) -> Result<Context, String> {
        match self.default.clone() {
            Some(name) => self.named(&name),
            None => Ok(Context::default()),
        }
    }

    /// Returns a context.
    ///
    /// # Errors
    ///
    /// There is none with this name.
    pub fn named(mut self, name: &str) -> Result<Context, String> {
        self.context.remove(name).ok_or_else(|| {
            let known: Vec<_> = self.context.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            format!("{}: there is no [context.{name}]: known are {known}", self.file.display())
        })
    }
}

/// Returns where the file is.
fn usual_file(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let is_absolute = |path: &PathBuf| path.is_absolute();
    let home = || variable("HOME").filter(is_absolute).map(|home| home.join(".config"));
    variable("XDG_CONFIG_HOME").filter(is_absolute).or_else(home).map(|directory| directory.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "default = \"north\"\n[context.north]\nurl = \"https://north.example.org\"\ntoken_file = \"n.token\"\n\
                        certificate = \"/etc/north.pem\"\n[context.here]\n";

    fn contexts() -> Contexts {
        Contexts::parse(TEXT, Path::new("/home/ann/contexts.toml")).expect("it is as it should be")
    }

    #[test]
    fn a_context_is_found_by_its_name_or_as_the_default() {
        let north = contexts().default_context().expect("it is there");
        assert_eq!(north.token_file, Some("/home/ann/n.token".into()), "relative to the file");
        assert_eq!(north.certificate, Some("/etc/north.pem".into()));
        assert_eq!(contexts().named("here"), Ok(Context::default()));
        assert_eq!(contexts().named("north"), Ok(north));
    }

    #[test]
    fn mistakes_name_the_file() {
        let unknown = contexts().named("south").expect_err("there is none");
        assert_eq!(unknown, "/home/ann/contexts.toml: there is no [context.south]: known are here, north");
        for text in ["[context.x]\ncolour = 1\n", "[context.x]\nurl = \"ftp://x\"\n", "[context"] {
            let mistake = Contexts::parse(text, Path::new("c.toml")).expect_err(text);
            assert!(mistake.starts_with("c.toml: "), "{mistake}");
        }
    }

    #[test]
    fn the_file_is_in_the_directory_for_configuration() {
        let file = |variables: &[(&str, &str)]| {
            usual_file(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
        };
        assert_eq!(file(&[("HOME", "/h")]), Some("/h/.config/caxton/contexts.toml".into()));
        assert_eq!(file(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/c")]), Some("/c/caxton/contexts.toml".into()));
        assert_eq!(file(&[("XDG_CONFIG_HOME", "c")]), None);
    }
}
