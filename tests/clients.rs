//! What programs read of a refusal, through the client libraries that they are written with.

use serde_json::{Value, json};

use crate::docs::{APPLICATIONS, VENDORS, blocks};
use crate::util::*;

const FULL: &str = r#"maximum user license count reached for "TOM""#;
const LOGIN_DETAIL: &str = r#"1 of 1 seats are in use. Idle longest: "anna"."#;
const LOGIN_HINT: &str = "Someone must log out before another user can log in, \
                          or an administrator must raise the number of seats.";
const CHECKOUT: &str = "SELECT * FROM license_checkout('TOM')";

/// Returns a server whose only seat anna's login has, from a computer of her own.
async fn full_at_login() -> (Cluster, Session) {
    let cluster = Cluster::with_seats(1);
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    (cluster, anna)
}

/// Returns a server where everybody may log in, and anna's program has taken the only seat.
async fn full_at_checkout() -> (Cluster, Session) {
    let cluster = Cluster::builder().licensed("seats, claimed_at", "1, 'checkout'");
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    anna.run(CHECKOUT).await;
    (cluster, anna)
}

/// Returns all fields of a login's refusal.
fn login_fields() -> Value {
    json!({
        "constraint": "license_full",
        "sqlstate": "53300",
        "message": FULL,
        "detail": LOGIN_DETAIL,
        "hint": LOGIN_HINT,
    })
}

/// Returns the text that libpq makes of a login's refusal, after what it says of the server.
fn login_text() -> String {
    format!("FATAL:  {FULL}\nDETAIL:  {LOGIN_DETAIL}\nHINT:  {LOGIN_HINT}")
}

/// Returns bert's refused checkout, with the fields as the server sends them.
async fn denied_checkout(cluster: &Cluster) -> Denied {
    let bert = cluster.login("bert").from("127.0.1.2").open_ok().await;
    let denied = bert.fails(CHECKOUT).await;
    assert_eq!(denied.assert("53400", "license_full").message, FULL);
    assert!(
        denied.detail.starts_with("1 of 1 seats are in use."),
        "{denied:?}"
    );
    assert!(!denied.hint.is_empty(), "{denied:?}");
    bert.close().await;
    denied
}

/// Asserts that this library reads the checkout that bert is refused, field by field.
#[track_caller]
fn assert_reads_checkout(denied: &Denied, library: Library, login: &Login) {
    let fields = json!({
        "constraint": "license_full",
        "sqlstate": "53400",
        "message": FULL,
        "detail": denied.detail,
        "hint": denied.hint,
    });
    assert_eq!(login.fails_with(library, CHECKOUT), fields);
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_shows_a_denied_login_as_text() {
    let (cluster, _anna) = full_at_login().await;
    let ran = cluster.psql(&["-h", "127.0.0.1", "-U", "bert", "-c", "SELECT 1"], &[]);
    let port = cluster.port();
    let text = login_text();
    let shown =
        format!("psql: error: connection to server at \"127.0.0.1\", port {port} failed: {text}\n");
    assert_eq!((ran.status, ran.stderr), (Some(2), shown));
}

#[tokio::test(flavor = "multi_thread")]
async fn psycopg_gives_the_text_of_a_denied_login_and_no_fields() {
    let (cluster, anna) = full_at_login().await;
    for login in [
        cluster.login("bert"),
        cluster.login("bert").from("127.0.0.1"),
    ] {
        let failure = login.fails_with(Library::Psycopg, "SELECT 1");
        // What stands before the server's words depends on the version of libpq.
        let text = failure["message"].as_str().unwrap();
        assert!(text.starts_with("connection failed: "), "{text}");
        assert!(text.ends_with(&login_text()), "{text}");
        assert_eq!(
            failure,
            json!({
                "constraint": null,
                "sqlstate": null,
                "message": text,
                "detail": null,
                "hint": null,
            })
        );
    }
    anna.close().await;
    eventually("bert gets in", PATIENCE, async || cluster.in_use() == 0).await;
    cluster
        .login("bert")
        .succeeds_with(Library::Psycopg, "SELECT 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn node_postgres_gives_every_field_of_a_denied_login() {
    let (cluster, anna) = full_at_login().await;
    for login in [
        cluster.login("bert"),
        cluster.login("bert").from("127.0.0.1"),
    ] {
        let failure = login.fails_with(Library::NodePostgres, "SELECT 1");
        assert_eq!(failure, login_fields());
    }
    anna.close().await;
    eventually("bert gets in", PATIENCE, async || cluster.in_use() == 0).await;
    cluster
        .login("bert")
        .succeeds_with(Library::NodePostgres, "SELECT 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn jdbc_gives_every_field_of_a_denied_login() {
    let (cluster, _anna) = full_at_login().await;
    let another_computer = cluster.login("anna").from("127.0.1.2");
    let failure = another_computer.fails_with(Library::Jdbc, "SELECT 1");
    assert_eq!(failure, login_fields());
    // The same computer shares the seat.
    cluster
        .login("anna")
        .from("127.0.1.1")
        .succeeds_with(Library::Jdbc, "SELECT 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_shows_a_denied_checkout_and_verbosely_its_sqlstate_and_reason() {
    let (cluster, _anna) = full_at_checkout().await;
    let denied = denied_checkout(&cluster).await;
    let told = format!("DETAIL:  {}\nHINT:  {}\n", denied.detail, denied.hint);
    let bert = ["-U", "bert", "-c", CHECKOUT];
    let ran = cluster.psql(&bert, &[]);
    assert_eq!(ran.failed(), format!("ERROR:  {FULL}\n{told}"));
    let verbose = [&["-v", "VERBOSITY=verbose"], &bert[..]].concat();
    let shown = cluster.psql(&verbose, &[]).failed();
    assert!(
        shown.starts_with(&format!("ERROR:  53400: {FULL}\n{told}")),
        "{shown}"
    );
    assert!(
        shown.contains("\nCONSTRAINT NAME:  license_full\n"),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn psycopg_gives_every_field_of_a_denied_checkout() {
    let (cluster, _anna) = full_at_checkout().await;
    let denied = denied_checkout(&cluster).await;
    assert_reads_checkout(&denied, Library::Psycopg, &cluster.login("bert"));
}

#[tokio::test(flavor = "multi_thread")]
async fn node_postgres_gives_every_field_of_a_denied_checkout() {
    let (cluster, _anna) = full_at_checkout().await;
    let denied = denied_checkout(&cluster).await;
    assert_reads_checkout(&denied, Library::NodePostgres, &cluster.login("bert"));
}

#[tokio::test(flavor = "multi_thread")]
async fn jdbc_gives_every_field_of_a_denied_checkout() {
    let (cluster, _anna) = full_at_checkout().await;
    let denied = denied_checkout(&cluster).await;
    let bert = cluster.login("bert").from("127.0.1.3");
    assert_reads_checkout(&denied, Library::Jdbc, &bert);
    // Who holds a seat checks it out once more.
    let anna = cluster.login("anna").from("127.0.1.1");
    anna.succeeds_with(Library::Jdbc, CHECKOUT);
}

#[test]
fn the_libraries_keep_the_fields_of_any_error_also_through_pgbouncer() {
    let cluster = Cluster::builder().preload(false).start();
    let raise = "DO $$ BEGIN RAISE 'a \"message\"' USING ERRCODE = '53400', DETAIL = 'a detail', \
                 HINT = 'a hint', CONSTRAINT = 'license_full'; END $$";
    let login = cluster.login("postgres").from("127.0.0.1");
    let pooler = cluster.pooler("postgres", 1);
    for library in [Library::Psycopg, Library::NodePostgres, Library::Jdbc] {
        let direct = login.fails_with(library, raise);
        assert_eq!(
            direct,
            json!({
                "constraint": "license_full",
                "sqlstate": "53400",
                "message": "a \"message\"",
                "detail": "a detail",
                "hint": "a hint",
            }),
            "{library:?}"
        );
        let pooled = pooler.login().fails_with(library, raise);
        assert_eq!(pooled, direct, "{library:?}");
        let bare = json!({
            "constraint": null,
            "sqlstate": "22012",
            "message": "division by zero",
            "detail": null,
            "hint": null,
        });
        assert_eq!(login.fails_with(library, "SELECT 1/0"), bare, "{library:?}");
    }
}

/// The recipes of the documentation are taken from the programs that run here.
#[test]
fn the_recipes_of_the_documentation_are_those_that_are_tested() {
    let trimmed = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let programs = [
        ("python", include_str!("clients/psycopg3.py")),
        ("python", include_str!("clients/verify_pyjwt.py")),
        ("js", include_str!("clients/node_postgres.js")),
        ("java", include_str!("clients/Jdbc.java")),
    ];
    let mut recipes = Vec::new();
    for block in [blocks(APPLICATIONS), blocks(VENDORS)]
        .into_iter()
        .flatten()
    {
        let (language, text) = (block.language, block.text);
        let of = |(of, program): &(&str, &str)| {
            *of == language && trimmed(program).contains(trimmed(&text).trim_end())
        };
        if programs.iter().any(|(of, _)| *of == language) {
            recipes.push(programs.iter().position(of).expect(&text));
        }
    }
    recipes.sort_unstable();
    assert_eq!(recipes, [0, 1, 2, 3]);
}
