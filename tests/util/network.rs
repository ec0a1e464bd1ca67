//! Ports and address families.

use std::net::TcpListener;
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the kernel's ephemeral ports, so that no client's own port takes a stopped server's place.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// Returns a port free on this computer now, never the same twice in a row.
pub fn free_port() -> u16 {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    // A start of its own for each test process.
    let start = process::id().wrapping_mul(97) % u32::from(COUNT);
    for _ in 0..COUNT {
        let tried = u32::from(TRIED.fetch_add(1, Ordering::Relaxed));
        let offset = u16::try_from((start + tried) % u32::from(COUNT)).unwrap();
        if TcpListener::bind(("127.0.0.1", FIRST + offset)).is_ok() {
            return FIRST + offset;
        }
    }
    panic!("no port is free");
}

/// Tells whether this computer has the IPv6 loopback address.
pub fn has_ipv6() -> bool {
    TcpListener::bind(("::1", 0)).is_ok()
}
