//! A clock that a test sets: servers that go by it believe the real time and so much more. Their other clocks, by
//! which they wait, are as they are.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::builder::Builder;
use super::programs::run;
use super::vendor::unix_now;

/// A clock, for as many servers as like.
pub struct Clock {
    folder: TempDir,
}

/// What a server is started with to go by a clock.
#[derive(Clone, Debug)]
pub struct Wound {
    /// The library that tells the time.
    pub library: PathBuf,
    /// How many seconds it is ahead.
    pub ahead: PathBuf,
}

impl Clock {
    /// Returns a clock that is right so far.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let clock = Self { folder };
        let Wound { library, ahead } = clock.wound();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/util/clock.c");
        let mut compiler = Command::new("cc");
        compiler
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(source);
        run(&mut compiler, "").ok();
        fs::write(&ahead, 0_i64.to_ne_bytes()).unwrap();
        fs::set_permissions(&ahead, Permissions::from_mode(0o644)).unwrap();
        clock
    }

    /// Sets it so many seconds ahead of the real time, or behind.
    pub fn set_ahead(&self, seconds: i64) {
        // In place: servers look at this very file.
        let file = fs::File::options()
            .write(true)
            .open(self.wound().ahead)
            .unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &seconds.to_ne_bytes(), 0).unwrap();
    }

    /// Returns what it shows, in seconds since 1970.
    pub fn now(&self) -> i64 {
        let ahead = fs::read(self.wound().ahead).unwrap();
        unix_now() + i64::from_ne_bytes(ahead.try_into().unwrap())
    }

    fn wound(&self) -> Wound {
        Wound {
            library: self.folder.path().join("clock.so"),
            ahead: self.folder.path().join("ahead"),
        }
    }
}

impl Builder {
    /// Makes the server go by this clock.
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.programs.clock = Some(clock.wound());
        self
    }
}
