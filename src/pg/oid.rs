//! The OIDs of databases and roles, as PostgreSQL has them and as the ledger has them.

use pgrx::pg_sys::Oid;

use crate::core::ledger::numbers::{DatabaseOid, RoleOid};

impl From<Oid> for DatabaseOid {
    fn from(oid: Oid) -> DatabaseOid {
        DatabaseOid(oid.to_u32())
    }
}

impl From<DatabaseOid> for Oid {
    fn from(database: DatabaseOid) -> Oid {
        Oid::from(database.0)
    }
}

impl From<Oid> for RoleOid {
    fn from(oid: Oid) -> RoleOid {
        RoleOid(oid.to_u32())
    }
}

impl From<RoleOid> for Oid {
    fn from(role: RoleOid) -> Oid {
        Oid::from(role.0)
    }
}
