use lyncwall_common::abi::PortTransport;
use proptest::prelude::*;

use super::{Change, OpenPorts};
use crate::compile::Rule;
use crate::compile::tests::{host, listed, rule, rules, tcp};
use crate::net::PortRange;

fn holds(rules: &[Rule], transport: PortTransport, port: u16) -> bool {
    rules.iter().any(|rule| rule.transport == transport && (rule.first..=rule.last).contains(&port))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_opens_and_closes_is_the_difference(before in rules(), after in rules()) {
        let old = OpenPorts::of(&[host(before.clone())]);
        let changes = old.changes(&OpenPorts::of(&[host(after.clone())]));
        for transport in PortTransport::ALL {
            let change = changes.iter().find(|change| change.transport == transport.name());
            let ranges = |pick: fn(&Change) -> &Vec<PortRange>| change.map(pick).cloned().unwrap_or_default();
            let (opened, closed) = (ranges(|change| &change.opened), ranges(|change| &change.closed));
            let within = |ranges: &[PortRange], port| ranges.iter().any(|r| r.first() <= port && port <= r.last());
            for port in 0..=u16::MAX {
                let (was, is) = (holds(&before, transport, port), holds(&after, transport, port));
                prop_assert_eq!(within(&opened, port), is && !was, "{}", port);
                prop_assert_eq!(within(&closed, port), was && !is, "{}", port);
            }
            for pair in opened.windows(2).chain(closed.windows(2)) {
                prop_assert!(u32::from(pair[0].last()) + 1 < u32::from(pair[1].first()), "{:?}", pair);
            }
        }
        prop_assert!(old.changes(&old).is_empty());
    }
}

#[test]
fn targets_that_come_and_go_open_and_close() {
    let old = OpenPorts::of(&[
        host(vec![tcp(80), tcp(81), tcp(443)]),
        listed("b", &["192.0.2.1"], vec![tcp(65_535)]),
    ]);
    let new = OpenPorts::of(&[host(vec![rule(PortTransport::Tcp, 81, 442)])]);
    let text = serde_json::to_string(&old.changes(&new)).expect("plain data");
    assert_eq!(
        text,
        concat!(
            r#"[{"target":"b","transport":"tcp","opened":[],"closed":[{"first":65535,"last":65535}]},"#,
            r#"{"target":"host","transport":"tcp","opened":[{"first":82,"last":442}],"#,
            r#""closed":[{"first":80,"last":80},{"first":443,"last":443}]}]"#
        )
    );
    assert_eq!(old.get("host", PortTransport::Tcp)[0].to_string(), "80-81");
    assert_eq!(old.get("nobody", PortTransport::Udp), []);
}
