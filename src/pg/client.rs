//! The client at the other end of this backend's connection.
#![allow(
    unsafe_code,
    reason = "reads this process's own state in PostgreSQL's globals"
)]

use super::backend::{database, now};
use super::compat::Port;
use super::encoding::{decode, decode_lossy, is_proper_text};
use super::unguarded;
use crate::core::keepalive::Keepalives;
use crate::core::ledger::identity::{Host, Label, NAME_MAX, Name, Who};
use crate::core::ledger::session::Session;
use pgrx::pg_sys;
use std::ffi::{CStr, c_char, c_int};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Returns the session of this backend at a workstation, before it is judged. It may only be called at login.
pub fn session(workstation: Name) -> Session {
    // SAFETY: this process's own globals. `MyProcPort` is set in every client backend, and points to a struct that
    // begins with the fields of `Port`. An error of the look-ups ends the process.
    unsafe {
        let role = unguarded::GetAuthenticatedUserId();
        let known = role != pg_sys::InvalidOid;
        let superuser = known && unguarded::superuser_arg(role);
        let port = pg_sys::MyProcPort.cast::<Port>();
        let (address, host, usename) = if port.is_null() {
            (Host::NONE, Host::LOCAL, None)
        } else {
            let peer = ip_address(&(*port).raddr);
            let own = ip_address(&(*port).laddr).map(|(own, _)| own);
            let address = peer.map_or(Host::NONE, |(peer, zone)| Host::of_address(peer, zone));
            (address, Host::of_peer(peer, own), bytes((*port).user_name))
        };
        Session {
            pid: pg_sys::MyProcPid,
            database: database(),
            who: Who {
                role: role.into(),
                host,
                workstation,
                client_user: Label::EMPTY,
            },
            address,
            usename: usename.map_or(Name::EMPTY, |name| clipped(&decode_lossy(name))),
            application_name: if port.is_null() {
                Name::EMPTY
            } else {
                application_name(&*port)
            },
            since: now(),
            superuser,
            // Superusers have REPLICATION without being granted it.
            replication: pg_sys::am_walsender
                || known && !superuser && unguarded::has_rolreplication(role),
            ..Session::FREE
        }
    }
}

/// Returns the keepalive settings of this backend's TCP connection.
pub fn keepalives() -> Keepalives {
    // SAFETY: `MyProcPort` is set in every client backend; the calls read it, and ask the kernel for what it lacks.
    unsafe {
        let port = pg_sys::MyProcPort;
        Keepalives {
            idle: unguarded::pq_getkeepalivesidle(port),
            interval: unguarded::pq_getkeepalivesinterval(port),
            count: unguarded::pq_getkeepalivescount(port),
        }
    }
}

/// Returns as much of a text as a name can have, for display.
pub fn clipped(text: &str) -> Name {
    let end = text.floor_char_boundary(NAME_MAX);
    text.get(..end).and_then(Name::new).unwrap_or(Name::EMPTY)
}

unsafe fn bytes<'a>(text: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: PostgreSQL's strings are zero-terminated.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_bytes())
}

fn ip_address(address: &pg_sys::SockAddr) -> Option<(IpAddr, u32)> {
    let storage = (&raw const address.addr).cast::<u8>();
    // SAFETY: a sockaddr of these families begins with family, port (and flow), address (and zone), and
    // sockaddr_storage is large and aligned enough for either.
    unsafe {
        let octets = |at: usize, len: usize| std::slice::from_raw_parts(storage.add(at), len);
        match i32::from(address.addr.ss_family) {
            AF_INET => {
                let v4: [u8; 4] = octets(4, 4).try_into().ok()?;
                Some((Ipv4Addr::from(v4).into(), 0))
            }
            AF_INET6 => {
                let v6: [u8; 16] = octets(8, 16).try_into().ok()?;
                let zone: [u8; 4] = octets(24, 4).try_into().ok()?;
                Some((Ipv6Addr::from(v6).into(), u32::from_ne_bytes(zone)))
            }
            _ => None,
        }
    }
}

/// Linux's numbers, the same on every architecture.
const AF_INET: i32 = 2;

const AF_INET6: i32 = 10;

/// Returns the startup packet's application name, as much of it as PostgreSQL shows (63 bytes): as it was sent, if it
/// is proper text in the database's encoding; else as PostgreSQL has it, with the letters beyond ASCII replaced.
unsafe fn application_name(port: &Port) -> Name {
    // SAFETY: guc_options is a list of C strings, names and values by turns.
    unsafe {
        let options = port.guc_options.as_ref();
        let len = options.map_or(0, |options| options.length);
        let option = |at: c_int| {
            let element = options?.elements.offset(at as isize);
            bytes((*element).ptr_value.cast())
        };
        let sent = (0..len)
            .step_by(2)
            .filter(|&at| option(at) == Some(b"application_name"))
            .filter_map(|at| option(at + 1))
            .next_back()
            .filter(|name| is_proper_text(name))
            .and_then(decode);
        let among_options = || {
            let options = bytes(port.cmdline_options)?;
            let name = b"application_name";
            let named = options.windows(name.len()).any(|part| part == name);
            named.then(|| bytes(pg_sys::application_name))?
        };
        let name = sent
            .or_else(|| bytes(port.application_name).map(decode_lossy))
            .or_else(|| among_options().map(decode_lossy))
            .unwrap_or_default();
        clipped(&name)
    }
}
