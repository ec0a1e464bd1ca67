//! PostgreSQL's lists.
#![allow(unsafe_code, reason = "reads PostgreSQL's lists")]

use pgrx::pg_sys;

/// Returns the pointers in a list; none for null, PostgreSQL's empty list.
///
/// # Safety
///
/// It must be a list of pointers to this type.
pub unsafe fn elements<T>(list: *mut pg_sys::List) -> Vec<*mut T> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: a list of pointers has as many elements as its length says.
    unsafe {
        (0..(*list).length as usize)
            .map(|at| (*(*list).elements.add(at)).ptr_value.cast())
            .collect()
    }
}
