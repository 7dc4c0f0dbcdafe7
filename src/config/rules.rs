//! Files with routing rules for messages that name no agent.
//!
//! Such a file has a table for each rule. Rules are tried in file order, and the first whose conditions are all
//! satisfied decides:
//!
//! ```toml
//! [large-orders]
//! performative = "request"      # of FIPA SC00037, or a user-defined word that begins with x-
//! protocol = "fipa-request"
//! ontology = "trading"
//! language = "fipa-sl0"
//! capability = "orders"         # the capability that the message addresses
//! content_prefix = "(order"
//! content_bytes_min = 1024      # in bytes, like content_bytes_max
//! to_agent = "broker@example.org"
//!
//! [everything-else]
//! to_capability = "help-desk"
//! choice = "least-loaded"       # any (default), all, round-robin or least-loaded
//! ```
//!
//! Each condition is optional. Exactly one of `to_agent` and `to_capability` is required.

use std::ops::Range;
use std::path::Path;

use caxton_shards::domain::{AgentName, CapabilityName, DomainError};
use caxton_shards::message::{AgentId, Choice, Performative, TERM_BYTES_MAX, Term};
use caxton_shards::routing::rules::{Conditions, Destination, RULES_MAX, Rule};
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, ConfigErrors};
use super::file::{Source, in_order};
use super::keys::RulesConfig;
use super::table::{Reader, Text};

const KEYS_OF_RULE: [&str; 11] = [
    "performative",
    "protocol",
    "ontology",
    "language",
    "capability",
    "content_prefix",
    "content_bytes_min",
    "content_bytes_max",
    "to_agent",
    "to_capability",
    "choice",
];

impl RulesConfig {
    /// Returns the rules of the files, one file after the other.
    ///
    /// # Errors
    ///
    /// Returns all errors in the files, or that they contain more rules than [`RULES_MAX`].
    pub fn load(&self) -> Result<Vec<Rule>, ConfigErrors> {
        let rules = self.files.read_all(rules_in)?;
        if rules.len() > RULES_MAX {
            let mistake = ConfigError::TooManyRules { count: rules.len(), most: RULES_MAX };
            return Err(ConfigErrors::new(vec![mistake]));
        }
        Ok(rules)
    }
}

/// Returns the rules of a file; adds its errors to `errors`.
fn rules_in(path: &Path, text: &str, errors: &mut Vec<ConfigError>) -> Vec<Rule> {
    let source = Source { path, text };
    let Some(root) = source.root(errors) else { return Vec::new() };
    let mut rules = Vec::new();
    for (name, value) in in_order(&root) {
        let mut reader = Reader::new(&source);
        let rule = match value.get_ref() {
            DeValue::Table(table) => rule(&mut reader, &name.span(), table),
            _ => reader.wrong_kind(value, "rule", "a table such as [large-orders] with conditions and to_agent"),
        };
        rules.extend(rule.filter(|_| reader.errors.is_empty()));
        errors.append(&mut reader.errors);
    }
    rules
}

fn rule(reader: &mut Reader<'_>, span: &Range<usize>, table: &DeTable<'_>) -> Option<Rule> {
    reader.refuse_other_keys(table, &KEYS_OF_RULE);
    let conditions = Conditions {
        performative: reader.optional_text(table, "performative").and_then(|text| performative(reader, text)),
        protocol: reader.optional_text(table, "protocol").and_then(|text| term(reader, "protocol", text)),
        ontology: reader.optional_text(table, "ontology").and_then(|text| term(reader, "ontology", text)),
        language: reader.optional_text(table, "language").and_then(|text| term(reader, "language", text)),
        capability: reader.optional_text(table, "capability").and_then(|text| capability(reader, "capability", text)),
        content_prefix: reader.optional_text(table, "content_prefix").map(|(text, _)| text.into_bytes().into()),
        content_bytes_min: reader.optional_bytes(table, "content_bytes_min"),
        content_bytes_max: reader.optional_bytes(table, "content_bytes_max"),
    };
    let choice = reader.optional_text(table, "choice");
    let (to_agent, to_capability) =
        (reader.optional_text(table, "to_agent"), reader.optional_text(table, "to_capability"));
    let destination = match (to_agent, to_capability) {
        (Some(text), None) => {
            if let Some((word, span)) = choice {
                let source = DomainError::not_allowed("choice", &word, "a choice only with to_capability");
                reader.refuse_value(span, "choice", source);
            }
            Destination::Agent(agent(reader, text)?)
        }
        (None, Some(text)) => {
            let choice = choice.map_or(Some(Choice::default()), |text| choice_of(reader, text));
            Destination::Capability(capability(reader, "to_capability", text)?, choice?)
        }
        (Some(_), Some((word, span))) => {
            let source = DomainError::not_allowed("destination", &word, "either to_agent or to_capability");
            reader.refuse_value(span, "to_capability", source);
            return None;
        }
        (None, None) => {
            // If one is present but not text, that was reported already.
            if !["to_agent", "to_capability"].iter().any(|key| table.contains_key(*key)) {
                reader.refuse_missing(span, "to_agent or to_capability");
            }
            return None;
        }
    };
    Some(Rule { conditions, destination })
}

fn performative(reader: &mut Reader<'_>, (word, span): Text) -> Option<Performative> {
    // A misspelt act would be a user-defined one, and match nothing.
    let parsed = word
        .parse()
        .ok()
        .filter(|act: &Performative| Performative::standard(&word).is_some() || act.as_str().starts_with("x-"));
    if parsed.is_none() {
        const ALLOWED: &str = "an act of FIPA SC00037, or a word of one's own that begins with x-";
        reader.refuse_value(span, "performative", DomainError::not_allowed("performative", &word, ALLOWED));
    }
    parsed
}

fn term(reader: &mut Reader<'_>, key: &'static str, (word, span): Text) -> Option<Term> {
    let term = Term::of(&word).filter(|_| !word.is_empty());
    if term.is_none() {
        let allowed = format!("1 to {TERM_BYTES_MAX} bytes, as long as the vocabulary has room");
        reader.refuse_value(span, key, DomainError::not_allowed(key, &word, allowed));
    }
    term
}

fn capability(reader: &mut Reader<'_>, key: &'static str, (word, span): Text) -> Option<Term> {
    match word.parse::<CapabilityName>() {
        Ok(_) => term(reader, key, (word, span)),
        Err(error) => {
            reader.refuse_value(span, key, error);
            None
        }
    }
}

fn agent(reader: &mut Reader<'_>, (word, span): Text) -> Option<AgentId> {
    let name = word.parse::<AgentName>();
    name.map(|name| AgentId::of(&name)).map_err(|error| reader.refuse_value(span, "to_agent", error)).ok()
}

fn choice_of(reader: &mut Reader<'_>, (word, span): Text) -> Option<Choice> {
    let choice = word.parse();
    choice.map_err(|error| reader.refuse_value(span, "choice", error)).ok()
}

#[cfg(test)]
mod tests {
    use super::super::value::Setting;
    use super::*;

    const RULES: &str = r#"
[large-orders]
performative = "request"
ontology = "trading"
capability = "orders"
content_prefix = "(order"
content_bytes_min = 1_024
to_agent = "broker@example.org"

[everything-else]
to_capability = "help-desk"
choice = "least-loaded"
"#;

    fn read_text(text: &str) -> (Vec<Rule>, Vec<String>) {
        let mut errors = Vec::new();
        let rules = rules_in(Path::new("rules.toml"), text, &mut errors);
        (rules, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn more_rules_than_a_router_takes_are_refused_before_it_starts() {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let mut paths = Vec::new();
        for (file, count) in [("first.toml", RULES_MAX), ("second.toml", 1)] {
            let path = directory.path().join(file);
            let rules: Vec<_> = (0..count).map(|rule| format!("[rule-{rule}]\nto_agent = \"one\"\n")).collect();
            std::fs::write(&path, rules.concat()).expect("it is written");
            paths.push(path.display().to_string());
        }
        let load = |paths: &[String]| {
            let files = Setting::read(&paths.join(",")).expect("they are paths");
            RulesConfig { files }.load()
        };
        assert_eq!(load(&paths[..1]).expect("that is the limit").len(), RULES_MAX);
        let refusal = load(&paths).expect_err("one too many").to_string();
        assert_eq!(refusal, "rules.files: 1025 rules in all: the limit is 1024");
    }

    #[test]
    fn rules_keep_their_order_and_their_conditions() {
        let (rules, errors) = read_text(RULES);
        assert_eq!(errors, Vec::<String>::new());
        let orders = Conditions {
            performative: Some(Performative::Request),
            ontology: Term::of("trading"),
            capability: Term::of("orders"),
            content_prefix: Some((*b"(order").into()),
            content_bytes_min: Some(1_024),
            ..Conditions::default()
        };
        let broker = Destination::Agent(AgentId::of_text("broker@example.org"));
        let desk = Destination::Capability(Term::of("help-desk").expect("a term"), Choice::LeastLoaded);
        let expected = [
            Rule { conditions: orders, destination: broker },
            Rule { conditions: Conditions::default(), destination: desk },
        ];
        assert_eq!(rules, expected);
        let (rules, _) = read_text("[own]\nperformative = \"X-Haggle\"\nto_capability = \"haggling\"");
        assert_eq!(rules[0].conditions.performative, "x-haggle".parse().ok());
        assert!(matches!(rules[0].destination, Destination::Capability(_, Choice::Any)));
    }

    #[test]
    fn each_mistake_is_reported_with_its_place_and_what_is_allowed() {
        for (from, to, expected) in [
            ("\"request\"", "\"reqest\"", "rules.toml:3:16: performative: performative \"reqest\" is not allowed"),
            ("\"trading\"", "\"\"", "rules.toml:4:12: ontology: ontology \"\" is not allowed: expected 1 to "),
            ("\"orders\"", "\"\"", "rules.toml:5:14: capability: "),
            ("content_prefix", "content_prefx", "unknown key content_prefx; did you mean content_prefix?"),
            ("\"(order\"", "3", "rules.toml:6:18: content_prefix is a number: expected text"),
            ("1_024", "\"1 KiB\"", "content_bytes_min is text: expected a number of bytes"),
            ("1_024", "-1", "content_bytes_min is a number: expected a number of bytes"),
            ("to_agent", "choice = \"any\"\nto_agent", "choice \"any\" is not allowed: expected a choice only with"),
            ("to_agent", "to_capability = \"x\"\nto_agent", "expected either to_agent or to_capability"),
            ("to_agent = \"broker@example.org\"", "", "rules.toml:2:2: to_agent or to_capability is missing"),
            ("\"broker@example.org\"", "\"\"", "rules.toml:8:12: to_agent: "),
            ("\"broker@example.org\"", "[]", "rules.toml:8:12: to_agent is a list: expected text"),
            (
                "\"least-loaded\"",
                "\"best\"",
                "choice \"best\" is not allowed: expected any, all, round-robin or least-",
            ),
        ] {
            let text = RULES.replacen(from, to, 1);
            let (rules, errors) = read_text(&text);
            assert_eq!(rules.len(), 1, "the other rule is sound: {text}");
            assert!(errors.len() == 1 && errors[0].contains(expected), "{expected}: {errors:?}");
        }
        assert!(read_text("orders = 3").1[0].contains("rule is a number: expected a table"));
        assert!(read_text("[orders").1[0].starts_with("rules.toml:1:"));
    }
}
