//! What is done with signed licenses.
//!
//! * [`install`]: installs a token in a database
//! * [`renewed`]: replaces older tokens by renewed ones
//! * [`allot`], [`give_back`], [`accept_return`]: move seats between installations
//! * [`observe`]: makes the installation remember what is seen

pub mod accept_return;
pub mod allot;
pub mod give_back;
pub mod install;
pub mod observe;
pub mod renewed;
