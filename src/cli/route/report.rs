//! The outcomes of messages, as lines for people and as JSON objects for programs.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Stdout, Write as _};

use caxton_router::codec::text::{Located, ParseError};
use caxton_router::message::{MessageId, Receiver};
use caxton_router::{Message, Performative};
use serde_json::{Value, json};

use super::agents::Cast;
use super::exchange::ids_of;
use super::journal::{Fate, Reply};
use super::summary::{Summary, Tally};
use super::traces;
use crate::cli::{complain, printable, printable_lines};
use caxton_router::telemetry::MessageTrace;

/// Maximum number of receivers in a message's first line; each has its own line below.
const RECEIVERS_SHOWN_MAX: usize = 5;

/// The description of a message.
pub struct Header {
    line: usize,
    column: usize,
    performative: Performative,
    sender: Option<String>,
    receivers: Vec<String>,
    capability: Option<&'static str>,
    conversation: Option<String>,
}

impl Header {
    pub fn of(located: &Located<Message>, cast: &Cast) -> Self {
        let message = &located.value;
        Self {
            line: located.line,
            column: located.column,
            performative: message.performative(),
            sender: message.sender().map(|sender| cast.name_of(sender)),
            receivers: ids_of(message.receiver()).iter().map(|agent| cast.name_of(*agent)).collect(),
            capability: match message.receiver() {
                Receiver::Capability(capability, _) => Some(capability.as_str()),
                _ => None,
            },
            conversation: message.conversation_text(),
        }
    }
}

/// A message of the file and its outcome.
pub struct ToldMessage {
    pub header: Header,
    pub id: Option<MessageId>,
    /// Each delivery; one without receiver if the message found none.
    pub fates: Vec<(Option<String>, Fate)>,
    pub replies: Vec<ToldReply>,
}

/// A reply and the outcomes of its deliveries.
pub struct ToldReply {
    performative: Performative,
    from: String,
    content: Option<String>,
    pub fates: Tally,
    /// The first delivery that was not processed, for its reason.
    lost: Option<Fate>,
}

impl ToldReply {
    pub fn of(reply: &Reply, cast: &Cast) -> Self {
        let fates = Tally::of_reply(reply);
        let pending = (reply.pending() > 0).then_some(Fate::Pending);
        Self {
            performative: reply.performative,
            from: cast.name_of(reply.from),
            content: reply.content.clone(),
            fates,
            lost: reply.lost.values().next().cloned().or(pending),
        }
    }
}

impl Fate {
    /// Returns the outcome as one word, for JSON.
    fn word(&self) -> &'static str {
        match self {
            Self::Processed => "processed",
            Self::DeadLettered(_) => "dead-lettered",
            Self::Expired(_) => "expired",
            Self::Refused(_) => "refused",
            Self::Pending => "pending",
            Self::Unsent => "unsent",
        }
    }

    /// Returns the reason, if there is one: as one word for programs if possible, else as a sentence.
    fn reason(&self) -> Option<&str> {
        match self {
            Self::DeadLettered(reason) => Some(reason.as_str()),
            Self::Expired(stage) => Some(stage.as_str()),
            Self::Refused(error) => Some(error),
            Self::Processed | Self::Pending | Self::Unsent => None,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Processed => "processed".to_owned(),
            Self::DeadLettered(reason) => format!("dead-lettered: {reason}, {}", reason.explanation()),
            Self::Expired(stage) => format!("expired {}", stage.explanation()),
            Self::Refused(error) => format!("refused: {error}"),
            Self::Pending => "pending: it did not settle in time".to_owned(),
            Self::Unsent => "not sent: the run was over before its turn came".to_owned(),
        }
    }
}

impl ToldMessage {
    fn text(&self, position: &str) -> String {
        let Header { performative, sender, receivers, capability, conversation, .. } = &self.header;
        let sender = sender.as_deref().unwrap_or("(no sender)");
        let receivers = match (receivers.as_slice(), capability) {
            ([], Some(capability)) => format!("(who offers {})", printable(capability)),
            ([], None) => "(no receiver)".to_owned(),
            ([shown @ .., _], _) if shown.len() >= RECEIVERS_SHOWN_MAX => {
                let shown = &receivers[..RECEIVERS_SHOWN_MAX];
                format!("{} and {} more", shown.join(", "), receivers.len() - shown.len())
            }
            (all, _) => all.join(", "),
        };
        let conversation = conversation.as_ref().map_or_else(String::new, |text| format!(" in {}", printable(text)));
        let mut text = format!("{position}: {performative} {sender} -> {receivers}{conversation}: ");
        match self.fates.as_slice() {
            [(name, fate)] => {
                // An agent found by capability was not named before.
                let by = name.as_ref().filter(|name| !self.header.receivers.contains(name));
                let by = by.map_or_else(String::new, |name| format!(" by {name}"));
                let _ = writeln!(text, "{}{}", fate.text(), if *fate == Fate::Processed { by } else { String::new() });
            }
            several => {
                let mut tally = Tally::default();
                for (_, fate) in several {
                    tally.count(fate);
                }
                let _ = writeln!(text, "{}", tally.in_words());
                for (name, fate) in several {
                    let _ = writeln!(text, "  to {}: {}", name.as_deref().unwrap_or("(nobody)"), fate.text());
                }
            }
        }
        for ToldReply { performative, from, content, fates, lost } in &self.replies {
            let what = match lost {
                None => String::new(),
                Some(fate) if fates.deliveries() == 1 => {
                    format!(": {}", fate.text())
                }
                Some(_) => format!(": {}", fates.in_words()),
            };
            let _ = writeln!(text, "  reply: {performative} from {from}{what}");
            if let Some(content) = content {
                let _ = writeln!(text, "    {}", printable(content));
            }
        }
        text
    }

    fn json(&self, position: &str) -> Value {
        let worst = self.fates.iter().map(|(_, fate)| fate).find(|fate| **fate != Fate::Processed);
        let fate = worst.or(self.fates.first().map(|(_, fate)| fate)).unwrap_or(&Fate::Pending);
        let deliveries: Vec<_> = self
            .fates
            .iter()
            .map(|(name, fate)| json!({ "receiver": name, "fate": fate.word(), "reason": fate.reason() }))
            .collect();
        let replies: Vec<_> = self
            .replies
            .iter()
            .map(|ToldReply { performative, from, content, lost, .. }| {
                let fate = lost.as_ref().unwrap_or(&Fate::Processed);
                let mut told = json!({
                    "performative": performative.as_str(),
                    "from": from,
                    "fate": fate.word(),
                    "reason": fate.reason(),
                });
                if let Some(content) = content {
                    told["content"] = content.as_str().into();
                }
                told
            })
            .collect();
        json!({
            "position": position,
            "line": self.header.line,
            "column": self.header.column,
            "id": self.id.map(|id| id.to_string()),
            "performative": self.header.performative.as_str(),
            "sender": self.header.sender,
            "receivers": self.header.receivers,
            "capability": self.header.capability,
            "conversation": self.header.conversation,
            "fate": fate.word(),
            "reason": fate.reason(),
            "deliveries": deliveries,
            "replies": replies,
        })
    }
}

/// Prints in the chosen form.
pub struct Printer {
    json: bool,
    file: String,
    output: BufWriter<Stdout>,
}

impl Printer {
    pub fn new(json: bool, file: &str) -> Self {
        Self { json, file: printable(file).into_owned(), output: BufWriter::new(io::stdout()) }
    }

    /// Reports the outcome of a message.
    pub fn message(&mut self, told: &ToldMessage) -> io::Result<()> {
        let position = self.position(told.header.line, told.header.column);
        if self.json {
            writeln!(self.output, "{}", printable_lines(&told.json(&position).to_string()))
        } else {
            self.output.write_all(printable_lines(&told.text(&position)).as_bytes())
        }
    }

    /// Reports a malformed message: among the others for programs, on standard error for people.
    pub fn malformed(&mut self, error: &ParseError) -> io::Result<()> {
        let position = self.position(error.line, error.column);
        let fault = error.kind.to_string();
        if self.json {
            let told = json!({ "position": position, "line": error.line, "column": error.column, "error": fault });
            return writeln!(self.output, "{}", printable_lines(&told.to_string()));
        }
        // Keeps the order of output and errors on a terminal.
        self.output.flush()?;
        complain(&format!("{position}: malformed: {fault}"));
        Ok(())
    }

    /// Flushes the output.
    pub fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }

    /// Reports the traces of the run.
    pub fn traces(&mut self, messages: &[MessageTrace]) -> io::Result<()> {
        if self.json {
            for trace in traces::json(messages) {
                writeln!(self.output, "{}", printable_lines(&trace.to_string()))?;
            }
            return Ok(());
        }
        if messages.len() >= traces::TRACES_MAX {
            self.flush()?;
            complain(&format!("only the first {} messages are shown in traces", traces::TRACES_MAX));
        }
        self.output.write_all(printable_lines(&traces::text(messages)).as_bytes())
    }

    /// Ends with the summary.
    pub fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        if self.json {
            writeln!(self.output, "{}", printable_lines(&summary.json().to_string()))?;
        } else {
            self.output.write_all(printable_lines(&summary.text()).as_bytes())?;
        }
        self.output.flush()
    }

    fn position(&self, line: usize, column: usize) -> String {
        format!("{}:{line}:{column}", self.file)
    }
}
