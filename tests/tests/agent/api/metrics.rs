//! A real Prometheus reads the agent's metrics: what it knows then is what the agent counts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::time::Duration;

use lyncwall_tests::agent::Api;
use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::Netns;
use lyncwall_tests::programs::{self, Folder, Program};
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::{eventually, tcp_connect};
use serde_json::Value;

use super::alerts::{dashboard_expressions, names_in};
use super::{ask, repository};

const LISTEN: &str = "[metrics]\nlisten = [\"127.0.0.1:9464\", \"[::1]:9464\"]\n";
const INSTANCES: [&str; 2] = ["127.0.0.1:9464", "[::1]:9464"];
const ALLOW: &str = "[[allow]]\nname = \"node exporter\"\ntransport = \"tcp\"\nports = [9100]\n";

/// Prometheus at work in a namespace.
struct Prometheus<'a> {
    program: Program,
    namespace: &'a Netns,
}

impl<'a> Prometheus<'a> {
    fn start(namespace: &'a Netns, folder: &Folder) -> Self {
        let rules = repository().join("config/prometheus/lyncwall-rules.yml");
        let config = format!(
            "global:\n  scrape_interval: 500ms\n  evaluation_interval: 500ms\nrule_files: [{:?}]\nscrape_configs:\n\
             - job_name: lyncwall\n  scrape_timeout: 500ms\n  static_configs: [{{ targets: {INSTANCES:?} }}]\n",
            rules.display().to_string()
        );
        folder.write("prometheus.yml", &config).expect("a file");
        let arguments = [
            format!("--config.file={}", folder.file("prometheus.yml")),
            format!("--storage.tsdb.path={}", folder.file("data")),
            "--web.listen-address=127.0.0.1:9090".to_owned(),
        ];
        let program = Program::start(namespace, folder, "prometheus", arguments).expect("prometheus");
        let program =
            program.ready(PATIENT, |_| curl(namespace, "http://127.0.0.1:9090/-/ready", &[]).is_some());
        Self { program: program.expect("it is ready"), namespace }
    }

    /// An answer of its API; `None` where it refuses.
    fn api(&self, path: &str, query: &[(&str, &str)]) -> Option<Value> {
        let data: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let data: Vec<&str> = data.iter().flat_map(|field| ["--data-urlencode", field]).collect();
        let answer = curl(self.namespace, &format!("http://127.0.0.1:9090/api/v1/{path}"), &data)?;
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["status"], "success", "{answer}");
        Some(answer["data"].clone())
    }

    /// The series of an expression now: labels and values.
    fn query(&self, expression: &str) -> Vec<(BTreeMap<String, String>, f64)> {
        let data =
            self.api("query", &[("query", expression)]).unwrap_or_else(|| panic!("it refuses {expression}"));
        let series = data["result"].as_array().unwrap_or_else(|| panic!("{expression}: {data}"));
        let one = |series: &Value| {
            let labels = serde_json::from_value(series["metric"].clone()).expect("labels");
            let value = series["value"][1].as_str().and_then(|value| value.parse().ok()).expect("a value");
            (labels, value)
        };
        series.iter().map(one).collect()
    }

    /// The only value of an expression.
    fn value(&self, expression: &str) -> Option<f64> {
        match self.query(expression).as_slice() {
            [(_, value)] => Some(*value),
            _ => None,
        }
    }

    #[track_caller]
    fn expect(&self, expression: &str, wanted: f64) {
        let found = eventually(PATIENT, || self.value(expression) == Some(wanted));
        assert!(
            found,
            "{expression} is {:?}, not {wanted}\n{}",
            self.query(expression),
            self.program.output()
        );
    }
}

/// What is at an address; `None` where the answer is not 200.
fn curl(namespace: &Netns, url: &str, arguments: &[&str]) -> Option<String> {
    let arguments = [&["--silent", "--fail", "--globoff", "--max-time", "30"], arguments, &[url]].concat();
    programs::run(namespace, "curl", arguments, PATIENT).expect("curl").success().ok()
}

/// What Prometheus has of the counters, by labels that tell them apart, as the agent has them.
fn counted(api: &Api) -> BTreeMap<Vec<String>, u64> {
    let counters = api.counters().expect("counters").0;
    let reasons = counters.reasons.into_iter().map(|of| (vec![of.reason, of.action], of.packets));
    let rules = counters.rules.into_iter().map(|of| {
        let rule = of.allow.unwrap_or_else(|| of.rows.join(","));
        let (target, transport) = (of.target.unwrap_or_default(), of.transport.unwrap_or_default());
        (vec![target, of.roles.join(","), of.service, transport, of.ports, rule], of.packets)
    });
    reasons.chain(rules).collect()
}

fn scraped(prometheus: &Prometheus<'_>, instance: &str) -> BTreeMap<Vec<String>, u64> {
    let series = |name: &str, labels: &'static [&'static str]| {
        let found = prometheus.query(&format!("{name}{{instance={instance:?}}}"));
        found.into_iter().map(move |(of, value)| {
            (labels.iter().map(|label| of.get(*label).cloned().unwrap_or_default()).collect(), value as u64)
        })
    };
    let reasons = series("lyncwall_packets_total", &["reason", "action"]);
    let rules =
        series("lyncwall_rule_packets_total", &["target", "role", "service", "transport", "ports", "rule"]);
    // The agent leaves reasons without packets out; Prometheus is told of them, so that the first one shows.
    reasons.filter(|(_, packets)| *packets != 0).chain(rules).collect()
}

#[test]
fn prometheus_knows_what_the_agent_counts() {
    let scene = Scene::new().expect("a scene");
    let folder = Folder::new().expect("a folder");
    let host = &scene.pair.host;
    let config = Config::roles(&["reverse-proxy"]).further(LISTEN).further(ALLOW);
    let (agent, api) = scene.start(&config).expect("an agent");
    let prometheus = Prometheus::start(host, &folder);
    prometheus.expect("sum(up{job=\"lyncwall\"})", 2.0);

    let brief = Duration::from_millis(100);
    for port in [8, 9, 443, 443, 9100] {
        for to in [Scene::v4(port), Scene::v6(port)] {
            tcp_connect(&scene.pair.client, to, brief).expect("a try");
        }
    }
    let ours = counted(&api);
    assert!(
        ours.iter().any(|(labels, n)| labels.contains(&"node exporter".to_owned()) && *n > 0),
        "{ours:?}"
    );
    assert!(
        ours.iter().any(|(labels, n)| labels.contains(&"reverse-proxy".to_owned()) && *n > 0),
        "{ours:?}"
    );
    for instance in INSTANCES {
        let same = eventually(PATIENT, || counted(&api) == scraped(&prometheus, instance));
        assert!(same, "{instance}: {:#?} and {:#?}", counted(&api), scraped(&prometheus, instance));
    }
    expect_status(&scene, &prometheus);

    // It was read as OpenMetrics: only that has units.
    let url = "http://127.0.0.1:9090/api/v1/targets/metadata?metric=lyncwall_switch_duration_seconds";
    let metadata: Value = serde_json::from_str(&curl(host, url, &[]).expect("an answer")).expect("JSON");
    let metadata = &metadata["data"];
    assert_eq!((&metadata[0]["type"], &metadata[0]["unit"]), (&"histogram".into(), &"seconds".into()));

    // The rules are loaded and can be evaluated; so can what the dashboard shows.
    let rules = prometheus_rules(host);
    assert!(rules.len() >= 5 && rules.iter().all(|rule| rule["health"] == "ok"), "{rules:#?}");
    for expression in dashboard_expressions() {
        let expression = expression.replace("$instance", ".*").replace("$__rate_interval", "1m");
        prometheus.query(&expression.replace("$__interval", "1m"));
    }

    expect_changes(&api, &prometheus);
    agent.kill().expect("it ran");
    prometheus.expect("max(up{job=\"lyncwall\"})", 0.0);
    let _agent = scene.instance.start().expect("another agent");
    prometheus.expect("min(up{job=\"lyncwall\"})", 1.0);
    prometheus.expect(&change("switch", "reverted"), 1.0);
    prometheus.expect(&change("switch", "made"), 2.0);
    prometheus
        .expect("lyncwall_switch_duration_seconds_count{instance=\"[::1]:9464\", kind=\"switch\"}", 0.0);
}

fn prometheus_rules(host: &Netns) -> Vec<Value> {
    let rules = || {
        let answer = curl(host, "http://127.0.0.1:9090/api/v1/rules", &[]).expect("an answer");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        answer["data"]["groups"][0]["rules"].as_array().cloned().unwrap_or_default()
    };
    assert!(eventually(PATIENT, || rules().iter().all(|rule| rule["health"] != "unknown")), "{:#?}", rules());
    rules()
}

/// What `lyncwall status` says.
#[track_caller]
fn expect_status(scene: &Scene, prometheus: &Prometheus<'_>) {
    let status = scene.instance.cli(["--json", "status"]).expect("it runs").json().expect("JSON");
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("no number in {status:#}"));
    let of = |name: &str| format!("{name}{{instance=\"127.0.0.1:9464\"}}");
    prometheus.expect(&of("lyncwall_generation"), number(&status["generation"]));
    prometheus.expect(&format!("max({})", of("lyncwall_flow_table_size")), number(&status["flows"]["size"]));
    prometheus.expect(&of("lyncwall_flows_added_total"), number(&status["flows"]["added"]));
    prometheus.expect(&of("lyncwall_maps_bytes"), number(&status["program"]["map_bytes"]));
    prometheus
        .expect(&format!("max({})", of("lyncwall_block_list_size")), number(&status["blocked"]["size"]));
    let (version, kernel) = (&status["version"], &status["kernel"]["release"]);
    let info = format!("lyncwall_build_info{{instance=\"[::1]:9464\", version={version}, kernel={kernel}}}");
    prometheus.expect(&info, 1.0);
    prometheus.expect("min(lyncwall_interface_guarded)", 1.0);
    prometheus.expect("min(lyncwall_enforcing)", 1.0);
}

fn change(kind: &str, result: &str) -> String {
    format!("lyncwall_changes_total{{instance=\"127.0.0.1:9464\", kind={kind:?}, result={result:?}}}")
}

/// Changes are counted by what became of them, and timed.
fn expect_changes(api: &Api, prometheus: &Prometheus<'_>) {
    prometheus.expect(&change("switch", "reverted"), 0.0);
    api.switch(&["director"]).expect("a switch");
    api.switch(&["nobody"]).expect_err("a mistake");
    api.switch_within(&["edge-internal"], 1).expect("a switch");
    prometheus.expect(&change("switch", "made"), 2.0);
    prometheus.expect(&change("switch", "refused"), 1.0);
    prometheus.expect(&change("switch", "reverted"), 1.0);
    api.set_mode_with(None, lyncwall_api::Mode::Audit, 60, lyncwall_api::Existing::Cut).expect("a mode");
    prometheus.expect("lyncwall_change_waiting{instance=\"[::1]:9464\"}", 1.0);
    prometheus.expect("sum(lyncwall_enforcing{instance=\"[::1]:9464\"})", 0.0);
    api.rollback().expect("back");
    prometheus.expect(&change("mode", "rolled-back"), 1.0);
    api.reload_within(60).expect("a reload");
    api.confirm().expect("for good");
    prometheus.expect(&change("reload", "confirmed"), 1.0);
    for (kind, count) in [("switch", 2.0), ("mode", 1.0), ("reload", 1.0)] {
        let of = |part: &str| {
            format!("lyncwall_switch_duration_seconds_{part}{{instance=\"[::1]:9464\", kind={kind:?}}}")
        };
        prometheus.expect(&of("count"), count);
        assert!(prometheus.value(&of("sum")).is_some_and(|sum| sum > 0.0));
    }
    prometheus.expect("count(lyncwall_switch_duration_seconds_bucket{le=\"+Inf\"})", 6.0);
}

#[test]
fn metrics_are_served_where_the_file_says_and_nothing_else_is() {
    let scene = Scene::new().expect("a scene");
    let host = &scene.pair.host;
    let config =
        |listen: &str| Config::roles(&["director"]).further(&format!("[metrics]\nlisten = [{listen}]\n"));
    let serves = |address: &str| curl(host, &format!("http://{address}/metrics"), &[]).is_some();
    // The second is not there yet: an agent starts before the network does.
    let (_agent, api) = scene.start(&config("\"127.0.0.1:9464\", \"198.51.100.77:9464\"")).expect("an agent");
    assert!(serves("127.0.0.1:9464") && !serves("127.0.0.1:9465"));
    for (method, path) in
        [("GET", "/v1/status"), ("GET", "/v1/openapi.json"), ("POST", "/v1/switch"), ("POST", "/metrics")]
    {
        let url = format!("http://127.0.0.1:9464{path}");
        assert!(curl(host, &url, &["--request", method]).is_none(), "{method} {path}");
    }

    scene.instance.configure(&config("\"[::1]:9464\", \"127.0.0.1:9465\"").toml()).expect("a file");
    let reloaded = api.reload_within(60).expect("a reload");
    assert!(reloaded.changes.iter().any(|change| change.contains("127.0.0.1:9465")), "{reloaded:?}");
    let moved = || serves("[::1]:9464") && serves("127.0.0.1:9465") && !serves("127.0.0.1:9464");
    assert!(eventually(PATIENT, moved));
    api.rollback().expect("back");
    let back = || !serves("[::1]:9464") && !serves("127.0.0.1:9465") && serves("127.0.0.1:9464");
    assert!(eventually(PATIENT, back));

    let _taken = host.run(|| TcpListener::bind("127.0.0.1:9466")).expect("an address");
    scene.instance.configure(&config("\"127.0.0.1:9464\", \"127.0.0.1:9466\"").toml()).expect("a file");
    let before = api.status().expect("a status").generation;
    let refused = api.reload().expect_err("it is taken").to_string();
    assert!(refused.contains("metrics.listen[1]: cannot serve metrics on 127.0.0.1:9466"), "{refused}");
    assert_eq!(api.status().expect("a status").generation, before);
    assert!(serves("127.0.0.1:9464"));
}

#[test]
fn what_alerts_and_dashboard_ask_for_is_exposed() {
    let scene = Scene::new().expect("a scene");
    let (_agent, _) = scene.start(&Config::roles(&["director"]).further(ALLOW)).expect("an agent");
    let answer = ask(&scene.instance.socket(), "GET", "/metrics", "").expect("an answer");
    assert_eq!((answer.status, &*answer.kind), (200, "application/openmetrics-text"));
    assert!(answer.body.ends_with("# EOF\n"));
    let samples = answer.body.lines().filter(|line| !line.starts_with('#'));
    let exposed: BTreeSet<&str> = samples.filter_map(|line| line.split(['{', ' ']).next()).collect();
    let asked: BTreeSet<String> = dashboard_expressions().iter().flat_map(|text| names_in(text)).collect();
    let rules =
        std::fs::read_to_string(repository().join("config/prometheus/lyncwall-rules.yml")).expect("rules");
    let asked: BTreeSet<String> = asked.into_iter().chain(names_in(&rules)).collect();
    assert!(asked.len() > 15, "{asked:?}");
    for name in &asked {
        assert!(exposed.contains(&**name), "nothing exposes {name}: {exposed:?}");
    }
    super::alerts::expect_good_names(&scene.pair.host, &answer.body);
}
