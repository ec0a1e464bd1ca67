//! `license_install`, `license_uninstall`, `license_installation`, and what the view
//! `license_keys_status` shows: signed licenses.

use pgrx::JsonB;
use pgrx::prelude::*;
use serde_json::Value;

use super::allotments::change;
use super::arguments::{self, refuse};
use super::renewal;
use super::require_preloaded;
use super::usage::{days_left, timestamp};
use crate::core::ledger::time::Timestamp;
use crate::core::tokens::claims::{Claims, LEEWAY, Unfit};
use crate::core::tokens::key_pair::KeyPair;
use crate::core::tokens::{Refused, believe, is_allotment, moment, unix, verify};
use crate::pg::backend;
use crate::pg::encoding::{self};
use crate::pg::error::{PgSqlErrorCode, Report, quoted};
use crate::pg::table::{
    Argument, ReadError, Reader, damaged, read_committed, schema, write_as_part,
};
use crate::pg::text::{ServerText, TextArgument};
use crate::settings;
use crate::signed::book::{self, Book};
use crate::signed::evaluation::{Doubt, Standing};
use crate::signed::installation::files;
use crate::signed::installation::key;
use crate::signed::installation::oblivion::MAX as RECORD_MAX;
use crate::signed::products::write_products;

/// Installs a signed license in this database; effective at commit. Returns its id. Raises 28000 for a token that
/// can't be verified, is made for another installation, has ended, or is older than the one that is
/// installed; 22023 where one of its products is another license's, or would be claimed by the same logins as
/// another product.
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

/// What a token says that may be installed here.
fn verified(token: &str) -> Claims {
    let claims = match verify(token, &book::vendor_keys()) {
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

/// The latest moment that this server has known: what has ended stays so when the clock is set back.
fn latest() -> Timestamp {
    let record = files::record(&settings::installation_key());
    let now = backend::now();
    record.map_or(now, |record| now.max(record.latest))
}

/// Refuses a license that can't be written into this database.
pub(super) fn require_letters(claims: &Claims) {
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

/// Refuses a token.
pub(super) fn unverifiable(detail: impl Into<String>, hint: &str) -> ! {
    refusal(detail, hint).raise()
}

pub(super) fn refusal(detail: impl Into<String>, hint: &str) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
        "could not verify the license",
    )
    .detail(detail)
    .hint(hint)
    .reason(c"license_not_verified")
}

/// What a statement's result is, or why it was refused.
pub(super) type Refusable<R> = Result<Result<R, Report>, ReadError>;

/// What was refused is raised outside the tables' reading.
pub(super) fn answer<R>(result: Refusable<R>) -> R {
    match result {
        Ok(Ok(result)) => result,
        Ok(Err(refused)) => refused.raise(),
        Err(error) => failed(error),
    }
}

pub(super) fn failed(error: ReadError) -> ! {
    Report::new(error.code, error.message)
        .hint("Try again; if it persists, look at the tables licenses and license_keys.")
        .raise()
}

pub(super) fn own_key() -> KeyPair {
    let path = settings::installation_key();
    key::read(&path).unwrap_or_else(|error| {
        // Where it is, is not for everybody to know.
        crate::pg::error::log(format!(
            "could not read installation key {}: {error}",
            path.display()
        ));
        Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "could not read this installation's key",
        )
        .hint("The server log says why. Restore the file from a backup; where there is none, the server makes one when it starts.")
        .raise()
    })
}

/// Writes a verified license into the tables.
pub(super) fn install(writer: &Reader, token: &str, claims: &Claims) -> Refusable<()> {
    let schema = book::lock(writer)?;
    let tokens = writer.query_with(
        &format!("SELECT token FROM ONLY {schema}.license_keys WHERE license_id = $1"),
        &[Argument::Text(Some(&claims.jti))],
        |row| row.text(1),
    )?;
    // Also when it was uninstalled: what is remembered of it goes by this row.
    let known = tokens.iter().flatten().map(|token| believe(token));
    if known.flatten().any(|known| known.iss != claims.iss) {
        return Ok(Err(taken(claims)));
    }
    let former = Book::read(writer, &schema)?;
    if let Some(refused) = conflict(&former, token, claims) {
        return Ok(Err(refused));
    }
    // Before anybody can uninstall it again: no visitor need have seen it.
    let is_installed = former.standings.iter().any(|known| known.token == token);
    if !change(|record| record.verified(claims))? && !is_installed {
        return Ok(Err(outdated()));
    }
    let statement = format!(
        "INSERT INTO {schema}.license_keys (license_id, token) VALUES ($1, $2)
             ON CONFLICT (license_id) DO UPDATE
                SET token = excluded.token, installed_at = excluded.installed_at,
                    installed_by = excluded.installed_by, uninstalled_at = NULL
              WHERE license_keys.token <> excluded.token OR license_keys.uninstalled_at IS NOT NULL"
    );
    let arguments = [
        Argument::Text(Some(&claims.jti)),
        Argument::Text(Some(token)),
    ];
    writer.execute(&statement, &arguments)?;
    // As it is now, with this token among them.
    let book = Book::read(writer, &schema)?;
    let standing = book
        .standings
        .iter()
        .find(|standing| standing.token == token);
    let standing = standing.ok_or_else(|| damaged("the license could not be stored"))?;
    // Of what was given back a row without seats is left.
    let was_given_back = |product: &str| {
        let license = former.license_of(product);
        license.is_some_and(|license| license.doubt == Some(Doubt::GivenBack))
    };
    write_products(writer, &schema, &book, standing, was_given_back)?;
    Ok(Ok(()))
}

/// Why a verified token must not be installed.
fn conflict(book: &Book, token: &str, claims: &Claims) -> Option<Report> {
    let same = |standing: &&Standing| standing.claims.jti == claims.jti;
    let known = book.record.license(&claims.iss, &claims.jti);
    let newest = book
        .standings
        .iter()
        .filter(same)
        .filter(|standing| !matches!(standing.doubt, Some(Doubt::Unverified(_))))
        .map(|standing| (standing.claims.iat, standing.token.as_str()))
        .chain(known.map(|known| (known.iat, known.token.as_str())))
        .max();
    if let Some((iat, newest)) = newest
        && newest != token
        && iat >= claims.iat
    {
        return Some(outdated());
    }
    if claims.ends.is_none() && is_allotment(token) && book.record.is_full_of_returns() {
        return Some(refusal(
            format!(
                "This installation has given back {RECORD_MAX} allotments without an end, and can't remember more."
            ),
            "Have seats passed on with valid_until.",
        ));
    }
    if book.record.given_back.contains_key(&claims.jti) {
        return Some(refusal(
            "This installation has given these seats back.",
            "Have them allotted anew.",
        ));
    }
    let bad = |message: String, hint: &str| {
        Some(Report::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message).hint(hint))
    };
    for standing in &book.standings {
        if standing.doubt == Some(Doubt::GivenBack) {
            continue;
        }
        if same(&standing) {
            if standing.claims.iss != claims.iss {
                return Some(taken(claims));
            }
            continue;
        }
        let is_taken = |name: &&String| claims.products.iter().any(|own| own.product == **name);
        if let Some(product) = standing.products.iter().find(is_taken) {
            return bad(
                format!(
                    "product {} is licensed by license {} of {}",
                    quoted(product),
                    quoted(&standing.claims.jti),
                    quoted(&standing.claims.iss)
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

/// Removes a signed license from this database, with the rows of its products; effective at commit. False if there
/// is none.
#[pg_extern(sql = false)]
fn license_uninstall(license_id: Option<TextArgument>) -> bool {
    require_preloaded();
    let license_id = arguments::required("license_id", license_id);
    let removed = write_as_part(backend::lock_timeout(), |writer| {
        let schema = book::lock(writer)?;
        let book = Book::read(writer, &schema)?;
        let mut standings = book.standings.iter();
        let standing = standings.find(|standing| standing.claims.jti == license_id);
        for product in standing.iter().flat_map(|standing| &standing.products) {
            writer.execute(
                &format!("DELETE FROM {schema}.licenses WHERE product = $1"),
                &[Argument::Text(Some(product))],
            )?;
        }
        // Where somebody has deleted the row, there is one again, which says so.
        let token = standing.map(|standing| standing.token.as_str());
        let statement = format!(
            "INSERT INTO {schema}.license_keys AS k (license_id, token, uninstalled_at)
             SELECT $1, coalesce($2, token), now()
               FROM (SELECT) o LEFT JOIN {schema}.license_keys r ON r.license_id = $1
              WHERE $2 IS NOT NULL OR r.license_id IS NOT NULL
                 ON CONFLICT (license_id) DO UPDATE SET uninstalled_at = excluded.uninstalled_at
              WHERE k.uninstalled_at IS NULL"
        );
        let arguments = [Argument::Text(Some(&license_id)), Argument::Text(token)];
        Ok(writer.execute(&statement, &arguments)? > 0)
    });
    removed.unwrap_or_else(|error| failed(error))
}

/// This server's public key as a JWK; its `kid` is the installation's id. Raises 55000 where pg_seats is not
/// preloaded, or the key can't be read.
#[pg_extern(sql = false)]
fn license_installation() -> JsonB {
    require_preloaded();
    JsonB(serde_json::to_value(own_key().public()).unwrap_or(Value::Null))
}

/// The signed licenses of this database; under the view `license_keys_status`. Raises 55000 where pg_seats is not
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
    let book = read_committed(backend::lock_timeout(), |reader| {
        Book::read(reader, &schema()?)
    });
    let book = book.unwrap_or_else(|error| failed(error));
    let now = backend::now().max(book.record.latest);
    let record = book.record;
    let text = |text: String| Some(ServerText::from(text));
    let licenses = book.standings.into_iter().map(move |standing| {
        let (state, detail) = state(&standing, now);
        let (next_renewal_at, renewal_failure) = renewal::shown(&record, &standing);
        let claims = standing.claims;
        let mut products = claims.products;
        products.retain(|product| standing.products.contains(&product.product));
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
            standing.believed_until.and_then(timestamp),
            claims.cnf.and_then(|cnf| text(cnf.jkt)),
            text(standing.token),
            next_renewal_at,
            renewal_failure.map(ServerText::from),
        )
    });
    let invalid = book.invalid.into_iter().map(move |invalid| {
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

/// The word for how it stands with a license, and what else is to be said of it.
fn state(standing: &Standing, now: Timestamp) -> (&'static str, Option<String>) {
    let claims = &standing.claims;
    let is_given_back = standing.doubt == Some(Doubt::GivenBack);
    if standing.products.is_empty() && !is_given_back {
        return (
            "superseded",
            Some("Its products are licensed by other licenses here.".to_owned()),
        );
    }
    match &standing.doubt {
        Some(Doubt::Unverified(refused)) => ("unverified", Some(refused.to_string())),
        Some(Doubt::Elsewhere) => ("other installation", None),
        Some(Doubt::GivenBack) => ("given back", None),
        None if claims.exp.is_some_and(|exp| moment(exp) <= now) => ("expired", None),
        None if claims.nbf.is_some_and(|nbf| moment(nbf - LEEWAY) > now) => ("not yet valid", None),
        None if !standing.is_in_table => (
            "tampered",
            Some(
                "The row of license_keys was removed or replaced without license_uninstall()."
                    .to_owned(),
            ),
        ),
        None => ("valid", None),
    }
}
