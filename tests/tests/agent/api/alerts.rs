//! What is shipped for Prometheus and Grafana: `promtool` takes it, and the alerts do what they say.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File};

use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::Netns;
use lyncwall_tests::programs::{self, Folder};
use serde_json::Value;

use super::repository;

#[test]
fn promtool_takes_the_rules_and_each_alert_fires_when_it_should() {
    lyncwall_tests::prerequisites::require_root();
    let namespace = Netns::new().expect("a namespace");
    let folder = repository().join("config/prometheus");
    for arguments in [
        ["check", "rules", "lyncwall-rules.yml"],
        ["test", "rules", "lyncwall-rules-test.yml"],
        ["check", "config", "scrape.yml"],
    ] {
        let finished =
            programs::run_in(&namespace, &folder, "promtool", arguments, PATIENT).expect("promtool");
        assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:?}");
    }
    // Each alert has a test of its own that expects it to fire, and one that expects it not to.
    let read = |name: &str| fs::read_to_string(folder.join(name)).expect("a file");
    let tests = read("lyncwall-rules-test.yml");
    let rules = read("lyncwall-rules.yml");
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 5, "{alerts:?}");
    for alert in alerts {
        let of_alert: Vec<&str> = tests.split(&format!("alertname: {alert}\n")).skip(1).collect();
        let silent = of_alert.iter().any(|test| test.trim_start().starts_with("exp_alerts: []"));
        let fires = of_alert.iter().any(|test| test.trim_start().starts_with("exp_alerts:\n"));
        assert!(silent && fires, "{alert} has no test of both");
    }
}

/// The expressions of the dashboard: of its panels, its variables and its annotations.
pub(super) fn dashboard_expressions() -> Vec<String> {
    let text = fs::read_to_string(repository().join("config/grafana/lyncwall.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| {
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{panel}");
        targets
    });
    let annotations = dashboard["annotations"]["list"].as_array().expect("annotations");
    let expressions =
        targets.chain(annotations).map(|target| target["expr"].as_str().expect("an expression"));
    expressions.map(str::to_owned).collect()
}

/// The names of our metrics in a text.
pub(super) fn names_in(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("lyncwall_") || word.starts_with("process_"));
    ours.map(str::to_owned).collect()
}

/// `promtool check metrics` knows the format before OpenMetrics only: a counter's family has its samples' name there.
pub(super) fn expect_good_names(namespace: &Netns, exposition: &str) {
    let folder = Folder::new().expect("a folder");
    let file = folder.write("metrics", &older(exposition)).expect("a file");
    let finished = namespace
        .command("promtool")
        .args(["check", "metrics"])
        .stdin(File::open(file).expect("the file"))
        .output()
        .expect("promtool");
    assert!(finished.status.success() && finished.stderr.is_empty(), "{finished:?}");
}

fn older(exposition: &str) -> String {
    let kinds: HashMap<&str, &str> = exposition
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')))
        .collect();
    let mut text = String::new();
    for line in exposition.lines() {
        let Some((word, name, rest)) = line.strip_prefix("# ").and_then(|comment| {
            let (word, rest) = comment.split_once(' ')?;
            let (name, rest) = rest.split_once(' ')?;
            Some((word, name, rest))
        }) else {
            if !line.starts_with('#') {
                writeln!(text, "{line}").expect("a string takes all");
            }
            continue;
        };
        let (name, kind) = match kinds.get(name) {
            Some(&"counter") => (format!("{name}_total"), "counter"),
            Some(&"info") => (format!("{name}_info"), "gauge"),
            Some(kind) => (name.to_owned(), *kind),
            None => panic!("{name} has no type"),
        };
        match word {
            "HELP" => writeln!(text, "# HELP {name} {rest}"),
            "TYPE" => writeln!(text, "# TYPE {name} {kind}"),
            _ => Ok(()),
        }
        .expect("a string takes all");
    }
    text
}
