//! A frame and what must become of it.

use lyncwall_common::abi::PortTransport;
use lyncwall_common::reason::{Action, Reason};
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::Packet;

use crate::verdicts::world::World;

/// One frame of a list. Frames of one list are judged in its order, so that fragments meet their first one.
#[derive(Debug, Clone)]
pub(crate) struct Fixture {
    pub(crate) world: World,
    pub(crate) description: String,
    /// Untagged.
    pub(crate) frame: Vec<u8>,
    /// `None` for a frame that goes out: those after it meet the flow that it opened, or did not.
    pub(crate) expected: Option<Expected>,
    /// True where a VLAN tag in front changes nothing.
    pub(crate) may_be_tagged: bool,
}

/// A row of the verdict table, and what is counted beside it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) reason: Reason,
    /// What the row says, audit mode or not.
    pub(crate) judged: Action,
    /// The rule whose counter goes up; see `Policy::counter`.
    pub(crate) rule: Option<&'static str>,
    /// The port that a drop is counted at.
    pub(crate) port: Option<(PortTransport, u16)>,
}

impl From<Reason> for Expected {
    fn from(reason: Reason) -> Self {
        Self { reason, judged: reason.action(), rule: None, port: None }
    }
}

/// An open port of the role.
pub(crate) fn allowed(rule: &'static str) -> Expected {
    Expected { rule: Some(rule), ..Reason::Allowed.into() }
}

/// An allow rule, named `allow/NAME`.
pub(crate) fn by_rule(rule: &'static str) -> Expected {
    Expected { rule: Some(rule), ..Reason::Allow.into() }
}

/// A drop for `reason` that is counted at a TCP port.
pub(crate) fn at_tcp(reason: Reason, port: u16) -> Expected {
    Expected { port: Some((PortTransport::Tcp, port)), ..reason.into() }
}

/// A drop for `reason` that is counted at a UDP port.
pub(crate) fn at_udp(reason: Reason, port: u16) -> Expected {
    Expected { port: Some((PortTransport::Udp, port)), ..reason.into() }
}

/// Fixtures of one world.
pub(crate) struct List {
    world: World,
    may_be_tagged: bool,
    pub(crate) fixtures: Vec<Fixture>,
}

impl List {
    pub(crate) fn new(world: World) -> Self {
        Self { world, may_be_tagged: true, fixtures: Vec::new() }
    }

    /// Frames that a VLAN tag would make something else, or that are many.
    pub(crate) fn untagged(world: World) -> Self {
        Self { may_be_tagged: false, ..Self::new(world) }
    }

    pub(crate) fn add(
        &mut self,
        description: impl Into<String>,
        packet: &Packet,
        expected: impl Into<Expected>,
    ) {
        self.add_bytes(description, packet.build(), expected);
    }

    pub(crate) fn add_bytes(
        &mut self,
        description: impl Into<String>,
        frame: Vec<u8>,
        expected: impl Into<Expected>,
    ) {
        self.push(description.into(), frame, Some(expected.into()));
    }

    /// A frame that goes out.
    pub(crate) fn send(&mut self, packet: &Packet) {
        self.push("a frame that goes out".to_owned(), packet.build(), None);
    }

    fn push(&mut self, description: String, frame: Vec<u8>, expected: Option<Expected>) {
        let (world, may_be_tagged) = (self.world, self.may_be_tagged);
        self.fixtures.push(Fixture { world, description, frame, expected, may_be_tagged });
    }
}

/// From the client to the host over either version of IP, without a transport.
pub(crate) fn both() -> [(&'static str, Packet); 2] {
    [("IPv4", Pair::frame_v4()), ("IPv6", Pair::frame_v6())]
}

/// What stands in front of the IP header in every variant of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tags {
    None,
    /// 802.1Q, VLAN 7 with priority 5.
    One,
    /// 802.1ad with 802.1Q inside.
    Two,
}

impl Tags {
    pub(crate) const ALL: [Self; 3] = [Self::None, Self::One, Self::Two];

    /// The frame with the tags behind its addresses.
    pub(crate) fn on(self, frame: &[u8]) -> Vec<u8> {
        let tags: &[u8] = match self {
            Self::None => &[],
            Self::One => &[0x81, 0x00, 0xa0, 0x07],
            Self::Two => &[0x88, 0xa8, 0x0f, 0xff, 0x81, 0x00, 0x00, 0x00],
        };
        let (addresses, rest) = frame.split_at(12);
        [addresses, tags, rest].concat()
    }
}
