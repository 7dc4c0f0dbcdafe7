//! Texts that need no quotes in the string form (FIPA SC00070): words, numbers and dates.

use super::date;

/// Whether `bytes` may be written without quotes: a word, a number or a date of SC00070.
pub(crate) fn is_atom(bytes: &[u8]) -> bool {
    let Some(first) = bytes.first() else { return false };
    if bytes.iter().any(|byte| class(*byte) != Class::Word) {
        return false;
    }
    match first {
        // The grammar lets words begin like strings and parameter names. A reader could not tell them apart.
        b'"' | b':' | b'#' | b'@' => false,
        b'-' | b'0'..=b'9' => is_number(bytes) || date::is_date(bytes),
        _ => true,
    }
}

/// Whether `bytes` have the form `[+-]digits[.digits][E[+-]digits]`, with digits on at least one side of the point.
fn is_number(bytes: &[u8]) -> bool {
    let unsigned = |bytes: &[u8]| -> usize { usize::from(matches!(bytes.first(), Some(b'+' | b'-'))) };
    let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut rest = &bytes[unsigned(bytes)..];
    let mut count = digits(rest);
    rest = &rest[count..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let decimals = digits(fraction);
        count += decimals;
        rest = &fraction[decimals..];
    }
    if count > 0
        && let Some((b'e' | b'E', exponent)) = rest.split_first()
    {
        let exponent = &exponent[unsigned(exponent)..];
        let powers = digits(exponent);
        return powers > 0 && powers == exponent.len();
    }
    count > 0 && rest.is_empty()
}

/// The meaning of a byte outside strings.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Word,
    Space,
    Parenthesis,
    /// Ends a word and begins nothing.
    Control,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Word; 256];
    let mut byte = 0;
    while byte <= 0x20 {
        classes[byte] = Class::Control;
        byte += 1;
    }
    let spaces = b" \t\n\r\x0b\x0c";
    let mut index = 0;
    while index < spaces.len() {
        classes[spaces[index] as usize] = Class::Space;
        index += 1;
    }
    classes[b'(' as usize] = Class::Parenthesis;
    classes[b')' as usize] = Class::Parenthesis;
    classes
};

pub(crate) fn class(byte: u8) -> Class {
    CLASSES[usize::from(byte)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_numbers_and_dates_stand_without_quotes() {
        for atom in ["x", "a@b:1/c", "a\"b", "+x", ".", "99", "+99", "-99", "+.99E-23", "-.5", "1.", "1e5", "-1.5E+5"] {
            assert!(is_atom(atom.as_bytes()), "{atom}");
        }
        for date in ["20020314T091400500Z", "20020314T091400500", "-00000000T000000001", "+00000000T000000001"] {
            assert!(is_atom(date.as_bytes()), "{date}");
        }
        for text in ["", " ", "a b", "(", "a)", ":x", "\"x", "#x", "@x", "-", "-x", "9x", "1e", "1e+", "1.5.5", "-."] {
            assert!(!is_atom(text.as_bytes()), "{text}");
        }
    }
}
