//! Network namespaces that vanish by themselves, and the links between them.
//!
//! A namespace here has no name and no file: it lives while somebody holds its descriptor, so nothing is left
//! when the test ends, however it ends. Links are made over netlink, without the `ip` command.

mod devices;
mod pair;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::resume_unwind;
use std::process::Command;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns, unshare};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage, State, Stats64,
};
use rtnetlink::packet_route::route::{RouteMessage, RouteScope, RouteType};
use rtnetlink::packet_route::tc::TcHandle;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};
use tokio_stream::StreamExt as _;

pub use devices::{Gre, Tag};
pub use pair::Pair;

use crate::packet::Mac;
use crate::sys;

/// A network namespace. Clones are the same namespace; it goes when the last of them, the last process in it and
/// the last socket made in it are gone, and its links go with it.
///
/// `lo` is up. IPv6 addresses are usable at once (no duplicate address detection), nobody asks for or takes
/// router advertisements, and this user may open ICMP echo sockets.
#[derive(Debug, Clone)]
pub struct Netns {
    descriptor: Arc<OwnedFd>,
}

impl Netns {
    /// A new namespace.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN, or where the kernel has no IPv6.
    pub fn new() -> Result<Self> {
        let make = || -> Result<Self> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            let file = File::open("/proc/thread-self/ns/net")?;
            Ok(Self { descriptor: Arc::new(file.into()) })
        };
        // The thread ends at once; the descriptor keeps the namespace.
        let made = thread::scope(|scope| joined(scope.spawn(make)));
        let namespace = made.context("making a network namespace (this needs root)")?;
        for side in ["all", "default"] {
            for (key, value) in [("accept_dad", "0"), ("accept_ra", "0"), ("router_solicitations", "0")] {
                namespace.sysctl(&format!("net.ipv6.conf.{side}.{key}"), value)?;
            }
        }
        namespace.sysctl("net.ipv4.ping_group_range", "0 0")?;
        namespace.change_link(LinkUnspec::new_with_name("lo").up().build()).context("setting lo up")?;
        Ok(namespace)
    }

    /// Runs `work` on a thread inside the namespace and waits for it. Sockets that `work` returns stay in the
    /// namespace. A panic of `work` is passed on.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            joined(scope.spawn(|| {
                self.enter();
                work()
            }))
        })
    }

    /// Starts `work` on a thread inside the namespace.
    pub fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let namespace = self.clone();
        thread::spawn(move || {
            namespace.enter();
            work()
        })
    }

    /// A command whose process runs inside the namespace.
    ///
    /// It is killed when the **thread** that spawned it ends (the kernel's parent-death signal is the thread's),
    /// so that it cannot outlive a killed test: spawn it on a thread that lasts, not within [`Netns::run`].
    /// Its `/sys/class/net` still shows the interfaces of the namespace that sysfs was mounted in.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        sys::enter_before_exec(&mut command, Arc::clone(&self.descriptor));
        command
    }

    /// Writes a sysctl, as `net.ipv4.ip_forward`. A part of the key that holds a dot, as a VLAN's name does, cannot
    /// be written this way.
    ///
    /// # Errors
    /// Where the kernel has no such key or refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        self.run(|| fs::write(&path, value)).with_context(|| format!("writing {value:?} to {path}"))
    }

    /// Makes it forward, or no longer, whatever the family.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn forward(&self, on: bool) -> Result<()> {
        let value = if on { "1" } else { "0" };
        self.sysctl("net.ipv4.ip_forward", value)?;
        self.sysctl("net.ipv6.conf.all.forwarding", value)
    }

    /// Makes a tun interface here: IP without Ethernet. It goes with the returned file.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn tun(&self, name: &str) -> Result<File> {
        self.run(|| sys::tun(name)).with_context(|| format!("making {name}"))
    }

    /// The index of an interface.
    ///
    /// # Errors
    /// Where there is none of this name.
    pub fn index(&self, interface: &str) -> Result<u32> {
        self.run(|| if_nametoindex(interface)).with_context(|| format!("no interface {interface}"))
    }

    /// Adds an address to an interface. On one that is up, the address takes packets when this returns.
    ///
    /// # Errors
    /// Where the interface is not there or has the address already.
    pub fn add_address(&self, interface: &str, address: IpAddr, prefix: u8) -> Result<()> {
        let index = self.index(interface)?;
        self.netlink(async |handle| {
            let mut request = handle.address().add(index, address, prefix);
            if address.is_ipv6() {
                request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            }
            Ok(request.execute().await?)
        })
        .with_context(|| format!("adding {address}/{prefix} to {interface}"))?;
        let down = self.link_attributes(interface)?.contains(&LinkAttribute::OperState(State::Down));
        match address {
            IpAddr::V6(address) if !down => self.wait_until_local(address),
            IpAddr::V4(_) | IpAddr::V6(_) => Ok(()),
        }
    }

    /// Takes an address from an interface.
    ///
    /// # Errors
    /// Where the interface is not there or has no such address.
    pub fn remove_address(&self, interface: &str, address: IpAddr, prefix: u8) -> Result<()> {
        let index = self.index(interface)?;
        self.netlink(async |handle| {
            // The message that adds it names it as well.
            let message = handle.address().add(index, address, prefix).message_mut().clone();
            Ok(handle.address().del(message).execute().await?)
        })
        .with_context(|| format!("removing {address}/{prefix} from {interface}"))
    }

    /// Adds a permanent neighbour, so that nothing asks for its MAC.
    ///
    /// # Errors
    /// Where the interface is not there or has the neighbour already.
    pub fn add_neighbour(&self, interface: &str, address: IpAddr, mac: Mac) -> Result<()> {
        let index = self.index(interface)?;
        self.netlink(async |handle| {
            Ok(handle.neighbours().add(index, address).link_layer_address(&mac).execute().await?)
        })
        .with_context(|| format!("adding the neighbour {address} to {interface}"))
    }

    /// Adds a route to a prefix by way of a gateway. Prefix 0 is the default route.
    ///
    /// # Errors
    /// Where the families differ, the gateway is not reachable, or the route is there already.
    pub fn add_route(&self, destination: IpAddr, prefix: u8, gateway: IpAddr) -> Result<()> {
        let message = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(destination, prefix)
            .and_then(|builder| builder.gateway(gateway))
            .with_context(|| format!("a route to {destination}/{prefix} by {gateway}"))?
            .build();
        self.netlink(async |handle| Ok(handle.route().add(message).execute().await?))
            .with_context(|| format!("adding a route to {destination}/{prefix} by {gateway}"))
    }

    /// Makes this host take packets for a prefix, as the routes do that load balancers of clouds set: no interface
    /// has these addresses.
    ///
    /// # Errors
    /// Where the route is there already.
    pub fn add_local_route(&self, destination: IpAddr, prefix: u8) -> Result<()> {
        let message = self.local_route(destination, prefix)?;
        self.netlink(async |handle| Ok(handle.route().add(message).execute().await?))
            .with_context(|| format!("adding a local route to {destination}/{prefix}"))
    }

    /// Takes such a route away.
    ///
    /// # Errors
    /// Where there is none.
    pub fn remove_local_route(&self, destination: IpAddr, prefix: u8) -> Result<()> {
        let message = self.local_route(destination, prefix)?;
        self.netlink(async |handle| Ok(handle.route().del(message).execute().await?))
            .with_context(|| format!("removing the local route to {destination}/{prefix}"))
    }

    fn local_route(&self, destination: IpAddr, prefix: u8) -> Result<RouteMessage> {
        /// `RT_TABLE_LOCAL` of linux/rtnetlink.h.
        const LOCAL: u32 = 255;
        let builder = RouteMessageBuilder::<IpAddr>::new()
            .kind(RouteType::Local)
            .table_id(LOCAL)
            .scope(RouteScope::Host)
            .output_interface(self.index("lo")?)
            .destination_prefix(destination, prefix)
            .with_context(|| format!("a local route to {destination}/{prefix}"))?;
        Ok(builder.build())
    }

    /// Deletes the queueing discipline clsact of an interface, with all its filters, as another tool may.
    ///
    /// # Errors
    /// Where it is not there.
    pub fn delete_clsact(&self, interface: &str) -> Result<()> {
        let index = self.index(interface)?;
        self.netlink(async |handle| {
            let mut request = handle.qdisc().del(index.cast_signed());
            request.message_mut().header.parent = TcHandle::CLSACT;
            Ok(request.execute().await?)
        })
        .with_context(|| format!("deleting clsact of {interface}"))
    }

    /// Sets an interface up or down.
    ///
    /// # Errors
    /// Where it is not there.
    pub fn set_up(&self, interface: &str, up: bool) -> Result<()> {
        let link = LinkUnspec::new_with_index(self.index(interface)?);
        let link = if up { link.up() } else { link.down() };
        self.change_link(link.build()).with_context(|| format!("setting {interface} up or down"))
    }

    /// Sets the MTU of an interface, in bytes of IP packet.
    ///
    /// # Errors
    /// Where it is not there, or an XDP program on it or its peer forbids the size.
    pub fn set_mtu(&self, interface: &str, mtu: u32) -> Result<()> {
        let link = LinkUnspec::new_with_index(self.index(interface)?).mtu(mtu);
        self.change_link(link.build()).with_context(|| format!("setting the MTU of {interface} to {mtu}"))
    }

    /// Destroys an interface; a veth's other end goes as well.
    ///
    /// # Errors
    /// Where it is not there.
    pub fn delete_link(&self, interface: &str) -> Result<()> {
        let index = self.index(interface)?;
        self.netlink(async |handle| Ok(handle.link().del(index).execute().await?))
            .with_context(|| format!("destroying {interface}"))
    }

    /// The kernel's own counts for an interface. A veth with a native XDP program drops frames that come faster
    /// than its ring is emptied, and counts them as `tx_dropped` of the **sending** end; what the XDP program drops
    /// is not in `rx_dropped`.
    ///
    /// # Errors
    /// Where the interface is not there.
    pub fn statistics(&self, interface: &str) -> Result<Stats64> {
        self.link_attributes(interface)?
            .into_iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::Stats64(statistics) => Some(statistics),
                _ => None,
            })
            .with_context(|| format!("the kernel gave no counts for {interface}"))
    }

    /// Waits until the interface takes frames. A veth end gets its carrier when the other end goes up, and the
    /// kernel opens its queue a moment later, from a work queue; what is sent before that is dropped in silence,
    /// and an ARP request that was dropped is repeated only after a second.
    ///
    /// # Errors
    /// Where the interface is not there, or does not take frames within 30 seconds.
    pub fn wait_until_up(&self, interface: &str) -> Result<()> {
        wait_for(|| Ok(self.link_attributes(interface)?.contains(&LinkAttribute::OperState(State::Up))))
            .with_context(|| format!("waiting for the carrier of {interface}"))
    }

    /// Waits for the route of an address to this host itself. Even without duplicate address detection the kernel
    /// adds it from a work queue, and drops packets for the address until then.
    fn wait_until_local(&self, address: Ipv6Addr) -> Result<()> {
        /// linux/ipv6_route.h: a route to this host.
        const RTF_LOCAL: u32 = 0x8000_0000;
        let wanted = format!("{:032x}", address.to_bits());
        // Columns in hexadecimal: destination and its length, source and its, gateway, three numbers, the flags.
        let is_local = |route: &str| {
            let columns = route.split_whitespace().collect::<Vec<_>>();
            let flags = columns.get(8).and_then(|flags| u32::from_str_radix(flags, 16).ok());
            columns.starts_with(&[&wanted, "80"]) && flags.is_some_and(|flags| flags & RTF_LOCAL != 0)
        };
        wait_for(|| {
            let routes = self.run(|| fs::read_to_string("/proc/thread-self/net/ipv6_route"))?;
            Ok(routes.lines().any(is_local))
        })
        .with_context(|| format!("waiting for the local route of {address}"))
    }

    fn link_attributes(&self, interface: &str) -> Result<Vec<LinkAttribute>> {
        let index = self.index(interface)?;
        let link = self.netlink(async |handle| {
            let mut links = handle.link().get().match_index(index).execute();
            Ok(links.try_next().await?)
        });
        let link = link.with_context(|| format!("asking for {interface}"))?;
        Ok(link.map(|link| link.attributes).unwrap_or_default())
    }

    fn enter(&self) {
        setns(&*self.descriptor, CloneFlags::CLONE_NEWNET)
            .expect("entering a namespace that was made with root");
    }

    fn change_link(&self, link: LinkMessage) -> Result<()> {
        self.netlink(async |handle| Ok(handle.link().set(link).execute().await?))
    }

    /// Runs `work` with a netlink connection of this namespace: a socket belongs to the namespace that it was
    /// opened in.
    fn netlink<T: Send>(&self, work: impl AsyncFnOnce(Handle) -> Result<T> + Send) -> Result<T> {
        self.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
            runtime.block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection()?;
                let driver = tokio::spawn(connection);
                let result = work(handle).await;
                driver.abort();
                result
            })
        })
    }
}

/// One end of a [`veth`] pair.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// Where it is.
    pub namespace: &'a Netns,
    /// Its name there, at most 15 bytes.
    pub name: &'a str,
    /// Its address.
    pub mac: Mac,
}

/// Makes a veth pair with one end in each namespace, both up and taking frames.
///
/// # Errors
/// Where a name is taken.
pub fn veth(one: End<'_>, other: End<'_>) -> Result<()> {
    let peer = LinkMessageBuilder::<LinkUnspec>::default()
        .name(other.name)
        .address(other.mac.to_vec())
        .append_extra_attribute(LinkAttribute::NetNsFd(other.namespace.descriptor.as_raw_fd()))
        .build();
    let link = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Veth)
        .name(one.name)
        .address(one.mac.to_vec())
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    one.namespace
        .netlink(async |handle| Ok(handle.link().add(link).execute().await?))
        .with_context(|| format!("making the veth pair {} and {}", one.name, other.name))?;
    one.namespace.set_up(one.name, true)?;
    other.namespace.set_up(other.name, true)?;
    one.namespace.wait_until_up(one.name)?;
    other.namespace.wait_until_up(other.name)
}

/// Asks every millisecond, for at most 30 seconds: emulated machines are slow.
fn wait_for(condition: impl Fn() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(30);
    while !condition()? {
        ensure!(Instant::now() < end, "not within 30 seconds");
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn joined<T>(handle: thread::ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| resume_unwind(panic))
}
