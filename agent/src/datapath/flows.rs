//! The flow tables: how full they are, and connections that stood before the program did.

use std::collections::HashSet;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd};

use anyhow::{Context as _, Result, bail};
use aya::maps::{HashMap, Map, MapData, MapError};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use aya::{Ebpf, Pod};
use lyncwall_common::abi::{Flow, FlowKeyV4, FlowKeyV6, NetPort, map};
use lyncwall_common::fields::Address;

use super::sys;
use crate::standing::{Leg, Moment, Protocol, Standing};

/// The maps of flows.
pub(super) struct FlowMaps {
    v4: Map,
    v6: Map,
}

impl FlowMaps {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self { v4: table(ebpf, map::FLOWS_V4)?, v6: table(ebpf, map::FLOWS_V6)? })
    }

    /// Flows of IPv4 and of IPv6, those that have timed out among them. Some milliseconds for full tables.
    pub(super) fn fill(&self) -> Result<[u32; 2]> {
        let v4 = sys::count_elements::<FlowKeyV4, Flow>(descriptor(&self.v4)?);
        let v6 = sys::count_elements::<FlowKeyV6, Flow>(descriptor(&self.v6)?);
        Ok([v4.context("counting the flows of IPv4")?, v6.context("counting the flows of IPv6")?])
    }

    /// The flow that lets a connection's packets in by a zone, alive or not; none for echo.
    pub(super) fn find(&self, standing: &Standing, zone: u16) -> Result<Option<Flow>> {
        let protocol = match standing.protocol {
            Protocol::Tcp => TCP,
            Protocol::Udp => UDP,
            Protocol::IcmpEcho => return Ok(None),
        };
        let [local_port, remote_port] = [standing.local, standing.remote].map(|end| NetPort::new(end.port()));
        let found = match (standing.local.ip(), standing.remote.ip()) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                let [local, remote] = [local, remote].map(|address| units(address.octets()));
                let key = FlowKeyV4 { local, remote, local_port, remote_port, protocol, reserved: 0, zone };
                HashMap::<_, FlowKeyV4, Flow>::try_from(&self.v4)?.get(&key, 0)
            }
            (IpAddr::V6(local), IpAddr::V6(remote)) => {
                let [local, remote] = [local, remote].map(|address| units(address.octets()));
                let key = FlowKeyV6 { local, remote, local_port, remote_port, protocol, reserved: 0, zone };
                HashMap::<_, FlowKeyV6, Flow>::try_from(&self.v6)?.get(&key, 0)
            }
            _ => return Ok(None),
        };
        match found {
            Ok(flow) => Ok(Some(flow)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error).context("looking for a flow"),
        }
    }

    /// Forgets TCP flows by the address and port of this side, and says how many.
    pub(super) fn forget(
        &mut self,
        known: &KnownFlows,
        unwanted: impl Fn(IpAddr, u16) -> bool,
    ) -> Result<u64> {
        self.forget_where(
            |key| {
                let is_it = || unwanted(Address::V4(key.local).ip(), key.local_port.number());
                key.protocol == TCP && !known.v4.contains(key) && is_it()
            },
            |key| {
                let is_it = || unwanted(Address::V6(key.local).ip(), key.local_port.number());
                key.protocol == TCP && !known.v6.contains(key) && is_it()
            },
        )
    }

    /// Forgets all flows of these zones, and says how many.
    pub(super) fn forget_zones(&mut self, zones: &[u16]) -> Result<u64> {
        self.forget_where(|key| zones.contains(&key.zone), |key| zones.contains(&key.zone))
    }

    /// All that there are.
    pub(super) fn known(&mut self) -> Result<KnownFlows> {
        let v4: HashMap<_, FlowKeyV4, Flow> = HashMap::try_from(&mut self.v4)?;
        let v4 = v4.keys().filter_map(Result::ok).collect();
        let v6: HashMap<_, FlowKeyV6, Flow> = HashMap::try_from(&mut self.v6)?;
        Ok(KnownFlows { v4, v6: v6.keys().filter_map(Result::ok).collect() })
    }

    fn forget_where(
        &mut self,
        is_v4: impl Fn(&FlowKeyV4) -> bool,
        is_v6: impl Fn(&FlowKeyV6) -> bool,
    ) -> Result<u64> {
        let mut v4: HashMap<_, FlowKeyV4, Flow> = HashMap::try_from(&mut self.v4)?;
        let first = forget(&mut v4, is_v4)?;
        let mut v6: HashMap<_, FlowKeyV6, Flow> = HashMap::try_from(&mut self.v6)?;
        Ok(first + forget(&mut v6, is_v6)?)
    }
}

/// Flows that were there at one moment.
#[derive(Debug, Default)]
pub struct KnownFlows {
    v4: HashSet<FlowKeyV4>,
    v6: HashSet<FlowKeyV6>,
}

/// The IP protocols.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// An address as a key has it: the bytes as they lie in the packet, in units of 16 bits.
fn units<const BYTES: usize, const UNITS: usize>(octets: [u8; BYTES]) -> [u16; UNITS] {
    std::array::from_fn(|n| u16::from_ne_bytes([octets[2 * n], octets[2 * n + 1]]))
}

fn forget<K: Pod>(flows: &mut HashMap<&mut MapData, K, Flow>, unwanted: impl Fn(&K) -> bool) -> Result<u64> {
    let mut forgotten = 0;
    let keys: Vec<K> = flows.keys().filter_map(Result::ok).filter(unwanted).collect();
    for key in keys {
        match flows.remove(&key) {
            Ok(()) => forgotten += 1,
            Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(error).context("forgetting a flow"),
        }
    }
    Ok(forgotten)
}

fn table(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    let map = ebpf.take_map(name).with_context(|| format!("the BPF object has no table of flows {name}"))?;
    descriptor(&map).with_context(|| format!("the map {name} in the BPF object"))?;
    Ok(map)
}

fn descriptor(map: &Map) -> Result<BorrowedFd<'_>> {
    match map {
        Map::LruHashMap(map) => Ok(map.fd().as_fd()),
        _ => bail!("not a table of flows"),
    }
}

/// Shows a connection to the program as if this side had sent a packet of it by `leg`. Whether that makes a flow is for the program
/// to say, which knows what is open.
pub(super) fn show(program: &SchedClassifier, standing: &Standing, moment: Moment, leg: Leg) -> Result<()> {
    /// Where `struct __sk_buff` has the interface; what lies before it is 0. The kernel takes it from 5.9 on.
    const IFINDEX: usize = 10;
    let frame = standing.outgoing(moment, leg)?;
    let mut context = [0u32; IFINDEX + 1];
    context[IFINDEX] = leg.ifindex;
    let context: Vec<u8> = context.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let context = (leg.ifindex != 0).then_some(&*context);
    let options = TestRunOptions { data_in: Some(&frame), ctx_in: context, ..TestRunOptions::default() };
    program.test_run(options).context("showing a standing connection to the program")?;
    Ok(())
}
