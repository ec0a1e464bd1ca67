//! What others have attached to the extension's tables. None of it is obeyed (see [`crate::pg::statement`]), and
//! whoever looks at the licenses is told.

use serde_json::{Value, json};

use crate::pg::table::{Argument, ReadError, TableAccess};
use crate::pg::{catalog, own};

/// How PostgreSQL, of whatever version, describes what the install script creates: table, kind, name and definition,
/// separated by tabs. Anything else belongs to others, whatever its name.
const DEFINITIONS: &str = include_str!("../../sql/definitions.txt");

/// Tells, in SQL, whether a row `p` of pg_proc is the function that notices changes: only a superuser can create
/// functions in C. What becomes of one that was removed from the extension is not noticed.
const TAKES_NOTE: &str =
    "p.prolang = 13 AND p.prosrc = 'license_tables_changed_wrapper' AND EXISTS (
    SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
     WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
       AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'pg_seats')";

/// Something that others have attached to one of the extension's tables, or a function of the extension that is not
/// what it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Thing {
    /// The table's name; `None` for a function.
    pub table: Option<String>,
    /// Its kind: `trigger`, `rule`, …
    pub kind: String,
    /// Its own name.
    pub name: String,
    /// The number by which PostgreSQL knows it: another of the same name has another number.
    pub number: i64,
}

impl Thing {
    /// Returns the detail of its event row.
    pub fn detail(&self) -> Value {
        json!({
            "table": self.table,
            "kind": self.kind,
            "name": self.name,
            "oid": self.number,
        })
    }
}

/// Finds all interference.
pub fn find(reader: &TableAccess) -> Result<Vec<Thing>, ReadError> {
    let Some(extension) = catalog::extension() else {
        return Ok(Vec::new());
    };
    let extension = extension.to_string();
    // A lock on a table, such as the audit trail's, must keep nobody from reading licenses. PostgreSQL opens a table to
    // describe it, so the definitions of a locked table are compared another time.
    let tables = DEFINITIONS
        .lines()
        .filter_map(|line| line.split('\t').next());
    let free = format!(
        "{{{}}}",
        own::lock_if_free(tables)
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(",")
    );
    let arguments = [
        Argument::Text(Some(&extension)),
        Argument::Text(Some(DEFINITIONS)),
        Argument::Text(Some(&free)),
    ];
    reader.query_with(&find_them(), &arguments, |row| {
        let text = |column| Ok(row.text(column)?.unwrap_or_default());
        Ok(Thing {
            table: row.text(1)?,
            kind: text(2)?,
            name: text(3)?,
            number: row.number(4).unwrap_or(0),
        })
    })
}

/// Returns the query that finds interference. Triggers, constraints, indexes, defaults and NOT NULLs are compared with
/// the script's definitions, which name everything that is not PostgreSQL's own with its schema; whatever else is
/// attached is not the script's. Every part uses an index of the catalogs, however many other tables there are.
fn find_them() -> String {
    let of_ours = "= ANY (ARRAY(SELECT oid FROM ours))";
    format!(
        "WITH members AS MATERIALIZED (
            SELECT classid, objid FROM pg_depend
             WHERE refclassid = 'pg_extension'::regclass AND refobjid = $1::oid AND deptype = 'e'
         ), ours AS MATERIALIZED (
            SELECT c.oid, c.relname, n.nspname
              FROM members m JOIN pg_class c ON c.oid = m.objid AND c.relkind = 'r'
                   JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE m.classid = 'pg_class'::regclass
         ), script AS MATERIALIZED (
            SELECT unnest(string_to_array($2, chr(10))) AS line
         ), defined AS MATERIALIZED (
            SELECT tgrelid AS of_table, 'trigger' AS kind, tgname AS name, oid,
                   CASE WHEN tgqual IS NULL AND NOT tgdeferrable AND tgattr = ''
                             AND EXISTS (SELECT FROM pg_proc p WHERE p.oid = tgfoid AND {TAKES_NOTE})
                        THEN tgtype::text END AS definition
              FROM pg_trigger WHERE tgrelid {of_ours} AND NOT tgisinternal
            UNION ALL
            SELECT conrelid, 'constraint', conname, oid, pg_get_constraintdef(oid)
              FROM pg_constraint
             WHERE conrelid {of_ours} AND conrelid = ANY ($3::oid[]) AND contype NOT IN ('f', 'n', 't')
            UNION ALL
            SELECT i.indrelid, 'index', c.relname, c.oid,
                   replace(pg_get_indexdef(c.oid), format(' ON %I.%I ', o.nspname, o.relname), ' ')
              FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN ours o ON o.oid = i.indrelid
             WHERE i.indrelid {of_ours} AND i.indrelid = ANY ($3::oid[])
               AND NOT EXISTS (SELECT FROM pg_constraint p WHERE p.conrelid = i.indrelid AND p.conindid = c.oid)
            UNION ALL
            SELECT f.adrelid, 'default', a.attname, f.oid, pg_get_expr(f.adbin, f.adrelid)
              FROM pg_attrdef f JOIN pg_attribute a ON (a.attrelid, a.attnum) = (f.adrelid, f.adnum)
             WHERE f.adrelid {of_ours} AND f.adrelid = ANY ($3::oid[])
            UNION ALL
            -- A constraint since 18.
            SELECT attrelid, 'not null', attname, attnum, 'NOT NULL' FROM pg_attribute
             WHERE attrelid {of_ours} AND attnum > 0 AND attnotnull
         ), found AS (
            SELECT d.of_table, d.kind, d.name, d.oid FROM defined d JOIN ours o ON o.oid = d.of_table
             WHERE NOT EXISTS (
                   SELECT FROM script s
                    WHERE s.line = o.relname || chr(9) || d.kind || chr(9) || d.name || chr(9)
                                   || replace(d.definition, chr(10), ' '))
            UNION
            SELECT t.tgrelid, 'foreign key', p.conname, p.oid
              FROM pg_trigger t JOIN pg_constraint p ON p.oid = t.tgconstraint AND p.contype = 'f'
             WHERE t.tgrelid {of_ours} AND t.tgisinternal
            UNION ALL
            SELECT ev_class, 'rule', rulename, oid FROM pg_rewrite WHERE ev_class {of_ours}
            UNION ALL
            SELECT polrelid, 'policy', polname, oid FROM pg_policy WHERE polrelid {of_ours}
            UNION ALL
            SELECT attrelid, 'type', attname, attnum FROM pg_attribute
             WHERE attrelid {of_ours} AND attnum > 0 AND NOT attisdropped
               AND (atttypid >= 12000 OR attcollation >= 12000 OR attgenerated <> '' OR attidentity <> '')
            UNION ALL
            SELECT h.inhparent, 'child', c.relname, c.oid
              FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid WHERE h.inhparent {of_ours}
            UNION ALL
            SELECT h.inhrelid, 'parent', c.relname, c.oid
              FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhparent WHERE h.inhrelid {of_ours}
            UNION ALL
            SELECT stxrelid, 'statistics', stxname, oid FROM pg_statistic_ext WHERE stxrelid {of_ours}
            UNION ALL
            SELECT NULL, 'function', p.proname, p.oid
              FROM members m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
                   LEFT JOIN pg_roles r ON r.oid = p.proowner
             WHERE p.prosecdef OR p.proconfig IS NOT NULL OR r.rolsuper IS NOT TRUE
                OR CASE p.proname
                        WHEN 'license_origin'
                        THEN p.prolang <> 14 OR p.prosrc !~ '^SELECT ''[0-9a-f-]{{36}}''::pg_catalog[.]uuid$'
                        ELSE p.prolang <> 13 OR p.prosrc <> p.proname || '_wrapper' END
         )
         SELECT o.relname, f.kind, f.name, f.oid::bigint
           FROM found f LEFT JOIN ours o ON o.oid = f.of_table
          ORDER BY 1, 2, 3"
    )
}

/// Returns the table, name and type of each trigger that notices changes, by the script's definitions.
fn triggers() -> impl Iterator<Item = [&'static str; 3]> {
    DEFINITIONS.lines().filter_map(|line| {
        let mut columns = line.split('\t');
        match std::array::from_fn(|_| columns.next().unwrap_or_default()) {
            [table, "trigger", name, kind] => Some([table, name, kind]),
            _ => None,
        }
    })
}

/// Tells whether the tables' triggers notice every change. They are of no use if their function was replaced.
///
/// # Errors
///
/// If the catalog can't be read.
pub fn is_watched(reader: &TableAccess, schema: &str) -> Result<bool, ReadError> {
    let schema = schema.replace('\'', "''");
    let triggers: Vec<String> = triggers()
        .map(|[table, name, kind]| format!("('{schema}.{table}'::regclass, '{name}', {kind})"))
        .collect();
    let watching = reader.query(
        &format!(
            "SELECT count(*) FROM pg_trigger
              WHERE (tgrelid, tgname, tgtype) IN ({}) AND tgenabled = 'A' AND tgqual IS NULL
                AND EXISTS (SELECT FROM pg_proc p WHERE p.oid = tgfoid AND {TAKES_NOTE})",
            triggers.join(", "),
        ),
        |count| Ok(count.number(1).unwrap_or(0)),
    )?;
    Ok(watching == [triggers.len() as i64])
}
