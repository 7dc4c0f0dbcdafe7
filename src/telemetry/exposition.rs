//! The metrics as text for Prometheus: `OpenMetrics` 1.0, or its older form.

use std::fmt;

use hdrhistogram::Histogram;
use hdrhistogram::iterators::IterationValue;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::{Registry, Unit};

use crate::telemetry::figures::Figures;
use crate::telemetry::metric::{Audience, Kind, Metric, Number, Read};
use crate::telemetry::metrics::METRICS;

/// The upper bounds of the buckets of a latency in a scrape, in seconds; another bucket has what is longer.
pub(crate) const BOUNDS_SECONDS: [f64; 22] = [
    1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5,
    1.0, 5.0, 30.0, 300.0,
];
pub(crate) const NS_PER_SECOND: f64 = 1e9;

/// A form of the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TextForm {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// The text of Prometheus, version 0.0.4.
    Prometheus,
}

impl TextForm {
    /// Returns its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Returns the metrics of an audience as text.
pub(crate) fn expose(figures: Figures, audience: Audience, form: TextForm) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { figures, audience }));
    let mut out = String::with_capacity(32 << 10);
    let written = match form {
        TextForm::OpenMetrics => text::encode(&mut out, &registry),
        TextForm::Prometheus => prometheus_text::encode(&mut out, &registry),
    };
    written.expect("writing to a string does not fail");
    out
}

/// One scrape, read from the figures of its moment.
#[derive(Debug)]
struct Scrape {
    figures: Figures,
    audience: Audience,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for metric in METRICS.iter().filter(|metric| metric.audience == self.audience) {
            self.encode_metric(metric, &mut encoder)?;
        }
        Ok(())
    }
}

impl Scrape {
    fn encode_metric(&self, metric: &Metric, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let name = metric.name.replace('.', "_");
        let unit = metric.prometheus_unit().map(|unit| Unit::Other(unit.to_owned()));
        let metric_type = match metric.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        let points = metric.points(&self.figures);
        if points.is_empty() && metric.kind != Kind::Histogram {
            return Ok(());
        }
        let mut family = encoder.encode_descriptor(&name, metric.help, unit.as_ref(), metric_type)?;
        if let Read::Latency(latency) = metric.read {
            let histogram = self.figures.latencies.of(latency);
            let buckets: Vec<(f64, u64)> =
                BOUNDS_SECONDS.into_iter().chain([f64::INFINITY]).zip(bucket_counts(histogram)).collect();
            let sum = sum_seconds(histogram);
            return family.encode_histogram::<NoLabelSet>(sum, histogram.len(), &buckets, None);
        }
        for point in points {
            let labels: Vec<(&str, &str)> = point.labels.iter().map(|(name, text)| (*name, text.as_ref())).collect();
            if labels.is_empty() {
                encode_number(&mut family, metric.kind, point.value)?;
            } else {
                encode_number(&mut family.encode_family(&labels)?, metric.kind, point.value)?;
            }
        }
        Ok(())
    }
}

fn encode_number(series: &mut MetricEncoder<'_>, kind: Kind, value: Number) -> Result<(), fmt::Error> {
    let none: Option<&Exemplar<NoLabelSet, f64>> = None;
    match (kind, value) {
        (Kind::Counter, Number::Integer(value)) => series.encode_counter(&value, none),
        (Kind::Counter, Number::Real(value)) => series.encode_counter(&value, none),
        (_, Number::Integer(value)) => series.encode_gauge(&value),
        (_, Number::Real(value)) => series.encode_gauge(&value),
    }
}

/// Returns the number of latencies in each bucket; their sum is the length of the histogram.
pub(crate) fn bucket_counts(histogram: &Histogram<u64>) -> [u64; BOUNDS_SECONDS.len() + 1] {
    let mut counts = [0; BOUNDS_SECONDS.len() + 1];
    for recorded in histogram.iter_recorded() {
        let seconds = histogram.median_equivalent(recorded.value_iterated_to()) as f64 / NS_PER_SECOND;
        counts[BOUNDS_SECONDS.partition_point(|bound| *bound < seconds)] += recorded.count_at_value();
    }
    counts
}

/// Returns the sum of the latencies, within the precision of the histogram.
pub(crate) fn sum_seconds(histogram: &Histogram<u64>) -> f64 {
    let product = |value: u64, count: u64| histogram.median_equivalent(value) as f64 * count as f64;
    // Not `sum`, which is -0 without terms.
    let add =
        |sum, recorded: IterationValue<u64>| sum + product(recorded.value_iterated_to(), recorded.count_at_value());
    histogram.iter_recorded().fold(0.0, add) / NS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_without_counts_has_a_plain_zero_as_its_sum() {
        let sum = sum_seconds(&crate::telemetry::latency::Latencies::empty());
        assert_eq!(sum.to_string(), "0");
    }

    use crate::telemetry::latency::{Latencies, Latency};

    #[test]
    fn no_latency_is_lost_between_the_buckets() {
        let mut latencies = Latencies::new();
        for place in 0..10_000_u64 {
            latencies.record(Latency::Handler, place.pow(3));
        }
        latencies.record(Latency::Handler, u64::MAX);
        let histogram = latencies.of(Latency::Handler);
        let counts = bucket_counts(histogram);
        assert_eq!(counts.iter().sum::<u64>(), 10_001);
        // Those above 300 s, within the precision of the histogram.
        assert!(counts[BOUNDS_SECONDS.len()].abs_diff(10_000 - 6_694 + 1) < 30, "{counts:?}");
        let exact: f64 = (0..10_000_u64).map(|place| place.pow(3) as f64).sum::<f64>() / NS_PER_SECOND + 3_600.0;
        assert!((sum_seconds(histogram) / exact - 1.0).abs() < 0.01, "{} {exact}", sum_seconds(histogram));
    }
}
