//! What the record may forget so that it stays small: nothing by which a seat could be used twice.
//!
//! * Allotments that came back by a receipt: from then on the receipt is for seats that are not away.
//! * Allotments that came back at their end: they become one entry for each product, which counts as away until the
//!   last of their ends, should the clock be set back.
//! * Seats that were given back, and licenses of other installations, whose end has come by the latest moment known:
//!   their tokens have ended whatever the clock says.
//!
//! The last [`KEPT`] of each are kept all the same, for people. Licenses of vendors, and seats given back that have no
//! end of their own, are never forgotten; of licenses that no key has ever verified, [`UNVERIFIED_MAX`] are noted.

use super::record::{Allotment, Known, Record};
use crate::core::ledger::time::Timestamp;
use crate::core::tokens::{believe, is_allotment, moment};

/// How many of a kind are kept although they might be forgotten.
const KEPT: usize = 200;

/// How many entries there may be that can't be forgotten: beyond that no more seats are allotted, or taken from others.
pub const MAX: usize = 10_000;

/// How many licenses are noted that no key has ever verified; others are not believed at all.
const UNVERIFIED_MAX: usize = 100;

impl Record {
    /// Tells whether no more seats can be allotted.
    pub fn is_full_of_allotments(&self) -> bool {
        self.allotments.len() >= MAX
    }

    /// Tells whether no more seats can be taken that would have to be given back.
    pub fn is_full_of_returns(&self) -> bool {
        self.given_back.len() >= MAX
    }

    /// Tells whether there is no room for another license that no key has ever verified.
    pub fn has_no_room_for_unverified(&self) -> bool {
        let licenses = self.licenses.iter();
        let unverified = licenses.filter(|known| !known.is_verified && !known.token.is_empty());
        unverified.count() >= UNVERIFIED_MAX
    }

    /// Forgets what may be forgotten.
    pub fn forget(&mut self) {
        self.forget_returned();
        self.merge_ended();
        self.forget_given_back();
        self.forget_allotted();
    }

    fn forget_returned(&mut self) {
        let returned = self.allotments.iter().filter_map(|one| one.returned_at);
        let Some(oldest) = oldest_kept(returned.collect()) else {
            return;
        };
        self.allotments
            .retain(|one| one.returned_at.is_none_or(|at| at >= oldest));
    }

    fn merge_ended(&mut self) {
        let latest = self.latest;
        let end = |one: &Allotment| {
            let until = one.valid_until.filter(|_| one.returned_at.is_none());
            until.filter(|_| !one.is_away(latest))
        };
        let Some(oldest) = oldest_kept(self.allotments.iter().filter_map(end).collect()) else {
            return;
        };
        let ended = self
            .allotments
            .extract_if(.., |one| end(one).is_some_and(|until| until < oldest));
        for one in ended.collect::<Vec<_>>() {
            let mut merged = self.ended.iter_mut();
            let same = merged.find(|other| {
                (&other.iss, &other.jti, &other.product) == (&one.iss, &one.jti, &one.product)
            });
            match same {
                Some(other) => {
                    other.seats = other.seats.saturating_add(one.seats);
                    other.valid_until = other.valid_until.max(one.valid_until);
                }
                None => self.ended.push(one),
            }
        }
    }

    fn forget_given_back(&mut self) {
        let latest = self.latest;
        let ended = self.given_back.values().filter_map(|one| one.ends);
        let ended = ended.filter(|&until| until <= latest);
        let Some(oldest) = oldest_kept(ended.collect()) else {
            return;
        };
        self.given_back
            .retain(|_, one| one.ends.is_none_or(|until| until >= oldest));
    }

    fn forget_allotted(&mut self) {
        if self.licenses.len() <= KEPT {
            return;
        }
        let latest = self.latest;
        let end = |known: &Known| {
            let claims = believe(&known.token).ok()?;
            let until = moment(claims.exp.filter(|_| is_allotment(&known.token))?);
            (until <= latest).then_some(until)
        };
        let Some(oldest) = oldest_kept(self.licenses.iter().filter_map(end).collect()) else {
            return;
        };
        self.licenses
            .retain(|known| end(known).is_none_or(|until| until >= oldest));
    }
}

/// Returns the moment from which on events are kept; `None` if all of them are.
fn oldest_kept(mut moments: Vec<Timestamp>) -> Option<Timestamp> {
    let beyond = moments.len().checked_sub(KEPT).filter(|&n| n > 0)?;
    moments.sort_unstable();
    moments.get(beyond).copied()
}
