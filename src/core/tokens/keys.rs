//! Public keys: those of vendors, as JWK sets (RFC 7517), and those of installations.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The keys that may sign licenses.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<Key>);

#[derive(Clone, Debug)]
struct Key {
    /// The only issuer that it speaks for; `None` for any.
    iss: Option<String>,
    kid: Option<String>,
    key: DecodingKey,
}

/// A file of a vendor's keys: a JWK set with one additional member.
#[derive(Deserialize)]
struct KeySet {
    iss: Option<String>,
    keys: Vec<Value>,
}

/// The public half of an installation's key pair, as a JWK (RFC 8037): only the members that its thumbprint is made of,
/// in that order, and the thumbprint.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PublicKey {
    crv: Curve,
    kty: KeyType,
    /// The key's bytes, in base64url.
    pub x: String,
    /// The key's thumbprint, which is the installation's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Curve {
    Ed25519,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum KeyType {
    #[serde(rename = "OKP")]
    OctetKeyPair,
}

impl PublicKey {
    /// Makes the key of these bytes.
    pub fn of(bytes: &[u8; 32]) -> PublicKey {
        let mut key = PublicKey {
            crv: Curve::Ed25519,
            kty: KeyType::OctetKeyPair,
            x: URL_SAFE_NO_PAD.encode(bytes),
            kid: None,
        };
        key.kid = Some(key.id());
        key
    }

    /// Returns its thumbprint by RFC 7638, with SHA-256.
    pub fn id(&self) -> String {
        let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, self.x);
        URL_SAFE_NO_PAD.encode(Sha256::digest(members))
    }

    /// Returns the key that verifies signatures; `None` if this is not a key.
    pub fn verifier(&self) -> Option<DecodingKey> {
        let bytes = URL_SAFE_NO_PAD.decode(&self.x).ok()?;
        (bytes.len() == 32).then(|| DecodingKey::from_ed_der(&bytes))
    }
}

/// The most bytes that a file of keys can have.
const FILE_MAX: u64 = 1 << 20;

impl Keys {
    /// Reads the keys of a file, or of every file in a folder. There a file speaks for the issuer whose name is the
    /// file's, without its extension, and for nobody else (see [`speaker`]). What can't be read is left out, and each
    /// reason is returned with the path.
    pub fn read(path: &Path) -> (Keys, Vec<(PathBuf, String)>) {
        let (mut keys, mut wrong) = (Keys::default(), Vec::new());
        let mut add = |path: &Path, name: Option<&str>| {
            let added = read_file(path)
                .map_err(|error| error.to_string())
                .and_then(|file| keys.add(&file, name));
            if let Err(reason) = added {
                wrong.push((path.to_owned(), reason));
            }
        };
        if !path.is_dir() {
            add(path, None);
            return (keys, wrong);
        }
        let files = fs::read_dir(path).and_then(|files| files.collect::<io::Result<Vec<_>>>());
        match files {
            Ok(files) => {
                let mut paths: Vec<_> = files.iter().map(fs::DirEntry::path).collect();
                paths.sort();
                for path in paths {
                    let name = path.file_stem().and_then(|name| name.to_str());
                    let is_hidden = name.is_none_or(|name| name.starts_with('.'));
                    if !is_hidden && path.is_file() {
                        add(&path, name);
                    }
                }
            }
            Err(error) => wrong.push((path.to_owned(), error.to_string())),
        }
        (keys, wrong)
    }

    /// Adds the Ed25519 keys of a file. Keys of other kinds are for other uses, and are left out. The keys speak for
    /// the issuer that the file's name binds them to, if one is given; else for the one of the member `iss`, or for
    /// any.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the file. Then none of its keys is added.
    pub fn add(&mut self, file: &[u8], name: Option<&str>) -> Result<(), String> {
        let file: KeySet = serde_json::from_slice(file)
            .map_err(|error| format!("it is not a JWK set: {error}"))?;
        let iss = match name {
            Some(name) => Some(speaker(name, file.iss.as_deref())?),
            None => file.iss,
        };
        let mut keys = Vec::new();
        for key in file.keys {
            if key.get("d").is_some() {
                return Err("it has a private key, which belongs to the vendor alone".to_owned());
            }
            let Ok(jwk) = Jwk::deserialize(key) else {
                continue;
            };
            let AlgorithmParameters::OctetKeyPair(pair) = &jwk.algorithm else {
                continue;
            };
            if pair.curve != EllipticCurve::Ed25519 {
                continue;
            }
            let kid = jwk.common.key_id.clone();
            let key = DecodingKey::from_jwk(&jwk).ok();
            let key = key.filter(|key| key.try_get_as_bytes().is_ok_and(|x| x.len() == 32));
            let key = key.ok_or_else(|| {
                format!(
                    "its key {:?} has no 32 bytes",
                    kid.as_deref().unwrap_or_default()
                )
            })?;
            let iss = iss.clone();
            keys.push(Key { iss, kid, key });
        }
        self.0.append(&mut keys);
        Ok(())
    }

    /// Returns the issuer's key with this id, or without an id the only one that the issuer has. `None` if there is
    /// none, or a choice.
    pub fn find(&self, iss: &str, kid: Option<&str>) -> Option<&DecodingKey> {
        let speaks = |key: &&Key| key.iss.as_deref().is_none_or(|own| own == iss);
        let is_named = |key: &&Key| kid.is_none() || key.kid.as_deref() == kid;
        let mut found = self.0.iter().filter(speaks).filter(is_named);
        let key = found.next()?;
        found.next().is_none().then_some(&key.key)
    }
}

/// Returns the issuer that a file of this name, without its extension, speaks for: the name itself, in which `%2F` and
/// the like stand for what no file's name can have, or `https://` with the name, if the file says so.
///
/// # Errors
///
/// Fails if the file says that it speaks for somebody else.
fn speaker(name: &str, iss: Option<&str>) -> Result<String, String> {
    let name = unescaped(name).unwrap_or_else(|| name.to_owned());
    match iss {
        None => Ok(name),
        Some(iss) if iss == name || iss.strip_prefix("https://") == Some(&name) => {
            Ok(iss.to_owned())
        }
        Some(iss) => Err(format!(
            "its member \"iss\" is {iss:?}, but a file of this name speaks for {name:?} alone: rename it"
        )),
    }
}

/// Returns a text without its percent-encoding; `None` if the encoding is wrong.
fn unescaped(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part
            .get(..2)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend(part.get(2..).unwrap_or_default().bytes());
    }
    String::from_utf8(bytes).ok()
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // Anything else might never come to an end.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = Vec::new();
    File::open(path)?
        .take(FILE_MAX + 1)
        .read_to_end(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(text)
}
