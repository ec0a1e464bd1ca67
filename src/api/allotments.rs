//! `license_allot`, `license_give_back`, `license_accept_return`: seats of a signed license that other
//! installations have.
//!
//! What is signed here is out in the world, whatever becomes of the transaction: so each first notes in the
//! installation's record what it will sign, which no ROLLBACK undoes.

use pgrx::JsonB;
use pgrx::prelude::*;

use super::arguments::{self, refuse};
use super::keys::{Refusable, answer, own_key, refusal};
use super::{require_preloaded, require_writable};
use crate::checkout::unlicensed_report;
use crate::core::ledger::denial::{Cause, Denial};
use crate::core::ledger::license::License;
use crate::core::ledger::seat::NO_TALLY;
use crate::core::ledger::time::Timestamp;
use crate::core::tokens::allotment::Returned;
use crate::core::tokens::claims::LAST_SECOND;
use crate::core::tokens::key_pair::KeyPair;
use crate::core::tokens::keys::PublicKey;
use crate::core::tokens::{moment, unix};
use crate::denial::Denied;
use crate::ending::stop;
use crate::pg::backend;
use crate::pg::error::{PgSqlErrorCode, Report, quoted};
use crate::pg::table::{self, Argument, ReadError, Reader, damaged, write_as_part};
use crate::pg::text::{ServerText, TextArgument};
use crate::signed::allotments;
use crate::signed::book::{self, Book};
use crate::signed::evaluation::Standing;
use crate::signed::installation::files;
use crate::signed::installation::oblivion::MAX as RECORD_MAX;
use crate::signed::installation::record::{Allotment, GivenBack, Record};
use crate::{memory, rules, settings};

/// What is asked for, and by whose key.
struct Request {
    product: String,
    seats: i32,
    installation: String,
    valid_until: Option<Timestamp>,
    pair: KeyPair,
}

/// Passes seats of a signed license on to another installation, by the key that `license_installation()`
/// returns there, and returns the token that is to be installed there. This database has as many less, until they
/// are given back or `valid_until` has come. Not undone by ROLLBACK. Raises 42704 for an unknown product, 22023
/// for a bad argument or where fewer are left, 53400 where not as many are free, 55000 where the license is
/// not made for this installation alone, 28000 where it can't be verified, 25006 where nothing can be
/// written.
#[pg_extern(sql = false)]
fn license_allot(
    product: Option<TextArgument>,
    installation: Option<JsonB>,
    seats: Option<i32>,
    valid_until: Option<TimestampWithTimeZone>,
) -> ServerText {
    require_preloaded();
    let product = arguments::required("product", product);
    let installation = installation.and_then(|JsonB(key)| serde_json::from_value(key).ok());
    let Some(installation) = installation.filter(|key: &PublicKey| key.verifier().is_some()) else {
        refuse(
            "installation is no installation's key",
            "Give what license_installation() returns on the other server.",
        )
    };
    let Some(seats) = seats.filter(|&seats| seats > 0) else {
        refuse("seats is out of range", "Give a number from 1 on.")
    };
    let valid_until = valid_until.map(Timestamp::from);
    let is_to_come =
        |until: Timestamp| (unix(backend::now()) + 1..=LAST_SECOND).contains(&unix(until));
    if valid_until.is_some_and(|until| !is_to_come(until)) {
        refuse(
            "valid_until is out of range",
            "Give a moment to come, or null for seats that don't come back by themselves.",
        )
    }
    require_writable("license_allot()");
    let request = Request {
        product,
        seats,
        installation: installation.id(),
        valid_until,
        pair: own_key(),
    };
    if request.installation == request.pair.public().id() {
        refuse(
            "installation is this server itself",
            "Give what license_installation() returns on the other server.",
        )
    }
    load();
    answer(write_as_part(backend::lock_timeout(), |writer| {
        allot(writer, &request)
    }))
    .into()
}

/// Brings the rules of this database up to date.
fn load() {
    if let Err(error) = rules::in_force(settings::load_timeout()) {
        Denied::Call.not_loaded(backend::database(), error).raise()
    }
}

fn allot(writer: &Reader, request: &Request) -> Refusable<String> {
    let schema = book::lock(writer)?;
    let book = Book::read(writer, &schema)?;
    let Some(license) = book.license_of(&request.product) else {
        return Ok(Err(unsigned(&request.product)));
    };
    if let Some(refused) = not_to_be_passed_on(license, request) {
        return Ok(Err(refused));
    }
    if book.record.is_full_of_allotments() {
        return Ok(Err(Report::new(
            PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!("no more than {RECORD_MAX} allotments can be away"),
        )
        .hint("Accept the return of seats that were passed on before.")));
    }
    let assigned = writer.query_with(
        &format!("SELECT seats FROM {schema}.licenses WHERE product = $1 FOR UPDATE"),
        &[Argument::Text(Some(&request.product))],
        |row| Ok(row.number(1)),
    )?;
    let bought = license.seats(&request.product);
    let left_of_all = bought.map(|bought| i64::from(bought) - book.away(license, &request.product));
    let assigned = assigned.into_iter().next().unwrap_or(Some(0));
    let left = left_of_all.map(|left| assigned.map_or(left, |assigned| assigned.min(left)));
    if let Some(left) = left.filter(|&left| i64::from(request.seats) > left) {
        return Ok(Err(too_many(request, left)));
    }
    let Some(id) = backend::random_uuid() else {
        return Err(damaged("no random numbers are to be had"));
    };
    let allotment = Allotment {
        id: uuid(id),
        iss: license.claims.iss.clone(),
        jti: license.claims.jti.clone(),
        product: request.product.clone(),
        seats: request.seats,
        installation: request.installation.clone(),
        database: backend::database(),
        // In whole seconds, as its token has it.
        allotted_at: backend::now().div_euclid(1_000_000) * 1_000_000,
        valid_until: request
            .valid_until
            .map(|until| until.div_euclid(1_000_000) * 1_000_000),
        returned_at: None,
    };
    let token = match allotments::token(&allotment, license, &request.pair) {
        Ok(token) => token,
        Err(refused) => {
            return Ok(Err(Report::new(
                PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                format!("license {} can't be passed on", quoted(&license.claims.jti)),
            )
            .detail(refused.to_string())
            .hint(
                "Ask the vendor for a license with fewer products in one token.",
            )));
        }
    };
    let after = left_of_all.map(|left| left - i64::from(request.seats));
    if let Some(denied) = not_free(request, after) {
        return Ok(Err(denied));
    }
    let noted = change(|record| {
        book.adopt(record);
        // In another database as many may be passed on at this moment.
        let away = record.away(
            &allotment.iss,
            &allotment.jti,
            &allotment.product,
            backend::now(),
        );
        let left_of_all = bought.map(|bought| i64::from(bought) - away);
        let left = left_of_all.into_iter().chain(left).min();
        if let Some(left) = left.filter(|&left| i64::from(request.seats) > left) {
            return Err(left);
        }
        record.adopt(allotment.clone());
        Ok(left_of_all.map(|left| left - i64::from(request.seats)))
    })?;
    let after = match noted {
        Ok(after) => after,
        Err(left) => return Ok(Err(too_many(request, left))),
    };
    if let Some(after) = after {
        withdraw(&request.product, after);
    }
    if let Some(denied) = not_free(request, after) {
        // From here on nobody could take one of these seats, but somebody has a moment ago.
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

/// Has the tables show what was passed on, and how many seats are left.
fn enter(
    writer: &Reader,
    schema: &str,
    request: &Request,
    left: Option<i64>,
) -> Result<(), ReadError> {
    Book::read(writer, schema)?.settle(writer, schema, &request.pair)?;
    if let Some(left) = left {
        writer.execute(
            &format!("UPDATE {schema}.licenses SET seats = $2::int WHERE product = $1"),
            &[
                Argument::Text(Some(&request.product)),
                Argument::Text(Some(&left.to_string())),
            ],
        )?;
    }
    Ok(())
}

/// Takes an allotment out of the record whose token nobody has got.
fn undo(allotment: &Allotment) -> Result<(), ReadError> {
    change(|record| {
        let is_another = |other: &Allotment| other.id != allotment.id;
        record.allotments.retain(is_another);
    })?;
    outdate();
    Ok(())
}

/// Changes the installation's record.
pub(super) fn change<R>(change: impl FnOnce(&mut Record) -> R) -> Result<R, ReadError> {
    files::change_record(&settings::installation_key(), change).map_err(|error| ReadError {
        code: PgSqlErrorCode::ERRCODE_IO_ERROR,
        message: format!("could not write the installation's record: {error}"),
    })
}

/// Has nobody take more seats of a product than these, whatever was read before.
fn withdraw(product: &str, left: i64) {
    let tally = in_force(product).map_or(NO_TALLY, |license| license.tally);
    memory::write(|ledger| ledger.withdraw(tally, left));
    memory::wake_launcher();
}

/// The license of a product that is in force in this database.
fn in_force(product: &str) -> Option<License> {
    let rules = memory::rules::last_in_force(backend::database())?;
    let mut licenses = rules.licenses.into_iter();
    licenses.find(|license| license.product.as_str() == product)
}

/// Has nobody rely on what was read before the record was changed.
fn outdate() {
    memory::write(|ledger| ledger.outdate_all());
    memory::wake_launcher();
}

fn uuid(id: u128) -> String {
    pgrx::Uuid::from_bytes(id.to_be_bytes()).to_string()
}

/// A product of this database that no license signs.
fn unsigned(product: &str) -> Report {
    if in_force(product).is_none() {
        return unlicensed_report(product);
    }
    Report::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("the license of {} is not signed", quoted(product)),
    )
    .hint("Only seats of a license that license_install() has installed can be passed on and given back.")
}

fn not_to_be_passed_on(license: &Standing, request: &Request) -> Option<Report> {
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

/// Where people hold the seats that are to be passed on, they would be used twice: no more than are left may be
/// in use, in all databases together.
fn not_free(request: &Request, left: Option<i64>) -> Option<Report> {
    let license = in_force(&request.product)?;
    let left = left?;
    let in_use = memory::read(|ledger| ledger.in_use(license.tally))?;
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

/// Gives back the seats of a product that another installation has passed on to this one: ends the sessions
/// and leases that hold them (waits for them at most 10 seconds), and returns a receipt for
/// `license_accept_return()` there. Called again, it returns the same receipt. Not undone by ROLLBACK.
/// Raises 42704 for an unknown product, 55000 where its seats were not passed on, 22023 where the caller uses
/// one of them, 55006 where not all have ended: call it again.
#[pg_extern(sql = false)]
fn license_give_back(product: Option<TextArgument>) -> ServerText {
    require_preloaded();
    let product = arguments::required("product", product);
    require_writable("license_give_back()");
    let pair = own_key();
    load();
    answer(write_as_part(backend::lock_timeout(), |writer| {
        give_back(writer, &product, &pair)
    }))
    .into()
}

fn give_back(writer: &Reader, product: &str, pair: &KeyPair) -> Refusable<String> {
    let schema = book::lock(writer)?;
    let book = Book::read(writer, &schema)?;
    let Some(license) = book.license_of(product) else {
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
    let tally = in_force(product).map_or(NO_TALLY, |license| license.tally);
    if memory::read(|ledger| ledger.holds_any(backend::place(), tally)) == Some(true) {
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
        // Also where nobody has seen yet that the license is here.
        record.observe(backend::database(), &book.standings, now);
        let given_back = record.given_back.entry(allotted.jti.clone());
        let given_back = given_back.or_insert(GivenBack {
            at: now,
            product: product.to_owned(),
            receipt,
            ends: allotted.exp.map(moment),
        });
        given_back.receipt.clone()
    })?;
    // Nobody comes in any more, whatever was in force before.
    withdraw(product, 0);
    stop::stop_all(
        tally,
        "The seats of this server are given back.",
        stop::PATIENCE,
    );
    if memory::read(|ledger| ledger.in_use(tally)) != Some(0) {
        return Ok(Err(Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
            format!("not all sessions of {} have ended", quoted(product)),
        )
        .detail("Nobody else gets a seat of it any more.")
        .hint(
            "Call license_give_back() again once they have; look at license_active_seats.",
        )));
    }
    // The schema may have been renamed meanwhile, and another be called like it.
    let schema = table::schema()?;
    writer.execute(
        &format!(
            "UPDATE {schema}.licenses SET seats = 0, purchased = 0, overdraft = 0, enforcement = 'on'
              WHERE product = $1
                AND (seats, purchased, overdraft, enforcement) IS DISTINCT FROM (0, 0, 0, 'on')"
        ),
        &[Argument::Text(Some(product))],
    )?;
    Ok(Ok(receipt))
}

/// Takes back seats by the receipt that `license_give_back()` has returned on the installation that had them,
/// once, and returns how many. Not undone by ROLLBACK. Raises 28000 for a receipt that can't be verified, is
/// of no seats that were passed on from this database, or was accepted before.
#[pg_extern(sql = false)]
fn license_accept_return(receipt: Option<TextArgument>) -> i32 {
    require_preloaded();
    let Some(receipt) = receipt else {
        refuse(
            "receipt must not be null",
            "Give what license_give_back() has returned on the other server.",
        )
    };
    require_writable("license_accept_return()");
    let returned = match Returned::verify(receipt.as_str().trim()) {
        Ok(returned) => returned,
        Err(refused) => unacceptable(refused.to_string()).raise(),
    };
    let pair = own_key();
    answer(write_as_part(backend::lock_timeout(), |writer| {
        accept(writer, &returned, &pair)
    }))
}

fn accept(writer: &Reader, returned: &Returned, pair: &KeyPair) -> Refusable<i32> {
    let schema = book::lock(writer)?;
    let book = Book::read(writer, &schema)?;
    let taken_back = change(|record| {
        book.adopt(record);
        let Some(allotment) = record.allotment(&returned.jti) else {
            return Err("No such seats were passed on from this installation.");
        };
        let is_it = allotment.installation == returned.iss
            && allotment.product == returned.product
            && allotment.seats == returned.seats;
        let is_here = allotments::is_of_this_database(allotment)
            || book.away.iter().any(|away| away.id == returned.jti);
        if !is_it {
            return Err("It is not of the installation that has these seats.");
        }
        if !is_here {
            return Err("These seats were passed on from another database of this server.");
        }
        if !record.take_back(&returned.jti, backend::now()) {
            return Err("These seats have come back already.");
        }
        Ok(())
    })?;
    if let Err(detail) = taken_back {
        return Ok(Err(unacceptable(detail)));
    }
    let book = Book::read(writer, &schema)?;
    book.settle(writer, &schema, pair)?;
    outdate();
    Ok(Ok(returned.seats))
}

fn unacceptable(detail: impl Into<String>) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
        "could not verify the receipt",
    )
    .detail(detail)
    .hint("Give what license_give_back() has returned on the installation that had the seats; license_allotments has them.")
    .reason(c"license_not_verified")
}
