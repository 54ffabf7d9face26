//! Opening the database: whose file it is, whether it is whole, and which version.

use super::StateError;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior};
use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

/// `PRAGMA application_id` of ours: "port".
const APPLICATION: u32 = 0x706f_7274;
/// How long another process (a backup) may hold the file.
const BUSY: Duration = Duration::from_secs(5);

/// Each brings the database one version up; a version that was released never changes.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE grants (
        id         INTEGER PRIMARY KEY,
        sandbox    TEXT NOT NULL,
        body       TEXT NOT NULL,
        made_ms    INTEGER NOT NULL,
        expires_ms INTEGER
    ) STRICT;
    CREATE TABLE counters (
        name TEXT PRIMARY KEY,
        next INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE decisions (
        id      INTEGER PRIMARY KEY AUTOINCREMENT,
        at_ms   INTEGER NOT NULL,
        sandbox TEXT NOT NULL,
        request TEXT NOT NULL,
        body    TEXT NOT NULL
    ) STRICT;
    CREATE INDEX decisions_at ON decisions (at_ms);
    CREATE TABLE policies (
        sandbox TEXT NOT NULL,
        version INTEGER NOT NULL,
        at_ms   INTEGER NOT NULL,
        digest  TEXT NOT NULL,
        why     TEXT NOT NULL,
        by      TEXT,
        layers  TEXT NOT NULL,
        PRIMARY KEY (sandbox, version)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE sandboxes (
        sandbox TEXT PRIMARY KEY,
        runtime TEXT,
        pinned  INTEGER,
        FOREIGN KEY (sandbox, pinned) REFERENCES policies (sandbox, version)
    ) STRICT;
",
    "
    CREATE TABLE model_days (
        sandbox  TEXT PRIMARY KEY,
        day      INTEGER NOT NULL,
        requests INTEGER NOT NULL,
        failed   INTEGER NOT NULL,
        input    INTEGER NOT NULL,
        output   INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE responses (
        n       INTEGER PRIMARY KEY,
        sandbox TEXT NOT NULL,
        id      TEXT NOT NULL,
        route   TEXT NOT NULL,
        tokens  INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX responses_of ON responses (sandbox, n);
",
];

/// Opens and migrates.
pub(super) fn open(path: &Path) -> Result<Connection, StateError> {
    let unopenable =
        |why: &dyn ToString| StateError::Unopenable { path: path.into(), why: why.to_string() };
    private(path).map_err(|error| unopenable(&error))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection =
        Connection::open_with_flags(path, flags).map_err(|error| unopenable(&error))?;
    check(&connection).map_err(|error| fault(path, &error))?;
    // A file that is not ours is left as it is: nothing is set before this.
    let found = version(&connection, path)?;
    prepare(&connection).map_err(|error| fault(path, &error))?;
    for (at, migration) in MIGRATIONS.iter().enumerate().skip(found) {
        migrate(&mut connection, migration, at + 1).map_err(|error| fault(path, &error))?;
    }
    Ok(connection)
}

/// The file is there and only its owner reads it: SQLite gives its companions the same mode.
fn private(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(())
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // An answer means that it is on the disk, whatever happens to the machine.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // A database that someone tampered with runs no code of its own.
    connection.pragma_update(None, "trusted_schema", false)
}

fn check(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    let said: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if said == "ok" { Ok(()) } else { Err(corrupt(said)) }
}

fn corrupt(why: String) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
        Some(why),
    )
}

/// How many migrations it has seen: none where it is new.
fn version(connection: &Connection, path: &Path) -> Result<usize, StateError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
    let broken = |why: &str| StateError::Broken { path: path.into(), why: why.to_owned() };
    let read = || Ok((pragma("application_id")?, pragma("user_version")?, some_table(connection)?));
    let (application, found, filled) = read().map_err(|error| fault(path, &error))?;
    match (application, found, filled) {
        (0, 0, false) => Ok(0),
        (APPLICATION, 0, _) => Err(broken("it says that it is ours and has no version")),
        (APPLICATION, found, _) => match usize::try_from(found) {
            Ok(seen) if seen <= MIGRATIONS.len() => Ok(seen),
            _ => {
                let known = u32::try_from(MIGRATIONS.len()).expect("a handful");
                Err(StateError::Newer { path: path.into(), found, known })
            }
        },
        _ => Err(broken("it is a database of another program")),
    }
}

fn some_table(connection: &Connection) -> rusqlite::Result<bool> {
    let found = connection.query_row("SELECT 1 FROM sqlite_schema LIMIT 1", [], |_| Ok(()));
    Ok(found.optional()?.is_some())
}

fn migrate(connection: &mut Connection, migration: &str, version: usize) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    transaction.execute_batch(migration)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", u32::try_from(version).expect("a handful"))?;
    transaction.commit()
}

fn fault(path: &Path, error: &rusqlite::Error) -> StateError {
    let (path, why) = (path.into(), error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StateError::Broken { path, why }
        }
        _ => StateError::Unopenable { path, why },
    }
}
