//! The documentation is true: its SQL runs, its links lead somewhere, and its reference pages have what a server has, word
//! for word.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::util::*;

pub const README: &str = include_str!("../README.md");
pub const APPLICATIONS: &str = include_str!("../docs/applications.md");
pub const VENDORS: &str = include_str!("../docs/vendors.md");

const ARCHITECTURE: &str = include_str!("../docs/architecture.md");
const TABLES: &str = include_str!("../docs/reference/tables.md");
const FUNCTIONS: &str = include_str!("../docs/reference/functions.md");
const VIEWS: &str = include_str!("../docs/reference/views.md");
const SETTINGS: &str = include_str!("../docs/reference/settings.md");
const ERRORS: &str = include_str!("../docs/reference/errors.md");
const EVENTS: &str = include_str!("../docs/reference/events.md");

/// The languages of the blocks; `text` is what somebody reads.
const LANGUAGES: [&str; 9] = [
    "conf", "ini", "java", "js", "json", "python", "sh", "sql", "text",
];

/// What every page but README's takes for granted.
const LICENSED: &str = "CREATE SCHEMA seats;
    CREATE EXTENSION pg_seats SCHEMA seats;
    GRANT USAGE ON SCHEMA seats TO PUBLIC;
    INSERT INTO seats.licenses (product, seats, purchased) VALUES ('Total Office Manager', 10, 10)";

/// The extension's objects of one catalog: completes a query's FROM clause.
const MEMBERS: &str =
    "pg_depend d WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
     AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_seats')";

/// A fenced block of a page.
pub struct Block {
    pub language: String,
    pub text: String,
    /// Why it is not executed, as a comment before it says.
    pub reason: Option<String>,
}

/// Returns a page's blocks, in their order.
pub fn blocks(page: &str) -> Vec<Block> {
    let (mut blocks, mut open, mut reason) = (Vec::new(), None::<Block>, None);
    for line in page.lines() {
        let fence = line.strip_prefix("```");
        if let Some(mut block) = open.take() {
            if fence.is_some() {
                blocks.push(block);
            } else {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
        } else if let Some(language) = fence {
            open = Some(Block {
                language: language.to_owned(),
                text: String::new(),
                reason: reason.take(),
            });
        } else {
            let comment = line.strip_prefix("<!-- not executed: ");
            let comment = comment.and_then(|comment| comment.strip_suffix(" -->"));
            reason = comment.map(str::to_owned);
        }
    }
    blocks
}

/// Returns the lines of a page that are in no block.
fn lines(page: &str) -> Vec<&str> {
    let mut is_in_block = false;
    let is_outside = |line: &&str| {
        let is_fence = line.starts_with("```");
        is_in_block ^= is_fence;
        !is_in_block && !is_fence
    };
    page.lines().filter(is_outside).collect()
}

/// Returns a page's own words, and what it has between backquotes.
fn words_and_code(page: &str) -> (String, Vec<String>) {
    let prose = lines(page).join("\n");
    let (mut words, mut code) = (String::new(), Vec::new());
    let mut is_code = false;
    for part in prose.split('`') {
        if is_code {
            code.push(part.to_owned());
        } else {
            words.push_str(part);
        }
        is_code = !is_code;
    }
    assert!(is_code, "a backquote without another");
    (words, code)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the files below a folder whose names end like this.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, end));
        } else if path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Returns every page of the documentation, with its path.
fn pages() -> Vec<(PathBuf, String)> {
    let mut paths = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    paths.extend(files(&root().join("docs"), ".md"));
    let read = |path: PathBuf| {
        let page = fs::read_to_string(&path).unwrap();
        (path, page)
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn the_sql_of_the_readme_runs_and_its_quickstart_denies_the_eleventh_user() {
    let cluster = Cluster::start();
    let mut quickstarts = 0;
    for Block { language, text, .. } in blocks(README) {
        if language == "sql" {
            cluster.sql(&text);
        } else if text.contains("psql -U user$n") {
            quickstarts += 1;
            let shell = Command::new("bash")
                .args(["-c", &text])
                .env("PGHOST", cluster.socket_dir())
                .env("PGPORT", cluster.port().to_string())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&shell.stderr);
            let denied = "FATAL:  maximum user license count reached for \"Total Office Manager\"";
            assert_eq!(said.matches(denied).count(), 1, "{said}");
            assert_eq!(said.matches("FATAL").count(), 1, "{said}");
        }
    }
    assert_eq!(quickstarts, 1);
}

/// Each page's in a database of its own.
#[tokio::test(flavor = "multi_thread")]
async fn the_sql_of_every_other_page_runs() {
    let cluster = Cluster::start();
    cluster.sql("CREATE ROLE anna LOGIN");
    let mut done = 0;
    for (number, (path, page)) in pages().into_iter().enumerate() {
        let is_executed = |block: &Block| block.language == "sql" && block.reason.is_none();
        let mut executed = blocks(&page).into_iter().filter(is_executed).peekable();
        if path.ends_with("README.md") || executed.peek().is_none() {
            continue;
        }
        let page = format!("page{number}");
        cluster.sql(&format!("CREATE DATABASE {page}"));
        cluster.sql_in(&page, LICENSED);
        for Block { text, .. } in executed {
            if text.contains("SELECT seats.license_raise_seats(") {
                done += 1;
                let reduced = "UPDATE seats.licenses SET seats = 9 WHERE seats = 10";
                cluster.sql_in(&page, reduced);
                cluster.sql_in(&page, &text);
                let seats = "SELECT seats FROM seats.licenses WHERE purchased = 10";
                assert_eq!(cluster.sql_in(&page, seats), "10");
            } else if text.contains("SELECT seats.license_terminate(") {
                done += 1;
                let anna = cluster.login("anna").db(&page).from("127.0.1.1");
                let anna = anna.open_ok().await;
                // One ended, and one is let in again.
                assert_eq!(cluster.sql_in(&page, &text), "1\nt");
                anna.ended().await.assert("57P01", "license_stopped");
            } else {
                cluster.sql_in(&page, &text);
            }
        }
        cluster.sql("ALTER SYSTEM RESET ALL");
        cluster.reload();
    }
    assert_eq!(done, 2);
}

#[test]
fn every_block_says_its_language_and_sql_that_is_not_executed_says_why() {
    for (path, page) in pages() {
        for Block {
            language,
            text,
            reason,
        } in blocks(&page)
        {
            let place = format!("{}: {text}", path.display());
            assert!(LANGUAGES.contains(&&*language), "{language:?} in {place}");
            let says_why = reason.is_none_or(|reason| language == "sql" && !reason.is_empty());
            assert!(says_why, "{place}");
            let is_statement = |line: &str| line.ends_with(';');
            let hides_sql = language == "text" && text.lines().any(is_statement);
            assert!(!hides_sql, "SQL in {place}");
        }
    }
}

#[test]
fn the_readme_is_short_and_so_is_the_glossary() {
    assert!(README.lines().count() <= 250);
    let glossary = table(ARCHITECTURE, "Glossary");
    assert!(glossary.len() <= 30, "{}", glossary.len());
}

#[test]
fn the_glossary_of_the_source_is_that_of_the_architecture() {
    let source = include_str!("../src/lib.rs");
    let doc: Vec<&str> = source
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    let doc = doc.join("\n");
    assert_eq!(table(&doc, "Glossary"), table(ARCHITECTURE, "Glossary"));
}

/// Returns the anchors that GitHub makes of a page's headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for heading in lines(page).iter().filter(|line| line.starts_with('#')) {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let is_kept = |letter: &char| letter.is_alphanumeric() || " -_".contains(*letter);
        let kept: String = heading.chars().filter(is_kept).collect();
        let anchor = kept.replace(' ', "-");
        let numbered = |number: usize| match number {
            0 => anchor.clone(),
            _ => format!("{anchor}-{number}"),
        };
        let free = (0..).map(numbered).find(|anchor| !anchors.contains(anchor));
        anchors.extend(free);
    }
    anchors
}

/// Returns where a page's links lead.
fn links(page: &str) -> Vec<String> {
    let (words, _) = words_and_code(page);
    let mut links = Vec::new();
    for rest in words.split("](").skip(1) {
        let (link, _) = rest.split_once(')').unwrap();
        links.push(link.to_owned());
    }
    links
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for (path, page) in pages() {
        for link in links(&page) {
            if link.starts_with("https://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            let leads = match fs::read_to_string(target) {
                Ok(page) => anchor.is_empty() || anchors(&page).contains(anchor),
                Err(_) => false,
            };
            if !leads {
                broken.push(format!("{} in {}", link, path.display()));
            }
        }
    }
    assert_eq!(broken, [""; 0]);
}

#[test]
fn every_file_that_is_named_is_there() {
    let folders = ["src/", "sql/", "tests/", "docs/", "pgrx-config/"];
    let mut missing = Vec::new();
    for (path, page) in pages() {
        let (_, code) = words_and_code(&page);
        for name in code {
            let is_path = folders.iter().any(|folder| name.starts_with(folder));
            if is_path && !root().join(&name).exists() {
                missing.push(format!("{} in {}", name, path.display()));
            }
        }
    }
    assert_eq!(missing, [""; 0]);
}

/// A table of a page: the rows of cells, the names of the columns first.
struct Table {
    heading: String,
    rows: Vec<Vec<String>>,
}

fn tables(page: &str) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let (mut heading, mut is_in_table) = ("", false);
    for line in lines(page) {
        if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim();
        }
        let Some(row) = line.strip_prefix('|') else {
            is_in_table = false;
            continue;
        };
        if !is_in_table {
            tables.push(Table {
                heading: heading.to_owned(),
                rows: Vec::new(),
            });
        }
        is_in_table = true;
        let row = row.strip_suffix('|').unwrap();
        let cells: Vec<String> = row.split('|').map(|cell| cell.trim().to_owned()).collect();
        if cells.iter().any(|cell| cell != "---") {
            tables.last_mut().unwrap().rows.push(cells);
        }
    }
    tables
}

/// Returns the rows of the first table under a heading, without the names of the columns.
fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let found = tables(page)
        .into_iter()
        .find(|table| table.heading == heading);
    let table = found.unwrap_or_else(|| panic!("no table under {heading}"));
    table.rows.into_iter().skip(1).collect()
}

/// Returns what a cell has between backquotes.
fn code(cell: &str) -> &str {
    cell.trim_matches('`')
}

/// Returns the first cells of the rows under a heading.
fn names(page: &str, heading: &str) -> BTreeSet<String> {
    let rows = table(page, heading);
    rows.iter().map(|row| code(&row[0]).to_owned()).collect()
}

/// Definitions of columns, as `name type`, under their headings.
fn definitions(page: &str) -> Vec<(String, Vec<String>)> {
    let defines = |table: &Table| table.rows[0][..2] == ["column", "definition"];
    let defining = tables(page).into_iter().filter(defines);
    let columns = |table: Table| {
        let column = |row: &Vec<String>| format!("{} {}", code(&row[0]), code(&row[1]));
        let columns: Vec<String> = table.rows.iter().skip(1).map(column).collect();
        (table.heading, columns)
    };
    defining.map(columns).collect()
}

/// Returns a server that has the extension in database `postgres`.
fn server() -> Cluster {
    Cluster::builder().staffed().start()
}

/// PostgreSQL itself reads the definitions: as temporary tables they must be what the extension's are.
#[test]
fn the_reference_has_every_column_of_every_table_and_view() {
    let mut statements = String::new();
    for (table, columns) in [definitions(TABLES), definitions(VIEWS)].concat() {
        statements += &format!("CREATE TEMP TABLE {table} ({});\n", columns.join(", "));
    }
    let differing = server().sql(&format!(
        "{statements}
         WITH relations AS (
            SELECT 'there' AS side, c.oid, c.relname FROM pg_class c
             WHERE c.relkind IN ('r', 'v')
               AND c.oid IN (SELECT d.objid FROM {MEMBERS} AND d.classid = 'pg_class'::regclass)
            UNION ALL
            SELECT 'documented', oid, relname FROM pg_class
             WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r'
         ), columns AS (
            SELECT r.side, r.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod) AS type,
                   a.attnotnull, pg_get_expr(f.adbin, f.adrelid) AS value
              FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid
                   LEFT JOIN pg_attrdef f ON (f.adrelid, f.adnum) = (a.attrelid, a.attnum)
             WHERE a.attnum > 0 AND NOT a.attisdropped
         )
         SELECT min(side), relname, attnum, attname, type, attnotnull, value FROM columns
          GROUP BY relname, attnum, attname, type, attnotnull, value HAVING count(*) <> 2
          ORDER BY relname, attnum, 1"
    ));
    assert_eq!(differing, "");
}

/// Returns the signatures that a page has as blocks.
fn signatures() -> Vec<String> {
    let blocks = blocks(FUNCTIONS).into_iter();
    let texts = blocks.filter(|block| block.language == "text");
    texts.map(|block| block.text).collect()
}

/// PostgreSQL itself reads the signatures: temporary functions with them must be what the extension's are.
#[test]
fn the_reference_has_every_function_with_its_arguments() {
    let mut statements = String::new();
    for signature in signatures() {
        statements +=
            &format!("CREATE FUNCTION pg_temp.{signature} LANGUAGE plpgsql AS $$BEGIN END$$;\n");
    }
    let differing = server().sql(&format!(
        "SET check_function_bodies = off;
         {statements}
         WITH functions AS (
            SELECT 'there' AS side, p.oid FROM pg_proc p
             WHERE p.oid IN (SELECT d.objid FROM {MEMBERS} AND d.classid = 'pg_proc'::regclass)
            UNION ALL
            SELECT 'documented', oid FROM pg_proc WHERE pronamespace = pg_my_temp_schema()
         ), signatures AS (
            SELECT f.side, p.proname,
                   regexp_replace(pg_get_function_arguments(p.oid), '(^|, )OUT .*$', '') AS arguments,
                   CASE WHEN p.proretset THEN 'SETOF ' ELSE '' END || format_type(p.prorettype, NULL) AS result
              FROM functions f JOIN pg_proc p ON p.oid = f.oid
         )
         SELECT min(side), proname, arguments, result FROM signatures
          GROUP BY proname, arguments, result HAVING count(*) <> 2 ORDER BY proname, 1"
    ));
    assert_eq!(differing, "");
    // Each function but those under the views has a section of its own, and a row that leads there.
    let headings = anchors(FUNCTIONS);
    let listed: BTreeSet<_> = links(FUNCTIONS).into_iter().collect();
    for signature in signatures() {
        let (name, _) = signature.split_once('(').unwrap();
        if !names(VIEWS, "Views").contains(&format!("[`{name}`](#{name})")) {
            assert!(headings.contains(name), "{name}");
            assert!(listed.contains(&format!("#{name}")), "{name}");
        }
    }
}

#[test]
fn the_reference_has_the_row_of_a_checkout() {
    let documented = definitions(FUNCTIONS);
    let [(_, columns)] = documented.as_slice() else {
        panic!("{documented:?}")
    };
    let columns = columns.join(", ");
    let rows = server().sql(&format!(
        "CREATE TEMP TABLE documented ({columns});
         SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)
           FROM pg_attribute
          WHERE attrelid = 'documented'::regclass AND attnum > 0;
         SELECT DISTINCT (
                SELECT string_agg(a.name || ' ' || format_type(a.type, NULL), ', ' ORDER BY a.number)
                  FROM unnest(p.proargnames, p.proallargtypes, p.proargmodes) WITH ORDINALITY
                       AS a (name, type, mode, number)
                 WHERE a.mode = 'o')
           FROM pg_proc p
          WHERE p.proname IN ('license_checkout', 'license_try_checkout', 'license_lease')
            AND p.oid IN (SELECT d.objid FROM {MEMBERS} AND d.classid = 'pg_proc'::regclass)"
    ));
    let (documented, there) = rows.split_once('\n').unwrap();
    assert_eq!(documented, there);
}

#[test]
fn the_reference_has_every_setting_with_its_default() {
    let there = server().sql(
        "SELECT name, current_setting(name), coalesce(unit, ''),
                CASE vartype WHEN 'integer' THEN min_val || '–' || max_val
                             WHEN 'enum' THEN array_to_string(enumvals, ', ') ELSE '' END,
                context, setting = boot_val
           FROM pg_settings WHERE starts_with(name, 'pg_seats.') ORDER BY name",
    );
    let documented = table(SETTINGS, "Settings").into_iter().map(|row| {
        let [name, value, unit, range, context, _]: [String; 6] = row.try_into().unwrap();
        let value = if value == "empty" { "" } else { code(&value) };
        let (range, context) = (range.replace('`', ""), code(&context));
        format!("{}|{value}|{unit}|{range}|{context}|t", code(&name))
    });
    let documented: BTreeSet<String> = documented.collect();
    let there: BTreeSet<String> = there.lines().map(str::to_owned).collect();
    assert_eq!(documented, there);
}

/// Returns the whole source, without the tests of the ledger.
fn source() -> String {
    let is_tests = |path: &Path| {
        let path = path.strip_prefix(root()).unwrap().to_string_lossy();
        path.contains("model") || path.contains("tests")
    };
    let files = files(&root().join("src"), ".rs").into_iter();
    let files = files.filter(|path| !is_tests(path.as_path()));
    files
        .map(|path| fs::read_to_string(path).unwrap())
        .collect()
}

/// Returns the words that a function, or all functions of an implementation, have for things.
fn words_of(source: &str, item: &str) -> BTreeSet<String> {
    let (_, rest) = source
        .split_once(item)
        .unwrap_or_else(|| panic!("{item} is gone"));
    let (body, _) = rest.split_once("\n}\n").unwrap();
    let literals = body.split("=> \"").skip(1);
    let words = literals.map(|rest| rest.split_once('"').unwrap().0.to_owned());
    words.collect()
}

#[test]
fn the_reference_has_every_event_and_every_cause_of_a_release() {
    let comment = server().sql(
        "SELECT col_description(attrelid, attnum) FROM pg_attribute
          WHERE attrelid = 'license_events'::regclass AND attname = 'event'",
    );
    let told = comment.strip_prefix("One of: ").unwrap().split(", ");
    let told: BTreeSet<String> = told.map(str::to_owned).collect();
    let documented = names(EVENTS, "Events");
    assert_eq!(documented, told);
    let source = source();
    let mut words = words_of(&source, "fn word(event: &Event) -> &'static str {");
    words.extend(words_of(&source, "\nimpl Kind {"));
    let unknown: Vec<_> = words.difference(&documented).collect();
    assert_eq!(unknown, [""; 0], "not documented");
    let has = |text: String| source.contains(&text);
    for event in &documented {
        // A change is named by what was changed, and how.
        let is_change = event.rsplit_once(' ').is_some_and(|(what, how)| {
            has(format!("\"{what}\"")) && has(format!("{{word}} {how}\""))
        });
        let is_told = is_change || has(format!("\"{event}\"")) || has(format!("'{event}'"));
        assert!(is_told, "nobody tells of {event}");
    }
    let causes = names(EVENTS, "Causes of a release");
    assert_eq!(causes, words_of(&source, "\nimpl Leaving {"));
}

/// SQLSTATEs by the names that the source has for them.
const SQLSTATES: [(&str, &str); 21] = [
    ("CANNOT_CONNECT_NOW", "57P03"),
    ("CONFIGURATION_LIMIT_EXCEEDED", "53400"),
    ("DATA_CORRUPTED", "XX001"),
    ("EXTERNAL_ROUTINE_EXCEPTION", "38000"),
    ("E_R_I_E_TRIGGER_PROTOCOL_VIOLATED", "39P01"),
    ("FEATURE_NOT_SUPPORTED", "0A000"),
    ("INSUFFICIENT_PRIVILEGE", "42501"),
    ("INTERNAL_ERROR", "XX000"),
    ("INVALID_AUTHORIZATION_SPECIFICATION", "28000"),
    ("INVALID_PARAMETER_VALUE", "22023"),
    ("INVALID_TRANSACTION_STATE", "25000"),
    ("IO_ERROR", "58030"),
    ("OBJECT_IN_USE", "55006"),
    ("OBJECT_NOT_IN_PREREQUISITE_STATE", "55000"),
    ("PROGRAM_LIMIT_EXCEEDED", "54000"),
    ("READ_ONLY_SQL_TRANSACTION", "25006"),
    ("TOO_MANY_CONNECTIONS", "53300"),
    ("UNDEFINED_FUNCTION", "42883"),
    ("UNDEFINED_OBJECT", "42704"),
    ("UNDEFINED_TABLE", "42P01"),
    ("WARNING", "01000"),
];

/// What PostgreSQL raises, and the source merely asks for; and what lines of the server log have.
const OF_OTHERS: [&str; 6] = [
    "CHECK_VIOLATION",
    "DATA_EXCEPTION",
    "LOCK_NOT_AVAILABLE",
    "QUERY_CANCELED",
    "SUCCESSFUL_COMPLETION",
    "UNIQUE_VIOLATION",
];

/// Returns what comes after each of these beginnings, as far as it is of such letters.
fn after<'a>(source: &'a str, begin: &str, is_part: fn(char) -> bool) -> BTreeSet<&'a str> {
    let rests = source.split(begin).skip(1);
    let parts = rests.map(|rest| rest.split(|letter: char| !is_part(letter)).next().unwrap());
    parts.collect()
}

#[test]
fn the_reference_has_every_sqlstate_and_every_reason() {
    let source = source();
    let is_name = |letter: char| letter.is_ascii_uppercase() || letter == '_';
    let states = BTreeMap::from(SQLSTATES);
    let mut raised = BTreeSet::new();
    for name in after(&source, "ERRCODE_", is_name) {
        if !OF_OTHERS.contains(&name) {
            let state = states.get(name);
            raised.insert(*state.unwrap_or_else(|| panic!("the SQLSTATE of {name}?")));
        }
    }
    // Sessions that are ended are told by PostgreSQL's own reports.
    let is_state = |letter: char| letter.is_ascii_alphanumeric();
    raised.extend(after(&source, " => *b\"", is_state));
    let documented = names(ERRORS, "SQLSTATEs");
    let documented: BTreeSet<&str> = documented.iter().map(String::as_str).collect();
    assert_eq!(documented, raised);

    let is_word = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    let reasons: Vec<_> = tables(ERRORS)
        .into_iter()
        .filter(|table| table.heading == "Reasons")
        .flat_map(|table| table.rows.into_iter().skip(1))
        .map(|row| code(&row[0]).to_owned())
        .collect();
    for reason in after(&source, ".reason(c\"", is_word) {
        assert!(reasons.iter().any(|known| known == reason), "{reason}");
    }
    for reason in &reasons {
        assert!(source.contains(&format!("c\"{reason}\"")), "{reason}");
    }

    // What functions are said to raise is among it.
    for table in tables(FUNCTIONS)
        .iter()
        .filter(|table| table.rows[0][0] == "SQLSTATE")
    {
        for row in table.rows.iter().skip(1) {
            let states = row[0].split('`').next().unwrap().split(',').map(str::trim);
            for state in states {
                assert!(documented.contains(state), "{state} of {}", table.heading);
            }
        }
    }
}

/// Returns the texts of the source, each as the parts between what is put in.
fn texts() -> Vec<Vec<String>> {
    let mut texts = Vec::new();
    for text in literals(&source()) {
        let parts = text
            .split('{')
            .enumerate()
            .map(|(number, part)| match number {
                0 => part,
                _ => part.split_once('}').map_or(part, |(_, part)| part),
            });
        texts.push(parts.map(|part| part.trim().to_owned()).collect());
    }
    for path in files(&root().join("sql"), ".sql") {
        let script = fs::read_to_string(path).unwrap();
        let code = script
            .lines()
            .map(|line| line.split("--").next().unwrap_or_default());
        let code = code.collect::<Vec<_>>().join("\n").replace("''", "’");
        for text in code.split('\'').skip(1).step_by(2) {
            let text = text.replace('’', "'").replace("%I", "%");
            let parts = text.split('%').map(|part| part.trim().to_owned());
            texts.push(parts.collect());
        }
    }
    // What is put in must not be all of it.
    texts.retain(|parts: &Vec<String>| parts.iter().map(String::len).sum::<usize>() >= 8);
    texts
}

/// Returns the texts between quotes of a Rust source.
fn literals(source: &str) -> Vec<String> {
    let (mut literals, mut rest) = (Vec::new(), source);
    while let Some(letter) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if let Some(after) = rest
            .strip_prefix("'\"'")
            .or_else(|| rest.strip_prefix("'\\\"'"))
        {
            rest = after;
        } else if let Some(text) = rest.strip_prefix("r#\"") {
            let (text, after) = text.split_once("\"#").unwrap();
            literals.push(text.to_owned());
            rest = after;
        } else if let Some(text) = rest.strip_prefix('"') {
            let (text, after) = literal(text);
            literals.push(text);
            rest = after;
        } else {
            rest = &rest[letter.len_utf8()..];
        }
    }
    literals
}

/// Returns a text up to the quote at its end, and what comes after that.
fn literal(source: &str) -> (String, &str) {
    let (mut text, mut rest) = (String::new(), source.chars());
    while let Some(letter) = rest.next() {
        match letter {
            '"' => break,
            '\\' => match rest.next() {
                Some('\n') => {
                    let line = rest.as_str();
                    rest = line.trim_start_matches([' ', '\n']).chars();
                }
                escaped => text.extend(escaped),
            },
            letter => text.push(letter),
        }
    }
    (text, rest.as_str())
}

/// Tells whether a text is made of these parts, in their order, with anything in between. A full stop at its end makes
/// no difference.
fn is_made_of(text: &str, parts: &[String]) -> bool {
    let (text, last) = (text.trim_end_matches('.'), parts.len() - 1);
    let part = |number: usize| {
        let part = parts[number].as_str();
        if number == last {
            part.trim_end_matches('.')
        } else {
            part
        }
    };
    let mut rest = text;
    let follows = |number: usize| {
        let found = rest.split_once(part(number));
        rest = found.map_or("", |(_, rest)| rest);
        found.is_some()
    };
    text.starts_with(part(0)) && text.ends_with(part(last)) && (0..=last).all(follows)
}

/// Whatever the page of errors has between backquotes, and is more than a word in small letters, somebody is told.
#[test]
fn the_reference_has_the_words_of_every_error() {
    let texts = texts();
    let (_, code) = words_and_code(ERRORS);
    let is_message =
        |text: &&String| text.contains(' ') && text.contains(|letter: char| letter.is_lowercase());
    let is_unknown = |text: &&String| !texts.iter().any(|parts| is_made_of(text, parts));
    let unknown: Vec<_> = code.iter().filter(is_message).filter(is_unknown).collect();
    assert_eq!(unknown, [""; 0]);
}

#[test]
fn a_seat_takes_at_most_512_bytes_of_shared_memory() {
    // What events and rules take does not depend on it.
    let allocated = |seats: u32| -> i64 {
        let cluster = Cluster::builder()
            .conf("max_connections", 100)
            .conf("pg_seats.max_seats", seats)
            .start();
        let sum =
            "SELECT sum(allocated_size) FROM pg_shmem_allocations WHERE name LIKE 'pg_seats%'";
        cluster.sql(sum).parse().unwrap()
    };
    let per_seat = (allocated(110_000) - allocated(10_000)) / 100_000;
    assert!(per_seat <= 512, "{per_seat} bytes a seat");
}
