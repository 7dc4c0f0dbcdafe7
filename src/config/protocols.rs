//! The protocols that conversations are checked against, and the files that define user protocols.
//!
//! Such a file has a table for each protocol:
//!
//! ```toml
//! [house-haggle]
//! start = "idle"
//! ends = ["sold", "refused"]
//! acts = ["x-haggle"]          # acts besides those of FIPA SC00037; optional
//! steps = [
//!     { from = "idle", by = "initiator", act = "request", to = "asked" },
//!     { from = "asked", by = "participant", act = "x-haggle", to = "offered" },
//!     { from = "asked", by = "participant", act = "refuse", to = "refused" },
//!     { from = "offered", by = "initiator", act = "x-haggle", to = "asked" },
//!     { from = "offered", by = "initiator", act = "accept-proposal", to = "sold" },
//! ]
//! ```
//!
//! `act = "any"` stands for every act that no other step of that side from that state names. `aliases` are alternative
//! names, `source` says where the protocol is defined.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use caxton_shards::domain::DomainError;
use caxton_shards::protocol::{Definition, Mode, Rulebook, Side, Site, StepDefinition, act_of_word};
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, ConfigErrors};
use super::file::{Source, in_order};
use super::keys::ProtocolsConfig;
use super::table::{Reader, Value};
use super::value::{Setting, entries};

/// Maximum number of protocols with their own mode.
pub const EXCEPTIONS_MAX: usize = 256;

/// Protocols with their own mode.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProtocolModes(Vec<(String, Mode)>);

impl ProtocolModes {
    /// Returns the protocols and their modes.
    pub fn as_slice(&self) -> &[(String, Mode)] {
        &self.0
    }
}

impl Setting for Mode {
    fn read(text: &str) -> Result<Self, DomainError> {
        text.parse()
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Setting for ProtocolModes {
    fn read(text: &str) -> Result<Self, DomainError> {
        const ALLOWED: &str = "a list such as \"fipa-request=enforce, fipa-query=off\" of up to 256 protocols";
        let refuse = || DomainError::not_allowed("protocol modes", text, ALLOWED);
        let mut modes = Vec::new();
        for entry in entries(text) {
            let (name, mode) = entry.split_once('=').ok_or_else(refuse)?;
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            if name.trim().is_empty() || !name.trim().bytes().all(legal) || modes.len() >= EXCEPTIONS_MAX {
                return Err(refuse());
            }
            modes.push((name.trim().to_owned(), mode.parse()?));
        }
        Ok(Self(modes))
    }

    fn show(&self) -> String {
        let modes: Vec<_> = self.0.iter().map(|(name, mode)| format!("{name}={mode}")).collect();
        format!("\"{}\"", modes.join(", "))
    }
}

impl ProtocolsConfig {
    /// Returns the rulebook of the library's protocols, those of the files, and the program's `own`.
    ///
    /// # Errors
    ///
    /// Returns all errors in the files; or an unknown protocol with a mode, or two protocols with the same name.
    pub fn rulebook(&self, own: &[Definition]) -> Result<Rulebook, ConfigErrors> {
        let mut definitions = own.to_vec();
        definitions.extend(self.files.read_all(definitions_in)?);
        self.rulebook_of(self.modes.as_slice(), &definitions)
    }

    /// Checks whether the protocols of the files can be used. Modes may be meant for the program's own protocols, which
    /// are not known here.
    pub(super) fn check(&self) -> Result<(), ConfigErrors> {
        self.rulebook_of(&[], &self.files.read_all(definitions_in)?).map(drop)
    }

    fn rulebook_of(&self, modes: &[(String, Mode)], definitions: &[Definition]) -> Result<Rulebook, ConfigErrors> {
        Rulebook::new(self.mode, modes, definitions)
            .map_err(|source| ConfigErrors::new(vec![ConfigError::Protocols { source }]))
    }
}

/// Returns the protocols that a file defines; adds its errors to `errors`.
fn definitions_in(path: &Path, text: &str, errors: &mut Vec<ConfigError>) -> Vec<Definition> {
    let source = Source { path, text };
    let Some(root) = source.root(errors) else { return Vec::new() };
    let mut definitions = Vec::new();
    for (name, value) in in_order(&root) {
        let mut draft = Draft { reader: Reader::new(&source), protocol: name.get_ref() };
        let definition = match value.get_ref() {
            DeValue::Table(table) => draft.definition(name.span(), table),
            _ => {
                draft.reader.wrong_kind(value, "protocol", "a table such as [house-haggle] with start, ends and steps")
            }
        };
        match definition {
            Some(definition) if draft.reader.errors.is_empty() => definitions.push(definition),
            _ => errors.append(&mut draft.reader.errors),
        }
    }
    definitions
}

/// A protocol being read.
struct Draft<'a> {
    reader: Reader<'a>,
    protocol: &'a Cow<'a, str>,
}

const KEYS_OF_PROTOCOL: [&str; 6] = ["start", "ends", "steps", "acts", "aliases", "source"];
const KEYS_OF_STEP: [&str; 4] = ["from", "by", "act", "to"];

impl Draft<'_> {
    fn definition(&mut self, span: Range<usize>, table: &DeTable<'_>) -> Option<Definition> {
        let reader = &mut self.reader;
        reader.refuse_other_keys(table, &KEYS_OF_PROTOCOL);
        let acts: Vec<String> = reader.texts(table, "acts").into_iter().map(|(text, _)| text).collect();
        let aliases = reader.texts(table, "aliases").into_iter().map(|(text, _)| text).collect();
        let ends = reader.texts(table, "ends");
        let source = reader.optional_text(table, "source").map(|(text, _)| text);
        let start = reader.required_text(table, "start", &span);
        let steps = reader.required(table, "steps", &span).and_then(|value| reader.list(value, "steps"));
        let mut steps_read = Vec::new();
        for step in steps.into_iter().flatten() {
            steps_read.extend(self.step(step, &acts).map(|read| (read, step.span())));
        }
        let (start, start_span) = start?;
        if !self.reader.errors.is_empty() {
            return None;
        }
        let definition = Definition {
            name: self.protocol.to_string(),
            aliases,
            source: source.unwrap_or_else(|| self.reader.path()),
            start,
            ends: ends.iter().map(|(end, _)| end.clone()).collect(),
            steps: steps_read.iter().map(|(step, _)| step.clone()).collect(),
            others_speak: false,
        };
        for error in definition.errors() {
            let place = match error.site {
                Site::Protocol => None,
                Site::Start => Some(start_span.clone()),
                Site::End(place) => ends.get(place).map(|(_, span)| span.clone()),
                Site::Step(place) => steps_read.get(place).map(|(_, span)| span.clone()),
            };
            self.flawed(place.unwrap_or_else(|| span.clone()), error.kind);
        }
        Some(definition)
    }

    fn step(&mut self, value: &Value<'_>, acts: &[String]) -> Option<StepDefinition> {
        let reader = &mut self.reader;
        let DeValue::Table(table) = value.get_ref() else {
            let allowed = "a table such as { from = \"idle\", by = \"initiator\", act = \"request\", to = \"asked\" }";
            return reader.wrong_kind(value, "steps", allowed);
        };
        reader.refuse_other_keys(table, &KEYS_OF_STEP);
        let [from, by, act, to] = KEYS_OF_STEP.map(|key| reader.required_text(table, key, &value.span()));
        let (by, by_span) = by?;
        let side = [Side::Initiator, Side::Participant].into_iter().find(|side| side.as_str() == by);
        if side.is_none() {
            let source = DomainError::not_allowed("side", &by, "initiator or participant");
            reader.refuse_value(by_span, "by", source);
        }
        let (act, act_span) = act?;
        let act = act_of_word(&act, acts).map_err(|fault| self.flawed(act_span, fault)).ok();
        Some(StepDefinition { from: from?.0, by: side?, act: act?, to: to?.0 })
    }

    fn flawed(&mut self, span: Range<usize>, source: caxton_shards::protocol::DefinitionErrorKind) {
        let (origin, protocol) = (self.reader.origin(span), super::error::printable(self.protocol));
        self.reader.errors.push(ConfigError::BadProtocol { origin, protocol, source });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HAGGLE: &str = r#"
[house-haggle]
start = "idle"
ends = ["sold", "refused"]
acts = ["x-haggle"]
steps = [
    { from = "idle", by = "initiator", act = "request", to = "asked" },
    { from = "asked", by = "participant", act = "x-haggle", to = "offered" },
    { from = "asked", by = "participant", act = "refuse", to = "refused" },
    { from = "offered", by = "initiator", act = "any", to = "sold" },
]
"#;

    fn read_text(text: &str) -> (Vec<Definition>, Vec<String>) {
        let mut errors = Vec::new();
        let definitions = definitions_in(Path::new("house.toml"), text, &mut errors);
        (definitions, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_protocol_is_read_with_acts_of_its_own() {
        let (definitions, errors) = read_text(HAGGLE);
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!((definitions[0].name.as_str(), definitions[0].steps.len()), ("house-haggle", 4));
        let rulebook = Rulebook::new(Mode::Enforce, &[], &definitions).expect("it has no flaws");
        assert!(rulebook.checked().any(|(name, mode)| (name, mode) == ("house-haggle", Mode::Enforce)));
    }

    #[test]
    fn each_mistake_is_reported_with_its_place_and_what_is_allowed() {
        for (from, to, expected) in [
            (
                "\"refuse\", to",
                "\"refsue\", to",
                "house.toml:9:49: protocol house-haggle: \"refsue\" is not a performative",
            ),
            (
                "to = \"sold\" }",
                "to = \"limbo\" }",
                "house.toml:10:5: protocol house-haggle: the state \"limbo\" is a dead",
            ),
            (
                "from = \"offered\"",
                "from = \"ofered\"",
                "protocol house-haggle: the state \"ofered\" cannot be reached",
            ),
            ("by = \"initiator\", act = \"any\"", "by = \"buyer\", act = \"any\"", "expected initiator or participant"),
            ("start = \"idle\"", "", "house.toml:2:2: start is missing"),
            ("acts =", "act =", "house.toml:5:1: unknown key act; did you mean acts?"),
            ("ends = [", "ends = [3, ", "house.toml:4:9: ends is a number: expected text"),
            ("[house-haggle]", "[\"two words\"]", "house.toml:2:2: protocol two words: the protocol's name"),
            ("steps = [", "steps = [[], ", "house.toml:6:10: steps is a list: expected a table such as"),
            ("ends = [", "ends = [\"gone\", ", "house.toml:4:9: protocol house-haggle: no step names the end \"gone\""),
            ("start = ", "start ", "house.toml:3:"),
        ] {
            let (definitions, errors) = read_text(&HAGGLE.replacen(from, to, 1));
            assert!(definitions.is_empty(), "{to}");
            assert!(errors.iter().any(|error| error.contains(expected)), "{expected}: {errors:?}");
        }
        assert!(read_text("house = 3").1[0].contains("protocol is a number: expected a table"));
    }

    #[test]
    fn lists_of_modes_read_back() {
        for text in ["", "fipa-request=enforce", " a=off , b=observe "] {
            let modes = ProtocolModes::read(text).expect(text);
            assert_eq!(ProtocolModes::read(modes.show().trim_matches('"')), Ok(modes));
        }
        for text in ["fipa-request", "=off", "a b=off", "a=sometimes"] {
            assert!(ProtocolModes::read(text).is_err(), "{text}");
        }
    }
}
