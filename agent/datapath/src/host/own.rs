//! The destinations that the kernel delivers to this box.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use lyncwall_policy::net::{OwnAddresses, Prefix};
use nix::libc::{EAFNOSUPPORT, ENOENT, EOPNOTSUPP};
use rtnetlink::packet_core::NLM_F_DUMP;
use rtnetlink::packet_route::link::{InfoData, InfoVrf, LinkAttribute, LinkInfo};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;

use super::interfaces::links;
use crate::netlink::list_strictly;

/// The table of linux/rtnetlink.h that the kernel looks a destination up in first.
const RT_TABLE_LOCAL: u32 = 255;

/// The types of routes that end at this box.
const KINDS: [RouteType; 3] = [RouteType::Local, RouteType::Broadcast, RouteType::Anycast];

/// The destinations that the kernel delivers to this network namespace: those of its `local` routing table, and
/// of the tables of its VRFs. These hold the addresses of the interfaces, and addresses that exist as routes
/// only, as load balancers of clouds set them. Those of the interfaces with the numbers `guarded` come first.
///
/// # Errors
/// If the kernel does not answer.
pub fn own(guarded: &[u32]) -> Result<OwnAddresses> {
    let mut addresses = BTreeMap::new();
    let mut further = BTreeMap::new();
    for table in [RT_TABLE_LOCAL].into_iter().chain(vrf_tables()?) {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            for kind in KINDS {
                for Route { prefix, rank } in routes(table, family, kind, guarded)? {
                    let ranks = match single(prefix) {
                        Some(_) if kind == RouteType::Local => &mut addresses,
                        _ if prefix.addr().is_loopback() => continue,
                        Some(_) | None => &mut further,
                    };
                    let best = ranks.entry(prefix).or_insert(rank);
                    *best = rank.min(*best);
                }
            }
        }
    }
    let addresses = by_importance(addresses, |_| 0).into_iter().map(|prefix| prefix.addr()).collect();
    // Short lists fit where a long one does not.
    Ok(OwnAddresses::new(addresses, by_importance(further, Prefix::host_bits)))
}

/// The importance of a route: 0 for the most important.
type Rank = (u8, bool);

/// A route that ends at this box.
struct Route {
    prefix: Prefix,
    rank: Rank,
}

fn by_importance(ranks: BTreeMap<Prefix, Rank>, before: impl Fn(&Prefix) -> u8) -> Vec<Prefix> {
    let mut sorted: Vec<(u8, Rank, Prefix)> =
        ranks.into_iter().map(|(prefix, rank)| (before(&prefix), rank, prefix)).collect();
    sorted.sort_unstable();
    sorted.into_iter().map(|(.., prefix)| prefix).collect()
}

/// The address of a prefix of one address.
fn single(prefix: Prefix) -> Option<IpAddr> {
    (prefix.host_bits() == 0).then(|| prefix.addr())
}

/// The numbers of the routing tables of VRFs.
fn vrf_tables() -> Result<BTreeSet<u32>> {
    let mut tables = BTreeSet::new();
    for attribute in links()?.into_iter().flat_map(|link| link.attributes) {
        let LinkAttribute::LinkInfo(infos) = attribute else { continue };
        for info in infos {
            let LinkInfo::Data(InfoData::Vrf(data)) = info else { continue };
            tables.extend(data.into_iter().filter_map(|datum| match datum {
                InfoVrf::TableId(table) => Some(table),
                _ => None,
            }));
        }
    }
    Ok(tables)
}

/// The routes of one type in one table.
fn routes(table: u32, family: AddressFamily, kind: RouteType, guarded: &[u32]) -> Result<Vec<Route>> {
    let mut request = RouteMessage::default();
    request.header.address_family = family;
    request.header.kind = kind;
    request.attributes.push(RouteAttribute::Table(table));
    let answers = match list_strictly(NETLINK_ROUTE, RouteNetlinkMessage::GetRoute(request), NLM_F_DUMP) {
        // The kernel lacks the family, or the table has no route of it.
        Err(error) if is_absence(&error) => Vec::new(),
        answers => answers.with_context(|| format!("listing the routes in table {table}"))?,
    };
    let route = |answer| match answer {
        // A kernel without the family lists the routes of all.
        RouteNetlinkMessage::NewRoute(route)
            if (route.header.address_family, route.header.kind) == (family, kind) =>
        {
            Route::of(&route, guarded)
        }
        _ => None,
    };
    Ok(answers.into_iter().filter_map(route).collect())
}

fn is_absence(error: &anyhow::Error) -> bool {
    let number = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    matches!(number, Some(ENOENT | EAFNOSUPPORT | EOPNOTSUPP))
}

impl Route {
    fn of(route: &RouteMessage, guarded: &[u32]) -> Option<Self> {
        /// Every network namespace has `lo` under this number.
        const LO: u32 = 1;
        let address = route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
            _ => None,
        });
        let interface = route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Oif(interface) => Some(*interface),
            _ => None,
        });
        let place = match interface {
            Some(interface) if guarded.contains(&interface) => 0,
            Some(LO) | None => 2,
            Some(_) => 1,
        };
        // Addresses of interfaces come from the kernel, routes alone from somebody else.
        let added = route.header.protocol != RouteProtocol::Kernel;
        let prefix = Prefix::new(address?, route.header.destination_prefix_length).ok()?;
        Some(Self { prefix, rank: (place, added) })
    }
}
