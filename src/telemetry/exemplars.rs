//! Exemplars: for each latency, a few messages that were traced, with the span that shows their time.
//!
//! Bounded: the newest message of each range of durations, since the last export.

use opentelemetry_proto::tonic::metrics::v1::{Exemplar, exemplar};

use crate::telemetry::assemble::MessageTrace;
use crate::telemetry::exposition::NS_PER_SECOND;
use crate::telemetry::latency::{LATENCY_NS_MAX, Latency};
use crate::telemetry::spans::SpanMaker;

/// Number of ranges of durations. Each ends at four times its beginning.
const RANGES: usize = range(LATENCY_NS_MAX) + 1;

/// The exemplars of all latencies since the last export.
#[derive(Debug)]
pub(crate) struct Exemplars([[Option<Exemplar>; RANGES]; Latency::COUNT]);

impl Exemplars {
    pub fn new() -> Self {
        Self(std::array::from_fn(|_| Self::none()))
    }

    /// Takes the latencies of a message whose spans are exported.
    pub fn take(&mut self, trace: &MessageTrace, maker: &SpanMaker) {
        trace.each_latency(|measured| {
            let span_id = maker.ids.span(trace.message, measured.receiver, measured.part);
            self.0[measured.latency as usize][range(measured.ns).min(RANGES - 1)] = Some(Exemplar {
                time_unix_nano: maker.start_unix_ns + measured.ended_ns,
                trace_id: trace.trace_id.to_vec(),
                span_id: span_id.to_vec(),
                value: Some(exemplar::Value::AsDouble(measured.ns as f64 / NS_PER_SECOND)),
                ..Exemplar::default()
            });
        });
    }

    /// Removes and returns those of one latency, the shortest first.
    pub fn drain(&mut self, latency: Latency) -> Vec<Exemplar> {
        std::mem::replace(&mut self.0[latency as usize], Self::none()).into_iter().flatten().collect()
    }

    fn none() -> [Option<Exemplar>; RANGES] {
        [const { None }; RANGES]
    }
}

const fn range(ns: u64) -> usize {
    if ns == 0 { 0 } else { ns.ilog2() as usize / 2 }
}

#[cfg(test)]
mod tests {
    use caxton_shards::message::{AgentId, MessageId, Performative};
    use caxton_shards::trace::{Admitted, SpanPart, TraceIds};

    use super::*;
    use crate::telemetry::assemble::{DeliveryEnd, DeliveryTrace};

    fn trace(number: u128, duration_ns: u64, sampled: bool) -> MessageTrace {
        let receiver = Some(AgentId::of_text("receiver"));
        let end = Some((1_000 + duration_ns, DeliveryEnd::Processed));
        let delivery = DeliveryTrace { receiver, arrived_ns: Some(1_001), end, ..DeliveryTrace::default() };
        MessageTrace {
            trace_id: number.to_be_bytes(),
            message: MessageId::from_u128(number).expect("it is not zero"),
            admitted_ns: 1_000,
            admitted: Admitted {
                sender: None,
                sender_name: None,
                conversation: None,
                initiator: None,
                cause: None,
                performative: Performative::Inform,
                protocol: None,
                context: None,
                receivers: 1,
                durable: false,
            },
            sampled,
            deliveries: vec![delivery],
        }
    }

    #[test]
    fn the_newest_of_each_range_is_kept_until_the_next_export() {
        let maker = SpanMaker { ids: TraceIds::new(7), start_unix_ns: 50 };
        let mut exemplars = Exemplars::new();
        for number in 1..=100_000_u64 {
            exemplars.take(&trace(number.into(), number * 1_000, true), &maker);
        }
        exemplars.take(&trace(7, u64::MAX / 2, true), &maker);
        exemplars.take(&trace(8, 300, false), &maker);
        let kept = exemplars.drain(Latency::EndToEnd);
        let numbers: Vec<_> =
            kept.iter().map(|one| u128::from_be_bytes(one.trace_id[..].try_into().expect("16 bytes"))).collect();
        // 4^5 ns is about 1 us, and each range ends before the next power of four.
        assert_eq!(numbers, [1, 4, 16, 65, 262, 1_048, 4_194, 16_777, 67_108, 100_000, 7]);
        let newest = &kept[9];
        let message = MessageId::from_u128(100_000).expect("it is not zero");
        assert_eq!(newest.span_id, maker.ids.span(message, None, SpanPart::Send));
        assert_eq!(newest.time_unix_nano, 50 + 1_000 + 100_000_000);
        assert_eq!(newest.value, Some(exemplar::Value::AsDouble(0.1)));
        let crossing = exemplars.drain(Latency::Crossing);
        assert_eq!(crossing.len(), 1);
        let receiver = Some(AgentId::of_text("receiver"));
        let last = MessageId::from_u128(7).expect("it is not zero");
        assert_eq!(crossing[0].span_id, maker.ids.span(last, receiver, SpanPart::Cross));
        assert!(exemplars.drain(Latency::EndToEnd).is_empty());
    }
}
