//! Admission at login.
//!
//! The ClientAuthentication hook only arms. Admission runs when the startup transaction is about to
//! commit: there the database is open, CONNECT and connection limits have been checked, startup
//! settings are applied, and an ERROR reaches the client as FATAL. A login that fails before never
//! comes here, so it never takes a seat.
//!
//! | who | rules needed | outcome |
//! | --- | --- | --- |
//! | replication connection without a database | none | in, exempt |
//! | superuser, `exempt_superusers` on | none (used if current) | in, exempt |
//! | superuser, `exempt_superusers` off | tried | in, counted if the rules can be read |
//! | role with REPLICATION | none (used if current) | in, exempt |
//! | workstation that can't be told from another | none | 22023 |
//! | rules can't be read, none since start | – | 57P03 license_not_loaded |
//! | the same, `pg_seats.enforcement` not on | – | in, logged; judged once they are read |
//! | rules can't be read, read before | the last ones | as they say, and logged |
//! | licenses don't fit into the ledger | – | as rules that can't be read |
//! | exempt role or host | current | in, exempt |
//! | the same, and as many identities are exempt as were signed | current | as those below |
//! | claims no license | current | in |
//! | claims a pooled license, pool not yet known | current | waits, then 57P03, softened by enforcement |
//! | barred by an administrator | current | 28000 license_barred, never softened |
//! | license not yet valid, or expired beyond its grace | current | 28000, softened by enforcement |
//! | identity holds a seat | current | in, joins the seat |
//! | its user has `max_per_user` seats | current | 53300 license_user_limit, softened by enforcement |
//! | a seat is free | current | in, takes it |
//! | a seat within `overdraft` is free | current | in, takes it, logged |
//! | no seat is free, one is idle for `reclaim_idle_after` | current | waits for it to give way |
//! | no seat is free, save what is kept for other roles | current | 53300 license_full, softened by enforcement |
//! | the members of a role of its use all that they may | current | 53300 license_full, softened by enforcement |
#![allow(unsafe_code, reason = "the hook is PostgreSQL's C interface")]

mod client;
pub mod exit;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::core::ledger::Ledger;
use crate::core::ledger::acts::admission::{Answer, Judged};
use crate::core::ledger::denial::{LoadError, Remark};
use crate::core::ledger::identity::Host;
use crate::core::ledger::license::License;
use crate::core::ledger::rules::Rules;
use crate::core::ledger::seat::{Exempt, Standing};
use crate::core::ledger::session::Session;
use crate::core::ledger::words::Enforcement;
use crate::denial::{self, Denied};
use crate::ending::{reclaim, session};
use crate::lease::expiry;
use crate::memory::{self, Shared};
use crate::pg::backend;
use crate::pg::catalog::{self, Catalog};
use crate::pg::error::{self, quoted};
use crate::pg::table::Patience;
use crate::{rules, settings};

/// How long a superuser who counts waits for the rules.
const SUPERUSER_PATIENCE: Duration = Duration::from_millis(200);

/// The client has authenticated, and its startup transaction has not ended.
static ARMED: AtomicBool = AtomicBool::new(false);

/// Takes note that a client has authenticated, or has not: its startup transaction is judged.
pub fn note_authentication(succeeded: bool) {
    ARMED.store(succeeded, Relaxed);
}

/// Called when any transaction is about to commit; acts on a login's startup transaction alone.
pub fn at_pre_commit() {
    if ARMED.swap(false, Relaxed) && memory::is_attached() {
        admit();
    }
}

fn admit() {
    // Before a seat is taken, so that there is no way out without it.
    exit::prepare();
    if !backend::is_walsender() {
        session::listen();
    }
    let place = backend::place();
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
    if exempt.is_some() || session.database == 0 {
        admit_uncounted(place, session, exempt);
    } else {
        if let Some(bad) = bad.filter(|_| !session.superuser) {
            denial::bad_workstation(&bad).raise();
        }
        admit_counted(place, session);
        // Also of those whom the rules exempt: other rules may count them.
        settings::notice_killed_client();
        if session.address != Host::NONE {
            settings::notice_silent_client();
        }
    }
}

/// Admits a session that is exempt whatever the rules are: it waits for nothing.
fn admit_uncounted(place: usize, session: Session, exempt: Option<Exempt>) {
    let judged = memory::rules::current(session.database).map(|rules| judge(&rules, &session));
    memory::write(|ledger| {
        let answer = judged.map(|judged| ledger.admit(place, session, judged));
        if !matches!(answer, Some(Answer::Admitted(_))) {
            ledger.register(place, Session { exempt, ..session }, backend::now());
        }
        begin(ledger, place);
    });
}

/// Admits a session by the rules, or raises why not.
fn admit_counted(place: usize, session: Session) {
    // What it waits for has an end of its own, and a message.
    backend::stop_transaction_timeout();
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
                    ledger.register(place, session, backend::now());
                    begin(ledger, place);
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
            let answer = if rules.generation == 0 {
                // There is no room to note the database, which has no license.
                ledger.register(place, session, backend::now());
                Answer::Admitted(Remark::None)
            } else {
                let now = backend::now();
                ledger.admit(place, session, Judged { now, ..judged })
            };
            begin(ledger, place);
            answer
        });
        match answer {
            // Newer ones than it had are as good as what it would read now.
            Some(Answer::Outdated) => had = Some(rules.generation),
            Some(Answer::TimesUp) => {
                expiry::end_due_leases();
            }
            Some(Answer::MayReclaim(reclaim)) => {
                asked = reclaim::ask(reclaim, reclaim::latest_answer());
                deadline = Instant::now() + patience();
                had = None;
            }
            Some(Answer::Denied(denial)) => Denied::Login.report(&denial).raise(),
            Some(Answer::Admitted(remark)) => {
                log(&session, remark);
                return;
            }
            None => return,
        }
    }
}

/// Has this backend hear what is said to its session, once that has a place.
fn begin(ledger: &Ledger<'static, Shared>, place: usize) {
    if let Some(session) = ledger.sessions.get(place).filter(|s| s.number != 0) {
        session::begin(place, session.number);
    }
}

fn log(session: &Session, remark: Remark) {
    denial::log(|| who(session), remark);
}

/// Who logs in, for the server log.
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

/// Judges a session by the rules in force, as soon as they are known, at the latest at the deadline. It `had` rules
/// of this generation a moment ago.
fn judge_in_time(
    session: &Session,
    had: Option<u64>,
    deadline: Instant,
) -> Result<(Rules, Judged), LoadError> {
    let left = || deadline.saturating_duration_since(Instant::now());
    let newer = had.and_then(|generation| memory::rules::at_least(session.database, generation));
    let rules = if let Some(rules) = newer {
        rules
    } else if left().is_zero() {
        // Changes come faster than they can be read: what is in force has to do.
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

/// The license that a session claims, where it counts in a pool.
fn pooled(rules: &Rules, standing: Standing) -> Option<&License> {
    rules.licenses.iter().find(|license| {
        Some(license.key.place) == standing.license
            && !license.pool.is_empty()
            && license.may_count(standing.exempt)
    })
}
