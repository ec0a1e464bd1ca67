//! The file with the installation's key pair.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::write_whole;
use crate::core::tokens::key_pair::KeyPair;

/// Creates the file from these random bytes, unless it exists.
///
/// # Errors
///
/// If it can't be written.
pub fn create(path: &Path, seed: &[u8; 32]) -> io::Result<()> {
    if path.try_exists()? {
        return Ok(());
    }
    // A link never replaces a key that somebody else has created meanwhile.
    write_whole(path, &KeyPair::of(seed).to_jwk()?, |new, path| {
        let linked = fs::hard_link(new, path);
        fs::remove_file(new)?;
        linked
    })
    .or_else(|error| match error.kind() {
        ErrorKind::AlreadyExists => Ok(()),
        _ => Err(error),
    })
}

/// Reads the key pair.
///
/// # Errors
///
/// If the file can't be read, or has no key pair.
pub fn read(path: &Path) -> io::Result<KeyPair> {
    KeyPair::from_jwk(&fs::read(path)?)
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "it is no Ed25519 key as a JWK"))
}
