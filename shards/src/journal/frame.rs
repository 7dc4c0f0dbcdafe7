//! One commit of the journal: a header, the records, and zeros up to a multiple of 4 KiB.
//!
//! All numbers are little-endian.
//!
//! | Bytes | What |
//! |---|---|
//! | 0..8 | `CAXTONJ` and a zero |
//! | 8..10 | format version, 2 |
//! | 10..12 | header length in bytes, 64 |
//! | 12..14 | shard that the journal belongs to |
//! | 14..16 | zero |
//! | 16..24 | boot epoch of the router that wrote it |
//! | 24..32 | segment number |
//! | 32..40 | frame number within the journal |
//! | 40..48 | LSN of the first record |
//! | 48..52 | number of records |
//! | 52..56 | payload length in bytes |
//! | 56..60 | tag of the journal, which distinguishes its frames from those of other journals of the same shard |
//! | 60..64 | CRC-32 (ISO-HDLC) of bytes 0..60 and the payload |

use crate::journal::record::{RECORD_BYTES_MAX, RecordError, split};

/// Alignment and granularity of frames, in bytes.
pub const BLOCK_BYTES: usize = 4096;
/// Size of a header in bytes.
pub const HEADER_BYTES: usize = 64;
/// The format version that is written, and the only one that is read.
pub const FORMAT_VERSION: u16 = 2;
/// Maximum size of a frame in bytes, unless a single record is longer.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// The first bytes of every frame.
pub const MAGIC: [u8; 8] = *b"CAXTONJ\0";
const CRC_AT: usize = 60;

/// A frame's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// The shard that the journal belongs to.
    pub shard: u16,
    /// The boot epoch of the router that wrote it.
    pub boot_epoch: u64,
    /// The segment that it was written to.
    pub segment: u64,
    /// The frame's number in the journal, counted from 1.
    pub frame: u64,
    /// The LSN of its first record.
    pub first_sequence: u64,
    /// The number of records.
    pub records: u32,
    /// The total size of the records in bytes.
    pub payload_bytes: u32,
    /// The tag of the journal.
    pub tag: u32,
}

/// A complete frame.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    /// The header.
    pub header: FrameHeader,
    /// The records, concatenated.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Iterates over the records in order.
    pub fn records(&self) -> impl Iterator<Item = Result<(u8, &'a [u8]), RecordError>> + use<'a> {
        split(self.payload)
    }

    /// Returns the size of the frame in its segment, in bytes.
    pub fn bytes(&self) -> usize {
        frame_bytes(self.payload.len())
    }
}

/// Bytes are not a valid frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// No frame begins here.
    #[error("no frame begins here")]
    NoFrame,
    /// The format version is unknown to this program.
    #[error("the format version is {0}, this program reads {FORMAT_VERSION}: open it with the program that wrote it")]
    Version(u16),
    /// The length is impossible.
    #[error("the frame says {payload_bytes} bytes of payload, which the segment does not hold")]
    Length {
        /// The length in the header.
        payload_bytes: u32,
    },
    /// The checksum does not match.
    #[error("the checksum does not match")]
    Checksum,
    /// The frame was written to another segment: a leftover from before the file was recycled.
    #[error("the frame belongs to segment {0}")]
    Segment(u64),
    /// The frame belongs to another shard.
    #[error("the frame belongs to shard {0}")]
    Shard(u16),
    /// The frame belongs to another generation or another data directory.
    #[error("the frame belongs to another generation or data directory")]
    Foreign,
    /// The records do not fill the payload, or their number differs from the header's.
    #[error("the records do not fill the frame")]
    Records,
}

/// What a frame is checked against.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected {
    /// The shard of the journal.
    pub shard: u16,
    /// The number of the segment.
    pub segment: u64,
    /// The tag of the journal.
    pub tag: u32,
}

/// Returns the size of a frame with a payload of `payload_bytes`.
pub fn frame_bytes(payload_bytes: usize) -> usize {
    (HEADER_BYTES + payload_bytes).next_multiple_of(BLOCK_BYTES)
}

/// Encodes the header of a frame with this payload; `payload_bytes` is taken from the payload.
pub fn encode_header(header: &FrameHeader, payload: &[u8]) -> [u8; HEADER_BYTES] {
    debug_assert_eq!(header.payload_bytes as usize, payload.len());
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes[10..12].copy_from_slice(&64_u16.to_le_bytes());
    bytes[12..14].copy_from_slice(&header.shard.to_le_bytes());
    bytes[16..24].copy_from_slice(&header.boot_epoch.to_le_bytes());
    bytes[24..32].copy_from_slice(&header.segment.to_le_bytes());
    bytes[32..40].copy_from_slice(&header.frame.to_le_bytes());
    bytes[40..48].copy_from_slice(&header.first_sequence.to_le_bytes());
    bytes[48..52].copy_from_slice(&header.records.to_le_bytes());
    bytes[52..56].copy_from_slice(&header.payload_bytes.to_le_bytes());
    bytes[56..CRC_AT].copy_from_slice(&header.tag.to_le_bytes());
    let crc = checksum(&bytes[..CRC_AT], payload);
    bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads the frame at the beginning of `bytes`, which extend to the end of the segment.
///
/// # Errors
///
/// Returns why there is no valid frame.
pub fn read_frame(bytes: &[u8], expected: Expected) -> Result<Frame<'_>, FrameError> {
    let (head, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(FrameError::NoFrame)?;
    if head[..8] != MAGIC {
        return Err(FrameError::NoFrame);
    }
    let header = FrameHeader {
        shard: u16::from_le_bytes(at(head, 12)),
        boot_epoch: u64::from_le_bytes(at(head, 16)),
        segment: u64::from_le_bytes(at(head, 24)),
        frame: u64::from_le_bytes(at(head, 32)),
        first_sequence: u64::from_le_bytes(at(head, 40)),
        records: u32::from_le_bytes(at(head, 48)),
        payload_bytes: u32::from_le_bytes(at(head, 52)),
        tag: u32::from_le_bytes(at(head, 56)),
    };
    // A later format may use another checksum, so the version is checked first.
    let version = u16::from_le_bytes(at(head, 8));
    if version != FORMAT_VERSION {
        return Err(FrameError::Version(version));
    }
    let payload_bytes = header.payload_bytes as usize;
    let fault = FrameError::Length { payload_bytes: header.payload_bytes };
    if payload_bytes > RECORD_BYTES_MAX.max(FRAME_BYTES_MAX) {
        return Err(fault);
    }
    let payload = rest.get(..payload_bytes).ok_or(fault)?;
    if checksum(&head[..CRC_AT], payload) != u32::from_le_bytes(at(head, CRC_AT)) {
        return Err(FrameError::Checksum);
    }
    if header.shard != expected.shard {
        return Err(FrameError::Shard(header.shard));
    }
    if header.tag != expected.tag {
        return Err(FrameError::Foreign);
    }
    if header.segment != expected.segment {
        return Err(FrameError::Segment(header.segment));
    }
    let mut count = 0_u32;
    for record in split(payload) {
        record.map_err(|_| FrameError::Records)?;
        count += 1;
    }
    if count != header.records || count == 0 || header.first_sequence.checked_add(u64::from(count)).is_none() {
        return Err(FrameError::Records);
    }
    Ok(Frame { header, payload })
}

fn at<const N: usize>(head: &[u8; HEADER_BYTES], offset: usize) -> [u8; N] {
    std::array::from_fn(|index| head[offset + index])
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAYLOAD: &[u8] = &[3, 0, 0, 0, 7, b'h', b'i'];

    fn header(payload: &[u8]) -> FrameHeader {
        FrameHeader {
            shard: 2,
            boot_epoch: 3,
            segment: 4,
            frame: 5,
            first_sequence: 6,
            records: 1,
            payload_bytes: u32::try_from(payload.len()).unwrap(),
            tag: 8,
        }
    }

    #[test]
    fn the_header_has_the_documented_bytes() {
        let bytes = encode_header(&header(PAYLOAD), PAYLOAD);
        let mut golden = Vec::from(*b"CAXTONJ\0\x02\0\x40\0\x02\0\0\0");
        for number in [3_u64, 4, 5, 6] {
            golden.extend(number.to_le_bytes());
        }
        golden.extend([1, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0]);
        assert_eq!(bytes[..CRC_AT], golden);
        assert_eq!(bytes[CRC_AT..], checksum(&golden, PAYLOAD).to_le_bytes());
    }

    proptest! {
        #[test]
        fn one_changed_bit_is_found(bit in 0..(HEADER_BYTES + 7) * 8) {
            let mut bytes = encode_header(&header(PAYLOAD), PAYLOAD).to_vec();
            bytes.extend(PAYLOAD);
            let expected = Expected { shard: 2, segment: 4, tag: 8 };
            prop_assert_eq!(read_frame(&bytes, expected).unwrap().header, header(PAYLOAD));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(read_frame(&bytes, expected).is_err());
        }

        #[test]
        fn junk_is_read_to_its_end(junk in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_frame(&junk, Expected { shard: 0, segment: 0, tag: 0 });
            prop_assert!(split(&junk).count() <= junk.len());
        }
    }
}
