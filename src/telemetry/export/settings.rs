//! What an exporter needs to know, gathered from the configuration before the telemetry thread starts.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderMap;
use http::header::HeaderValue;
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::connection::Origin;
use super::files::FileSettings;
use super::http::{CollectorSettings, Target};
use super::queue::QueueLimits;
use super::resource::resource;
use super::sender::RETRY_DELAY;
use super::state::Signal;
use super::tls;
use crate::config::{Compression, Config, Endpoint, signal_endpoint_counts};

/// The settings of an [`Exporter`](super::Exporter).
pub(crate) struct ExportSettings {
    pub(super) collector: Option<CollectorSettings>,
    pub(super) files: Option<FileSettings>,
    pub(super) queue: QueueLimits,
    /// Delay before the second attempt.
    pub(super) retry_delay: Duration,
    /// Time between two exports of metrics.
    pub metric_interval: Duration,
    /// Describes this process in all telemetry.
    pub resource: Resource,
}

/// The export cannot be set up; nothing was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ExportSettingsError {
    /// The certificates for https cannot be loaded.
    #[error(
        "cannot load the certificates for an https endpoint from {}: {source}; otlp.certificate names a PEM file with them",
        path.as_ref().map_or_else(|| "the system".to_owned(), |path| path.display().to_string())
    )]
    Certificates {
        /// The configured file.
        path: Option<PathBuf>,
        /// What is wrong.
        source: io::Error,
    },
}

impl ExportSettings {
    /// Gathers the settings. This reads certificates if an endpoint needs them, and so may block.
    ///
    /// # Errors
    ///
    /// The certificates cannot be loaded.
    pub fn new(config: &Config) -> Result<Self, ExportSettingsError> {
        let otlp = &config.otlp;
        let targets = if otlp.enabled { targets(config) } else { Default::default() };
        let collector = if targets.iter().any(Option::is_some) {
            let secure = targets.iter().flatten().any(|target| target.origin.secure);
            let path = otlp.certificate.path();
            let tls = secure.then(|| tls::client_config(path)).transpose();
            let tls = tls.map_err(|source| ExportSettingsError::Certificates { path: path.map(Into::into), source })?;
            let mut headers = HeaderMap::new();
            otlp.headers.add_to(&mut headers);
            let gzip = otlp.compression == Compression::Gzip;
            Some(CollectorSettings { targets, headers, gzip, timeout: otlp.timeout_ms.as_duration(), tls })
        } else {
            None
        };
        let directory = otlp.directory.path().filter(|_| otlp.enabled);
        let files = directory.map(|directory| FileSettings {
            directory: directory.to_owned(),
            bytes: otlp.file_bytes.into_inner(),
            files_max: otlp.files_max.as_usize(),
        });
        let bytes = usize::try_from(otlp.queue_bytes.into_inner()).unwrap_or(usize::MAX);
        Ok(Self {
            collector,
            files,
            queue: QueueLimits { requests: otlp.queue_requests.as_usize(), bytes },
            retry_delay: RETRY_DELAY,
            metric_interval: otlp.interval_ms.as_duration(),
            resource: resource(otlp),
        })
    }

    /// Whether anything is exported.
    pub fn exports(&self) -> bool {
        self.collector.is_some() || self.files.is_some()
    }
}

/// Whether the settings send a signal to a collector, and whether they write it to files.
pub(crate) fn destinations_of(config: &Config, signal: Signal) -> [bool; 2] {
    let otlp = &config.otlp;
    let collector = otlp.enabled && targets(config)[signal as usize].is_some();
    [collector, otlp.enabled && otlp.directory.path().is_some()]
}

fn targets(config: &Config) -> [Option<Target>; Signal::COUNT] {
    Signal::ALL.map(|signal| {
        let (key, own) = match signal {
            Signal::Traces => ("otlp.traces_endpoint", &config.otlp.traces_endpoint),
            Signal::Metrics => ("otlp.metrics_endpoint", &config.otlp.metrics_endpoint),
            Signal::Logs => ("otlp.logs_endpoint", &config.otlp.logs_endpoint),
        };
        let own = target(own, None).filter(|_| signal_endpoint_counts(config, key));
        own.or_else(|| target(&config.otlp.endpoint, Some(signal)))
    })
}

/// Splits a URL; for a signal that has none of its own, the usual path is added.
fn target(endpoint: &Endpoint, added: Option<Signal>) -> Option<Target> {
    let uri = endpoint.uri()?;
    let secure = uri.scheme_str() == Some("https");
    let host = uri.host()?.trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let authority = HeaderValue::from_str(uri.authority()?.as_str()).ok()?;
    let path = match added {
        Some(signal) => format!("{}/v1/{}", uri.path().trim_end_matches('/'), signal.name()),
        None => uri.path().to_owned(),
    };
    Some(Target { origin: Origin { secure, host, port }, authority, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(variables: &[(&str, &str)]) -> [Option<String>; Signal::COUNT] {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let config = Config::load(None, None, variables).expect("all are legal");
        targets(&config).map(|target| target.map(|target| format!("{}{}", target.origin, target.path)))
    }

    #[test]
    fn each_signal_has_its_url() {
        let some = |urls: [&str; 3]| urls.map(|url| Some(url.to_owned()));
        assert_eq!(urls(&[]), [None, None, None]);
        assert_eq!(
            urls(&[("CAXTON_OTLP_ENDPOINT", "http://c/otlp/")]),
            some(["http://c:80/otlp/v1/traces", "http://c:80/otlp/v1/metrics", "http://c:80/otlp/v1/logs"])
        );
        let of_traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://[::1]:9/spans");
        assert_eq!(urls(&[of_traces]), [Some("http://[::1]:9/spans".to_owned()), None, None]);
        assert_eq!(
            urls(&[of_traces, ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c")]),
            some(["http://[::1]:9/spans", "https://c:443/v1/metrics", "https://c:443/v1/logs"])
        );
        assert_eq!(
            urls(&[of_traces, ("CAXTON_OTLP_ENDPOINT", "http://c:4318")])[0].as_deref(),
            Some("http://c:4318/v1/traces")
        );
    }

    #[test]
    fn nothing_is_exported_unless_it_is_asked_for() {
        let exports = |settings: &[(&str, &str)]| {
            let mut config = Config::default();
            for (key, value) in settings {
                config.set(key, value, "test").expect("it is legal");
            }
            ExportSettings::new(&config).expect("no certificates are needed").exports()
        };
        assert!(!exports(&[]));
        assert!(exports(&[("otlp.endpoint", "http://c")]) && exports(&[("otlp.directory", "/tmp/otlp")]));
        assert!(!exports(&[("otlp.endpoint", "http://c"), ("otlp.directory", "/d"), ("otlp.enabled", "false")]));
    }

    #[test]
    fn a_file_without_certificates_is_reported_with_its_name() {
        let mut config = Config::default();
        config.set("otlp.endpoint", "https://c", "test").expect("it is legal");
        config.set("otlp.certificate", "/dev/null", "test").expect("it is legal");
        let error = ExportSettings::new(&config).err().expect("there is no certificate").to_string();
        assert!(error.contains("from /dev/null: there is no certificate; otlp.certificate"), "{error}");
    }
}
