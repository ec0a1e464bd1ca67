//! What is done with signed licenses.
//!
//! * [`install`]: a token, in a database
//! * [`renewed`]: puts renewed tokens in the place of older ones
//! * [`allot`], [`give_back`], [`accept_return`]: seats that other installations have
//! * [`observe`]: has the installation remember what is seen

pub mod accept_return;
pub mod allot;
pub mod give_back;
pub mod install;
pub mod observe;
pub mod renewed;
