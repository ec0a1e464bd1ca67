//! Installs a license in this database.

use crate::core::tokens::claims::{Claims, Unfit};
use crate::core::tokens::{Refused, believe, is_allotment, unix, verify};
use crate::pg::encoding;
use crate::pg::error::{PgSqlErrorCode, Report, quoted};
use crate::pg::table::{TableAccess, damaged};
use crate::signed::evaluation::{Doubt, SignedLicense};
use crate::signed::installation::oblivion::MAX as RECORD_MAX;
use crate::signed::own::{change, latest, own_key};
use crate::signed::products::write_products;
use crate::signed::refusal::{Refusable, refusal, unverifiable};
use crate::signed::signed_licenses::{self, SignedLicenses};
use crate::tables::keys;

/// Returns the claims of a token that may be installed here, or raises why it may not.
pub fn verified(token: &str) -> Claims {
    let claims = match verify(token, &signed_licenses::vendor_keys()) {
        Ok(claims) => claims,
        Err(refused @ Refused::NoKey { .. }) => unverifiable(
            refused.to_string(),
            "Put the vendor's public key where pg_seats.vendor_keys says; the server log has what could not be read.",
        ),
        Err(refused) => unverifiable(
            refused.to_string(),
            "Ask the vendor for a token that is whole.",
        ),
    };
    let own = claims.cnf.as_ref().map(|_| own_key().public().id());
    if let Err(unfit) = claims.fit(unix(latest()), own.as_deref()) {
        let hint = match unfit {
            Unfit::IssuedAhead => {
                "Look at the server's clock, or ask the vendor for a token that was issued today."
            }
            Unfit::Ended => "Ask the vendor for a new one.",
            Unfit::NotYetValid => {
                "Install it when it is; until then the former one stays in force."
            }
            Unfit::Elsewhere { .. } => {
                "Ask for one that is made for what license_installation() returns here."
            }
        };
        unverifiable(unfit.to_string(), hint);
    }
    require_letters(&claims);
    claims
}

/// Refuses a license that can't be written into this database.
pub fn require_letters(claims: &Claims) {
    if let Some(text) = claims.texts().find(|text| !encoding::has_letters_of(text)) {
        unverifiable(
            format!(
                "Encoding {} of this database has not all letters of {}.",
                encoding::name(),
                quoted(text)
            ),
            "Install it in a database whose encoding has them, as UTF8 has.",
        );
    }
}

/// Writes a verified license into the tables.
pub fn install(writer: &TableAccess, token: &str, claims: &Claims) -> Refusable<()> {
    let schema = signed_licenses::lock(writer)?;
    let token_before = keys::token_of(writer, &schema, &claims.jti)?;
    // Even if it was uninstalled, because what is remembered of it is found by this row.
    let known = token_before.and_then(|token| believe(&token).ok());
    if known.is_some_and(|known| known.iss != claims.iss) {
        return Ok(Err(taken(claims)));
    }
    let former = SignedLicenses::read(writer, &schema)?;
    if let Some(refused) = conflict(&former, token, claims) {
        return Ok(Err(refused));
    }
    // Before anybody can uninstall it again: no worker may have seen it yet.
    let is_installed = former.licenses.iter().any(|known| known.token == token);
    if !change(|record| record.verified(claims))? && !is_installed {
        return Ok(Err(outdated()));
    }
    keys::install(writer, &schema, &claims.jti, token)?;
    // Read again, with this token among the rows.
    let signed_licenses = SignedLicenses::read(writer, &schema)?;
    let license = signed_licenses
        .licenses
        .iter()
        .find(|license| license.token == token);
    let license = license.ok_or_else(|| damaged("the license could not be stored"))?;
    // Of a license that was given back, a row without seats is left.
    let was_given_back = |product: &str| {
        let license = former.license_of(product);
        license.is_some_and(|license| license.doubt == Some(Doubt::GivenBack))
    };
    write_products(writer, &schema, &signed_licenses, license, was_given_back)?;
    Ok(Ok(()))
}

/// Returns why a verified token must not be installed, if it must not.
fn conflict(signed_licenses: &SignedLicenses, token: &str, claims: &Claims) -> Option<Report> {
    let same = |license: &&SignedLicense| license.claims.jti == claims.jti;
    let known = signed_licenses.record.license(&claims.iss, &claims.jti);
    let newest = signed_licenses
        .licenses
        .iter()
        .filter(same)
        .filter(|license| !matches!(license.doubt, Some(Doubt::Unverified(_))))
        .map(|license| (license.claims.iat, license.token.as_str()))
        .chain(known.map(|known| (known.iat, known.token.as_str())))
        .max();
    if let Some((iat, newest)) = newest
        && newest != token
        && iat >= claims.iat
    {
        return Some(outdated());
    }
    if claims.ends.is_none() && is_allotment(token) && signed_licenses.record.is_full_of_returns() {
        return Some(refusal(
            format!(
                "This installation has given back {RECORD_MAX} allotments without an end, and can't remember more."
            ),
            "Have seats passed on with valid_until.",
        ));
    }
    if signed_licenses.record.given_back.contains_key(&claims.jti) {
        return Some(refusal(
            "This installation has given these seats back.",
            "Have them allotted anew.",
        ));
    }
    let bad = |message: String, hint: &str| {
        Some(Report::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message).hint(hint))
    };
    for license in &signed_licenses.licenses {
        if license.doubt == Some(Doubt::GivenBack) {
            continue;
        }
        if same(&license) {
            if license.claims.iss != claims.iss {
                return Some(taken(claims));
            }
            continue;
        }
        let is_taken = |name: &&String| claims.products.iter().any(|own| own.product == **name);
        if let Some(product) = license.products.iter().find(is_taken) {
            return bad(
                format!(
                    "product {} is licensed by license {} of {}",
                    quoted(product),
                    quoted(&license.claims.jti),
                    quoted(&license.claims.iss)
                ),
                "Uninstall that one first with license_uninstall(), or ask the vendor for a renewal, which has the same id.",
            );
        }
    }
    None
}

fn outdated() -> Report {
    refusal(
        "A newer token of the same license is installed already, or was.",
        "Ask the vendor for the newest one.",
    )
}

fn taken(claims: &Claims) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        format!("license {} is another vendor's", quoted(&claims.jti)),
    )
    .hint("Ask the vendor for a license with another id.")
}
