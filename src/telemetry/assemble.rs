//! Puts the records of a message together, which come from several shards and in no particular order.
//!
//! Invariants: what is open is bounded, in number and in time. A message leaves once: complete, or as far as it is known
//! when it is given up; both are counted.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use caxton_shards::api::Stage;
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::message::{AgentId, MessageId};
use caxton_shards::trace::{Admitted, SpanPart, StageEvent, StageRecord, TraceIds};

use crate::telemetry::latency::{Latencies, Latency};

/// Maximum number of messages that are being put together. Beyond it the oldest is given up.
pub(crate) const OPEN_MAX: usize = 65_536;
/// Time after which a message whose end was not recorded is given up, in nanoseconds.
const OPEN_NS_MAX: u64 = 120_000_000_000;
/// Maximum number of receivers and attempts that are told apart per message.
const DELIVERIES_MAX: usize = 1_024;
const ATTEMPTS_MAX: usize = 32;

/// The stages of one message. Times are nanoseconds since the start of the router.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MessageTrace {
    /// The trace it belongs to: that of its conversation, or the one that it was sent in from outside.
    pub trace_id: [u8; 16],
    /// The message.
    pub message: MessageId,
    /// When it was admitted.
    pub admitted_ns: u64,
    /// What it was.
    pub admitted: Admitted,
    /// Whether it was chosen when it was admitted. If not, it was kept because it failed, expired or was slow, and its
    /// admission is exact to a millisecond.
    pub sampled: bool,
    /// What happened on the way to each receiver.
    pub deliveries: Vec<DeliveryTrace>,
}

/// The delivery of a message to one receiver.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DeliveryTrace {
    /// The receiver.
    pub receiver: Option<AgentId>,
    /// Its name, once it was called.
    pub receiver_name: Option<Arc<str>>,
    /// When the message reached the receiver's shard from another one.
    pub arrived_ns: Option<u64>,
    /// When it was committed to the journal.
    pub committed_ns: Option<u64>,
    /// When it was put into the mailbox, if it did not come from another shard.
    pub enqueued_ns: Option<u64>,
    /// The calls of the receiver's handler.
    pub attempts: Vec<AttemptTrace>,
    /// When and how it ended.
    pub end: Option<(u64, DeliveryEnd)>,
}

/// One call of a handler.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AttemptTrace {
    /// Its number, from one.
    pub number: u8,
    /// When it began.
    pub began_ns: u64,
    /// When it ended, if it did.
    pub ended_ns: Option<u64>,
    /// Whether it failed.
    pub failed: bool,
}

/// How a delivery ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DeliveryEnd {
    /// It was handled.
    Processed,
    /// It was dead-lettered.
    DeadLettered(DeadLetterReason),
    /// Its lifetime ended.
    Expired(Stage),
    /// Its sender's handler failed, so that it was not sent.
    Withdrawn,
    /// It is a durable message that had come before.
    Duplicate,
    /// It is a durable message that was left to the next start.
    Left,
}

impl DeliveryTrace {
    /// Returns when the message began to wait in its mailbox, as far as that is known.
    pub fn waits_from_ns(&self) -> Option<u64> {
        self.committed_ns.or(self.arrived_ns).or(self.enqueued_ns)
    }

    /// Returns what the span of one of its attempts describes.
    pub(crate) fn part_of_attempt(&self, place: usize) -> SpanPart {
        let is_last = place + 1 == self.attempts.len();
        if is_last { SpanPart::HandleLast } else { SpanPart::Handle(self.attempts[place].number) }
    }

    fn note(&mut self, record: StageRecord) {
        let at_ns = record.at_ns;
        match record.event {
            StageEvent::Admitted(_) | StageEvent::Kept(..) | StageEvent::Spread(_) => {}
            StageEvent::Arrived => self.arrived_ns = Some(at_ns),
            StageEvent::Committed => self.committed_ns = Some(at_ns),
            StageEvent::Enqueued => self.enqueued_ns = Some(at_ns),
            StageEvent::Begun(name, number) => {
                self.receiver_name = Some(name);
                if self.attempts.len() < ATTEMPTS_MAX {
                    self.attempts.push(AttemptTrace { number, began_ns: at_ns, ended_ns: None, failed: false });
                }
            }
            StageEvent::Retried => self.end_attempt(at_ns, true),
            StageEvent::Processed => self.finish(at_ns, DeliveryEnd::Processed),
            // The first copy may be on its way still.
            StageEvent::Duplicate if self.committed_ns.is_some() || !self.attempts.is_empty() => {}
            StageEvent::Duplicate => self.finish(at_ns, DeliveryEnd::Duplicate),
            StageEvent::Left => self.finish(at_ns, DeliveryEnd::Left),
            StageEvent::DeadLettered(reason) => self.finish(at_ns, DeliveryEnd::DeadLettered(reason)),
            StageEvent::Expired(stage) => self.finish(at_ns, DeliveryEnd::Expired(stage)),
            StageEvent::Withdrawn => self.finish(at_ns, DeliveryEnd::Withdrawn),
        }
    }

    fn finish(&mut self, at_ns: u64, end: DeliveryEnd) {
        self.end_attempt(at_ns, !matches!(end, DeliveryEnd::Processed | DeliveryEnd::Left));
        self.end = Some((at_ns, end));
    }

    fn end_attempt(&mut self, at_ns: u64, failed: bool) {
        match self.attempts.last_mut() {
            Some(attempt) if attempt.ended_ns.is_none() => {
                attempt.ended_ns = Some(at_ns);
                attempt.failed = failed;
            }
            _ => {}
        }
    }
}

impl MessageTrace {
    /// Returns the id of its trace as hexadecimal digits.
    pub fn trace_id_text(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.trace_id))
    }

    /// Whether it failed or expired for one of its receivers.
    pub fn has_failed(&self) -> bool {
        let failed = |end| matches!(end, DeliveryEnd::DeadLettered(_) | DeliveryEnd::Expired(_));
        self.deliveries.iter().any(|delivery| delivery.end.is_some_and(|(_, end)| failed(end)))
    }

    /// Counts its latencies. Those of messages that were kept would distort the distribution.
    pub(crate) fn measure(&self, latencies: &mut Latencies) {
        self.each_latency(|measured| latencies.record(measured.latency, measured.ns));
    }

    /// Visits its latencies; none if it was kept.
    pub(crate) fn each_latency(&self, mut visit: impl FnMut(Measured)) {
        if !self.sampled {
            return;
        }
        for delivery in &self.deliveries {
            let Some((ended_ns, end)) = delivery.end else { continue };
            let came_ns = delivery.arrived_ns.or(delivery.enqueued_ns);
            let mut measure = |latency, (from_ns, to_ns): (Option<u64>, Option<u64>), part| {
                if let (Some(from_ns), Some(to_ns)) = (from_ns, to_ns) {
                    let receiver = delivery.receiver.filter(|_| part != SpanPart::Send);
                    let ns = to_ns.saturating_sub(from_ns);
                    visit(Measured { latency, ns, ended_ns: to_ns, receiver, part });
                }
            };
            let first_ns = delivery.attempts.first().map(|attempt| attempt.began_ns);
            measure(Latency::Crossing, (Some(self.admitted_ns), delivery.arrived_ns), SpanPart::Cross);
            measure(Latency::Journal, (came_ns, delivery.committed_ns), SpanPart::Journal);
            measure(Latency::Mailbox, (delivery.waits_from_ns(), first_ns), SpanPart::Wait);
            for (place, attempt) in delivery.attempts.iter().enumerate() {
                let part = delivery.part_of_attempt(place);
                measure(Latency::Handler, (Some(attempt.began_ns), attempt.ended_ns), part);
            }
            if end == DeliveryEnd::Processed {
                measure(Latency::EndToEnd, (Some(self.admitted_ns), Some(ended_ns)), SpanPart::Send);
            }
        }
    }
}

/// A latency of a message, with the span that shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub latency: Latency,
    pub ns: u64,
    /// When it was over, in nanoseconds since the start of the router.
    pub ended_ns: u64,
    /// The receiver, if the span depends on it.
    pub receiver: Option<AgentId>,
    pub part: SpanPart,
}

/// A message of which not everything is known yet.
#[derive(Debug, Default)]
struct Open {
    admitted: Option<(u64, Admitted, bool)>,
    deliveries: Vec<DeliveryTrace>,
    ended: u32,
}

impl Open {
    fn is_complete(&self) -> bool {
        self.admitted.as_ref().is_some_and(|(_, admitted, _)| self.ended >= admitted.receivers)
    }

    fn into_trace(self, message: MessageId, ids: TraceIds) -> Option<MessageTrace> {
        let (admitted_ns, admitted, sampled) = self.admitted?;
        let trace_id = ids.trace(message, &admitted);
        Some(MessageTrace { trace_id, message, admitted_ns, admitted, sampled, deliveries: self.deliveries })
    }
}

/// What is put together: a message or, if it is kept because of how one delivery fares, that delivery.
type Key = (MessageId, Option<AgentId>);

/// Puts records together.
#[derive(Debug)]
pub(crate) struct Assembler {
    ids: TraceIds,
    open: HashMap<Key, Open>,
    /// The open messages in the order in which they became known, with the time of their first record. Those that are
    /// complete are skipped.
    order: VecDeque<(Key, u64)>,
    given_up: u64,
}

impl Assembler {
    pub fn new(ids: TraceIds) -> Self {
        Self { ids, open: HashMap::new(), order: VecDeque::new(), given_up: 0 }
    }

    /// Takes a record. Returns the message if it is complete.
    pub fn take(&mut self, record: StageRecord) -> Option<MessageTrace> {
        let (message, at_ns) = (record.message, record.at_ns);
        let of_delivery = (message, record.receiver);
        let is_kept = matches!(record.event, StageEvent::Kept(..)) || self.open.contains_key(&of_delivery);
        let key = if is_kept { of_delivery } else { (message, None) };
        let open = match self.open.entry(key) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(free) => {
                self.order.push_back((key, at_ns));
                free.insert(Open::default())
            }
        };
        match record.event {
            // A durable message that is sent again has the same id.
            StageEvent::Admitted(admitted) => {
                open.admitted.get_or_insert((at_ns, admitted, true));
            }
            StageEvent::Kept(admitted, began_ns) => {
                open.admitted = Some((began_ns, Admitted { receivers: 1, ..admitted }, false));
            }
            StageEvent::Spread(receivers) => {
                if let Some((_, admitted, _)) = &mut open.admitted {
                    admitted.receivers = receivers;
                }
            }
            _ => {
                let withdrawn = record.event == StageEvent::Withdrawn;
                let known = open.deliveries.iter().position(|delivery| delivery.receiver == record.receiver);
                let place = known.unwrap_or_else(|| {
                    if open.deliveries.len() < DELIVERIES_MAX {
                        open.deliveries.push(DeliveryTrace { receiver: record.receiver, ..DeliveryTrace::default() });
                    }
                    open.deliveries.len() - 1
                });
                let delivery = &mut open.deliveries[place];
                let had_ended = delivery.end.is_some();
                delivery.note(record);
                if !had_ended && delivery.end.is_some() {
                    open.ended = if withdrawn { u32::MAX } else { open.ended.saturating_add(1) };
                }
            }
        }
        if open.is_complete() {
            return self.open.remove(&key)?.into_trace(message, self.ids);
        }
        None
    }

    /// Gives up what is too old or too much at this time, and returns as much of each as is known.
    pub fn give_up(&mut self, now_ns: u64) -> Vec<MessageTrace> {
        let mut left = Vec::new();
        if self.order.len() > 2 * OPEN_MAX {
            self.order.retain(|(key, _)| self.open.contains_key(key));
        }
        while let Some((key, since_ns)) = self.order.front().copied() {
            let is_open = self.open.contains_key(&key);
            if is_open && self.open.len() <= OPEN_MAX && now_ns.saturating_sub(since_ns) < OPEN_NS_MAX {
                break;
            }
            self.order.pop_front();
            // Records that follow on what was given up are not given up again.
            if let Some(trace) = self.open.remove(&key).and_then(|open| open.into_trace(key.0, self.ids)) {
                self.given_up += 1;
                left.push(trace);
            }
        }
        left
    }

    /// Gives up everything.
    pub fn finish(&mut self) -> Vec<MessageTrace> {
        self.give_up(u64::MAX)
    }

    /// Returns the number of messages that were given up because their end was not recorded in time.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }
}

#[cfg(test)]
mod tests {
    use caxton_shards::message::Performative;

    use super::*;

    fn admitted(receivers: u32) -> Admitted {
        Admitted {
            sender: None,
            sender_name: None,
            conversation: None,
            initiator: None,
            cause: None,
            performative: Performative::Inform,
            protocol: None,
            context: None,
            receivers,
            durable: false,
        }
    }

    fn record(message: u128, receiver: u128, at_ns: u64, event: StageEvent) -> StageRecord {
        let message = MessageId::from_u128(message).expect("it is not zero");
        StageRecord { at_ns, message, receiver: AgentId::from_u128(receiver), event }
    }

    fn begun(number: u8) -> StageEvent {
        StageEvent::Begun("agent".into(), number)
    }

    #[test]
    fn records_make_a_message_in_any_order_of_shards() {
        let mut assembler = Assembler::new(TraceIds::new(1));
        let mut latencies = Latencies::new();
        for (at_ns, event) in [(300, StageEvent::Arrived), (500, begun(1)), (900, StageEvent::Processed)] {
            assert!(assembler.take(record(1, 2, at_ns, event)).is_none());
        }
        let trace = assembler.take(record(1, 0, 100, StageEvent::Admitted(admitted(1)))).expect("it is complete");
        trace.measure(&mut latencies);
        let of = |latency| (latencies.of(latency).len(), latencies.of(latency).max());
        assert_eq!(of(Latency::Crossing), (1, 200));
        assert_eq!(of(Latency::Mailbox), (1, 200));
        assert_eq!((of(Latency::Handler).0, of(Latency::EndToEnd).0), (1, 1));
        assert!(latencies.of(Latency::EndToEnd).equivalent(800, latencies.of(Latency::EndToEnd).max()));
        assert!(!trace.has_failed() && assembler.finish().is_empty());
    }

    #[test]
    fn a_message_to_several_agents_is_complete_when_all_have_it() {
        let mut assembler = Assembler::new(TraceIds::new(1));
        assembler.take(record(1, 0, 1, StageEvent::Admitted(admitted(2))));
        assert!(assembler.take(record(1, 7, 2, StageEvent::Processed)).is_none());
        let trace = assembler.take(record(1, 8, 3, StageEvent::Expired(Stage::Mailbox))).expect("it is complete");
        assert_eq!(trace.deliveries.len(), 2);
        assert!(trace.has_failed());
    }

    #[test]
    fn two_deliveries_of_a_message_that_fail_are_two_traces() {
        let mut assembler = Assembler::new(TraceIds::new(1));
        for receiver in [7, 8] {
            assert!(assembler.take(record(1, receiver, 5, StageEvent::Kept(admitted(2), 1))).is_none());
            assert!(assembler.take(record(1, receiver, 6, StageEvent::Retried)).is_none());
        }
        for receiver in [7, 8] {
            assert!(assembler.take(record(1, receiver, 8, begun(2))).is_none());
            let trace = assembler.take(record(1, receiver, 9, StageEvent::Processed)).expect("it is complete");
            assert_eq!(trace.deliveries[0].receiver, AgentId::from_u128(receiver));
        }
        assert!(assembler.finish().is_empty());
    }

    #[test]
    fn attempts_are_told_apart() {
        let mut assembler = Assembler::new(TraceIds::new(1));
        for (at_ns, event) in [
            (1, StageEvent::Admitted(admitted(1))),
            (2, StageEvent::Enqueued),
            (3, begun(1)),
            (4, StageEvent::Retried),
            (5, begun(2)),
        ] {
            assembler.take(record(1, 9, at_ns, event));
        }
        let trace = assembler.take(record(1, 9, 6, StageEvent::Processed)).expect("it is complete");
        let attempts: Vec<_> =
            trace.deliveries[0].attempts.iter().map(|one| (one.number, one.ended_ns, one.failed)).collect();
        assert_eq!(attempts, [(1, Some(4), true), (2, Some(6), false)]);
    }

    #[test]
    fn what_is_too_old_or_too_much_is_given_up_and_counted() {
        let mut assembler = Assembler::new(TraceIds::new(1));
        assembler.take(record(1, 0, 0, StageEvent::Admitted(admitted(1))));
        assembler.take(record(2, 0, OPEN_NS_MAX, StageEvent::Admitted(admitted(1))));
        assert!(assembler.give_up(OPEN_NS_MAX - 1).is_empty());
        assert_eq!(assembler.give_up(OPEN_NS_MAX).len(), 1);
        for message in 0..OPEN_MAX as u128 + 9 {
            assembler.take(record(10 + message, 0, OPEN_NS_MAX, begun(1)));
        }
        assert_eq!(assembler.give_up(OPEN_NS_MAX).len(), 1, "of the others the admission is not known");
        assert_eq!((assembler.open.len(), assembler.given_up()), (OPEN_MAX, 2));
        assembler.finish();
        assert_eq!((assembler.open.len(), assembler.order.len()), (0, 0));
    }
}
