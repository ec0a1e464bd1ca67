//! The terms of signed licenses: what was signed of each product, to which the rows of `licenses` are clamped.

use serde_json::{Value, json};

use super::evaluation::{Doubt, SIGNED_POOL, SignedLicense, Source};
use super::signed_licenses::SignedLicenses;
use crate::core::ledger::clamp::clamp;
use crate::core::ledger::identity::Name;
use crate::core::ledger::license::{License, Signed, Tampered};
use crate::pg::backend;
use crate::pg::table::{ReadError, read_committed};
use crate::tables::licenses;

/// Members of a product that are texts for PostgreSQL to read.
const READ_BY_POSTGRES: [&str; 6] = [
    "linger",
    "idle_timeout",
    "reclaim_idle_after",
    "valid_from",
    "valid_until",
    "grace",
];

impl SignedLicenses {
    /// Clamps the rows of `licenses` to what was signed, and replaces rows that are gone by what was signed. Intervals
    /// and times of a license that PostgreSQL can't read are left out.
    pub fn clamp(&self, rows: &mut Vec<License>) -> Result<(), ReadError> {
        for license in &self.licenses {
            let terms = match read_terms(&self.products(license)) {
                Err(error) if error.is_of_values() => read_terms(&self.bare_products(license)),
                terms => terms,
            };
            for terms in &terms? {
                self.clamp_row(rows, terms, license);
            }
        }
        for row in rows {
            keep_out_of_signed_pools(row);
            self.limit_to_former_seats(row);
        }
        Ok(())
    }

    /// Clamps the row of one product to the terms of its license.
    fn clamp_row(&self, rows: &mut Vec<License>, terms: &License, license: &SignedLicense) {
        let of_license = |row: License, tampered: Tampered| License {
            signed: Some(Signed {
                tampered: match license.source {
                    Source::Row => tampered,
                    // The rows of the license are yet to be written.
                    Source::Renewal => Tampered::default(),
                    Source::Record => tampered.and(Tampered::TOKEN),
                },
                believed_until: license.believed_until,
                exempt: license.claims.exempt,
                not_before: self.record.latest,
            }),
            // Databases of one server count together under one license, whatever pool it names, and no other database
            // joins it.
            pool: license.pool(),
            ..row
        };
        match rows.iter_mut().find(|row| row.product == terms.product) {
            Some(row) => {
                let (clamped, tampered) = clamp(row, terms);
                let excused = self.excused(row, terms, license);
                *row = of_license(clamped, tampered.without(excused));
            }
            None => rows.push(of_license(*terms, Tampered::ROW)),
        }
    }

    /// Returns the columns in which a row may claim more than it gets, and is not tampered with: it need not know yet
    /// that seats are away, or that all were given back.
    fn excused(&self, row: &License, terms: &License, license: &SignedLicense) -> Tampered {
        if license.doubt == Some(Doubt::GivenBack) {
            return Tampered::SEATS.and(Tampered::PURCHASED);
        }
        let unseen = self.away_unseen(license, terms.product.as_str());
        let limit = terms.seats.map(|seats| i64::from(seats) + unseen);
        let is_within = |seats: i32| limit.is_none_or(|limit| i64::from(seats) <= limit);
        if row.seats.is_some_and(is_within) {
            Tampered::SEATS
        } else {
            Tampered::default()
        }
    }

    /// Limits a signed license to the seats that it had, while the record is lost.
    fn limit_to_former_seats(&self, row: &mut License) {
        if row.signed.is_none() {
            return;
        }
        let mut formers = self.lost.iter().flatten();
        let former =
            formers.find(|former| (former.pool, former.product) == (row.pool, row.product));
        if let Some(seats) = former.and_then(|former| former.seats)
            && row.seats.is_none_or(|own| seats < own)
        {
            row.seats = Some(seats);
        }
    }

    /// Returns the products that a license has here, as [`licenses::read_products`] reads them.
    pub fn products(&self, license: &SignedLicense) -> String {
        self.terms(license).to_string()
    }

    /// Returns the same without the values that only PostgreSQL can read.
    fn bare_products(&self, license: &SignedLicense) -> String {
        let mut terms = self.terms(license);
        let products = terms.as_array_mut().into_iter().flatten();
        for product in products.filter_map(Value::as_object_mut) {
            product.retain(|member, _| !READ_BY_POSTGRES.contains(&member.as_str()));
        }
        terms.to_string()
    }

    /// Returns what was signed of the products that a license has here.
    fn terms(&self, license: &SignedLicense) -> Value {
        let claims = &license.claims;
        let products = claims.products.iter();
        let products = products.filter(|product| license.products.contains(&product.product));
        let terms = products.map(|product| {
            let mut terms = serde_json::to_value(product).unwrap_or(Value::Null);
            if let Some(terms) = terms.as_object_mut() {
                let name = &product.product;
                if license.doubt == Some(Doubt::GivenBack) {
                    // Nobody is admitted, whatever else was signed.
                    terms.remove("overdraft");
                    terms.remove("enforcement");
                }
                terms.insert("bought".to_owned(), json!(license.seats(name)));
                let bought = license.seats(name).map_or(0, i64::from);
                let away = self.away(license, name).min(bought);
                terms.insert("away".to_owned(), json!(away));
                terms.insert("nbf".to_owned(), json!(claims.nbf));
                terms.insert("exp".to_owned(), json!(claims.exp));
                terms.insert("ends".to_owned(), json!(claims.ends));
            }
            terms
        });
        Value::from_iter(terms)
    }
}

/// Keeps an unsigned license out of the pools of signed ones.
fn keep_out_of_signed_pools(row: &mut License) {
    if row.signed.is_none() && row.pool.as_str().starts_with(SIGNED_POOL) {
        row.pool = Name::EMPTY;
    }
}

/// Returns the terms that PostgreSQL reads in products. It reads them by themselves, because a bad value must not end
/// the reading of all others.
fn read_terms(products: &str) -> Result<Vec<License>, ReadError> {
    read_committed(backend::lock_timeout(), |reader| {
        licenses::read_products(reader, products)
    })
}
