//! What admission saw of user, database, host, workstation and application name, as the views show
//! it: the same on every version of PostgreSQL.

use crate::util::*;

const FACTS: &str = "SELECT datname, usename, client_host, workstation, application_name
                     FROM license_active_seats WHERE pg_backend_pid() = ANY (pids)";

/// Returns a server with the extension and a license in this database too.
fn with_database(name: &str, options: &str) -> Cluster {
    let cluster = Cluster::with_seats(10);
    cluster.sql(&format!("CREATE DATABASE {} {options}", quoted(name)));
    cluster.license(name, "seats", "10");
    cluster
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_facts_are_those_that_the_client_gave() {
    let cluster = Cluster::with_seats(10);
    let login = cluster.login("anna").app("Total Office Manager");
    let login = login.workstation(r"PC 7\North");
    let at = |host: &str| format!(r"postgres|anna|{host}|PC 7\North|Total Office Manager");
    for (login, host) in [
        (login.clone().from("127.0.1.5"), "127.0.1.5"),
        (login.clone().from("127.0.0.1"), "local"),
        (login.clone().unix(), "local"),
    ] {
        let session = login.open_ok().await;
        assert_eq!(session.text(FACTS).await, at(host));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_client_did_not_give_is_null() {
    let cluster = Cluster::with_seats(10);
    let session = cluster.login("anna").open_ok().await;
    let nulls = "SELECT workstation IS NULL, application_name IS NULL, client_user IS NULL
                 FROM license_active_seats";
    assert_eq!(session.text(nulls).await, "t|t|t");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_with_quotes_spaces_and_letters_of_all_kinds() {
    let name = r#"Müller's "Büro" 日本"#;
    let cluster = with_database(name, "");
    cluster.sql(&format!("CREATE ROLE {} LOGIN", quoted(name)));
    let login = cluster.login(name).db(name).from("127.0.1.5");
    let session = login.workstation(name).app(name).open_ok().await;
    assert_eq!(
        session.text(FACTS).await,
        format!("{name}|{name}|127.0.1.5|{name}|{name}")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_63_bytes() {
    let name = format!("{}x", "é".repeat(31));
    assert_eq!(name.len(), 63);
    let cluster = with_database(&name, "");
    cluster.sql(&format!("CREATE ROLE {} LOGIN", quoted(&name)));
    let login = cluster.login(&name).db(&name).from("127.0.1.5");
    let session = login.workstation(&name).app(&name).open_ok().await;
    assert_eq!(
        session.text(FACTS).await,
        format!("{name}|{name}|127.0.1.5|{name}|{name}")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_role_keeps_its_seat() {
    let cluster = Cluster::with_seats(1);
    let first = cluster.login("anna").from("127.0.1.5").open_ok().await;
    cluster.sql("ALTER ROLE anna RENAME TO annabel");
    let _second = cluster.login("annabel").from("127.0.1.5").open_ok().await;
    assert_eq!(cluster.in_use(), 1);
    first.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_name_beyond_63_bytes_is_cut_between_letters() {
    let cluster = Cluster::with_seats(10);
    // The 32nd letter begins at the 63rd byte.
    let session = cluster.login("anna").app(&"é".repeat(40)).open_ok().await;
    let shown = "SELECT application_name FROM license_active_seats";
    assert_eq!(session.text(shown).await, "é".repeat(31));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_name_beyond_63_bytes_matches_as_far_as_it_is_shown() {
    let cluster = Cluster::with_seats(10);
    cluster.sql(&format!(
        "INSERT INTO licenses (product, seats, application_name) VALUES ('Long', 10, '{}')",
        "x".repeat(63)
    ));
    let session = cluster.login("anna").app(&"x".repeat(80)).open_ok().await;
    let product = "SELECT product FROM license_active_seats";
    assert_eq!(session.text(product).await, "Long");
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_is_known_by_its_fallback_or_by_pgappname() {
    let cluster = Cluster::with_seats(10);
    let anna = cluster.login("anna").from("127.0.0.1");
    let ask = format!("{FACTS};");
    let mut psql = anna.process();
    assert_eq!(psql.ask(&ask), "postgres|anna|local||psql");
    drop(psql);
    eventually("psql is out", PATIENCE, async || cluster.in_use() == 0).await;
    let mut psql = anna.app("Büro 7").process();
    assert_eq!(psql.ask(&ask), "postgres|anna|local||Büro 7");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_name_among_the_options_is_the_startup_packets_too() {
    let cluster = Cluster::with_seats(10);
    let login = cluster.login("anna").options("-c application_name=books");
    let session = login.open_ok().await;
    assert_eq!(session.text("SHOW application_name").await, "books");
    assert_eq!(session.text(FACTS).await, "postgres|anna|local||books");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_role_or_database_sets_is_not_the_startup_packets_name() {
    let cluster = Cluster::with_seats(10);
    cluster.sql("ALTER ROLE anna SET application_name = 'books'");
    let session = cluster.login("anna").app("office").open_ok().await;
    assert_eq!(session.text(FACTS).await, "postgres|anna|local||office");
}
