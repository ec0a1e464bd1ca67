//! Acting as nobody: whatever hangs on a table that is touched (a trigger, a CHECK, a default, an
//! expression of an index, a cast) runs with the rights of PUBLIC alone, and leaves nothing behind.
//!
//! Switching to a superuser, or to anybody who owns anything, would hand his rights to whoever has got
//! something onto the table. A role that does not exist has nothing to hand on: it owns nothing, is a member
//! of nothing, and can't be returned from: SET ROLE and SET SESSION AUTHORIZATION, temporary tables, deferred
//! triggers and cursors that stay are refused in such an operation, also within SECURITY DEFINER functions.
//! Nor can it create anything: see [`crate::rules`], which hears of it.
#![allow(unsafe_code, reason = "switches PostgreSQL's current user")]

use std::ffi::c_int;

use pgrx::pg_sys;

/// The OID of nobody: no role can have it, since those that are made by hand begin at 10, and those
/// that a server assigns at 16384.
const NOBODY: u32 = 1;

const RESTRICTED: u32 =
    pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;

/// Whether the current user is nobody.
pub fn is_acting() -> bool {
    // SAFETY: a plain global of this process.
    unsafe { pg_sys::GetUserId() == pg_sys::Oid::from(NOBODY) }
}

/// Acts as somebody else until it is dropped, or until the transaction, or the part of it, is rolled back.
pub struct Acting {
    user: pg_sys::Oid,
    context: c_int,
}

impl Acting {
    /// As nobody. Within a transaction.
    pub fn as_nobody() -> Acting {
        Acting::as_role(pg_sys::Oid::from(NOBODY))
    }

    /// As this role, who can neither leave it nor do what outlasts the operation.
    pub fn as_role(role: pg_sys::Oid) -> Acting {
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        // SAFETY: plain globals of this process; whoever aborts the transaction puts them back.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&raw mut user, &raw mut context);
            pg_sys::SetUserIdAndSecContext(role, context | RESTRICTED as c_int);
        }
        Acting { user, context }
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        // SAFETY: who it was before.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) };
    }
}

/// Undoes every change of a setting when it is dropped, whoever made it: what hangs on a table could
/// otherwise leave another search_path to the session.
pub struct Settings {
    level: c_int,
}

impl Settings {
    /// From here on. Within a transaction.
    pub fn kept() -> Settings {
        // SAFETY: as a function's SET clause does it.
        let level = unsafe { pg_sys::NewGUCNestLevel() };
        Settings { level }
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        // After an error the end of the transaction, or of the part of it, does that.
        if !std::thread::panicking() {
            // SAFETY: the level that was begun, and whatever is above it.
            unsafe { pg_sys::AtEOXact_GUC(false, self.level) };
        }
    }
}
