//! The command that the shell runs: `pg_seats.renewal_command`, with the license's id and the customer in it.

use std::fmt;

use crate::core::tokens::claims::Claims;

/// Why a license was not renewed, in a sentence or two.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The command failed.
    Command(String),
    /// The command failed, and wrote to its standard error. The last line of that may hold what is not meant for
    /// everybody.
    Complained {
        /// What has happened.
        reason: String,
        /// The last line of its standard error.
        complaint: String,
    },
    /// What the command wrote was not accepted.
    Answer(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Command(reason) | Failure::Answer(reason) => f.write_str(reason),
            Failure::Complained { reason, complaint } => {
                write!(f, "{}: {complaint}.", reason.trim_end_matches('.'))
            }
        }
    }
}

impl Failure {
    /// Returns the reason without what the command wrote to its standard error, for those who may read the audit trail.
    pub fn for_everybody(&self) -> &str {
        match self {
            Failure::Command(reason)
            | Failure::Answer(reason)
            | Failure::Complained { reason, .. } => reason,
        }
    }
}

/// A command line, and what it gets as `$1` and `$2`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// The line for `sh -c`.
    pub line: Vec<u8>,
    /// The license's id, and the customer.
    pub arguments: [String; 2],
}

impl Command {
    /// Makes the command for this license: `%i` stands for the license's id, `%c` for the customer, `%%` for a percent
    /// sign.
    ///
    /// The shell gets both as parameters in double quotes. So each is one word whatever it holds, and nothing of it is
    /// ever read as shell code, not even if the administrator has put quotes around it. What the command itself could
    /// take for an option, another folder or a pattern is not passed on at all.
    ///
    /// # Errors
    ///
    /// Fails if something else follows a percent sign, as in PostgreSQL's own commands, or if the license has what is
    /// not passed on.
    pub fn new(command: &[u8], claims: &Claims) -> Result<Command, Failure> {
        let mut line = Vec::with_capacity(command.len());
        let mut bytes = command.iter();
        while let Some(&byte) = bytes.next() {
            if byte != b'%' {
                line.push(byte);
                continue;
            }
            match bytes.next() {
                Some(b'i') => {
                    require("The license's id", &claims.jti, is_of_id)?;
                    line.extend(br#""$1""#);
                }
                Some(b'c') => {
                    require("The customer", &claims.sub, is_of_customer)?;
                    line.extend(br#""$2""#);
                }
                Some(b'%') => line.push(b'%'),
                other => {
                    let what = other.map_or(String::new(), |&byte| char::from(byte).to_string());
                    return Err(Failure::Command(format!(
                        "pg_seats.renewal_command has \"%{what}\", which stands for nothing: a percent sign is \"%%\"."
                    )));
                }
            }
        }
        Ok(Command {
            line,
            arguments: [claims.jti.clone(), claims.sub.clone()],
        })
    }
}

fn is_of_id(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "._:@-".contains(letter)
}

/// Tells whether a customer's name may have this letter. Names of people and firms have letters that ids have not.
fn is_of_customer(letter: char) -> bool {
    letter.is_alphanumeric() || is_of_id(letter) || " ,+&'()".contains(letter)
}

fn require(what: &str, text: &str, is_of_it: fn(char) -> bool) -> Result<(), Failure> {
    let wrong = text.chars().find(|&letter| !is_of_it(letter));
    let wrong = wrong.or(text.chars().next().filter(|first| "-.@".contains(*first)));
    match wrong {
        None => Ok(()),
        Some(wrong) => Err(Failure::Command(format!(
            "{what} is not passed to pg_seats.renewal_command: {wrong:?} could mean something else there."
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tokens::tests::accepted;
    use crate::signed::renewal::process::tests::output;

    fn claims(sub: &str) -> Claims {
        let mut claims = accepted(&crate::core::tokens::tests::claims());
        claims.sub = sub.to_owned();
        claims
    }

    fn said(command: &str, sub: &str) -> String {
        let command = Command::new(command.as_bytes(), &claims(sub)).unwrap();
        let output = output(&command).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn percent_signs_stand_for_the_license() {
        let said = |command| said(command, "Miller Plumbing");
        assert_eq!(said("echo %i %c"), "TOM-4711 Miller Plumbing\n");
        assert_eq!(said("printf '<%%s>' %i %c"), "<TOM-4711><Miller Plumbing>");
        assert_eq!(
            said("printf '<%%s>' id=%i,of=%c"),
            "<id=TOM-4711,of=Miller Plumbing>"
        );
        assert_eq!(said("echo 100%%"), "100%\n");
        assert_eq!(said("echo %%i"), "%i\n");
    }

    #[test]
    fn nothing_of_a_license_is_read_as_shell() {
        let folder = tempfile::tempdir().unwrap();
        let trap = folder.path().join("trap");
        let trap = trap.display();
        for sub in [
            &format!("'; touch {trap} #"),
            &format!("\"; touch {trap} #"),
            &format!("$(touch {trap})"),
            &format!("`touch {trap}`"),
            &format!("& touch {trap} &"),
            &format!("\\\"; touch {trap} #"),
            "* ? ~ $HOME !! > x",
            "{a,b}",
            "[1-9]",
            "a\nb",
            "-o pg_seats.key",
            "--config=x",
            "../../etc/passwd",
            "@/etc/passwd",
            ".netrc",
        ] {
            let refused = Command::new(b"printf %c", &claims(sub)).unwrap_err();
            let refused = refused.to_string();
            assert!(
                refused.starts_with("The customer is not passed"),
                "{refused}"
            );
            let mut license = claims("anna");
            license.jti = sub.to_owned();
            let refused = Command::new(b"printf %i", &license).unwrap_err();
            assert!(
                refused.to_string().starts_with("The license's id is"),
                "{refused}"
            );
            // What the command does not ask for does no harm.
            assert!(Command::new(b"printf %%", &license).is_ok());
        }
        for sub in [
            "",
            " ",
            "Müller & Söhne",
            "O'Brien (Cork), Ltd. + Co",
            "& touch trap &",
        ] {
            assert_eq!(said("printf %%s %c", sub), *sub);
            assert_eq!(said("printf %%s of=%c.", sub), format!("of={sub}."));
            // Quoted by mistake.
            said("echo \"%c\" '%c'", sub);
            said("echo \"$(echo %c)\" `echo \"%c\"`", sub);
        }
        assert!(!folder.path().join("trap").exists());
    }

    #[test]
    fn other_letters_after_a_percent_sign_are_refused() {
        for command in ["date +%Y", "echo %", "echo %I", "echo %%%"] {
            let refused = Command::new(command.as_bytes(), &claims("anna")).unwrap_err();
            assert!(refused.to_string().contains("stands for nothing"));
        }
    }
}
