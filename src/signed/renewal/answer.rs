//! Judges whether the output of the command is the next token of a license.

use crate::core::ledger::time::Timestamp;
use crate::core::tokens::claims::Claims;
use crate::core::tokens::keys::Keys;
use crate::core::tokens::{self, unix, verify};

/// The facts by which an answer is judged.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The newest claims that are known of the license.
    pub former: &'a Claims,
    /// The vendors' keys.
    pub keys: &'a Keys,
    /// This installation's id; `None` if its key can't be read.
    pub installation: Option<&'a str>,
    /// The present moment.
    pub now: Timestamp,
}

impl Expected<'_> {
    /// Returns the token, and its claims.
    ///
    /// # Errors
    ///
    /// Why it may not be believed, as a sentence.
    pub fn token(&self, output: &[u8]) -> Result<(String, Claims), String> {
        let wrong = |reason: &str| Err(reason.to_owned());
        let output = output.trim_ascii();
        if output.is_empty() {
            return wrong("The command wrote nothing.");
        }
        let Ok(token) = str::from_utf8(output) else {
            return wrong("The command wrote what is no text.");
        };
        let claims = verify(token, self.keys).map_err(|refused| refused.to_string())?;
        if tokens::is_allotment(token) {
            return wrong("It is an allotment of another installation, and no vendor's license.");
        }
        if claims.iss != self.former.iss {
            return Err(format!("It is a license of {:?}.", claims.iss));
        }
        if claims.jti != self.former.jti {
            return Err(format!("It is another license, {:?}.", claims.jti));
        }
        if claims.iat <= self.former.iat {
            return wrong("It is not newer than the one that is installed.");
        }
        claims
            .fit(unix(self.now), self.installation)
            .map_err(|unfit| unfit.to_string())?;
        Ok((token.to_owned(), claims))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tokens::tests::{accepted, allotment, claims, header, keys, sign};
    use crate::core::tokens::{TOKEN_MAX, moment};
    use serde_json::{Value, json};

    const NOW: i64 = 1_800_000_000;

    fn judged(output: &[u8]) -> Result<(String, Claims), String> {
        let (former, keys) = (accepted(&claims()), keys());
        let expected = Expected {
            former: &former,
            keys: &keys,
            installation: Some("here"),
            now: moment(NOW),
        };
        expected.token(output)
    }

    fn with(changes: &[(&str, Value)]) -> String {
        let mut newer = claims();
        newer["iat"] = json!(NOW - 1);
        for (claim, value) in changes {
            newer[*claim] = value.clone();
        }
        sign(&header(), &newer)
    }

    #[test]
    fn the_next_token_of_the_license_is_believed() {
        for token in [
            with(&[]),
            with(&[("exp", json!(NOW + 1))]),
            with(&[("cnf", json!({"jkt": "here"}))]),
            with(&[("sub", json!("Miller & Sons"))]),
        ] {
            for output in [
                token.clone(),
                format!("{token}\r\n"),
                format!(" \n{token} "),
            ] {
                let (judged, claims) = judged(output.as_bytes()).unwrap();
                assert_eq!((judged, claims.iat), (token.clone(), NOW - 1));
            }
        }
    }

    #[test]
    fn whatever_else_comes_back_is_refused() {
        let token = with(&[]);
        for (output, reason) in [
            (String::new(), "wrote nothing"),
            (" \n".to_owned(), "wrote nothing"),
            ("<html>502</html>".to_owned(), "no token"),
            (token[..token.len() - 9].to_owned(), "no token"),
            (format!("{token}\n{token}"), "no token"),
            (sign(&header(), &claims()), "not newer"),
            (with(&[("iat", json!(1))]), "not newer"),
            (
                with(&[("jti", json!("TOM-1"))]),
                "another license, \"TOM-1\"",
            ),
            (
                with(&[("iss", json!("https://rival.example"))]),
                "a license of \"https",
            ),
            (with(&[("exp", json!(NOW))]), "has ended"),
            (with(&[("nbf", json!(NOW + 121))]), "not valid yet"),
            (with(&[("iat", json!(NOW + 90_000))]), "a day ahead"),
            (
                with(&[("cnf", json!({"jkt": "there"}))]),
                "for installation \"there\"",
            ),
            (allotment(), "an allotment"),
            ("A".repeat(TOKEN_MAX + 1), "at most 65536 bytes"),
        ] {
            let refused = judged(output.as_bytes()).unwrap_err();
            assert!(refused.contains(reason), "{output}: {refused}");
        }
        assert!(judged(&[b'A', 0xff, b'B']).unwrap_err().contains("no text"));
    }
}
