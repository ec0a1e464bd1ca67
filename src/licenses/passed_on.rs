//! Seats that were passed on to other installations. The installation's record says which: what it has signed
//! once is out in the world, whatever becomes of the transaction. The tables follow it.

use crate::installation::key::KeyPair;
use crate::installation::record::{Allotment, Record};
use crate::pg::table::{Argument, ReadError, Reader, damaged};
use crate::pg::{backend, catalog};
use crate::tokens::claims::Confirmation;
use crate::tokens::passed::Allotted;
use crate::tokens::standing::Standing;
use crate::tokens::{Refused, unix};

use super::signed::Book;

/// The token of an allotment of this license. It is the same each time, save that a renewal of the license
/// makes a younger one.
///
/// # Errors
///
/// Where it can't be signed.
pub fn token(allotment: &Allotment, license: &Standing, pair: &KeyPair) -> Result<String, Refused> {
    let allotted = Allotted {
        iss: pair.public().id(),
        jti: allotment.id.clone(),
        iat: license.claims.iat,
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

/// A row of `license_allotments`.
struct Row {
    id: String,
    is_returned: bool,
    token: String,
}

impl Book {
    /// Has the record know of what the table alone knows, after the record was lost with a server.
    pub fn adopt(&self, record: &mut Record) {
        for away in &self.away {
            let mut standings = self.standings.iter();
            let license = standings.find(|standing| standing.claims.jti == away.license_id);
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

    /// Whether anything was passed on from here.
    pub fn has_passed_on(&self) -> bool {
        !self.away.is_empty() || self.record.allotments.iter().any(is_of_this_database)
    }

    /// Has `license_allotments`, and the seats of `licenses`, follow what is recorded.
    pub fn settle(&self, writer: &Reader, schema: &str, pair: &KeyPair) -> Result<(), ReadError> {
        let rows = writer.query(
            &format!(
                "SELECT allotment_id, returned_at IS NOT NULL, token
                   FROM ONLY {schema}.license_allotments"
            ),
            |row| {
                Ok(Row {
                    id: row.text(1)?.unwrap_or_default(),
                    is_returned: row.number(2) == Some(1),
                    token: row.text(3)?.unwrap_or_default(),
                })
            },
        )?;
        for allotment in &self.record.allotments {
            let row = rows.iter().find(|row| row.id == allotment.id);
            let mut standings = self.standings.iter();
            let license = standings.find(|standing| {
                standing.claims.iss == allotment.iss && standing.claims.jti == allotment.jti
            });
            self.settle_one(writer, schema, allotment, row, license, pair)?;
        }
        Ok(())
    }

    fn settle_one(
        &self,
        writer: &Reader,
        schema: &str,
        allotment: &Allotment,
        row: Option<&Row>,
        license: Option<&Standing>,
        pair: &KeyPair,
    ) -> Result<(), ReadError> {
        let is_away = allotment.is_away(backend::now());
        let signed = license
            .map(|license| token(allotment, license, pair))
            .transpose()
            .map_err(|refused| damaged(&refused.to_string()))?;
        match (row, signed) {
            (None, Some(signed)) if is_away && is_of_this_database(allotment) => {
                insert(writer, schema, allotment, &signed)?;
                self.cut(writer, schema, allotment, license)
            }
            (Some(row), signed) if is_away => {
                let token = signed.unwrap_or_else(|| row.token.clone());
                if row.is_returned || row.token != token {
                    writer.execute(
                        &format!(
                            "UPDATE {schema}.license_allotments SET returned_at = NULL, token = $2
                              WHERE allotment_id = $1"
                        ),
                        &[
                            Argument::Text(Some(&allotment.id)),
                            Argument::Text(Some(&token)),
                        ],
                    )?;
                }
                Ok(())
            }
            (Some(row), _) if !row.is_returned => {
                let at = allotment.returned_at.or(allotment.valid_until);
                let at = at.map(catalog::timestamp_iso);
                writer.execute(
                    &format!(
                        "UPDATE {schema}.license_allotments SET returned_at = $2::timestamptz
                          WHERE allotment_id = $1"
                    ),
                    &[
                        Argument::Text(Some(&allotment.id)),
                        Argument::Text(at.as_deref()),
                    ],
                )?;
                self.restore(writer, schema, allotment, license)
            }
            _ => Ok(()),
        }
    }

    /// Of seats without limit none is missing.
    fn cut(
        &self,
        writer: &Reader,
        schema: &str,
        allotment: &Allotment,
        license: Option<&Standing>,
    ) -> Result<(), ReadError> {
        if license.is_none_or(|license| license.seats(&allotment.product).is_some()) {
            writer.execute(
                &format!(
                    "UPDATE {schema}.licenses SET seats = greatest(seats - $2::int, 0)
                      WHERE product = $1 AND seats > 0"
                ),
                &[
                    Argument::Text(Some(&allotment.product)),
                    Argument::Text(Some(&allotment.seats.to_string())),
                ],
            )?;
        }
        Ok(())
    }

    /// No more than are left of what was bought.
    fn restore(
        &self,
        writer: &Reader,
        schema: &str,
        allotment: &Allotment,
        license: Option<&Standing>,
    ) -> Result<(), ReadError> {
        let product = &allotment.product;
        let license = license.filter(|license| license.products.contains(product));
        let Some((license, bought)) = license.and_then(|own| Some((own, own.seats(product)?)))
        else {
            return Ok(());
        };
        let left = (i64::from(bought) - self.away(license, product)).max(0);
        writer.execute(
            &format!(
                "UPDATE {schema}.licenses SET seats = least(seats::bigint + $2::int, $3::bigint)
                  WHERE product = $1 AND seats < $3::bigint"
            ),
            &[
                Argument::Text(Some(product)),
                Argument::Text(Some(&allotment.seats.to_string())),
                Argument::Text(Some(&left.to_string())),
            ],
        )?;
        Ok(())
    }
}

fn is_of_this_database(allotment: &Allotment) -> bool {
    allotment.database == backend::database()
}

fn insert(
    writer: &Reader,
    schema: &str,
    allotment: &Allotment,
    token: &str,
) -> Result<(), ReadError> {
    let allotted_at = catalog::timestamp_iso(allotment.allotted_at);
    let valid_until = allotment.valid_until.map(catalog::timestamp_iso);
    writer.execute(
        &format!(
            "INSERT INTO {schema}.license_allotments
                    (allotment_id, license_id, product, seats, installation, allotted_at, valid_until, token)
             VALUES ($1, $2, $3, $4::int, $5, $6::timestamptz, $7::timestamptz, $8)"
        ),
        &[
            Argument::Text(Some(&allotment.id)),
            Argument::Text(Some(&allotment.jti)),
            Argument::Text(Some(&allotment.product)),
            Argument::Text(Some(&allotment.seats.to_string())),
            Argument::Text(Some(&allotment.installation)),
            Argument::Text(Some(&allotted_at)),
            Argument::Text(valid_until.as_deref()),
            Argument::Text(Some(token)),
        ],
    )?;
    Ok(())
}
