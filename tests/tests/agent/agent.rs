//! The agent's life: what its starts find, what its end leaves, what a reload changes, and what it refuses.

mod boot;
mod ends;
mod machine;
mod refusals;
mod reload;
mod restart;
mod state;
mod unguarded;
mod unheard;

use std::cell::Cell;

use lyncwall_tests::agent::{Api, Finished};
use lyncwall_tests::expect::{BRIEF, PATIENT};
use lyncwall_tests::netns::{End, Pair, veth};
use lyncwall_tests::packet::{Ethernet, Packet, Payload, Tcp, ether_type, ip};
use lyncwall_tests::scene::Scene;
use lyncwall_tests::traffic::{FrameSocket, eventually};

/// Openings of TCP to ports of the host, by their frames, each judged at once: no server, no repetition.
struct Openings {
    sender: FrameSocket,
    receiver: FrameSocket,
    /// How many were tried.
    tries: Cell<u32>,
}

impl Openings {
    fn on(pair: &Pair) -> Self {
        Self {
            sender: FrameSocket::open(&pair.client, Pair::CLIENT_LINK).expect("a socket"),
            receiver: FrameSocket::open(&pair.host, Pair::HOST_LINK).expect("a socket"),
            tries: Cell::new(0),
        }
    }

    /// Which of these ports let one in. Leaves no trace in the host's stack: the frames are for another MAC.
    fn open(&self, ports: &[u16]) -> Vec<u16> {
        ports.iter().copied().filter(|port| self.passes(*port)).collect()
    }

    fn passes(&self, port: u16) -> bool {
        let stranger = || Packet::ethernet(Ethernet::new(Pair::CLIENT_MAC, [2, 0, 0, 0, 9, 9]));
        let opening =
            stranger().with(ip(Scene::CLIENT[0], Scene::HOST[0])).with(Tcp::syn(40_000, port)).build();
        // No policy drops what carries no IP: once it is there, the wire has been as slow as it gets.
        let number = self.tries.replace(self.tries.get() + 1).to_be_bytes();
        let payload = Payload::of_ether_type(ether_type::EXPERIMENT, [&number[..], &[0; 42]].concat());
        let behind = stranger().with(payload).build();
        for frame in [&opening, &behind] {
            self.sender.send(frame).expect("a frame to send");
        }
        let first = self.receiver.receive(PATIENT, |seen| seen == opening || seen == behind);
        let first = first.expect("a socket").expect("what carries no IP passes");
        // They may have gone by different queues.
        first == opening || self.receiver.receive(BRIEF, |seen| seen == opening).expect("a socket").is_some()
    }
}

/// A second wire beside that of the pair.
fn second_wire(pair: &Pair) {
    veth(
        End { namespace: &pair.client, name: "client1", mac: [2, 0, 0, 0, 0x20, 1] },
        End { namespace: &pair.host, name: "host1", mac: [2, 0, 0, 0, 0x20, 2] },
    )
    .expect("a second wire");
}

/// The interfaces that the agent says it enforces on, sorted.
fn interfaces(api: &Api) -> Vec<String> {
    let all = api.status().expect("a status").interfaces;
    let guarded = all.into_iter().filter(|interface| interface.mode != "UNGUARDED");
    let mut names: Vec<String> = guarded.map(|interface| interface.name).collect();
    names.sort();
    names
}

/// A start or command that the user has to mend: exit code 1, and each of these in what it says.
#[track_caller]
fn expect_refused(finished: &Finished, said: &[&str]) {
    assert_eq!(finished.code, Some(1), "{finished:?}");
    for text in said {
        assert!(finished.stderr.contains(text), "no {text:?} in {finished:?}");
    }
}

/// Waits until the agent judges by a generation beyond this one.
#[track_caller]
fn expect_generation_after(api: &Api, number: u64) -> u64 {
    let generation = || api.status().expect("a status").generation;
    assert!(eventually(PATIENT, || generation() > number), "still generation {number}");
    generation()
}
