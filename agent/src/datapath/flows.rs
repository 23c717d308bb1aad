//! The flow tables: how full they are, and connections that stood before the program did.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, bail};
use aya::Ebpf;
use aya::maps::{Map, MapData};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use etherparse::{PacketBuilder, PacketBuilderStep};
use lyncwall_common::abi::{Flow, FlowKeyV4, FlowKeyV6, map};

use super::sys;
use crate::standing::{Protocol, Standing};

/// The maps of flows.
pub(super) struct FlowMaps {
    v4: MapData,
    v6: MapData,
}

impl FlowMaps {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self { v4: table(ebpf, map::FLOWS_V4)?, v6: table(ebpf, map::FLOWS_V6)? })
    }

    /// Flows of IPv4 and of IPv6, those that have timed out among them. Some milliseconds for full tables.
    pub(super) fn fill(&self) -> Result<[u32; 2]> {
        let v4 = sys::count_elements::<FlowKeyV4, Flow>(self.v4.fd().as_fd());
        let v6 = sys::count_elements::<FlowKeyV6, Flow>(self.v6.fd().as_fd());
        Ok([v4.context("counting the flows of IPv4")?, v6.context("counting the flows of IPv6")?])
    }
}

fn table(ebpf: &mut Ebpf, name: &str) -> Result<MapData> {
    match ebpf.take_map(name) {
        Some(Map::LruHashMap(table)) => Ok(table),
        _ => bail!("the BPF object has no table of flows {name}"),
    }
}

/// Shows a connection to the program as if this side had sent a packet of it. Whether that makes a flow is for the program
/// to say, which knows what is open.
pub(super) fn show(program: &SchedClassifier, standing: &Standing) -> Result<()> {
    let frame = frame(standing)?;
    let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::default() };
    program.test_run(options).context("showing a standing connection to the program")?;
    Ok(())
}

/// A packet in the middle of a connection, from this side.
fn frame(standing: &Standing) -> Result<Vec<u8>> {
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
    Ok(frame)
}
