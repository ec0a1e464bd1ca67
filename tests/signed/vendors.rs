//! The guide for vendors, word by word: from a key pair to an application that looks at its license.

use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::docs::{VENDORS, blocks};
use crate::util::*;

const PRODUCT: &str = "Total Office Manager";

/// What the guide tells to do.
struct Guide {
    sign: String,
    conf: String,
    install: String,
    /// PyJWT's one call.
    encode: String,
}

fn guide() -> Guide {
    let of = |language: &str| {
        let blocks = blocks(VENDORS).into_iter();
        let texts = blocks
            .filter(|block| block.language == language)
            .map(|block| block.text);
        texts.collect::<Vec<_>>()
    };
    let [keys, sign, install] = of("sh").try_into().unwrap();
    let [conf] = of("conf").try_into().unwrap();
    let (_, encode) = VENDORS.split_once("`jwt.encode(").unwrap();
    let (encode, _) = encode.split_once(")`").unwrap();
    Guide {
        sign: format!("{keys}\n{sign}"),
        conf,
        install,
        encode: format!("jwt.encode({encode})"),
    }
}

/// A vendor's desk, and a customer's server on which the installer has run.
struct Sold {
    guide: Guide,
    desk: TempDir,
    cluster: Cluster,
}

impl Sold {
    fn new() -> Self {
        let cluster = Cluster::builder().preload(false).start();
        cluster.sql("CREATE DATABASE company; CREATE ROLE anna LOGIN");
        let (guide, desk) = (guide(), tempfile::tempdir().unwrap());
        let sold = Self {
            guide,
            desk,
            cluster,
        };
        sold.shell(&sold.guide.sign);
        sold.cluster.append_conf(&sold.guide.conf);
        sold.cluster.append_conf("pg_seats.load_timeout = '30s'\n");
        sold.cluster.restart(Stop::Fast);
        sold.shell(&sold.guide.install);
        sold
    }

    #[track_caller]
    fn shell(&self, script: &str) {
        let programs = self.cluster.programs().bindir().display();
        let mut shell = Command::new("bash");
        shell
            .args(["-euo", "pipefail", "-c", script])
            .current_dir(&self.desk)
            .env("PATH", format!("{programs}:{}", env!("PATH")))
            .env("PGHOST", self.cluster.socket_dir())
            .env("PGPORT", self.cluster.port().to_string())
            .env("PGUSER", "postgres")
            .env("PGDATA", self.cluster.data_dir());
        run(&mut shell, "").ok();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.desk.path().join(name)).unwrap()
    }

    /// Returns a token of these claims, by PyJWT.
    fn sign(&self, claims: &Value) -> String {
        let pem = self.desk.path().join("vendor.pem");
        let code = format!(
            "import json, jwt, sys\nclaims = json.load(sys.stdin)\npem = open(sys.argv[1]).read()\nprint({})",
            self.guide.encode
        );
        let mut python = python();
        run(python.args(["-c", &code]).arg(pem), &claims.to_string()).ok()
    }

    /// Installs a renewal, issued some seconds later, as the role that was granted that.
    fn renew(&self, later: i64, products: Value) {
        let now = unix_now();
        let token = self.sign(&json!({
            "iss": "https://aptora.example", "sub": "Miller Plumbing", "jti": "TOM-4711",
            "iat": now + later, "exp": now + 365 * DAY, "products": products,
        }));
        let install = format!("SELECT seats.license_install('{token}')");
        let installed = self.cluster.psql_as("office_manager", "company", &install);
        assert_eq!(installed.ok(), "TOM-4711");
    }

    #[track_caller]
    fn sql(&self, sql: &str) -> String {
        let in_schema = format!("SET search_path = seats, public;\n{sql}");
        self.cluster.sql_in("company", &in_schema)
    }

    /// Returns what the application is denied for, or nothing.
    fn application(&self) -> String {
        self.application_with(&self.read("vendor.json"))
    }

    /// Returns the same of an application with another vendor's key.
    fn application_with(&self, keys: &str) -> String {
        let keys: Value = serde_json::from_str(keys).unwrap();
        let x = keys["keys"][0]["x"].as_str().unwrap();
        let anna = self.cluster.login("anna").db("company");
        anna.looks_at_license(x, PRODUCT)
    }
}

#[test]
fn a_license_that_is_signed_as_the_guide_says_is_installed_and_found_by_the_application() {
    let sold = Sold::new();
    let status = "SELECT license_id, issuer, customer, days_left IN (364, 365), state FROM license_keys_status";
    assert_eq!(
        sold.sql(status),
        "TOM-4711|https://aptora.example|Miller Plumbing|t|valid"
    );
    let row = "SELECT product, seats, purchased, grace FROM licenses";
    assert_eq!(sold.sql(row), "Total Office Manager|10|10|14 days");
    let token = sold.sql("SELECT token FROM license_keys_status");
    assert_eq!(token, sold.read("license.jwt").trim());
    assert_eq!(sold.application(), "");
    sold.renew(5, json!([{"product": PRODUCT, "seats": 12}]));
    assert_eq!(sold.sql(row), "Total Office Manager|10|12|00:00:00");
    let raised = format!("SELECT license_raise_seats('{PRODUCT}', 12)");
    sold.sql(&raised);
    assert_eq!(sold.sql(row), "Total Office Manager|12|12|00:00:00");
    assert_eq!(sold.application(), "");
}

#[test]
fn the_application_tells_what_has_happened_to_its_license() {
    let sold = Sold::new();
    let cluster = &sold.cluster;
    sold.sql("DELETE FROM licenses");
    assert_eq!(sold.application(), "42704");
    assert_eq!(sold.sql("SELECT status FROM license_usage"), "tampered");
    // A product that a renewal has no longer is a row that nobody has signed.
    sold.renew(5, json!([{"product": PRODUCT, "seats": 10}]));
    sold.renew(
        6,
        json!([{"product": "Payroll", "seats": 1, "claimed_at": "checkout"}]),
    );
    assert_eq!(
        sold.sql("SELECT string_agg(product, ',' ORDER BY product) FROM licenses"),
        "Payroll,Total Office Manager"
    );
    assert_eq!(sold.application(), "LookupError");
    // Without a license.
    sold.sql("SELECT license_uninstall('TOM-4711'); DELETE FROM licenses");
    assert_eq!(sold.application(), "LookupError");
    let checkout = format!("SELECT seats.license_checkout('{PRODUCT}')");
    let checkout = [
        "-U",
        "anna",
        "-d",
        "company",
        "-v",
        "VERBOSITY=sqlstate",
        "-c",
        &checkout,
    ];
    assert_eq!(cluster.psql(&checkout, &[]).failed(), "ERROR:  42704\n");
    // With one that somebody else has signed.
    let rival = Vendor::new("https://aptora.example", 9);
    cluster.write("vendor.json", &rival.key_file());
    let mut claims = rival.claims(1000);
    claims["jti"] = json!("TOM-1");
    claims["products"][0]["product"] = json!(PRODUCT);
    let forged = rival.sign(&claims);
    sold.sql(&format!("SELECT license_install('{forged}')"));
    assert_eq!(sold.application(), "InvalidSignatureError");
    // Without the library.
    cluster.append_conf("shared_preload_libraries = ''\n");
    cluster.restart(Stop::Fast);
    assert_eq!(sold.application(), "55000");
    assert_eq!(cluster.psql(&checkout, &[]).failed(), "ERROR:  55000\n");
}

#[test]
fn the_application_finds_the_vendors_license_where_seats_were_allotted() {
    let (centre, laptop) = (Sold::new(), Sold::new());
    // The same vendor's key at both.
    laptop
        .cluster
        .write("vendor.json", &centre.read("vendor.json"));
    laptop.sql("SELECT license_uninstall('TOM-4711')");
    let now = unix_now();
    let token = centre.sign(&json!({
        "iss": "https://aptora.example", "sub": "Miller Plumbing", "jti": "TOM-4711",
        "iat": now + 5, "exp": now + 365 * DAY, "products": [{"product": PRODUCT, "seats": 2}],
        "cnf": {"jkt": centre.sql("SELECT license_installation() ->> 'kid'")},
    }));
    centre.sql(&format!("SELECT license_install('{token}')"));
    let key = laptop.sql("SELECT license_installation()");
    let token = centre.sql(&format!("SELECT license_allot('{PRODUCT}', '{key}', 1)"));
    laptop.sql(&format!("SELECT license_install('{token}')"));
    assert_eq!(laptop.application_with(&centre.read("vendor.json")), "");
    assert_eq!(laptop.application(), "InvalidSignatureError");
}
