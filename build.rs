//! Lays the library out in few segments: every login forks the server, which copies each of them.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // rustc's own linker, the default on this architecture alone, knows how.
    if env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,--no-rosegment");
    }
}
