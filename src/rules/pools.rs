//! The file `pg_seats.pools` in the data directory: which databases are in which pools, so that after a start nobody
//! waits for databases that have nothing to do with a pool; and which have no leases, so that nobody waits for a
//! database that can't be read and adds nothing.
//!
//! The file must never say less than is true, or a pool would give away seats that others hold. So it exists only while
//! it is true: before a transaction commits that may put a database into another pool, or commits a database's first
//! lease, it removes the file, and the launcher writes it anew once the change has been read. A server without the
//! library removes it as soon as one of the extension's triggers or functions is called. A server that starts from a
//! backup, or as a standby, starts without it, because there it may be older than the tables; a copy or an older state
//! of the file is not believed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::core::ledger::acts::visits::{PoolOf, RememberedPools};
use crate::core::ledger::numbers::{DatabaseOid, Generation};
use crate::core::ledger::pools::{Mark, Pools, Remembered};
use crate::core::ledger::table::Table;
use crate::memory;
use crate::pg::{backend, error};

/// In the data directory, which is the working directory of every process of the server.
const FILE: &str = "pg_seats.pools";
const NEW: &str = "pg_seats.pools.new";

/// The lock file that a process holds while it replaces or removes the file.
const LOCK: &str = "pg_seats.pools.lock";

/// Files in the data directory that tell that the server starts with the data of a backup or of another server.
const SIGNALS: [&str; 3] = ["backup_label", "standby.signal", "recovery.signal"];

/// What was remembered when the server started; every backend inherits it.
static REMEMBERED: Mutex<Option<Pools>> = Mutex::new(None);

fn remembered() -> MutexGuard<'static, Option<Pools>> {
    REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the file. Only the postmaster calls it, at the start and after a crash.
pub fn recall() {
    let follows = SIGNALS.iter().any(|signal| Path::new(signal).exists());
    if follows && let Err(error) = remove() {
        log("remove", &error);
    }
    *remembered() = if follows { None } else { read().ok().flatten() };
}

/// A pool and product to look up among the remembered databases. Its methods allocate nothing.
pub struct Of<'a> {
    /// The pool's name.
    pub pool: &'a str,
    /// The product.
    pub product: &'a str,
}

impl RememberedPools for Of<'_> {
    fn may_have_pool(&self, database: DatabaseOid) -> bool {
        remembered()
            .as_ref()
            .is_none_or(|pools| pools.may_have(database, self.pool, self.product))
    }

    fn is_without_leases(&self, database: DatabaseOid) -> bool {
        remembered()
            .as_ref()
            .is_some_and(|pools| pools.is_without_leases(database))
    }
}

/// Notes that a lease is about to be committed in a database: the file no longer says that it has none.
pub fn note_lease(database: DatabaseOid) {
    if memory::write(|ledger| ledger.lease_comes(database)) {
        outdate();
        memory::write(|ledger| ledger.lease_is_noted(database));
    }
}

/// Removes the file durably, because it may no longer be true once the transaction commits. The caller must have told
/// the ledger before, if there is one.
pub fn outdate() {
    if let Err(error) = remove() {
        log("remove", &error);
    }
}

/// What the launcher has written.
#[derive(Default)]
pub struct Written {
    /// The content of the file, and the edition of the pools that it reflects.
    last: Option<(u64, Pools)>,
    /// The state of the ledger at the last look.
    state: Option<State>,
}

/// As long as this stays the same, there is nothing new to write.
type State = (u64, u64, Generation, usize);

impl Written {
    /// Writes what is known now, if it differs from what was written. If somebody is just about to change it, it is
    /// written the next time.
    pub fn keep_up(&mut self) {
        let state = memory::read(|ledger| {
            let head = &ledger.head;
            let known = ledger.databases.len();
            (head.published, head.pools_edition, head.changes(), known)
        });
        if self.state == Some(state) {
            return;
        }
        let (edition, pools) = present();
        let last = self.last.as_ref();
        if last.is_none_or(|(of, written)| *of != edition || *written != pools) {
            match write(edition, &pools) {
                Ok(true) => {}
                Ok(false) => return,
                // It is written again when there is something else to write.
                Err(error) => log("write", &error),
            }
            self.last = Some((edition, pools));
        }
        self.state = Some(state);
    }
}

fn log(what: &str, error: &io::Error) {
    error::log(format!("pg_seats could not {what} {FILE}: {error}"));
}

/// Returns what is known of every database, with the number of the last change.
fn present() -> (u64, Pools) {
    let (databases, licenses) =
        memory::read(|ledger| (ledger.databases.len(), ledger.licenses.len()));
    let (mut known, mut unread) = (Vec::with_capacity(databases), Vec::with_capacity(databases));
    let mut without_leases = Vec::with_capacity(databases);
    let mut named: Vec<PoolOf> = Vec::with_capacity(licenses);
    let former = remembered().clone().unwrap_or_default();
    // What arrived meanwhile is written the next time.
    let edition = memory::read(|ledger| {
        ledger.each_known(|database| memory::push(&mut known, database));
        ledger.each_unread_since_start(|database| memory::push(&mut unread, database));
        let had_leases = |database| !former.is_without_leases(database);
        ledger.each_without_leases(had_leases, |database| {
            memory::push(&mut without_leases, database);
        });
        ledger.each_pool(|pool| memory::push(&mut named, pool));
        ledger.head.pools_edition
    });
    let mut pools = Pools::default();
    unread
        .iter()
        .for_each(|&database| pools.take(database, &former));
    without_leases
        .iter()
        .for_each(|&database| pools.know_without_leases(database));
    known.iter().for_each(|&database| pools.know(database));
    for PoolOf {
        database,
        pool,
        product,
    } in &named
    {
        pools.name(*database, pool.as_str(), product.as_str());
    }
    (edition, pools)
}

/// Takes the lock, which is held until the file is dropped.
fn lock() -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(backend::file_mode())
        .open(LOCK)?;
    file.lock()?;
    Ok(file)
}

fn remove() -> io::Result<()> {
    // In this order, because the one is renamed to the other.
    if !Path::new(NEW).exists() && !Path::new(FILE).exists() {
        return Ok(());
    }
    let _lock = lock()?;
    match fs::remove_file(FILE) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::open(".")?.sync_all()
}

/// Writes the file; false if the ledger has moved on.
fn write(edition: u64, pools: &Pools) -> io::Result<bool> {
    let _ = fs::remove_file(NEW);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(backend::file_mode())
        .open(NEW)?;
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let written_at = since_1970.unwrap_or_default().as_micros() as u64;
    let mark = Mark {
        system: backend::system_identifier(),
        inode: file.metadata()?.ino(),
        written_at,
    };
    let pools = pools.clone();
    file.write_all(&serde_json::to_vec(&Remembered { mark, pools })?)?;
    file.set_modified(UNIX_EPOCH + Duration::from_micros(written_at))?;
    file.sync_all()?;
    let _lock = lock()?;
    // Whoever has changed the pools since then waits for the lock, and then removes the file that is in place.
    if memory::read(|ledger| ledger.head.pools_edition) != edition {
        return Ok(false);
    }
    fs::rename(NEW, FILE)?;
    File::open(".")?.sync_all()?;
    Ok(true)
}

fn read() -> io::Result<Option<Pools>> {
    let text = match fs::read(FILE) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let file = fs::metadata(FILE)?;
    let written = file.modified()?.duration_since(UNIX_EPOCH);
    let mark = Mark {
        system: backend::system_identifier(),
        inode: file.ino(),
        written_at: written.unwrap_or_default().as_micros() as u64,
    };
    Ok(Remembered::parse(&text, mark))
}
