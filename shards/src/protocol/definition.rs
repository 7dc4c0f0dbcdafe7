//! Definitions of protocols, and their validation.

use super::Side;
use crate::message::Performative;

/// Maximum number of states of a protocol.
pub const STATES_MAX: usize = 64;
/// Maximum number of steps of a protocol.
pub const STEPS_MAX: usize = 512;
/// Maximum length of the name of a protocol or a state, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// The act of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// This act.
    Is(Performative),
    /// Every act that no other step of the same side from the same state names.
    Any,
}

impl std::fmt::Display for Act {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Is(act) => act.fmt(formatter),
            Self::Any => formatter.write_str("any"),
        }
    }
}

/// Parses an act: one of FIPA SC00037, `any`, or one of `own`, which the protocol's author declares.
///
/// # Errors
///
/// Returns [`DefinitionErrorKind::UnknownAct`].
pub fn act_of_word(word: &str, own: &[String]) -> Result<Act, DefinitionErrorKind> {
    if word == "any" {
        return Ok(Act::Any);
    }
    let act = Performative::standard(word).or_else(|| own.iter().find(|own| *own == word)?.parse().ok());
    act.map(Act::Is).ok_or_else(|| DefinitionErrorKind::UnknownAct { word: shown(word) })
}

/// A step: in the state `from`, the side `by` may send `act`, which leads to the state `to`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepDefinition {
    /// The state before the step.
    pub from: String,
    /// The side that sends the message.
    pub by: Side,
    /// The act of the message.
    pub act: Act,
    /// The state after the step.
    pub to: String,
}

/// A protocol between an initiator and each of its participants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Definition {
    /// The name in the messages' parameter `protocol`.
    pub name: String,
    /// Alternative names.
    pub aliases: Vec<String>,
    /// Where the protocol is defined, for people.
    pub source: String,
    /// The initial state of every exchange.
    pub start: String,
    /// The states in which an exchange may end. They may allow further steps.
    pub ends: Vec<String>,
    /// The steps. The states are those that the steps name.
    pub steps: Vec<StepDefinition>,
    /// Whether agents that the initiator did not address first may write to it, with any act.
    pub others_speak: bool,
}

/// A part of a definition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Site {
    /// The whole definition.
    Protocol,
    /// Its start.
    Start,
    /// One of its ends, by index.
    End(usize),
    /// One of its steps, by index.
    Step(usize),
}

/// An error in a definition.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{kind}")]
pub struct DefinitionError {
    /// The erroneous part.
    pub site: Site,
    /// What is wrong.
    pub kind: DefinitionErrorKind,
}

/// What is wrong with a definition.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DefinitionErrorKind {
    /// A name that cannot be used in messages and reports.
    #[error("{what} {name:?} is not allowed: expected 1 to {NAME_BYTES_MAX} letters, digits, - _ .")]
    Name {
        /// What the name is for.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// There are no steps.
    #[error("the protocol has no steps: expected 1 to {STEPS_MAX}")]
    NoSteps,
    /// There are too many steps.
    #[error("the protocol has {count} steps: the limit is {STEPS_MAX}")]
    TooManySteps {
        /// The number of steps.
        count: usize,
    },
    /// There are too many states.
    #[error("the protocol has {count} states: the limit is {STATES_MAX}")]
    TooManyStates {
        /// The number of states.
        count: usize,
    },
    /// The initiator has no first step.
    #[error("no step of the initiator leaves the start {state:?}: an exchange could not begin")]
    NothingBegins {
        /// The start.
        state: String,
    },
    /// The participant could speak before the initiator did, or the exchange could return to its start.
    #[error("the start {state:?} is left by the initiator and never entered again: this step does something else")]
    StartIsMore {
        /// The start.
        state: String,
    },
    /// No step leads to this state.
    #[error("the state {state:?} cannot be reached from the start")]
    Unreachable {
        /// The state.
        state: String,
    },
    /// No end can be reached from this state.
    #[error("the state {state:?} is a dead end: no step leads from it to one of the ends{}", listed(.ends))]
    DeadEnd {
        /// The state.
        state: String,
        /// The ends.
        ends: Vec<String>,
    },
    /// There are no ends, so the exchange could never end.
    #[error("the protocol has no ends: name at least one state in which an exchange may end")]
    NoEnds,
    /// An end is not a state of any step.
    #[error("no step names the end {state:?}{}", listed(.states))]
    UnknownEnd {
        /// The end.
        state: String,
        /// The states named by steps.
        states: Vec<String>,
    },
    /// The word is not an act.
    #[error(
        "{word:?} is not a performative: expected any, those of FIPA SC00037, and those that the protocol declares in acts"
    )]
    UnknownAct {
        /// The word.
        word: String,
    },
    /// Two steps conflict.
    #[error("in the state {state:?} the {by}'s {act} has two steps, this one and number {first}")]
    Ambiguous {
        /// The state.
        state: String,
        /// The side.
        by: Side,
        /// The act.
        act: String,
        /// The number of the other step, counted from 1.
        first: usize,
    },
}

fn listed(states: &[String]) -> String {
    if states.is_empty() { String::new() } else { format!(" ({})", states.join(", ")) }
}

fn shown(text: &str) -> String {
    text.chars().take(NAME_BYTES_MAX).collect()
}

impl Definition {
    /// Returns the states, the start first, in the order in which the steps name them.
    pub fn states(&self) -> Vec<&str> {
        let mut states = vec![self.start.as_str()];
        for step in &self.steps {
            for state in [step.from.as_str(), step.to.as_str()] {
                if !states.contains(&state) {
                    states.push(state);
                }
            }
        }
        states
    }

    /// Returns all errors; an empty list if the definition is valid.
    pub fn errors(&self) -> Vec<DefinitionError> {
        let mut errors = self.errors_of_names();
        match self.steps.len() {
            0 => errors.push(DefinitionError { site: Site::Protocol, kind: DefinitionErrorKind::NoSteps }),
            count if count > STEPS_MAX => {
                errors
                    .push(DefinitionError { site: Site::Protocol, kind: DefinitionErrorKind::TooManySteps { count } });
            }
            _ => self.add_errors_of_steps(&mut errors),
        }
        errors
    }

    fn errors_of_names(&self) -> Vec<DefinitionError> {
        let mut errors = Vec::new();
        let mut check = |site, what, name: &str| {
            let legal = (1..=NAME_BYTES_MAX).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
            if !legal {
                errors.push(DefinitionError { site, kind: DefinitionErrorKind::Name { what, name: shown(name) } });
            }
        };
        for name in [&self.name].into_iter().chain(&self.aliases) {
            check(Site::Protocol, "the protocol's name", name);
        }
        check(Site::Start, "the state", &self.start);
        for (place, step) in self.steps.iter().enumerate().take(STEPS_MAX) {
            check(Site::Step(place), "the state", &step.from);
            check(Site::Step(place), "the state", &step.to);
        }
        errors
    }

    fn add_errors_of_steps(&self, errors: &mut Vec<DefinitionError>) {
        let mut add = |site, kind| errors.push(DefinitionError { site, kind });
        let states = self.states();
        if states.len() > STATES_MAX {
            return add(Site::Protocol, DefinitionErrorKind::TooManyStates { count: states.len() });
        }
        for (place, step) in self.steps.iter().enumerate() {
            if step.to == self.start || (step.from == self.start && step.by == Side::Participant) {
                add(Site::Step(place), DefinitionErrorKind::StartIsMore { state: self.start.clone() });
            }
            let same = |other: &StepDefinition| (&other.from, other.by, other.act) == (&step.from, step.by, step.act);
            if let Some(first) = self.steps.iter().take(place).position(same) {
                let (state, act) = (step.from.clone(), step.act.to_string());
                add(Site::Step(place), DefinitionErrorKind::Ambiguous { state, by: step.by, act, first: first + 1 });
            }
        }
        if !self.steps.iter().any(|step| step.from == self.start && step.by == Side::Initiator) {
            return add(Site::Start, DefinitionErrorKind::NothingBegins { state: self.start.clone() });
        }
        if self.ends.is_empty() {
            return add(Site::Protocol, DefinitionErrorKind::NoEnds);
        }
        for (place, end) in self.ends.iter().enumerate() {
            if !states.contains(&end.as_str()) {
                let states = states.iter().map(|state| (*state).to_owned()).collect();
                add(Site::End(place), DefinitionErrorKind::UnknownEnd { state: shown(end), states });
            }
        }
        let reached = closure([self.start.as_str()], |state| {
            self.steps.iter().filter(move |step| step.from == state).map(|step| step.to.as_str())
        });
        let ending = closure(self.ends.iter().map(String::as_str), |state| {
            self.steps.iter().filter(move |step| step.to == state).map(|step| step.from.as_str())
        });
        for state in states {
            let site = self.steps.iter().position(|step| step.from == state || step.to == state);
            let site = site.map_or(Site::Protocol, Site::Step);
            if !reached.contains(&state) {
                add(site, DefinitionErrorKind::Unreachable { state: state.to_owned() });
            } else if !ending.contains(&state) {
                add(site, DefinitionErrorKind::DeadEnd { state: state.to_owned(), ends: self.ends.clone() });
            }
        }
    }
}

/// Returns everything reachable from some states, including these.
fn closure<'a, Next: Iterator<Item = &'a str>>(
    from: impl IntoIterator<Item = &'a str>,
    next: impl Fn(&'a str) -> Next,
) -> Vec<&'a str> {
    let mut reached: Vec<&str> = from.into_iter().collect();
    let mut looked_at = 0;
    while let Some(state) = reached.get(looked_at).copied() {
        looked_at += 1;
        for state in next(state) {
            if !reached.contains(&state) {
                reached.push(state);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Performative::{Agree, Inform, Request};

    fn step(from: &str, by: Side, act: Act, to: &str) -> StepDefinition {
        StepDefinition { from: from.to_owned(), by, act, to: to.to_owned() }
    }

    fn definition() -> Definition {
        Definition {
            name: "house".to_owned(),
            aliases: Vec::new(),
            source: "here".to_owned(),
            start: "start".to_owned(),
            ends: vec!["done".to_owned()],
            steps: vec![
                step("start", Side::Initiator, Act::Is(Request), "asked"),
                step("asked", Side::Participant, Act::Is(Inform), "done"),
            ],
            others_speak: false,
        }
    }

    /// Returns the errors of the definition after a change.
    fn errors(change: impl FnOnce(&mut Definition)) -> Vec<DefinitionError> {
        let mut changed = definition();
        change(&mut changed);
        changed.errors()
    }

    #[test]
    fn the_library_has_no_flaws() {
        for definition in super::super::library() {
            assert_eq!(definition.errors(), [], "{}", definition.name);
        }
        assert_eq!(definition().errors(), []);
    }

    #[test]
    fn each_mistake_is_found_where_it_is() {
        let named = |text: &str| text.to_owned();
        let agree = Act::Is(Agree);
        let cases: Vec<(Vec<DefinitionError>, Site, DefinitionErrorKind)> = vec![
            (errors(|it| it.steps.clear()), Site::Protocol, DefinitionErrorKind::NoSteps),
            (errors(|it| it.ends.clear()), Site::Protocol, DefinitionErrorKind::NoEnds),
            (
                errors(|it| it.steps.push(step("nowhere", Side::Participant, agree, "done"))),
                Site::Step(2),
                DefinitionErrorKind::Unreachable { state: named("nowhere") },
            ),
            (
                errors(|it| it.steps.push(step("asked", Side::Participant, agree, "stuck"))),
                Site::Step(2),
                DefinitionErrorKind::DeadEnd { state: named("stuck"), ends: vec![named("done")] },
            ),
            (
                errors(|it| it.steps.push(step("asked", Side::Participant, Act::Is(Inform), "asked"))),
                Site::Step(2),
                DefinitionErrorKind::Ambiguous {
                    state: named("asked"),
                    by: Side::Participant,
                    act: named("inform"),
                    first: 2,
                },
            ),
            (
                errors(|it| it.steps.push(step("start", Side::Participant, agree, "asked"))),
                Site::Step(2),
                DefinitionErrorKind::StartIsMore { state: named("start") },
            ),
            (
                errors(|it| it.steps.push(step("asked", Side::Participant, agree, "start"))),
                Site::Step(2),
                DefinitionErrorKind::StartIsMore { state: named("start") },
            ),
            (
                errors(|it| it.steps[0].by = Side::Participant),
                Site::Start,
                DefinitionErrorKind::NothingBegins { state: named("start") },
            ),
            (
                errors(|it| it.ends.push(named("gone"))),
                Site::End(1),
                DefinitionErrorKind::UnknownEnd {
                    state: named("gone"),
                    states: ["start", "asked", "done"].map(named).to_vec(),
                },
            ),
            (
                errors(|it| it.name = named("two words")),
                Site::Protocol,
                DefinitionErrorKind::Name { what: "the protocol's name", name: named("two words") },
            ),
            (
                errors(|it| it.start.clear()),
                Site::Start,
                DefinitionErrorKind::Name { what: "the state", name: String::new() },
            ),
        ];
        for (found, site, fault) in cases {
            assert!(found.contains(&DefinitionError { site, kind: fault.clone() }), "{fault:?}: {found:?}");
        }
    }

    #[test]
    fn size_is_limited() {
        let chain = |length: usize| {
            errors(|it| {
                let state = |number: usize| if number == 0 { "start".to_owned() } else { format!("s{number}") };
                let link = |number| step(&state(number), Side::Initiator, Act::Is(Inform), &state(number + 1));
                it.steps = (0..length).map(link).collect();
                it.ends = vec![state(length)];
            })
        };
        assert_eq!(chain(STATES_MAX - 1), []);
        assert_eq!(chain(STATES_MAX)[0].kind, DefinitionErrorKind::TooManyStates { count: STATES_MAX + 1 });
        assert_eq!(chain(STEPS_MAX + 1)[0].kind, DefinitionErrorKind::TooManySteps { count: STEPS_MAX + 1 });
    }

    #[test]
    fn an_act_is_of_the_library_or_declared() {
        let own = ["x-haggle".to_owned()];
        assert_eq!(act_of_word("CFP", &own), Ok(Act::Is(Performative::Cfp)));
        assert_eq!(act_of_word("any", &own), Ok(Act::Any));
        assert!(matches!(act_of_word("x-haggle", &own), Ok(Act::Is(Performative::UserDefined(_)))));
        assert_eq!(act_of_word("reqeust", &own), Err(DefinitionErrorKind::UnknownAct { word: "reqeust".to_owned() }));
    }
}
