//! The signed licenses of this backend's database: reads the tokens, the vendors' keys and what the installation
//! remembers, and holds the rows of `licenses` to what was signed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pgrx::bgworkers::BackgroundWorker;
use serde_json::{Value, json};

use crate::core::ledger::clamp::clamp;
use crate::core::ledger::identity::Name;
use crate::core::ledger::license::{License, Signed, Tampered};
use crate::core::ledger::numbers::TallyId;
use crate::core::ledger::time::Timestamp;
use crate::core::tokens::allotment::Allotted;
use crate::core::tokens::keys::Keys;
use crate::core::tokens::{moment, unix};
use crate::pg::table::{ReadError, TableAccess, read_committed, schema};
use crate::pg::{backend, catalog, error};
use crate::signed::evaluation::{
    Doubt, Evaluation, Invalid, SIGNED_POOL, SignedLicense, Source, StoredToken,
};
use crate::signed::installation::files::{self, Read};
use crate::signed::installation::key;
use crate::signed::installation::record::{Allotment, Known, Record};
use crate::tables::allotments::{self, Away};
use crate::tables::{keys, licenses};
use crate::{memory, settings};

/// Members of a product that are texts for PostgreSQL to read.
const READ_BY_POSTGRES: [&str; 6] = [
    "linger",
    "idle_timeout",
    "reclaim_idle_after",
    "valid_from",
    "valid_until",
    "grace",
];

/// How soon signatures are verified again, in microseconds.
const VERIFIED_AGAIN_AFTER: Timestamp = 3_600_000_000;

/// How soon sessions that have not ended are ended again, in microseconds.
const ENDED_AGAIN_AFTER: Timestamp = 60_000_000;

/// The signed licenses of a database, and what is known of them.
pub struct SignedLicenses {
    /// The licenses.
    pub licenses: Vec<SignedLicense>,
    /// Rows of `license_keys` that hold no license.
    pub invalid: Vec<Invalid>,
    /// The ids of licenses that were uninstalled.
    pub uninstalled: Vec<String>,
    /// Complaints about keys and records that could not be read, as lines for the server log.
    pub unreadable: Vec<String>,
    /// What the installation remembers.
    pub record: Record,
    /// Seats that are away according to the table: the record may have been lost with a server.
    pub away: Vec<Away>,
    /// The signed licenses that were in force here until now, if the record is lost; nothing beyond them is in force.
    lost: Option<Vec<License>>,
}

/// Tells whether the installation of this license has signed that the seats are away: writing such a row by hand allots
/// nothing.
fn is_signed(away: &Away, license: &SignedLicense) -> bool {
    let by = license.claims.cnf.as_ref().map(|cnf| &cnf.jkt);
    Allotted::verify(&away.token).is_ok_and(|allotted| {
        by == Some(&allotted.iss)
            && allotted.jti == away.id
            && allotted.product == away.product
            && allotted.seats == away.seats
            && allotted.cnf.jkt == away.installation
            && allotted.nbf == unix(away.allotted_at)
            && allotted.exp == away.valid_until.map(unix)
    })
}

impl SignedLicenses {
    /// Reads the signed licenses of this database.
    pub fn read(reader: &TableAccess, schema: &str) -> Result<SignedLicenses, ReadError> {
        let rows = keys::read(reader, schema)?;
        let rows: Vec<_> = rows
            .into_iter()
            .map(|row| StoredToken {
                license_id: row.license_id,
                token: row.token,
                is_installed: row.is_installed,
            })
            .collect();
        let away = allotments::read_away(reader, schema)?;
        Ok(SignedLicenses::of(&rows, away))
    }

    /// Reads them in a worker, outside a transaction; `None` if nothing in this database was ever signed.
    pub fn read_alone(patience: Duration) -> Result<Option<SignedLicenses>, ReadError> {
        let read = |schema: String| {
            read_committed(patience, |reader| SignedLicenses::read(reader, &schema))
        };
        let signed_licenses = BackgroundWorker::transaction(|| catalog::schema().map(read));
        Ok(signed_licenses
            .transpose()?
            .filter(SignedLicenses::is_signed))
    }

    fn of(rows: &[StoredToken], away: Vec<Away>) -> SignedLicenses {
        let key = settings::installation_key();
        let database = backend::database();
        let mut signed_licenses = SignedLicenses {
            licenses: Vec::new(),
            invalid: Vec::new(),
            uninstalled: Vec::new(),
            unreadable: Vec::new(),
            record: Record::default(),
            away,
            lost: None,
        };
        let state = files::state(&key).unwrap_or(0);
        let is_bare = rows.is_empty() && signed_licenses.away.is_empty();
        if is_bare && memory::read(|ledger| ledger.is_unsigned(database, state)) {
            return signed_licenses;
        }
        signed_licenses.read_record(&key);
        let is_known = |known: &Known| known.databases.contains(&database);
        if rows.is_empty() && !signed_licenses.record.licenses.iter().any(is_known) {
            if is_bare && signed_licenses.lost.is_none() {
                memory::write(|ledger| ledger.note_unsigned(database, state));
            }
            return signed_licenses;
        }
        let uninstalled = rows.iter().filter(|row| !row.is_installed);
        signed_licenses.uninstalled = uninstalled.map(|row| row.license_id.clone()).collect();
        let (keys, wrong) = read_vendor_keys();
        signed_licenses.unreadable.extend(wrong);
        let installation = match key::read(&key) {
            Ok(pair) => Some(pair.public().id()),
            Err(error) => {
                signed_licenses.unreadable.push(format!(
                    "could not read installation key {}: {error}",
                    key.display()
                ));
                None
            }
        };
        let in_force = signed_licenses.lost.as_ref().map(|licenses| {
            let pools = licenses.iter().map(|license| license.pool);
            pools.collect::<Vec<_>>()
        });
        let evaluation = Evaluation {
            keys: &keys,
            record: &signed_licenses.record,
            lost: in_force.as_deref(),
            installation: installation.as_deref(),
            database,
            key_grace: settings::key_grace(),
            now: backend::now(),
        };
        (signed_licenses.licenses, signed_licenses.invalid) = evaluation.licenses(rows);
        let SignedLicenses {
            licenses,
            record,
            away,
            ..
        } = &mut signed_licenses;
        away.retain(|away| {
            let mut licenses = licenses.iter();
            let license = licenses.find(|license| license.claims.jti == away.license_id);
            record.allotment(&away.id).is_some()
                || license.is_some_and(|license| is_signed(away, license))
        });
        signed_licenses
    }

    /// Reads what the installation remembers. If that is lost, what was in force here stays in force, and nothing
    /// beyond it.
    fn read_record(&mut self, key: &Path) {
        match files::read(key) {
            Ok(Read { record, complaint }) => {
                self.record = record;
                let said = complaint.map(|said| complaint_of_record(key, &said));
                self.unreadable.extend(said);
            }
            Err(error) => {
                self.unreadable
                    .push(complaint_of_record(key, &error.to_string()));
                let rules = memory::rules::last_in_force(backend::database()).unwrap_or_default();
                let mut licenses = rules.licenses;
                // Seats that were given back, or were no longer believed, do not stay in force.
                licenses.retain(|license| {
                    license.seats != Some(0)
                        && license.signed.is_some_and(|signed| {
                            let believed_until = signed.believed_until;
                            believed_until.is_none_or(|until| backend::now() < until)
                        })
                });
                let latest = licenses.iter().filter_map(|license| license.signed);
                self.record.latest = latest.map(|signed| signed.not_before).max().unwrap_or(0);
                self.lost = Some(licenses);
            }
        }
    }

    /// Tells whether anything in this database was ever signed.
    pub fn is_signed(&self) -> bool {
        !self.licenses.is_empty() || !self.invalid.is_empty() || !self.uninstalled.is_empty()
    }

    /// Returns how many seats of a license's product are with other installations.
    pub fn away(&self, license: &SignedLicense, product: &str) -> i64 {
        let (iss, jti) = (&license.claims.iss, &license.claims.jti);
        let recorded = self.record.away(iss, jti, product, backend::now());
        let unrecorded = self.rows_away(license, product);
        let unrecorded = unrecorded.filter(|away| self.record.allotment(&away.id).is_none());
        recorded + sum(unrecorded)
    }

    /// Returns how many of those are unknown to this database's rows: another database has allotted them, or this one
    /// is about to write its row.
    fn away_unseen(&self, license: &SignedLicense, product: &str) -> i64 {
        self.away(license, product) - sum(self.rows_away(license, product))
    }

    fn rows_away(&self, license: &SignedLicense, product: &str) -> impl Iterator<Item = &Away> {
        let (jti, now) = (&license.claims.jti, backend::now());
        let rows = self.away.iter();
        rows.filter(move |away| {
            away.license_id == *jti
                && away.product == product
                && away.comes_back_at().is_none_or(|at| now < at)
        })
    }

    /// Returns when the licenses must be read again even if nobody changes a table: keys come and go unnoticed, and
    /// seats come back by themselves.
    pub fn changes_at(&self) -> Option<Timestamp> {
        let now = backend::now();
        let recorded = self.record.allotments.iter();
        let recorded = recorded.filter(|allotment| allotment.returned_at.is_none());
        let recorded = recorded.filter_map(Allotment::comes_back_at);
        let rows = self.away.iter().filter_map(Away::comes_back_at);
        let ends = self.licenses.iter();
        let ends = ends.filter_map(|license| license.claims.exp.map(moment));
        let to_come = recorded.chain(rows).chain(ends).filter(|&at| now < at);
        let verify = self.is_signed().then(|| now + VERIFIED_AGAIN_AFTER);
        let end_again = self.lent_too_long().next();
        let end_again = end_again.map(|_| now + ENDED_AGAIN_AFTER);
        to_come.chain(verify).chain(end_again).min()
    }

    /// Returns the tallies of seats that another installation has allotted to this one and that are still in use after
    /// their end.
    pub fn lent_too_long(&self) -> impl Iterator<Item = TallyId> {
        let now = backend::now().max(self.record.latest);
        let is_over = move |license: &&SignedLicense| {
            let ends = license.claims.ends.map(moment);
            ends.is_some_and(|ends| ends <= now)
        };
        let mut pools = self.licenses.iter().filter(is_over).peekable();
        let is_any = pools.peek().is_some();
        let rules = is_any.then(|| memory::rules::last_in_force(backend::database()));
        let licenses = rules.flatten().unwrap_or_default().licenses;
        let pools: Vec<Name> = pools.map(SignedLicense::pool).collect();
        licenses
            .into_iter()
            .filter(move |license| pools.contains(&license.pool))
            .map(|license| license.tally)
            .filter(|tally| memory::read(|ledger| ledger.in_use(*tally)) != 0)
    }

    /// Returns the license of a product.
    pub fn license_of(&self, product: &str) -> Option<&SignedLicense> {
        let mut licenses = self.licenses.iter();
        licenses.find(|license| license.products.iter().any(|own| own == product))
    }

    /// Returns the products that a license has here, as [`licenses::read_products`] reads them.
    pub fn products(&self, license: &SignedLicense) -> String {
        self.rows(license).to_string()
    }

    /// Returns the same without the values that only PostgreSQL can read.
    fn bare_products(&self, license: &SignedLicense) -> String {
        let mut rows = self.rows(license);
        let members = rows.as_array_mut().into_iter().flatten();
        for row in members.filter_map(Value::as_object_mut) {
            row.retain(|member, _| !READ_BY_POSTGRES.contains(&member.as_str()));
        }
        rows.to_string()
    }

    fn rows(&self, license: &SignedLicense) -> Value {
        let claims = &license.claims;
        let products = claims.products.iter();
        let products = products.filter(|product| license.products.contains(&product.product));
        let rows = products.map(|product| {
            let mut row = serde_json::to_value(product).unwrap_or(Value::Null);
            if let Some(row) = row.as_object_mut() {
                let name = &product.product;
                if license.doubt == Some(Doubt::GivenBack) {
                    // Nobody is admitted, whatever else was signed.
                    row.remove("overdraft");
                    row.remove("enforcement");
                }
                row.insert("bought".to_owned(), json!(license.seats(name)));
                let bought = license.seats(name).map_or(0, i64::from);
                let away = self.away(license, name).min(bought);
                row.insert("away".to_owned(), json!(away));
                row.insert("nbf".to_owned(), json!(claims.nbf));
                row.insert("exp".to_owned(), json!(claims.exp));
                row.insert("ends".to_owned(), json!(claims.ends));
            }
            row
        });
        Value::from_iter(rows)
    }

    /// Drops the licenses whose newest token has changed since they were read, because of a renewal, or because another
    /// database was looked at. Tells whether any was dropped.
    pub fn forget_what_changed(&mut self, record: &Record) -> bool {
        let (former, count) = (&self.record, self.licenses.len());
        self.licenses.retain(|license| {
            let (iss, jti) = (&license.claims.iss, &license.claims.jti);
            let [former, present] = [former, record].map(|record| record.license(iss, jti));
            former.map(|known| &known.token) == present.map(|known| &known.token)
        });
        self.licenses.len() < count
    }

    /// Clamps the rows of `licenses` to what was signed, and replaces rows that are gone by what was signed. To a license
    /// whose intervals or times PostgreSQL can't read they are clamped without those.
    pub fn clamp(&self, licenses: &mut Vec<License>) -> Result<(), ReadError> {
        for license in &self.licenses {
            let signed = match made_of(&self.products(license)) {
                Err(error) if error.is_of_values() => made_of(&self.bare_products(license)),
                made => made,
            };
            for signed in &signed? {
                let unseen = self.away_unseen(license, signed.product.as_str());
                clamp_row(licenses, signed, license, unseen, self.record.latest);
            }
        }
        for license in licenses {
            self.leave_in_force(license);
        }
        Ok(())
    }

    /// Keeps an unsigned license out of the pools of signed ones, and, while the record is lost, limits a signed
    /// license to the seats that it had.
    fn leave_in_force(&self, license: &mut License) {
        if license.signed.is_none() {
            if license.pool.as_str().starts_with(SIGNED_POOL) {
                license.pool = Name::EMPTY;
            }
            return;
        }
        let mut formers = self.lost.iter().flatten();
        let former =
            formers.find(|former| (former.pool, former.product) == (license.pool, license.product));
        if let Some(former) = former
            && former
                .seats
                .is_some_and(|seats| license.seats.is_none_or(|own| seats < own))
        {
            license.seats = former.seats;
        }
    }
}

/// Returns the licenses that PostgreSQL makes of products. It reads them by themselves, because a bad value must not
/// end the reading of all others.
fn made_of(products: &str) -> Result<Vec<License>, ReadError> {
    read_committed(backend::lock_timeout(), |reader| {
        licenses::read_products(reader, products)
    })
}

fn sum<'a>(away: impl Iterator<Item = &'a Away>) -> i64 {
    away.map(|away| i64::from(away.seats)).sum()
}

/// Clamps the row of one product to one license. The row need not know yet that seats are away, or that all were given
/// back.
fn clamp_row(
    rows: &mut Vec<License>,
    signed: &License,
    license: &SignedLicense,
    unseen: i64,
    latest: Timestamp,
) {
    let row = rows.iter_mut().find(|row| row.product == signed.product);
    let terms = |tampered: Tampered| Signed {
        tampered: match license.source {
            Source::Row => tampered,
            // The rows of the license are yet to be written.
            Source::Renewal => Tampered::default(),
            Source::Record => tampered.and(Tampered::TOKEN),
        },
        believed_until: license.believed_until,
        exempt: license.claims.exempt,
        not_before: latest,
    };
    // Databases of one server count together under one license, whatever pool it names, and no other database joins it.
    let pool = license.pool();
    match row {
        Some(row) => {
            let (clamped, mut tampered) = clamp(row, signed);
            let limit = signed.seats.map(|seats| i64::from(seats) + unseen);
            if row
                .seats
                .is_some_and(|seats| limit.is_none_or(|limit| i64::from(seats) <= limit))
            {
                tampered = tampered.without(Tampered::SEATS);
            }
            if license.doubt == Some(Doubt::GivenBack) {
                tampered = tampered.without(Tampered::SEATS.and(Tampered::PURCHASED));
            }
            *row = License {
                signed: Some(terms(tampered)),
                pool,
                ..clamped
            };
        }
        None => rows.push(License {
            signed: Some(terms(Tampered::ROW)),
            pool,
            ..*signed
        }),
    }
}

/// Locks the signed licenses of the database, so that they are changed one at a time, and returns the extension's
/// schema.
pub fn lock(writer: &TableAccess) -> Result<String, ReadError> {
    let schema = schema()?;
    writer.lock("license_keys")?;
    Ok(schema)
}

/// Returns the vendors' keys, and logs which can't be read.
pub fn vendor_keys() -> Keys {
    let (keys, wrong) = read_vendor_keys();
    wrong.into_iter().for_each(error::log);
    keys
}

/// Returns the same, with the lines for the server log.
fn read_vendor_keys() -> (Keys, Vec<String>) {
    let Some(path) = settings::vendor_keys() else {
        return (Keys::default(), Vec::new());
    };
    let (keys, wrong) = Keys::read(&path);
    let line = |(path, reason): (PathBuf, String)| {
        let path = path.display();
        format!("could not read vendor keys from {path}: {reason}")
    };
    (keys, wrong.into_iter().map(line).collect())
}

/// Returns a line for the server log about the record beside an installation's key.
pub fn complaint_of_record(key: &Path, complaint: &str) -> String {
    let key = key.display();
    format!("could not read what was recorded beside {key}: {complaint}")
}
