//! Tests that can't be made everywhere.

use std::io::{Write, stderr};
use std::thread;

/// Says that the running test tests nothing here, and why; the summary counts it.
pub fn skipped(why: &str) {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    // Past the test runner, which keeps what is printed to itself.
    let _ = writeln!(stderr(), "\n!!! SKIPPED {test}: {why}\n");
}
