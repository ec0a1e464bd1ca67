//! Processes of our own: those that come with the server, and those that the launcher asks the postmaster for.
#![allow(
    unsafe_code,
    reason = "background workers are PostgreSQL's C interface"
)]

use std::ffi::c_int;
use std::ptr;

use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::{PgMemoryContexts, pg_sys};

use pgrx::bgworkers::{BackgroundWorker, SignalWakeFlags};
use std::time::Duration;

/// A process that was asked for. It goes on where this is dropped.
pub struct Process {
    /// PostgreSQL's handle of it, which it allocates and never frees by itself.
    handle: *mut pg_sys::BackgroundWorkerHandle,
}

impl Process {
    /// Asks for a process with this main function of the library and its argument, which the launcher hears of when it
    /// has begun and ended. `None` where all of `max_worker_processes` are taken.
    pub fn start(
        name: &str,
        function: &str,
        argument: i64,
        when: BgWorkerStartTime,
    ) -> Option<Process> {
        let builder = description(name, function)
            .set_start_time(when)
            .set_restart_time(None)
            .set_argument(Some(pg_sys::Datum::from(argument)))
            // SAFETY: this process's own id.
            .set_notify_pid(unsafe { pg_sys::MyProcPid });
        let mut worker = pg_sys::BackgroundWorker::from(&builder);
        let mut handle = ptr::null_mut();
        // SAFETY: a whole description; the handle lives until it is freed.
        let started = unsafe {
            PgMemoryContexts::TopMemoryContext.switch_to(|_| {
                pg_sys::RegisterDynamicBackgroundWorker(&raw mut worker, &raw mut handle)
            })
        };
        // Where there is no handle, there is nothing to be freed.
        started.then(|| Process { handle })
    }

    /// True when it is gone, or never came: a process that could not be forked is no other than one that has ended.
    pub fn is_gone(&self) -> bool {
        let mut pid: c_int = 0;
        // SAFETY: the handle is valid as long as there is a Process.
        let status = unsafe { pg_sys::GetBackgroundWorkerPid(self.handle, &raw mut pid) };
        status == pg_sys::BgwHandleStatus::BGWH_STOPPED
    }

    /// Has the postmaster end it, or never start it.
    pub fn terminate(&self) {
        // SAFETY: the handle is valid as long as there is a Process.
        unsafe { pg_sys::TerminateBackgroundWorker(self.handle) };
    }
}

/// Registers a process that comes with the server, and is started again when it ends. In the postmaster.
pub fn register(name: &str, function: &str) {
    description(name, function)
        .set_start_time(BgWorkerStartTime::ConsistentState)
        .set_restart_time(Some(RETRY))
        .load();
}

/// What all our processes have in common.
fn description(name: &str, function: &str) -> BackgroundWorkerBuilder {
    BackgroundWorkerBuilder::new(name)
        .set_type(name)
        .set_library("pg_seats")
        .set_function(function)
        .enable_shmem_access(None)
        .enable_spi_access()
}

impl Drop for Process {
    fn drop(&mut self) {
        // SAFETY: allocated for this Process, and nobody else's.
        unsafe { pg_sys::pfree(self.handle.cast()) };
    }
}

/// How soon the launcher tries again what did not work.
pub const RETRY: Duration = Duration::from_secs(1);

/// Sees to signals: SIGTERM ends a worker also while it waits for another process or a lock, so that it never holds
/// up a shutdown; SIGHUP has it reload the configuration.
pub fn attach_signal_handlers() {
    // SAFETY: as every worker begins, while signals are still blocked.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(pg_sys::SIGTERM as c_int, Some(die));
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(pg_sys::SIGTERM as c_int, Some(die));
    }
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP);
}

unsafe extern "C-unwind" {
    /// PostgreSQL's handler that ends a process at its next safe moment.
    fn die(signal: c_int);
}
