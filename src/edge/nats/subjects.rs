//! Subjects: which of them are valid, which a subscription matches, and how they hold the names of agents.
//!
//! A subject is words between dots. An agent's name is put behind a prefix as it is, dots included; what cannot stand
//! in a subject is written as `%` and two hexadecimal digits: blanks, control characters, `*`, `>`, `%` itself, and a dot
//! at either end of the name or behind another dot.

use std::borrow::Cow;

/// Whether a message can be published to this subject: no word is empty, and none is a wildcard.
pub fn is_literal(subject: &[u8]) -> bool {
    subject.split(|byte| *byte == b'.').all(|word| !word.is_empty() && word != b"*" && word != b">")
        && is_printable(subject)
}

/// Whether a subscription can be for this subject: no word is empty, and `>` is the last one.
pub fn is_pattern(subject: &[u8]) -> bool {
    let mut words = subject.split(|byte| *byte == b'.').peekable();
    while let Some(word) = words.next() {
        if word.is_empty() || (word == b">" && words.peek().is_some()) {
            return false;
        }
    }
    is_printable(subject)
}

fn is_printable(subject: &[u8]) -> bool {
    subject.iter().all(|byte| *byte > b' ' && *byte != 0x7f)
}

/// Whether a pattern has a wildcard.
pub fn has_wildcard(pattern: &[u8]) -> bool {
    pattern.split(|byte| *byte == b'.').any(|word| word == b"*" || word == b">")
}

/// Whether a subscription to `pattern` receives what is sent to `subject`.
pub fn matches(pattern: &[u8], subject: &[u8]) -> bool {
    let mut words = subject.split(|byte| *byte == b'.');
    for expected in pattern.split(|byte| *byte == b'.') {
        match (expected, words.next()) {
            (b">", Some(_)) => return true,
            (b"*", Some(_)) => {}
            (expected, Some(word)) if expected == word => {}
            _ => return false,
        }
    }
    words.next().is_none()
}

/// Returns the name that the end of a subject holds, or nothing if it is not UTF-8.
pub fn decode(encoded: &[u8]) -> Option<Cow<'_, str>> {
    if memchr::memchr(b'%', encoded).is_none() {
        return std::str::from_utf8(encoded).ok().map(Cow::Borrowed);
    }
    let mut name = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((first, behind)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| behind.split_at_checked(2)).flatten().and_then(|(digits, behind)| {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            Some((digit(digits[0])? << 4 | digit(digits[1])?, behind))
        });
        let (byte, behind) = escaped.unwrap_or((*first, behind));
        name.push(byte);
        rest = behind;
    }
    String::from_utf8(name).ok().map(Cow::Owned)
}

/// Appends a name in the form in which it stands at the end of a subject.
pub fn encode(name: &str, output: &mut Vec<u8>) {
    let bytes = name.as_bytes();
    for (place, byte) in bytes.iter().enumerate() {
        let lonely_dot = *byte == b'.' && (place == 0 || place + 1 == bytes.len() || bytes[place - 1] == b'.');
        if *byte <= b' ' || matches!(byte, b'*' | b'>' | b'%' | 0x7f) || lonely_dot {
            output.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            output.push(*byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_in_nats() {
        for (pattern, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.*", "a", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("*.b", "a.b", true),
            ("a.b.c", "a.b", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), subject.as_bytes()), expected, "{pattern} {subject}");
        }
    }

    #[test]
    fn subjects_and_patterns_are_told_from_others() {
        for (subject, literal, pattern) in [
            ("a.b", true, true),
            ("a.*", false, true),
            ("a.>", false, true),
            ("a.>.b", false, false),
            ("a*.b>", true, true),
            ("", false, false),
            (".a", false, false),
            ("a.", false, false),
            ("a..b", false, false),
            ("a\x01", false, false),
        ] {
            assert_eq!(is_literal(subject.as_bytes()), literal, "{subject}");
            assert_eq!(is_pattern(subject.as_bytes()), pattern, "{subject}");
        }
    }

    #[test]
    fn names_stand_in_subjects_as_they_are_where_they_can() {
        for (name, subject) in [
            ("buyer@example.org", "buyer@example.org"),
            ("Night Porter", "Night%20Porter"),
            ("50%", "50%25"),
            (".a..b.", "%2Ea.%2Eb%2E"),
            ("*", "%2A"),
            ("naïve", "naïve"),
        ] {
            let mut encoded = Vec::new();
            encode(name, &mut encoded);
            assert_eq!(encoded, subject.as_bytes());
            assert_eq!(decode(&encoded).as_deref(), Some(name));
        }
        assert_eq!(decode(b"50%").as_deref(), Some("50%"));
        assert_eq!(decode(b"%zz%4").as_deref(), Some("%zz%4"));
        assert_eq!(decode(b"%ff"), None);
    }

    proptest! {
        #[test]
        fn every_name_comes_back_out_of_a_subject(name in "\\PC{1,40}|[ -~\t]{1,20}") {
            let mut subject = b"agent.".to_vec();
            encode(&name, &mut subject);
            prop_assert!(is_literal(&subject), "{:?}", String::from_utf8_lossy(&subject));
            let decoded = decode(&subject[6..]);
            prop_assert_eq!(decoded.as_deref(), Some(name.as_str()));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>(), others in any::<Vec<u8>>()) {
            decode(&bytes);
            matches(&bytes, &others);
            is_pattern(&bytes);
        }
    }
}
