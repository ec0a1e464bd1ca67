//! The rules of counting.

mod claims;
mod connection_facts;
mod counts_last;
mod databases;
mod encodings;
mod exempt_limit;
mod exemptions;
mod identities;
mod linger;
mod max_rules;
mod membership;
mod per_user;
mod pools;
mod races;
mod reservations;
