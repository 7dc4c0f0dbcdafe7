//! The XML form of messages (FIPA SC00071) and envelopes (SC00085): what is written reads back, what other platforms
//! write is read, and errors and hostile input are refused with their position.

use caxton_shards::codec::text::{self, Limits, NoNames, ParseError, ParseErrorKind};
use caxton_shards::codec::xml::{Messages, envelope_from_xml, envelope_to_xml, from_xml, limits, to_xml};
use caxton_shards::domain::{AgentName, ContentLimit};
use caxton_shards::message::{
    AID_DEPTH_MAX, AclRepresentation, AgentId, Message, ParameterValue, Performative, ReceivedStamp, Receiver,
    TransportEnvelope, UserParameter, WallTime,
};
use proptest::prelude::*;

use crate::generators::{aid, content, message, mutate, mutations, text as any_text};
use crate::linear::grows_with_its_input;

/// 2023-11-14T22:13:20Z
const NOW: WallTime = WallTime(1_700_000_000_000);

fn usual() -> Limits {
    limits(ContentLimit::default())
}

fn read(input: impl AsRef<[u8]>) -> Result<Message, ParseError> {
    from_xml(input.as_ref(), NOW, &usual())
}

#[track_caller]
fn reads(input: impl AsRef<[u8]>) -> Message {
    read(&input).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(input.as_ref())))
}

fn written(message: &Message) -> Vec<u8> {
    let mut output = Vec::new();
    to_xml(message, &NoNames, &mut output);
    output
}

fn of_text(input: &str) -> Message {
    text::parse(input.as_bytes(), NOW, &Limits::default()).unwrap()
}

#[track_caller]
fn same(xml: &str, text: &str) {
    assert_eq!(reads(xml), of_text(text), "{xml}");
}

#[test]
fn every_parameter_is_written_in_its_place() {
    let message = of_text(
        "(request :sender (agent-identifier :name a@x :addresses (sequence http://x/acc?a&b) \
         :resolvers (sequence (agent-identifier :name r@x)) :X-home \"a b\") :receiver (set (agent-identifier :name b@x)) \
         :reply-to (set (agent-identifier :name c@x)) :content \" <a & b> \" :language fipa-sl0 :encoding utf-8 \
         :ontology o :protocol fipa-request :conversation-id c-1 :reply-with \" w\" :in-reply-to i \
         :reply-by 20250131T235959999Z :X-caxton-priority high :X-caxton-attempts-max 3 :X-word w :X-list (a b) :X-9 \"9\")",
    );
    assert_eq!(
        String::from_utf8(written(&message)).unwrap(),
        "<fipa-message act=\"request\"><sender><agent-identifier><name id=\"a@x\"/><addresses>\
         <url href=\"http://x/acc?a&amp;b\"/></addresses><resolvers><agent-identifier><name id=\"r@x\"/>\
         </agent-identifier></resolvers><X-home>a b</X-home></agent-identifier></sender><receiver><agent-identifier>\
         <name id=\"b@x\"/></agent-identifier></receiver><reply-to><agent-identifier><name id=\"c@x\"/></agent-identifier>\
         </reply-to><content> &lt;a &amp; b&gt; </content><language>fipa-sl0</language><encoding>utf-8</encoding>\
         <ontology>o</ontology><protocol>fipa-request</protocol><conversation-id>c-1</conversation-id>\
         <reply-with>&#32;w</reply-with><in-reply-to>i</in-reply-to><reply-by time=\"20250131T235959999Z\"/>\
         <X-caxton-priority>high</X-caxton-priority><X-caxton-attempts-max>3</X-caxton-attempts-max><X-word>w</X-word><X-list>(a b)</X-list>\
         <X-9 type=\"string\">9</X-9></fipa-message>"
    );
    assert_eq!(reads(written(&message)), message);
}

#[test]
fn what_jade_writes_is_read() {
    let jade = "<?xml version=\"1.0\"?>\n<fipa-message act=\"REQUEST\" >\n\t<sender>\n\t\t<agent-identifier>\n\t\t\t\
        <name id=\"da0@host:1099/JADE\" />\n\t\t\t<addresses>\n\t\t\t\t<url href=\"http://host:7778/acc\" />\n\t\t\t</addresses>\n\
        \t\t</agent-identifier>\n\t</sender>\n\t<receiver>\n\t\t<agent-identifier>\n\t\t\t<name id=\"df@host\" />\n\
        \t\t</agent-identifier>\n\t</receiver>\n\t<receiver>\n\t\t<agent-identifier>\n\t\t\t<name id=\"ams@host\" />\n\
        \t\t</agent-identifier>\n\t</receiver>\n\t<content>((action a))</content>\n\t<language>FIPA-SL0</language>\n\
        \t<conversation-id>C1</conversation-id>\n\t<reply-by time=\"20020314T091400500Z\" />\n\
        \t<X-JADE-note>a note</X-JADE-note></fipa-message>\n";
    same(
        jade,
        "(request :sender (agent-identifier :name da0@host:1099/JADE :addresses (sequence http://host:7778/acc)) \
         :receiver (set (agent-identifier :name df@host) (agent-identifier :name ams@host)) :content \"((action a))\" \
         :language FIPA-SL0 :conversation-id C1 :reply-by 20020314T091400500Z :X-JADE-note \"a note\")",
    );
}

#[test]
fn loose_forms_with_one_meaning_are_read() {
    same("\u{feff}<fipa-message act=\"Inform\"/>", "(inform)");
    same("<!-- a --><?p q?><FIPA-Message ACT='inform'><!-- b --></FIPA-Message> <!-- c -->", "(inform)");
    same(
        "<f:fipa-message xmlns:f='u' xml:lang='en' act='inform'><f:language>a</f:language></f:fipa-message>",
        "(inform :language a)",
    );
    same(
        "<fipa-message act='inform' conversation-id='juanito' language='json'/>",
        "(inform :conversation-id juanito :language json)",
    );
    same("<fipa-message act='inform'><ontology>\n o&amp;p \n</ontology></fipa-message>", "(inform :ontology \"o&p\")");
    same("<fipa-message act='inform'><content> a\r\nb\rc </content></fipa-message>", "(inform :content \" a\nb\nc \")");
    same(
        "<fipa-message act='inform'><content><![CDATA[<a>&amp;]]> &#x41;&#66;</content></fipa-message>",
        "(inform :content \"<a>&amp; AB\")",
    );
    same(
        "<fipa-message act='inform'><content encoding='base64'>\n aGVs\n bG8\n</content></fipa-message>",
        "(inform :content hello)",
    );
    same(
        "<fipa-message act='inform'><receiver/><sender><agent-identifier><name> a@x </name><addresses><url>u</url>\
         <url href='v'/></addresses></agent-identifier></sender></fipa-message>",
        "(inform :sender (agent-identifier :name a@x :addresses (sequence u v)))",
    );
    same(
        "<fipa-message act='inform'><reply-by>20020314T091400500Z</reply-by></fipa-message>",
        "(inform :reply-by 20020314T091400500Z)",
    );
    for name in ["name='tone'", "href='tone'", "name-base64='dG9uZQ'"] {
        same(
            &format!("<fipa-message act='inform'><user-defined {name}>soft</user-defined></fipa-message>"),
            "(inform :X-caxton-user-defined (tone soft))",
        );
    }
    same("<fipa-message act='inform'><content/></fipa-message>", "(inform :content \"\")");
    same(
        "<fipa-message act='inform'><sender><agent-identifier><name id='Night Porter@p'/></agent-identifier></sender>\
         </fipa-message>",
        "(inform :sender \"Night Porter@p\")",
    );
    same("<fipa-message act='inform'><reply-by time='soon'/></fipa-message>", "(inform :X-reply-by soon)");
    same("<fipa-message act='inform'><user-defined name='X-a:b'>w</user-defined></fipa-message>", "(inform :X-a:b w)");
}

/// Inputs and their errors.
const REFUSED: &[(&str, &str)] = &[
    ("", "line 1, column 1: expected a message, which begins with <fipa-message, found the end of the input"),
    ("\n <inform/>", "line 2, column 2: expected <fipa-message>, found \"<inform>\""),
    (
        "<fipa-message/>",
        "line 1, column 1: expected the attribute act, which says the performative, found \"<fipa-message>\"",
    ),
    ("<fipa-message act='inform'/>\n<a/>", "line 2, column 1: expected the end of the input, found \"<a>\""),
    ("<fipa-message act='inform'/> ä", "line 1, column 30: expected the end of the input, found \"ä\""),
    (
        "<fipa-message act='9'/>",
        "line 1, column 20: performative \"9\" is not allowed: expected one of the 22 acts of FIPA SC00037, or a word of 1 to 64 letters, digits, - _ .",
    ),
    (
        "<fipa-message act='inform' x='1'/>",
        "line 1, column 28: unknown attribute \"x\"; expected act, conversation-id and other parameters with a word",
    ),
    ("<fipa-message act='inform' ACT='cfp'/>", "line 1, column 28: the parameter :act is given twice"),
    (
        "<fipa-message act='inform'>\n ä<sender/></fipa-message>",
        "line 2, column 2: expected a parameter such as <sender>, or </fipa-message>, found \"ä\"",
    ),
    (
        "<fipa-message act='inform'>\n <sendr/></fipa-message>",
        "line 2, column 2: unknown element \"<sendr>\"; did you mean sender?; expected sender, receiver, reply-to, content, language, encoding, ontology, protocol, conversation-id, reply-with, in-reply-to, reply-by, user-defined, and names that begin with X-",
    ),
    (
        "<fipa-message act='inform'><language>a</language><language>b</language></fipa-message>",
        "line 1, column 50: the parameter :language is given twice",
    ),
    (
        "<fipa-message act='inform'><content><a/></content></fipa-message>",
        "line 1, column 37: expected text, in which < is written as &lt;, up to the end of the content, found \"<a>\"",
    ),
    (
        "<fipa-message act='inform'><content href='http://x'/></fipa-message>",
        "line 1, column 37: unknown attribute \"href\"; expected encoding=\"base64\"",
    ),
    (
        "<fipa-message act='inform'><content encoding='base64'>*</content></fipa-message>",
        "line 1, column 55: \"*\" is not a valid value of :content: expected base64 (RFC 4648)",
    ),
    (
        "<fipa-message act='inform'><content>&nbsp;</content></fipa-message>",
        "line 1, column 37: unknown reference \"&nbsp;\"; expected &amp; &lt; &gt; &quot; &apos; and references to characters that XML allows",
    ),
    (
        "<fipa-message act='inform'><content>&#0;</content></fipa-message>",
        "line 1, column 37: unknown reference \"&#0;\"; expected &amp; &lt; &gt; &quot; &apos; and references to characters that XML allows",
    ),
    (
        "<fipa-message act='&a;'/>",
        "line 1, column 20: unknown reference \"&a;\"; expected &amp; &lt; &gt; &quot; &apos; and references to characters that XML allows",
    ),
    (
        "<fipa-message act='inform'><X-caxton-priority>top</X-caxton-priority></fipa-message>",
        "line 1, column 47: \"top\" is not a valid value of :X-caxton-priority: expected low, normal, high or urgent",
    ),
    (
        "<fipa-message act='inform'><sender></sender></fipa-message>",
        "line 1, column 28: expected <agent-identifier>, found </sender>",
    ),
    (
        "<fipa-message act='inform'><sender><agent-identifier/></sender></fipa-message>",
        "line 1, column 36: expected <name>, which every agent-identifier has, found </agent-identifier>",
    ),
    (
        "<fipa-message act='inform'><receiver><agent-identifier><name id=' a'/></agent-identifier></receiver></fipa-message>",
        "line 1, column 66: agent name \" a\" is not allowed: expected 1 to 512 bytes without control characters and without white space other than blanks, not beginning or ending with a blank",
    ),
    (
        "<fipa-message act='inform'>\n<content>a</fipa-message>",
        "line 2, column 11: not well-formed XML: expected the end of \"content\", found that of \"fipa-message\"",
    ),
    (
        "<fipa-message act='inform'><content>a",
        "line 1, column 38: expected the end of the content, found the end of the input",
    ),
    ("<fipa-message act='inform", "line 1, column 1: not well-formed XML: syntax error: "),
    (
        "<?xml version='1.0' encoding='ISO-8859-1'?><fipa-message act='inform'/>",
        "line 1, column 1: \"ISO-8859-1\" is not a valid value of :encoding of the declaration: expected UTF-8 or US-ASCII",
    ),
    (
        "<!DOCTYPE fipa-message SYSTEM 'fipa.dtd'><fipa-message act='inform'/>",
        "line 1, column 1: a document type declaration is refused: messages have no entities but &amp; &lt; &gt; &quot; &apos; and character references, and none are fetched",
    ),
];

#[test]
fn what_is_not_well_formed_is_refused_where_that_shows() {
    let content = |text: &str| format!("<fipa-message act='inform'><content>{text}</content></fipa-message>");
    let tag = |attributes: &str| format!("<fipa-message act='inform'><content{attributes}></content></fipa-message>");
    let before = |text: &str| format!("{text}<fipa-message act='inform'/>");
    for (input, column) in [
        (content("bell \u{7} here"), 42),
        (content("a\u{b}"), 38),
        (content("\u{fffe}"), 37),
        (content("<![CDATA[\u{1}]]>"), 46),
        (content("a]]>b"), 38),
        (content("<!-- a -- b -->"), 44),
        (content("<!-- a --->"), 44),
        (content("<!-- \u{8} -->"), 42),
        (content("<?xml version='1.0'?>"), 37),
        (content("<?XML a?>"), 39),
        (content("<?1 a?>"), 39),
        (tag(" encoding='a<b'"), 48),
        (tag(" encoding='base64'xml:lang='en'"), 54),
        (tag(" encoding=base64"), 46),
        (tag(" encoding"), 37),
        (tag(" 1='a'"), 37),
        (tag(" xmlns:a='' xmlns:a=''"), 48),
        (tag(" xmlns:a='&b;'"), 37),
        (tag(" xmlns:a='&#0;'"), 37),
        (tag(" xmlns:a='\u{ffff}'"), 46),
        ("<fipa-message act='inform' act='cfp'/>".to_owned(), 28),
        ("<fipa-message act='inform'><9/></fipa-message>".to_owned(), 29),
        ("<fipa-message act='inform'><a</></fipa-message>".to_owned(), 0),
        (before("<!-- --><?xml version='1.0'?>"), 9),
        (before("<?xml version='1.0'?><?xml version='1.0'?>"), 22),
        (before("<?xml encoding='utf-8'?>"), 3),
        (before("<?xml version='2.0'?>"), 3),
        (before("<?xml version='1.0' standalone='maybe'?>"), 21),
        (before("<?xml version='1.0' standalone='yes' encoding='utf-8'?>"), 38),
    ] {
        let error = read(&input).expect_err(&input);
        assert!(matches!(error.kind, ParseErrorKind::NotWellFormed { form: "XML", .. }), "{input:?}: {error}");
        assert!(column == 0 || error.column == column, "{input:?}: {error}, not column {column}");
        assert!(Messages::new(input.as_bytes(), NOW, &usual()).any(|read| read.is_err()), "{input:?}");
    }
    for input in [
        content("a]] >&#9;\t\r\n\u{85}\u{fffd}\u{10ffff}<!-- - --><?p -- ?><![CDATA[<&]]>"),
        tag(" xml:lang = 'en'\n xmlns:a=\"&lt;'\""),
        before("<?xml version=\"1.1\" encoding='utf-8' standalone='no' ?>\n<!-- a -->"),
    ] {
        reads(&input);
    }
}

#[test]
fn what_is_wrong_is_refused_where_it_stands() {
    for (input, said) in REFUSED {
        let error = read(input).expect_err(input).to_string();
        assert!(error == *said || (said.ends_with(": ") && error.starts_with(said)), "{input}\n{error}\n{said}");
    }
    let error = read(b"<fipa-message act='inform'><content>a\xffb</content></fipa-message>").unwrap_err();
    assert_eq!(error.to_string(), "line 1, column 38: the message is not UTF-8");
}

#[test]
fn entities_are_neither_defined_nor_expanded() {
    let mut laughs = String::from("<?xml version=\"1.0\"?><!DOCTYPE lolz [<!ENTITY lol \"lol\">");
    for level in 1..10 {
        let inner = if level == 1 { "&lol;".to_owned() } else { format!("&lol{};", level - 1) };
        laughs.extend(["<!ENTITY lol", &level.to_string(), " \"", &inner.repeat(10), "\">"]);
    }
    laughs += "]><fipa-message act=\"inform\"><content>&lol9;</content></fipa-message>";
    let error = read(&laughs).unwrap_err();
    assert!(matches!(error.kind, ParseErrorKind::Forbidden { .. }), "{error}");
}

#[test]
fn depth_and_numbers_are_limited() {
    let nested = |levels: usize| {
        let open = "<agent-identifier><name id='a'/><resolvers>".repeat(levels);
        let close = "</resolvers></agent-identifier>".repeat(levels);
        format!("<fipa-message act='inform'><sender>{open}{close}</sender></fipa-message>")
    };
    assert!(read(nested(AID_DEPTH_MAX)).is_ok());
    assert!(matches!(read(nested(AID_DEPTH_MAX + 1)).unwrap_err().kind, ParseErrorKind::NestedTooDeep { .. }));
    let receiver = "<receiver><agent-identifier><name id='a'/></agent-identifier></receiver>";
    let crowd = |count| format!("<fipa-message act='inform'>{}</fipa-message>", receiver.repeat(count));
    assert!(read(crowd(10_000)).is_ok());
    assert!(matches!(read(crowd(10_001)).unwrap_err().kind, ParseErrorKind::TooMany { limit: 10_000, .. }));
    let few = Limits { aids_max: 2, ..usual() };
    assert!(matches!(
        from_xml(crowd(3).as_bytes(), NOW, &few).unwrap_err().kind,
        ParseErrorKind::TooMany { limit: 2, .. }
    ));
    let own = |count| format!("<fipa-message act='inform'>{}</fipa-message>", "<X-a>b</X-a>".repeat(count));
    assert!(read(own(64)).is_ok());
    assert!(matches!(read(own(65)).unwrap_err().kind, ParseErrorKind::TooMany { limit: 64, .. }));
}

#[test]
fn sizes_are_limited() {
    let small = limits(ContentLimit::try_new(4).unwrap());
    let content = |text: &str| {
        from_xml(format!("<fipa-message act='inform'><content>{text}</content></fipa-message>").as_bytes(), NOW, &small)
    };
    assert!(content("abcd").is_ok());
    assert!(content("abc&amp;").is_ok());
    for text in ["abcde", "abcd&amp;", "ab<![CDATA[cde]]>"] {
        assert!(matches!(content(text).unwrap_err().kind, ParseErrorKind::TooLong { limit: 4, .. }), "{text}");
    }
    let base64 = |text: &str| {
        let xml = format!("<fipa-message act='inform'><content encoding='base64'>{text}</content></fipa-message>");
        from_xml(xml.as_bytes(), NOW, &small)
    };
    assert!(base64("YWJjZA==").is_ok());
    assert!(matches!(base64("YWJjZGU=").unwrap_err().kind, ParseErrorKind::TooLong { limit: 4, .. }));
    let long = "x".repeat(65_536);
    let language = |text: &str| read(format!("<fipa-message act='inform'><language>{text}</language></fipa-message>"));
    assert!(language(&long).is_ok());
    assert!(matches!(language(&format!("{long}x")).unwrap_err().kind, ParseErrorKind::TooLong { limit: 65_536, .. }));
    let short = Limits { message_bytes_max: 10, ..usual() };
    assert!(matches!(
        from_xml(b"<fipa-message", NOW, &short).unwrap_err().kind,
        ParseErrorKind::TooLong { limit: 10, .. }
    ));
}

#[test]
fn the_longest_content_of_any_bytes_reads_back() {
    let limit = ContentLimit::default();
    for byte in [b'<', b'\0', 0xff, b'a'] {
        let message = Message::builder(Performative::Inform).content(vec![byte; limit.as_usize()]).build().unwrap();
        assert_eq!(from_xml(&written(&message), NOW, &limits(limit)).unwrap(), message);
    }
}

#[test]
fn hostile_input_costs_no_more_than_its_length() {
    let inputs = [
        ("", "<fipa-message act='"),
        ("", "<fipa-message act='inform'><content>"),
        ("", "<fipa-message act='inform'>"),
        ("<fipa-message ", "a='b' "),
        ("<fipa-message act='inform'><language>", " <!---->"),
        ("<fipa-message act='inform'><content>", "&lt;"),
        ("", "<![CDATA["),
        ("", "<fipa-message><!--"),
        ("", "\u{fffd}<fipa-message>"),
    ];
    for (prefix, unit) in inputs {
        grows_with_its_input([prefix.as_bytes(), unit.as_bytes(), b""], |input| {
            assert!(read(input).is_err());
            assert!(Messages::new(input, NOW, &usual()).all(|read| read.is_err()));
        });
    }
}

#[test]
fn several_messages_are_read_and_a_malformed_one_is_stepped_over() {
    let text = "<fipa-message act='inform'/>\n<fipa-message act='cfp'><x/></fipa-message>\n<?xml version='1.0'?>\n \
                <fipa-message act='agree'/><fipa-message act='refuse'>\n\u{e4}";
    let found: Vec<String> = Messages::new(text.as_bytes(), NOW, &usual())
        .map(|read| match read {
            Ok(located) => {
                assert_eq!(reads(&text[located.range]), located.value);
                format!("{}:{} {}", located.line, located.column, located.value.performative())
            }
            Err(error) => format!("{}:{}", error.line, error.column),
        })
        .collect();
    assert_eq!(found, ["1:1 inform", "2:25", "4:2 agree", "5:1"]);
    let cut = [&b"<fipa-message act='cfp'>\xff</fipa-message>"[..], b"<fipa-message act='inform'/>"].concat();
    let found: Vec<bool> = Messages::new(&cut, NOW, &usual()).map(|read| read.is_ok()).collect();
    assert_eq!(found, [false, true]);
}

#[test]
fn documents_with_byte_order_marks_may_stand_one_behind_another() {
    let mark = "\u{feff}";
    for marks in [mark.to_owned(), mark.repeat(3)] {
        let text = format!("{marks}<fipa-message act='inform'/>{marks}\n<fipa-message act='agree'/>{marks}<x/>{marks}");
        let found: Vec<String> = Messages::new(text.as_bytes(), NOW, &usual())
            .map(|read| match read {
                Ok(located) => {
                    assert_eq!(reads(&text[located.range]), located.value);
                    located.value.performative().to_string()
                }
                Err(error) => text[error.offset..].chars().take(4).collect(),
            })
            .collect();
        assert_eq!(found, ["inform", "agree", "<x/>"]);
    }
    assert!(envelope_from_xml(format!("{mark}{mark}<envelope/>").as_bytes(), NOW, &usual()).is_err());
}

#[test]
fn an_agent_of_which_only_the_id_is_known_is_named_by_whoever_knows_it() {
    let name = AgentName::try_new("a@x").unwrap();
    let ids = [AgentId::of(&name), AgentId::of_text("b@x")];
    let message = Message::builder(Performative::Inform).sender(ids[0]).receivers(ids).build().unwrap();
    let mut output = Vec::new();
    to_xml(&message, &|agent| (agent == ids[0]).then(|| name.clone()), &mut output);
    let again = reads(&output);
    assert_eq!(again.sender(), Some(ids[0]));
    let Receiver::Agents(agents) = again.receiver() else { panic!("{:?}", again.receiver()) };
    assert_eq!(agents[0], ids[0]);
    assert!(String::from_utf8(output).unwrap().contains(&format!("<name id=\"{}\"/>", ids[1])));
}

#[test]
fn envelopes_are_read_as_http_platforms_send_them() {
    let agent = |name: &str| format!("<agent-identifier><name>{name}</name></agent-identifier>");
    let envelope = |parameters: &str| {
        format!(
            "<?xml version=\"1.0\"?><envelope><params index=\"1\">{parameters}<from>{}</from><acl-representation>\
             fipa.acl.rep.string.std</acl-representation><date>20250131T120000000Z</date></params></envelope>",
            agent("a@p")
        )
    };
    let read = |parameters: &str| envelope_from_xml(envelope(parameters).as_bytes(), NOW, &usual());
    let names = |aids: &[caxton_shards::message::Aid]| aids.iter().map(|aid| aid.name.to_string()).collect::<Vec<_>>();
    let both = format!("<to>{}</to><to>{}</to>", agent("b@q"), agent("c@q"));
    let intended = both.replace("to>", "intended-receiver>");
    let read_both = read(&format!("{both}{intended}")).unwrap();
    assert_eq!(names(&read_both.to), ["b@q", "c@q"]);
    assert_eq!(names(&read_both.intended_receivers), ["b@q", "c@q"]);
    let one = format!("<to>{}</to>", agent("b@q"));
    for name in ["X-tone", "tone", "http://x/y#tone"] {
        let read = read(&format!("{one}<user-defined href=\"{name}\">soft</user-defined>")).unwrap();
        let expected = [UserParameter { name: name.into(), value: ParameterValue::Atom("soft".into()) }];
        assert_eq!(read.user_parameters, expected);
        let mut output = Vec::new();
        envelope_to_xml(&read, &mut output);
        assert_eq!(envelope_from_xml(&output, NOW, &usual()).unwrap(), read);
    }
    assert!(read(&format!("{one}<comments>a</comments><comments>b</comments>")).is_err());
    assert!(read(&format!("{one}<user-defined href='X-a' name='X-b'>c</user-defined>")).is_err());
    assert!(read(&format!("{one}<user-defined href='sender'>c</user-defined>")).is_err());
}

fn any_envelope() -> impl Strategy<Value = TransportEnvelope> {
    let text = || proptest::option::of(any_text().prop_map(String::into_boxed_str));
    let moment = || (0..253_402_300_800_000_u64).prop_map(WallTime);
    let parameters = || {
        proptest::collection::vec(("X-[a-zA-Z0-9:#ä-]{1,5}", any::<Vec<u8>>()), 0..3).prop_map(|parameters| {
            let parameter = |(name, bytes): (String, Vec<u8>)| UserParameter {
                name: name.into(),
                value: ParameterValue::Binary(bytes.into()),
            };
            parameters.into_iter().map(parameter).collect::<Vec<_>>()
        })
    };
    let stamp = (any_text(), text(), moment(), text(), text(), parameters()).prop_map(
        |(by, from, date, id, via, user_parameters)| ReceivedStamp {
            by: by.into(),
            from,
            date,
            id,
            via,
            user_parameters,
        },
    );
    (
        (proptest::collection::vec(aid(), 1..3), aid(), moment(), any_text()),
        (text(), any::<Option<u64>>(), text(), proptest::collection::vec(aid(), 0..3)),
        (proptest::collection::vec(stamp, 0..4), proptest::option::of(content()), parameters()),
    )
        .prop_map(
            |((to, from, date, representation), (comments, length, encoding, intended), (received, behaviour, own))| {
                TransportEnvelope {
                    comments,
                    payload_length: length,
                    payload_encoding: encoding,
                    intended_receivers: intended,
                    received,
                    transport_behaviour: behaviour.map(|bytes| ParameterValue::Binary(bytes.into())),
                    user_parameters: own,
                    ..TransportEnvelope::new(to, from, date, AclRepresentation::named(&representation))
                }
            },
        )
}

#[test]
fn an_envelope_of_jade_is_read() {
    let xml = "<?xml version=\"1.0\"?>\n<envelope><params index=\"1\"><to><agent-identifier><name>rma@h</name><addresses>\
        <url>http://h:57727/acc</url></addresses></agent-identifier></to><from><agent-identifier><name>ams@h</name>\
        </agent-identifier></from><acl-representation>fipa.acl.rep.string.std</acl-representation><payload-length>873\
        </payload-length><date>20150630Z130133800</date><received ><received-by value=\"http://h/acc\"/>\
        <received-date value=\"20000508T042651481\"/><received-id value=\"1\"/></received></params>\
        <params index=\"2\"><payload-length>874</payload-length></params></envelope>";
    let envelope = envelope_from_xml(xml.as_bytes(), NOW, &usual()).unwrap();
    assert_eq!(envelope.acl_representation, AclRepresentation::String);
    assert_eq!(envelope.payload_length, Some(874), "the latest value counts");
    assert_eq!(envelope.date, WallTime(1_435_669_293_800));
    assert_eq!(envelope.to[0].addresses[0].as_ref(), "http://h:57727/acc");
    assert_eq!(envelope.received[0].by.as_ref(), "http://h/acc");
}

#[test]
fn an_envelope_without_what_is_mandatory_is_refused() {
    let agent = "<agent-identifier><name>a</name></agent-identifier>";
    let all = [
        format!("<to>{agent}</to>"),
        format!("<from>{agent}</from>"),
        "<acl-representation>r</acl-representation>".to_owned(),
        "<date>20150630T130133800</date>".to_owned(),
    ];
    let read = |parts: &[String]| {
        let xml = format!("<envelope><params index='1'>{}</params></envelope>", parts.concat());
        envelope_from_xml(xml.as_bytes(), NOW, &usual())
    };
    assert!(read(&all).is_ok());
    for missing in 0..all.len() {
        let mut parts = all.to_vec();
        parts.remove(missing);
        assert!(read(&parts).is_err(), "{missing}");
    }
    let twice = [&all[..], &all[3..]].concat();
    assert!(matches!(read(&twice).unwrap_err().kind, ParseErrorKind::RepeatedParameter { name: "date" }));
}

const MARKS: &[u8] = b"<>/&;\"'=! -[]\n\r\0aX";

/// Checks that everything read can be written and read back, and that reading always makes progress.
fn check_any(input: &[u8]) {
    let _ = read(input);
    let _ = envelope_from_xml(input, NOW, &usual());
    let mut end = 0;
    for read in Messages::new(input, NOW, &usual()) {
        match read {
            Ok(located) => {
                assert!(end <= located.range.start && located.range.start < located.range.end);
                end = located.range.end;
                assert_eq!(reads(written(&located.value)), located.value);
                assert_eq!(reads(&input[located.range]), located.value);
            }
            Err(error) => {
                assert!(error.offset <= input.len());
                assert!(error.to_string().len() < 2_000);
            }
        }
    }
}

proptest! {
    #[test]
    fn any_message_reads_back(message in message()) {
        let output = written(&message);
        let again = read(&output).map_err(|error| TestCaseError::fail(format!("{error}: {}", String::from_utf8_lossy(&output))))?;
        prop_assert_eq!(&again, &message, "{}", String::from_utf8_lossy(&output));
        prop_assert_eq!(written(&again), output, "the same message gives the same bytes");
    }

    #[test]
    fn the_string_form_says_the_same(message in message()) {
        let mut string_form = Vec::new();
        text::print(&reads(written(&message)), &NoNames, &mut string_form);
        let again = text::parse(&string_form, NOW, &Limits::default()).unwrap();
        prop_assert_eq!(written(&again), written(&message));
    }

    #[test]
    fn messages_in_a_row_read_back(messages in proptest::collection::vec(message(), 0..5), between in "[ \r\n\t]{0,3}") {
        let all: Vec<u8> = messages.iter().flat_map(|message| [written(message), between.clone().into()].concat()).collect();
        let again: Vec<Message> = Messages::new(&all, NOW, &usual()).map(|read| read.unwrap().value).collect();
        prop_assert_eq!(again, messages);
    }

    #[test]
    fn any_envelope_reads_back(envelope in any_envelope()) {
        let mut output = Vec::new();
        envelope_to_xml(&envelope, &mut output);
        let again = envelope_from_xml(&output, NOW, &usual());
        let again = again.map_err(|error| TestCaseError::fail(format!("{error}: {}", String::from_utf8_lossy(&output))))?;
        prop_assert_eq!(again, envelope, "{}", String::from_utf8_lossy(&output));
    }

    #[test]
    fn any_bytes_are_read_or_refused(input in proptest::collection::vec(any::<u8>(), 0..300)) {
        check_any(&input);
    }

    #[test]
    fn bytes_like_a_message_are_read_or_refused(input in "(<fipa-message act='inform'>|</fipa-message>|<content>|</content>|<X-a type='word'>|</X-a>|<sender>|<agent-identifier>|<name id='a'/>|<!--|-->|<!\\[CDATA\\[|\\]\\]>|&lt;|&#1;|<|>|'|\"|[a-z]{1,3}|[ \n]){0,30}") {
        check_any(input.as_bytes());
    }

    #[test]
    fn mutated_messages_are_read_or_refused(message in message(), mutations in mutations(MARKS)) {
        check_any(&mutate(written(&message), mutations));
    }

    #[test]
    fn mutated_envelopes_are_read_or_refused(envelope in any_envelope(), mutations in mutations(MARKS)) {
        let mut output = Vec::new();
        envelope_to_xml(&envelope, &mut output);
        check_any(&mutate(output, mutations));
    }
}
