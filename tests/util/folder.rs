//! Folders for servers: short paths, owned by the server's user, gone when dropped.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use super::programs::{run, server_user};

/// In memory: a disk's file system is slow where thousands of files were deleted a moment ago.
const MEMORY: &str = "/dev/shm";

/// What a few servers at once may need.
const ENOUGH_KIB: u64 = 2 * 1024 * 1024;

/// Creates a folder with a path short enough for sockets.
pub fn short_folder() -> TempDir {
    let folder = tempfile::Builder::new()
        .prefix("seats")
        .tempdir_in(parent())
        .unwrap();
    let user = server_user();
    chown(
        folder.path(),
        Some(user.uid.as_raw()),
        Some(user.gid.as_raw()),
    )
    .unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn parent() -> &'static str {
    static PARENT: OnceLock<&str> = OnceLock::new();
    PARENT.get_or_init(|| {
        let writable = tempfile::tempfile_in(MEMORY).is_ok();
        if writable && free_kib(MEMORY) > ENOUGH_KIB {
            MEMORY
        } else {
            "/tmp"
        }
    })
}

fn free_kib(folder: &str) -> u64 {
    let df = run(
        Command::new("df").args(["-k", "--output=avail", folder]),
        "",
    );
    df.stdout
        .lines()
        .last()
        .and_then(|line| line.trim().parse().ok())
        .unwrap_or(0)
}
