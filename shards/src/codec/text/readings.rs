//! Strings that end in a backslash, as other platforms write them.
//!
//! In SC00070 a quote after a backslash belongs to its string, so that `"C:\logs\"` does not end there. Platforms write
//! it all the same. If a text cannot be read by the standard's rule, such a quote may have been meant to end its
//! string: if exactly one choice of such quotes makes the text a message (or an SL content), that is its reading.
//! Between two readings none is chosen.
//!
//! All choices are explored together: in how many ways the rest can be read from a place, at a depth of parentheses,
//! does not depend on how the place was reached. The time is therefore proportional to the length of the text, and
//! bounded besides.

use std::collections::{BTreeMap, HashMap};

use super::lexer::behind_space;
use crate::message::word::Class;
use crate::message::word::class;

/// The grammar that is searched for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Grammar {
    /// A message: names and values in parentheses, followed by another message or nothing.
    Message,
    /// Anything in parentheses, followed by a message or nothing.
    Parentheses,
    /// An SL content, followed by nothing.
    Content,
}

/// A string: the position of its opening quote, and the depth of parentheses.
type Opening = (usize, usize);

/// The ways to reach a place.
#[derive(Clone, Copy)]
struct Ways {
    /// The number of ways, counted up to two.
    count: usize,
    /// The previous string and the quote that ends it; `None` for the first string.
    behind: Option<(Opening, usize)>,
}

impl Ways {
    fn add(&mut self, other: Self) {
        self.count = (self.count + other.count).min(2);
    }
}

/// What follows a place outside of strings.
enum Next {
    /// A string begins.
    String(Opening),
    /// The text is complete, and something else or nothing begins here.
    Whole(usize),
    /// No valid continuation.
    Nothing,
}

/// Returns the quotes after backslashes that end their strings in the only reading of the text at `start`, in order.
/// Returns `None` if there is no reading, more than one, or if the search takes more than `steps`, which are counted
/// down.
#[cold]
pub(crate) fn only(
    input: &[u8],
    start: usize,
    grammar: Grammar,
    nesting_max: usize,
    steps: &mut usize,
) -> Option<Vec<usize>> {
    let found = readings(input, start, grammar, nesting_max, steps)?;
    if found.count == 1 { Some(found.closing) } else { None }
}

/// Returns where the next message begins, or the input ends, after the text at `start`: the first place where the
/// parentheses may balance. Returns `None` if there is none, or if the search takes more than `steps`.
///
/// Also returns `None` if the text at `start` has the form of a message by the standard's rule: then it ends where that
/// rule says.
#[cold]
pub(super) fn first_end(input: &[u8], start: usize, nesting_max: usize, steps: &mut usize) -> Option<usize> {
    let mut finder = Finder { input, grammar: Grammar::Message, nesting_max, steps };
    if finder.stands(start)? {
        return None;
    }
    readings(input, start, Grammar::Parentheses, nesting_max, steps)?.first_end
}

/// What is known about the readings of a text.
#[derive(Default)]
struct Readings {
    /// The number of readings, counted up to two.
    count: usize,
    /// The quotes after backslashes that end their strings, in one of the readings.
    closing: Vec<usize>,
    /// The first place where one of the readings ends.
    first_end: Option<usize>,
}

fn readings(input: &[u8], start: usize, grammar: Grammar, nesting_max: usize, steps: &mut usize) -> Option<Readings> {
    let mut finder = Finder { input, grammar, nesting_max, steps };
    // Ordered by place, so that all ways to a string are known before it is followed.
    let mut open: BTreeMap<Opening, Ways> = BTreeMap::new();
    let mut closed: HashMap<Opening, Ways> = HashMap::new();
    let mut whole = Ways { count: 0, behind: None };
    let mut found = Readings::default();
    let first = Ways { count: 1, behind: None };
    match finder.begin(start)? {
        Next::String(opening) => drop(open.insert(opening, first)),
        Next::Whole(end) => return Some(Readings { count: 1, first_end: Some(end), ..found }),
        Next::Nothing => return Some(found),
    }
    while let Some((opening, ways)) = open.pop_first() {
        closed.insert(opening, ways);
        let mut search = opening.0 + 1;
        loop {
            let rest = input.get(search..)?;
            let Some(distance) = memchr::memchr(b'"', rest) else { break };
            let quote = search + distance;
            finder.count(distance + 1)?;
            let reached = Ways { count: ways.count, behind: Some((opening, quote)) };
            match finder.follow(quote + 1, opening.1)? {
                Next::String(next) => {
                    open.entry(next).and_modify(|known| known.add(reached)).or_insert(reached);
                }
                Next::Whole(end) => {
                    found.first_end = Some(found.first_end.map_or(end, |first| first.min(end)));
                    if whole.count == 0 {
                        whole = reached;
                    } else {
                        whole.add(reached);
                    }
                }
                Next::Nothing => {}
            }
            let is_escaped = quote > opening.0 + 1 && input[quote - 1] == b'\\';
            if !is_escaped {
                break;
            }
            search = quote + 1;
        }
    }
    found.count = whole.count;
    let mut behind = whole.behind;
    while let Some((opening, quote)) = behind {
        if quote > opening.0 + 1 && input[quote - 1] == b'\\' {
            found.closing.push(quote);
        }
        behind = closed.get(&opening)?.behind;
    }
    found.closing.reverse();
    Some(found)
}

struct Finder<'a, 's> {
    input: &'a [u8],
    grammar: Grammar,
    nesting_max: usize,
    steps: &'s mut usize,
}

impl Finder<'_, '_> {
    fn count(&mut self, steps: usize) -> Option<()> {
        *self.steps = self.steps.checked_sub(steps)?;
        Some(())
    }

    fn peek(&self, place: usize) -> Option<u8> {
        self.input.get(place).copied()
    }

    /// Whether the text satisfies the grammar by the standard's rule, with no string ending at a quote after a
    /// backslash.
    fn stands(&mut self, start: usize) -> Option<bool> {
        let mut next = self.begin(start)?;
        loop {
            let (opening, depth) = match next {
                Next::String(opening) => opening,
                Next::Whole(_) => return Some(true),
                Next::Nothing => return Some(false),
            };
            let mut quotes = memchr::memchr_iter(b'"', &self.input[opening + 1..]);
            let closes = |distance: &usize| *distance == 0 || self.input[opening + distance] != b'\\';
            let Some(distance) = quotes.find(closes) else { return Some(false) };
            self.count(distance + 1)?;
            next = self.follow(opening + 1 + distance + 1, depth)?;
        }
    }

    /// Follows the text from the opening parenthesis.
    fn begin(&mut self, start: usize) -> Option<Next> {
        if self.peek(start) != Some(b'(') {
            return Some(Next::Nothing);
        }
        let place = match self.grammar {
            Grammar::Message => self.word_end(behind_space(self.input, start + 1)),
            Grammar::Parentheses | Grammar::Content => start + 1,
        };
        self.follow(place, 1)
    }

    /// Follows the text up to the next string or the end.
    fn follow(&mut self, from: usize, depth: usize) -> Option<Next> {
        let (mut place, mut depth) = (from, depth);
        loop {
            let begun = place;
            place = behind_space(self.input, place);
            if depth == 0 {
                let ends = match self.peek(place) {
                    None => true,
                    Some(byte) => byte == b'(' && self.grammar != Grammar::Content,
                };
                return Some(if ends { Next::Whole(place) } else { Next::Nothing });
            }
            if self.grammar == Grammar::Message && depth == 1 && self.peek(place) != Some(b')') {
                let Some(value) = self.behind_name(place) else { return Some(Next::Nothing) };
                place = value;
            }
            match self.peek(place) {
                Some(b'"') => {
                    self.count(place - begun)?;
                    return Some(Next::String((place, depth)));
                }
                Some(b'(') if depth < self.nesting_max => {
                    depth += 1;
                    place += 1;
                }
                Some(b')') => {
                    depth -= 1;
                    place += 1;
                }
                Some(b'#') if self.behind_counted(place).is_some() => {
                    place = self.behind_counted(place).unwrap_or(place);
                }
                Some(byte) if class(byte) == Class::Word => place = self.word_end(place),
                _ => return Some(Next::Nothing),
            }
            self.count(place - begun)?;
        }
    }

    /// Returns the position of the value of the parameter whose colon is at `colon`.
    fn behind_name(&self, colon: usize) -> Option<usize> {
        let end = self.input[colon..].iter().position(|byte| class(*byte) != Class::Word || *byte == b'"');
        let end = colon + end.unwrap_or(self.input.len() - colon);
        let name = self.input.get(colon..end)?.strip_prefix(b":")?;
        let value = behind_space(self.input, end);
        (!name.is_empty() && !matches!(self.peek(value), None | Some(b')' | b':'))).then_some(value)
    }

    fn word_end(&self, place: usize) -> usize {
        let is_word = |byte: u8| class(byte) == Class::Word && (byte != b'"' || self.grammar != Grammar::Content);
        let rest = self.input.get(place..).unwrap_or_default();
        place + rest.iter().take_while(|byte| is_word(**byte)).count()
    }

    fn behind_counted(&self, place: usize) -> Option<usize> {
        let digits = self.input.get(place + 1..)?;
        let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let length: usize = std::str::from_utf8(&digits[..count]).ok()?.parse().ok()?;
        let start = place + 1 + count + 1;
        let behind = start.checked_add(length).filter(|behind| *behind <= self.input.len())?;
        if digits.get(count) != Some(&b'"') {
            return None;
        }
        // Some writers add a closing quote that is not needed.
        let is_closed = self.grammar != Grammar::Content && self.peek(behind) == Some(b'"');
        Some(behind + usize::from(is_closed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closing(text: &str, grammar: Grammar) -> Option<Vec<usize>> {
        only(text.as_bytes(), 0, grammar, 64, &mut 100_000)
    }

    #[test]
    fn one_reading_is_found_and_two_are_not_chosen_between() {
        let message = |text| closing(text, Grammar::Message);
        assert_eq!(message(r#"(inform :content "a\")"#), Some(vec![20]));
        assert_eq!(message(r#"(inform :content "a\" :language "b\")"#), Some(vec![20, 35]));
        assert_eq!(message(r#"(inform :content "a\")(inform :content "b\")"#), Some(vec![20]));
        assert_eq!(message(r#"(inform :content "a\"#), None);
        // The first string may end at either quote.
        assert_eq!(message(r#"(inform :content "a\") (\")"#), None);
        let content = |text| closing(text, Grammar::Content);
        assert_eq!(content(r#"((a "b\"))"#), Some(vec![7]));
        assert_eq!(content(r#"((a "b\" c\"))"#), Some(vec![11]), "the first one cannot end the string");
        assert_eq!(content(r#"((a "b\" "c\"))"#), Some(vec![7, 12]));
        assert_eq!(content(r#"((a "b\")) c"#), None);
    }

    #[test]
    fn a_message_that_stands_as_it_is_has_no_other_end() {
        let end = |text: &str| first_end(text.as_bytes(), 0, 64, &mut 100_000);
        assert_eq!(end(r#"(inform :content "\") (request :content evil)" :bad x)(cfp)"#), None);
        assert_eq!(end(r#"(inform :content "C:\" oops)(inform :content "b")"#), Some(28));
    }

    #[test]
    fn looking_ends_with_its_steps() {
        let text = format!("(inform :content \"{}", "\\\" :X-a ".repeat(10_000));
        let mut steps = 1_000;
        assert_eq!(only(text.as_bytes(), 0, Grammar::Message, 64, &mut steps), None);
        let mut steps = 8 * text.len();
        assert_eq!(only(text.as_bytes(), 0, Grammar::Message, 64, &mut steps), None);
        assert!(steps > 0, "the time is in proportion to the text");
    }
}
