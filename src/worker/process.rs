//! Processes of the extension: those that start with the server, and those that the launcher requests from the
//! postmaster.
#![allow(
    unsafe_code,
    reason = "background workers are PostgreSQL's C interface"
)]

use std::ffi::c_int;
use std::ptr;
use std::time::Duration;

use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags,
};
use pgrx::{PgMemoryContexts, pg_sys};

use crate::pg::{compat, unguarded};

/// A process that was requested. It goes on if this is dropped.
pub struct Process {
    /// PostgreSQL's handle of it, which PostgreSQL allocates and never frees.
    handle: *mut pg_sys::BackgroundWorkerHandle,
}

impl Process {
    /// Requests a process with this main function of the library and its argument. The launcher is signalled when it
    /// has begun and when it has ended. `None` if all of `max_worker_processes` are taken.
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
            // SAFETY: a plain global of this process.
            .set_notify_pid(unsafe { pg_sys::MyProcPid });
        let mut worker = pg_sys::BackgroundWorker::from(&builder);
        let mut handle = ptr::null_mut();
        // SAFETY: the description is complete, and the handle is allocated in a context that lasts until it is freed.
        let started = unsafe {
            PgMemoryContexts::TopMemoryContext.switch_to(|_| {
                pg_sys::RegisterDynamicBackgroundWorker(&raw mut worker, &raw mut handle)
            })
        };
        // If there is no handle, there is nothing to free.
        started.then(|| Process { handle })
    }

    /// Tells whether the process is gone, or never started: one that could not be forked looks like one that has ended.
    pub fn is_gone(&self) -> bool {
        let mut pid: c_int = 0;
        // SAFETY: the handle is valid as long as there is a `Process`.
        let status = unsafe { pg_sys::GetBackgroundWorkerPid(self.handle, &raw mut pid) };
        status == pg_sys::BgwHandleStatus::BGWH_STOPPED
    }

    /// Makes the postmaster end the process, or never start it.
    pub fn terminate(&self) {
        // SAFETY: the handle is valid as long as there is a `Process`.
        unsafe { pg_sys::TerminateBackgroundWorker(self.handle) };
    }
}

/// Registers a process that starts with the server, and is started again when it ends. Only the postmaster may call it.
pub fn register(name: &str, function: &str) {
    description(name, function)
        .set_start_time(BgWorkerStartTime::ConsistentState)
        .set_restart_time(Some(RETRY))
        .load();
}

/// Returns what all processes of the extension have in common.
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
        // SAFETY: the handle was allocated for this `Process` alone, and is not used again.
        unsafe { pg_sys::pfree(self.handle.cast()) };
    }
}

/// How soon the launcher tries again what failed.
pub const RETRY: Duration = Duration::from_secs(1);

/// Installs signal handlers: SIGTERM ends a worker even while it waits for another process or a lock, so that it never
/// holds up a shutdown; SIGHUP makes it reload the configuration.
pub fn attach_signal_handlers() {
    // SAFETY: called while signals are still blocked, as at the start of every worker.
    unsafe { compat::set_signal_handler(pg_sys::SIGTERM as c_int, unguarded::die) };
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP);
}
