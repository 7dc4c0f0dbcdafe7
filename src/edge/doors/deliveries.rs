//! What the clients of an outside agent have been handed and have not acknowledged.
//!
//! A message that is not acknowledged within its visibility timeout is handed to the next reader, in all at most
//! [`DELIVERIES_MAX`] times; then it is given up and is dead-lettered. An agent without acknowledgements has
//! nothing here: its messages are processed when they are taken.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use caxton_shards::api::is_notice;
use caxton_shards::message::{Message, MessageId};
use tokio::sync::Notify;

use super::outside::OutsideAgent;
use crate::router::inbox::ReceiveError;

/// How often a message is handed out at most.
pub(crate) const DELIVERIES_MAX: u32 = 5;

/// Length of contents from which no further message is taken together with others, in bytes.
const TOGETHER_BYTES_MAX: usize = 256 << 10;

/// A message for a client.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub message: Message,
    /// How often it was handed out, with this time.
    pub times: u32,
}

struct HandedOut {
    message: Message,
    times: u32,
    /// When it is handed out again.
    due: Instant,
}

/// The messages that are handed out, those for the longest time first. There are at most as many as the inbox has room
/// for.
#[derive(Default)]
pub(crate) struct Deliveries {
    handed_out: Mutex<VecDeque<HandedOut>>,
    /// Notified of a message that was handed out: others that wait have to know when it is due.
    changed: Notify,
}

impl Deliveries {
    fn lock(&self) -> MutexGuard<'_, VecDeque<HandedOut>> {
        self.handed_out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Deliveries {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Deliveries").field("handed_out", &self.lock().len()).finish()
    }
}

impl OutsideAgent {
    /// Waits for messages, and returns up to `max` of them. Those that are to be acknowledged are handed out again once
    /// `visible_after` is over. Dropping the future takes none.
    ///
    /// # Errors
    ///
    /// As for [`OutsideAgent::take`].
    pub async fn receive(&self, max: usize, visible_after: Duration) -> Result<Vec<Delivery>, ReceiveError> {
        loop {
            let mut changed = std::pin::pin!(self.deliveries().changed.notified());
            // From here on nothing is missed that another reader is handed.
            changed.as_mut().enable();
            let ready = self.take(max, visible_after)?;
            if !ready.is_empty() {
                return Ok(ready);
            }
            let arrival = async { self.inbox().recv().await.map(Some) };
            let due = self.deliveries().lock().iter().map(|handed_out| handed_out.due).min();
            let redelivery = async {
                match due {
                    Some(due) => futures_lite::future::or(tokio::time::sleep_until(due.into()), changed).await,
                    None => changed.await,
                }
                Ok(None)
            };
            let end = async {
                self.gone().await;
                Err(ReceiveError::Stopped)
            };
            let next = futures_lite::future::or(arrival, futures_lite::future::or(redelivery, end)).await;
            if let Some(message) = next.inspect_err(|_| self.note_end())? {
                let mut deliveries = Vec::with_capacity(max.min(8));
                deliveries.push(self.hand_out(message, 1, visible_after));
                self.take_new(max, visible_after, &mut deliveries);
                return Ok(deliveries);
            }
        }
    }

    /// Returns up to `max` messages that are there now.
    ///
    /// # Errors
    ///
    /// The agent was deregistered; or the router has removed it or has stopped, and what was left to its clients was
    /// taken.
    pub fn take(&self, max: usize, visible_after: Duration) -> Result<Vec<Delivery>, ReceiveError> {
        if self.is_gone() {
            return Err(ReceiveError::Stopped);
        }
        let has_ended = self.inbox().has_ended();
        let mut deliveries = Vec::new();
        // Messages that were not acknowledged when the inbox ended have been dead-lettered, or are kept for the next start.
        if self.is_acknowledged() && !has_ended {
            for HandedOut { message, times, .. } in self.overdue(max) {
                if times < DELIVERIES_MAX {
                    deliveries.push(self.hand_out(message, times + 1, visible_after));
                } else {
                    let why = format!("it was handed out {times} times and not acknowledged");
                    self.inbox().reject(&message, why);
                }
            }
        }
        self.take_new(max, visible_after, &mut deliveries);
        if has_ended && deliveries.is_empty() {
            self.note_end();
            return Err(ReceiveError::Stopped);
        }
        Ok(deliveries)
    }

    fn take_new(&self, max: usize, visible_after: Duration, deliveries: &mut Vec<Delivery>) {
        let mut bytes: usize = deliveries.iter().map(|delivery| delivery.message.content().len()).sum();
        while deliveries.len() < max && bytes < TOGETHER_BYTES_MAX {
            let Some(message) = self.inbox().try_recv() else { return };
            bytes += message.content().len();
            deliveries.push(self.hand_out(message, 1, visible_after));
        }
    }

    /// Takes up to `max` messages whose visibility timeout is over.
    fn overdue(&self, max: usize) -> Vec<HandedOut> {
        let mut handed_out = self.deliveries().lock();
        let now = Instant::now();
        let (mut overdue, mut bytes) = (Vec::new(), 0);
        while overdue.len() < max
            && bytes < TOGETHER_BYTES_MAX
            && let Some(place) = handed_out.iter().position(|handed_out| handed_out.due <= now)
        {
            let Some(found) = handed_out.remove(place) else { break };
            bytes += found.message.content().len();
            overdue.push(found);
        }
        overdue
    }

    fn hand_out(&self, message: Message, times: u32, visible_after: Duration) -> Delivery {
        if self.is_acknowledged() && !is_notice(&message) {
            let due = Instant::now() + visible_after;
            self.deliveries().lock().push_back(HandedOut { message: message.clone(), times, due });
            self.deliveries().changed.notify_waiters();
        } else {
            self.inbox().acknowledge(&message);
        }
        Delivery { message, times }
    }

    /// Acknowledges messages. Returns how many of them were handed out and not acknowledged before.
    pub fn acknowledge(&self, ids: &[MessageId]) -> usize {
        ids.iter().filter(|id| self.finish(**id, |message| self.inbox().acknowledge(message))).count()
    }

    /// Gives messages up: they are dead-lettered. Returns how many of them were handed out and not acknowledged
    /// before.
    pub fn reject(&self, ids: &[MessageId], why: &str) -> usize {
        ids.iter().filter(|id| self.finish(**id, |message| self.inbox().reject(message, why))).count()
    }

    fn finish(&self, id: MessageId, finish: impl FnOnce(&Message) -> bool) -> bool {
        let message = {
            let mut handed_out = self.deliveries().lock();
            let place = handed_out.iter().position(|handed_out| handed_out.message.id() == Some(id));
            place.and_then(|place| handed_out.remove(place))
        };
        message.is_some_and(|handed_out| finish(&handed_out.message))
    }
}
