//! Signed licenses: installed, allotted, renewed, and what vendors do.

mod allotments;
mod in_force;
mod renewal;
mod signed_doubt;
mod sold;
mod tokens;
mod vendors;
