//! Which characters XML can represent, and how they are escaped.
//!
//! XML 1.0 cannot represent most control characters, U+FFFE and U+FFFF, not even as references. Text that contains one
//! of these, or is not UTF-8, is written in base64.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose};

/// Maximum number of references in content before it is written in base64 instead, so that hostile content cannot make
/// a message grow beyond what a reader accepts.
const REFERENCES_MAX: usize = 65_536;

/// How a byte must be written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    /// As a reference everywhere.
    Reference,
    /// As a reference inside attributes, where a reader would see a blank.
    ReferenceInAttribute,
    /// Not representable in XML.
    Illegal,
    /// The first byte of U+FFFE and U+FFFF, among others.
    Suspect,
}

const NEEDS: [Need; 256] = {
    let mut needs = [Need::Nothing; 256];
    let mut byte = 0;
    while byte < 0x20 {
        needs[byte] = Need::Illegal;
        byte += 1;
    }
    needs[b'\t' as usize] = Need::ReferenceInAttribute;
    needs[b'\n' as usize] = Need::ReferenceInAttribute;
    needs[b'"' as usize] = Need::ReferenceInAttribute;
    needs[b'\r' as usize] = Need::Reference;
    needs[b'<' as usize] = Need::Reference;
    needs[b'>' as usize] = Need::Reference;
    needs[b'&' as usize] = Need::Reference;
    needs[0xef] = Need::Suspect;
    needs
};

fn need(byte: u8) -> Need {
    NEEDS[usize::from(byte)]
}

fn reference(byte: u8) -> &'static [u8] {
    match byte {
        b'<' => b"&lt;",
        b'>' => b"&gt;",
        b'&' => b"&amp;",
        b'"' => b"&quot;",
        b'\r' => b"&#13;",
        b'\n' => b"&#10;",
        b'\t' => b"&#9;",
        _ => b"&#32;",
    }
}

/// Whether XML can represent the text as characters.
pub(super) fn is_legal(text: &str) -> bool {
    let bytes = text.as_bytes();
    !bytes.iter().enumerate().any(|(index, byte)| match need(*byte) {
        Need::Illegal => true,
        Need::Suspect => bytes[index + 1] == 0xbf && bytes[index + 2] >= 0xbe,
        Need::Nothing | Need::Reference | Need::ReferenceInAttribute => false,
    })
}

/// Whether XML can represent the character, either directly or by a reference.
pub(super) fn is_legal_character(character: char) -> bool {
    is_legal(character.encode_utf8(&mut [0; 4]))
}

/// Returns the content as text, if it is to be written as text.
pub(super) fn legal_content(content: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(content).ok().filter(|text| is_legal(text))?;
    let references = || content.iter().filter(|byte| need(**byte) == Need::Reference).count();
    (content.len() <= REFERENCES_MAX || references() <= REFERENCES_MAX).then_some(text)
}

/// Writes text between tags.
pub(super) fn write_text(text: &str, output: &mut Vec<u8>) {
    write(text.as_bytes(), |need| need == Need::Reference, output);
}

/// Writes a parameter between tags. Readers trim these, so surrounding blanks are written as references.
pub(super) fn write_parameter(text: &str, output: &mut Vec<u8>) {
    let blank = |character: &char| character.is_ascii_whitespace();
    let before = text.chars().take_while(blank).count();
    let after = text[before..].chars().rev().take_while(blank).count();
    let end = text.len() - after;
    write_blanks(&text[..before], output);
    write_text(&text[before..end], output);
    write_blanks(&text[end..], output);
}

/// Writes an attribute's value, without its quotes.
pub(super) fn write_attribute(text: &str, output: &mut Vec<u8>) {
    write(text.as_bytes(), |need| matches!(need, Need::Reference | Need::ReferenceInAttribute), output);
}

fn write_blanks(blanks: &str, output: &mut Vec<u8>) {
    for byte in blanks.bytes() {
        output.extend_from_slice(reference(byte));
    }
}

#[inline]
fn write(mut rest: &[u8], is_written_as_reference: impl Fn(Need) -> bool, output: &mut Vec<u8>) {
    while let Some(place) = rest.iter().position(|byte| is_written_as_reference(need(*byte))) {
        output.extend_from_slice(&rest[..place]);
        output.extend_from_slice(reference(rest[place]));
        rest = &rest[place + 1..];
    }
    output.extend_from_slice(rest);
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Writes bytes in base64.
pub(crate) fn write_base64(bytes: &[u8], output: &mut Vec<u8>) {
    let length = base64::encoded_len(bytes.len(), true).unwrap_or(usize::MAX);
    let start = output.len();
    output.resize(start.saturating_add(length), 0);
    // The destination is exactly as long as the text, so encoding cannot fail.
    let written = general_purpose::STANDARD.encode_slice(bytes, &mut output[start..]).unwrap_or(0);
    output.truncate(start + written);
}

/// Decodes base64, whose padding may be missing and whose lines may be broken. Returns `None` if it is invalid.
pub(crate) fn read_base64(text: &str) -> Option<Vec<u8>> {
    if text.bytes().any(|byte| byte.is_ascii_whitespace()) {
        let plain: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        return BASE64.decode(plain).ok();
    }
    BASE64.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_has_no_place_for_is_told() {
        for text in ["", "a<&>\"'\t\r\n ", "\u{7f}\u{85}\u{fffd}\u{10ffff}", "\u{ffbe}"] {
            assert!(is_legal(text), "{text:?}");
        }
        for text in ["\0", "a\u{b}", "\u{1f}", "\u{fffe}", "ä\u{ffff}b"] {
            assert!(!is_legal(text), "{text:?}");
        }
    }

    #[test]
    fn base64_reads_with_and_without_padding_and_over_several_lines() {
        for length in 0..50_u8 {
            let bytes: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(37)).collect();
            let mut text = Vec::new();
            write_base64(&bytes, &mut text);
            let text = String::from_utf8(text).unwrap();
            assert_eq!(read_base64(&text).as_deref(), Some(&bytes[..]));
            assert_eq!(read_base64(text.trim_end_matches('=')).as_deref(), Some(&bytes[..]));
            assert_eq!(read_base64(&format!("\n {text}\r\n")).as_deref(), Some(&bytes[..]));
        }
        for text in ["a", "*", "ab=c", "====", "ä"] {
            assert_eq!(read_base64(text), None, "{text}");
        }
    }
}
