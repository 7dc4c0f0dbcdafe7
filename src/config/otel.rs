//! The environment variables of OpenTelemetry that set keys of the section `otlp`.
//!
//! They are weaker than a file, a variable of the router or the program. An empty one counts as unset. Variables of
//! OpenTelemetry that are not in [`VARIABLES`] are for other programs and are skipped.

use caxton_shards::domain::DomainError;

use super::error::{ConfigError, Origin};
use super::{Assignment, Config, Target, keys};

/// The variables, each with the key that it sets.
const VARIABLES: [(&str, &str); 11] = [
    ("OTEL_EXPORTER_OTLP_CERTIFICATE", "otlp.certificate"),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "otlp.compression"),
    (ENDPOINT, "otlp.endpoint"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "otlp.headers"),
    ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "otlp.logs_endpoint"),
    ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "otlp.metrics_endpoint"),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "otlp.timeout_ms"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "otlp.traces_endpoint"),
    ("OTEL_METRIC_EXPORT_INTERVAL", "otlp.interval_ms"),
    ("OTEL_RESOURCE_ATTRIBUTES", "otlp.attributes"),
    ("OTEL_SERVICE_NAME", "otlp.service"),
];

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Switches the export off if it is `true`.
const DISABLED: &str = "OTEL_SDK_DISABLED";
/// The protocol that the endpoints in the other variables speak.
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
/// The only protocol that is spoken here.
const HTTP_PROTOBUF: &str = "http/protobuf";

/// Returns the assignments in the variables, in the order of the variables' names; adds mistakes to `errors`.
pub(super) fn assignments(environment: &[(String, String)], errors: &mut Vec<ConfigError>) -> Vec<Assignment> {
    let value = |variable: &str| {
        let found = environment.iter().find(|(name, _)| name == variable);
        found.map(|(_, text)| text.trim()).filter(|text| !text.is_empty())
    };
    let assign = |variable: &str, key: &str, text: &str| {
        let origin = Origin::Environment { variable: variable.to_owned() };
        keys::find(key).map(|index| Assignment { target: Target::Key(index), text: text.to_owned(), origin })
    };
    let mut assignments: Vec<_> =
        VARIABLES.iter().filter_map(|(variable, key)| assign(variable, key, value(variable)?)).collect();

    match value(DISABLED) {
        // In OpenTelemetry's own words every other value means false; a mistake would then go unnoticed.
        Some(text) if text.eq_ignore_ascii_case("true") => {
            assignments.extend(assign(DISABLED, "otlp.enabled", "false"));
        }
        Some(text) if !text.eq_ignore_ascii_case("false") => {
            errors.push(refused(DISABLED, "otlp.enabled", DomainError::not_allowed("switch", text, "true or false")));
        }
        _ => {}
    }
    if let Some(protocol) = value(PROTOCOL)
        && protocol != HTTP_PROTOBUF
        && value(ENDPOINT).is_some()
    {
        let allowed = format!("{HTTP_PROTOBUF} with the port for it in {ENDPOINT}, usually 4318");
        errors.push(refused(PROTOCOL, "otlp.endpoint", DomainError::not_allowed("protocol", protocol, allowed)));
    }
    assignments
}

fn refused(variable: &str, key: &'static str, source: DomainError) -> ConfigError {
    ConfigError::BadValue { origin: Origin::Environment { variable: variable.to_owned() }, key, source }
}

/// Whether a key has its value from a variable of OpenTelemetry, or from none but the preset.
fn is_weak(config: &Config, key: &str) -> bool {
    match config.origin(key) {
        Some(Origin::Environment { variable }) => VARIABLES.iter().any(|(known, _)| *known == variable),
        Some(Origin::Default | Origin::Preset(_)) | None => true,
        Some(Origin::File(_) | Origin::Program { .. }) => false,
    }
}

/// Whether the key with one signal's endpoint counts. An endpoint for all signals that was set on purpose is stronger
/// than a variable of OpenTelemetry for one of them.
pub(crate) fn counts(config: &Config, key: &str) -> bool {
    !is_weak(config, key) || is_weak(config, "otlp.endpoint")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Compression;

    fn load(variables: &[(&str, &str)]) -> Result<Config, String> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load(None, None, variables).map_err(|errors| errors.to_string())
    }

    #[test]
    fn every_variable_sets_its_key() {
        let values = [
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem", "\"/ca.pem\""),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "none", "\"none\""),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318", "\"http://a:4318/\""),
            ("OTEL_EXPORTER_OTLP_HEADERS", "k=hush", "\"k=<hidden>\""),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://l/x", "\"http://l/x\""),
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m/x", "\"http://m/x\""),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "700", "700"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t/x", "\"http://t/x\""),
            ("OTEL_METRIC_EXPORT_INTERVAL", "5000", "5000"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=b", "\"a=b\""),
            ("OTEL_SERVICE_NAME", "north", "\"north\""),
        ];
        let variables: Vec<_> = values.iter().map(|(variable, text, _)| (*variable, *text)).collect();
        let config = load(&variables).expect("all are legal");
        for ((variable, key), (_, _, shown)) in VARIABLES.iter().zip(values) {
            let value = config.values().find(|value| value.key == *key).expect("the key is there");
            assert_eq!(value.shown, shown, "{variable}");
            assert_eq!(value.origin, Origin::Environment { variable: (*variable).to_owned() });
        }
        assert!(!config.to_toml().contains("hush") && !format!("{config:?}").contains("hush"));
        assert!(config.otlp.enabled && !load(&[(DISABLED, "TRUE")]).expect("it is legal").otlp.enabled);
        let unset =
            load(&[(ENDPOINT, " "), (DISABLED, "false"), ("OTEL_TRACES_EXPORTER", "zipkin"), (PROTOCOL, "grpc")]);
        assert_eq!(unset.map(|config| config.otlp), Ok(Config::default().otlp));
    }

    #[test]
    fn a_setting_of_the_routers_own_is_stronger() {
        let variables = [
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t/x"),
            ("CAXTON_OTLP_COMPRESSION", "gzip"),
        ];
        let mut config = load(&variables).expect("all are legal");
        assert_eq!(config.otlp.compression, Compression::Gzip);
        assert!(counts(&config, "otlp.traces_endpoint"));
        config.set("otlp.endpoint", "http://a", "--set").expect("it is legal");
        assert!(!counts(&config, "otlp.traces_endpoint"));
        config.set("otlp.traces_endpoint", "http://t", "--set").expect("it is legal");
        assert!(counts(&config, "otlp.traces_endpoint"));
    }

    #[test]
    fn mistakes_are_reported_with_what_is_allowed() {
        for (variables, expected) in [
            (
                vec![("OTEL_EXPORTER_OTLP_TIMEOUT", "0")],
                "environment variable OTEL_EXPORTER_OTLP_TIMEOUT: otlp.timeout_ms: export timeout 0 is out of range: \
                 expected 1 to 600000 milliseconds",
            ),
            (
                vec![(DISABLED, "yes")],
                "environment variable OTEL_SDK_DISABLED: otlp.enabled: switch \"yes\" is not allowed: expected true or false",
            ),
            (
                vec![(ENDPOINT, "http://a:4317"), (PROTOCOL, "grpc")],
                "environment variable OTEL_EXPORTER_OTLP_PROTOCOL: otlp.endpoint: protocol \"grpc\" is not allowed: expected \
                 http/protobuf with the port for it in OTEL_EXPORTER_OTLP_ENDPOINT, usually 4318",
            ),
        ] {
            assert_eq!(load(&variables), Err(expected.to_owned()));
        }
    }
}
