//! Requests to the kernel over netlink, for all its families.

use std::io;

use anyhow::{Context as _, Result, bail};
use rtnetlink::packet_core::{
    NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use rtnetlink::sys::{Socket, SocketAddr};

/// Sends one request and returns all its answers, in the network namespace of the calling thread. `protocol`
/// is one of `rtnetlink::sys::protocols`, `flags` are added to `NLM_F_REQUEST`. Blocking: the kernel answers
/// at once.
///
/// # Errors
/// If the kernel lacks the family, refuses the request (then an [`io::Error`]), or sends an unreadable
/// answer.
pub(crate) fn ask<M>(protocol: isize, request: M, flags: u16) -> Result<Vec<M>>
where
    M: NetlinkSerializable + NetlinkDeserializable,
{
    answers(Socket::new(protocol).context("opening a netlink socket")?, request, flags)
}

/// Like [`ask`], and the kernel lists only what fits the fields of the request (`NETLINK_GET_STRICT_CHK`, Linux
/// 4.20), so that a long table costs nothing that is not wanted.
///
/// # Errors
/// As [`ask`].
pub(crate) fn list_strictly<M>(protocol: isize, request: M, flags: u16) -> Result<Vec<M>>
where
    M: NetlinkSerializable + NetlinkDeserializable,
{
    let socket = Socket::new(protocol).context("opening a netlink socket")?;
    socket.set_netlink_get_strict_chk(true)?;
    answers(socket, request, flags)
}

fn answers<M>(mut socket: Socket, request: M, flags: u16) -> Result<Vec<M>>
where
    M: NetlinkSerializable + NetlinkDeserializable,
{
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(request));
    message.header.flags = NLM_F_REQUEST | flags;
    message.header.sequence_number = 1;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<M>::deserialize(rest)?;
            // Messages in a datagram are aligned to 4 bytes (NLMSG_ALIGN).
            let length = (message.header.length as usize).next_multiple_of(4).max(4);
            match message.payload {
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                // A listing that fails midway ends with the error number.
                NetlinkPayload::Done(done) if done.code < 0 => {
                    return Err(io::Error::from_raw_os_error(done.code.saturating_neg()).into());
                }
                NetlinkPayload::Done(_) => return Ok(answers),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answers),
                NetlinkPayload::Error(error) => return Err(error.to_io().into()),
                NetlinkPayload::Overrun(_) => bail!("the kernel lost netlink messages"),
                NetlinkPayload::Noop => {}
                // The enum is non-exhaustive.
                _ => bail!("the kernel sent an unknown netlink message"),
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}
