//! Tests of the forms in which messages are exchanged and stored: text, bits, XML, JSON, SL and journal records. To run
//! one of them: `cargo test -p caxton-shards --test codec acl_xml::`.
//!
//! Random tests print the failing input, and `PROPTEST_CASES` sets their number. They add thousands of words to the
//! vocabulary of their process, which is bounded; in a separate program, no other test runs out of words.

#![allow(clippy::unwrap_used)] // Tests fail by panicking.

mod acl_bits;
mod acl_corpus;
mod acl_json;
mod acl_text;
mod acl_xml;
mod generators;
mod linear;
mod records;
mod sl;
