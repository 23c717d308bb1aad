//! The data path against a real kernel: a private BPF file system, interfaces in namespaces of their own.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::{Result, bail};
use aya::maps::{MapData, PerCpuArray};
use lyncwall::datapath::{Attach, Datapath, Mode};
use lyncwall::net::Prefix;
use lyncwall::policy::{Compiled, ManagementTables};
use lyncwall::problem::Problems;
use lyncwall_common::abi::{
    AllowTable, Class, Features, Generation, NO_COUNTER, NO_POLICY, NetPort, PolicyTable, PortSet,
    PortTransport, TARGET_BUCKETS, TargetEntry, TargetTable, map,
};
use lyncwall_common::reason::{Action as Verdict, Reason};
use lyncwall_tests::bpffs::Bpffs;
use lyncwall_tests::netns::{End, Netns, Pair, veth};
use lyncwall_tests::packet::{Tcp, Udp};
use lyncwall_tests::prerequisites::require_root;
use lyncwall_tests::run::{Action, judge};
use lyncwall_tests::traffic::{FrameSocket, Outcome, TcpEcho, eventually, tcp_connect};
use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::link::{LinkAttribute, LinkXdp};
use tokio_stream::StreamExt as _;

const PATIENCE: Duration = Duration::from_millis(400);

fn object() -> Vec<u8> {
    let path = env::var_os("LYNCWALL_BPF_OBJECT").expect("LYNCWALL_BPF_OBJECT names the built BPF object");
    fs::read(&path).expect("the built BPF object can be read")
}

/// The object with programs that no verifier takes: their first instructions are none.
fn broken_object() -> Vec<u8> {
    let mut bytes = object();
    let parsed = aya_obj::Object::parse(&bytes).expect("the object can be parsed");
    for function in parsed.functions.values() {
        let beginning: Vec<u8> = function.instructions[..8]
            .iter()
            .flat_map(|instruction| {
                let registers = instruction._bitfield_1.get(0, 8) as u8;
                let [off, imm] =
                    [instruction.off.to_ne_bytes().to_vec(), instruction.imm.to_ne_bytes().to_vec()];
                [vec![instruction.code, registers], off, imm].concat()
            })
            .collect();
        let at = bytes.windows(beginning.len()).position(|window| window == beginning);
        bytes[at.expect("the program lies in the object")] = 0xff;
    }
    bytes
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

/// A policy for every destination that has these TCP ports open, each with a rule counter of its number.
fn policy(ports: &[u16]) -> Compiled {
    let mut tcp = Box::new(PolicyTable::CLOSED);
    for (class, port) in (1..).zip(ports) {
        tcp.ports[NetPort::new(*port).index()] = class;
        tcp.classes[usize::from(class)] = Class { counter: u32::from(class) - 1, groups: 0 };
    }
    Compiled {
        features: Features::default(),
        generation: Generation::EMPTY,
        targets: None,
        policies: vec![[tcp, Box::new(PolicyTable::CLOSED)]],
        allow: None,
        allow_sources: Vec::new(),
        management: management(&[], &[]),
    }
}

/// The same with an allow rule for a TCP port and sources.
fn policy_with_allow(ports: &[u16], allowed: u16, sources: &[&str]) -> Compiled {
    let mut compiled = policy(ports);
    let mut allow = Box::new(AllowTable::EMPTY);
    allow.ports[PortTransport::Tcp as usize][NetPort::new(allowed).index()] = 1;
    allow.classes[1] = 1;
    allow.targets = [1; 16];
    allow.no_target = 1;
    allow.counters[0] = NO_COUNTER;
    compiled.features = Features::ALLOW;
    compiled.allow = Some(allow);
    compiled.allow_sources = sources.iter().map(|source| (prefix(source), 1)).collect();
    compiled
}

/// The same with its policy as that of the one target `address`; everything else is in no target.
fn with_target(mut compiled: Compiled, address: Ipv4Addr, policy: u32) -> Compiled {
    let mut table = Box::new(TargetTable {
        seed: [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f],
        entries: [TargetEntry { address: [0; 2], policy: 0, used: 0 }; TARGET_BUCKETS],
        host: NO_POLICY,
        reserved: 0,
    });
    let octets = address.to_ipv6_mapped().octets();
    let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|n| octets[at + n]));
    let address = [word(0), word(8)];
    table.entries[TargetTable::bucket(table.seed, address)] = TargetEntry { address, policy, used: 1 };
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

/// The XDP program on an interface.
fn program_on(namespace: &Netns, interface: &str) -> Option<u32> {
    let index = namespace.index(interface).expect("the interface is there");
    let attributes = netlink(namespace, async |handle| {
        let mut links = handle.link().get().match_index(index).execute();
        Ok(links.next().await.expect("an answer")?.attributes)
    });
    attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => xdp.into_iter().find_map(|xdp| match xdp {
            LinkXdp::ProgId(id) if id != 0 => Some(id),
            _ => None,
        }),
        _ => None,
    })
}

fn netlink<T: Send>(
    namespace: &Netns,
    work: impl AsyncFnOnce(rtnetlink::Handle) -> Result<T, rtnetlink::Error> + Send,
) -> T {
    namespace.run(|| {
        runtime().block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().expect("a netlink socket");
            let connection = tokio::spawn(connection);
            let result = work(handle).await.expect("the kernel agrees");
            connection.abort();
            result
        })
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn a_first_start_pins_everything_and_judges() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    let start = Instant::now();
    let mut datapath = open(&directory);
    let opened = start.elapsed();
    let start = Instant::now();
    assert_eq!(datapath.install(&policy(&[443])).expect("a generation"), 1);
    let installed = start.elapsed();
    assert_eq!(open_ports(&datapath, &[80, 443, 444]), [443]);
    let status = datapath.status().expect("a status");
    let start = Instant::now();
    datapath.retire();
    let retired = start.elapsed();
    println!(
        "open {opened:?}, of it loading {:?}; install {installed:?}; retire {retired:?}",
        status.load_time
    );
    println!("{status:?}");
    assert_eq!(status.program, "ingress_frags");
    assert!(status.interfaces.is_empty() && status.id != 0 && status.map_memory > 1_000_000);
    // The kernel gives up at a million.
    assert!(status.verified_instructions.is_some_and(|count| count < 500_000), "{status:?}");
    assert_eq!(entries(&directory).len(), 16, "15 maps and the links");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(&directory).expect("the directory is there").permissions(),
    );
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(datapath.load_state().expect("the state can be read"), None);
}

#[test]
fn a_second_agent_is_refused_until_the_first_is_gone() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    let first = open(&directory);
    let error = Datapath::open(&object(), &directory).err().expect("the directory is locked");
    assert!(problem(&error).contains("another lyncwall agent uses"), "{error}");
    let error = Datapath::detach(&directory).expect_err("the directory is locked");
    assert!(problem(&error).contains("another lyncwall agent uses"), "{error}");
    assert_eq!(entries(&directory).len(), 16);
    drop(first);
    open(&directory);
}

#[test]
fn no_bpf_file_system_is_a_problem_with_its_fix() {
    require_root();
    let error = Datapath::open(&object(), Path::new("/tmp/lyncwall-pins")).err().expect("no bpffs there");
    assert!(problem(&error).contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
    assert!(!Path::new("/tmp/lyncwall-pins").exists());
    let error = Datapath::detach(&env::temp_dir()).expect_err("nothing of ours can be there");
    assert!(problem(&error).contains("does not lie on a BPF file system"), "{error}");
}

#[test]
fn a_failed_first_start_leaves_no_pins() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let broken = broken_object();
    let error = Datapath::open(&broken, &pin_dir(&bpffs)).err().expect("the verifier refuses");
    let text = format!("{error:#}");
    assert!(
        text.contains("ingress: ") && text.contains("ingress_frags: ") && text.contains("unknown opcode"),
        "{text}"
    );
    assert!(!pin_dir(&bpffs).exists());

    // Over the maps of an agent that ran, it takes nothing away.
    let mut datapath = open(&pin_dir(&bpffs));
    datapath.install(&policy(&[443])).expect("a generation");
    drop(datapath);
    Datapath::open(&broken, &pin_dir(&bpffs)).err().expect("the verifier refuses");
    assert_eq!(entries(&pin_dir(&bpffs)).len(), 16);
    assert_eq!(open_ports(&open(&pin_dir(&bpffs)), &[442, 443]), [443]);
}

#[test]
fn the_rest_of_a_start_that_was_cut_short_is_replaced() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    drop(open(&directory));
    // As if the agent was killed before it wrote its version.
    fs::remove_file(directory.join(map::STATE)).expect("a pin to remove");
    let mut datapath = open(&directory);
    assert_eq!(entries(&directory).len(), 16);
    assert_eq!(datapath.install(&policy(&[443])).expect("a generation"), 1);
}

#[test]
fn pinned_maps_of_another_shape_are_refused() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    drop(open(&directory));
    let pin = directory.join(map::CPU);
    fs::remove_file(&pin).expect("a pin to remove");
    let other = aya_obj::Map::new_from_params(
        aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY as u32,
        4,
        16,
        7,
        0,
    );
    let other = MapData::create(other, "CPU", None).expect("a map");
    other.pin(&pin).expect("a pin");
    let error = Datapath::open(&object(), &directory).err().expect("another shape");
    let problems = error.downcast_ref::<Problems>().expect("problems of the user");
    let text = problems.to_string();
    assert_eq!(problems.iter().count(), 2, "{text}");
    assert!(
        text.contains("the map CPU") && text.contains("value size 16") && text.contains("lyncwall detach")
    );
    assert!(text.contains("maximum of entries 7, and this lyncwall needs 1"), "{text}");
    let kept: PerCpuArray<_, u128> =
        aya::maps::Map::PerCpuArray(MapData::from_pin(&pin).expect("the pin is there"))
            .try_into()
            .expect("its type");
    assert_eq!(kept.len(), 7);
}

#[test]
fn pinned_maps_of_another_version_are_refused() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    drop(open(&directory));
    edit_state(&directory, |elements| {
        for copy in [0, 32] {
            elements(copy, &mut |element| element[8] = 77);
        }
    });
    let error = Datapath::open(&object(), &directory).err().expect("another version");
    let text = problem(&error);
    assert!(
        text.contains("version 77") && text.contains("has version 1") && text.contains("lyncwall detach"),
        "{text}"
    );
    assert_eq!(Datapath::detach(&directory).expect("the fix works").maps.len(), 15);
    open(&directory);
}

type Edit<'a> = &'a mut dyn FnMut(&mut [u8; 32768]);

/// Changes elements of the pinned state in place.
fn edit_state(directory: &Path, edit: impl FnOnce(&mut dyn FnMut(u32, Edit<'_>))) {
    let map = MapData::from_pin(directory.join(map::STATE)).expect("the pin is there");
    let mut map: aya::maps::Array<_, [u8; 32768]> = aya::maps::Map::Array(map).try_into().expect("an array");
    edit(&mut |number, change| {
        let mut element = map.get(&number, 0).expect("an element");
        change(&mut element);
        map.set(number, element, 0).expect("an element");
    });
}

#[test]
fn the_state_survives_the_agent_and_a_torn_write() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    let mut datapath = open(&directory);
    let older: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    let newer = vec![9; 70_000];
    datapath.store_state(&older).expect("it fits");
    datapath.store_state(&newer).expect("it fits");
    assert_eq!(datapath.load_state().expect("readable"), Some(newer.clone()));
    datapath.store_state(&vec![0; 1 << 20]).expect_err("a header is needed as well");
    drop(datapath);
    let datapath = open(&directory);
    assert_eq!(datapath.load_state().expect("readable"), Some(newer));
    drop(datapath);
    // The third store went to the second half of the map: tear its last element.
    edit_state(&directory, |elements| elements(32 + 2, &mut |element| element[0] ^= 1));
    let mut datapath = open(&directory);
    assert_eq!(datapath.load_state().expect("readable"), Some(older));
    datapath.store_state(b"again").expect("it fits");
    assert_eq!(datapath.load_state().expect("readable"), Some(b"again".to_vec()));
}

#[test]
fn a_generation_replaces_the_one_before_at_once() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let mut datapath = open(&pin_dir(&bpffs));
    let ports = [1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007];
    for (number, port) in (1..).zip(ports) {
        assert_eq!(datapath.install(&policy(&[port])).expect("a generation"), number);
        assert_eq!(open_ports(&datapath, &ports), [port]);
        let live = datapath.live().expect("a live generation");
        assert_eq!((live.number, live.audit, live.deadline), (number, false, 0));
        if number % 2 == 0 {
            datapath.retire();
        }
    }
    let mut audit = policy(&[]);
    audit.features = Features::AUDIT;
    datapath.install(&audit).expect("a generation");
    assert_eq!(open_ports(&datapath, &ports), ports);
    assert!(datapath.live().expect("a live generation").audit);
}

#[test]
fn sources_of_allow_rules_go_with_their_generation() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    let mut datapath = open(&directory);
    // Three slots: each is used, and then used again.
    for round in 0..4 {
        // Twice the same does no harm.
        let mine = policy_with_allow(&[], 2000, &["192.0.2.0/24", "2001:db8::1", "192.0.2.0/24"]);
        datapath.install(&mine).expect("a generation");
        assert!(passes(&datapath, &syn(2000)) && passes(&datapath, &syn_v6(2000)), "round {round}");
        let other = policy_with_allow(&[], 2000, &["198.51.100.0/24"]);
        datapath.install(&other).expect("a generation");
        assert!(!passes(&datapath, &syn(2000)) && !passes(&datapath, &syn_v6(2000)), "round {round}");
        if round == 1 {
            // The next agent finds the sources that this one wrote.
            drop(datapath);
            datapath = open(&directory);
            assert!(!passes(&datapath, &syn(2000)));
        }
    }
}

#[test]
fn a_fault_after_any_write_leaves_the_old_generation_judging() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    let mut datapath = open(&directory);
    let ports = [443, 5061, 2000, 2001];
    let old = policy_with_allow(&[443], 2000, &["192.0.2.0/24", "2001:db8::/32"]);
    let old = with_target(old, Pair::HOST_V4, 1);
    let new = policy_with_allow(&[5061], 2001, &["192.0.2.1", "203.0.113.0/24", "2001:db8::1"]);
    let new = with_target(new, Pair::HOST_V4, 0);
    // A slot that held something else before has sources to remove as well.
    for compiled in [&new, &old, &new, &old] {
        datapath.install(compiled).expect("a generation");
    }
    let number = datapath.live().expect("a live generation").number;
    assert_eq!(open_ports(&datapath, &ports), [443, 2000]);

    let mut written = Vec::new();
    for fault in 0.. {
        let count = Cell::new(0);
        let names = &mut written;
        let result = datapath.install_observed(&new, &mut |name| {
            if count.replace(count.get() + 1) == fault {
                names.push(name);
                bail!("as expected");
            }
            Ok(())
        });
        let Err(error) = result else { break };
        assert!(format!("{error:#}").contains("as expected"), "{error:#}");
        assert_eq!(open_ports(&datapath, &ports), [443, 2000], "after write {fault}");
        assert!(passes(&datapath, &syn_v6(2000)) && !passes(&datapath, &syn_v6(2001)));
        assert_eq!(datapath.live().expect("a live generation").number, number);
        if fault == 3 {
            // Killed there, the next agent takes over what was left.
            drop(datapath);
            datapath = open(&directory);
            assert_eq!(open_ports(&datapath, &ports), [443, 2000]);
        }
    }
    assert_eq!(open_ports(&datapath, &ports), [5061, 2001]);
    let scoped = [map::TARGETS, map::POLICIES, map::ALLOW, map::ALLOW_SOURCES_V4, map::ALLOW_SOURCES_V6];
    for name in scoped.into_iter().chain([map::GENERATIONS]) {
        assert!(written.contains(&name), "no fault after a write to {name}: {written:?}");
    }
}

#[test]
fn what_the_program_could_not_judge_by_is_refused() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let mut datapath = open(&pin_dir(&bpffs));
    datapath.install(&policy(&[443])).expect("a generation");
    let mut without_policy = policy(&[]);
    without_policy.policies.clear();
    datapath.install(&without_policy).expect_err("no policy for host");
    let mut unknown_policy = with_target(policy(&[]), Pair::HOST_V4, 0);
    unknown_policy.policies.clear();
    datapath.install(&unknown_policy).expect_err("a target without its policy");
    let mut without_table = policy(&[]);
    without_table.features = Features::ALLOW;
    datapath.install(&without_table).expect_err("no table of rules");
    assert_eq!(open_ports(&datapath, &[443]), [443]);
}

#[test]
fn management_is_edited_without_a_cut() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let mut datapath = open(&pin_dir(&bpffs));
    datapath.install(&policy(&[443])).expect("a generation");
    assert!(!passes(&datapath, &syn(22)));
    datapath.set_management(&management(&[22], &["192.0.2.0/24", "2001:db8::/64"])).expect("an edit");
    assert!(passes(&datapath, &syn(22)) && passes(&datapath, &syn_v6(22)) && !passes(&datapath, &syn(23)));
    datapath.install(&policy(&[444])).expect("a generation");
    assert!(passes(&datapath, &syn(22)), "no switch touches it");
    datapath.set_management(&management(&[23], &["192.0.2.1"])).expect("an edit");
    assert!(!passes(&datapath, &syn(22)) && passes(&datapath, &syn(23)) && !passes(&datapath, &syn_v6(23)));
    datapath.set_management(&management(&[], &[])).expect("an edit");
    assert!(!passes(&datapath, &syn(23)));

    // While the tables change around it, an access that both have never ends.
    let one = management(&[22, 23], &["192.0.2.0/24", "10.0.0.0/8"]);
    let other = management(&[22, 80], &["192.0.2.1", "172.16.0.0/12"]);
    datapath.set_management(&one).expect("an edit");
    let pair = Pair::new().expect("a pair");
    pair.introduce().expect("neighbours");
    pair.host.run(|| datapath.attach(Pair::HOST_LINK, Attach::Native)).expect("a link");
    let before = datapath.counters().expect("counters");
    let sender = FrameSocket::open(&pair.client, Pair::CLIENT_LINK).expect("a packet socket");
    let stop = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let frame = syn(22);
            let mut sent = 0u64;
            while !stop.load(Ordering::Relaxed) {
                sender.send(&frame).expect("a frame goes out");
                sent += 1;
            }
            sent
        });
        for _ in 0..500 {
            datapath.set_management(&other).expect("an edit");
            datapath.set_management(&one).expect("an edit");
        }
        stop.store(true, Ordering::Relaxed);
        sending.join().expect("the sender ends")
    });
    let since = |reason, action| {
        let after = datapath.counters().expect("counters");
        after.of(reason, action) - before.of(reason, action)
    };
    assert!(sent > 1000, "only {sent} frames");
    assert_eq!(since(Reason::Closed, Verdict::Drop), 0, "of {sent}");
    assert!(eventually(PATIENCE, || since(Reason::Management, Verdict::Pass) > sent / 2), "of {sent}");
}

#[test]
fn counters_are_sums_over_the_cpus() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    let mut datapath = open(&directory);
    assert!(datapath.counters().expect("counters").rules.is_empty());
    datapath.install(&policy(&[80, 443])).expect("a generation");
    let judge_on = |cpu: usize, frame: &[u8]| {
        let mut set = nix::sched::CpuSet::new();
        set.set(cpu).expect("a CPU number");
        nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set).expect("the CPU is there");
        passes(&datapath, frame)
    };
    let cpus = aya::util::online_cpus().expect("a list of CPUs");
    for cpu in &cpus {
        for _ in 0..3 {
            judge_on(*cpu as usize, &syn(443));
        }
        judge_on(*cpu as usize, &syn(8443));
        judge_on(*cpu as usize, &Pair::frame_v4().with(Udp::new(9, 1)).build());
    }
    let each = cpus.len() as u64;
    let counters = datapath.counters().expect("counters");
    assert_eq!(counters.of(Reason::Allowed, Verdict::Pass), 3 * each);
    assert_eq!(counters.of(Reason::Closed, Verdict::Drop), 2 * each);
    assert_eq!(counters.of(Reason::Closed, Verdict::Pass), 0);
    assert_eq!(counters.rules, [0, 3 * each]);
    assert_eq!(counters.reasons.iter().map(|(_, _, count)| count).sum::<u64>(), 5 * each);
    let expected = [(PortTransport::Tcp, 8443, each), (PortTransport::Udp, 1, each)];
    assert_eq!(datapath.port_drops().expect("drops"), expected);
    assert_eq!((counters.events_lost, counters.fragments_lost), (0, 0));

    let start = Instant::now();
    datapath.counters().expect("counters");
    let read = start.elapsed();
    let start = Instant::now();
    datapath.port_drops().expect("drops");
    println!("counters {read:?}, port drops {:?}", start.elapsed());

    // They survive switches and agents.
    datapath.install(&policy(&[80])).expect("a generation");
    drop(datapath);
    assert_eq!(open(&directory).counters().expect("counters"), counters);
}

#[test]
fn drops_come_as_events_to_one_reader() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let mut datapath = open(&pin_dir(&bpffs));
    datapath.install(&policy(&[443])).expect("a generation");
    assert!(!passes(&datapath, &syn(8443)));
    runtime().block_on(async {
        let mut events = datapath.events().expect("the first reader");
        datapath.events().err().expect("there is one reader");
        let event = events.next().await.expect("a stream").expect("an event");
        assert_eq!(event.length as usize, syn(8443).len());
        assert_eq!((event.reason, event.action), (Reason::Closed as u8, Verdict::Drop as u8));
        let none = tokio::time::timeout(Duration::from_millis(20), events.next()).await;
        none.expect_err("nothing was dropped since");
        // What comes later wakes the reader up.
        for size in [100, 200] {
            let frame = Pair::frame_v4().with(Udp::new(9, 1)).with(vec![0; size]).build();
            assert!(!passes(&datapath, &frame));
            let woken = tokio::time::timeout(Duration::from_secs(2), events.next()).await;
            let event = woken.expect("in time").expect("a stream").expect("an event");
            assert_eq!(event.length as usize, frame.len());
        }
        assert_eq!(events.unreadable(), 0);
    });
}

#[test]
fn enforcement_outlives_the_agent_and_the_next_one_adopts_it() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    let pair = Pair::new().expect("a pair");
    let servers: Vec<_> = [443, 8443]
        .map(|port| TcpEcho::start(&pair.host, (IpAddr::from(Pair::HOST_V4), port)).expect("a server"))
        .into();
    let outcome = |port: u16| {
        tcp_connect(&pair.client, (IpAddr::from(Pair::HOST_V4), port).into(), PATIENCE).expect("a try")
    };
    assert_eq!((outcome(443), outcome(8443)), (Outcome::Answered, Outcome::Answered));

    let mut datapath = open(&directory);
    datapath.install(&policy(&[443])).expect("a generation");
    let attached = pair.host.run(|| datapath.attach(Pair::HOST_LINK, Attach::Auto)).expect("a link");
    assert_eq!((attached.mode, attached.replaced, attached.native_refused), (Mode::Native, false, None));
    assert_eq!(attached.ifindex, pair.host.index(Pair::HOST_LINK).expect("an index"));
    assert_eq!((outcome(443), outcome(8443)), (Outcome::Answered, Outcome::TimedOut));
    let first = datapath.status().expect("a status").id;
    assert_eq!(program_on(&pair.host, Pair::HOST_LINK), Some(first));

    drop(datapath);
    assert_eq!((outcome(443), outcome(8443)), (Outcome::Answered, Outcome::TimedOut));
    assert_eq!(program_on(&pair.host, Pair::HOST_LINK), Some(first));

    let mut datapath = open(&directory);
    assert_eq!(datapath.live().expect("a generation").number, 1);
    let drops = datapath.counters().expect("counters").of(Reason::Closed, Verdict::Drop);
    assert!(drops >= 2, "{drops}");
    let attached = pair.host.run(|| datapath.attach(Pair::HOST_LINK, Attach::Auto)).expect("the link");
    assert!(attached.replaced && attached.mode == Mode::Native);
    let second = datapath.status().expect("a status").id;
    assert!(second != first);
    assert_eq!(program_on(&pair.host, Pair::HOST_LINK), Some(second));
    let interfaces = pair.host.run(|| datapath.status()).expect("a status").interfaces;
    assert_eq!(
        interfaces.iter().map(|one| (one.interface.as_str(), one.mode)).collect::<Vec<_>>(),
        [(Pair::HOST_LINK, Mode::Native)]
    );
    assert_eq!((outcome(443), outcome(8443)), (Outcome::Answered, Outcome::TimedOut));

    drop(datapath);
    let detached = pair.host.run(|| Datapath::detach(&directory)).expect("everything goes");
    assert_eq!(detached.interfaces, [Pair::HOST_LINK]);
    assert_eq!((detached.maps.len(), detached.left.len()), (15, 0));
    assert!(!pin_dir(&bpffs).exists());
    assert_eq!(program_on(&pair.host, Pair::HOST_LINK), None);
    assert_eq!((outcome(443), outcome(8443)), (Outcome::Answered, Outcome::Answered));
    assert!(Datapath::detach(&directory).expect("nothing to do").is_empty());
    drop(servers);
}

#[test]
fn no_frame_slips_by_while_the_program_is_replaced() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    let pair = Pair::new().expect("a pair");
    pair.introduce().expect("neighbours");
    let mut datapath = open(&directory);
    datapath.install(&policy(&[])).expect("a generation");
    pair.host.run(|| datapath.attach(Pair::HOST_LINK, Attach::Native)).expect("a link");
    let count =
        |datapath: &Datapath| datapath.counters().expect("counters").of(Reason::Closed, Verdict::Drop);
    let before = count(&datapath);
    let lost_before = pair.client.statistics(Pair::CLIENT_LINK).expect("counts").tx_dropped;
    let sender = FrameSocket::open(&pair.client, Pair::CLIENT_LINK).expect("a packet socket");
    let stop = AtomicBool::new(false);
    let (sent, mut datapath) = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let frame = syn(9999);
            let mut sent = 0u64;
            while !stop.load(Ordering::Relaxed) {
                sender.send(&frame).expect("a frame goes out");
                sent += 1;
            }
            sent
        });
        for _ in 0..5 {
            drop(datapath);
            datapath = open(&directory);
            let attached =
                pair.host.run(|| datapath.attach(Pair::HOST_LINK, Attach::Native)).expect("the link");
            assert!(attached.replaced);
        }
        stop.store(true, Ordering::Relaxed);
        (sending.join().expect("the sender ends"), datapath)
    });
    let lost = pair.client.statistics(Pair::CLIENT_LINK).expect("counts").tx_dropped - lost_before;
    let all = eventually(Duration::from_secs(2), || count(&datapath) - before == sent - lost);
    assert!(all, "{sent} sent, {lost} lost on the wire, {} counted", count(&datapath) - before);
    assert!(sent > 10_000, "only {sent} frames");
    datapath.retire();
}

#[test]
fn the_program_of_somebody_else_is_refused_and_left() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let pair = Pair::new().expect("a pair");
    let mut other = open(&bpffs.path().join("other"));
    let mut datapath = open(&pin_dir(&bpffs));
    // By a link.
    pair.host.run(|| other.attach(Pair::HOST_LINK, Attach::Generic)).expect("a link");
    let id = program_on(&pair.host, Pair::HOST_LINK).expect("a program");
    let error = pair.host.run(|| datapath.attach(Pair::HOST_LINK, Attach::Auto)).expect_err("it is taken");
    assert!(problem(&error).contains(&format!("XDP program {id}")), "{error}");
    assert_eq!(program_on(&pair.host, Pair::HOST_LINK), Some(id));
    assert_eq!(pair.host.run(|| other.detach_interfaces_except(&[])).expect("off"), [Pair::HOST_LINK]);
    assert_eq!(program_on(&pair.host, Pair::HOST_LINK), None);
    // By netlink.
    let index = pair.host.index(Pair::HOST_LINK).expect("an index");
    let descriptor = other.program().expect("a program").fd().expect("loaded").as_fd().as_raw_fd();
    let xdp = LinkAttribute::Xdp(vec![LinkXdp::Fd(descriptor), LinkXdp::Flags(1 << 1)]);
    let link = LinkUnspec::new_with_index(index).append_extra_attribute(xdp).build();
    netlink(&pair.host, async |handle| handle.link().set(link).execute().await);
    assert_eq!(program_on(&pair.host, Pair::HOST_LINK), Some(id));
    let error = pair.host.run(|| datapath.attach(Pair::HOST_LINK, Attach::Native)).expect_err("it is taken");
    assert!(problem(&error).contains(&format!("XDP program {id}")), "{error}");
    assert_eq!(program_on(&pair.host, Pair::HOST_LINK), Some(id));
    assert!(entries(&pin_dir(&bpffs).join("links")).is_empty());
}

#[test]
fn attaching_is_all_or_nothing() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let pair = Pair::new().expect("a pair");
    let mut datapath = open(&pin_dir(&bpffs));
    let wanted = [("nothing0", Attach::Auto), (Pair::HOST_LINK, Attach::Auto), ("nothing1", Attach::Auto)];
    let error = pair.host.run(|| datapath.attach_all(&wanted)).expect_err("two are not there");
    let text = error.downcast_ref::<Problems>().expect("problems of the user").to_string();
    assert!(
        text.contains("`nothing0`") && text.contains("`nothing1`") && text.contains(Pair::HOST_LINK),
        "{text}"
    );
    assert_eq!(text.lines().count(), 2);
    assert_eq!(program_on(&pair.host, Pair::HOST_LINK), None);

    // lo takes no native program, which shows only when it is tried: what came before is undone.
    let wanted = [(Pair::HOST_LINK, Attach::Native), ("lo", Attach::Native)];
    let error = pair.host.run(|| datapath.attach_all(&wanted)).expect_err("lo has no native mode");
    let text = problem(error.downcast_ref::<Problems>().map_or_else(|| panic!("{error:?}"), |_| &error));
    assert!(text.contains("`lo` does not take a native XDP program"), "{text}");
    assert_eq!(program_on(&pair.host, Pair::HOST_LINK), None);
    assert!(entries(&pin_dir(&bpffs).join("links")).is_empty());

    let wanted = [("lo", Attach::Auto), (Pair::HOST_LINK, Attach::Generic)];
    let attached = pair.host.run(|| datapath.attach_all(&wanted)).expect("both take generic mode");
    assert_eq!((attached[0].interface.as_str(), attached[0].mode), ("lo", Mode::Generic));
    assert!(attached[0].native_refused.as_ref().is_some_and(|why| !why.is_empty()), "{attached:?}");
    assert_eq!((attached[1].interface.as_str(), attached[1].mode), (Pair::HOST_LINK, Mode::Generic));
    println!("lo: {:?}", attached[0].native_refused);
    let error =
        pair.host.run(|| datapath.attach(Pair::HOST_LINK, Attach::Native)).expect_err("it is generic");
    assert!(problem(&error).contains("cannot change without a gap"), "{error}");
    assert_eq!(pair.host.run(|| datapath.detach_interfaces_except(&[Pair::HOST_LINK])).expect("off"), ["lo"]);
    assert_eq!(program_on(&pair.host, "lo"), None);
    assert!(program_on(&pair.host, Pair::HOST_LINK).is_some());
}

#[test]
fn an_interface_that_was_made_again_or_renamed_is_taken_again() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let pair = Pair::new().expect("a pair");
    let mut datapath = open(&pin_dir(&bpffs));
    let links = pin_dir(&bpffs).join("links");
    let name = "host0.100";
    let wire = |host: &str, client: &str| {
        let end = |namespace, name, last| End { namespace, name, mac: [2, 0, 0, 0, 0x30, last] };
        veth(end(&pair.host, host, 1), end(&pair.client, client, 2)).expect("a wire");
    };
    wire(name, "far0");
    pair.host.run(|| datapath.attach(name, Attach::Native)).expect("a link");
    assert_eq!(entries(&links), ["host0:100"]);
    pair.host.delete_link(name).expect("it goes");
    assert!(pair.host.run(|| datapath.status()).expect("a status").interfaces.is_empty());
    wire(name, "far0");
    let again = pair.host.run(|| datapath.attach(name, Attach::Native)).expect("a link");
    assert!(!again.replaced);
    assert_eq!(entries(&links), ["host0:100"]);

    // Renamed, it is still ours, and the name is free for another.
    let index = pair.host.index(name).expect("an index");
    let down = |up: bool| pair.host.set_up(if up { "old0" } else { name }, up).expect("up or down");
    down(false);
    let link = LinkUnspec::new_with_index(index).name("old0".to_owned()).build();
    netlink(&pair.host, async |handle| handle.link().set(link).execute().await);
    down(true);
    assert!(pair.host.run(|| datapath.attach("old0", Attach::Auto)).expect("the link").replaced);
    wire(name, "far1");
    assert!(!pair.host.run(|| datapath.attach(name, Attach::Auto)).expect("a link").replaced);
    assert_eq!(entries(&links).len(), 2);
    let detached = pair.host.run(|| datapath.remove()).expect("everything goes");
    assert_eq!(detached.interfaces.len(), 2);
    assert!(
        detached.interfaces.contains(&"old0".to_owned()) && detached.interfaces.contains(&name.to_owned())
    );
    assert!(!pin_dir(&bpffs).exists());
    assert_eq!((program_on(&pair.host, name), program_on(&pair.host, "old0")), (None, None));
}

#[test]
fn what_is_not_ours_in_the_pin_directory_stays() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    let datapath = open(&directory);
    fs::create_dir(directory.join("strange")).expect("a directory");
    let detached = datapath.remove().expect("ours goes");
    assert_eq!(detached.left, ["strange"]);
    assert_eq!(entries(&directory), ["strange"]);
}
