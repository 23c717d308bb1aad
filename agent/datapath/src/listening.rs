//! Whether anything listens at the management ports: with no listener there, management reaches nothing.

use anyhow::Result;
use lyncwall_common::abi::PortTransport;

use crate::connections;
use lyncwall_policy::config::Management;
use lyncwall_policy::connection::Listener;
use lyncwall_policy::net::{PortRange, joined};

/// Processes by which people manage a box: the name of the process, as `/proc` has it.
const SHELLS: [&str; 2] = ["sshd", "dropbear"];

/// A warning if nothing listens at the management ports now. UDP counts only for a rule without TCP: SNMP gives
/// nobody a shell. Looks at the calling thread's network namespace.
#[must_use]
pub fn warning(management: Option<&Management>) -> Option<String> {
    let management = management?;
    looked(management)
        .unwrap_or_else(|error| Some(format!("cannot look for listeners at the management ports: {error:#}")))
}

fn looked(management: &Management) -> Result<Option<String>> {
    let (transport, ports) = match &*management.tcp {
        [] => (PortTransport::Udp, &*management.udp),
        tcp => (PortTransport::Tcp, tcp),
    };
    let mut listeners = connections::listeners()?;
    let heard = |listener: &Listener| {
        listener.transport == transport && ports.iter().any(|ports| ports.contains(listener.port))
    };
    if listeners.iter().any(heard) {
        return Ok(None);
    }
    let list = |ports: &[PortRange]| ports.iter().map(PortRange::to_string).collect::<Vec<_>>().join(" ");
    let nothing =
        format!("nothing listens at a port of [management] now ({} {})", transport.name(), list(ports));
    listeners.retain(|listener| listener.transport == PortTransport::Tcp);
    connections::name_processes(&mut listeners);
    let shell = |name: &str| {
        let by = listeners.iter().filter(|listener| listener.process.as_deref() == Some(name));
        joined(by.map(|listener| PortRange::one(listener.port)).collect())
    };
    let found = SHELLS.into_iter().map(|name| (name, shell(name))).find(|(_, at)| !at.is_empty());
    Ok(Some(match found {
        Some((name, at)) => {
            format!("{nothing}, and {name} listens at tcp {}: add its port to `tcp` there", list(&at))
        }
        None => format!("{nothing}: compare `tcp` there with the port of the SSH server"),
    }))
}
