//! What this installation must not forget, whatever becomes of its databases: a copy or an older state
//! of a database gains nothing by it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::files;
use crate::core::ledger::time::{LEEWAY, Timestamp};
use crate::core::tokens::believe;
use crate::core::tokens::claims::Claims;
use crate::signed::renewal::schedule::Renewal;

/// The record.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The latest moment that this server has known.
    pub latest: Timestamp,
    /// The licenses that are or were installed.
    pub licenses: Vec<Known>,
    /// What was passed on to other installations.
    pub allotments: Vec<Allotment>,
    /// The sums of what came back by its time long ago, each with the last of those times.
    pub ended: Vec<Allotment>,
    /// What was passed on to this installation and given back by it, by the allotments' ids.
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
    /// It was verified once.
    pub is_verified: bool,
    /// When the youngest token was issued that was verified here, also if it did not stay.
    #[serde(default)]
    pub verified_iat: i64,
    /// The OIDs of the databases in which it is installed.
    pub databases: BTreeSet<u32>,
    /// Since when its signature could not be verified; `None`: it can.
    pub unverified_since: Option<Timestamp>,
    /// When a token of it was first seen that is made for another installation.
    pub elsewhere_since: Option<Timestamp>,
    /// How it goes with its renewal.
    #[serde(default)]
    pub renewal: Renewal,
}

/// In the place of a database that is gone: any that has the license, as one that was restored.
pub const GONE: u32 = 0;

/// Seats that were passed on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Allotment {
    /// Its id, which is that of the token made of it.
    pub id: String,
    /// The issuer of the license that it is of.
    pub iss: String,
    /// That license's id.
    pub jti: String,
    /// The product.
    pub product: String,
    /// How many.
    pub seats: i32,
    /// The id of the installation that has them.
    pub installation: String,
    /// The OID of the database whose seats they were, or [`GONE`].
    pub database: u32,
    /// When they were passed on.
    pub allotted_at: Timestamp,
    /// When they come back by themselves; `None`: never.
    pub valid_until: Option<Timestamp>,
    /// When they came back.
    pub returned_at: Option<Timestamp>,
}

/// Seats that this installation has given back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GivenBack {
    /// When.
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
    /// Whether a token is an older one of this license.
    pub fn replaces(&self, token: &str) -> bool {
        believe(token).is_ok_and(|older| {
            older.iss == self.iss && older.jti == self.jti && older.iat < self.iat
        })
    }
}

/// When seats come back by themselves that are lent until then.
pub fn comes_back_at(valid_until: Option<Timestamp>) -> Option<Timestamp> {
    Some(valid_until?.saturating_add(LEEWAY))
}

impl Allotment {
    /// Whether the seats are away. What comes back by its time is never noted: it goes by the clock as it is, so that
    /// one that was ahead for a while has brought nothing back.
    pub fn is_away(&self, now: Timestamp) -> bool {
        self.returned_at.is_none()
            && self
                .comes_back_at()
                .is_none_or(|comes_back_at| now < comes_back_at)
    }

    /// When the seats come back by themselves: as much later as the clock of who has them may be behind.
    pub fn comes_back_at(&self) -> Option<Timestamp> {
        comes_back_at(self.valid_until)
    }
}

impl Record {
    /// The record beside this installation's key; see [`files::read`].
    ///
    /// # Errors
    ///
    /// Where there is none to be had.
    pub fn read(key: &Path) -> io::Result<Record> {
        Ok(files::read(key)?.record)
    }

    /// Changes it; see [`files::change`].
    ///
    /// # Errors
    ///
    /// Where it can't be read or written; then it is as it was.
    pub fn change<R>(key: &Path, change: impl FnOnce(&mut Record) -> R) -> io::Result<R> {
        Ok(files::change(key, change)?.0)
    }

    /// A license, by who issued it and its id.
    pub fn license(&self, iss: &str, jti: &str) -> Option<&Known> {
        self.licenses
            .iter()
            .find(|known| known.iss == iss && known.jti == jti)
    }

    /// Notes that a token was verified here, whatever becomes of its installation: from then on no older one is
    /// installed. False where a younger one was.
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
    pub fn uninstall(&mut self, database: u32, ids: &[String]) {
        for known in self
            .licenses
            .iter_mut()
            .filter(|known| ids.contains(&known.jti))
        {
            known.databases.remove(&database);
        }
    }

    /// Forgets databases that are gone.
    pub fn keep_databases(&mut self, exists: impl Fn(u32) -> bool) {
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

    /// What was passed on, by its id.
    pub fn allotment(&self, id: &str) -> Option<&Allotment> {
        self.allotments.iter().find(|allotment| allotment.id == id)
    }

    /// Takes note of seats that were passed on, unless their id is known.
    pub fn adopt(&mut self, allotment: Allotment) {
        if self.allotment(&allotment.id).is_none() {
            self.allotments.push(allotment);
        }
    }

    /// Seats come back, once: false where they had come before.
    pub fn take_back(&mut self, id: &str, now: Timestamp) -> bool {
        let mut allotments = self.allotments.iter_mut();
        let Some(allotment) = allotments.find(|allotment| allotment.id == id) else {
            return false;
        };
        let was_away = allotment.is_away(now);
        allotment.returned_at.get_or_insert(now);
        was_away
    }

    /// Seats of a license's product that are away.
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
