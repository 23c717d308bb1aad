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
fn a_full_book_costs_old_counters_and_refuses_no_generation() {
    let mut book = CounterBook::default();
    let half = COUNTERS as u32 / 2;
    install(&mut book, &rules(0..half));
    install(&mut book, &rules(half..2 * half));
    // Both generations may judge: the one that is not live gives first.
    let mut one_more = rules(half..2 * half - 1);
    one_more.push(rule(2 * half));
    let counters = install(&mut book, &one_more);
    assert_eq!((counters[0], counters.last()), (half, Some(&0)));
    // Nothing of the live generation stays, and more comes than the other left.
    let counters = install(&mut book, &rules(3 * half..5 * half - 9));
    assert_eq!(counters.iter().collect::<BTreeSet<_>>().len() as u32, 2 * half - 9);
    assert_eq!(counters.last().and_then(|counter| book.label(*counter)), Some(&rule(5 * half - 10)));
    let before = book.clone();
    assert_eq!(book.allocate(&rules(0..2 * half + 1)), None, "more than there are");
    assert_eq!(book, before, "a refusal changes nothing");
}

#[test]
fn names_that_change_retire_those_that_went_first() {
    let allow = |n: u32| Identity::Allow { name: format!("rule {n}"), definition: n.into() };
    let mut book = CounterBook::default();
    for reload in 0..600 {
        let names: Vec<Identity> = (64 * reload..64 * reload + 64).map(allow).collect();
        install(&mut book, &names);
        // It comes back again and again, so it has not gone.
        if reload % 3 == 0 {
            install(&mut book, &[rule(7), names[0].clone()]);
        }
    }
    assert_eq!(book.numbers.get(&rule(7)), Some(&64), "it keeps its counter");
    assert_eq!(book.labels().count(), COUNTERS);

    let before = serde_json::to_string(&book).expect("plain data").len();
    let retired = book.retire(10_000);
    assert_eq!(retired.len(), 10_000);
    assert!(retired.iter().all(|counter| book.label(*counter).is_none()));
    assert!(!retired.contains(&64) && book.live().all(|counter| book.label(counter).is_some()));
    let text = serde_json::to_string(&book).expect("plain data");
    assert!(text.len() < before * 6 / 10, "{} of {before}", text.len());
    assert_eq!(serde_json::from_str::<CounterBook>(&text).expect("what was written"), book);
    // Its counters are used again, from the values that they have.
    let counters = book.allocate(&[allow(u32::MAX)]).expect("room");
    assert_eq!((&counters[..], book.must_zero()), (&retired[..1], counters.clone()));
    book.installed();
    assert_eq!(book.retire(COUNTERS).len() + book.labels().count(), COUNTERS - 9_999);
    assert!(book.retire(1).is_empty(), "the rest is in use");
}

#[test]
fn a_book_of_an_earlier_version_is_read() {
    let text = r#"{"texts":["x"],"counters":[{"a":[0,1]},{"a":[0,2]},{"a":[0,3]}],"next":[],"live":[1],
        "previous":[],"must_zero":[]}"#;
    let mut book: CounterBook = serde_json::from_str(text).expect("a book");
    assert_eq!(book.retire(9), [0, 2]);
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
            let used = live.len() + previous.len() + identities.len();
            let before = book.clone();
            let counters = book.allocate(&identities).expect("one generation always fits");
            let zeroed: BTreeSet<u32> = book.must_zero().into_iter().collect();
            let next: BTreeMap<Identity, u32> = identities.into_iter().zip(counters).collect();
            for (identity, counter) in &next {
                prop_assert!((*counter as usize) < COUNTERS);
                prop_assert_eq!(book.label(*counter), Some(identity));
            }
            prop_assert_eq!(next.values().collect::<BTreeSet<_>>().len(), next.len());
            // Where all three fit, none gives.
            for (identity, counter) in live.iter().chain(&previous).filter(|_| used <= COUNTERS) {
                prop_assert_eq!(book.label(*counter), Some(identity), "a counter in use changed hands");
                prop_assert!(!zeroed.contains(counter), "a counter in use is to be zeroed");
            }
            if kept {
                book.installed();
                previous = std::mem::replace(&mut live, next);
            } else {
                book = before;
            }
        }
    }
}
