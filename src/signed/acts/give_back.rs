//! Gives back seats that another installation has allotted to this one.

use crate::core::ledger::numbers::TallyId;
use crate::core::tokens::allotment::Returned;
use crate::core::tokens::key_pair::KeyPair;
use crate::core::tokens::{moment, unix};
use crate::ending::stop;
use crate::memory;
use crate::pg::backend;
use crate::pg::error::{PgSqlErrorCode, Report, quoted};
use crate::pg::table::{self, TableAccess, damaged};
use crate::signed::in_force::{in_force, withdraw};
use crate::signed::installation::record::GivenBack;
use crate::signed::own::change;
use crate::signed::refusal::{Refusable, unsigned};
use crate::signed::signed_licenses::{self, SignedLicenses};
use crate::tables::licenses;

/// Gives all seats of an allotment back and returns the receipt for the installation that had allotted them.
pub fn give_back(writer: &TableAccess, product: &str, pair: &KeyPair) -> Refusable<String> {
    let schema = signed_licenses::lock(writer)?;
    let signed_licenses = SignedLicenses::read(writer, &schema)?;
    let Some(license) = signed_licenses.license_of(product) else {
        return Ok(Err(unsigned(product)));
    };
    let Some(allotted) = license.allotted() else {
        return Ok(Err(Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!(
                "the seats of {} were not passed on to this installation",
                quoted(product)
            ),
        )
        .hint(
            "They are the vendor's license, which license_uninstall() removes.",
        )));
    };
    let tally = in_force(product).map_or(TallyId::NONE, |license| license.tally);
    if memory::read(|ledger| ledger.holds_any(backend::slot(), tally)) {
        return Ok(Err(Report::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "cannot give back the seat that you use yourself",
        )
        .hint(
            "Log in as a user who is exempt, or without claiming the product.",
        )));
    }
    let now = backend::now();
    let returned = Returned {
        iss: pair.public().id(),
        jti: allotted.jti.clone(),
        iat: unix(now),
        product: allotted.product.clone(),
        seats: allotted.seats,
    };
    let receipt = returned
        .sign(pair)
        .map_err(|refused| damaged(&refused.to_string()))?;
    let receipt = change(|record| {
        // Even if no worker has seen yet that the license is here.
        record.observe(backend::database(), &signed_licenses.licenses, now);
        let given_back = record.given_back.entry(allotted.jti.clone());
        let given_back = given_back.or_insert(GivenBack {
            at: now,
            product: product.to_owned(),
            receipt,
            ends: allotted.exp.map(moment),
        });
        given_back.receipt.clone()
    })?;
    // Nobody gets in any more, whatever was in force before.
    withdraw(product, 0);
    stop::stop_all(
        tally,
        "The seats of this server are given back.",
        stop::PATIENCE,
    );
    if memory::read(|ledger| ledger.in_use(tally)) != 0 {
        return Ok(Err(Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
            format!("not all sessions of {} have ended", quoted(product)),
        )
        .detail("Nobody else gets a seat of it any more.")
        .hint(
            "Call license_give_back() again once they have; look at license_active_seats.",
        )));
    }
    // The schema may have been renamed meanwhile, and another one may have its name.
    let schema = table::schema()?;
    licenses::empty(writer, &schema, product)?;
    Ok(Ok(receipt))
}
