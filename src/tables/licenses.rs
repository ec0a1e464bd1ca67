//! `licenses`: the seats of each product, and the rules by which they are counted.

use crate::core::ledger::identity::Text;
use crate::core::ledger::license::{Level, License, RowKey};
use crate::core::ledger::numbers::TallyId;
use crate::core::ledger::words::{ClaimedAt, CountedBy, Enforcement};
use crate::pg::backend;
use crate::pg::table::{Argument, ReadError, Row, TableAccess, damaged};

/// Reads the rows.
///
/// # Errors
///
/// If they can't be read, or hold what no license may have.
pub fn read(reader: &TableAccess, schema: &str) -> Result<Vec<License>, ReadError> {
    // ONLY, because changes of a table that inherits from it would not be noticed.
    read_from(reader, &format!("ONLY {schema}.licenses"), &[])
}

fn read_from(
    reader: &TableAccess,
    rows: &str,
    arguments: &[Argument],
) -> Result<Vec<License>, ReadError> {
    // If a column's type was changed, the casts keep its value from being misread. A grace period that would end beyond
    // the last possible timestamp never ends.
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

/// The seats of a row.
#[derive(Clone, Copy, Debug)]
pub struct Seats {
    /// The limit; `None`: there is none.
    pub seats: Option<i64>,
    /// How many were bought; `None`: it is not known.
    pub purchased: Option<i64>,
}

/// Reads the seats of a product and locks its row; `None` if there is no such row.
///
/// # Errors
///
/// If the table can't be written now.
pub fn lock_seats(
    writer: &TableAccess,
    schema: &str,
    product: &str,
) -> Result<Option<Seats>, ReadError> {
    let rows = writer.query_with(
        &format!("SELECT seats, purchased FROM {schema}.licenses WHERE product = $1 FOR UPDATE"),
        &[Argument::Text(Some(product))],
        |row| {
            Ok(Seats {
                seats: row.number(1),
                purchased: row.number(2),
            })
        },
    )?;
    Ok(rows.into_iter().next())
}

/// Sets the seats of a product.
///
/// # Errors
///
/// If the table can't be written now.
pub fn set_seats(
    writer: &TableAccess,
    schema: &str,
    product: &str,
    seats: i64,
) -> Result<(), ReadError> {
    let statement = format!("UPDATE {schema}.licenses SET seats = $2::int WHERE product = $1");
    execute(writer, &statement, product, &[seats])
}

/// Limits the seats of a product to `most`.
///
/// # Errors
///
/// If the table can't be written now.
pub fn limit_seats(
    writer: &TableAccess,
    schema: &str,
    product: &str,
    most: i64,
) -> Result<(), ReadError> {
    let statement = format!(
        "UPDATE {schema}.licenses SET seats = $2::int WHERE product = $1 AND seats > $2::int"
    );
    execute(writer, &statement, product, &[most])
}

/// Adds seats to a product, up to `most` in all.
///
/// # Errors
///
/// If the table can't be written now.
pub fn add_seats(
    writer: &TableAccess,
    schema: &str,
    product: &str,
    seats: i64,
    most: i64,
) -> Result<(), ReadError> {
    let statement = format!(
        "UPDATE {schema}.licenses
            SET seats = least(seats::bigint + $2::int, $3::bigint, purchased)
          WHERE product = $1 AND seats < $3::bigint"
    );
    execute(writer, &statement, product, &[seats, most])
}

/// Leaves a product no seats, whatever the row said before.
///
/// # Errors
///
/// If the table can't be written now.
pub fn empty(writer: &TableAccess, schema: &str, product: &str) -> Result<(), ReadError> {
    let statement = format!(
        "UPDATE {schema}.licenses SET seats = 0, purchased = 0, overdraft = 0, enforcement = 'on'
          WHERE product = $1
            AND (seats, purchased, overdraft, enforcement) IS DISTINCT FROM (0, 0, 0, 'on')"
    );
    execute(writer, &statement, product, &[])
}

/// Deletes the row of a product.
///
/// # Errors
///
/// If the table can't be written now.
pub fn delete(writer: &TableAccess, schema: &str, product: &str) -> Result<(), ReadError> {
    let statement = format!("DELETE FROM {schema}.licenses WHERE product = $1");
    execute(writer, &statement, product, &[])
}

fn execute(
    writer: &TableAccess,
    statement: &str,
    product: &str,
    numbers: &[i64],
) -> Result<(), ReadError> {
    let numbers: Vec<String> = numbers.iter().map(i64::to_string).collect();
    let mut arguments = vec![Argument::Text(Some(product))];
    arguments.extend(numbers.iter().map(|number| Argument::Text(Some(number))));
    writer.execute(statement, &arguments)?;
    Ok(())
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
        // LIKE would raise an error at every login.
        return Err(damaged("a pattern of licenses ends in an escape character"));
    }
    Ok(License {
        key: RowKey {
            database: backend::database(),
            place: 0,
        },
        tally: TallyId::NONE,
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
        warned_ending: None,
        interfered: false,
        signed: None,
    })
}

/// A query that makes rows of a license's products: `$1` has them as JSON, and the columns are those of `licenses`.
const PRODUCTS: &str = "
    SELECT product, bought - least(away, bought) AS seats, bought AS purchased,
           coalesce(counted_by, 'user_host') AS counted_by,
           coalesce(claimed_at, 'login') AS claimed_at,
           application_name, pool, coalesce(enforcement, 'on') AS enforcement,
           coalesce(overdraft, 0) AS overdraft,
           coalesce(linger, '0') AS linger, idle_timeout, reclaim_idle_after, max_per_user,
           coalesce(warn_at_percent, 90) AS warn_at_percent,
           greatest(valid_from, to_timestamp(nbf)) AS valid_from,
           until AS valid_until,
           CASE WHEN until + late <= to_timestamp(ends) OR ends IS NULL THEN late
                ELSE greatest(to_timestamp(ends) - until, '0') END AS grace
      FROM jsonb_to_recordset($1::jsonb)
        AS s (product text, bought int, away int, counted_by text, claimed_at text,
              application_name text, pool text, enforcement text, overdraft int, linger interval,
              idle_timeout interval, reclaim_idle_after interval, max_per_user int,
              warn_at_percent int,
              valid_from timestamptz, valid_until timestamptz, grace interval,
              nbf float8, exp float8, ends float8),
           LATERAL (SELECT least(valid_until, to_timestamp(exp)) AS until,
                           coalesce(grace, '0') AS late) u";

/// Reads the licenses that the query makes of products, given as JSON.
///
/// # Errors
///
/// If a value can't be read as its column's type.
pub fn read_products(reader: &TableAccess, products: &str) -> Result<Vec<License>, ReadError> {
    read_from(
        reader,
        &format!("({PRODUCTS}) p"),
        &[Argument::Text(Some(products))],
    )
}

/// Inserts the rows of products that have none.
///
/// # Errors
///
/// If the table can't be written now.
pub fn insert_products(
    writer: &TableAccess,
    schema: &str,
    products: &str,
) -> Result<(), ReadError> {
    writer.execute(
        &format!(
            "INSERT INTO {schema}.licenses
                    (product, seats, purchased, counted_by, claimed_at, application_name, pool, enforcement,
                     overdraft, linger, idle_timeout, reclaim_idle_after, max_per_user, warn_at_percent,
                     valid_from, valid_until, grace)
             {PRODUCTS} ON CONFLICT (product) DO NOTHING"
        ),
        &[Argument::Text(Some(products))],
    )?;
    Ok(())
}

/// Sets these columns of a product's row to what the products say.
///
/// # Errors
///
/// If the table can't be written now.
pub fn update_from_products(
    writer: &TableAccess,
    schema: &str,
    products: &str,
    product: &str,
    columns: &[String],
) -> Result<(), ReadError> {
    let settings = columns
        .iter()
        .map(|column| format!("{column} = p.{column}"));
    let settings: Vec<_> = settings.collect();
    let statement = format!(
        "UPDATE {schema}.licenses l SET {} FROM ({PRODUCTS}) p
          WHERE l.product = $2 AND p.product = $2",
        settings.join(", ")
    );
    writer.execute(
        &statement,
        &[
            Argument::Text(Some(products)),
            Argument::Text(Some(product)),
        ],
    )?;
    Ok(())
}
