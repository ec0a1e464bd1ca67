//! `license_renew`, and the columns of `license_keys_status` about renewals.

use pgrx::prelude::*;

use super::arguments;
use super::{require_preloaded, require_writable};
use crate::core::command::Failure;
use crate::core::tokens::claims::Claims;
use crate::core::tokens::is_allotment;
use crate::pg::error::{PgLogLevel, PgSqlErrorCode, Report, escaped, quoted};
use crate::pg::table::{read_committed, schema, write_as_part};
use crate::pg::text::TextArgument;
use crate::pg::{backend, catalog};
use crate::settings;
use crate::signed::acts::install::{install, require_letters};
use crate::signed::evaluation::{Doubt, SignedLicense};
use crate::signed::installation::record::{Known, Record};
use crate::signed::installation::renewal_lock::RenewalLock;
use crate::signed::refusal::{answer, failed, refusal};
use crate::signed::renewal::{attempt, schedule};
use crate::signed::signed_licenses::SignedLicenses;

/// Renews a license of this database now, or all that a vendor has issued, by `pg_seats.renewal_command`, and returns
/// how many. Raises 55000 if that setting is empty, 55006 if licenses are being renewed already, 42704 for a license
/// that is not installed here, 22023 for an allotment, 38000 if the command fails, takes longer than 30 seconds or
/// can't be run, and 28000 if what it writes is not the license's next token, or no key has ever verified the license
/// here. If some are renewed and some are not, each of the latter is a WARNING.
///
/// A token that was fetched is this installation's license from then on, in every database that has it: a rollback
/// undoes the rows that were written here, and a worker writes them again. A try that fails counts as one whatever
/// becomes of the transaction.
#[pg_extern(sql = false)]
fn license_renew(license_id: Option<TextArgument>) -> i32 {
    require_preloaded();
    require_writable("license_renew()");
    let license_id = license_id.map(|id| arguments::checked("license_id", id));
    if settings::renewal_command().is_none() {
        Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "pg_seats.renewal_command is not set",
        )
        .hint("Set it to the command that fetches a license's next token from the vendor.")
        .raise()
    }
    let lock = take_renewal_lock();
    let licenses = licenses(license_id.as_deref());
    let by = (catalog::role_name(backend::role()), backend::database());
    let mut renewed = 0;
    let mut failures = Vec::new();
    for SignedLicense { claims, token, .. } in &licenses {
        match attempt::renew(&lock, (claims, token), Some(by.clone())) {
            Ok((token, claims)) => {
                write(&token, &claims);
                renewed += 1;
            }
            // A failure keeps no other license from its turn.
            Err(reason) => failures.push(report(&claims.jti, &reason)),
        }
    }
    let mut failures = failures.into_iter();
    if renewed == 0
        && let Some(first) = failures.next()
    {
        first.raise()
    }
    // An error would undo what the others got.
    failures.for_each(|failure| failure.log(PgLogLevel::WARNING));
    renewed
}

fn take_renewal_lock() -> RenewalLock {
    let lock = RenewalLock::take(&settings::installation_key()).unwrap_or_else(|error| {
        Report::new(
            PgSqlErrorCode::ERRCODE_IO_ERROR,
            "could not begin to renew licenses",
        )
        .detail(format!("{error}."))
        .hint("Look at the folder of pg_seats.installation_key.")
        .raise()
    });
    lock.unwrap_or_else(|| {
        Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
            "licenses are being renewed already",
        )
        .hint("Try again in a minute; license_keys_status shows what came of it.")
        .raise()
    })
}

/// Returns the licenses that are to be renewed.
fn licenses(license_id: Option<&str>) -> Vec<SignedLicense> {
    let signed_licenses = read_committed(backend::lock_timeout(), |reader| {
        SignedLicenses::read(reader, &schema()?)
    });
    let SignedLicenses {
        mut licenses,
        record,
        ..
    } = signed_licenses.unwrap_or_else(|error| failed(error));
    // No command is told of a license that anybody may have written.
    let was_verified = |license: &SignedLicense| {
        let claims = &license.claims;
        let known = record.license(&claims.iss, &claims.jti);
        !matches!(license.doubt, Some(Doubt::Unverified(_)))
            || known.is_some_and(|known| known.is_verified)
    };
    let Some(id) = license_id else {
        licenses.retain(|license| !is_allotment(&license.token) && was_verified(license));
        return licenses;
    };
    licenses.retain(|license| license.claims.jti == id);
    if licenses.is_empty() {
        Report::new(
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            format!("license {} is not installed in this database", quoted(id)),
        )
        .hint("license_keys_status shows those that are.")
        .raise()
    }
    if licenses.iter().any(|one| is_allotment(&one.token)) {
        arguments::refuse(
            format!("license {} is an allotment", quoted(id)),
            "Have the installation that has passed it on allot it anew.",
        )
    }
    if !licenses.iter().all(was_verified) {
        refusal(
            format!(
                "No key of a vendor's has ever verified license {} here.",
                quoted(id)
            ),
            "Put the vendor's public key where pg_seats.vendor_keys says.",
        )
        .raise()
    }
    licenses
}

/// Writes the next token into this database's tables.
fn write(token: &str, claims: &Claims) {
    require_letters(claims);
    answer(write_as_part(backend::lock_timeout(), |writer| {
        install(writer, token, claims)
    }));
}

fn report(license_id: &str, failure: &Failure) -> Report {
    let detail = escaped(&failure.to_string());
    let message = format!("could not renew license {}", quoted(license_id));
    let report = match failure {
        Failure::Command(_) | Failure::Complained { .. } => {
            Report::new(PgSqlErrorCode::ERRCODE_EXTERNAL_ROUTINE_EXCEPTION, message)
                .hint("Look at pg_seats.renewal_command, and run it by hand as the server's user.")
        }
        Failure::Answer(_) => Report::new(
            PgSqlErrorCode::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
            message,
        )
        .hint("Ask the vendor; the token that is installed stays in force.")
        .reason(c"license_not_verified"),
    };
    report.detail(detail)
}

/// Returns when a license is to be renewed next, automatically, and why the last try failed, for those who may see
/// that.
pub fn shown(
    record: &Record,
    license: &SignedLicense,
) -> (Option<TimestampWithTimeZone>, Option<String>) {
    let claims = &license.claims;
    let known = record.license(&claims.iss, &claims.jti);
    let known = known.filter(|known| !known.token.is_empty()).cloned();
    let known = known.unwrap_or_else(|| Known {
        token: license.token.clone(),
        is_verified: !matches!(license.doubt, Some(Doubt::Unverified(_))),
        ..Known::default()
    });
    let is_tried = settings::renewal_command().is_some() && !backend::in_recovery();
    let next = schedule::next_try_at(&known, settings::renew_before());
    let next = next.filter(|_| is_tried).and_then(super::times::timestamp);
    let failure = known.renewal.failure;
    (next, failure.filter(|_| catalog::sees_renewals()))
}
