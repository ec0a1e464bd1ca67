//! What one installation signs for another: seats that it allots, with the vendor's license inside, and receipts for
//! seats that come back. Each has a type of its own (RFC 8725), so that none is taken for another.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::claims::{Claims, Confirmation, Product};
use super::signature;
use super::token::{Refused, TOKEN_MAX, malformed, shaped, signer, unverified};
use crate::core::tokens::key_pair::KeyPair;

/// The type of a token that passes seats on.
pub const ALLOTMENT: &str = "license-allotment+jwt";

/// The type of a receipt.
pub const RETURN: &str = "license-return+jwt";

/// Allotted seats: the claims of a token that an installation signs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Allotted {
    /// The id of the installation that passes them on.
    pub iss: String,
    /// The allotment's id.
    pub jti: String,
    /// When the vendor's license was issued. A token with a renewal of that license is younger.
    pub iat: i64,
    /// When the seats were allotted. Before that they were somebody else's.
    pub nbf: i64,
    /// When the seats go back by themselves; if absent, never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
    /// The product.
    pub product: String,
    /// The number of seats.
    pub seats: i32,
    /// The installation that they are allotted to.
    pub cnf: Confirmation,
    /// The vendor's license that they belong to.
    pub license: String,
}

/// Seats given back: the claims of a receipt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Returned {
    /// The id of the installation that gives them back.
    pub iss: String,
    /// The allotment's id.
    pub jti: String,
    /// When they were given back.
    pub iat: i64,
    /// The product.
    pub product: String,
    /// The number of seats.
    pub seats: i32,
}

impl Allotted {
    /// Signs the token.
    ///
    /// # Errors
    ///
    /// Fails if it can't be signed, or would be too long to be read.
    pub fn sign(&self, pair: &KeyPair) -> Result<String, Refused> {
        let token = signature::encode(ALLOTMENT, self, pair)?;
        if token.len() > TOKEN_MAX {
            return Err(malformed(
                "The vendor's token leaves no room for another one around it.",
            ));
        }
        Ok(token)
    }

    /// Returns what a token says, before anything of it is believed.
    ///
    /// # Errors
    ///
    /// Fails if the token passes nothing on.
    pub fn read(token: &str) -> Result<Allotted, Refused> {
        unverified(token, Some(ALLOTMENT)).and_then(|(_, claims)| shaped(claims))
    }

    /// Returns what a token says, after verifying that the installation that it names has signed it.
    ///
    /// # Errors
    ///
    /// Says why the token can't be believed.
    pub fn verify(token: &str) -> Result<Allotted, Refused> {
        signed_by_its_issuer(token, ALLOTMENT, |allotted: &Allotted| &allotted.iss)
    }

    /// Returns what the vendor's license and this allotment of it amount to. What was signed besides the seats stays
    /// with the license: the installation that passes seats on keeps the overdraft, so that it counts once, and the
    /// exempt users. After the vendor's own end the vendor's grace applies, but never beyond the end of what was passed
    /// on: from then on the seats are used where they came from.
    pub(super) fn of_license(
        self,
        read: impl FnOnce(&str) -> Result<Claims, Refused>,
    ) -> Result<Claims, Refused> {
        let allotted = self;
        let license = read(&allotted.license)?;
        if license.cnf.as_ref().map(|cnf| &cnf.jkt) != Some(&allotted.iss) {
            return Err(malformed("The license in it is not that installation's."));
        }
        let mut products = license.products.into_iter();
        let product = products.find(|product| product.product == allotted.product);
        let product = product.ok_or_else(|| malformed("The license in it has no such product."))?;
        let has_as_many = product.seats.is_none_or(|seats| allotted.seats <= seats);
        if allotted.seats < 1 || !has_as_many {
            return Err(malformed("The license in it has not as many seats."));
        }
        let claims = Claims {
            iss: license.iss,
            sub: license.sub,
            jti: allotted.jti,
            iat: allotted.iat,
            nbf: license.nbf.max(Some(allotted.nbf)),
            exp: allotted.exp.into_iter().chain(license.exp).min(),
            products: vec![Product {
                seats: Some(allotted.seats),
                overdraft: None,
                ..product
            }],
            // The exempt users of the vendor's customer stay with the license.
            exempt: license.exempt.map(|_| 0),
            cnf: Some(allotted.cnf),
            ends: allotted.exp,
        };
        claims.check()?;
        Ok(claims)
    }
}

impl Returned {
    /// Signs the receipt.
    ///
    /// # Errors
    ///
    /// Fails if it can't be signed.
    pub fn sign(&self, pair: &KeyPair) -> Result<String, Refused> {
        Ok(signature::encode(RETURN, self, pair)?)
    }

    /// Returns what a receipt says, after verifying that the installation that it names has signed it.
    ///
    /// # Errors
    ///
    /// Says why the receipt can't be believed.
    pub fn verify(receipt: &str) -> Result<Returned, Refused> {
        signed_by_its_issuer(receipt, RETURN, |returned: &Returned| &returned.iss)
    }
}

/// Returns what a token of this type says, after verifying that the installation that it names has signed it.
fn signed_by_its_issuer<C: DeserializeOwned>(
    token: &str,
    typ: &str,
    iss: fn(&C) -> &str,
) -> Result<C, Refused> {
    let (header, _) = unverified(token, Some(typ))?;
    let signer = signer(header)?;
    let key = signer.verifier();
    let key = key.ok_or_else(|| malformed("Its header has no Ed25519 key."))?;
    let claims = signature::decode(token, &key)?;
    if iss(&claims) != signer.id() {
        return Err(malformed(
            "It was not signed by the installation that it names.",
        ));
    }
    Ok(claims)
}
