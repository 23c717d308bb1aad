use std::collections::{BTreeMap, BTreeSet};

use lyncwall_common::abi::PortTransport;
use proptest::prelude::*;

use super::{COUNTERS, CounterBook, Identity};

fn rule(n: u32) -> Identity {
    Identity::Rule {
        target: format!("target-{}", n % 16),
        transport: PortTransport::ALL[(n % 2) as usize],
        first: n as u16,
        last: u16::MAX,
        rows: vec![format!("row-{}", n % 103), format!("row-{}", n % 7)],
    }
}

fn rules(numbers: std::ops::Range<u32>) -> Vec<Identity> {
    numbers.map(rule).collect()
}

fn install(book: &mut CounterBook, identities: &[Identity]) -> Vec<u32> {
    let counters = book.allocate(identities).expect("room");
    book.installed();
    counters
}

#[test]
fn new_rules_get_the_lowest_counters_and_known_ones_theirs() {
    let mut book = CounterBook::default();
    assert_eq!(install(&mut book, &rules(0..3)), [0, 1, 2]);
    assert_eq!(install(&mut book, &[rule(9), rule(1), rule(9)]), [3, 1, 3]);
    assert_eq!(install(&mut book, &rules(0..3)), [0, 1, 2]);
    assert_eq!(book.label(3), Some(&rule(9)));
    assert_eq!(book.label(4), None);
    assert_eq!(book.live().collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn a_full_book_takes_counters_of_rules_that_are_long_gone() {
    let mut book = CounterBook::default();
    let all = COUNTERS as u32;
    install(&mut book, &rules(0..all - 2));
    install(&mut book, &rules(0..2));
    install(&mut book, &rules(2..4));
    // Two that were never used, then the lowest that neither of the last two generations has. Rule 6, which this
    // generation wants, is not robbed for those before it.
    let wanted: Vec<Identity> = [all, all + 1, all + 2, all + 3, all + 4, 6].map(rule).to_vec();
    assert_eq!(book.allocate(&wanted).expect("room"), [all - 2, all - 1, 4, 5, 7, 6]);
    assert_eq!(book.must_zero(), [4, 5, 7]);
    assert_eq!(book.label(4), Some(&rule(all + 2)));

    // Not installed: they are still to be zeroed, whoever gets them.
    book.allocate(&wanted[..3]).expect("room");
    assert_eq!(book.must_zero(), [4, 5, 7]);
    book.installed();
    assert!(book.must_zero().is_empty());
    // The rule that was robbed is a new one now.
    assert_ne!(install(&mut book, &[rule(4)]), [4]);
}

#[test]
fn the_generation_to_fall_back_to_keeps_its_counters() {
    let mut book = CounterBook::default();
    let half = COUNTERS as u32 / 2;
    install(&mut book, &rules(0..half));
    install(&mut book, &rules(half..2 * half));
    let before = book.clone();
    assert_eq!(book.allocate(&[rule(2 * half)]), None);
    assert_eq!(book, before, "a refusal changes nothing");
    book.rolled_back();
    install(&mut book, &rules(0..1));
    // Live has rule 0, and the one before it has the first half: the second half is free.
    assert_eq!(book.allocate(&[rule(2 * half)]).expect("room"), [half]);
}

#[test]
fn a_full_book_is_small_when_stored_and_comes_back_whole() {
    let mut book = CounterBook::default();
    install(&mut book, &rules(0..8192));
    install(&mut book, &rules(8192..16_383));
    install(&mut book, &[Identity::Allow { name: "é \"x\"".into(), definition: u64::MAX }]);
    let text = serde_json::to_string(&book).expect("plain data");
    assert!(text.len() < 700_000, "{}", text.len());
    assert_eq!(serde_json::from_str::<CounterBook>(&text).expect("what was written"), book);
}

#[test]
fn a_stored_book_that_contradicts_itself_is_refused() {
    let book = |texts: &str, counters: &str, live: &str| {
        let text = format!(
            r#"{{"texts":{texts},"counters":{counters},"next":[],"live":{live},"previous":[],"must_zero":[]}}"#
        );
        serde_json::from_str::<CounterBook>(&text)
    };
    assert!(book(r#"["x"]"#, r#"[{"a":[0,1]}]"#, "[0]").is_ok());
    assert!(book(r#"["x"]"#, r#"[{"a":[1,1]}]"#, "[0]").is_err(), "a text that is not there");
    assert!(book(r#"["x"]"#, r#"[{"a":[0,1]}]"#, "[1]").is_err(), "a counter that is not there");
    assert!(book(r#"["x"]"#, r#"[{"a":[0,1]},{"a":[0,1]}]"#, "[0]").is_err(), "one rule twice");
    assert!(book(r#"["x"]"#, r#"[{"r":[0,2,1,1,[]]}]"#, "[0]").is_err(), "a third transport");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_two_rules_of_the_last_two_generations_share_a_counter(
        starts in prop::collection::vec((0..40_000u32, 1..6000u32, any::<bool>()), 1..12),
    ) {
        let mut book = CounterBook::default();
        let mut live: BTreeMap<Identity, u32> = BTreeMap::new();
        let mut previous = BTreeMap::new();
        for (start, count, kept) in starts {
            let identities = rules(start..start + count);
            let Some(counters) = book.allocate(&identities) else { continue };
            let zeroed: BTreeSet<u32> = book.must_zero().into_iter().collect();
            let next: BTreeMap<Identity, u32> = identities.into_iter().zip(counters).collect();
            for (identity, counter) in &next {
                prop_assert!((*counter as usize) < COUNTERS);
                prop_assert_eq!(book.label(*counter), Some(identity));
            }
            prop_assert_eq!(next.values().collect::<BTreeSet<_>>().len(), next.len());
            for (identity, counter) in live.iter().chain(&previous) {
                prop_assert_eq!(book.label(*counter), Some(identity), "a counter in use changed hands");
                prop_assert!(!zeroed.contains(counter), "a counter in use is to be zeroed");
            }
            if kept {
                book.installed();
                previous = std::mem::replace(&mut live, next);
            }
        }
    }
}
