//! What a metric is: its description, and how it is read.

use std::borrow::Cow;

use crate::telemetry::figures::{Figures, ShardFigures};
use crate::telemetry::latency::Latency;

/// The kind of a metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// It only grows while the router runs.
    Counter,
    /// It goes up and down.
    Gauge,
    /// The distribution of many values.
    Histogram,
}

impl Kind {
    #[cfg(all(test, feature = "cluster"))]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Where a metric is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Audience {
    /// `/metrics`: over all shards.
    Public,
    /// `/metrics/internal`: for each shard.
    Internal,
}

/// A metric.
pub(crate) struct Metric {
    /// Its name in OpenTelemetry.
    pub name: &'static str,
    pub kind: Kind,
    /// Its unit in UCUM.
    pub unit: &'static str,
    pub audience: Audience,
    pub labels: &'static [&'static str],
    pub help: &'static str,
    pub read: Read,
}

/// How a metric is read.
pub(crate) enum Read {
    /// From the figures of the router.
    Router(fn(&Figures, &mut Points)),
    /// From the figures of each shard. For the public they are summed over all shards, otherwise each point gets the
    /// label `shard` in front.
    Shard(fn(&ShardFigures, &mut Points)),
    /// From the histogram of a latency.
    Latency(Latency),
}

impl Metric {
    /// Returns its name in Prometheus and `OpenMetrics`, without the suffix of counters: dots become underscores, and the
    /// unit follows.
    #[cfg(all(test, feature = "cluster"))]
    pub fn prometheus_name(&self) -> String {
        let mut name = self.name.replace('.', "_");
        if let Some(unit) = self.prometheus_unit() {
            name = name + "_" + unit;
        }
        name
    }

    /// Returns the word for its unit in Prometheus; units in braces and that of counters without one have none.
    pub fn prometheus_unit(&self) -> Option<&'static str> {
        match self.unit {
            "s" => Some("seconds"),
            "By" => Some("bytes"),
            _ => None,
        }
    }

    /// Returns the names of the series that a scrape of it contains.
    #[cfg(all(test, feature = "cluster"))]
    pub fn series(&self) -> Vec<String> {
        let name = self.prometheus_name();
        match self.kind {
            Kind::Counter => vec![name + "_total"],
            Kind::Gauge => vec![name],
            Kind::Histogram => ["_bucket", "_sum", "_count"].map(|suffix| name.clone() + suffix).into(),
        }
    }

    /// Returns its points. A histogram has none.
    pub fn points(&self, figures: &Figures) -> Vec<Point> {
        let mut points = Points::default();
        match self.read {
            Read::Router(read) => read(figures, &mut points),
            Read::Shard(read) => {
                for (shard, of_shard) in figures.shards.iter().enumerate() {
                    points.begin((self.audience == Audience::Internal).then_some(shard));
                    read(of_shard, &mut points);
                }
            }
            Read::Latency(_) => {}
        }
        debug_assert!(
            points.all.iter().all(|point| point.labels.iter().map(|(name, _)| name).eq(self.labels)),
            "{} has other labels than it says",
            self.name
        );
        points.all
    }
}

/// A value of a metric.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Number {
    Integer(u64),
    Real(f64),
}

impl Number {
    fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Integer(one), Self::Integer(other)) => Self::Integer(one.saturating_add(other)),
            (one, other) => Self::Real(one.as_real() + other.as_real()),
        }
    }

    pub fn as_real(self) -> f64 {
        match self {
            Self::Integer(value) => value as f64,
            Self::Real(value) => value,
        }
    }
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Integer(value)
    }
}

impl From<usize> for Number {
    fn from(value: usize) -> Self {
        Self::Integer(value as u64)
    }
}

impl From<bool> for Number {
    fn from(value: bool) -> Self {
        Self::Integer(value.into())
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

/// The text of a label.
pub(crate) type Text = Cow<'static, str>;

/// A value with its labels.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Point {
    pub labels: Vec<(&'static str, Text)>,
    pub value: Number,
}

/// The points of a metric. Those with the same labels are summed.
#[derive(Default)]
pub(crate) struct Points {
    all: Vec<Point>,
    /// The shard whose points are not summed with those of others.
    shard: Option<usize>,
    /// Where the next point with the same labels as one before is expected.
    next: usize,
}

impl Points {
    pub fn begin(&mut self, shard: Option<usize>) {
        self.shard = shard;
        self.next = 0;
    }

    pub fn add(&mut self, value: impl Into<Number>) {
        self.add_labelled([], value);
    }

    /// Adds the value, if there is one.
    pub fn add_all(&mut self, value: Option<impl Into<Number>>) {
        if let Some(value) = value {
            self.add(value);
        }
    }

    pub fn add_labelled<const COUNT: usize>(
        &mut self,
        labels: [(&'static str, Text); COUNT],
        value: impl Into<Number>,
    ) {
        let value = value.into();
        let shard = self.shard.map(|shard| ("shard", Text::from(shard.to_string())));
        let labels: Vec<_> = shard.into_iter().chain(labels).collect();
        let is_same = |point: &Point| point.labels == labels;
        // Shards add the same points in the same order, as a rule.
        let same = match self.all.get(self.next) {
            Some(point) if is_same(point) => Some(self.next),
            _ if self.shard.is_some() => None,
            _ => self.all.iter().position(is_same),
        };
        if let Some(place) = same {
            self.all[place].value = self.all[place].value.plus(value);
            self.next = place + 1;
        } else {
            self.all.push(Point { labels, value });
            self.next = self.all.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_with_the_same_labels_are_summed_unless_they_are_for_each_shard() {
        let mut points = Points::default();
        for shard in 0..2_u64 {
            points.begin(None);
            points.add_labelled([("reason", "a".into())], 1 + shard);
            points.add_labelled([("reason", "b".into())], 10.5);
        }
        points.add_labelled([("reason", "a".into())], 5_u64);
        let values: Vec<_> = points.all.iter().map(|point| point.value).collect();
        assert_eq!(values, [Number::Integer(8), Number::Real(21.0)]);
        let mut points = Points::default();
        for shard in 0..3 {
            points.begin(Some(shard));
            points.add(shard);
        }
        assert_eq!(points.all.len(), 3);
        assert_eq!(points.all[2].labels, [("shard", Text::from("2"))]);
    }
}
