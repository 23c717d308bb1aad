//! The switch under traffic: each packet is judged by the roles before or by those after, never by a mixture.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lyncwall_tests::agent::Api;
use lyncwall_tests::kernel::is_emulated;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::{Ethernet, Packet, Tcp, ip};
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::{Received, StreamReceiver, send_streams_until};

/// Roles by turns, each with the port that only it opens. The first stream is for the first.
const SIDES: [(&str, u16); 2] = [("director-vip", 5061), ("mediation", 5067)];

/// How much happens.
#[derive(Clone, Copy)]
struct Extent {
    /// Switches while packets come.
    switches: u64,
    /// Packets of both streams that are judged between two of them, at least.
    step: u64,
    /// Packets a second, at most.
    pace: u32,
}

impl Extent {
    /// An emulated machine does the same in smaller numbers.
    fn of_this_machine() -> Self {
        match is_emulated() {
            true => Self { switches: 40, step: 1_000, pace: 5_000 },
            false => Self { switches: 150, step: 12_000, pace: 200_000 },
        }
    }

    /// Packets of each stream where the machine takes an hour for what it does in a minute elsewhere.
    fn most(self) -> u64 {
        100 * self.switches * self.step
    }
}

/// An opening to the host's port. For another MAC than the host's, so that its stack has no work with a million of them;
/// the program judges them all the same, and the receiver sees those that pass.
fn opening(family: usize, port: u16) -> Packet {
    Packet::ethernet(Ethernet::new(Pair::CLIENT_MAC, [2, 0, 0, 0, 9, 9]))
        .with(ip(Scene::CLIENT[family], Scene::HOST[family]))
        .with(Tcp::syn(40_000, port))
}

/// Which side judged each packet, in the order in which they were sent and judged: that of the one wire, first to
/// last. A packet that passed was judged by its own side, one that did not by the other.
fn judges(received: &Received, each: u64) -> Vec<usize> {
    let mut passed = vec![false; 2 * each as usize];
    for (stream, numbers) in received.sequences.iter().enumerate() {
        assert!(numbers.is_sorted_by(|one, next| one < next), "stream {stream} is out of order");
        for number in numbers {
            // The sender takes turns: number 0 of each stream, number 1 of each stream, and so on.
            passed[2 * *number as usize + stream] = true;
        }
    }
    passed.into_iter().enumerate().map(|(at, passed)| if passed { at % 2 } else { 1 - at % 2 }).collect()
}

/// Packets that have been judged so far.
fn judged(api: &Api) -> u64 {
    let status = api.status().expect("a status");
    status.passed + status.dropped
}

/// Waits until so many packets have been judged.
fn wait_for_judged(api: &Api, wanted: u64) {
    let end = Instant::now() + Duration::from_secs(300);
    loop {
        let judged = judged(api);
        if judged >= wanted {
            return;
        }
        assert!(Instant::now() < end, "{judged} of {wanted} packets in five minutes");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn each_stream_changes_its_verdict_exactly_once_per_switch() {
    let extent @ Extent { switches, step, pace } = Extent::of_this_machine();
    let scene = Scene::new().expect("a scene");
    scene.pair.introduce().expect("neighbours");
    let (_agent, api) = scene.start(&Config::roles(&[SIDES[0].0]).attach("native")).expect("an agent");
    let receiver = StreamReceiver::start(&scene.pair.host, Pair::HOST_LINK, 2).expect("a receiver");
    let packets = [opening(0, SIDES[0].1), opening(1, SIDES[1].1)];
    let generation = api.status().expect("a status").generation;
    let enough = Arc::new(AtomicBool::new(false));
    let sender = thread::spawn({
        let (client, enough) = (scene.pair.client.clone(), Arc::clone(&enough));
        move || {
            let (link, most) = (Pair::CLIENT_LINK, extent.most());
            send_streams_until(&client, link, &packets, most, Some(pace), &enough)
        }
    });
    let mut latencies = Vec::new();
    for n in 1..=switches {
        // So that between any two switches, and before the first, packets of both streams are judged, however long a
        // switch takes on this machine.
        wait_for_judged(&api, judged(&api) + step);
        let start = Instant::now();
        let switched = api.switch(&[SIDES[n as usize % 2].0]).expect("a switch");
        latencies.push(start.elapsed());
        assert_eq!(switched.generation, generation + n);
    }
    wait_for_judged(&api, judged(&api) + step);
    enough.store(true, Ordering::Release);
    let sent = sender.join().expect("a sender that does not panic").expect("two streams");
    let received = receiver.finish().expect("the numbers");
    let each = sent.frames / 2;

    // Whatever is missing now, the firewall has dropped.
    let dropped_by_wire = scene.pair.client.statistics(Pair::CLIENT_LINK).expect("counts").tx_dropped;
    assert_eq!((sent.frames, received.lost, dropped_by_wire), (2 * each, 0, sent.retries));

    // As each packet tells which side judged it, this is the whole of the promise: were both ports open for a moment,
    // or both closed, or one changed before the other, the judge would change more often than the switches say.
    let judges = judges(&received, each);
    assert_eq!(judges[0], 0);
    let changes: Vec<usize> = (1..judges.len()).filter(|at| judges[*at] != judges[*at - 1]).collect();
    let first = &changes[..changes.len().min(20)];
    assert_eq!(changes.len() as u64, switches, "the judge changed at {first:?}, and so on");
    // Each block holds packets of both streams: each changed its verdict at each switch.
    assert!(changes.windows(2).all(|pair| pair[1] - pair[0] >= 2), "{changes:?}");

    let counters = api.counters().expect("counters");
    let [first, second] = [0, 1].map(|stream| received.sequences[stream].len() as u64);
    assert_eq!(counters.of("allowed", "pass"), first + second);
    assert_eq!(counters.of("closed", "drop"), 2 * each - first - second);
    // Beside the streams there is what the client's stack says by itself, as the multicast groups that it is in.
    let own = ["allowed", "closed", "non-ip", "neighbour", "multicast-control"];
    let strange = counters.0.reasons.iter().find(|count| !own.contains(&count.reason.as_str()));
    assert_eq!(strange, None, "none of the packets was counted as something else");
    assert_eq!(
        (counters.port("tcp", SIDES[0].1), counters.port("tcp", SIDES[1].1)),
        (each - first, each - second)
    );
    // The rules of the side that does not judge are not listed.
    api.switch(&[SIDES[0].0]).expect("a switch");
    assert_eq!(api.counters().expect("counters").rule("tcp", "5061"), first);
    api.switch(&[SIDES[1].0]).expect("a switch");
    assert_eq!(api.counters().expect("counters").rule("tcp", "5067"), second);
    println!(
        "{switches} switches in {} packets at {:.0} a second: {first} and {second} passed; {}",
        sent.frames,
        sent.frames as f64 / sent.duration.as_secs_f64(),
        summary(latencies)
    );
}

#[test]
fn how_long_a_switch_takes_from_request_to_answer() {
    let scene = Scene::new().expect("a scene");
    let (_agent, api) = scene.start(&Config::roles(&[SIDES[0].0])).expect("an agent");
    for (what, pause) in [("at rest", Duration::from_millis(40)), ("one after the other", Duration::ZERO)] {
        let (mut latencies, mut inside) = (Vec::new(), Vec::new());
        for n in 1..=120 {
            thread::sleep(pause);
            let start = Instant::now();
            let switched = api.switch(&[SIDES[n % 2].0]).expect("a switch");
            latencies.push(start.elapsed());
            inside.push(Duration::from_micros(switched.micros));
            assert!(!switched.opened.is_empty() && !switched.closed.is_empty());
        }
        println!("{what}: {}; in the agent {}", summary(latencies), summary(inside));
    }
    assert_eq!(api.status().expect("a status").generation, 241);
}

/// The spread of some durations.
fn summary(mut durations: Vec<Duration>) -> String {
    durations.sort();
    let at = |part: f64| durations[((durations.len() - 1) as f64 * part) as usize];
    format!("median {:.1?}, 99 % within {:.1?}, from {:.1?} to {:.1?}", at(0.5), at(0.99), at(0.0), at(1.0))
}
