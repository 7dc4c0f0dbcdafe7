//! `caxton route`: every message of a file is accounted for, with its position, and the exit status reports the result.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::program;

/// The output of a run of the command.
struct Said {
    code: Option<i32>,
    output: String,
    errors: String,
}

impl Said {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            output: String::from_utf8(output.stdout).expect("it prints UTF-8"),
            errors: String::from_utf8(output.stderr).expect("it prints UTF-8"),
        }
    }

    /// Returns the printed objects, with the summary separate.
    fn objects(&self) -> (Vec<Value>, Value) {
        let parse = |line| serde_json::from_str::<Value>(line).expect("every line is a JSON object");
        let mut objects: Vec<Value> = self.output.lines().map(parse).collect();
        let mut last = objects.pop().expect("there is a summary");
        (objects, last["summary"].take())
    }

    fn all(&self) -> String {
        format!("exit status {:?}\n{}{}", self.code, self.output, self.errors)
    }
}

fn caxton() -> Command {
    let mut command = program::caxton();
    command.arg("route").current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"));
    command
}

fn route(arguments: &str) -> Said {
    Said::of(caxton().args(arguments.split_whitespace()).output().expect("the program runs"))
}

/// Routes standard input.
fn route_bytes(arguments: &str, input: &[u8]) -> Said {
    let mut child = caxton()
        .arg("-")
        .args(arguments.split_whitespace())
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
fn settings_hold_for_a_file_of_messages() {
    let limit = [("CAXTON_MESSAGE_CONTENT_BYTES_MAX", "30")];
    let said = Said::of(caxton().arg("exchange.acl").envs(limit).output().expect("the program runs"));
    assert_eq!(said.code, Some(1), "{}", said.all());
    assert!(said.output.contains("30 bytes"), "{}", said.all());
    assert_eq!(route("exchange.acl").code, Some(0), "without the limit they pass");
    let refused = route("exchange.acl --set message.content_bytes=30");
    assert_eq!(refused.code, Some(2), "{}", refused.all());
    assert!(refused.errors.contains("did you mean message.content_bytes_max?"), "{}", refused.all());
}

#[test]
fn a_conformance_report_says_what_broke_which_protocol_and_what_was_allowed() {
    let say = |act: &str, from: &str, to: &str| {
        format!(
            "({act} :sender (agent-identifier :name {from}) :receiver (set (agent-identifier :name {to})) \
             :protocol fipa-request :conversation-id talk)"
        )
    };
    let file = [say("request", "buyer", "seller"), say("propose", "seller", "buyer")].concat();
    for (mode, code, refused) in [("observe", 0, 0), ("enforce", 1, 1)] {
        let said = route_bytes(&format!("--no-echo --report --protocols {mode}"), file.as_bytes());
        assert_eq!(said.code, Some(code), "{}", said.all());
        let expected = "propose seller -> buyer: fipa-request: in the state requested the participant may send agree, \
                        failure, inform, not-understood or refuse, and sent propose (conversation talk of buyer)";
        assert!(said.output.contains(expected), "{}", said.all());
        let said = route_bytes(&format!("--no-echo --report --json --protocols {mode}"), file.as_bytes());
        let conformance = &said.objects().1["conformance"];
        assert_eq!(conformance["refused"], refused);
        assert_eq!((&conformance["steps"], &conformance["violations"][0]["state"]), (&1.into(), &"requested".into()));
    }
    let said = route_bytes("--no-echo", file.as_bytes());
    assert_eq!((said.code, said.output.contains("conformance")), (Some(0), false), "{}", said.all());
}

#[test]
fn each_file_ends_with_its_status_and_says_what_happened() {
    let cases: [(&str, i32, &[&str]); 13] = [
        (
            "exchange.acl --no-echo",
            0,
            &[
                "exchange.acl:1:1: request buyer@market.example -> seller@market.example in order-1: processed\n",
                "exchange.acl:11:1: agree seller@market.example -> buyer@market.example in order-1: processed\n",
                "exchange.acl:18:1: inform ",
                "messages    3 read, 0 malformed, 3 accepted\n",
                "deliveries  3 processed, 0 dead-lettered, 0 expired\n",
                "replies     0 sent: ",
                "accounting  3 accepted = 3 processed + 0 dead-lettered + 0 expired + 0 pending: balances\n",
            ],
        ),
        ("exchange.acl", 0, &["  reply: inform from seller@market.example\n", "accounting  4 accepted = 4 processed"]),
        (
            "contract_net.acl --no-echo --preset testing",
            0,
            &["cfp manager -> one, two, three in delivery-7: 3 processed\n  to one: processed\n", "9 processed"],
        ),
        (
            "malformed_middle.acl",
            1,
            &[
                "malformed_middle.acl:1:1: inform alice -> bob: processed\n",
                "malformed_middle.acl:3:9: malformed: unknown parameter \":contents\"",
                "malformed_middle.acl:4:1: inform alice -> bob: processed\n",
                "messages    3 read, 1 malformed, 2 accepted\n",
            ],
        ),
        (
            "unrouted.acl --set rules.files=rules.toml",
            1,
            &[
                "unrouted.acl:1:1: request alice -> (no receiver): processed by bob\n",
                "unrouted.acl:2:1: request bob -> (who offers quoting): processed by alice\n",
                "unrouted.acl:3:1: inform alice -> (no receiver): dead-lettered: no-route, ",
                "unrouted.acl:4:1: inform bob -> alice: processed\n",
            ],
        ),
        (
            "unroutable.acl",
            1,
            &[
                "unroutable.acl:1:1: request alice -> (no receiver): dead-lettered: no-route, ",
                "unroutable.acl:2:1: request alice -> (who offers quoting): dead-lettered: no-provider, ",
                "unroutable.acl:3:1: inform alice -> ams: dead-lettered: unknown-receiver, ",
                "unroutable.acl:4:1: inform ams -> alice: refused: the name \"ams\" belongs to the router",
                "unroutable.acl:5:1: request alice -> bob: refused: the router has no store",
                "unroutable.acl:6:1: inform alice -> bob, ams: 1 processed, 1 dead-lettered\n  to bob: processed\n",
                "messages    6 read, 0 malformed, 4 accepted, 2 refused\n",
                "(unknown-receiver 2, no-provider 1, no-route 1)",
                ": balances\n",
            ],
        ),
        ("questions.acl --reply bob=refuse", 0, &["  reply: refuse from bob\n", "  reply: inform from carol\n"]),
        ("questions.acl --reply nobody=refuse", 0, &["--reply nobody: no message names this agent\n"]),
        // A reply that is itself a question is not answered.
        ("questions.acl --reply bob=request --reply alice=request", 0, &["  reply: request from bob\n", "4 sent"]),
        ("options.acl --offer carol=quoting --offer dave=quoting", 0, &["(who offers quoting): 2 processed\n"]),
        ("options.acl --offer carol=quoting", 0, &["(who offers quoting): processed by carol\n"]),
        ("exchange.acl --shards 1", 0, &["crossed     0 between 1 shards\n"]),
        ("exchange.acl --shards 3 --preset production", 0, &[" between 3 shards\n"]),
    ];
    for (arguments, code, expected) in cases {
        let said = route(arguments);
        assert_eq!(said.code, Some(code), "{arguments}: {}", said.all());
        for text in expected {
            assert!(
                said.output.contains(text) || said.errors.contains(text),
                "{arguments}: no {text:?}\n{}",
                said.all()
            );
        }
    }
}

#[test]
fn what_is_malformed_goes_to_standard_error_and_the_rest_to_standard_output() {
    let said = route("malformed_middle.acl");
    assert!(
        said.errors.lines().all(|line| line.starts_with("malformed_middle.acl:3:9: malformed: ")),
        "{}",
        said.all()
    );
    assert!(!said.output.contains("malformed_middle.acl:3"), "{}", said.all());
}

#[test]
fn only_what_expects_an_answer_gets_one() {
    let (objects, summary) = route("questions.acl --json").objects();
    let replies = |number: usize| objects[number]["replies"].as_array().expect("it is a list").len();
    // A statement, an unknown act and a message without sender get no reply; one without sender but with `reply-to`
    // gets one.
    assert_eq!((0..7).map(replies).collect::<Vec<_>>(), [1, 1, 1, 0, 0, 0, 1]);
    assert_eq!(summary["replies"]["processed"], 4);

    let (objects, _) = route("questions.acl --json --no-echo --reply carol=agree").objects();
    let replies: Vec<_> = objects.iter().filter_map(|object| object["replies"][0]["performative"].as_str()).collect();
    assert_eq!(replies, ["agree"], "without echo only those of --reply answer");
}

#[test]
fn json_is_one_object_for_each_message_and_a_summary() {
    let (objects, summary) = route("unroutable.acl --json").objects();
    let fates: Vec<_> = objects.iter().map(|object| object["fate"].as_str().expect("it has a fate")).collect();
    assert_eq!(fates, ["dead-lettered", "dead-lettered", "dead-lettered", "refused", "refused", "dead-lettered"]);
    let several = &objects[5];
    assert_eq!(several["position"], "unroutable.acl:6:1");
    assert_eq!((&several["line"], &several["column"]), (&6.into(), &1.into()));
    assert_eq!((&several["performative"], &several["sender"]), (&"inform".into(), &"alice".into()));
    assert_eq!(several["receivers"], serde_json::json!(["bob", "ams"]));
    assert_eq!(several["reason"], "unknown-receiver");
    assert_eq!(
        several["deliveries"],
        serde_json::json!([
            { "receiver": "bob", "fate": "processed", "reason": null },
            { "receiver": "ams", "fate": "dead-lettered", "reason": "unknown-receiver" },
        ])
    );
    assert!(several["id"].as_str().is_some_and(|id| id.starts_with('m') && id.len() == 33), "{several}");
    assert!(several["conversation"].is_null());
    assert_eq!(
        summary["account"]["dead_lettered_by_reason"],
        serde_json::json!({ "no-provider": 1, "no-route": 1, "unknown-receiver": 2 })
    );
    assert_eq!((&summary["messages"], &summary["refused"]), (&6.into(), &2.into()));
    assert_eq!((&summary["account"]["pending"], &summary["account"]["balances"]), (&0.into(), &true.into()));
}

#[test]
fn a_malformed_message_is_an_object_with_an_error() {
    let said = route("malformed_middle.acl --json");
    let (objects, summary) = said.objects();
    assert!(said.errors.is_empty(), "{}", said.all());
    assert_eq!(objects[1]["position"], "malformed_middle.acl:3:9");
    assert!(objects[1]["error"].as_str().is_some_and(|error| error.contains("unknown parameter")), "{}", said.all());
    assert_eq!((&summary["messages"], &summary["malformed"]), (&3.into(), &1.into()));
}

#[test]
fn what_a_message_says_of_its_delivery_is_kept() {
    let (objects, summary) = route("options.acl --json --offer carol=quoting --offer dave=quoting").objects();
    assert!(objects.iter().all(|object| object["fate"] == "processed"), "{objects:?}");
    for object in &objects[1..3] {
        assert_eq!(object["id"], "m00000000000000010000000000000001");
    }
    assert_eq!(objects[3]["capability"], "quoting");
    let providers: Vec<_> = objects[3]["deliveries"].as_array().into_iter().flatten().collect();
    assert_eq!(providers.iter().map(|delivery| &delivery["receiver"]).collect::<Vec<_>>(), ["carol", "dave"]);
    assert_eq!(summary["account"]["balances"], true);
}

#[test]
fn without_messages_nothing_is_wrong() {
    for input in [&b""[..], b" \r\n\t\n", b"\xef\xbb\xbf"] {
        let said = route_bytes("", input);
        assert_eq!((said.code, said.output.as_str()), (Some(0), "no messages\n"), "{}", said.all());
        let (objects, summary) = route_bytes("--json", input).objects();
        assert_eq!((objects.len(), &summary["messages"]), (0, &0.into()));
    }
}

#[test]
fn bytes_that_are_no_messages_are_told_and_passed_over() {
    let junk: Vec<u8> = (0..=255).cycle().skip(41).take(2_000).collect();
    let good = b"(inform :sender alice :receiver bob)";
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("junk", [&junk[..], b"\n", good].concat(), ": malformed: "),
        ("zeros", [&[0; 100][..], b"\n", good].concat(), "-:1:1: malformed: "),
        ("an unclosed string", [&b"(inform :content \"never ends)\n"[..], good].concat(), "-:1:18: malformed: "),
        ("a sender that is not UTF-8", [&b"(inform :sender \xff\xfe)\n"[..], good].concat(), "not UTF-8"),
        ("a surplus parenthesis", [&good[..], b")\n"].concat(), "-:1:37: malformed: "),
        ("text", [&b"Dear router,\n"[..], good].concat(), "-:1:1: malformed: "),
    ];
    for (what, input, complaint) in cases {
        let said = route_bytes("--shards 1", &input);
        assert_eq!(said.code, Some(1), "{what}: {}", said.all());
        assert!(said.errors.contains(complaint), "{what}: {}", said.all());
        assert!(said.output.contains("inform alice -> bob: processed"), "{what}: {}", said.all());
    }
    let said = route_bytes("", &junk);
    assert!(said.code == Some(1) && said.output.contains("0 accepted"), "{}", said.all());
}

#[test]
fn lines_may_end_as_elsewhere_and_content_may_be_any_bytes() {
    let said = route_bytes(
        "",
        b"\xef\xbb\xbf(inform :sender alice\r\n :receiver bob)\r\n(inform :sender alice :receiver bob)\r\n",
    );
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert!(said.output.contains("-:1:1: inform") && said.output.contains("-:3:1: inform"), "{}", said.all());
    let said = route_bytes("", b"(request :sender alice :receiver bob :content #4\"\x00\xff\xfe\")");
    assert!(said.code == Some(0) && said.output.contains("reply: inform from bob"), "{}", said.all());
}

#[test]
fn nothing_that_a_terminal_would_obey_is_printed() {
    let said = route_bytes("", b"(inform :sender alice :receiver bob :conversation-id \"a\x1b[2Jb\")");
    assert!(said.output.contains("in a\\u{1b}[2Jb: processed"), "{}", said.all());
}

#[test]
fn what_can_not_be_used_is_refused_with_a_reason() {
    let cases = [
        ("no_such_file.acl", "no_such_file.acl: cannot read the file: No such file"),
        (".", ".: this is a directory"),
        ("", "<FILE|->"),
        ("exchange.acl --shards 0", "shard count 0 is out of range: expected 1 to 1024 shards"),
        ("exchange.acl --shards 5000", "shard count 5000 is out of range: expected 1 to 1024 shards"),
        ("exchange.acl --preset prod", "expected development, testing or production"),
        ("exchange.acl --reply bob", "expected NAME=PERFORMATIVE"),
        ("exchange.acl --reply bob=refsue", "did you mean refuse?"),
        ("exchange.acl --reply =refuse", "agent name"),
        ("exchange.acl --reply bob=refuse --reply bob=agree", "--reply is given twice for bob"),
        ("exchange.acl --offer bob", "expected NAME=CAPABILITY"),
        ("exchange.acl --timeout 0", "expected 0.1 to 86400 seconds"),
        ("exchange.acl --echo", "--echo"),
    ];
    for (arguments, complaint) in cases {
        let said = route(arguments);
        assert_eq!(said.code, Some(2), "{arguments}: {}", said.all());
        assert!(said.errors.contains(complaint), "{arguments}: {}", said.all());
        assert!(said.output.is_empty(), "{arguments}: {}", said.all());
    }
}

#[test]
fn a_pipe_is_routed_as_it_comes() {
    let mut child = caxton().args(["-", "--shards", "2"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let child = child.as_mut().expect("the program runs");
    let mut input = child.stdin.take().expect("it is piped");
    let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut told = |expected: &str| {
        let mut line = String::new();
        output.read_line(&mut line).expect("it prints UTF-8");
        assert!(line.contains(expected), "{line}");
    };
    // The pipe stays open: each outcome is reported before anything else arrives.
    for (line, sender) in ["alice", "carol", "Night Porter@plant"].into_iter().enumerate() {
        writeln!(input, "(request :sender \"{sender}\" :receiver bob :content \"question {line}\")").expect("it reads");
        told(&format!("-:{}:1: request {sender} -> bob: processed", line + 1));
        told("  reply: inform from bob");
    }
    input.write_all(b"(inform :sender alice :receiver bob :content \"in two").expect("it reads");
    input.write_all(b" pieces\")(inform :receiver dave)").expect("it reads");
    told("-:4:1: inform alice -> bob: processed");
    told("inform (no sender) -> dave: processed");
    drop(input);
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn the_order_of_a_file_holds_across_conversations_if_that_is_asked_for() {
    // The first message waits briefly, and does not hold up the others.
    let text = b"(inform :sender alice :receiver bob :conversation-id one :X-caxton-deliver-at +00000000T000000300)\n\
                 (inform :sender carol :receiver bob :conversation-id two)\n\
                 (inform :sender alice :receiver dave)\n";
    let said = route_bytes("--in-order --json", text);
    assert_eq!(said.code, Some(0), "{}", said.all());
    let (objects, _) = said.objects();
    let fates: Vec<_> = objects.iter().map(|object| &object["fate"]).collect();
    assert_eq!(fates, ["processed"; 3]);
    // A message that cannot settle in time holds up everything after it.
    let never =
        b"(inform :sender alice :receiver bob :X-caxton-deliver-at +00000000T010000000)(inform :sender a :receiver b)";
    for (order, second) in [("--in-order", "unsent"), ("", "processed")] {
        let (objects, _) = route_bytes(&format!("--json --timeout 0.3 {order}"), never).objects();
        assert_eq!((&objects[0]["fate"], &objects[1]["fate"]), (&"pending".into(), &second.into()), "{order}");
    }
}

#[test]
fn options_under_their_old_names_are_taken_and_told_of_and_others_parameters_are_not() {
    let text = b"(inform :sender alice :receiver bob :X-reliability durable)\n\
                 (inform :sender alice :receiver bob :X-reliability durable :X-priority 2 :X-capability none)\n";
    let said = route_bytes("", text);
    assert_eq!(said.output.matches("refused: ").count(), 2, "there is no store: {}", said.all());
    let told = "the parameter X-reliability is taken for X-caxton-reliability";
    assert_eq!(said.errors.matches(told).count(), 1, "{}", said.all());
    assert!(!said.errors.contains("X-priority") && !said.errors.contains("X-capability"), "{}", said.all());
    let said = route_bytes("", b"(inform :sender a@p :receiver b@p :X-priority 2 :content x)");
    assert_eq!(said.code, Some(0), "{}", said.all());
}

#[test]
fn what_is_read_beyond_the_letter_of_the_standard_is_a_setting() {
    let text = b"(inform :sender \"Night Porter\" :receiver bob)";
    assert_eq!(route_bytes("", text).code, Some(0));
    let said = route_bytes("--set message.reading=strict", text);
    assert_eq!(said.code, Some(1), "{}", said.all());
    assert!(said.errors.contains("\"Night Porter\" is not a word of FIPA SC00070"), "{}", said.all());
}

#[test]
fn what_does_not_settle_is_pending_when_the_time_is_over() {
    let late = b"(inform :sender alice :receiver bob :conversation-id x :X-caxton-deliver-at +00000000T010000000)\n\
                 (inform :sender alice :receiver bob)\n\
                 (inform :sender alice :receiver bob :conversation-id x)\n";
    let (objects, summary) = {
        let said = route_bytes("--json --timeout 3", late);
        assert_eq!(said.code, Some(1), "{}", said.all());
        said.objects()
    };
    let fates: Vec<_> = objects.iter().map(|object| &object["fate"]).collect();
    assert_eq!(fates, ["pending", "processed", "unsent"]);
    assert_eq!((&summary["deliveries"]["pending"], &summary["unsent"]), (&1.into(), &1.into()));
}

#[test]
fn more_messages_and_agents_than_any_queue_holds_all_pass() {
    const MESSAGES: usize = 6_000;
    const SENDERS: usize = 3_000;
    let mut text = String::new();
    for number in 0..MESSAGES {
        let sender = number % SENDERS;
        let _ =
            writeln!(text, "(request :sender sender-{sender} :receiver (set hub other-{number}) :content {number})");
    }
    let (objects, summary) = route_bytes("--json", text.as_bytes()).objects();
    let ids: HashSet<_> = objects.iter().map(|object| object["id"].as_str().expect("it was accepted")).collect();
    assert_eq!(ids.len(), MESSAGES);
    let lines: Vec<_> = objects.iter().map(|object| object["line"].as_u64().expect("it is a number")).collect();
    assert!(lines.is_sorted(), "messages are told in their order");
    assert_eq!(summary["deliveries"]["processed"], 2 * MESSAGES);
    assert_eq!(summary["replies"]["processed"], 2 * MESSAGES);
    assert_eq!(summary["account"]["processed"], 4 * MESSAGES);
    assert_eq!(summary["account"]["balances"], true);
}

#[test]
fn a_message_to_more_agents_than_reports_are_kept_is_answered_for() {
    const RECEIVERS: usize = 5_000;
    let receivers = (0..RECEIVERS).fold(String::new(), |mut text, number| {
        let _ = write!(text, " agent-{number}");
        text
    });
    // Each reply goes to the router itself, which accepts none, so there is a report of each.
    let text = format!("(request :sender alice :reply-to ams :receiver (set{receivers}))");
    let (objects, summary) = route_bytes("--json", text.as_bytes()).objects();
    assert_eq!(objects[0]["fate"], "processed");
    assert_eq!(summary["deliveries"]["processed"], RECEIVERS);
    assert_eq!(summary["replies"]["dead_lettered_by_reason"]["unknown-receiver"], RECEIVERS);
    assert_eq!((&summary["replies"]["pending"], &summary["account"]["balances"]), (&0.into(), &true.into()));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let text = "(inform :sender alice :receiver bob)\n".repeat(20_000);
    let mut child = caxton()
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    child.stdin.take().expect("it is piped").write_all(text.as_bytes()).expect("it reads everything first");
    let mut first = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    stdout.read_line(&mut first).expect("it prints");
    drop(stdout);
    let said = Said::of(child.wait_with_output().expect("it ends"));
    assert!(first.starts_with("-:1:1: inform alice -> bob: processed"), "{first}");
    assert_eq!((said.code, said.errors.as_str()), (Some(0), ""));
}

#[test]
fn requests_to_a_df_get_its_answers() {
    let message = |act: &str| {
        format!(
            "(REQUEST :sender (agent-identifier :name a@here) :receiver (set (agent-identifier :name df@here)) :content \
             \"((action (agent-identifier :name df@here) {act}))\" :language FIPA-SL0 :ontology FIPA-Agent-Management \
             :protocol fipa-request :reply-with r :conversation-id c)\n"
        )
    };
    let description = "(df-agent-description :name (agent-identifier :name a@here) :services (set (service-description \
                       :name s :type t)))";
    let file: String = [
        message(&format!("(register {description})")),
        message(&format!("(register {description})")),
        message("(search (df-agent-description :services (set (service-description :type t))))"),
        message(&format!("(deregister {description})")),
        message("(dance)"),
    ]
    .concat();
    for shards in [1, 2] {
        let said = route_bytes(&format!("--json --shards {shards}"), file.as_bytes());
        assert_eq!(said.code, Some(0), "{}", said.all());
        let (objects, summary) = said.objects();
        let answers: Vec<Vec<&str>> = objects
            .iter()
            .map(|object| {
                let replies = object["replies"].as_array().expect("there is a list of replies");
                replies.iter().map(|reply| reply["performative"].as_str().expect("it is a word")).collect()
            })
            .collect();
        let wanted: [&[&str]; 5] =
            [&["agree", "inform"], &["agree", "failure"], &["agree", "inform"], &["agree", "inform"], &["refuse"]];
        assert_eq!(answers, wanted, "{}", said.all());
        let result = objects[2]["replies"][1]["content"].as_str().expect("it is shown");
        assert!(result.ends_with("(service-description :name s :type t))))))"), "{result}");
        assert!(
            objects[1]["replies"][1]["content"].as_str().is_some_and(|text| text.ends_with(" already-registered)"))
        );
        assert_eq!(summary["replies"]["sent"], 9, "{summary}");
    }
    let said = route_bytes("--reply df@here=refuse", message("(dance)").as_bytes());
    assert!(said.output.contains("reply: refuse from df@here"), "{}", said.all());
    let said = route_bytes("", message("(dance)").as_bytes());
    assert!(said.output.contains("reply: refuse from df@here\n    ((action "), "{}", said.all());
}

#[test]
fn a_durable_message_that_is_given_up_at_once_is_accounted_for() {
    let directory = tempfile::tempdir().expect("there is a place for files");
    let lost = b"(request :sender alice :X-capability weighing :X-reliability durable :content \"x\")\n\
                 (inform :sender alice :receiver bob :X-reliability durable :content \"y\")\n";
    let (objects, summary) = {
        let said = route_bytes(&format!("--json --data {}", directory.path().display()), lost);
        assert_eq!(said.code, Some(1), "{}", said.all());
        said.objects()
    };
    assert_eq!(objects[0]["fate"], "dead-lettered", "{}", objects[0]);
    assert_eq!(objects[1]["fate"], "processed", "{}", objects[1]);
    assert_eq!(summary["account"]["balances"], true, "{summary}");
    assert_eq!((&summary["accepted"], &summary["deliveries"]["dead_lettered"]), (&2.into(), &1.into()), "{summary}");
}
