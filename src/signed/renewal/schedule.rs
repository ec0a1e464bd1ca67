//! Decides which license is due for its renewal, and when the next try is.

use std::collections::BTreeSet;

use crate::core::command::Failure;
use crate::core::ledger::numbers::DatabaseOid;
use crate::core::ledger::time::Timestamp;
use crate::core::tokens::claims::Claims;
use crate::core::tokens::{self, believe, moment};
use crate::signed::installation::record::{Known, Record, Try};

/// The pause after the first failed try, in microseconds; each further failure doubles it.
const FIRST_PAUSE: Timestamp = 60_000_000;

/// The longest pause, so that a vendor's server that was down for a day is asked again the same day.
const LONGEST_PAUSE: Timestamp = 6 * 3_600_000_000;

/// How many tries are kept for databases that can't be written now.
const UNWRITTEN_MAX: usize = 64;

/// Who renews a license, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Occasion {
    /// The present moment.
    pub at: Timestamp,
    /// How long before its end a license is due, in microseconds.
    pub renew_before: Timestamp,
    /// The role that renews it by hand, and the database in which it does; `None`: it is automatic.
    pub by: Option<(String, DatabaseOid)>,
}

/// Returns the pause after so many failures in a row.
pub fn pause(failures: u32) -> Timestamp {
    let doubled = 1_i64.checked_shl(failures.saturating_sub(1).min(62));
    FIRST_PAUSE
        .saturating_mul(doubled.unwrap_or(Timestamp::MAX))
        .min(LONGEST_PAUSE)
}

/// Returns when the next try to renew a license is; `None` if never, because it has no end, no vendor's key has ever
/// verified it here, or it is an allotment, which the installation that allotted it renews.
pub fn next_try_at(known: &Known, renew_before: Timestamp) -> Option<Timestamp> {
    if !known.is_verified || tokens::is_allotment(&known.token) {
        return None;
    }
    let end = moment(believe(&known.token).ok()?.exp?);
    let due = end.saturating_sub(renew_before);
    Some(known.renewal.not_before.map_or(due, |at| due.max(at)))
}

/// Returns the installed license that is to be renewed next, and when.
pub fn next(record: &Record, renew_before: Timestamp) -> Option<(Timestamp, &Known)> {
    let installed = record.licenses.iter();
    let installed = installed.filter(|known| !known.databases.is_empty());
    let next = installed.filter_map(|known| Some((next_try_at(known, renew_before)?, known)));
    next.min_by_key(|(at, _)| *at)
}

impl Record {
    /// Notes a try to renew this license, the newest token of which is `token`. Returns the databases in which it is
    /// installed, and when the next try is.
    pub fn note_try(
        &mut self,
        (former, token): (&Claims, &str),
        outcome: &Result<(String, Claims), Failure>,
        occasion: &Occasion,
    ) -> (BTreeSet<DatabaseOid>, Option<Timestamp>) {
        let is_it = |known: &Known| known.iss == former.iss && known.jti == former.jti;
        if !self.licenses.iter().any(is_it) {
            self.licenses.push(Known {
                iss: former.iss.clone(),
                jti: former.jti.clone(),
                ..Known::default()
            });
        }
        let Some(known) = self.licenses.iter_mut().find(|known| is_it(known)) else {
            return Default::default();
        };
        if known.token.is_empty() {
            // It was just installed, and no worker has seen it yet.
            (known.iat, known.token) = (former.iat, token.to_owned());
            known.is_verified = true;
        }
        let now = occasion.at;
        let renewal = &mut known.renewal;
        match outcome {
            Ok((token, claims)) => {
                if known.iat < claims.iat {
                    (known.iat, known.token) = (claims.iat, token.clone());
                    known.is_verified = true;
                }
                known.verified_iat = known.verified_iat.max(claims.iat);
                renewal.end_failures();
            }
            Err(failure) => {
                renewal.failure = Some(failure.to_string());
                // A try by hand does not put off the automatic ones.
                if occasion.by.is_none() {
                    renewal.failures = renewal.failures.saturating_add(1);
                    renewal.not_before = Some(now.saturating_add(pause(renewal.failures)));
                }
            }
        }
        let valid_until = believe(&known.token).ok().and_then(|claims| claims.exp);
        let valid_until = valid_until.map(moment);
        let next = next_try_at(known, occasion.renew_before);
        if outcome.is_ok()
            && let Some(end) = valid_until.filter(|_| next.is_some_and(|at| at <= now))
        {
            // A license that lasts no longer than `renew_before` is renewed in the middle of its time.
            let half = end.saturating_sub(now) / 2;
            known.renewal.not_before = Some(now.saturating_add(half.max(FIRST_PAUSE)));
        }
        let next_try_at = next_try_at(known, occasion.renew_before);
        let by = occasion.by.as_ref();
        let mut databases = known.databases.clone();
        databases.extend(by.map(|(_, database)| *database));
        let unwritten = &mut known.renewal.unwritten;
        unwritten.push(Try {
            at: now,
            by: by.map(|(role, _)| role.clone()),
            failure: outcome
                .as_ref()
                .err()
                .map(|failure| failure.for_everybody().to_owned()),
            valid_until,
            next_try_at,
            databases: databases.clone(),
        });
        let beyond = unwritten.len().saturating_sub(UNWRITTEN_MAX);
        unwritten.drain(..beyond);
        (databases, next_try_at)
    }

    /// Returns the tries that the trail of a database lacks, each with its license's id.
    pub fn unwritten(&self, database: DatabaseOid) -> Vec<(String, Try)> {
        let of_license = |known: &Known| {
            let tries = known.renewal.unwritten.clone().into_iter();
            let unwritten = tries.filter(|attempt| attempt.databases.contains(&database));
            let jti = known.jti.clone();
            unwritten
                .map(move |attempt| (jti.clone(), attempt))
                .collect::<Vec<_>>()
        };
        self.licenses.iter().flat_map(of_license).collect()
    }

    /// Notes that the trail of a database has these tries.
    pub fn note_written(&mut self, database: DatabaseOid, tries: &[(String, Try)]) {
        for known in &mut self.licenses {
            let jti = &known.jti;
            known.renewal.update_unwritten(|attempt| {
                let is_it = |(id, written): &(String, Try)| id == jti && written.at == attempt.at;
                if tries.iter().any(is_it) {
                    attempt.databases.remove(&database);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tokens::tests::{claims, header, sign};
    use crate::signed::installation::record::Renewal;
    use serde_json::json;

    const MINUTE: Timestamp = 60_000_000;
    const DAY: Timestamp = 24 * 60 * MINUTE;
    const NOW: Timestamp = 10_000 * DAY;

    /// Returns a license that was issued `iat` days ago and ends in `exp` days.
    fn license(iat: Timestamp, exp: Option<Timestamp>) -> (String, Claims) {
        let mut license = claims();
        license["iat"] = json!(tokens::unix(NOW - iat * DAY));
        license["nbf"] = license["iat"].clone();
        match exp {
            Some(days) => license["exp"] = json!(tokens::unix(NOW + days * DAY)),
            None => drop(license.as_object_mut().unwrap().remove("exp")),
        }
        let token = sign(&header(), &license);
        let claims = believe(&token).unwrap();
        (token, claims)
    }

    fn record(licenses: &[(String, Claims)]) -> Record {
        let known = |(token, claims): &(String, Claims)| Known {
            iss: claims.iss.clone(),
            jti: claims.jti.clone(),
            iat: claims.iat,
            token: token.clone(),
            databases: BTreeSet::from([5, 6].map(DatabaseOid)),
            is_verified: true,
            ..Known::default()
        };
        Record {
            licenses: licenses.iter().map(known).collect(),
            ..Record::default()
        }
    }

    fn by_itself(at: Timestamp) -> Occasion {
        Occasion {
            at,
            renew_before: 14 * DAY,
            by: None,
        }
    }

    fn failed() -> Result<(String, Claims), Failure> {
        Err(Failure::Command("It ended with status 22.".to_owned()))
    }

    #[test]
    fn pauses_double_from_a_minute_to_six_hours() {
        let minutes: Vec<_> = (1..12).map(|failures| pause(failures) / MINUTE).collect();
        assert_eq!(minutes, [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
        assert_eq!(pause(0), MINUTE);
    }

    #[test]
    fn a_license_is_due_some_time_before_its_end() {
        let record = record(&[license(100, Some(20))]);
        let (at, known) = next(&record, 14 * DAY).unwrap();
        assert_eq!((at, known.jti.as_str()), (NOW + 6 * DAY, "TOM-4711"));
        assert_eq!(next(&record, 0).unwrap().0, NOW + 20 * DAY);
    }

    #[test]
    fn what_has_no_end_or_is_installed_nowhere_is_never_due() {
        assert_eq!(next(&record(&[license(1, None)]), 14 * DAY), None);
        let mut record = record(&[license(1, Some(1))]);
        record.licenses[0].databases.clear();
        assert_eq!(next(&record, 14 * DAY), None);
        assert_eq!(next(&Record::default(), 14 * DAY), None);
    }

    #[test]
    fn what_no_key_has_verified_is_never_due() {
        let mut record = record(&[license(1, Some(1))]);
        record.licenses[0].is_verified = false;
        assert_eq!(next(&record, 14 * DAY), None);
    }

    #[test]
    fn tries_by_hand_put_off_none_that_is_made_by_itself() {
        let license = license(100, Some(5));
        let mut record = record(std::slice::from_ref(&license));
        let due = next(&record, 14 * DAY).unwrap().0;
        let by_hand = Occasion {
            by: Some(("anna".to_owned(), DatabaseOid(5))),
            ..by_itself(NOW)
        };
        for _ in 0..20 {
            record.note_try((&license.1, &license.0), &failed(), &by_hand);
            assert_eq!(next(&record, 14 * DAY).unwrap().0, due);
        }
        record.note_try((&license.1, &license.0), &failed(), &by_itself(NOW));
        assert_eq!(next(&record, 14 * DAY).unwrap().0, NOW + MINUTE);
        // Nor do they hide what the command has complained of.
        let failure = Failure::Complained {
            reason: "The command ended with status 6.".to_owned(),
            complaint: "no host secret.example".to_owned(),
        };
        record.note_try((&license.1, &license.0), &Err(failure), &by_hand);
        let renewal = &record.licenses[0].renewal;
        assert_eq!(
            renewal.failure.as_deref(),
            Some("The command ended with status 6: no host secret.example.")
        );
        let reason = &record
            .unwritten(DatabaseOid(5))
            .last()
            .unwrap()
            .1
            .failure
            .clone();
        assert_eq!(reason.as_deref(), Some("The command ended with status 6."));
    }

    #[test]
    fn an_allotment_is_never_due() {
        let mut record = record(&[license(1, Some(1))]);
        let token = crate::core::tokens::tests::allotment();
        assert!(believe(&token).unwrap().exp.is_some());
        record.licenses[0].token = token;
        assert_eq!(next(&record, 14 * DAY), None);
    }

    #[test]
    fn after_failures_the_next_try_is_later_each_time_and_a_reload_begins_anew() {
        let license = license(100, Some(5));
        let mut record = record(std::slice::from_ref(&license));
        let mut now = NOW;
        for minutes in [1, 2, 4] {
            let (databases, at) =
                record.note_try((&license.1, &license.0), &failed(), &by_itself(now));
            assert_eq!(databases, BTreeSet::from([5, 6].map(DatabaseOid)));
            assert_eq!(at, Some(now + minutes * MINUTE));
            assert_eq!(next(&record, 14 * DAY).unwrap().0, now + minutes * MINUTE);
            now += minutes * MINUTE;
        }
        let renewal = &mut record.licenses[0].renewal;
        assert_eq!(renewal.failure.as_deref(), Some("It ended with status 22."));
        renewal.begin_anew();
        assert_eq!(next(&record, 14 * DAY).unwrap().0, NOW - 9 * DAY);
        record.note_try((&license.1, &license.0), &failed(), &by_itself(now));
        assert_eq!(next(&record, 14 * DAY).unwrap().0, now + MINUTE);
    }

    #[test]
    fn a_failure_long_before_the_end_changes_nothing_of_when_it_is_due() {
        let license = license(1, Some(300));
        let mut record = record(std::slice::from_ref(&license));
        let (_, at) = record.note_try((&license.1, &license.0), &failed(), &by_itself(NOW));
        assert_eq!(at, Some(NOW + 286 * DAY));
    }

    #[test]
    fn a_renewal_puts_the_newer_token_in_the_place_of_the_older_one() {
        let (former, newer) = (license(100, Some(5)), license(0, Some(365)));
        let mut record = record(std::slice::from_ref(&former));
        record.note_try((&former.1, &former.0), &failed(), &by_itself(NOW));
        let occasion = by_itself(NOW + 1);
        record.note_try((&former.1, &former.0), &Ok(newer.clone()), &occasion);
        let known = &record.licenses[0];
        assert_eq!((&known.token, known.iat), (&newer.0, newer.1.iat));
        assert!(known.is_verified);
        let Renewal {
            failures,
            not_before,
            failure,
            unwritten,
        } = &known.renewal;
        assert_eq!((*failures, *not_before, failure.as_ref()), (0, None, None));
        assert_eq!(unwritten.len(), 2);
        assert_eq!(next(&record, 14 * DAY).unwrap().0, NOW + 351 * DAY);
        // Somebody has installed an even newer token meanwhile.
        let mut late = former.clone();
        late.1.iat -= 1;
        record.note_try((&former.1, &former.0), &Ok(late), &occasion);
        assert_eq!(record.licenses[0].token, newer.0);
    }

    #[test]
    fn a_short_license_is_renewed_in_the_middle_of_its_time() {
        let (former, newer) = (license(100, Some(5)), license(0, Some(8)));
        let mut record = record(std::slice::from_ref(&former));
        let try_it = |record: &mut Record, newer: &(String, Claims), at| {
            let (_, at) =
                record.note_try((&former.1, &former.0), &Ok(newer.clone()), &by_itself(at));
            at.unwrap()
        };
        assert_eq!(try_it(&mut record, &newer, NOW), NOW + 4 * DAY);
        // However near the end is, the command is not called all the time.
        let end = NOW + 8 * DAY;
        assert_eq!(try_it(&mut record, &newer, end - 1), end - 1 + MINUTE);
    }

    #[test]
    fn what_was_just_installed_is_known_by_its_first_try() {
        let license = license(100, Some(5));
        let mut record = Record::default();
        let occasion = Occasion {
            by: Some(("anna".to_owned(), DatabaseOid(7))),
            ..by_itself(NOW)
        };
        let (databases, _) = record.note_try((&license.1, &license.0), &failed(), &occasion);
        assert_eq!(databases, BTreeSet::from([DatabaseOid(7)]));
        assert_eq!(record.licenses[0].token, license.0);
        // It may be rolled back.
        assert!(record.licenses[0].databases.is_empty());
    }

    #[test]
    fn each_database_is_told_of_each_try_once() {
        let license = license(100, Some(5));
        let mut record = record(std::slice::from_ref(&license));
        for at in [NOW, NOW + 1] {
            record.note_try((&license.1, &license.0), &failed(), &by_itself(at));
        }
        let unwritten = record.unwritten(DatabaseOid(5));
        assert_eq!(unwritten.len(), 2);
        record.note_try((&license.1, &license.0), &failed(), &by_itself(NOW + 2));
        record.note_written(DatabaseOid(5), &unwritten);
        assert_eq!(record.unwritten(DatabaseOid(5)).len(), 1);
        assert_eq!(record.unwritten(DatabaseOid(6)).len(), 3);
        for database in [5, 6].map(DatabaseOid) {
            let unwritten = record.unwritten(database);
            record.note_written(database, &unwritten);
        }
        assert!(record.licenses[0].renewal.unwritten.is_empty());
        for at in 0..100 {
            record.note_try((&license.1, &license.0), &failed(), &by_itself(NOW + at));
        }
        assert_eq!(record.unwritten(DatabaseOid(5)).len(), UNWRITTEN_MAX);
        assert_eq!(record.unwritten(DatabaseOid(5))[63].1.at, NOW + 99);
    }
}
