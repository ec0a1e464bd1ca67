//! Evaluates the licenses of a database: which of its tokens count, how long each is believed, and for which products.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::installation::record::{Known, Record};
use crate::core::ledger::identity::Name;
use crate::core::ledger::numbers::DatabaseOid;
use crate::core::ledger::time::{DAY, Timestamp};
use crate::core::tokens::allotment::Allotted;
use crate::core::tokens::claims::{Claims, Unfit};
use crate::core::tokens::keys::Keys;
use crate::core::tokens::token::malformed;
use crate::core::tokens::{Refused, believe, is_allotment, unix, verify};

/// A row of `license_keys`.
#[derive(Clone, Debug)]
pub struct StoredToken {
    /// The license's id, as the table has it.
    pub license_id: String,
    /// Its token.
    pub token: String,
    /// Whether it is installed: it was not uninstalled since.
    pub is_installed: bool,
}

/// The facts by which tokens are judged.
#[derive(Clone, Copy, Debug)]
pub struct Evaluation<'a> {
    /// The vendors' keys.
    pub keys: &'a Keys,
    /// What this installation remembers.
    pub record: &'a Record,
    /// Set if the record can't be read, and was not read before: then nobody knows which seats were given back, except
    /// for the licenses of these pools, of which seats were in force until now.
    pub lost: Option<&'a [Name]>,
    /// This installation's id; `None` if its key can't be read.
    pub installation: Option<&'a str>,
    /// The database's OID.
    pub database: DatabaseOid,
    /// How long a license that was verified once is believed, in microseconds.
    pub key_grace: Timestamp,
    /// The present moment.
    pub now: Timestamp,
}

/// A license of a database.
#[derive(Clone, Debug)]
pub struct SignedLicense {
    /// Its claims.
    pub claims: Claims,
    /// The token that has these claims.
    pub token: String,
    /// Where that token is.
    pub source: Source,
    /// What is wrong with it.
    pub doubt: Option<Doubt>,
    /// Until when it is believed; `None`: as long as it says.
    pub believed_until: Option<Timestamp>,
    /// The products that it licenses here; none of them is another license's.
    pub products: Vec<String>,
}

/// Where a license's newest token is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// In its row of `license_keys`.
    Row,
    /// In the installation's record, and an older one is in the row: the license was renewed since.
    Renewal,
    /// In the installation's record alone: somebody has removed or replaced the row.
    Record,
}

/// What may be wrong with a license.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Doubt {
    /// Its signature can't be verified now.
    Unverified(Refused),
    /// It is made for another installation.
    Elsewhere,
    /// This installation has given it back.
    GivenBack,
}

/// A row of `license_keys` that has no license.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invalid {
    /// The license's id, as the table has it.
    pub license_id: String,
    /// Why it is none.
    pub refused: Refused,
}

impl Evaluation<'_> {
    /// Returns the licenses of these rows, and those that were installed in the database and never uninstalled, each
    /// with its newest token; and the rows that have none.
    pub fn licenses(&self, rows: &[StoredToken]) -> (Vec<SignedLicense>, Vec<Invalid>) {
        let mut licenses = Vec::new();
        let mut invalid = Vec::new();
        for row in rows.iter().filter(|row| row.is_installed) {
            match self.license_of_row(row) {
                // The token that was verified last is added below, even if its key is gone and an older one's is not.
                Ok(license) if self.is_outdated(&license) => {}
                Ok(license) => add_newest(&mut licenses, license),
                Err(refused) => invalid.push(Invalid {
                    license_id: row.license_id.clone(),
                    refused,
                }),
            }
        }
        for known in &self.record.licenses {
            if let Some(license) = self.license_of_record(known, rows) {
                add_newest(&mut licenses, license);
            }
        }
        self.assign_products(&mut licenses);
        (licenses, invalid)
    }

    /// Returns the end of belief for what is not believed at all. It lies far enough back to count also for a login
    /// that began before this was judged.
    fn long_ago(&self) -> Timestamp {
        self.now.saturating_sub(DAY)
    }

    /// Returns the license whose token is in a row.
    fn license_of_row(&self, row: &StoredToken) -> Result<SignedLicense, Refused> {
        let license = self.license(&row.token, Source::Row)?;
        if license.claims.jti != row.license_id {
            return Err(malformed("Its id is not that of its row."));
        }
        Ok(license)
    }

    /// Returns the license whose token is in the record, if the license is installed in this database.
    fn license_of_record(&self, known: &Known, rows: &[StoredToken]) -> Option<SignedLicense> {
        let row = rows.iter().find(|row| row.license_id == known.jti);
        let was_installed = known.databases.contains(&self.database);
        if !row.map_or(was_installed, |row| row.is_installed) {
            return None;
        }
        let source = match row {
            Some(row) if row.token == known.token => Source::Row,
            // Even if the key of the older token has gone since.
            Some(row) if known.replaces(&row.token) => Source::Renewal,
            _ => Source::Record,
        };
        // Whatever was recorded was a license then; an installation that was not finished has left no token.
        self.license(&known.token, source).ok()
    }

    /// Tells whether a newer token of the same license was verified here before.
    fn is_outdated(&self, license: &SignedLicense) -> bool {
        let claims = &license.claims;
        let known = self.record.license(&claims.iss, &claims.jti);
        known.is_some_and(|known| known.is_verified && claims.iat < known.iat)
    }

    /// Returns the license of a token, wherever that is, with what is wrong with it.
    fn license(&self, token: &str, source: Source) -> Result<SignedLicense, Refused> {
        let (claims, unverified) = match verify(token, self.keys) {
            Ok(claims) => (claims, None),
            Err(refused @ Refused::NoKey { .. }) => (believe(token)?, Some(refused)),
            Err(refused) => return Err(refused),
        };
        let known = self.record.license(&claims.iss, &claims.jti);
        let latest = unix(self.now.max(self.record.latest));
        if claims.is_issued_ahead(latest) && known.is_none_or(|known| known.token != token) {
            return Err(malformed(Unfit::IssuedAhead.to_string()));
        }
        if let Some(refused) = &unverified
            && known.is_some_and(|known| known.is_verified && known.token != token)
        {
            // The token that was verified last stays in force.
            return Err(refused.clone());
        }
        let (doubt, believed_until) = self.doubt(token, &claims, known, unverified);
        Ok(SignedLicense {
            claims,
            token: token.to_owned(),
            source,
            doubt,
            believed_until,
            products: Vec::new(),
        })
    }

    /// Returns what is wrong with a license that is not refused, and until when it is believed. What comes first in
    /// this table counts:
    ///
    /// | what is wrong | doubt | believed until |
    /// | --- | --- | --- |
    /// | it was given back here | given back | as it says, with 0 seats |
    /// | an allotment, and whether it was given back is not known | unverified | not at all |
    /// | the vendor's key is gone | unverified | `pg_seats.key_grace` after that |
    /// | it names an installation, and this one's key can't be read | unverified | `pg_seats.key_grace` after that |
    /// | it is made for another installation | elsewhere | `pg_seats.key_grace` after that |
    /// | nothing | none | as it says |
    fn doubt(
        &self,
        token: &str,
        claims: &Claims,
        known: Option<&Known>,
        unverified: Option<Refused>,
    ) -> (Option<Doubt>, Option<Timestamp>) {
        let grace_from =
            |since: Option<Timestamp>| since.unwrap_or(self.now).saturating_add(self.key_grace);
        let unverified_since = known.and_then(|known| known.unverified_since);
        if self.record.given_back.contains_key(&claims.jti) {
            return (Some(Doubt::GivenBack), None);
        }
        let is_lost =
            |in_force: &[Name]| is_allotment(token) && !in_force.contains(&pool_of(claims));
        if self.lost.is_some_and(is_lost) {
            let refused = malformed(
                "What this installation has recorded can't be read: whether it has given these seats back is not known.",
            );
            return (Some(Doubt::Unverified(refused)), Some(self.long_ago()));
        }
        if let Some(refused) = unverified {
            // Nothing would note since when it is unverified, and it would be believed anew each time.
            let is_unnoted = known.is_none() && self.record.has_no_room_for_unverified();
            let until = if is_unnoted {
                self.long_ago()
            } else {
                grace_from(unverified_since)
            };
            return (Some(Doubt::Unverified(refused)), Some(until));
        }
        match (&claims.cnf, self.installation) {
            (Some(_), None) => {
                let refused = malformed("This installation's own key can't be read.");
                let until = grace_from(unverified_since);
                (Some(Doubt::Unverified(refused)), Some(until))
            }
            (Some(cnf), Some(installation)) if cnf.jkt != installation => {
                let until = grace_from(known.and_then(|known| known.elsewhere_since));
                (Some(Doubt::Elsewhere), Some(until))
            }
            _ => (None, None),
        }
    }

    /// Assigns each product to one license: verified licenses come before others, those that were given back come last,
    /// and otherwise the one first known here comes first. So a product stays with its first issuer.
    fn assign_products(&self, licenses: &mut [SignedLicense]) {
        let is_last = |license: &SignedLicense| license.doubt == Some(Doubt::GivenBack);
        licenses.sort_by_key(|license| {
            (
                is_last(license),
                license.is_unverified(),
                self.place_of(license),
            )
        });
        let mut assigned: Vec<String> = Vec::new();
        for license in licenses {
            let products = license.claims.products.iter();
            let names = products.map(|product| &product.product);
            let is_free = |name: &&String| !assigned.contains(name);
            license.products = names.filter(is_free).cloned().collect();
            assigned.extend_from_slice(&license.products);
        }
    }

    /// Returns the place of a license among those that are known here, the first known first.
    fn place_of(&self, license: &SignedLicense) -> usize {
        // A license that somebody has begun to install here, without finishing, does not count.
        let licenses = self.record.licenses.iter();
        let mut installed = licenses.filter(|known| !known.token.is_empty());
        let claims = &license.claims;
        installed
            .position(|known| known.iss == claims.iss && known.jti == claims.jti)
            .unwrap_or(usize::MAX)
    }
}

/// Adds a license, unless it is there already with a token that ranks as high.
fn add_newest(licenses: &mut Vec<SignedLicense>, license: SignedLicense) {
    let is_same = |other: &&mut SignedLicense| {
        other.claims.iss == license.claims.iss && other.claims.jti == license.claims.jti
    };
    match licenses.iter_mut().find(is_same) {
        None => licenses.push(license),
        Some(other) if license.rank() > other.rank() => *other = license,
        Some(_) => {}
    }
}

impl SignedLicense {
    /// Returns the allotment that the license is, if it is one.
    pub fn allotted(&self) -> Option<Allotted> {
        Allotted::read(&self.token).ok()
    }

    /// Returns the seats of a product that were bought, or allotted; 0 if they were given back.
    pub fn seats(&self, product: &str) -> Option<i32> {
        if self.doubt == Some(Doubt::GivenBack) {
            return Some(0);
        }
        let mut products = self.claims.products.iter();
        products.find(|own| own.product == product)?.seats
    }

    /// Tells whether its signature can't be verified now.
    fn is_unverified(&self) -> bool {
        matches!(self.doubt, Some(Doubt::Unverified(_)))
    }

    /// Returns the pool of the databases that have this license, whatever pool it names.
    pub fn pool(&self) -> Name {
        pool_of(&self.claims)
    }

    /// Returns the rank of a token among those of one license: the highest counts.
    fn rank(&self) -> (bool, i64) {
        (!self.is_unverified(), self.claims.iat)
    }
}

/// The first character of the name of a pool of databases with one license. No pool of a table may begin with it, so
/// that its rows join none.
pub const SIGNED_POOL: char = '\x01';

/// Returns the pool of the databases that have this license of this issuer.
fn pool_of(claims: &Claims) -> Name {
    let id = [claims.iss.as_bytes(), b"\x01", claims.jti.as_bytes()].concat();
    let digest = URL_SAFE_NO_PAD.encode(Sha256::digest(id));
    Name::new(format!("{SIGNED_POOL}{digest}")).unwrap_or(Name::EMPTY)
}
