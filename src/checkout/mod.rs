//! Seats that applications take themselves: the way of `license_checkout` and `license_lease` from
//! a product's name to a seat, by way of the line if need be.
//!
//! | who | outcome |
//! | --- | --- |
//! | product not given, and not to be told | 22023 |
//! | product that is not licensed | 42704 |
//! | rules can't be read, none since start | 57P03 license_not_loaded |
//! | exempt session, or no client's | held, takes no seat |
//! | exempt session, as many identities are exempt as were signed | as any other |
//! | license not yet valid, or expired beyond its grace | 53400, softened by enforcement |
//! | identity holds a seat | held, joins the seat |
//! | its user has `max_per_user` seats, patient | waits in line |
//! | the same, not patient | 53400 license_user_limit, softened by enforcement |
//! | a seat is free | held, takes it |
//! | `max_users_per_session` client_users have checkouts of the session, and it may not lease | 53400 license_session_limit, never softened |
//! | barred by an administrator | 53400 license_barred, never softened |
//! | no seat is free, one is idle for `reclaim_idle_after` | waits for it to give way |
//! | no seat is free, save what is kept for other roles, patient | waits in line, and has idle seats give way every second |
//! | the members of a role of its use all that they may, patient | the same |
//! | either, not patient | 53400 license_full, softened by enforcement |
//! | `max_seats` checkouts and leases are out | 53400 license_table_full, softened by enforcement |

pub mod discard;
mod queue;

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::core::ledger::acts::admission::Judged;
use crate::core::ledger::acts::checkout::{Claimed, NewLease, Receipt, Want};
use crate::core::ledger::denial::{Cause, Denial, LoadError};
use crate::core::ledger::identity::{Label, Name, Text};
use crate::core::ledger::license::{Excess, License};
use crate::core::ledger::rules::Rules;
use crate::core::ledger::seat::{NO_TALLY, Standing};
use crate::core::ledger::session::Session;
use crate::core::ledger::words::Enforcement;
use crate::denial::{self, Denied};
use crate::ending::reclaim;
use crate::lease::expiry;
use crate::pg::error::{PgSqlErrorCode, Report, quoted};
use crate::pg::{backend, catalog};
use crate::{memory, rules, settings};

/// A request for a seat.
pub struct Request {
    /// The product; `None` for the one that the login claimed, else the only one.
    pub product: Option<String>,
    /// The application's own user.
    pub client_user: Option<String>,
    /// The lease that it is to be, if it is not the session's own.
    pub lease: Option<NewLease>,
    /// How long to wait in line.
    pub wait: Duration,
}

/// A seat that was taken.
pub struct Taken {
    /// What the ledger says of it.
    pub receipt: Receipt,
    /// The product.
    pub product: Name,
    /// The session that took it; `None` where it serves no client.
    pub session: Option<Session>,
}

/// Until when somebody who asks for a seat waits for what.
struct Times {
    /// For a seat, in line.
    line: Instant,
    /// For the answer of sessions that are asked to give way.
    answer: Instant,
    /// For the rules.
    load: Instant,
}

impl Times {
    fn of(wait: Duration) -> Times {
        let line = Instant::now() + wait;
        Times {
            line,
            answer: line.max(reclaim::latest_answer()),
            load: Instant::now() + settings::load_timeout(),
        }
    }

    fn left_to_load(&self) -> Duration {
        self.load.saturating_duration_since(Instant::now())
    }

    fn load_anew(&mut self) {
        self.load = Instant::now() + settings::load_timeout();
    }
}

/// Takes a seat for an application, or says why there is none.
pub fn take(request: &Request) -> Result<Taken, Denial> {
    let mut times = Times::of(request.wait);
    let mut server = Enforcement::On;
    let mut asked = false;
    let mut outdated = None;
    let promise = Promise::default();
    let client_user = request.client_user.as_deref().unwrap_or_default();
    let mut want = wanted(request);
    loop {
        let rules = rules_after(outdated.take(), &times);
        let session = memory::this_session();
        let (place, license) = licensed(&rules, session.as_ref(), request.product.as_deref());
        let Some(session) = session else {
            return Ok(uncounted(&license));
        };
        let may_count = license.may_count(session.exempt) || request.lease.is_some();
        if may_count && !license.pool.is_empty() {
            rules::await_pool(&license, times.left_to_load())
                .unwrap_or_else(|error| not_loaded(error));
        }
        let judged = Judged {
            generation: rules.generation,
            outdated: rules.outdated,
            exempt_superusers: rules.exempt_superusers,
            standing: Standing {
                exempt: session.exempt,
                license: Some(place),
            },
            roles: session.roles,
            roles_edition: rules.roles_edition,
            enforcement: settings::enforcement().max(server),
            now: backend::now(),
            asked,
        };
        let patient = Instant::now() < times.line;
        let at = backend::place();
        let claimed = memory::write(|ledger| {
            let now = backend::now();
            ledger.claim(at, &Judged { now, ..judged }, &want, patient)
        });
        let receipt = match claimed {
            // Newer rules than it had are as good as what it would read now.
            None | Some(Claimed::Outdated) => {
                outdated = Some(rules.generation);
                continue;
            }
            Some(Claimed::TimesUp) => {
                expiry::end_due_leases();
                continue;
            }
            Some(Claimed::MayReclaim(may)) => {
                promise.may_be_kept();
                asked = reclaim::ask(may, times.answer);
                times.load_anew();
                continue;
            }
            // Who may take leases for any number of users may as well do so.
            Some(Claimed::Denied(denial))
                if matches!(denial.cause, Cause::TooManyUsers { .. }) && catalog::may_lease() =>
            {
                want.users_max = None;
                continue;
            }
            Some(Claimed::Denied(denial)) => return Err(denial),
            Some(Claimed::Held(receipt)) => receipt,
            Some(Claimed::Waits(ticket)) => {
                promise.may_be_kept();
                match queue::wait(ticket, times.line) {
                    Ok(receipt) => receipt,
                    // It waited in vain: what it is told is what is true now. At the end of its time it asks idle seats
                    // once more: those in line do so now and then, and the first alone.
                    Err(softer) => {
                        server = softer;
                        asked = false;
                        times.answer = reclaim::latest_answer();
                        times.load_anew();
                        continue;
                    }
                }
            }
        };
        denial::log(|| who(&session, client_user), receipt.remark);
        return Ok(Taken {
            receipt,
            product: license.product,
            session: Some(session),
        });
    }
}

/// Returns what the ledger is asked for.
fn wanted(request: &Request) -> Want {
    let client_user = request.client_user.as_deref().unwrap_or_default();
    let label = Label::of(client_user);
    Want {
        client_user: label,
        long_name: label.is_digest().then(|| Text::new(client_user)).flatten(),
        lease: request.lease,
        users_max: Some(settings::max_users_per_session()),
    }
}

/// Returns the rules in force, or those that somebody has read since these were outdated.
fn rules_after(outdated: Option<u64>, times: &Times) -> Rules {
    let newer = outdated.and_then(|had| memory::rules::at_least(backend::database(), had));
    newer.unwrap_or_else(|| {
        rules::in_force(times.left_to_load()).unwrap_or_else(|error| not_loaded(error))
    })
}

/// Returns what a background worker gets, which is not counted, and has no place among the sessions. One of a parallel
/// query, whose session is counted, does not come here.
fn uncounted(license: &License) -> Taken {
    Taken {
        receipt: Receipt {
            seats: license.seats,
            ..Receipt::default()
        },
        product: license.product,
        session: None,
    }
}

/// A seat may be kept for this session, but no longer once this is dropped: also by an error.
#[derive(Default)]
struct Promise(Cell<bool>);

impl Promise {
    fn may_be_kept(&self) {
        self.0.set(true);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.0.get() {
            memory::write(|ledger| ledger.drop_promise(backend::place(), backend::now()));
        }
    }
}

/// Who asks, for the server log.
fn who(session: &Session, client_user: &str) -> String {
    match client_user {
        "" => format!("user {} at {}", quoted(session.usename), session.who.host),
        user => format!("user {} by role {}", quoted(user), quoted(session.usename)),
    }
}

/// Raises a denial. Within a subtransaction somebody may catch the error, which is then in no log: there
/// the server log has a line of its own.
pub fn refuse(client_user: &str, denial: &Denial) -> ! {
    if backend::is_in_subtransaction() {
        log_denial(client_user, denial);
    }
    Denied::Call.report(denial).raise()
}

/// Has the server log say that this session was denied, where no error does.
pub fn log_denial(client_user: &str, denial: &Denial) {
    if let Some(session) = memory::this_session() {
        denial::log_denial(&who(&session, client_user), denial);
    }
}

/// Gives back one checkout of this session. False when there is none.
pub fn give_back(product: Option<&str>, client_user: &str) -> bool {
    let at = backend::place();
    let given_back = |product: &Name| {
        let label = Label::of(client_user);
        memory::write(|ledger| ledger.check_in(at, product, &label, backend::now())) == Some(true)
    };
    // A checkout can outlive its product's license, and needs none to be given back.
    if let Some(product) = product.and_then(Name::new)
        && given_back(&product)
    {
        return true;
    }
    let rules = rules::in_force(settings::load_timeout()).unwrap_or_else(|error| not_loaded(error));
    let (_, license) = licensed(&rules, memory::this_session().as_ref(), product);
    product.is_none() && given_back(&license.product)
}

/// The license of a product among a database's, and its place there. One whose row is gone is none, though
/// what was signed is in force: so an application learns of it.
fn licensed(rules: &Rules, session: Option<&Session>, product: Option<&str>) -> (u32, License) {
    let (place, license) = found(rules, session, product);
    if license
        .signed
        .is_some_and(|signed| signed.excess.contains(Excess::ROW))
    {
        unlicensed(license.product.as_str())
    }
    (place, license)
}

fn found(rules: &Rules, session: Option<&Session>, product: Option<&str>) -> (u32, License) {
    let find = |is_it: &dyn Fn(&License) -> bool| {
        (0..)
            .zip(&rules.licenses)
            .find(|(_, license)| is_it(license))
            .map(|(place, license)| (place, *license))
    };
    if let Some(product) = product {
        return find(&|license| license.product.as_str() == product)
            .unwrap_or_else(|| unlicensed(product));
    }
    let claimed = session.map_or(NO_TALLY, |session| session.tally);
    if let Some(found) = find(&|license| claimed != NO_TALLY && license.tally == claimed) {
        return found;
    }
    match rules.licenses.as_slice() {
        [] => denial::unknown_product("no product is licensed").raise(),
        [only] => (0, *only),
        _ => Report::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "product must be given",
        )
        .detail("Several products are licensed, and the login claimed none of them.")
        .hint("Give the name of one of the products in license_usage.")
        .raise(),
    }
}

fn not_loaded(error: LoadError) -> ! {
    Denied::Call.not_loaded(backend::database(), error).raise()
}

/// Raises the error for a product that is not licensed in this database.
pub fn unlicensed(product: &str) -> ! {
    denial::unlicensed_report(product).raise()
}
