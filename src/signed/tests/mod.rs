//! Tests which of a database's tokens count, and that no seat is used twice by them.

mod sold;

use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use serde_json::json;

use super::evaluation::{Doubt, Evaluation, SignedLicense, Source, StoredToken};
use super::installation::record::{GivenBack, Known, Record};
use crate::core::ledger::identity::Name;
use crate::core::ledger::numbers::DatabaseOid;
use crate::core::tokens::allotment::{Allotted, Returned};
use crate::core::tokens::claims::Confirmation;
use crate::core::tokens::key_pair::KeyPair;
use crate::core::tokens::keys::Keys;
use crate::core::tokens::tests::*;
use crate::core::tokens::{Refused, believe, moment, unix, verify};

const DAY: i64 = 86_400_000_000;
const NOW: i64 = 10_000 * DAY;

fn row(token: &str) -> StoredToken {
    StoredToken {
        license_id: "TOM-4711".to_owned(),
        token: token.to_owned(),
        is_installed: true,
    }
}

fn known(token: &str, databases: &[u32]) -> Known {
    let claims = believe(token).unwrap();
    Known {
        iss: claims.iss,
        jti: claims.jti,
        iat: claims.iat,
        token: token.to_owned(),
        is_verified: true,
        databases: databases.iter().copied().map(DatabaseOid).collect(),
        ..Known::default()
    }
}

fn evaluation<'a>(keys: &'a Keys, record: &'a Record) -> Evaluation<'a> {
    Evaluation {
        keys,
        record,
        lost: None,
        installation: Some("here"),
        database: DatabaseOid(5),
        key_grace: 7 * DAY,
        now: NOW,
    }
}

fn only(keys: &Keys, record: &Record, rows: &[StoredToken]) -> SignedLicense {
    let (mut licenses, invalid) = evaluation(keys, record).licenses(rows);
    assert_eq!(invalid, []);
    assert_eq!(licenses.len(), 1);
    licenses.remove(0)
}

#[test]
fn a_verified_license_is_believed_without_end() {
    let token = sign(&header(), &claims());
    let license = only(&keys(), &Record::default(), &[row(&token)]);
    assert_eq!((license.doubt, license.believed_until), (None, None));
    assert_eq!(license.source, Source::Row);
    assert_eq!(license.products, ["TOM", "TOM Web"]);
}

#[test]
fn a_license_whose_key_is_gone_is_believed_for_the_key_grace() {
    let token = sign(&header(), &claims());
    let none = Keys::default();
    let mut record = Record::default();
    // Even if nothing is known of it, as after a restore.
    let license = only(&none, &record, &[row(&token)]);
    assert!(matches!(license.doubt, Some(Doubt::Unverified(_))));
    assert_eq!(license.believed_until, Some(NOW + 7 * DAY));
    record.licenses.push(known(&token, &[5]));
    record.licenses[0].unverified_since = Some(NOW - DAY);
    let license = only(&none, &record, &[row(&token)]);
    assert_eq!(license.believed_until, Some(NOW + 6 * DAY));
    // A token that claims to be newer can't be verified, and the verified one stays in force.
    let forged = sign(&header(), &with("/iat", json!(1_799_000_000)));
    let (licenses, invalid) = evaluation(&none, &record).licenses(&[row(&forged)]);
    assert_eq!((licenses[0].token.as_str(), licenses.len()), (&*token, 1));
    assert!(matches!(invalid[0].refused, Refused::NoKey { .. }));
    record.observe(DatabaseOid(5), &licenses, NOW);
    assert_eq!(record.licenses[0].token, token);
    // The key is back.
    let license = only(&keys(), &record, &[row(&token)]);
    assert_eq!((license.doubt, license.believed_until), (None, None));
}

#[test]
fn a_license_of_another_installation_is_believed_for_the_key_grace_once() {
    let token = sign(&header(), &with("/cnf", json!({"jkt": "elsewhere"})));
    let mut record = Record::default();
    let license = only(&keys(), &record, &[row(&token)]);
    assert_eq!(license.doubt, Some(Doubt::Elsewhere));
    assert_eq!(license.believed_until, Some(NOW + 7 * DAY));
    let newer = with("/cnf", json!({"jkt": "elsewhere"}));
    let mut newer = newer;
    newer["iat"] = json!(1_795_000_000);
    record.licenses.push(known(&token, &[5]));
    record.licenses[0].elsewhere_since = Some(NOW - 8 * DAY);
    let license = only(&keys(), &record, &[row(&sign(&header(), &newer))]);
    assert_eq!(license.believed_until, Some(NOW - DAY));
    // An installation whose own key can't be read does not know whether the license is its own.
    let empty = Record::default();
    let keys_here = keys();
    let lost = Evaluation {
        installation: None,
        ..evaluation(&keys_here, &empty)
    };
    let (licenses, _) = lost.licenses(&[row(&token)]);
    assert!(matches!(licenses[0].doubt, Some(Doubt::Unverified(_))));
    let here = sign(&header(), &with("/cnf", json!({"jkt": "here"})));
    assert_eq!(only(&keys(), &Record::default(), &[row(&here)]).doubt, None);
}

#[test]
fn an_older_token_is_one_also_when_its_key_is_gone() {
    let other = SigningKey::from_bytes(&[8; 32]);
    let header = header().to_string();
    let header = header.replace("2026", "2025");
    let older = sign_text(&header, &claims().to_string(), &other);
    let newer = sign(&super::tests::header(), &with("/iat", json!(1_795_000_000)));
    let mut record = Record::default();
    record.licenses.push(known(&newer, &[5]));
    let (licenses, _) = evaluation(&keys(), &record).licenses(&[row(&older)]);
    assert_eq!(licenses[0].token, newer);
    assert_eq!(licenses[0].source, Source::Renewal);
    // A token that claims to be even newer does not count.
    let forged = with("/iat", json!(1_799_000_000)).to_string();
    let forged = sign_text(&header, &forged, &other);
    let (licenses, _) = evaluation(&keys(), &record).licenses(&[row(&forged)]);
    assert_eq!(licenses[0].token, newer);
    assert_eq!(licenses[0].source, Source::Record);
}

#[test]
fn neither_deletion_nor_an_older_token_takes_a_license_away() {
    let (older, newer) = (claims(), with("/iat", json!(1_795_000_000)));
    let [older, newer] = [older, newer].map(|claims| sign(&header(), &claims));
    let mut record = Record::default();
    record.licenses.push(known(&newer, &[5]));
    for (rows, source) in [
        (vec![], Source::Record),
        // As after a renewal, until a worker comes.
        (vec![row(&older)], Source::Renewal),
        (vec![row(&newer)], Source::Row),
    ] {
        let license = only(&keys(), &record, &rows);
        assert_eq!(license.token, newer);
        assert_eq!(license.source, source);
    }
    // Nor does a damaged one, but it is reported.
    let (licenses, invalid) = evaluation(&keys(), &record).licenses(&[row("nonsense")]);
    assert_eq!(licenses[0].token, newer);
    assert_eq!(invalid[0].license_id, "TOM-4711");
    // In a database in which it was never installed, it does not count.
    record.licenses[0].databases.clear();
    assert!(evaluation(&keys(), &record).licenses(&[]).0.is_empty());
    // Nor where it was uninstalled.
    record.licenses[0].databases.insert(DatabaseOid(5));
    let uninstalled = StoredToken {
        is_installed: false,
        ..row(&newer)
    };
    assert!(
        evaluation(&keys(), &record)
            .licenses(&[uninstalled])
            .0
            .is_empty()
    );
    record.licenses[0].databases.clear();
    // A copy of a database with an older token gets the newer one.
    assert_eq!(only(&keys(), &record, &[row(&older)]).token, newer);
}

#[test]
fn what_was_given_back_has_no_seats_any_more() {
    let token = sign(&header(), &claims());
    let mut record = Record::default();
    let given_back = GivenBack {
        at: NOW - DAY,
        product: "TOM".to_owned(),
        receipt: String::new(),
        ends: None,
    };
    let license = only(&keys(), &record, &[row(&token)]);
    assert_eq!(license.seats("TOM"), Some(10));
    record.given_back.insert("TOM-4711".to_owned(), given_back);
    let license = only(&keys(), &record, &[row(&token)]);
    assert_eq!(license.doubt, Some(Doubt::GivenBack));
    assert_eq!(license.seats("TOM"), Some(0));
    // Other licenses of the same product come before it.
    let mut other = claims();
    other["jti"] = json!("TOM-4712");
    let rows = [
        row(&token),
        StoredToken {
            license_id: "TOM-4712".to_owned(),
            ..row(&sign(&header(), &other))
        },
    ];
    let (licenses, _) = evaluation(&keys(), &record).licenses(&rows);
    assert_eq!(licenses[0].claims.jti, "TOM-4712");
    assert_eq!(licenses[0].products, ["TOM", "TOM Web"]);
    assert!(licenses[1].products.is_empty());
}

#[test]
fn a_product_stays_with_its_first_issuer() {
    let (own, other) = (vendor(), SigningKey::from_bytes(&[8; 32]));
    let file = |iss: &str, key| json!({"iss": iss, "keys": [jwk(key, "2026")]}).to_string();
    let mut keys = Keys::default();
    keys.add(file("https://aptora.example", &own).as_bytes(), None)
        .unwrap();
    keys.add(file("https://rival.example", &other).as_bytes(), None)
        .unwrap();
    let first = sign(&header(), &claims());
    let mut rival = with(
        "/products",
        json!([{"product": "TOM", "seats": 1000}, {"product": "Rival", "seats": 5, "claimed_at": "checkout"}]),
    );
    rival["iss"] = json!("https://rival.example");
    rival["jti"] = json!("RIVAL-1");
    let rival = sign_text(&header().to_string(), &rival.to_string(), &other);
    let rows = [row(&rival), row(&first)];
    let products = |keys: &Keys, record: &Record| {
        let (licenses, _) = evaluation(keys, record).licenses(&rows);
        let license = licenses
            .into_iter()
            .find(|s| s.claims.jti == "RIVAL-1")
            .unwrap();
        license.products
    };
    let mut record = Record {
        licenses: vec![known(&first, &[7]), known(&rival, &[5])],
        ..Record::default()
    };
    assert_eq!(products(&keys, &record), ["Rival"]);
    record.licenses.reverse();
    assert_eq!(products(&keys, &record), ["TOM", "Rival"]);
    // A license that can't be verified takes nothing from one that can.
    let mut verified = Keys::default();
    verified
        .add(file("https://aptora.example", &own).as_bytes(), None)
        .unwrap();
    assert_eq!(products(&verified, &record), ["Rival"]);
    // No key speaks for another vendor.
    let mut forged = claims();
    forged["products"][0]["seats"] = json!(1000);
    let forged = sign_text(&header().to_string(), &forged.to_string(), &other);
    assert_eq!(verify(&forged, &keys), Err(Refused::BadSignature));
}

#[test]
fn a_row_with_a_token_of_a_day_to_come_blocks_no_renewal() {
    let ahead = unix(NOW) + 2 * 86_400;
    let mut record = Record::default();
    let mut license = claims();
    for claim in ["iat", "nbf"] {
        license[claim] = json!(unix(NOW));
    }
    let (token, later) = (sign(&header(), &license), {
        license["iat"] = json!(ahead);
        sign(&header(), &license)
    });
    let (licenses, invalid) = evaluation(&keys(), &record).licenses(&[row(&later)]);
    assert!(licenses.is_empty());
    assert!(invalid[0].refused.to_string().contains("a day ahead"));
    record.licenses.push(known(&token, &[5]));
    let (licenses, _) = evaluation(&keys(), &record).licenses(&[row(&later)]);
    assert_eq!(licenses[0].token, token);
    // Once it was believed it stays so, even if the clock is set back.
    let known = known(&later, &[5]);
    record.licenses = vec![known];
    assert_eq!(only(&keys(), &record, &[row(&later)]).token, later);
}

#[test]
fn while_the_record_is_lost_seats_of_others_are_those_that_were_in_force() {
    let (token, empty, keys) = (allotment(), Record::default(), keys());
    let rows = [StoredToken {
        license_id: "6b1f".to_owned(),
        ..row(&token)
    }];
    let installation = believe(&token).unwrap().cnf.unwrap().jkt;
    let judged = |lost: &[Name]| {
        let evaluation = Evaluation {
            lost: Some(lost),
            installation: Some(&installation),
            ..evaluation(&keys, &empty)
        };
        evaluation.licenses(&rows).0.remove(0)
    };
    let license = judged(&[]);
    assert!(license.believed_until.unwrap() < NOW);
    assert!(
        matches!(&license.doubt, Some(Doubt::Unverified(why)) if why.to_string().contains("given"))
    );
    assert_eq!(judged(&[license.pool()]).doubt, None);
    // A vendor's license can't have been given back.
    let evaluation = Evaluation {
        lost: Some(&[]),
        ..evaluation(&keys, &empty)
    };
    let vendors = sign(&header(), &claims());
    assert_eq!(evaluation.licenses(&[row(&vendors)]).0[0].doubt, None);
}
