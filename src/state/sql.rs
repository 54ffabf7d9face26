//! The statements. Each function is one transaction.

use super::rows::{Decision, Grant, ModelDay, NewPolicy, Policy, Response};
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

/// How many decisions are kept.
const DECISIONS: i64 = 100_000;
/// How many versions of a sandbox's policy are kept.
const VERSIONS: u64 = 200;

/// How many responses of a sandbox are kept.
const RESPONSES: u32 = 4096;

/// What `policies` selects.
const POLICY: &str = "SELECT version, sandbox, at_ms, digest, why, by, layers FROM policies";

pub(super) fn save_grant(db: &Connection, grant: &Grant) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO grants (id, sandbox, body, made_ms, expires_ms) \
               VALUES (?1, ?2, ?3, ?4, ?5)";
    let Grant { id, sandbox, body, made_ms, expires_ms } = grant;
    db.execute(sql, params![signed(*id)?, sandbox, body, made_ms, expires_ms]).map(drop)
}

pub(super) fn remove_grant(db: &Connection, id: u64) -> rusqlite::Result<bool> {
    Ok(db.execute("DELETE FROM grants WHERE id = ?1", [signed(id)?])? > 0)
}

pub(super) fn grants(db: &Connection) -> rusqlite::Result<Vec<Grant>> {
    let sql = "SELECT id, sandbox, body, made_ms, expires_ms FROM grants ORDER BY id";
    let read = |row: &Row<'_>| {
        Ok(Grant {
            id: unsigned(row, 0)?,
            sandbox: row.get(1)?,
            body: row.get(2)?,
            made_ms: row.get(3)?,
            expires_ms: row.get(4)?,
        })
    };
    db.prepare(sql)?.query_map([], read)?.collect()
}

pub(super) fn reserve(db: &Connection, name: &str, n: u64) -> rusqlite::Result<u64> {
    // One statement: it holds whole or not at all. The sum of an overflow is an error of SQLite.
    let sql = "INSERT INTO counters (name, next) VALUES (?1, 1 + ?2) \
               ON CONFLICT (name) DO UPDATE SET next = next + ?2 RETURNING next - ?2";
    db.query_row(sql, params![name, signed(n)?], |row| unsigned(row, 0))
}

pub(super) fn log_decision(db: &mut Connection, decision: &Decision) -> rusqlite::Result<()> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let sql = "INSERT INTO decisions (at_ms, sandbox, request, body) VALUES (?1, ?2, ?3, ?4)";
    let Decision { at_ms, sandbox, request, body } = decision;
    transaction.execute(sql, params![at_ms, sandbox, request, body])?;
    let last = transaction.last_insert_rowid();
    transaction.execute("DELETE FROM decisions WHERE id <= ?1", [last - DECISIONS])?;
    transaction.commit()
}

pub(super) fn decisions(
    db: &Connection,
    since_ms: i64,
    sandbox: Option<&str>,
) -> rusqlite::Result<Vec<Decision>> {
    let sql = "SELECT at_ms, sandbox, request, body FROM decisions \
               WHERE at_ms >= ?1 AND (?2 IS NULL OR sandbox = ?2) ORDER BY id";
    let read = |row: &Row<'_>| {
        Ok(Decision {
            at_ms: row.get(0)?,
            sandbox: row.get(1)?,
            request: row.get(2)?,
            body: row.get(3)?,
        })
    };
    db.prepare(sql)?.query_map(params![since_ms, sandbox], read)?.collect()
}

pub(super) fn append_policy(db: &mut Connection, policy: &NewPolicy) -> rusqlite::Result<u64> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let NewPolicy { sandbox, at_ms, digest, why, by, layers } = policy;
    let sql =
        "SELECT version, digest FROM policies WHERE sandbox = ?1 ORDER BY version DESC LIMIT 1";
    let newest = |row: &Row<'_>| Ok((unsigned(row, 0)?, row.get::<_, String>(1)?));
    if let Some((version, newest)) = transaction.query_row(sql, [sandbox], newest).optional()?
        && newest == *digest
    {
        return Ok(version);
    }
    // The newest is never pruned, so that a number is never given twice.
    let sql = "INSERT INTO policies (sandbox, version, at_ms, digest, why, by, layers) \
               SELECT ?1, coalesce(max(version), 0) + 1, ?2, ?3, ?4, ?5, ?6 \
               FROM policies WHERE sandbox = ?1 RETURNING version";
    let values = params![sandbox, at_ms, digest, why, by, layers];
    let version = transaction.query_row(sql, values, |row| unsigned(row, 0))?;
    let sql = "DELETE FROM policies WHERE sandbox = ?1 AND version <= ?2 AND version NOT IN \
               (SELECT pinned FROM sandboxes WHERE sandbox = ?1 AND pinned IS NOT NULL)";
    transaction.execute(sql, params![sandbox, signed(version.saturating_sub(VERSIONS))?])?;
    transaction.commit()?;
    Ok(version)
}

pub(super) fn policies(db: &Connection, sandbox: Option<&str>) -> rusqlite::Result<Vec<Policy>> {
    let sql = format!(
        "{POLICY} WHERE ?1 IS NULL OR sandbox = ?1 ORDER BY at_ms DESC, version DESC, sandbox"
    );
    db.prepare(&sql)?.query_map([sandbox], read_policy)?.collect()
}

pub(super) fn policy(
    db: &Connection,
    sandbox: &str,
    version: u64,
) -> rusqlite::Result<Option<Policy>> {
    let sql = format!("{POLICY} WHERE sandbox = ?1 AND version = ?2");
    db.query_row(&sql, params![sandbox, signed(version)?], read_policy).optional()
}

fn read_policy(row: &Row<'_>) -> rusqlite::Result<Policy> {
    Ok(Policy {
        version: unsigned(row, 0)?,
        sandbox: row.get(1)?,
        at_ms: row.get(2)?,
        digest: row.get(3)?,
        why: row.get(4)?,
        by: row.get(5)?,
        layers: row.get(6)?,
    })
}

pub(super) fn set_runtime(
    db: &Connection,
    sandbox: &str,
    text: Option<&str>,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO sandboxes (sandbox, runtime) VALUES (?1, ?2) \
               ON CONFLICT (sandbox) DO UPDATE SET runtime = ?2";
    db.execute(sql, params![sandbox, text]).map(drop)
}

pub(super) fn runtime(db: &Connection, sandbox: &str) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT runtime FROM sandboxes WHERE sandbox = ?1";
    Ok(db.query_row(sql, [sandbox], |row| row.get(0)).optional()?.flatten())
}

pub(super) fn set_pinned(
    db: &Connection,
    sandbox: &str,
    version: Option<u64>,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO sandboxes (sandbox, pinned) VALUES (?1, ?2) \
               ON CONFLICT (sandbox) DO UPDATE SET pinned = ?2";
    db.execute(sql, params![sandbox, version.map(signed).transpose()?]).map(drop)
}

pub(super) fn pinned(db: &Connection, sandbox: &str) -> rusqlite::Result<Option<u64>> {
    let sql = "SELECT pinned FROM sandboxes WHERE sandbox = ?1 AND pinned IS NOT NULL";
    db.query_row(sql, [sandbox], |row| unsigned(row, 0)).optional()
}

pub(super) fn save_models(
    db: &mut Connection,
    days: &[ModelDay],
    responses: &[Response],
) -> rusqlite::Result<()> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let sql = "INSERT OR REPLACE INTO model_days (sandbox, day, requests, failed, input, output) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    // A count that is past all counting is as large as can be.
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    for ModelDay { sandbox, day, requests, failed, input, output } in days {
        let [day, requests, failed] = [day, requests, failed].map(|n| number(*n));
        let [input, output] = [input, output].map(|n| number(*n));
        transaction.execute(sql, params![sandbox, day, requests, failed, input, output])?;
    }
    let sql = "INSERT INTO responses (sandbox, id, route, tokens) VALUES (?1, ?2, ?3, ?4)";
    for Response { sandbox, id, route, tokens } in responses {
        transaction.execute(sql, params![sandbox, id, route, number(*tokens)])?;
    }
    let sql = "DELETE FROM responses WHERE sandbox = ?1 AND n <= \
               (SELECT n FROM responses WHERE sandbox = ?1 ORDER BY n DESC LIMIT 1 OFFSET ?2)";
    let mut pruned: Vec<&str> = responses.iter().map(|one| one.sandbox.as_str()).collect();
    pruned.sort_unstable();
    pruned.dedup();
    for sandbox in pruned {
        transaction.execute(sql, params![sandbox, RESPONSES])?;
    }
    transaction.commit()
}

pub(super) fn model_days(db: &Connection) -> rusqlite::Result<Vec<ModelDay>> {
    let sql = "SELECT sandbox, day, requests, failed, input, output FROM model_days";
    let read = |row: &Row<'_>| {
        Ok(ModelDay {
            sandbox: row.get(0)?,
            day: unsigned(row, 1)?,
            requests: unsigned(row, 2)?,
            failed: unsigned(row, 3)?,
            input: unsigned(row, 4)?,
            output: unsigned(row, 5)?,
        })
    };
    db.prepare(sql)?.query_map([], read)?.collect()
}

pub(super) fn responses(db: &Connection) -> rusqlite::Result<Vec<Response>> {
    let sql = "SELECT sandbox, id, route, tokens FROM responses ORDER BY n";
    let read = |row: &Row<'_>| {
        Ok(Response {
            sandbox: row.get(0)?,
            id: row.get(1)?,
            route: row.get(2)?,
            tokens: unsigned(row, 3)?,
        })
    };
    db.prepare(sql)?.query_map([], read)?.collect()
}

/// SQLite's integers are signed.
fn signed(number: u64) -> rusqlite::Result<i64> {
    i64::try_from(number).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

fn unsigned(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(at)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(at, number))
}
