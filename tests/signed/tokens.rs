//! Tokens that any JWT library makes are licenses, and none that was altered is.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::util::*;

/// What comes of a token.
const TRY_INSTALL: &str = "
    CREATE FUNCTION try_install(token text, OUT code text, OUT reason text, OUT message text,
                                OUT detail text, OUT hint text) LANGUAGE plpgsql AS $$
    BEGIN
        message := license_install(token);
        code := '00000';
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, reason = CONSTRAINT_NAME,
            message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    END $$";

/// All that a license changes.
const STATE: &str = "
    SELECT concat_ws('|', (SELECT json_agg(l ORDER BY product) FROM licenses l),
                          (SELECT json_agg(k ORDER BY license_id) FROM license_keys k))";

const SIGNATURE: &str = "The signature is not that of the key that the token names.";
const NO_KEY: &str = "There is no key ";
const ALGORITHM: &str = "It is not signed with EdDSA, the only algorithm that is believed.";
const NO_TOKEN: &str = "It is no token: ";
const NO_LICENSE: &str = "It is no license: ";

/// A token with what it is, and a part of the reason why it is refused.
type Case = (String, String, &'static str);

/// A server that knows the keys of two vendors, by a file for each.
struct Market {
    cluster: Cluster,
    admin: Session,
    issuers: [Issuer; 2],
}

impl Market {
    /// Installs one license, so that there is something to change.
    async fn open() -> Self {
        let issuers = JwtLibrary::ALL.map(Issuer::new);
        let cluster = Cluster::builder().with_folder_of_keys();
        cluster.sql("CREATE EXTENSION pg_seats; CREATE ROLE anna LOGIN");
        let admin = cluster.login("postgres").open_ok().await;
        admin.run(TRY_INSTALL).await;
        let market = Self {
            cluster,
            admin,
            issuers,
        };
        for issuer in &market.issuers {
            market.knows(issuer, &[issuer.jwk()]);
        }
        let first = &market.issuers[0];
        let claims = first.claims("FIRST", json!({"product": "First", "seats": 3}));
        assert_eq!(market.install(&first.sign(&claims)).await, "FIRST");
        market
    }

    /// Writes these keys to the vendor's file.
    fn knows(&self, issuer: &Issuer, keys: &[Value]) {
        let file = json!({"iss": issuer.iss, "keys": keys}).to_string();
        let name = format!("vendors/{}.json", issuer.iss.trim_start_matches("https://"));
        self.cluster.write(&name, &file);
    }

    async fn install(&self, token: &str) -> String {
        let install = "SELECT license_install($1)";
        match self.admin.query_one(install, &[&token]).await {
            Ok(id) => id.get(0),
            Err(error) => panic!("{error:?}: {token}"),
        }
    }

    /// Installs what is signed so, has a look, and uninstalls it again.
    async fn tries(&self, token: &str, look: &str) -> String {
        let id = self.install(token).await;
        let seen = self.admin.text(look).await;
        let gone = format!("SELECT license_uninstall('{id}')");
        assert_eq!(self.admin.text(&gone).await, "t");
        seen
    }

    /// Asserts that each of these tokens is refused for its reason, with all that a refusal has, and that nothing has
    /// changed.
    async fn refuses(&self, cases: &[Case]) {
        refuses(&self.admin, cases).await;
    }
}

async fn refuses(admin: &Session, cases: &[Case]) {
    assert!(!cases.is_empty());
    let before = admin.text(STATE).await;
    let tokens: Vec<&str> = cases.iter().map(|(_, token, _)| token.as_str()).collect();
    let tried =
        "SELECT r.* FROM unnest($1::text[]) WITH ORDINALITY t (token, at), try_install(token) r
                  ORDER BY at";
    let rows = admin.query(tried, &[&tokens]).await.unwrap();
    assert_eq!(rows.len(), cases.len());
    let mut wrong = Vec::new();
    for (row, (what, _, why)) in rows.iter().zip(cases) {
        let said: [Option<&str>; 5] = std::array::from_fn(|at| row.get(at));
        let [code, reason, message, detail, hint] = said.map(Option::unwrap_or_default);
        let is_refused = code == "28000"
            && reason == "license_not_verified"
            && message == "could not verify the license"
            && !detail.is_empty()
            && detail.contains(why)
            && !hint.is_empty();
        if !is_refused {
            wrong.push(format!("{what}, not {why:?}: {said:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(admin.text(STATE).await, before);
}

fn base64(part: impl ToString) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

/// Returns header, claims and signature.
fn parts(token: &str) -> [&str; 3] {
    let parts: Vec<&str> = token.split('.').collect();
    parts.try_into().unwrap()
}

/// Returns a part of a token as JSON.
fn read(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// Returns a value with this member set, or without it.
fn altered(value: &Value, path: &str, member: Option<Value>) -> Value {
    let mut altered = value.clone();
    let (parent, name) = path.rsplit_once('/').unwrap();
    let parent = altered.pointer_mut(parent).unwrap();
    let parent = parent.as_object_mut().unwrap();
    match member {
        Some(member) => parent.insert(name.to_owned(), member),
        None => parent.remove(name),
    };
    assert_ne!(&altered, value, "{path}");
    altered
}

/// Returns a product with every rule that there is.
fn every_rule() -> Value {
    json!({
        "product": "TOM", "seats": 10, "counted_by": "user", "claimed_at": "checkout",
        "application_name": "TOM%", "pool": "head office", "enforcement": "warn", "overdraft": 2,
        "warn_at_percent": 75, "grace": "7 days", "linger": "30 seconds", "idle_timeout": "PT1H",
        "reclaim_idle_after": "10 minutes", "valid_from": "2026-01-01T00:00:00+02:00",
        "valid_until": "9999-12-31T23:59:59Z",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_any_library_is_a_license() {
    let market = Market::open().await;
    for (n, issuer) in market.issuers.iter().enumerate() {
        let name = format!("Büro 事務 € {n}");
        let jti = format!("ORDER-{n}");
        let mut claims = issuer.claims(&jti, json!({"product": name, "seats": 5}));
        claims["comment"] = json!({"what": ["is not known", "means nothing"]});
        let products = claims["products"].as_array_mut().unwrap();
        products
            .push(json!({"product": format!("Web {n}"), "seats": null, "claimed_at": "checkout"}));
        products[0]["application_name"] = json!(format!("事務 {n}%"));
        let token = issuer.sign(&claims);
        let state = || {
            market.admin.text(
                "SELECT license_id, issuer, customer, products,
                        extract(epoch FROM valid_from)::bigint, extract(epoch FROM valid_until)::bigint,
                        days_left, state, detail, believed_until, installation, token
                   FROM license_keys_status WHERE license_id <> 'FIRST'",
            )
        };
        assert_eq!(market.install(&token).await, jti);
        let seen = state().await;
        let fields: Vec<&str> = seen.split('|').collect();
        let shown: Value = serde_json::from_str(fields[3]).unwrap();
        assert_eq!(shown, claims["products"]);
        let (from, until) = (claims["nbf"].to_string(), claims["exp"].to_string());
        let expected = [
            &jti,
            &issuer.iss,
            "Miller Plumbing",
            fields[3],
            &from,
            &until,
            "364",
            "valid",
            "",
            "",
            "",
            &token,
        ];
        assert_eq!(fields, expected, "{:?}", issuer.library);
        let rows =
            "SELECT string_agg(concat_ws(',', product, seats, purchased, application_name), ';'
                                      ORDER BY purchased)
                      FROM licenses WHERE product <> 'First'";
        let row = format!("{name},5,5,事務 {n}%;Web {n}");
        assert_eq!(market.admin.text(rows).await, row);
        // With what comes along when it is copied from a mail.
        assert_eq!(market.install(&format!(" \t{token}\r\n\n")).await, jti);
        assert_eq!(state().await, seen);
        let gone = format!("SELECT license_uninstall('{jti}')");
        assert_eq!(market.admin.text(&gone).await, "t");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_absent_or_differ_is_a_license_too() {
    let market = Market::open().await;
    let look = "SELECT concat_ws(',', product, seats, valid_from, valid_until)
                  FROM licenses WHERE product <> 'First'";
    for issuer in &market.issuers {
        let claims = |what: &str| {
            let product = json!({"product": "TOM", "seats": 5, "claimed_at": "checkout"});
            issuer.claims(&format!("{what} {:?}", issuer.library), product)
        };
        let perpetual = altered(&claims("PERPETUAL"), "/exp", None);
        let perpetual = altered(&perpetual, "/nbf", None);
        let seen = market.tries(&issuer.sign(&perpetual), look).await;
        assert_eq!(seen, "TOM,5");
        // As Python's time.time() is.
        let mut fractions = claims("FRACTIONS");
        let now = unix_now();
        fractions["iat"] = json!(now as f64 - 0.25);
        fractions["nbf"] = json!(now as f64 - 59.75);
        fractions["exp"] = json!(4_102_444_800.5);
        let token = issuer.sign(&fractions);
        assert!(read(parts(&token)[1])["iat"].is_f64(), "{token}");
        let seen = market.tries(&token, look).await;
        assert!(seen.ends_with(",2100-01-01 00:00:00+00"), "{seen}");
        let headers = [
            json!({"alg": "EdDSA"}),
            json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "2026"}),
            json!({"alg": "EdDSA", "kid": "2026", "x5t": "AAAA", "sold by": {"name": "Zoë"}}),
        ];
        for (n, header) in headers.iter().enumerate() {
            let claims = claims(&format!("HEADER-{n}"));
            let token = issuer.library.sign(issuer.key(), header, &claims);
            assert!(market.tries(&token, look).await.starts_with("TOM,5,"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_of_a_token_is_in_the_row() {
    let market = Market::open().await;
    let look = "SELECT product, seats, purchased, counted_by, claimed_at, application_name, pool, enforcement,
                       overdraft, warn_at_percent, grace, linger, idle_timeout, reclaim_idle_after,
                       valid_from = '2025-12-31 22:00:00+00' OR valid_from = to_timestamp(1790000000),
                       extract(epoch FROM valid_until)::bigint
                  FROM licenses WHERE product <> 'First'";
    for issuer in &market.issuers {
        let mut claims = issuer.claims("RULES", every_rule());
        claims["jti"] = json!(format!("RULES-{:?}", issuer.library));
        claims["nbf"] = json!(1_700_000_000);
        let seen = market.tries(&issuer.sign(&claims), look).await;
        let until = claims["exp"].as_i64().unwrap();
        assert_eq!(
            seen,
            format!(
                "TOM|10|10|user|checkout|TOM%|head office|warn|2|75|7 days|00:00:30|01:00:00|00:10:00|t|{until}"
            )
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_claim_or_header_is_refused() {
    let market = Market::open().await;
    let here = market
        .admin
        .text("SELECT license_installation() ->> 'kid'")
        .await;
    for (n, issuer) in market.issuers.iter().enumerate() {
        let other = &market.issuers[1 - n];
        let mut claims = issuer.claims(&format!("ORDER-{n}"), every_rule());
        claims["exempt"] = json!(2);
        claims["cnf"] = json!({ "jkt": here });
        let token = issuer.sign(&claims);
        let [header, body, signature] = parts(&token);
        assert_eq!(read(body), claims);
        let mut cases: Vec<Case> = Vec::new();
        let mut alter = |path: &str, member: Option<Value>, why| {
            let body = base64(altered(&claims, path, member.clone()));
            let what = format!("{:?}: {path} {member:?}", issuer.library);
            cases.push((what, format!("{header}.{body}.{signature}"), why));
        };
        alter("/iss", Some(json!("https://nobody.example")), NO_KEY);
        alter("/iss", Some(json!(other.iss)), SIGNATURE);
        alter("/iss", None, NO_LICENSE);
        for claim in [
            "sub", "jti", "iat", "nbf", "exp", "products", "exempt", "cnf",
        ] {
            alter(&format!("/{claim}"), None, SIGNATURE);
        }
        for (claim, value) in [
            ("sub", json!("Miller Plumbing and Sons")),
            ("jti", json!("ORDER-9")),
            ("iat", json!(unix_now() + 1000)),
            ("nbf", json!(0)),
            ("exp", json!(unix_now() + 3650 * DAY)),
            ("exempt", json!(1000)),
            ("cnf", json!({"jkt": "elsewhere"})),
            (
                "products",
                json!([every_rule(), {"product": "TOM Web", "seats": 100}]),
            ),
            ("more", json!(true)),
        ] {
            alter(&format!("/{claim}"), Some(value), SIGNATURE);
        }
        let rules = every_rule();
        let rules = rules.as_object().unwrap();
        assert_eq!(rules.len(), 15);
        for (rule, value) in rules {
            let more = match (rule.as_str(), value) {
                ("counted_by", _) => json!("host"),
                ("claimed_at", _) => json!("login"),
                ("enforcement", _) => json!("off"),
                (_, Value::Number(number)) => json!(number.as_i64().unwrap() + 1),
                (_, value) => json!(format!("1{}", value.as_str().unwrap())),
            };
            for value in [Some(more), Some(Value::Null), None] {
                alter(&format!("/products/0/{rule}"), value, SIGNATURE);
            }
        }
        let of_header = issuer.header();
        for (member, value, why) in [
            ("alg", Some(json!("HS256")), ALGORITHM),
            ("alg", Some(json!("RS256")), ALGORITHM),
            ("alg", Some(json!("ES256")), ALGORITHM),
            ("alg", Some(json!("none")), NO_TOKEN),
            ("alg", Some(json!("eddsa")), NO_TOKEN),
            ("alg", Some(json!(null)), NO_TOKEN),
            ("alg", None, NO_TOKEN),
            ("kid", Some(json!("2027")), NO_KEY),
            ("kid", Some(json!(2026)), NO_TOKEN),
            ("kid", None, SIGNATURE),
            ("typ", Some(json!("jwt")), SIGNATURE),
            ("typ", Some(json!("license-return+jwt")), SIGNATURE),
            (
                "typ",
                Some(json!("license-allotment+jwt")),
                "Its header has no Ed25519 key.",
            ),
            ("typ", None, SIGNATURE),
            ("cty", Some(json!("JWT")), SIGNATURE),
            ("b64", Some(json!(false)), SIGNATURE),
            (
                "crit",
                Some(json!(["exp"])),
                "Its header has extensions that are not known.",
            ),
        ] {
            let header = altered(&of_header, &format!("/{member}"), value.clone());
            let what = format!("{:?}: {member} {value:?}", issuer.library);
            cases.push((what, format!("{}.{body}.{signature}", base64(header)), why));
        }
        let theirs = other.sign(&altered(&claims, "/iss", Some(json!(other.iss))));
        let [_, _, their_signature] = parts(&theirs);
        let swapped = format!("{header}.{body}.{their_signature}");
        cases.push(("another's signature".into(), swapped, SIGNATURE));
        market.refuses(&cases).await;
        // As it was, it is a license.
        let look = "SELECT seats FROM licenses WHERE product = 'TOM'";
        assert_eq!(market.tries(&token, look).await, "10");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_with_any_byte_altered_is_refused() {
    let market = Market::open().await;
    let tried = "
        WITH altered AS (
            SELECT overlay($1 PLACING chr(ascii(substr($1, at, 1)) # (1 << bit)) FROM at FOR 1) AS token
              FROM generate_series(1, length($1)) at, generate_series(0, 6) bit
            UNION ALL SELECT overlay($1 PLACING '' FROM at FOR 1) FROM generate_series(1, length($1)) at
            UNION ALL SELECT overlay($1 PLACING 'A' FROM at FOR 0) FROM generate_series(1, length($1)) at
            UNION ALL SELECT left($1, at - 1) FROM generate_series(1, length($1)) at)
        SELECT concat_ws('|', code, reason, message), bool_and(detail <> '' AND hint <> ''),
               count(*) FILTER (WHERE token <> $1)
          FROM altered, try_install(token) GROUP BY 1";
    for issuer in &market.issuers {
        let claims = issuer.claims(
            "ORDER",
            json!({"product": "TOM", "seats": 10, "claimed_at": "checkout"}),
        );
        let token = issuer.sign(&altered(&claims, "/jti", Some(json!(issuer.iss))));
        let before = market.admin.text(STATE).await;
        let rows = market.admin.query(tried, &[&token]).await.unwrap();
        let rows: Vec<(String, bool, i64)> = rows
            .iter()
            .map(|row| (row.get(0), row.get(1), row.get(2)))
            .collect();
        let refusal = "28000|license_not_verified|could not verify the license".to_owned();
        assert_eq!(rows, [(refusal, true, 10 * token.len() as i64)]);
        assert_eq!(market.admin.text(STATE).await, before);
        let look = "SELECT seats FROM licenses WHERE product = 'TOM'";
        assert_eq!(market.tries(&token, look).await, "10");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_algorithms_and_keys_are_refused() {
    let market = Market::open().await;
    let [rsa, ec] = ["RS256", "ES256"].map(|alg| JwtLibrary::Jose.generate(alg));
    for (n, issuer) in market.issuers.iter().enumerate() {
        let (library, other) = (issuer.library, &market.issuers[1 - n]);
        let claims = issuer.claims("ORDER", json!({"product": "TOM", "seats": 10}));
        // The vendor has keys of other kinds for other uses.
        let public = |key: &Value, kid: &str| {
            let mut jwk = key.clone();
            for private in ["d", "p", "q", "dp", "dq", "qi"] {
                jwk.as_object_mut().unwrap().remove(private);
            }
            jwk["kid"] = json!(kid);
            jwk
        };
        market.knows(
            issuer,
            &[public(&rsa, "rsa"), issuer.jwk(), public(&ec, "ec")],
        );
        let (mut requests, mut whats) = (Vec::new(), Vec::new());
        let mut sign = |key: &Value, header: Value, why| {
            whats.push((format!("{library:?}: {header} by {key}"), why));
            requests.push(json!({"key": key, "header": header, "claims": claims}));
        };
        for (alg, key, own_kid) in [("RS256", &rsa, "rsa"), ("ES256", &ec, "ec")] {
            sign(key, json!({"alg": alg, "kid": "2026"}), ALGORITHM);
            sign(key, json!({"alg": alg, "kid": own_kid}), NO_KEY);
            sign(key, json!({ "alg": alg }), ALGORITHM);
        }
        let x = issuer.jwk()["x"].as_str().unwrap().to_owned();
        let bytes = URL_SAFE_NO_PAD.decode(&x).unwrap();
        let der = [
            b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00",
            &bytes[..],
        ]
        .concat();
        let der64 = STANDARD.encode(&der);
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{der64}\n-----END PUBLIC KEY-----\n");
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut secrets = vec![
            bytes.clone(),
            x.into_bytes(),
            der,
            der64.into_bytes(),
            hex.into_bytes(),
        ];
        secrets.push(issuer.jwk().to_string().into_bytes());
        if library == JwtLibrary::Jose {
            // PyJWT takes no PEM for a secret.
            secrets.push(pem.trim_end().as_bytes().to_vec());
            secrets.push(pem.into_bytes());
        }
        for secret in secrets {
            let key = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(secret)});
            sign(&key, json!({"alg": "HS256", "kid": "2026"}), ALGORITHM);
            sign(&key, json!({"alg": "HS256"}), ALGORITHM);
        }
        // Another's key, also where it comes along.
        let mut embedded = issuer.header();
        embedded["jwk"] = other.jwk();
        embedded["jku"] = json!("https://rival.example/keys.json");
        sign(other.key(), embedded, SIGNATURE);
        sign(other.key(), issuer.header(), SIGNATURE);
        sign(issuer.key(), json!({"alg": "EdDSA", "kid": "2025"}), NO_KEY);
        sign(&Value::Null, json!({"alg": "none"}), NO_TOKEN);
        let tokens = library.tokens(&requests);
        let signed = whats.into_iter().zip(tokens);
        let mut cases: Vec<Case> = signed
            .map(|((what, why), token)| (what, token, why))
            .collect();
        let [none, body, _] = parts(&cases.last().unwrap().1).map(str::to_owned);
        let good = issuer.sign(&claims);
        let [header, _, signature] = parts(&good);
        for (what, token) in [
            ("none, signed", format!("{none}.{body}.{signature}")),
            ("none, one dot", format!("{none}.{body}")),
            ("no signature", format!("{header}.{body}.")),
            ("one dot", format!("{header}.{body}")),
        ] {
            let why = if what.starts_with("none") {
                NO_TOKEN
            } else {
                ""
            };
            cases.push((what.to_owned(), token, why));
        }
        // A vendor's key in the name of another vendor.
        let forged = altered(&claims, "/iss", Some(json!(other.iss)));
        cases.push(("another's name".into(), issuer.sign(&forged), SIGNATURE));
        let header = json!({"alg": "EdDSA"});
        let forged = library.sign(issuer.key(), &header, &forged);
        cases.push(("another's name, no kid".into(), forged, SIGNATURE));
        market.refuses(&cases).await;
        // With one key none need be named, with two it must.
        let mut second = library.generate("EdDSA");
        second.as_object_mut().unwrap().remove("d");
        second["kid"] = json!("2027");
        let product = json!({"product": "TOM", "seats": 10, "claimed_at": "checkout"});
        let unnamed = library.sign(
            issuer.key(),
            &header,
            &issuer.claims(&format!("KID-{n}"), product),
        );
        market.knows(issuer, &[issuer.jwk(), second.clone()]);
        let choice = "The token names no key, and the issuer ";
        market
            .refuses(&[("no kid, two keys".into(), unnamed.clone(), choice)])
            .await;
        market.knows(issuer, &[second]);
        market
            .refuses(&[("no kid, another key".into(), unnamed.clone(), SIGNATURE)])
            .await;
        market.knows(issuer, &[]);
        market
            .refuses(&[("no kid, no key".into(), unnamed.clone(), choice)])
            .await;
        market.knows(issuer, &[issuer.jwk()]);
        let look = "SELECT seats FROM licenses WHERE product = 'TOM'";
        assert_eq!(market.tries(&unnamed, look).await, "10");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_nonsense_is_refused() {
    let market = Market::open().await;
    for issuer in &market.issuers {
        let claims = issuer.claims("ORDER", json!({"product": "TOM", "seats": 10}));
        let text = claims.to_string();
        let with = |once: &str, other: &str| {
            assert!(text.contains(once), "{once} in {text}");
            text.replace(once, other)
        };
        let mut texts: Vec<(String, &'static str)> = Vec::new();
        for seats in ["-1", "-2147483648"] {
            texts.push((
                with(r#""seats":10"#, &format!(r#""seats":{seats}"#)),
                "must not be negative",
            ));
        }
        for seats in [
            "1.5",
            "1.0",
            "1e1",
            "2147483648",
            "-2147483649",
            "1e400",
            "99999999999999999999",
            r#""10""#,
            "true",
            "[10]",
            "{}",
            "NaN",
            "010",
            "+1",
            "",
        ] {
            texts.push((with(r#""seats":10"#, &format!(r#""seats":{seats}"#)), ""));
        }
        texts.push((with(r#","seats":10"#, ""), "missing field `seats`"));
        for (once, twice) in [
            (r#""jti":"ORDER""#, r#""jti":"ORDER","jti":"ORDER""#),
            (r#""jti":"ORDER""#, r#""jti":"ORDER","jt\u0069":"OTHER""#),
            (r#""seats":10"#, r#""seats":10,"seats":1000"#),
            (
                r#""product":"TOM""#,
                r#""product":"TOM","product":"TOM Web""#,
            ),
            (r#""products":"#, r#""products":[],"products":"#),
            (r#""sub":"#, r#""sub":"","sub":"#),
            (r#""iss":"#, r#""iss":"","iss":"#),
            (r#""exp":"#, r#""exp":null,"exp":"#),
        ] {
            texts.push((with(once, twice), "duplicate field"));
        }
        // As many braces as a token has room for.
        for (levels, open, close) in [(10_000, "[", "]"), (9_000, r#"{"":"#, "}")] {
            let deep = format!("{}1{}", open.repeat(levels), close.repeat(levels));
            let deep = with(r#""sub":"#, &format!(r#""comment":{deep},"sub":"#));
            texts.push((deep, "recursion limit exceeded"));
        }
        let huge = "x".repeat(1 << 20);
        texts.push((
            with(r#""sub":""#, &format!(r#""sub":"{huge}"#)),
            "A token has at most 65536 bytes",
        ));
        let long = "x".repeat(256);
        for claim in ["iss", "sub", "jti"] {
            for value in ["", &long, "a\\nb", "a\\u0000b", "a\\u0085b", "\\u007f"] {
                let other = altered(&claims, &format!("/{claim}"), Some(json!("HERE")));
                // No key speaks for another issuer.
                let why = if claim == "iss" {
                    NO_KEY
                } else {
                    "must have 1 to 255 bytes and no control characters"
                };
                texts.push((other.to_string().replace("HERE", value), why));
            }
        }
        for name in [
            "",
            "a\\nb",
            "a\\u0000b",
            "\\u001b[2J",
            "\\u007f",
            &"ä".repeat(32),
        ] {
            let why = "must have 1 to 63 bytes and no control characters";
            texts.push((with(r#""TOM""#, &format!(r#""{name}""#)), why));
            texts.push((
                with(r#""seats":10"#, &format!(r#""seats":10,"pool":"{name}""#)),
                why,
            ));
        }
        texts.push((with(r#""TOM""#, r#""\ud800""#), NO_TOKEN));
        for (member, value, why) in [
            ("iat", json!("yesterday"), "expected a JSON number"),
            (
                "iat",
                json!(unix_now().to_string()),
                "expected a JSON number",
            ),
            ("iat", json!(null), ""),
            ("iat", json!(true), ""),
            ("iat", json!(-1), "seconds since 1970"),
            ("iat", json!(unix_now() * 1_000), "seconds since 1970"),
            ("exp", json!((unix_now() + DAY).to_string()), ""),
            ("exp", json!(unix_now() - 1), "It has ended."),
            (
                "exp",
                claims["nbf"].clone(),
                "It would end before it begins.",
            ),
            ("nbf", json!(unix_now() + DAY), "It is not valid yet."),
            ("exp", json!(253_402_300_800_i64), "seconds since 1970"),
            ("exempt", json!(-1), NO_TOKEN),
            (
                "cnf",
                json!({"jkt": "elsewhere"}),
                "It is made for installation \"elsewhere\", and this is ",
            ),
            ("cnf", json!({"jwk": {}}), NO_TOKEN),
            ("products", json!([]), "It has no products."),
            ("products", json!({}), NO_TOKEN),
            ("products", json!(null), NO_TOKEN),
            (
                "products",
                json!([{"product": "A", "seats": 1}, {"product": "A", "seats": 2}]),
                "It has \"A\" twice.",
            ),
            (
                "products",
                json!([{"product": "A", "seats": 1}, {"product": "B", "seats": 2}]),
                "The same logins would claim \"A\" and \"B\".",
            ),
        ] {
            texts.push((
                altered(&claims, &format!("/{member}"), Some(value)).to_string(),
                why,
            ));
        }
        for (rule, value) in [
            ("purchased", json!(10)),
            ("max_seats", json!(5)),
            ("Seats", json!(5)),
            ("", json!(null)),
        ] {
            let rule = altered(&claims, &format!("/products/0/{rule}"), Some(value));
            texts.push((rule.to_string(), "unknown field"));
        }
        for (rule, value) in [
            ("counted_by", json!("moon")),
            ("counted_by", json!("USER")),
            ("claimed_at", json!("never")),
            ("enforcement", json!("")),
            ("application_name", json!("")),
            ("application_name", json!("TOM\\")),
            ("overdraft", json!(-1)),
            ("overdraft", json!(0.5)),
            ("warn_at_percent", json!(101)),
            ("grace", json!(7)),
        ] {
            texts.push((
                altered(&claims, &format!("/products/0/{rule}"), Some(value)).to_string(),
                "",
            ));
        }
        for text in [
            "",
            "null",
            "[]",
            "7",
            "\"token\"",
            "{",
            "{}",
            "{}{}",
            "\u{feff}{}",
        ] {
            texts.push((text.to_owned(), ""));
        }
        let signed = issuer.sign_texts(
            &texts
                .iter()
                .map(|(text, _)| text.clone())
                .collect::<Vec<_>>(),
        );
        let cases: Vec<Case> = texts
            .into_iter()
            .zip(signed)
            .map(|((text, why), token)| {
                (format!("{:?}: {:.400}", issuer.library, text), token, why)
            })
            .collect();
        market.refuses(&cases).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_of_a_license_is_its_vendors() {
    let market = Market::open().await;
    let [first, second] = &market.issuers;
    let product = json!({"product": "TOM", "seats": 10, "claimed_at": "checkout"});
    let [theirs, same] =
        [first, second].map(|issuer| issuer.sign(&issuer.claims("ORDER", product.clone())));
    let look = "SELECT issuer, state FROM license_keys_status WHERE license_id = 'ORDER'";
    let install = format!("SELECT license_install('{same}')");
    market.install(&theirs).await;
    let refuse = async || {
        let denied = market.admin.fails(&install).await;
        assert_eq!(
            denied.assert("22023", "").message,
            r#"license "ORDER" is another vendor's"#
        );
        assert!(!denied.hint.is_empty());
    };
    refuse().await;
    assert_eq!(
        market.admin.text(look).await,
        format!("{}|valid", first.iss)
    );
    market.admin.run("SELECT license_uninstall('ORDER')").await;
    refuse().await;
    assert_eq!(
        market.tries(&theirs, look).await,
        format!("{}|valid", first.iss)
    );
}

/// What no library makes.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_otherwise_is_refused() {
    let market = Market::open().await;
    let vendor = Vendor::aptora();
    market.cluster.write(
        "vendors/aptora.example.json",
        &vendor
            .key_file()
            .replacen('{', r#"{"iss":"https://aptora.example","#, 1),
    );
    let claims = vendor.claims(10).to_string();
    let mut cases: Vec<Case> = Vec::new();
    let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    for (header, why) in [
        (
            format!(r#"{{"alg":"EdDSA","kid":"1","x":{}}}"#, deep(10_000)),
            "recursion limit exceeded",
        ),
        (
            format!(r#"{{"alg":"EdDSA","kid":"1","jwk":{}}}"#, deep(10_000)),
            NO_TOKEN,
        ),
        (
            format!(
                r#"{{"alg":"EdDSA","kid":"1","x":"{}"}}"#,
                "x".repeat(1 << 20)
            ),
            "A token has at most 65536 bytes",
        ),
        (
            r#"{"alg":"EdDSA","kid":"1","kid":"1"}"#.to_owned(),
            "duplicate field",
        ),
        (
            r#"{"alg":"none","alg":"EdDSA","kid":"1"}"#.to_owned(),
            NO_TOKEN,
        ),
        (r#"{"alg":"EdDSA","kid":"1"} x"#.to_owned(), NO_TOKEN),
        (r#"["EdDSA","1"]"#.to_owned(), ""),
        ("EdDSA".to_owned(), NO_TOKEN),
        (String::new(), NO_TOKEN),
    ] {
        let token = vendor.sign_texts(&header, &claims);
        cases.push((format!("{header:.100}"), token, why));
    }
    // Letters that differ in the two alphabets, and a length that is padded.
    let text = claims.replacen('{', r#"{"comment":"??>>~~ÿÿ>>??>?","#, 1);
    let text = format!("{text}{}", " ".repeat(text.len() % 3 + 1));
    let token = vendor.sign_texts(r#"{"alg":"EdDSA","kid":"1"} "#, &text);
    let all = parts(&token).map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
    let written =
        |engine: &dyn Fn(&[u8]) -> String| all.each_ref().map(|part| engine(part)).join(".");
    assert_eq!(written(&|part| URL_SAFE_NO_PAD.encode(part)), token);
    for (what, other) in [
        ("padded", written(&|part| URL_SAFE.encode(part))),
        ("standard", written(&|part| STANDARD_NO_PAD.encode(part))),
        ("standard, padded", written(&|part| STANDARD.encode(part))),
        ("one = more", format!("{token}=")),
        ("a dot more", format!("{token}.")),
        ("a dot before", format!(".{token}")),
        ("a part more", format!("{token}.AAAA")),
        ("dots missing", token.replace('.', "")),
        ("dots alone", "..".to_owned()),
        ("nothing", String::new()),
        ("blanks", " \n\t ".to_owned()),
        ("Bearer", format!("Bearer {token}")),
        ("quoted", format!("\"{token}\"")),
        ("JSON", json!({"payload": parts(&token)[1], "protected": parts(&token)[0], "signature": parts(&token)[2]}).to_string()),
        ("twice", format!("{token}\n{token}")),
        ("letters", "ключ.от.всего".to_owned()),
        ("a byte order mark", format!("\u{feff}{token}")),
    ] {
        assert_ne!(other, token, "{what}");
        cases.push((what.to_owned(), other, ""));
    }
    for blank in [" ", "\n", "\r\n", "\t", "\u{a0}", "\u{200b}"] {
        for at in [
            1,
            token.len() / 2,
            token.len() - 1,
            token.find('.').unwrap(),
        ] {
            let (start, end) = token.split_at(at);
            cases.push((
                format!("{blank:?} at {at}"),
                format!("{start}{blank}{end}"),
                "",
            ));
        }
    }
    market.refuses(&cases).await;
    let look = "SELECT seats FROM licenses WHERE product = 'TOM'";
    let token = vendor.sign_texts(
        r#"{"alg":"EdDSA","kid":"1"} "#,
        &text.replace(r#""seats":10"#, r#""seats":10,"claimed_at":"checkout""#),
    );
    assert_eq!(market.tries(&token, look).await, "10");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_postgresql_can_not_read_are_refused() {
    let market = Market::open().await;
    const ROWS: &str = "No rows of licenses can be made of it: ";
    for issuer in &market.issuers {
        let mut texts = Vec::new();
        let mut whats = Vec::new();
        for (rule, value) in [
            ("grace", "soon"),
            ("grace", ""),
            ("grace", "-1 day"),
            ("grace", "1 day\u{0}"),
            ("grace", "200000000 years"),
            ("linger", "-1 second"),
            ("linger", "2 years"),
            ("idle_timeout", "0.5 seconds"),
            ("idle_timeout", "-1 hour"),
            ("idle_timeout", "366 days"),
            ("reclaim_idle_after", "-00:00:01"),
            ("reclaim_idle_after", "later"),
            ("valid_until", "never ever"),
            ("valid_until", ""),
            ("valid_until", "2027-02-30"),
            ("valid_until", "2001-01-01"),
            ("valid_until", "2027-01-01 12:00 Nowhere/City"),
            ("valid_until", "300000-01-01"),
            ("valid_from", "2027-13-01"),
            ("valid_from", "9999-01-01"),
        ] {
            let product =
                json!({"product": "TOM", "seats": 10, "claimed_at": "checkout", rule: value});
            texts.push(issuer.claims("ORDER", product).to_string());
            whats.push(format!("{rule} {value:?}"));
        }
        let tokens = issuer.sign_texts(&texts);
        let cases: Vec<Case> = whats
            .into_iter()
            .zip(tokens)
            .map(|(what, token)| (what, token, ROWS))
            .collect();
        market.refuses(&cases).await;
    }
    // Everybody gets in as before.
    let anna = market
        .cluster
        .login("anna")
        .from("127.0.1.1")
        .open_ok()
        .await;
    anna.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_the_letters_takes_no_license_with_them() {
    let market = Market::open().await;
    market
        .cluster
        .sql("CREATE DATABASE old ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    market.cluster.sql_in("old", "CREATE EXTENSION pg_seats");
    let old = market.cluster.login("postgres").db("old").open_ok().await;
    old.run(TRY_INSTALL).await;
    for (n, issuer) in market.issuers.iter().enumerate() {
        let token = |jti: &str, product: Value| issuer.sign(&issuer.claims(jti, product));
        let name = |name: &str| json!({"product": name, "seats": 1, "claimed_at": "checkout"});
        let why = "Encoding LATIN1 of this database has not all letters of ";
        let pool = altered(&name("TOM"), "/pool", Some(json!("本社")));
        let application = altered(&name("TOM"), "/application_name", Some(json!("事務%")));
        let cases = [
            ("a product", token("ORDER", name("事務"))),
            ("a currency", token("ORDER", name("Büro €"))),
            ("a pool", token("ORDER", pool)),
            ("an application", token("ORDER", application)),
            ("an id", token("注文", name("TOM"))),
        ];
        refuses(
            &old,
            &cases.map(|(what, token)| (what.to_owned(), token, why)),
        )
        .await;
        let jti = format!("Büro {n}");
        let good = token(&jti, name("Büro?"));
        let id = old
            .query_one("SELECT license_install($1)", &[&good])
            .await
            .unwrap();
        assert_eq!(id.get::<_, String>(0), jti);
        let look = "SELECT s.license_id, l.product, u.status FROM license_keys_status s, licenses l, license_usage u";
        assert_eq!(old.text(look).await, format!("{jti}|Büro?|ok"));
        let gone = format!("SELECT license_uninstall('{jti}')");
        assert_eq!(old.text(&gone).await, "t");
    }
    let anna = market
        .cluster
        .login("anna")
        .db("old")
        .from("127.0.1.1")
        .open_ok()
        .await;
    anna.close().await;
}
