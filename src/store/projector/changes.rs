//! Changes to a shard's database: gathered in memory, where short-lived entries disappear again, and then written in
//! one transaction.

use std::collections::{BTreeMap, BTreeSet};

use super::RECORDS_PER_TURN;
use caxton_shards::codec::text::{self, NoNames};
use caxton_shards::dead_letter::{DeadLetter, DeadLetterId};
use caxton_shards::journal::record::{
    ConversationStep, DurableMessage, Lsn, PersistentAgent, Projects, Record, RecordClass, RecordKind, receiver_name,
};
use caxton_shards::message::{AgentId, ConversationId, Message};
use hashbrown::{HashMap, HashSet};
use rusqlite::{CachedStatement, Transaction, params};

/// Maximum number of names kept. Beyond it they are learnt and written again.
const NAMES_MAX: usize = 262_144;

/// The names of agents, from the records of all shards.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_agent: HashMap<AgentId, Box<str>>,
    known: HashSet<Box<str>>,
    /// Agents whose names were learnt since they were last taken.
    fresh: Vec<AgentId>,
}

impl Names {
    fn learn(&mut self, name: &str) {
        if name.is_empty() || self.known.contains(name) {
            return;
        }
        if self.known.len() >= NAMES_MAX {
            *self = Self::default();
        }
        self.known.insert(name.into());
        let agent = AgentId::of_text(name);
        self.by_agent.insert(agent, name.into());
        self.fresh.push(agent);
    }

    /// Takes the agents whose names were learnt since the last call.
    pub fn take_fresh(&mut self) -> Vec<AgentId> {
        std::mem::take(&mut self.fresh)
    }
}

/// A conversation's row.
#[derive(Clone, Debug)]
struct Exchange {
    /// The records of its first and last step.
    first: u64,
    last: u64,
    initiator: AgentId,
    id: ConversationId,
    protocol: Option<Box<str>>,
    began_ms: u64,
    last_ms: u64,
    steps: u64,
    violations: u64,
    closed: bool,
}

/// The row of a conversation step.
#[derive(Debug)]
struct Step {
    record: u64,
    conversation: u64,
    at_ms: u64,
    performative: &'static str,
    sender: Option<[u8; 16]>,
    receiver: Option<[u8; 16]>,
    message: Option<[u8; 16]>,
    violates: bool,
}

/// The changes to be written to the database, and the state needed for that.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Waiting messages, by their records; `None` for those that no longer wait.
    waiting: BTreeMap<u64, Option<DurableMessage>>,
    letters: BTreeMap<DeadLetterId, Option<Box<DeadLetter>>>,
    agents: HashMap<AgentId, Option<PersistentAgent>>,
    steps: Vec<Step>,
    /// Conversations of this batch that have ended.
    ended: Vec<Exchange>,
    changed: BTreeSet<(AgentId, ConversationId)>,
    /// Agents that rows refer to and whose names are not written yet.
    unnamed: HashSet<AgentId>,
    /// Across batches: the open conversations.
    open: HashMap<(AgentId, ConversationId), Exchange>,
    /// Across batches: the letters with rows, and the agents with names.
    letters_written: HashSet<DeadLetterId>,
    named: HashSet<AgentId>,
}

fn bytes(id: u128) -> [u8; 16] {
    id.to_be_bytes()
}

/// Converts a number to SQLite's type: none here comes near the limit.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn acl(message: &Message) -> String {
    let mut output = Vec::new();
    text::print(message, &NoNames, &mut output);
    String::from_utf8_lossy(&output).into_owned()
}

impl Changes {
    /// Returns the number of gathered rows.
    pub fn rows(&self) -> usize {
        self.steps.len() + self.waiting.len() + self.letters.len() + self.agents.len() + self.ended.len()
    }

    /// Forgets everything, because the database is rebuilt.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Adds a record. Conversation steps are skipped unless they are wanted.
    ///
    /// # Errors
    ///
    /// The record is not in this version's format.
    pub fn take(
        &mut self,
        sequence: Lsn,
        (kind, body): (u8, &[u8]),
        steps: bool,
        names: &mut Names,
    ) -> Result<(), String> {
        match RecordClass::of(kind, body).projects {
            Projects::State => {}
            Projects::History if steps => {}
            _ => {
                if RecordKind::of(kind) == Some(RecordKind::Message)
                    && let Some(name) = receiver_name(body)
                {
                    names.learn(name);
                }
                return Ok(());
            }
        }
        match Record::read(kind, body).map_err(|fault| fault.to_string())? {
            Record::Message(kept) => {
                names.learn(&kept.receiver_name);
                self.speak_of(&kept.message);
                if let Some(replaced) = kept.replaces {
                    self.no_longer_waits(replaced.0);
                }
                self.waiting.insert(sequence.0, Some(kept));
            }
            Record::Settled(message, _) => self.no_longer_waits(message.0),
            Record::DeadLetter(letter, replaces) => {
                if let Some(replaced) = replaces {
                    self.no_longer_waits(replaced.0);
                }
                self.speak_of(&letter.message);
                self.letters.insert(letter.id, Some(letter));
            }
            Record::DeadLetterGone(id, _) => {
                if self.letters_written.contains(&id) {
                    self.letters.insert(id, None);
                } else {
                    self.letters.remove(&id);
                }
            }
            Record::Agent(agent, _) => {
                names.learn(agent.name.as_ref());
                let id = AgentId::of(&agent.name);
                self.unnamed.insert(id);
                self.agents.insert(id, Some(agent));
            }
            Record::AgentGone(agent, _) => {
                self.agents.insert(agent, None);
            }
            Record::ConversationStep(step) => self.step(sequence.0, &step, names),
            Record::ConversationClosed(initiator, id) => {
                if let Some(mut exchange) = self.open.remove(&(initiator, id)) {
                    exchange.closed = true;
                    self.changed.remove(&(initiator, id));
                    self.ended.push(exchange);
                }
            }
            Record::Handled(_) | Record::Seen(_) | Record::Attempts(..) | Record::Withdrawn(_) => {}
        }
        Ok(())
    }

    /// Records that the names of a message's sender and receiver are wanted.
    fn speak_of(&mut self, message: &Message) {
        for agent in [message.sender(), message.target()].into_iter().flatten() {
            if !self.named.contains(&agent) && self.unnamed.len() < NAMES_MAX {
                self.unnamed.insert(agent);
            }
        }
    }

    fn no_longer_waits(&mut self, record: u64) {
        // A row that was not written yet is simply dropped.
        if self.waiting.remove(&record).is_none() {
            self.waiting.insert(record, None);
        }
    }

    fn step(&mut self, record: u64, step: &ConversationStep, names: &mut Names) {
        let message = &step.message;
        let Some(id) = message.conversation() else { return };
        names.learn(&step.initiator_name);
        self.speak_of(message);
        if let Some(details) = message.details() {
            details.sender.iter().chain(&details.receivers).for_each(|aid| names.learn(aid.name.as_ref()));
        }
        let key = (step.initiator, id);
        let exchange = self.open.entry(key).or_insert_with(|| Exchange {
            first: record,
            last: record,
            initiator: step.initiator,
            id,
            protocol: None,
            began_ms: step.at.0,
            last_ms: step.at.0,
            steps: 0,
            violations: 0,
            closed: false,
        });
        exchange.last = record;
        exchange.last_ms = step.at.0;
        exchange.steps += 1;
        exchange.violations += u64::from(step.violates);
        if exchange.protocol.is_none() {
            exchange.protocol = message.protocol().map(Box::from);
        }
        self.steps.push(Step {
            record,
            conversation: exchange.first,
            at_ms: step.at.0,
            performative: message.performative().as_str(),
            sender: message.sender().map(|agent| bytes(agent.to_u128())),
            receiver: message.target().map(|agent| bytes(agent.to_u128())),
            message: message.id().map(|id| bytes(id.to_u128())),
            violates: step.violates,
        });
        self.changed.insert(key);
    }

    /// Writes the rows, and keeps only what later batches need. If the transaction fails, the database has to be
    /// rebuilt.
    pub fn write(&mut self, transaction: &Transaction<'_>, names: &Names) -> rusqlite::Result<()> {
        self.write_names(transaction, names)?;
        self.write_agents(transaction)?;
        self.write_conversations(transaction)?;
        self.write_letters(transaction)?;
        let mut insert = transaction.prepare_cached(
            "INSERT OR REPLACE INTO waiting (record, first, message, sender, receiver, deliver_at_ms, expires_ms, acl)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        let mut remove = transaction.prepare_cached("DELETE FROM waiting WHERE record = ?1")?;
        for (record, kept) in std::mem::take(&mut self.waiting) {
            let Some(kept) = kept else {
                remove.execute([number(record)])?;
                continue;
            };
            let message = &kept.message;
            let deliver_at = message.details().and_then(|details| details.deliver_at);
            insert.execute(params![
                number(record),
                number(kept.first.map_or(record, |first| first.0)),
                message.id().map(|id| bytes(id.to_u128())),
                message.sender().map(|agent| bytes(agent.to_u128())),
                message.target().map(|agent| bytes(agent.to_u128())),
                deliver_at.map(|moment| number(moment.0)),
                number(kept.expires.0),
                acl(message),
            ])?;
        }
        Ok(())
    }

    /// Whether written rows refer to one of these agents, whose name was not known then.
    pub fn await_name_of(&self, agents: &[AgentId]) -> bool {
        agents.iter().any(|agent| self.unnamed.contains(agent))
    }

    /// Records that the names of these agents were not written after all.
    pub fn unname(&mut self, agents: &[AgentId]) {
        for agent in agents {
            if self.named.remove(agent) {
                self.unnamed.insert(*agent);
            }
        }
    }

    /// Writes the names known by now.
    pub fn write_names(&mut self, transaction: &Transaction<'_>, names: &Names) -> rusqlite::Result<()> {
        let mut insert = transaction.prepare_cached("INSERT OR REPLACE INTO names (agent, name) VALUES (?1, ?2)")?;
        if self.named.len() >= NAMES_MAX {
            self.named.clear();
        }
        let known = self.unnamed.iter().filter_map(|agent| names.by_agent.get(agent).map(|name| (*agent, name)));
        for (agent, name) in known {
            insert.execute(params![bytes(agent.to_u128()), name])?;
            self.named.insert(agent);
        }
        // A name that is not known yet may be learnt from another shard's records.
        let written = &self.named;
        self.unnamed.retain(|agent| !written.contains(agent));
        Ok(())
    }

    fn write_agents(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        if self.agents.is_empty() {
            return Ok(());
        }
        let mut insert = transaction.prepare_cached("INSERT OR REPLACE INTO agents (agent, name) VALUES (?1, ?2)")?;
        let mut offer =
            transaction.prepare_cached("INSERT OR IGNORE INTO capabilities (capability, agent) VALUES (?1, ?2)")?;
        let mut withdraw = transaction.prepare_cached("DELETE FROM capabilities WHERE agent = ?1")?;
        let mut remove = transaction.prepare_cached("DELETE FROM agents WHERE agent = ?1")?;
        for (agent, kept) in self.agents.drain() {
            let agent = bytes(agent.to_u128());
            withdraw.execute([agent])?;
            let Some(kept) = kept else {
                remove.execute([agent])?;
                continue;
            };
            insert.execute(params![agent, kept.name.as_ref()])?;
            for capability in kept.capabilities {
                offer.execute(params![capability, agent])?;
            }
        }
        Ok(())
    }

    fn write_conversations(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO steps (record, conversation, at_ms, performative, sender, receiver, message, violates)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        for step in self.steps.drain(..) {
            if step.record.is_multiple_of(RECORDS_PER_TURN) {
                std::thread::yield_now();
            }
            insert.execute(params![
                number(step.record),
                number(step.conversation),
                number(step.at_ms),
                step.performative,
                step.sender,
                step.receiver,
                step.message,
                step.violates,
            ])?;
        }
        let mut insert = transaction.prepare_cached(
            "INSERT OR REPLACE INTO conversations
             (conversation, last, initiator, id, protocol, began_ms, last_ms, steps, violations, closed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?;
        for exchange in self.ended.drain(..) {
            std::thread::yield_now();
            write_exchange(&mut insert, &exchange)?;
        }
        for key in std::mem::take(&mut self.changed) {
            if let Some(exchange) = self.open.get(&key) {
                write_exchange(&mut insert, exchange)?;
            }
        }
        Ok(())
    }

    fn write_letters(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut insert = transaction.prepare_cached(
            "INSERT OR REPLACE INTO dead_letters (shard, number, reason, last_error, attempts, replays, first_ms, last_ms,
             sender, receiver, message, acl) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?;
        let mut remove = transaction.prepare_cached("DELETE FROM dead_letters WHERE shard = ?1 AND number = ?2")?;
        for (id, letter) in std::mem::take(&mut self.letters) {
            let Some(letter) = letter else {
                remove.execute(params![id.shard.0, number(id.number)])?;
                self.letters_written.remove(&id);
                continue;
            };
            self.letters_written.insert(id);
            let message = &letter.message;
            insert.execute(params![
                id.shard.0,
                number(id.number),
                letter.reason.as_str(),
                letter.last_error.as_deref(),
                letter.attempts,
                letter.replays,
                number(letter.first.0),
                number(letter.last.0),
                message.sender().map(|agent| bytes(agent.to_u128())),
                message.target().map(|agent| bytes(agent.to_u128())),
                message.id().map(|id| bytes(id.to_u128())),
                acl(message),
            ])?;
        }
        Ok(())
    }

    /// Removes the steps beyond the newest `kept` ones, and conversations without any left.
    pub fn prune(&mut self, transaction: &Transaction<'_>, kept: u64) -> rusqlite::Result<()> {
        let cutoff = transaction
            .prepare_cached("SELECT record FROM steps ORDER BY record DESC LIMIT 1 OFFSET ?1")?
            .query_row([number(kept)], |row| row.get::<_, i64>(0));
        let cutoff = match cutoff {
            Ok(cutoff) => cutoff,
            Err(rusqlite::Error::QueryReturnedNoRows) => return Ok(()),
            Err(error) => return Err(error),
        };
        transaction.prepare_cached("DELETE FROM steps WHERE record <= ?1")?.execute([cutoff])?;
        transaction.prepare_cached("DELETE FROM conversations WHERE last <= ?1")?.execute([cutoff])?;
        self.open.retain(|_, exchange| number(exchange.last) > cutoff);
        Ok(())
    }
}

fn write_exchange(insert: &mut CachedStatement<'_>, exchange: &Exchange) -> rusqlite::Result<()> {
    insert.execute(params![
        number(exchange.first),
        number(exchange.last),
        bytes(exchange.initiator.to_u128()),
        bytes(exchange.id.to_u128()),
        exchange.protocol,
        number(exchange.began_ms),
        number(exchange.last_ms),
        number(exchange.steps),
        number(exchange.violations),
        exchange.closed,
    ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::store::projector::schema;

    #[test]
    fn a_name_that_another_shard_tells_later_is_written_then() {
        let mut connection = Connection::open_in_memory().expect("memory can be had");
        schema::migrate(&mut connection).expect("the tables are made");
        let (mut changes, mut names) = (Changes::default(), Names::default());
        let agent = AgentId::of_text("late");
        changes.unnamed.insert(agent);
        let mut write = |changes: &mut Changes, names: &Names| {
            let transaction = connection.transaction().expect("nobody else writes");
            changes.write_names(&transaction, names).expect("the rows fit");
            transaction.commit().expect("nothing is in the way");
            connection
                .query_row("SELECT count(*) FROM names", [], |row| row.get::<_, u64>(0))
                .expect("the table is there")
        };
        assert_eq!(write(&mut changes, &names), 0);
        assert!(!changes.await_name_of(&names.take_fresh()));
        names.learn("late");
        let fresh = names.take_fresh();
        assert!(changes.await_name_of(&fresh));
        assert_eq!(write(&mut changes, &names), 1);
        assert!(!changes.await_name_of(&fresh), "once is enough");
        changes.unname(&fresh);
        assert!(changes.await_name_of(&fresh), "what was not committed is awaited again");
    }
}
