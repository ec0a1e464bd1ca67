//! The columns of `licenses` whose values are words.

/// Defines the type of a column whose values are words, with the way back from the table's text. Each word is written
/// once.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[repr(u8)]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum $name { $($(#[$word_doc])* $variant),+ }

        impl $name {
            /// Returns the value that this word of the table stands for.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words! {
    /// `licenses.counted_by`: what makes two connections the same user.
    CountedBy {
        /// Every connection counts.
        Session = "session",
        /// Role and host.
        UserHost = "user_host",
        /// Role and workstation, or role and host if no workstation is given.
        UserWorkstation = "user_workstation",
        /// Role, wherever it works.
        User = "user",
        /// Host, whoever works there.
        Host = "host",
    }
}

words! {
    /// `licenses.claimed_at`: who claims the license.
    ClaimedAt {
        /// Every login whose application name matches.
        Login = "login",
        /// Only applications, by calling a function.
        Checkout = "checkout",
    }
}

words! {
    /// `licenses.enforcement` and `pg_seats.enforcement`, from the strictest to the softest.
    Enforcement {
        /// A login without a free seat is denied.
        On = "on",
        /// The login is admitted, logged, and counted as denied.
        Warn = "warn",
        /// The login is admitted.
        Off = "off",
    }
}
