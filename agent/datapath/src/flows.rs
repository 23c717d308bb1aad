//! The flow tables: listing flows, and forgetting some.

mod existing;
mod sweep;

use std::collections::HashSet;
use std::hash::Hash;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use aya::maps::{HashMap, IterableMap as _, MapData, MapError};
use aya::{Ebpf, Pod};
use lyncwall_common::abi::{Flow, FlowKeyV4, FlowKeyV6, FlowState, FlowTimes, NetPort, map};
use lyncwall_common::fields::Address;

use super::{Datapath, clock, load, sys};
use lyncwall_policy::connection::{Connection, Protocol};
use lyncwall_policy::net::OwnAddresses;
use sweep::{Listed, Sweep};

impl Datapath {
    /// All flows.
    ///
    /// # Errors
    /// If a map cannot be read.
    pub fn known_flows(&mut self) -> Result<KnownFlows> {
        Ok(KnownFlows { v4: self.flows.v4.keys(|_| true)?, v6: self.flows.v6.keys(|_| true)? })
    }

    /// Forgets TCP flows except those of `known` local addresses and ports; returns their number.
    ///
    /// # Errors
    /// If a map cannot be read or changed.
    pub fn forget_flows(
        &mut self,
        known: &KnownFlows,
        unwanted: impl Fn(IpAddr, u16) -> bool,
    ) -> Result<u64> {
        let tcp = |told: FlowEnds| told.protocol == TCP && unwanted(told.local.ip(), told.local.port());
        self.flows.forget(known, tcp)
    }

    /// Forgets all flows of these zones, by their numbers; returns their number.
    ///
    /// # Errors
    /// If a map cannot be read or changed.
    pub fn forget_zones(&mut self, zones: &[u16]) -> Result<u64> {
        self.flows.forget(&KnownFlows::default(), |told| zones.contains(&told.zone))
    }

    /// The forwarded connections, established TCP and UDP, as far as live flows show them; excludes those
    /// that this box opened from one of its `own` addresses. Each is described by its incoming packets in the
    /// direction of its flow.
    ///
    /// # Errors
    /// If a map or the kernel's clock cannot be read.
    pub fn forwarded(&self, own: &OwnAddresses, times: FlowTimes) -> Result<Vec<Connection>> {
        let now = clock::jiffies(&self.ebpf)?;
        let wanted = |told: &FlowEnds, flow: Flow| {
            let goes_on = flow.stands() || flow.state() == FlowState::Udp as u8;
            goes_on && !own.contains(told.local.ip()) && times.lives(flow, now, self.hz)
        };
        let mut found = self.flows.v4.forwarded(wanted)?;
        found.extend(self.flows.v6.forwarded(wanted)?);
        Ok(found)
    }

    /// The fill level of the flow tables; `times` is the life of flows. Takes some milliseconds for full ones.
    ///
    /// # Errors
    /// If a map or the kernel's clock cannot be read.
    pub fn flow_fill(&self, times: FlowTimes) -> Result<FlowFill> {
        let now = clock::jiffies(&self.ebpf)?;
        let lives = |flow: Flow| times.lives(flow, now, self.hz);
        let (v4, v6) = (self.flows.v4.fill(lives)?, self.flows.v6.fill(lives)?);
        Ok(FlowFill {
            v4: v4.live,
            v6: v6.live,
            over: v4.over + v6.over,
            freed: self.control.freed(),
            size: self.flows.size,
        })
    }

    /// The capacity of each flow table.
    #[must_use]
    pub fn flow_size(&self) -> u32 {
        self.flows.size
    }
}

/// The fill level of the flow tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowFill {
    /// IPv4 flows that live.
    pub v4: u32,
    /// IPv6 flows that live.
    pub v6: u32,
    /// Flows of both families that are over, and in the tables yet.
    pub over: u32,
    /// Flows that were over and were freed, since the tables were made.
    pub freed: u64,
    /// The capacity of each table.
    pub size: u32,
}

/// The tables of both families.
pub(super) struct FlowMaps {
    v4: FlowTable<FlowKeyV4>,
    v6: FlowTable<FlowKeyV6>,
    standing: Listed,
    /// The capacity of each table.
    size: u32,
}

impl FlowMaps {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        let v4 = FlowTable::take(ebpf)?;
        Ok(Self { size: v4.size()?, v4, v6: FlowTable::take(ebpf)?, standing: Listed::default() })
    }

    /// The flow that lets a connection's packets in from a zone, live or not; `None` for echo.
    fn find(&self, connection: &Connection, zone: u16) -> Result<Option<Flow>> {
        match connection.local.ip() {
            IpAddr::V4(_) => self.v4.find(connection, zone),
            IpAddr::V6(_) => self.v6.find(connection, zone),
        }
    }

    /// Forgets flows except `known` ones; returns their number.
    fn forget(&mut self, known: &KnownFlows, unwanted: impl Fn(FlowEnds) -> bool) -> Result<u64> {
        Ok(self.v4.forget(&known.v4, &unwanted)? + self.v6.forget(&known.v6, &unwanted)?)
    }
}

/// The flows at one moment.
#[derive(Debug, Default)]
pub struct KnownFlows {
    v4: HashSet<FlowKeyV4>,
    v6: HashSet<FlowKeyV6>,
}

/// The flows of one family.
struct FlowTable<K> {
    map: HashMap<MapData, K, Flow>,
    sweep: Sweep,
}

/// The fill level of one table.
#[derive(Default)]
struct Fill {
    live: u32,
    over: u32,
}

impl<K: Key> FlowTable<K> {
    fn take(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self { map: load::take(ebpf, K::MAP)?, sweep: Sweep::default() })
    }

    fn size(&self) -> Result<u32> {
        let info = self.map.map().info().with_context(|| format!("asking for the size of {}", K::MAP))?;
        Ok(info.max_entries())
    }

    fn fill(&self, lives: impl Fn(Flow) -> bool) -> Result<Fill> {
        let mut fill = Fill::default();
        let counted = self.each(|_, flow| {
            if lives(*flow) {
                fill.live += 1;
            } else {
                fill.over += 1;
            }
        });
        counted.with_context(|| format!("counting the flows in {}", K::MAP))?;
        Ok(fill)
    }

    fn each(&self, look: impl FnMut(&K, &Flow)) -> std::io::Result<()> {
        sys::each_element(self.map.map().fd().as_fd(), look)
    }

    /// The connections of `wanted` flows, each described by the incoming packets for its far side: for
    /// forwarded ones.
    fn forwarded(&self, wanted: impl Fn(&FlowEnds, Flow) -> bool) -> Result<Vec<Connection>> {
        let mut found = Vec::new();
        let looked = self.each(|key, flow| {
            let told = key.told();
            let protocol = match told.protocol {
                TCP => Protocol::Tcp,
                UDP => Protocol::Udp,
                _ => return,
            };
            if wanted(&told, *flow) {
                found.push(Connection { protocol, local: told.remote, remote: told.local });
            }
        });
        looked.with_context(|| format!("looking through the flows in {}", K::MAP))?;
        Ok(found)
    }

    /// `None` also for a connection of the other family.
    fn find(&self, connection: &Connection, zone: u16) -> Result<Option<Flow>> {
        let Some(key) = K::of(connection, zone) else { return Ok(None) };
        match self.map.get(&key, 0) {
            Ok(flow) => Ok(Some(flow)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error).context("looking for a flow"),
        }
    }

    fn keys<C: FromIterator<K>>(&self, wanted: impl Fn(&K) -> bool) -> Result<C> {
        let keys = self.map.keys().filter(|key| key.as_ref().map_or(true, &wanted));
        keys.collect::<Result<_, _>>().with_context(|| format!("listing the flows in {}", K::MAP))
    }

    fn forget(&mut self, known: &HashSet<K>, unwanted: impl Fn(FlowEnds) -> bool) -> Result<u64> {
        let mut forgotten = 0;
        let keys: Vec<K> = self.keys(|key| unwanted(key.told()) && !known.contains(key))?;
        for key in keys {
            match self.map.remove(&key) {
                Ok(()) => forgotten += 1,
                // Evicted meanwhile, or listed twice.
                Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).context("forgetting a flow"),
            }
        }
        Ok(forgotten)
    }
}

/// The fields of a key of either family.
struct FlowEnds {
    /// The IP protocol.
    protocol: u8,
    /// The local end; for echo its port is the identifier.
    local: SocketAddr,
    /// The remote end; for echo its port is 0.
    remote: SocketAddr,
    zone: u16,
}

/// A key of one family.
trait Key: Pod + Eq + Hash {
    /// The name of the map.
    const MAP: &'static str;

    /// The key of a connection in a zone; `None` for echo, and for the other family.
    fn of(connection: &Connection, zone: u16) -> Option<Self>;

    fn told(&self) -> FlowEnds;
}

impl Key for FlowKeyV4 {
    const MAP: &'static str = map::FLOWS_V4;

    fn of(connection: &Connection, zone: u16) -> Option<Self> {
        let (SocketAddr::V4(local), SocketAddr::V4(remote)) = (connection.local, connection.remote) else {
            return None;
        };
        Some(Self {
            local: units(local.ip().octets()),
            remote: units(remote.ip().octets()),
            local_port: NetPort::new(local.port()),
            remote_port: NetPort::new(remote.port()),
            protocol: number(connection.protocol)?,
            reserved: 0,
            zone,
        })
    }

    fn told(&self) -> FlowEnds {
        let local = (Address::V4(self.local).ip(), self.local_port.number()).into();
        let remote = (Address::V4(self.remote).ip(), self.remote_port.number()).into();
        FlowEnds { protocol: self.protocol, local, remote, zone: self.zone }
    }
}

impl Key for FlowKeyV6 {
    const MAP: &'static str = map::FLOWS_V6;

    fn of(connection: &Connection, zone: u16) -> Option<Self> {
        let (SocketAddr::V6(local), SocketAddr::V6(remote)) = (connection.local, connection.remote) else {
            return None;
        };
        Some(Self {
            local: units(local.ip().octets()),
            remote: units(remote.ip().octets()),
            local_port: NetPort::new(local.port()),
            remote_port: NetPort::new(remote.port()),
            protocol: number(connection.protocol)?,
            reserved: 0,
            zone,
        })
    }

    fn told(&self) -> FlowEnds {
        let local = (Address::V6(self.local).ip(), self.local_port.number()).into();
        let remote = (Address::V6(self.remote).ip(), self.remote_port.number()).into();
        FlowEnds { protocol: self.protocol, local, remote, zone: self.zone }
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;

/// The IP protocol; `None` for echo.
fn number(protocol: Protocol) -> Option<u8> {
    match protocol {
        Protocol::Tcp => Some(TCP),
        Protocol::Udp => Some(UDP),
        Protocol::IcmpEcho => None,
    }
}

/// An address in a key: the bytes in packet order, in units of 16 bits.
fn units<const BYTES: usize, const UNITS: usize>(octets: [u8; BYTES]) -> [u16; UNITS] {
    std::array::from_fn(|n| u16::from_ne_bytes([octets[2 * n], octets[2 * n + 1]]))
}
