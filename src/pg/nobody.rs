//! Acts as nobody: whatever is attached to a table that is used (a trigger, a CHECK, a default, an expression of an
//! index, a cast) runs with the rights of PUBLIC alone, and leaves nothing behind.
//!
//! Switching to a superuser, or to anybody who owns anything, would hand over that role's rights to whoever has
//! attached something to the table. A role that does not exist has nothing to hand over: it owns nothing and is a
//! member of nothing. Nor can code leave it: SET ROLE and SET SESSION AUTHORIZATION, temporary tables, deferred
//! triggers and holdable cursors are refused in such an operation, even in SECURITY DEFINER functions. Nor can it
//! create anything: [`crate::rules::change`] refuses that.
#![allow(unsafe_code, reason = "switches PostgreSQL's current user")]

use std::ffi::c_int;

use pgrx::pg_sys;

/// The OID of nobody. No role can have it: the lowest OID of PostgreSQL's own roles is 10, and a server assigns OIDs
/// from 16384.
const NOBODY: u32 = 1;

const RESTRICTED: u32 =
    pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;

/// Tells whether the current user is nobody.
pub fn is_acting() -> bool {
    // SAFETY: the call only reads a global of this process.
    unsafe { pg_sys::GetUserId() == pg_sys::Oid::from(NOBODY) }
}

/// Acts as another role until it is dropped, or until the transaction, or subtransaction, is rolled back.
pub struct Acting {
    user: pg_sys::Oid,
    context: c_int,
}

impl Acting {
    /// Acts as nobody. It must be called in a transaction.
    pub fn as_nobody() -> Acting {
        Acting::as_role(pg_sys::Oid::from(NOBODY))
    }

    /// Acts as this role, which can neither be left nor do anything that outlasts the operation.
    pub fn as_role(role: pg_sys::Oid) -> Acting {
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        // SAFETY: the calls read and set globals of this process, which an abort of the transaction restores.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&raw mut user, &raw mut context);
            pg_sys::SetUserIdAndSecContext(role, context | RESTRICTED as c_int);
        }
        Acting { user, context }
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        // SAFETY: restores the role that was current before.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) };
    }
}

/// Undoes every change of a setting when it is dropped, whoever made it: what is attached to a table could otherwise
/// leave another search_path to the session.
pub struct Settings {
    level: c_int,
}

impl Settings {
    /// Undoes changes from here on. It must be called in a transaction.
    pub fn kept() -> Settings {
        // SAFETY: does what a function's SET clause does.
        let level = unsafe { pg_sys::NewGUCNestLevel() };
        Settings { level }
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        // After an error, the end of the transaction or subtransaction does that.
        if !std::thread::panicking() {
            // SAFETY: the level is the one that was begun; the call also ends those above it.
            unsafe { pg_sys::AtEOXact_GUC(false, self.level) };
        }
    }
}
