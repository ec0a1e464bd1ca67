//! What signatures make of the licenses of this backend's database: reads the tokens, the vendors' keys and
//! what the installation remembers, and holds the rows of `licenses` to what was signed.

use std::time::Duration;

use pgrx::bgworkers::BackgroundWorker;
use serde_json::{Value, json};

pub use super::load::license;
use crate::events::warning::{self, Warning};
use crate::installation::key::KeyPair;
use crate::installation::record::{Known, Record};
use crate::ledger::license::{License, Signed};
use crate::ledger::narrow::{Excess, narrow};
use crate::pg::error::{self, quoted};
use crate::pg::table::{Argument, ReadError, Reader, Row, read_committed};
use crate::pg::{backend, catalog};
use crate::settings;
use crate::tokens::Refused;
use crate::tokens::keys::Keys;
use crate::tokens::standing::{self, Doubt, Invalid, Judge, Standing};

/// Rows made of a license's products: `$1` is [`products`], and the columns are those of `licenses`.
pub const PRODUCTS: &str = "
    SELECT product, greatest(seats - away, 0) AS seats, seats AS purchased,
           coalesce(counted_by, 'user_host') AS counted_by,
           coalesce(claimed_at, 'login') AS claimed_at,
           application_name, pool, coalesce(enforcement, 'on') AS enforcement,
           coalesce(overdraft, 0) AS overdraft,
           coalesce(linger, '0') AS linger, idle_timeout, reclaim_idle_after,
           coalesce(warn_at_percent, 90) AS warn_at_percent,
           greatest(valid_from, to_timestamp(nbf)) AS valid_from,
           least(valid_until, to_timestamp(exp)) AS valid_until,
           coalesce(grace, '0') AS grace
      FROM jsonb_to_recordset($1::jsonb)
        AS s (product text, seats int, away int, counted_by text, claimed_at text,
              application_name text, pool text, enforcement text, overdraft int, linger interval,
              idle_timeout interval, reclaim_idle_after interval, warn_at_percent int,
              valid_from timestamptz, valid_until timestamptz, grace interval,
              nbf float8, exp float8)";

/// What is known of the signed licenses of a database.
pub struct Book {
    /// The licenses.
    pub standings: Vec<Standing>,
    /// Rows of `license_keys` that hold none.
    pub invalid: Vec<Invalid>,
    /// The ids of licenses that were uninstalled.
    pub uninstalled: Vec<String>,
    /// What could not be read of keys and records, as lines for the server log.
    pub unreadable: Vec<String>,
    /// What the installation remembers.
    pub record: Record,
    /// Seats that were passed on, as the table has it: the record may have been lost with a server.
    allotted: Vec<Allotted>,
}

/// A row of `license_allotments` whose seats are away.
struct Allotted {
    id: String,
    license_id: String,
    product: String,
    seats: i64,
}

impl Book {
    /// Reads what there is to know.
    pub fn read(reader: &Reader, schema: &str) -> Result<Book, ReadError> {
        let text = |row: &Row, column| Ok(row.text(column)?.unwrap_or_default());
        let rows = reader.query(
            &format!(
                "SELECT license_id, token, uninstalled_at IS NULL FROM ONLY {schema}.license_keys
                  ORDER BY installed_at, license_id"
            ),
            |row| {
                Ok(standing::Row {
                    license_id: text(row, 1)?,
                    token: text(row, 2)?,
                    is_installed: row.number(3) == Some(1),
                })
            },
        )?;
        let allotted = reader.query(
            &format!(
                "SELECT allotment_id, license_id, product, seats FROM ONLY {schema}.license_allotments
                  WHERE returned_at IS NULL AND (valid_until IS NULL OR valid_until > now())"
            ),
            |row| {
                Ok(Allotted {
                    id: text(row, 1)?,
                    license_id: text(row, 2)?,
                    product: text(row, 3)?,
                    seats: row.number(4).unwrap_or(0),
                })
            },
        )?;
        Ok(Book::of(&rows, allotted))
    }

    fn of(rows: &[standing::Row], allotted: Vec<Allotted>) -> Book {
        let key = settings::installation_key();
        let mut unreadable = Vec::new();
        let record = Record::read(&key).unwrap_or_else(|error| {
            unreadable.push(format!(
                "could not read what was recorded beside {}: {error}",
                key.display()
            ));
            Record::default()
        });
        let mut book = Book {
            standings: Vec::new(),
            invalid: Vec::new(),
            uninstalled: Vec::new(),
            unreadable,
            record,
            allotted,
        };
        let database = backend::database();
        let is_known = |known: &Known| known.databases.contains(&database);
        let is_signed = !rows.is_empty() || book.record.licenses.iter().any(is_known);
        if !is_signed {
            return book;
        }
        let uninstalled = rows.iter().filter(|row| !row.is_installed);
        book.uninstalled = uninstalled.map(|row| row.license_id.clone()).collect();
        let keys = match settings::vendor_keys() {
            Some(path) => {
                let (keys, wrong) = Keys::read(&path);
                let lines = wrong.iter().map(|(path, reason)| {
                    format!(
                        "could not read vendor keys from {}: {reason}",
                        path.display()
                    )
                });
                book.unreadable.extend(lines);
                keys
            }
            None => Keys::default(),
        };
        let installation = match KeyPair::read(&key) {
            Ok(pair) => Some(pair.public().id()),
            Err(error) => {
                book.unreadable.push(format!(
                    "could not read installation key {}: {error}",
                    key.display()
                ));
                None
            }
        };
        let judge = Judge {
            keys: &keys,
            record: &book.record,
            installation: installation.as_deref(),
            database,
            key_grace: settings::key_grace(),
            now: backend::now(),
        };
        (book.standings, book.invalid) = judge.licenses(rows);
        book
    }

    /// Whether anything in it was ever signed.
    pub fn is_signed(&self) -> bool {
        !self.standings.is_empty() || !self.invalid.is_empty() || !self.uninstalled.is_empty()
    }

    /// Seats of a license's product that are with other installations.
    pub fn away(&self, standing: &Standing, product: &str) -> i64 {
        let (iss, jti) = (&standing.claims.iss, &standing.claims.jti);
        let recorded = self.record.away(iss, jti, product, backend::now());
        let is_recorded = |id: &str| {
            self.record
                .allotments
                .iter()
                .any(|allotment| allotment.id == id)
        };
        let allotted = self.allotted.iter().filter(|allotted| {
            allotted.license_id == *jti && allotted.product == product && !is_recorded(&allotted.id)
        });
        recorded + allotted.map(|allotted| allotted.seats.max(0)).sum::<i64>()
    }

    /// The products that a license has here, as [`PRODUCTS`] reads them.
    pub fn products(&self, standing: &Standing) -> String {
        let claims = &standing.claims;
        let products = claims.products.iter();
        let products = products.filter(|product| standing.products.contains(&product.product));
        let rows = products.map(|product| {
            let mut row = serde_json::to_value(product).unwrap_or(Value::Null);
            if let Some(row) = row.as_object_mut() {
                row.insert(
                    "away".to_owned(),
                    json!(self.away(standing, &product.product)),
                );
                row.insert("nbf".to_owned(), json!(claims.nbf));
                row.insert("exp".to_owned(), json!(claims.exp));
            }
            row
        });
        Value::from_iter(rows).to_string()
    }

    /// Holds the rows of `licenses` to what was signed, and puts what was signed in the place of rows that are
    /// gone.
    pub fn hold(&mut self, licenses: &mut Vec<License>) {
        let mut invalid = Vec::new();
        for standing in &self.standings {
            let products = self.products(standing);
            // One that PostgreSQL can't make rows of is not everybody's undoing.
            let signed = read_committed(backend::lock_timeout(), |reader| {
                reader.query_with(
                    &columns(&format!("({PRODUCTS}) p")),
                    &[Argument::Text(Some(&products))],
                    license,
                )
            });
            match signed {
                Ok(signed) => signed
                    .iter()
                    .for_each(|signed| hold(licenses, signed, standing, &self.record)),
                Err(error) => invalid.push((standing.claims.jti.clone(), error.message)),
            }
        }
        for (license_id, reason) in invalid {
            self.invalid.push(Invalid {
                license_id,
                refused: Refused::Malformed(reason),
            });
        }
    }
}

/// One product of one license.
fn hold(licenses: &mut Vec<License>, signed: &License, standing: &Standing, record: &Record) {
    let row = licenses
        .iter_mut()
        .find(|license| license.product == signed.product);
    let token = if standing.is_in_table {
        Excess::default()
    } else {
        Excess::TOKEN
    };
    let terms = |excess: Excess| Signed {
        excess: excess.and(token),
        believed_until: standing.believed_until,
        exempt: standing.claims.exempt,
        not_before: record.latest,
    };
    // Databases of one server count together under one license, whatever they are called.
    let pool = if signed.pool.is_empty() {
        standing.pool()
    } else {
        signed.pool
    };
    match row {
        Some(row) => {
            let (license, excess) = narrow(row, signed);
            *row = License {
                signed: Some(terms(excess)),
                pool,
                ..license
            };
        }
        None => licenses.push(License {
            signed: Some(terms(Excess::ROW)),
            pool,
            ..*signed
        }),
    }
}

/// The columns that [`license`] reads, of these rows.
pub fn columns(rows: &str) -> String {
    // The casts keep a column whose type was changed from being taken for what it was.
    format!(
        "SELECT product, seats::int, purchased::int, counted_by, claimed_at, application_name,
                pool, enforcement, overdraft::int, warn_at_percent::int,
                valid_from::timestamptz, valid_until::timestamptz,
                (valid_until + grace)::timestamptz,
                (extract(epoch FROM linger) * 1000000)::bigint,
                (extract(epoch FROM idle_timeout) * 1000000)::bigint,
                (extract(epoch FROM reclaim_idle_after) * 1000000)::bigint
           FROM {rows}"
    )
}

/// Has the installation remember what a visitor sees of its database's signed licenses, and warns of those that
/// are newly in doubt. In a worker, outside a transaction.
pub fn observe(database: u32, patience: Duration) {
    let (book, databases) = BackgroundWorker::transaction(|| {
        let book = catalog::schema()
            .map(|schema| read_committed(patience, |reader| Book::read(reader, &schema)));
        (book.and_then(Result::ok), catalog::databases())
    });
    let Some(book) = book.filter(Book::is_signed) else {
        return;
    };
    let mut lines = book.unreadable;
    for Invalid {
        license_id,
        refused,
    } in &book.invalid
    {
        lines.push(format!(
            "license_keys has no license in its row {}: {refused}",
            quoted(license_id)
        ));
    }
    let observed = Record::change(&settings::installation_key(), |record| {
        record.keep_databases(|database| databases.contains(&database));
        record.uninstall(database, &book.uninstalled);
        record.observe(database, &book.standings, backend::now())
    });
    let doubtful = observed.unwrap_or_else(|error| {
        lines.push(format!(
            "could not record what is known of signed licenses: {error}"
        ));
        Vec::new()
    });
    BackgroundWorker::transaction(|| lines.into_iter().for_each(error::log));
    let warnings = doubtful.into_iter().map(|standing| {
        let id = &standing.claims.jti;
        let until = standing.believed_until.map(catalog::timestamp_iso);
        let (what, word) = match standing.doubt {
            Some(Doubt::Elsewhere) => ("is made for another installation", "other installation"),
            _ => ("can't be verified", "unverified"),
        };
        let line = format!(
            "license {} {what}: it is believed until {}",
            quoted(id),
            until.as_deref().unwrap_or("then")
        );
        let payload = json!({ "event": "license in doubt", "state": word, "license_id": id, "believed_until": until });
        Warning::of_license(line, payload)
    });
    warning::note_and_give(&warnings.collect::<Vec<_>>(), patience);
}
