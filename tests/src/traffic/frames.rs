//! Raw frames on an interface, by a packet socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socket};

use crate::netns::Netns;
use crate::sys;

/// How long a frame waits for room on the wire.
const NO_ROOM: Duration = Duration::from_secs(10);

/// A packet socket on one interface: it sends frames as they are, and receives those that came **in** and that XDP
/// let pass.
#[derive(Debug)]
pub struct FrameSocket {
    socket: OwnedFd,
}

impl FrameSocket {
    /// Opens one; frames are received from now on.
    ///
    /// # Errors
    /// Without CAP_NET_RAW, or where the interface is not there.
    pub fn open(namespace: &Netns, interface: &str) -> Result<Self> {
        let index = namespace.index(interface)?;
        let open = || -> io::Result<OwnedFd> {
            // Protocol 0 receives nothing, so that no frame of another interface slips in before the bind.
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
            sys::set_packet_option(socket.as_fd(), libc::PACKET_IGNORE_OUTGOING, 1)?;
            sys::set_packet_option(socket.as_fd(), libc::PACKET_AUXDATA, 1)?;
            sys::bind_packet(socket.as_fd(), index)?;
            Ok(socket)
        };
        let socket = namespace.run(open).with_context(|| format!("a packet socket on {interface}"))?;
        Ok(Self { socket })
    }

    /// Sends one frame, without its check sequence. Waits while the wire has no room for it.
    ///
    /// # Errors
    /// Where the kernel refuses it: less than 14 bytes, more than the MTU and its header, interface down; and where the wire
    /// has no room for ten seconds.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let end = Instant::now() + NO_ROOM;
        while !self.offer(frame)? {
            ensure!(Instant::now() < end, "the wire has had no room for a frame for {NO_ROOM:?}");
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Offers one frame to the wire. Where that has no room (ENOBUFS), the interface counts the frame as dropped, and the
    /// answer is `false`.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn offer(&self, frame: &[u8]) -> Result<bool> {
        let sent = match send(self.socket.as_raw_fd(), frame, MsgFlags::empty()) {
            Err(Errno::ENOBUFS) => return Ok(false),
            sent => sent.with_context(|| format!("sending a frame of {} bytes", frame.len()))?,
        };
        ensure!(sent == frame.len(), "{sent} of {} bytes of a frame were sent", frame.len());
        Ok(true)
    }

    /// The next frame that `wanted` likes, as it was on the wire: the outer VLAN tag, which the kernel takes out, is
    /// put back before `wanted` sees the frame. `None` where none comes in time.
    ///
    /// # Errors
    /// Where the interface goes.
    pub fn receive(&self, patience: Duration, wanted: impl Fn(&[u8]) -> bool) -> Result<Option<Vec<u8>>> {
        let end = Instant::now() + patience;
        let mut buffer = vec![0; 65_536];
        while wait_readable(self.socket.as_fd(), end.saturating_duration_since(Instant::now()))? {
            let (length, tag) = sys::receive_frame(self.socket.as_fd(), &mut buffer)?;
            let mut frame = buffer[..length].to_vec();
            if let Some((protocol, control)) = tag {
                let bytes = [protocol.to_be_bytes(), control.to_be_bytes()].concat();
                frame.splice(12..12, bytes);
            }
            if wanted(&frame) {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }
}

impl AsFd for FrameSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits until there is something to read; false where nothing comes in time.
pub(super) fn wait_readable(socket: BorrowedFd<'_>, patience: Duration) -> Result<bool> {
    let milliseconds = PollTimeout::try_from(patience).context("patience of at most 24 days")?;
    let mut watched = [PollFd::new(socket, PollFlags::POLLIN)];
    match poll(&mut watched, milliseconds) {
        Ok(ready) => Ok(ready > 0),
        Err(nix::Error::EINTR) => Ok(true),
        Err(error) => Err(error).context("waiting for a frame"),
    }
}
