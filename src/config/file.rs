//! The TOML file: its keys, values and their positions.

use super::error::{ConfigError, Origin, Place, is_section, names_in, printable};
use super::{Assignment, PRESET_KEY, Target, keys};
use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Maximum size of a configuration file, in bytes. All keys with comments need a few kilobytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads the file, up to its limit.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    // Reading one byte more than allowed distinguishes a full file from one that is too large.
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned(), bytes_max: FILE_BYTES_MAX });
    }
    Ok(text)
}

/// Returns the assignments in the file, in order of appearance; adds its errors to `errors`.
pub(super) fn assignments(path: &Path, text: &str, errors: &mut Vec<ConfigError>) -> Vec<Assignment> {
    let source = Source { path, text };
    let Some(root) = source.root(errors) else { return Vec::new() };
    let mut assignments = Vec::new();
    let mut add = |result: Result<Assignment, ConfigError>| match result {
        Ok(assignment) => assignments.push(assignment),
        Err(error) => errors.push(error),
    };
    for (key, value) in in_order(&root) {
        match (key.get_ref().as_ref(), value.get_ref()) {
            (PRESET_KEY, _) => add(source.assignment(Target::Preset, PRESET_KEY, value)),
            (section, DeValue::Table(table)) if is_section(section) => {
                for (name, value) in in_order(table) {
                    let path = format!("{section}.{}", name.get_ref());
                    add(match keys::find(&path) {
                        Some(index) => source.assignment(Target::Key(index), &path, value),
                        None => Err(ConfigError::unknown_key(source.origin(name.span()), &path)),
                    });
                }
            }
            (section, other) if is_section(section) => add(Err(ConfigError::WrongKind {
                origin: source.origin(value.span()),
                key: section.to_owned(),
                found: kind(other),
                allowed: format!("a section [{section}] with {}", names_in(section)),
            })),
            (unknown, _) => add(Err(ConfigError::unknown_section(source.origin(key.span()), unknown))),
        }
    }
    assignments
}

/// A file being read.
pub(super) struct Source<'a> {
    pub path: &'a Path,
    pub text: &'a str,
}

impl<'a> Source<'a> {
    /// Returns the file's tables; adds syntax errors to `errors`.
    pub fn root(&self, errors: &mut Vec<ConfigError>) -> Option<DeTable<'a>> {
        match DeTable::parse(self.text) {
            Ok(root) => Some(root.into_inner()),
            Err(error) => {
                let origin = self.origin(error.span().unwrap_or(0..0));
                let message = error.message().lines().collect::<Vec<_>>().join(", ");
                errors.push(ConfigError::Syntax { origin, message });
                None
            }
        }
    }

    fn assignment(&self, target: Target, key: &str, value: &Spanned<DeValue<'_>>) -> Result<Assignment, ConfigError> {
        let origin = self.origin(value.span());
        match text_of(value.get_ref()) {
            Some(text) => Ok(Assignment { target, text, origin }),
            None => Err(ConfigError::WrongKind {
                origin,
                key: printable(key),
                found: kind(value.get_ref()),
                allowed: "a number or text".to_owned(),
            }),
        }
    }

    pub fn origin(&self, span: Range<usize>) -> Origin {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
        Origin::File(Place { path: self.path.to_owned(), line: from_one(line), column: from_one(column) })
    }
}

/// Converts an index to a number counted from 1, as in editors. No file is long enough to overflow: see
/// [`FILE_BYTES_MAX`].
fn from_one(index: usize) -> u32 {
    u32::try_from(index).map_or(u32::MAX, |index| index.saturating_add(1))
}

/// Returns the entries in file order: a table's own order is that of the names.
pub(super) fn in_order<'t, 'i>(
    table: &'t DeTable<'i>,
) -> Vec<(&'t Spanned<std::borrow::Cow<'i, str>>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// Returns the value as text, as the environment would give it, or `None` for a type that no key accepts.
fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        // A number too large even here is passed on in its own digits, and refused as out of range.
        DeValue::Integer(number) => Some(
            i128::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| number.as_str().to_owned(), |number| number.to_string()),
        ),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> (Vec<Assignment>, Vec<String>) {
        let mut errors = Vec::new();
        let assignments = assignments(Path::new("caxton.toml"), text, &mut errors);
        (assignments, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn values_of_every_notation_become_text() {
        for (line, text) in [
            ("mailbox.messages = 1_000", "1000"),
            ("mailbox.messages = 0x10", "16"),
            ("mailbox.messages = +7", "7"),
            ("mailbox.messages = -7", "-7"),
            ("mailbox.messages = 99999999999999999999", "99999999999999999999"),
            ("mailbox.bytes = '16 MiB'", "16 MiB"),
            ("retry.factor = 1.5", "1.5"),
            ("management.enabled = false", "false"),
            ("mailbox = { messages = 3 }", "3"),
        ] {
            let (assignments, errors) = read_text(line);
            assert_eq!(errors, Vec::<String>::new(), "{line}");
            assert_eq!(assignments[0].text, text, "{line}");
        }
    }

    #[test]
    fn every_mistake_is_reported_with_its_place() {
        let (assignments, mut errors) =
            read_text("prest = 'testing'\nretry = 3\n\n[mailbox]\nmesages = 5\n  bytes = [1]\n[imap]\nport = 1\n");
        assert!(assignments.is_empty());
        let unknown = errors.pop().expect("every mistake is reported");
        assert!(
            unknown.starts_with("caxton.toml:7:2: unknown key imap; the sections are router, channel, "),
            "{unknown}"
        );
        assert!(unknown.ends_with(", drive, shutdown"), "{unknown}");
        assert_eq!(
            errors,
            [
                "caxton.toml:1:1: unknown key prest; did you mean preset?",
                "caxton.toml:2:9: retry is a number: expected a section [retry] with attempts, delay_ms, factor, \
                 jitter",
                "caxton.toml:5:1: unknown key mailbox.mesages; did you mean mailbox.messages?",
                "caxton.toml:6:11: mailbox.bytes is a list: expected a number or text",
            ]
        );
    }

    #[test]
    fn broken_toml_is_reported_with_its_place() {
        let (_, errors) = read_text("[mailbox]\nmessages = \n");
        assert_eq!(errors.len(), 1);
        assert!(errors[0].starts_with("caxton.toml:2:"), "{}", errors[0]);
        assert!(!errors[0].contains('\n'), "{}", errors[0]);
    }
}
