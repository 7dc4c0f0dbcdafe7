//! The write in flight: gathered records become a frame, and are durable once it is written.

use std::io;

use caxton_shards::journal::frame::{
    BLOCK_BYTES, FRAME_BYTES_MAX, FrameHeader, HEADER_BYTES, encode_header, frame_bytes,
};
use caxton_shards::journal::record::{Lsn, Projects};

use super::super::disk::{Buffer, Disk, DiskFile};
use super::trouble::Trouble;
use super::{InFlight, Journal, Projection, segment};

impl<D: Disk> Journal<D> {
    /// Takes over the result of the write in flight, if it is complete.
    pub(super) fn finish_write(&mut self, now_ms: u64) {
        if self.in_flight.is_none() {
            return;
        }
        let Some((result, buffer)) = self.active.file.poll() else { return };
        let Some(write) = self.in_flight.take() else { return };
        match result {
            Ok(()) => {
                self.written_bytes += buffer.bytes().len() as u64;
                self.commits += 1;
                (self.committed, self.committed_frame) = (write.last, write.frame);
                self.committed_ms = now_ms;
                self.frame_trouble = None;
                self.buffers.push(buffer);
                if let Some(projection) = write.projection {
                    self.projections.push(projection);
                }
            }
            Err(error) => {
                let offset = self.active.offset - buffer.bytes().len() as u64;
                self.postpone("a write to the journal failed", &error, (offset, buffer, write), now_ms);
            }
        }
    }

    /// Postpones a frame that could not be written now, unless the error is final.
    #[cold]
    fn postpone(&mut self, what: &str, error: &io::Error, frame: (u64, Buffer, InFlight), now_ms: u64) {
        let trouble = Trouble::of(error, what, &self.options.directory, self.frame_trouble.as_ref(), now_ms);
        if trouble.is_none() {
            return self.fail(what, error);
        }
        self.frame_trouble = trouble;
        self.postponed = Some(frame);
    }

    /// Writes what was gathered as one frame.
    pub(super) fn begin_write(&mut self, now_ms: u64) {
        if let Some((offset, buffer, write)) = self.postponed.take() {
            if self.frame_trouble.as_ref().is_some_and(|trouble| !trouble.is_over(now_ms)) {
                self.postponed = Some((offset, buffer, write));
                return;
            }
            return self.submit(offset, buffer, write, now_ms);
        }
        if self.waiting.is_empty() {
            return;
        }
        let (records, bytes) = self.next_frame_size();
        let length = frame_bytes(bytes);
        if !self.active.has_room(length as u64, self.options.segment_bytes) && !self.next_segment(length) {
            return;
        }
        let buffer = self.encode_next(records, bytes);
        let offset = self.active.offset;
        self.active.offset += length as u64;
        let projection = self.take_gathered(records, bytes).map(|(steps, state)| Projection {
            path: segment::path(&self.options.directory, self.active.number),
            segment: self.active.number,
            tag: self.tag,
            offset,
            bytes: length,
            last: Lsn(self.framed),
            steps,
            state,
        });
        self.submit(offset, buffer, InFlight { last: self.framed, frame: self.frame, projection }, now_ms);
    }

    /// Returns how many of the gathered records fit into one frame, at least one, and their bytes.
    fn next_frame_size(&self) -> (usize, usize) {
        let (mut records, mut bytes) = (0_usize, 0_usize);
        for (length, _) in &self.waiting {
            if records > 0 && bytes + *length as usize > FRAME_BYTES_MAX - HEADER_BYTES {
                break;
            }
            records += 1;
            bytes += *length as usize;
        }
        (records, bytes)
    }

    /// Encodes the first of the gathered records as the next frame, and counts it.
    fn encode_next(&mut self, records: usize, bytes: usize) -> Buffer {
        self.frame += 1;
        let header = FrameHeader {
            shard: self.options.id.shard,
            boot_epoch: self.options.id.boot_epoch,
            segment: self.active.number,
            frame: self.frame,
            first_sequence: self.framed + 1,
            records: u32::try_from(records).unwrap_or(u32::MAX),
            payload_bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            tag: self.tag,
        };
        let length = frame_bytes(bytes);
        let mut buffer = self.take_buffer(length);
        let place = buffer.resize(length);
        let payload = &self.gathered[self.taken..self.taken + bytes];
        place[..HEADER_BYTES].copy_from_slice(&encode_header(&header, payload));
        place[HEADER_BYTES..HEADER_BYTES + bytes].copy_from_slice(payload);
        place[HEADER_BYTES + bytes..].fill(0);
        buffer
    }

    /// Removes the records of a frame from the gathered ones. Returns what of them the projection has to read, if
    /// anything: the number of conversation steps, and whether there is state.
    fn take_gathered(&mut self, records: usize, bytes: usize) -> Option<(u64, bool)> {
        self.taken += bytes;
        // The rest is moved to the front only if it is less than what is gone.
        if self.taken * 2 >= self.gathered.len() {
            self.gathered.drain(..self.taken);
            self.taken = 0;
        }
        let (mut steps, mut state) = (0, false);
        for (_, class) in self.waiting.drain(..records) {
            self.framed += 1;
            self.messages += u64::from(class.arrives);
            self.active.held.push(class.holds);
            steps += u64::from(class.projects == Projects::History);
            state |= class.projects == Projects::State;
        }
        (state || steps > 0).then_some((steps, state))
    }

    /// Begins to write a frame at this offset of the current segment.
    fn submit(&mut self, offset: u64, buffer: Buffer, write: InFlight, now_ms: u64) {
        self.began_ms = now_ms;
        match self.active.file.submit(offset, buffer) {
            Ok(()) => self.in_flight = Some(write),
            Err((error, buffer)) => {
                self.postpone("a write to the journal could not be begun", &error, (offset, buffer, write), now_ms);
            }
        }
    }

    /// Returns a buffer for a frame of this length, one that was used before if possible.
    fn take_buffer(&mut self, length: usize) -> Buffer {
        match self.buffers.pop() {
            Some(buffer) if buffer.capacity() >= length => buffer,
            _ => Buffer::new(length.max(FRAME_BYTES_MAX + BLOCK_BYTES)),
        }
    }
}
