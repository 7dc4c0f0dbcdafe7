//! Seals of membership packets: HMAC-SHA256 under the secret of `cluster.key_file`.
//!
//! A seal proves that a node with the secret made the packet, for the cluster of this name. It does not prove when:
//! somebody may send an old packet again, but the incarnations in it show that it is old. Nothing is encrypted.

use ring::hmac;

/// Size of a seal, in bytes.
pub const SEAL_BYTES: usize = 32;

/// What the secret is used for. Each use derives its own key from it.
const PURPOSE: &[u8] = b"caxton cluster membership 1\0";

/// The first byte of packets without a seal.
const OPEN: u8 = 1;
/// The first byte of packets with a seal at their end.
const SEALED: u8 = 2;

/// Seals packets, and checks the seals of others.
pub struct Seal {
    /// Derived from the secret and the cluster's name; none without a secret.
    key: Option<hmac::Key>,
}

impl Seal {
    /// Creates the seal of a cluster, which is empty without a secret.
    pub fn new(cluster: &str, secret: Option<&[u8]>) -> Self {
        let derive = |secret: &[u8]| {
            let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
            context.update(PURPOSE);
            context.update(cluster.as_bytes());
            hmac::Key::new(hmac::HMAC_SHA256, context.sign().as_ref())
        };
        Self { key: secret.map(derive) }
    }

    /// Returns the sealed packet with these parts as its content.
    pub fn close(&self, parts: [&[u8]; 2]) -> Vec<u8> {
        let mut packet = Vec::with_capacity(1 + parts[0].len() + parts[1].len() + SEAL_BYTES);
        packet.push(if self.key.is_some() { SEALED } else { OPEN });
        for part in parts {
            packet.extend_from_slice(part);
        }
        if let Some(key) = &self.key {
            let tag = hmac::sign(key, &packet);
            packet.extend_from_slice(tag.as_ref());
        }
        packet
    }

    /// Returns the content of a packet if its seal is right. With a secret, the packet must have a seal; without one,
    /// it must not.
    pub fn open<'a>(&self, packet: &'a [u8]) -> Option<&'a [u8]> {
        let Some(key) = &self.key else { return packet.strip_prefix(&[OPEN]) };
        let (content, tag) = packet.split_at_checked(packet.len().checked_sub(SEAL_BYTES)?)?;
        hmac::verify(key, content, tag).ok()?;
        content.strip_prefix(&[SEALED])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_secret_and_cluster_open_a_packet() {
        let secret = [7; 32];
        let seal = Seal::new("plant", Some(&secret));
        let packet = seal.close([b"a", b"bc"]);
        assert_eq!(seal.open(&packet), Some(&b"abc"[..]));
        let others = [Seal::new("plant", Some(&[8; 32])), Seal::new("other", Some(&secret)), Seal::new("plant", None)];
        for other in &others {
            assert_eq!((other.open(&packet), seal.open(&other.close([b"a", b"bc"]))), (None, None));
        }
        for index in 0..packet.len() {
            let mut damaged = packet.clone();
            damaged[index] ^= 1;
            assert_eq!(seal.open(&damaged), None, "byte {index}");
            assert_eq!(seal.open(&packet[..index]), None, "{index} bytes");
        }
        let open = Seal::new("plant", None);
        assert_eq!(open.open(&open.close([b"", b"x"])), Some(&b"x"[..]));
        assert_eq!(open.open(b""), None);
    }
}
