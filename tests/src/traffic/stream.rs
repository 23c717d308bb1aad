//! Streams of numbered frames: which of a million passed, and in which order.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, sendmmsg, setsockopt};

use super::frames::{FrameSocket, wait_readable};
use crate::netns::Netns;
use crate::packet::Packet;
use crate::sys;

/// Frames of each stream in one system call.
const BATCH: usize = 32;

/// What the sender saw.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// Frames of all streams together that the kernel took.
    pub frames: u64,
    /// How often the other end had no room (ENOBUFS) and the frame was offered again. Kernels whose veth does not
    /// say so drop it silently: see `Netns::statistics`.
    pub retries: u64,
    /// From the first frame to the last.
    pub duration: Duration,
}

/// Sends `count` numbered frames of each packet, in turns: 0 of each, 1 of each, and so on. A packet's index in
/// `packets` is the number of its stream. The packets are given without payload; the numbers become the payload,
/// in such a way that a transport checksum of the packet holds for every number.
///
/// `pace` is frames per second of all streams together; `None` is as fast as it goes.
///
/// # Errors
/// Where the kernel refuses a frame for another reason than lack of room.
pub fn send_streams(
    from: &Netns,
    interface: &str,
    packets: &[Packet],
    count: u64,
    pace: Option<u32>,
) -> Result<Sent> {
    send_streams_until(from, interface, packets, count, pace, &AtomicBool::new(false))
}

/// As [`send_streams`], and no more of them once `stop` is set. Each stream then has the same number of frames.
///
/// # Errors
/// As [`send_streams`].
pub fn send_streams_until(
    from: &Netns,
    interface: &str,
    packets: &[Packet],
    most: u64,
    pace: Option<u32>,
    stop: &AtomicBool,
) -> Result<Sent> {
    let socket = FrameSocket::open(from, interface)?;
    let numbers = (0_u32..).take(packets.len());
    let templates = packets
        .iter()
        .zip(numbers)
        .map(|(packet, stream)| packet.clone().with(Marker { stream, sequence: 0 }.encode()).build());
    let templates = templates.collect::<Vec<_>>();
    let mut frames = templates.iter().cycle().take(templates.len() * BATCH).cloned().collect::<Vec<_>>();
    let mut headers = MultiHeaders::<()>::preallocate(frames.len(), None);
    let addresses = vec![None::<()>; frames.len()];

    let start = Instant::now();
    let (mut sent, mut retries) = (0, 0);
    for first in (0..most).step_by(BATCH) {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let rounds = (most - first).min(BATCH as u64) as usize;
        let batch = &mut frames[..rounds * templates.len()];
        for (n, frame) in batch.iter_mut().enumerate() {
            Marker::renumber(frame, first + (n / templates.len()) as u64);
        }
        let mut rest = &batch[..];
        while !rest.is_empty() {
            let slices = rest.iter().map(|frame| [IoSlice::new(frame)]).collect::<Vec<_>>();
            let flags = MsgFlags::empty();
            let taken =
                match sendmmsg(socket.as_fd().as_raw_fd(), &mut headers, &slices, &addresses, [], flags) {
                    Ok(results) => results.count(),
                    Err(nix::Error::ENOBUFS) => 0,
                    Err(error) => return Err(error).context("sending a batch of frames"),
                };
            if taken == 0 {
                retries += 1;
                thread::yield_now();
            }
            sent += taken as u64;
            rest = &rest[taken..];
        }
        if let Some(pace) = pace {
            let due = start + Duration::from_secs_f64(sent as f64 / f64::from(pace));
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    Ok(Sent { frames: sent, retries, duration: start.elapsed() })
}

/// What the receiver saw.
#[derive(Debug, Clone)]
pub struct Received {
    /// The numbers of each stream in the order of their arrival.
    pub sequences: Vec<Vec<u64>>,
    /// Frames that passed and that the receiver's own socket lost. A test that draws conclusions from a missing
    /// number demands 0 here.
    pub lost: u64,
}

/// Takes down the numbers that arrive on an interface, behind XDP.
#[derive(Debug)]
pub struct StreamReceiver {
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Received>>>,
}

impl Drop for StreamReceiver {
    fn drop(&mut self) {
        // Where a test fails before the end, the thread must not hold the namespace for ever.
        self.stopping.store(true, Ordering::Release);
    }
}

impl StreamReceiver {
    /// Room for about a million small frames that wait to be read.
    const BUFFER: usize = 512 << 20;

    /// Receives from the moment this returns, the streams 0 to `streams` - 1; other frames are passed over.
    ///
    /// # Errors
    /// As [`FrameSocket::open`].
    pub fn start(at: &Netns, interface: &str, streams: usize) -> Result<Self> {
        let socket = FrameSocket::open(at, interface)?;
        setsockopt(&socket, RcvBufForce, &Self::BUFFER).context("a large receive buffer")?;
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stopping = Arc::clone(&stopping);
            move || receive_all(&socket, streams, &stopping)
        });
        Ok(Self { stopping, thread: Some(thread) })
    }

    /// Waits until the wire has been quiet for 100 ms, and gives what came. Call it after the sender is done.
    ///
    /// # Errors
    /// Where the socket failed.
    pub fn finish(mut self) -> Result<Received> {
        self.stopping.store(true, Ordering::Release);
        let thread = self.thread.take().context("a receiver is finished once")?;
        thread.join().map_err(|_| anyhow!("the receiver panicked"))?
    }
}

fn receive_all(socket: &FrameSocket, streams: usize, stopping: &AtomicBool) -> Result<Received> {
    let mut received = Received { sequences: vec![Vec::new(); streams], lost: 0 };
    let mut buffers = vec![[0; 2048]; 64];
    let mut headers = MultiHeaders::<()>::preallocate(buffers.len(), None);
    loop {
        // Asked before the wait: what was sent before the stop is in the buffer by then.
        let last = stopping.load(Ordering::Acquire);
        if wait_readable(socket.as_fd(), Duration::from_millis(100))? {
            read_waiting(socket, &mut headers, &mut buffers, &mut received)?;
        } else if last {
            received.lost = sys::packet_drops(socket.as_fd())?.into();
            return Ok(received);
        }
    }
}

/// Takes down the numbers of the frames that wait, as many as there are buffers.
fn read_waiting(
    socket: &FrameSocket,
    headers: &mut MultiHeaders<()>,
    buffers: &mut [[u8; 2048]],
    received: &mut Received,
) -> Result<()> {
    let mut slices = buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect::<Vec<_>>();
    let socket = socket.as_fd().as_raw_fd();
    let messages = match recvmmsg(socket, headers, &mut slices, MsgFlags::MSG_DONTWAIT, None) {
        Ok(messages) => messages,
        Err(nix::Error::EAGAIN) => return Ok(()),
        Err(error) => return Err(error).context("reading frames"),
    };
    for marker in messages.filter_map(|message| message.iovs().next().and_then(Marker::decode)) {
        if let Some(sequences) = received.sequences.get_mut(marker.stream as usize) {
            sequences.push(marker.sequence);
        }
    }
    Ok(())
}

/// The last bytes of a numbered frame: a magic number, the stream, the sequence number, and its complement. A
/// number and its complement add nothing to a one's complement sum, so that renumbering keeps checksums right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marker {
    stream: u32,
    sequence: u64,
}

impl Marker {
    const MAGIC: u32 = 0x4c57_5351;
    const LENGTH: usize = 24;

    fn encode(self) -> Vec<u8> {
        let sequence = [self.sequence, !self.sequence].map(u64::to_be_bytes).concat();
        [&Self::MAGIC.to_be_bytes()[..], &self.stream.to_be_bytes(), &sequence].concat()
    }

    fn decode(frame: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LENGTH] = frame.last_chunk()?;
        let word = |at: usize| bytes[at..at + 4].iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
        let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
        let marker = Self { stream: word(4), sequence: long(8) };
        (word(0) == Self::MAGIC && long(16) == !marker.sequence).then_some(marker)
    }

    /// Gives another number to a frame that ends with a marker.
    fn renumber(frame: &mut [u8], sequence: u64) {
        let numbers = frame.len() - 16;
        frame[numbers..numbers + 8].copy_from_slice(&sequence.to_be_bytes());
        frame[numbers + 8..].copy_from_slice(&(!sequence).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Marker;
    use crate::netns::Pair;
    use crate::packet::{Udp, internet_checksum};

    proptest! {
        #[test]
        fn a_marker_reads_back(stream: u32, sequence: u64, front in proptest::collection::vec(any::<u8>(), 0..40)) {
            let marker = Marker { stream, sequence };
            let frame = [front, marker.encode()].concat();
            prop_assert_eq!(Marker::decode(&frame), Some(marker));
            prop_assert_eq!(Marker::decode(&frame[..frame.len() - 1]), None);
        }

        #[test]
        fn renumbering_keeps_the_checksum(sequence: u64) {
            let packet = Pair::frame_v4().with(Udp::new(1, 2)).with(Marker { stream: 3, sequence: 0 }.encode());
            let mut frame = packet.build();
            Marker::renumber(&mut frame, sequence);
            let decoded = Marker::decode(&frame).expect("a marker");
            prop_assert_eq!(decoded, Marker { stream: 3, sequence });
            let length = (frame.len() - 34) as u8;
            let pseudo = [&frame[26..34], &[0, 17, 0, length]].concat();
            prop_assert_eq!(internet_checksum(&[&pseudo, &frame[34..]]), 0);
        }
    }
}
