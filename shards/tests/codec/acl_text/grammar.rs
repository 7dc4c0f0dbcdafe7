//! The grammar of SC00070, written a second time and strictly, to check what is written.

use proptest::prelude::prop_assume;
use proptest::proptest;

/// Fails unless `output` is one message of the standard, spelled as in the standard.
#[track_caller]
pub fn assert_strict(output: &[u8]) {
    let mut grammar = Grammar { rest: output };
    let is_message = grammar.message() && grammar.rest.is_empty();
    assert!(is_message, "{} before {}", String::from_utf8_lossy(output), String::from_utf8_lossy(grammar.rest));
}

/// The remaining input. Each rule returns whether it applies, and consumes what it covers.
struct Grammar<'a> {
    rest: &'a [u8],
}

impl Grammar<'_> {
    fn message(&mut self) -> bool {
        let act = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        if !(self.literal("(") && self.some(act)) {
            return false;
        }
        while self.literal(" :") {
            let known = if self.literal("sender ") {
                self.identifier()
            } else if self.literal("receiver ") || self.literal("reply-to ") {
                self.collection("set", Self::identifier)
            } else if self.literal("content ") {
                self.string() || self.counted()
            } else if self.literal("reply-by ") || self.literal("X-caxton-deliver-at ") {
                self.date()
            } else if let Some(name) =
                ["language ", "encoding ", "ontology ", "protocol ", "conversation-id ", "reply-with ", "in-reply-to "]
                    .into_iter()
                    .find(|name| self.rest.starts_with(name.as_bytes()))
            {
                self.literal(name) && self.expression()
            } else {
                self.user_defined()
            };
            if !known {
                return false;
            }
        }
        self.literal(")")
    }

    fn identifier(&mut self) -> bool {
        if !(self.literal("(agent-identifier :name ") && self.expression()) {
            return false;
        }
        if self.literal(" :addresses ") && !self.collection("sequence", Self::expression) {
            return false;
        }
        if self.literal(" :resolvers ") && !self.collection("sequence", Self::identifier) {
            return false;
        }
        while self.literal(" :") {
            if !self.user_defined() {
                return false;
            }
        }
        self.literal(")")
    }

    fn collection(&mut self, kind: &str, element: fn(&mut Self) -> bool) -> bool {
        self.literal("(")
            && self.literal(kind)
            && {
                let mut legal = true;
                while legal && self.literal(" ") {
                    legal = element(self);
                }
                legal
            }
            && self.literal(")")
    }

    fn user_defined(&mut self) -> bool {
        (self.literal("X-") || self.literal("x-"))
            && self.some(|byte| byte > 0x20 && !b"()".contains(&byte))
            && self.literal(" ")
            && self.expression()
    }

    fn expression(&mut self) -> bool {
        match self.rest.first() {
            Some(b'"') => self.string(),
            Some(b'#') => self.counted(),
            Some(b'(') => {
                // Expressions in parentheses are source text from outside and may be spaced in any way.
                let mut legal = self.literal("(");
                while legal {
                    while self.some(|byte| b" \t\r\n\x0b\x0c".contains(&byte)) {}
                    if self.literal(")") {
                        return true;
                    }
                    legal = match self.rest.first() {
                        Some(b'"' | b'#' | b'(') => self.expression() || self.some(|byte| byte > 0x20),
                        _ => self.some(|byte| byte > 0x20 && !b"()".contains(&byte)),
                    };
                }
                false
            }
            _ => self.number() || self.date() || self.word(),
        }
    }

    fn word(&mut self) -> bool {
        let begins = self.rest.first().is_some_and(|first| *first > 0x20 && !b"()#0123456789-@\":".contains(first));
        begins && self.some(|byte| byte > 0x20 && !b"()".contains(&byte))
    }

    /// Consumes digits with a sign, a point and an exponent up to the next separator.
    fn number(&mut self) -> bool {
        let end = self.rest.iter().position(|byte| *byte <= 0x20 || b"()".contains(byte)).unwrap_or(self.rest.len());
        let text = std::str::from_utf8(&self.rest[..end]).unwrap_or_default();
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
        let legal = plain && text.parse::<f64>().is_ok();
        if legal {
            self.rest = &self.rest[end..];
        }
        legal
    }

    fn date(&mut self) -> bool {
        let start = self.rest;
        let _sign = self.literal("+") || self.literal("-");
        let legal = self.digits(8) && self.literal("T") && self.digits(9);
        let _designator = self.rest.first().is_some_and(u8::is_ascii_alphabetic) && {
            self.rest = &self.rest[1..];
            true
        };
        if !legal {
            self.rest = start;
        }
        legal
    }

    fn string(&mut self) -> bool {
        if !self.literal("\"") {
            return false;
        }
        loop {
            if self.literal("\\\"") {
                continue;
            }
            match self.rest.split_first() {
                Some((b'"', rest)) => {
                    self.rest = rest;
                    return true;
                }
                Some((_, rest)) => self.rest = rest,
                None => return false,
            }
        }
    }

    fn counted(&mut self) -> bool {
        let start = self.rest;
        let digits = start.iter().skip(1).take_while(|byte| byte.is_ascii_digit()).count();
        let length = std::str::from_utf8(&start[1..=digits]).ok().and_then(|digits| digits.parse::<usize>().ok());
        self.rest = &start[digits + 1..];
        let legal = self.literal("\"") && length.is_some_and(|length| length <= self.rest.len());
        self.rest = if legal { &self.rest[length.unwrap_or(0)..] } else { start };
        legal
    }

    fn literal(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text.as_bytes());
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn digits(&mut self, count: usize) -> bool {
        let legal = self.rest.len() >= count && self.rest[..count].iter().all(u8::is_ascii_digit);
        self.rest = if legal { &self.rest[count..] } else { self.rest };
        legal
    }

    fn some(&mut self, belongs: impl Fn(u8) -> bool) -> bool {
        let count = self.rest.iter().take_while(|byte| belongs(**byte)).count();
        self.rest = &self.rest[count..];
        count > 0
    }
}

#[test]
fn the_grammar_is_strict() {
    for lenient in [
        "(INFORM)",
        "(inform )",
        "(inform) ",
        "(inform :sender a)",
        "(inform :receiver (agent-identifier :name a))",
        "(inform :content x)",
        "(inform :language @x)",
        "(inform :language 9x)",
        "(inform :language :x)",
        "(inform :reply-by tomorrow)",
        "(inform :priority high)",
        "(inform :content \"a\\\")",
        "(inform :content #2\"a)",
        "(inform :content #1\"a\")",
    ] {
        assert!(std::panic::catch_unwind(|| assert_strict(lenient.as_bytes())).is_err(), "{lenient}");
    }
    assert_strict(
        b"(inform :language #1\"x :content \"\\\"\" :X-a (a \"(\" #1\")) :X-b -.5E3 :reply-by 20250131T235959999Z)",
    );
}

proptest! {
    #[test]
    fn whatever_text_becomes_of_a_parameter_is_strict(text: String) {
        let message = caxton_shards::message::Message::builder(caxton_shards::message::Performative::Inform);
        let built = message.language(&text).conversation_text(&text).build();
        prop_assume!(built.is_ok());
        assert_strict(&super::written(&built.unwrap()));
    }
}
