//! The record's two files, each of them complete: if one is damaged or gone, the other counts. A lost record is not an
//! empty one: it may have known that seats belong to another installation.

use std::fs::{self, File, Metadata, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::record::Record;
use super::{beside, mode_of, write_whole};

/// Suffixes of the key's name.
const FIRST: &str = ".record";
const SECOND: &str = ".record.copy";

/// The record, and a complaint about its files.
pub struct Read {
    /// The record.
    pub record: Record,
    /// What could not be read, and what counts instead, as half a sentence.
    pub complaint: Option<String>,
}

/// The identity of a file's content: each change puts another file in its place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(file: &Metadata) -> Stamp {
        Stamp {
            device: file.dev(),
            inode: file.ino(),
            bytes: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
        }
    }
}

/// What this process has read last.
static LAST: Mutex<Option<(PathBuf, Stamp, Record)>> = Mutex::new(None);

/// Returns a number for the present state of the record, so that nobody reads it twice in vain; `None` if it does not
/// exist.
pub fn state(key: &Path) -> Option<u64> {
    let file = fs::metadata(beside(key, FIRST)).ok()?;
    let mut hasher = DefaultHasher::new();
    Stamp::of(&file).hash(&mut hasher);
    Some(hasher.finish() | 1)
}

/// Reads the record alone: see [`read`].
///
/// # Errors
///
/// As [`read`].
pub fn record(key: &Path) -> io::Result<Record> {
    Ok(read(key)?.record)
}

/// Reads the record beside this installation's key, unless this process has already read it as it is. If neither file
/// can be read, what this process has read last counts.
///
/// # Errors
///
/// If there is a key but no record can be read.
pub fn read(key: &Path) -> io::Result<Read> {
    let path = beside(key, FIRST);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let known = last.as_ref().filter(|(of, ..)| *of == path);
    let present = fs::metadata(&path).map(|file| Stamp::of(&file)).ok();
    if let Some((_, stamp, record)) = known
        && present == Some(*stamp)
    {
        return Ok(Read {
            record: record.clone(),
            complaint: None,
        });
    }
    match (read_now(key), known) {
        (Ok((read, stamp)), _) => {
            if let Some(stamp) = stamp {
                *last = Some((path, stamp, read.record.clone()));
            }
            Ok(read)
        }
        (Err(error), Some((_, _, record))) => Ok(Read {
            record: record.clone(),
            complaint: Some(format!("{error}; what was read of it last counts")),
        }),
        (Err(error), None) => Err(error),
    }
}

/// Reads the record from the files, with the state of the first one if that one counts.
fn read_now(key: &Path) -> io::Result<(Read, Option<Stamp>)> {
    let error = match read_file(&beside(key, FIRST)) {
        Ok((record, stamp)) => {
            let complaint = None;
            return Ok((Read { record, complaint }, Some(stamp)));
        }
        Err(error) => error,
    };
    let is_gone = |error: &io::Error| error.kind() == ErrorKind::NotFound;
    match read_file(&beside(key, SECOND)) {
        Ok((record, _)) => {
            let complaint = Some(format!("{error}; its copy counts"));
            Ok((Read { record, complaint }, None))
        }
        // Before there is a key there is nothing to remember.
        Err(other) if is_gone(&error) && is_gone(&other) && !key.try_exists()? => {
            let (record, complaint) = (Record::default(), None);
            Ok((Read { record, complaint }, None))
        }
        Err(_) => Err(error),
    }
}

fn read_file(path: &Path) -> io::Result<(Record, Stamp)> {
    let mut file = File::open(path)?;
    let stamp = Stamp::of(&file.metadata()?);
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    // Serde would make a record from a list, too.
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is no record"));
    }
    let record = serde_json::from_slice(&text)
        .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    Ok((record, stamp))
}

/// Writes an empty record before there is a key. A key without a record has lost it.
///
/// # Errors
///
/// If it can't be written.
pub fn begin(key: &Path) -> io::Result<()> {
    let is_there = key.try_exists()?
        || [FIRST, SECOND]
            .iter()
            .any(|name| beside(key, name).exists());
    if is_there {
        return Ok(());
    }
    change(key, |_| ()).map(|_| ())
}

/// Changes the record alone: see [`change`].
///
/// # Errors
///
/// As [`change`].
pub fn change_record<R>(key: &Path, change: impl FnOnce(&mut Record) -> R) -> io::Result<R> {
    Ok(self::change(key, change)?.0)
}

/// Changes the record, one process at a time. Returns what `change` returns once it is on disk, with the complaint
/// about the files that were read. Nothing is written if nothing has changed and both files are whole.
///
/// # Errors
///
/// If the record can't be read or written; then it is as it was.
pub fn change<R>(
    key: &Path,
    change: impl FnOnce(&mut Record) -> R,
) -> io::Result<(R, Option<String>)> {
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(mode_of(key))
        .open(beside(key, ".lock"))?;
    File::lock(&lock)?;
    let (former, stamp) = read_now(key)?;
    let mut record = former.record.clone();
    let result = change(&mut record);
    let copy = read_file(&beside(key, SECOND));
    let are_whole = stamp.is_some() && copy.is_ok_and(|(copy, _)| copy == former.record);
    if record != former.record || !are_whole {
        let text = serde_json::to_vec_pretty(&record)?;
        // The copy is never behind: whatever it knows more has not been reported to anybody.
        for name in [SECOND, FIRST] {
            write_whole(&beside(key, name), &text, |new, path| fs::rename(new, path))?;
        }
    }
    Ok((result, former.complaint))
}
