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
//! | rules can't be read, read before | the last ones | as they say, and logged |
//! | rules don't fit into the ledger | – | 53300 license_table_full |
//! | exempt role or host | current | in, exempt |
//! | the same, and as many identities are exempt as were signed | current | as those below |
//! | claims no license | current | in |
//! | claims a pooled license, pool not yet known | current | waits, then 57P03 |
//! | barred by an administrator | current | 28000 license_barred, never softened |
//! | license not yet valid, or expired beyond its grace | current | 28000, softened by enforcement |
//! | identity holds a seat | current | in, joins the seat |
//! | a seat is free | current | in, takes it |
//! | a seat within `overdraft` is free | current | in, takes it, logged |
//! | no seat is free, one is idle for `reclaim_idle_after` | current | waits for it to give way |
//! | no seat is free, save what is kept for other roles | current | 53300 license_full, softened by enforcement |
//! | the members of a role of its use all that they may | current | 53300 license_full, softened by enforcement |
//! | `max_seats` are in use | current | 53300 license_table_full, softened by enforcement |
#![allow(
    unsafe_code,
    reason = "the hook and the exit callback are PostgreSQL's C interface"
)]

use std::cell::Cell;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::denial::{self, Denied};
use crate::ending::{reclaim, session};
use crate::lease::expiry;
use crate::ledger::identity::Host;
use crate::ledger::rules::Rules;
use crate::ledger::session::{Exempt, Session, Standing};
use crate::ledger::{Answer, Judged, Remark};
use crate::licenses::{self, LoadError};
use crate::pg::backend::{self, Port};
use crate::pg::catalog::Catalog;
use crate::pg::error::quoted;
use crate::pg::unguarded;
use crate::{memory, settings};

type ClientAuthenticationHook = Option<unsafe extern "C-unwind" fn(*mut Port, c_int)>;

unsafe extern "C-unwind" {
    #[link_name = "ClientAuthentication_hook"]
    static mut CLIENT_AUTHENTICATION_HOOK: ClientAuthenticationHook;
}

/// PostgreSQL's STATUS_OK.
const AUTHENTICATED: c_int = 0;

/// The client has authenticated, and its startup transaction has not ended.
static ARMED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static PREVIOUS_HOOK: Cell<ClientAuthenticationHook> = const { Cell::new(None) };
}

/// Installs the hook, in the postmaster.
pub fn install() {
    // SAFETY: called once from _PG_init, while the library is preloaded.
    unsafe {
        PREVIOUS_HOOK.set(CLIENT_AUTHENTICATION_HOOK);
        CLIENT_AUTHENTICATION_HOOK = Some(on_client_authentication);
    }
}

unsafe extern "C-unwind" fn on_client_authentication(port: *mut Port, status: c_int) {
    if let Some(previous) = PREVIOUS_HOOK.get() {
        // SAFETY: the hook that was there before, with the arguments that we were given. Its error
        // passes through this frame, which holds nothing, and arrives whole.
        unsafe { previous(port, status) };
    }
    ARMED.store(status == AUTHENTICATED, Relaxed);
}

/// Called when any transaction is about to commit; acts on a login's startup transaction alone.
pub fn at_pre_commit() {
    if ARMED.swap(false, Relaxed) && memory::is_attached() {
        admit();
    }
}

fn admit() {
    // SAFETY: registered before a seat is taken, so that there is no way out without it.
    unsafe { unguarded::before_shmem_exit(Some(on_exit), pg_sys::Datum::from(0)) };
    if !backend::is_walsender() {
        session::listen();
    }
    let place = backend::place();
    let (workstation, bad) = match backend::workstation() {
        Ok(name) => (name, None),
        Err(bad) => (bad.shown, Some(bad)),
    };
    let session = backend::session(workstation);
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
    let judged = licenses::current(session.database).map(|rules| judge(&rules, &session));
    memory::write(|ledger| {
        let answer = judged.map(|judged| ledger.admit(place, session, judged));
        if !matches!(answer, Some(Answer::Admitted(_))) {
            ledger.register(place, Session { exempt, ..session }, backend::now());
        }
    });
}

/// Admits a session by the rules, or raises why not.
fn admit_counted(place: usize, session: Session) {
    let mut deadline = Instant::now() + settings::load_timeout();
    let mut asked = false;
    loop {
        let (rules, judged) = match judge_in_time(&session, deadline) {
            Ok(judged) => judged,
            Err(_) if session.superuser => {
                memory::write(|ledger| ledger.register(place, session, backend::now()));
                return;
            }
            Err(error) => Denied::Login.not_loaded(session.database, error).raise(),
        };
        let judged = Judged { asked, ..judged };
        let answer = memory::write(|ledger| {
            if rules.generation == 0 {
                // There is no room to note the database, which has no license.
                ledger.register(place, session, backend::now());
                return Answer::Admitted(Remark::None);
            }
            ledger.admit(place, session, judged)
        });
        match answer {
            Some(Answer::Outdated) => {}
            Some(Answer::TimesUp) => {
                expiry::end_due_leases();
            }
            Some(Answer::MayReclaim(reclaim)) => {
                asked = reclaim::ask(reclaim, reclaim::latest_answer());
                deadline = Instant::now() + settings::load_timeout();
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

fn log(session: &Session, remark: Remark) {
    let who = || format!("user {} at {}", quoted(session.usename), session.who.host);
    denial::log(who, remark);
}

/// Judges a session by the rules in force, as soon as they are known, at the latest at the deadline.
fn judge_in_time(session: &Session, deadline: Instant) -> Result<(Rules, Judged), LoadError> {
    let left = || deadline.saturating_duration_since(Instant::now());
    let rules = if left().is_zero() {
        // Changes come faster than they can be read: what is in force has to do.
        licenses::last_in_force(session.database)
            .ok_or_else(|| LoadError::Unreadable("they change too fast".to_owned()))?
    } else {
        licenses::in_force(left())?
    };
    let judged = judge(&rules, session);
    if !session.superuser && counts_in_pool(&rules, judged.standing) {
        licenses::await_pool(left())?;
    }
    Ok((rules, judged))
}

fn judge(rules: &Rules, session: &Session) -> Judged {
    Judged {
        generation: rules.generation,
        outdated: rules.outdated,
        exempt_superusers: rules.exempt_superusers,
        standing: rules.judge(session, &mut Catalog),
        roles: rules.roles_of(session.who.role, &mut Catalog),
        roles_edition: rules.roles_edition,
        enforcement: settings::enforcement(),
        now: backend::now(),
        asked: false,
    }
}

fn counts_in_pool(rules: &Rules, standing: Standing) -> bool {
    rules.licenses.iter().any(|license| {
        Some(license.key.place) == standing.license
            && !license.pool.is_empty()
            && license.may_count(standing.exempt)
    })
}

/// Gives back what this backend holds, whatever its end is.
#[pg_guard]
unsafe extern "C-unwind" fn on_exit(_code: c_int, _argument: pg_sys::Datum) {
    memory::write(|ledger| ledger.release(backend::place(), session::leaving(), backend::now()));
}
