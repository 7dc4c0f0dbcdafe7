//! SQLite on the VFS that writes through `io_uring`: other processes see whole transactions, and what was committed
//! survives a power cut. `CAXTON_CRASH_SEEDS=0..20000` selects other seeds than the usual ones.
#![allow(clippy::unwrap_used)] // Tests fail by panicking.

use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};

use caxton_router::sim::Dice;
use caxton_router::store::vfs::recording::{Faults, FileKind, Image, Recording};
use caxton_router::store::vfs::{URING, register};
use rusqlite::{Connection, ErrorCode, OpenFlags, params};

const SEEDS: Range<u64> = 0..500;
/// Names the database that a child reads.
const READER: &str = "CAXTON_VFS_READER";

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("CAXTON_CRASH_SEEDS") else { return SEEDS };
    let (first, end) = text.split_once("..").expect("CAXTON_CRASH_SEEDS is a range such as 0..20000");
    first.parse().expect("a number")..end.parse().expect("a number")
}

fn open(path: &Path, vfs: &str) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let connection = Connection::open_with_flags_and_vfs(path, flags, vfs).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    connection.pragma_update(None, "synchronous", "full").unwrap();
    connection
}

const SCHEMA: &str = "CREATE TABLE progress (one INTEGER PRIMARY KEY, done INTEGER);
    INSERT INTO progress VALUES (1, 0);
    CREATE TABLE rows (id INTEGER PRIMARY KEY, transaction_number INTEGER, body BLOB);
    CREATE INDEX by_transaction ON rows (transaction_number);";

/// Runs one transaction: some rows inserted, some deleted, and the count of transactions.
fn transact(connection: &mut Connection, number: u64, dice: &mut Dice) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for _ in 0..dice.between(1, 12) {
        let body = vec![u8::try_from(number % 251).unwrap(); dice.index(3_000)];
        transaction.execute("INSERT INTO rows (transaction_number, body) VALUES (?1, ?2)", params![number, body])?;
    }
    if dice.once_in(3) {
        transaction.execute("DELETE FROM rows WHERE transaction_number = ?1", [dice.below(number + 1)])?;
    }
    // Reveals a transaction that is only partially present.
    transaction.execute("INSERT INTO rows (transaction_number, body) VALUES (?1, NULL)", [number])?;
    transaction.execute("UPDATE progress SET done = ?1", [number])?;
    transaction.commit()
}

fn integrity(connection: &Connection) -> String {
    connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap_or_else(|error| error.to_string())
}

#[test]
fn another_process_sees_whole_transactions_while_they_are_written() {
    if let Ok(path) = std::env::var(READER) {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
        let mut last = 0;
        while last < 400 {
            let sql =
                "SELECT done, (SELECT coalesce(max(transaction_number), 0) FROM rows WHERE body IS NULL) FROM progress";
            let (done, newest): (u64, u64) =
                connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            assert_eq!(done, newest, "a transaction is there in parts");
            assert!(done >= last, "transaction {last} has gone");
            last = done;
        }
        assert_eq!(integrity(&connection), "ok");
        return;
    }
    register().unwrap();
    register().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let mut connection = open(&path, URING);
    connection.pragma_update(None, "wal_autocheckpoint", 50).unwrap();
    connection.execute_batch(SCHEMA).unwrap();
    let reader = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "another_process_sees_whole_transactions_while_they_are_written"])
        .env(READER, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut dice = Dice::new(1);
    for number in 1..=400 {
        transact(&mut connection, number, &mut dice).unwrap();
    }
    let output = reader.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(integrity(&connection), "ok");
    drop(connection);
    // Without this VFS it is an ordinary database.
    let connection = Connection::open(&path).unwrap();
    assert_eq!(integrity(&connection), "ok");
    let done: u64 = connection.query_row("SELECT done FROM progress", [], |row| row.get(0)).unwrap();
    assert_eq!(done, 400);
}

/// One VFS for all tests, which take turns.
fn recording() -> &'static Mutex<Recording> {
    static RECORDING: OnceLock<Mutex<Recording>> = OnceLock::new();
    RECORDING.get_or_init(|| Mutex::new(Recording::register("caxton-recording").unwrap()))
}

/// Writes transactions, cuts the power and checks the result. Returns what is wrong.
fn cut(seed: u64, recording: &Recording, faults: Faults) -> Result<(), String> {
    recording.clear();
    recording.set_faults(faults);
    let mut dice = Dice::of(seed, 7);
    let directory = tempfile::tempdir().unwrap();
    let mut connection = open(&directory.path().join("state.db"), "caxton-recording");
    connection.pragma_update(None, "wal_autocheckpoint", dice.between(2, 40)).unwrap();
    connection.execute_batch(SCHEMA).unwrap();
    let made = recording.len();
    let transactions = u64::from(dice.between(1, 25));
    for number in 1..=transactions {
        transact(&mut connection, number, &mut dice).unwrap();
        recording.reach(number);
    }
    let after = made + dice.index(recording.len() - made + 1);
    let image = recording.cut(after, || dice.once_in(2));
    drop(connection);
    look(&image, transactions)
}

fn look(image: &Image, transactions: u64) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    for (kind, bytes) in &image.files {
        let name = match kind {
            FileKind::Database => "state.db",
            FileKind::Log => "state.db-wal",
        };
        std::fs::write(directory.path().join(name), bytes).unwrap();
    }
    let connection = Connection::open(&path).map_err(|error| error.to_string())?;
    let found = integrity(&connection);
    if found != "ok" {
        return Err(found);
    }
    let sql = "SELECT done, (SELECT coalesce(max(transaction_number), 0) FROM rows WHERE body IS NULL) FROM progress";
    let found = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)));
    let (done, newest): (u64, u64) = found.map_err(|error| error.to_string())?;
    if done < image.reached || done > transactions {
        return Err(format!("{done} transactions are there of {} that were committed", image.reached));
    }
    if done != newest {
        return Err(format!("transaction {done} is there in parts: rows of {newest}"));
    }
    Ok(())
}

#[test]
fn what_was_committed_survives_a_power_cut() {
    let recording = recording().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for seed in seeds() {
        if let Err(what) = cut(seed, &recording, Faults::default()) {
            panic!("seed {seed}: {what}; run it with CAXTON_CRASH_SEEDS={seed}..{}", seed + 1);
        }
    }
}

#[test]
fn a_disk_that_forgets_syncs_is_found_out() {
    let recording = recording().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let forgets = Faults { forgets_syncs: true, ..Faults::default() };
    assert!((0..50).any(|seed| cut(seed, &recording, forgets).is_err()), "the test would not find a loss");
}

#[test]
fn a_failed_sync_is_told_for_good_and_a_full_disk_only_once() {
    let recording = recording().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    recording.clear();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let mut connection = open(&path, "caxton-recording");
    connection.execute_batch(SCHEMA).unwrap();
    let mut dice = Dice::new(3);
    transact(&mut connection, 1, &mut dice).unwrap();
    recording.set_faults(Faults { no_space: true, ..Faults::default() });
    let full = transact(&mut connection, 2, &mut dice).unwrap_err();
    assert_eq!(full.sqlite_error_code(), Some(ErrorCode::DiskFull), "{full}");
    // There is room again.
    transact(&mut connection, 2, &mut dice).unwrap();
    recording.set_faults(Faults { sync_fails: true, ..Faults::default() });
    let failed = transact(&mut connection, 3, &mut dice).unwrap_err();
    assert_eq!(failed.sqlite_error_code(), Some(ErrorCode::SystemIoFailure), "{failed}");
    recording.set_faults(Faults::default());
    transact(&mut connection, 3, &mut dice).unwrap_err();
    drop(connection);
    let connection = Connection::open(&path).unwrap();
    assert_eq!(integrity(&connection), "ok");
    let done: u64 = connection.query_row("SELECT done FROM progress", [], |row| row.get(0)).unwrap();
    assert!((2..=3).contains(&done), "{done}");
}
