//! nginx as the reverse proxy: 443 outside, 4443 to a pool inside, both legs guarded.

use lyncwall_tests::expect::{PATIENT, expect_tcp};
use lyncwall_tests::netns::{End, Netns, Pair, veth};
use lyncwall_tests::programs::{Folder, Program};
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::Outcome::{Answered, TimedOut};
use lyncwall_tests::traffic::TcpEcho;

use super::{curl, nginx};

/// The proxy's inside interface.
const INSIDE_LINK: &str = "inside0";
/// The proxy's inside address and that of the pool.
const INSIDE: [u8; 4] = [198, 51, 100, 1];
const POOL: [u8; 4] = [198, 51, 100, 2];

/// A page of a megabyte, as an address book.
const LARGE: usize = 1 << 20;

/// The pool, behind the proxy's second interface.
fn pool(scene: &Scene) -> Netns {
    let pool = Netns::new().expect("a namespace");
    veth(
        End { namespace: &scene.pair.host, name: INSIDE_LINK, mac: [2, 0, 0, 0, 0x20, 1] },
        End { namespace: &pool, name: "pool0", mac: [2, 0, 0, 0, 0x20, 2] },
    )
    .expect("a wire");
    scene.pair.host.add_address(INSIDE_LINK, INSIDE.into(), 24).expect("an address");
    pool.add_address("pool0", POOL.into(), 24).expect("an address");
    pool.add_route([192, 0, 2, 0].into(), 24, INSIDE.into()).expect("a route");
    pool
}

/// The pool's external web site.
fn web_site(at: &Netns, folder: &Folder) -> Program {
    folder.write("large", &"address book\n".repeat(LARGE / 13)).expect("a file");
    let http = format!(
        "server {{\nlisten 4443 ssl;\nroot {};\nlocation = /large {{}}\n\
         location = /slow {{ alias {}; limit_rate 300k; }}\n\
         location / {{ return 200 \"pool $request_uri\\n\"; }}\n}}",
        folder.path().display(),
        folder.file("large")
    );
    nginx(at, folder, &http, &[4443])
}

fn reverse_proxy(at: &Netns, folder: &Folder) -> Program {
    let http = "upstream pool {\nserver 198.51.100.2:4443;\nkeepalive 4;\n}\n\
                server {\nlisten 443 ssl;\nlocation / {\nproxy_pass https://pool;\nproxy_http_version 1.1;\n\
                proxy_set_header Connection \"\";\nproxy_connect_timeout 5s;\n}\n}";
    nginx(at, folder, http, &[443])
}

#[test]
fn a_client_gets_through_to_the_pool_and_only_by_the_proxy() {
    let scene = Scene::new().expect("a scene");
    let pool = pool(&scene);
    let [outside, inside] = [(); 2].map(|()| Folder::new().expect("a folder"));
    let _pool = web_site(&pool, &inside);
    let _proxy = reverse_proxy(&scene.pair.host, &outside);
    // Somebody at 4443 of the proxy itself, and a way past the proxy: what is silent is so by the firewall.
    let _stray = TcpEcho::start(&scene.pair.host, ([0, 0, 0, 0], 4443)).expect("a server");
    let client = &scene.pair.client;
    scene.pair.host.sysctl("net.ipv4.ip_forward", "1").expect("forwarding");
    client.add_route([198, 51, 100, 0].into(), 24, Pair::HOST_V4.into()).expect("a route");
    expect_tcp(client, Scene::v4(4443), Answered);
    expect_tcp(client, (POOL, 4443), Answered);

    let config = Config::roles(&["reverse-proxy"]).interface(INSIDE_LINK);
    let (_agent, api) = scene.start(&config).expect("an agent");
    for (connection, connects) in [("keep-alive", 1), ("close", 50)] {
        let header = format!("Connection: {connection}");
        let url = format!("https://{}/[1-50]", Pair::HOST_V4);
        let got = curl(client, &["--header", &header, "--write-out", "connects %{num_connects}\n", &url]);
        let got = got.success().expect("fifty pages");
        assert!((1..=50).all(|page| got.contains(&format!("pool /{page}\n"))), "{got}");
        assert_eq!(got.matches("connects 1").count(), connects, "{got}");
    }
    let url = format!("https://{}/large", Pair::HOST_V4);
    let large = curl(client, &[&url]).success().expect("a large page");
    assert_eq!(large.len(), LARGE / 13 * 13);

    expect_tcp(client, Scene::v4(4443), TimedOut);
    expect_tcp(client, (POOL, 4443), TimedOut);
    // What the pool could ask the proxy for, it does not get at other ports either.
    expect_tcp(&pool, (INSIDE, 4443), TimedOut);
    let counters = api.counters().expect("counters");
    assert!(counters.rule("tcp", "443") >= 52 && counters.port("tcp", 4443) >= 2, "{counters:?}");
}

#[test]
fn a_proxy_goes_on_when_the_role_is_switched_and_back() {
    let scene = Scene::new().expect("a scene");
    let pool = pool(&scene);
    let [outside, inside] = [(); 2].map(|()| Folder::new().expect("a folder"));
    let _pool = web_site(&pool, &inside);
    let _proxy = reverse_proxy(&scene.pair.host, &outside);
    let config = Config::roles(&["reverse-proxy"]).interface(INSIDE_LINK);
    let (_agent, api) = scene.start(&config).expect("an agent");
    let client = &scene.pair.client;
    let url = format!("https://{}/page", Pair::HOST_V4);
    curl(client, &[&url]).success().expect("a page");
    api.switch(&["mediation"]).expect("a switch");
    // curl's own code for a time-out.
    let refused = curl(client, &["--connect-timeout", "0.5", &url]);
    assert_eq!(refused.code, Some(28), "{refused:?}");
    api.switch(&["reverse-proxy"]).expect("a switch");
    let page = curl(client, &[&url]).success().expect("a page");
    assert_eq!(page, "pool /page\n");
}

#[test]
fn a_download_by_the_proxy_goes_on_while_the_firewall_turns_on() {
    let scene = Scene::new().expect("a scene");
    let pool = pool(&scene);
    let [outside, inside, client] = [(); 3].map(|()| Folder::new().expect("a folder"));
    let _pool = web_site(&pool, &inside);
    let _proxy = reverse_proxy(&scene.pair.host, &outside);
    // The pool sends slowly, so that both connections have packets all the time.
    let url = format!("https://{}/slow", Pair::HOST_V4);
    let arguments = ["--silent", "--show-error", "--fail", "--insecure", "--no-buffer", "--output", "page"];
    let arguments = arguments.into_iter().chain(["--write-out", "got %{size_download}", &url]);
    let download = Program::start(&scene.pair.client, &client, "curl", arguments).expect("curl");
    let some = |_: &str| !client.read("page").is_empty();
    let mut download = download.ready(PATIENT, some).expect("it begins");

    let (_agent, _api) =
        scene.start(&Config::roles(&["reverse-proxy"]).interface(INSIDE_LINK)).expect("an agent");
    let before = client.read("page").len();
    assert!(before < LARGE / 13 * 13, "it was over before the firewall was there");
    let all = format!("got {}", LARGE / 13 * 13);
    // curl ends when it has all, and that is no failure.
    download.wait_until("through", PATIENT, |wrote| wrote == all).expect("the whole page");
}
