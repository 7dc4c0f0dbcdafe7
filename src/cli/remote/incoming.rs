//! What a running router sends over a stream, read by a thread so that signals are seen meanwhile.

use std::io;
use std::time::Duration;

use serde_json::Value;

use super::Failure;
use super::client::{EventStream, ServerEvent};

/// Events that have been read and not been handled yet.
const EVENTS_WAITING_MAX: usize = 256;
/// How often a signal is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a thread reads from a stream.
pub(super) struct Incoming {
    events: flume::Receiver<io::Result<ServerEvent>>,
    /// The end of the stream, if it was met while events were taken that were there already.
    end: Option<Failure>,
}

impl Incoming {
    /// Begins to read. The thread ends with the stream, or once nobody receives.
    pub fn read(mut stream: EventStream) -> Self {
        let (sender, events) = flume::bounded(EVENTS_WAITING_MAX);
        std::thread::spawn(move || {
            loop {
                let event = stream.next().and_then(|event| event.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()));
                let is_last = event.is_err();
                if sender.send(event).is_err() || is_last {
                    return;
                }
            }
        });
        Self { events, end: None }
    }

    /// Waits a moment for an event.
    ///
    /// # Errors
    ///
    /// The stream has ended.
    pub fn wait(&mut self) -> Result<Option<ServerEvent>, Failure> {
        if let Some(end) = self.end.take() {
            return Err(end);
        }
        match self.events.recv_timeout(LOOK_EVERY) {
            Ok(event) => event_of(event).map(Some),
            Err(flume::RecvTimeoutError::Timeout) => Ok(None),
            Err(flume::RecvTimeoutError::Disconnected) => {
                Err(Failure::Failed("the router has ended the stream".to_owned()))
            }
        }
    }

    /// Returns an event that has been read already. The end of the stream is left to the next [`Self::wait`].
    pub fn now(&mut self) -> Option<ServerEvent> {
        if self.end.is_some() {
            return None;
        }
        event_of(self.events.try_recv().ok()?).map_err(|end| self.end = Some(end)).ok()
    }
}

/// Returns an event, unless it says that the stream has ended.
fn event_of(read: io::Result<ServerEvent>) -> Result<ServerEvent, Failure> {
    match read {
        Ok(event) if event.kind == "end" => {
            Err(Failure::Failed(format!("the router has ended the stream: {}", event.data)))
        }
        Ok(event) => Ok(event),
        Err(error) => Err(Failure::Failed(format!("the connection to the router has ended: {error}"))),
    }
}

/// Returns what an event says.
pub(super) fn data(event: &ServerEvent) -> Value {
    serde_json::from_str(&event.data).unwrap_or_else(|_| event.data.clone().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_follows_events_is_told_after_them() {
        let (sender, events) = flume::bounded(EVENTS_WAITING_MAX);
        let mut incoming = Incoming { events, end: None };
        for kind in ["message", "message", "end", "message"] {
            let event = ServerEvent { kind: kind.to_owned(), id: String::new(), data: "deregistered".to_owned() };
            sender.send(Ok(event)).expect("it is received");
        }
        assert!(incoming.wait().is_ok_and(|event| event.is_some_and(|event| event.kind == "message")));
        assert!(incoming.now().is_some() && incoming.now().is_none() && incoming.now().is_none());
        let Err(Failure::Failed(why)) = incoming.wait() else { panic!("the stream has ended") };
        assert_eq!(why, "the router has ended the stream: deregistered");
    }
}
