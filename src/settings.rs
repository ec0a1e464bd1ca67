//! The settings: `pg_seats.*` in postgresql.conf, and the one that clients send.
#![allow(
    unsafe_code,
    reason = "check hooks and defaults of settings are PostgreSQL's C interface"
)]

use std::ffi::{CStr, CString, OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, GucValue, PostgresGucEnum};
use pgrx::pg_sys;

use crate::core::keepalive::{CHECK_INTERVAL, Keepalives};
use crate::core::ledger::identity::NAME_MAX;
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::words;
use crate::pg::encoding::is_proper_text;
use crate::pg::{client, unguarded};

/// The values of `pg_seats.enforcement`.
#[derive(Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
enum Enforcement {
    #[name = c"on"]
    On,
    #[name = c"warn"]
    Warn,
    #[name = c"off"]
    Off,
}

/// The values of `pg_seats.denial_detail`.
#[derive(Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
enum DenialDetail {
    #[name = c"holders"]
    Holders,
    #[name = c"count"]
    Count,
}

/// Declares the settings from a table: for each a static that has its value, and its definition for PostgreSQL in
/// `define`. A row has the static, its type and default; how to define it, with the bounds of a number; the context and
/// perhaps a flag; the name, what it does, and what else there is to know.
macro_rules! settings {
    ($(
        $setting:ident: $type:ty = $default:expr,
        $define:path[$($bound:expr),*], $context:ident $($flag:ident)?,
        $name:literal, $short:literal, $long:literal;
    )*) => {
        $(static $setting: GucSetting<$type> = GucSetting::<$type>::new($default);)*

        /// Defines the settings, while the library is preloaded.
        pub fn define() {
            $(
                let flags = GucFlags::default() $(| GucFlags::$flag)?;
                $define($name, $short, $long, &$setting, $($bound,)* GucContext::$context, flags);
            )*
            // SAFETY: the prefix is a string literal.
            unsafe { pg_sys::MarkGUCPrefixReserved(c"pg_seats".as_ptr()) };
        }
    };
}

settings! {
    ENFORCEMENT: Enforcement = Enforcement::On,
        GucRegistry::define_enum_guc[], Sighup,
        c"pg_seats.enforcement",
        c"What happens to a login without a free seat: on denies it, warn admits and logs it, off admits it.",
        c"It can only soften a license's own enforcement.";
    MAX_SEATS: i32 = 10_000,
        GucRegistry::define_int_guc[1, 10_000_000], Postmaster,
        c"pg_seats.max_seats",
        c"Checkouts and leases that there can be on this server at once, of all licenses together.",
        c"Logins find room besides. Sizes the shared memory of pg_seats: about 510 bytes a seat.";
    EVENT_BUFFER: i32 = 8_192,
        GucRegistry::define_int_guc[100, 1_000_000], Postmaster,
        c"pg_seats.event_buffer",
        c"How many events can wait until they are written into license_events, of all databases together.",
        c"Sizes the shared memory of pg_seats: about 700 bytes an event.";
    MAX_RULES: i32 = 20_000,
        GucRegistry::define_int_guc[100, 1_000_000], Postmaster,
        c"pg_seats.max_rules",
        c"Rows of licenses, license_exemptions, license_reservations and license_bars of all databases that are in force at once.",
        c"Databases share it: one with no more than its part always fits. Sizes the shared memory of pg_seats: about 2,500 bytes a row.";
    MAX_USERS_PER_SESSION: i32 = 10,
        GucRegistry::define_int_guc[1, 10_000_000], Sighup,
        c"pg_seats.max_users_per_session",
        c"For how many users of an application one session may hold checkouts.",
        c"Does not bind roles that may execute license_lease.";
    EXEMPT_SUPERUSERS: bool = true,
        GucRegistry::define_bool_guc[], Sighup,
        c"pg_seats.exempt_superusers",
        c"Superusers take no seat.",
        c"Off counts them; they are never denied.";
    LOAD_TIMEOUT: i32 = 5_000,
        GucRegistry::define_int_guc[1, 3_600_000], Sighup UNIT_MS,
        c"pg_seats.load_timeout",
        c"How long a login waits for the licenses of its database to be readable.",
        c"";
    EVENT_RETENTION: i32 = 400 * 24 * 60,
        GucRegistry::define_int_guc[-1, i32::MAX], Sighup UNIT_MIN,
        c"pg_seats.event_retention",
        c"How long the rows of license_events are kept.",
        c"-1 keeps them for ever.";
    DENIAL_DETAIL: DenialDetail = DenialDetail::Holders,
        GucRegistry::define_enum_guc[], Sighup,
        c"pg_seats.denial_detail",
        c"What a denied user is told: who has been idle longest, or only the count.",
        c"";
    DEAD_CLIENT_TIMEOUT: i32 = 30_000,
        GucRegistry::define_int_guc[0, 3_600_000], Sighup UNIT_MS,
        c"pg_seats.dead_client_timeout",
        c"How long a client that is cut off keeps its seat.",
        c"Logins from then on get keepalive settings by it. 0 leaves them the system's own.";
    VENDOR_KEYS: Option<CString> = Some(c""),
        GucRegistry::define_string_guc[], Sighup SUPERUSER_ONLY,
        c"pg_seats.vendor_keys",
        c"The vendors' public keys: a JWK set, or a folder with one for each vendor.",
        c"Licenses that are signed with none of them are not believed.";
    INSTALLATION_KEY: Option<CString> = Some(c"pg_seats.key"),
        GucRegistry::define_string_guc[], Postmaster SUPERUSER_ONLY,
        c"pg_seats.installation_key",
        c"This server's own key pair, by which licenses are made for it.",
        c"Made at the first start. A relative path is in the data directory.";
    KEY_GRACE: i32 = 7 * 24 * 60,
        GucRegistry::define_int_guc[0, 30 * 24 * 60], Sighup UNIT_MIN,
        c"pg_seats.key_grace",
        c"How long a license is believed whose signature can't be verified, or that is made for another server.",
        c"";
    RENEWAL_COMMAND: Option<CString> = Some(c""),
        GucRegistry::define_string_guc[], Sighup SUPERUSER_ONLY,
        c"pg_seats.renewal_command",
        c"The shell command that fetches a license's next token, which it writes to its standard output.",
        c"%i is the license's id, %c the customer, %% a percent sign. Empty: none is fetched.";
    RENEW_BEFORE: i32 = 14 * 24 * 60,
        GucRegistry::define_int_guc[0, 366 * 24 * 60], Sighup UNIT_MIN,
        c"pg_seats.renew_before",
        c"How long before its end a license is renewed.",
        c"";
    WORKSTATION: Option<CString> = Some(c""),
        define_workstation[], Backend,
        c"pg_seats.workstation",
        c"The name of the client's workstation, sent at connection start.",
        c"Tells users apart who share a host or a role.";
}

/// Defines the setting that a client sends, whose value is checked.
fn define_workstation(
    name: &'static CStr,
    short: &'static CStr,
    long: &'static CStr,
    setting: &'static GucSetting<Option<CString>>,
    context: GucContext,
    flags: GucFlags,
) {
    let check = Some(check_workstation as _);
    // SAFETY: the hook is guarded and has the signature of a string setting's check hook.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            name, short, long, setting, context, flags, check, None, None,
        );
    }
}

/// Returns the server's enforcement, which can only soften a license's own.
pub fn enforcement() -> words::Enforcement {
    match read(&ENFORCEMENT) {
        Enforcement::On => words::Enforcement::On,
        Enforcement::Warn => words::Enforcement::Warn,
        Enforcement::Off => words::Enforcement::Off,
    }
}

/// Returns how many rows of all databases can be in force at once.
pub fn max_rules() -> usize {
    usize::try_from(read(&MAX_RULES)).unwrap_or(0)
}

/// Returns how many checkouts and leases there can be.
pub fn max_seats() -> usize {
    usize::try_from(read(&MAX_SEATS)).unwrap_or(0)
}

/// Returns how many events can wait to be written.
pub fn event_buffer() -> usize {
    usize::try_from(read(&EVENT_BUFFER)).unwrap_or(0)
}

/// Returns for how many client_users one session may hold checkouts.
pub fn max_users_per_session() -> u32 {
    u32::try_from(read(&MAX_USERS_PER_SESSION)).unwrap_or(0)
}

/// Tells whether superusers take no seat.
pub fn exempt_superusers() -> bool {
    read(&EXEMPT_SUPERUSERS)
}

/// Returns how long a login waits for licenses to be readable.
pub fn load_timeout() -> Duration {
    Duration::from_millis(u64::try_from(read(&LOAD_TIMEOUT)).unwrap_or(0))
}

/// Returns how long events are kept, in minutes; `None`: for ever.
pub fn event_retention() -> Option<i32> {
    Some(read(&EVENT_RETENTION)).filter(|&minutes| minutes >= 0)
}

/// Tells whether a denied user is told who has been idle longest.
pub fn denial_names_holders() -> bool {
    read(&DENIAL_DETAIL) == DenialDetail::Holders
}

/// Returns the path of the vendors' public keys; `None` if there is none.
pub fn vendor_keys() -> Option<PathBuf> {
    path(&VENDOR_KEYS)
}

/// Returns the path of this server's own key pair.
pub fn installation_key() -> PathBuf {
    path(&INSTALLATION_KEY).unwrap_or_else(|| PathBuf::from("pg_seats.key"))
}

/// Returns how long a license that can't be verified is believed, in microseconds.
pub fn key_grace() -> Timestamp {
    Timestamp::from(read(&KEY_GRACE)) * 60_000_000
}

/// Returns the command that fetches tokens; `None` if there is none.
pub fn renewal_command() -> Option<CString> {
    // SAFETY: the text is copied before anything else can change the setting.
    let command = unsafe { text(&RENEWAL_COMMAND) };
    (!command.is_empty()).then(|| command.to_owned())
}

/// Returns how long before its end a license is renewed, in microseconds.
pub fn renew_before() -> Timestamp {
    Timestamp::from(read(&RENEW_BEFORE)) * 60_000_000
}

/// Returns a path in the file system, as the administrator wrote it.
fn path(setting: &GucSetting<Option<CString>>) -> Option<PathBuf> {
    // SAFETY: the text is copied before anything else can change the setting.
    let bytes = unsafe { text(setting) }.to_bytes();
    (!bytes.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(bytes)))
}

/// Returns the text of a setting, which is gone once the setting changes: the caller must copy it before.
unsafe fn text(setting: &GucSetting<Option<CString>>) -> &'static CStr {
    // SAFETY: PostgreSQL keeps a zero-terminated string there, or null.
    unsafe {
        let value = *setting.as_ptr();
        if value.is_null() {
            c""
        } else {
            CStr::from_ptr(value)
        }
    }
}

/// Returns the workstation that the client sent, in the database's encoding; empty if it sent none.
pub fn workstation() -> &'static [u8] {
    // SAFETY: the setting can't change once the session has begun.
    unsafe { text(&WORKSTATION) }.to_bytes()
}

/// Returns a setting's value. pgrx's own accessor also checks the thread, which costs each login two page faults.
fn read<T: GucValue>(setting: &GucSetting<T>) -> T {
    // SAFETY: PostgreSQL keeps the value there, and its processes have one thread.
    unsafe { T::from_raw(*setting.as_ptr()) }
}

/// Refuses a workstation's name that would be cut, or has characters that can't be seen: another one could look the
/// same.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn check_workstation(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: PostgreSQL passes a pointer to the new value, which is a zero-terminated string or null.
    let name = unsafe {
        if (*value).is_null() {
            c""
        } else {
            CStr::from_ptr(*value)
        }
    };
    use pg_sys::GucSource::{PGC_S_CLIENT, PGC_S_DEFAULT, PGC_S_DYNAMIC_DEFAULT};
    let of_client = matches!(source, PGC_S_DEFAULT | PGC_S_DYNAMIC_DEFAULT | PGC_S_CLIENT);
    let detail = if !of_client && !name.is_empty() {
        c"Only a client can give its workstation, when it connects."
    } else if name.to_bytes().len() > NAME_MAX {
        c"A workstation's name has at most 63 bytes."
    } else if !is_proper_text(name.to_bytes()) {
        c"A workstation's name has no control characters and is valid in the database's encoding."
    } else {
        return true;
    };
    // SAFETY: does what the macro GUC_check_errdetail does: PostgreSQL reads the string, allocated in its memory, for
    // the report that it makes next.
    unsafe { pg_sys::GUC_check_errdetail_string = pg_sys::pstrdup(detail.as_ptr()) };
    false
}

/// Makes the server notice soon that a session's client is gone, even in the middle of a query.
pub fn notice_killed_client() {
    set_default(c"client_connection_check_interval", CHECK_INTERVAL);
}

/// Makes the server notice within `pg_seats.dead_client_timeout` that a session's client is cut off. Only for a session
/// over TCP.
pub fn notice_silent_client() {
    let timeout = read(&DEAD_CLIENT_TIMEOUT);
    if timeout == 0 {
        return;
    }
    let ours = Keepalives::within(timeout);
    set_default(c"tcp_keepalives_idle", ours.idle);
    set_default(c"tcp_keepalives_interval", ours.interval);
    set_default(c"tcp_keepalives_count", ours.count);
    let user_timeout = ours.user_timeout(client::keepalives());
    set_default(c"tcp_user_timeout", user_timeout);
}

/// Sets a setting of this session at the lowest precedence, so that a value of the client or administrator wins.
fn set_default(name: &CStr, value: i32) {
    // Room for the longest number and the zero byte at its end.
    let mut text: [c_char; 12] = [0; 12];
    // SAFETY: the names and values are valid settings of every supported version, and the text has room for any number.
    unsafe {
        unguarded::pg_ltoa(value, text.as_mut_ptr());
        unguarded::SetConfigOption(
            name.as_ptr(),
            text.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_DYNAMIC_DEFAULT,
        );
    }
}
