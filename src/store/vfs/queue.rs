//! Bytes on their way into one file: gathered until somebody has to see them, adjacent ones as one write.

/// Maximum number of waiting bytes.
const BYTES_MAX: usize = 4 << 20;
/// Maximum number of separate waiting stretches.
const STRETCHES_MAX: usize = 1_024;

/// Bytes for one place in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stretch {
    pub offset: u64,
    pub bytes: Vec<u8>,
}

impl Stretch {
    pub fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    fn overlaps(&self, offset: u64, end: u64) -> bool {
        self.offset < end && offset < self.end()
    }
}

/// Waiting writes, in order of arrival. No two stretches overlap.
#[derive(Debug, Default)]
pub(super) struct Queue {
    stretches: Vec<Stretch>,
    bytes: usize,
}

impl Queue {
    /// Adds bytes. Returns false if they overlap with waiting ones, which have to be written first.
    pub fn push(&mut self, offset: u64, bytes: &[u8]) -> bool {
        if self.overlaps(offset, bytes.len()) {
            return false;
        }
        self.bytes += bytes.len();
        match self.stretches.last_mut().filter(|last| last.end() == offset) {
            Some(last) => last.bytes.extend_from_slice(bytes),
            None => self.stretches.push(Stretch { offset, bytes: bytes.to_vec() }),
        }
        true
    }

    /// Whether waiting bytes overlap this range.
    pub fn overlaps(&self, offset: u64, length: usize) -> bool {
        let end = offset.saturating_add(length as u64);
        self.stretches.iter().any(|stretch| stretch.overlaps(offset, end))
    }

    /// Whether it has to be written before more is added.
    pub fn is_full(&self) -> bool {
        self.bytes >= BYTES_MAX || self.stretches.len() >= STRETCHES_MAX
    }

    /// Takes everything.
    pub fn take(&mut self) -> Vec<Stretch> {
        self.bytes = 0;
        std::mem::take(&mut self.stretches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_write_and_nothing_overlaps() {
        let mut queue = Queue::default();
        assert!(queue.push(0, b"one") && queue.push(3, b"two") && queue.push(100, b"far"));
        assert!(!queue.push(5, b"x") && !queue.push(99, b"xx"));
        assert!(queue.overlaps(102, 10) && !queue.overlaps(6, 94));
        let stretch = |offset, bytes: &[u8]| Stretch { offset, bytes: bytes.to_vec() };
        assert_eq!(queue.take(), [stretch(0, b"onetwo"), stretch(100, b"far")]);
        assert!(queue.take().is_empty() && queue.push(5, b"x"));
    }

    #[test]
    fn it_is_full_by_bytes_and_by_stretches() {
        let mut queue = Queue::default();
        queue.push(0, &vec![0; BYTES_MAX]);
        assert!(queue.is_full());
        queue.take();
        for number in 0..STRETCHES_MAX as u64 {
            assert!(!queue.is_full());
            queue.push(number * 2, b"x");
        }
        assert!(queue.is_full());
    }
}
