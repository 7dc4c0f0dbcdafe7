//! The content language SL0: what is read, what is refused, and that what is written reads back.

use caxton_shards::codec::sl::{Argument, Compound, SL_BYTES_MAX, SL_NESTING_MAX, SL_TERMS_MAX, Term, parse, print};
use proptest::prelude::*;

fn round_trip(text: &str) -> String {
    print(&parse(text).unwrap())
}

#[test]
fn actions_propositions_and_collections_are_read() {
    let content =
        parse("((action (agent-identifier :name df@p) (search (set a \"b c\") (sequence 1 -2.5e3))))").unwrap();
    let [actor, act] = content[0].parts_of("ACTION").unwrap();
    assert_eq!(actor, &Term::record("agent-identifier", [("name", Term::of("df@p"))]));
    let [set, sequence] = act.parts_of("search").unwrap();
    assert_eq!(set, &Term::Set(vec![Term::of("a"), Term::of("b c")]));
    assert_eq!(sequence, &Term::Sequence(vec![Term::of("1"), Term::of("-2.5e3")]));
}

#[test]
fn keywords_are_read_in_any_case_and_spaces_anywhere() {
    assert_eq!(round_trip("\r\n( (SET\ta ( Sequence ) )x )"), "((set a (sequence)) x)");
    let content = parse("((Agent-Identifier :NAME x))").unwrap();
    assert!(content[0].arguments_of("agent-identifier").is_some());
}

#[test]
fn a_parameter_without_a_value_is_absent() {
    let content = parse("((service-description :name  :type  :ontologies (set o)))").unwrap();
    let arguments = content[0].arguments_of("service-description").unwrap();
    assert_eq!(arguments[0], Argument::Named("name".into(), None));
    assert_eq!(arguments[1], Argument::Named("type".into(), None));
    assert_eq!(round_trip("((x :a :b 1))"), "((x :a :b 1))");
}

#[test]
fn variables_and_identifying_expressions_are_read() {
    assert_eq!(round_trip("((iota ?x (result (action a b) ?x)))"), "((iota ?x (result (action a b) ?x)))");
}

#[test]
fn strings_keep_quotes_and_backslashes() {
    for text in ["", "a b", "say \"so\"", "a\\b", "a\\\"b", "ends in \\", "\\", "ü(\n)"] {
        let content = vec![Term::Text(text.into())];
        assert_eq!(parse(&print(&content)).unwrap(), content, "{text:?}");
    }
}

#[test]
fn strings_that_end_in_a_backslash_are_read_where_that_has_one_meaning() {
    assert_eq!(round_trip(r#"((a "C:\"))"#), r#"((a #3"C:\))"#);
    assert_eq!(round_trip(r#" ((a :b "C:\" :c "d"))"#), r#"((a :b #3"C:\ :c "d"))"#);
    assert!(parse(r#"((a :b "C:\" :c "d \"e\" \"))"#).is_err(), "it may end at either of two quotes");
    assert!(parse(r#"((a "C:\")"#).is_err());
    assert!(parse(r#"((a "C:\))"#).is_err());
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, complaint) in [
        ("", "line 1, column 1: expected the parenthesis that begins a content, found the end of the content"),
        ("(a)\n b", "line 2, column 2: expected the end of the content, found \"b\""),
        ("((a)", "line 1, column 1: a parenthesis begins here and is not closed"),
        ("(x \"abc)", "line 1, column 4: a string begins here and is not closed"),
        ("((set a) (:b c))", "line 1, column 11: expected a word that says what the parenthesis is, found \":b\""),
        ("(())", "line 1, column 3: expected a word that says what the parenthesis is, found \")\""),
        ("(a :b)", "line 1, column 4: expected a term, found \":b\""),
        ("(ä #9\"ab)", "line 1, column 4: the length says 9 bytes, but 3 bytes follow"),
        ("(#1\"ä)", "line 1, column 2: a string that ends within a character is not UTF-8"),
        ("(#x)", "line 1, column 2: expected digits and a quote behind #, found \"#x\""),
        ("((a :))", "line 1, column 6: expected a parameter's name behind the colon, found \")\""),
        ("(\u{1})", "line 1, column 2: expected a term, found \"\\u{1}\""),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), complaint, "{text:?}");
    }
}

#[test]
fn limits_hold_before_memory_is_taken() {
    let nested = |depth: usize| format!("({}a{})", "(x ".repeat(depth - 1), ")".repeat(depth - 1));
    assert!(parse(&nested(SL_NESTING_MAX)).is_ok());
    let error = parse(&nested(SL_NESTING_MAX + 1)).unwrap_err().to_string();
    assert!(error.contains("nested too deep: the limit is 64 levels"), "{error}");
    assert!(parse(&"(".repeat(SL_BYTES_MAX)).is_err());

    let many = |count: usize| format!("({})", "a ".repeat(count));
    assert!(parse(&many(SL_TERMS_MAX)).is_ok());
    let error = parse(&many(SL_TERMS_MAX + 1)).unwrap_err().to_string();
    assert!(error.contains("too many terms: the limit is 65536"), "{error}");

    let error = parse(&" ".repeat(SL_BYTES_MAX + 1)).unwrap_err().to_string();
    assert!(error.contains("the content is too long: the limit is 1048576 bytes"), "{error}");
}

fn word() -> impl Strategy<Value = Box<str>> {
    "[^\\x00-\\x20\\x7f()\":?#][^\\x00-\\x20\\x7f()\"]{0,12}".prop_map(Into::into)
}

fn head() -> impl Strategy<Value = Box<str>> {
    word().prop_filter("a collection", |head| !["set", "sequence"].contains(&head.to_ascii_lowercase().as_str()))
}

fn term() -> impl Strategy<Value = Term> {
    let leaf = prop_oneof![
        word().prop_map(Term::Atom),
        ".{0,20}".prop_map(|text| Term::Text(text.into())),
        "[\\\\\"ab]{0,6}".prop_map(|text| Term::Text(text.into())),
        word().prop_map(Term::Variable),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        let argument = prop_oneof![
            inner.clone().prop_map(Argument::Plain),
            (word(), inner.clone()).prop_map(|(name, value)| Argument::Named(name, Some(value))),
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Term::Set),
            proptest::collection::vec(inner, 0..6).prop_map(Term::Sequence),
            (head(), proptest::collection::vec(argument, 0..6))
                .prop_map(|(head, arguments)| Term::Compound(Box::new(Compound { head, arguments }))),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(content in proptest::collection::vec(term(), 0..4)) {
        prop_assert_eq!(parse(&print(&content)).unwrap(), content);
    }

    #[test]
    fn no_text_panics_and_what_is_read_is_stable(text in "\\PC{0,60}|[()a:?#\"\\\\ 0-9]{0,60}|\\([()a:?#\"\\\\ 0-9]{0,60}\\)") {
        if let Ok(content) = parse(&text) {
            prop_assert_eq!(parse(&print(&content)).unwrap(), content);
        }
    }
}
