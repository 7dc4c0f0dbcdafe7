//! The environment variables that set keys: `CAXTON_` with the section and the name of the key in capitals.

use super::error::{ConfigError, Origin};
use super::keys::KEYS;
use super::{Assignment, PRESET_KEY, Target};

/// How every variable of the router begins.
pub(super) const PREFIX: &str = "CAXTON_";

/// The variables of this process that belong to the router.
///
/// Bytes that are not UTF-8 are replaced, so that they are refused as a bad value instead of being passed over.
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .filter(|(name, _)| name.starts_with(PREFIX))
}

/// What the variables say, in the order of their names, so that the same environment always gives the same errors.
pub(super) fn assignments(
    environment: impl IntoIterator<Item = (String, String)>,
    errors: &mut Vec<ConfigError>,
) -> Vec<Assignment> {
    let mut variables: Vec<_> = environment.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    variables.sort();
    let mut assignments = Vec::with_capacity(variables.len());
    for (variable, text) in variables {
        match target(&variable) {
            Some(target) => assignments.push(Assignment { target, text, origin: Origin::Environment { variable } }),
            None => errors.push(ConfigError::unknown_variable(&variable)),
        }
    }
    assignments
}

/// The variable that chooses the preset.
pub(super) fn preset_variable() -> String {
    format!("{PREFIX}{}", PRESET_KEY.to_uppercase())
}

fn target(variable: &str) -> Option<Target> {
    if variable == preset_variable() {
        return Some(Target::Preset);
    }
    KEYS.iter().position(|key| key.variable() == variable).map(Target::Key)
}
