//! The stream of dropped packets for a capture.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use aya::maps::perf::{PerfEvent, PerfEventArrayBuffer};
use aya::maps::{MapData, PerfEventArray};
use aya::util::online_cpus;
use lyncwall_common::abi::{Captured, map};
use tokio::io::unix::AsyncFd;
use tokio_stream::Stream;

use super::sys;

/// Pages of each CPU's buffer, a power of two: 256 KiB if a page is 4 KiB. A flood fills it in some
/// milliseconds; the program counts packets that do not fit.
const PAGES: usize = 64;

/// A dropped packet, or one that enforcing would have dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedPacket {
    /// The program's record of it.
    pub what: Captured,
    /// The beginning of the frame, `what.captured` bytes.
    pub bytes: Vec<u8>,
}

/// The stream of captured packets. It ends only with an error; dropping it frees the buffers.
pub struct Captures {
    buffers: Vec<AsyncFd<PerfEventArrayBuffer<MapData>>>,
    read: VecDeque<CapturedPacket>,
}

impl Captures {
    /// Must be called within a tokio runtime.
    pub(super) fn open(captures: &mut PerfEventArray<MapData>) -> Result<Self> {
        let cpus = online_cpus().map_err(|(path, error)| anyhow::Error::new(error).context(path))?;
        let buffers = cpus
            .into_iter()
            .map(|cpu| {
                let buffer = captures.open(cpu, Some(PAGES)).context("creating a perf buffer")?;
                sys::watch_perf(buffer).context("waiting for a perf buffer")
            })
            .collect::<Result<Vec<_>>>()
            .with_context(|| format!("reading the map {}", map::CAPTURES))?;
        Ok(Self { buffers, read: VecDeque::new() })
    }
}

impl Stream for Captures {
    type Item = Result<CapturedPacket>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(packet) = this.read.pop_front() {
                return Poll::Ready(Some(Ok(packet)));
            }
            let mut waiting = true;
            for buffer in &mut this.buffers {
                // Reads until the buffer is empty: the kernel wakes this task only from an empty buffer.
                while let Poll::Ready(ready) = buffer.poll_read_ready_mut(context) {
                    let mut ready = match ready.context("waiting for a perf buffer") {
                        Ok(ready) => ready,
                        Err(error) => return Poll::Ready(Some(Err(error))),
                    };
                    let read = &mut this.read;
                    // The program has counted the packets that the kernel lost here.
                    ready.get_inner_mut().for_each(|event| {
                        if let PerfEvent::Sample { head, tail } = event {
                            read.extend(packet(head, tail));
                        }
                    });
                    ready.clear_ready();
                    waiting = false;
                }
            }
            if waiting {
                return Poll::Pending;
            }
        }
    }
}

/// A packet from the two parts of its record; `None` if the record is too short.
fn packet(head: &[u8], tail: &[u8]) -> Option<CapturedPacket> {
    let record = [head, tail].concat();
    let what: Captured = sys::read_record(&record)?;
    let start = size_of::<Captured>();
    let bytes = record.get(start..start + what.captured as usize)?.to_vec();
    Some(CapturedPacket { what, bytes })
}
