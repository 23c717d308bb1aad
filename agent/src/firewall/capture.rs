//! Dropped packets for captures.

use std::time::Duration;

use anyhow::Result;
use lyncwall_common::abi::ReasonSet;

use super::Firewall;
use lyncwall_datapath::Captures;

/// How long the program hands out packets without a renewal: the capture of a killed agent ends by itself.
const TERM: Duration = Duration::from_secs(30);

impl Firewall {
    /// How often to call [`Firewall::go_on_capturing`].
    pub const CAPTURE_RENEWAL: Duration = Duration::from_secs(10);

    /// Starts to hand out `snap` bytes of each packet that is dropped for these reasons.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// # Errors
    /// If the kernel cannot create the buffers.
    pub fn capture(&mut self, snap: u16, reasons: ReasonSet) -> Result<Captures> {
        let captures = self.datapath.capture()?;
        self.datapath.go_on_capturing(snap, reasons, TERM)?;
        Ok(captures)
    }

    /// Renews the capture.
    ///
    /// # Errors
    /// If the kernel's clock cannot be read.
    pub fn go_on_capturing(&mut self, snap: u16, reasons: ReasonSet) -> Result<()> {
        self.datapath.go_on_capturing(snap, reasons, TERM)
    }

    /// Ends the capture.
    pub fn end_capture(&mut self) {
        self.datapath.end_capture();
    }
}
