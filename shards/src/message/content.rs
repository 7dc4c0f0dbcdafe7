//! A message's content: bytes that the router does not interpret.

use std::fmt;
use std::sync::Arc;

/// Maximum size of content stored inside the message, without an allocation, in bytes. Measured: copying 200 bytes
/// costs 5 ns, allocating and freeing a buffer 17 to 23 ns.
pub const CONTENT_INLINE_BYTES: usize = 206;

/// Immutable bytes that are cheap to clone: short content is copied, long content is shared.
///
/// Empty bytes from native code mean no content. Content that is present but empty, which messages in FIPA's forms can
/// express, is distinct from that (see [`MessageContent::is_given`]).
#[derive(Clone)]
pub struct MessageContent(Representation);

#[derive(Clone)]
enum Representation {
    Inline { length: u8, bytes: [u8; CONTENT_INLINE_BYTES] },
    Shared(Arc<[u8]>),
}

impl MessageContent {
    /// No content.
    pub const EMPTY: Self = Self(Representation::Inline { length: 0, bytes: [0; CONTENT_INLINE_BYTES] });

    /// Creates content that is present but empty, such as `:content ""`. Unlike [`MessageContent::EMPTY`] it is written
    /// by the codecs.
    #[cold]
    pub fn given_empty() -> Self {
        Self(Representation::Shared(Arc::from(&[][..])))
    }

    /// Whether content is present, even if it is empty.
    pub fn is_given(&self) -> bool {
        !matches!(self.0, Representation::Inline { length: 0, .. })
    }

    /// Copies `bytes`.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // The length was compared with a limit below 256.
    pub fn copy_of(bytes: &[u8]) -> Self {
        if bytes.len() <= CONTENT_INLINE_BYTES {
            let mut inline = [0; CONTENT_INLINE_BYTES];
            inline[..bytes.len()].copy_from_slice(bytes);
            Self(Representation::Inline { length: bytes.len() as u8, bytes: inline })
        } else {
            Self(Representation::Shared(Arc::from(bytes)))
        }
    }

    /// Replaces the content, moving only the bytes themselves.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // The length was compared with a limit below 256.
    fn assign(&mut self, new: &[u8]) {
        match &mut self.0 {
            Representation::Inline { length, bytes } if new.len() <= CONTENT_INLINE_BYTES => {
                bytes[..new.len()].copy_from_slice(new);
                *length = new.len() as u8;
            }
            _ => *self = Self::copy_of(new),
        }
    }

    /// Replaces the content with the concatenated parts.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // The length was compared with a limit below 256.
    fn assign_parts(&mut self, parts: &[&[u8]]) {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        if total > CONTENT_INLINE_BYTES {
            let mut shared: Arc<[u8]> = std::iter::repeat_n(0, total).collect();
            if let Some(bytes) = Arc::get_mut(&mut shared) {
                join(parts, bytes);
            }
            self.0 = Representation::Shared(shared);
            return;
        }
        self.clear();
        if let Representation::Inline { length, bytes } = &mut self.0 {
            join(parts, &mut bytes[..total]);
            *length = total as u8;
        }
    }

    /// Removes the content. Short content is not wiped, because the next content overwrites it.
    #[inline]
    pub(super) fn clear(&mut self) {
        match &mut self.0 {
            Representation::Inline { length, .. } => *length = 0,
            Representation::Shared(_) => *self = Self::EMPTY,
        }
    }

    /// Returns the content if it is stored inside the message.
    #[inline]
    pub(super) fn inline(&self) -> Option<InlineContent<'_>> {
        match &self.0 {
            Representation::Inline { length, bytes } => Some(InlineContent { length: *length, bytes }),
            Representation::Shared(_) => None,
        }
    }

    /// Returns the bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Representation::Inline { length, bytes } => &bytes[..usize::from(*length)],
            Representation::Shared(bytes) => bytes,
        }
    }

    /// Returns the bytes as text if they are UTF-8.
    pub fn as_text(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()).ok()
    }

    /// Returns the length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Representation::Inline { length, .. } => usize::from(*length),
            Representation::Shared(bytes) => bytes.len(),
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Concatenates parts into `place`, which has exactly their total length.
#[inline]
fn join(parts: &[&[u8]], place: &mut [u8]) {
    let mut rest = place;
    for part in parts {
        let (place, behind) = rest.split_at_mut(part.len());
        place.copy_from_slice(part);
        rest = behind;
    }
}

/// Content stored inside its message.
#[derive(Clone, Copy)]
pub(super) struct InlineContent<'a> {
    length: u8,
    bytes: &'a [u8; CONTENT_INLINE_BYTES],
}

impl InlineContent<'_> {
    #[inline(always)]
    pub(super) fn copy(self) -> MessageContent {
        MessageContent(Representation::Inline { length: self.length, bytes: *self.bytes })
    }
}

impl Default for MessageContent {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl From<&[u8]> for MessageContent {
    fn from(bytes: &[u8]) -> Self {
        Self::copy_of(bytes)
    }
}

impl<const LENGTH: usize> From<&[u8; LENGTH]> for MessageContent {
    fn from(bytes: &[u8; LENGTH]) -> Self {
        Self::copy_of(bytes)
    }
}

impl From<&str> for MessageContent {
    fn from(text: &str) -> Self {
        Self::copy_of(text.as_bytes())
    }
}

impl From<String> for MessageContent {
    fn from(text: String) -> Self {
        Self::from(text.into_bytes())
    }
}

impl From<Vec<u8>> for MessageContent {
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.len() <= CONTENT_INLINE_BYTES { Self::copy_of(&bytes) } else { Self::from(Arc::from(bytes)) }
    }
}

impl From<Arc<[u8]>> for MessageContent {
    fn from(bytes: Arc<[u8]>) -> Self {
        if bytes.len() <= CONTENT_INLINE_BYTES { Self::copy_of(&bytes) } else { Self(Representation::Shared(bytes)) }
    }
}

/// A type that can become a message's content. Borrowed bytes are copied directly into the message, as are several
/// pieces of them, one after the other.
pub trait IntoContent {
    /// Replaces the content.
    fn put_into(self, content: &mut MessageContent);
}

impl IntoContent for &[u8] {
    #[inline]
    fn put_into(self, content: &mut MessageContent) {
        content.assign(self);
    }
}

impl<const LENGTH: usize> IntoContent for &[u8; LENGTH] {
    #[inline]
    fn put_into(self, content: &mut MessageContent) {
        content.assign(self);
    }
}

impl<const PARTS: usize> IntoContent for [&[u8]; PARTS] {
    #[inline]
    fn put_into(self, content: &mut MessageContent) {
        content.assign_parts(&self);
    }
}

impl IntoContent for &str {
    #[inline]
    fn put_into(self, content: &mut MessageContent) {
        content.assign(self.as_bytes());
    }
}

macro_rules! moved_into_content {
    ($($kind:ty),+) => {
        $(impl IntoContent for $kind {
            fn put_into(self, content: &mut MessageContent) {
                *content = self.into();
            }
        })+
    };
}

moved_into_content!(MessageContent, String, Vec<u8>, Arc<[u8]>);

impl PartialEq for MessageContent {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes() && self.is_given() == other.is_given()
    }
}

impl Eq for MessageContent {}

impl fmt::Debug for MessageContent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_BYTES: usize = 80;
        let shown = &self.as_bytes()[..self.len().min(SHOWN_BYTES)];
        write!(formatter, "{:?} ({} bytes)", String::from_utf8_lossy(shown), self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_on_both_sides_of_the_inline_limit_reads_back() {
        for length in [0, 1, CONTENT_INLINE_BYTES, CONTENT_INLINE_BYTES + 1, 100_000] {
            let bytes: Vec<u8> = (0..length).map(|index| u8::try_from(index % 251).unwrap()).collect();
            for content in [MessageContent::copy_of(&bytes), MessageContent::from(bytes.clone())] {
                assert_eq!(content.as_bytes(), bytes);
                assert_eq!(content.len(), length);
                assert_eq!(content.clone(), content);
            }
        }
    }

    #[test]
    fn parts_become_one_content_on_both_sides_of_the_inline_limit() {
        let bytes = [b'x'; CONTENT_INLINE_BYTES + 1];
        for (first, second) in [(0, 0), (0, 5), (16, CONTENT_INLINE_BYTES - 16), (16, CONTENT_INLINE_BYTES - 15)] {
            let parts: [&[u8]; 3] = [&[b'a'; 16][..first.min(16)], b"", &bytes[..second]];
            for before in [MessageContent::EMPTY, MessageContent::copy_of(b"before"), MessageContent::copy_of(&bytes)] {
                let mut content = before;
                parts.put_into(&mut content);
                assert_eq!(content.as_bytes(), parts.concat());
            }
        }
    }
}
