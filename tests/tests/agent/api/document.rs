//! The running agent answers as its OpenAPI document says.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::tcp_connect;
use serde_json::{Value, json};

use super::{Answer, ask, repository};

/// The OpenAPI document of an agent.
struct Document(Value);

impl Document {
    /// Whether a value is what a schema of the document says, and if not, why.
    fn check(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let mut root = schema.as_object().expect("a schema").clone();
        root.insert("components".to_owned(), self.0["components"].clone());
        let validator = jsonschema::validator_for(&Value::Object(root)).expect("a good schema");
        let errors: Vec<String> =
            validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
    }

    fn operation(&self, method: &str, path: &str) -> &Value {
        let operation = &self.0["paths"][path][method];
        assert!(operation.is_object(), "the document has no {method} {path}");
        operation
    }

    /// All that can be asked, by method and path.
    fn operations(&self) -> BTreeSet<(String, String)> {
        let paths = self.0["paths"].as_object().expect("paths");
        let methods = paths.iter().flat_map(|(path, item)| {
            let methods = item.as_object().expect("methods").keys();
            methods.map(move |method| (method.clone(), path.clone()))
        });
        methods.collect()
    }

    /// Asserts that an answer is one that the document has for this request.
    #[track_caller]
    fn expect(&self, method: &str, path: &str, answer: &Answer) {
        let response = &self.operation(method, path)["responses"][answer.status.to_string()];
        assert!(response["description"].is_string(), "{method} {path} is not to answer {answer:?}");
        let content = &response["content"][&answer.kind];
        assert!(content.is_object(), "{method} {path} is not to answer with that type: {answer:?}");
        if answer.kind == "application/json" {
            let value = serde_json::from_str(&answer.body).expect("JSON");
            if let Err(why) = self.check(&content["schema"], &value) {
                panic!("{method} {path} answered {value:#}, which is not what the document says: {why}");
            }
        }
    }
}

fn document(socket: &Path) -> Document {
    let answer = ask(socket, "GET", "/v1/openapi.json", "").expect("an answer");
    assert_eq!((answer.status, &*answer.kind), (200, "application/json"));
    Document(serde_json::from_str(&answer.body).expect("JSON"))
}

/// What is asked, in this order: the method, the path, the body, and the status of the answer.
fn requests() -> Vec<(&'static str, &'static str, String, u16)> {
    let get = |path: &'static str| ("get", path, String::new(), 200);
    let post = |path: &'static str, body: &str, status| ("post", path, body.to_owned(), status);
    vec![
        get("/v1/alive"),
        get("/v1/status"),
        get("/v1/counters"),
        get("/v1/blocked"),
        get("/v1/openapi.json"),
        get("/metrics"),
        ("get", "/v1/events?reason=closd", String::new(), 400),
        ("get", "/v1/events?colour=red", String::new(), 400),
        ("get", "/v1/capture?count=0", String::new(), 400),
        ("get", "/v1/capture?snap=1&port=sctp/1", String::new(), 400),
        post(
            "/v1/explain",
            r#"{"from": "192.0.2.9", "to": "192.0.2.1", "protocol": "tcp", "port": 443}"#,
            200,
        ),
        post(
            "/v1/explain",
            r#"{"from": "192.0.2.9", "to": "192.0.2.1", "protocol": "udp", "port": 3478}"#,
            200,
        ),
        post("/v1/explain", r#"{"frame": "ffffffffffff0200000000010806"}"#, 200),
        post("/v1/explain", r#"{"frame": "fg"}"#, 400),
        post("/v1/explain", r#"{"from": "192.0.2.9"}"#, 400),
        post("/v1/explain", r#"{"to": 5}"#, 400),
        post("/v1/preview", r#"{"roles": ["director"]}"#, 200),
        post("/v1/preview", r#"{"mode": "audit"}"#, 200),
        post("/v1/preview", r#"{"roles": ["nobody"]}"#, 400),
        post("/v1/preview", r#"{"role": ["director"]}"#, 400),
        post("/v1/preview", "{", 400),
        post("/v1/confirm", "", 400),
        post("/v1/rollback", "", 400),
        post("/v1/switch", r#"{"roles": ["director"], "confirm": 60}"#, 200),
        get("/v1/status"),
        post("/v1/switch", r#"{"roles": ["edge-internal"]}"#, 400),
        post("/v1/confirm", "", 200),
        post("/v1/switch", r#"{"roles": ["reverse-proxy"], "confirm": 60, "existing": "drain"}"#, 200),
        post("/v1/rollback", "", 200),
        post("/v1/switch", r#"{"roles": "director"}"#, 400),
        post("/v1/switch", r#"{"roles": ["director"], "confirm": 0}"#, 400),
        post("/v1/switch", r#"{"roles": ["director"], "target": "nobody"}"#, 400),
        post("/v1/switch", "", 400),
        post("/v1/switch", "\u{1F512}", 400),
        ("post", "/v1/switch", format!("{{\"roles\": [\"{}\"]}}", "a".repeat(70_000)), 413),
        post("/v1/mode", r#"{"mode": "audit"}"#, 200),
        post("/v1/mode", r#"{"mode": "enforce", "target": "host"}"#, 200),
        post("/v1/mode", r#"{"mode": "enforce"}"#, 200),
        post("/v1/mode", r#"{"mode": "off"}"#, 400),
        post("/v1/mode", r#"{"mode": "audit", "target": "nobody"}"#, 400),
        post("/v1/reload", "", 200),
        post("/v1/reload", "null", 200),
        post("/v1/reload", r#"{"confirm": 60}"#, 200),
        post("/v1/rollback", "", 200),
        post("/v1/reload", r#"{"colour": 1}"#, 400),
        post("/v1/block", r#"{"prefixes": ["203.0.113.0/24"], "seconds": 60}"#, 200),
        get("/v1/blocked"),
        post("/v1/block", r#"{"prefixes": ["203.0.113.1/24"]}"#, 400),
        post("/v1/block", "[]", 400),
        post("/v1/unblock", r#"{"prefixes": ["203.0.113.0/24"]}"#, 200),
        post("/v1/unblock", r#"{"prefixes": ["everybody"]}"#, 400),
        post("/v1/acknowledge", "", 200),
        post("/v1/detach", r#"{"colour": 1}"#, 400),
        get("/v1/counters"),
        get("/metrics"),
    ]
}

#[test]
fn every_answer_is_what_the_openapi_document_says() {
    let scene = Scene::new().expect("a scene");
    let allow = "[[allow]]\nname = \"agent\"\ntransport = \"tcp\"\nports = [9100]\n";
    let (agent, _) = scene.start(&Config::roles(&["reverse-proxy"]).further(allow)).expect("an agent");
    let socket = scene.instance.socket();
    let document = document(&socket);
    let kept = fs::read_to_string(repository().join("docs/openapi.json")).expect("docs/openapi.json");
    assert_eq!(document.0, serde_json::from_str::<Value>(&kept).expect("JSON"), "docs/openapi.json");

    let mut asked = BTreeSet::new();
    for (method, path, body, status) in requests() {
        let answer = ask(&socket, &method.to_uppercase(), path, &body).expect("an answer");
        assert_eq!(answer.status, status, "{method} {path} {body}: {answer:?}");
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        document.expect(method, path, &answer);
        expect_good_body(&document, method, path, &body, status);
        asked.insert((method.to_owned(), path.to_owned()));
    }

    events_are_as_it_says(&document, &scene);
    asked.insert(("get".to_owned(), "/v1/events".to_owned()));
    let detached = ask(&socket, "POST", "/v1/detach", "").expect("an answer");
    assert_eq!(detached.status, 200, "{detached:?}");
    document.expect("post", "/v1/detach", &detached);
    asked.insert(("post".to_owned(), "/v1/detach".to_owned()));
    agent.wait().expect("it ends");
    assert_eq!(asked, document.operations(), "each request of the document is made here");
}

/// A body that the agent took is one of the document.
#[track_caller]
fn expect_good_body(document: &Document, method: &str, path: &str, body: &str, status: u16) {
    let wanted = &document.operation(method, path)["requestBody"];
    if status != 200 || body.is_empty() {
        return;
    }
    let value = serde_json::from_str(body).expect("JSON");
    let checked = document.check(&wanted["content"]["application/json"]["schema"], &value);
    assert_eq!(checked, Ok(()), "{method} {path} took {body}");
}

fn events_are_as_it_says(document: &Document, scene: &Scene) {
    let content = &document.operation("get", "/v1/events")["responses"]["200"]["content"];
    let schema = &content["application/x-ndjson"]["schema"];
    let mut stream = UnixStream::connect(scene.instance.socket()).expect("the socket");
    stream.set_read_timeout(Some(PATIENT)).expect("a time");
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: lyncwall\r\n\r\n").expect("a request");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("a line"));
    let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    assert!(head.iter().any(|line| line.contains("application/x-ndjson")), "{head:?}");
    for closed in [Scene::v4(8), Scene::v6(8)] {
        tcp_connect(&scene.pair.client, closed, Duration::from_millis(100)).expect("a try");
    }
    // Between them stand the lengths of chunks.
    let events: Vec<Value> = lines
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(&line).expect("JSON"))
        .take(2)
        .collect();
    for event in &events {
        assert_eq!(document.check(schema, event), Ok(()), "{event}");
        assert_eq!(event["destination_port"], 8, "{event}");
    }
    assert_eq!(document.check(schema, &json!({ "lost": 5 })), Ok(()));
    assert!(document.check(schema, &json!({ "lust": 5 })).is_err(), "the schema takes anything");
}

#[test]
fn what_the_document_does_not_have_is_refused_in_words() {
    let scene = Scene::new().expect("a scene");
    let (_agent, _) = scene.start(&Config::default()).expect("an agent");
    let socket = scene.instance.socket();
    let document = document(&socket);
    let refusal = json!({ "$ref": "#/components/schemas/Refusal" });
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/v1/nothing", 404),
        ("POST", "/v2/switch", 404),
        ("GET", "/v1/switch", 405),
        ("POST", "/v1/status", 405),
        ("DELETE", "/v1/blocked", 405),
    ] {
        let answer = ask(&socket, method, path, "").expect("an answer");
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        let body = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(document.check(&refusal, &body), Ok(()), "{answer:?}");
        assert!(answer.body.contains("/v1/openapi.json"), "{answer:?}");
    }
}
