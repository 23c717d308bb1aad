//! Test runs of programs that are assembled here, so that this needs no BPF compiler.

use std::net::IpAddr;
use std::time::Duration;

use aya::Ebpf;
use aya::programs::XdpMode;
use object::write::{Object, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};

use super::*;
use crate::netns::{Netns, Pair};
use crate::packet::{Tcp, Udp};
use crate::prerequisites::{raise_memlock, require_root};
use crate::traffic::{Outcome, StreamReceiver, ping, send_streams};

/// `r0 = action; exit`
fn constant(action: u8) -> Vec<[u8; 8]> {
    vec![[0xb7, 0, 0, 0, action, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]]
}

/// Passes what came in on the interface 1, which is lo, and drops the rest.
fn pass_on_lo() -> Vec<[u8; 8]> {
    vec![
        // r2 = xdp_md.ingress_ifindex; r0 = XDP_DROP; if r2 != 1 skip; r0 = XDP_PASS; exit
        [0x61, 0x12, 12, 0, 0, 0, 0, 0],
        [0xb7, 0, 0, 0, 1, 0, 0, 0],
        [0x55, 0x02, 1, 0, 1, 0, 0, 0],
        [0xb7, 0, 0, 0, 2, 0, 0, 0],
        [0x95, 0, 0, 0, 0, 0, 0, 0],
    ]
}

fn loaded(code: &[[u8; 8]]) -> Ebpf {
    raise_memlock().expect("room for BPF");
    let mut elf = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let license = elf.add_section(Vec::new(), b"license".to_vec(), SectionKind::Data);
    elf.append_section_data(license, b"GPL\0", 1);
    let section = elf.add_section(Vec::new(), b"xdp".to_vec(), SectionKind::Text);
    elf.append_section_data(section, code.as_flattened(), 8);
    elf.add_symbol(Symbol {
        name: b"assembled".to_vec(),
        value: 0,
        size: code.as_flattened().len() as u64,
        kind: SymbolKind::Text,
        scope: SymbolScope::Linkage,
        weak: false,
        section: SymbolSection::Section(section),
        flags: SymbolFlags::None,
    });
    let mut ebpf = Ebpf::load(&elf.write().expect("an object file")).expect("an object that aya reads");
    program(&mut ebpf).load().expect("a program that the verifier takes");
    ebpf
}

fn program(ebpf: &mut Ebpf) -> &mut Xdp {
    ebpf.program_mut("assembled").expect("the only program").try_into().expect("an XDP program")
}

#[test]
fn each_action_is_told_apart() {
    require_root();
    let frame = Pair::frame_v4().with(Tcp::syn(40_000, 443)).build();
    let actions = [Action::Aborted, Action::Drop, Action::Pass, Action::Tx, Action::Redirect];
    for (value, action) in (0..).zip(actions) {
        let mut ebpf = loaded(&constant(value));
        assert_eq!(judge(program(&mut ebpf), &frame).expect("a run"), action);
    }
    let mut ebpf = loaded(&constant(5));
    judge(program(&mut ebpf), &frame).expect_err("5 is no action");
    judge(program(&mut ebpf), &[0; 13]).expect_err("less than an Ethernet header");
}

#[test]
fn a_run_on_an_interface_shows_the_program_its_index() {
    require_root();
    let namespace = Netns::new().expect("a namespace");
    let other = Netns::new().expect("a namespace");
    let end = |namespace, name| crate::netns::End { namespace, name, mac: [2, 0, 0, 0, 0, name.len() as u8] };
    crate::netns::veth(end(&namespace, "here0"), end(&other, "there0")).expect("a wire");
    let index = namespace.index("here0").expect("an index");
    let mut ebpf = loaded(&pass_on_lo());
    let program = program(&mut ebpf);
    let frame = Pair::frame_v4().with(Udp::new(1, 2)).build();
    namespace.run(|| {
        assert_eq!(judge(program, &frame).expect("a run"), Action::Pass);
        assert_eq!(judge_on(program, &frame, 1).expect("a run"), Action::Pass);
        assert_eq!(judge_on(program, &frame, index).expect("a run"), Action::Drop);
        judge_on(program, &frame, 9999).expect_err("no such interface");
    });
}

#[test]
fn a_longer_program_costs_more() {
    require_root();
    let frame = Pair::frame_v4().with(Udp::new(1, 2)).build();
    let mut short = loaded(&constant(1));
    let mut code = vec![[0xb7, 0, 0, 0, 1, 0, 0, 0]];
    // r0 = r0 * r0, four hundred times: a chain that the processor cannot shorten.
    code.extend([[0x2f, 0, 0, 0, 0, 0, 0, 0]; 400]);
    code.push([0x95, 0, 0, 0, 0, 0, 0, 0]);
    let mut long = loaded(&code);
    let runs = 100_000;
    let short = measure(program(&mut short), &frame, runs).expect("a measurement");
    let long = measure(program(&mut long), &frame, runs).expect("a measurement");
    assert_eq!((short.runs, short.action, long.action), (runs, Action::Drop, Action::Drop));
    let (short, long) = (short.nanoseconds(), long.nanoseconds());
    assert!(short > 1.0 && long > short * 2.0, "{short} ns for 2 instructions, {long} ns for 402");
}

#[test]
fn a_native_program_on_a_wire_stops_real_traffic_and_loses_no_stream() {
    require_root();
    let pair = Pair::new().expect("a pair");
    pair.introduce().expect("neighbours");
    let ping_all = |patience| {
        [IpAddr::from(Pair::HOST_V4), Pair::HOST_V6.into()]
            .map(|address| ping(&pair.client, address, patience).expect("a try"))
    };
    let mut drop_all = loaded(&constant(1));
    let link = pair.host.run(|| program(&mut drop_all).attach(Pair::HOST_LINK, XdpMode::Driver));
    assert_eq!(ping_all(Duration::from_millis(150)), [Outcome::TimedOut; 2]);
    program(&mut drop_all).detach(link.expect("native XDP on veth")).expect("our own link");
    assert_eq!(ping_all(Duration::from_secs(5)), [Outcome::Answered; 2]);

    let mut pass_all = loaded(&constant(2));
    let link = pair.host.run(|| program(&mut pass_all).attach(Pair::HOST_LINK, XdpMode::Driver));
    link.expect("native XDP on veth");
    let packets = [Pair::frame_v4().with(Udp::new(1, 2)), Pair::frame_v4().with(Tcp::ack(1, 2))];
    let receiver = StreamReceiver::start(&pair.host, Pair::HOST_LINK, packets.len()).expect("a receiver");
    let each = 100_000;
    let sent = send_streams(&pair.client, Pair::CLIENT_LINK, &packets, each, None).expect("two streams");
    let received = receiver.finish().expect("the numbers");
    let dropped = pair.client.statistics(Pair::CLIENT_LINK).expect("counts").tx_dropped;
    println!("{sent:?}, {} lost by the receiver, {dropped} dropped by the wire", received.lost);
    assert_eq!(received.lost, 0);
    // The wire drops packets of the kernel's own, too, while it is full.
    assert!(dropped >= sent.retries);
    assert!(received.sequences.iter().all(|numbers| numbers.iter().copied().eq(0..each)));
}
