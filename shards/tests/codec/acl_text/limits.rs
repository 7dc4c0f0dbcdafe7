//! Limits on sizes, counts and nesting.

use super::*;

#[track_caller]
fn refused(input: &[u8], limits: &Limits, expected: &str) {
    let error = parse(input, NOW, limits).unwrap_err();
    assert_eq!(error.to_string(), expected);
}

#[test]
fn nesting_is_bounded() {
    let limits = Limits::default();
    let bomb = "(".repeat(1_000_000);
    refused(
        format!("(inform :X-a {bomb}").as_bytes(),
        &limits,
        "line 1, column 77: nested too deep: the limit is 64 levels of parentheses",
    );
    refused(
        format!("(inform :content {bomb}").as_bytes(),
        &limits,
        "line 1, column 81: nested too deep: the limit is 64 levels of parentheses",
    );
    refused(bomb.as_bytes(), &limits, "line 1, column 2: expected a performative such as inform, found \"(\"");
    assert!(Messages::new(bomb.as_bytes(), NOW, &limits).all(|read| read.is_err()));
    let nested = |depth: usize| {
        format!(
            "(inform :sender {}a{})",
            "(agent-identifier :name a :resolvers (sequence ".repeat(depth),
            "))".repeat(depth)
        )
    };
    reads(nested(7));
    let error = read(nested(100_000)).unwrap_err();
    assert_eq!(error.kind.to_string(), "nested too deep: the limit is 8 levels of resolvers");
    let shallow = Limits { nesting_max: 3, ..limits };
    let error = parse(nested(1).as_bytes(), NOW, &shallow);
    assert!(error.is_ok(), "{error:?}");
    let error = parse(nested(2).as_bytes(), NOW, &shallow).unwrap_err();
    assert_eq!(error.kind.to_string(), "nested too deep: the limit is 3 levels of parentheses");
}

#[test]
fn content_is_bounded_in_both_forms() {
    let limits = Limits::default();
    let bytes = limits.content_max.as_usize();
    let largest = "x".repeat(bytes);
    assert_eq!(reads(format!("(inform :content \"{largest}\")")).content().len(), bytes);
    assert_eq!(reads(format!("(inform :content #{bytes}\"{largest})")).content().len(), bytes);
    let expected = "line 1, column 18: the content is too long: the limit is 10485760 bytes";
    refused(format!("(inform :content \"{largest}x\")").as_bytes(), &limits, expected);
    refused(format!("(inform :content #{}\"{largest}x)", bytes + 1).as_bytes(), &limits, expected);
    refused(format!("(inform :content {largest}x)").as_bytes(), &limits, expected);
    let small = Limits::with_content(ContentLimit::try_new(2).unwrap());
    assert!(parse(br#"(inform :content "\"\"")"#, NOW, &small).is_ok(), "escapes do not count");
    assert!(parse(br#"(inform :content "\"\"\"")"#, NOW, &small).is_err());
}

#[test]
fn a_length_is_compared_with_what_there_is() {
    refused(
        b"(inform :content #4294967295\"abc)",
        &Limits::default(),
        "line 1, column 18: the length says 4294967295 bytes, but 4 bytes follow",
    );
    let zeros = format!("(inform :content #{}\"abc)", "0".repeat(1_000_000));
    refused(
        zeros.as_bytes(),
        &Limits::default(),
        "line 1, column 1000020: expected a parameter name such as :sender, or ), found \"abc\"",
    );
}

#[test]
fn the_message_is_bounded() {
    let limits = Limits { message_bytes_max: 20, ..Limits::default() };
    assert!(parse(b"(inform :content \"\")", NOW, &limits).is_ok());
    refused(b"(inform :content \"a\")", &limits, "line 1, column 21: the message is too long: the limit is 20 bytes");
    for long in ["(inform :content \"aaaaaa\")", "(inform :X-a (a a a a a))", "(inform :language aaaaaaaaa)"] {
        let text = format!("(inform)\n{long}\n(inform)");
        let reads: Vec<_> = Messages::new(text.as_bytes(), NOW, &limits).collect();
        let [Ok(_), Err(error), Ok(last)] = reads.as_slice() else { panic!("{reads:?}") };
        assert!(matches!(error.kind, ParseErrorKind::TooLong { .. }), "{error}");
        assert_eq!((error.line, last.line), (2, 3));
    }
}

#[test]
fn agents_are_bounded() {
    let receivers = |count: usize| format!("(inform :receiver (set{}))", " a".repeat(count));
    assert_eq!(reads(receivers(RECEIVERS_MAX)).details().unwrap().receivers.len(), RECEIVERS_MAX);
    refused(
        receivers(RECEIVERS_MAX + 1).as_bytes(),
        &Limits::default(),
        "line 1, column 20024: too many agents: the limit is 10000",
    );
    let limits = Limits { aids_max: 3, ..Limits::default() };
    assert!(parse(b"(inform :sender a :receiver (set b c))", NOW, &limits).is_ok());
    refused(
        b"(inform :sender a :receiver (set b c d))",
        &limits,
        "line 1, column 38: too many agent identifiers: the limit is 3",
    );
    let addresses = |count: usize| {
        format!("(inform :sender (agent-identifier :name a :addresses (sequence{})))", " x".repeat(count))
    };
    reads(addresses(64));
    let error = read(addresses(65)).unwrap_err();
    assert_eq!(error.kind.to_string(), "too many addresses: the limit is 64");
}

#[test]
fn ten_thousand_different_receivers_read_back() {
    let agents: Vec<AgentId> = (0..RECEIVERS_MAX).map(|index| AgentId::of_text(&format!("agent-{index}"))).collect();
    let message = Message::builder(Performative::Cfp).receivers(agents).build().unwrap();
    let again = reads(written(&message));
    assert_eq!(reads(written(&again)), again);
    assert_eq!(again.details().unwrap().receivers.len(), RECEIVERS_MAX);
}

#[test]
fn user_defined_parameters_are_bounded() {
    let message = |count: usize| format!("(inform{} :reply-by never)", " :X-a b".repeat(count));
    reads(message(USER_PARAMETERS_MAX - 1));
    let error = read(message(USER_PARAMETERS_MAX)).unwrap_err();
    assert_eq!(error.kind.to_string(), "too many user-defined parameters: the limit is 64");
    assert_eq!(read(message(USER_PARAMETERS_MAX + 1)).unwrap_err().column, 9 + 7 * 64);
    let long = |bytes: usize| format!("(inform :X-a \"{}\")", "x".repeat(bytes));
    reads(long(65_536));
    let error = read(long(65_537)).unwrap_err();
    assert_eq!(error.to_string(), "line 1, column 14: :X-a is too long: the limit is 65536 bytes");
}
