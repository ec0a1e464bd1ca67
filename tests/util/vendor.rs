//! A vendor: signs licenses, as any library would that makes JWTs.

use std::fs::{self, File};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};

use super::builder::Builder;
use super::cluster::Cluster;
use super::wait::{PATIENCE, eventually, eventually_blocking};

/// A vendor and its key.
pub struct Vendor {
    iss: String,
    kid: String,
    key: SigningKey,
}

/// Where an installation remembers, in the data folder, and once more.
pub const RECORD: &str = "pg_seats.key.record";
pub const RECORD_COPY: &str = "pg_seats.key.record.copy";

/// In seconds.
pub const DAY: i64 = 86_400;

/// Returns the present moment in seconds since 1970.
pub fn unix_now() -> i64 {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH);
    since.expect("a time after 1970").as_secs() as i64
}

impl Vendor {
    /// Returns the vendor of this name, with a key made of this number.
    pub fn new(iss: &str, number: u8) -> Self {
        Self {
            iss: iss.to_owned(),
            kid: number.to_string(),
            key: SigningKey::from_bytes(&[number; 32]),
        }
    }

    /// Returns Aptora, who sells Total Office Manager.
    pub fn aptora() -> Self {
        Self::new("https://aptora.example", 1)
    }

    /// Returns the vendor's public key, as a JWK.
    pub fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.key.verifying_key().as_bytes());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": x})
    }

    /// Returns a file with it.
    pub fn key_file(&self) -> String {
        json!({ "keys": [self.jwk()] }).to_string()
    }

    /// Returns a file with it that speaks for this vendor alone.
    pub fn key_file_of_its_own(&self) -> String {
        json!({ "iss": self.iss, "keys": [self.jwk()] }).to_string()
    }

    /// Returns its name without `https://`, as a file of its keys is called.
    pub fn host(&self) -> &str {
        self.iss.trim_start_matches("https://")
    }

    /// Returns what a license of so many seats of "TOM" says, for a year.
    pub fn claims(&self, seats: impl Into<Value>) -> Value {
        let now = unix_now();
        json!({
            "iss": self.iss, "sub": "Miller Plumbing", "jti": "TOM-4711",
            "iat": now - 60, "nbf": now - 60, "exp": now + 365 * DAY,
            "products": [{"product": "TOM", "seats": seats.into()}],
        })
    }

    /// Returns a token that says so.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with(
            &json!({"alg": "EdDSA", "kid": self.kid, "typ": "JWT"}),
            claims,
        )
    }

    /// Returns the same with this header.
    pub fn sign_with(&self, header: &Value, claims: &Value) -> String {
        self.sign_texts(&header.to_string(), &claims.to_string())
    }

    /// Returns the same of any texts.
    pub fn sign_texts(&self, header: &str, claims: &str) -> String {
        let parts = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
        let message = parts.join(".");
        let signature = self.key.sign(message.as_bytes()).to_bytes();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Returns a token of so many seats of "TOM".
    pub fn license(&self, seats: impl Into<Value>) -> String {
        self.sign(&self.claims(seats))
    }
}

impl Vendor {
    /// Returns a license of so many seats of "TOM" for this server alone.
    pub fn license_for(&self, cluster: &Cluster, seats: impl Into<Value>) -> String {
        let mut claims = self.claims(seats);
        claims["cnf"] = json!({"jkt": cluster.installation()});
        self.sign(&claims)
    }
}

impl Builder {
    /// Returns a server that knows the vendor's key, with the extension and the staff.
    pub fn with_key_of(self, vendor: &Vendor) -> Cluster {
        let cluster = self
            .conf("pg_seats.vendor_keys", "vendor.json")
            .conf("pg_seats.load_timeout", "30s")
            .staffed()
            .start();
        cluster.write("vendor.json", &vendor.key_file());
        cluster
    }

    /// Starts a server that looks for vendors' keys in the folder `vendors`, which is empty.
    pub fn with_folder_of_keys(self) -> Cluster {
        let cluster = self
            .conf("pg_seats.vendor_keys", "vendors")
            .conf("pg_seats.load_timeout", "30s")
            .start();
        fs::create_dir(cluster.data_dir().join("vendors")).unwrap();
        cluster
    }
}

impl Cluster {
    /// Returns its id as an installation.
    pub fn installation(&self) -> String {
        self.sql("SELECT license_installation() ->> 'kid'")
    }

    /// Returns what it remembers as an installation, if anything yet.
    pub fn record(&self) -> Option<Value> {
        let record = fs::read(self.data_dir().join(RECORD)).ok()?;
        serde_json::from_slice(&record).ok()
    }

    /// Waits until it remembers this.
    pub async fn until_recorded(&self, what: impl Fn(&Value) -> bool) {
        eventually("it is recorded", PATIENCE, async || {
            self.record().is_some_and(|record| what(&record))
        })
        .await;
    }

    /// Acts while no database worker changes what it remembers, or is about to.
    pub fn with_record_locked<R>(&self, act: impl FnOnce() -> R) -> R {
        let lock = self.data_dir().join("pg_seats.key.lock");
        let lock = File::options().write(true).open(lock).unwrap();
        lock.lock().unwrap();
        act()
    }

    /// Changes by hand what it remembers.
    pub fn edit_record(&self, edit: impl FnOnce(&mut Value)) {
        self.with_record_locked(|| {
            let mut record = self.record().unwrap();
            edit(&mut record);
            let folder = self.data_dir();
            let new = folder.join("edited.record");
            fs::write(&new, record.to_string()).unwrap();
            fs::rename(new, folder.join(RECORD)).unwrap();
        });
        self.sql("SELECT pg_reload_conf()");
    }

    /// Copies a database: no database worker is in it at that moment.
    pub fn copy(&self, template: &str, name: &str) {
        eventually_blocking("nobody else is in the database", PATIENCE, || {
            let create = format!("CREATE DATABASE {name} TEMPLATE {template}");
            self.psql_as("postgres", "template1", &create).status == Some(0)
        });
    }

    /// Returns the statement that passes so many seats of "TOM" on to another server.
    pub fn allotting(&self, seats: i32) -> String {
        let key = self.sql("SELECT license_installation()");
        format!("SELECT license_allot('TOM', '{key}', {seats})")
    }

    /// Installs a license; its id.
    pub fn install(&self, token: &str) -> String {
        self.sql(&format!("SELECT license_install('{token}')"))
    }
}
