//! Ports that are only for groups of sources.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use lyncwall_tests::expect::{expect_tcp, expect_udp};
use lyncwall_tests::netns::Pair;
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::Outcome::{Answered, TimedOut};

use super::{cli_switch, expect_count, tcp_servers, udp_servers};

/// A configuration for these roles, with further tables.
fn config(roles: &[&str], further: &str) -> Config {
    Config { further: further.to_owned(), ..Config::roles(roles) }
}

#[test]
fn a_source_of_the_group_gets_in_and_one_outside_is_dropped_for_its_source() {
    let scene = Scene::new().expect("a scene");
    let published = |prefixes: &str| format!("[groups]\nreverse-proxy = [{prefixes}]\n");
    // The client over IPv4, a neighbour of it over IPv6.
    let config = |prefixes: &str| config(&["director-vip"], &published(prefixes));
    let (_agent, api) = scene.start(&config("\"192.0.2.1\", \"2001:db8::2\"")).expect("an agent");
    let client = &scene.pair.client;
    let _servers = tcp_servers(&scene.pair.host, &[443, 4443]);
    expect_tcp(client, Scene::v4(4443), Answered);
    expect_tcp(client, Scene::v6(4443), TimedOut);
    expect_count(&api, "source", "drop", 1);
    // Nobody named sources for this one, and it is said.
    expect_tcp(client, Scene::v6(443), Answered);
    let status = scene.instance.cli(["status"]).expect("it runs");
    let warned = "tcp 80, tcp 443 are open to the world: set [groups].internal-clients";
    assert!(status.stderr.contains(warned), "{}", status.stderr);

    scene.instance.configure(&config("\"192.0.2.2/31\", \"2001:db8::/64\"").toml()).expect("a file");
    api.reload().expect("a reload");
    expect_tcp(client, Scene::v4(4443), TimedOut);
    expect_tcp(client, Scene::v6(4443), Answered);
    expect_count(&api, "source", "drop", 2);
}

#[test]
fn rows_that_need_a_group_overrides_options_and_own_roles_hold_on_the_wire() {
    let scene = Scene::new().expect("a scene");
    let role = "[[role]]\nname = \"backup\"\n[[role.row]]\ntransport = \"tcp\"\nports = 1556\ngroups = [\"tapes\"]\n";
    let groups = "[groups]\nservers = [\"192.0.2.1\"]\ntapes = [\"2001:db8::1\"]\n";
    let target = "[[target]]\nroles = [\"mediation\", \"reverse-proxy\", \"backup\"]\n\
                  overrides = { \"server.39\" = \"20000-20001\" }\noptional = [\"reverse-proxy.http\"]\n";
    let file = format!(
        "[management]\nfrom = [\"203.0.113.0/24\"]\ntcp = [22]\n[[interface]]\nname = \"{}\"\n{target}{role}{groups}",
        Pair::HOST_LINK
    );
    scene.instance.configure(&file).expect("a file");
    let _agent = scene.instance.start().expect("an agent");
    let client = &scene.pair.client;
    let _tcp = tcp_servers(&scene.pair.host, &[80, 1556]);
    let _udp = udp_servers(&scene.pair.host, &[1434, 20_000, 20_002]);
    expect_udp(client, 40_000, Scene::v4(1434), Answered);
    expect_udp(client, 40_000, Scene::v6(1434), TimedOut);
    expect_tcp(client, Scene::v4(1556), TimedOut);
    expect_tcp(client, Scene::v6(1556), Answered);
    expect_udp(client, 40_000, Scene::v4(20_000), Answered);
    expect_udp(client, 40_000, Scene::v4(20_002), TimedOut);
    expect_tcp(client, Scene::v4(80), Answered);
    cli_switch(&scene, &["mediation"]);
    expect_tcp(client, Scene::v6(1556), TimedOut);
    expect_udp(client, 40_000, Scene::v4(1434), Answered);
}

/// Two thirds of them IPv4, all apart from each other, and from the wire.
fn hundred_thousand() -> Vec<String> {
    let v4 =
        (0..66_000u32).map(|n| format!("\"{}/{}\"", Ipv4Addr::from_bits(0x0a00_0000 + (n << 8)), 24 + n % 9));
    let v6 = (0..34_000u128)
        .map(|n| format!("\"{}/{}\"", Ipv6Addr::from_bits((0xfd00 << 112) | (n << 80)), 48 + n % 17));
    v4.chain(v6).collect()
}

#[test]
fn a_hundred_thousand_prefixes_hold() {
    let scene = Scene::new().expect("a scene");
    let mut prefixes = hundred_thousand();
    assert_eq!(prefixes.len(), 100_000);
    prefixes.push("\"192.0.2.1\"".to_owned());
    let mut groups = String::from("[groups]\nreverse-proxy = [\n");
    for prefix in &prefixes {
        writeln!(groups, "{prefix},").expect("a string takes it");
    }
    groups.push_str("]\n");
    let start = Instant::now();
    let (agent, api) = scene.start(&config(&["director-vip"], &groups)).expect("an agent");
    println!("started with {} prefixes after {:?}", prefixes.len(), start.elapsed());
    let client = &scene.pair.client;
    let _servers = tcp_servers(&scene.pair.host, &[4443]);
    expect_tcp(client, Scene::v4(4443), Answered);
    expect_tcp(client, Scene::v6(4443), TimedOut);
    expect_count(&api, "source", "drop", 1);

    // The sources stay as they are, so a switch writes none of them.
    let start = Instant::now();
    cli_switch(&scene, &["reverse-proxy"]);
    println!("switched after {:?}", start.elapsed());
    expect_tcp(client, Scene::v4(4443), TimedOut);
    cli_switch(&scene, &["director-vip"]);
    expect_tcp(client, Scene::v4(4443), Answered);

    // The next agent finds them.
    agent.kill().expect("it ends");
    let start = Instant::now();
    let _agent = scene.instance.start().expect("another agent");
    println!("taken over after {:?}", start.elapsed());
    expect_tcp(client, Scene::v4(4443), Answered);
    expect_tcp(client, Scene::v6(4443), TimedOut);

    // Only what is different is written.
    groups = groups.replace("\"192.0.2.1\"", "\"2001:db8::1\"");
    scene.instance.configure(&config(&["director-vip"], &groups).toml()).expect("a file");
    let start = Instant::now();
    scene.instance.api().expect("a client").reload().expect("a reload");
    println!("one prefix replaced after {:?}", start.elapsed());
    expect_tcp(client, Scene::v4(4443), TimedOut);
    expect_tcp(client, Scene::v6(4443), Answered);
}
