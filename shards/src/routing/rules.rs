//! Content-based routing: rules that choose the receiver of messages that name no agent.
//!
//! Rules are tried in order and the first match decides. They apply to messages without a receiver and to messages that
//! address a capability; a message to a named agent goes to that agent, whatever the rules say.

use crate::message::{AgentId, Choice, Message, Performative, Receiver, Term};

/// Maximum number of rules of a router: they are tried one after the other.
pub const RULES_MAX: usize = 1_024;

/// The conditions of a rule. Every message satisfies an absent condition.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Conditions {
    /// The message's act.
    pub performative: Option<Performative>,
    /// Its interaction protocol.
    pub protocol: Option<Term>,
    /// Its ontology.
    pub ontology: Option<Term>,
    /// The language of its content.
    pub language: Option<Term>,
    /// The capability that it addresses.
    pub capability: Option<Term>,
    /// A prefix of its content.
    pub content_prefix: Option<Box<[u8]>>,
    /// The minimum size of its content, in bytes.
    pub content_bytes_min: Option<usize>,
    /// The maximum size of its content, in bytes.
    pub content_bytes_max: Option<usize>,
}

/// Where a rule sends a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Destination {
    /// To an agent.
    Agent(AgentId),
    /// To providers of a capability.
    Capability(Term, Choice),
}

/// A condition and a destination.
#[derive(Clone, PartialEq, Debug)]
pub struct Rule {
    /// Which messages the rule applies to.
    pub conditions: Conditions,
    /// Where they are sent.
    pub destination: Destination,
}

impl Conditions {
    /// Whether the message satisfies all conditions. The cheap comparisons come first.
    pub fn match_message(&self, message: &Message) -> bool {
        let same = |wanted: Option<Term>, found: Option<Term>| wanted.is_none() || wanted == found;
        let capability = match message.receiver() {
            Receiver::Capability(term, _) => Some(*term),
            _ => None,
        };
        let bytes = message.content().len();
        self.performative.is_none_or(|wanted| wanted == message.performative())
            && (same(self.protocol, message.protocol_term()) || self.names_in_another_spelling(message))
            && same(self.ontology, message.ontology_term())
            && same(self.language, message.language_term())
            && same(self.capability, capability)
            && self.content_bytes_min.is_none_or(|fewest| bytes >= fewest)
            && self.content_bytes_max.is_none_or(|most| bytes <= most)
            && self.content_prefix.as_deref().is_none_or(|prefix| message.content().as_bytes().starts_with(prefix))
    }

    /// Whether the message names the protocol in a different case. Protocol names are case-insensitive.
    #[cold]
    fn names_in_another_spelling(&self, message: &Message) -> bool {
        let (Some(wanted), Some(named)) = (self.protocol, message.protocol()) else { return false };
        wanted.as_str().eq_ignore_ascii_case(named)
    }
}

/// Returns the destination of the first matching rule.
pub(crate) fn first_match(rules: &[Rule], message: &Message) -> Option<Receiver> {
    rules.iter().find(|rule| rule.conditions.match_message(message)).map(|rule| match rule.destination {
        Destination::Agent(agent) => Receiver::Agent(agent),
        Destination::Capability(capability, choice) => Receiver::Capability(capability, choice),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message::builder(Performative::Request)
            .protocol("fipa-request")
            .ontology("trading")
            .language("fipa-sl0")
            .capability_term(Term::of("quotes").unwrap(), Choice::Any)
            .content("price of tea")
            .build()
            .unwrap()
    }

    fn conditions(change: impl FnOnce(&mut Conditions)) -> Conditions {
        let mut conditions = Conditions::default();
        change(&mut conditions);
        conditions
    }

    #[test]
    fn each_condition_can_match_and_can_refuse() {
        let cases: [(&str, Conditions, bool); 18] = [
            ("nothing asked", Conditions::default(), true),
            ("performative", conditions(|c| c.performative = Some(Performative::Request)), true),
            ("performative", conditions(|c| c.performative = Some(Performative::Inform)), false),
            ("protocol", conditions(|c| c.protocol = Term::of("fipa-request")), true),
            ("protocol", conditions(|c| c.protocol = Term::of("FIPA-Request")), true),
            ("protocol", conditions(|c| c.protocol = Term::of("fipa-query")), false),
            ("ontology", conditions(|c| c.ontology = Term::of("trading")), true),
            ("ontology", conditions(|c| c.ontology = Term::of("other")), false),
            ("language", conditions(|c| c.language = Term::of("fipa-sl0")), true),
            ("language", conditions(|c| c.language = Term::of("json")), false),
            ("capability", conditions(|c| c.capability = Term::of("quotes")), true),
            ("capability", conditions(|c| c.capability = Term::of("orders")), false),
            ("prefix", conditions(|c| c.content_prefix = Some((*b"price").into())), true),
            ("prefix", conditions(|c| c.content_prefix = Some((*b"cost").into())), false),
            ("at least", conditions(|c| c.content_bytes_min = Some(12)), true),
            ("at least", conditions(|c| c.content_bytes_min = Some(13)), false),
            ("at most", conditions(|c| c.content_bytes_max = Some(12)), true),
            ("at most", conditions(|c| c.content_bytes_max = Some(11)), false),
        ];
        for (name, conditions, expected) in cases {
            assert_eq!(conditions.match_message(&message()), expected, "{name}: {conditions:?}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let [first, second] = ["a", "b"].map(AgentId::of_text);
        let rule = |performative, agent| Rule {
            conditions: conditions(|c| c.performative = Some(performative)),
            destination: Destination::Agent(agent),
        };
        let rules = [rule(Performative::Inform, second), rule(Performative::Request, first)];
        assert_eq!(first_match(&rules, &message()), Some(Receiver::Agent(first)));
        assert_eq!(first_match(&rules[..1], &message()), None);
    }
}
