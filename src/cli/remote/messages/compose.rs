//! A message made of options.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use caxton_router::Performative;
use caxton_router::domain::{AgentName, CapabilityName};
use caxton_router::message::Choice;
use clap::Args;
use serde_json::{Value, json};

use super::super::Failure;

/// Maximum length of the content from the standard input, in bytes. The router has a limit of its own.
const CONTENT_BYTES_MAX: u64 = 256 << 20;

/// The options for one message.
#[derive(Debug, Args)]
#[group(id = "one", multiple = true)]
pub struct Composed {
    /// The receiver; may be repeated
    #[arg(long, value_name = "NAME")]
    to: Vec<AgentName>,
    /// Send it to agents that provide this capability
    #[arg(long, value_name = "NAME", conflicts_with = "to")]
    capability: Option<CapabilityName>,
    /// Which of the providers: any, all, round-robin or least-loaded
    #[arg(long, value_name = "WORD", requires = "capability", conflicts_with = "to")]
    choice: Option<Choice>,
    /// The performative; by default inform or, for `caxton request`, request
    #[arg(long, short, value_name = "WORD")]
    performative: Option<Performative>,
    /// The content; - is the standard input
    #[arg(long, short, value_name = "TEXT|-", allow_hyphen_values = true)]
    content: Option<String>,
    /// The language of the content
    #[arg(long, value_name = "WORD")]
    language: Option<String>,
    /// The ontology of the content
    #[arg(long, value_name = "WORD")]
    ontology: Option<String>,
    /// The interaction protocol, such as fipa-request
    #[arg(long, value_name = "WORD")]
    protocol: Option<String>,
    /// The id of its conversation
    #[arg(long, value_name = "ID")]
    conversation: Option<String>,
    /// Send it as this agent, to which replies and receipts go. The agent has to be registered, and one of the token's
    #[arg(long, value_name = "NAME")]
    from: Option<AgentName>,
    /// Keep it on disk until it is handled
    #[arg(long)]
    durable: bool,
}

impl Composed {
    /// Returns the message in JSON.
    pub fn message(&self, performative: &str) -> Result<Value, Failure> {
        let is_said = !self.to.is_empty()
            || self.capability.is_some()
            || self.performative.is_some()
            || self.content.is_some()
            || self.protocol.is_some();
        if !is_said {
            let complaint =
                "no message is given: name a file, - for the standard input, or options such as --to and --content";
            return Err(Failure::Unusable(complaint.to_owned()));
        }
        let performative = self.performative.as_ref().map_or_else(|| performative.to_owned(), ToString::to_string);
        let mut message = json!({ "performative": performative });
        if !self.to.is_empty() {
            message["receiver"] = self.to.iter().map(ToString::to_string).collect();
        }
        let text = |value: &Option<String>| value.clone().map(Value::from);
        for (name, value) in [
            ("sender", self.from.as_ref().map(|name| name.to_string().into())),
            ("content", self.content.as_deref().map(content).transpose()?),
            ("language", text(&self.language)),
            ("ontology", text(&self.ontology)),
            ("protocol", text(&self.protocol)),
            ("conversation-id", text(&self.conversation)),
            ("X-caxton-capability", self.capability.as_ref().map(|name| name.to_string().into())),
            ("X-caxton-choice", self.choice.map(|choice| choice.as_str().into())),
            ("X-caxton-reliability", self.durable.then(|| "durable".into())),
        ] {
            if let Some(value) = value {
                message[name] = value;
            }
        }
        Ok(message)
    }
}

/// Returns the content in JSON: a text, or bytes.
fn content(said: &str) -> Result<Value, Failure> {
    if said != "-" {
        return Ok(said.into());
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(CONTENT_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::Unusable(format!("the content: -: cannot read: {error}")))?;
    if bytes.len() as u64 > CONTENT_BYTES_MAX {
        return Err(Failure::Unusable(format!("the content: -: longer than {CONTENT_BYTES_MAX} bytes")));
    }
    Ok(in_json(bytes))
}

fn in_json(bytes: Vec<u8>) -> Value {
    match String::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(error) => json!({ "base64": STANDARD.encode(error.as_bytes()) }),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        composed: Composed,
    }

    fn message(arguments: &[&str]) -> Result<Value, String> {
        let line = Line::try_parse_from([&["test"], arguments].concat()).map_err(|error| error.to_string())?;
        line.composed.message("inform").map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn options_become_parameters() {
        let all = "--to ann --to bob --performative request --content - --protocol fipa-request --conversation c1 --from me \
                   --language fipa-sl --ontology tea --durable";
        let all: Vec<_> = all.split_whitespace().map(|word| if word == "-" { "-x" } else { word }).collect();
        assert_eq!(
            message(&all),
            Ok(json!({
                "performative": "request", "receiver": ["ann", "bob"], "sender": "me", "content": "-x",
                "language": "fipa-sl", "ontology": "tea", "protocol": "fipa-request", "conversation-id": "c1",
                "X-caxton-reliability": "durable",
            }))
        );
        let choice = message(&["--capability", "pricing", "--choice", "round-robin"]);
        assert_eq!(
            choice,
            Ok(json!({
                "performative": "inform", "X-caxton-capability": "pricing", "X-caxton-choice": "round-robin",
            }))
        );
    }

    #[test]
    fn no_message_is_made_of_nothing_or_of_contradictions() {
        for arguments in
            [&[][..], &["--durable"], &["--to", "a", "--capability", "b"], &["--to", "a", "--choice", "any"]]
        {
            assert!(message(arguments).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn content_that_is_no_text_is_encoded() {
        assert_eq!(in_json(b"tea".to_vec()), "tea");
        assert_eq!(in_json(vec![0xff, 0x00]), json!({"base64": "/wA="}));
    }
}
