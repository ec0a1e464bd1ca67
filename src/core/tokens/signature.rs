//! Ed25519 for the library that reads tokens, and nothing else: whatever algorithm a token names, there is no other
//! that could be taken for it.

use std::sync::Once;

use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, new_error};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::core::tokens::key_pair::KeyPair;

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    // We do not need these: they are for thumbprints, and for keys of other kinds.
    key_utils: KeyUtils::new_unimplemented(),
};

struct Verifier(VerifyingKey);

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    if *algorithm != Algorithm::EdDSA {
        return Err(new_error(ErrorKind::InvalidAlgorithm));
    }
    let bytes = key.try_get_as_bytes()?.try_into();
    let bytes = bytes.map_err(|_| new_error(ErrorKind::InvalidEddsaKey))?;
    let key = VerifyingKey::from_bytes(bytes);
    let key = key.map_err(|_| new_error(ErrorKind::InvalidEddsaKey))?;
    Ok(Box::new(Verifier(key)))
}

impl signature::Verifier<Vec<u8>> for Verifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        // Strict: a signature has only one form, and no weak key signs everything.
        Signature::from_slice(signature)
            .and_then(|signature| self.0.verify_strict(message, &signature))
            .map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Verifier {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

struct Signer(SigningKey);

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    if *algorithm != Algorithm::EdDSA {
        return Err(new_error(ErrorKind::InvalidAlgorithm));
    }
    let seed = key.as_bytes().try_into();
    let seed = seed.map_err(|_| new_error(ErrorKind::InvalidEddsaKey))?;
    Ok(Box::new(Signer(SigningKey::from_bytes(seed))))
}

impl signature::Signer<Vec<u8>> for Signer {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(ed25519_dalek::Signer::sign(&self.0, message)
            .to_bytes()
            .to_vec())
    }
}

impl JwtSigner for Signer {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

/// Returns a token of this type that has these claims, and in its header the key that verifies it.
pub fn encode<C: Serialize>(typ: &str, claims: &C, pair: &KeyPair) -> Result<String, Error> {
    provide();
    let mut header = Header::new(Algorithm::EdDSA);
    header.typ = Some(typ.to_owned());
    let key = serde_json::to_value(pair.public());
    header.jwk = key.ok().and_then(|key| Jwk::deserialize(key).ok());
    let key = EncodingKey::from_ed_der(pair.secret().as_bytes());
    jsonwebtoken::encode(&header, claims, &key)
}

/// Returns the claims of a token that this key has signed.
pub fn decode<C: DeserializeOwned>(token: &str, key: &DecodingKey) -> Result<C, Error> {
    provide();
    let mut validation = Validation::new(Algorithm::EdDSA);
    // What the claims mean is not for the library to decide.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    Ok(jsonwebtoken::decode(token, key, &validation)?.claims)
}

/// Makes ours the process's provider. No other library of this process has one.
fn provide() {
    static PROVIDED: Once = Once::new();
    PROVIDED.call_once(|| {
        let _ = PROVIDER.install_default();
    });
}
