//! Notes in the installation's record what is seen of a database's signed licenses.

use super::evaluation::{Doubt, SignedLicense, Source};
use super::installation::record::{Known, Record};
use crate::core::ledger::numbers::DatabaseOid;
use crate::core::ledger::time::Timestamp;
use crate::core::tokens::moment;

/// How often the time is noted, in microseconds: setting the clock back gains no more than this.
const HOUR: Timestamp = 3_600_000_000;

impl Record {
    /// Notes what was seen of the licenses of a database: their newest tokens, and since when they are in doubt.
    /// Returns the ids of those that are newly in doubt.
    pub fn observe(
        &mut self,
        database: DatabaseOid,
        licenses: &[SignedLicense],
        now: Timestamp,
    ) -> Vec<String> {
        self.see_time(now, licenses);
        let mut doubtful = Vec::new();
        for license in licenses {
            let claims = &license.claims;
            let is_verified = !matches!(license.doubt, Some(Doubt::Unverified(_)));
            if self.license(&claims.iss, &claims.jti).is_none() {
                if !is_verified && self.has_no_room_for_unverified() {
                    continue;
                }
                self.licenses.push(Known {
                    iss: claims.iss.clone(),
                    jti: claims.jti.clone(),
                    ..Known::default()
                });
            }
            let mut licenses = self.licenses.iter_mut();
            let known = licenses.find(|known| known.iss == claims.iss && known.jti == claims.jti);
            let Some(known) = known else {
                continue;
            };
            let is_older = claims.iat < known.iat;
            if is_verified {
                known.verified_iat = known.verified_iat.max(claims.iat);
            }
            if !is_older && (is_verified || !known.is_verified) {
                if known.token != license.token {
                    known.token.clone_from(&license.token);
                    known.renewal.end_failures();
                }
                known.iat = claims.iat;
                known.is_verified = is_verified;
            }
            if license.source != Source::Record {
                known.databases.insert(database);
            }
            let former = (known.unverified_since, known.elsewhere_since);
            match license.doubt {
                Some(Doubt::Unverified(_)) => {
                    known.unverified_since.get_or_insert(now);
                }
                Some(Doubt::Elsewhere) => {
                    known.unverified_since = None;
                    // Once only: a later token of the same license gets no second grace period.
                    known.elsewhere_since.get_or_insert(now);
                }
                Some(Doubt::GivenBack) | None => known.unverified_since = None,
            }
            if license.doubt.is_some() && former != (known.unverified_since, known.elsewhere_since)
            {
                doubtful.push(claims.jti.clone());
            }
        }
        doubtful
    }

    /// Notes the latest moment: each hour, and when a license has ended, because it must not begin anew.
    fn see_time(&mut self, now: Timestamp, licenses: &[SignedLicense]) {
        let has_ended = |license: &SignedLicense| {
            let end = license.claims.exp.map(moment);
            end.is_some_and(|end| self.latest < end && end <= now)
        };
        if now.saturating_sub(self.latest) >= HOUR || licenses.iter().any(has_ended) {
            self.latest = self.latest.max(now);
        }
    }
}
