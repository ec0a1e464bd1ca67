//! Seats that were allotted to other installations. The installation's record says which: a token, once signed, exists
//! whatever becomes of the transaction. The tables follow the record.

use crate::core::tokens::allotment::Allotted;
use crate::core::tokens::claims::Confirmation;
use crate::core::tokens::key_pair::KeyPair;
use crate::core::tokens::{Refused, unix};
use crate::pg::table::{ReadError, TableAccess};
use crate::pg::{backend, catalog};
use crate::signed::evaluation::SignedLicense;
use crate::signed::installation::record::{Allotment, GONE, Record};
use crate::tables::allotments::{self, AllotmentRow, NewAllotment};
use crate::tables::licenses;

use super::signed_licenses::SignedLicenses;

/// Returns the token of an allotment of this license. It is the same each time, except that a renewal of the license
/// makes a newer one.
///
/// # Errors
///
/// If it can't be signed.
pub fn token(
    allotment: &Allotment,
    license: &SignedLicense,
    pair: &KeyPair,
) -> Result<String, Refused> {
    let allotted = Allotted {
        iss: pair.public().id(),
        jti: allotment.id.clone(),
        iat: license.claims.iat,
        nbf: unix(allotment.allotted_at),
        exp: allotment.valid_until.map(unix),
        product: allotment.product.clone(),
        seats: allotment.seats,
        cnf: Confirmation {
            jkt: allotment.installation.clone(),
        },
        license: license.token.clone(),
    };
    allotted.sign(pair)
}

impl SignedLicenses {
    /// Adds to the record what only the table knows, after the record was lost with a server.
    pub fn adopt(&self, record: &mut Record) {
        let now = backend::now();
        let away = self.away.iter();
        for away in away.filter(|away| away.comes_back_at().is_none_or(|at| now < at)) {
            let mut licenses = self.licenses.iter();
            let license = licenses.find(|license| license.claims.jti == away.license_id);
            let Some(license) = license else {
                continue;
            };
            record.adopt(Allotment {
                id: away.id.clone(),
                iss: license.claims.iss.clone(),
                jti: away.license_id.clone(),
                product: away.product.clone(),
                seats: away.seats,
                installation: away.installation.clone(),
                database: backend::database(),
                allotted_at: away.allotted_at,
                valid_until: away.valid_until,
                returned_at: None,
            });
        }
    }

    /// Tells whether any seats were allotted from this database.
    pub fn has_allotted(&self) -> bool {
        !self.away.is_empty() || self.record.allotments.iter().any(is_of_this_database)
    }

    /// Makes `license_allotments`, and the seats in `licenses`, follow the record.
    pub fn write_allotments(
        &self,
        writer: &TableAccess,
        schema: &str,
        pair: &KeyPair,
    ) -> Result<(), ReadError> {
        let rows = allotments::read(writer, schema)?;
        for allotment in &self.record.allotments {
            let row = rows.iter().find(|row| row.id == allotment.id);
            let mut licenses = self.licenses.iter();
            let license = licenses.find(|license| {
                license.claims.iss == allotment.iss && license.claims.jti == allotment.jti
            });
            let fits = license.is_some_and(|license| self.fits(allotment, license));
            let pair = fits.then_some(pair);
            self.write_allotment(writer, schema, allotment, row, license, pair)?;
        }
        Ok(())
    }

    /// Tells whether an allotment may be signed anew: after a renewal with fewer seats, no more are allotted than the
    /// license has. The oldest allotments come first; the others end with the token that they are of.
    fn fits(&self, allotment: &Allotment, license: &SignedLicense) -> bool {
        let now = backend::now();
        let of_product = |other: &&Allotment| {
            (&other.iss, &other.jti, &other.product)
                == (&allotment.iss, &allotment.jti, &allotment.product)
        };
        let allotments = self.record.allotments.iter().filter(of_product);
        let away = allotments.filter(|other| other.is_away(now));
        let order = |other: &Allotment| (other.allotted_at, other.id.clone());
        let not_after = away.filter(|other| order(other) <= order(allotment));
        let seats: i64 = not_after.map(|other| i64::from(other.seats)).sum();
        let bought = license.seats(&allotment.product);
        bought.is_none_or(|bought| seats <= i64::from(bought))
    }

    fn write_allotment(
        &self,
        writer: &TableAccess,
        schema: &str,
        allotment: &Allotment,
        row: Option<&AllotmentRow>,
        license: Option<&SignedLicense>,
        pair: Option<&KeyPair>,
    ) -> Result<(), ReadError> {
        let is_away = allotment.is_away(backend::now());
        // If the license has become too long, or has too few seats, the former token stays.
        let signed = license.zip(pair);
        let signed = signed.and_then(|(license, pair)| token(allotment, license, pair).ok());
        match (row, signed) {
            (None, Some(signed)) if is_away && is_of_this_database(allotment) => {
                let allotted_at = catalog::timestamp_iso(allotment.allotted_at);
                let valid_until = allotment.valid_until.map(catalog::timestamp_iso);
                let row = NewAllotment {
                    allotment_id: &allotment.id,
                    license_id: &allotment.jti,
                    product: &allotment.product,
                    seats: allotment.seats,
                    installation: &allotment.installation,
                    allotted_at: &allotted_at,
                    valid_until: valid_until.as_deref(),
                    token: &signed,
                };
                allotments::insert(writer, schema, &row)?;
                self.limit(writer, schema, allotment, license)
            }
            (Some(row), signed) if is_away => {
                let token = signed.unwrap_or_else(|| row.token.clone());
                if row.is_returned || row.token != token {
                    allotments::set_away(writer, schema, &allotment.id, &token)?;
                }
                if row.is_returned {
                    // The clock was set back.
                    self.limit(writer, schema, allotment, license)?;
                }
                Ok(())
            }
            (Some(row), _) if !row.is_returned => {
                let at = allotment.returned_at.or(allotment.valid_until);
                let at = at.map(catalog::timestamp_iso);
                allotments::set_returned(writer, schema, &allotment.id, at.as_deref())?;
                self.restore(writer, schema, allotment, license)
            }
            _ => Ok(()),
        }
    }

    /// Limits the seats of a product's row to those that are left.
    fn limit(
        &self,
        writer: &TableAccess,
        schema: &str,
        allotment: &Allotment,
        license: Option<&SignedLicense>,
    ) -> Result<(), ReadError> {
        let product = &allotment.product;
        if let Some(left) = license.and_then(|license| self.left(license, product)) {
            licenses::limit_seats(writer, schema, product, left)?;
        }
        Ok(())
    }

    /// Returns how many seats of a product are left here; `None` if it has no limit, or is another license's.
    fn left(&self, license: &SignedLicense, product: &str) -> Option<i64> {
        let is_its = license.products.iter().any(|own| own == product);
        let bought = license.seats(product).filter(|_| is_its)?;
        Some((i64::from(bought) - self.away(license, product)).max(0))
    }

    /// Adds the seats that came back to a product's row, up to those that are left of what was bought.
    fn restore(
        &self,
        writer: &TableAccess,
        schema: &str,
        allotment: &Allotment,
        license: Option<&SignedLicense>,
    ) -> Result<(), ReadError> {
        let product = &allotment.product;
        let Some(left) = license.and_then(|license| self.left(license, product)) else {
            return Ok(());
        };
        licenses::add_seats(writer, schema, product, i64::from(allotment.seats), left)
    }
}

/// Tells whether seats were this database's before they were allotted.
pub fn is_of_this_database(allotment: &Allotment) -> bool {
    allotment.database == backend::database() || allotment.database == GONE
}
