//! What administrators do and see, and what nobody gains by it.

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
mod stories;
mod triggers;
mod views;
