//! This backend: its state, its slot among all backends, and its waits.
#![allow(
    unsafe_code,
    reason = "reads this process's own state in PostgreSQL's globals"
)]

use std::ffi::{c_int, c_long};
use std::time::Duration;

use pgrx::pg_sys;

use super::{compat, unguarded};
use crate::core::ledger::numbers::{DatabaseOid, RoleOid, Slot};
use crate::core::ledger::time::Timestamp;

/// Returns this process's slot among all backends; `None` in the postmaster, and before it has one.
pub fn slot_if_any() -> Option<Slot> {
    // SAFETY: a plain global of this process.
    let has_slot = unsafe { !pg_sys::MyProc.is_null() };
    has_slot.then(slot)
}

/// Returns this backend's slot among all that the server can have, from 0.
pub fn slot() -> Slot {
    // SAFETY: only called in backends, which have a PGPROC.
    unsafe { compat::slot_of(pg_sys::MyProc) }
}

/// Wakes the backend in a slot, if it waits for its latch.
pub fn wake(slot: Slot) {
    // SAFETY: the slot is one of all backends, whose latches stay where they are; setting a latch neither waits nor
    // fails.
    unsafe {
        let backend = (*pg_sys::ProcGlobal).allProcs.add(slot.0);
        unguarded::SetLatch(&raw mut (*backend).procLatch);
    }
}

/// Signals a backend to look at its request, and to end if the decision is not its own. A process that is gone is no
/// error.
pub fn signal_to_end(pid: i32, must_end: bool) {
    // SAFETY: backends expect these signals, and this one can't leave while the caller holds the ledger's lock.
    unsafe {
        kill(pid, pg_sys::SIGUSR2 as c_int);
        if must_end {
            kill(pid, pg_sys::SIGTERM as c_int);
        }
    }
}

unsafe extern "C" {
    fn kill(pid: c_int, signal: c_int) -> c_int;
}

/// Waits until somebody wakes this backend, at most for `patience`. Raises an error if the query is cancelled or times
/// out; ends the process with the server. pg_stat_activity shows the wait event `LicenseSeat`, before 17 `Extension`.
pub fn wait_for_wake(patience: Duration) {
    wait(patience, compat::named_wait_event(c"LicenseSeat"));
}

/// Waits in the same way beside a command that runs.
pub fn wait_for_command(patience: Duration) {
    wait(patience, compat::named_wait_event(c"LicenseRenewal"));
}

/// Waits in the same way in a worker, which may have nothing to wait for but being woken.
pub fn wait_in_worker(patience: Option<Duration>) {
    wait(patience.unwrap_or(Duration::MAX), pg_sys::PG_WAIT_EXTENSION);
}

/// Wakes the postmaster, which then checks which processes to start.
pub fn wake_postmaster() {
    // SAFETY: without a flag in shared memory this signal means nothing: the postmaster checks, and sleeps again.
    unsafe { kill(pg_sys::PostmasterPid, pg_sys::SIGUSR1 as c_int) };
}

fn wait(patience: Duration, wait_event: u32) {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    let milliseconds = milliseconds(patience);
    // SAFETY: this process's own latch. pgrx turns an error of the call into a panic.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, events as c_int, milliseconds, wait_event);
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
}

/// Returns a time as PostgreSQL's waits take it, rounded up, so that nobody wakes before it is over. It is at most what
/// a `c_int` holds, 24.8 days: whoever waits for longer wakes in between, looks, and waits again.
pub fn milliseconds(patience: Duration) -> c_long {
    let milliseconds = patience.as_nanos().div_ceil(1_000_000);
    c_long::from(c_int::try_from(milliseconds).unwrap_or(c_int::MAX))
}

/// Returns the slot of the backend that this parallel worker works for, or this backend's own.
pub fn leader_slot() -> Slot {
    // SAFETY: this process's own globals; a leader outlives its workers.
    unsafe {
        let leader = (*pg_sys::MyProc).lockGroupLeader;
        if leader.is_null() || leader == pg_sys::MyProc {
            return slot();
        }
        compat::slot_of(leader)
    }
}

/// Tells whether this backend is a walsender.
pub fn is_walsender() -> bool {
    // SAFETY: a plain global of this process.
    unsafe { pg_sys::am_walsender }
}

/// Tells whether a parallel query is running, in its leader or a worker.
pub fn is_in_parallel_mode() -> bool {
    // SAFETY: the call only reads this process's own state.
    unsafe { pg_sys::IsInParallelMode() }
}

/// Returns the number of this transaction; 0 if it has written nothing.
pub fn transaction() -> u32 {
    // SAFETY: the call only reads this process's own state.
    unsafe { pg_sys::GetTopTransactionIdIfAny() }.into_inner()
}

/// Tells whether this transaction has written something.
pub fn has_written() -> bool {
    transaction() != 0
}

/// Tells whether this transaction may not write.
pub fn is_read_only() -> bool {
    // SAFETY: a plain global of this process.
    unsafe { pg_sys::XactReadOnly }
}

/// Returns how long this session waits for a lock; an hour if it has no limit.
pub fn lock_timeout() -> Duration {
    // SAFETY: a plain global of this process.
    let milliseconds = unsafe { pg_sys::LockTimeout };
    match u64::try_from(milliseconds) {
        Ok(milliseconds @ 1..) => Duration::from_millis(milliseconds),
        _ => Duration::from_secs(3_600),
    }
}

/// Returns the OID of the authenticated role.
pub fn role() -> RoleOid {
    // SAFETY: the call only reads a global of this process.
    unsafe { unguarded::GetAuthenticatedUserId() }.into()
}

/// Returns the OID of the current role: that of SET ROLE, or of the owner of a SECURITY DEFINER function.
pub fn current_role() -> RoleOid {
    // SAFETY: the call only reads a global of this process.
    unsafe { pg_sys::GetUserId() }.into()
}

/// Returns the number of the subtransaction that this backend is in.
pub fn subtransaction() -> u32 {
    // SAFETY: the call only reads this process's own state.
    unsafe { pg_sys::GetCurrentSubTransactionId() }
}

/// Tells whether this backend is in a subtransaction, whose error may be caught.
pub fn is_in_subtransaction() -> bool {
    // SAFETY: the call only reads this process's own state.
    unsafe { pg_sys::GetCurrentTransactionNestLevel() > 1 }
}

/// Returns the present moment, by the server's time (see [`super::clock`]).
pub fn now() -> Timestamp {
    super::clock::now()
}

/// Returns the time until a moment; `None` if it never comes.
pub fn time_until(moment: Timestamp) -> Option<Duration> {
    let left = moment.saturating_sub(now()).max(0);
    (moment != Timestamp::MAX).then(|| Duration::from_micros(left.unsigned_abs()))
}

/// Returns the OID of the database that this backend is connected to; 0 for none.
pub fn database() -> DatabaseOid {
    // SAFETY: a plain global of this process.
    unsafe { pg_sys::MyDatabaseId }.into()
}

/// Tells whether this process is the only one of its database that has called this with this number and has not ended.
/// It must be called in a transaction.
pub fn is_alone(number: u32) -> bool {
    let tag = pg_sys::LOCKTAG {
        locktag_field1: database().0,
        locktag_field2: LOCKS,
        locktag_field3: number,
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_USERLOCK as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    };
    // SAFETY: a lock that only this function takes. The call does not wait for it, and it is held until the process
    // ends.
    let taken =
        unsafe { pg_sys::LockAcquire(&raw const tag, pg_sys::ExclusiveLock as c_int, true, true) };
    taken != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// Tells whether somebody has locked this process's database, or is about to, so that nobody can connect to it: for
/// DROP DATABASE, or CREATE DATABASE from it. It must be called in a transaction.
pub fn is_database_locked() -> bool {
    let tag = pg_sys::LOCKTAG {
        locktag_field1: 0,
        locktag_field2: pg_sys::DatabaseRelationId.to_u32(),
        locktag_field3: database().0,
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    };
    let mode = pg_sys::RowExclusiveLock as c_int;
    // SAFETY: the lock that a login takes. The call does not wait for it, and it is released at once.
    unsafe {
        let taken = pg_sys::LockAcquire(&raw const tag, mode, false, true);
        if taken == pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL {
            return true;
        }
        pg_sys::LockRelease(&raw const tag, mode, false);
    }
    false
}

/// Tells the extension's locks from those of other extensions: `seat`.
const LOCKS: u32 = u32::from_be_bytes(*b"seat");

/// Tells whether the server is replaying another's changes.
pub fn in_recovery() -> bool {
    // SAFETY: the call only reads shared memory that every backend is attached to.
    unsafe { unguarded::RecoveryInProgress() }
}

/// Tells whether the server's group may read the data directory (`initdb --allow-group-access`).
pub fn group_reads_data_directory() -> bool {
    // SAFETY: a plain global of this process, set before libraries are preloaded.
    unsafe { pg_sys::data_directory_mode & 0o040 != 0 }
}

/// Holds back the signal of conflicts with a standby's replay until this is dropped: in a subtransaction such a
/// conflict would end the session, outside of one only the statement.
pub struct ConflictsHeld {
    former: SignalSet,
}

/// A set of signals as Linux's C libraries define it.
type SignalSet = [u64; 16];

/// The bit of the signal by which PostgreSQL reports such conflicts, among others.
const CONFLICTS: u64 = 1 << (pg_sys::SIGUSR1 - 1);

impl ConflictsHeld {
    /// Holds back the signal from now on.
    pub fn new() -> ConflictsHeld {
        let mut set: SignalSet = [0; 16];
        set[0] = CONFLICTS;
        let mut former: SignalSet = [0; 16];
        // SAFETY: blocks a signal for a while, as PostgreSQL itself does. The change of `UnBlockSig` keeps it blocked
        // when a subtransaction that is rolled back unblocks what PostgreSQL wants unblocked.
        unsafe {
            UnBlockSig[0] |= CONFLICTS;
            sigprocmask(SIG_BLOCK, &raw const set, &raw mut former);
        }
        ConflictsHeld { former }
    }
}

impl Drop for ConflictsHeld {
    fn drop(&mut self) {
        // SAFETY: restores what was there before.
        unsafe {
            UnBlockSig[0] &= !CONFLICTS;
            sigprocmask(SIG_SETMASK, &raw const self.former, std::ptr::null_mut());
        }
    }
}

/// Linux's numbers, the same on every architecture that PostgreSQL is packaged for.
const SIG_BLOCK: c_int = 0;
const SIG_SETMASK: c_int = 2;

unsafe extern "C" {
    /// The signals that stay blocked when PostgreSQL unblocks all others.
    static mut UnBlockSig: SignalSet;

    fn sigprocmask(how: c_int, set: *const SignalSet, former: *mut SignalSet) -> c_int;
}

/// Returns random bytes that are fit for keys; `None` if there are none.
pub fn random_bytes<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0_u8; N];
    // SAFETY: the call writes as many bytes as the array has.
    let strong = unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), N) };
    strong.then_some(bytes)
}

/// Returns a random UUID (version 4); `None` if there are no random numbers.
pub fn random_uuid() -> Option<u128> {
    let mut uuid = random_bytes::<16>()?;
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut uuid;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    Some(u128::from_be_bytes(uuid))
}

/// Makes what the transaction has done so far visible to what it does next.
pub fn see_own_changes() {
    // SAFETY: as between any two commands of a transaction.
    unsafe { pg_sys::CommandCounterIncrement() };
}

/// Makes the transaction that is about to commit wait until that is on disk, whatever `synchronous_commit` says.
pub fn force_sync_commit() {
    // SAFETY: the call only sets a flag of the transaction.
    unsafe { pg_sys::ForceSyncCommit() };
}

/// Tells whether this session has created temporary tables, or is about to.
pub fn has_temporary_tables() -> bool {
    // SAFETY: this process's own PGPROC, or null.
    let own = unsafe { pg_sys::MyProc.as_ref() };
    own.is_some_and(|own| own.tempNamespaceId != pg_sys::InvalidOid)
}

/// Returns the number by which PostgreSQL tells this server's data from any other's.
pub fn system_identifier() -> u64 {
    // SAFETY: the call only reads the copy of the control file that every process of the server has.
    unsafe { pg_sys::GetSystemIdentifier() }
}

/// Returns the mode of the data directory's files.
pub fn file_mode() -> u32 {
    unsafe extern "C" {
        #[link_name = "pg_file_create_mode"]
        static MODE: c_int;
    }
    // SAFETY: a plain global of this process, set before there is any other.
    u32::try_from(unsafe { MODE }).unwrap_or(0o600)
}
