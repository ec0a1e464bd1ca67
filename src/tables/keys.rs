//! `license_keys`: the tokens of signed licenses that are, or were, installed.

use crate::pg::table::{Argument, ReadError, TableAccess};

/// A row of `license_keys`.
pub struct KeyRow {
    /// The license's id.
    pub license_id: String,
    /// Its token.
    pub token: String,
    /// Whether it is installed: it was not uninstalled since.
    pub is_installed: bool,
}

/// Reads the rows, the oldest first. A value that can't be read as text is no license, and spoils no other.
///
/// # Errors
///
/// If the table can't be read.
pub fn read(reader: &TableAccess, schema: &str) -> Result<Vec<KeyRow>, ReadError> {
    reader.query(
        &format!(
            "SELECT license_id, token, uninstalled_at IS NULL FROM ONLY {schema}.license_keys
              ORDER BY installed_at, license_id"
        ),
        |row| {
            Ok(KeyRow {
                license_id: row.text_or_none(1),
                token: row.text_or_none(2),
                is_installed: row.number(3) == Some(1),
            })
        },
    )
}

/// Reads the token of a license, even if it was uninstalled.
///
/// # Errors
///
/// If the table can't be read.
pub fn token_of(
    reader: &TableAccess,
    schema: &str,
    license_id: &str,
) -> Result<Option<String>, ReadError> {
    let tokens = reader.query_with(
        &format!("SELECT token FROM ONLY {schema}.license_keys WHERE license_id = $1"),
        &[Argument::Text(Some(license_id))],
        |row| row.text(1),
    )?;
    Ok(tokens.into_iter().flatten().next())
}

/// Installs a token, in place of an older one if there is one.
///
/// # Errors
///
/// If the table can't be written now.
pub fn install(
    writer: &TableAccess,
    schema: &str,
    license_id: &str,
    token: &str,
) -> Result<(), ReadError> {
    let statement = format!(
        "INSERT INTO {schema}.license_keys (license_id, token) VALUES ($1, $2)
             ON CONFLICT (license_id) DO UPDATE
                SET token = excluded.token, installed_at = excluded.installed_at,
                    installed_by = excluded.installed_by, uninstalled_at = NULL
              WHERE license_keys.token <> excluded.token OR license_keys.uninstalled_at IS NOT NULL"
    );
    writer.execute(
        &statement,
        &[
            Argument::Text(Some(license_id)),
            Argument::Text(Some(token)),
        ],
    )?;
    Ok(())
}

/// Replaces the older token by a renewed one.
///
/// # Errors
///
/// If the table can't be written now.
pub fn replace(
    writer: &TableAccess,
    schema: &str,
    license_id: &str,
    token: &str,
) -> Result<(), ReadError> {
    let statement = format!(
        "UPDATE {schema}.license_keys
            SET token = $2, installed_at = now(), installed_by = session_user
          WHERE license_id = $1"
    );
    writer.execute(
        &statement,
        &[
            Argument::Text(Some(license_id)),
            Argument::Text(Some(token)),
        ],
    )?;
    Ok(())
}

/// Notes that a license was uninstalled, even if its row is gone, if its token is known. Returns false if it is not
/// known, or was uninstalled before.
///
/// # Errors
///
/// If the table can't be written now.
pub fn uninstall(
    writer: &TableAccess,
    schema: &str,
    license_id: &str,
    token: Option<&str>,
) -> Result<bool, ReadError> {
    let statement = format!(
        "INSERT INTO {schema}.license_keys AS k (license_id, token, uninstalled_at)
         SELECT $1, coalesce($2, token), now()
           FROM (SELECT) o LEFT JOIN {schema}.license_keys r ON r.license_id = $1
          WHERE $2 IS NOT NULL OR r.license_id IS NOT NULL
             ON CONFLICT (license_id) DO UPDATE SET uninstalled_at = excluded.uninstalled_at
          WHERE k.uninstalled_at IS NULL"
    );
    let arguments = [Argument::Text(Some(license_id)), Argument::Text(token)];
    Ok(writer.execute(&statement, &arguments)? > 0)
}
