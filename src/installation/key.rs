//! The installation's key pair: a JWK (RFC 8037) in a file of its own. Its id is the key's thumbprint
//! (RFC 7638).

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::write_whole;
use crate::tokens::keys::PublicKey;

/// A key pair.
#[derive(Clone, Debug)]
pub struct KeyPair(SigningKey);

/// As the file has it.
#[derive(Serialize, Deserialize)]
struct Jwk {
    #[serde(flatten)]
    public: PublicKey,
    d: String,
}

impl KeyPair {
    /// Makes one of these random bytes, unless the file is there.
    ///
    /// # Errors
    ///
    /// Where the file can't be written.
    pub fn create(path: &Path, seed: &[u8; 32]) -> io::Result<()> {
        if path.try_exists()? {
            return Ok(());
        }
        let pair = KeyPair(SigningKey::from_bytes(seed));
        let jwk = Jwk {
            public: pair.public(),
            d: URL_SAFE_NO_PAD.encode(seed),
        };
        let text = serde_json::to_vec_pretty(&jwk)?;
        // A link never replaces a key that somebody else has made meanwhile.
        write_whole(path, &text, |new, path| {
            let linked = fs::hard_link(new, path);
            fs::remove_file(new)?;
            linked
        })
        .or_else(|error| match error.kind() {
            ErrorKind::AlreadyExists => Ok(()),
            _ => Err(error),
        })
    }

    /// Reads it.
    ///
    /// # Errors
    ///
    /// Where the file can't be read, or is none.
    pub fn read(path: &Path) -> io::Result<KeyPair> {
        let wrong = || io::Error::new(ErrorKind::InvalidData, "it is no Ed25519 key as a JWK");
        let jwk: Jwk = serde_json::from_slice(&fs::read(path)?).map_err(|_| wrong())?;
        let seed = URL_SAFE_NO_PAD.decode(jwk.d).map_err(|_| wrong())?;
        let seed = <[u8; 32]>::try_from(seed).map_err(|_| wrong())?;
        let pair = KeyPair(SigningKey::from_bytes(&seed));
        // Somebody has edited one half of it.
        if pair.public().x != jwk.public.x {
            return Err(wrong());
        }
        Ok(pair)
    }

    /// The half that others may know.
    pub fn public(&self) -> PublicKey {
        PublicKey::of(self.0.verifying_key().as_bytes())
    }

    /// The half that signs.
    pub(crate) fn secret(&self) -> &SigningKey {
        &self.0
    }
}
