//! What this installation must not forget, whatever becomes of its databases: a copy or an older state of a database
//! gains nothing by it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::core::ledger::numbers::DatabaseOid;
use crate::core::ledger::time::{LEEWAY, Timestamp};
use crate::core::tokens::believe;
use crate::core::tokens::claims::Claims;

/// The record.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The latest moment that this server has known.
    pub latest: Timestamp,
    /// The licenses that are or were installed.
    pub licenses: Vec<Known>,
    /// What was allotted to other installations.
    pub allotments: Vec<Allotment>,
    /// The sums of allotments that came back at their end long ago, each with the last of those ends.
    pub ended: Vec<Allotment>,
    /// The seats that were allotted to this installation and that it gave back, by the allotments' ids.
    pub given_back: BTreeMap<String, GivenBack>,
}

/// A license that is known here.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Known {
    /// Who issued it.
    pub iss: String,
    /// Its id.
    pub jti: String,
    /// When its newest token was issued.
    pub iat: i64,
    /// That token.
    pub token: String,
    /// Whether it was ever verified.
    pub is_verified: bool,
    /// When the newest token that was verified here was issued, even if it was not kept.
    #[serde(default)]
    pub verified_iat: i64,
    /// The OIDs of the databases in which it is installed.
    pub databases: BTreeSet<DatabaseOid>,
    /// Since when its signature could not be verified; `None`: it can.
    pub unverified_since: Option<Timestamp>,
    /// When a token of it that is made for another installation was first seen.
    pub elsewhere_since: Option<Timestamp>,
    /// The state of its renewal.
    #[serde(default)]
    pub renewal: Renewal,
}

/// Stands for a database that is gone: any database that has the license, such as one that was restored.
pub const GONE: DatabaseOid = DatabaseOid::NONE;

/// Seats that were allotted to another installation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Allotment {
    /// Its id, which is that of the token made from it.
    pub id: String,
    /// The issuer of the license that the seats are of.
    pub iss: String,
    /// That license's id.
    pub jti: String,
    /// The product.
    pub product: String,
    /// The number of seats.
    pub seats: i32,
    /// The id of the installation that has them.
    pub installation: String,
    /// The OID of the database whose seats they were, or [`GONE`].
    pub database: DatabaseOid,
    /// When they were allotted.
    pub allotted_at: Timestamp,
    /// When they come back by themselves; `None`: never.
    pub valid_until: Option<Timestamp>,
    /// When they came back.
    pub returned_at: Option<Timestamp>,
}

/// Seats that this installation has given back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GivenBack {
    /// When they were given back.
    pub at: Timestamp,
    /// The product.
    pub product: String,
    /// The receipt, which may be asked for again.
    pub receipt: String,
    /// When the seats would have gone back by themselves; `None`: never.
    #[serde(default)]
    pub ends: Option<Timestamp>,
}

impl Known {
    /// Tells whether a token is an older one of this license.
    pub fn replaces(&self, token: &str) -> bool {
        believe(token).is_ok_and(|older| {
            older.iss == self.iss && older.jti == self.jti && older.iat < self.iat
        })
    }
}

/// Returns when seats come back by themselves that are allotted until `valid_until`.
pub fn comes_back_at(valid_until: Option<Timestamp>) -> Option<Timestamp> {
    Some(valid_until?.saturating_add(LEEWAY))
}

impl Allotment {
    /// Tells whether the seats are away. That they come back at their end is never noted: it depends on the clock as it
    /// is, so that a clock that was ahead for a while has brought nothing back.
    pub fn is_away(&self, now: Timestamp) -> bool {
        self.returned_at.is_none()
            && self
                .comes_back_at()
                .is_none_or(|comes_back_at| now < comes_back_at)
    }

    /// Returns when the seats come back by themselves: later than their end by as much as the clock of the other
    /// installation may be behind.
    pub fn comes_back_at(&self) -> Option<Timestamp> {
        comes_back_at(self.valid_until)
    }
}

impl Record {
    /// Returns a license by its issuer and id.
    pub fn license(&self, iss: &str, jti: &str) -> Option<&Known> {
        self.licenses
            .iter()
            .find(|known| known.iss == iss && known.jti == jti)
    }

    /// Notes that a token was verified here, whatever becomes of its installation: from then on no older one is
    /// installed. Returns false if a newer one was verified before.
    pub fn verified(&mut self, claims: &Claims) -> bool {
        let is_it = |known: &&mut Known| known.iss == claims.iss && known.jti == claims.jti;
        match self.licenses.iter_mut().find(is_it) {
            Some(known) if known.verified_iat > claims.iat => return false,
            Some(known) => known.verified_iat = claims.iat,
            None => self.licenses.push(Known {
                iss: claims.iss.clone(),
                jti: claims.jti.clone(),
                verified_iat: claims.iat,
                ..Known::default()
            }),
        }
        true
    }

    /// Forgets that these licenses were installed in a database.
    pub fn uninstall(&mut self, database: DatabaseOid, ids: &[String]) {
        for known in self
            .licenses
            .iter_mut()
            .filter(|known| ids.contains(&known.jti))
        {
            known.databases.remove(&database);
        }
    }

    /// Forgets databases that are gone.
    pub fn keep_databases(&mut self, exists: impl Fn(DatabaseOid) -> bool) {
        for known in &mut self.licenses {
            known.databases.retain(|&database| exists(database));
            known.renewal.keep_databases(&exists);
        }
        for allotment in &mut self.allotments {
            if !exists(allotment.database) {
                allotment.database = GONE;
            }
        }
    }

    /// Returns an allotment by its id.
    pub fn allotment(&self, id: &str) -> Option<&Allotment> {
        self.allotments.iter().find(|allotment| allotment.id == id)
    }

    /// Notes an allotment, unless its id is known.
    pub fn adopt(&mut self, allotment: Allotment) {
        if self.allotment(&allotment.id).is_none() {
            self.allotments.push(allotment);
        }
    }

    /// Notes that seats have come back, once; false if they had come back before.
    pub fn note_return(&mut self, id: &str, now: Timestamp) -> bool {
        let mut allotments = self.allotments.iter_mut();
        let Some(allotment) = allotments.find(|allotment| allotment.id == id) else {
            return false;
        };
        let was_away = allotment.is_away(now);
        allotment.returned_at.get_or_insert(now);
        was_away
    }

    /// Returns how many seats of a license's product are away.
    pub fn away(&self, iss: &str, jti: &str, product: &str, now: Timestamp) -> i64 {
        let of_product = |allotment: &&Allotment| {
            allotment.iss == iss && allotment.jti == jti && allotment.product == product
        };
        let allotments = self.allotments.iter().chain(&self.ended);
        let allotments = allotments.filter(of_product);
        let away = allotments.filter(|allotment| allotment.is_away(now));
        away.map(|allotment| i64::from(allotment.seats)).sum()
    }
}

/// The state of a license's renewal.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Renewal {
    /// How many tries have failed since the last one that succeeded.
    pub failures: u32,
    /// When the next automatic try may be made at the earliest; `None`: once it is due.
    pub not_before: Option<Timestamp>,
    /// Why the last try failed; `None`: it succeeded.
    pub failure: Option<String>,
    /// Tries that the trail of some database lacks.
    #[serde(rename = "untold")]
    pub unwritten: Vec<Try>,
}

/// A try to renew a license.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Try {
    /// When it ended; no two tries are the same.
    pub at: Timestamp,
    /// Who made it by hand; `None`: it was automatic.
    pub by: Option<String>,
    /// Why it failed; `None`: it succeeded.
    pub failure: Option<String>,
    /// The end of the license after it; `None`: it has none.
    pub valid_until: Option<Timestamp>,
    /// When the next one is.
    pub next_try_at: Option<Timestamp>,
    /// The OIDs of the databases whose trail lacks it.
    pub databases: BTreeSet<DatabaseOid>,
}

impl Renewal {
    /// Lets a try that failed be repeated without a pause, and pauses begin anew.
    pub fn begin_anew(&mut self) {
        if self.failures > 0 {
            (self.failures, self.not_before) = (0, None);
        }
    }

    /// Ends failures, because another token has come.
    pub fn end_failures(&mut self) {
        (self.failures, self.not_before, self.failure) = (0, None, None);
    }

    /// Forgets databases that are gone.
    pub fn keep_databases(&mut self, exists: impl Fn(DatabaseOid) -> bool) {
        self.update_unwritten(|attempt| attempt.databases.retain(|&database| exists(database)));
    }

    pub(in crate::signed) fn update_unwritten(&mut self, update: impl FnMut(&mut Try)) {
        self.unwritten.iter_mut().for_each(update);
        self.unwritten
            .retain(|attempt| !attempt.databases.is_empty());
    }
}
