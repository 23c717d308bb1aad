//! Knocking at the host's ports, and the servers behind them.

use std::net::{IpAddr, Ipv6Addr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use lyncwall_common::abi::PortTransport;
use lyncwall_policy::services::Services;
use lyncwall_tests::netns::Netns;
use lyncwall_tests::scene::Scene;
use lyncwall_tests::traffic::{
    Outcome, TcpEcho, UdpEcho, ping, tcp_connect, tcp_exchange, tcp_open, udp_exchange,
};

use crate::report::{Report, short};

/// For an answer that is expected. A busy machine is slow.
const PATIENT: Duration = Duration::from_secs(5);
/// For one that is not: less than the second after which TCP repeats its opening, so that a try is one packet.
const BRIEF: Duration = Duration::from_millis(400);

/// What to knock at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Door {
    kind: Kind,
    /// The port; 0 for a ping.
    pub(crate) port: u16,
    /// Whether it is open before the switch and after it.
    pub(crate) open: [bool; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Port(PortTransport),
    Ping,
}

impl Door {
    pub(crate) const fn tcp(port: u16, open: [bool; 2]) -> Self {
        Self { kind: Kind::Port(PortTransport::Tcp), port, open }
    }

    pub(crate) const fn udp(port: u16, open: [bool; 2]) -> Self {
        Self { kind: Kind::Port(PortTransport::Udp), port, open }
    }

    pub(crate) const fn ping() -> Self {
        Self { kind: Kind::Ping, port: 0, open: [true, true] }
    }

    /// `tcp` or `udp`; `None` for a ping.
    pub(crate) fn transport(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Port(transport) => Some(transport.name()),
            Kind::Ping => None,
        }
    }

    fn name(&self) -> String {
        self.transport().map_or_else(|| "ping".to_owned(), |transport| format!("{transport} {}", self.port))
    }

    fn service<'a>(&self, services: &'a Services) -> &'a str {
        match self.kind {
            Kind::Port(transport) => services.at(transport, self.port),
            Kind::Ping => "",
        }
    }

    fn knock(&self, from: &Netns, address: IpAddr, open: bool) -> Result<Outcome> {
        let patience = if open { PATIENT } else { BRIEF };
        let to = (address, self.port).into();
        match self.kind {
            Kind::Port(PortTransport::Tcp) => tcp_connect(from, to, patience),
            Kind::Port(PortTransport::Udp) => udp_exchange(from, 0, to, patience),
            Kind::Ping => ping(from, address, patience),
        }
    }
}

/// A server behind each door, open or closed: what stays silent was stopped on the way.
pub(crate) struct Servers {
    _tcp: Vec<TcpEcho>,
    _udp: Vec<UdpEcho>,
}

impl Servers {
    pub(crate) fn start(host: &Netns, doors: &[Door]) -> Result<Self> {
        let (mut tcp, mut udp) = (Vec::new(), Vec::new());
        for door in doors {
            let at = (Ipv6Addr::UNSPECIFIED, door.port);
            match door.kind {
                Kind::Port(PortTransport::Tcp) => tcp.push(TcpEcho::start(host, at)?),
                Kind::Port(PortTransport::Udp) => udp.push(UdpEcho::start(host, at)?),
                Kind::Ping => {}
            }
        }
        Ok(Self { _tcp: tcp, _udp: udp })
    }
}

/// Knocks at all doors over IPv4 and IPv6; `role` is 0 before the switch and 1 after it.
pub(crate) fn all(
    report: &mut Report,
    scene: &Scene,
    services: &Services,
    doors: &[Door],
    role: usize,
) -> Result<()> {
    let outcomes = outcomes(scene, doors, |door| door.open[role])?;
    let mut rows = Vec::new();
    for (door, outcomes) in doors.iter().zip(&outcomes) {
        let [v4, v6] = outcomes.map(word);
        let change = match (role, door.open) {
            (1, [true, false]) => "closed by the switch",
            (1, [false, true]) => "opened by the switch",
            _ => "",
        };
        rows.push([
            door.name(),
            v4.to_owned(),
            v6.to_owned(),
            short(door.service(services)),
            change.to_owned(),
        ]);
    }
    report.table(["", "IPv4", "IPv6", "service", ""], &rows);
    for (open, what) in
        [(true, "open ports answer"), (false, "closed ones are silent, and no refusal says why")]
    {
        let wanted = if open { Outcome::Answered } else { Outcome::TimedOut };
        let mut of_kind = doors.iter().zip(&outcomes).filter(|(door, _)| door.open[role] == open);
        report.check(of_kind.all(|(_, outcomes)| *outcomes == [wanted; 2]), what);
    }
    Ok(())
}

/// Knocks at all doors of a box without a firewall.
pub(crate) fn opened(report: &mut Report, scene: &Scene, doors: &[Door]) -> Result<()> {
    let outcomes = outcomes(scene, doors, |_| true)?;
    let all = outcomes.iter().flatten().all(|outcome| *outcome == Outcome::Answered);
    report.check(all, &format!("all {} doors answer, the closed ones too", doors.len()));
    Ok(())
}

/// Over IPv4 and IPv6, all at once: a closed door takes its time.
fn outcomes(scene: &Scene, doors: &[Door], open: impl Fn(&Door) -> bool) -> Result<Vec<[Outcome; 2]>> {
    let client = &scene.pair.client;
    thread::scope(|scope| {
        let tries: Vec<_> = doors
            .iter()
            .map(|door| {
                let open = open(door);
                Scene::HOST.map(|address| scope.spawn(move || door.knock(client, address, open)))
            })
            .collect();
        let mut outcomes = Vec::new();
        for [v4, v6] in tries {
            let join = |tried: thread::ScopedJoinHandle<'_, Result<Outcome>>| {
                tried.join().map_err(|_| anyhow!("a try panicked"))?
            };
            outcomes.push([join(v4)?, join(v6)?]);
        }
        Ok(outcomes)
    })
}

/// A connection to a port that both roles open.
pub(crate) fn standing(scene: &Scene) -> Result<TcpStream> {
    tcp_open(&scene.pair.client, Scene::v4(443), PATIENT)
}

pub(crate) fn still_answers(connection: &TcpStream) -> Result<bool> {
    Ok(tcp_exchange(connection, PATIENT)? == Outcome::Answered)
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Answered => "answers",
        Outcome::Refused => "refuses",
        Outcome::TimedOut => "silent",
    }
}
