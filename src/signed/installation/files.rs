//! The record's two files, each with all of it: where one is damaged or gone, the other counts. A record that is lost
//! is none that is empty: what it knew may have been that seats are somebody else's.

use std::fs::{self, File, Metadata, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::record::Record;
use super::{beside, mode_of, write_whole};

/// What is added to the key's name.
const FIRST: &str = ".record";
const SECOND: &str = ".record.copy";

/// The record, and what there was to complain of: half a sentence.
pub struct Read {
    /// The record.
    pub record: Record,
    /// What could not be read, and what counts instead.
    pub complaint: Option<String>,
}

/// One state of a file: each change puts another file in its place.
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

/// A number for the present state of the record, so that nobody reads it twice to find nothing; `None`: it is not
/// there.
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

/// Reads the record beside this installation's key, unless this process has read it as it is. Where neither file can
/// be read, what this process has read last counts.
///
/// # Errors
///
/// Where there is no record to be had though there is a key.
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

/// The record as the files have it, and the state of the first one if that counts.
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
        // Before there is a key there is nothing to be remembered.
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
    // Of a list, too, a record could be made.
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is no record"));
    }
    let record = serde_json::from_slice(&text)
        .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    Ok((record, stamp))
}

/// Writes a record in which nothing is remembered, before there is a key. A key without a record has lost it.
///
/// # Errors
///
/// Where it can't be written.
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

/// Changes the record, one process after the other; what `change` returns comes back once it is on disk, with what there
/// was to complain of. Nothing is written where nothing has changed, and both files are whole.
///
/// # Errors
///
/// Where it can't be read or written; then it is as it was.
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
        // The copy is never behind: what it knows more was not yet told to anybody.
        for name in [SECOND, FIRST] {
            write_whole(&beside(key, name), &text, |new, path| fs::rename(new, path))?;
        }
    }
    Ok((result, former.complaint))
}
