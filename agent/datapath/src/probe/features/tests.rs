//! The features of the kernel that the tests run on, and what is said of other kernels.

use super::{Answer, Feature, Features, Id, version};

fn features(release: &str, missing: &[Id]) -> Features {
    let answer = |id| if missing.contains(&id) { Answer::Missing } else { Answer::Found };
    let feature = |id| Feature { id, answer: answer(id), asked: String::new() };
    Features { release: release.to_owned(), features: Id::ALL.map(feature).into() }
}

#[test]
fn all_that_is_missing_and_needed_is_refused_at_once_with_its_versions() {
    let old = features("5.4.0-150-generic", &[Id::RingBuffer, Id::Jiffies, Id::XdpLink, Id::Frags]);
    let problems = old.problems();
    assert_eq!(problems.iter().count(), 1);
    assert_eq!(
        problems.to_string(),
        "this kernel, 5.4.0-150-generic, does not have BPF ring buffers (Linux 5.8); the helper bpf_jiffies64 (Linux \
         5.6); XDP programs attached with a link (Linux 5.9); boot Linux 5.10 or later"
    );
}

#[test]
fn a_new_kernel_without_a_needed_feature_is_not_too_old() {
    let text = features("6.1.0-50-amd64", &[Id::MapTypes]).problems().to_string();
    assert!(text.contains("perf events (Linux 4.11)") && text.contains("built with them"), "{text}");
    assert!(!text.contains("or later"), "{text}");
}

#[test]
fn what_something_stands_in_for_is_not_refused() {
    for id in Id::ALL {
        let found = features("5.10.0", &[id]);
        assert_eq!(found.problems().is_empty(), !id.is_needed(), "{id:?}");
        let missing: Vec<_> = found.missing().map(|feature| feature.id).collect();
        assert_eq!(missing, [id]);
    }
    assert!(features("5.10.0", &[]).problems().is_empty());
}

#[test]
fn what_could_not_be_asked_is_refused_as_that() {
    let mut unknown = features("5.10.0", &[]);
    for feature in &mut unknown.features {
        feature.answer = Answer::Unknown;
    }
    assert!(unknown.problems().is_empty());
    let text = unknown.forbidden().to_string();
    assert!(text.contains("refuses this process's question about BPF maps"), "{text}");
    assert!(features("5.10.0", &[]).forbidden().is_empty());
}

#[test]
fn the_details_say_what_follows() {
    let detail = |id, answer| Feature { id, answer, asked: "no privilege".to_owned() }.detail();
    assert_eq!(detail(Id::XdpLink, Answer::Missing), "required: needs Linux 5.9");
    assert!(detail(Id::Frags, Answer::Missing).starts_with("`ingress`, for frames"));
    assert_eq!(detail(Id::Frags, Answer::Unknown), "no privilege");
}

#[test]
fn releases_begin_with_two_numbers() {
    assert_eq!(version("5.10.0-35-amd64"), Some((5, 10)));
    assert_eq!(version("7.2-rc1"), Some((7, 2)));
    assert_eq!(version("six"), None);
}

#[test]
fn names_are_unique() {
    let names: std::collections::BTreeSet<_> = Id::ALL.iter().map(|id| id.name()).collect();
    assert_eq!(names.len(), Id::ALL.len());
}

/// Linux 6.6 and later has all of them.
#[test]
fn this_kernel_has_every_feature_of_its_version() {
    let found = Features::ask().expect("the kernel tells");
    let running = version(&found.release).expect("two numbers");
    assert_eq!(found.features.iter().map(|feature| feature.id).collect::<Vec<_>>(), Id::ALL);
    for feature in &found.features {
        let expected = match feature.id {
            Id::Clsact if running >= Id::Tcx.since() => Answer::Unknown,
            id if running >= id.since() => Answer::Found,
            _ => Answer::Missing,
        };
        assert_eq!(feature.answer, expected, "{feature:?}");
    }
    assert!(found.problems().is_empty());
}
