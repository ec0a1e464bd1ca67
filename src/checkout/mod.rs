//! Seats that applications take themselves: how `license_checkout` and `license_lease` get from a product's name to a
//! seat, by way of the queue if need be.
//!
//! | who | outcome |
//! | --- | --- |
//! | product not given, and not implied | 22023 |
//! | product that is not licensed | 42704 |
//! | rules can't be read, never read since the start | 57P03 license_not_loaded |
//! | exempt session, or one without a client | held, takes no seat |
//! | exempt session, but as many identities are exempt as were signed | as any other |
//! | license not yet valid, or expired beyond its grace | 53400, softened by enforcement |
//! | identity holds a seat | held, joins the seat |
//! | its user has `max_per_user` seats, willing to wait | waits in the queue |
//! | the same, not willing to wait | 53400 license_user_limit, softened by enforcement |
//! | a seat is free | held, takes it |
//! | `max_users_per_session` client_users have checkouts of the session, and it may not lease | 53400 license_session_limit, never softened |
//! | barred by an administrator | 53400 license_barred, never softened |
//! | no seat is free, one is idle for `reclaim_idle_after` | waits for it to give way |
//! | no seat is free but those reserved for other roles, willing to wait | waits in the queue, and asks idle seats to give way every second |
//! | the members of one of its roles use all that they may, willing to wait | the same |
//! | either, not willing to wait | 53400 license_full, softened by enforcement |
//! | `max_seats` checkouts and leases are out | 53400 license_table_full, softened by enforcement |

pub mod discard;
mod queue;

use std::time::{Duration, Instant};

use crate::core::ledger::acts::admission::Judged;
use crate::core::ledger::acts::checkout::{Claimed, NewLease, Receipt, SeatRequest};
use crate::core::ledger::denial::{Cause, Denial, LoadError};
use crate::core::ledger::identity::{Label, Name, Text};
use crate::core::ledger::license::{License, Tampered};
use crate::core::ledger::numbers::{Generation, TallyId, Ticket};
use crate::core::ledger::rules::Rules;
use crate::core::ledger::seat::Standing;
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
    /// The product; `None` for the one that the login claimed, else for the only one.
    pub product: Option<String>,
    /// The application's own user.
    pub client_user: Option<String>,
    /// The lease to take; `None` for a checkout of the session.
    pub lease: Option<NewLease>,
    /// How long to wait in the queue.
    pub wait: Duration,
}

/// A seat that was taken.
pub struct Taken {
    /// The ledger's answer.
    pub receipt: Receipt,
    /// The product.
    pub product: Name,
    /// The session that took it; `None` if it serves no client.
    pub session: Option<Session>,
}

/// Takes a seat for an application, or returns why there is none.
pub fn take(request: &Request) -> Result<Taken, Denial> {
    let mut attempt = Attempt::of(request);
    loop {
        let rules = attempt.rules();
        let session = memory::this_session();
        let (place, license) = licensed(&rules, session.as_ref(), request.product.as_deref());
        let Some(session) = session else {
            return Ok(uncounted(&license));
        };
        let may_count = license.may_count(session.exempt) || request.lease.is_some();
        if may_count && !license.pool.is_empty() {
            rules::await_pool(&license, attempt.left_to_load())
                .unwrap_or_else(|error| not_loaded(error));
        }
        if let Some(receipt) = attempt.claim(&rules, &session, place)? {
            let client_user = request.client_user.as_deref().unwrap_or_default();
            denial::log(|| who(&session, client_user), receipt.remark);
            return Ok(Taken {
                receipt,
                product: license.product,
                session: Some(session),
            });
        }
    }
}

/// A request for a seat, and what was learned of it so far.
struct Attempt {
    seat: SeatRequest,
    /// When the wait in the queue ends.
    queue_until: Instant,
    /// When sessions that are asked to give way must have answered.
    answer_until: Instant,
    /// When the rules must be known. Begins anew after each wait for others.
    load_until: Instant,
    /// The generation of rules that have just turned out to be outdated.
    outdated: Option<Generation>,
    /// Whether idle seats were asked to give way.
    asked: bool,
    /// The server's enforcement, as it was learned in the queue.
    server: Enforcement,
    promise: Promise,
}

impl Attempt {
    fn of(request: &Request) -> Attempt {
        let now = Instant::now();
        let queue_until = now + request.wait;
        Attempt {
            seat: wanted(request),
            queue_until,
            answer_until: queue_until.max(reclaim::latest_answer()),
            load_until: now + settings::load_timeout(),
            outdated: None,
            asked: false,
            server: Enforcement::On,
            promise: Promise::default(),
        }
    }

    fn left_to_load(&self) -> Duration {
        self.load_until.saturating_duration_since(Instant::now())
    }

    /// Returns the rules in force. Rules that are newer than those that turned out to be outdated are as good as what
    /// this session would read now.
    fn rules(&mut self) -> Rules {
        let outdated = self.outdated.take();
        let newer = outdated.and_then(|had| memory::rules::at_least(backend::database(), had));
        newer.unwrap_or_else(|| {
            rules::in_force(self.left_to_load()).unwrap_or_else(|error| not_loaded(error))
        })
    }

    /// Asks the ledger for the seat once. `None` if it is to be asked anew: what stood in the way is out of it.
    fn claim(
        &mut self,
        rules: &Rules,
        session: &Session,
        license: u32,
    ) -> Result<Option<Receipt>, Denial> {
        let judged = self.judged(rules, session, license);
        let patient = Instant::now() < self.queue_until;
        let slot = backend::slot();
        let claimed = memory::write(|ledger| {
            let now = backend::now();
            ledger.claim(slot, &Judged { now, ..judged }, &self.seat, patient)
        });
        match claimed {
            Claimed::Held(receipt) => return Ok(Some(receipt)),
            Claimed::Outdated => self.outdated = Some(rules.generation),
            Claimed::TimesUp => expiry::end_due_leases(),
            Claimed::MayReclaim(may) => {
                self.promise.may_be_kept();
                self.asked = reclaim::ask(may, self.answer_until);
                self.load_anew();
            }
            // A role that may take leases for any number of users may as well have checkouts for them.
            Claimed::Denied(denial)
                if matches!(denial.cause, Cause::TooManyUsers { .. }) && catalog::may_lease() =>
            {
                self.seat.users_max = None;
            }
            Claimed::Denied(denial) => return Err(denial),
            Claimed::Waits(ticket) => return Ok(self.wait(ticket)),
        }
        Ok(None)
    }

    /// Waits in the queue. `None` if that was in vain: then the ledger says what is true now. At the end of its wait
    /// this session asks idle seats to give way once more, because in the queue only the first one does so, and only
    /// now and then.
    fn wait(&mut self, ticket: Ticket) -> Option<Receipt> {
        self.promise.may_be_kept();
        let softer = match queue::wait(ticket, self.queue_until) {
            Ok(receipt) => return Some(receipt),
            Err(softer) => softer,
        };
        self.server = softer;
        self.asked = false;
        self.answer_until = reclaim::latest_answer();
        self.load_anew();
        None
    }

    fn load_anew(&mut self) {
        self.load_until = Instant::now() + settings::load_timeout();
    }

    /// Returns how the session is judged that asks for a seat of this license of its database.
    fn judged(&self, rules: &Rules, session: &Session, license: u32) -> Judged {
        Judged {
            generation: rules.generation,
            outdated: rules.outdated,
            exempt_superusers: rules.exempt_superusers,
            standing: Standing {
                exempt: session.exempt,
                license: Some(license),
            },
            roles: session.roles,
            roles_edition: rules.roles_edition,
            enforcement: settings::enforcement().max(self.server),
            now: backend::now(),
            asked: self.asked,
        }
    }
}

/// Returns the request to the ledger.
fn wanted(request: &Request) -> SeatRequest {
    let client_user = request.client_user.as_deref().unwrap_or_default();
    let label = Label::of(client_user);
    SeatRequest {
        client_user: label,
        long_name: label.is_digest().then(|| Text::new(client_user)).flatten(),
        lease: request.lease,
        users_max: Some(settings::max_users_per_session()),
    }
}

/// Returns what a background worker gets, which is not counted and has no slot among the sessions. A worker of a
/// parallel query never gets here: its session is counted.
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

/// A seat that may be kept for this session until this is dropped, also by an error.
#[derive(Default)]
struct Promise(bool);

impl Promise {
    fn may_be_kept(&mut self) {
        self.0 = true;
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.0 {
            memory::write(|ledger| ledger.drop_promise(backend::slot(), backend::now()));
        }
    }
}

/// Returns the user who asks, for the server log.
fn who(session: &Session, client_user: &str) -> String {
    match client_user {
        "" => format!("user {} at {}", quoted(session.usename), session.who.host),
        user => format!("user {} by role {}", quoted(user), quoted(session.usename)),
    }
}

/// Raises a denial. In a subtransaction the error may be caught and then appears in no log, so it is written to the
/// server log as well.
pub fn refuse(client_user: &str, denial: &Denial) -> ! {
    if backend::is_in_subtransaction() {
        log_denial(client_user, denial);
    }
    Denied::Call.report(denial).raise()
}

/// Writes to the server log that this session was denied, where no error does.
pub fn log_denial(client_user: &str, denial: &Denial) {
    if let Some(session) = memory::this_session() {
        denial::log_denial(&who(&session, client_user), denial);
    }
}

/// Gives back one checkout of this session; false if there is none.
pub fn give_back(product: Option<&str>, client_user: &str) -> bool {
    let slot = backend::slot();
    let given_back = |product: &Name| {
        let label = Label::of(client_user);
        memory::write(|ledger| ledger.check_in(slot, product, &label, backend::now()))
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

/// Returns a product's license and its position among the database's licenses. A license whose row is gone is refused,
/// though what was signed stays in force, so that the application learns of it.
fn licensed(rules: &Rules, session: Option<&Session>, product: Option<&str>) -> (u32, License) {
    let (place, license) = found(rules, session, product);
    if license
        .signed
        .is_some_and(|signed| signed.tampered.contains(Tampered::ROW))
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
    let claimed = session.map_or(TallyId::NONE, |session| session.tally);
    if let Some(found) = find(&|license| claimed != TallyId::NONE && license.tally == claimed) {
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
