//! The XML cursor: elements, attributes and text with their positions in the input.
//!
//! `quick-xml` does the parsing. A cursor adds what the grammar of messages needs: it moves from child to child, reads
//! the text of an element as a whole, and refuses XML features that messages do not use.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::errors::{Error, IllFormedError};
use quick_xml::escape::{resolve_predefined_entity, unescape};
use quick_xml::events::attributes::Attributes;
use quick_xml::events::{BytesRef, Event};

use super::escape::is_legal_character;
use super::well_formed::{self, Checked};
use crate::codec::text::{ParseErrorKind, Read, Refusal, excerpt};
use crate::codec::window::End;

/// Maximum length of a parser's error message, in characters: it may quote the input.
const REASON_CHARACTERS_MAX: usize = 200;

/// The error for a document type declaration.
const DOCTYPE: ParseErrorKind = ParseErrorKind::Forbidden {
    what: "a document type declaration",
    reason: "messages have no entities but &amp; &lt; &gt; &quot; &apos; and character references, and none are fetched",
};

const LATE_DECLARATION: &str = "a declaration stands at the beginning of a document";

/// The opening tag of an element.
#[derive(Clone, Copy)]
pub(super) struct Tag<'a> {
    /// The position of its `<`.
    pub offset: usize,
    /// The element's name, without a namespace prefix.
    pub name: &'a str,
    /// Everything between `<` and `>`; begins right after `offset`.
    inside: &'a str,
    /// The length of the name with its prefix, in bytes.
    name_length: usize,
}

/// An attribute with its raw value.
pub(super) struct Attribute<'a> {
    pub offset: usize,
    pub name: &'a str,
    pub value_offset: usize,
    raw: &'a str,
}

impl<'a> Tag<'a> {
    /// Whether there are no attributes, as in most tags.
    pub fn is_bare(&self) -> bool {
        self.name_length == self.inside.len()
    }

    /// Iterates over the attributes of the tag, except namespace declarations and XML's own attributes.
    pub fn attributes(&self) -> impl Iterator<Item = Read<Attribute<'a>>> + use<'a> {
        let inside_offset = self.offset + 1;
        let inside = self.inside;
        let mut attributes = Attributes::new(inside, self.name_length);
        // The tag was checked as a whole.
        attributes.with_checks(false);
        attributes.filter_map(move |attribute| {
            let (key, raw) = match attribute {
                Ok(attribute) => match attribute.value {
                    Cow::Borrowed(raw) => (attribute.key.into_inner(), raw),
                    Cow::Owned(_) => return None,
                },
                Err(error) => {
                    let fault = ParseErrorKind::NotWellFormed { form: "XML", reason: shortened(&error.to_string()) };
                    return Some(Err(Refusal::new(inside_offset - 1, fault)));
                }
            };
            if key.starts_with("xmlns") || key.starts_with("xml:") {
                return None;
            }
            let offset_of = |part: &str| inside_offset + (part.as_ptr().addr() - inside.as_ptr().addr());
            Some(Ok(Attribute { offset: offset_of(key), name: local(key), value_offset: offset_of(raw), raw }))
        })
    }
}

enum Step<'a> {
    Open(Tag<'a>),
    Close,
    /// Raw characters, and whether they are part of a `CDATA` section.
    Text(&'a str, bool),
    Reference(BytesRef<'a>),
    End,
}

/// Moves through the elements of a window of the input.
pub(super) struct Cursor<'a> {
    reader: Reader<&'a [u8]>,
    window: &'a str,
    /// The start of the window in the input.
    base: usize,
    end: End,
    /// Whether the element opened last has no closing tag of its own.
    is_empty: bool,
    /// Where the current step began, within the window.
    place: usize,
    /// Whether something is unterminated, so that all of the window was looked at.
    is_exhausted: bool,
    /// Whether the document has begun, so that no declaration may follow.
    has_begun: bool,
}

impl<'a> Cursor<'a> {
    /// Byte order marks at the beginning are skipped, because concatenated documents have them in between. The reader
    /// would skip them too, but not count them.
    pub fn new(window: &'a str, base: usize, end: End) -> Self {
        let marked = window;
        let window = marked.trim_start_matches('\u{feff}');
        let base = base + (marked.len() - window.len());
        Self {
            reader: Reader::from_str(window),
            window,
            base,
            end,
            is_empty: false,
            place: 0,
            is_exhausted: false,
            has_begun: false,
        }
    }

    /// Returns the position up to which the input was looked at.
    pub fn position(&self) -> usize {
        self.base + if self.is_exhausted { self.window.len() } else { self.reached() }
    }

    fn reached(&self) -> usize {
        usize::try_from(self.reader.buffer_position()).unwrap_or(usize::MAX).min(self.window.len())
    }

    fn step(&mut self) -> Read<Step<'a>> {
        if std::mem::take(&mut self.is_empty) {
            return Ok(Step::Close);
        }
        loop {
            self.place = self.reached();
            let event = match self.reader.read_event() {
                Ok(event) => event,
                Err(error) => return Err(self.ill_formed(&error)),
            };
            self.check(0, well_formed::characters(&self.window[self.place..self.reached()]))?;
            return Ok(match event {
                Event::Start(_) => Step::Open(self.tag()?),
                Event::Empty(_) => {
                    self.is_empty = true;
                    Step::Open(self.tag()?)
                }
                Event::End(_) => Step::Close,
                Event::Text(text) => match text.into_inner() {
                    Cow::Borrowed(text) => {
                        self.check(0, well_formed::text(text))?;
                        Step::Text(text, false)
                    }
                    // Unreachable: the reader borrows from its input.
                    Cow::Owned(_) => continue,
                },
                Event::CData(text) => match text.into_inner() {
                    Cow::Borrowed(text) => Step::Text(text, true),
                    Cow::Owned(_) => continue,
                },
                Event::GeneralRef(reference) => Step::Reference(reference),
                Event::Comment(text) => {
                    self.has_begun = true;
                    self.check("<!--".len(), well_formed::comment(&text))?;
                    continue;
                }
                Event::PI(text) => {
                    self.has_begun = true;
                    self.check("<?".len(), well_formed::instruction(&text))?;
                    continue;
                }
                Event::Decl(declaration) => {
                    self.check(0, if self.has_begun { Err((0, LATE_DECLARATION)) } else { Ok(()) })?;
                    self.has_begun = true;
                    self.check("<?".len(), well_formed::declaration(&declaration))?;
                    let encoding = declaration.encoding().and_then(Result::ok);
                    if let Some(encoding) = encoding.filter(|encoding| !is_known_encoding(encoding)) {
                        let fault = ParseErrorKind::IllegalValue {
                            parameter: "encoding of the declaration",
                            value: excerpt(encoding.as_bytes()),
                            allowed: "UTF-8 or US-ASCII".into(),
                        };
                        return refuse(self.base + self.place, fault);
                    }
                    continue;
                }
                Event::DocType(_) => return refuse(self.base + self.place, DOCTYPE),
                Event::Eof => Step::End,
            });
        }
    }

    /// Returns the tag that was just read, from `place` on.
    fn tag(&mut self) -> Read<Tag<'a>> {
        self.has_begun = true;
        let whole = &self.window[self.place..self.reached()];
        let inside = whole.get(1..whole.len().saturating_sub(1)).unwrap_or_default();
        let inside = if self.is_empty { inside.strip_suffix('/').unwrap_or(inside) } else { inside };
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        let name_length = inside.as_bytes().iter().position(is_blank).unwrap_or(inside.len());
        self.check(1, well_formed::tag(inside, name_length))?;
        let name = local(&inside[..name_length]);
        Ok(Tag { offset: self.base + self.place, name, inside, name_length })
    }

    /// Refuses input that is not well-formed, `behind` bytes after the place of the current step.
    fn check(&self, behind: usize, checked: Checked) -> Read<()> {
        checked.or_else(|(place, reason)| {
            let fault = ParseErrorKind::NotWellFormed { form: "XML", reason: reason.to_owned() };
            refuse(self.base + self.place + behind + place, fault)
        })
    }

    fn ill_formed(&mut self, error: &Error) -> Refusal {
        let at_error = usize::try_from(self.reader.error_position()).unwrap_or(usize::MAX).min(self.window.len());
        if let Error::Syntax(_) = error {
            self.is_exhausted = true;
            if let Some(refusal) = self.cut() {
                return refusal;
            }
            if self.window[at_error..].starts_with("<!DOCTYPE") {
                return Refusal::new(self.base + at_error, DOCTYPE);
            }
        }
        let reason = match error {
            Error::IllFormed(IllFormedError::MismatchedEndTag { expected, found }) => {
                format!(
                    "expected the end of {}, found that of {}",
                    excerpt(expected.as_bytes()),
                    excerpt(found.as_bytes())
                )
            }
            other => shortened(&other.to_string()),
        };
        Refusal::new(self.base + at_error, ParseErrorKind::NotWellFormed { form: "XML", reason })
    }

    /// Returns why the window ends before the input does.
    fn cut(&self) -> Option<Refusal> {
        self.end.refusal(self.base + self.window.len())
    }

    /// Returns the error for a window that ends where more is expected.
    fn ended<T>(&self, expected: impl Into<Cow<'static, str>>) -> Read<T> {
        match self.cut() {
            Some(refusal) => Err(refusal),
            None => expected_at(self.base + self.window.len(), expected, "the end of the input".to_owned()),
        }
    }

    /// Returns the next element of a document, or `None` at its end.
    pub fn root(&mut self, expected: &'static str) -> Read<Option<Tag<'a>>> {
        loop {
            match self.step()? {
                Step::Open(tag) => return Ok(Some(tag)),
                Step::Text(text, false) if is_blank(text) => {}
                Step::End => return self.cut().map_or(Ok(None), Err),
                Step::Close => {
                    let offset = self.base + self.place;
                    return expected_at(offset, expected, excerpt(&self.window.as_bytes()[self.place..self.reached()]));
                }
                Step::Text(..) | Step::Reference(_) => return self.unexpected_text(expected),
            }
        }
    }

    /// Returns the next child of the element opened last, or `None` once that is closed.
    pub fn child(&mut self, expected: &'static str) -> Read<Option<Tag<'a>>> {
        loop {
            match self.step()? {
                Step::Open(tag) => return Ok(Some(tag)),
                Step::Close => return Ok(None),
                Step::Text(text, false) if is_blank(text) => {}
                Step::Text(..) | Step::Reference(_) => return self.unexpected_text(expected),
                Step::End => return self.ended(expected),
            }
        }
    }

    fn unexpected_text<T>(&self, expected: &'static str) -> Read<T> {
        let text = &self.window[self.place..];
        let shown = text.trim_ascii_start();
        let offset = self.base + self.place + (text.len() - shown.len());
        let length = shown.find('<').filter(|length| *length > 0).unwrap_or(shown.len());
        expected_at(offset, expected, excerpt(shown[..length].trim_ascii_end().as_bytes()))
    }

    /// Checks that the element opened last has no children.
    pub fn nothing_inside(&mut self, element: &str) -> Read<()> {
        let expected = "the end of an element that has its value in an attribute";
        match self.child(expected)? {
            None => Ok(()),
            Some(tag) => expected_at(tag.offset, format!("</{element}>"), shown_tag(&tag)),
        }
    }

    /// Returns all text of the element opened last, up to its closing tag, and where it begins. If `trims` is set,
    /// surrounding white space is removed unless it was written by references or in a `CDATA` section.
    pub fn text(&mut self, what: &str, bytes_max: usize, trims: bool) -> Read<(usize, Cow<'a, str>)> {
        let mut gathered = Gathered { text: Cow::Borrowed(""), solid: 0, trims };
        let mut offset = None;
        let too_long =
            |offset| Refusal::new(offset, ParseErrorKind::TooLong { what: what.to_owned().into(), limit: bytes_max });
        loop {
            let step = self.step()?;
            let place = self.base + self.place;
            match step {
                Step::Text(text, is_verbatim) => {
                    let lead = if gathered.text.is_empty() && trims && !is_verbatim {
                        text.len() - text.trim_ascii_start().len()
                    } else {
                        0
                    };
                    if lead < text.len() {
                        offset.get_or_insert(place + lead + if is_verbatim { "<![CDATA[".len() } else { 0 });
                    }
                    let text = if trims && !is_verbatim && gathered.is_bare() { &text[lead..] } else { text };
                    // Trailing white space that will be trimmed is not counted.
                    let counted = if trims && !is_verbatim { text.trim_ascii_end().len() } else { text.len() };
                    if gathered.text.len().saturating_add(counted) > bytes_max {
                        return Err(too_long(place));
                    }
                    gathered.add(text, is_verbatim);
                }
                Step::Reference(reference) => {
                    offset.get_or_insert(place);
                    let character = resolve(&reference, place)?;
                    if gathered.text.len() + character.len_utf8() > bytes_max {
                        return Err(too_long(place));
                    }
                    gathered.add_character(character);
                }
                Step::Close => return Ok((offset.unwrap_or(place), gathered.finish())),
                Step::Open(tag) => {
                    let expected = format!("text, in which < is written as &lt;, up to the end of {what}");
                    return expected_at(tag.offset, expected, shown_tag(&tag));
                }
                Step::End => return self.ended(format!("the end of {what}")),
            }
        }
    }
}

impl<'a> Attribute<'a> {
    /// Returns the value, with white space normalised to blanks.
    pub fn value(&self, bytes_max: usize) -> Read<Cow<'a, str>> {
        // A reference is longer than its character, so a value is never longer than its source.
        const REFERENCE_BYTES_MAX: usize = 10;
        if self.raw.len() / REFERENCE_BYTES_MAX > bytes_max {
            return Err(self.too_long(bytes_max));
        }
        let raw: Cow<'a, str> = if self.raw.bytes().any(|byte| matches!(byte, b'\n' | b'\r' | b'\t')) {
            self.raw.replace("\r\n", " ").replace(['\n', '\r', '\t'], " ").into()
        } else {
            self.raw.into()
        };
        let value = match raw {
            Cow::Borrowed(raw) => unescape(raw),
            Cow::Owned(raw) => unescape(&raw).map(|text| Cow::Owned(text.into_owned())),
        };
        let value = value.map_err(|_| {
            let place = self.raw.find('&').unwrap_or(0);
            unknown_reference(self.value_offset + place, self.raw[place..].trim_start_matches('&'))
        })?;
        if let Cow::Owned(value) = &value
            && !value.chars().all(is_legal_character)
        {
            return Err(unknown_reference(self.value_offset, self.raw));
        }
        if value.len() > bytes_max { Err(self.too_long(bytes_max)) } else { Ok(value) }
    }

    fn too_long(&self, limit: usize) -> Refusal {
        Refusal::new(self.value_offset, ParseErrorKind::TooLong { what: "the attribute".into(), limit })
    }
}

/// Text being collected.
struct Gathered<'a> {
    text: Cow<'a, str>,
    /// The number of bytes at the beginning that are not trimmed, whatever follows.
    solid: usize,
    trims: bool,
}

impl<'a> Gathered<'a> {
    fn is_bare(&self) -> bool {
        self.text.is_empty() && self.solid == 0
    }

    /// Adds text from the input with normalised line ends: `\n` also for `\r\n` and `\r`.
    fn add(&mut self, text: &'a str, is_verbatim: bool) {
        let before = self.text.len();
        match (memchr::memchr(b'\r', text.as_bytes()), self.text.is_empty()) {
            (None, true) => self.text = Cow::Borrowed(text),
            (None, false) => self.text.to_mut().push_str(text),
            (Some(_), _) => {
                let own = self.text.to_mut();
                let mut rest = text;
                while let Some(place) = memchr::memchr(b'\r', rest.as_bytes()) {
                    own.push_str(&rest[..place]);
                    own.push('\n');
                    rest = &rest[place + 1..];
                    rest = rest.strip_prefix('\n').unwrap_or(rest);
                }
                own.push_str(rest);
            }
        }
        self.settle(before, is_verbatim);
    }

    /// Adds a character written as a reference.
    fn add_character(&mut self, character: char) {
        self.text.to_mut().push(character);
        self.solid = self.text.len();
    }

    /// Only what was added after `before` is looked at, so that text in many parts takes no longer than in one.
    fn settle(&mut self, before: usize, is_verbatim: bool) {
        let bytes = self.text.as_bytes();
        if is_verbatim || !self.trims {
            self.solid = bytes.len();
        } else if let Some(last) = bytes[before..].iter().rposition(|byte| !byte.is_ascii_whitespace()) {
            self.solid = before + last + 1;
        }
    }

    fn finish(self) -> Cow<'a, str> {
        match self.text {
            Cow::Borrowed(text) => Cow::Borrowed(&text[..self.solid]),
            Cow::Owned(mut text) => {
                text.truncate(self.solid);
                Cow::Owned(text)
            }
        }
    }
}

fn is_known_encoding(name: &str) -> bool {
    ["utf-8", "utf8", "us-ascii", "ascii"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn is_blank(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_whitespace())
}

/// Returns a name without its namespace prefix.
fn local(name: &str) -> &str {
    // Names are short: starting a search made for long text takes longer than comparing each byte.
    let prefix = name.as_bytes().iter().rposition(|byte| *byte == b':').map_or(0, |colon| colon + 1);
    &name[prefix..]
}

/// Returns a tag as shown in errors.
pub(super) fn shown_tag(tag: &Tag<'_>) -> String {
    excerpt(format!("<{}>", tag.inside.get(..tag.name_length).unwrap_or_default()).as_bytes())
}

fn expected_at<T>(offset: usize, expected: impl Into<Cow<'static, str>>, found: String) -> Read<T> {
    refuse(offset, ParseErrorKind::Expected { expected: expected.into(), found })
}

fn refuse<T>(offset: usize, fault: ParseErrorKind) -> Read<T> {
    Err(Refusal::new(offset, fault))
}

/// Returns the character that a reference stands for.
fn resolve(reference: &BytesRef<'_>, offset: usize) -> Read<char> {
    let resolved = match reference.resolve_char_ref() {
        Ok(Some(character)) => is_legal_character(character).then_some(character),
        Ok(None) => resolve_predefined_entity(reference).and_then(|text| text.chars().next()),
        Err(_) => None,
    };
    resolved.ok_or_else(|| unknown_reference(offset, reference))
}

fn unknown_reference(offset: usize, reference: &str) -> Refusal {
    let name = reference.split(';').next().unwrap_or_default();
    Refusal::new(
        offset,
        ParseErrorKind::Unknown {
            what: "reference",
            name: excerpt(format!("&{name};").as_bytes()),
            nearest: None,
            allowed: "&amp; &lt; &gt; &quot; &apos; and references to characters that XML allows".into(),
        },
    )
}

fn shortened(reason: &str) -> String {
    let mut shown: String = reason.chars().take(REASON_CHARACTERS_MAX).flat_map(char::escape_debug).collect();
    if reason.chars().nth(REASON_CHARACTERS_MAX).is_some() {
        shown.push('…');
    }
    shown
}
