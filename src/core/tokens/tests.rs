#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod fuzz;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::allotment::{Allotted, Returned};
use super::claims::{Claims, Confirmation, Unfit};
use super::key_pair::KeyPair;
use super::keys::Keys;
use super::*;

pub(crate) fn vendor() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

pub(crate) fn jwk(key: &SigningKey, kid: &str) -> Value {
    let x = URL_SAFE_NO_PAD.encode(key.verifying_key().as_bytes());
    json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x})
}

fn set(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

pub(crate) fn keys() -> Keys {
    let mut keys = Keys::default();
    keys.add(&set(&[jwk(&vendor(), "2026")]), None).unwrap();
    keys
}

pub(crate) fn header() -> Value {
    json!({"typ": "JWT", "alg": "EdDSA", "kid": "2026"})
}

pub(crate) fn claims() -> Value {
    json!({
        "iss": "https://aptora.example", "sub": "Miller Plumbing", "jti": "TOM-4711",
        "iat": 1_790_000_000, "nbf": 1_790_000_000, "exp": 1_900_000_000,
        "products": [{"product": "TOM", "seats": 10, "grace": "7 days"}, {"product": "TOM Web", "seats": null, "claimed_at": "checkout"}],
    })
}

/// Returns the claims with this member set.
pub(crate) fn with(path: &str, value: Value) -> Value {
    let mut claims = claims();
    let (parent, member) = path.rsplit_once('/').unwrap();
    let parent = claims.pointer_mut(parent).unwrap();
    parent
        .as_object_mut()
        .unwrap()
        .insert(member.to_owned(), value);
    claims
}

pub(crate) fn without(path: &str) -> Value {
    let mut claims = claims();
    let (parent, member) = path.rsplit_once('/').unwrap();
    let parent = claims.pointer_mut(parent).unwrap();
    parent.as_object_mut().unwrap().remove(member);
    claims
}

pub(crate) fn sign_text(header: &str, claims: &str, key: &SigningKey) -> String {
    let message = [header, claims]
        .map(|part| URL_SAFE_NO_PAD.encode(part))
        .join(".");
    let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()).to_bytes());
    format!("{message}.{signature}")
}

pub(crate) fn sign(header: &Value, claims: &Value) -> String {
    sign_text(&header.to_string(), &claims.to_string(), &vendor())
}

pub(crate) fn accepted(claims: &Value) -> Claims {
    verify(&sign(&header(), claims), &keys()).unwrap()
}

#[track_caller]
fn refused(token: &str) -> Refused {
    verify(token, &keys()).unwrap_err()
}

#[track_caller]
pub(crate) fn malformed_by(claims: &Value) {
    let refused = refused(&sign(&header(), claims));
    assert!(matches!(refused, Refused::Malformed(_)), "{refused:?}");
}

#[test]
fn a_license_says_what_was_signed() {
    let claims = accepted(&claims());
    assert_eq!(claims.jti, "TOM-4711");
    assert_eq!(claims.products[0].seats, Some(10));
    assert_eq!(claims.products[0].grace.as_deref(), Some("7 days"));
    assert_eq!(claims.products[1].seats, None);
}

#[test]
fn what_is_absent_is_not_required() {
    for path in ["/nbf", "/exp"] {
        accepted(&without(path));
    }
    let claims = accepted(&with("/aud", json!("anybody")));
    assert_eq!(claims.exempt, None);
    accepted(&with(
        "/comment",
        json!({"unknown": ["claims", "mean nothing"]}),
    ));
}

#[test]
fn dates_may_have_fractions() {
    for (path, value) in [
        ("/iat", json!(1_790_000_000.9)),
        ("/exp", json!(1.9e9)),
        ("/nbf", json!(0.5)),
    ] {
        let claims = accepted(&with(path, value.clone()));
        let dates = [Some(claims.iat), claims.exp, claims.nbf];
        assert!(
            dates.contains(&value.as_f64().map(|date| date.floor() as i64)),
            "{path} {value}"
        );
    }
    for value in [json!(-0.5), json!(1e300), json!(-1e300), json!(u64::MAX)] {
        for path in ["/iat", "/nbf", "/exp"] {
            malformed_by(&with(path, value.clone()));
        }
    }
}

#[test]
fn no_two_products_are_claimed_by_the_same_logins() {
    let both = |first: Value, second: Value| {
        let mut products = [
            json!({"product": "TOM", "seats": 1}),
            json!({"product": "TOM Web", "seats": 1}),
        ];
        for (product, rules) in products.iter_mut().zip([first, second]) {
            let rules = rules.as_object().unwrap().clone();
            product.as_object_mut().unwrap().extend(rules);
        }
        with("/products", json!(products))
    };
    let name = |name: &str| json!({ "application_name": name });
    malformed_by(&both(json!({}), json!({})));
    malformed_by(&both(json!({"claimed_at": "login"}), json!({})));
    malformed_by(&both(name("TOM%"), name("TOM%")));
    for (first, second) in [
        (json!({}), name("TOM%")),
        (name("TOM%"), name("Web%")),
        (json!({}), json!({"claimed_at": "checkout"})),
    ] {
        accepted(&both(first, second));
    }
}

#[test]
fn a_license_without_what_makes_it_one_is_refused() {
    for path in [
        "/iss",
        "/sub",
        "/jti",
        "/iat",
        "/products",
        "/products/0/product",
        "/products/0/seats",
    ] {
        malformed_by(&without(path));
    }
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let huge = json!(2_147_483_648_u32);
    for (path, value) in [
        ("/products/0/seats", json!(-1)),
        ("/products/0/seats", json!(1.5)),
        ("/products/0/seats", json!(8.0)),
        ("/products/0/seats", huge.clone()),
        ("/products/0/seats", json!("10")),
        ("/products/0/seats", json!(true)),
        ("/products/0/overdraft", json!(-1)),
        ("/products/0/overdraft", huge),
        ("/products/0/warn_at_percent", json!(101)),
        ("/products/0/counted_by", json!("moon")),
        ("/products/0/claimed_at", json!("Login")),
        ("/products/0/enforcement", json!("")),
        ("/products/0/application_name", json!("")),
        ("/products/0/application_name", json!("TOM\\")),
        ("/products/0/application_name", json!("x".repeat(128))),
        ("/products/0/pool", json!("a\nb")),
        ("/products/0/purchased_at", json!("2026-01-01")),
        ("/products/0/product", json!("")),
        ("/products/0/product", json!("x".repeat(64))),
        ("/products/0/product", json!("a\u{0}b")),
        ("/products/0/product", json!("TOM Web")),
        ("/products", json!([])),
        ("/products", json!({"TOM": 10})),
        ("/iss", json!("")),
        ("/sub", json!("a\tb")),
        ("/jti", json!("x".repeat(256))),
        ("/iat", json!(-1)),
        ("/iat", json!("yesterday")),
        ("/exp", json!(253_402_300_800_i64)),
        ("/exp", json!(1_790_000_000)),
        ("/exempt", json!(-1)),
        ("/cnf", json!("thumbprint")),
    ] {
        malformed_by(&with(path, value));
    }
}

#[test]
fn names_of_products_have_letters_of_all_kinds() {
    for name in [
        "Spedition Größe M",
        "積荷",
        "x\u{1F69A}",
        "ä".repeat(31).as_str(),
    ] {
        let claims = accepted(&with("/products/0/product", json!(name)));
        assert_eq!(claims.products[0].product, name);
    }
    malformed_by(&with("/products/0/product", json!("ä".repeat(32))));
}

#[test]
fn a_claim_given_twice_is_refused() {
    let text = claims().to_string();
    for (once, twice) in [
        (
            r#""jti":"TOM-4711""#,
            r#""jti":"TOM-4711","jti":"TOM-4712""#,
        ),
        (r#""seats":10"#, r#""seats":10,"seats":1000"#),
        (r#""exp":1900000000"#, r#""exp":1900000000,"exp":null"#),
    ] {
        let twice = text.replace(once, twice);
        assert_ne!(twice, text);
        let token = sign_text(&header().to_string(), &twice, &vendor());
        assert!(matches!(refused(&token), Refused::Malformed(_)));
    }
    let header = r#"{"alg":"EdDSA","kid":"2026","kid":"2025"}"#;
    let token = sign_text(header, &text, &vendor());
    assert!(matches!(refused(&token), Refused::Malformed(_)));
}

#[test]
fn other_algorithms_are_refused() {
    for algorithm in [
        "none", "None", "", "HS256", "HS512", "RS256", "PS256", "ES256", "eddsa", "Ed448",
    ] {
        let header = json!({"alg": algorithm, "kid": "2026"});
        let token = sign(&header, &claims());
        let (message, _) = token.rsplit_once('.').unwrap();
        for token in [token.as_str(), message, &format!("{message}.")] {
            assert!(matches!(refused(token), Refused::Malformed(_)), "{token}");
        }
    }
    for header in [
        json!({"kid": "2026"}),
        json!({"alg": "EdDSA", "kid": "2026", "crit": ["exp"]}),
    ] {
        assert!(matches!(
            refused(&sign(&header, &claims())),
            Refused::Malformed(_)
        ));
    }
}

#[test]
fn a_key_is_found_by_its_id() {
    let kid = |kid: &str| json!({"alg": "EdDSA", "kid": kid});
    let token = sign(&kid("2025"), &claims());
    assert!(matches!(refused(&token), Refused::NoKey { kid: Some(kid), .. } if kid == "2025"));
    let unnamed = sign(&json!({"alg": "EdDSA"}), &claims());
    assert!(verify(&unnamed, &keys()).is_ok());
    let other = SigningKey::from_bytes(&[8; 32]);
    let mut keys = Keys::default();
    keys.add(&set(&[jwk(&other, "2025"), jwk(&vendor(), "2026")]), None)
        .unwrap();
    assert!(verify(&sign(&header(), &claims()), &keys).is_ok());
    assert_eq!(verify(&token, &keys), Err(Refused::BadSignature));
    assert!(matches!(
        verify(&unnamed, &keys),
        Err(Refused::NoKey { kid: None, .. })
    ));
    // A key in the header is not believed.
    let mut header = kid("2026");
    header["jwk"] = jwk(&other, "2026");
    let token = sign_text(&header.to_string(), &claims().to_string(), &other);
    assert_eq!(verify(&token, &keys), Err(Refused::BadSignature));
}

#[test]
fn a_key_speaks_for_its_issuer_alone() {
    let token = sign(&header(), &claims());
    let file = |iss: &str| {
        let file = json!({"iss": iss, "keys": [jwk(&vendor(), "2026")]});
        file.to_string().into_bytes()
    };
    for (file, iss, speaks) in [
        (set(&[jwk(&vendor(), "2026")]), None, true),
        (
            set(&[jwk(&vendor(), "2026")]),
            Some("https://aptora.example"),
            true,
        ),
        (set(&[jwk(&vendor(), "2026")]), Some("cargo"), false),
        (file("https://aptora.example"), None, true),
        (file("https://cargo.example"), None, false),
    ] {
        let mut keys = Keys::default();
        keys.add(&file, iss).unwrap();
        assert_eq!(verify(&token, &keys).is_ok(), speaks, "{iss:?}");
    }
}

#[test]
fn a_file_whose_name_binds_it_speaks_for_nobody_else() {
    let speaks = |name: &str, iss: Option<&str>| {
        let mut file = json!({ "keys": [jwk(&vendor(), "2026")] });
        file["iss"] = iss.map_or(Value::Null, Value::from);
        let mut keys = Keys::default();
        keys.add(file.to_string().as_bytes(), Some(name))?;
        Ok(verify(&sign(&header(), &claims()), &keys).is_ok())
    };
    let (aptora, rival) = ("https://aptora.example", "https://rival.example");
    for name in [
        aptora,
        "aptora.example",
        "https%3A%2F%2Faptora.example",
        "aptora%2eexample",
    ] {
        assert_eq!(speaks(name, Some(aptora)), Ok(true), "{name}");
    }
    assert_eq!(speaks("https%3A%2F%2Faptora.example", None), Ok(true));
    assert_eq!(speaks("aptora.example", None), Ok(false));
    assert_eq!(speaks("rival.example", Some(rival)), Ok(false));
    for name in ["rival", "rival.example", rival, "aptora", "%", "%zz", ""] {
        let refused: Result<bool, String> = speaks(name, Some(aptora));
        let refused = refused.unwrap_err();
        assert!(
            refused.contains(aptora) && refused.contains("rename"),
            "{refused}"
        );
    }
}

#[test]
fn dates_have_two_minutes_of_leeway_where_no_seat_is_used_twice() {
    let now = 1_800_000_000;
    let fit = |changes: &[(&str, i64)]| {
        let mut license = claims();
        for (claim, seconds) in changes {
            license[*claim] = json!(seconds);
        }
        accepted(&license).fit(now, None)
    };
    assert_eq!(fit(&[("nbf", now + 120)]), Ok(()));
    assert_eq!(fit(&[("nbf", now + 121)]), Err(Unfit::NotYetValid));
    assert_eq!(fit(&[("iat", now + 86_400)]), Ok(()));
    assert_eq!(fit(&[("iat", now + 86_401)]), Err(Unfit::IssuedAhead));
    assert_eq!(fit(&[("exp", now + 1)]), Ok(()));
    assert_eq!(fit(&[("exp", now)]), Err(Unfit::Ended));
}

#[test]
fn files_that_hold_no_keys_are_refused_and_other_kinds_of_keys_left_out() {
    let mut private = jwk(&vendor(), "2026");
    private["d"] = json!(URL_SAFE_NO_PAD.encode([7; 32]));
    let mut short = jwk(&vendor(), "2026");
    short["x"] = json!(URL_SAFE_NO_PAD.encode([7; 31]));
    for file in [
        Vec::new(),
        b"-----BEGIN PUBLIC KEY-----".to_vec(),
        b"{}".to_vec(),
        set(&[private]),
        set(&[short]),
    ] {
        let mut keys = keys();
        assert!(keys.add(&file, None).is_err());
        assert!(verify(&sign(&header(), &claims()), &keys).is_ok());
    }
    let octets = json!({"kty": "oct", "kid": "hmac", "k": "c2VjcmV0"});
    let later = json!({"kty": "AKP", "kid": "pq", "pub": "AAAA"});
    let mut keys = Keys::default();
    keys.add(&set(&[octets, later, jwk(&vendor(), "2026")]), None)
        .unwrap();
    assert!(verify(&sign(&header(), &claims()), &keys).is_ok());
}

#[test]
fn a_file_of_keys_that_is_too_large_is_refused_with_that_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vendor.json");
    let mut file = set(&[jwk(&vendor(), "2026")]);
    file.resize(1 << 20, b' ');
    std::fs::write(&path, &file).unwrap();
    let (keys, wrong) = Keys::read(&path);
    assert_eq!(wrong, []);
    assert!(verify(&sign(&header(), &claims()), &keys).is_ok());
    file.push(b' ');
    std::fs::write(&path, &file).unwrap();
    let (keys, wrong) = Keys::read(&path);
    assert_eq!(wrong, [(path, "it is larger than 1 MiB".to_owned())]);
    assert!(verify(&sign(&header(), &claims()), &keys).is_err());
}

#[test]
fn a_token_with_any_byte_changed_is_refused() {
    let token = sign(&header(), &claims());
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n\0\xc3";
    for at in 0..token.len() {
        for letter in letters
            .iter()
            .filter(|&letter| *letter != token.as_bytes()[at])
        {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = *letter;
            if let Ok(changed) = String::from_utf8(bytes) {
                refused(&changed);
            }
        }
    }
    for end in 0..token.len() {
        refused(&token[..end]);
    }
    for added in ["=", ".", " ", "\n", "A"] {
        refused(&format!("{token}{added}"));
        refused(&format!("{added}{token}"));
    }
}

#[test]
fn huge_and_deep_ones_are_refused() {
    malformed_by(&with("/comment", json!("x".repeat(1 << 20))));
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let text = claims()
        .to_string()
        .replacen('{', &format!(r#"{{"comment":{deep},"#), 1);
    let token = sign_text(&header().to_string(), &text, &vendor());
    assert!(matches!(refused(&token), Refused::Malformed(_)));
}

/// Makes JSON of all shapes, some of it with the names of claims.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    let name = prop_oneof![
        Just("seats".to_owned()),
        Just("product".to_owned()),
        Just("products".to_owned()),
        Just("exp".to_owned()),
        ".{0,6}",
    ];
    leaf.prop_recursive(4, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn no_text_is_taken_for_a_token(text in "\\PC*") {
        prop_assert!(verify(&text, &keys()).is_err());
    }

    #[test]
    fn no_three_parts_are_taken_for_a_token(a in "[A-Za-z0-9_-]{0,40}", b in "[A-Za-z0-9_-]{0,80}", c in "[A-Za-z0-9_-]{86}") {
        let odd = verify(&format!("{a}.{b}.{c}"), &keys());
        prop_assert!(odd.is_err());
        let known = URL_SAFE_NO_PAD.encode(header().to_string());
        let forged = verify(&format!("{known}.{b}.{c}"), &keys());
        prop_assert!(forged.is_err());
    }

    #[test]
    fn whatever_is_signed_is_a_license_or_refused(path in "/[a-z]{3,8}|/products/[01]/[a-z_]{4,12}", value in any_json(), header_value in any_json()) {
        let mut header = header();
        header["comment"] = header_value.clone();
        let token = sign(&header, &with(&path, value));
        if let Ok(claims) = verify(&token, &keys()) {
            prop_assert!(claims.products.iter().all(|product| product.seats.is_none_or(|seats| seats >= 0)));
        }
        let _ = verify(&sign(&header_value, &claims()), &keys());
        let _ = Keys::default().add(header_value.to_string().as_bytes(), None);
    }
}

pub(crate) fn installation(number: u8) -> KeyPair {
    KeyPair::of(&[number; 32])
}

/// Returns a license of ten seats for the first installation, of which one seat is allotted to the second.
fn allotted() -> (KeyPair, KeyPair, Allotted) {
    let (first, second) = (installation(1), installation(2));
    let mut license = with("/cnf", json!({ "jkt": first.public().id() }));
    license["products"][0]["overdraft"] = json!(2);
    let allotted = Allotted {
        iss: first.public().id(),
        jti: "6b1f".to_owned(),
        iat: 1_795_000_000,
        nbf: 1_796_000_000,
        exp: None,
        product: "TOM".to_owned(),
        seats: 1,
        cnf: Confirmation {
            jkt: second.public().id(),
        },
        license: sign(&header(), &license),
    };
    (first, second, allotted)
}

/// Returns an allotment's token.
pub(crate) fn allotment() -> String {
    let (first, _, allotted) = allotted();
    allotted.sign(&first).unwrap()
}

#[test]
fn an_allotment_is_so_many_seats_of_the_license_within() {
    let (first, second, mut allotted) = allotted();
    let claims = verify(&allotted.sign(&first).unwrap(), &keys()).unwrap();
    assert_eq!(claims.jti, "6b1f");
    assert_eq!(claims.iss, "https://aptora.example");
    assert_eq!(claims.sub, "Miller Plumbing");
    assert_eq!(claims.exp, Some(1_900_000_000));
    assert_eq!(claims.cnf.unwrap().jkt, second.public().id());
    assert_eq!(claims.products.len(), 1);
    assert_eq!(claims.products[0].seats, Some(1));
    // The vendor's grace follows the vendor's own end. The overdraft stays where the seats come from.
    assert_eq!(claims.products[0].grace.as_deref(), Some("7 days"));
    assert_eq!(claims.products[0].overdraft, None);
    assert_eq!((claims.nbf, claims.ends), (Some(1_796_000_000), None));
    for (exp, end) in [
        (1_800_000_000, 1_800_000_000),
        (1_950_000_000, 1_900_000_000),
    ] {
        allotted.exp = Some(exp);
        let claims = verify(&allotted.sign(&first).unwrap(), &keys()).unwrap();
        assert_eq!((claims.exp, claims.ends), (Some(end), Some(exp)));
    }
}

#[test]
fn no_installation_passes_on_what_is_not_its_own() {
    let (first, second, allotted) = allotted();
    let refused = |allotted: &Allotted, signer: &KeyPair| {
        verify(&allotted.sign(signer).unwrap(), &keys()).unwrap_err()
    };
    refused(&allotted, &second);
    let change = |change: fn(&mut Allotted)| {
        let mut changed = allotted.clone();
        change(&mut changed);
        refused(&changed, &first)
    };
    change(|allotted| allotted.seats = 11);
    change(|allotted| allotted.seats = 0);
    change(|allotted| allotted.seats = -1);
    change(|allotted| allotted.product = "TOM Mobile".to_owned());
    change(|allotted| allotted.license = sign(&header(), &claims()));
    change(|allotted| allotted.license.push('A'));
    change(|allotted| allotted.jti.clear());
    // Signed in its own name, with a license that is another installation's.
    let mut own = allotted.clone();
    own.iss = second.public().id();
    refused(&own, &second);
    // An allotment inside another one.
    let mut nested = own.clone();
    nested.license = allotted.sign(&first).unwrap();
    refused(&nested, &second);
    // With a key that the vendor has withdrawn.
    let token = allotted.sign(&first).unwrap();
    let gone = verify(&token, &Keys::default()).unwrap_err();
    assert!(matches!(gone, Refused::NoKey { .. }));
}

#[test]
fn a_receipt_is_believed_of_the_installation_alone() {
    let (first, second, allotted) = allotted();
    let returned = Returned {
        iss: second.public().id(),
        jti: allotted.jti.clone(),
        iat: 1_796_000_000,
        product: "TOM".to_owned(),
        seats: 1,
    };
    let receipt = returned.sign(&second).unwrap();
    assert_eq!(Returned::verify(&receipt).unwrap(), returned);
    // Signed with another key than that of the installation that it names.
    assert!(Returned::verify(&returned.sign(&first).unwrap()).is_err());
    // No token is taken for one of another kind.
    refused(&receipt);
    assert!(Returned::verify(&allotted.sign(&first).unwrap()).is_err());
    assert!(Returned::verify(&sign(&header(), &claims())).is_err());
    let mut changed = receipt.clone();
    changed.replace_range(changed.len() - 3.., "AAA");
    assert!(Returned::verify(&changed).is_err());
}
