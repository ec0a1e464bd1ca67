//! Whether a token may be believed: by the vendor's key, or without it.

use serde::Deserialize;

use super::allotment::{ALLOTMENT, Allotted};
use super::claims::Claims;
use super::keys::Keys;
use super::signature;
use super::token::{Refused, shaped, unverified};

/// The claim that says whose key to look for, before anything is believed.
#[derive(Deserialize)]
struct Issuer {
    iss: String,
}

/// Returns what a token says, after verifying its signatures: the vendor's, or that of the installation that passes
/// seats on and the vendor's inside.
///
/// # Errors
///
/// Says why the token can't be believed. Neither its dates are checked, nor the installation that it is for: a license
/// that has ended is a license, too.
pub fn verify(token: &str, keys: &Keys) -> Result<Claims, Refused> {
    let (header, _) = unverified(token, None)?;
    if header.typ.as_deref() != Some(ALLOTMENT) {
        return verify_vendors(token, keys);
    }
    Allotted::verify(token)?.of_license(|license| verify_vendors(license, keys))
}

/// Tells whether it is seats that another installation allotted, rather than a vendor's license.
pub fn is_allotment(token: &str) -> bool {
    unverified(token, Some(ALLOTMENT)).is_ok()
}

/// Returns what a token says if the vendor's key is not there to verify it.
///
/// # Errors
///
/// Fails if it could not be a license, whatever the key.
pub fn believe(token: &str) -> Result<Claims, Refused> {
    let (header, claims) = unverified(token, None)?;
    if header.typ.as_deref() == Some(ALLOTMENT) {
        return shaped::<Allotted>(claims)?.of_license(believe_vendors);
    }
    believe_vendors(token)
}

fn believe_vendors(token: &str) -> Result<Claims, Refused> {
    let (_, claims) = unverified(token, None)?;
    let claims: Claims = shaped(claims)?;
    claims.check()?;
    Ok(claims)
}

fn verify_vendors(token: &str, keys: &Keys) -> Result<Claims, Refused> {
    let (header, claims) = unverified(token, None)?;
    let Issuer { iss } = shaped(claims)?;
    let Some(key) = keys.find(&iss, header.kid.as_deref()) else {
        return Err(Refused::NoKey {
            iss,
            kid: header.kid,
        });
    };
    let claims: Claims = signature::decode(token, key)?;
    claims.check()?;
    Ok(claims)
}
