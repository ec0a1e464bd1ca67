//! The client that logs in.

use crate::core::ledger::identity::{NAME_MAX, Name};
use crate::denial::BadWorkstation;
use crate::pg::client::clipped;
use crate::pg::encoding::{self, decode, decode_lossy};
use crate::settings;

/// Returns the workstation that the client sent, or an empty name. It may only be called once the startup transaction
/// has opened the database and applied the startup settings.
pub fn workstation() -> Result<Name, BadWorkstation> {
    let sent = settings::workstation();
    let bad = |cause| BadWorkstation {
        cause,
        shown: clipped(&decode_lossy(sent)),
    };
    let Some(name) = decode(sent) else {
        return Err(bad(format!(
            "Not all of it is text in the database's encoding, {}.",
            encoding::name()
        )));
    };
    Name::new(name).ok_or_else(|| {
        bad(format!(
            "A workstation's name has at most {NAME_MAX} bytes in UTF-8."
        ))
    })
}
