//! Dropped packets for whoever captures.

use std::time::Duration;

use anyhow::Result;
use lyncwall_common::abi::ReasonSet;

use super::Firewall;
use crate::datapath::Captures;

/// For how long the program hands packets out without being told again: what an agent that is killed leaves ends by itself.
const TERM: Duration = Duration::from_secs(30);

impl Firewall {
    /// How often [`Firewall::go_on_capturing`] is to be called.
    pub const CAPTURE_RENEWAL: Duration = Duration::from_secs(10);

    /// Begins to hand out `snap` bytes of each packet that is dropped for these reasons.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// # Errors
    /// Where the kernel makes no buffers.
    pub fn capture(&mut self, snap: u16, reasons: ReasonSet) -> Result<Captures> {
        let captures = self.datapath.capture()?;
        self.datapath.go_on_capturing(snap, reasons, TERM)?;
        Ok(captures)
    }

    /// Goes on with it.
    ///
    /// # Errors
    /// Where the kernel's clock cannot be read.
    pub fn go_on_capturing(&mut self, snap: u16, reasons: ReasonSet) -> Result<()> {
        self.datapath.go_on_capturing(snap, reasons, TERM)
    }

    /// Ends it.
    pub fn end_capture(&mut self) {
        self.datapath.end_capture();
    }
}
