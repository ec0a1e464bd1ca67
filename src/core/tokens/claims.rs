//! What a license says: the claims of a vendor's token.

use serde::de::Error;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Number;

use super::token::{Refused, malformed};
use crate::core::ledger::identity::{Name, Text};
use crate::core::ledger::time;
use crate::core::ledger::words::{ClaimedAt, CountedBy, Enforcement};

/// The last second that `timestamptz` and people write with a year of four digits: the end of the year 9999.
pub const LAST_SECOND: i64 = 253_402_300_799;

/// [`time::LEEWAY`] in seconds.
pub const LEEWAY: i64 = time::LEEWAY / 1_000_000;

/// How far ahead a token may be issued, in seconds. A day covers any wrong time zone. A token from later than that
/// would keep out every renewal until then.
const ISSUED_AHEAD: i64 = 86_400;

/// The most bytes that an issuer, a customer or a license's id can have.
const TEXT_MAX: usize = 255;

/// A vendor's license. Claims that are not listed here are ignored.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub struct Claims {
    /// The vendor, whose key signs.
    pub iss: String,
    /// The customer.
    pub sub: String,
    /// The license's id. A renewal has the same one.
    pub jti: String,
    /// When it was issued, in seconds since 1970. A renewal is younger.
    #[serde(deserialize_with = "moment")]
    pub iat: i64,
    /// When it begins; if absent, it has always been valid.
    #[serde(default, deserialize_with = "any_moment")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// When it ends; if absent, never.
    #[serde(default, deserialize_with = "any_moment")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
    /// What was bought.
    pub products: Vec<Product>,
    /// How many identities may be exempt at once, superusers aside; if absent, any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exempt: Option<u32>,
    /// The installation that it is for; if absent, any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
    /// When nobody is admitted any more, whatever the grace, because seats that were lent go back then. It is not a
    /// claim of a vendor's. `None` if the grace decides.
    #[serde(skip)]
    pub ends: Option<i64>,
}

/// The key that proves who may use a token (RFC 7800).
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
pub struct Confirmation {
    /// The thumbprint of the installation's key (RFC 7638, RFC 9449), which is its id.
    pub jkt: String,
}

/// Seats of a product, and rules: the columns of `licenses` by their names. A column that is not given has its default.
/// Unknown rules are refused, because they may be limits.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// The product's name.
    pub product: String,
    /// The number of seats bought; `null` for any number.
    #[serde(deserialize_with = "required")]
    pub seats: Option<i32>,
    /// What makes two connections the same user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted_by: Option<String>,
    /// Who claims it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claimed_at: Option<String>,
    /// The LIKE pattern of the application names that claim it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application_name: Option<String>,
    /// The pool. Databases with the same one count together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// What happens when no seat is free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<String>,
    /// The number of seats admitted beyond `seats`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overdraft: Option<i32>,
    /// The percentage of the seats in use from which the status is 'warning'.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warn_at_percent: Option<i32>,
    /// How long users are still admitted after the end; an interval as PostgreSQL reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace: Option<String>,
    /// How long a seat stays taken after its last holder left; an interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linger: Option<String>,
    /// The inactivity after which a seat is logged off; an interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<String>,
    /// The inactivity after which a seat gives way; an interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reclaim_idle_after: Option<String>,
    /// The most seats that one user may have at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_per_user: Option<i32>,
    /// The product's own first moment; a time as PostgreSQL reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<String>,
    /// The product's own end; a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<String>,
}

/// Reads a moment as whole seconds. A JWT's dates may have fractions of them.
fn moment<'de, D: Deserializer<'de>>(value: D) -> Result<i64, D::Error> {
    whole(&Number::deserialize(value)?)
}

fn any_moment<'de, D: Deserializer<'de>>(value: D) -> Result<Option<i64>, D::Error> {
    let number: Option<Number> = Option::deserialize(value)?;
    number.as_ref().map(whole).transpose()
}

fn whole<E: Error>(number: &Number) -> Result<i64, E> {
    let fraction = || Some(number.as_f64()?.floor() as i64);
    let seconds = number.as_i64().or_else(fraction);
    seconds.ok_or_else(|| E::custom("a date is no number"))
}

/// Reads a member that may be `null`, but must be there.
fn required<'de, D: Deserializer<'de>>(value: D) -> Result<Option<i32>, D::Error> {
    Option::deserialize(value)
}

/// Why a license can't be used here and now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// Its end has come.
    Ended,
    /// Its beginning has not come yet.
    NotYetValid,
    /// It says that it was issued more than a day from now.
    IssuedAhead,
    /// It is made for another installation.
    Elsewhere {
        /// That installation's id.
        jkt: String,
        /// This installation's id; `None` if its key can't be read.
        own: Option<String>,
    },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::Ended => f.write_str("It has ended."),
            Unfit::NotYetValid => f.write_str("It is not valid yet."),
            Unfit::IssuedAhead => {
                f.write_str("It was issued more than a day ahead of this server's clock.")
            }
            Unfit::Elsewhere { jkt, own: None } => {
                write!(f, "It is made for installation {jkt:?}.")
            }
            Unfit::Elsewhere {
                jkt,
                own: Some(own),
            } => write!(f, "It is made for installation {jkt:?}, and this is {own}."),
        }
    }
}

impl Claims {
    /// Tells whether it can be used at this moment, in seconds since 1970, on this installation, which is `None` if its
    /// key can't be read.
    ///
    /// # Errors
    ///
    /// Says why it can't be used.
    pub fn fit(&self, now: i64, installation: Option<&str>) -> Result<(), Unfit> {
        if self.exp.is_some_and(|exp| exp <= now) {
            return Err(Unfit::Ended);
        }
        if self.is_issued_ahead(now) {
            return Err(Unfit::IssuedAhead);
        }
        if self.nbf.is_some_and(|nbf| nbf > now + LEEWAY) {
            return Err(Unfit::NotYetValid);
        }
        match &self.cnf {
            Some(cnf) if installation != Some(cnf.jkt.as_str()) => Err(Unfit::Elsewhere {
                jkt: cnf.jkt.clone(),
                own: installation.map(str::to_owned),
            }),
            _ => Ok(()),
        }
    }

    /// Tells whether it says that it was issued more than a day from now.
    pub fn is_issued_ahead(&self, now: i64) -> bool {
        self.iat > now.saturating_add(ISSUED_AHEAD)
    }

    /// Checks whether it can be a license.
    ///
    /// # Errors
    ///
    /// Says which claim is wrong.
    pub fn check(&self) -> Result<(), Refused> {
        for (claim, text) in [("iss", &self.iss), ("sub", &self.sub), ("jti", &self.jti)] {
            if text.is_empty() || text.len() > TEXT_MAX || text.contains(char::is_control) {
                return Err(malformed(format!(
                    "Claim {claim:?} must have 1 to {TEXT_MAX} bytes and no control characters."
                )));
            }
        }
        let dates = [
            ("iat", Some(self.iat)),
            ("nbf", self.nbf),
            ("exp", self.exp),
        ];
        for (claim, seconds) in dates {
            if seconds.is_some_and(|seconds| !(0..=LAST_SECOND).contains(&seconds)) {
                return Err(malformed(format!(
                    "Claim {claim:?} must be in seconds since 1970, up to the year 9999."
                )));
            }
        }
        if self.nbf.zip(self.exp).is_some_and(|(nbf, exp)| nbf >= exp) {
            return Err(malformed("It would end before it begins."));
        }
        if self.products.is_empty() {
            return Err(malformed("It has no products."));
        }
        for (at, product) in self.products.iter().enumerate() {
            product.check()?;
            let mut before = self.products.iter().take(at);
            if before.clone().any(|p| p.product == product.product) {
                return Err(malformed(format!("It has {:?} twice.", product.product)));
            }
            if let Some(rival) = before.find(|p| p.claims_logins_of(product)) {
                return Err(malformed(format!(
                    "The same logins would claim {:?} and {:?}.",
                    rival.product, product.product
                )));
            }
        }
        Ok(())
    }

    /// Returns the texts that become part of the tables, and must be the same there.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let of_products = self.products.iter().flat_map(Product::texts);
        of_products.chain([self.jti.as_str()])
    }
}

impl Product {
    /// Tells whether logins could not tell which of the two they claim.
    fn claims_logins_of(&self, other: &Product) -> bool {
        let by_login = |product: &Product| {
            let word = product.claimed_at.as_deref();
            word.is_none_or(|word| ClaimedAt::from_word(word) == Some(ClaimedAt::Login))
        };
        by_login(self) && by_login(other) && self.application_name == other.application_name
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        let texts = [
            Some(&self.product),
            self.application_name.as_ref(),
            self.pool.as_ref(),
        ];
        texts.into_iter().flatten().map(String::as_str)
    }

    fn check(&self) -> Result<(), Refused> {
        let wrong = |member: &str, rule: &str| {
            Err(malformed(format!(
                "{member:?} of {:?} {rule}.",
                self.product
            )))
        };
        let is_name = |name: &str| {
            !name.is_empty()
                && Name::new(name).is_some()
                && !name.contains(|c: char| c.is_ascii_control())
        };
        if !is_name(&self.product) {
            return Err(malformed(format!(
                "A product's name must have 1 to 63 bytes and no control characters, unlike {:?}.",
                self.product
            )));
        }
        if self.pool.as_deref().is_some_and(|pool| !is_name(pool)) {
            return wrong("pool", "must have 1 to 63 bytes and no control characters");
        }
        if self.seats.is_some_and(|seats| seats < 0) {
            return wrong("seats", "must not be negative");
        }
        if self.overdraft.is_some_and(|seats| seats < 0) {
            return wrong("overdraft", "must not be negative");
        }
        if self.max_per_user.is_some_and(|seats| seats < 1) {
            return wrong("max_per_user", "must be at least 1");
        }
        if self
            .warn_at_percent
            .is_some_and(|percent| !(0..=100).contains(&percent))
        {
            return wrong("warn_at_percent", "must be from 0 to 100");
        }
        let known = |word: &Option<String>, is_known: fn(&str) -> bool| {
            word.as_deref().is_none_or(is_known)
        };
        if !known(&self.counted_by, |word| {
            CountedBy::from_word(word).is_some()
        }) {
            return wrong("counted_by", "is not a known word");
        }
        if !known(&self.claimed_at, |word| {
            ClaimedAt::from_word(word).is_some()
        }) {
            return wrong("claimed_at", "is not a known word");
        }
        if !known(&self.enforcement, |word| {
            Enforcement::from_word(word).is_some()
        }) {
            return wrong("enforcement", "is not a known word");
        }
        let is_pattern = |pattern: &str| {
            let escapes = pattern
                .bytes()
                .rev()
                .take_while(|&byte| byte == b'\\')
                .count();
            !pattern.is_empty() && Text::<128>::new(pattern).is_some() && escapes % 2 == 0
        };
        if self
            .application_name
            .as_deref()
            .is_some_and(|pattern| !is_pattern(pattern))
        {
            return wrong(
                "application_name",
                "must be a LIKE pattern of 1 to 127 bytes that does not end in an escape character",
            );
        }
        Ok(())
    }
}
