//! Frees flows that are over. The program never removes a flow: that would cost packets, and a table that is full of
//! flows that are over pushes living ones out.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aya::maps::{IterableMap as _, MapError};
use lyncwall_common::abi::{Flow, FlowState, FlowTimes};

use super::{FlowEnds, FlowTable, Key};
use crate::connections::connections;
use crate::host;
use crate::{Datapath, clock, sys};
use lyncwall_policy::connection::{Connection, Protocol};
use lyncwall_policy::net::OwnAddresses;

/// How many times as long as a pass took the next one waits: sweeping takes at most a hundredth of a processor.
const PAUSE: u32 = 100;

/// How long one call may look through the tables. Requests wait meanwhile.
const BUDGET: Duration = Duration::from_millis(20);

/// The silence after which a crowded table loses a connection that this side ended, in seconds: as long as Linux keeps
/// the ends of one (`TCP_TIMEWAIT_LEN`, and `tcp_fin_timeout` where the other side does not end it).
const ENDED: u32 = 60;

/// The silence after which a crowded table loses a question to a DNS server, in seconds: no resolver waits longer.
const ASKED: u32 = 60;

/// The silence after which an established flow is gone that seemed to end, or has no socket any more, in seconds: as
/// long as one that closes lives.
const CUT: u32 = 240;

/// The port of DNS servers.
const DNS: u16 = 53;

/// How long a list of the machine's connections serves.
const LISTED: Duration = Duration::from_secs(30);

impl Datapath {
    /// Frees flows that are over, for a moment, and goes on at the next call. Call it every second. `times` is
    /// the life of flows.
    ///
    /// # Errors
    /// If a map or the kernel's clock cannot be read, or a map cannot be changed.
    pub fn free_flows(&mut self, times: FlowTimes) -> Result<()> {
        let now = clock::jiffies(&self.ebpf)?;
        let until = Instant::now() + BUDGET;
        let flows = &mut self.flows;
        let scarce = [flows.v4.sweep.room, flows.v6.sweep.room].contains(&Room::Scarce);
        flows.standing.follow(scarce);
        let ages = Ages { times, now, hz: self.hz, standing: flows.standing.0.as_ref() };
        let v4 = flows.v4.sweep(&ages, flows.size, until);
        let v6 = flows.v6.sweep(&ages, flows.size, until);
        self.control.add_freed(v4.freed + v6.freed);
        v4.ended.and(v6.ended)
    }
}

/// How much room a table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Room {
    /// Flows stay for their time.
    #[default]
    Enough,
    /// More than half is in use: what has ended goes early.
    Crowded,
    /// More than three quarters are in use: connections that this machine no longer has go as well.
    Scarce,
}

impl Room {
    const fn of(used: u32, size: u32) -> Self {
        if used > size / 4 * 3 {
            Self::Scarce
        } else if used > size / 2 {
            Self::Crowded
        } else {
            Self::Enough
        }
    }
}

/// The place of a sweep in a table.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Where the running pass goes on; `None` before its first batch.
    position: Option<u32>,
    /// When the running pass began, or the last one.
    began: Option<Instant>,
    /// How long that pass took.
    took: Duration,
    /// Flows that the running pass left in the table.
    left: u32,
    /// The room that the last pass found.
    room: Room,
}

/// What one call of a sweep did.
struct Swept {
    freed: u64,
    ended: Result<()>,
}

impl<K: Key> FlowTable<K> {
    /// Looks through batches of the table until a pass is over or the time is up.
    fn sweep(&mut self, ages: &Ages<'_>, size: u32, until: Instant) -> Swept {
        let mut freed = 0;
        loop {
            if self.sweep.position.is_none() {
                if self.sweep.began.is_some_and(|began| began.elapsed() < self.sweep.took * PAUSE) {
                    return Swept { freed, ended: Ok(()) };
                }
                (self.sweep.began, self.sweep.took) = (Some(Instant::now()), Duration::ZERO);
                self.sweep.left = 0;
            }
            let begin = Instant::now();
            let swept = self.sweep_batch(ages, &mut freed);
            self.sweep.took += begin.elapsed();
            let ended = match swept {
                Ok(Some(position)) => {
                    self.sweep.position = Some(position);
                    if Instant::now() < until {
                        continue;
                    }
                    Ok(())
                }
                Ok(None) => {
                    self.sweep.position = None;
                    self.sweep.room = Room::of(self.sweep.left, size);
                    Ok(())
                }
                Err(error) => {
                    self.sweep.position = None;
                    Err(error)
                }
            };
            return Swept { freed, ended };
        }
    }

    /// Frees the flows of one batch that are over; returns the position of the next batch.
    fn sweep_batch(&mut self, ages: &Ages<'_>, freed: &mut u64) -> Result<Option<u32>> {
        let room = self.sweep.room;
        // A pass may meet a flow twice.
        let mut over = HashSet::new();
        let mut left = 0;
        let map = self.map.map().fd().as_fd();
        let next = sys::some_elements(map, self.sweep.position, |key: &K, flow: &Flow| {
            if ages.is_over(key, *flow, room) {
                over.insert(*key);
            } else {
                left += 1;
            }
        });
        let next = next.with_context(|| format!("looking through the flows in {}", K::MAP))?;
        self.sweep.left += left;
        for key in over {
            // Its connection may have begun anew since.
            match self.map.get(&key, 0) {
                Ok(flow) if ages.is_over(&key, flow, room) => {}
                Ok(_) | Err(MapError::KeyNotFound) => continue,
                Err(error) => return Err(error).context("looking at a flow again"),
            }
            match self.map.remove(&key) {
                Ok(()) => *freed += 1,
                // Pushed out meanwhile.
                Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).context("freeing a flow"),
            }
        }
        Ok(next)
    }
}

/// What says whether a flow is over.
struct Ages<'a> {
    times: FlowTimes,
    /// In jiffies.
    now: u64,
    /// Jiffies a second.
    hz: u64,
    /// The connections of this machine, if somebody looked.
    standing: Option<&'a Standing>,
}

impl Ages<'_> {
    /// True for a flow that lets nothing in any more. An established flow stays for a grace after its life, in which
    /// packets of this side revive it. Where room is short, true also for a flow that most likely carries nothing any
    /// more.
    fn is_over<K: Key>(&self, key: &K, flow: Flow, room: Room) -> bool {
        let (times, now, hz) = (self.times, self.now, self.hz);
        let silent_for = |seconds: u32| now > flow.last() + u64::from(seconds) * hz;
        let is = |state: FlowState| flow.state() == state as u8;
        if times.may_go_on(flow, now, hz) {
            return room != Room::Enough && is(FlowState::Ending) && silent_for(CUT)
                || room == Room::Scarce
                    && silent_for(CUT)
                    && self.standing.is_some_and(|standing| standing.lacks(&key.told()));
        }
        if !times.lives(flow, now, hz) {
            return true;
        }
        room != Room::Enough
            && (is(FlowState::Closing) && silent_for(ENDED)
                || is(FlowState::Udp) && silent_for(ASKED) && key.told().remote.port() == DNS)
    }
}

/// The connections of this machine: those of its sockets, and those that its kernel tracks.
#[derive(Debug)]
struct Standing {
    listed: Instant,
    connections: HashSet<Connection>,
    /// The addresses of this machine.
    own: OwnAddresses,
}

impl Standing {
    fn list() -> Result<Self> {
        let own = host::own(&[])?;
        let connections = connections()?.into_iter().collect();
        Ok(Self { listed: Instant::now(), connections, own })
    }

    /// True for a TCP connection of this machine's own that the machine does not have: the far side reset it, which
    /// no packet of this side showed.
    fn lacks(&self, ends: &FlowEnds) -> bool {
        let FlowEnds { local, remote, .. } = *ends;
        self.own.contains(local.ip())
            && !self.connections.contains(&Connection { protocol: Protocol::Tcp, local, remote })
    }
}

/// The connections of this machine while a table needs them.
#[derive(Debug, Default)]
pub(super) struct Listed(Option<Standing>);

impl Listed {
    /// Looks at the machine again if that is `wanted` and the last look was long ago.
    fn follow(&mut self, wanted: bool) {
        if !wanted {
            self.0 = None;
        } else if self.0.as_ref().is_none_or(|standing| standing.listed.elapsed() >= LISTED) {
            // Without a list, flows stay for their time.
            self.0 = Standing::list()
                .inspect_err(|error| tracing::debug!("cannot list the connections: {error:#}"))
                .ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    use std::time::Instant;

    use lyncwall_common::abi::{FLOW_GRACE, Flow, FlowKeyV4, FlowState, FlowTimes};
    use lyncwall_policy::connection::{Connection, Protocol};

    use super::{Ages, Key as _, Room, Standing};

    const HZ: u64 = 250;
    const LAST: u64 = 5_000_000_000;

    /// A flow of this machine to this port of another.
    fn key(port: u16) -> FlowKeyV4 {
        FlowKeyV4::of(&connection(port), 0).expect("a key of IPv4")
    }

    fn connection(port: u16) -> Connection {
        let at = |last: u8, port: u16| SocketAddr::from((Ipv4Addr::new(192, 0, 2, last), port));
        Connection { protocol: Protocol::Tcp, local: at(1, 40_000), remote: at(2, port) }
    }

    fn ages(silence: u64, standing: Option<&Standing>) -> Ages<'_> {
        Ages { times: FlowTimes::DEFAULT, now: LAST + silence * HZ, hz: HZ, standing }
    }

    /// The first whole second of silence at which a flow is over.
    fn over(state: FlowState, port: u16, room: Room, standing: Option<&Standing>) -> Option<u64> {
        (0..9_000).find(|silence| ages(*silence, standing).is_over(&key(port), Flow::new(state, LAST), room))
    }

    const GRACE: u64 = 7_500 + FLOW_GRACE as u64;

    #[test]
    fn a_flow_is_over_after_its_life_and_an_established_one_after_a_grace() {
        for (state, end) in [
            (FlowState::Opening, 130),
            (FlowState::Established, GRACE),
            (FlowState::Ending, GRACE),
            (FlowState::Closing, 240),
            (FlowState::Udp, 300),
            (FlowState::Echo, 60),
        ] {
            assert_eq!(over(state, 53, Room::Enough, None), Some(end + 1), "{state:?}");
        }
    }

    #[test]
    fn a_crowded_table_loses_what_has_ended_and_questions_early_and_nothing_else() {
        for room in [Room::Crowded, Room::Scarce] {
            for (state, port, end) in [
                (FlowState::Opening, 443, 130),
                (FlowState::Established, 53, GRACE),
                (FlowState::Ending, 443, 240),
                (FlowState::Closing, 443, 60),
                (FlowState::Udp, 53, 60),
                (FlowState::Udp, 5060, 300),
                (FlowState::Echo, 0, 60),
            ] {
                assert_eq!(over(state, port, room, None), Some(end + 1), "{state:?} {port}");
            }
        }
    }

    #[test]
    fn where_room_is_scarce_a_connection_that_the_machine_no_longer_has_goes() {
        let standing = |connections: &[Connection], own: [u8; 4]| Standing {
            listed: Instant::now(),
            connections: connections.iter().copied().collect(),
            own: [IpAddr::from(own)].into_iter().collect(),
        };
        let established = |room, standing: &Standing| over(FlowState::Established, 443, room, Some(standing));
        let gone = standing(&[connection(444)], [192, 0, 2, 1]);
        assert_eq!(established(Room::Scarce, &gone), Some(241));
        assert_eq!(established(Room::Crowded, &gone), Some(GRACE + 1));
        let there = standing(&[connection(443)], [192, 0, 2, 1]);
        assert_eq!(established(Room::Scarce, &there), Some(GRACE + 1));
        // Forwarded connections have no socket here.
        let forwarded = standing(&[], [192, 0, 2, 254]);
        assert_eq!(established(Room::Scarce, &forwarded), Some(GRACE + 1));
    }

    /// Another CPU, or a packet after the clock was read.
    #[test]
    fn a_flow_of_later_than_now_is_not_over() {
        for state in [FlowState::Closing, FlowState::Established, FlowState::Udp] {
            let later = Flow::new(state, LAST + 1);
            assert!(!ages(0, None).is_over(&key(53), later, Room::Scarce), "{state:?}");
        }
    }

    #[test]
    fn room_is_short_from_half_and_scarce_from_three_quarters_on() {
        let room = [0, 512, 513, 768, 769, 1024].map(|used| Room::of(used, 1024));
        use Room::{Crowded, Enough, Scarce};
        assert_eq!(room, [Enough, Enough, Crowded, Crowded, Scarce, Scarce]);
    }
}
