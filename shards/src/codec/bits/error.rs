//! Errors of the bit-efficient form.

use crate::codec::text::{ParseErrorKind, Place, Refusal};

/// Bytes are not a valid message or envelope. Nothing took effect.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("byte {offset}: {kind}")]
pub struct BitsError {
    /// The position in the input, in bytes from 0.
    pub offset: usize,
    /// What is wrong there.
    pub kind: ParseErrorKind,
}

impl From<Refusal> for BitsError {
    #[cold]
    fn from(refusal: Refusal) -> Self {
        let located = refusal.at(Place::START);
        Self { offset: located.offset, kind: located.kind }
    }
}
