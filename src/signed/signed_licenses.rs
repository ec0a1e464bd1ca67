//! The signed licenses of this backend's database: reads the tokens, the vendors' keys and what the installation
//! remembers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pgrx::bgworkers::BackgroundWorker;

use crate::core::ledger::identity::Name;
use crate::core::ledger::license::License;
use crate::core::ledger::numbers::TallyId;
use crate::core::ledger::time::Timestamp;
use crate::core::tokens::allotment::Allotted;
use crate::core::tokens::keys::Keys;
use crate::core::tokens::{moment, unix};
use crate::pg::table::{ReadError, TableAccess, read_committed, schema};
use crate::pg::{backend, catalog, error};
use crate::signed::evaluation::{Evaluation, Invalid, SignedLicense, StoredToken};
use crate::signed::installation::files::{self, Read};
use crate::signed::installation::key;
use crate::signed::installation::record::{Allotment, Known, Record};
use crate::tables::allotments::{self, Away};
use crate::tables::keys;
use crate::{memory, settings};

/// How soon signatures are verified again, in microseconds.
const VERIFIED_AGAIN_AFTER: Timestamp = 3_600_000_000;

/// How soon sessions that have not ended are ended again, in microseconds.
const ENDED_AGAIN_AFTER: Timestamp = 60_000_000;

/// The signed licenses of a database, and what is known of them.
#[derive(Default)]
pub struct SignedLicenses {
    /// The licenses.
    pub licenses: Vec<SignedLicense>,
    /// Rows of `license_keys` that have no license.
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
    pub(super) lost: Option<Vec<License>>,
}

/// Tells whether the installation of this license has signed that the seats are away: writing such a row by hand allots
/// nothing.
fn has_signed(license: &SignedLicense, away: &Away) -> bool {
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
        let is_bare = rows.is_empty() && away.is_empty();
        let mut signed_licenses = SignedLicenses {
            away,
            ..SignedLicenses::default()
        };
        let state = files::state(&key).unwrap_or(0);
        if is_bare && memory::read(|ledger| ledger.is_unsigned(database, state)) {
            // The record says nothing about this database, and is not to be read again until it changes.
            return signed_licenses;
        }
        signed_licenses.read_record(&key);
        let is_known = |known: &Known| known.databases.contains(&database);
        if !rows.is_empty() || signed_licenses.record.licenses.iter().any(is_known) {
            signed_licenses.evaluate(rows, &key);
        } else if is_bare && signed_licenses.lost.is_none() {
            memory::write(|ledger| ledger.note_unsigned(database, state));
        }
        signed_licenses
    }

    /// Evaluates the licenses of these rows and of the record, and believes only allotments that were signed.
    fn evaluate(&mut self, rows: &[StoredToken], key: &Path) {
        let uninstalled = rows.iter().filter(|row| !row.is_installed);
        self.uninstalled = uninstalled.map(|row| row.license_id.clone()).collect();
        let (keys, complaints) = read_vendor_keys();
        self.unreadable.extend(complaints);
        let installation = match key::read(key) {
            Ok(pair) => Some(pair.public().id()),
            Err(error) => {
                let key = key.display();
                let complaint = format!("could not read installation key {key}: {error}");
                self.unreadable.push(complaint);
                None
            }
        };
        let pools_in_force = self.lost.as_ref().map(|licenses| {
            let pools = licenses.iter().map(|license| license.pool);
            pools.collect::<Vec<_>>()
        });
        let evaluation = Evaluation {
            keys: &keys,
            record: &self.record,
            lost: pools_in_force.as_deref(),
            installation: installation.as_deref(),
            database: backend::database(),
            key_grace: settings::key_grace(),
            now: backend::now(),
        };
        (self.licenses, self.invalid) = evaluation.licenses(rows);
        self.away.retain(|away| {
            let mut licenses = self.licenses.iter();
            let license = licenses.find(|license| license.claims.jti == away.license_id);
            self.record.allotment(&away.id).is_some()
                || license.is_some_and(|license| has_signed(license, away))
        });
    }

    /// Reads what the installation remembers. If that is lost, what was in force here stays in force, and nothing
    /// beyond it.
    fn read_record(&mut self, key: &Path) {
        match files::read(key) {
            Ok(Read { record, complaint }) => {
                self.record = record;
                let complaint = complaint.map(|complaint| complaint_of_record(key, &complaint));
                self.unreadable.extend(complaint);
            }
            Err(error) => {
                self.unreadable
                    .push(complaint_of_record(key, &error.to_string()));
                let licenses = signed_in_force();
                let signed = licenses.iter().filter_map(|license| license.signed);
                self.record.latest = signed.map(|signed| signed.not_before).max().unwrap_or(0);
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
    pub(super) fn away_unseen(&self, license: &SignedLicense, product: &str) -> i64 {
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
        let end_again = self.overdue().next();
        let end_again = end_again.map(|_| now + ENDED_AGAIN_AFTER);
        to_come.chain(verify).chain(end_again).min()
    }

    /// Returns the tallies of seats that another installation has allotted to this one and that are still in use after
    /// their end.
    pub fn overdue(&self) -> impl Iterator<Item = TallyId> {
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

    /// Drops the licenses whose newest token has changed since they were read, because of a renewal, or because another
    /// database was looked at. Tells whether any was dropped.
    pub fn drop_outdated(&mut self, record: &Record) -> bool {
        let (former, count) = (&self.record, self.licenses.len());
        self.licenses.retain(|license| {
            let (iss, jti) = (&license.claims.iss, &license.claims.jti);
            let [former, present] = [former, record].map(|record| record.license(iss, jti));
            former.map(|known| &known.token) == present.map(|known| &known.token)
        });
        self.licenses.len() < count
    }
}

/// Returns the signed licenses that are in force here, except those that were given back or are no longer believed.
fn signed_in_force() -> Vec<License> {
    let rules = memory::rules::last_in_force(backend::database()).unwrap_or_default();
    let mut licenses = rules.licenses;
    licenses.retain(|license| {
        license.seats != Some(0)
            && license.signed.is_some_and(|signed| {
                let believed_until = signed.believed_until;
                believed_until.is_none_or(|until| backend::now() < until)
            })
    });
    licenses
}

/// Returns how many seats these are.
fn sum<'a>(away: impl Iterator<Item = &'a Away>) -> i64 {
    away.map(|away| i64::from(away.seats)).sum()
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
