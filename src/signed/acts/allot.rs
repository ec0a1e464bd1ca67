//! Allots seats of a license to another installation.

use crate::core::ledger::denial::{Cause, Denial};
use crate::core::ledger::time::Timestamp;
use crate::core::tokens::key_pair::KeyPair;
use crate::core::tokens::{Refused, moment, unix};
use crate::denial::Denied;
use crate::memory;
use crate::pg::backend;
use crate::pg::error::{PgSqlErrorCode, Report, quoted};
use crate::pg::table::{ReadError, TableAccess, damaged};
use crate::signed::allotments;
use crate::signed::evaluation::SignedLicense;
use crate::signed::in_force::{in_force, outdate, withdraw};
use crate::signed::installation::oblivion::MAX as RECORD_MAX;
use crate::signed::installation::record::Allotment;
use crate::signed::own::change;
use crate::signed::refusal::{Refusable, refusal, unsigned};
use crate::signed::signed_licenses::{self, SignedLicenses};
use crate::tables::licenses;

/// A request for an allotment.
pub struct Request {
    /// The product.
    pub product: String,
    /// The number of seats.
    pub seats: i32,
    /// The id of the installation that gets them.
    pub installation: String,
    /// When they come back by themselves; `None`: never.
    pub valid_until: Option<Timestamp>,
    /// The key pair that signs them.
    pub pair: KeyPair,
}

/// Allots seats and returns the token that the other installation installs.
pub fn allot(writer: &TableAccess, request: &Request) -> Refusable<String> {
    let schema = signed_licenses::lock(writer)?;
    let signed_licenses = SignedLicenses::read(writer, &schema)?;
    let Some(license) = signed_licenses.license_of(&request.product) else {
        return Ok(Err(unsigned(&request.product)));
    };
    if let Some(refused) = not_allottable(license, request) {
        return Ok(Err(refused));
    }
    if signed_licenses.record.is_full_of_allotments() {
        return Ok(Err(too_many_away()));
    }
    let assigned = licenses::lock_seats(writer, &schema, &request.product)?;
    let bought = license.seats(&request.product);
    let left_of_all =
        bought.map(|bought| i64::from(bought) - signed_licenses.away(license, &request.product));
    let assigned = assigned.map_or(Some(0), |row| row.seats);
    let left = left_of_all.map(|left| assigned.map_or(left, |assigned| assigned.min(left)));
    if let Some(left) = left.filter(|&left| i64::from(request.seats) > left) {
        return Ok(Err(too_many(request, left)));
    }
    let allotment = new_allotment(license, request)?;
    let token = match allotments::token(&allotment, license, &request.pair) {
        Ok(token) => token,
        Err(refused) => return Ok(Err(too_long(license, &refused))),
    };
    let after = left_of_all.map(|left| left - i64::from(request.seats));
    if let Some(denied) = not_free(request, after) {
        return Ok(Err(denied));
    }
    let noted = note(&signed_licenses, bought, left, &allotment)?;
    let after = match noted {
        Ok(after) => after,
        Err(left) => return Ok(Err(too_many(request, left))),
    };
    if let Some(after) = after {
        withdraw(&request.product, after);
    }
    if let Some(denied) = not_free(request, after) {
        // From here on nobody could take one of these seats, but somebody has just done so.
        undo(&allotment)?;
        return Ok(Err(denied));
    }
    let assigned = assigned.filter(|_| bought.is_some());
    let left = assigned.map(|assigned| assigned - i64::from(request.seats));
    if let Err(error) = enter(writer, &schema, request, left) {
        // Nobody has the token.
        undo(&allotment)?;
        return Err(error);
    }
    Ok(Ok(token))
}

/// Returns the allotment that is requested, in whole seconds, as its token has it.
fn new_allotment(license: &SignedLicense, request: &Request) -> Result<Allotment, ReadError> {
    let whole = |at: Timestamp| at.div_euclid(1_000_000) * 1_000_000;
    let Some(id) = backend::random_uuid() else {
        return Err(damaged("no random numbers are to be had"));
    };
    Ok(Allotment {
        id: uuid(id),
        iss: license.claims.iss.clone(),
        jti: license.claims.jti.clone(),
        product: request.product.clone(),
        seats: request.seats,
        installation: request.installation.clone(),
        database: backend::database(),
        allotted_at: whole(backend::now()),
        valid_until: request.valid_until.map(whole),
        returned_at: None,
    })
}

/// Notes an allotment in the installation's record, and returns how many of the seats that were bought are left. If
/// there are too few, because another database is allotting them at the same time, it notes nothing and returns their
/// number as the inner error.
fn note(
    signed_licenses: &SignedLicenses,
    bought: Option<i32>,
    left: Option<i64>,
    allotment: &Allotment,
) -> Result<Result<Option<i64>, i64>, ReadError> {
    let seats = i64::from(allotment.seats);
    change(|record| {
        signed_licenses.adopt(record);
        let Allotment {
            iss, jti, product, ..
        } = allotment;
        let away = record.away(iss, jti, product, backend::now());
        let left_of_all = bought.map(|bought| i64::from(bought) - away);
        let left = left_of_all.into_iter().chain(left).min();
        if let Some(left) = left.filter(|&left| seats > left) {
            return Err(left);
        }
        record.adopt(allotment.clone());
        Ok(left_of_all.map(|left| left - seats))
    })
}

fn too_many_away() -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        format!("no more than {RECORD_MAX} allotments can be away"),
    )
    .hint("Accept the return of seats that were passed on before.")
}

fn too_long(license: &SignedLicense, refused: &Refused) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        format!("license {} can't be passed on", quoted(&license.claims.jti)),
    )
    .detail(refused.to_string())
    .hint("Ask the vendor for a license with fewer products in one token.")
}

/// Writes the allotment, and how many seats are left, into the tables.
fn enter(
    writer: &TableAccess,
    schema: &str,
    request: &Request,
    left: Option<i64>,
) -> Result<(), ReadError> {
    // Read again, because the record has this allotment now, and perhaps another database's.
    SignedLicenses::read(writer, schema)?.write_allotments(writer, schema, &request.pair)?;
    if let Some(left) = left {
        licenses::set_seats(writer, schema, &request.product, left)?;
    }
    Ok(())
}

/// Removes an allotment from the record whose token nobody has got.
fn undo(allotment: &Allotment) -> Result<(), ReadError> {
    change(|record| {
        let is_another = |other: &Allotment| other.id != allotment.id;
        record.allotments.retain(is_another);
    })?;
    outdate();
    Ok(())
}

fn uuid(id: u128) -> String {
    pgrx::Uuid::from_bytes(id.to_be_bytes()).to_string()
}

fn not_allottable(license: &SignedLicense, request: &Request) -> Option<Report> {
    let product = quoted(&request.product);
    let id = quoted(&license.claims.jti);
    let cannot = |detail: String, hint: &str| {
        Some(
            Report::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("seats of {product} can't be passed on"),
            )
            .detail(detail)
            .hint(hint),
        )
    };
    if license.allotted().is_some() {
        return cannot(
            "They were passed on to this installation by another one.".to_owned(),
            "Have that one pass them on, after license_give_back() here.",
        );
    }
    if license.doubt.is_some() {
        return Some(refusal(
            format!("License {id} can't be verified now."),
            "Look at license_keys_status.",
        ));
    }
    if license.claims.cnf.is_none() {
        return cannot(
            format!("License {id} is made for any installation."),
            "Ask the vendor for one that is made for what license_installation() returns here.",
        );
    }
    let now = unix(backend::now());
    if license.claims.exp.is_some_and(|exp| exp <= now) {
        return cannot(
            format!("License {id} has ended."),
            "Ask the vendor for a new token, or call license_renew().",
        );
    }
    let begins = license.claims.nbf.map(moment);
    if let Some((begins, until)) = begins.zip(request.valid_until)
        && until <= begins
    {
        return cannot(
            format!("License {id} begins no sooner than they would come back."),
            "Give a later valid_until.",
        );
    }
    None
}

fn too_many(request: &Request, left: i64) -> Report {
    let Request { product, seats, .. } = request;
    Report::new(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        format!(
            "cannot pass on {seats} seats of {}: {} are left",
            quoted(product),
            left.max(0)
        ),
    )
    .hint("Give a smaller number, or accept the return of seats that were passed on before.")
}

/// Returns a denial if seats that are to be allotted are in use, in all databases together: they would be used twice.
fn not_free(request: &Request, left: Option<i64>) -> Option<Report> {
    let license = in_force(&request.product)?;
    let left = left?;
    let in_use = memory::read(|ledger| ledger.in_use(license.tally));
    (in_use > left).then(|| {
        Denied::Call.report(&Denial {
            product: license.product,
            tally: license.tally,
            cause: Cause::Full {
                in_use,
                limit: left + i64::from(request.seats),
                kept: 0,
            },
        })
    })
}
