//! Advice about drops.

use std::collections::BTreeSet;

use lyncwall_common::abi::PortTransport;
use lyncwall_common::reason::Reason;

use crate::firewall::Firewall;
use lyncwall_api::Event;
use lyncwall_policy::config::{self, Allow, OnClosed, Outbound};
use lyncwall_policy::locate::Located;
use lyncwall_policy::net::Transports;

/// The first port of those that Linux gives to sockets without a chosen port, by default.
const EPHEMERAL: u16 = 32_768;

impl Firewall {
    /// Advice about a drop, one sentence each. `own_row` is true if a row of the target's roles names the
    /// port without opening it.
    pub(super) fn advice(
        &self,
        event: &Event,
        reason: Reason,
        located: &Located,
        own_row: bool,
    ) -> Vec<String> {
        let file = self.plan.file.display();
        let source = event.source.as_deref().unwrap_or_default();
        match reason {
            Reason::Source => {
                let groups = located.rule.iter().flat_map(|rule| &rule.groups);
                groups.map(|name| self.about_group(name, source)).collect()
            }
            Reason::Closed => self.about_closed(event, located, own_row),
            Reason::Protocol => {
                let others = self.about_allow(event, located);
                if others.is_empty() {
                    vec![format!("to let it in: an [[allow]] rule with its `protocol` in {file}, then `lyncwall reload`; no role has one")]
                } else {
                    others
                }
            }
            Reason::NoFlow => vec![
                "no packet of this kind opens a connection: it is a stray packet, or its connection has ended, or no rule lets its connection \
                in (`lyncwall preview` tells); explain an opening packet instead"
                    .to_owned(),
            ],
            Reason::FragmentOrphan => vec![format!(
                "its first fragment did not pass, or comes later: if the path to this box reorders, `early` under [fragments] in {file} lets some \
                 come first"
            )],
            Reason::Blocked => {
                vec![format!("`lyncwall blocked` shows the prefix and the time left; `lyncwall unblock` ends the block ({source})")]
            }
            Reason::Limit => vec![format!(
                "{source} opens more than `openings-per-second` and `burst` allow; change them in {file}, under [limit] or in the target or role"
            )],
            Reason::Unmatched => vec![self.about_unmatched(event, located)],
            _ => Vec::new(),
        }
    }

    fn about_group(&self, name: &str, source: &str) -> String {
        let file = self.plan.file.display();
        let config = &self.plan.config;
        let zone = config.groups.iter().find(|group| *group.name == *name).and_then(|group| group.zone);
        match zone.and_then(|zone| config.zones.get(zone)) {
            Some(zone) => format!("`{name}` is every source in the zone {}", zone.name),
            None => format!(
                "to let it in: add {source} to `{name}` under [groups] in {file}, then `lyncwall reload`"
            ),
        }
    }

    fn about_closed(&self, event: &Event, located: &Located, own_row: bool) -> Vec<String> {
        let file = self.plan.file.display();
        let source = event.source.as_deref().unwrap_or_default();
        let (from, to) = (event.source_port.unwrap_or_default(), event.destination_port.unwrap_or_default());
        let is_udp = event.protocol.as_deref() == Some("udp");
        if located.management_port {
            return vec![format!(
                "to let it in: add {source} to `from` under [management] in {file}, then `lyncwall reload`"
            )];
        }
        let mut advice = self.about_allow(event, located);
        if self.is_management(event) {
            let destination = event.destination.as_deref().unwrap_or_default();
            advice.push(format!(
                "a management port, but {destination} is not an address of this box, or a target lists it; use an [[allow]] rule"
            ));
        }
        let to_client =
            if event.source.as_deref().is_some_and(|source| source.contains(':')) { 546 } else { 68 };
        if is_udp && to == to_client {
            let interface = &event.interface;
            advice.push(format!("where this box is a DHCP client: `dhcp-client = true` in the [[interface]] {interface} in {file}"));
        } else if is_udp && from < 1024 && to >= EPHEMERAL {
            advice.push(
                "it looks like a reply that came after its flow had timed out (`udp` under [flows]), or to no request"
                    .to_owned(),
            );
        }
        if advice.is_empty() {
            let mend = if own_row {
                "bind the group under [groups], or name the row in `optional` of the [[target]], as `not opened` says"
            } else {
                "a role that listens there, or an [[allow]] rule"
            };
            advice.push(format!("to let it in: {mend}, in {file}, then `lyncwall reload`"));
        }
        advice.extend(self.about_answer(located, is_udp));
        advice
    }

    /// The answer that the sender may get, if the target rejects.
    fn about_answer(&self, located: &Located, is_udp: bool) -> Option<String> {
        let name = located.target.as_deref()?;
        let target = self.plan.config.targets.iter().find(|target| *target.name == *name)?;
        let what = if is_udp { "an ICMP error" } else { "a TCP reset" };
        (target.on_closed == OnClosed::Reject)
            .then(|| format!("the sender gets {what}, as target {name} has `on-closed = \"reject\"`"))
    }

    /// The `[[allow]]` rules for the port or protocol of a packet, and why they do not let it in.
    fn about_allow(&self, event: &Event, located: &Located) -> Vec<String> {
        let source = event.source.as_deref().unwrap_or_default();
        let rules = self.plan.config.allow.iter().filter(|rule| speaks_of(rule, event));
        let reasons = rules.map(|rule| {
            let other = rule.target.as_ref().filter(|target| Some(&***target) != located.target.as_deref());
            match other {
                Some(target) => format!("[[allow]] {rule}: only for the target {}", &**target),
                None => {
                    let groups: String = rule.groups.iter().map(|group| format!(" or to `{}`", group.name)).collect();
                    format!("[[allow]] {rule}: not for this source; add {source} to its `from`{groups}, then `lyncwall reload`")
                }
            }
        });
        reasons.collect()
    }

    /// True if management has the port of a packet.
    fn is_management(&self, event: &Event) -> bool {
        let Some(management) = &self.plan.config.management else { return false };
        let ports = match event.protocol.as_deref() {
            Some("tcp") => &management.tcp,
            Some("udp") => &management.udp,
            _ => return false,
        };
        event.destination_port.is_some_and(|port| ports.iter().any(|range| range.contains(port)))
    }

    /// The groups at which roles call the port of a packet from behind a zone.
    fn called_groups(&self, event: &Event, zone: &str) -> BTreeSet<String> {
        let number = self.plan.config.zones.iter().position(|known| *known.name == *zone);
        let transport = PortTransport::ALL
            .into_iter()
            .find(|transport| event.protocol.as_deref() == Some(transport.name()));
        let (Some(number), Some(transport), Some(port)) = (number, transport, event.destination_port) else {
            return BTreeSet::new();
        };
        self.plan.called_groups(number, &self.memory.settings.roles, transport, port)
    }

    fn about_unmatched(&self, event: &Event, located: &Located) -> String {
        let config = &self.plan.config;
        let file = self.plan.file.display();
        let zone = config.zones.iter().find(|zone| Some(&*zone.name) == located.zone.as_deref());
        match zone {
            Some(zone) if zone.outbound == Outbound::Catalogue => {
                let groups = self.called_groups(event, &zone.name);
                match groups.is_empty() {
                    true => format!(
                        "no role calls this port: an [[allow]] rule in {file} lets hosts behind the zone {} call it",
                        zone.name
                    ),
                    false => format!(
                        "roles call this port, and its destination is in none of their groups: add it to [groups].{} \
                         in {file}",
                        groups.into_iter().collect::<Vec<_>>().join(" or [groups].")
                    ),
                }
            }
            zone => {
                let zone = zone.map(|zone| format!(" of [[zone]] {}", zone.name)).unwrap_or_default();
                format!(
                    "to let it in: give a [[target]] its address in {file}, or set `unmatched = \"pass\"`{zone}; `lyncwall status` shows the \
                     targets' addresses"
                )
            }
        }
    }
}

/// True if an `[[allow]]` rule is for the port or protocol of a packet.
fn speaks_of(rule: &Allow, event: &Event) -> bool {
    match &rule.what {
        config::AllowWhat::Ports { transport, ports } => event.destination_port.is_some_and(|port| {
            let transport = match transport {
                Transports::Tcp => "tcp",
                Transports::Udp => "udp",
                Transports::Both => event.protocol.as_deref().unwrap_or_default(),
            };
            event.protocol.as_deref() == Some(transport) && ports.iter().any(|range| range.contains(port))
        }),
        config::AllowWhat::Protocol(number) => event.protocol.as_deref() == Some(&*number.to_string()),
    }
}
