//! What administrators do and see, and what nobody gains by it.

mod administration;
mod bad_input;
mod bars;
mod bars_lifted;
mod group_access;
mod install;
mod interference;
mod locked_out;
mod messages;
mod security;
mod stop;
mod triggers;
mod views;
