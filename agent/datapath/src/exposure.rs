//! Finds what is open through wide port ranges by accident: servers that are bound in them, and the box's own
//! outgoing sockets.

use anyhow::Result;

use crate::connections;
use crate::host;
use lyncwall_policy::compile::Input;
use lyncwall_policy::media_ranges::{
    Exposed, MediaRange, Overlap, exposed, is_within, media_ranges, overlaps,
};
use lyncwall_policy::net::PortRange;
use lyncwall_policy::plan::{Plan, Settings};

/// The most ports to list one by one.
const NAMED: usize = 3;

/// Warnings about a box with these settings and open wide ranges, one sentence each. Looks at the calling
/// thread's network namespace, and only if a role opens such a range on this box.
#[must_use]
pub fn warnings(plan: &Plan, settings: &Settings) -> Vec<String> {
    looked(plan, settings)
        .unwrap_or_else(|error| vec![format!("cannot check open port ranges for other sockets: {error:#}")])
}

fn looked(plan: &Plan, settings: &Settings) -> Result<Vec<String>> {
    let input = plan.input(settings, &host::look_quietly(&plan.config)?)?;
    let ranges = media_ranges(&input);
    if ranges.is_empty() {
        return Ok(Vec::new());
    }
    let mut listeners = connections::listeners()?;
    listeners.retain(|listener| ranges.iter().any(|range| is_within(range, listener)));
    connections::name_processes(&mut listeners);
    let named = |range: &MediaRange<'_>| name(plan, settings, range);
    let mut warnings: Vec<String> =
        exposed(&ranges, &input, &listeners).iter().map(|exposed| of_listeners(exposed, &named)).collect();
    warnings.extend(of_own_ports(&input, &host::ephemeral()?));
    Ok(warnings)
}

/// Formats a range, as `udp 49152-57500 of role mediation`.
fn name(plan: &Plan, settings: &Settings, range: &MediaRange<'_>) -> String {
    let keys = settings.roles_of(range.target);
    let opens = |key: &&String| {
        let role = plan.catalogue.role(key);
        role.is_some_and(|role| {
            role.rows.iter().any(|row| range.rule.rows.iter().any(|id| id == row.as_str()))
        })
    };
    let by: Vec<&str> = keys.iter().filter(opens).map(String::as_str).collect();
    let by = match by.as_slice() {
        [] => format!("target {}", range.target),
        by => format!("role {}", by.join(", ")),
    };
    format!("{} {} of {by}", range.rule.transport.name(), range.ports())
}

fn of_listeners(exposed: &Exposed<'_>, named: &impl Fn(&MediaRange<'_>) -> String) -> String {
    let Exposed { range, process, ports } = exposed;
    let first: Vec<String> = ports.iter().take(NAMED).map(u16::to_string).collect();
    let more = match ports.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let whose = process.as_ref().map_or("an unknown process".to_owned(), |name| format!("process {name}"));
    let lie = if ports.len() == 1 { "lies" } else { "lie" };
    format!(
        "{} {}{more} of {whose} {lie} in the open range {}: every source of media reaches it; unless it is the media \
        program, bind it to another port or to 127.0.0.1, or narrow the range with `overrides` in the target",
        range.rule.transport.name(),
        first.join(" "),
        named(range),
    )
}

fn of_own_ports(input: &Input, own: &[PortRange]) -> Option<String> {
    let Overlap { open, left } = overlaps(&media_ranges(input), own)?;
    let list = |ports: &[PortRange]| ports.iter().map(PortRange::to_string).collect::<Vec<_>>().join(" ");
    let open: Vec<String> =
        open.iter().map(|(transport, ports)| format!("{} {}", transport.name(), list(ports))).collect();
    let fix = match left {
        Some(left) => format!(
            "`sysctl -w net.ipv4.ip_local_port_range=\"{} {}\"` keeps them apart (in /etc/sysctl.d for good)",
            left.first(),
            left.last()
        ),
        None => "narrow the range with `overrides` in the target: hardly a port is left beside it".to_owned(),
    };
    Some(format!(
        "the ports {} (net.ipv4.ip_local_port_range) are for outgoing sockets of this box, and {} of them are open: \
        others can reach such a socket; {fix}",
        list(own),
        open.join(", "),
    ))
}
