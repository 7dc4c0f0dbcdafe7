//! Messages written by other software, from JADE's test suite, read, written and read again.
//!
//! The files are beside the workspace. Without them, messages of the same kinds written for this test are used instead.

use std::path::PathBuf;

use caxton_shards::codec::text::{Limits, Messages, NoNames, parse, print};
use caxton_shards::message::{Message, ParameterValue, Performative, Receiver, WallTime};

const NOW: WallTime = WallTime(1_700_000_000_000);

/// One of each kind in the files: numbers as values, upper case, lists over several lines, quotes and backslashes in
/// content, receivers named twice, a date, and messages with nothing in between.
const STAND_INS: &str = r#"

(PROXY
 :X-comment "the value is a number"
 :reply-with 99
)
(PROXY :reply-with +99)
(PROXY :reply-with -99)
(PROXY :reply-with +.99E-23)

(REQUEST
 :sender  ( agent-identifier  :name seller@HOST:1099/JADE :addresses (sequence ))
 :receiver  (set ( agent-identifier  :name df@HOST:1099/JADE) )
 :content  "((action (Agent-Identifier :name df@HOST:1099/JADE)
    (search (df-agent-description :name (Agent-Identifier :name \"a \\" quote\")))))"
 :language  fipa-sl0
 :reply-by  20020314T091400500Z
:X-comment "a search"
)(INFORM
 :receiver (set (Agent-Identifier :name y)
                (Agent-Identifier :name z :addresses (sequence iiop://100.1/a))
                (Agent-Identifier :name z :resolvers (sequence (Agent-Identifier :name p))))
 :X-word Just_A_Test
 :X-text "0x23AF"
 :X-list (set (a b) "c")
)
"#;

#[test]
fn every_message_reads_and_reads_back() {
    let (files, source) = corpus();
    let mut count = 0;
    for (name, text) in &files {
        for read in Messages::new(text, NOW, &Limits::default()) {
            let message = match read {
                Ok(located) => located.value,
                Err(error) => panic!("{name}: {error}"),
            };
            assert_reads_back(&message);
            count += 1;
        }
    }
    eprintln!("{count} messages of {source}");
    assert_eq!(count, files.iter().map(|(_, text)| outermost_parentheses(text)).sum::<usize>());
}

#[test]
fn the_oddities_mean_what_they_say() {
    let messages: Vec<Message> = Messages::new(STAND_INS.as_bytes(), NOW, &Limits::default())
        .map(|read| read.expect("the stand-ins are well-formed").value)
        .collect();
    let [number, .., request, inform] = messages.as_slice() else { panic!("{} messages", messages.len()) };
    assert_eq!(messages.len(), 6);
    assert_eq!(number.performative(), Performative::Proxy);
    assert_eq!(number.reply_with_text().as_deref(), Some("99"));
    assert_eq!(messages[3].reply_with_text().as_deref(), Some("+.99E-23"));
    assert!(text_of(request.content().as_bytes()).contains(r#":name "a \" quote")"#));
    assert_eq!(request.reply_by(), Some(WallTime(1_016_097_240_500)));
    let Receiver::Agents(agents) = inform.receiver() else { panic!("{:?}", inform.receiver()) };
    assert_eq!(agents.len(), 2, "z is delivered to once");
    let details = inform.details().unwrap();
    assert_eq!(details.receivers.len(), 3, "and kept as it was written");
    let values: Vec<&ParameterValue> = details.user_parameters.iter().map(|parameter| &parameter.value).collect();
    assert_eq!(
        values,
        [
            &ParameterValue::Atom("Just_A_Test".into()),
            &ParameterValue::Text("0x23AF".into()),
            &ParameterValue::list("(set (a b) \"c\")")
        ]
    );
}

/// The comments of the directory requests name the reply, which shows that these are the expected files.
#[test]
fn directory_requests_are_complete() {
    let (files, _) = corpus();
    for (name, text) in files.iter().filter(|(name, _)| name.starts_with("df-")) {
        let messages: Vec<Message> =
            Messages::new(text, NOW, &Limits::default()).map(|read| read.expect(name).value).collect();
        assert!(!messages.is_empty(), "{name}");
        for message in messages {
            assert_eq!(message.performative(), Performative::Request, "{name}");
            assert!(message.receiver() != &Receiver::Unaddressed && message.sender().is_some(), "{name}");
            let commented = message.details().unwrap().user_parameters.iter().any(|one| &*one.name == "X-comment");
            assert!(commented, "{name}");
        }
    }
}

fn assert_reads_back(message: &Message) {
    let mut written = Vec::new();
    print(message, &NoNames, &mut written);
    let again =
        parse(&written, NOW, &Limits::default()).unwrap_or_else(|error| panic!("{error}\n{}", text_of(&written)));
    assert_eq!(&again, message, "{}", text_of(&written));
}

/// Returns the number of messages if all of them are well-formed.
fn outermost_parentheses(text: &[u8]) -> usize {
    let (mut depth, mut count, mut in_string, mut before) = (0, 0, false, b' ');
    for byte in text {
        match byte {
            b'"' if !(in_string && before == b'\\') => in_string = !in_string,
            b'(' if !in_string => {
                count += usize::from(depth == 0);
                depth += 1;
            }
            b')' if !in_string => depth -= 1,
            _ => {}
        }
        before = *byte;
    }
    count
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn corpus() -> (Vec<(String, Vec<u8>)>, &'static str) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/acl");
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?.to_owned();
            path.extension().is_some_and(|extension| extension == "acl").then(|| (name, std::fs::read(&path).unwrap()))
        })
        .collect();
    files.sort();
    if files.is_empty() {
        eprintln!("{} has no messages: this run reads the stand-ins only", folder.display());
        return (vec![("stand-ins".to_owned(), STAND_INS.into())], "the stand-ins");
    }
    (files, "the corpus")
}
