//! Several messages in one text, including malformed ones.

use super::*;

fn all(text: &str) -> Vec<Result<Located<Message>, ParseError>> {
    Messages::new(text.as_bytes(), NOW, &Limits::default()).collect()
}

/// Returns the performatives of the messages, and the lines of the errors.
fn outline(text: &str) -> Vec<String> {
    all(text)
        .into_iter()
        .map(|read| match read {
            Ok(located) => located.value.performative().to_string(),
            Err(error) => format!("error on line {}", error.line),
        })
        .collect()
}

#[test]
fn messages_stand_where_they_stand() {
    let text = "\u{feff}\n(inform\n)(request) \n\n  ä(cfp)".replace('ä', "");
    let places: Vec<_> = all(&text)
        .into_iter()
        .map(|read| {
            let located = read.unwrap();
            (located.line, located.column, text[located.range].to_owned())
        })
        .collect();
    assert_eq!(places, [(2, 1, "(inform\n)".to_owned()), (3, 2, "(request)".to_owned()), (5, 3, "(cfp)".to_owned())]);
    assert!(all("").is_empty());
    assert!(all(" \n\t\u{b}").is_empty());
}

#[test]
fn reading_goes_on_behind_a_malformed_message() {
    for (text, expected) in [
        ("(inform :bad (x)) (cfp)", vec!["error on line 1", "cfp"]),
        ("(inform :bad \"\n(cfp)\") (cfp)", vec!["error on line 1", "cfp"]),
        ("(inform :bad #3\")))) (cfp)", vec!["error on line 1", "cfp"]),
        ("(inform :content \"a\n\n(cfp)\n(refuse)", vec!["error on line 1", "cfp", "refuse"]),
        ("(inform :content (a\n(cfp)\n(refuse)", vec!["error on line 1", "cfp", "refuse"]),
        ("(inform :content #99\"a\n(cfp)", vec!["error on line 1", "cfp"]),
        ("(inform)) (cfp)", vec!["inform", "error on line 1", "cfp"]),
        ("(inform) what (now)\n (cfp)", vec!["inform", "error on line 1", "cfp"]),
        ("what\nnow", vec!["error on line 1"]),
        ("\n(", vec!["error on line 2"]),
        ("(inform\n(cfp)\n(refuse)", vec!["error on line 2", "cfp", "refuse"]),
        ("\0(inform)\n(cfp)", vec!["error on line 1", "cfp"]),
    ] {
        assert_eq!(outline(text), expected, "{text:?}");
    }
}

#[test]
fn a_message_inside_a_string_is_none() {
    let text = "(inform :bad x :content \"\n(request :content \\\"evil\\\")\n\")\n(cfp)";
    assert_eq!(outline(text), ["error on line 1", "cfp"]);
}

#[test]
fn hostile_input_takes_time_in_proportion_to_its_length() {
    for (prefix, line) in [
        ("", "(\n"),
        ("", "(a :content \"\n"),
        ("", "(a :X-a\\\"\n"),
        ("", "(a :X-a (\n"),
        ("", "(a :content (() \n"),
        ("", "(a :content #9999999\"\n"),
        ("", "(a :b (\"\n"),
        ("", ")"),
        ("", "x\n"),
        ("", "(a :content \"\\\"\n"),
        ("", "\n"),
        ("", "(a) "),
        ("(a ", "\n ("),
    ] {
        grows_with_its_input([prefix.as_bytes(), line.as_bytes(), b""], |input| {
            let _ = Messages::new(input, NOW, &Limits::default()).count();
        });
    }
}
