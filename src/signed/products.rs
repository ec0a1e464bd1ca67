//! Writes what a signed license says of its products into the table.

use serde_json::Value;

use super::signed_licenses::SignedLicenses;
use crate::core::ledger::clamp::clamp;
use crate::core::ledger::license::{License, Tampered};
use crate::pg::table::{ReadError, TableAccess};
use crate::signed::evaluation::SignedLicense;
use crate::tables::licenses;

/// The columns that a license's token decides, whatever the row had before.
const DECIDED: [&str; 4] = ["purchased", "valid_from", "valid_until", "grace"];

/// Writes what a license says into `licenses`. A new product gets all its seats; an existing row keeps what is
/// narrower, except for the rules that the token gives.
pub fn write_products(
    writer: &TableAccess,
    schema: &str,
    signed_licenses: &SignedLicenses,
    license: &SignedLicense,
    has_no_seats: impl Fn(&str) -> bool,
) -> Result<(), ReadError> {
    let products = signed_licenses.products(license);
    licenses::insert_products(writer, schema, &products)?;
    let signed = licenses::read_products(writer, &products)?;
    let rows = licenses::read(writer, schema)?;
    for signed in &signed {
        let Some(row) = rows.iter().find(|row| row.product == signed.product) else {
            continue;
        };
        let has_no_seats = has_no_seats(signed.product.as_str());
        let columns = columns_to_write(row, signed, license, has_no_seats);
        licenses::update_from_products(
            writer,
            schema,
            &products,
            signed.product.as_str(),
            &columns,
        )?;
    }
    Ok(())
}

fn columns_to_write(
    row: &License,
    signed: &License,
    license: &SignedLicense,
    has_no_seats: bool,
) -> Vec<String> {
    let mut columns: Vec<String> = DECIDED.map(str::to_owned).to_vec();
    let mut products = license.claims.products.iter();
    let product = products.find(|product| product.product == signed.product.as_str());
    if let Some(Value::Object(given)) =
        product.and_then(|product| serde_json::to_value(product).ok())
    {
        columns.extend(given.into_iter().map(|(column, _)| column));
    }
    let (_, tampered) = clamp(row, signed);
    columns.extend(tampered.names().map(str::to_owned));
    let has_more = tampered.contains(Tampered::SEATS);
    columns.retain(|column| column != "product" && (column != "seats" || has_more || has_no_seats));
    columns.sort();
    columns.dedup();
    columns
}
