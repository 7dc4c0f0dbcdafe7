//! Reads files that define things of a kind, such as protocols, in one table each.

use std::ops::Range;

use caxton_shards::domain::DomainError;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::error::{ConfigError, Origin};
use super::file::{Source, in_order, kind};

pub(super) type Value<'i> = Spanned<DeValue<'i>>;
/// A text with its position.
pub(super) type Text = (String, Range<usize>);

/// Reads one table, and collects its errors.
pub(super) struct Reader<'a> {
    source: &'a Source<'a>,
    pub errors: Vec<ConfigError>,
}

impl<'a> Reader<'a> {
    pub fn new(source: &'a Source<'a>) -> Self {
        Self { source, errors: Vec::new() }
    }

    /// Returns the file being read.
    pub fn path(&self) -> String {
        self.source.path.display().to_string()
    }

    pub fn origin(&self, span: Range<usize>) -> Origin {
        self.source.origin(span)
    }

    pub fn refuse_value(&mut self, span: Range<usize>, key: &'static str, source: DomainError) {
        self.errors.push(ConfigError::BadValue { origin: self.origin(span), key, source });
    }

    pub fn refuse_missing(&mut self, span: &Range<usize>, key: &str) {
        let (origin, key) = (self.origin(span.clone()), key.to_owned());
        self.errors.push(ConfigError::Missing { origin, key });
    }

    pub fn required<'t, 'i>(
        &mut self,
        table: &'t DeTable<'i>,
        key: &str,
        span: &Range<usize>,
    ) -> Option<&'t Value<'i>> {
        let found = table.get(key);
        if found.is_none() {
            self.refuse_missing(span, key);
        }
        found
    }

    pub fn required_text(&mut self, table: &DeTable<'_>, key: &str, span: &Range<usize>) -> Option<Text> {
        let value = self.required(table, key, span)?;
        Some((self.text(value, key)?, value.span()))
    }

    pub fn optional_text(&mut self, table: &DeTable<'_>, key: &str) -> Option<Text> {
        let value = table.get(key)?;
        Some((self.text(value, key)?, value.span()))
    }

    fn text(&mut self, value: &Value<'_>, key: &str) -> Option<String> {
        match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            _ => self.wrong_kind(value, key, "text"),
        }
    }

    /// Returns an optional number of bytes.
    pub fn optional_bytes(&mut self, table: &DeTable<'_>, key: &str) -> Option<usize> {
        const ALLOWED: &str = "a number of bytes";
        let value = table.get(key)?;
        let DeValue::Integer(number) = value.get_ref() else { return self.wrong_kind(value, key, ALLOWED) };
        usize::from_str_radix(number.as_str(), number.radix()).ok().or_else(|| self.wrong_kind(value, key, ALLOWED))
    }

    pub fn list<'t, 'i>(&mut self, value: &'t Value<'i>, key: &str) -> Option<&'t DeArray<'i>> {
        match value.get_ref() {
            DeValue::Array(list) => Some(list),
            _ => self.wrong_kind(value, key, "a list"),
        }
    }

    /// Returns an optional list of texts.
    pub fn texts(&mut self, table: &DeTable<'_>, key: &str) -> Vec<Text> {
        let list = table.get(key).and_then(|value| self.list(value, key));
        let values = list.into_iter().flatten();
        values.filter_map(|value| Some((self.text(value, key)?, value.span()))).collect()
    }

    pub fn refuse_other_keys(&mut self, table: &DeTable<'_>, known: &[&str]) {
        for (key, _) in in_order(table) {
            if !known.contains(&key.get_ref().as_ref()) {
                let origin = self.origin(key.span());
                self.errors.push(ConfigError::unknown_key_among(origin, key.get_ref(), known));
            }
        }
    }

    pub fn wrong_kind<T>(&mut self, value: &Value<'_>, key: &str, allowed: &str) -> Option<T> {
        let (origin, key, allowed) = (self.origin(value.span()), key.to_owned(), allowed.to_owned());
        self.errors.push(ConfigError::WrongKind { origin, key, found: kind(value.get_ref()), allowed });
        None
    }
}
