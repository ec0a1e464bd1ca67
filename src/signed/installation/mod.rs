//! This server as an installation: its key pair, and what it must not forget whatever becomes of its databases. Files
//! beside each other, without PostgreSQL.
//!
//! * [`key`]: the file with the key pair, by which others know the installation
//! * [`record`]: what was installed, allotted and given back
//! * [`files`]: the two files of the record
//! * [`oblivion`]: what the record may forget
//! * [`renewal_lock`]: the lock of the process that renews licenses

pub mod files;
pub mod key;
pub mod oblivion;
pub mod record;
pub mod renewal_lock;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The mode of a file that only the server's own user may read or write.
const OWNER_ALONE: u32 = 0o600;

/// The mode of files in the data directory.
static MODE_IN_DATA_DIRECTORY: AtomicU32 = AtomicU32::new(OWNER_ALONE);

/// Lets the server's group read files in the data directory, as it reads all others there, so that it can make backups.
/// It must be called before any file is written.
pub fn let_group_read() {
    MODE_IN_DATA_DIRECTORY.store(0o640, Relaxed);
}

/// Returns the mode for a file: outside the data directory, only the server's own user may read it.
pub fn mode_of(path: &Path) -> u32 {
    let is_in_data_directory = path.is_relative()
        || std::env::current_dir().is_ok_and(|directory| path.starts_with(directory));
    if is_in_data_directory {
        MODE_IN_DATA_DIRECTORY.load(Relaxed)
    } else {
        OWNER_ALONE
    }
}

/// Returns a path with a suffix added to its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Writes a file whole or not at all, also if there is a crash: `place` puts it in its place.
fn write_whole(
    path: &Path,
    text: &[u8],
    place: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    let new = beside(path, ".new");
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode_of(&new))
        .open(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    place(&new, path)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;
    use std::thread;

    use super::files;
    use super::key;
    use super::record::Record;

    #[test]
    fn a_key_is_made_once_and_is_nobody_elses_to_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pg_seats.key");
        key::create(&path, &[1; 32]).unwrap();
        key::create(&path, &[2; 32]).unwrap();
        let id = key::read(&path).unwrap().public().id();
        assert_eq!(id.len(), 43);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let other = folder.path().join("other.key");
        key::create(&other, &[2; 32]).unwrap();
        assert_ne!(key::read(&other).unwrap().public().id(), id);
    }

    #[test]
    fn an_id_is_the_thumbprint_of_rfc_7638() {
        // RFC 8037, appendix A.
        let key: crate::core::tokens::keys::PublicKey = serde_json::from_str(
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
        )
        .unwrap();
        assert_eq!(key.id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pg_seats.key");
        assert!(key::read(&path).is_err());
        key::create(&path, &[1; 32]).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        for damaged in [
            "",
            "{}",
            &text[..40],
            &text.replace("\"d\": \"AQ", "\"d\": \"AA"),
        ] {
            fs::write(&path, damaged).unwrap();
            assert!(key::read(&path).is_err(), "{damaged}");
        }
    }

    #[test]
    fn changes_of_the_record_come_one_after_the_other() {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let path = folder.path().join("pg_seats.key");
        let threads = (0..8).map(|_| {
            let path = path.clone();
            thread::spawn(move || {
                for _ in 0..25 {
                    files::change_record(&path, |record| record.latest += 1).unwrap();
                }
            })
        });
        threads
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(files::record(&path).unwrap().latest, 200);
    }

    #[test]
    fn a_record_counts_as_long_as_one_of_its_files_is_whole_and_is_never_empty_without() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("pg_seats.key");
        let files = [".record", ".record.copy"].map(|name| super::beside(&key, name));
        // Before the first start there is nothing to remember.
        assert_eq!(files::record(&key).unwrap(), Record::default());
        files::begin(&key).unwrap();
        key::create(&key, &[1; 32]).unwrap();
        assert!(files.iter().all(|file| file.exists()));
        let note = |latest| files::change_record(&key, |record| record.latest = latest);
        note(7).unwrap();
        for (number, damage) in (8..).zip([Some(""), Some("{"), Some("[1]"), None]) {
            for file in &files {
                match damage {
                    Some(text) => fs::write(file, text).unwrap(),
                    None => fs::remove_file(file).unwrap(),
                }
                // The file that is whole counts, and repairs the other.
                assert_eq!(files::record(&key).unwrap().latest, number - 1);
                let ((), complaint) = files::change(&key, |_| ()).unwrap();
                assert_eq!(complaint.is_some(), file == &files[0]);
                assert_eq!(fs::read(file).unwrap(), fs::read(&files[0]).unwrap());
            }
            note(number).unwrap();
        }
        assert_eq!(files::record(&key).unwrap().latest, 11);
        for damage in [Some("{"), None] {
            for file in &files {
                match damage {
                    Some(text) => fs::write(file, text).unwrap(),
                    None => fs::remove_file(file).unwrap(),
                }
            }
            // A process that has read the record goes on with that, but can't change it.
            let read = files::read(&key).unwrap();
            assert_eq!(read.record.latest, 11);
            assert!(read.complaint.unwrap().contains("last"));
            assert!(note(1).is_err());
            // Nor does the next start begin with an empty record.
            files::begin(&key).unwrap();
        }
        assert!(!files[0].exists());
        // Others have nothing to go on with.
        let other = tempfile::tempdir().unwrap();
        let other = other.path().join("pg_seats.key");
        key::create(&other, &[1; 32]).unwrap();
        assert!(files::record(&other).is_err());
        // An administrator can begin with an empty record by hand.
        fs::write(&files[0], "{}").unwrap();
        assert_eq!(files::record(&key).unwrap(), Record::default());
        note(1).unwrap();
    }
}
