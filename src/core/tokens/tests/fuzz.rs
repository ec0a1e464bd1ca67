//! Tokens, claims and files of keys with something broken in them, by the ten thousand; by the million with
//! `PG_SEATS_FUZZ=5000000 cargo test --lib fuzz`. Each case is made from its number alone, so that one that fails can
//! be repeated.

use std::env;
use std::thread;

use super::*;

/// The number of cases unless the environment says otherwise. They take some seconds.
const CASES: u64 = 10_000;

/// The pieces that JSON, tokens and claims are made of.
const PIECES: [&str; 40] = [
    "",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "\\u00e9",
    "null",
    "true",
    "-1",
    "0",
    "1.5",
    "1e1",
    "1e400",
    "2147483648",
    "9223372036854775808",
    "\"seats\":",
    "\"product\":\"TOM\"",
    "\"exp\":null,",
    "\"iss\":\"\",",
    "\"jti\":\"x\",",
    "\"products\":[],",
    "\"cnf\":{\"jkt\":\"x\"},",
    "\"kid\":\"2026\",",
    "\"alg\":\"none\",",
    "\"alg\":\"HS256\",",
    "\"crit\":[\"exp\"],",
    "\"typ\":\"license-allotment+jwt\",",
    "\"grace\":\"soon\",",
    "\"exempt\":0,",
    ".",
    "=",
    "\u{0}",
    "é",
    "𝄞",
];

/// A source of random numbers that are the same every time: SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.roll() % end.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// Returns one of the texts with a few of its pieces changed, lost, doubled, or replaced by those of another one.
    fn broken<T: AsRef<str>>(&mut self, texts: &[T]) -> String {
        let (text, other) = (self.pick(texts).as_ref(), self.pick(texts).as_ref());
        let mut text = text.as_bytes().to_vec();
        for _ in 0..=self.below(3) {
            let start = self.below(text.len() + 1);
            let length = self.below(8).min(text.len() - start);
            let range = start..start + length;
            match self.below(7) {
                0 => text.truncate(start),
                1 => drop(text.drain(range)),
                2 => {
                    let doubled = text[range].to_vec();
                    text.splice(start..start, doubled);
                }
                3 => {
                    let from = self.below(other.len() + 1);
                    let piece = &other.as_bytes()[from..];
                    let piece = &piece[..self.below(piece.len() + 1)];
                    text.splice(range, piece.iter().copied());
                }
                4 => {
                    let piece = self.pick(&PIECES).bytes();
                    text.splice(start..start, piece);
                }
                5 => {
                    let piece = self.pick(&PIECES).bytes();
                    text.splice(range, piece);
                }
                _ => {
                    let bit = 1 << self.below(7);
                    text.iter_mut()
                        .skip(start)
                        .take(1)
                        .for_each(|byte| *byte ^= bit);
                }
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// A guard that says which case it was that panicked.
struct Case(u64);

impl Drop for Case {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("this was case {}", self.0);
        }
    }
}

fn each_case(mut try_one: impl FnMut(&mut Dice)) {
    let cases = env::var("PG_SEATS_FUZZ").map_or(CASES, |cases| cases.parse().unwrap());
    for number in 0..cases {
        let _case = Case(number);
        try_one(&mut Dice(number));
    }
}

/// Returns claims with everything that there is.
fn full() -> Value {
    let mut claims = with("/cnf", json!({"jkt": "here"}));
    claims["exempt"] = json!(3);
    claims["products"] = json!([{
        "product": "TOM", "seats": 10, "counted_by": "user", "claimed_at": "checkout",
        "application_name": "TOM%", "pool": "office", "enforcement": "warn", "overdraft": 2,
        "warn_at_percent": 75, "grace": "7 days", "linger": "30 s", "idle_timeout": "1 hour",
        "reclaim_idle_after": "10 min", "max_per_user": 3, "valid_from": "2026-01-01", "valid_until": "2027-01-01",
    }]);
    claims
}

/// Returns tokens of every kind that is believed.
fn originals() -> Vec<String> {
    let (first, _, allotted) = allotted();
    vec![
        sign(&header(), &claims()),
        sign(&header(), &full()),
        sign(&json!({"alg": "EdDSA"}), &without("/exp")),
        allotted.sign(&first).unwrap(),
    ]
}

#[test]
fn no_broken_token_is_believed() {
    let (keys, originals) = (keys(), originals());
    for token in &originals {
        verify(token, &keys).unwrap();
    }
    each_case(|dice| {
        let token = dice.broken(&originals);
        let verified = verify(&token, &keys);
        assert!(verified.is_err() || originals.contains(&token), "{token}");
        let _ = believe(&token);
        let _ = Returned::verify(&token);
    });
}

#[test]
fn nothing_is_believed_under_another_signature() {
    let keys = keys();
    let texts = [claims(), full()].map(|claims| claims.to_string());
    let stranger = SigningKey::from_bytes(&[9; 32]);
    let original = sign(&header(), &claims());
    let signature = original.rsplit_once('.').unwrap().1;
    each_case(|dice| {
        let broken = dice.broken(&texts);
        let head = header().to_string();
        let head = if dice.below(2) == 0 {
            dice.broken(&[head.as_str(), &texts[0]])
        } else {
            head
        };
        let token = if dice.below(4) == 0 {
            sign_text(&head, &broken, &stranger)
        } else {
            let parts = [head.as_str(), &broken].map(|part| URL_SAFE_NO_PAD.encode(part));
            format!("{}.{signature}", parts.join("."))
        };
        let is_believed = verify(&token, &keys).is_ok();
        assert!(token == original || !is_believed, "{head} {broken}");
    });
}

#[test]
fn whatever_broken_claims_are_signed_is_a_license_or_refused() {
    let keys = keys();
    let texts = [claims(), full()].map(|claims| claims.to_string());
    let head = header().to_string();
    let mut licenses = 0_u64;
    each_case(|dice| {
        let broken = dice.broken(&texts);
        let head = if dice.below(8) == 0 {
            dice.broken(&[head.as_str(), &texts[0]])
        } else {
            head.clone()
        };
        let Ok(claims) = verify(&sign_text(&head, &broken, &vendor()), &keys) else {
            return;
        };
        licenses += 1;
        claims.check().unwrap();
        assert!(
            claims
                .products
                .iter()
                .all(|p| p.seats.is_none_or(|seats| seats >= 0))
        );
        assert!(
            claims
                .texts()
                .all(|text| !text.is_empty() && !text.contains('\0')),
            "{broken}"
        );
        // It says the same when it is written again.
        let again = serde_json::to_value(&claims).unwrap();
        assert_eq!(
            serde_json::from_value::<Claims>(again).unwrap(),
            claims,
            "{broken}"
        );
    });
    // Some changes do no harm.
    assert!(licenses > 0);
}

#[test]
fn broken_files_of_keys_do_no_harm() {
    let own = SigningKey::from_bytes(&[8; 32]);
    let texts = [
        set(&[jwk(&vendor(), "2026")]),
        set(&[jwk(&own, "2025"), jwk(&vendor(), "2026")]),
    ];
    let texts = texts.map(|text| String::from_utf8(text).unwrap());
    let forged = sign_text(
        &header().to_string(),
        &claims().to_string(),
        &SigningKey::from_bytes(&[9; 32]),
    );
    each_case(|dice| {
        let text = dice.broken(&texts);
        let mut keys = Keys::default();
        let _ = keys.add(text.as_bytes(), None);
        assert!(verify(&forged, &keys).is_err(), "{text}");
    });
}
