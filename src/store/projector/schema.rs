//! The schema of a shard's database, and its migrations.

use rusqlite::{Connection, TransactionBehavior};

use super::ProjectionError;

/// `PRAGMA application_id` of a shard's database: "CAXT".
pub const APPLICATION_ID: i32 = 0x4341_5854;

/// The migrations from each version to the next: the first from an empty file to version 1.
const MIGRATIONS: [&str; 1] = [VERSION_1];

/// Ids are 16 bytes, big-endian; the views show them as the router prints them, or by name if known.
const VERSION_1: &str = "
CREATE TABLE progress (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    shard INTEGER NOT NULL,
    boot_epoch INTEGER NOT NULL,
    record INTEGER NOT NULL,      -- everything up to this record of the journal is in here
    written_ms INTEGER NOT NULL,  -- when that was so, in milliseconds since 1970
    rebuilds INTEGER NOT NULL,    -- how often everything was written anew
    steps_left_out INTEGER NOT NULL
);
CREATE TABLE names (agent BLOB PRIMARY KEY, name TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE agents (agent BLOB PRIMARY KEY, name TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE capabilities (
    capability TEXT NOT NULL, agent BLOB NOT NULL, PRIMARY KEY (capability, agent)
) WITHOUT ROWID;
CREATE TABLE conversations (
    conversation INTEGER PRIMARY KEY,  -- the record of its first step
    last INTEGER NOT NULL,             -- the record of its last one
    initiator BLOB NOT NULL,
    id BLOB NOT NULL,
    protocol TEXT,
    began_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    steps INTEGER NOT NULL,
    violations INTEGER NOT NULL,
    closed INTEGER NOT NULL
);
CREATE TABLE steps (
    record INTEGER PRIMARY KEY,
    conversation INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    performative TEXT NOT NULL,
    sender BLOB,
    receiver BLOB,
    message BLOB,
    violates INTEGER NOT NULL
);
CREATE TABLE dead_letters (
    shard INTEGER NOT NULL,
    number INTEGER NOT NULL,
    reason TEXT NOT NULL,
    last_error TEXT,
    attempts INTEGER NOT NULL,
    replays INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    sender BLOB,
    receiver BLOB,
    message BLOB,
    acl TEXT NOT NULL,
    PRIMARY KEY (shard, number)
) WITHOUT ROWID;
CREATE TABLE waiting (
    record INTEGER PRIMARY KEY,
    first INTEGER NOT NULL,        -- the record in which it stood first: the order of messages
    message BLOB,
    sender BLOB,
    receiver BLOB,
    deliver_at_ms INTEGER,
    expires_ms INTEGER NOT NULL,
    acl TEXT NOT NULL
);
CREATE VIEW conversation_list AS
    SELECT 'c' || lower(hex(c.id)) AS id, coalesce(n.name, 'a' || lower(hex(c.initiator))) AS initiator, c.protocol,
           c.steps, c.violations, CASE c.closed WHEN 0 THEN 'open' ELSE 'ended' END AS state,
           strftime('%Y-%m-%dT%H:%M:%fZ', c.began_ms / 1000.0, 'unixepoch') AS began,
           strftime('%Y-%m-%dT%H:%M:%fZ', c.last_ms / 1000.0, 'unixepoch') AS last
    FROM conversations c LEFT JOIN names n ON n.agent = c.initiator ORDER BY c.conversation;
CREATE VIEW participants AS
    SELECT 'c' || lower(hex(c.id)) AS id, coalesce(n.name, 'a' || lower(hex(p.agent))) AS participant
    FROM (SELECT conversation, sender AS agent FROM steps WHERE sender IS NOT NULL
          UNION SELECT conversation, receiver FROM steps WHERE receiver IS NOT NULL) p
    JOIN conversations c USING (conversation) LEFT JOIN names n ON n.agent = p.agent ORDER BY c.conversation;
CREATE VIEW history AS
    SELECT 'c' || lower(hex(c.id)) AS id, strftime('%Y-%m-%dT%H:%M:%fZ', s.at_ms / 1000.0, 'unixepoch') AS at, s.performative,
           coalesce(f.name, 'a' || lower(hex(s.sender))) AS sender,
           coalesce(t.name, 'a' || lower(hex(s.receiver))) AS receiver,
           'm' || lower(hex(s.message)) AS message, s.violates
    FROM steps s JOIN conversations c USING (conversation)
    LEFT JOIN names f ON f.agent = s.sender LEFT JOIN names t ON t.agent = s.receiver ORDER BY s.record;
CREATE VIEW dead_letter_list AS
    SELECT 'd' || d.shard || '-' || d.number AS id, d.reason, d.last_error, d.attempts,
           coalesce(t.name, 'a' || lower(hex(d.receiver))) AS receiver,
           strftime('%Y-%m-%dT%H:%M:%fZ', d.last_ms / 1000.0, 'unixepoch') AS at
    FROM dead_letters d LEFT JOIN names t ON t.agent = d.receiver ORDER BY d.shard, d.number;
CREATE VIEW waiting_list AS
    SELECT 'm' || lower(hex(w.message)) AS message, coalesce(t.name, 'a' || lower(hex(w.receiver))) AS receiver,
           strftime('%Y-%m-%dT%H:%M:%fZ', w.deliver_at_ms / 1000.0, 'unixepoch') AS deliver_at,
           strftime('%Y-%m-%dT%H:%M:%fZ', w.expires_ms / 1000.0, 'unixepoch') AS expires
    FROM waiting w LEFT JOIN names t ON t.agent = w.receiver ORDER BY w.first;
";

/// Migrates a database to the newest schema.
///
/// # Errors
///
/// It belongs to another program, or to a newer version.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), ProjectionError> {
    let number =
        |connection: &Connection, pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let (version, application) = (number(connection, "user_version")?, number(connection, "application_id")?);
    let known = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
    if version > known || version < 0 || application != 0 && application != APPLICATION_ID {
        return Err(ProjectionError::Foreign { version, known });
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (migration, version) in MIGRATIONS.iter().zip(1..).skip(usize::try_from(version).unwrap_or(0)) {
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", version)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_database_becomes_the_newest_and_a_foreign_one_is_refused() {
        let mut connection = Connection::open_in_memory().expect("it opens");
        migrate(&mut connection).expect("it is empty");
        migrate(&mut connection).expect("nothing is to be done");
        for view in ["conversation_list", "participants", "history", "dead_letter_list", "waiting_list"] {
            let count = format!("SELECT count(*) FROM {view}");
            let count: i64 = connection.query_row(&count, [], |row| row.get(0)).expect("the view is legal");
            assert_eq!(count, 0, "{view}");
        }
        connection.pragma_update(None, "user_version", 99).expect("it is written");
        let refused = migrate(&mut connection).expect_err("it is newer");
        assert!(refused.to_string().contains("version 99"), "{refused}");
        let mut other = Connection::open_in_memory().expect("it opens");
        other.pragma_update(None, "application_id", 7).expect("it is written");
        migrate(&mut other).expect_err("it is another program's");
    }
}
