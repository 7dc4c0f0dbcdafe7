//! Errors in a configuration, with their location.

use super::environment::{PREFIX, preset_variable};
use super::keys::{KEYS, Key, absent_feature};
use super::{PRESET_KEY, Preset};
use caxton_shards::domain::DomainError;
use std::path::PathBuf;
use std::{fmt, io};

/// Minimum similarity of a suggested name, from 0 to 1.
const LIKENESS_MIN: f64 = 0.75;

/// Maximum length of an unknown name shown in an error, in characters.
const SHOWN_NAME_CHARACTERS_MAX: usize = 64;

/// One error in a configuration. Nothing was applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{}: cannot read the configuration file: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The file is larger than any configuration, so it is probably another file.
    #[error("{}: the file is too large for a configuration: the limit is {bytes_max} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        bytes_max: u64,
    },
    /// The file is not valid TOML.
    #[error("{origin}: {message}")]
    Syntax {
        /// Where parsing stopped.
        origin: Origin,
        /// The parser's error message.
        message: String,
    },
    /// No key has this name.
    #[error("{origin}: unknown key {key}{}", hint(.suggestion.as_deref(), .known))]
    UnknownKey {
        /// Where the key is written.
        origin: Origin,
        /// The key as written.
        key: String,
        /// The most similar key.
        suggestion: Option<String>,
        /// What is allowed here.
        known: String,
    },
    /// No key has this environment variable.
    #[error("environment variable {variable} is unknown{}", hint(.suggestion.as_deref(), .known))]
    UnknownVariable {
        /// The variable's name.
        variable: String,
        /// The most similar variable.
        suggestion: Option<String>,
        /// How to see all variables.
        known: String,
    },
    /// The setting belongs to a Cargo feature that this program was built without.
    #[error(
        "{origin}: {key} belongs to the Cargo feature `{feature}`, which this program was built without: build it with that \
         feature, or remove the setting"
    )]
    AbsentFeature {
        /// Where the setting is written.
        origin: Origin,
        /// The key or the section.
        key: String,
        /// The feature.
        feature: &'static str,
    },
    /// A value where a section is expected, or a table, list, boolean or date where a value is expected.
    #[error("{origin}: {key} is {found}: expected {allowed}")]
    WrongKind {
        /// Where the value is written.
        origin: Origin,
        /// The key.
        key: String,
        /// What was found.
        found: &'static str,
        /// What is expected.
        allowed: String,
    },
    /// A mandatory key is missing.
    #[error("{origin}: {key} is missing")]
    Missing {
        /// Where it should be.
        origin: Origin,
        /// The key.
        key: String,
    },
    /// A protocol defined in a file is invalid.
    #[error("{origin}: protocol {protocol}: {source}")]
    BadProtocol {
        /// Where the error is.
        origin: Origin,
        /// The protocol.
        protocol: String,
        /// What is wrong, and what is allowed.
        source: caxton_shards::protocol::DefinitionErrorKind,
    },
    /// The protocols cannot be used together, or a mode is given for an unknown one.
    #[error("protocols: {source}")]
    Protocols {
        /// What is wrong.
        source: caxton_shards::protocol::RulebookError,
    },
    /// The rule files contain too many rules.
    #[error("rules.files: {count} rules in all: the limit is {most}")]
    TooManyRules {
        /// The number of rules.
        count: usize,
        /// The limit.
        most: usize,
    },
    /// A file that a setting names cannot be used.
    #[error("{key}: {}: {problem}", path.display())]
    UnusableFile {
        /// The key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what is expected.
        problem: String,
    },
    /// A value outside its limits.
    #[error("{origin}: {key}: {source}")]
    BadValue {
        /// Where the value comes from.
        origin: Origin,
        /// The key.
        key: &'static str,
        /// What is wrong with the value, and what is allowed.
        source: DomainError,
    },
}

/// All errors found, in the order of the sources.
#[derive(Debug)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    pub(super) fn new(errors: Vec<ConfigError>) -> Self {
        assert!(!errors.is_empty(), "errors are only reported when there are any");
        Self(errors)
    }

    pub(super) fn into_all(self) -> Vec<ConfigError> {
        self.0
    }

    /// Returns the errors; there is at least one.
    pub fn all(&self) -> &[ConfigError] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    /// Writes one line per error.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            error.fmt(formatter)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The default; no source set it.
    Default,
    /// A preset.
    Preset(Preset),
    /// A file.
    File(Place),
    /// An environment variable.
    Environment {
        /// The variable's name.
        variable: String,
    },
    /// The program or its command line.
    Program {
        /// What set it, such as `--set`.
        by: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::Preset(preset) => write!(formatter, "preset {preset}"),
            Self::File(place) => place.fmt(formatter),
            Self::Environment { variable } => write!(formatter, "environment variable {}", printable(variable)),
            Self::Program { by } => formatter.write_str(&printable(by)),
        }
    }
}

/// A position in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1.
    pub line: u32,
    /// The character in the line, counted from 1.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: String = self.path.display().to_string().chars().flat_map(escape_control).collect();
        write!(formatter, "{path}:{}:{}", self.line, self.column)
    }
}

impl ConfigError {
    /// Creates the error for an unknown key, given with its section.
    pub(super) fn unknown_key(origin: Origin, key: &str) -> Self {
        if let Some(feature) = key.split_once('.').and_then(|(section, _)| absent_feature(section)) {
            return Self::AbsentFeature { origin, key: printable(key), feature };
        }
        let candidates = KEYS.iter().map(|key| key.path.to_owned()).chain([PRESET_KEY.to_owned()]);
        let known = match key.split_once('.') {
            Some((section, _)) if is_section(section) => format!("[{section}] has {}", names_in(section)),
            _ => format!("the sections are {}", sections()),
        };
        Self::UnknownKey { origin, suggestion: closest(key, candidates), key: printable(key), known }
    }

    /// Creates the error for an unknown key where only a few are known.
    pub(super) fn unknown_key_among(origin: Origin, key: &str, known: &[&str]) -> Self {
        let suggestion = closest(key, known.iter().map(|known| (*known).to_owned()));
        Self::UnknownKey { origin, suggestion, key: printable(key), known: format!("known are {}", known.join(", ")) }
    }

    /// Creates the error for an unknown name at the top level, where only sections are allowed.
    pub(super) fn unknown_section(origin: Origin, section: &str) -> Self {
        if let Some(feature) = absent_feature(section) {
            return Self::AbsentFeature { origin, key: printable(section), feature };
        }
        let candidates = KEYS.iter().map(|key| key.section.to_owned()).chain([PRESET_KEY.to_owned()]);
        let known = format!("the sections are {}", sections());
        Self::UnknownKey { origin, suggestion: closest(section, candidates), key: printable(section), known }
    }

    pub(super) fn unknown_variable(variable: &str) -> Self {
        let key = variable.strip_prefix(PREFIX).and_then(|key| key.split_once('_'));
        if let Some((section, key)) = key.map(|(section, key)| (section.to_lowercase(), key.to_lowercase()))
            && let Some(feature) = absent_feature(&section)
        {
            let origin = Origin::Environment { variable: variable.to_owned() };
            return Self::AbsentFeature { origin, key: printable(&format!("{section}.{key}")), feature };
        }
        let candidates = KEYS.iter().map(Key::variable).chain([preset_variable()]);
        Self::UnknownVariable {
            suggestion: closest(variable, candidates),
            variable: printable(variable),
            known: "`caxton config show` lists the keys; CAXTON_MAILBOX_MESSAGES sets mailbox.messages".to_owned(),
        }
    }
}

pub(super) fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.section == name)
}

/// Returns the keys of a section, as text.
pub(super) fn names_in(section: &str) -> String {
    let names: Vec<_> = KEYS.iter().filter(|key| key.section == section).map(|key| key.name).collect();
    names.join(", ")
}

fn sections() -> String {
    let mut names: Vec<_> = KEYS.iter().map(|key| key.section).collect();
    names.dedup();
    names.join(", ")
}

fn hint(suggestion: Option<&str>, known: &str) -> String {
    match suggestion {
        Some(suggestion) => format!("; did you mean {suggestion}?"),
        None => format!("; {known}"),
    }
}

/// Returns the candidate most similar to `name`, if one is similar enough.
pub(super) fn closest(name: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    candidates
        .map(|candidate| (likeness(name, &candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(first, _), (second, _)| first.total_cmp(second))
        .map(|(_, candidate)| candidate)
}

/// Returns the similarity of two names, from 0 to 1, ignoring case.
///
/// A name without its unit, such as `retry.delay` for `retry.delay_ms`, counts as a likely mistake although many
/// letters are missing.
fn likeness(name: &str, candidate: &str) -> f64 {
    let (name, candidate) = (name.to_lowercase(), candidate.to_lowercase());
    match candidate.rsplit_once('_') {
        Some((without_unit, _)) if without_unit == name => 1.0,
        _ => strsim::normalized_damerau_levenshtein(&name, &candidate),
    }
}

/// Cuts text and removes characters that could control a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().take(SHOWN_NAME_CHARACTERS_MAX).flat_map(escape_control).collect()
}

fn escape_control(character: char) -> impl Iterator<Item = char> {
    let (plain, escaped) =
        if character.is_control() { (None, Some(character.escape_default())) } else { (Some(character), None) };
    plain.into_iter().chain(escaped.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggestion(key: &str) -> Option<String> {
        closest(key, KEYS.iter().map(|key| key.path.to_owned()))
    }

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        for (written, meant) in [
            ("mailbox.message", Some("mailbox.messages")),
            ("mailbox.mesages", Some("mailbox.messages")),
            ("mialbox.bytes", Some("mailbox.bytes")),
            ("Mailbox.Bytes", Some("mailbox.bytes")),
            ("retry.delay", Some("retry.delay_ms")),
            ("message.timeout", Some("message.timeout_ms")),
            ("conversation.participants", Some("conversation.participants_max")),
            ("conversation.participant_max", Some("conversation.participants_max")),
            ("dead_letter.messages", Some("dead_letters.messages")),
            ("imap.folder", None),
            ("", None),
        ] {
            assert_eq!(suggestion(written).as_deref(), meant, "{written}");
        }
    }

    #[test]
    fn without_a_likely_key_the_section_is_listed() {
        let origin = Origin::Program { by: "--set".to_owned() };
        assert_eq!(
            ConfigError::unknown_key(origin.clone(), "mailbox.colour").to_string(),
            "--set: unknown key mailbox.colour; [mailbox] has messages, bytes, overflow"
        );
        assert!(ConfigError::unknown_key(origin, "x.y").to_string().contains("the sections are router, channel, "));
    }

    #[test]
    fn what_is_shown_cannot_drive_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(printable(&"n".repeat(1_000)).len(), SHOWN_NAME_CHARACTERS_MAX);
    }
}
