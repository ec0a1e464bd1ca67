//! The data folders that clusters start as copies of, in Cargo's own target folder. `initdb` runs once for each version;
//! the extension and the staff are put in once for each build of the extension.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use nix::unistd::User;

use super::builder::conf_line;
use super::folder::short_folder;
use super::licensed::staff;
use super::programs::{Programs, run, server_user};

const INITDB: [&str; 8] = [
    "--no-sync",
    "-U",
    "postgres",
    "--auth=trust",
    "-E",
    "UTF8",
    "--locale=C",
    // Small files: most of what a copy costs.
    "--wal-segsize=1",
];

/// Copies to `data`, which doesn't exist yet, what `initdb` makes; where it is `staffed`, with the staff as roles and
/// with the extension in database `postgres`, as if nobody had ever connected.
pub fn copy_to(programs: &Programs, staffed: bool, data: &Path) {
    // As they are, without clocks or networks.
    let programs = Programs::in_folder(programs.bindir());
    fs::create_dir_all(cache()).unwrap();
    let lock = File::create(cache().join("templates.lock")).unwrap();
    let template = template(&programs, staffed);
    lock.lock_shared().unwrap();
    if !template.exists() {
        lock.unlock().unwrap();
        lock.lock().unwrap();
    }
    if !template.exists() {
        make(&programs, staffed, &template);
    }
    copy(&template, data, &server_user());
}

fn cache() -> PathBuf {
    option_env!("CARGO_TARGET_TMPDIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tmp"),
        PathBuf::from,
    )
}

/// Returns the template's folder, whose name has all that it depends on after the last dot.
fn template(programs: &Programs, staffed: bool) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    INITDB.hash(&mut hasher);
    if staffed {
        staff().hash(&mut hasher);
        for file in programs.extension() {
            let meta = fs::metadata(&file).unwrap();
            (file.file_name(), meta.len(), meta.modified().unwrap()).hash(&mut hasher);
        }
    }
    let kind = if staffed { "staffed" } else { "bare" };
    let (version, user) = (programs.version(), server_user().uid);
    let version = version.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let name = format!("template-{kind}-{version}-{user}.{:x}", hasher.finish());
    cache().join(name)
}

/// Makes it in the place of one that is outdated. Nobody copies one meanwhile.
fn make(programs: &Programs, staffed: bool, template: &Path) {
    let root = short_folder();
    let fresh = root.path().join("data");
    let mut initdb = programs.server("initdb");
    run(initdb.args(INITDB).arg("-D").arg(&fresh), "").ok();
    // Without the files that its log is to use one day, which cost a copy as much as others. A server of a single process
    // gives numbers below the first that is meant for users, unless they have been counted up to it.
    let mut reset = programs.server("pg_resetwal");
    run(reset.args(["-o", "16384", "-D"]).arg(&fresh), "").ok();
    if staffed {
        put_in(programs, &fresh);
    }
    for other in fs::read_dir(cache()).unwrap().flatten() {
        let other = other.path();
        if other.file_stem() == template.file_stem() {
            fs::remove_dir_all(other).unwrap();
        }
    }
    let copied = cache().join("template");
    if copied.exists() {
        fs::remove_dir_all(&copied).unwrap();
    }
    copy(&fresh, &copied, &server_user());
    fs::rename(copied, template).unwrap();
}

/// Puts in the staff and the extension by a server that is a single process: it logs nobody in.
fn put_in(programs: &Programs, data: &Path) {
    let statements = format!("{}\nCREATE EXTENSION pg_seats\n", staff());
    let mut postgres = programs.server("postgres");
    postgres.arg("--single").arg("-D").arg(data);
    postgres.args(["-c", "shared_preload_libraries=pg_seats", "postgres"]);
    let ran = run(&mut postgres, &statements);
    assert!(!ran.stderr.contains("ERROR"), "{ran:#?}");
    ran.ok();
    // Each server is an installation of its own.
    for file in fs::read_dir(data).unwrap().flatten() {
        if file.file_name().to_string_lossy().starts_with("pg_seats.") {
            fs::remove_file(file.path()).unwrap();
        }
    }
}

/// Copies a data folder, for the server's user: for a thousand small files in half the time of cp.
fn copy(from: &Path, to: &Path, user: &User) {
    let give = |path: &Path| chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    give(to);
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy(&from, &to, user);
        } else {
            fs::copy(&from, &to).unwrap();
            give(&to);
        }
    }
}
