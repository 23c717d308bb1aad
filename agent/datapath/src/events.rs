//! The stream of sampled drops.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use anyhow::{Context as _, Result};
use aya::maps::{MapData, RingBuf};
use lyncwall_common::abi::{Event, map};
use tokio::io::unix::AsyncFd;
use tokio_stream::Stream;

use super::sys;

/// The stream of events: one reader takes each once. It ends only with an error.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
    unreadable: u64,
}

impl Events {
    /// Must be called within a tokio runtime.
    pub(super) fn new(ring: RingBuf<MapData>) -> Result<Self> {
        let ring = sys::watch(ring).with_context(|| format!("waiting for the map {}", map::EVENTS))?;
        Ok(Self { ring, unreadable: 0 })
    }

    /// Records that were too short for an event, and skipped.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }
}

impl Stream for Events {
    type Item = Result<Event>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            let mut ready = match ready!(this.ring.poll_read_ready_mut(context)) {
                Ok(ready) => ready,
                Err(error) => {
                    let error = Err(error).with_context(|| format!("waiting for the map {}", map::EVENTS));
                    return Poll::Ready(Some(error));
                }
            };
            match ready.get_inner_mut().next().map(|record| sys::read_record(&record)) {
                Some(Some(event)) => return Poll::Ready(Some(Ok(event))),
                Some(None) => this.unreadable += 1,
                // The kernel signals again once a record enters the empty ring.
                None => ready.clear_ready(),
            }
        }
    }
}
