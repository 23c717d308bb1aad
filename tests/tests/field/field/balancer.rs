//! HAProxy as the balancer of a pool of Directors: it hands TCP on and asks for the health of each.

use lyncwall_tests::expect::{PATIENT, expect_tcp};
use lyncwall_tests::netns::{End, Netns, Pair, veth};
use lyncwall_tests::programs::{Folder, Program};
use lyncwall_tests::scene::{Config, Scene};
use lyncwall_tests::traffic::Outcome::TimedOut;
use lyncwall_tests::traffic::{TcpEcho, eventually};

use super::{curl, nginx, serve};

/// A Director of the pool, on a wire of its own.
struct Director {
    namespace: Netns,
    number: u8,
    folder: Folder,
}

impl Director {
    fn new(balancer: &Netns, number: u8) -> Self {
        let namespace = Netns::new().expect("a namespace");
        let link = Self::link(number);
        veth(
            End { namespace: balancer, name: &link, mac: [2, 0, 0, 0, 0x50, number] },
            End { namespace: &namespace, name: "pool0", mac: [2, 0, 0, 0, 0x51, number] },
        )
        .expect("a wire");
        balancer.add_address(&link, [10, 0, number, 1].into(), 24).expect("an address");
        namespace.add_address("pool0", [10, 0, number, 2].into(), 24).expect("an address");
        Self { namespace, number, folder: Folder::new().expect("a folder") }
    }

    /// The balancer's interface on this wire.
    fn link(number: u8) -> String {
        format!("pool{number}")
    }

    /// Says its number at both ports.
    fn serve(&self) -> Program {
        let http = format!(
            "server {{\nlisten 443 ssl;\nlisten 5061 ssl;\nlocation / {{ return 200 \"director {}\\n\"; }}\n}}",
            self.number
        );
        nginx(&self.namespace, &self.folder, &http, &[443, 5061])
    }
}

/// Hands on both ports to whoever is healthy, by turns.
fn haproxy(at: &Netns, folder: &Folder) -> Program {
    let mut config = String::from(
        "global\nlog stdout format raw local0\n\ndefaults\nmode tcp\nlog global\ntimeout connect 2s\n\
         timeout client 30s\ntimeout server 30s\n",
    );
    for port in [443, 5061] {
        config += &format!(
            "\nlisten port{port}\nbind 0.0.0.0:{port}\nbalance roundrobin\noption redispatch\n\
             default-server check inter 200ms fall 2 rise 1\n\
             server one 10.0.1.2:{port}\nserver two 10.0.2.2:{port}\n"
        );
    }
    let config = folder.write("haproxy.cfg", &config).expect("a file");
    serve(at, folder, "haproxy", &["-db", "-f", config.to_str().expect("a path of text")], &[443, 5061])
}

/// Which Directors answer at a port, in twenty tries. All of them have to be answered.
#[track_caller]
fn answering(client: &Netns, port: u16) -> Vec<u8> {
    let url = format!("https://{}:{port}/[1-20]", Pair::HOST_V4);
    let got = curl(client, &["--header", "Connection: close", &url]).success().expect("twenty answers");
    assert_eq!(got.lines().count(), 20, "{got}");
    [1, 2].into_iter().filter(|number| got.contains(&format!("director {number}\n"))).collect()
}

#[test]
fn both_ports_are_served_while_one_of_two_directors_dies_and_comes_back() {
    let scene = Scene::new().expect("a scene");
    let (client, host) = (&scene.pair.client, &scene.pair.host);
    let [one, two] = [1, 2].map(|number| Director::new(host, number));
    let config =
        Config::roles(&["director-lb-hlb"]).interface(&Director::link(1)).interface(&Director::link(2));
    let (_agent, api) = scene.start(&config).expect("an agent");
    let (first, _second) = (one.serve(), two.serve());
    let folder = Folder::new().expect("a folder");
    let balancer = haproxy(host, &folder);
    let _closed = TcpEcho::start(host, ([0, 0, 0, 0], 8404)).expect("a server");
    for port in [443, 5061] {
        assert_eq!(answering(client, port), [1, 2], "at {port}: {}", balancer.output());
    }
    expect_tcp(client, Scene::v4(8404), TimedOut);

    drop(first);
    let down = |proxy: &str| balancer.output().contains(&format!("Server {proxy}/one is DOWN"));
    assert!(eventually(PATIENT, || down("port443") && down("port5061")), "{}", balancer.output());
    for port in [443, 5061] {
        assert_eq!(answering(client, port), [2], "at {port}: {}", balancer.output());
    }
    let _first = one.serve();
    let up = |proxy: &str| balancer.output().contains(&format!("Server {proxy}/one is UP"));
    assert!(eventually(PATIENT, || up("port443") && up("port5061")), "{}", balancer.output());
    for port in [443, 5061] {
        assert_eq!(answering(client, port), [1, 2], "at {port}: {}", balancer.output());
    }
    let counters = api.counters().expect("counters");
    assert!(counters.rule("tcp", "443") >= 60 && counters.rule("tcp", "5061") >= 60, "{counters:?}");
    assert_eq!(counters.port("tcp", 8404), 1);
}
