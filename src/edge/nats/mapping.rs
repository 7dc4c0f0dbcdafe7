//! What the subject and the headers of a publication mean in ACL. The manual's chapter on NATS has it as a table.

use std::fmt::Display;

use caxton_shards::api::SendErrorKind;
use caxton_shards::codec::json;
use caxton_shards::codec::text::{self, Limits, NamedParameters};
use caxton_shards::domain::{AgentName, CapabilityName, ContentLimit};
use caxton_shards::message::{
    AgentId, Choice, ConversationId, ConversationRole, Correlation, JSON_LANGUAGE, Message, MessageBuilder, MessageId,
    Performative, Receipt, Receiver, WallTime,
};

use super::header_names::HeaderName;
use super::headers::Headers;
use super::protocol::Publication;
use super::refusal::Refusal;
use super::render::{Kind, put_headers};
use super::subjects;
use crate::edge::doors::reason;

/// What the subject of an agent begins with; its name is the rest.
pub(super) const AGENT: &[u8] = b"agent.";
/// What the subject of a capability begins with; its name is the rest.
const CAPABILITY: &[u8] = b"capability.";
/// The subject of messages that a routing rule gives their receiver.
const ROUTE: &[u8] = b"route";
/// What the subjects for replies begin with that the router makes up: the numbers of connection and question follow.
const ANSWER: &[u8] = b"_R.";

/// A whole message in the JSON form.
const ACL_JSON: &str = "application/fipa-acl+json";
/// A whole message in the string form.
const ACL_TEXT: &str = "text/x-fipa-acl";
/// Content in JSON.
pub(super) const JSON: &str = "application/json";

/// What a subject that is published to stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Address {
    Agent(AgentId),
    Capability(CapabilityName),
    /// Whoever the routing rules say.
    Rules,
    /// The agent that asked the question with this number, on this connection.
    Answer {
        connection: u32,
        number: u32,
    },
}

/// Returns what a subject stands for; `None` if it stands for nothing.
pub(super) fn address(subject: &[u8]) -> Option<Result<Address, Refusal>> {
    let name = |encoded| subjects::decode(encoded).ok_or_else(|| Refusal::of_name("it is not UTF-8"));
    if let Some(encoded) = subject.strip_prefix(AGENT) {
        return Some(name(encoded).and_then(|name| {
            let name = AgentName::try_new(name.into_owned()).map_err(Refusal::of_name)?;
            Ok(Address::Agent(AgentId::of(&name)))
        }));
    }
    if let Some(encoded) = subject.strip_prefix(CAPABILITY) {
        return Some(name(encoded).and_then(|name| {
            CapabilityName::try_new(name.into_owned()).map(Address::Capability).map_err(Refusal::of_name)
        }));
    }
    if let Some(numbers) = subject.strip_prefix(ANSWER) {
        let (connection, number) = std::str::from_utf8(numbers).ok()?.split_once('.')?;
        return Some(Ok(Address::Answer { connection: connection.parse().ok()?, number: number.parse().ok()? }));
    }
    (subject == ROUTE).then_some(Ok(Address::Rules))
}

/// Appends the subject for replies to a question.
pub(super) fn put_answer_subject(connection: u32, number: u32, output: &mut Vec<u8>) {
    output.extend_from_slice(ANSWER);
    output.extend_from_slice(format!("{connection}.{number}").as_bytes());
}
/// What the reply subject of a message is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ack {
    /// That the message was accepted; a durable one is on disk then.
    Accepted,
    /// That the receiver has handled it.
    Receipt,
    /// What the receiver replies.
    Reply,
    /// The same, in the chunks of the Synadia Agent Protocol.
    Prompt,
}

/// How the payload is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// It is the content.
    Content { is_json: bool },
    /// It is a whole message, as text.
    Text,
    /// It is a whole message, in JSON.
    Json,
}

/// What the headers of a publication say.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    headers: Headers<'a>,
    /// The headers with which the question was delivered. Some clients repeat them in the reply, where they say nothing.
    echoed: Vec<u8>,
    payload: &'a [u8],
    performative: Option<Performative>,
    form: Form,
    /// What the reply subject is told, if there is one.
    pub ack: Option<Ack>,
    /// The name of the agent that sends it, if the headers name one.
    pub sender: Option<&'a str>,
}

impl<'a> Plan<'a> {
    /// Reads the headers that decide about the others, of a reply to `question` if there is one.
    pub fn read(publication: &Publication<'a>, question: Option<&Message>) -> Result<Self, Refusal> {
        let headers = Headers::read(publication.headers)
            .map_err(|_| Refusal::new(reason::INVALID_HEADER, "the headers are malformed"))?;
        let mut echoed = Vec::new();
        if let Some(question) = question.filter(|_| !publication.headers.is_empty()) {
            put_headers(question, None, Kind::Question, &mut echoed);
        }
        let mut plan = Plan {
            headers,
            echoed,
            payload: publication.payload,
            performative: None,
            form: Form::Content { is_json: false },
            ack: publication.reply.map(|_| Ack::Reply),
            sender: None,
        };
        if !publication.headers.is_empty() {
            plan.read_headers(publication.reply.is_some())?;
        }
        if question.is_some() {
            // Only the agent that was asked replies.
            plan.sender = None;
        }
        Ok(plan)
    }

    /// Refuses what a sender without a name of its own cannot say: its repeated messages are recognised by its name, which
    /// is another one on each connection.
    pub fn check_unnamed(&self) -> Result<(), Refusal> {
        const MESSAGE_ID: &str = "Nats-Msg-Id";
        match self.headers.get(MESSAGE_ID) {
            Some(_) => {
                Err(Refusal::of_header(MESSAGE_ID.as_bytes(), "subscribe to agent.NAME first, to be known again"))
            }
            None => Ok(()),
        }
    }

    /// Whether a header only repeats one of the question.
    fn is_echo(&self, name: &[u8], value: &[u8]) -> bool {
        let same = |(known, repeated): (&[u8], &[u8])| known.eq_ignore_ascii_case(name) && repeated == value;
        !self.echoed.is_empty() && Headers::read(&self.echoed).is_ok_and(|echoed| echoed.iter().any(same))
    }

    fn read_headers(&mut self, has_reply: bool) -> Result<(), Refusal> {
        let text = |name: &str| -> Result<Option<&'a str>, Refusal> {
            let value = self.headers.get(name).filter(|value| !self.is_echo(name.as_bytes(), value));
            let value = value.map(std::str::from_utf8).transpose();
            value.map_err(|_| Refusal::of_header(name.as_bytes(), "it is not UTF-8"))
        };
        let performative = text("Caxton-Performative")?.map(str::parse).transpose();
        let performative = performative.map_err(|error| Refusal::of_header(b"Caxton-Performative", error))?;
        let sender = text("Caxton-Sender")?;
        let media = text("Content-Type")?.map(|media| media.split(';').next().unwrap_or_default().trim());
        let form = match media {
            Some(media) if media.eq_ignore_ascii_case(ACL_TEXT) => Form::Text,
            Some(media) if media.eq_ignore_ascii_case(ACL_JSON) => Form::Json,
            Some(media) => Form::Content { is_json: media.eq_ignore_ascii_case(JSON) },
            None => Form::Content { is_json: false },
        };
        let durable = text("Caxton-Reliability")?.is_some_and(|value| value.eq_ignore_ascii_case("durable"));
        let ack = match text("Caxton-Ack")? {
            _ if !has_reply => None,
            None if durable && !performative.is_some_and(Performative::asks_for_reply) => Some(Ack::Accepted),
            None => Some(Ack::Reply),
            Some(word) if word.eq_ignore_ascii_case("accepted") => Some(Ack::Accepted),
            Some(word) if word.eq_ignore_ascii_case("receipt") => Some(Ack::Receipt),
            Some(word) if word.eq_ignore_ascii_case("reply") => Some(Ack::Reply),
            Some(_) => return Err(Refusal::of_header(b"Caxton-Ack", "expected accepted, receipt or reply")),
        };
        (self.performative, self.sender, self.form, self.ack) = (performative, sender, form, ack);
        Ok(())
    }

    /// Builds the message. `asked` is the value that replies repeat.
    pub fn message(
        &self,
        to: To<'_>,
        sender: AgentId,
        asked: Option<Correlation>,
        (limit, now): (ContentLimit, WallTime),
    ) -> Result<Message, Refusal> {
        let is_json = match self.form {
            Form::Content { is_json } => is_json,
            Form::Text => {
                let limits = Limits::with_content(limit);
                let message = text::parse(self.payload, now, &limits)
                    .map_err(|error| Refusal::new(reason::MALFORMED_MESSAGE, error))?;
                return self.whole(message, to, sender, asked, (limit, now));
            }
            Form::Json => {
                let message = json::from_json(self.payload, now, &json::limits(limit))
                    .map_err(|error| Refusal::new(reason::MALFORMED_MESSAGE, error))?;
                return self.whole(message, to, sender, asked, (limit, now));
            }
        };
        let is_answer = matches!(to, To::Answer(_));
        let asking = self.ack == Some(Ack::Reply) && !is_answer;
        let default = if asking { Performative::Request } else { Performative::Inform };
        let mut builder = match to {
            To::Answer(question) => question.reply(self.performative.unwrap_or(default)),
            To::Address(_) => Message::builder(self.performative.unwrap_or(default)).sender(sender),
        };
        if let To::Address(address) = to {
            builder = self.address(builder, address)?;
        }
        if is_json {
            builder = builder.language(JSON_LANGUAGE);
        }
        builder = self.parameters(builder.content(self.payload), sender, now)?;
        self.finish(builder, asked, limit)
    }

    /// Completes a message that arrived as a whole.
    fn whole(
        &self,
        message: Message,
        to: To<'_>,
        sender: AgentId,
        asked: Option<Correlation>,
        (limit, now): (ContentLimit, WallTime),
    ) -> Result<Message, Refusal> {
        let foreign = message.sender().is_some_and(|named| named != sender);
        if foreign {
            return Err(Refusal::of_send_error(&SendErrorKind::ForeignSender));
        }
        let has_sender = message.sender().is_some();
        let mut builder = match to {
            To::Address(address) => {
                let named = message.receiver().clone();
                let builder = message.into_builder();
                match (named, address) {
                    (Receiver::Unaddressed, address) => self.address(builder, address)?,
                    (Receiver::Agent(named), Address::Agent(agent)) if named == *agent => builder,
                    (_, Address::Rules) => builder,
                    _ => return Err(Refusal::of_receivers()),
                }
            }
            To::Answer(question) => completed_reply(message, question)?,
        };
        if !has_sender {
            builder = builder.sender(sender);
        }
        builder = self.parameters(builder, sender, now)?;
        self.finish(builder, asked, limit)
    }

    fn address(&self, builder: MessageBuilder, address: &Address) -> Result<MessageBuilder, Refusal> {
        let choice = self.headers.get("Caxton-Choice").map(|word| {
            let word = std::str::from_utf8(word).unwrap_or_default();
            word.parse::<Choice>().map_err(|error| Refusal::of_header(b"Caxton-Choice", error))
        });
        Ok(match address {
            Address::Agent(agent) => builder.receiver(*agent),
            Address::Capability(name) => builder.capability(name, choice.transpose()?.unwrap_or_default()),
            Address::Rules | Address::Answer { .. } => builder,
        })
    }

    fn finish(
        &self,
        mut builder: MessageBuilder,
        asked: Option<Correlation>,
        limit: ContentLimit,
    ) -> Result<Message, Refusal> {
        if let Some(asked) = asked {
            builder = builder.reply_with(asked);
        }
        if self.ack == Some(Ack::Receipt) {
            builder = builder.receipt(Receipt::Processed);
        }
        builder.build_within(limit).map_err(|error| Refusal::of_message(&error))
    }

    /// Sets the parameters that the headers name.
    fn parameters(&self, builder: MessageBuilder, sender: AgentId, now: WallTime) -> Result<MessageBuilder, Refusal> {
        let mut named = NamedParameters::new(builder, now);
        let (mut reply_by, mut id) = (None, None);
        for (name, value) in self.headers.iter().filter(|(name, value)| !self.is_echo(name, value)) {
            let refuse = |fault: &dyn Display| Refusal::of_header(name, fault);
            let (Ok(word), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
                return Err(refuse(&"it is not UTF-8"));
            };
            match HeaderName::of(word) {
                HeaderName::Known => {}
                HeaderName::ReplyWith if self.ack == Some(Ack::Reply) => {
                    return Err(refuse(&"a message with a reply subject needs none"));
                }
                HeaderName::ReplyBy if humantime::parse_duration(value).is_ok() => {
                    let time = humantime::parse_duration(value).unwrap_or_default();
                    let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                    reply_by = Some(WallTime(now.0.saturating_add(time)));
                }
                HeaderName::MessageId => {
                    let text = ConversationId::of_text(&format!("{sender} {value}"));
                    id = MessageId::from_u128(text.to_u128());
                }
                HeaderName::Unknown => return Err(refuse(&"there is no such header")),
                HeaderName::ReplyWith => named.set("reply-with", value).map_err(|fault| refuse(&fault))?,
                HeaderName::ReplyBy => named.set("reply-by", value).map_err(|fault| refuse(&fault))?,
                HeaderName::Parameter(parameter) => {
                    named.set(&parameter, value).map_err(|fault| refuse(&fault))?;
                }
            }
        }
        let mut builder = named.builder();
        if let Some(moment) = reply_by {
            builder = builder.reply_by(moment);
        }
        if let Some(id) = id {
            builder = builder.id(id);
        }
        Ok(builder)
    }
}

/// Completes a whole message that replies to a question: with the receiver, with what it repeats, and with the
/// conversation, as far as it names none.
fn completed_reply(message: Message, question: &Message) -> Result<MessageBuilder, Refusal> {
    let like = question.reply(message.performative()).build().map_err(|error| Refusal::of_message(&error))?;
    match message.receiver() {
        Receiver::Unaddressed => {}
        named if named == like.receiver() => {}
        _ => return Err(Refusal::of_receivers()),
    }
    let (is_addressed, repeats) = (*message.receiver() != Receiver::Unaddressed, message.in_reply_to().is_some());
    let converses = message.conversation().is_some();
    let trace = like.trace().filter(|_| message.trace().is_none());
    let mut builder = message.into_builder();
    if let Some(trace) = trace {
        builder = builder.trace(trace);
    }
    if let Some(asker) = like.target().filter(|_| !is_addressed) {
        builder = builder.receiver(asker);
    }
    if let Some(value) = like.in_reply_to_text().filter(|_| !repeats) {
        builder = builder.in_reply_to_text(&value);
    }
    if let Some(conversation) = like.conversation().filter(|_| !converses) {
        if let Some(text) = like.conversation_text() {
            builder = builder.conversation_text(&text);
        }
        builder = match (like.role(), like.initiator()) {
            (ConversationRole::Member, Some(initiator)) => builder.conversation_of(conversation, initiator),
            (role, _) => builder.conversation_as(conversation, role),
        };
    }
    Ok(builder)
}

/// Where a message goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum To<'a> {
    Address(&'a Address),
    /// To the sender of this question.
    Answer(&'a Message),
}
#[cfg(test)]
mod tests {
    use caxton_shards::message::Reliability;

    use super::*;
    use crate::edge::nats::header_names::{USER_HEADER, user_header};
    use crate::edge::nats::headers::HeaderWriter;
    use crate::edge::nats::render::{is_bare, wants_reply};

    fn block(lines: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        let mut writer = HeaderWriter::new(&mut block);
        for (name, value) in lines {
            writer.put(name, value.as_bytes());
        }
        writer.end();
        block
    }

    fn built(lines: &[(&str, &str)], reply: bool, payload: &str) -> Result<(Message, Option<Ack>), Refusal> {
        let block = if lines.is_empty() { Vec::new() } else { block(lines) };
        let publication = Publication {
            subject: b"agent.seller",
            reply: reply.then_some(b"_INBOX.1".as_slice()),
            headers: &block,
            payload: payload.as_bytes(),
        };
        let plan = Plan::read(&publication, None)?;
        let seller = address(b"agent.seller").expect("it is a subject")?;
        let asked = Some(Correlation::of_text("q")).filter(|_| plan.ack == Some(Ack::Reply));
        let message = plan.message(
            To::Address(&seller),
            AgentId::of_text("buyer"),
            asked,
            (ContentLimit::default(), WallTime(1_000)),
        )?;
        Ok((message, plan.ack))
    }

    #[test]
    fn subjects_stand_for_agents_capabilities_and_questions() {
        let agent = |name| Some(Ok(Address::Agent(AgentId::of_text(name))));
        assert_eq!(address(b"agent.buyer@example.org"), agent("buyer@example.org"));
        assert_eq!(address(b"agent.Night%20Porter"), agent("Night Porter"));
        assert_eq!(address(b"capability.a.b"), Some(Ok(Address::Capability("a.b".try_into().expect("a name")))));
        assert_eq!(address(b"_R.3.77"), Some(Ok(Address::Answer { connection: 3, number: 77 })));
        assert_eq!(address(b"route"), Some(Ok(Address::Rules)));
        for subject in ["agents", "foo.bar", "_R.x.1", "_R.1", "$JS.API.INFO", "routes"] {
            assert_eq!(address(subject.as_bytes()), None, "{subject}");
        }
        for subject in ["agent.%0A", "agent.%ff"] {
            assert!(matches!(address(subject.as_bytes()), Some(Err(_))), "{subject}");
        }
        let mut subject = Vec::new();
        put_answer_subject(3, 77, &mut subject);
        assert_eq!(subject, b"_R.3.77");
    }

    #[test]
    fn a_reply_subject_makes_a_request_of_it() {
        let (message, ack) = built(&[], false, "hello").expect("it is valid");
        assert_eq!((message.performative(), ack), (Performative::Inform, None));
        assert_eq!(
            (message.sender(), message.target()),
            (Some(AgentId::of_text("buyer")), Some(AgentId::of_text("seller")))
        );
        assert!(is_bare(&message) && !wants_reply(&message));
        let (message, ack) = built(&[], true, "hello").expect("it is valid");
        assert_eq!((message.performative(), ack), (Performative::Request, Some(Ack::Reply)));
        assert!(message.reply_with().is_some() && wants_reply(&message));
    }

    #[test]
    fn a_durable_message_is_acknowledged_unless_it_asks() {
        let durable = ("Caxton-Reliability", "durable");
        let (message, ack) = built(&[durable], true, "x").expect("it is valid");
        assert_eq!((message.performative(), ack), (Performative::Inform, Some(Ack::Accepted)));
        assert_eq!(message.reliability(), Reliability::Durable);
        let (_, ack) = built(&[durable, ("Caxton-Performative", "query-ref")], true, "x").expect("it is valid");
        assert_eq!(ack, Some(Ack::Reply));
        let (message, ack) = built(&[("caxton-ack", "receipt")], true, "x").expect("it is valid");
        assert_eq!((message.receipt(), ack), (Receipt::Processed, Some(Ack::Receipt)));
        assert_eq!(built(&[durable], false, "x").expect("it is valid").1, None);
    }

    #[test]
    fn headers_become_parameters_and_come_back() {
        let lines = [
            ("Caxton-Performative", "cfp"),
            ("Caxton-Protocol", "fipa-contract-net"),
            ("Caxton-Conversation-Id", "plums"),
            ("Caxton-Ontology", "trade"),
            ("Content-Type", "application/json"),
            ("Caxton-Reply-By", "20310131T235959999Z"),
            ("Caxton-Priority", "high"),
            ("Caxton-Time-To-Live-Ms", "500"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("X-Trail", "north"),
            ("Shop", "5"),
        ];
        let (message, _) = built(&lines, false, "{}").expect("it is valid");
        assert_eq!((message.language(), message.conversation_text().as_deref()), (Some("json"), Some("plums")));
        let mut output = Vec::new();
        put_headers(&message, Some("buyer"), Kind::Message, &mut output);
        let written = Headers::read(&output).expect("it is well formed");
        for (name, value) in lines {
            assert_eq!(written.get(name), Some(value.as_bytes()), "{name}");
        }
        assert_eq!(written.get("Caxton-Sender"), Some(b"buyer".as_slice()));
        assert_eq!(written.iter().count(), lines.len() + 1);
    }

    #[test]
    fn reply_by_may_be_a_span_of_time() {
        let (message, _) = built(&[("Caxton-Reply-By", "5s")], false, "").expect("it is valid");
        assert_eq!(message.reply_by(), Some(WallTime(6_000)));
    }

    #[test]
    fn a_whole_message_may_be_the_payload() {
        for (media, payload) in [
            (ACL_TEXT, "(propose :receiver seller :content \"7\" :language sl)"),
            (ACL_TEXT, "(propose :sender buyer :content \"7\" :language sl)"),
            (ACL_JSON, r#"{"performative":"propose","content":"7","language":"sl"}"#),
        ] {
            let (message, _) = built(&[("Content-Type", media)], true, payload).expect(payload);
            assert_eq!((message.performative(), message.language()), (Performative::Propose, Some("sl")));
            assert_eq!(
                (message.sender(), message.target()),
                (Some(AgentId::of_text("buyer")), Some(AgentId::of_text("seller")))
            );
            assert!(message.reply_with().is_some());
        }
    }

    #[test]
    fn a_reply_that_repeats_the_headers_of_its_question_is_a_reply_all_the_same() {
        let lines = [
            ("Caxton-Reliability", "durable"),
            ("Content-Type", JSON),
            ("Caxton-Conversation-Id", "c1"),
            ("Caxton-Performative", "query-ref"),
            ("Shop", "5"),
        ];
        let (mut question, _) = built(&lines, false, "{}").expect("it is valid");
        question = question.into_builder().id(MessageId::from_u128(7).expect("a number")).build().expect("it is valid");
        let mut repeated = Vec::new();
        put_headers(&question, Some("buyer"), Kind::Question, &mut repeated);
        let end = repeated.len() - 2;
        for (headers, act) in
            [(repeated.clone(), "inform"), ([&repeated[..end], b"Caxton-Priority: high\r\n\r\n"].concat(), "inform")]
        {
            let publication = Publication { subject: b"_R.1.1", reply: None, headers: &headers, payload: b"[]" };
            let plan = Plan::read(&publication, Some(&question)).expect("it is valid");
            let (limit, seller) = (ContentLimit::default(), AgentId::of_text("seller"));
            let reply = plan.message(To::Answer(&question), seller, None, (limit, WallTime(0))).expect("it is valid");
            assert_eq!((reply.performative().as_str(), reply.language(), reply.id()), (act, Some("json"), None));
            assert_eq!((reply.sender(), reply.target()), (Some(seller), Some(AgentId::of_text("buyer"))));
            assert_eq!(reply.conversation_text().as_deref(), Some("c1"));
            assert!(reply.details().is_none_or(|details| details.user_parameters.is_empty()));
        }
    }

    #[test]
    fn a_whole_message_that_replies_repeats_what_the_question_says() {
        let question = Message::builder(Performative::QueryRef)
            .sender(AgentId::of_text("buyer"))
            .receiver("seller")
            .conversation_text("plums")
            .reply_with_text("q7");
        let question = question.build().expect("it is valid");
        let reply = |payload: &str| {
            let headers = block(&[("Content-Type", ACL_TEXT)]);
            let publication =
                Publication { subject: b"_R.1.1", reply: None, headers: &headers, payload: payload.as_bytes() };
            let plan = Plan::read(&publication, Some(&question)).expect("it is valid");
            let (limit, seller) = (ContentLimit::default(), AgentId::of_text("seller"));
            plan.message(To::Answer(&question), seller, None, (limit, WallTime(0)))
        };
        let bare = reply("(inform :content \"7\")").expect("it is valid");
        assert_eq!((bare.target(), bare.sender()), (question.sender(), question.target()));
        assert_eq!((bare.in_reply_to_text().as_deref(), bare.in_reply_to()), (Some("q7"), question.reply_with()));
        assert_eq!(
            (bare.conversation_text().as_deref(), bare.role()),
            (Some("plums"), question.reply(bare.performative()).build().expect("it is valid").role())
        );
        let own = reply("(inform :receiver buyer :in-reply-to q8 :conversation-id pears)").expect("it is valid");
        assert_eq!(own.in_reply_to_text().as_deref(), Some("q8"));
        assert_eq!(own.conversation_text().as_deref(), Some("pears"));
        assert_eq!(reply("(inform :receiver other)").map_err(|refusal| refusal.code()), Err(400));
    }

    #[test]
    fn no_user_defined_parameter_becomes_a_header_of_the_router() {
        for name in [
            "X-nats-Caxton-Sender",
            "Caxton-Sender",
            "caxton-priority",
            "Caxton-Unknown",
            "C:axton-Sender",
            "X-nats-C axton-Sender",
            "Nats-Service-Error",
            "x-NATS-nats-service-error-code",
            "X-nats-Nats-Msg-Id",
            "X-nats-Content-Type",
            "content-type",
            "traceparent",
            "X-nats-",
            " ",
        ] {
            let header = user_header(name);
            assert!(header.starts_with(USER_HEADER), "{name:?} becomes {header:?}");
        }
        // In the JSON form, the names of parameters are free.
        let text = r#"{"performative":"inform","user-defined":[{"name":"Caxton-Sender","string":"forged"}]}"#;
        let limits = json::limits(ContentLimit::default());
        let message = json::from_json(text.as_bytes(), WallTime(0), &limits).expect("it is valid");
        let mut output = Vec::new();
        put_headers(&message, None, Kind::Message, &mut output);
        let written = Headers::read(&output).expect("it is well formed");
        let forged = Some(b"forged".as_slice());
        assert_eq!((written.get("Caxton-Sender"), written.get("X-nats-Caxton-Sender")), (None, forged));
        for (name, header) in [("X-nats-Shop", "Shop"), ("Shop", "Shop"), ("X-Trail", "X-Trail")] {
            assert_eq!(user_header(name), header);
        }
    }

    proptest::proptest! {
        #[test]
        fn every_user_defined_parameter_has_a_header_of_its_own(name in "(X-nats-)?([Cc]axton-|[Nn]ats-)?[ -~é]{0,8}") {
            let header = user_header(&name).to_ascii_lowercase();
            let reserved = ["caxton-", "nats-"].iter().any(|prefix| header.starts_with(prefix));
            proptest::prop_assert!(!reserved && !["", "content-type", "traceparent"].contains(&&*header), "{header}");
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused_with_the_reason() {
        for (lines, reply, payload, reason) in [
            (&[("Caxton-Performative", "two words")][..], false, "", "invalid-header"),
            (&[("Caxton-Priority", "very")], false, "", "invalid-header"),
            (&[("Caxton-Ack", "maybe")], true, "", "invalid-header"),
            (&[("Caxton-Unknown", "x")], false, "", "invalid-header"),
            (&[("Caxton-Reply-By", "soon")], false, "", "invalid-header"),
            (&[("Caxton-Reply-With", "x")], true, "", "invalid-header"),
            (&[("Content-Type", ACL_TEXT)], false, "(inform", "malformed-message"),
            (&[("Content-Type", ACL_TEXT)], false, "(inform :receiver other)", "other-receivers"),
            (&[("Content-Type", ACL_TEXT)], false, "(inform :sender mallory :receiver seller)", "foreign-sender"),
            (&[("a(b", "x")], false, "", "malformed-message"),
        ] {
            let refusal = built(lines, reply, payload).expect_err(payload);
            assert_eq!(refusal.reason.word, reason, "{lines:?} {payload}: {}", refusal.text);
        }
    }
}
