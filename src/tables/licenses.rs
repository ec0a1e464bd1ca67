//! `licenses`: how many seats of each product, and the rules by which they are counted.

use crate::core::ledger::identity::Text;
use crate::core::ledger::license::{Level, License, RowKey};
use crate::core::ledger::words::{ClaimedAt, CountedBy, Enforcement};
use crate::pg::backend;
use crate::pg::table::{Argument, ReadError, Reader, Row, damaged};

/// Reads its rows.
///
/// # Errors
///
/// Where they can't be read, or hold what no license may have.
pub fn read(reader: &Reader, schema: &str) -> Result<Vec<License>, ReadError> {
    // ONLY: changes of a table that inherits from it would not be noticed.
    read_from(reader, &format!("ONLY {schema}.licenses"), &[])
}

/// Reads rows with the same columns from elsewhere.
///
/// # Errors
///
/// As [`read`].
pub fn read_from(
    reader: &Reader,
    rows: &str,
    arguments: &[Argument],
) -> Result<Vec<License>, ReadError> {
    // The casts keep a column whose type was changed from being taken for what it was. A grace that ends where
    // there are no dates any more ends never.
    let query = format!(
        "SELECT product, seats::int, purchased::int, counted_by, claimed_at, application_name,
                pool, enforcement, overdraft::int, warn_at_percent::int,
                valid_from::timestamptz, valid_until::timestamptz,
                (CASE WHEN extract(epoch FROM valid_until) + extract(epoch FROM grace) > 9.2e12
                      THEN 'infinity' ELSE valid_until + grace END)::timestamptz,
                (extract(epoch FROM linger) * 1000000)::bigint,
                (extract(epoch FROM idle_timeout) * 1000000)::bigint,
                (extract(epoch FROM reclaim_idle_after) * 1000000)::bigint,
                max_per_user::int
           FROM {rows}"
    );
    reader.query_with(&query, arguments, license)
}

fn license(row: &Row) -> Result<License, ReadError> {
    fn fitting<const N: usize>(row: &Row, column: i32) -> Result<Text<N>, ReadError> {
        Text::new(row.text(column)?.unwrap_or_default())
            .ok_or_else(|| damaged("a value of licenses is too long"))
    }
    fn word<W>(row: &Row, column: i32, from: fn(&str) -> Option<W>) -> Result<W, ReadError> {
        let text = row.text(column)?.unwrap_or_default();
        from(&text).ok_or_else(|| damaged("a word of licenses is not known"))
    }
    let count = |column| row.number(column).map(|number| number as i32);
    let pattern: Text<128> = fitting(row, 6)?;
    let escapes = pattern
        .as_bytes()
        .iter()
        .rev()
        .take_while(|&&byte| byte == b'\\');
    if escapes.count() % 2 == 1 {
        // LIKE would raise an error, at whoever logs in.
        return Err(damaged("a pattern of licenses ends in an escape character"));
    }
    Ok(License {
        key: RowKey {
            database: backend::database(),
            place: 0,
        },
        tally: 0,
        product: fitting(row, 1)?,
        seats: count(2),
        purchased: count(3),
        counted_by: word(row, 4, CountedBy::from_word)?,
        claimed_at: word(row, 5, ClaimedAt::from_word)?,
        application_name: pattern,
        pool: fitting(row, 7)?,
        enforcement: word(row, 8, Enforcement::from_word)?,
        overdraft: count(9).unwrap_or(0),
        warn_at_percent: count(10).unwrap_or(100),
        valid_from: row.number(11),
        valid_until: row.number(12),
        admits_until: row.number(13),
        linger: row.number(14).unwrap_or(0),
        idle_timeout: row.number(15),
        reclaim_idle_after: row.number(16),
        max_per_user: count(17),
        denied: 0,
        counted_since: 0,
        level: Level::Normal,
        told_ending: None,
        interfered: false,
        signed: None,
    })
}
