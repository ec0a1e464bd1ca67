//! Vendors who sign with JWT libraries of other languages: the programs of `tests/clients` that sign.

use serde_json::{Value, json};

use super::library::{client, node, python};
use super::programs::run;
use super::vendor::{DAY, unix_now};

/// A JWT library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtLibrary {
    /// PyJWT, in Python.
    PyJwt,
    /// jose, in JavaScript.
    Jose,
}

impl JwtLibrary {
    pub const ALL: [JwtLibrary; 2] = [JwtLibrary::PyJwt, JwtLibrary::Jose];

    /// Returns a new private key for this algorithm, as a JWK. PyJWT makes those of EdDSA alone.
    pub fn generate(self, alg: &str) -> Value {
        self.answers(&[json!({ "generate": alg })]).remove(0)
    }

    /// Returns the token of these claims, with whatever key and algorithm.
    pub fn sign(self, key: &Value, header: &Value, claims: &Value) -> String {
        let request = json!({"key": key, "header": header, "claims": claims});
        self.tokens(&[request]).remove(0)
    }

    /// Returns the tokens of these requests, which `tests/clients` describes.
    pub fn tokens(self, requests: &[Value]) -> Vec<String> {
        let answers = self.answers(requests).into_iter();
        let token = |answer: Value| answer.as_str().expect("a token").to_owned();
        answers.map(token).collect()
    }

    fn answers(self, requests: &[Value]) -> Vec<Value> {
        let mut program = match self {
            Self::PyJwt => python(),
            Self::Jose => node(),
        };
        program.arg(client(match self {
            Self::PyJwt => "sign_pyjwt.py",
            Self::Jose => "sign_jose.js",
        }));
        let answers = run(&mut program, &Value::from(requests).to_string()).ok();
        serde_json::from_str(&answers).expect("a list of answers")
    }
}

/// A vendor with a key that its library has made.
pub struct Issuer {
    pub library: JwtLibrary,
    pub iss: String,
    key: Value,
}

impl Issuer {
    /// Creates an issuer with a new key.
    pub fn new(library: JwtLibrary) -> Self {
        Self {
            library,
            iss: format!("https://{library:?}.example").to_lowercase(),
            key: library.generate("EdDSA"),
        }
    }

    /// Returns its private key, as a JWK.
    pub fn key(&self) -> &Value {
        &self.key
    }

    /// Returns its public key, as a JWK.
    pub fn jwk(&self) -> Value {
        let mut jwk = self.key.clone();
        jwk.as_object_mut().expect("a JWK").remove("d");
        jwk["kid"] = json!("2026");
        jwk
    }

    /// Returns the header of its tokens.
    pub fn header(&self) -> Value {
        json!({"alg": "EdDSA", "typ": "JWT", "kid": "2026"})
    }

    /// Returns what a license of this id says: this product with its rules, for a year.
    pub fn claims(&self, jti: &str, product: Value) -> Value {
        let now = unix_now();
        json!({
            "iss": self.iss, "sub": "Miller Plumbing", "jti": jti,
            "iat": now - 60, "nbf": now - 60, "exp": now + 365 * DAY,
            "products": [product],
        })
    }

    /// Returns a token that says so.
    pub fn sign(&self, claims: &Value) -> String {
        self.library.sign(&self.key, &self.header(), claims)
    }

    /// Signs tokens of these texts, whatever they say.
    pub fn sign_texts(&self, texts: &[String]) -> Vec<String> {
        let request =
            |text: &String| json!({"key": self.key, "header": self.header(), "text": text});
        let requests: Vec<_> = texts.iter().map(request).collect();
        self.library.tokens(&requests)
    }
}
