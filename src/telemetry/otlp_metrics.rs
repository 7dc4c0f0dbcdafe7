//! The metrics as a request of the OpenTelemetry protocol. Sums are cumulative; latencies are exponential histograms,
//! in which no count is lost.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Metric as OtlpMetric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use crate::telemetry::conventions;
use crate::telemetry::exemplars::Exemplars;
use crate::telemetry::exposition::{NS_PER_SECOND, sum_seconds};
use crate::telemetry::figures::Figures;
use crate::telemetry::metric::{Kind, Metric, Number, Point, Read};
use crate::telemetry::metrics::METRICS;
use crate::telemetry::otlp::{attribute, scope};

/// Each power of two has two to the power of this many buckets: their width is 9 %.
const SCALE: i32 = 3;
/// Conversions of labels whose names in Prometheus differ from the attributes of the conventions.
const ATTRIBUTES: [(&str, &str); 1] = [("mode", conventions::CPU_MODE)];

/// Times of a request, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// When counting began: the start of the router.
    pub start_ns: u64,
    /// When the figures were gathered.
    pub now_ns: u64,
}

/// Returns the request with all metrics. Latencies take their exemplars.
pub(crate) fn otlp(
    figures: &Figures,
    times: Times,
    resource: Resource,
    mut exemplars: Option<&mut Exemplars>,
) -> ExportMetricsServiceRequest {
    let encode = |metric| encode(metric, figures, times, exemplars.as_deref_mut());
    let metrics = METRICS.iter().filter_map(encode).collect();
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope()), metrics, schema_url: String::new() }];
    let resource_metrics = ResourceMetrics { resource: Some(resource), scope_metrics, schema_url: String::new() };
    ExportMetricsServiceRequest { resource_metrics: vec![resource_metrics] }
}

/// Returns a metric with its points; none if it has no points.
fn encode(metric: &Metric, figures: &Figures, times: Times, exemplars: Option<&mut Exemplars>) -> Option<OtlpMetric> {
    let data = if let Read::Latency(latency) = metric.read {
        let mut point = exponential(figures.latencies.of(latency), times);
        point.exemplars = exemplars.map(|exemplars| exemplars.drain(latency)).unwrap_or_default();
        let aggregation_temporality = AggregationTemporality::Cumulative.into();
        metric::Data::ExponentialHistogram(ExponentialHistogram { data_points: vec![point], aggregation_temporality })
    } else {
        let points = metric.points(figures);
        let data_points: Vec<_> = points.into_iter().map(|point| number(point, times)).collect();
        if data_points.is_empty() {
            return None;
        }
        match metric.kind {
            Kind::Counter => metric::Data::Sum(Sum {
                data_points,
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
                is_monotonic: true,
            }),
            _ => metric::Data::Gauge(Gauge { data_points }),
        }
    };
    Some(OtlpMetric {
        name: metric.name.to_owned(),
        description: metric.help.to_owned(),
        unit: metric.unit.to_owned(),
        data: Some(data),
        ..OtlpMetric::default()
    })
}

fn number(point: Point, times: Times) -> NumberDataPoint {
    let value = match point.value {
        Number::Integer(value) => number_data_point::Value::AsInt(i64::try_from(value).unwrap_or(i64::MAX)),
        Number::Real(value) => number_data_point::Value::AsDouble(value),
    };
    let named = |name| ATTRIBUTES.iter().find(|(label, _)| *label == name).map_or(name, |(_, attribute)| *attribute);
    let text = any_value::Value::StringValue;
    let attributes = point.labels.into_iter().map(|(name, label)| attribute(named(name), text(label.into_owned())));
    NumberDataPoint {
        attributes: attributes.collect(),
        start_time_unix_nano: times.start_ns,
        time_unix_nano: times.now_ns,
        value: Some(value),
        ..NumberDataPoint::default()
    }
}

/// Returns a histogram of nanoseconds as an exponential one of seconds.
fn exponential(histogram: &Histogram<u64>, times: Times) -> ExponentialHistogramDataPoint {
    let mut counts = BTreeMap::new();
    for recorded in histogram.iter_recorded() {
        let seconds = histogram.median_equivalent(recorded.value_iterated_to()) as f64 / NS_PER_SECOND;
        *counts.entry(bucket(seconds)).or_insert(0) += recorded.count_at_value();
    }
    let offset = counts.first_key_value().map_or(0, |(first, _)| *first);
    let last = counts.last_key_value().map_or(offset - 1, |(last, _)| *last);
    let bucket_counts = (offset..=last).map(|place| counts.get(&place).copied().unwrap_or(0)).collect();
    let extreme = |value: u64| (!histogram.is_empty()).then(|| value as f64 / NS_PER_SECOND);
    ExponentialHistogramDataPoint {
        start_time_unix_nano: times.start_ns,
        time_unix_nano: times.now_ns,
        count: histogram.len(),
        sum: Some(sum_seconds(histogram)),
        scale: SCALE,
        positive: Some(Buckets { offset, bucket_counts }),
        min: extreme(histogram.min()),
        max: extreme(histogram.max()),
        ..ExponentialHistogramDataPoint::default()
    }
}

/// Returns the bucket of a positive value: the one above `base ^ bucket`, up to and including `base ^ (bucket + 1)`.
#[allow(clippy::cast_possible_truncation)] // Logarithms of seconds are small.
fn bucket(seconds: f64) -> i32 {
    (seconds.log2() * f64::from(1 << SCALE)).ceil() as i32 - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::latency::{Latencies, Latency};

    #[test]
    fn an_exponential_histogram_keeps_every_count_where_its_value_is() {
        let mut latencies = Latencies::new();
        let values = [1, 700, 1_000, 1_000, 5_000_000, 3_000_000_000, 3_600_000_000_000];
        for value in values {
            latencies.record(Latency::Turn, value);
        }
        let point = exponential(latencies.of(Latency::Turn), Times { start_ns: 1, now_ns: 2 });
        let positive = point.positive.expect("there are values");
        assert_eq!(positive.bucket_counts.iter().sum::<u64>(), values.len() as u64);
        assert_eq!(point.count, values.len() as u64);
        for value in values {
            let place = usize::try_from(bucket(value as f64 / NS_PER_SECOND) - positive.offset).expect("it is inside");
            // The histogram's own precision can put a value next to where it belongs.
            let near = positive.bucket_counts.iter().skip(place.saturating_sub(1)).take(3);
            assert!(near.sum::<u64>() > 0, "{value}");
        }
        let empty = exponential(Latencies::new().of(Latency::Turn), Times { start_ns: 1, now_ns: 2 });
        assert_eq!((empty.count, empty.min), (0, None));
        assert!(empty.positive.expect("they are empty").bucket_counts.is_empty());
    }

    #[test]
    fn buckets_end_with_their_upper_bounds() {
        assert_eq!([bucket(1.0), bucket(2.0), bucket(0.5)], [-1, 7, -9]);
        assert_eq!(bucket(1.01), 0);
    }
}
