//! Admission at login.
//!
//! The ClientAuthentication hook only notes the login. Admission runs when the startup transaction is about to commit:
//! by then the database is open, CONNECT and connection limits have been checked, startup settings are applied, and an
//! ERROR reaches the client as FATAL. A login that fails earlier never gets here, so it never takes a seat.
//!
//! | login | rules needed | outcome |
//! | --- | --- | --- |
//! | replication connection without a database | none | admitted, exempt |
//! | superuser, `exempt_superusers` on | none (used if current) | admitted, exempt |
//! | superuser, `exempt_superusers` off | tried | admitted, counted if the rules can be read |
//! | role with REPLICATION | none (used if current) | admitted, exempt |
//! | workstation name that is invalid | none | 22023 |
//! | rules can't be read, never read since the start | – | 57P03 license_not_loaded |
//! | the same, `pg_seats.enforcement` not on | – | admitted, logged; judged once they are read |
//! | rules can't be read, but were read before | the last ones | as they say, and logged |
//! | licenses don't fit into the ledger | – | as rules that can't be read |
//! | exempt role or host | current | admitted, exempt |
//! | the same, but as many identities are exempt as were signed | current | as those below |
//! | claims no license | current | admitted |
//! | claims a pooled license, pool not yet known | current | waits, then 57P03, softened by enforcement |
//! | barred by an administrator | current | 28000 license_barred, never softened |
//! | license not yet valid, or expired beyond its grace | current | 28000, softened by enforcement |
//! | identity holds a seat | current | admitted, joins the seat |
//! | its user has `max_per_user` seats | current | 53300 license_user_limit, softened by enforcement |
//! | a seat is free | current | admitted, takes it |
//! | a seat within `overdraft` is free | current | admitted, takes it, logged |
//! | no seat is free, one is idle for `reclaim_idle_after` | current | waits for it to give way |
//! | no seat is free but those reserved for other roles | current | 53300 license_full, softened by enforcement |
//! | the members of one of its roles use all that they may | current | 53300 license_full, softened by enforcement |

mod client;
pub mod exit;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::core::ledger::Ledger;
use crate::core::ledger::acts::admission::{Answer, Judged};
use crate::core::ledger::denial::{LoadError, Remark};
use crate::core::ledger::identity::Host;
use crate::core::ledger::license::License;
use crate::core::ledger::numbers::{DatabaseOid, Generation, SessionNumber, Slot};
use crate::core::ledger::rules::Rules;
use crate::core::ledger::seat::{Exempt, Standing};
use crate::core::ledger::session::Session;
use crate::core::ledger::words::Enforcement;
use crate::denial::{self, Denied};
use crate::ending::{reclaim, session};
use crate::lease::expiry;
use crate::memory::{self, Shared};
use crate::pg::catalog::{self, Catalog};
use crate::pg::error::{self, quoted};
use crate::pg::table::Patience;
use crate::pg::{backend, compat};
use crate::{rules, settings};

/// The longest that a superuser who counts waits for the rules.
const SUPERUSER_PATIENCE: Duration = Duration::from_millis(200);

/// Whether the client has authenticated and its startup transaction has not ended.
static ARMED: AtomicBool = AtomicBool::new(false);

/// Notes whether a client has authenticated; if so, its startup transaction will be judged.
pub fn note_authentication(succeeded: bool) {
    ARMED.store(succeeded, Relaxed);
}

/// Admits the login if the transaction that is about to commit is its startup transaction.
pub fn at_pre_commit() {
    if ARMED.swap(false, Relaxed) {
        admit();
    }
}

fn admit() {
    // Registered before a seat is taken, so that the backend can't end without giving it back.
    exit::prepare();
    if !backend::is_walsender() {
        session::listen();
    }
    let slot = backend::slot();
    let (workstation, bad) = match client::workstation() {
        Ok(name) => (name, None),
        Err(bad) => (bad.shown, Some(bad)),
    };
    let session = crate::pg::client::session(workstation);
    let exempt = if session.superuser && settings::exempt_superusers() {
        Some(Exempt::Superuser)
    } else if session.replication {
        Some(Exempt::Replication)
    } else {
        None
    };
    if exempt.is_some() || session.database == DatabaseOid::NONE {
        admit_uncounted(slot, session, exempt);
    } else {
        if let Some(bad) = bad.filter(|_| !session.superuser) {
            denial::bad_workstation(&bad).raise();
        }
        admit_counted(slot, session);
        // Also for those whom the rules exempt: other rules may count them later.
        settings::notice_killed_client();
        if session.address != Host::NONE {
            settings::notice_silent_client();
        }
    }
}

/// Admits a session that is exempt whatever the rules are. It never waits.
fn admit_uncounted(slot: Slot, session: Session, exempt: Option<Exempt>) {
    let judged = memory::rules::current(session.database).map(|rules| judge(&rules, &session));
    memory::write(|ledger| {
        let answer = judged.map(|judged| ledger.admit(slot, session, judged));
        if !matches!(answer, Some(Answer::Admitted(_))) {
            ledger.register(slot, Session { exempt, ..session }, backend::now());
        }
        begin(ledger, slot);
    });
}

/// Admits a session by the rules, or raises the reason for the denial.
fn admit_counted(slot: Slot, session: Session) {
    // Each wait below has its own deadline and its own message.
    compat::stop_transaction_timeout();
    // A superuser gets in at once, counted or not.
    let patience = || match session.superuser {
        true => settings::load_timeout().min(SUPERUSER_PATIENCE),
        false => settings::load_timeout(),
    };
    let mut deadline = Instant::now() + patience();
    let mut asked = false;
    let mut had = None;
    loop {
        let (rules, judged) = match judge_in_time(&session, had, deadline) {
            Ok(judged) => judged,
            Err(error) if session.superuser || settings::enforcement() != Enforcement::On => {
                memory::write(|ledger| {
                    ledger.register(slot, session, backend::now());
                    begin(ledger, slot);
                });
                if !session.superuser {
                    log_unjudged(&session, &error);
                }
                return;
            }
            Err(error) => Denied::Login.not_loaded(session.database, error).raise(),
        };
        let judged = Judged { asked, ..judged };
        let answer = memory::write(|ledger| {
            let answer = if rules.generation == Generation::NONE {
                // There is no room to note the database, so it has no license.
                ledger.register(slot, session, backend::now());
                Answer::Admitted(Remark::None)
            } else {
                let now = backend::now();
                ledger.admit(slot, session, Judged { now, ..judged })
            };
            begin(ledger, slot);
            answer
        });
        match answer {
            // Rules that are newer than those it had are as good as what it would read now.
            Answer::Outdated => had = Some(rules.generation),
            Answer::TimesUp => expiry::end_due_leases(),
            Answer::MayReclaim(reclaim) => {
                asked = reclaim::ask(reclaim, reclaim::latest_answer());
                deadline = Instant::now() + patience();
                had = None;
            }
            Answer::Denied(denial) => Denied::Login.report(&denial).raise(),
            Answer::Admitted(remark) => {
                log(&session, remark);
                return;
            }
        }
    }
}

/// Makes this backend listen to requests to its session, once the session has a slot.
fn begin(ledger: &Ledger<'static, Shared>, slot: Slot) {
    if let Some(session) = ledger
        .sessions
        .get(slot)
        .filter(|s| s.number != SessionNumber::NONE)
    {
        session::begin(slot, session.number);
    }
}

fn log(session: &Session, remark: Remark) {
    denial::log(|| who(session), remark);
}

/// Returns the user and host of a login, for the server log.
fn who(session: &Session) -> String {
    format!("user {} at {}", quoted(session.usename), session.who.host)
}

fn log_unjudged(session: &Session, error: &LoadError) {
    error::log(format!(
        "{} is in, though the licenses of database {} could not be loaded: pg_seats.enforcement is not on; \
         the cause: {}",
        who(session),
        quoted(catalog::database_name(session.database)),
        error.cause()
    ));
}

/// Judges a session by the rules in force as soon as they are known, at the latest at the deadline. `had` is the
/// generation of rules that have just turned out to be outdated.
fn judge_in_time(
    session: &Session,
    had: Option<Generation>,
    deadline: Instant,
) -> Result<(Rules, Judged), LoadError> {
    let left = || deadline.saturating_duration_since(Instant::now());
    let newer = had.and_then(|generation| memory::rules::at_least(session.database, generation));
    let rules = if let Some(rules) = newer {
        rules
    } else if left().is_zero() {
        // Changes come faster than they can be read, so the rules in force must do.
        memory::rules::last_in_force(session.database).ok_or(LoadError::Changing)?
    } else {
        rules::in_force(match session.superuser {
            true => Patience::hurried(left()),
            false => left().into(),
        })?
    };
    let judged = judge(&rules, session);
    let pooled = pooled(&rules, judged.standing).filter(|_| !session.superuser);
    if let Some(license) = pooled {
        rules::await_pool(license, left())?;
    }
    Ok((rules, judged))
}

fn judge(rules: &Rules, session: &Session) -> Judged {
    Judged {
        generation: rules.generation,
        outdated: rules.outdated,
        exempt_superusers: rules.exempt_superusers,
        standing: rules.judge(session, &mut Catalog::default()),
        roles: rules.roles_of(
            (session.who.role, session.database),
            &mut Catalog::default(),
        ),
        roles_edition: rules.roles_edition,
        enforcement: settings::enforcement(),
        now: backend::now(),
        asked: false,
    }
}

/// Returns the license that a session claims, if it counts in a pool.
fn pooled(rules: &Rules, standing: Standing) -> Option<&License> {
    rules.licenses.iter().find(|license| {
        Some(license.key.place) == standing.license
            && !license.pool.is_empty()
            && license.may_count(standing.exempt)
    })
}
