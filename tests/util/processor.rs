//! The time that processes use.

use std::fs;

/// Returns what a process has used, and what its children had that have ended, in clock ticks: hundredths of a second.
pub fn ticks(pid: i32) -> [u64; 2] {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    // In user mode and in the kernel.
    [11, 13].map(|at| fields[at].parse::<u64>().unwrap() + fields[at + 1].parse::<u64>().unwrap())
}
