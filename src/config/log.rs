//! What is logged, and in which form.

use std::str::FromStr;

use caxton_shards::domain::DomainError;
use tracing_subscriber::filter::{LevelFilter, Targets};

use super::value::{Setting, entries};

/// Maximum number of levels for single targets.
pub const LEVELS_MAX: usize = 64;

/// The levels, by name.
const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// Libraries that log every packet at lower levels. Their lines appear only if a level is set for them explicitly.
const TALKATIVE: [&str; 1] = ["async_nats"];

/// What is accepted.
const ALLOWED: &str =
    "off, error, warn, info, debug or trace, and up to 64 of target=LEVEL, such as info,caxton::event=debug";

/// The level of the log, and those of single targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLevels {
    /// For all other targets.
    level: LevelFilter,
    targets: Vec<(String, LevelFilter)>,
}

impl LogLevels {
    /// Returns a filter for subscribers of the crate `tracing_subscriber`.
    pub fn to_filter(&self) -> Targets {
        let targets = self.targets.iter().map(|(target, level)| (target.as_str(), *level));
        let talkative = TALKATIVE.map(|target| (target, self.level.min(LevelFilter::INFO)));
        Targets::new().with_default(self.level).with_targets(talkative).with_targets(targets)
    }
}

impl FromStr for LogLevels {
    type Err = DomainError;

    /// Parses a level and those of single targets, separated by commas. Without a level of its own everything else is
    /// off.
    fn from_str(text: &str) -> Result<Self, DomainError> {
        let refused = || DomainError::not_allowed("log level", text, ALLOWED);
        let (mut level, mut targets) = (None, Vec::new());
        for entry in entries(text) {
            let (target, word) = match entry.rsplit_once('=') {
                Some((target, word)) => (Some(target.trim()), word.trim()),
                None => (None, entry),
            };
            let known = LEVELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
            let Some((_, its_level)) = known else { return Err(refused()) };
            match target {
                Some(target) if is_target(target) => targets.push((target.to_owned(), *its_level)),
                None if level.is_none() => level = Some(*its_level),
                _ => return Err(refused()),
            }
        }
        if targets.len() > LEVELS_MAX || level.is_none() && targets.is_empty() {
            return Err(refused());
        }
        Ok(Self { level: level.unwrap_or(LevelFilter::OFF), targets })
    }
}

fn is_target(text: &str) -> bool {
    let allowed = |character: char| character.is_ascii_alphanumeric() || matches!(character, ':' | '_' | '-' | '.');
    !text.is_empty() && text.chars().all(allowed)
}

fn word_of(level: LevelFilter) -> &'static str {
    LEVELS.iter().find(|(_, its_level)| *its_level == level).map_or("", |(word, _)| word)
}

impl Setting for LogLevels {
    fn read(text: &str) -> Result<Self, DomainError> {
        text.parse()
    }

    fn show(&self) -> String {
        let targets = self.targets.iter().map(|(target, level)| format!(",{target}={}", word_of(*level)));
        format!("\"{}{}\"", word_of(self.level), targets.collect::<String>())
    }
}

/// The form of the log's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people: one line per event.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    const ALL: [(Self, &str); 2] = [(Self::Text, "text"), (Self::Json, "json")];
}

impl Setting for LogFormat {
    fn read(text: &str) -> Result<Self, DomainError> {
        let found = Self::ALL.into_iter().find(|(_, word)| *word == text.trim());
        found.map(|(format, _)| format).ok_or_else(|| DomainError::not_allowed("log format", text, "text or json"))
    }

    fn show(&self) -> String {
        let word = Self::ALL.into_iter().find(|(format, _)| format == self).map_or("", |(_, word)| word);
        format!("\"{word}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_read_back_and_what_is_none_is_refused() {
        for (text, shown) in [
            ("info", "\"info\""),
            (" WARN ", "\"warn\""),
            ("off", "\"off\""),
            ("info, caxton::event = debug", "\"info,caxton::event=debug\""),
            ("caxton::guest=trace", "\"off,caxton::guest=trace\""),
        ] {
            let levels = LogLevels::read(text).expect("it is allowed");
            assert_eq!(levels.show(), shown, "{text:?}");
            assert_eq!(LogLevels::read(shown.trim_matches('"')), Ok(levels), "{text:?}");
        }
        for text in ["", "inof", "info,debug", "caxton::event", "=debug", "a b=debug", "\u{1b}=info", "caxton=loud"] {
            assert!(LogLevels::read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_longest_target_that_fits_decides() {
        use tracing_subscriber::filter::LevelFilter as Level;
        let levels: LogLevels = "warn,caxton=info,caxton::event=debug".parse().expect("it is allowed");
        let filter = levels.to_filter();
        let enabled = |target, level: Level| filter.would_enable(target, &level.into_level().expect("it is a level"));
        assert!(enabled("caxton::event", Level::DEBUG) && !enabled("caxton::event", Level::TRACE));
        assert!(enabled("caxton::router", Level::INFO) && !enabled("caxton::router", Level::DEBUG));
        assert!(enabled("hyper", Level::WARN) && !enabled("hyper", Level::INFO));
    }

    #[test]
    fn libraries_that_log_every_packet_do_so_only_when_they_are_named() {
        use tracing_subscriber::filter::LevelFilter as Level;
        let enabled = |levels: &str, level: Level| {
            let filter = levels.parse::<LogLevels>().expect("it is allowed").to_filter();
            filter.would_enable("async_nats::connector", &level.into_level().expect("it is a level"))
        };
        assert!(enabled("debug", Level::INFO) && !enabled("debug", Level::DEBUG));
        assert!(!enabled("warn", Level::INFO));
        assert!(enabled("warn,async_nats=debug", Level::DEBUG));
    }
}
