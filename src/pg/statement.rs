//! A statement on the extension's tables, analysed, planned and executed by hand: nothing that somebody has attached to
//! them is obeyed, and what runs all the same runs as [nobody](super::nobody).
//!
//! 1. The tables that it names are locked and checked ([`super::own`]) before anything else is done with it.
//! 2. It is analysed as the owner of the extension's schema: whoever could put another table in the place of one at
//!    that moment would gain no more than the owner's rights. If the owner may no longer use the schema, it is analysed
//!    as `pg_read_all_data`, while no schema can be renamed: then nobody can put another table there.
//! 3. Its tables are marked: privileges and policies are judged as for the superuser that every server has, and neither
//!    children nor rules count.
//! 4. It is planned and executed as nobody. Only the extension's own triggers fire. For a statement that only reads,
//!    the planner sees no index and no statistics, whose expressions it would compute: then nobody else's code runs.
//!
//! There is no cached plan: an invalidated one would be analysed anew, without the marks.
#![allow(
    unsafe_code,
    reason = "calls PostgreSQL's parser, planner and executor"
)]

use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr;

use pgrx::pg_sys::{self, NodeTag};
use pgrx::prelude::*;

use super::encoding::encode;
use super::list::elements;
use super::nobody::Acting;
use super::own::Own;
use super::read_error::{ReadError, damaged};
use super::{catalog, compat};

/// Tables with smaller OIDs are PostgreSQL's own.
const FIRST_OF_USERS: u32 = pg_sys::FirstNormalObjectId;

/// The rows that a statement returned, in the memory context that was current before it.
pub struct StatementResult {
    /// The rows.
    pub rows: Vec<pg_sys::HeapTuple>,
    /// Their description; null if the statement returns none.
    pub columns: pg_sys::TupleDesc,
    /// How many rows it concerned.
    pub processed: u64,
}

/// A parameter of a statement: its type, and its value.
pub type Parameter = (pg_sys::Oid, Option<pg_sys::Datum>);

/// Executes one SELECT, INSERT, UPDATE or DELETE with the active snapshot; only a SELECT, unless it `writes`.
///
/// # Safety
///
/// The caller must act as nobody, in a transaction that an error undoes. The values must be of their types.
pub unsafe fn execute(
    statement: &str,
    parameters: &[Parameter],
    writes: bool,
) -> Result<StatementResult, ReadError> {
    let text =
        CString::new(encode(statement)).map_err(|_| damaged("a statement holds a zero byte"))?;
    // SAFETY: takes PostgreSQL's own steps from a text to a plan, with a snapshot; what they allocate lasts as long as
    // the current memory context.
    unsafe {
        let raw = only(pg_sys::pg_parse_query(text.as_ptr())).cast::<pg_sys::RawStmt>();
        if raw.is_null() {
            return Err(damaged("a statement is not one"));
        }
        let analyser = Analyser::new()?;
        let tables = tables_of((*raw).stmt)?;
        let types: Vec<_> = parameters.iter().map(|(of_type, _)| *of_type).collect();
        let query = {
            let _acting = Acting::as_role(analyser.role);
            pg_sys::parse_analyze_fixedparams(
                raw,
                text.as_ptr(),
                types.as_ptr(),
                parameters.len() as c_int,
                ptr::null_mut(),
            )
        };
        drop(analyser);
        if !writes && (*query).commandType != pg_sys::CmdType::CMD_SELECT {
            return Err(damaged("a statement that reads writes"));
        }
        let command = (*query).commandType;
        mark(query, &tables)?;
        let query = {
            let _hidden = HiddenRules::of(&tables);
            only(pg_sys::pg_rewrite_query(query)).cast::<pg_sys::Query>()
        };
        if query.is_null() || (*query).commandType != command {
            return Err(damaged("a statement was rewritten by a rule"));
        }
        mark(query, &tables)?;
        let values = values_of(parameters);
        let plan = {
            let _hidden = (!writes).then(|| HiddenIndexes::of(&tables));
            pg_sys::pg_plan_query(query, text.as_ptr(), 0, values)
        };
        Ok(run(plan, &text, values))
    }
}

/// The role that analyses a statement.
struct Analyser {
    role: pg_sys::Oid,
    /// Whether no schema can be renamed as long as this exists.
    locks_names: bool,
}

impl Analyser {
    /// Chooses the role, before the statement's tables are looked up.
    fn new() -> Result<Analyser, ReadError> {
        let owner = catalog::schema_owner().ok_or_else(no_schema)?;
        let schema = pg_sys::Oid::from(catalog::extension_schema().ok_or_else(no_schema)?);
        if catalog::may_use_schema(owner, schema) {
            return Ok(Analyser {
                role: owner,
                locks_names: false,
            });
        }
        // SAFETY: a lock in a transaction, which an error releases; it is waited for like any lock of a statement.
        unsafe {
            pg_sys::LockRelationOid(pg_sys::NamespaceRelationId, pg_sys::ShareLock as c_int);
        }
        Ok(Analyser {
            role: pg_sys::Oid::from(pg_sys::ROLE_PG_READ_ALL_DATA),
            locks_names: true,
        })
    }
}

impl Drop for Analyser {
    fn drop(&mut self) {
        // After an error, the end of the transaction or subtransaction does that.
        if self.locks_names && !std::thread::panicking() {
            // SAFETY: the lock was taken in `new`.
            unsafe {
                pg_sys::UnlockRelationOid(pg_sys::NamespaceRelationId, pg_sys::ShareLock as c_int);
            }
        }
    }
}

fn no_schema() -> ReadError {
    damaged("the extension's schema can't be read")
}

/// Returns the only element of a list of nodes, or null.
unsafe fn only(list: *mut pg_sys::List) -> *mut c_void {
    // SAFETY: the caller passes a list of PostgreSQL's, or null.
    match unsafe { elements::<c_void>(list) }.as_slice() {
        [one] => *one,
        _ => ptr::null_mut(),
    }
}

unsafe fn is_a(node: *mut pg_sys::Node, tag: NodeTag) -> bool {
    // SAFETY: every node begins with its tag.
    !node.is_null() && unsafe { (*node).type_ == tag }
}

/// Returns the extension's tables that a statement names, locked as it will lock them.
unsafe fn tables_of(statement: *mut pg_sys::Node) -> Result<Vec<Own>, ReadError> {
    let mut named: Vec<*mut pg_sys::RangeVar> = Vec::new();
    // SAFETY: the statement is as the parser made it. The callback's frames hold nothing, so an error may unwind
    // through them.
    unsafe {
        let (target, others) = match (*statement).type_ {
            NodeTag::T_InsertStmt => (
                (*statement.cast::<pg_sys::InsertStmt>()).relation,
                pg_sys::AccessShareLock,
            ),
            NodeTag::T_UpdateStmt => (
                (*statement.cast::<pg_sys::UpdateStmt>()).relation,
                pg_sys::AccessShareLock,
            ),
            NodeTag::T_DeleteStmt => (
                (*statement.cast::<pg_sys::DeleteStmt>()).relation,
                pg_sys::AccessShareLock,
            ),
            NodeTag::T_SelectStmt => {
                let locks = (*statement.cast::<pg_sys::SelectStmt>()).lockingClause;
                let lock = if locks.is_null() {
                    pg_sys::AccessShareLock
                } else {
                    pg_sys::RowShareLock
                };
                (ptr::null_mut(), lock)
            }
            _ => {
                return Err(damaged(
                    "a statement is neither SELECT nor a change of rows",
                ));
            }
        };
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            note_name(statement, (&raw mut named).cast());
        });
        let schema = catalog::extension_schema().ok_or_else(no_schema)?;
        let own_name = pg_sys::get_namespace_name(pg_sys::Oid::from(schema));
        let mut tables = Vec::new();
        // The table that is changed needs the stronger lock, so it comes first.
        named.sort_by_key(|name| *name != target);
        for name in named {
            let of_schema = (*name).schemaname;
            // A name without a schema is found in pg_catalog, or names a part of the statement.
            if of_schema.is_null() || CStr::from_ptr(of_schema) == c"pg_catalog" {
                continue;
            }
            if own_name.is_null() || CStr::from_ptr(own_name) != CStr::from_ptr(of_schema) {
                return Err(damaged("the extension's schema has another name by now"));
            }
            let lock = if name == target {
                pg_sys::RowExclusiveLock
            } else {
                others
            };
            tables.push(Own::open(schema, CStr::from_ptr((*name).relname), lock)?);
        }
        Ok(tables)
    }
}

unsafe extern "C-unwind" fn note_name(node: *mut pg_sys::Node, names: *mut c_void) -> bool {
    // SAFETY: `tables_of` lends the vector, and the node is the parser's.
    unsafe {
        if node.is_null() {
            return false;
        }
        if is_a(node, NodeTag::T_RangeVar) {
            (*names.cast::<Vec<*mut pg_sys::RangeVar>>()).push(node.cast());
            return false;
        }
        compat::raw_expression_tree_walker(node, note_name, names)
    }
}

/// Marks the tables of an analysed statement to be read and written as what they are: without children, and with the
/// privileges of a superuser. Returns an error if it concerns other tables.
unsafe fn mark(query: *mut pg_sys::Query, tables: &[Own]) -> Result<(), ReadError> {
    let tables: Vec<pg_sys::Oid> = tables.iter().map(Own::oid).collect();
    // SAFETY: the statement is as the analyser made it. The callback's frames hold nothing.
    let concerns_others = unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            mark_node(query.cast(), (&raw const tables).cast_mut().cast())
        })
    };
    if concerns_others {
        return Err(damaged(
            "a statement concerns a table that was not looked at",
        ));
    }
    Ok(())
}

unsafe extern "C-unwind" fn mark_node(node: *mut pg_sys::Node, tables: *mut c_void) -> bool {
    // SAFETY: `mark` lends the vector, and the node is the analyser's.
    unsafe {
        if node.is_null() {
            return false;
        }
        if !is_a(node, NodeTag::T_Query) {
            return compat::expression_tree_walker(node, mark_node, tables);
        }
        let query = node.cast::<pg_sys::Query>();
        let own = &*tables.cast::<Vec<pg_sys::Oid>>();
        mark_tables(query, own) || compat::query_tree_walker(query, mark_node, tables, 0)
    }
}

/// Marks the tables of one query. Returns true if it has others.
unsafe fn mark_tables(query: *mut pg_sys::Query, own: &[pg_sys::Oid]) -> bool {
    // SAFETY: the lists are the analyser's.
    unsafe {
        for range in elements::<pg_sys::RangeTblEntry>((*query).rtable) {
            if (*range).rtekind != pg_sys::RTEKind::RTE_RELATION {
                continue;
            }
            if (*range).relid.to_u32() >= FIRST_OF_USERS && !own.contains(&(*range).relid) {
                return true;
            }
            (*range).inh = false;
        }
        compat::check_privileges_as(query, pg_sys::Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID));
    }
    false
}

/// Tables whose rules the rewriter does not see. Nobody can change a rule meanwhile, because that takes a lock which
/// conflicts with the one that is held.
struct HiddenRules {
    rules: Vec<(pg_sys::Relation, *mut pg_sys::RuleLock)>,
}

impl HiddenRules {
    unsafe fn of(tables: &[Own]) -> HiddenRules {
        let mut rules = Vec::new();
        for table in tables {
            let relation = table.relation();
            // SAFETY: the table is open, so its entry in the cache stays where it is.
            let its_rules =
                unsafe { std::mem::replace(&mut (*relation).rd_rules, ptr::null_mut()) };
            if !its_rules.is_null() {
                rules.push((relation, its_rules));
            }
        }
        HiddenRules { rules }
    }
}

impl Drop for HiddenRules {
    fn drop(&mut self) {
        for (relation, rules) in &self.rules {
            // SAFETY: the table is still open. If the cache has rebuilt the entry, it has its rules, and the former
            // ones are gone.
            unsafe {
                if (**relation).rd_rules.is_null() {
                    (**relation).rd_rules = *rules;
                }
            }
        }
    }
}

/// Tables whose indexes and extended statistics the planner does not see.
struct HiddenIndexes {
    hidden: Vec<Hidden>,
}

struct Hidden {
    relation: pg_sys::Relation,
    indexes: (bool, *mut pg_sys::List),
    statistics: (bool, *mut pg_sys::List),
}

impl HiddenIndexes {
    unsafe fn of(tables: &[Own]) -> HiddenIndexes {
        let mut hidden: Vec<Hidden> = Vec::new();
        for table in tables {
            let relation = table.relation();
            if hidden.iter().any(|hidden| hidden.relation == relation) {
                continue;
            }
            // SAFETY: the table is open, so its entry in the cache stays where it is. Its lists may be valid and empty.
            unsafe {
                let entry = &mut *relation;
                hidden.push(Hidden {
                    relation,
                    indexes: (entry.rd_indexvalid, entry.rd_indexlist),
                    statistics: (entry.rd_statvalid, entry.rd_statlist),
                });
                (entry.rd_indexvalid, entry.rd_indexlist) = (true, ptr::null_mut());
                (entry.rd_statvalid, entry.rd_statlist) = (true, ptr::null_mut());
            }
        }
        HiddenIndexes { hidden }
    }
}

impl Drop for HiddenIndexes {
    fn drop(&mut self) {
        for hidden in &self.hidden {
            // SAFETY: the table is still open. If the cache has rebuilt the entry meanwhile, it finds its lists itself.
            unsafe {
                let entry = &mut *hidden.relation;
                if entry.rd_indexvalid && entry.rd_indexlist.is_null() {
                    (entry.rd_indexvalid, entry.rd_indexlist) = hidden.indexes;
                }
                if entry.rd_statvalid && entry.rd_statlist.is_null() {
                    (entry.rd_statvalid, entry.rd_statlist) = hidden.statistics;
                }
            }
        }
    }
}

/// Returns the parameters as the planner and the executor take them.
unsafe fn values_of(parameters: &[Parameter]) -> pg_sys::ParamListInfo {
    if parameters.is_empty() {
        return ptr::null_mut();
    }
    // SAFETY: the list has room for as many parameters as it was made for.
    unsafe {
        let list = pg_sys::makeParamList(parameters.len() as c_int);
        let places = (&raw mut (*list).params).cast::<pg_sys::ParamExternData>();
        for (at, (of_type, value)) in parameters.iter().enumerate() {
            *places.add(at) = pg_sys::ParamExternData {
                value: value.unwrap_or(pg_sys::Datum::from(0)),
                isnull: value.is_none(),
                pflags: pg_sys::PARAM_FLAG_CONST as u16,
                ptype: *of_type,
            };
        }
        list
    }
}

/// Receives the rows that the executor returns. PostgreSQL knows only its first field.
#[repr(C)]
struct Taker {
    receiver: pg_sys::DestReceiver,
    rows: Vec<pg_sys::HeapTuple>,
    columns: pg_sys::TupleDesc,
    memory: pg_sys::MemoryContext,
}

#[pg_guard]
unsafe extern "C-unwind" fn begin(
    taker: *mut pg_sys::DestReceiver,
    _operation: c_int,
    columns: pg_sys::TupleDesc,
) {
    // SAFETY: the receiver is the first field of a `Taker`; the description is copied into memory that lasts.
    unsafe {
        let taker = taker.cast::<Taker>();
        let before = pg_sys::MemoryContextSwitchTo((*taker).memory);
        (*taker).columns = pg_sys::CreateTupleDescCopy(columns);
        pg_sys::MemoryContextSwitchTo(before);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn take(
    row: *mut pg_sys::TupleTableSlot,
    taker: *mut pg_sys::DestReceiver,
) -> bool {
    // SAFETY: as for `begin`; every kind of slot can copy its row.
    unsafe {
        let taker = taker.cast::<Taker>();
        let before = pg_sys::MemoryContextSwitchTo((*taker).memory);
        if let Some(copy) = (*(*row).tts_ops).copy_heap_tuple {
            (*taker).rows.push(copy(row));
        }
        pg_sys::MemoryContextSwitchTo(before);
        true
    }
}

unsafe extern "C-unwind" fn end(_taker: *mut pg_sys::DestReceiver) {}

/// Executes a plan.
unsafe fn run(
    plan: *mut pg_sys::PlannedStmt,
    text: &CStr,
    values: pg_sys::ParamListInfo,
) -> StatementResult {
    // SAFETY: does what SPI does, with an active snapshot; `taker` outlives the executor.
    unsafe {
        let mut taker = Taker {
            receiver: pg_sys::DestReceiver {
                receiveSlot: Some(take),
                rStartup: Some(begin),
                rShutdown: Some(end),
                rDestroy: Some(end),
                mydest: pg_sys::CommandDest::DestNone,
            },
            rows: Vec::new(),
            columns: ptr::null_mut(),
            memory: pg_sys::CurrentMemoryContext,
        };
        let query = pg_sys::CreateQueryDesc(
            plan,
            text.as_ptr(),
            pg_sys::GetActiveSnapshot(),
            ptr::null_mut(),
            (&raw mut taker).cast(),
            values,
            ptr::null_mut(),
            0,
        );
        pg_sys::ExecutorStart(query, 0);
        for target in elements((*(*query).estate).es_opened_result_relations) {
            disable_triggers(target);
        }
        compat::run_to_end(query);
        pg_sys::ExecutorFinish(query);
        let processed = (*(*query).estate).es_processed;
        pg_sys::ExecutorEnd(query);
        pg_sys::FreeQueryDesc(query);
        StatementResult {
            rows: taker.rows,
            columns: taker.columns,
            processed,
        }
    }
}

/// Disables the triggers of a table that are not the extension's: also those that are ENABLE ALWAYS, those of foreign
/// keys, and those that would be deferred until somebody else is the current user.
unsafe fn disable_triggers(target: *mut pg_sys::ResultRelInfo) {
    // SAFETY: the triggers are the executor's own copy.
    unsafe {
        let triggers = (*target).ri_TrigDesc;
        if triggers.is_null() {
            return;
        }
        for at in 0..(*triggers).numtriggers as usize {
            let trigger = (*triggers).triggers.add(at);
            if !is_ours(&*trigger) {
                (*trigger).tgenabled = pg_sys::TRIGGER_DISABLED as std::ffi::c_char;
            }
        }
    }
}

/// Tells whether a trigger is as the extension's script creates it.
unsafe fn is_ours(trigger: &pg_sys::Trigger) -> bool {
    !trigger.tgisinternal
        && !trigger.tgdeferrable
        && trigger.tgqual.is_null()
        && trigger.tgnattr == 0
        && catalog::belongs_to_extension(pg_sys::ProcedureRelationId, trigger.tgfoid)
}
