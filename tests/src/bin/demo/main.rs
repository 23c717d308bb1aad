//! The firewall at work, for people to watch: real traffic between two network namespaces, a switch of roles in its
//! midst, and the counters and events that come of it. Ends with 0 where all was as it should be.
//!
//! Run it by `cargo xtask demo`.

mod interrupt;
mod knock;
mod report;
mod streams;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lyncwall_api::Event;
use lyncwall_policy::catalogue::{BUILT_IN, Catalogue};
use lyncwall_policy::services::Services;
use lyncwall_tests::agent::{Events, Tally};
use lyncwall_tests::netns::Pair;
use lyncwall_tests::scene::{Config, Scene};
use nix::net::if_::if_nameindex;

use knock::{Door, Servers};
use report::Report;

/// Before and after the switch.
const ROLES: [&str; 2] = ["director-vip", "reverse-proxy"];
/// Opens a UDP port: the roles have none.
const ALLOW: &str = "[[allow]]\nname = \"snmp\"\ntransport = \"udp\"\nports = [161]\n";

/// What is knocked at, with whether it is open in the first role and in the second. Behind each is a server.
const DOORS: [Door; 10] = [
    Door::tcp(443, [true, true]),
    Door::tcp(4443, [true, false]),
    Door::tcp(5061, [true, false]),
    Door::tcp(8080, [true, false]),
    Door::tcp(135, [false, false]),
    Door::tcp(3389, [false, false]),
    Door::tcp(5062, [false, false]),
    Door::udp(161, [true, true]),
    Door::udp(1434, [false, false]),
    Door::ping(),
];

fn main() -> ExitCode {
    let start = Instant::now();
    let mut report = Report::new();
    if let Err(error) = show(&mut report) {
        report.failed(&format!("{error:#}"));
    }
    report.verdict(start.elapsed())
}

fn show(report: &mut Report) -> Result<()> {
    let outside = interface_names()?;
    let interrupt = interrupt::watch()?;
    let scene = Scene::new()?;
    let services = Services::of(&Catalogue::load(BUILT_IN, Path::new(""))?);
    interrupt.remove_when_interrupted(scene.instance.socket());

    report.title("lyncwall: a box in front of a Director pool, guarded by XDP");
    report.line(&format!("client  {}, {}", Pair::CLIENT_V4, Pair::CLIENT_V6));
    report.line("   |    a veth pair between two network namespaces");
    report.line(&format!("host    {}, {}, on {}", Pair::HOST_V4, Pair::HOST_V6, Pair::HOST_LINK));

    let servers = Servers::start(&scene.pair.host, &DOORS)?;
    report.step(&format!("Guard the host as {}", ROLES[0]));
    let (agent, api) = scene.start(&Config::roles(&[ROLES[0]]).further(ALLOW))?;
    let status = api.status()?;
    let interface = status.interfaces.first().context("the agent guards an interface")?;
    report.line(&format!("`lyncwall run` is process {} in the host's namespace", status.pid));
    report.line(&format!(
        "program {} on {} in {} mode, loaded in {} ms; generation {} judges",
        status.program.name, interface.name, interface.mode, status.program.load_ms, status.generation
    ));
    report.line(&format!("open: tcp {}; and udp 161 by an allow rule", status.targets[0].tcp.join(", ")));

    report.step("Knock from the client: real TCP and UDP, a server behind every port");
    knock::all(report, &scene, &services, &DOORS, 0)?;
    report.step("The counters have moved");
    counters(report, &api.counters()?);

    report.step(&format!("Switch to {} while packets come", ROLES[1]));
    let standing = knock::standing(&scene)?;
    streams::switch(report, &scene, &api, ROLES[1])?;
    report.check(
        knock::still_answers(&standing)?,
        "a connection that stood before the switch still answers on 443",
    );

    report.step("Knock again: what differs");
    let mut events = api.events()?;
    knock::all(report, &scene, &services, &DOORS, 1)?;
    report.step("Drops, as `lyncwall events` tells them");
    tell(report, &mut events)?;
    drop(events);

    report.step("Open the box again: `lyncwall detach`");
    let said = scene.instance.cli(["detach"])?.success()?;
    report.line(said.trim());
    report.check(agent.wait()?.code == Some(0), "the agent has ended");
    report.check(!scene.instance.pins().exists(), "nothing is pinned any more");
    knock::opened(report, &scene, &DOORS)?;
    drop((servers, scene));
    report.check(interface_names()? == outside, "the machine's own interfaces are as before");
    Ok(())
}

/// What the first knocking counted.
fn counters(report: &mut Report, counters: &Tally) {
    let mut rows = Vec::new();
    for count in counters.0.reasons.iter().filter(|count| count.packets > 0) {
        rows.push([format!("{} {}", count.action, count.reason), count.packets.to_string(), String::new()]);
    }
    for rule in counters.0.rules.iter().filter(|rule| rule.packets > 0) {
        let name = match (&rule.allow, &rule.transport) {
            (Some(name), _) => format!("rule {name}"),
            (None, transport) => format!("rule {} {}", transport.as_deref().unwrap_or_default(), rule.ports),
        };
        rows.push([name, rule.packets.to_string(), report::short(&rule.service)]);
    }
    for port in &counters.0.ports {
        let name = format!("drop {} {}", port.transport, port.port);
        rows.push([name, port.packets.to_string(), report::short(&port.service)]);
    }
    report.table(["", "packets", "service"], &rows);

    let open = DOORS.iter().filter(|door| door.open[0]);
    let counted = open.clone().all(|door| match door.transport() {
        Some("udp") => counters.allow("snmp") == 2,
        // The opening, and what follows it.
        Some(transport) => counters.rule(transport, &door.port.to_string()) >= 2,
        None => counters.of("icmp-echo", "pass") == 2,
    });
    report.check(counted, "each open port's rule has counted what it let in");
    let mut closed = DOORS.iter().filter(|door| !door.open[0]);
    let dropped = closed.clone().count() as u64 * 2;
    let each = closed.all(|door| door.transport().is_some_and(|of| counters.port(of, door.port) == 2));
    report.check(
        each && counters.of("closed", "drop") == dropped,
        &format!("{dropped} packets to closed ports, {dropped} drops"),
    );
}

/// A few drops, one of each port.
fn tell(report: &mut Report, events: &mut Events<'_>) -> Result<()> {
    const WANTED: usize = 6;
    let mut told: Vec<Event> = Vec::new();
    let end = Instant::now() + Duration::from_secs(3);
    while told.len() < WANTED && Instant::now() < end {
        let Some(event) = events.next(Duration::from_millis(300))? else { break };
        if told.iter().all(|other| other.destination_port != event.destination_port) {
            told.push(event);
        }
    }
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let rows: Vec<[String; 4]> = told
        .iter()
        .map(|event| {
            let port = event.destination_port.unwrap_or_default();
            let to = format!("{} {port}", text(&event.protocol));
            let from = format!("{} > {}", text(&event.source), text(&event.destination));
            [format!("{} {}", event.action, event.reason), to, from, report::short(&text(&event.service))]
        })
        .collect();
    report.table(["", "to", "packet", "service"], &rows);
    let sip = |event: &Event| {
        event.destination_port == Some(5061)
            && event.service.as_deref().is_some_and(|name| name.contains("SIP"))
    };
    report.check(told.iter().any(sip), "a dropped call to 5061 is told with its service, SIP");
    report.check(told.iter().all(|event| event.reason == "closed"), "each has its reason");
    Ok(())
}

/// The names of the interfaces where the demonstration was started.
fn interface_names() -> Result<Vec<String>> {
    let interfaces = if_nameindex().context("listing the interfaces")?;
    Ok(interfaces.iter().map(|interface| interface.name().to_string_lossy().into_owned()).collect())
}
