//! The protocol between two nodes: a reliable, ordered stream of messages each way, over a transport that may lose,
//! duplicate and reorder frames.
//!
//! A [`Link`] is pure: it has no clock and no socket. Its owner hands it the frames that arrive, the messages to send
//! and the time, and hands the frames that it returns to the transport. One link stands for one peer node for as long
//! as the process runs, because its streams cannot begin again between the same two runs of the nodes.
//!
//! Invariants:
//! - Between two runs of the nodes, everything arrives exactly once and in the order in which it was sent.
//! - A message with a tag is settled or refused by the peer, or reported when the peer was restarted.
//! - All that is kept has a limit: see the constants. What the peer says never makes a link panic.
//! - A frame that cannot be read leaves the link as it was.

mod credits;
mod entry;
mod event;
mod frame;
mod inbound;
mod names;
mod outbound;
mod owed;
mod receive;
mod round_trip;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use bytes::Bytes;
use caxton_shards::domain::NodeId;
use caxton_shards::message::AgentId;

use self::credits::Targets;
use self::entry::Transfer;
pub use self::event::{Arrival, LinkEvent, LinkFigures, Outgoing, Received, SendError, Tag};
pub use self::frame::{FrameError, NodeRun, VERSIONS, Versions};
use self::frame::{HEADER_BYTES, Header, Kind};
use self::inbound::Inbound;
use self::names::{NamesReceived, NamesSent};
use self::outbound::{Outbound, UNSETTLED_MAX};
use self::owed::Owed;

/// Maximum size of a frame, in bytes, whatever the transport takes.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Minimum packet size that a transport has to support, in bytes.
pub const PAYLOAD_BYTES_MIN: usize = 4_096;
/// How long to wait for the response to the first hello. The time doubles with each further hello, up to the maximum.
const HELLO_MS_MIN: u64 = 200;
const HELLO_MS_MAX: u64 = 5_000;

/// What a link's owner decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkConfig {
    /// Maximum size of what the transport takes at once, in bytes: [`PAYLOAD_BYTES_MIN`] to [`MESSAGE_BYTES_MAX`]; other
    /// numbers count as the nearest of these.
    pub payload_bytes_max: usize,
    /// Time without a frame after which the peer counts as silent, in milliseconds. A link that has nothing else to
    /// send sends an acknowledgement three times within this time.
    pub silence_ms_max: u64,
}

/// The peer as it runs now.
#[derive(Clone, Copy)]
struct Peer {
    boot_epoch: u64,
    version: u8,
    heard_ms: u64,
    is_silent: bool,
}

/// The state between two runs of the nodes. It is replaced when the peer is restarted.
struct Stream {
    outbound: Outbound,
    inbound: Inbound,
    names_sent: NamesSent,
    names_received: NamesReceived,
    targets: Targets,
    unsettled: BTreeSet<Tag>,
    owed: Owed,
    /// Whether a message was refused because the link was full, and the owner has not been told yet that it takes
    /// messages again.
    was_full: bool,
}

impl Stream {
    fn new(payload_bytes_max: usize) -> Self {
        Self {
            outbound: Outbound::new(payload_bytes_max),
            inbound: Inbound::default(),
            names_sent: NamesSent::default(),
            names_received: NamesReceived::default(),
            targets: Targets::default(),
            unsettled: BTreeSet::new(),
            owed: Owed::default(),
            was_full: false,
        }
    }
}

/// One end of the connection between two nodes.
pub struct Link {
    config: LinkConfig,
    own: NodeRun,
    node: NodeId,
    peer: Option<Peer>,
    stream: Stream,
    is_hello_due: bool,
    hello_at: Option<u64>,
    hello_wait_ms: u64,
    sent_ms: u64,
    figures: LinkFigures,
}

impl Link {
    /// Creates a link from this run of this node to another node, of which nothing is known yet. Messages can be sent
    /// at once; they leave when the peer responds.
    pub fn new(config: LinkConfig, own: NodeRun, peer: NodeId) -> Self {
        let payload_bytes_max = config.payload_bytes_max.clamp(PAYLOAD_BYTES_MIN, MESSAGE_BYTES_MAX);
        Self {
            config: LinkConfig { payload_bytes_max, ..config },
            own,
            node: peer,
            peer: None,
            stream: Stream::new(payload_bytes_max),
            is_hello_due: true,
            hello_at: None,
            hello_wait_ms: HELLO_MS_MIN,
            sent_ms: 0,
            figures: LinkFigures::default(),
        }
    }

    /// Returns which run of which node sent this frame, and so which link it belongs to.
    ///
    /// # Errors
    /// The bytes are not a frame.
    pub fn sender_of(frame: &[u8]) -> Result<NodeRun, FrameError> {
        Header::read(frame).map(|(header, _)| header.from)
    }

    /// Whether a message for this agent would be taken, unless it is too large.
    pub fn room_for(&self, target: AgentId) -> bool {
        self.check(target, true).is_ok()
    }

    /// Whether no message would be taken, whomever it is for.
    fn is_full(&self, has_tag: bool) -> bool {
        self.stream.outbound.is_full() || (has_tag && self.stream.unsettled.len() >= UNSETTLED_MAX)
    }

    fn check(&self, target: AgentId, has_tag: bool) -> Result<(), SendError> {
        let targets = &self.stream.targets;
        let is_full = self.is_full(has_tag) || (targets.is_full() && !targets.is_known(target));
        match targets.has_room(target) {
            _ if is_full => Err(SendError::Full),
            true => Ok(()),
            false => Err(SendError::NoRoom),
        }
    }

    /// Sends a message: encodes it into the frame that is being filled.
    ///
    /// # Errors
    /// The message cannot be taken, see [`SendError`]. Nothing of it is sent.
    pub fn send(&mut self, outgoing: &Outgoing<'_>) -> Result<(), SendError> {
        let Outgoing { tag, target, remaining, .. } = *outgoing;
        if let Err(error) = self.check(target, tag.is_some()) {
            self.stream.was_full |= error == SendError::Full;
            return Err(error);
        }
        let Stream { outbound, names_sent, targets, unsettled, .. } = &mut self.stream;
        let sender = outgoing.sender.map(|name| {
            let sender = outgoing.message.sender().unwrap_or_else(|| AgentId::of(name));
            let (number, is_new) = names_sent.number_of(sender);
            if is_new {
                let start = outbound.open().len();
                entry::put_name(outbound.open(), number, name);
                outbound.close_entry(start, false);
            }
            number
        });
        let open = outbound.open();
        let start = open.len();
        let head = Transfer { tag, sender, target, remaining, encoded: &[] };
        let bytes = entry::put_message(open, &head, outgoing.message);
        let frame_bytes = HEADER_BYTES + open.len() - start;
        if frame_bytes > self.config.payload_bytes_max {
            open.truncate(start);
            return Err(SendError::TooLarge { bytes: frame_bytes, bytes_max: self.config.payload_bytes_max });
        }
        outbound.close_entry(start, tag.is_none());
        targets.take(target, bytes);
        unsettled.extend(tag);
        self.figures.messages_sent += 1;
        Ok(())
    }

    /// Returns the credit for a message that was admitted or refused, so that its sender's node may send another to the
    /// same agent. To be called once for each message that arrived.
    pub fn credit(&mut self, received: Received) {
        if self.is_of_peer(received) {
            self.stream.owed.credit(received.target, received.credit);
        }
    }

    /// Settles a message, if it is to be settled: it is safe here. To be called once.
    pub fn settle(&mut self, received: Received) {
        if let (true, Some(tag)) = (self.is_of_peer(received), received.tag) {
            self.stream.owed.settle(tag);
        }
    }

    /// Refuses a message, if it is to be settled, with a reason for people of up to 512 bytes. To be
    /// called once.
    pub fn refuse(&mut self, received: Received, reason: &str) {
        if let (true, Some(tag)) = (self.is_of_peer(received), received.tag) {
            self.stream.owed.refuse(tag, reason);
        }
    }

    /// Tells the peer that an agent is not here any more.
    pub fn gone(&mut self, agent: AgentId) {
        self.stream.owed.gone(agent);
    }

    fn is_of_peer(&self, received: Received) -> bool {
        self.peer.is_some_and(|peer| peer.boot_epoch == received.boot_epoch)
    }

    /// Returns the next frame to hand to the transport. To be called until there is none, after each batch of other
    /// calls.
    pub fn next_frame(&mut self, now_ms: u64) -> Option<Bytes> {
        let frame = self.next_hello(now_ms).or_else(|| self.next_of_stream(now_ms))?;
        self.sent_ms = now_ms;
        self.figures.frames_sent += 1;
        self.figures.bytes_sent += frame.len() as u64;
        Some(frame)
    }

    fn header(&self, kind: Kind, sequence: u64) -> Header {
        let (boot_epoch, version) = self.peer.map_or((0, VERSIONS.lowest), |peer| (peer.boot_epoch, peer.version));
        let to = NodeRun { node: self.node, boot_epoch };
        Header { version, kind, from: self.own, to, sequence, acknowledged: self.stream.inbound.taken() }
    }

    fn next_hello(&mut self, now_ms: u64) -> Option<Bytes> {
        if !std::mem::take(&mut self.is_hello_due) {
            return None;
        }
        if self.peer.is_none() {
            self.hello_at = Some(now_ms + self.hello_wait_ms);
            self.hello_wait_ms = (self.hello_wait_ms * 2).min(HELLO_MS_MAX);
        }
        let mut frame = self.header(Kind::Hello, 0).encode().to_vec();
        frame.extend([VERSIONS.lowest, VERSIONS.highest]);
        Some(frame.into())
    }

    fn next_of_stream(&mut self, now_ms: u64) -> Option<Bytes> {
        self.peer?;
        if let Some(frame) = self.stream.outbound.next_repeated() {
            self.figures.retransmitted += 1;
            return Some(frame);
        }
        if !self.stream.owed.is_empty()
            && let Some((open, bytes_max)) = self.stream.outbound.control()
        {
            self.stream.owed.write(open, bytes_max);
        }
        let header = self.header(Kind::Data, 0);
        let numbered = |sequence| Header { sequence, ..header }.encode();
        if let Some(frame) = self.stream.outbound.next_new(now_ms, numbered) {
            self.stream.inbound.acknowledged();
            return Some(frame);
        }
        let patience_ms = self.stream.outbound.round_trip().patience_ms();
        if let Some((first, end)) = self.stream.inbound.take_nak(now_ms, patience_ms) {
            let mut frame = self.header(Kind::Nak, first).encode().to_vec();
            frame.extend(end.to_le_bytes());
            self.stream.inbound.acknowledged();
            return Some(frame.into());
        }
        if self.stream.inbound.is_ack_due() {
            let frame = self.header(Kind::Ack, 0).encode().to_vec();
            self.stream.inbound.acknowledged();
            return Some(frame.into());
        }
        None
    }

    /// Returns when [`Link::on_deadline`] is to be called next, unless something else happens before.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let Some(peer) = self.peer else { return self.hello_at };
        let silence = (!peer.is_silent).then(|| peer.heard_ms.saturating_add(self.config.silence_ms_max));
        let of_stream = [self.stream.outbound.next_deadline_ms(), self.stream.inbound.next_deadline_ms()];
        of_stream.into_iter().chain([silence, Some(self.sign_of_life_at())]).flatten().min()
    }

    fn sign_of_life_at(&self) -> u64 {
        self.sent_ms.saturating_add((self.config.silence_ms_max / 3).max(1))
    }

    /// Does what is due by now. Frames may be waiting afterwards.
    pub fn on_deadline(&mut self, now_ms: u64) {
        let sign_of_life_at = self.sign_of_life_at();
        let Some(peer) = &mut self.peer else {
            self.is_hello_due |= self.hello_at.is_some_and(|at| at <= now_ms);
            return;
        };
        if !peer.is_silent && peer.heard_ms.saturating_add(self.config.silence_ms_max) <= now_ms {
            peer.is_silent = true;
        }
        self.stream.outbound.on_deadline(now_ms);
        self.stream.inbound.on_deadline(now_ms);
        if sign_of_life_at <= now_ms {
            self.stream.inbound.ack_now();
        }
    }

    /// Returns what the link has done, and what is on its way.
    pub fn figures(&self) -> LinkFigures {
        let Stream { outbound, targets, unsettled, .. } = &self.stream;
        LinkFigures {
            frames_in_flight: outbound.in_flight(),
            bytes_in_flight: outbound.bytes(),
            unsettled: unsettled.len(),
            targets: targets.len(),
            round_trip_ms: outbound.round_trip().estimate_ms(),
            is_open: self.peer.is_some(),
            is_silent: self.peer.is_some_and(|peer| peer.is_silent),
            is_full: self.is_full(true),
            ..self.figures
        }
    }
}
