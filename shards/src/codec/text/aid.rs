//! Agent identifiers in their string form: `(agent-identifier :name x :addresses (sequence ...) ...)`.

use super::error::{ParseErrorKind, Refusal};
use super::lexer::Read;
use super::parse::{Reader, check_user_parameters};
use crate::domain::AgentName;
use crate::message::{AID_DEPTH_MAX, AID_ENTRIES_MAX, Aid, RECEIVERS_MAX, UserParameter};

impl Reader<'_> {
    /// Reads the single identifier that is the value of `parameter`.
    pub fn sender(&mut self) -> Read<Aid> {
        self.lexer.skip_space();
        self.aid("sender", 1)
    }

    /// Reads the set of identifiers that is the value of `parameter`.
    pub fn aids(&mut self, parameter: &'static str) -> Read<Vec<Aid>> {
        self.collection("agents", RECEIVERS_MAX, |reader| reader.aid(parameter, 1))
    }

    /// Reads an identifier, or a bare name instead of one.
    fn aid(&mut self, parameter: &'static str, depth: usize) -> Read<Aid> {
        let offset = self.lexer.position();
        let too_many =
            || Refusal::new(offset, ParseErrorKind::TooMany { what: "agent identifiers", limit: self.aids_max });
        self.aids_left = self.aids_left.checked_sub(1).ok_or_else(too_many)?;
        if depth > AID_DEPTH_MAX {
            let fault = ParseErrorKind::NestedTooDeep { what: "resolvers", limit: AID_DEPTH_MAX };
            return Err(Refusal::new(offset, fault));
        }
        if self.lexer.peek() != Some(b'(') {
            let (offset, name) = self.lexer.text(parameter)?;
            return Ok(Aid::new(agent_name(offset, &name)?));
        }
        self.lexer.open("an agent-identifier")?;
        self.lexer.skip_space();
        let behind = self.lexer.mark();
        if !self.lexer.head().eq_ignore_ascii_case(b"agent-identifier") {
            self.lexer.rewind(behind);
            return Err(self.lexer.expected("agent-identifier"));
        }
        self.identifier(depth)
    }

    /// Reads what follows the word `agent-identifier`, including the closing parenthesis.
    fn identifier(&mut self, depth: usize) -> Read<Aid> {
        let mut name = None;
        let mut addresses = None;
        let mut resolvers = None;
        let mut user_parameters: Vec<UserParameter> = Vec::new();
        loop {
            self.lexer.skip_space();
            let offset = self.lexer.position();
            match self.lexer.peek() {
                Some(b':') => self.lexer.step(),
                Some(b')') => {
                    let expected = "the parameter :name, which every agent-identifier has";
                    let name = name.ok_or_else(|| self.lexer.expected(expected))?;
                    self.lexer.close();
                    let (addresses, resolvers) = (addresses.unwrap_or_default(), resolvers.unwrap_or_default());
                    return Ok(Aid { name, addresses, resolvers, user_parameters });
                }
                _ => return Err(self.lexer.expected("a parameter name such as :name, or )")),
            }
            let word = self.lexer.name();
            let is = |known: &str| word.eq_ignore_ascii_case(known.as_bytes());
            let repeated = |name| Err(Refusal::new(offset, ParseErrorKind::RepeatedParameter { name }));
            if is("name") {
                let (place, text) = self.lexer.text("name")?;
                if name.replace(agent_name(place, &text)?).is_some() {
                    return repeated("name");
                }
            } else if is("addresses") {
                let read = self.collection("addresses", AID_ENTRIES_MAX, Self::address)?;
                if addresses.replace(read).is_some() {
                    return repeated("addresses");
                }
            } else if is("resolvers") {
                let read =
                    self.collection("resolvers", AID_ENTRIES_MAX, |reader| reader.aid("resolvers", depth + 1))?;
                if resolvers.replace(read).is_some() {
                    return repeated("resolvers");
                }
            } else {
                check_user_parameters(offset, &user_parameters)?;
                user_parameters.push(self.user_parameter(offset, word)?);
            }
        }
    }

    fn address(&mut self) -> Read<Box<str>> {
        if self.lexer.peek() == Some(b'(') {
            return Err(self.lexer.expected("an address"));
        }
        self.lexer.text("addresses").map(|(_, address)| address.into())
    }

    /// Reads a set or a sequence, or a single element without either.
    fn collection<T>(
        &mut self,
        elements: &'static str,
        count_max: usize,
        mut element: impl FnMut(&mut Self) -> Read<T>,
    ) -> Read<Vec<T>> {
        self.lexer.skip_space();
        let start = self.lexer.mark();
        let opens = self.lexer.peek() == Some(b'(');
        if opens {
            self.lexer.open("a set")?;
        }
        let head = if opens { self.lexer.head() } else { b"" };
        if !head.eq_ignore_ascii_case(b"set") && !head.eq_ignore_ascii_case(b"sequence") {
            self.lexer.rewind(start);
            return Ok(vec![element(self)?]);
        }
        let mut read = Vec::new();
        loop {
            self.lexer.skip_space();
            if self.lexer.close() {
                return Ok(read);
            }
            if read.len() == count_max {
                let fault = ParseErrorKind::TooMany { what: elements, limit: count_max };
                return Err(Refusal::new(self.lexer.position(), fault));
            }
            read.push(element(self)?);
        }
    }
}

fn agent_name(offset: usize, name: &str) -> Read<AgentName> {
    AgentName::try_new(name).map_err(|error| Refusal::new(offset, ParseErrorKind::Refused(error)))
}
