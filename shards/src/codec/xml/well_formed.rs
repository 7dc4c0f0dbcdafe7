//! Well-formedness rules of XML 1.0 that the parser does not check.
//!
//! Every check returns the position of the fault, in bytes from the beginning of what was checked, and what is wrong.

use memchr::{memchr_iter, memmem};
use quick_xml::escape::unescape;

use super::escape::is_legal_character;

/// The position of a fault, and what is wrong there.
pub(super) type DefinitionError = (usize, &'static str);
pub(super) type Checked = Result<(), DefinitionError>;

/// From this number on, attributes are sorted to find duplicates.
const ATTRIBUTES_COMPARED_MAX: usize = 16;

/// Checks for characters that are not allowed anywhere: control characters other than tab and line ends, U+FFFE and
/// U+FFFF (section 2.2).
pub(super) fn characters(text: &str) -> Checked {
    let bytes = text.as_bytes();
    let is_illegal = |byte: u8| byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r');
    // Without an early exit the loop processes many bytes at once.
    if bytes.iter().fold(false, |found, byte| found | is_illegal(*byte)) {
        let place = bytes.iter().position(|byte| is_illegal(*byte)).unwrap_or(0);
        return Err((place, "a control character, which XML has no place for"));
    }
    let is_noncharacter = |place: &usize| matches!(bytes[*place..], [_, 0xbf, 0xbe | 0xbf, ..]);
    match memchr_iter(0xef, bytes).find(is_noncharacter) {
        Some(place) => Err((place, "U+FFFE or U+FFFF, which XML has no place for")),
        None => Ok(()),
    }
}

/// Checks text between tags (section 2.4).
pub(super) fn text(text: &str) -> Checked {
    match memmem::find(text.as_bytes(), b"]]>") {
        Some(place) => Err((place, "]]> in text: the > is written as &gt;")),
        None => Ok(()),
    }
}

/// Checks the inside of a comment (section 2.5).
pub(super) fn comment(text: &str) -> Checked {
    let fault = "-- in a comment";
    match memmem::find(text.as_bytes(), b"--") {
        Some(place) => Err((place, fault)),
        None if text.ends_with('-') => Err((text.len() - 1, fault)),
        None => Ok(()),
    }
}

/// Checks the inside of a processing instruction (section 2.6).
pub(super) fn instruction(text: &str) -> Checked {
    let target = text.split(is_blank).next().unwrap_or_default();
    if !is_name(target) {
        return Err((0, "a processing instruction begins with a name"));
    }
    if target.eq_ignore_ascii_case("xml") {
        return Err((0, "a declaration stands at the beginning of a document and is written <?xml version=\"1.0\"?>"));
    }
    Ok(())
}

/// Checks the inside of a declaration, from its `xml` on (section 2.8).
pub(super) fn declaration(inside: &str) -> Checked {
    const EXPECTED: [&str; 3] = ["version", "encoding", "standalone"];
    let mut expected = EXPECTED.iter();
    let mut version = None;
    let mut order = Ok(());
    attributes(inside, "xml".len(), |place, name, value| {
        if !expected.any(|known| *known == name) && order.is_ok() {
            order = Err((place, "a declaration has version, encoding and standalone, in this order"));
        }
        match name {
            "version" => version = Some(value.to_owned()),
            "standalone" if !matches!(value, "yes" | "no") && order.is_ok() => {
                order = Err((place, "standalone is yes or no"));
            }
            _ => {}
        }
    })?;
    order?;
    let is_known = |version: &str| {
        version
            .strip_prefix("1.")
            .is_some_and(|minor| !minor.is_empty() && minor.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if version.as_deref().is_some_and(is_known) { Ok(()) } else { Err((0, "a declaration says version=\"1.0\"")) }
}

/// Checks the inside of an opening tag (section 3.1), which begins with the element's name.
pub(super) fn tag(inside: &str, name_length: usize) -> Checked {
    if !is_name(&inside[..name_length]) {
        return Err((0, "this is not a valid element name"));
    }
    if name_length == inside.len() {
        return Ok(());
    }
    let mut names: Vec<(&str, usize)> = Vec::new();
    let mut ignored = Ok(());
    attributes(inside, name_length, |place, name, value| {
        // The reader resolves references where it needs a value, and skips these.
        if name.starts_with("xml") && ignored.is_ok() && !has_known_references(value) {
            ignored = Err((place, "a reference to an entity or a character that messages don't have"));
        }
        names.push((name, place));
    })?;
    ignored?;
    let repeated = if names.len() <= ATTRIBUTES_COMPARED_MAX {
        names
            .iter()
            .enumerate()
            .find(|(index, (name, _))| names[..*index].iter().any(|(known, _)| known == name))
            .map(|(_, (_, place))| *place)
    } else {
        names.sort_unstable();
        names.windows(2).find(|pair| pair[0].0 == pair[1].0).map(|pair| pair[1].1)
    };
    repeated.map_or(Ok(()), |place| Err((place, "an attribute is given twice")))
}

/// Calls `each` for every attribute from `start` on, with its position, name and raw value.
fn attributes<'a>(inside: &'a str, start: usize, mut each: impl FnMut(usize, &'a str, &'a str)) -> Checked {
    let bytes = inside.as_bytes();
    let behind_blanks =
        |place: usize| place + bytes[place..].iter().take_while(|byte| is_blank(char::from(**byte))).count();
    let mut place = start;
    loop {
        let name_start = behind_blanks(place);
        if name_start == bytes.len() {
            return Ok(());
        }
        if name_start == place {
            return Err((place, "white space is needed before an attribute"));
        }
        let is_name_end = |byte: &u8| *byte == b'=' || is_blank(char::from(*byte));
        let length = bytes[name_start..].iter().position(is_name_end).unwrap_or(bytes.len() - name_start);
        let name = &inside[name_start..name_start + length];
        if !is_name(name) {
            return Err((name_start, "this is not a valid attribute name"));
        }
        let equals = behind_blanks(name_start + length);
        if bytes.get(equals) != Some(&b'=') {
            return Err((name_start, "an attribute has a value: name=\"value\""));
        }
        let opening = behind_blanks(equals + 1);
        let Some(quote @ (b'"' | b'\'')) = bytes.get(opening).copied() else {
            return Err((opening, "an attribute's value stands in quotes"));
        };
        let Some(length) = memchr::memchr(quote, &bytes[opening + 1..]) else {
            return Err((opening, "an attribute's value has no closing quote"));
        };
        let value = &inside[opening + 1..opening + 1 + length];
        if let Some(place) = memchr::memchr(b'<', value.as_bytes()) {
            return Err((opening + 1 + place, "< in an attribute's value: it is written as &lt;"));
        }
        each(name_start, name, value);
        place = opening + 1 + length + 1;
    }
}

fn has_known_references(value: &str) -> bool {
    unescape(value).is_ok_and(|resolved| resolved.chars().all(is_legal_character))
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r')
}

/// Whether the text is a name (section 2.3).
fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    let starts_well = text.chars().next().is_some_and(begins_name);
    starts_well && (text.bytes().all(is_plain) || text.chars().all(continues_name))
}

fn begins_name(character: char) -> bool {
    matches!(character,
        ':' | '_' | 'A'..='Z' | 'a'..='z'
        | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}' | '\u{370}'..='\u{37d}'
        | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}' | '\u{2c00}'..='\u{2fef}'
        | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}' | '\u{10000}'..='\u{effff}')
}

fn continues_name(character: char) -> bool {
    begins_name(character)
        || matches!(character,
            '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_xml() {
        for name in ["a", "_", "X-a.b_9", "xml:lang", "ä", "名", "a\u{b7}", "a\u{300}"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "9a", "-a", ".a", "a b", "a\"", "a<", "a&", "\u{d7}", "\u{300}a", "a\u{2028}"] {
            assert!(!is_name(name), "{name:?}");
        }
    }

    #[test]
    fn an_attribute_given_twice_is_found_among_few_and_many() {
        for count in [2, ATTRIBUTES_COMPARED_MAX + 5] {
            let attributes = (0..count).map(|number| format!(" a{number}='x'")).collect::<Vec<_>>().concat();
            assert_eq!(tag(&format!("e{attributes}"), 1), Ok(()));
            assert_eq!(
                tag(&format!("e{attributes} a1=''"), 1),
                Err((attributes.len() + 2, "an attribute is given twice"))
            );
        }
    }
}
