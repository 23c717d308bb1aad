//! What the agent does now and again, without a request: expired state, flows that are over, the clock, a trial's end.

use std::time::Duration;

use super::Daemon;
use crate::firewall::Firewall;

/// How often to remove expired blocks and takeovers, and to note the usage of rules.
pub(super) const SWEEP: Duration = Duration::from_secs(60);
/// How often to free flows that are over.
const FREE: Duration = Duration::from_secs(1);
/// How often to look whether somebody has set the clock.
const CLOCK: Duration = Duration::from_secs(5);
/// The shortest pause before the next look at the clock.
const TICK: Duration = Duration::from_millis(1);

impl Daemon {
    /// While a change waits for confirmation: follows the program when it rolls back.
    pub(super) fn follow_deadline(&self) {
        let daemon = self.clone();
        tokio::spawn(async move {
            // Each call follows a deadline that has passed, and leaves none.
            loop {
                match daemon.with(|firewall| firewall.time_left()).await {
                    Ok(Some(left)) => tokio::time::sleep(left.max(TICK)).await,
                    Ok(None) => return,
                    Err(error) => {
                        tracing::debug!("{error:#}");
                        return;
                    }
                }
            }
        });
    }

    /// Removes expired state now and again.
    pub(super) fn sweep(&self) {
        let daemon = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let swept = daemon.with(|firewall| {
                    firewall.note_usage();
                    firewall.end_takeover()?;
                    firewall.forget_expired()
                });
                if let Err(error) = swept.await {
                    tracing::debug!("{error:#}");
                }
            }
        });
    }

    /// Frees flows that are over, a part of them every second.
    pub(super) fn free_flows(&self) {
        let daemon = self.clone();
        tokio::spawn(async move {
            let mut failed = false;
            loop {
                tokio::time::sleep(FREE).await;
                if *daemon.detached.borrow() {
                    return;
                }
                let freed = daemon.with(Firewall::free_flows).await;
                // A failure of every second is worth one line.
                if let Err(error) = freed.as_ref()
                    && !failed
                {
                    tracing::warn!("flows that are over stay in their tables: {error:#}");
                }
                failed = freed.is_err();
            }
        });
    }

    /// Follows a clock that is set or steps.
    pub(super) fn follow_clock(&self) {
        let daemon = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(CLOCK).await;
                if let Err(error) = daemon.with(Firewall::follow_clock).await {
                    tracing::debug!("{error:#}");
                }
            }
        });
    }
}
