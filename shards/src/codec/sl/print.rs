//! The SL printer.

use super::{Argument, Term, is_word};

/// Writes a content. It reads back as the same terms if every head, name and atom is a word.
pub fn print(content: &[Term]) -> String {
    let mut text = String::new();
    text.push('(');
    list(content, &mut text);
    text.push(')');
    text
}

impl std::fmt::Display for Term {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        term(self, &mut text);
        formatter.write_str(&text)
    }
}

fn list(terms: &[Term], text: &mut String) {
    for (place, element) in terms.iter().enumerate() {
        if place > 0 {
            text.push(' ');
        }
        term(element, text);
    }
}

fn term(element: &Term, text: &mut String) {
    match element {
        // An atom that is not a word was created by hand: as a string it keeps its text.
        Term::Atom(word) if is_word(word) => text.push_str(word),
        Term::Atom(content) | Term::Text(content) => string(content, text),
        Term::Variable(name) => {
            text.push('?');
            text.push_str(name);
        }
        Term::Set(elements) => collection("(set", elements, text),
        Term::Sequence(elements) => collection("(sequence", elements, text),
        Term::Compound(compound) => {
            text.push('(');
            text.push_str(&compound.head);
            for argument in &compound.arguments {
                text.push(' ');
                match argument {
                    Argument::Plain(value) => term(value, text),
                    Argument::Named(name, value) => {
                        text.push(':');
                        text.push_str(name);
                        if let Some(value) = value {
                            text.push(' ');
                            term(value, text);
                        }
                    }
                }
            }
            text.push(')');
        }
    }
}

fn collection(opening: &str, elements: &[Term], text: &mut String) {
    text.push_str(opening);
    if !elements.is_empty() {
        text.push(' ');
    }
    list(elements, text);
    text.push(')');
}

/// Writes a string. Text that ends in a backslash has no string literal and is written with its length.
fn string(content: &str, text: &mut String) {
    use std::fmt::Write as _;
    if content.ends_with('\\') {
        let _ = write!(text, "#{}\"{content}", content.len());
        return;
    }
    text.push('"');
    for piece in content.split_inclusive('"') {
        match piece.strip_suffix('"') {
            Some(before) => {
                text.push_str(before);
                text.push_str("\\\"");
            }
            None => text.push_str(piece),
        }
    }
    text.push('"');
}
