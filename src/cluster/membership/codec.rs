//! The bytes of membership packets.
//!
//! All numbers are big-endian and of fixed size, so a member has [`MEMBER_BYTES`] whatever its values. What cannot be a
//! member, such as node 0, is refused.

use bytes::{Buf, BufMut, TryGetError};
use caxton_shards::domain::NodeId;
use foca::{Codec, Header, Message, State};

use super::member::Member;
use crate::cluster::link::Versions;

/// Size of a member, in bytes.
pub const MEMBER_BYTES: usize = 18;
/// Maximum size of a header, in bytes: two members, an incarnation, a kind, and what belongs to the kind.
const HEADER_BYTES_MAX: usize = 3 * MEMBER_BYTES + 2 + 1 + 1;
/// Size of what is known of a member, in bytes.
const STATE_BYTES: usize = MEMBER_BYTES + 2 + 1;

/// Why a packet cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes end too early.
    #[error("the packet is cut off")]
    CutOff,
    /// A value is not allowed in a packet.
    #[error("the packet has a value that is not allowed")]
    NotAllowed,
    /// There is no room for more.
    #[error("the packet is full")]
    Full,
}

impl From<TryGetError> for CodecError {
    fn from(_: TryGetError) -> Self {
        Self::CutOff
    }
}

/// Appends a member.
pub fn put_member(member: &Member, buffer: &mut impl BufMut) -> Result<(), CodecError> {
    room(buffer, MEMBER_BYTES)?;
    buffer.put_u16(member.node.into_inner());
    buffer.put_u64(member.boot_epoch);
    buffer.put_u32(member.renewal);
    buffer.put_u8(member.versions.lowest);
    buffer.put_u8(member.versions.highest);
    buffer.put_u16(member.shards);
    Ok(())
}

/// Reads a member.
pub fn get_member(buffer: &mut impl Buf) -> Result<Member, CodecError> {
    let node = get_node(buffer)?;
    let (boot_epoch, renewal) = (buffer.try_get_u64()?, buffer.try_get_u32()?);
    let versions = Versions { lowest: buffer.try_get_u8()?, highest: buffer.try_get_u8()? };
    let shards = buffer.try_get_u16()?;
    if versions.lowest > versions.highest || shards == 0 {
        return Err(CodecError::NotAllowed);
    }
    Ok(Member { node, boot_epoch, renewal, versions, shards })
}

/// Reads the number of a node, which is not 0.
pub fn get_node(buffer: &mut impl Buf) -> Result<NodeId, CodecError> {
    match buffer.try_get_u16()? {
        0 => Err(CodecError::NotAllowed),
        node => NodeId::try_new(node).map_err(|_| CodecError::NotAllowed),
    }
}

fn room(buffer: &impl BufMut, bytes: usize) -> Result<(), CodecError> {
    if buffer.remaining_mut() < bytes { Err(CodecError::Full) } else { Ok(()) }
}

/// Encodes and decodes the protocol's headers and members.
#[derive(Clone, Copy, Debug)]
pub struct MemberCodec;

impl Codec<Member> for MemberCodec {
    type Error = CodecError;

    fn encode_header(&mut self, header: &Header<Member>, mut buffer: impl BufMut) -> Result<(), CodecError> {
        room(&buffer, HEADER_BYTES_MAX)?;
        put_member(&header.src, &mut buffer)?;
        buffer.put_u16(header.src_incarnation);
        put_member(&header.dst, &mut buffer)?;
        let (kind, number, other) = match &header.message {
            Message::Ping(number) => (1, Some(*number), None),
            Message::Ack(number) => (2, Some(*number), None),
            Message::PingReq { target, probe_number } => (3, Some(*probe_number), Some(target)),
            Message::IndirectPing { origin, probe_number } => (4, Some(*probe_number), Some(origin)),
            Message::IndirectAck { target, probe_number } => (5, Some(*probe_number), Some(target)),
            Message::ForwardedAck { origin, probe_number } => (6, Some(*probe_number), Some(origin)),
            Message::Announce => (7, None, None),
            Message::Feed => (8, None, None),
            Message::Gossip => (9, None, None),
            Message::Broadcast => (10, None, None),
            Message::TurnUndead => (11, None, None),
        };
        buffer.put_u8(kind);
        if let Some(number) = number {
            buffer.put_u8(number);
        }
        other.map_or(Ok(()), |other| put_member(other, &mut buffer))
    }

    fn decode_header(&mut self, mut buffer: impl Buf) -> Result<Header<Member>, CodecError> {
        let buffer = &mut buffer;
        let src = get_member(buffer)?;
        let src_incarnation = buffer.try_get_u16()?;
        let dst = get_member(buffer)?;
        let message = match buffer.try_get_u8()? {
            1 => Message::Ping(buffer.try_get_u8()?),
            2 => Message::Ack(buffer.try_get_u8()?),
            3 => Message::PingReq { probe_number: buffer.try_get_u8()?, target: get_member(buffer)? },
            4 => Message::IndirectPing { probe_number: buffer.try_get_u8()?, origin: get_member(buffer)? },
            5 => Message::IndirectAck { probe_number: buffer.try_get_u8()?, target: get_member(buffer)? },
            6 => Message::ForwardedAck { probe_number: buffer.try_get_u8()?, origin: get_member(buffer)? },
            7 => Message::Announce,
            8 => Message::Feed,
            9 => Message::Gossip,
            10 => Message::Broadcast,
            11 => Message::TurnUndead,
            _ => return Err(CodecError::NotAllowed),
        };
        Ok(Header { src, src_incarnation, dst, message })
    }

    fn encode_member(&mut self, member: &foca::Member<Member>, mut buffer: impl BufMut) -> Result<(), CodecError> {
        room(&buffer, STATE_BYTES)?;
        put_member(member.id(), &mut buffer)?;
        buffer.put_u16(member.incarnation());
        buffer.put_u8(match member.state() {
            State::Alive => 1,
            State::Suspect => 2,
            State::Down => 3,
        });
        Ok(())
    }

    fn decode_member(&mut self, mut buffer: impl Buf) -> Result<foca::Member<Member>, CodecError> {
        let member = get_member(&mut buffer)?;
        let incarnation = buffer.try_get_u16()?;
        let state = match buffer.try_get_u8()? {
            1 => State::Alive,
            2 => State::Suspect,
            3 => State::Down,
            _ => return Err(CodecError::NotAllowed),
        };
        Ok(foca::Member::new(member, incarnation, state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member() -> impl Strategy<Value = Member> {
        let numbers = (1..=u16::MAX, any::<u64>(), any::<u32>(), any::<u8>(), any::<u8>(), 1..=u16::MAX);
        numbers.prop_map(|(node, boot_epoch, renewal, one, other, shards)| {
            let versions = Versions { lowest: one.min(other), highest: one.max(other) };
            Member { node: NodeId::try_new(node).expect("it is legal"), boot_epoch, renewal, versions, shards }
        })
    }

    fn message(kind: u8, other: Member, probe_number: u8) -> Message<Member> {
        match kind {
            0 => Message::Ping(probe_number),
            1 => Message::Ack(probe_number),
            2 => Message::PingReq { target: other, probe_number },
            3 => Message::IndirectPing { origin: other, probe_number },
            4 => Message::IndirectAck { target: other, probe_number },
            5 => Message::ForwardedAck { origin: other, probe_number },
            6 => Message::Announce,
            7 => Message::Feed,
            8 => Message::Gossip,
            9 => Message::Broadcast,
            _ => Message::TurnUndead,
        }
    }

    proptest! {
        #[test]
        fn headers_read_back_and_no_shorter_text_is_one(
            src in member(), dst in member(), other in member(), src_incarnation: u16, kind in 0..11_u8, number: u8,
        ) {
            let header = Header { src, src_incarnation, dst, message: message(kind, other, number) };
            let mut bytes = Vec::new();
            MemberCodec.encode_header(&header, &mut bytes).expect("there is room");
            prop_assert!(bytes.len() <= HEADER_BYTES_MAX);
            prop_assert_eq!(MemberCodec.decode_header(&bytes[..]).expect("it is whole"), header);
            for length in 0..bytes.len() {
                prop_assert!(MemberCodec.decode_header(&bytes[..length]).is_err());
            }
        }

        #[test]
        fn members_read_back(id in member(), incarnation: u16, state in 0..3_u8) {
            let state = [State::Alive, State::Suspect, State::Down][usize::from(state)];
            let known = foca::Member::new(id, incarnation, state);
            let mut bytes = Vec::new();
            MemberCodec.encode_member(&known, &mut bytes).expect("there is room");
            prop_assert_eq!(bytes.len(), STATE_BYTES);
            prop_assert_eq!(MemberCodec.decode_member(&bytes[..]).expect("it is whole"), known);
            let full = MemberCodec.encode_member(&foca::Member::new(id, incarnation, state), &mut [0_u8; 8][..]);
            prop_assert!(matches!(full, Err(CodecError::Full)));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = MemberCodec.decode_header(&bytes[..]);
            let _ = MemberCodec.decode_member(&bytes[..]);
        }
    }
}
