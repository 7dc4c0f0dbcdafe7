//! `caxton acl`: messages stay the same in conversions from form to form, and errors are located.

use std::io::Write as _;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::program;

/// The output of a run of the command.
struct Said {
    code: Option<i32>,
    output: Vec<u8>,
    errors: String,
}

impl Said {
    fn of(output: Output) -> Self {
        let errors = String::from_utf8(output.stderr).expect("it prints UTF-8");
        Self { code: output.status.code(), output: output.stdout, errors }
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.output).expect("it prints UTF-8")
    }
}

fn acl(arguments: &str, input: &[u8]) -> Said {
    let mut child = program::caxton()
        .arg("acl")
        .args(arguments.split_whitespace())
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("it ends");
    // A program that refuses its arguments does not read its input.
    let _ = writer.join();
    Said::of(output)
}

#[test]
fn messages_go_through_every_form_and_stay_the_same() {
    for file in ["exchange.acl", "options.acl", "contract_net.acl"] {
        let strict = acl(&format!("convert --to text {file}"), b"");
        assert_eq!(strict.code, Some(0), "{}", strict.errors);
        assert!(!strict.output.is_empty(), "{file}");
        for path in [&["xml", "json", "bits"][..], &["bits", "xml"], &["json", "json"]] {
            let mut message = strict.output.clone();
            for form in path {
                // Each form is recognised by its syntax.
                let converted = acl(&format!("convert --to {form}"), &message);
                assert_eq!(converted.code, Some(0), "{form}: {}", converted.errors);
                message = converted.output;
            }
            let back = acl(&format!("convert --from {} --to text -", path[path.len() - 1]), &message);
            assert_eq!(back.text(), strict.text(), "{file} through {path:?}");
        }
    }
}

#[test]
fn each_form_looks_like_itself() {
    let message = b"(INFORM :sender a :content \"x < y\")";
    assert_eq!(
        acl("convert --to text", message).text(),
        "(inform :sender (agent-identifier :name a) :content \"x < y\")\n"
    );
    assert_eq!(
        acl("convert --to xml", message).text(),
        "<fipa-message act=\"inform\"><sender><agent-identifier><name id=\"a\"/></agent-identifier></sender>\
         <content>x &lt; y</content></fipa-message>\n"
    );
    assert_eq!(
        acl("convert --to json", message).text(),
        "{\"performative\":\"inform\",\"sender\":\"a\",\"content\":\"x < y\"}\n"
    );
    assert_eq!(acl("convert --to bits", message).output[..4], [0xfa, 0x10, 0x08, 0x02]);
}

#[test]
fn what_is_wrong_is_shown_with_its_line_and_a_caret() {
    let cases: [(&str, &[u8], &str); 4] = [
        (
            "check -",
            b"(inform)\n(inform :content \"a\" b)\n",
            "-:2:22: error: expected a parameter name such as :sender, or ), found \"b\"\n \
             2 | (inform :content \"a\" b)\n   |                      ^\n",
        ),
        (
            "check - --form xml",
            b"<fipa-message act='inform'>\n\t<sendr/></fipa-message>\n",
            "-:2:2: error: unknown element \"<sendr>\"; did you mean sender?; expected sender, receiver, reply-to, content, \
             language, encoding, ontology, protocol, conversation-id, reply-with, in-reply-to, reply-by, user-defined, and \
             names that begin with X-\n 2 |  <sendr/></fipa-message>\n   |  ^\n",
        ),
        (
            "check -",
            b"{\"performative\": \"inform\",\n \"sender\": 7}\n",
            "-:2:12: error: expected an agent: a name, or an object with a name, found \"7\"\n 2 |  \"sender\": 7}\n   \
             |            ^\n",
        ),
        (
            "convert --to text",
            b"<!DOCTYPE a [<!ENTITY b 'c'>]><fipa-message act='inform'/>",
            "-:1:1: error: a document type declaration is refused: ",
        ),
    ];
    for (arguments, input, said) in cases {
        let run = acl(arguments, input);
        assert_eq!(run.code, Some(1), "{arguments}");
        assert!(run.errors.starts_with(said), "{}\n{said}", run.errors);
    }
    let bits = acl("check -", &[0xfa, 0x10, 0x08, 0x99, 0x01]);
    assert_eq!(bits.code, Some(1));
    assert!(bits.errors.starts_with("-:1:4: error: "), "{}", bits.errors);
    assert!(bits.errors.ends_with(" 1 | fa 10 08 99 01\n   |          ^\n"), "{}", bits.errors);
}

#[test]
fn what_is_well_formed_is_counted_and_converted() {
    let run = acl("check malformed_middle.acl", b"");
    assert_eq!(run.code, Some(1), "{}", run.errors);
    assert!(run.errors.contains("malformed_middle.acl:"), "{}", run.errors);
    assert!(run.text().contains(" messages in the form text, 1 malformed\n"), "{}", run.text());
    let run = acl("convert --to json malformed_middle.acl", b"");
    assert_eq!(run.code, Some(1));
    assert!(run.text().lines().count() >= 2, "{}", run.text());
    let run = acl("check - --form json", b"");
    assert_eq!((run.code, run.text()), (Some(0), "-: 0 messages in the form json, 0 malformed\n"));
    let run = acl("check -", b"(inform)");
    assert_eq!((run.code, run.text()), (Some(0), "-: 1 message in the form text, 0 malformed\n"));
}

#[test]
fn programs_are_told_in_json() {
    let run = acl("check - --json", b"(inform)\n(inform :x 1)\n");
    assert_eq!(run.code, Some(1));
    let lines: Vec<Value> = run.text().lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["line"], &lines[0]["column"], &lines[0]["offset"]), (&2.into(), &9.into(), &17.into()));
    assert!(lines[0]["error"].as_str().is_some_and(|error| error.starts_with("unknown parameter")));
    assert_eq!(lines[1]["summary"], serde_json::json!({ "form": "text", "messages": 2, "malformed": 1 }));
    assert_eq!(run.errors, "");
}

#[test]
fn what_can_not_be_used_ends_with_2() {
    for (arguments, said) in [
        ("check no-such-file.acl", "no-such-file.acl: cannot read the file"),
        ("check .", "this is a directory"),
        ("check -", "cannot tell the form of the messages; set it with --form: bits, text, xml, json"),
        ("convert --to xml -", "set it with --from"),
        ("convert -", "--to"),
        ("check - --form yaml", "possible values: bits, text, xml, json"),
    ] {
        let run = acl(arguments, b"inform");
        assert_eq!(run.code, Some(2), "{arguments}: {}", run.errors);
        assert!(run.errors.contains(said), "{arguments}: {}", run.errors);
    }
}

#[test]
fn messages_as_other_platforms_write_them_go_through_every_form() {
    let text = br#"(INFORM :sender (agent-identifier :name "Night Porter@p") :content "" :X-priority 2)
(inform :content "C:\logs\" )
(inform :X-caxton-user-defined (tone soft) :content "next")
"#;
    let first = acl("convert --to text", text);
    assert_eq!(first.code, Some(0), "{}", first.errors);
    assert_eq!(first.text().lines().count(), 3, "{}", first.text());
    for form in ["bits", "xml", "json"] {
        let there = acl(&format!("convert --to {form}"), &first.output);
        let back = acl("convert --to text", &there.output);
        assert_eq!(back.text(), first.text(), "{form}");
    }
    let bits = b"\xfa\x10\x08\x00\x10tone\x00\x10soft\x00\x01";
    let json = acl("convert --to json", bits);
    assert!(json.text().contains(r#""user-defined":[{"name":"tone","word":"soft"}]"#), "{}", json.text());
}

#[test]
fn strictness_is_a_setting_of_both_ends() {
    let text = br#"(inform :sender "Night Porter@p")
(inform :content "C:\")
(inform :X-caxton-user-defined (tone soft))
(inform :sender porter@p)
"#;
    assert_eq!(acl("check -", text).code, Some(0));
    let strict = acl("check - --set message.reading=strict", text);
    assert_eq!(strict.code, Some(1));
    assert!(strict.text().contains("4 messages in the form text, 3 malformed"), "{}", strict.text());
    assert_eq!(acl("convert --to text", text).code, Some(0));
    let strict = acl("convert --to text --set message.writing=strict", text);
    assert_eq!(strict.code, Some(1));
    let written = "(inform :content #3\"C:\\)\n(inform :sender (agent-identifier :name porter@p))\n";
    assert_eq!(strict.text(), written, "what has a strict form is written in it");
    assert!(strict.errors.contains("is not a word of FIPA SC00070"), "{}", strict.errors);
    assert!(strict.errors.contains("does not begin with X-"), "{}", strict.errors);
}
