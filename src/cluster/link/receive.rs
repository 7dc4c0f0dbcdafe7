//! What a link does with the frames that arrive.
//!
//! A frame is read completely before it has any effect, so that one that cannot be read changes nothing.

use caxton_shards::api::is_notice;
use caxton_shards::message::{AgentId, Message, transfer};

use super::entry::{self, Entries, Entry, Transfer};
use super::event::Credit;
use super::frame::{Cursor, Header, Kind, VERSIONS, Versions};
use super::inbound::Place;
use super::outbound::UNSETTLED_MAX;
use super::{Arrival, FrameError, Link, LinkEvent, Peer, Received, Stream};

impl Link {
    /// Takes a frame from the transport and appends what happened to `events`.
    ///
    /// # Errors
    /// The bytes are not a frame that this link can take. Nothing was changed or appended.
    pub fn receive(&mut self, now_ms: u64, frame: &[u8], events: &mut Vec<LinkEvent>) -> Result<(), FrameError> {
        self.figures.frames_received += 1;
        self.figures.bytes_received += frame.len() as u64;
        let result = self.take(now_ms, frame, events);
        self.figures.damaged += u64::from(result.is_err());
        result
    }

    fn take(&mut self, now_ms: u64, frame: &[u8], events: &mut Vec<LinkEvent>) -> Result<(), FrameError> {
        let (header, body) = Header::read(frame)?;
        if header.from.node != self.node || header.to.node != self.own.node {
            let (from, to) = (header.from.node.into_inner(), header.to.node.into_inner());
            return Err(FrameError::Misdirected { from, to });
        }
        if header.kind == Kind::Hello {
            return self.take_hello(now_ms, &header, body, events);
        }
        let epoch = self.peer.map_or(0, |peer| peer.boot_epoch);
        let Some(peer) = self.peer.filter(|_| header.from.boot_epoch == epoch && header.to == self.own) else {
            // A hello tells the peer about this run. If this run does not know the peer's, the peer responds with its
            // own hello.
            self.is_hello_due |= header.from.boot_epoch >= epoch;
            self.figures.stale += 1;
            return Ok(());
        };
        if header.version != peer.version {
            return Err(FrameError::Version(header.version));
        }
        match header.kind {
            Kind::Data => Entries::new(body).try_for_each(|entry| entry.map(|_| ()))?,
            Kind::Nak if body.len() != 8 => return Err(FrameError::Illegal("missing frames")),
            Kind::Nak | Kind::Ack | Kind::Hello => {}
        }
        if header.kind == Kind::Data && header.sequence == 0 {
            return Err(FrameError::Illegal("sequence number"));
        }
        if !self.stream.outbound.acknowledge(now_ms, header.acknowledged) {
            return Err(FrameError::Illegal("acknowledgement"));
        }
        self.heard(now_ms);
        match header.kind {
            Kind::Data => self.take_data(now_ms, header.sequence, body, events),
            Kind::Nak => self.stream.outbound.repeat(header.sequence, Cursor(body).u64("missing frames")?),
            Kind::Ack | Kind::Hello => {}
        }
        self.tell_room(events);
        Ok(())
    }

    fn take_hello(
        &mut self,
        now_ms: u64,
        header: &Header,
        body: &[u8],
        events: &mut Vec<LinkEvent>,
    ) -> Result<(), FrameError> {
        let epoch = self.peer.map_or(0, |peer| peer.boot_epoch);
        if header.from.boot_epoch < epoch {
            self.figures.stale += 1;
            return Ok(());
        }
        // Later versions may add fields behind these.
        let [lowest, highest] = Cursor(body).array("versions")?;
        let version = VERSIONS.common(Versions { lowest, highest });
        let version = version.ok_or(FrameError::NoCommonVersion(lowest, highest))?;
        self.is_hello_due |= header.to.boot_epoch != self.own.boot_epoch;
        if header.from.boot_epoch == epoch {
            self.heard(now_ms);
            return Ok(());
        }
        let peer = Peer { boot_epoch: header.from.boot_epoch, version, heard_ms: now_ms, is_silent: false };
        let is_first = self.peer.replace(peer).is_none();
        (self.hello_at, self.sent_ms) = (None, now_ms);
        if is_first {
            events.push(LinkEvent::Connected(header.from));
            return Ok(());
        }
        let mut former = std::mem::replace(&mut self.stream, Stream::new(self.config.payload_bytes_max));
        let volatile_lost = former.outbound.volatile();
        self.figures.volatile_lost += volatile_lost;
        self.figures.peer_restarts += 1;
        let unsettled = std::mem::take(&mut former.unsettled).into_iter().collect();
        events.push(LinkEvent::PeerRestarted { peer: header.from, volatile_lost, unsettled });
        events.extend(former.targets.reset().map(LinkEvent::Room));
        events.extend(former.was_full.then_some(LinkEvent::Writable));
        Ok(())
    }

    /// Notes that the peer is alive.
    fn heard(&mut self, now_ms: u64) {
        if let Some(peer) = &mut self.peer {
            peer.heard_ms = now_ms;
            if std::mem::take(&mut peer.is_silent) {
                self.stream.outbound.begin_again(now_ms);
            }
        }
    }

    fn tell_room(&mut self, events: &mut Vec<LinkEvent>) {
        let Stream { outbound, targets, unsettled, was_full, .. } = &mut self.stream;
        let has_room = outbound.is_half_free() && unsettled.len() < UNSETTLED_MAX && !targets.is_full();
        if *was_full && has_room {
            *was_full = false;
            events.push(LinkEvent::Writable);
        }
    }

    fn take_data(&mut self, now_ms: u64, sequence: u64, body: &[u8], events: &mut Vec<LinkEvent>) {
        match self.stream.inbound.place(sequence) {
            Place::Before => {
                self.figures.duplicates += 1;
                self.stream.inbound.ack_now();
            }
            Place::Early => {
                self.figures.out_of_order += 1;
                self.figures.duplicates += u64::from(self.stream.inbound.keep(sequence, body));
            }
            Place::Next => {
                self.stream.inbound.take(now_ms);
                self.take_entries(body, events);
                while let Some(body) = self.stream.inbound.next_kept() {
                    self.stream.inbound.take(now_ms);
                    self.take_entries(&body, events);
                }
            }
        }
    }

    /// Takes the entries of the next frame in order, which were all read once.
    fn take_entries(&mut self, body: &[u8], events: &mut Vec<LinkEvent>) {
        for entry in Entries::new(body).flatten() {
            let stream = &mut self.stream;
            match entry {
                Entry::Name { number, name } => stream.names_received.keep(number, name),
                Entry::Message(transfer) => self.take_message(&transfer, events),
                Entry::Settled(tags) => {
                    let known = entry::tags(tags).filter(|tag| stream.unsettled.remove(tag));
                    events.extend(known.map(LinkEvent::Settled));
                }
                Entry::Refused { tag, reason } => {
                    if stream.unsettled.remove(&tag) {
                        events.push(LinkEvent::Refused { tag, reason: reason.into() });
                    }
                }
                Entry::Credit { target, credit } => {
                    events.extend(stream.targets.give_back(target, credit).then_some(LinkEvent::Room(target)));
                }
                Entry::Gone(agent) => events.push(LinkEvent::Gone(agent)),
            }
        }
    }

    fn take_message(&mut self, transfer: &Transfer<'_>, events: &mut Vec<LinkEvent>) {
        let Transfer { tag, target, encoded, .. } = *transfer;
        let credit = Credit { messages: 1, bytes: encoded.len() as u64 };
        let boot_epoch = self.peer.map_or(0, |peer| peer.boot_epoch);
        let received = Received { boot_epoch, tag, target, credit };
        let sender = transfer.sender.map(|number| self.stream.names_received.get(number).cloned());
        let read = match &sender {
            Some(None) => Err("its sender has no name".to_owned()),
            _ => read_message(transfer, sender.iter().flatten().map(|(id, _)| *id).next()),
        };
        match read {
            Ok(message) => {
                self.figures.messages_received += 1;
                events.push(LinkEvent::Message(Arrival { received, sender: sender.flatten(), target, message }));
            }
            Err(reason) => {
                // The entry counts as taken. Otherwise the peer would send the same message again and again.
                self.figures.unreadable += 1;
                self.credit(received);
                self.refuse(received, &format!("the message can not be read by node {}: {reason}", self.own.node));
            }
        }
    }
}

/// Decodes a message of this sender, or a notice if there is no sender. An error says why it cannot be decoded.
fn read_message(transfer: &Transfer<'_>, sender: Option<AgentId>) -> Result<Message, String> {
    let mut message = transfer::decode(transfer.encoded, transfer.remaining).map_err(|error| error.to_string())?;
    match sender {
        Some(sender) => {
            message.set_sender_if_absent(sender);
            let is_of_sender = message.sender() == Some(sender);
            if is_of_sender { Ok(message) } else { Err("it is in the name of another agent".to_owned()) }
        }
        None if is_notice(&message) => Ok(message),
        None => Err("it has no sender and is no notice of the router".to_owned()),
    }
}
