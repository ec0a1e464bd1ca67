//! Signed licenses: installed, passed on, renewed, and what vendors do.

mod in_force;
mod passed_on;
mod renewal;
mod signed_doubt;
mod sold;
mod tokens;
mod vendors;
