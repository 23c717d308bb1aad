//! The data path against a real kernel: a private BPF file system, interfaces in namespaces of their own.

mod features;
mod links;
mod maps;
mod start;
mod switch;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lyncwall_common::abi::{
    AllowTable, Features, NetPort, PolicyTable, PortSet, PortTransport, SourceRecord, TARGET_BUCKETS, Target,
    TargetCode, TargetEntry, TargetTable, ZONE_NUMBERS, ZoneTargets, map,
};
use lyncwall_datapath::Datapath;
use lyncwall_policy::compile::{Compiled, ManagementTables};
use lyncwall_policy::net::Prefix;
use lyncwall_policy::problem::Problems;
use lyncwall_tests::bpffs::Bpffs;
use lyncwall_tests::netns::Pair;
use lyncwall_tests::packet::Tcp;
use lyncwall_tests::policy::open_tcp as policy;
use lyncwall_tests::run::{Action, judge};
use lyncwall_tests::traffic::FrameSocket;

/// For an answer that does not come.
const PATIENCE: Duration = Duration::from_millis(400);
/// Maps that are pinned.
const MAPS: usize = map::PINNED.len();
/// Entries of the pin directory: the maps, and a directory each for the links and for what goes out.
const PINS: usize = MAPS + 2;

fn object() -> Vec<u8> {
    lyncwall_tests::object::object().to_vec()
}

fn open(directory: &Path) -> Datapath {
    Datapath::open(&object(), directory).expect("the data path opens")
}

/// The sentence of the only problem in an error.
fn problem(error: &anyhow::Error) -> String {
    let problems =
        error.downcast_ref::<Problems>().unwrap_or_else(|| panic!("no problem of the user: {error:?}"));
    assert_eq!(problems.iter().count(), 1, "{problems}");
    problems.to_string()
}

/// These TCP ports open, and an allow rule for a TCP port and sources.
fn policy_with_allow(ports: &[u16], allowed: u16, sources: &[&str]) -> Compiled {
    let mut compiled = policy(ports);
    let mut allow = Box::new(AllowTable::EMPTY);
    allow.ports[PortTransport::Tcp as usize][NetPort::new(allowed).index()] = 1;
    allow.classes[1] = 1;
    allow.targets = [1; 16];
    allow.no_target = 1;
    allow.counters[0] = 100;
    compiled.features = Features::ALLOW;
    compiled.allow = Some(allow);
    let record = SourceRecord { rules: 1, ..SourceRecord::default() };
    compiled.sources = sources.iter().map(|source| (prefix(source), record)).collect();
    compiled
}

/// The same with its policy as that of the one target `address`; everything else is in no target.
fn with_target(mut compiled: Compiled, address: Ipv4Addr, policy: u32) -> Compiled {
    let mut table = Box::new(TargetTable {
        seed: [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f],
        entries: [TargetEntry::UNUSED; TARGET_BUCKETS],
        zones: [ZoneTargets::NONE; ZONE_NUMBERS],
    });
    let octets = address.to_ipv6_mapped().octets();
    let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|n| octets[at + n]));
    let address = [word(0), word(8)];
    let code = TargetCode::of(Target { policy, host: false, outbound: false });
    table.entries[TargetTable::bucket(table.seed, address)] =
        TargetEntry { address, zones: [code; ZONE_NUMBERS] };
    let closed = || [Box::new(PolicyTable::CLOSED), Box::new(PolicyTable::CLOSED)];
    while compiled.policies.len() <= policy as usize {
        compiled.policies.insert(0, closed());
    }
    compiled.features = compiled.features.with(Features::TARGETS);
    compiled.targets = Some(table);
    compiled
}

fn prefix(text: &str) -> Prefix {
    text.parse().expect("a prefix")
}

fn management(ports: &[u16], sources: &[&str]) -> ManagementTables {
    let mut sets = Box::new([PortSet::EMPTY; 2]);
    for port in ports {
        sets[PortTransport::Tcp as usize].insert(NetPort::new(*port));
    }
    ManagementTables { ports: sets, sources: sources.iter().map(|source| prefix(source)).collect() }
}

fn syn(port: u16) -> Vec<u8> {
    Pair::frame_v4().with(Tcp::syn(40_000, port)).build()
}

fn syn_v6(port: u16) -> Vec<u8> {
    Pair::frame_v6().with(Tcp::syn(40_000, port)).build()
}

fn passes(datapath: &Datapath, frame: &[u8]) -> bool {
    let program = datapath.program().expect("the program is loaded");
    match judge(program, frame).expect("a test run") {
        Action::Pass => true,
        Action::Drop => false,
        other => panic!("{other:?}"),
    }
}

/// Which of `ports` are open.
fn open_ports(datapath: &Datapath, ports: &[u16]) -> Vec<u16> {
    ports.iter().copied().filter(|port| passes(datapath, &syn(*port))).collect()
}

fn entries(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .expect("the directory can be listed")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn pin_dir(bpffs: &Bpffs) -> PathBuf {
    bpffs.path().join("lyncwall")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Sends a frame again and again; returns how often. What the wire has no room for counts as sent: the kernel refuses
/// it here, and counts it as dropped by the sending interface.
fn send_until(stop: &AtomicBool, sender: &FrameSocket, frame: &[u8]) -> u64 {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        sender.offer(frame).expect("a frame goes out, or the wire has no room");
        sent += 1;
    }
    sent
}
