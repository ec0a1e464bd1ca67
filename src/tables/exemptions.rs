//! `license_exemptions`: roles and hosts that take no seat.

use crate::core::ledger::identity::Name;
use crate::core::ledger::license::RowKey;
use crate::core::ledger::rules::{Exemption, Hosts};
use crate::pg::backend;
use crate::pg::table::{ReadError, Row, TableAccess, damaged};

/// Reads the rows, the oldest first.
///
/// # Errors
///
/// If they can't be read, or hold what no exemption may have.
pub fn read(reader: &TableAccess, schema: &str) -> Result<Vec<Exemption>, ReadError> {
    reader.query(
        &format!(
            "SELECT kind, value,
                    CASE WHEN kind = 'host' AND value <> 'local' THEN host(value::inet) END,
                    CASE WHEN kind = 'host' AND value <> 'local' THEN masklen(value::inet) END
               FROM ONLY {schema}.license_exemptions
              ORDER BY added_at, kind, value"
        ),
        exemption,
    )
}

fn exemption(row: &Row) -> Result<Exemption, ReadError> {
    let value = row.text(2)?.unwrap_or_default();
    let (role, hosts) = if row.text(1)?.as_deref() == Some("role") {
        let role = Name::new(&value).ok_or_else(|| damaged("a role's name is too long"))?;
        (role, Hosts::NONE)
    } else if value == "local" {
        (Name::EMPTY, Hosts::LOCAL)
    } else {
        let address = row.text(3)?.unwrap_or_default();
        let address = address
            .parse()
            .ok()
            .ok_or_else(|| damaged("an exempt host is not an address"))?;
        let bits = row
            .number(4)
            .and_then(|bits| u8::try_from(bits).ok())
            .unwrap_or(128);
        (Name::EMPTY, Hosts::new(address, bits))
    };
    let key = RowKey {
        database: backend::database(),
        place: 0,
    };
    Ok(Exemption { key, role, hosts })
}
