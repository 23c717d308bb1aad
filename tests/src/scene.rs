//! The agent at work: a client, a host with the firewall, a wire between them.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use crate::agent::{Agent, Api, Instance};
use crate::bpffs::Bpffs;
use crate::netns::Pair;
use crate::prerequisites::require_root;

/// A [`Pair`] of namespaces and the place of an agent that guards [`Pair::HOST_LINK`]. All of it goes on drop.
#[derive(Debug)]
pub struct Scene {
    /// The namespaces and the wire.
    pub pair: Pair,
    /// The agent's place.
    pub instance: Instance,
    /// The BPF file system of this thread, for further agents.
    pub bpffs: Bpffs,
}

impl Scene {
    /// The host's addresses.
    pub const HOST: [IpAddr; 2] = [IpAddr::V4(Pair::HOST_V4), IpAddr::V6(Pair::HOST_V6)];
    /// The client's addresses.
    pub const CLIENT: [IpAddr; 2] = [IpAddr::V4(Pair::CLIENT_V4), IpAddr::V6(Pair::CLIENT_V6)];

    /// Makes it, without a configuration.
    ///
    /// # Errors
    /// Those of [`Pair::new`], [`Bpffs::mount`] and [`Instance::new`].
    ///
    /// # Panics
    /// Without the privileges, or where the binary was not built; the message says what to do.
    pub fn new() -> Result<Self> {
        require_root();
        let bpffs = Bpffs::mount()?;
        let pair = Pair::new()?;
        let instance = Instance::new(&pair.host, &bpffs, "lyncwall")?;
        Ok(Self { pair, instance, bpffs })
    }

    /// Writes a configuration and starts an agent with it.
    ///
    /// # Errors
    /// As [`Instance::start`].
    pub fn start(&self, config: &Config) -> Result<(Agent, Api)> {
        self.instance.configure(&config.toml())?;
        let agent = self.instance.start()?;
        Ok((agent, self.instance.api()?))
    }

    /// A port of the host, by its IPv4 address.
    pub fn v4(port: u16) -> SocketAddr {
        (Pair::HOST_V4, port).into()
    }

    /// A port of the host, by its IPv6 address.
    pub fn v6(port: u16) -> SocketAddr {
        (Pair::HOST_V6, port).into()
    }
}

/// A configuration for one target, `host`. The default guards [`Pair::HOST_LINK`] and opens nothing; the management
/// rule is for a network that nobody here is in.
#[derive(Debug, Clone)]
pub struct Config {
    /// Lines above the first table, as `mode = "audit"`.
    pub top: String,
    /// Sources of management, port 22.
    pub management: Vec<String>,
    /// Interfaces, each with its way of attaching.
    pub interfaces: Vec<(String, &'static str)>,
    /// How long what the box sends is watched before enforcement begins, in seconds.
    pub learn: u32,
    /// The roles of the target.
    pub roles: Vec<String>,
    /// Further lines of the target, as `on-closed = "reject"`.
    pub target: String,
    /// Further tables, as `[[allow]]`.
    pub further: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            top: String::new(),
            management: vec!["203.0.113.0/24".to_owned()],
            interfaces: vec![(Pair::HOST_LINK.to_owned(), "auto")],
            learn: 0,
            roles: Vec::new(),
            target: String::new(),
            further: String::new(),
        }
    }
}

impl Config {
    /// With these roles.
    pub fn roles(roles: &[&str]) -> Self {
        Self { roles: roles.iter().map(ToString::to_string).collect(), ..Self::default() }
    }

    /// The same with lines above the first table.
    #[must_use]
    pub fn top(mut self, lines: &str) -> Self {
        self.top = lines.to_owned();
        self
    }

    /// The same that watches for so many seconds what the box sends before enforcement begins.
    #[must_use]
    pub fn learn(mut self, seconds: u32) -> Self {
        self.learn = seconds;
        self
    }

    /// The same for another interface beside the others.
    #[must_use]
    pub fn interface(mut self, name: &str) -> Self {
        self.interfaces.push((name.to_owned(), "auto"));
        self
    }

    /// The same with all interfaces attached in this way: `auto`, `native` or `generic`.
    #[must_use]
    pub fn attach(mut self, attach: &'static str) -> Self {
        for interface in &mut self.interfaces {
            interface.1 = attach;
        }
        self
    }

    /// The same with further lines of the target.
    #[must_use]
    pub fn target(mut self, lines: &str) -> Self {
        self.target = lines.to_owned();
        self
    }

    /// The same with further tables.
    #[must_use]
    pub fn further(mut self, tables: &str) -> Self {
        self.further += tables;
        self
    }

    /// The same with other sources of management.
    #[must_use]
    pub fn management(mut self, from: &[&str]) -> Self {
        self.management = from.iter().map(ToString::to_string).collect();
        self
    }

    /// The file.
    pub fn toml(&self) -> String {
        let mut text = format!("{}\n[management]\nfrom = {:?}\ntcp = [22]\n", self.top, self.management);
        for (name, attach) in &self.interfaces {
            write!(text, "\n[[interface]]\nname = {name:?}\nattach = {attach:?}\n")
                .expect("a string takes all");
        }
        text + &format!(
            "\n[[target]]\nroles = {:?}\n{}\n\n[flows]\nlearn = {}\n\n{}",
            self.roles, self.target, self.learn, self.further
        )
    }
}
