use lyncwall_common::abi::PortTransport;
use lyncwall_common::reason::{Action, Reason};
use lyncwall_common::verdict::Verdict;
use proptest::prelude::*;

use super::{HostTables, judge};
use crate::compile::tests::{host, input, listed, rule, tcp};
use crate::compile::{Compiled, CounterBook, Input, InterfaceInput, compile};
use crate::config::{Address, Allow, AllowWhat, Management, Mode, Unmatched};

fn compiled(input: &Input) -> Compiled {
    compile(input, &mut CounterBook::default()).expect("a sound input")
}

/// A box with everything: itself, an address that it stands in front of, management and an allow rule.
fn everything() -> Input {
    let mut input = input(vec![
        listed("vip", &["192.0.2.80", "2001:db8::80"], vec![tcp(443), rule(PortTransport::Udp, 3478, 3479)]),
        host(vec![tcp(8080)]),
    ]);
    input.management = Some(Management {
        from: vec!["10.0.0.0/8".parse().expect("a prefix"), "fd00::/8".parse().expect("a prefix")],
        tcp: vec!["22".parse().expect("a port")],
        udp: vec![],
    });
    input.allow = vec![Allow {
        groups: Vec::new(),
        name: "vrrp".into(),
        what: AllowWhat::Protocol(112),
        from: vec!["10.0.0.2/32".parse().expect("a prefix")],
        target: None,
    }];
    input.interfaces = vec![InterfaceInput { ifindex: 7, dhcp_client: true, ..InterfaceInput::default() }];
    input
}

fn v4(protocol: u8, source: [u8; 4], destination: [u8; 4], fragment: u16, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
    frame.extend(length.to_be_bytes());
    frame.extend([0, 9]);
    frame.extend(fragment.to_be_bytes());
    frame.extend([64, protocol, 0, 0]);
    frame.extend(source);
    frame.extend(destination);
    frame.extend(payload);
    frame
}

fn syn(port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![200, 1, high, low, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 1, 0, 0, 0, 0, 0]
}

fn udp(source: u16, port: u16) -> Vec<u8> {
    [source.to_be_bytes(), port.to_be_bytes(), [0, 8], [0, 0]].concat()
}

const ADMIN: [u8; 4] = [10, 0, 0, 2];
const STRANGER: [u8; 4] = [203, 0, 113, 1];
const BOX: [u8; 4] = [192, 0, 2, 1];
const VIP: [u8; 4] = [192, 0, 2, 80];

#[test]
fn each_target_has_its_own_ports_and_management_reaches_the_box_only() {
    let compiled = compiled(&everything());
    let verdict = |frame: &[u8]| judge(&compiled, 7, frame);
    let tcp = |source, destination, port| verdict(&v4(6, source, destination, 0, &syn(port))).reason;
    assert_eq!(tcp(STRANGER, VIP, 443), Reason::Allowed);
    assert_eq!(tcp(STRANGER, BOX, 443), Reason::Closed);
    assert_eq!(tcp(STRANGER, BOX, 8080), Reason::Allowed);
    assert_eq!(tcp(STRANGER, VIP, 8080), Reason::Closed);
    assert_eq!(tcp(ADMIN, BOX, 22), Reason::Management);
    assert_eq!(tcp(ADMIN, VIP, 22), Reason::Closed);
    assert_eq!(tcp(STRANGER, BOX, 22), Reason::Closed);
    let reason = |frame: &[u8]| verdict(frame).reason;
    assert_eq!(reason(&v4(17, STRANGER, VIP, 0, &udp(9, 3479))), Reason::Allowed);
    assert_eq!(reason(&v4(17, STRANGER, VIP, 0, &udp(9, 3480))), Reason::Closed);
    assert_eq!(reason(&v4(17, STRANGER, VIP, 0, &udp(9, 32_768))), Reason::Closed);
    assert_eq!(reason(&v4(112, ADMIN, [224, 0, 0, 18], 0, &[0; 20])), Reason::Allow);
    assert_eq!(reason(&v4(112, STRANGER, [224, 0, 0, 18], 0, &[0; 20])), Reason::Protocol);
}

#[test]
fn dhcp_replies_pass_where_the_interface_is_a_client() {
    let compiled = compiled(&everything());
    let frame = v4(17, STRANGER, [255; 4], 0, &udp(67, 68));
    assert_eq!(judge(&compiled, 7, &frame).reason, Reason::Dhcp);
    assert_eq!(judge(&compiled, 8, &frame).reason, Reason::Multicast);
}

#[test]
fn the_first_fragment_speaks_for_the_rest_for_thirty_seconds() {
    let compiled = compiled(&everything());
    let tables = HostTables::new(&compiled, 7);
    let reason = |frame: &[u8]| tables.judge(frame).reason;
    let first = |port| v4(6, STRANGER, VIP, 0x2000, &[syn(port), vec![0; 4]].concat());
    let rest = v4(6, STRANGER, VIP, 3, &[0; 8]);
    assert_eq!(reason(&rest), Reason::FragmentOrphan);
    assert_eq!(reason(&first(443)), Reason::Allowed);
    assert_eq!(reason(&rest), Reason::Fragment);
    assert_eq!(reason(&v4(6, STRANGER, VIP, 2, &[0; 8])), Reason::FragmentOverlap);
    tables.jiffies.set(tables.jiffies.get() + 30 * tables.hz);
    assert_eq!(reason(&rest), Reason::FragmentOrphan);
    assert_eq!(reason(&first(443)), Reason::Allowed);
    assert_eq!(reason(&first(444)), Reason::Closed);
    assert_eq!(reason(&rest), Reason::FragmentOrphan);
}

#[test]
fn echo_requests_are_held_to_their_rate() {
    let compiled = compiled(&everything());
    let tables = HostTables::new(&compiled, 7);
    let echo = v4(1, STRANGER, BOX, 0, &[8, 0, 0, 0, 0, 0, 0, 0]);
    let passed = (0..1500).filter(|_| tables.judge(&echo).reason == Reason::IcmpEcho).count();
    assert_eq!(passed, 1000);
    tables.jiffies.set(tables.jiffies.get() + tables.hz);
    assert_eq!(tables.judge(&echo).reason, Reason::IcmpEcho);
}

#[test]
fn audit_judges_the_same_and_passes() {
    let mut input = everything();
    input.mode = Mode::Audit;
    let verdict = judge(&compiled(&input), 7, &v4(6, STRANGER, VIP, 0, &syn(444)));
    assert_eq!(
        (verdict.reason, verdict.judged, verdict.action),
        (Reason::Closed, Action::Drop, Action::Pass)
    );
}

#[test]
fn a_destination_in_no_target_gets_what_the_zone_says() {
    let mut input = everything();
    input.targets.retain(|target| target.address != Address::Host);
    let frame = v4(6, STRANGER, BOX, 0, &syn(443));
    let verdict = judge(&compiled(&input), 7, &frame);
    assert_eq!((verdict.reason, verdict.action), (Reason::Unmatched, Action::Drop));
    assert_eq!(judge(&compiled(&input), 7, &v4(6, ADMIN, BOX, 0, &syn(22))).reason, Reason::Management);
    input.zones[0].unmatched = Unmatched::Pass;
    let verdict = judge(&compiled(&input), 7, &frame);
    assert_eq!((verdict.reason, verdict.action), (Reason::Unmatched, Action::Pass));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn any_bytes_get_a_reason_and_its_action(
        start in prop::sample::select(vec![0usize, 12, 14, 23, 34]),
        rest in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        thread_local!(static COMPILED: Compiled = compiled(&everything()));
        let frame = [&v4(6, STRANGER, VIP, 0, &[])[..start], &rest].concat();
        let Verdict { reason, judged, action, .. } = COMPILED.with(|compiled| judge(compiled, 7, &frame));
        prop_assert_eq!((judged, action), (reason.action(), reason.action()));
        prop_assert!(reason != Reason::Internal);
    }
}
