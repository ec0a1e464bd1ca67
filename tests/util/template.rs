//! The data folder that every cluster starts as a copy of: `initdb` runs once for each version, in Cargo's own target folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use super::folder::short_folder;
use super::programs::{Programs, run, server_user};

/// One `initdb` at a time in a process; several processes agree by renaming.
static MAKING: Mutex<()> = Mutex::new(());

/// Copies the template of this installation to `data`, which doesn't exist yet.
pub fn copy_to(programs: &Programs, data: &Path) {
    copy(&template(programs), data);
}

fn template(programs: &Programs) -> PathBuf {
    let version = programs
        .version()
        .replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let user = server_user().uid;
    let finished = cache().join(format!("template-{version}-{user}"));
    let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if !finished.exists() {
        make(programs, &finished);
    }
    finished
}

fn cache() -> PathBuf {
    option_env!("CARGO_TARGET_TMPDIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tmp"),
        PathBuf::from,
    )
}

fn make(programs: &Programs, finished: &Path) {
    let root = short_folder();
    let fresh = root.path().join("data");
    let mut initdb = programs.server("initdb");
    initdb.args([
        "--no-sync",
        "-U",
        "postgres",
        "--auth=trust",
        "-E",
        "UTF8",
        "--locale=C",
        "-D",
    ]);
    run(initdb.arg(&fresh), "").ok();
    fs::create_dir_all(cache()).unwrap();
    let copied = finished.with_extension(format!("new-{}", process::id()));
    copy(&fresh, &copied);
    if fs::rename(&copied, finished).is_err() {
        assert!(finished.exists(), "could not create {}", finished.display());
        fs::remove_dir_all(&copied).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to), "").ok();
}
