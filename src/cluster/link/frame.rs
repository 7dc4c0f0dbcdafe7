//! The header of every frame, and the versions of the protocol.
//!
//! Layout, little-endian: the magic (4 bytes), version and kind (1 byte each), the sending node (2) and its boot epoch
//! (8), the receiving node (2) and the boot epoch that the frame is meant for (8; zero if it is not known), the
//! sequence number (8), and the highest sequence number received in order (8). There is no checksum, because TCP and
//! TLS have theirs.

use caxton_shards::domain::NodeId;

/// The first bytes of every frame.
const MAGIC: [u8; 4] = *b"CxLk";
/// The version of the header of a hello, which all versions of the protocol can read.
const HELLO_VERSION: u8 = 0;
/// The versions of the protocol that this router speaks.
pub const VERSIONS: Versions = Versions { lowest: 1, highest: 1 };
/// Length of a frame's header, in bytes.
pub(super) const HEADER_BYTES: usize = 42;

/// A run of a node: a router's node id, and its boot epoch, which is higher after each start.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NodeRun {
    /// The node in the cluster.
    pub node: NodeId,
    /// The run of the router on that node; never zero.
    pub boot_epoch: u64,
}

/// A frame was refused. The link is unchanged; what the frame contained is sent again by the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The bytes are not a frame of this protocol.
    #[error("the bytes are not a frame of a link")]
    NotAFrame,
    /// The frame has a version of the protocol that was not agreed on.
    #[error("the frame has version {0} of the protocol, which was not agreed on")]
    Version(u8),
    /// The peer speaks no version that this router speaks.
    #[error("the peer speaks versions {0} to {1} of the protocol, and this router speaks none of them: update one")]
    NoCommonVersion(u8, u8),
    /// The frame is from or for another node than those of the link.
    #[error("the frame is from node {from} for node {to}, which is another link")]
    Misdirected {
        /// The node that sent it.
        from: u16,
        /// The node that it is meant for.
        to: u16,
    },
    /// The frame ends too early.
    #[error("the frame ends within its {0}")]
    Truncated(&'static str),
    /// A value is invalid.
    #[error("the frame's {0} is invalid")]
    Illegal(&'static str),
}

/// What a frame is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    /// Announces a run of a node, and the versions that it speaks.
    Hello = 1,
    /// Has the entries of one place in the stream.
    Data = 2,
    /// Acknowledges.
    Ack = 3,
    /// Asks for the frames from the sequence number up to the one in its body.
    Nak = 4,
}

/// The versions of the protocol between nodes that a node speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Versions {
    /// The lowest.
    pub lowest: u8,
    /// The highest; not below the lowest.
    pub highest: u8,
}

impl Versions {
    /// Returns the highest version that both speak.
    pub fn common(self, other: Self) -> Option<u8> {
        let highest = self.highest.min(other.highest);
        (highest >= self.lowest.max(other.lowest)).then_some(highest)
    }
}

/// The header of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub version: u8,
    pub kind: Kind,
    pub from: NodeRun,
    /// The boot epoch is zero if it is not known.
    pub to: NodeRun,
    /// Of a data frame, its place in the stream, counted from one. Of a nak, the first missing place.
    pub sequence: u64,
    /// The sender has received everything up to this place of the other direction's stream.
    pub acknowledged: u64,
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let version = if self.kind == Kind::Hello { HELLO_VERSION } else { self.version };
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&[version, self.kind as u8]);
        bytes[6..8].copy_from_slice(&self.from.node.into_inner().to_le_bytes());
        bytes[8..16].copy_from_slice(&self.from.boot_epoch.to_le_bytes());
        bytes[16..18].copy_from_slice(&self.to.node.into_inner().to_le_bytes());
        bytes[18..26].copy_from_slice(&self.to.boot_epoch.to_le_bytes());
        bytes[26..34].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[34..42].copy_from_slice(&self.acknowledged.to_le_bytes());
        bytes
    }

    /// Reads the header. Returns it and the frame's body.
    pub fn read(frame: &[u8]) -> Result<(Self, &[u8]), FrameError> {
        let mut from = Cursor(frame);
        if from.array::<4>("header") != Ok(MAGIC) {
            return Err(FrameError::NotAFrame);
        }
        let [version, kind] = from.array("header")?;
        let kind = match kind {
            1 if version == HELLO_VERSION => Kind::Hello,
            2 => Kind::Data,
            3 => Kind::Ack,
            4 => Kind::Nak,
            _ => return Err(FrameError::Illegal("kind")),
        };
        let header = Self {
            version,
            kind,
            from: from.node_run()?,
            to: from.node_run()?,
            sequence: from.u64("sequence number")?,
            acknowledged: from.u64("acknowledgement")?,
        };
        if header.from.boot_epoch == 0 {
            return Err(FrameError::Illegal("boot epoch"));
        }
        Ok((header, from.0))
    }
}

/// Reads numbers from the front of bytes.
pub(super) struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    pub fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], FrameError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(FrameError::Truncated(what))?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn array<const LENGTH: usize>(&mut self, what: &'static str) -> Result<[u8; LENGTH], FrameError> {
        self.take(LENGTH, what)?.try_into().map_err(|_| FrameError::Truncated(what))
    }

    pub fn u16(&mut self, what: &'static str) -> Result<u16, FrameError> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub fn u32(&mut self, what: &'static str) -> Result<u32, FrameError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, what: &'static str) -> Result<u64, FrameError> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub fn u128(&mut self, what: &'static str) -> Result<u128, FrameError> {
        self.array(what).map(u128::from_le_bytes)
    }

    fn node_run(&mut self) -> Result<NodeRun, FrameError> {
        let node = NodeId::try_new(self.u16("node")?).map_err(|_| FrameError::Illegal("node"))?;
        Ok(NodeRun { node, boot_epoch: self.u64("boot epoch")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: Kind) -> Header {
        let node = |number| NodeId::try_new(number).expect("it is one");
        Header {
            version: if kind == Kind::Hello { HELLO_VERSION } else { 1 },
            kind,
            from: NodeRun { node: node(7), boot_epoch: 1 << 50 },
            to: NodeRun { node: node(65_535), boot_epoch: 0 },
            sequence: 1 << 40,
            acknowledged: u64::MAX,
        }
    }

    #[test]
    fn a_header_reads_back_and_leaves_the_body() {
        for kind in [Kind::Hello, Kind::Data, Kind::Ack, Kind::Nak] {
            let mut frame = header(kind).encode().to_vec();
            frame.extend(b"body");
            assert_eq!(Header::read(&frame), Ok((header(kind), &b"body"[..])));
        }
    }

    #[test]
    fn a_damaged_header_is_refused() {
        let whole = header(Kind::Data).encode();
        for length in 0..HEADER_BYTES {
            assert!(Header::read(&whole[..length]).is_err(), "{length} bytes");
        }
        let changed = |place: usize, byte: u8| {
            let mut frame = whole;
            frame[place] = byte;
            Header::read(&frame).map(|_| ())
        };
        assert_eq!(changed(0, b'c'), Err(FrameError::NotAFrame));
        assert_eq!(changed(5, 9), Err(FrameError::Illegal("kind")));
        assert_eq!(changed(5, Kind::Hello as u8), Err(FrameError::Illegal("kind")));
        assert_eq!(changed(14, 0), Err(FrameError::Illegal("boot epoch")));
    }

    #[test]
    fn the_highest_common_version_is_used() {
        let versions = |lowest, highest| Versions { lowest, highest };
        assert_eq!(versions(1, 3).common(versions(2, 5)), Some(3));
        assert_eq!(versions(2, 5).common(versions(1, 3)), Some(3));
        assert_eq!(versions(1, 1).common(versions(1, 1)), Some(1));
        assert_eq!(versions(1, 2).common(versions(3, 4)), None);
    }
}
