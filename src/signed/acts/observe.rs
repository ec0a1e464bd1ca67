//! Makes the installation remember what is seen of a database's signed licenses.

use std::time::Duration;

use pgrx::bgworkers::BackgroundWorker;
use serde_json::json;

use crate::core::ledger::numbers::DatabaseOid;
use crate::ending::stop;
use crate::events::warning::{self, Warning};
use crate::pg::error::{self, quoted};
use crate::pg::table::{ReadError, write_alone};
use crate::pg::{backend, catalog};
use crate::settings;
use crate::signed::evaluation::{Doubt, Invalid, SignedLicense};
use crate::signed::installation::{files, key};
use crate::signed::signed_licenses::{self, SignedLicenses, complaint_of_record};

/// The text for those who use an allotted seat at its end.
const TIME_IS_OVER: &str = "The time is over for which the seats of this server were lent.";

/// How long to wait for them.
const OVERDUE_PATIENCE: Duration = Duration::from_secs(1);

/// Makes the installation remember what a worker has seen of its database's signed licenses, and warns of those that
/// are newly in doubt. Returns false if some must be looked at again, because more has become known of them since they
/// were read. Only a worker may call it, outside a transaction.
///
/// # Errors
///
/// If the tables can't be written now.
pub fn observe(
    database: DatabaseOid,
    mut signed_licenses: SignedLicenses,
    patience: Duration,
) -> Result<bool, ReadError> {
    let databases = BackgroundWorker::transaction(catalog::databases);
    let mut lines = signed_licenses.unreadable.clone();
    lines.extend(signed_licenses.invalid.iter().map(line_of_invalid));
    let has_allotted = signed_licenses.has_allotted();
    let now = backend::now();
    let key = settings::installation_key();
    let observed = files::change(&key, |record| {
        record.keep_databases(|database| databases.contains(&database));
        record.uninstall(database, &signed_licenses.uninstalled);
        signed_licenses.adopt(record);
        let has_changed = signed_licenses.drop_outdated(record);
        let doubtful = record.observe(database, &signed_licenses.licenses, now);
        record.forget();
        (doubtful, has_changed)
    });
    let (doubtful, has_changed) = match observed {
        // The record may have been damaged since it was read, and is repaired now.
        Ok((observed, damaged)) => {
            let line = damaged.map(|damaged| complaint_of_record(&key, &damaged));
            lines.extend(line.filter(|line| !signed_licenses.unreadable.contains(line)));
            observed
        }
        Err(error) => {
            lines.push(format!(
                "could not record what is known of signed licenses: {error}"
            ));
            (Vec::new(), false)
        }
    };
    let mut news = Vec::new();
    for license in &signed_licenses.licenses {
        let Some(warning) = warning_of_doubt(license) else {
            continue;
        };
        if doubtful.contains(&license.claims.jti) {
            news.push(warning);
        } else if license.doubt != Some(Doubt::Elsewhere) {
            // At each look, whereas a license of another installation is reported once.
            lines.push(warning.into_line());
        }
    }
    BackgroundWorker::transaction(|| lines.into_iter().for_each(error::log));
    if has_allotted && !backend::in_recovery() {
        write_allotments(patience)?;
    }
    end_overdue(&signed_licenses);
    warning::note_and_give(&news, patience);
    Ok(!has_changed)
}

/// Makes the tables follow what was recorded of allotments.
fn write_allotments(patience: Duration) -> Result<(), ReadError> {
    let Ok(pair) = key::read(&settings::installation_key()) else {
        // The log says so already.
        return Ok(());
    };
    write_alone(patience, |writer| {
        // Under the lock, because an allotment that is noted and not yet written may still be undone.
        let schema = signed_licenses::lock(writer)?;
        SignedLicenses::read(writer, &schema)?.write_allotments(writer, &schema, &pair)
    })
}

/// Ends the use of seats that another installation has allotted to this one, once they have ended: there they are soon
/// somebody else's. Only a worker may call it, outside a transaction.
fn end_overdue(signed_licenses: &SignedLicenses) {
    for tally in signed_licenses.overdue() {
        BackgroundWorker::transaction(|| stop::stop_all(tally, TIME_IS_OVER, OVERDUE_PATIENCE));
    }
}

/// Returns the line for the server log about a row that has no license.
fn line_of_invalid(invalid: &Invalid) -> String {
    let id = quoted(&invalid.license_id);
    let refused = &invalid.refused;
    format!("license_keys has no license in its row {id}: {refused}")
}

/// Returns the warning of a license that is believed only for a time.
fn warning_of_doubt(license: &SignedLicense) -> Option<Warning> {
    let until = catalog::timestamp_iso(license.believed_until?);
    let id = &license.claims.jti;
    let (what, word) = match license.doubt {
        Some(Doubt::Elsewhere) => ("is made for another installation", "other installation"),
        _ => ("can't be verified", "unverified"),
    };
    let line = format!(
        "license {} {what}: it is believed until {until}",
        quoted(id)
    );
    let payload = json!({
        "event": "license in doubt",
        "state": word,
        "license_id": id,
        "believed_until": until,
    });
    Some(Warning::of_license(line, payload))
}
