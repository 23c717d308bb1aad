//! Notifications of the kernel about a network namespace.

use std::io;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::libc;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, TokioSocket};

/// Groups of linux/rtnetlink.h: interfaces, addresses, routes, and forwarding.
const GROUPS: [u32; 7] = [
    RTNLGRP_LINK,
    RTNLGRP_IPV4_IFADDR,
    RTNLGRP_IPV4_ROUTE,
    RTNLGRP_IPV6_IFADDR,
    RTNLGRP_IPV6_ROUTE,
    RTNLGRP_IPV4_NETCONF,
    RTNLGRP_IPV6_NETCONF,
];
const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV4_ROUTE: u32 = 7;
const RTNLGRP_IPV6_IFADDR: u32 = 9;
const RTNLGRP_IPV6_ROUTE: u32 = 11;
const RTNLGRP_IPV4_NETCONF: u32 = 24;
const RTNLGRP_IPV6_NETCONF: u32 = 25;

/// Changes of a network namespace: of interfaces, forwarding, and destinations that it takes itself.
pub struct NetlinkWatch(TokioSocket);

impl NetlinkWatch {
    /// Changes of the calling thread's namespace, from now on.
    ///
    /// # Errors
    /// If netlink does not answer.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn listen() -> Result<Self> {
        let listen = || -> io::Result<TokioSocket> {
            let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
            socket.socket_mut().bind_auto()?;
            GROUPS.into_iter().try_for_each(|group| socket.socket_mut().add_membership(group))?;
            Ok(socket)
        };
        listen().map(Self).context("listening to netlink")
    }

    /// Waits for a change, and merges those that came with it. Does not parse them: the caller asks the
    /// kernel for the current state.
    ///
    /// # Errors
    /// If netlink fails.
    pub async fn next(&mut self) -> Result<()> {
        self.one().await?;
        while let Ok(more) = tokio::time::timeout(Duration::ZERO, self.one()).await {
            more?;
        }
        Ok(())
    }

    async fn one(&mut self) -> Result<()> {
        loop {
            match self.0.recv_from_full().await {
                Ok((datagram, _)) if is_route_elsewhere(&datagram) => {}
                Ok(_) => return Ok(()),
                // The socket's buffer overflowed.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(()),
                Err(error) => return Err(error).context("listening to netlink"),
            }
        }
    }
}

/// True for a message about a route that does not end at this box: a router has many, and they change often. A
/// notification is one message: `struct nlmsghdr`, then `struct rtmsg`.
fn is_route_elsewhere(message: &[u8]) -> bool {
    const RTM_NEWROUTE: u16 = 24;
    const RTM_DELROUTE: u16 = 25;
    const RTN_LOCAL: u8 = 2;
    const RTN_ANYCAST: u8 = 4;
    let Some(([low, high], kind)) = message.get(4..6).zip(message.get(16 + 7)).and_then(|(bytes, kind)| {
        let bytes: [u8; 2] = bytes.try_into().ok()?;
        Some((bytes, kind))
    }) else {
        return false;
    };
    matches!(u16::from_ne_bytes([low, high]), RTM_NEWROUTE | RTM_DELROUTE)
        && !(RTN_LOCAL..=RTN_ANYCAST).contains(kind)
}

#[cfg(test)]
mod tests {
    use super::is_route_elsewhere;

    #[test]
    fn only_routes_that_end_elsewhere_are_passed_over() {
        let message = |message: u16, route: u8| {
            let mut bytes = vec![0; 28];
            bytes[4..6].copy_from_slice(&message.to_ne_bytes());
            bytes[16 + 7] = route;
            bytes
        };
        let (new_link, new_route, del_route) = (16, 24, 25);
        // To a gateway, an unreachable one, and one for a multicast group.
        for elsewhere in [1, 7, 5] {
            assert!(is_route_elsewhere(&message(new_route, elsewhere)));
            assert!(is_route_elsewhere(&message(del_route, elsewhere)));
            assert!(!is_route_elsewhere(&message(new_link, elsewhere)));
        }
        for here in [2, 3, 4] {
            assert!(!is_route_elsewhere(&message(new_route, here)));
        }
        assert!(!is_route_elsewhere(&message(new_route, 1)[..20]), "not understood");
    }
}
