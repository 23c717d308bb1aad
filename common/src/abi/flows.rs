//! Flows: connections that this side opened, whose replies pass.

use super::{NetPort, PortTransport};

/// Entries of each of `FLOWS_V4` and `FLOWS_V6` in the object. The agent sets another number: that of the
/// configuration, or one that suits the memory of the machine.
pub const FLOWS: u32 = 131_072;

/// The key of an IPv4 flow, from the view of an outgoing packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FlowKeyV4 {
    /// The address of this side: the source of outgoing packets, the destination of replies. In network byte order.
    pub local: [u16; 2],
    /// The address of the far side.
    pub remote: [u16; 2],
    /// The port of this side; of an echo request its identifier.
    pub local_port: NetPort,
    /// The port of the far side; 0 for an echo request.
    pub remote_port: NetPort,
    /// The IP protocol.
    pub protocol: u8,
    /// Keeps the size a multiple of 4; 0.
    pub reserved: u8,
    /// The zone of the leg that the flow was opened through and its replies come in by; 0 with only one zone.
    pub zone: u16,
}

/// The key of an IPv6 flow; see [`FlowKeyV4`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FlowKeyV6 {
    /// The address of this side.
    pub local: [u16; 8],
    /// The address of the far side.
    pub remote: [u16; 8],
    /// The port of this side; of an echo request its identifier.
    pub local_port: NetPort,
    /// The port of the far side; 0 for an echo request.
    pub remote_port: NetPort,
    /// The IP protocol.
    pub protocol: u8,
    /// Keeps the size a multiple of 4; 0.
    pub reserved: u8,
    /// See [`FlowKeyV4::zone`].
    pub zone: u16,
}

const _: () = assert!(size_of::<FlowKeyV4>() == 16);
const _: () = assert!(size_of::<FlowKeyV6>() == 40);

/// The state of a flow. Only packets of this side change it, so that a forged packet cannot end a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FlowState {
    /// TCP: this side sent SYN and nothing after it.
    Opening = 0,
    /// TCP: this side sent more than SYN.
    Established = 1,
    /// TCP: this side sent FIN or RST.
    Closing = 2,
    /// UDP.
    Udp = 3,
    /// An echo request.
    Echo = 4,
    /// TCP: established, and this side forwarded FIN or RST, which may be forged, and no data after it. It lives as an
    /// established one; where room is short, the agent frees it early.
    Ending = 5,
}

/// The value of a flow, one word: when it carried a packet last, and its state.
///
/// Bits 0-7 the [`FlowState`], 8-63 jiffies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Flow(pub u64);

impl Flow {
    /// A flow that carried a packet at `now` (jiffies).
    #[must_use]
    #[inline(always)]
    pub const fn new(state: FlowState, now: u64) -> Self {
        Self(now << 8 | state as u64)
    }

    /// The value of its state.
    #[must_use]
    #[inline(always)]
    pub const fn state(self) -> u8 {
        self.0 as u8
    }

    /// When it carried a packet last, in jiffies.
    #[must_use]
    #[inline(always)]
    pub const fn last(self) -> u64 {
        self.0 >> 8
    }

    /// True for an established TCP flow, ending or not.
    #[must_use]
    #[inline(always)]
    pub const fn stands(self) -> bool {
        self.state() == FlowState::Established as u8 || self.state() == FlowState::Ending as u8
    }

    /// This flow, after a packet at `now` (jiffies).
    #[must_use]
    #[inline(always)]
    pub const fn at(self, now: u64) -> Self {
        Self(now << 8 | (self.0 & 0xff))
    }
}

/// How long a flow outlives its last packet, in seconds. Part of a [`Generation`](super::Generation).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct FlowTimes {
    /// TCP once this side sent more than SYN.
    pub tcp_established: u32,
    /// UDP.
    pub udp: u32,
}

impl FlowTimes {
    /// TCP: the least that RFC 5382 (REQ-5) grants is 2 h 4 min, so that a keepalive after the usual 2 h finds the flow
    /// (RFC 9293, 3.8.4); and a minute for a late timer. UDP: five minutes, as RFC 4787 (REQ-5) recommends; a SIP proxy
    /// may wait more than three for an answer (RFC 3261, timer C).
    pub const DEFAULT: Self = Self { tcp_established: 7500, udp: 300 };

    /// The longer ones of both.
    #[must_use]
    pub fn longer(self, other: Self) -> Self {
        Self {
            tcp_established: self.tcp_established.max(other.tcp_established),
            udp: self.udp.max(other.udp),
        }
    }

    /// The time-out for the value of a [`FlowState`], in seconds.
    #[must_use]
    #[inline(always)]
    pub const fn of(self, state: u8) -> u32 {
        /// Each SYN begins it anew. Linux waits at most two minutes for the answer to one (`TCP_RTO_MAX`).
        const OPENING: u32 = 130;
        /// The least for a connection that closes: RFC 5382 (REQ-5), RFC 7857 (2.1). One side may be done and the other
        /// may not; its segments may be two minutes apart (`TCP_RTO_MAX`).
        const CLOSING: u32 = 240;
        /// The least for a query session: RFC 5508 (REQ-1).
        const ECHO: u32 = 60;
        if state == FlowState::Established as u8 || state == FlowState::Ending as u8 {
            self.tcp_established
        } else if state == FlowState::Udp as u8 {
            self.udp
        } else if state == FlowState::Opening as u8 {
            OPENING
        } else if state == FlowState::Closing as u8 {
            CLOSING
        } else {
            ECHO
        }
    }

    /// True where a flow lives at `now`, in jiffies, with `hz` jiffies a second. Another CPU may have read the clock for its
    /// last packet after this one did.
    #[must_use]
    #[inline(always)]
    pub const fn lives(self, flow: Flow, now: u64, hz: u64) -> bool {
        now <= flow.last().wrapping_add(self.of(flow.state()) as u64 * hz)
    }

    /// True where an established TCP flow lives at `now`, or its life ended at most [`FLOW_GRACE`] before. Arguments as in
    /// [`FlowTimes::lives`].
    #[must_use]
    #[inline(always)]
    pub const fn may_go_on(self, flow: Flow, now: u64, hz: u64) -> bool {
        let seconds = self.tcp_established as u64 + FLOW_GRACE as u64;
        flow.stands() && now <= flow.last().wrapping_add(seconds * hz)
    }
}

/// How long an established TCP flow is kept after the end of its life, in seconds: longer than the nine probes of a
/// keepalive take (`tcp_keepalive_probes` and `tcp_keepalive_intvl`: 675 s). A probe gets in meanwhile and does not
/// prolong the flow; a packet of this side does.
pub const FLOW_GRACE: u32 = 900;

/// The longest time-out that may be configured, in seconds: what a [`FlowPorts`] byte can tell apart, with
/// [`FLOW_GRACE`] and room.
pub const LONGEST_FLOW: u32 = 86_400;

/// When a flow last used a local port, as a [`FlowPorts::stamp`], by [`PortTransport`] and [`NetPort::index`]. It rules
/// out most packets that are no replies, without a look into the flow tables.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FlowPorts(pub [[u8; 65536]; PortTransport::ALL.len()]);

const _: () = assert!(size_of::<FlowPorts>() == 2 * 65536);

impl FlowPorts {
    /// Seconds in a unit of a stamp. 255 of them are 36 hours.
    const UNIT: u64 = 512;

    /// The stamp of a time in jiffies, with `hz` jiffies a second. It comes again after 36 hours, and then a port that
    /// was not used since looks as if it were: that costs a look-up, and lets nothing in.
    #[must_use]
    #[inline(always)]
    pub const fn stamp(now: u64, hz: u64) -> u8 {
        // A division that may be by zero would end the program.
        match now.checked_div(hz * Self::UNIT) {
            Some(units) => units as u8,
            None => 0,
        }
    }

    /// True where a flow of a port with this stamp may still live, with its time-out in seconds.
    #[must_use]
    #[inline(always)]
    pub const fn may_live(stamp: u8, now: u8, timeout: u32) -> bool {
        // One more for the unit that has begun, and one for the part of a unit that the flow was used in.
        now.wrapping_sub(stamp) as u64 <= timeout as u64 / Self::UNIT + 1
    }
}

#[cfg(test)]
mod tests {
    use super::{FLOW_GRACE, Flow, FlowPorts, FlowState, FlowTimes, LONGEST_FLOW};

    #[test]
    fn a_flow_keeps_its_state_when_it_is_touched() {
        let flow = Flow::new(FlowState::Closing, 5_000_000_000);
        assert_eq!((flow.state(), flow.last()), (FlowState::Closing as u8, 5_000_000_000));
        assert_eq!(flow.at(6_000_000_000), Flow::new(FlowState::Closing, 6_000_000_000));
    }

    #[test]
    fn a_port_may_live_at_least_as_long_as_its_flows() {
        for hz in [100, 250, 1000] {
            for timeout in [1, 180, 512, 7200, LONGEST_FLOW + FLOW_GRACE] {
                for used in [0, 1, 511, 512, 70_000, 131_071, 131_072, 1_000_000] {
                    let stamp = FlowPorts::stamp(used * hz, hz);
                    let at = |seconds: u64| FlowPorts::stamp((used + seconds) * hz, hz);
                    for age in [0, u64::from(timeout) / 2, u64::from(timeout)] {
                        assert!(FlowPorts::may_live(stamp, at(age), timeout), "{age} of {timeout}");
                    }
                    assert!(!FlowPorts::may_live(stamp, at(u64::from(timeout) + 1536), timeout));
                }
            }
        }
    }

    #[test]
    fn a_flow_lives_to_the_last_jiffy_of_its_time_out() {
        let times = FlowTimes { tcp_established: 7200, udp: 180 };
        for (state, seconds) in
            [(FlowState::Opening, 130), (FlowState::Established, 7200), (FlowState::Udp, 180)]
        {
            let flow = Flow::new(state, 5_000_000_000);
            let ages = [0, seconds * 250, seconds * 250 + 1];
            assert_eq!(ages.map(|age| times.lives(flow, flow.last() + age, 250)), [true, true, false]);
        }
    }

    #[test]
    fn only_an_established_flow_may_go_on_after_its_life() {
        let times = FlowTimes { tcp_established: 60, udp: 180 };
        let at =
            |state, seconds| times.may_go_on(Flow::new(state, 5_000_000), 5_000_000 + seconds * 250, 250);
        let end = 60 + u64::from(FLOW_GRACE);
        assert_eq!(
            [0, 61, end, end + 1].map(|age| at(FlowState::Established, age)),
            [true, true, true, false]
        );
        for other in [FlowState::Opening, FlowState::Closing, FlowState::Udp, FlowState::Echo] {
            assert!(!at(other, 0), "{other:?}");
        }
    }

    /// What each default has to outlive, in seconds.
    #[test]
    fn the_defaults_outlive_what_they_must() {
        let times = FlowTimes::DEFAULT;
        // RFC 5382 REQ-5; `tcp_keepalive_time` of Linux, and a keepalive's nine probes 75 s apart.
        assert!(times.tcp_established > 7440 && times.tcp_established + FLOW_GRACE > 7200 + 9 * 75);
        // RFC 4787 REQ-5, which is more than timer C of RFC 3261: 180.
        assert!(times.udp >= 300);
        // `TCP_RTO_MAX` of Linux; RFC 5382 REQ-5; RFC 5508 REQ-1.
        assert!(times.of(FlowState::Opening as u8) > 120);
        assert!(times.of(FlowState::Closing as u8) >= 240);
        assert!(times.of(FlowState::Echo as u8) >= 60);
    }

    #[test]
    fn every_state_has_a_time_out() {
        let times = FlowTimes { tcp_established: 1, udp: 2 };
        for (state, seconds) in [
            (FlowState::Opening, 130),
            (FlowState::Established, 1),
            (FlowState::Closing, 240),
            (FlowState::Udp, 2),
            (FlowState::Echo, 60),
            (FlowState::Ending, 1),
        ] {
            assert_eq!(times.of(state as u8), seconds, "{state:?}");
        }
    }
}
