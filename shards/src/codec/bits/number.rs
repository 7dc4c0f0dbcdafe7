//! Numbers and dates in half-bytes: each character is a number from 1 to 15, and 0 is padding.

/// Length of a date after its code, in bytes: four digits of the year, two each of month, day, hour, minute and second,
/// three of the millisecond, and a half-byte of padding.
pub(super) const DATE_BYTES: usize = 9;

/// Number of characters of a date without sign and designator.
const DATE_DIGITS: usize = 17;

/// Returns the half-byte of a character of a decimal number.
fn half(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0' + 1),
        b'+' => Some(0xc),
        b'E' => Some(0xd),
        b'-' => Some(0xe),
        b'.' => Some(0xf),
        _ => None,
    }
}

/// Returns the character of a half-byte.
fn character(half: u8) -> Option<u8> {
    match half {
        1..=10 => Some(b'0' + half - 1),
        0xc => Some(b'+'),
        0xd => Some(b'E'),
        0xe => Some(b'-'),
        0xf => Some(b'.'),
        _ => None,
    }
}

/// Whether the number can be written in half-bytes and reads back unchanged.
pub(super) fn has_half_bytes(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|character| half(*character).is_some())
}

/// Writes a number for which [`has_half_bytes`] holds. A number with an even number of characters ends with a whole
/// byte of padding.
pub(super) fn write(text: &[u8], output: &mut Vec<u8>) {
    for pair in text.chunks(2) {
        let [high, low] = [pair.first(), pair.get(1)].map(|digit| digit.copied().and_then(half).unwrap_or(0));
        output.push(high << 4 | low);
    }
    if text.len().is_multiple_of(2) {
        output.push(0);
    }
}

/// Returns the length of the number at the start of `input`, in bytes and including padding, or `None` if it has no
/// end.
pub(super) fn length(input: &[u8]) -> Option<usize> {
    input.iter().position(|byte| byte << 4 == 0).map(|last| last + 1)
}

/// Returns the characters of a number, including padding, or the position of an invalid byte.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<u8>, usize> {
    let mut text = Vec::with_capacity(2 * bytes.len());
    for (place, byte) in bytes.iter().enumerate() {
        let (high, low) = (byte >> 4, byte & 0x0f);
        if *byte == 0 && place > 0 {
            break;
        }
        text.push(character(high).ok_or(place)?);
        if low != 0 {
            text.push(character(low).ok_or(place)?);
        }
    }
    if text.is_empty() { Err(0) } else { Ok(text) }
}

/// Converts a hexadecimal number, encoded as the decimal number of the same value. Returns `None` if it is not a number
/// or has more than 128 bits.
pub(super) fn hexadecimal(decimal: &[u8]) -> Option<Vec<u8>> {
    let value: u128 = std::str::from_utf8(decimal).ok()?.parse().ok()?;
    decimal.iter().all(u8::is_ascii_digit).then(|| format!("0x{value:X}").into_bytes())
}

/// A date in its string form.
#[derive(Clone, Copy)]
pub(super) struct DateText {
    bytes: [u8; 1 + DATE_DIGITS + 1 + 1],
    length: usize,
}

impl DateText {
    /// Reads a date of nine bytes, or returns the position of an invalid byte.
    pub fn read(sign: Option<u8>, bytes: &[u8; DATE_BYTES], designator: Option<u8>) -> Result<Self, usize> {
        let mut text = Self { bytes: [0; 20], length: 0 };
        if let Some(sign) = sign {
            text.push(sign);
        }
        for place in 0..DATE_DIGITS {
            if place == 8 {
                text.push(b'T');
            }
            let pair = bytes[place / 2];
            let half = if place % 2 == 0 { pair >> 4 } else { pair & 0x0f };
            text.push(character(half).filter(u8::is_ascii_digit).ok_or(place / 2)?);
        }
        if bytes[DATE_BYTES - 1] & 0x0f != 0 {
            return Err(DATE_BYTES - 1);
        }
        if let Some(designator) = designator {
            text.push(designator);
        }
        Ok(text)
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Writes the nine bytes of the absolute date at the start of `text`.
pub(super) fn write_date(text: &[u8], output: &mut Vec<u8>) {
    let mut digits = text.iter().filter(|byte| byte.is_ascii_digit()).copied();
    for _ in 0..DATE_BYTES {
        let [high, low] = [digits.next(), digits.next()].map(|digit| digit.and_then(half).unwrap_or(0));
        output.push(high << 4 | low);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_and_know_their_length() {
        for (text, bytes) in [
            ("0", &[0x10][..]),
            ("15", &[0x26, 0x00]),
            ("150", &[0x26, 0x10]),
            ("-1.5E+07", &[0xe2, 0xf6, 0xdc, 0x18, 0x00]),
        ] {
            let mut output = Vec::new();
            write(text.as_bytes(), &mut output);
            assert_eq!(output, bytes, "{text}");
            assert_eq!(length(&output), Some(output.len()), "{text}");
            assert_eq!(read(&output), Ok(text.as_bytes().to_vec()));
        }
        assert_eq!(length(&[0x11]), None);
        assert_eq!(read(&[0x00]), Err(0));
        assert_eq!(read(&[0x11, 0xb1]), Err(1));
        assert_eq!(read(&[0x11, 0x01]), Err(1));
    }

    #[test]
    fn hexadecimal_numbers_are_numbers() {
        assert_eq!(hexadecimal(b"255").unwrap(), b"0xFF");
        for other in ["", "+1", "1.5", &"9".repeat(40)] {
            assert_eq!(hexadecimal(other.as_bytes()), None, "{other}");
        }
    }
}
