//! Messages as other platforms write them: beyond the letter of the standard, but unambiguous.

use super::*;
use caxton_shards::codec::text::{Strictness, check_strict};

fn strictly(input: &str) -> Result<Message, ParseError> {
    parse(input.as_bytes(), NOW, &Limits::default().with_strictness(Strictness::Strict))
}

fn outline(text: &str) -> Vec<String> {
    let told = |read: Result<Located<Message>, ParseError>| match read {
        Ok(located) => located.value.content().as_text().unwrap().to_owned(),
        Err(_) => "error".to_owned(),
    };
    Messages::new(text.as_bytes(), NOW, &Limits::default()).map(told).collect()
}

#[test]
fn strings_that_end_in_a_backslash_are_read() {
    for (input, written) in [
        (r#"(inform :content "C:\logs\")"#, r#"(inform :content #8"C:\logs\)"#),
        (r#"(inform :content "C:\logs\" )"#, r#"(inform :content #8"C:\logs\)"#),
        (r#"(inform :content "\")"#, r#"(inform :content #1"\)"#),
        (r#"(inform :content "say \"C:\\")"#, r#"(inform :content #9"say "C:\\)"#),
        (r#"(inform :language "a\" :content "b\")"#, r#"(inform :content #2"b\ :language a\)"#),
        (r#"(inform :content "a\":X-b (c "d\" e))"#, r#"(inform :content #2"a\ :X-b (c #2"d\ e))"#),
        (
            r#"(inform :sender (agent-identifier :name "a b\" :addresses (sequence "c\")))"#,
            r#"(inform :sender (agent-identifier :name #4"a b\ :addresses (sequence c\)))"#,
        ),
    ] {
        writes(input, written);
        assert!(strictly(input).is_err(), "{input}");
    }
}

#[test]
fn a_message_with_two_readings_is_refused_and_one_that_stands_is_read_as_it_stands() {
    assert!(read(r#"(inform :content "a\") (\")"#).is_err());
    // The standard's reading takes precedence.
    let message = reads(r#"(inform :content "a\") (\"")"#);
    assert_eq!(message.content().as_text(), Some(r#"a") (""#));
}

#[test]
fn one_backslash_costs_no_other_message() {
    let ends = r#"(INFORM :content "C:\logs\" )"#;
    assert_eq!(outline(&format!("{ends}\n(inform :content \"next\")")), ["C:\\logs\\", "next"]);
    assert_eq!(outline(&format!("{ends}\n{ends}\n(inform :content x)")), ["C:\\logs\\", "C:\\logs\\", "x"]);
    for malformed in [r#"(inform :content "C:\" oops)"#, r#"(inform :content "C:\" :sender (x y))"#] {
        let text = format!("{malformed}\n(inform :content \"b\")\n(inform :content c)");
        assert_eq!(outline(&text), ["error", "b", "c"], "{malformed}");
    }
}

#[test]
fn what_a_string_says_is_no_message_also_behind_a_backslash() {
    let text = "(inform :content \"\\\") (request :content evil) (\" :bad x)\n(inform :content next)";
    assert_eq!(outline(text), ["error", "next"]);
}

#[test]
fn names_that_are_no_words_are_read_as_strings_and_written_so() {
    let strict = "(inform :sender (agent-identifier :name \"Night Porter@plant-7:1099/JADE\") \
                  :receiver (set (agent-identifier :name \"7of9\")))";
    writes("(inform :sender \"Night Porter@plant-7:1099/JADE\" :receiver 7of9)", strict);
    assert!(read("(inform :sender Night Porter@p)").is_err());
    let error = strictly(strict).unwrap_err();
    assert!(matches!(error.kind, ParseErrorKind::NotStrict(_)), "{error}");
    assert!(error.to_string().contains("\"Night Porter@plant-7:1099/JADE\" is not a word"), "{error}");
    assert!(strictly("(inform :sender porter@plant-7)").is_ok());

    let told = check_strict(&reads(strict), &NoNames).unwrap_err().to_string();
    assert!(told.contains("Night Porter"), "{told}");
    assert_eq!(check_strict(&reads("(inform :sender porter :X-a b)"), &NoNames), Ok(()));
    let name = AgentName::try_new("Night Porter").unwrap();
    let native = Message::builder(Performative::Inform).sender(AgentId::of(&name)).build().unwrap();
    assert_eq!(check_strict(&native, &NoNames), Ok(()));
    assert!(check_strict(&native, &|_| Some(name.clone())).is_err());
}

#[test]
fn parameters_of_other_platforms_mean_nothing_and_are_kept() {
    let text =
        "(inform :X-priority 2 :X-priority high :X-reliability durable :X-message-id 7 :X-choice any :X-receipt (a))";
    writes(text, text);
    let message = reads(text);
    assert_eq!(message.options(), Message::builder(Performative::Inform).build().unwrap().options());
    assert_eq!(user_values(&message).len(), 6);
}

#[test]
fn user_parameters_of_other_forms_have_a_place_in_this_one() {
    let text = "(inform :X-caxton-user-defined (tone soft) :X-caxton-user-defined (dir #3\"C:\\))";
    writes(text, text);
    let message = reads(text);
    let expected =
        [("tone", &ParameterValue::Atom("soft".into())), ("dir", &ParameterValue::Binary((*b"C:\\").into()))];
    assert_eq!(user_values(&message), expected);
    assert!(strictly(text).is_err() && check_strict(&message, &NoNames).is_err());
    for other in ["x", "(sender x)", "(X-a b)", "(a)", "(a b c)", "((a) b)"] {
        let text = format!("(inform :X-caxton-user-defined {other})");
        writes(&text, &text);
    }
}

#[test]
fn content_that_is_empty_is_content() {
    writes("(inform :content \"\" :language \"\" :X-a \"\")", "(inform :content \"\" :language \"\" :X-a \"\")");
    assert_ne!(reads("(inform :content \"\")"), reads("(inform)"));
    assert!(reads("(inform :content \"\")").content().is_given());
}

#[test]
fn a_beginning_gives_the_messages_that_are_whole() {
    let text = "(inform :content \"a b\")\n(bad x)\n(inform :content (c \"d\"))";
    for end in 0..=text.len() {
        let mut messages = Messages::new(&text.as_bytes()[..end], NOW, &Limits::default()).may_go_on();
        let read: Vec<bool> = messages.by_ref().map(|read| read.is_ok()).collect();
        let expected: &[bool] = match end {
            0..23 => &[],
            23..32 => &[true],
            _ if end < text.len() => &[true, false],
            _ => &[true, false, true],
        };
        assert_eq!(read, expected, "{}", &text[..end]);
        assert!(messages.taken() <= end);
    }
    // Whether the quote ends the string depends on what follows.
    let ends = b"(inform :content \"C:\\\")";
    assert!(Messages::new(ends, NOW, &Limits::default()).may_go_on().next().is_none());
    assert!(Messages::new(ends, NOW, &Limits::default()).next().unwrap().is_ok());
}

proptest! {
    #[test]
    fn every_string_of_quotes_and_backslashes_is_read_where_it_has_one_reading(texts in proptest::collection::vec("[\\\\\"a ]{0,6}", 1..4)) {
        // As JADE writes strings: a backslash before each quote, and nothing else.
        let literal = |text: &String| format!("\"{}\"", text.replace('"', "\\\""));
        let parameters = texts.iter().map(|text| format!(" :X-a {}", literal(text))).collect::<Vec<_>>().concat();
        let input = format!("(inform{parameters})");
        let values = |message: &Message| -> Vec<String> {
            user_values(message).iter().map(|(_, value)| match value {
                ParameterValue::Text(text) => text.to_string(),
                ParameterValue::Binary(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
                other => panic!("{other:?}"),
            }).collect()
        };
        let ends_badly = texts.iter().any(|text| text.ends_with('\\'));
        match read(&input) {
            Ok(message) => {
                // If the reading differs from the writer's, it is the standard's, in which strings cannot end that way.
                prop_assert!(ends_badly || values(&message) == texts, "{}", input);
                prop_assert_eq!(reads(written(&message)), message);
            }
            Err(_) => prop_assert!(ends_badly, "{}", input),
        }
        if let [text] = texts.as_slice() {
            prop_assert_eq!(values(&reads(&input)), std::slice::from_ref(text), "{}", input);
        }
    }
}
