//! The flow tables: how full they are, and connections that stood before the program did.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd};

use anyhow::{Context as _, Result, bail};
use aya::maps::{HashMap, Map, MapData, MapError};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use aya::{Ebpf, Pod};
use etherparse::{PacketBuilder, PacketBuilderStep};
use lyncwall_common::abi::{Flow, FlowKeyV4, FlowKeyV6, map};
use lyncwall_common::fields::Address;

use super::sys;
use crate::standing::{Protocol, Standing};

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

    /// Forgets TCP flows by the address and port of this side, and says how many.
    pub(super) fn forget(&mut self, unwanted: impl Fn(IpAddr, u16) -> bool) -> Result<u64> {
        let mut v4: HashMap<_, FlowKeyV4, Flow> = HashMap::try_from(&mut self.v4)?;
        let first = forget(&mut v4, |key| {
            key.protocol == TCP && unwanted(Address::V4(key.local).ip(), key.local_port.number())
        })?;
        let mut v6: HashMap<_, FlowKeyV6, Flow> = HashMap::try_from(&mut self.v6)?;
        let second = forget(&mut v6, |key| {
            key.protocol == TCP && unwanted(Address::V6(key.local).ip(), key.local_port.number())
        })?;
        Ok(first + second)
    }
}

/// The IP protocol.
const TCP: u8 = 6;

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

/// A way that packets leave by: where a connection is shown to the program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leg {
    /// The number of the interface; 0 where it does not matter.
    pub ifindex: u32,
    /// The VLAN on it; 0 for untagged frames.
    pub vlan: u16,
}

/// Shows a connection to the program as if this side had sent a packet of it by `leg`. Whether that makes a flow is for the program
/// to say, which knows what is open.
pub(super) fn show(program: &SchedClassifier, standing: &Standing, leg: Leg) -> Result<()> {
    /// Where `struct __sk_buff` has the interface; what lies before it is 0. The kernel takes it from 5.9 on.
    const IFINDEX: usize = 10;
    let frame = frame(standing, leg.vlan)?;
    let mut context = [0u32; IFINDEX + 1];
    context[IFINDEX] = leg.ifindex;
    let context: Vec<u8> = context.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let context = (leg.ifindex != 0).then_some(&*context);
    let options = TestRunOptions { data_in: Some(&frame), ctx_in: context, ..TestRunOptions::default() };
    program.test_run(options).context("showing a standing connection to the program")?;
    Ok(())
}

/// A packet in the middle of a connection, from this side.
fn frame(standing: &Standing, vlan: u16) -> Result<Vec<u8>> {
    let Standing { protocol, local, remote } = standing;
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let mut frame = Vec::new();
    let hops = 64;
    let packet: PacketBuilderStep<_> = match (local.ip(), remote.ip()) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => ethernet.ipv4(local.octets(), remote.octets(), hops),
        (IpAddr::V6(local), IpAddr::V6(remote)) => ethernet.ipv6(local.octets(), remote.octets(), hops),
        _ => bail!("{local} and {remote} are of different families"),
    };
    let is_ipv4 = SocketAddr::is_ipv4(local);
    match protocol {
        Protocol::Tcp => packet.tcp(local.port(), remote.port(), 0, 1024).ack(0).write(&mut frame, &[]),
        Protocol::Udp => packet.udp(local.port(), remote.port()).write(&mut frame, &[]),
        Protocol::IcmpEcho if is_ipv4 => packet.icmpv4_echo_request(local.port(), 0).write(&mut frame, &[]),
        Protocol::IcmpEcho => packet.icmpv6_echo_request(local.port(), 0).write(&mut frame, &[]),
    }
    .context("building a packet")?;
    if vlan != 0 {
        // Behind the addresses, as 802.1Q has it.
        let [high, low] = vlan.to_be_bytes();
        frame.splice(12..12, [0x81, 0, high, low]);
    }
    Ok(frame)
}
