//! `license_install`, `license_uninstall`, `license_installation`, and the rows of the view `license_keys_status`:
//! signed licenses.

use pgrx::JsonB;
use pgrx::prelude::*;
use serde_json::Value;

use super::arguments::{self, refuse};
use super::renewal;
use super::require_preloaded;
use super::times::{days_left, timestamp};
use crate::core::ledger::time::Timestamp;
use crate::core::tokens::claims::LEEWAY;
use crate::core::tokens::moment;
use crate::pg::backend;
use crate::pg::error::{PgSqlErrorCode, Report};
use crate::pg::table::{read_committed, schema, write_as_part};
use crate::pg::text::{ServerText, TextArgument};
use crate::signed::acts::install::{install, verified};
use crate::signed::evaluation::{Doubt, SignedLicense, Source};
use crate::signed::own::own_key;
use crate::signed::refusal::{answer, failed, unverifiable};
use crate::signed::signed_licenses::{self, SignedLicenses};
use crate::tables::{keys, licenses};

/// Installs a signed license in this database, and returns its id; effective at commit. Raises 28000 for a token that
/// can't be verified, is made for another installation, has ended, or is older than the one that is installed; 22023 if
/// one of its products is another license's, or would be claimed by the same logins as another product.
#[pg_extern(sql = false)]
fn license_install(token: Option<TextArgument>) -> ServerText {
    require_preloaded();
    let Some(token) = token else {
        refuse(
            "token must not be null",
            "Give the token that the vendor has issued.",
        )
    };
    let token = token.as_str().trim();
    let claims = verified(token);
    let id = claims.jti.clone();
    let patience = backend::lock_timeout();
    let installed = write_as_part(patience, |writer| install(writer, token, &claims));
    match installed {
        Err(error) if error.code == PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION => Report::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "the same logins would claim two products",
        )
        .detail("Of the rows of licenses that logins claim each needs another application_name.")
        .hint("Change or delete the rows of other products, or ask the vendor for a license that says what claims each.")
        .raise(),
        Err(error) if error.is_of_values() => unverifiable(
            format!("No rows of licenses can be made of it: {}.", error.message),
            "Ask the vendor for a token whose rules are values of the columns of licenses.",
        ),
        installed => answer(installed),
    }
    id.into()
}

/// Removes a signed license from this database, with the rows of its products; effective at commit. Returns false if
/// there is none.
#[pg_extern(sql = false)]
fn license_uninstall(license_id: Option<TextArgument>) -> bool {
    require_preloaded();
    let license_id = arguments::required("license_id", license_id);
    let removed = write_as_part(backend::lock_timeout(), |writer| {
        let schema = signed_licenses::lock(writer)?;
        let signed_licenses = SignedLicenses::read(writer, &schema)?;
        let mut licenses = signed_licenses.licenses.iter();
        let license = licenses.find(|license| license.claims.jti == license_id);
        for product in license.iter().flat_map(|license| &license.products) {
            licenses::delete(writer, &schema, product)?;
        }
        // If somebody has deleted the row, it is inserted again, as one that is uninstalled.
        let token = license.map(|license| license.token.as_str());
        keys::uninstall(writer, &schema, &license_id, token)
    });
    removed.unwrap_or_else(|error| failed(error))
}

/// Returns this server's public key as a JWK; its `kid` is the installation's id. Raises 55000 if pg_seats is not
/// preloaded, or the key can't be read.
#[pg_extern(sql = false)]
fn license_installation() -> JsonB {
    require_preloaded();
    JsonB(serde_json::to_value(own_key().public()).unwrap_or(Value::Null))
}

/// Returns the signed licenses of this database, for the view `license_keys_status`. Raises 55000 if pg_seats is not
/// preloaded.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns of a view")]
fn license_keys_status() -> TableIterator<
    'static,
    (
        name!(license_id, ServerText),
        name!(issuer, Option<ServerText>),
        name!(customer, Option<ServerText>),
        name!(products, Option<JsonB>),
        name!(valid_from, Option<TimestampWithTimeZone>),
        name!(valid_until, Option<TimestampWithTimeZone>),
        name!(days_left, Option<i32>),
        name!(state, &'static str),
        name!(detail, Option<ServerText>),
        name!(believed_until, Option<TimestampWithTimeZone>),
        name!(installation, Option<ServerText>),
        name!(token, Option<ServerText>),
        name!(next_renewal_at, Option<TimestampWithTimeZone>),
        name!(renewal_failure, Option<ServerText>),
    ),
> {
    require_preloaded();
    let signed_licenses = read_committed(backend::lock_timeout(), |reader| {
        SignedLicenses::read(reader, &schema()?)
    });
    let signed_licenses = signed_licenses.unwrap_or_else(|error| failed(error));
    let now = backend::now().max(signed_licenses.record.latest);
    let record = signed_licenses.record;
    let text = |text: String| Some(ServerText::from(text));
    let licenses = signed_licenses.licenses.into_iter().map(move |license| {
        let (state, detail) = state(&license, now);
        let (next_renewal_at, renewal_failure) = renewal::shown(&record, &license);
        let claims = license.claims;
        let mut products = claims.products;
        products.retain(|product| license.products.contains(&product.product));
        let products = serde_json::to_value(products).ok();
        let (from, until) = (claims.nbf.map(moment), claims.exp.map(moment));
        (
            claims.jti.into(),
            text(claims.iss),
            text(claims.sub),
            products.map(JsonB),
            from.and_then(timestamp),
            until.and_then(timestamp),
            days_left(until, now),
            state,
            detail.map(ServerText::from),
            license.believed_until.and_then(timestamp),
            claims.cnf.and_then(|cnf| text(cnf.jkt)),
            text(license.token),
            next_renewal_at,
            renewal_failure.map(ServerText::from),
        )
    });
    let invalid = signed_licenses.invalid.into_iter().map(move |invalid| {
        let detail = text(invalid.refused.to_string());
        (
            invalid.license_id.into(),
            None,
            None,
            None,
            None,
            None,
            None,
            "invalid",
            detail,
            None,
            None,
            None,
            None,
            None,
        )
    });
    TableIterator::new(licenses.chain(invalid).collect::<Vec<_>>())
}

/// Returns the word for a license's state, and a detail.
fn state(license: &SignedLicense, now: Timestamp) -> (&'static str, Option<String>) {
    let claims = &license.claims;
    let is_given_back = license.doubt == Some(Doubt::GivenBack);
    if license.products.is_empty() && !is_given_back {
        return (
            "superseded",
            Some("Its products are licensed by other licenses here.".to_owned()),
        );
    }
    match &license.doubt {
        Some(Doubt::Unverified(refused)) => ("unverified", Some(refused.to_string())),
        Some(Doubt::Elsewhere) => ("other installation", None),
        Some(Doubt::GivenBack) => ("given back", None),
        None if claims.exp.is_some_and(|exp| moment(exp) <= now) => ("expired", None),
        None if claims.nbf.is_some_and(|nbf| moment(nbf - LEEWAY) > now) => ("not yet valid", None),
        None if license.source == Source::Record => (
            "tampered",
            Some(
                "The row of license_keys was removed or replaced without license_uninstall()."
                    .to_owned(),
            ),
        ),
        None => ("valid", None),
    }
}
