//! The environment variables that set keys: `CAXTON_` with the section and the name of the key in capitals.
//!
//! Every other variable with that prefix is refused with the nearest key as a suggestion, unless an orchestrator set it
//! for a service or a linked container whose own name begins with `caxton`. Those are recognised by their suffix and
//! value; what precedes the suffix is the service's name:
//!
//! | suffix | value | set by |
//! |---|---|---|
//! | `_SERVICE_HOST` | an address | Kubernetes |
//! | `_SERVICE_PORT`, `_SERVICE_PORT_NAME` | a number up to 65535 | Kubernetes |
//! | `_PORT` | a URL that begins with `tcp://`, `udp://` or `sctp://` | Kubernetes, Docker |
//! | `_PORT_80_TCP` | such a URL | Kubernetes, Docker |
//! | `_PORT_80_TCP_PROTO`, `_PORT`, `_ADDR` | `tcp`, `udp` or `sctp`; a number; an address | Kubernetes, Docker |
//! | `_NAME` | a path such as `/web/caxton` | Docker |
//! | `_ENV_` and a variable of the other container | anything | Docker |
//!
//! No key of the router has a variable with such a suffix.

use super::error::{ConfigError, Origin};
use super::keys::KEYS;
use super::{Assignment, PRESET_KEY, Target};

/// The prefix of the router's variables.
pub(super) const PREFIX: &str = "CAXTON_";
/// The prefix of OpenTelemetry's variables. Those that the router does not know are for others.
const OTEL_PREFIX: &str = "OTEL_";
/// Protocols of a service's port.
const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

/// Returns the variables of this process that belong to the router, or to OpenTelemetry.
///
/// Bytes that are not UTF-8 are replaced, so that they are refused as a bad value instead of being ignored.
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .filter(|(name, _)| name.starts_with(PREFIX) || name.starts_with(OTEL_PREFIX))
}

/// Returns the assignments in the variables, ordered by name, so that the same environment always gives the same
/// errors.
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
            None if is_service_link(&variable, &text) => {}
            None => errors.push(ConfigError::unknown_variable(&variable)),
        }
    }
    assignments
}

/// Returns the variable that chooses the preset.
pub(super) fn preset_variable() -> String {
    format!("{PREFIX}{}", PRESET_KEY.to_uppercase())
}

fn target(variable: &str) -> Option<Target> {
    if variable == preset_variable() {
        return Some(Target::Preset);
    }
    KEYS.iter().position(|key| key.variable() == variable).map(Target::Key)
}

/// Whether an orchestrator set this variable for a service or a container: see the module's documentation.
fn is_service_link(variable: &str, value: &str) -> bool {
    // In `CAXTON_PORT` the service's name is CAXTON.
    let Some(ending) = variable.strip_prefix(PREFIX.trim_end_matches('_')) else { return false };
    if ending.ends_with("_SERVICE_HOST") {
        return is_address(value);
    }
    if ending.ends_with("_SERVICE_PORT") || ending.contains("_SERVICE_PORT_") {
        return is_port(value);
    }
    if ending.ends_with("_PORT") && is_url(value) {
        return true;
    }
    if let Some((_, port)) = ending.rsplit_once("_PORT_") {
        return is_part_of_port(port, value);
    }
    let is_path = value.strip_prefix('/').is_some_and(|path| path.contains('/'));
    ending.contains("_ENV_") || (ending.ends_with("_NAME") && is_path && target(variable).is_none())
}

/// Whether this is `80_TCP` or a variant of it, with a fitting value.
fn is_part_of_port(port: &str, value: &str) -> bool {
    let words: Vec<&str> = port.split('_').collect();
    let [number, protocol, rest @ ..] = words.as_slice() else { return false };
    let is_protocol = |word: &str| PROTOCOLS.iter().any(|protocol| protocol.eq_ignore_ascii_case(word));
    is_port(number)
        && is_protocol(protocol)
        && match rest {
            [] => is_url(value),
            ["PROTO"] => is_protocol(value),
            ["PORT"] => is_port(value),
            ["ADDR"] => is_address(value),
            _ => false,
        }
}

fn is_url(value: &str) -> bool {
    value.split_once("://").is_some_and(|(protocol, address)| PROTOCOLS.contains(&protocol) && is_address(address))
}

fn is_port(value: &str) -> bool {
    value.parse::<u16>().is_ok()
}

/// Whether this is an IPv4 or IPv6 address, or a name, with or without a port.
fn is_address(value: &str) -> bool {
    !value.is_empty() && value.chars().all(|character| character.is_ascii_alphanumeric() || ".:-[]".contains(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (usize, Vec<String>) {
        let mut errors = Vec::new();
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let assignments = assignments(variables, &mut errors);
        (assignments.len(), errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_orchestrators_set_for_a_service_of_that_name_is_passed_over() {
        for service in ["CAXTON", "CAXTON_ROUTER", "CAXTON_MAILBOX_MESSAGES", "CAXTON_1"] {
            for (ending, value) in [
                ("SERVICE_HOST", "10.0.0.1"),
                ("SERVICE_HOST", "fd00::1"),
                ("SERVICE_PORT", "80"),
                ("SERVICE_PORT_HTTP_ADMIN", "8080"),
                ("PORT", "tcp://10.0.0.1:80"),
                ("PORT", "udp://[fd00::1]:53"),
                ("PORT_80_TCP", "tcp://10.0.0.1:80"),
                ("PORT_80_TCP_PROTO", "tcp"),
                ("PORT_80_TCP_PORT", "80"),
                ("PORT_80_TCP_ADDR", "10.0.0.1"),
                ("PORT_38412_SCTP_ADDR", "10.0.0.1"),
                ("NAME", "/web/caxton"),
                ("ENV_PATH", "/usr/bin"),
            ] {
                let variable = format!("{service}_{ending}");
                assert_eq!(read(&[(&variable, value)]), (0, Vec::new()), "{variable}={value}");
            }
        }
    }

    #[test]
    fn mistakes_are_refused_also_where_they_look_like_such_variables() {
        for (variable, value) in [
            ("CAXTON_PORT", "8080"),
            ("CAXTON_PORT", "http://10.0.0.1"),
            ("CAXTON_SERVICE_PORT", "many"),
            ("CAXTON_SERVICE_HOST", ""),
            ("CAXTON_PORT_80_TCP", "80"),
            ("CAXTON_PORT_HTTP", "tcp://10.0.0.1:80"),
            ("CAXTON_NAME", "caxton"),
            ("CAXTON_MAILBOX_MESAGES", "5"),
            ("CAXTON_ROUTER_SHARD", "2"),
            ("CAXTONPORT_", "tcp://10.0.0.1:80"),
        ] {
            let (assignments, errors) = read(&[(variable, value)]);
            assert_eq!(assignments, 0, "{variable}");
            assert_eq!(errors.len(), usize::from(variable.starts_with(PREFIX)), "{variable}={value}: {errors:?}");
        }
    }

    #[test]
    fn no_key_is_taken_for_a_service() {
        for key in KEYS.iter() {
            let variable = key.variable();
            for value in ["80", "10.0.0.1", "tcp://10.0.0.1:80", "/web/caxton", "tcp"] {
                assert!(!is_service_link(&variable, value), "{variable}={value}");
            }
        }
    }
}
