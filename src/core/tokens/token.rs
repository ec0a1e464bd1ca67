//! A token: a JWS in compact form, and why it may be refused.

use std::fmt;

use jsonwebtoken::dangerous::insecure_decode;
use jsonwebtoken::{Header, TokenData, errors};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::keys::PublicKey;
use crate::core::ledger::time::Timestamp;

/// The most bytes that a token can have. A license for a hundred products has some 20,000.
pub const TOKEN_MAX: usize = 65_536;

/// Why a token is not believed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refused {
    /// It is not a token of ours, for this reason.
    Malformed(String),
    /// The issuer has no such key.
    NoKey {
        /// Who is said to have signed it.
        iss: String,
        /// The id of the key, if the token names one.
        kid: Option<String>,
    },
    /// It was not signed with the key that it names, or was changed since.
    BadSignature,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Malformed(reason) => f.write_str(reason),
            Refused::NoKey {
                iss,
                kid: Some(kid),
            } => {
                write!(f, "There is no key {kid:?} of the issuer {iss:?}.")
            }
            Refused::NoKey { iss, kid: None } => write!(
                f,
                "The token names no key, and the issuer {iss:?} has not just one."
            ),
            Refused::BadSignature => {
                f.write_str("The signature is not that of the key that the token names.")
            }
        }
    }
}

pub(crate) fn malformed(reason: impl Into<String>) -> Refused {
    Refused::Malformed(reason.into())
}

impl From<errors::Error> for Refused {
    fn from(error: errors::Error) -> Self {
        match error.kind() {
            errors::ErrorKind::InvalidSignature => Refused::BadSignature,
            errors::ErrorKind::InvalidAlgorithm => {
                malformed("It is not signed with EdDSA, the only algorithm that is believed.")
            }
            _ => malformed(format!("It is no token: {error}.")),
        }
    }
}

/// The seconds between 1970, from which tokens count, and 2000, from which PostgreSQL does.
const EPOCHS_APART: i64 = 946_684_800;

/// Returns a moment in seconds since 1970.
pub fn unix(at: Timestamp) -> i64 {
    at.div_euclid(1_000_000) + EPOCHS_APART
}

/// Returns the moment that is this many seconds after 1970 began.
pub fn moment(seconds: i64) -> Timestamp {
    (seconds - EPOCHS_APART).saturating_mul(1_000_000)
}

/// Returns the key of the installation that has signed a token, as its header has it.
pub(super) fn signer(header: Header) -> Result<PublicKey, Refused> {
    let key = header.jwk.map(serde_json::to_value).and_then(Result::ok);
    let key = key.and_then(|key| PublicKey::deserialize(key).ok());
    key.ok_or_else(|| malformed("Its header has no Ed25519 key."))
}

/// Returns a token's header, which must be of this type if one is given, and its claims, before anything is believed.
/// All of it is parsed into values, so that what is nested too deep is refused even where it has no meaning.
pub(super) fn unverified(token: &str, typ: Option<&str>) -> Result<(Header, Value), Refused> {
    if token.len() > TOKEN_MAX {
        return Err(malformed(format!(
            "A token has at most {TOKEN_MAX} bytes, not {}.",
            token.len()
        )));
    }
    let TokenData { header, claims } = insecure_decode(token)?;
    if header.crit.is_some() {
        return Err(malformed("Its header has extensions that are not known."));
    }
    if typ.is_some_and(|typ| header.typ.as_deref() != Some(typ)) {
        return Err(malformed("It is a token of another kind."));
    }
    Ok((header, claims))
}

pub(super) fn shaped<C: DeserializeOwned>(claims: Value) -> Result<C, Refused> {
    serde_json::from_value(claims).map_err(|error| malformed(format!("It is no license: {error}.")))
}
