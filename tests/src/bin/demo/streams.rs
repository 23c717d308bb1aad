//! The switch in the midst of numbered packets: which is the last that the old role let in.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use lyncwall_api::PortChange;
use lyncwall_tests::agent::Api;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Ethernet, Packet, Tcp, ip};
use lyncwall_tests::scene::Scene;
use lyncwall_tests::traffic::{StreamReceiver, send_streams};

use crate::report::{Report, grouped};

/// Packets of each stream.
const EACH: u64 = 60_000;
/// Packets of both streams in a second.
const PACE: u32 = 60_000;
/// The ports of the streams: one that both roles open, one that only the first does.
const PORTS: [u16; 2] = [443, 5061];

/// Sends both streams, and switches when about half of them is through.
pub(crate) fn switch(report: &mut Report, scene: &Scene, api: &Api, role: &str) -> Result<()> {
    // For another MAC than the host's: the program judges them all the same, and no server has to take 60,000 calls.
    let opening = |port| {
        Packet::ethernet(Ethernet::new(Pair::CLIENT_MAC, [2, 0, 0, 0, 9, 9]))
            .with(ip(Scene::CLIENT[0], Scene::HOST[0]))
            .with(Tcp::syn(40_000, port))
    };
    let packets = PORTS.map(opening);
    let before = api.counters()?;
    let receiver = StreamReceiver::start(&scene.pair.host, Pair::HOST_LINK, packets.len())?;
    let client = scene.pair.client.clone();
    let sender = thread::spawn(move || send_streams(&client, Pair::CLIENT_LINK, &packets, EACH, Some(PACE)));
    let half = Duration::from_secs_f64(EACH as f64 / f64::from(PACE));
    thread::sleep(half);
    let start = Instant::now();
    let switched = api.switch(&[role])?;
    let took = start.elapsed();
    ensure!(!sender.is_finished(), "the machine is too busy: the packets were through before the switch");
    let sent = sender.join().map_err(|_| anyhow!("the sender panicked"))??;
    let received = receiver.finish()?;
    let [open, cut] = received.sequences.as_slice() else { anyhow::bail!("two streams were sent") };
    let after = api.counters()?;

    report.line(&format!("closed: {}", list(&switched.closed)));
    report.line(&format!("opened: {}", list(&switched.opened)));
    report.line(&format!(
        "answered in {:.1} ms, {:.1} ms of it in the agent; generation {} judges",
        took.as_secs_f64() * 1e3,
        switched.micros as f64 / 1e3,
        switched.generation
    ));
    let last = cut.last().context("packets to 5061 passed before the switch")?;
    let rows = [
        [
            format!("tcp {}", PORTS[0]),
            grouped(EACH),
            grouped(open.len() as u64),
            "all: open before and after".to_owned(),
        ],
        [
            format!("tcp {}", PORTS[1]),
            grouped(EACH),
            grouped(cut.len() as u64),
            format!("all up to number {}, and none from there on", grouped(*last)),
        ],
    ];
    report.table(["", "sent", "passed", ""], &rows);

    report.check(sent.frames == 2 * EACH && received.lost == 0, "no packet was lost on the way");
    report.check(open.iter().copied().eq(0..EACH), "443 let every packet in, in order, through the switch");
    report.check(
        cut.iter().copied().eq(0..cut.len() as u64) && (cut.len() as u64) < EACH,
        "5061 closed once, between one packet and the next",
    );
    let dropped = after.port("tcp", PORTS[1]) - before.port("tcp", PORTS[1]);
    report.check(
        dropped == EACH - cut.len() as u64,
        &format!("the agent counts {} drops on 5061", grouped(dropped)),
    );
    Ok(())
}

fn list(changes: &[PortChange]) -> String {
    let ports = changes.iter().map(|change| {
        let last = if change.first == change.last { String::new() } else { format!("-{}", change.last) };
        format!("{} {}{last}", change.transport, change.first)
    });
    let ports: Vec<String> = ports.collect();
    if ports.is_empty() { "nothing".to_owned() } else { ports.join(", ") }
}
