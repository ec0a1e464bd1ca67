//! The key pair by which an installation is known: a JWK (RFC 8037) whose id is the key's thumbprint (RFC 7638).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::keys::PublicKey;

/// A key pair.
#[derive(Clone, Debug)]
pub struct KeyPair(SigningKey);

/// Both halves, as in the key's file.
#[derive(Serialize, Deserialize)]
struct Jwk {
    #[serde(flatten)]
    public: PublicKey,
    d: String,
}

impl KeyPair {
    /// Makes a key pair of these random bytes.
    pub fn of(seed: &[u8; 32]) -> KeyPair {
        KeyPair(SigningKey::from_bytes(seed))
    }

    /// Writes it as a JWK.
    ///
    /// # Errors
    ///
    /// Those of serde_json.
    pub fn to_jwk(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec_pretty(&Jwk {
            public: self.public(),
            d: URL_SAFE_NO_PAD.encode(self.0.as_bytes()),
        })
    }

    /// Reads it from a JWK. `None` if that is not a key pair, or somebody has edited one half of it.
    pub fn from_jwk(text: &[u8]) -> Option<KeyPair> {
        let jwk: Jwk = serde_json::from_slice(text).ok()?;
        let seed = URL_SAFE_NO_PAD.decode(jwk.d).ok()?;
        let pair = KeyPair::of(&<[u8; 32]>::try_from(seed).ok()?);
        (pair.public().x == jwk.public.x).then_some(pair)
    }

    /// Returns the half that others may know.
    pub fn public(&self) -> PublicKey {
        PublicKey::of(self.0.verifying_key().as_bytes())
    }

    /// Returns the half that signs.
    pub(crate) fn secret(&self) -> &SigningKey {
        &self.0
    }
}
