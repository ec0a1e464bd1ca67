//! The entry points from PostgreSQL: the library's initialisation, and the SQL files of the schema.
//!
//! * `hooks`: every hook
//! * `transaction`: every transaction callback
//! * `trigger`: the function of the tables' triggers
#![allow(unsafe_code, reason = "hooks are PostgreSQL's C interface")]

mod hooks;
mod transaction;
mod trigger;

use std::io;

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::pg::{backend, error};
use crate::signed::installation;
use crate::{events, memory, rules, settings, worker};

pgrx::pg_module_magic!();

extension_sql_file!("../../sql/origin.sql", name = "origin", bootstrap);
extension_sql_file!(
    "../../sql/licenses.sql",
    name = "licenses",
    requires = ["origin"]
);
extension_sql_file!(
    "../../sql/exemptions.sql",
    name = "exemptions",
    requires = ["licenses"]
);
extension_sql_file!(
    "../../sql/reservations.sql",
    name = "reservations",
    requires = ["exemptions"]
);
extension_sql_file!(
    "../../sql/leases.sql",
    name = "leases",
    requires = ["reservations"]
);
extension_sql_file!(
    "../../sql/events.sql",
    name = "events",
    requires = ["leases"]
);
extension_sql_file!(
    "../../sql/counts.sql",
    name = "counts",
    requires = ["events"]
);
extension_sql_file!("../../sql/bars.sql", name = "bars", requires = ["counts"]);
extension_sql_file!("../../sql/keys.sql", name = "keys", requires = ["bars"]);
extension_sql_file!(
    "../../sql/allotments.sql",
    name = "allotments",
    requires = ["keys"]
);
extension_sql_file!(
    "../../sql/functions.sql",
    name = "functions",
    requires = ["allotments"]
);
extension_sql_file!(
    "../../sql/triggers.sql",
    name = "triggers",
    requires = ["functions"]
);
extension_sql_file!(
    "../../sql/views.sql",
    name = "views",
    requires = ["triggers"]
);
extension_sql_file!("../../sql/privileges.sql", name = "privileges", finalize);

/// Initialises the library when PostgreSQL loads it. Never raises an error.
#[pg_guard]
pub unsafe extern "C-unwind" fn _PG_init() {
    // SAFETY: these globals of the process are initialised before any library is loaded.
    let (preloading, creating, upgrading) = unsafe {
        (
            pg_sys::process_shared_preload_libraries_in_progress,
            pg_sys::creating_extension,
            pg_sys::IsBinaryUpgrade,
        )
    };
    if upgrading {
        return;
    }
    if !preloading {
        if creating {
            warn_not_preloaded();
        }
        // Changes made in this server are not recorded for the next one.
        rules::pools::outdate();
        return;
    }
    settings::define();
    hooks::install();
    transaction::install();
    worker::register();
}

/// Warns that nothing is enforced without preloading. It is no error, because a restore that creates the extension must
/// not fail.
fn warn_not_preloaded() {
    crate::pg::error::Report::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "pg_seats enforces nothing until it is preloaded",
    )
    .hint(memory::PRELOAD_HINT)
    .log(PgLogLevel::WARNING);
}

/// Starts the extension once shared memory exists: in the postmaster, at the start and after a crash.
fn start() {
    events::shutdown::watch();
    rules::pools::recall();
    make_installation_key();
}

/// Creates the installation's key pair, if this is the first start.
fn make_installation_key() {
    if backend::group_reads_data_directory() {
        installation::let_group_read();
    }
    let path = settings::installation_key();
    let begun = installation::files::begin(&path);
    let made = match backend::random_bytes() {
        Some(seed) => begun.and_then(|()| installation::key::create(&path, &seed)),
        None => Err(io::Error::other("there are no random numbers")),
    };
    if let Err(error) = made {
        error::log(format!(
            "pg_seats could not make installation key {}: {error}",
            path.display()
        ));
    }
}
