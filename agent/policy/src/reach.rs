//! Which targets this box and its sockets are reached as.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::compile::{Input, TargetInput};
use crate::config::Address;
use crate::connection::Listener;
use crate::net::OwnAddresses;

/// The targets of packets to a listener.
pub(crate) fn reached_as<'a>(listener: &Listener, input: &'a Input) -> BTreeSet<&'a str> {
    let bound = listener.address;
    // An IPv6 socket for any address accepts IPv4 too, by default.
    let takes = |address: &IpAddr| {
        let any = bound.is_unspecified() && (bound.is_ipv6() || address.is_ipv4());
        !address.is_loopback() && (any || *address == bound)
    };
    let addresses = input.local.addresses().iter().filter(|address| takes(address));
    addresses.flat_map(|address| targets_of(input, *address)).collect()
}

/// The targets of an address of this box: at most one in each zone.
fn targets_of(input: &Input, address: IpAddr) -> impl Iterator<Item = &str> {
    (0..input.zones.len()).filter_map(move |zone| {
        let here = || input.targets.iter().filter(move |target| target.zone == zone);
        let target =
            here().find(|target| names(target, address)).or_else(|| here().find(|target| is_host(target)));
        target.map(|target| &*target.name)
    })
}

/// True for a target that is the box itself.
fn is_host(target: &TargetInput) -> bool {
    matches!(target.address, Address::Host | Address::HostAnd(_))
}

/// True for a target of packets to this box.
pub(crate) fn is_here(target: &TargetInput, own: &OwnAddresses) -> bool {
    match &target.address {
        Address::Host | Address::HostAnd(_) => true,
        Address::List(list) => list.iter().any(|address| own.contains(*address)),
    }
}

/// True if a target lists an address.
fn names(target: &TargetInput, address: IpAddr) -> bool {
    match &target.address {
        Address::Host => false,
        Address::HostAnd(list) | Address::List(list) => list.contains(&address),
    }
}
