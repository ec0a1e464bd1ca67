//! The lock of the process that renews licenses: one process of the server at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{beside, mode_of};

/// The renewal lock, until it is dropped or its process ends.
#[derive(Debug)]
pub struct RenewalLock(#[allow(dead_code, reason = "the lock is held as long as it is open")] File);

impl RenewalLock {
    /// Takes the lock beside this installation's key; `None` if somebody holds it.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn take(key: &Path) -> io::Result<Option<RenewalLock>> {
        let file = open(key)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(RenewalLock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Waits for the lock: its holder releases it within the time that a command may take.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn wait(key: &Path) -> io::Result<RenewalLock> {
        let file = open(key)?;
        file.lock()?;
        Ok(RenewalLock(file))
    }
}

fn open(key: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(mode_of(key))
        .open(beside(key, ".renewal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("pg_seats.key");
        let turn = RenewalLock::take(&key).unwrap();
        assert!(turn.is_some());
        assert!(RenewalLock::take(&key).unwrap().is_none());
        drop(turn);
        assert!(RenewalLock::take(&key).unwrap().is_some());
        assert!(RenewalLock::take(&folder.path().join("no/key")).is_err());
    }
}
