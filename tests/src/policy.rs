//! The smallest policies, for tests of everything but policies.

use lyncwall_common::abi::{Class, Features, Generation, NetPort, PolicyTable, PortSet};
use lyncwall_policy::compile::{Compiled, LeftOut, ManagementTables};

/// A policy for every destination that has these TCP ports open, each with a rule counter of its number, and that
/// nobody manages.
#[must_use]
pub fn open_tcp(ports: &[u16]) -> Compiled {
    let mut tcp = Box::new(PolicyTable::CLOSED);
    for (class, port) in (1..).zip(ports) {
        tcp.ports[NetPort::new(*port).index()] = class;
        tcp.classes[usize::from(class)] = Class { counter: u32::from(class) - 1, groups: 0 };
    }
    Compiled {
        left_out: LeftOut::default(),
        features: Features::default(),
        generation: Generation::EMPTY,
        vlans: Vec::new(),
        targets: None,
        policies: vec![[tcp, Box::new(PolicyTable::CLOSED)]],
        allow: None,
        sources: Vec::new(),
        management: ManagementTables { ports: Box::new([PortSet::EMPTY; 2]), sources: Vec::new() },
    }
}
