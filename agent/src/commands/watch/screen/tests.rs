//! The text on the screen.

use std::time::Instant;

use lyncwall_api::Mode;
use lyncwall_api::Waiting;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use super::super::keys::Action as Key;
use super::super::model::tests::{counters, model, status};
use super::super::model::{Model, News};
use super::{Look, draw};

const PLAIN: Look = Look { colour: false, unicode: false };

/// The screen as lines.
fn lines(model: &Model, look: Look, (width, height): (u16, u16)) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen in memory");
    terminal.draw(|frame| draw(frame, model, look)).expect("a screen in memory");
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

#[test]
fn all_that_matters_stands_on_80_by_24() {
    for size in [(80, 24), (120, 40)] {
        let screen = lines(&model(), PLAIN, size).join("\n");
        for text in [
            "lyncwall 0.1.0  generation 7  enforcing",
            "roles       host: reverse-proxy",
            "interfaces  eth0 native, eth1 UNGUARDED",
            "flows       12 IPv4, 3 IPv6, 12% full; block-list 2 prefixes, 4 dropped",
            "passed             124        12/s",
            "dropped             11       1.5/s",
            "[1 Reasons] 2 Rules  3 Ports  4 Sources  5 Drops",
            "> allowed",
            "An open port of the target.",
            "q quit",
        ] {
            assert!(screen.contains(text), "no {text:?} in\n{screen}");
        }
    }
}

#[test]
fn each_list_fits_and_names_its_sort() {
    let mut model = model();
    let wanted = [
        ["PACKETS*", "closed", "A port that no rule opens."],
        ["PACKETS*", "tcp 443", "HTTPS"],
        ["DROPPED*", "tcp 3389", "closed 1, source 1"],
        ["SEEN*", "2001:db8::9", "closed 2"],
        ["TIME*", "source", "tcp 198.51.100.7:40000 > 203.0.113.10:445"],
    ];
    for (number, wanted) in wanted.iter().enumerate() {
        model.press(Key::Pane(number));
        let screen = lines(&model, PLAIN, (80, 24)).join("\n");
        for text in wanted {
            assert!(screen.contains(text), "no {text:?} in\n{screen}");
        }
    }
}

#[test]
fn what_is_wrong_is_said_in_words() {
    let mut model = model();
    model.take(News::Gone("no agent serves /run/x".to_owned()), Instant::now());
    model.press(Key::Pause);
    let screen = lines(&model, PLAIN, (80, 24)).join("\n");
    for text in ["THE AGENT DOES NOT ANSWER", "no agent serves /run/x", "PAUSED"] {
        assert!(screen.contains(text), "no {text:?} in\n{screen}");
    }
    let mut waits = status(Mode::Audit);
    waits.waiting =
        Some(Waiting { seconds: 43, mode: Mode::Enforce, targets: Vec::new(), changes: Vec::new() });
    let mut model = Model::new();
    model.take(News::Look(Box::new(waits), Box::new(counters(1, 0, 0))), Instant::now());
    let screen = lines(&model, PLAIN, (80, 24)).join("\n");
    for text in ["AUDIT: drops nothing", "ON TRIAL: rolls back in 43 s"] {
        assert!(screen.contains(text), "no {text:?} in\n{screen}");
    }
}

#[test]
fn a_poor_terminal_gets_ascii_and_no_colour() {
    let mut model = model();
    model.press(Key::Filter);
    model.press(Key::Type('é'));
    let colours = |look, model: &Model| {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("a screen in memory");
        terminal.draw(|frame| draw(frame, model, look)).expect("a screen in memory");
        let content = terminal.backend().buffer().content().to_vec();
        content.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    assert!(!colours(PLAIN, &model) && colours(Look { colour: true, ..PLAIN }, &model));
    assert!(lines(&model, PLAIN, (80, 24)).iter().all(|line| line.is_ascii()));
    let rich = lines(&model, Look { unicode: true, ..PLAIN }, (80, 24)).join("\n");
    assert!(rich.contains('█') && rich.contains('é'), "{rich}");
}

#[test]
fn a_selected_row_is_seen_however_far_down() {
    let mut model = Model::new();
    let mut counts = counters(1, 0, 0);
    let rule = counts.rules[0].clone();
    counts.rules.extend((1000..1100).map(|port| {
        let ports = port.to_string();
        lyncwall_api::RuleCount { rows: vec![ports.clone()], ports, ..rule.clone() }
    }));
    model.take(News::Look(Box::new(status(Mode::Enforce)), Box::new(counts)), Instant::now());
    model.press(Key::Pane(1));
    model.press(Key::Move(isize::MAX));
    for size in [(80, 24), (80, 12), (20, 5), (1, 1)] {
        let screen = lines(&model, PLAIN, size).join("\n");
        assert!(size.1 < 12 || screen.contains("tcp 1099"), "{screen}");
    }
}

#[test]
fn help_and_details_take_the_place_of_the_list() {
    let mut model = model();
    model.press(Key::Enter);
    let screen = lines(&model, PLAIN, (80, 24)).join("\n");
    assert!(screen.contains("Reason allowed") && screen.contains("Enter or Esc closes"), "{screen}");
    model.press(Key::Help);
    let screen = lines(&model, PLAIN, (80, 24)).join("\n");
    for (key, _) in super::keys::HELP {
        assert!(screen.contains(key), "no {key:?} in\n{screen}");
    }
}
