//! What is accepted beyond the standard, and how it is written.

use super::*;

#[test]
fn case_and_missing_space_do_not_matter() {
    writes(
        "(QUERY-IF:Sender(Agent-Identifier:NAME a):RECEIVER(SET(AGENT-IDENTIFIER :name b)):Content\"x\":language sl)",
        "(query-if :sender (agent-identifier :name a) :receiver (set (agent-identifier :name b)) :content \"x\" \
         :language sl)",
    );
    writes("(inform :content #1\"x:language sl)", "(inform :content \"x\" :language sl)");
    writes("(inform :content #1\"x\":language sl)", "(inform :content \"x\" :language sl)");
    writes("(inform :content #0\"\")", "(inform :content \"\")");
    writes("(inform :content #0\")", "(inform :content \"\")");
    writes("\u{feff}(inform\r\n:content \"a\r\nb\"\r\n)\r\n", "(inform :content \"a\r\nb\")");
}

#[test]
fn agents_may_be_named_without_ceremony() {
    let strict = "(inform :sender (agent-identifier :name a) :receiver (set (agent-identifier :name b)))";
    writes("(inform :sender a :receiver b)", strict);
    writes("(inform :sender \"a\" :receiver (set b))", strict);
    writes("(inform :sender (agent-identifier :name \"a\") :receiver (agent-identifier :name #1\"b))", strict);
    writes("(inform :receiver (sequence b) :sender a)", strict);
    writes(
        "(inform :sender (agent-identifier :addresses iiop://x:1/acc :name a :resolvers (set r)))",
        "(inform :sender (agent-identifier :name a :addresses (sequence iiop://x:1/acc) \
         :resolvers (sequence (agent-identifier :name r))))",
    );
    writes(
        "(inform :sender (agent-identifier :name :x))".replace(":x", "\":x\"").as_str(),
        "(inform :sender (agent-identifier :name \":x\"))",
    );
}

#[test]
fn textual_parameters_take_any_expression() {
    writes("(inform :language \"x\" :ontology (a b))", "(inform :language x :ontology \"(a b)\")");
    writes("(inform :reply-with +.99E-23 :in-reply-to -99)", "(inform :reply-with +.99E-23 :in-reply-to -99)");
    writes("(inform :reply-with @x :in-reply-to 9x)", "(inform :reply-with \"@x\" :in-reply-to \"9x\")");
    writes("(inform :reply-with #1 :in-reply-to a\"b)", "(inform :reply-with \"#1\" :in-reply-to a\"b)");
    writes("(inform :content (price 100))", "(inform :content \"(price 100)\")");
    writes("(inform :X-a @b :X-a #1\"c :X-a 1 :X-a -)", "(inform :X-a \"@b\" :X-a #1\"c :X-a 1 :X-a \"-\")");
}

#[test]
fn a_reply_by_that_is_no_date_is_kept() {
    writes("(cfp :reply-by tomorrow)", "(cfp :X-reply-by tomorrow)");
    writes("(cfp :reply-by 20240230T000000000Z)", "(cfp :X-reply-by 20240230T000000000Z)");
    writes("(cfp :reply-by \"20240229t000000000\")", "(cfp :reply-by 20240229T000000000Z)");
    writes("(cfp :reply-by 19690101T000000000Z)", "(cfp :reply-by 19700101T000000001Z)");
    writes("(cfp :reply-by +00000000T000140000)", "(cfp :reply-by 20231114T221500000Z)");
    assert_eq!(reads("(cfp :reply-by tomorrow)").reply_by(), None);
}

#[test]
fn traces_of_later_versions_are_read_as_far_as_they_are_known() {
    let strict = "(inform :X-caxton-traceparent \"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\")";
    writes("(inform :X-caxton-traceparent 01-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01-new)", strict);
}
