//! The server's time: it agrees with the wall clock, but follows a clock that nobody sets. A step of the wall clock
//! changes it only once the ledger has noted the step, so that a step alone ends nothing.
#![allow(unsafe_code, reason = "reads the kernel's clocks")]

use std::ffi::{c_int, c_long};
use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicPtr, Ordering::Relaxed};

use super::unguarded;
use crate::core::ledger::time::{Clocks, Timestamp};

/// How much the server's time is ahead of the time since the machine's start, in shared memory.
static AHEAD: AtomicPtr<AtomicI64> = AtomicPtr::new(ptr::null_mut());

/// Linux's number for the time since the machine's start, including suspension.
const CLOCK_BOOTTIME: c_int = 7;

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: c_long,
}

unsafe extern "C" {
    fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int;
}

/// Makes this process, and those that it starts, go by the time that is kept here.
pub fn keep(ahead: &'static AtomicI64) {
    AHEAD.store(ptr::from_ref(ahead).cast_mut(), Relaxed);
}

/// Returns the present moment.
pub fn now() -> Timestamp {
    // SAFETY: the pointer is null, or points into shared memory for as long as the server runs.
    match unsafe { AHEAD.load(Relaxed).as_ref() } {
        Some(ahead) => since_start().saturating_add(ahead.load(Relaxed)),
        None => wall(),
    }
}

/// Looks at both clocks.
pub fn look() -> Clocks {
    Clocks {
        since_start: since_start(),
        wall: wall(),
    }
}

/// Looks at both clocks at the same moment: it repeats the look in case this process was kept waiting between the two.
pub fn look_closely() -> Clocks {
    let mut closest = look();
    let mut least = i64::MAX;
    for _ in 0..8 {
        let clocks = look();
        let apart = since_start().saturating_sub(clocks.since_start);
        if apart < least {
            (closest, least) = (clocks, apart);
        }
    }
    closest
}

fn since_start() -> i64 {
    let mut time = Timespec {
        seconds: 0,
        nanoseconds: 0,
    };
    // SAFETY: the call writes the time; every Linux that PostgreSQL runs on has this clock.
    unsafe { clock_gettime(CLOCK_BOOTTIME, &raw mut time) };
    time.seconds * 1_000_000 + time.nanoseconds / 1_000
}

fn wall() -> Timestamp {
    // SAFETY: the call only reads the clock.
    unsafe { unguarded::GetCurrentTimestamp() }
}
