//! The forms of messages: how to recognise, read and write them.

use std::fmt;
use std::path::Path;

use caxton_router::Message;
use caxton_router::codec::bits::{self, BitsError};
use caxton_router::codec::text::{self, Located, NoNames, ParseError, Strictness};
use caxton_router::codec::{json, xml};
use caxton_router::domain::ContentLimit;
use clap::ValueEnum;

use crate::cli::input::Source;

/// A form of messages. Adding one only needs changes here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Form {
    /// The bit-efficient form (FIPA SC00069), without a code table
    Bits,
    /// The string form (FIPA SC00070)
    Text,
    /// The XML form (FIPA SC00071)
    Xml,
    /// JSON objects, one per line
    Json,
}

/// The messages and errors in a text, in order.
type Read<'a> = Box<dyn Iterator<Item = Result<Located<Message>, ParseError>> + 'a>;

impl Form {
    pub const ALL: [Self; 4] = [Self::Bits, Self::Text, Self::Xml, Self::Json];

    pub fn name(self) -> &'static str {
        match self {
            Self::Bits => "bits",
            Self::Text => "text",
            Self::Xml => "xml",
            Self::Json => "json",
        }
    }

    /// Determines the form from the content or, failing that, from the suffix of the file's name.
    pub fn of_source(source: &Source) -> Option<Self> {
        let content = source.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&source.bytes);
        match content.trim_ascii_start().first() {
            Some(0xfa..=0xfc) => Some(Self::Bits),
            Some(b'(') => Some(Self::Text),
            Some(b'<') => Some(Self::Xml),
            Some(b'{' | b'[') => Some(Self::Json),
            _ => match &*Path::new(&source.name).extension()?.to_string_lossy().to_lowercase() {
                "acl" | "txt" => Some(Self::Text),
                "bits" => Some(Self::Bits),
                "xml" => Some(Self::Xml),
                "json" | "jsonl" | "ndjson" => Some(Self::Json),
                _ => None,
            },
        }
    }

    /// Whether the form has lines. A form without lines is a single one, with columns of a byte each.
    pub fn has_lines(self) -> bool {
        self != Self::Bits
    }

    /// Returns the messages and errors, in order.
    pub fn read(self, source: &Source, strictness: Strictness) -> Read<'_> {
        let (bytes, now) = (&source.bytes[..], source.read_at);
        let content_max = ContentLimit::default();
        match self {
            Self::Bits => {
                let limits = text::Limits::with_content(content_max).with_strictness(strictness);
                Box::new(bits::Messages::new(bytes, now, &limits).map(|read| match read {
                    Ok((value, range)) => Ok(Located { value, line: 1, column: range.start + 1, range }),
                    Err(BitsError { offset, kind }) => Err(ParseError { line: 1, column: offset + 1, offset, kind }),
                }))
            }
            Self::Text => {
                let limits = text::Limits::with_content(content_max).with_strictness(strictness);
                Box::new(text::Messages::new(bytes, now, &limits))
            }
            Self::Xml => {
                Box::new(xml::Messages::new(bytes, now, &xml::limits(content_max).with_strictness(strictness)))
            }
            Self::Json => {
                Box::new(json::Messages::new(bytes, now, &json::limits(content_max).with_strictness(strictness)))
            }
        }
    }

    /// Writes one message and its separator from the next.
    pub fn write(self, message: &Message, output: &mut Vec<u8>) {
        match self {
            Self::Bits => return bits::print(message, &NoNames, output),
            Self::Text => text::print(message, &NoNames, output),
            Self::Xml => xml::to_xml(message, &NoNames, output),
            Self::Json => json::to_json(message, &NoNames, output),
        }
        output.push(b'\n');
    }
}

impl fmt::Display for Form {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caxton_router::message::WallTime;

    #[test]
    fn the_content_says_the_form_and_else_the_name_does() {
        let cases = [
            ("a.xml", "\u{feff}\n (inform)", Some(Form::Text)),
            ("-", "<fipa-message/>", Some(Form::Xml)),
            ("a.acl", " {}", Some(Form::Json)),
            ("a.bits", "", Some(Form::Bits)),
            ("a.XML", "", Some(Form::Xml)),
            ("a.jsonl", "inform", Some(Form::Json)),
            ("a.acl", "inform", Some(Form::Text)),
            ("-", "inform", None),
            ("a.bin", "", None),
        ];
        for (name, content, form) in cases {
            let source = Source { name: name.to_owned(), bytes: content.into(), read_at: WallTime(1) };
            assert_eq!(Form::of_source(&source), form, "{name}: {content}");
        }
        let source = Source { name: "-".to_owned(), bytes: vec![0xfa, 0x10, 0x08, 0x01], read_at: WallTime(1) };
        assert_eq!(Form::of_source(&source), Some(Form::Bits));
    }
}
