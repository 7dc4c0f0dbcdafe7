//! JSON values with their positions in the input.
//!
//! `serde_json` does the parsing. A [`Node`] is the source text of a value, so that any fault in it can be located; its
//! members are extracted one by one, and only strings with escapes are copied.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;
use serde_json::{Deserializer, Error};

use crate::codec::text::{ParseErrorKind, Read, Refusal, excerpt};
use crate::codec::window::End;

/// The source text of a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<'a> {
    pub source: &'a str,
    /// The position of its start in the input.
    pub offset: usize,
    /// Why the source ends: only a whole input may be cut.
    pub end: End,
}

impl<'a> Node<'a> {
    /// Returns the node of a part of this node's source.
    fn part(&self, source: &'a str) -> Self {
        let offset = self.offset + (source.as_ptr().addr() - self.source.as_ptr().addr());
        Self { source, offset, end: End::Input }
    }

    pub fn refuse<T>(&self, fault: ParseErrorKind) -> Read<T> {
        Err(Refusal::new(self.offset, fault))
    }

    /// Returns the error for an unexpected value.
    pub fn expected<T>(&self, expected: impl Into<Cow<'static, str>>) -> Read<T> {
        let shown = self.source.trim_ascii_start();
        let offset = self.offset + (self.source.len() - shown.len());
        if shown.is_empty() {
            if let Some(refusal) = self.end.refusal(offset) {
                return Err(refusal);
            }
            let fault =
                ParseErrorKind::Expected { expected: expected.into(), found: "the end of the input".to_owned() };
            return Err(Refusal::new(offset, fault));
        }
        Err(Refusal::new(
            offset,
            ParseErrorKind::Expected { expected: expected.into(), found: excerpt(shown.as_bytes()) },
        ))
    }

    fn first(&self) -> Option<u8> {
        self.source.trim_ascii_start().bytes().next()
    }

    pub fn is_object(&self) -> bool {
        self.first() == Some(b'{')
    }

    pub fn is_string(&self) -> bool {
        self.first() == Some(b'"')
    }

    pub fn is_number(&self) -> bool {
        self.first().is_some_and(|first| first == b'-' || first.is_ascii_digit())
    }

    /// Calls `each` for every member of an object, with its name as a node and its value.
    pub fn members(
        &self,
        expected: &'static str,
        mut each: impl FnMut(Node<'a>, Cow<'a, str>, Node<'a>) -> Read<()>,
    ) -> Read<()> {
        if !self.is_object() {
            return self.expected(expected);
        }
        let mut refused = None;
        let mut deserializer = Deserializer::from_str(self.source);
        let read = deserializer.deserialize_map(Each {
            refused: &mut refused,
            each: |key: &'a str, value: &'a str| {
                let key = self.part(key);
                let name = key.string("a member's name")?;
                each(key, name, self.part(value))
            },
        });
        self.finish(read.and_then(|()| deserializer.end()), refused)
    }

    /// Calls `each` for every element of an array.
    pub fn elements(&self, expected: &'static str, mut each: impl FnMut(Node<'a>) -> Read<()>) -> Read<()> {
        if self.first() != Some(b'[') {
            return self.expected(expected);
        }
        let mut refused = None;
        let mut deserializer = Deserializer::from_str(self.source);
        let read = deserializer
            .deserialize_seq(Each { refused: &mut refused, each: |_: &'a str, value: &'a str| each(self.part(value)) });
        self.finish(read.and_then(|()| deserializer.end()), refused)
    }

    /// Returns a string with its escapes resolved.
    pub fn string(&self, expected: &'static str) -> Read<Cow<'a, str>> {
        let plain = self.source.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let Some(plain) = plain else {
            return self.expected(expected);
        };
        // The source is known to be one string, so text without an escape stands for itself.
        if memchr::memchr(b'\\', plain.as_bytes()).is_none() {
            return Ok(Cow::Borrowed(plain));
        }
        serde_json::from_str::<String>(self.source).map(Cow::Owned).map_err(|error| self.ill_formed(&error))
    }

    /// Returns the value at the start of the source, skipping white space, or `None` if there is none.
    pub fn value(&self) -> Read<Option<Self>> {
        match Deserializer::from_str(self.source).into_iter::<&'a RawValue>().next() {
            None => self.end.refusal(self.offset + self.source.len()).map_or(Ok(None), Err),
            Some(Ok(value)) => Ok(Some(self.part(value.get()))),
            Some(Err(error)) => Err(self.ill_formed(&error)),
        }
    }

    fn finish(&self, read: Result<(), Error>, refused: Option<Refusal>) -> Read<()> {
        match (refused, read) {
            (Some(refusal), _) => Err(refusal),
            (None, Ok(())) => Ok(()),
            (None, Err(error)) => Err(self.ill_formed(&error)),
        }
    }

    fn ill_formed(&self, error: &Error) -> Refusal {
        if error.classify() == Category::Eof {
            let end = self.offset + self.source.len();
            if let Some(refusal) = self.end.refusal(end) {
                return refusal;
            }
            return Refusal::new(end, ParseErrorKind::NotWellFormed { form: "JSON", reason: without_place(error) });
        }
        let line_start = match error.line() {
            0 | 1 => 0,
            line => memchr::memchr_iter(b'\n', self.source.as_bytes()).nth(line - 2).map_or(0, |end| end + 1),
        };
        let place = (line_start + error.column().saturating_sub(1)).min(self.source.len());
        let place = (0..=place).rev().find(|place| self.source.is_char_boundary(*place)).unwrap_or(0);
        Refusal::new(self.offset + place, ParseErrorKind::NotWellFormed { form: "JSON", reason: without_place(error) })
    }
}

/// Returns the error message without line and column, which count from the beginning of a node.
fn without_place(error: &Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason).to_owned()
}

/// Passes the parts of an object or an array on until one is refused.
struct Each<'r, F> {
    refused: &'r mut Option<Refusal>,
    each: F,
}

impl<'de, F: FnMut(&'de str, &'de str) -> Read<()>> Each<'_, F> {
    fn pass<E: serde::de::Error>(&mut self, key: &'de str, value: &'de str) -> Result<(), E> {
        (self.each)(key, value).map_err(|refusal| {
            *self.refused = Some(refusal);
            E::custom("refused")
        })
    }
}

impl<'de, F: FnMut(&'de str, &'de str) -> Read<()>> Visitor<'de> for Each<'_, F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<&'de RawValue>()? {
            let value = map.next_value::<&'de RawValue>()?;
            self.pass(key.get(), value.get())?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        while let Some(value) = elements.next_element::<&'de RawValue>()? {
            self.pass("", value.get())?;
        }
        Ok(())
    }
}
