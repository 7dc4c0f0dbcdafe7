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
/// The protocol that the endpoints in the other variables speak, unless that of their signal says otherwise.
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
/// The variables with the protocols of single signals, each with the key of the signal's endpoint.
const SIGNAL_PROTOCOLS: [(&str, &str); 3] = [
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "otlp.traces_endpoint"),
    ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "otlp.metrics_endpoint"),
    ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "otlp.logs_endpoint"),
];
/// The only protocol that is spoken here.
const HTTP_PROTOBUF: &str = "http/protobuf";

/// The protocols that the environment names. They are checked when it is known which endpoints count.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Protocols {
    general: Option<String>,
    /// By signal.
    own: [Option<String>; SIGNAL_PROTOCOLS.len()],
}

impl Protocols {
    pub fn of(environment: &[(String, String)]) -> Self {
        let read = |variable| value(environment, variable).map(str::to_owned);
        Self { general: read(PROTOCOL), own: SIGNAL_PROTOCOLS.map(|(variable, _)| read(variable)) }
    }
}

/// Returns the mistakes in the protocols: where one that is not spoken here is named for an endpoint that something is
/// sent to. Endpoints in the router's own settings speak the protocol that is spoken here.
pub(super) fn check_protocols(config: &Config, protocols: &Protocols) -> Vec<ConfigError> {
    let otlp = &config.otlp;
    let mut errors: Vec<ConfigError> = Vec::new();
    let endpoints = [&otlp.traces_endpoint, &otlp.metrics_endpoint, &otlp.logs_endpoint];
    for (((variable, key), endpoint), own) in SIGNAL_PROTOCOLS.into_iter().zip(endpoints).zip(&protocols.own) {
        let named = own.as_ref().map(|protocol| (variable, protocol));
        let named = named.or_else(|| protocols.general.as_ref().map(|protocol| (PROTOCOL, protocol)));
        let Some((variable, protocol)) = named.filter(|(_, protocol)| *protocol != HTTP_PROTOBUF) else { continue };
        let used = if endpoint.uri().is_some() && counts(config, key) { key } else { "otlp.endpoint" };
        let Some(Origin::Environment { variable: of_endpoint }) = config.origin(used) else { continue };
        if !otlp.enabled || !VARIABLES.iter().any(|(known, _)| *known == of_endpoint) {
            continue;
        }
        let allowed = format!("{HTTP_PROTOBUF} with the port for it in {of_endpoint}, usually 4318");
        let error = refused(variable, used, DomainError::not_allowed("protocol", protocol, allowed));
        // One for all signals is reported once.
        if !errors.iter().any(|known| known.to_string() == error.to_string()) {
            errors.push(error);
        }
    }
    errors
}

/// Returns the value of a variable that is set.
fn value<'a>(environment: &'a [(String, String)], variable: &str) -> Option<&'a str> {
    let found = environment.iter().find(|(name, _)| name == variable);
    found.map(|(_, text)| text.trim()).filter(|text| !text.is_empty())
}

/// Returns the assignments in the variables, in the order of the variables' names; adds mistakes to `errors`.
pub(super) fn assignments(environment: &[(String, String)], errors: &mut Vec<ConfigError>) -> Vec<Assignment> {
    let value = |variable| value(environment, variable);
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
        ] {
            assert_eq!(load(&variables), Err(expected.to_owned()));
        }
    }

    /// Returns what is wrong with the protocols in these variables, with these settings of the program.
    fn protocol_errors(variables: &[(&str, &str)], settings: &[(&str, &str)]) -> Vec<String> {
        let mut config = load(variables).expect("protocols are checked later");
        for (key, value) in settings {
            config.set(key, value, "--set").expect("it is legal");
        }
        config.export_errors().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_protocol_that_is_not_spoken_is_refused_where_it_matters() {
        const TRACES: (&str, &str) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:4317/v1/traces");
        const TRACES_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL";
        let (general, grpc) = ((ENDPOINT, "http://a:4317"), (PROTOCOL, "grpc"));
        assert_eq!(
            protocol_errors(&[general, grpc], &[]),
            [
                "environment variable OTEL_EXPORTER_OTLP_PROTOCOL: otlp.endpoint: protocol \"grpc\" is not allowed: expected \
              http/protobuf with the port for it in OTEL_EXPORTER_OTLP_ENDPOINT, usually 4318"
            ]
        );
        assert_eq!(
            protocol_errors(&[general, (TRACES_PROTOCOL, "http/json"), TRACES], &[]),
            [
                "environment variable OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: otlp.traces_endpoint: protocol \"http/json\" is not \
              allowed: expected http/protobuf with the port for it in OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, usually 4318"
            ]
        );
        // A signal's own protocol is named beside the one for the others.
        let errors = protocol_errors(&[general, grpc, (TRACES_PROTOCOL, HTTP_PROTOBUF)], &[]);
        assert_eq!(errors.len(), 1, "{errors:?}");
        let errors = protocol_errors(&[general, grpc, (TRACES_PROTOCOL, "http/json")], &[]);
        assert_eq!(errors.len(), 2, "{errors:?}");
    }

    #[test]
    fn a_protocol_does_not_matter_where_nothing_is_sent_to_its_endpoint() {
        let (general, grpc) = ((ENDPOINT, "http://a:4317"), (PROTOCOL, "grpc"));
        let all = SIGNAL_PROTOCOLS.map(|(variable, _)| (variable, HTTP_PROTOBUF));
        let no_errors = |variables: &[_], settings: &[_]| {
            assert_eq!(protocol_errors(variables, settings), [""; 0], "{variables:?} {settings:?}");
        };
        no_errors(&[grpc, ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "grpc")], &[]);
        no_errors(&[general, grpc, (DISABLED, "true")], &[]);
        no_errors(&[general, grpc], &[("otlp.enabled", "false")]);
        no_errors(&[general, grpc], &[("otlp.endpoint", "http://b:4318")]);
        no_errors(&[general, grpc, ("CAXTON_OTLP_ENDPOINT", "http://b:4318")], &[]);
        no_errors(&[general, grpc, all[0], all[1], all[2]], &[]);
        // The endpoint in the settings takes precedence over that of the signal.
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:4317");
        no_errors(&[traces, ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")], &[("otlp.endpoint", "http://b:4318")]);
    }
}
