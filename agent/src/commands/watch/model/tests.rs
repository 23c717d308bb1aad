//! Samples in, rows out.

use std::time::{Duration, Instant};

use lyncwall_api::{
    BlockList, Counters, Event, Flows, Interface, Kernel, PortCount, Program, ReasonCount, RuleCount, Status,
    Target,
};
use lyncwall_api::{Mode, OnExit, Reading};
use lyncwall_common::reason::Action;

use super::super::keys::Action as Key;
use super::{Model, News, Pane, Value};

/// The status of an agent that guards two interfaces for one target.
pub(in super::super) fn status(mode: Mode) -> Status {
    let target = Target {
        name: "host".to_owned(),
        address: vec!["host".to_owned()],
        roles: vec!["reverse-proxy".to_owned()],
        file_roles: vec!["reverse-proxy".to_owned()],
        mode,
        file_mode: mode,
        tcp: vec!["443".to_owned()],
        udp: Vec::new(),
        on_closed: "drop".to_owned(),
    };
    let interface = |name: &str, mode: &str| Interface {
        name: name.to_owned(),
        ifindex: 2,
        mode: mode.to_owned(),
        missing: false,
        native_refused: None,
    };
    Status {
        version: "0.1.0".to_owned(),
        pid: 1,
        config: "/etc/lyncwall/lyncwall.toml".into(),
        catalogue: "lync-2013".to_owned(),
        reading: Reading::Strict,
        mode,
        file_mode: mode,
        on_exit: OnExit::Keep,
        generation: 7,
        waiting: None,
        interfaces: vec![interface("eth0", "native"), interface("eth1", "UNGUARDED")],
        targets: vec![target],
        allow: Vec::new(),
        management: None,
        program: Program {
            name: "ingress".to_owned(),
            id: 1,
            tag: String::new(),
            verified_instructions: None,
            load_ms: 1,
            map_bytes: 1,
        },
        kernel: Kernel { release: "6.1.0".to_owned(), features: Vec::new() },
        flows: Flows { v4: 12, v6: 3, over: 0, size: 100, added: 15, freed: 0, evicted: 0, lost: 0 },
        own_left_out: 0,
        blocked: BlockList { v4: 1, v6: 1, size: 65_536, dropped: 4 },
        passed: 0,
        dropped: 0,
        warnings: Vec::new(),
        unguarded: Vec::new(),
        mended: 0,
        failing: Vec::new(),
        lost: Vec::new(),
    }
}

/// Counts of one rule, and of drops at two ports.
pub(in super::super) fn counters(allowed: u64, rdp: u64, smb: u64) -> Counters {
    let reason = |reason: &str, action: &str, packets| ReasonCount {
        reason: reason.to_owned(),
        action: action.to_owned(),
        packets,
    };
    let port =
        |port, packets| PortCount { transport: "tcp".to_owned(), port, service: String::new(), packets };
    let rule = |ports: &str, packets| RuleCount {
        target: Some("host".to_owned()),
        allow: None,
        transport: Some("tcp".to_owned()),
        ports: ports.to_owned(),
        service: "HTTPS (Web server component)".to_owned(),
        rows: vec![format!("director.{ports}")],
        roles: vec!["reverse-proxy".to_owned()],
        packets,
        since: Some("2026-01-01T00:00:00Z".to_owned()),
        last_used: None,
    };
    let mut counters = Counters {
        generation: 7,
        reasons: vec![reason("allowed", "pass", allowed), reason("closed", "drop", rdp + smb)],
        rules: vec![rule("80", 0), rule("443", allowed)],
        ports: vec![port(3389, rdp), port(445, smb)],
        interfaces: Vec::new(),
        captures_lost: 0,
        events_lost: 0,
        fragments_lost: 0,
        answered: lyncwall_api::Answered::default(),
    };
    counters.ports.retain(|port| port.packets > 0);
    counters
}

/// A drop of TCP from a source to a port.
pub(in super::super) fn drop_of(source: &str, port: u16, reason: &str) -> Event {
    Event {
        time: 1_800_000_000.0 + f64::from(port),
        action: "drop".to_owned(),
        reason: reason.to_owned(),
        interface: "eth0".to_owned(),
        zone: None,
        target: None,
        rule: None,
        vlan: Vec::new(),
        ether_type: None,
        source: Some(source.to_owned()),
        destination: Some("203.0.113.10".to_owned()),
        protocol: Some("tcp".to_owned()),
        source_port: Some(40_000),
        destination_port: Some(port),
        service: None,
        tcp_flags: Some("SYN".to_owned()),
        icmp: None,
        length: 74,
        note: None,
    }
}

/// A model with two samples that are two seconds apart, and three drops.
pub(in super::super) fn model() -> Model {
    let (mut model, start) = (Model::new(), Instant::now());
    look(&mut model, counters(100, 6, 2), start);
    look(&mut model, counters(124, 9, 2), start + Duration::from_secs(2));
    for event in [
        drop_of("198.51.100.7", 3389, "closed"),
        drop_of("198.51.100.7", 445, "closed"),
        drop_of("2001:db8::9", 3389, "source"),
    ] {
        model.take(News::Drop(Box::new(event)), start);
    }
    model
}

#[test]
fn drops_without_an_event_are_counted_from_the_beginning_of_watch_on() {
    let (mut model, start) = (Model::new(), Instant::now());
    let lost = |lost| Counters { events_lost: lost, ..counters(1, 1, 1) };
    look(&mut model, lost(70), start);
    assert_eq!(model.untold, 0);
    model.take(News::Lost(5), start);
    look(&mut model, lost(90), start + Duration::from_secs(1));
    assert_eq!(model.untold, 25);
    // The maps are new.
    look(&mut model, lost(3), start + Duration::from_secs(2));
    assert_eq!(model.untold, 28);
    look(&mut model, lost(80), start + Duration::from_secs(3));
    assert_eq!(model.untold, 105);
}

fn look(model: &mut Model, counters: Counters, now: Instant) {
    model.take(News::Look(Box::new(status(Mode::Enforce)), Box::new(counters)), now);
}

/// The rows of a list as text.
fn texts(model: &mut Model, pane: Pane) -> Vec<String> {
    model.press(Key::Pane(pane as usize));
    model.rows().iter().map(|row| row.values.iter().map(Value::text).collect::<Vec<_>>().join("|")).collect()
}

#[test]
fn rates_are_the_differences_of_two_samples_by_the_time_between_them() {
    let mut model = model();
    assert_eq!((model.total(Action::Pass), model.total(Action::Drop)), (124, 11));
    assert_eq!(model.total_rate(Action::Pass), Some(12.0));
    assert_eq!(model.total_rate(Action::Drop), Some(1.5));
    assert_eq!(
        (model.passed.make_contiguous(), model.dropped.make_contiguous()),
        (&mut [12][..], &mut [2][..])
    );
    // A detach and a start: the maps are new. What they count is since then.
    let later = Instant::now() + Duration::from_secs(60);
    let then = model.sampled_at.expect("a sample");
    look(&mut model, counters(5, 0, 0), later);
    let rate = model.total_rate(Action::Pass).expect("a rate");
    assert!((rate - 5.0 / later.duration_since(then).as_secs_f64()).abs() < 1e-9, "{rate}");
}

#[test]
fn each_list_has_its_rows_by_their_counts() {
    let mut model = model();
    let reasons = texts(&mut model, Pane::Reasons);
    assert_eq!(reasons[0], "allowed|pass|124|12|An open port of the target.");
    assert_eq!(reasons[1], "closed|drop|11|1.5|A port that no rule opens.");
    let rules = texts(&mut model, Pane::Rules);
    assert_eq!(rules[0], "host|reverse-proxy|tcp 443|HTTPS (Web server component)|124|12");
    assert_eq!(rules.len(), 2, "{rules:?}");
    assert_eq!(
        texts(&mut model, Pane::Ports),
        ["tcp 3389|9|1.5|closed 1, source 1|", "tcp 445|2|0|closed 1|"]
    );
    let sources = texts(&mut model, Pane::Sources);
    assert!(sources[0].starts_with("198.51.100.7|2|") && sources[0].ends_with("|2|closed 2"), "{sources:?}");
    assert_eq!(sources.len(), 2, "{sources:?}");
    let drops = texts(&mut model, Pane::Drops);
    assert!(drops[2].ends_with("drop|closed|tcp 198.51.100.7:40000 > 203.0.113.10:445 SYN"), "{drops:?}");
}

#[test]
fn rows_are_sorted_turned_round_and_filtered() {
    let mut model = model();
    assert_eq!(texts(&mut model, Pane::Ports)[0].split('|').next(), Some("tcp 3389"));
    model.press(Key::Reverse);
    assert_eq!(model.rows()[0].values[0].text(), "tcp 445");
    // From the packets on by rate, reasons, service, port.
    for expected in ["tcp 3389", "tcp 445", "tcp 3389", "tcp 3389"] {
        model.press(Key::Sort);
        assert_eq!(model.rows()[0].values[0].text(), expected, "{:?}", model.sorted());
    }
    model.press(Key::Filter);
    for letter in "SOURCE".chars() {
        model.press(Key::Type(letter));
    }
    model.press(Key::Enter);
    assert!(!model.typing && model.rows().len() == 1, "the filter looks at all columns, whatever the case");
    model.press(Key::Escape);
    assert_eq!(model.rows().len(), 2);
}

#[test]
fn the_selected_row_stays_the_same_one_while_others_move() {
    let mut model = model();
    model.press(Key::Pane(Pane::Ports as usize));
    model.press(Key::Move(1));
    let name = |model: &Model| {
        let rows = model.rows();
        rows[model.selected(&rows).expect("a row")].values[0].text()
    };
    assert_eq!(name(&model), "tcp 445");
    look(&mut model, counters(124, 9, 900), Instant::now() + Duration::from_secs(9));
    assert_eq!(model.rows()[0].values[0].text(), "tcp 445", "it has the most now");
    assert_eq!(name(&model), "tcp 445");
    model.press(Key::Move(isize::MAX));
    assert_eq!(name(&model), "tcp 3389");
    model.press(Key::Enter);
    let detail = model.detail.clone().expect("a detail");
    assert!(detail.title.contains("tcp 3389"), "{detail:?}");
    assert!(
        detail.lines.iter().any(|(name, value)| name == "drop" && value.contains("2001:db8::9")),
        "{detail:?}"
    );
    model.press(Key::Escape);
    assert!(model.detail.is_none());
}

#[test]
fn a_drop_is_explained_by_all_of_its_fields() {
    let mut model = model();
    model.press(Key::Pane(Pane::Drops as usize));
    model.press(Key::Enter);
    let detail = model.detail.expect("a detail");
    let said =
        |name: &str| detail.lines.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    for (name, value) in [
        ("reason", "source"),
        ("means", "The port is open, but not for this source."),
        ("interface", "eth0"),
        ("source", "2001:db8::9"),
        ("port", "3389"),
        ("TCP flags", "SYN"),
        ("length", "74 bytes"),
    ] {
        assert_eq!(said(name), Some(value), "{detail:?}");
    }
}

#[test]
fn what_audit_mode_lets_in_is_told_apart() {
    let mut model = Model::new();
    let mut counts = counters(1, 0, 0);
    for (reason, packets) in [("closed", 5), ("unmatched", 7)] {
        let count = ReasonCount { reason: reason.to_owned(), action: "pass".to_owned(), packets };
        counts.reasons.push(count);
    }
    let audit = Box::new(status(Mode::Audit));
    model.take(News::Look(audit, Box::new(counts.clone())), Instant::now());
    assert_eq!(model.would_have_dropped(), 12);
    let rows = texts(&mut model, Pane::Reasons);
    assert!(rows.iter().any(|row| row.starts_with("closed|would-drop|5|")), "{rows:?}");
    // A zone may pass what it has no target for: only audit mode says that it would be dropped.
    look(&mut model, counts, Instant::now());
    assert_eq!(model.would_have_dropped(), 5);
    let mut event = drop_of("198.51.100.7", 3389, "closed");
    event.action = "pass".to_owned();
    model.take(News::Drop(Box::new(event)), Instant::now());
    assert!(texts(&mut model, Pane::Drops)[0].contains("would-drop"));
    assert_eq!(texts(&mut model, Pane::Ports), ["tcp 3389|0|0|would-drop closed 1|"], "the sample knows it");
}

#[test]
fn a_paused_screen_takes_nothing_in_but_whether_the_agent_answers() {
    let mut model = model();
    model.press(Key::Pause);
    look(&mut model, counters(999, 9, 9), Instant::now());
    model.take(News::Drop(Box::new(drop_of("192.0.2.1", 1, "closed"))), Instant::now());
    assert_eq!(model.total(Action::Pass), 124);
    assert_eq!(texts(&mut model, Pane::Drops).len(), 3);
    model.take(News::Gone("no agent".to_owned()), Instant::now());
    assert_eq!(model.gone.as_deref(), Some("no agent"));
    model.press(Key::Pause);
    look(&mut model, counters(999, 9, 9), Instant::now());
    assert_eq!((model.total(Action::Pass), model.gone.as_deref()), (999, None));
}

#[test]
fn a_flood_of_sources_is_not_kept() {
    let mut model = Model::new();
    for number in 0..10_000_u32 {
        let source = std::net::Ipv4Addr::from(number).to_string();
        model.take(News::Drop(Box::new(drop_of(&source, number as u16, "closed"))), Instant::now());
    }
    assert_eq!(
        (model.sources.len(), model.ports.len(), model.drops.len()),
        (super::SOURCES, super::SOURCES, super::DROPS)
    );
}
