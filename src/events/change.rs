//! Changes of the license tables, told in the audit trail by the transaction that makes them: rolled
//! back with it, and durable with it.
#![allow(unsafe_code, reason = "reads what PostgreSQL tells a trigger")]

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use pgrx::prelude::*;

use crate::ending::bars;
use crate::pg::error::{self, quoted};
use crate::pg::table::{Argument, ReadError, Reader, write_as_part};
use crate::pg::{backend, catalog};
use crate::{checkout, memory};

/// How long a change waits for a lock on the audit trail: it is not refused for want of it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The transaction whose last change could not be told: it waits no second time.
static IMPATIENT: AtomicU32 = AtomicU32::new(0);

/// Tells of a changed row, or of TRUNCATE. Where the trail can't be written, the change is made all
/// the same, and the server log says so.
pub fn tell(trigger: &PgTrigger) {
    // A standby's tables change without triggers.
    let transaction = backend::transaction();
    let patience = if IMPATIENT.load(Relaxed) == transaction {
        Duration::ZERO
    } else {
        PATIENCE
    };
    let told = write_as_part(patience, |writer| write(writer, trigger));
    if let Err(error) = told {
        IMPATIENT.store(transaction, Relaxed);
        let database = backend::database();
        memory::write(|ledger| ledger.lose_event(database, backend::now()));
        error::log(format!(
            "could not note in license_events a change of {} by role {}: {}",
            trigger.table_name().unwrap_or_default(),
            quoted(catalog::role_name(backend::role())),
            error.message
        ));
    }
}

/// What a token says is in its row. The event is named by what became of the seats, where that is all; `detail` has, for each column
/// that changed, what it was and what it is, and where the product does not tell which row, the row.
fn write(writer: &Reader, trigger: &PgTrigger) -> Result<(), ReadError> {
    let Some(schema) = catalog::schema() else {
        return Ok(());
    };
    let table = trigger.table_name().unwrap_or_default();
    if bars::are_being_stored() {
        // What an administrator has done is told.
        return Ok(());
    }
    let session = checkout::this_session();
    let host = session.map(|session| session.who.host.to_string());
    let workstation = session.map(|session| session.who.workstation.to_string());
    let workstation = workstation.filter(|name| !name.is_empty());
    let usename = catalog::role_name(backend::role());
    // SAFETY: what PostgreSQL passed to the trigger that is running.
    let (data, columns) = unsafe {
        let data = trigger.trigger_data();
        (data, (*data.tg_relation).rd_att)
    };
    let none = std::ptr::null_mut();
    let (old, new) = match trigger.op() {
        Ok(PgTriggerOperation::Insert) => (none, data.tg_trigtuple),
        Ok(PgTriggerOperation::Update) => (data.tg_trigtuple, data.tg_newtuple),
        Ok(PgTriggerOperation::Delete) => (data.tg_trigtuple, none),
        _ => (none, none),
    };
    let statement = format!(
        "WITH changed AS (
            SELECT jsonb_object_agg(key, jsonb_strip_nulls(jsonb_build_object('from', o.value, 'to', n.value)))
                   FILTER (WHERE key <> 'token')
                   AS columns
              FROM jsonb_each(to_jsonb($1)) o FULL JOIN jsonb_each(to_jsonb($2)) n USING (key)
             WHERE coalesce(o.value, 'null') <> coalesce(n.value, 'null')
         ), seats AS (
            SELECT coalesce((to_jsonb($1) ->> 'seats')::numeric, 'infinity') AS former,
                   coalesce((to_jsonb($2) ->> 'seats')::numeric, 'infinity') AS present
         )
         INSERT INTO {schema}.license_events
                (at, event, product, usename, client_host, workstation, datname, detail)
         SELECT clock_timestamp(),
                CASE WHEN to_jsonb($1) IS NULL AND to_jsonb($2) IS NULL THEN $3 || ' truncated'
                     WHEN to_jsonb($1) IS NULL THEN $3 || ' added'
                     WHEN to_jsonb($2) IS NULL THEN $3 || ' removed'
                     WHEN $3 = 'license' AND present > former THEN 'raise'
                     WHEN $3 = 'license' AND present < former THEN 'reduction'
                     ELSE $3 || ' changed' END,
                coalesce(to_jsonb($2) ->> 'product', to_jsonb($1) ->> 'product'),
                $4, $5, $6, current_database(),
                coalesce(changed.columns, '{{}}')
                || CASE WHEN $3 <> 'license' AND to_jsonb($2) IS NOT NULL AND to_jsonb($1) IS NOT NULL
                        THEN jsonb_build_object('row', to_jsonb($1)) ELSE '{{}}' END
           FROM changed, seats
          WHERE changed.columns IS NOT NULL OR to_jsonb($1) IS NULL AND to_jsonb($2) IS NULL"
    );
    let word = match table.as_str() {
        "licenses" => "license",
        "license_exemptions" => "exemption",
        "license_reservations" => "reservation",
        "license_keys" => "signed license",
        "license_allotments" => "allotment",
        _ => "bar",
    };
    writer.execute(
        &statement,
        &[
            Argument::Row(old, columns),
            Argument::Row(new, columns),
            Argument::Text(Some(word)),
            Argument::Text(Some(&usename)),
            Argument::Text(host.as_deref()),
            Argument::Text(workstation.as_deref()),
        ],
    )?;
    Ok(())
}
