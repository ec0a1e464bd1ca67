//! Takes back seats that another installation has given back.

use crate::core::tokens::allotment::Returned;
use crate::core::tokens::key_pair::KeyPair;
use crate::pg::backend;
use crate::pg::error::{PgSqlErrorCode, Report};
use crate::pg::table::TableAccess;
use crate::signed::allotments;
use crate::signed::in_force::outdate;
use crate::signed::own::change;
use crate::signed::refusal::Refusable;
use crate::signed::signed_licenses::{self, SignedLicenses};

/// Takes back the seats of a receipt and returns how many they are.
pub fn accept(writer: &TableAccess, returned: &Returned, pair: &KeyPair) -> Refusable<i32> {
    let schema = signed_licenses::lock(writer)?;
    let signed_licenses = SignedLicenses::read(writer, &schema)?;
    let taken_back = change(|record| {
        signed_licenses.adopt(record);
        let Some(allotment) = record.allotment(&returned.jti) else {
            return Err("No such seats were passed on from this installation.");
        };
        let is_it = allotment.installation == returned.iss
            && allotment.product == returned.product
            && allotment.seats == returned.seats;
        let is_here = allotments::is_of_this_database(allotment)
            || signed_licenses
                .away
                .iter()
                .any(|away| away.id == returned.jti);
        if !is_it {
            return Err("It is not of the installation that has these seats.");
        }
        if !is_here {
            return Err("These seats were passed on from another database of this server.");
        }
        if !record.note_return(&returned.jti, backend::now()) {
            return Err("These seats have come back already.");
        }
        Ok(())
    })?;
    if let Err(detail) = taken_back {
        return Ok(Err(unacceptable(detail)));
    }
    // Read again, because the record has changed.
    SignedLicenses::read(writer, &schema)?.write_allotments(writer, &schema, pair)?;
    outdate();
    Ok(Ok(returned.seats))
}

/// Returns the report for a receipt that takes nothing back (28000).
pub fn unacceptable(detail: impl Into<String>) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
        "could not verify the receipt",
    )
    .detail(detail)
    .hint("Give what license_give_back() has returned on the installation that had the seats; license_allotments has them.")
    .reason(c"license_not_verified")
}
