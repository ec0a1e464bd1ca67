//! Writes the install script out of what pgrx has left in the built library, as `cargo pgrx schema` does.
//! Usage: schema SECTION CONTROL VERSION SCRIPT
//! SECTION is a file with the library's section `.pgrxsc`, CONTROL the extension's control file.
//!
//! cargo-pgrx does no more for us than this, and is made of 350 crates that take minutes to build; these few are built
//! for pgrx in any case.

use std::error::Error;
use std::{env, fs};

use pgrx_sql_entity_graph::section::decode_entities;
use pgrx_sql_entity_graph::{ControlFile, PgrxSql, SqlGraphEntity};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [section, control, version, script] = arguments.as_slice() else {
        return Err("usage: schema SECTION CONTROL VERSION SCRIPT".into());
    };
    let section = fs::read(section)?;
    let mut entities = decode_entities(&section)?;
    let control = ControlFile::from_path_with_cargo_version(control, version)?;
    entities.push(SqlGraphEntity::ExtensionRoot(control));
    // The control file names the library, without a version.
    PgrxSql::build(entities.into_iter(), "pg_seats".to_owned(), false)?.to_file(script)?;
    Ok(())
}
