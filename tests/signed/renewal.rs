//! Renewal of signed licenses: by hand and by itself, with curl, from a vendor's server of the test's own, in
//! whatever way that or the command fails.

use std::fs;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::util::*;

/// What the vendor's server does with who asks.
#[derive(Clone)]
enum Answer {
    /// Status and body.
    Http(u16, String),
    /// The connection is cut after so many bytes of the body.
    Cut(String, usize),
    /// It never says a word.
    Silence,
}

/// A vendor's server that speaks HTTP.
struct Office {
    port: u16,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Office {
    async fn open(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = Arc::new(Mutex::new(answer));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let office = Self {
            port,
            answer: Arc::clone(&answer),
            asked: Arc::clone(&asked),
        };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (answer, asked) = (Arc::clone(&answer), Arc::clone(&asked));
                tokio::spawn(async move { serve(client, &answer, &asked).await });
            }
        });
        office
    }

    fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn gives(&self, token: &str) {
        self.answers(Answer::Http(200, token.to_owned()));
    }

    /// Returns what was asked for so far.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Returns the command that asks it.
    fn curl(&self) -> String {
        format!("curl -fsS -m 100 http://127.0.0.1:{}/%i", self.port)
    }

    /// Returns the same as a part of a command that notes its process first, and becomes curl.
    fn noted_curl(&self) -> String {
        format!("echo $$ >command.pid; exec {}", self.curl())
    }
}

async fn serve(mut client: TcpStream, answer: &Mutex<Answer>, asked: &Mutex<Vec<String>>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match client.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split(' ').nth(1).unwrap().to_owned();
    // The answer is that of the moment in which it is known that somebody has asked.
    let answer = {
        let answer = answer.lock().unwrap().clone();
        asked.lock().unwrap().push(path);
        answer
    };
    let (status, body, len) = match answer {
        Answer::Http(status, body) => (status, body.clone(), body.len()),
        Answer::Cut(body, len) => (200, body, len),
        Answer::Silence => {
            // Until the client gives up.
            let _ = client.read_u8().await;
            return;
        }
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = client.write_all(head.as_bytes()).await;
    let _ = client.write_all(&body.as_bytes()[..len]).await;
    let _ = client.shutdown().await;
}

/// Returns what a license says that was issued so many seconds ago, and ends in so many days.
fn claims(vendor: &Vendor, age: i64, days: i64, seats: i32) -> Value {
    let mut claims = vendor.claims(seats);
    let now = unix_now();
    claims["iat"] = json!(now - age);
    claims["nbf"] = json!(now - age);
    claims["exp"] = json!(now + days * DAY);
    claims
}

fn token(vendor: &Vendor, age: i64, days: i64, seats: i32) -> String {
    vendor.sign(&claims(vendor, age, days, seats))
}

/// Returns a server that knows the vendor and has a license of five seats for so many days.
fn licensed(builder: Builder, vendor: &Vendor, days: i64) -> Cluster {
    let cluster = builder.with_key_of(vendor);
    cluster.install(&token(vendor, DAY, days, 5));
    cluster
}

fn with_command(command: &str) -> Builder {
    Cluster::builder().conf("pg_seats.renewal_command", command)
}

/// Returns what came of each try, as the trail of a database has it.
fn trail_in(cluster: &Cluster, db: &str) -> Vec<String> {
    let events = cluster.sql_in(
        db,
        "SELECT coalesce(usename, '') || ' ' || (detail ->> 'result') FROM license_events
          WHERE event = 'renewal' ORDER BY at",
    );
    events.lines().map(|line| line.trim().to_owned()).collect()
}

fn trail(cluster: &Cluster) -> Vec<String> {
    trail_in(cluster, "postgres")
}

async fn trail_becomes(cluster: &Cluster, events: &[&str]) {
    eventually(&format!("the trail has {events:?}"), PATIENCE, async || {
        trail(cluster) == events
    })
    .await;
}

/// Returns the token that a database has, and what its table says.
fn installed(cluster: &Cluster, db: &str) -> (String, String) {
    let token = cluster.sql_in(db, "SELECT token FROM license_keys");
    let row = "SELECT purchased, valid_until > now() + interval '350 days' FROM licenses
                WHERE product = 'TOM'";
    let row = cluster.sql_in(db, row);
    (token, row)
}

/// Returns the licenses that the installation remembers.
fn recorded(cluster: &Cluster) -> Vec<Value> {
    let record = cluster.record().unwrap_or_default();
    record["licenses"].as_array().cloned().unwrap_or_default()
}

/// Returns the process that the command has noted.
fn command(cluster: &Cluster) -> Option<i32> {
    let pid = fs::read_to_string(cluster.data_dir().join("command.pid")).ok()?;
    pid.trim().parse().ok()
}

async fn command_runs(cluster: &Cluster, office: &Office) -> i32 {
    eventually("the command asks", PATIENCE, async || {
        !office.asked().is_empty()
    })
    .await;
    command(cluster).unwrap()
}

async fn is_gone(pid: i32) {
    eventually("the command is gone", PATIENCE, async || !is_alive(pid)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_license_is_renewed_by_hand() {
    let vendor = Vendor::aptora();
    let newer = token(&vendor, 60, 400, 9);
    let office = Office::open(Answer::Http(200, format!("{newer}\n"))).await;
    let cluster = licensed(with_command(&office.curl()), &vendor, 300);
    let admin = cluster.login("postgres").open_ok().await;
    assert_eq!(admin.text("SELECT license_renew()").await, "1");
    assert_eq!(office.asked(), ["/TOM-4711"]);
    assert_eq!(
        installed(&cluster, "postgres"),
        (newer.clone(), "9|t".to_owned())
    );
    let status = "SELECT state, days_left, valid_until - next_renewal_at, renewal_failure
                    FROM license_keys_status";
    assert_eq!(admin.text(status).await, "valid|399|14 days|");
    trail_becomes(&cluster, &["postgres renewed"]).await;
    assert_eq!(
        cluster.sql(
            "SELECT e.detail ->> 'license_id', (e.detail ->> 'valid_until')::timestamptz = valid_until,
                    (e.detail ->> 'next_try_at')::timestamptz = next_renewal_at, e.detail ? 'reason'
               FROM license_events e, license_keys_status WHERE event = 'renewal'"
        ),
        "TOM-4711|t|t|f"
    );
    // The vendor has no newer one.
    let refused = admin.fails("SELECT license_renew('TOM-4711')").await;
    refused.assert("28000", "license_not_verified");
    assert_eq!(
        (refused.message.as_str(), refused.detail.as_str()),
        (
            "could not renew license \"TOM-4711\"",
            "It is not newer than the one that is installed."
        )
    );
    trail_becomes(&cluster, &["postgres renewed", "postgres failed"]).await;
}

/// A license is renewed wherever it is known to be installed.
#[tokio::test(flavor = "multi_thread")]
async fn a_license_that_is_installed_in_many_databases_at_once_is_known_in_each() {
    let vendor = Vendor::aptora();
    let cluster = Cluster::builder().with_key_of(&vendor);
    let databases: Vec<String> = (0..6).map(|n| format!("firm_{n}")).collect();
    for db in &databases {
        cluster.sql(&format!("CREATE DATABASE {db}"));
        cluster.sql_in(db, "CREATE EXTENSION pg_seats");
    }
    for round in 0..3 {
        let id = format!("TOM-{round}");
        let mut claims = claims(&vendor, DAY, 400, 5);
        claims["jti"] = json!(id);
        claims["products"][0]["product"] = json!(id);
        claims["products"][0]["claimed_at"] = json!("checkout");
        let install = format!("SELECT license_install('{}')", vendor.sign(&claims));
        thread::scope(|scope| {
            for db in &databases {
                scope.spawn(|| cluster.sql_in(db, &install));
            }
        });
        let is_known_in_each = |license: &Value| {
            let known = license["databases"].as_array().map(Vec::len);
            license["jti"] == id && known == Some(databases.len())
        };
        cluster
            .until_recorded(|record| {
                let licenses = record["licenses"].as_array();
                licenses.is_some_and(|licenses| licenses.iter().any(is_known_in_each))
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_license_is_renewed_by_itself_in_every_database_that_has_it() {
    let vendor = Vendor::aptora();
    let newer = token(&vendor, 60, 400, 9);
    let office = Office::open(Answer::Silence).await;
    let cluster = Cluster::builder().with_key_of(&vendor);
    for db in ["second", "third"] {
        cluster.sql(&format!("CREATE DATABASE {db}"));
        cluster.sql_in(db, "CREATE EXTENSION pg_seats");
    }
    let former = token(&vendor, DAY, 5, 5);
    let install = format!("SELECT license_install('{former}')");
    cluster.sql(&install);
    cluster.sql_in("second", &install);
    // Those that are not due.
    for (jti, product, days) in [("A", "Scan", Some(15)), ("B", "Report", None)] {
        let mut claims = claims(&vendor, DAY, days.unwrap_or(1), 5);
        claims["jti"] = json!(jti);
        claims["products"][0]["product"] = json!(product);
        claims["products"][0]["claimed_at"] = json!("checkout");
        if days.is_none() {
            claims.as_object_mut().unwrap().remove("exp");
        }
        cluster.sql_in(
            "third",
            &format!("SELECT license_install('{}')", vendor.sign(&claims)),
        );
    }
    eventually("all of it is known", PATIENCE, async || {
        let licenses = recorded(&cluster);
        let databases = licenses
            .iter()
            .map(|license| license["databases"].as_array().unwrap());
        licenses.len() == 3 && databases.map(Vec::len).sum::<usize>() == 4
    })
    .await;
    office.gives(&newer);
    cluster.set("pg_seats.renewal_command", office.curl());
    for db in ["postgres", "second"] {
        let what = format!("{db} has the next token");
        eventually(&what, PATIENCE, async || {
            installed(&cluster, db) == (newer.clone(), "9|t".to_owned())
        })
        .await;
        eventually("it is told", PATIENCE, async || {
            trail_in(&cluster, db) == ["renewed"]
        })
        .await;
        // On its way to the tables it was not taken for anything else.
        assert_eq!(
            cluster.sql_in(db, "SELECT * FROM license_events WHERE event = 'tampering'"),
            ""
        );
    }
    assert_eq!(
        cluster.sql_in(
            "third",
            "SELECT license_id, valid_until - next_renewal_at FROM license_keys_status ORDER BY 1"
        ),
        "A|14 days\nB|"
    );
    assert_eq!(trail_in(&cluster, "third"), [""; 0]);
    assert_eq!(office.asked(), ["/TOM-4711"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_license_that_lasts_less_long_is_renewed_in_the_middle_of_its_time() {
    let vendor = Vendor::aptora();
    let office = Office::open(Answer::Http(200, token(&vendor, 60, 8, 9))).await;
    let cluster = licensed(with_command(&office.curl()), &vendor, 5);
    trail_becomes(&cluster, &["renewed"]).await;
    assert_eq!(
        cluster.sql(
            "SELECT next_renewal_at - now() BETWEEN interval '3 days 23 h' AND interval '4 days'
               FROM license_keys_status"
        ),
        "t"
    );
    assert_eq!(office.asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_the_next_token_changes_nothing() {
    let (vendor, rival) = (Vendor::aptora(), Vendor::new("https://aptora.example", 2));
    let office = Office::open(Answer::Silence).await;
    let cluster = licensed(with_command(&office.curl()), &vendor, 300);
    let former = installed(&cluster, "postgres");
    let newer = claims(&vendor, 60, 400, 9);
    let good = vendor.sign(&newer);
    let with = |claim: &str, value: Value| {
        let mut claims = newer.clone();
        claims[claim] = value;
        vendor.sign(&claims)
    };
    let header = json!({"alg": "EdDSA", "kid": "1", "typ": "JWT"});
    let ok = |body: &str| Answer::Http(200, body.to_owned());
    let (command, answer) = ("38000", "28000");
    let cases = [
        (
            Answer::Http(500, good.clone()),
            command,
            "status 22: curl: (22)",
        ),
        (
            Answer::Http(404, good.clone()),
            command,
            "status 22: curl: (22)",
        ),
        (
            Answer::Cut(good.clone(), good.len() / 2),
            command,
            "status 18: curl: (18)",
        ),
        (
            Answer::Cut(good.clone(), 0),
            command,
            "status 18: curl: (18)",
        ),
        (ok(&good[..good.len() / 2]), answer, "no token"),
        (ok(&good[..good.len() - 4]), answer, ""),
        (ok(""), answer, "wrote nothing"),
        (ok("<html>Please log in.</html>"), answer, "no token"),
        (ok(&format!("{good}\n{good}")), answer, "no token"),
        (ok(&"A".repeat(70_000)), command, "more than 65536 bytes"),
        (ok(&token(&vendor, 2 * DAY, 400, 9)), answer, "not newer"),
        (ok(&with("jti", json!("TOM-1"))), answer, "another license"),
        (
            ok(&with("iss", json!("https://rival.example"))),
            answer,
            "rival",
        ),
        (ok(&with("exp", json!(unix_now() - 5))), answer, "has ended"),
        (
            ok(&with("nbf", json!(unix_now() + DAY))),
            answer,
            "not valid yet",
        ),
        (
            ok(&with("cnf", json!({"jkt": "elsewhere"}))),
            answer,
            "for installation",
        ),
        (ok(&rival.sign_with(&header, &newer)), answer, "signature"),
    ];
    let admin = cluster.login("postgres").open_ok().await;
    for (answer, sqlstate, detail) in &cases {
        office.answers(answer.clone());
        let refused = admin.fails("SELECT license_renew()").await;
        let reason = if *sqlstate == "28000" {
            "license_not_verified"
        } else {
            ""
        };
        refused.assert(sqlstate, reason);
        assert!(refused.detail.contains(detail), "{detail}: {refused:?}");
        let shown = "SELECT renewal_failure FROM license_keys_status";
        assert_eq!(admin.text(shown).await, refused.detail);
    }
    for (command, detail) in [
        ("no-such-program %i", "status 127: "),
        ("/etc/passwd", "status 126: "),
        ("exit 3", "status 3."),
        ("kill -9 $$", "by signal 9"),
        ("yes", "more than 65536 bytes"),
        ("cat /dev/zero", "more than 65536 bytes"),
        ("echo %x", "\"%x\", which stands for nothing"),
        ("true", "wrote nothing"),
    ] {
        cluster.set("pg_seats.renewal_command", command);
        let refused = cluster.login("postgres").open_ok().await;
        let refused = refused.fails("SELECT license_renew()").await;
        assert!(refused.detail.contains(detail), "{detail}: {refused:?}");
    }
    assert_eq!(installed(&cluster, "postgres"), former);
    let failed = vec!["postgres failed"; cases.len() + 8];
    trail_becomes(&cluster, &failed).await;
    cluster.set("pg_seats.renewal_command", office.curl());
    office.gives(&good);
    assert_eq!(cluster.sql("SELECT license_renew()"), "1");
    assert_eq!(installed(&cluster, "postgres").0, good);
    // What the command says is not for everybody.
    cluster.set("pg_seats.renewal_command", "false");
    let admin = cluster.login("postgres").open_ok().await;
    admin.fails("SELECT license_renew()").await;
    let anna = cluster.login("anna").open_ok().await;
    let failure = "SELECT renewal_failure IS NULL FROM license_keys_status";
    assert_eq!(
        (admin.text(failure).await, anna.text(failure).await),
        ("f".into(), "t".into())
    );
    // Nor of interest once another token is installed.
    cluster.install(&token(&vendor, 30, 400, 9));
    eventually("it is forgotten", PATIENCE, async || {
        admin.text(failure).await == "t"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_license_is_read_as_shell() {
    let vendor = Vendor::aptora();
    let customer = "& touch trap & (Müller's), 1 + 1";
    let mut former = claims(&vendor, DAY, 300, 5);
    former["sub"] = json!(customer);
    let cluster = with_command("printf '%%s|%%s' %i of=%c >told; echo \"%c\" %%; exit 1")
        .with_key_of(&vendor);
    cluster.install(&vendor.sign(&former));
    let admin = cluster.login("postgres").open_ok().await;
    admin
        .fails("SELECT license_renew()")
        .await
        .assert("38000", "");
    let told = fs::read_to_string(cluster.data_dir().join("told")).unwrap();
    assert_eq!(told, format!("TOM-4711|of={customer}"));
    // What could mean anything to the shell, or to the command itself, is not passed at all.
    for (later, (jti, sub, what)) in (0..).zip([
        (
            "TOM-4711",
            "'; touch trap # \"$(touch trap)\" `touch trap` \\ %i",
            "The customer",
        ),
        ("TOM-4711", "@/etc/passwd", "The customer"),
        ("-oTOM", "Miller", "The license's id"),
        ("../TOM", "Miller", "The license's id"),
        ("[1-9]{a,b}", "Miller", "The license's id"),
    ]) {
        cluster.sql("SELECT license_uninstall(license_id) FROM license_keys_status");
        fs::remove_file(cluster.data_dir().join("told")).unwrap_or_default();
        (former["jti"], former["sub"]) = (json!(jti), json!(sub));
        former["iat"] = json!(unix_now() - 60 + later);
        cluster.install(&vendor.sign(&former));
        let refused = admin.fails("SELECT license_renew()").await;
        refused.assert("38000", "");
        assert!(
            refused.detail.starts_with(&format!("{what} is not passed")),
            "{refused:?}"
        );
        assert!(!cluster.data_dir().join("told").exists());
    }
    assert!(!cluster.data_dir().join("trap").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_each_failure_the_pause_is_longer_and_a_reload_begins_anew() {
    let vendor = Vendor::aptora();
    let cluster = licensed(with_command("exit 9"), &vendor, 5);
    trail_becomes(&cluster, &["failed"]).await;
    let admin = cluster.login("postgres").open_ok().await;
    for _ in 0..2 {
        // The worker that has failed may be about to end.
        eventually("it is tried by hand", PATIENCE, async || {
            let refused = admin.fails("SELECT license_renew()").await;
            refused.sqlstate == "38000"
        })
        .await;
    }
    let (by_itself, by_hand) = ("failed", "postgres failed");
    trail_becomes(&cluster, &[by_itself, by_hand, by_hand]).await;
    // Who tries by hand puts off none that is made by itself.
    let next = "SELECT DISTINCT (detail ->> 'next_try_at')::timestamptz
                              - (SELECT min(at) FROM license_events WHERE event = 'renewal')
                  FROM license_events WHERE event = 'renewal'";
    assert_eq!(cluster.sql(next), "00:01:00");
    assert_eq!(
        cluster.sql(
            "SELECT next_renewal_at = (SELECT max((detail ->> 'next_try_at')::timestamptz)
                                         FROM license_events WHERE event = 'renewal'), renewal_failure
               FROM license_keys_status"
        ),
        "t|The command ended with status 9."
    );
    let line = "could not renew license \"TOM-4711\": The command ended with status 9; the next try is at 2";
    assert_eq!(cluster.log().matches(line).count(), 3);
    cluster.reload();
    trail_becomes(&cluster, &[by_itself, by_hand, by_hand, by_itself]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_takes_too_long_is_ended() {
    let vendor = Vendor::aptora();
    let office = Office::open(Answer::Silence).await;
    let command = format!("sleep 1000 & echo $! >command.pid; {}", office.curl());
    let cluster = licensed(with_command(&command), &vendor, 5);
    let pid = command_runs(&cluster, &office).await;
    cluster.wait_log("The command took longer than 30s", 4 * PATIENCE);
    is_gone(pid).await;
    trail_becomes(&cluster, &["failed"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_renews_by_hand_can_give_up_and_one_renews_at_a_time() {
    let vendor = Vendor::aptora();
    let office = Office::open(Answer::Silence).await;
    let cluster = licensed(with_command(&office.noted_curl()), &vendor, 300);
    let (first, second) = (
        cluster.login("postgres").open_ok().await,
        cluster.login("postgres").open_ok().await,
    );
    let first_pid = first.pid().await;
    let waits = tokio::spawn(async move { first.fails("SELECT license_renew()").await });
    let pid = command_runs(&cluster, &office).await;
    let refused = second.fails("SELECT license_renew()").await;
    refused.assert("55006", "");
    second
        .run(&format!("SELECT pg_cancel_backend({first_pid})"))
        .await;
    waits.await.unwrap().assert("57014", "");
    is_gone(pid).await;
    // However slow the machine is, one of them gets as far as the vendor.
    let mut timeout = 500;
    while office.asked().len() < 2 {
        second
            .run(&format!("SET statement_timeout = '{timeout}ms'"))
            .await;
        timeout *= 2;
        second
            .fails("SELECT license_renew()")
            .await
            .assert("57014", "");
    }
    is_gone(command(&cluster).unwrap()).await;
    eventually("both are told", PATIENCE, async || {
        let trail = trail(&cluster);
        trail.len() >= 2 && trail.iter().all(|event| event == "postgres failed")
    })
    .await;
    second.run("SET statement_timeout = 0").await;
    office.gives(&token(&vendor, 60, 400, 9));
    assert_eq!(second.text("SELECT license_renew()").await, "1");
    // While the server renews by itself, too.
    office.answers(Answer::Silence);
    let cluster = licensed(with_command(&office.noted_curl()), &vendor, 5);
    eventually("a worker renews", PATIENCE, async || {
        command(&cluster).is_some_and(is_alive)
    })
    .await;
    let admin = cluster.login("postgres").open_ok().await;
    admin
        .fails("SELECT license_renew()")
        .await
        .assert("55006", "");
    // Whoever asks to be let in is not kept waiting by it.
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    anna.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_does_not_undo_what_the_vendor_has_issued() {
    let vendor = Vendor::aptora();
    let newer = token(&vendor, 60, 400, 9);
    let office = Office::open(Answer::Http(200, newer.clone())).await;
    let cluster = licensed(with_command(&office.curl()), &vendor, 300);
    let admin = cluster.login("postgres").open_ok().await;
    admin.run("BEGIN; SELECT license_renew(); ROLLBACK").await;
    eventually("a database worker installs it", PATIENCE, async || {
        installed(&cluster, "postgres") == (newer.clone(), "9|t".to_owned())
    })
    .await;
    trail_becomes(&cluster, &["postgres renewed"]).await;
    // In the same transaction as the license itself, and it is gone.
    cluster.sql("DROP EXTENSION pg_seats CASCADE; CREATE EXTENSION pg_seats");
    let mut other = claims(&vendor, DAY, 300, 5);
    other["jti"] = json!("X");
    other["products"][0]["product"] = json!("Scan");
    let install = format!("SELECT license_install('{}')", vendor.sign(&other));
    other["iat"] = json!(unix_now() - 60);
    office.gives(&vendor.sign(&other));
    admin
        .run(&format!(
            "BEGIN; {install}; SELECT license_renew('X'); ROLLBACK"
        ))
        .await;
    assert_eq!(
        admin
            .texts("SELECT license_id FROM license_keys_status WHERE license_id = 'X'")
            .await,
        [""; 0]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_renewed_is_in_force_before_it_is_in_the_tables() {
    let vendor = Vendor::aptora();
    let mut newer = claims(&vendor, 60, 400, 1);
    newer["products"][0]["overdraft"] = json!(1);
    newer["products"]
        .as_array_mut()
        .unwrap()
        .push(json!({"product": "Scan", "seats": 3, "claimed_at": "checkout"}));
    let newer = vendor.sign(&newer);
    let office = Office::open(Answer::Http(200, newer.clone())).await;
    let cluster = licensed(Cluster::builder(), &vendor, 5);
    let locker = cluster.login("postgres").open_ok().await;
    locker
        .run("BEGIN; LOCK TABLE license_keys IN SHARE MODE")
        .await;
    cluster.set("pg_seats.renewal_command", office.curl());
    eventually("it is renewed", PATIENCE, async || {
        recorded(&cluster)
            .first()
            .is_some_and(|license| license["token"] == json!(newer))
    })
    .await;
    cluster.sql("UPDATE licenses SET warn_at_percent = 80");
    assert_eq!(
        cluster.sql("SELECT product, seats, status FROM license_usage ORDER BY product"),
        "Scan|3|ok\nTOM|1|ok"
    );
    assert_eq!(
        cluster
            .sql("SELECT state, token = (SELECT token FROM license_keys) FROM license_keys_status"),
        "valid|f"
    );
    locker.run("COMMIT").await;
    trail_becomes(&cluster, &["renewed"]).await;
    assert_eq!(installed(&cluster, "postgres"), (newer, "1|t".to_owned()));
    assert_eq!(
        cluster.sql("SELECT product, seats, overdraft FROM licenses ORDER BY product"),
        "Scan|3|0\nTOM|1|1"
    );
    let tampering = "SELECT count(*) FROM license_events WHERE event = 'tampering'";
    assert_eq!(cluster.sql(tampering), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_installed_while_a_database_worker_is_there_is_remembered() {
    let vendor = Vendor::aptora();
    let cluster = licensed(with_command("exit 9"), &vendor, 300);
    trail_becomes(&cluster, &[]).await;
    let (admin, other) = (
        cluster.login("postgres").open_ok().await,
        cluster.login("postgres").open_ok().await,
    );
    admin.run("BEGIN; LOCK TABLE licenses").await;
    other
        .fails("SELECT license_renew()")
        .await
        .assert("38000", "");
    eventually("a database worker is half done", PATIENCE, async || {
        let waits =
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'licenses'::regclass";
        other.val::<i64>(waits).await > 0
    })
    .await;
    let newer = token(&vendor, 60, 400, 9);
    admin
        .run(&format!("SELECT license_install('{newer}'); COMMIT"))
        .await;
    eventually("it is remembered, and no failure", PATIENCE, async || {
        let license = &recorded(&cluster)[0];
        license["token"] == json!(newer) && license["renewal"]["failure"] == Value::Null
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_is_told_once_also_where_the_trail_is_locked() {
    let vendor = Vendor::aptora();
    let cluster = licensed(with_command("exit 9"), &vendor, 300);
    let [locker, admin] = [cluster.login("postgres"), cluster.login("postgres")];
    let (locker, admin) = (locker.open_ok().await, admin.open_ok().await);
    locker
        .run("BEGIN; LOCK TABLE license_events IN SHARE MODE")
        .await;
    for _ in 0..3 {
        admin
            .fails("SELECT license_renew()")
            .await
            .assert("38000", "");
    }
    eventually("a database worker waits for the lock", PATIENCE, async || {
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'license_events'::regclass";
        admin.val::<i64>(waits).await > 0
    })
    .await;
    locker.run("COMMIT").await;
    trail_becomes(&cluster, &["postgres failed"; 3]).await;
    eventually("nothing is left to be told", PATIENCE, async || {
        recorded(&cluster)[0]["renewal"]["untold"] == json!([])
    })
    .await;
    assert_eq!(trail(&cluster).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_of_the_server_ends_the_command() {
    let vendor = Vendor::aptora();
    let office = Office::open(Answer::Silence).await;
    let by_itself = licensed(with_command(&office.noted_curl()), &vendor, 5);
    let pid = command_runs(&by_itself, &office).await;
    by_itself.stop(Stop::Fast);
    is_gone(pid).await;
    assert!(!by_itself.log().contains("took longer"));
    let office = Office::open(Answer::Silence).await;
    let by_hand = licensed(with_command(&office.noted_curl()), &vendor, 300);
    let admin = by_hand.login("postgres").open_ok().await;
    admin.send("SELECT license_renew()").await;
    let pid = command_runs(&by_hand, &office).await;
    by_hand.stop(Stop::Fast);
    is_gone(pid).await;
    assert!(!by_hand.log().contains("took longer"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_crash_leaves_the_command_behind() {
    let vendor = Vendor::aptora();
    for crash in ["worker", "backend", "server", "immediate stop"] {
        let office = Office::open(Answer::Silence).await;
        let cluster = licensed(with_command(&office.noted_curl()), &vendor, 5);
        let pid = command_runs(&cluster, &office).await;
        match crash {
            "worker" => cluster.crash_backend(cluster.worker("renewal").unwrap()),
            "backend" => {
                let admin = cluster.login("postgres").open_ok().await;
                cluster.crash_backend(admin.pid().await);
            }
            "server" => {
                cluster.signal(cluster.postmaster_pid().unwrap(), Signal::SIGKILL);
                cluster.wait_stopped();
            }
            _ => cluster.stop(Stop::Immediate),
        }
        is_gone(pid).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_amid_a_renewal_it_is_tried_again() {
    let vendor = Vendor::aptora();
    let office = Office::open(Answer::Silence).await;
    let cluster = licensed(with_command(&office.noted_curl()), &vendor, 5);
    command_runs(&cluster, &office).await;
    let worker = cluster.worker("renewal").unwrap();
    let newer = token(&vendor, 60, 400, 9);
    office.gives(&newer);
    cluster.crash_backend(worker);
    trail_becomes(&cluster, &["renewed"]).await;
    assert_eq!(installed(&cluster, "postgres").0, newer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_renews_nothing_until_its_promotion() {
    let vendor = Vendor::aptora();
    let office = Office::open(Answer::Http(200, token(&vendor, 60, 400, 9))).await;
    let primary = licensed(Cluster::builder(), &vendor, 5);
    eventually("the license is recorded", PATIENCE, async || {
        !recorded(&primary).is_empty()
    })
    .await;
    let conf = format!("pg_seats.renewal_command = '{}'\n", office.curl());
    let standby = primary.standby_with(&conf);
    let admin = standby.login("postgres").open_ok().await;
    admin
        .fails("SELECT license_renew()")
        .await
        .assert("25006", "");
    assert_eq!(
        admin
            .text("SELECT state, next_renewal_at FROM license_keys_status")
            .await,
        "valid|"
    );
    // Its launcher looks every second.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(office.asked(), [""; 0]);
    standby.promote();
    trail_becomes(&standby, &["renewed"]).await;
    assert_eq!(office.asked(), ["/TOM-4711"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_t_be_renewed_is_said() {
    let vendor = Vendor::aptora();
    let first = Cluster::builder().with_key_of(&vendor);
    first.install(&vendor.license_for(&first, 5));
    let admin = first.login("postgres").open_ok().await;
    let refused = admin.fails("SELECT license_renew()").await;
    refused.assert("55000", "");
    assert!(refused.hint.contains("Set it"), "{refused:?}");
    let status = "SELECT next_renewal_at FROM license_keys_status";
    assert_eq!(admin.text(status).await, "");
    // Seats that were allotted are renewed where they come from.
    let second = with_command("exit 1").with_key_of(&vendor);
    second.install(&first.sql(&second.allotting(2)));
    let admin = second.login("postgres").open_ok().await;
    assert_eq!(admin.text("SELECT license_renew()").await, "0");
    assert_eq!(admin.text(status).await, "");
    let id = admin.text("SELECT license_id FROM license_keys").await;
    let of_id = format!("SELECT license_renew('{id}')");
    admin.fails(&of_id).await.assert("22023", "");
    admin
        .fails("SELECT license_renew('X')")
        .await
        .assert("42704", "");
    admin
        .fails("SELECT license_renew('')")
        .await
        .assert("22023", "");
    admin.run("BEGIN READ ONLY").await;
    admin
        .fails("SELECT license_renew()")
        .await
        .assert("25006", "");
    let anna = second.login("anna").open_ok().await;
    anna.fails("SELECT license_renew()")
        .await
        .assert("42501", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_complains_of_is_for_those_who_may_renew() {
    let vendor = Vendor::aptora();
    let cluster = licensed(
        with_command("echo 'no host secret.example' >&2; exit 6"),
        &vendor,
        300,
    );
    cluster.sql("GRANT EXECUTE ON FUNCTION license_renew TO bert; GRANT EXECUTE ON FUNCTION license_terminate TO carl; GRANT pg_monitor TO dora");
    let bert = cluster.login("bert").open_ok().await;
    let refused = bert.fails("SELECT license_renew()").await;
    let whole = "The command ended with status 6: no host secret.example.";
    assert_eq!(refused.detail, whole);
    trail_becomes(&cluster, &["bert failed"]).await;
    let shown = "SELECT coalesce(renewal_failure, '') FROM license_keys_status";
    for (user, expected) in [("anna", ""), ("bert", whole), ("carl", ""), ("dora", whole)] {
        let session = cluster.login(user).open_ok().await;
        assert_eq!(session.text(shown).await, expected, "{user}");
    }
    // The trail is the database owner's, too, and in every dump.
    assert_eq!(
        cluster.sql("SELECT detail ->> 'reason' FROM license_events WHERE event = 'renewal'"),
        "The command ended with status 6."
    );
    assert!(cluster.log().contains(whole.trim_end_matches('.')));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_takes_nothing_from_what_was_renewed_and_none_is_told_of_that_nobody_has_signed()
{
    let vendor = Vendor::aptora();
    let newer = token(&vendor, 60, 400, 9);
    let cluster = licensed(with_command("echo %i >>asked; cat %i.jwt"), &vendor, 300);
    cluster.write("TOM-4711.jwt", &newer);
    let mut other = claims(&vendor, DAY, 300, 5);
    other["jti"] = json!("SCAN-1");
    other["products"] = json!([{"product": "Scan", "seats": 5, "claimed_at": "checkout"}]);
    cluster.install(&vendor.sign(&other));
    // As a hostile dump has it.
    let stranger = Vendor::new("https://stranger.example", 9);
    for (number, days) in [(1, 300), (2, 1)] {
        let mut hostile = claims(&stranger, DAY, days, 5);
        hostile["jti"] = json!(format!("HOSTILE-{number}"));
        hostile["products"] =
            json!([{"product": format!("H{number}"), "seats": 5, "claimed_at": "checkout"}]);
        cluster.sql(&format!(
            "INSERT INTO license_keys (license_id, token) VALUES ('HOSTILE-{number}', '{}')",
            stranger.sign(&hostile)
        ));
    }
    eventually("all of it is known", PATIENCE, async || {
        recorded(&cluster).len() == 4
    })
    .await;
    assert_eq!(cluster.sql("SELECT license_renew()"), "1");
    assert_eq!(
        cluster.sql("SELECT token, purchased FROM license_keys, licenses WHERE license_id = 'TOM-4711' AND product = 'TOM'"),
        format!("{newer}|9")
    );
    let admin = cluster.login("postgres").open_ok().await;
    let refused = admin.fails("SELECT license_renew('HOSTILE-1')").await;
    refused.assert("28000", "license_not_verified");
    // Nothing more to be had: then it is an error.
    admin.fails("SELECT license_renew()").await;
    trail_becomes(
        &cluster,
        &[
            "postgres renewed",
            "postgres failed",
            "postgres failed",
            "postgres failed",
        ],
    )
    .await;
    assert!(
        cluster.log().contains("could not renew license \"SCAN-1\""),
        "no word of the other"
    );
    let asked = fs::read_to_string(cluster.data_dir().join("asked")).unwrap();
    let mut asked: Vec<_> = asked.lines().collect();
    asked.sort_unstable();
    assert_eq!(asked, ["SCAN-1", "SCAN-1", "TOM-4711", "TOM-4711"]);
}
