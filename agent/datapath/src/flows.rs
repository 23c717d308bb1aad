//! The flow tables: which flows there are, and which of them are forgotten.

mod existing;

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

impl Datapath {
    /// The flows that there are.
    ///
    /// # Errors
    /// Where a map cannot be read.
    pub fn known_flows(&mut self) -> Result<KnownFlows> {
        Ok(KnownFlows { v4: self.flows.v4.keys(|_| true)?, v6: self.flows.v6.keys(|_| true)? })
    }

    /// Forgets TCP flows but for those that are `known`, by the address and port of this side, and says how many.
    ///
    /// # Errors
    /// Where a map cannot be read or changed.
    pub fn forget_flows(
        &mut self,
        known: &KnownFlows,
        unwanted: impl Fn(IpAddr, u16) -> bool,
    ) -> Result<u64> {
        let tcp = |told: FlowEnds| told.protocol == TCP && unwanted(told.local.ip(), told.local.port());
        self.flows.forget(known, tcp)
    }

    /// Forgets all flows of these zones, by their numbers, and says how many.
    ///
    /// # Errors
    /// Where a map cannot be read or changed.
    pub fn forget_zones(&mut self, zones: &[u16]) -> Result<u64> {
        self.flows.forget(&KnownFlows::default(), |told| zones.contains(&told.zone))
    }

    /// What this box forwards, TCP that is established and UDP, as far as living flows tell: without those that it opened itself
    /// from one of its `own` addresses. Each is as its packets come in that go where the flow went.
    ///
    /// # Errors
    /// Where a map or the kernel's clock cannot be read.
    pub fn forwarded(&self, own: &[IpAddr], times: FlowTimes) -> Result<Vec<Connection>> {
        let now = clock::jiffies(&self.ebpf)?;
        let wanted = |told: &FlowEnds, flow: Flow| {
            let goes_on =
                flow.state() == FlowState::Established as u8 || flow.state() == FlowState::Udp as u8;
            goes_on && !own.contains(&told.local.ip()) && times.lives(flow, now, self.hz)
        };
        let mut found = self.flows.v4.forwarded(wanted)?;
        found.extend(self.flows.v6.forwarded(wanted)?);
        Ok(found)
    }

    /// How full the flow tables are. Takes some milliseconds for full ones.
    ///
    /// # Errors
    /// Where a map cannot be read.
    pub fn flow_fill(&self) -> Result<FlowFill> {
        Ok(FlowFill { v4: self.flows.v4.fill()?, v6: self.flows.v6.fill()?, size: self.flows.size })
    }
}

/// How full the flow tables are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowFill {
    /// Flows of IPv4, those that have timed out among them.
    pub v4: u32,
    /// The same of IPv6.
    pub v6: u32,
    /// As many as either table holds.
    pub size: u32,
}

/// The tables of both families.
pub(super) struct FlowMaps {
    v4: FlowTable<FlowKeyV4>,
    v6: FlowTable<FlowKeyV6>,
    /// As many as either holds.
    size: u32,
}

impl FlowMaps {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        let v4 = FlowTable::take(ebpf)?;
        Ok(Self { size: v4.size()?, v4, v6: FlowTable::take(ebpf)? })
    }

    /// The flow that lets a connection's packets in by a zone, alive or not; none for echo.
    fn find(&self, connection: &Connection, zone: u16) -> Result<Option<Flow>> {
        match connection.local.ip() {
            IpAddr::V4(_) => self.v4.find(connection, zone),
            IpAddr::V6(_) => self.v6.find(connection, zone),
        }
    }

    /// Forgets flows but for those that are `known`, and says how many.
    fn forget(&mut self, known: &KnownFlows, unwanted: impl Fn(FlowEnds) -> bool) -> Result<u64> {
        Ok(self.v4.forget(&known.v4, &unwanted)? + self.v6.forget(&known.v6, &unwanted)?)
    }
}

/// Flows that were there at one moment.
#[derive(Debug, Default)]
pub struct KnownFlows {
    v4: HashSet<FlowKeyV4>,
    v6: HashSet<FlowKeyV6>,
}

/// The flows of one family.
struct FlowTable<K>(HashMap<MapData, K, Flow>);

impl<K: Key> FlowTable<K> {
    fn take(ebpf: &mut Ebpf) -> Result<Self> {
        load::take(ebpf, K::MAP).map(Self)
    }

    fn size(&self) -> Result<u32> {
        let info = self.0.map().info().with_context(|| format!("asking for the size of {}", K::MAP))?;
        Ok(info.max_entries())
    }

    fn fill(&self) -> Result<u32> {
        let mut count = 0;
        self.each(|_, _| count += 1).with_context(|| format!("counting the flows in {}", K::MAP))?;
        Ok(count)
    }

    fn each(&self, look: impl FnMut(&K, &Flow)) -> std::io::Result<()> {
        sys::each_element(self.0.map().fd().as_fd(), look)
    }

    /// The connections whose flows are `wanted`, as what comes in for their far side shows them: for those that are forwarded.
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

    /// None for a connection of the other family, too.
    fn find(&self, connection: &Connection, zone: u16) -> Result<Option<Flow>> {
        let Some(key) = K::of(connection, zone) else { return Ok(None) };
        match self.0.get(&key, 0) {
            Ok(flow) => Ok(Some(flow)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error).context("looking for a flow"),
        }
    }

    fn keys<C: FromIterator<K>>(&self, wanted: impl Fn(&K) -> bool) -> Result<C> {
        let keys = self.0.keys().filter(|key| key.as_ref().map_or(true, &wanted));
        keys.collect::<Result<_, _>>().with_context(|| format!("listing the flows in {}", K::MAP))
    }

    fn forget(&mut self, known: &HashSet<K>, unwanted: impl Fn(FlowEnds) -> bool) -> Result<u64> {
        let mut forgotten = 0;
        let keys: Vec<K> = self.keys(|key| unwanted(key.told()) && !known.contains(key))?;
        for key in keys {
            match self.0.remove(&key) {
                Ok(()) => forgotten += 1,
                // The kernel needed its room, or listed it twice.
                Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).context("forgetting a flow"),
            }
        }
        Ok(forgotten)
    }
}

/// What the keys of both families tell.
struct FlowEnds {
    /// The IP protocol.
    protocol: u8,
    /// The end of this side; for echo its port is the identifier.
    local: SocketAddr,
    /// The far end; for echo its port is 0.
    remote: SocketAddr,
    zone: u16,
}

/// A key of one family.
trait Key: Pod + Eq + Hash {
    /// The name of the map.
    const MAP: &'static str;

    /// The key of a connection that goes by a zone; `None` for echo, and where it is of the other family.
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

/// An address as a key has it: the bytes as they lie in the packet, in units of 16 bits.
fn units<const BYTES: usize, const UNITS: usize>(octets: [u8; BYTES]) -> [u16; UNITS] {
    std::array::from_fn(|n| u16::from_ne_bytes([octets[2 * n], octets[2 * n + 1]]))
}
