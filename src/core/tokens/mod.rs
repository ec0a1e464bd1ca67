//! Signed licenses: what a token says, and whether it may be believed.
//!
//! A token is a JWS in compact form (RFC 7515) with the claims of a JWT (RFC 7519), signed with
//! Ed25519 (RFC 8037) and nothing else: [`signature`] knows no other algorithm.

pub mod allotment;
pub mod claims;
pub mod key_pair;
pub mod keys;
mod signature;
#[cfg(test)]
pub(crate) mod tests;
pub mod token;
pub mod verification;

pub use token::{Refused, TOKEN_MAX, moment, unix};
pub use verification::{believe, is_allotment, verify};
