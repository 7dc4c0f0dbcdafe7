//! What is wrong with bytes, and where.

use crate::codec::text::{Fault, Place, Refusal};

/// Why bytes are no message or no envelope. Nothing of them took effect.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("byte {offset}: {fault}")]
pub struct BitsError {
    /// The byte in the input, from 0.
    pub offset: usize,
    /// What is wrong there.
    pub fault: Fault,
}

impl From<Refusal> for BitsError {
    #[cold]
    fn from(refusal: Refusal) -> Self {
        let located = refusal.at(Place::START);
        Self { offset: located.offset, fault: located.fault }
    }
}
