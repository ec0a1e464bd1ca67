//! Whether a token may be believed: by the vendor's key, or where that is not there.

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

/// What a token says, once its signatures are verified: the vendor's, or that of the installation that
/// passes seats on and the vendor's within.
///
/// # Errors
///
/// Says why it can't be believed. Its dates are not looked at, nor for which installation it is: a license
/// that has ended is one, too.
pub fn verify(token: &str, keys: &Keys) -> Result<Claims, Refused> {
    let (header, _) = unverified(token, None)?;
    if header.typ.as_deref() != Some(ALLOTMENT) {
        return verify_vendors(token, keys);
    }
    Allotted::verify(token)?.of_license(|license| verify_vendors(license, keys))
}

/// Whether it is seats that another installation passes on, rather than a vendor's license.
pub fn is_allotment(token: &str) -> bool {
    unverified(token, Some(ALLOTMENT)).is_ok()
}

/// What a token says whose vendor's key is not there to verify it.
///
/// # Errors
///
/// Where it could be no license, whatever the key.
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
