//! Replaces older tokens by those of renewed licenses, in each database that has them.

use std::time::Duration;

use crate::pg::error::PgSqlErrorCode;
use crate::pg::table::{ReadError, TableAccess, damaged, log_failure, write_alone};
use crate::pg::{backend, encoding};
use crate::signed::evaluation::{SignedLicense, Source};
use crate::signed::products::write_products;
use crate::signed::signed_licenses::{self, SignedLicenses};
use crate::tables::keys;

/// Installs the renewed tokens that this worker's database lacks, and returns whether its tables have changed. A token
/// that they refuse is in force all the same, and the server log says so. It must be called outside a transaction.
///
/// # Errors
///
/// If the tables can't be read now, or somebody holds a lock on them.
pub fn install(licenses: &[SignedLicense], patience: Duration) -> Result<bool, ReadError> {
    if backend::in_recovery() {
        return Ok(false);
    }
    let mut has_changed = false;
    for license in licenses
        .iter()
        .filter(|license| license.source == Source::Renewal)
    {
        match write_alone(patience, |writer| replace(writer, license)) {
            Err(error) if error.code == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE => {
                return Err(error);
            }
            Err(error) => {
                let what = "install a renewed license in";
                log_failure(what, backend::database(), &error, "");
            }
            Ok(()) => has_changed = true,
        }
    }
    Ok(has_changed)
}

fn replace(writer: &TableAccess, license: &SignedLicense) -> Result<(), ReadError> {
    let schema = signed_licenses::lock(writer)?;
    let mut texts = license.claims.texts();
    if !texts.all(encoding::has_letters_of) {
        return Err(damaged(
            "the database's encoding has not all letters of the license",
        ));
    }
    let is_it =
        |other: &&SignedLicense| other.source == Source::Renewal && other.token == license.token;
    let still_lacks = |signed_licenses: &SignedLicenses| {
        signed_licenses.licenses.iter().any(|other| is_it(&other))
    };
    // Under the lock, because somebody may have installed another token meanwhile.
    if !still_lacks(&SignedLicenses::read(writer, &schema)?) {
        return Ok(());
    }
    keys::replace(writer, &schema, &license.claims.jti, &license.token)?;
    // Read again, with this token among the rows.
    let signed_licenses = SignedLicenses::read(writer, &schema)?;
    let mut licenses = signed_licenses.licenses.iter();
    match licenses.find(|other| other.token == license.token) {
        Some(license) => write_products(writer, &schema, &signed_licenses, license, |_| false),
        None => Ok(()),
    }
}
