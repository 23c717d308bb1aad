//! The program on interfaces: attached, adopted, replaced, refused.

use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::Result;
use lyncwall_common::reason::{Action as Verdict, Reason};
use lyncwall_datapath::{Attach, Datapath, Mode};
use lyncwall_policy::problem::Problems;
use lyncwall_tests::bpffs::Bpffs;
use lyncwall_tests::expect::PATIENT;
use lyncwall_tests::netns::{End, Netns, Pair, veth};
use lyncwall_tests::prerequisites::require_root;
use lyncwall_tests::traffic::{FrameSocket, Outcome, TcpEcho, eventually, tcp_connect};
use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::link::{LinkAttribute, LinkXdp};
use tokio_stream::StreamExt as _;

use super::{MAPS, PATIENCE, entries, open, pin_dir, policy, problem, runtime, send_until, syn};

/// The XDP program on an interface.
fn program_on(namespace: &Netns, interface: &str) -> Option<u32> {
    let index = namespace.index(interface).expect("the interface is there");
    let attributes = netlink(namespace, async |handle| {
        let mut links = handle.link().get().match_index(index).execute();
        Ok(links.next().await.expect("an answer")?.attributes)
    });
    attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => xdp.into_iter().find_map(|xdp| match xdp {
            LinkXdp::ProgId(id) if id != 0 => Some(id),
            _ => None,
        }),
        _ => None,
    })
}

fn netlink<T: Send>(
    namespace: &Netns,
    work: impl AsyncFnOnce(rtnetlink::Handle) -> Result<T, rtnetlink::Error> + Send,
) -> T {
    namespace.run(|| {
        runtime().block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().expect("a netlink socket");
            let connection = tokio::spawn(connection);
            let result = work(handle).await.expect("the kernel agrees");
            connection.abort();
            result
        })
    })
}

#[test]
fn enforcement_outlives_the_agent_and_the_next_one_adopts_it() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    let pair = Pair::new().expect("a pair");
    let servers: Vec<_> = [443, 8443]
        .map(|port| TcpEcho::start(&pair.host, (IpAddr::from(Pair::HOST_V4), port)).expect("a server"))
        .into();
    let outcome = |port: u16| {
        tcp_connect(&pair.client, (IpAddr::from(Pair::HOST_V4), port).into(), PATIENCE).expect("a try")
    };
    assert_eq!((outcome(443), outcome(8443)), (Outcome::Answered, Outcome::Answered));

    let mut datapath = open(&directory);
    datapath.install(&policy(&[443])).expect("a generation");
    let attached = pair.host.run(|| datapath.attach(Pair::HOST_LINK, Attach::Auto)).expect("a link");
    assert_eq!((attached.mode, attached.replaced, attached.native_refused), (Mode::Native, false, None));
    assert_eq!(attached.ifindex, pair.host.index(Pair::HOST_LINK).expect("an index"));
    assert_eq!((outcome(443), outcome(8443)), (Outcome::Answered, Outcome::TimedOut));
    let first = datapath.status().expect("a status").id;
    assert_eq!(program_on(&pair.host, Pair::HOST_LINK), Some(first));

    drop(datapath);
    assert_eq!((outcome(443), outcome(8443)), (Outcome::Answered, Outcome::TimedOut));
    assert_eq!(program_on(&pair.host, Pair::HOST_LINK), Some(first));

    let mut datapath = open(&directory);
    assert_eq!(datapath.live().expect("a generation").number, 1);
    let drops = datapath.counters().expect("counters").of(Reason::Closed, Verdict::Drop);
    assert!(drops >= 2, "{drops}");
    let attached = pair.host.run(|| datapath.attach(Pair::HOST_LINK, Attach::Auto)).expect("the link");
    assert!(attached.replaced && attached.mode == Mode::Native);
    let second = datapath.status().expect("a status").id;
    assert!(second != first);
    assert_eq!(program_on(&pair.host, Pair::HOST_LINK), Some(second));
    let interfaces = pair.host.run(|| datapath.status()).expect("a status").interfaces;
    assert_eq!(
        interfaces.iter().map(|one| (one.interface.as_str(), one.mode)).collect::<Vec<_>>(),
        [(Pair::HOST_LINK, Mode::Native)]
    );
    assert_eq!((outcome(443), outcome(8443)), (Outcome::Answered, Outcome::TimedOut));

    drop(datapath);
    let detached = pair.host.run(|| Datapath::detach(&directory)).expect("everything goes");
    assert_eq!(detached.interfaces, [Pair::HOST_LINK]);
    assert_eq!((detached.maps.len(), detached.left.len()), (MAPS, 0));
    assert!(!pin_dir(&bpffs).exists());
    assert_eq!(program_on(&pair.host, Pair::HOST_LINK), None);
    assert_eq!((outcome(443), outcome(8443)), (Outcome::Answered, Outcome::Answered));
    assert!(Datapath::detach(&directory).expect("nothing to do").is_empty());
    drop(servers);
}

#[test]
fn no_frame_slips_by_while_the_program_is_replaced() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    let pair = Pair::new().expect("a pair");
    pair.introduce().expect("neighbours");
    let mut datapath = open(&directory);
    datapath.install(&policy(&[])).expect("a generation");
    pair.host.run(|| datapath.attach(Pair::HOST_LINK, Attach::Native)).expect("a link");
    let count =
        |datapath: &Datapath| datapath.counters().expect("counters").of(Reason::Closed, Verdict::Drop);
    let before = count(&datapath);
    let lost_before = pair.client.statistics(Pair::CLIENT_LINK).expect("counts").tx_dropped;
    let sender = FrameSocket::open(&pair.client, Pair::CLIENT_LINK).expect("a packet socket");
    let stop = AtomicBool::new(false);
    let (sent, mut datapath) = thread::scope(|scope| {
        let sending = scope.spawn(|| send_until(&stop, &sender, &syn(9999)));
        for _ in 0..5 {
            drop(datapath);
            datapath = open(&directory);
            let attached =
                pair.host.run(|| datapath.attach(Pair::HOST_LINK, Attach::Native)).expect("the link");
            assert!(attached.replaced);
        }
        stop.store(true, Ordering::Relaxed);
        (sending.join().expect("the sender ends"), datapath)
    });
    let lost = pair.client.statistics(Pair::CLIENT_LINK).expect("counts").tx_dropped - lost_before;
    let all = eventually(PATIENT, || count(&datapath) - before == sent - lost);
    assert!(all, "{sent} sent, {lost} lost on the wire, {} counted", count(&datapath) - before);
    assert!(sent > 10_000, "only {sent} frames");
    datapath.retire();
}

#[test]
fn the_program_of_somebody_else_is_refused_and_left() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let pair = Pair::new().expect("a pair");
    let mut other = open(&bpffs.path().join("other"));
    let mut datapath = open(&pin_dir(&bpffs));
    // By a link.
    pair.host.run(|| other.attach(Pair::HOST_LINK, Attach::Generic)).expect("a link");
    let id = program_on(&pair.host, Pair::HOST_LINK).expect("a program");
    let error = pair.host.run(|| datapath.attach(Pair::HOST_LINK, Attach::Auto)).expect_err("it is taken");
    assert!(problem(&error).contains(&format!("foreign XDP program {id}")), "{error}");
    assert_eq!(program_on(&pair.host, Pair::HOST_LINK), Some(id));
    assert_eq!(pair.host.run(|| other.detach_interfaces_except(&[])).expect("off"), [Pair::HOST_LINK]);
    assert_eq!(program_on(&pair.host, Pair::HOST_LINK), None);
    // By netlink.
    let index = pair.host.index(Pair::HOST_LINK).expect("an index");
    let descriptor = other.program().expect("a program").fd().expect("loaded").as_fd().as_raw_fd();
    let xdp = LinkAttribute::Xdp(vec![LinkXdp::Fd(descriptor), LinkXdp::Flags(1 << 1)]);
    let link = LinkUnspec::new_with_index(index).append_extra_attribute(xdp).build();
    netlink(&pair.host, async |handle| handle.link().set(link).execute().await);
    assert_eq!(program_on(&pair.host, Pair::HOST_LINK), Some(id));
    let error = pair.host.run(|| datapath.attach(Pair::HOST_LINK, Attach::Native)).expect_err("it is taken");
    assert!(problem(&error).contains(&format!("foreign XDP program {id}")), "{error}");
    assert_eq!(program_on(&pair.host, Pair::HOST_LINK), Some(id));
    assert!(entries(&pin_dir(&bpffs).join("links")).is_empty());
}

#[test]
fn attaching_is_all_or_nothing() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let pair = Pair::new().expect("a pair");
    let mut datapath = open(&pin_dir(&bpffs));
    let wanted = [("nothing0", Attach::Auto), (Pair::HOST_LINK, Attach::Auto), ("nothing1", Attach::Auto)];
    let error = pair.host.run(|| datapath.attach_all(&wanted)).expect_err("two are not there");
    let text = error.downcast_ref::<Problems>().expect("problems of the user").to_string();
    assert!(
        text.contains("`nothing0`") && text.contains("`nothing1`") && text.contains(Pair::HOST_LINK),
        "{text}"
    );
    assert_eq!(text.lines().count(), 2);
    assert_eq!(program_on(&pair.host, Pair::HOST_LINK), None);

    // lo takes no native program, which shows only when it is tried: what came before is undone.
    let wanted = [(Pair::HOST_LINK, Attach::Native), ("lo", Attach::Native)];
    let error = pair.host.run(|| datapath.attach_all(&wanted)).expect_err("lo has no native mode");
    let text = problem(&error);
    assert!(text.contains("`lo` refused a native XDP program"), "{text}");
    assert_eq!(program_on(&pair.host, Pair::HOST_LINK), None);
    assert!(entries(&pin_dir(&bpffs).join("links")).is_empty());

    let wanted = [("lo", Attach::Auto), (Pair::HOST_LINK, Attach::Generic)];
    let attached = pair.host.run(|| datapath.attach_all(&wanted)).expect("both take generic mode");
    assert_eq!((attached[0].interface.as_str(), attached[0].mode), ("lo", Mode::Generic));
    assert!(attached[0].native_refused.as_ref().is_some_and(|why| !why.is_empty()), "{attached:?}");
    assert_eq!((attached[1].interface.as_str(), attached[1].mode), (Pair::HOST_LINK, Mode::Generic));
    println!("lo: {:?}", attached[0].native_refused);
    let error =
        pair.host.run(|| datapath.attach(Pair::HOST_LINK, Attach::Native)).expect_err("it is generic");
    assert!(problem(&error).contains("cannot change the mode without a gap"), "{error}");
    assert_eq!(pair.host.run(|| datapath.detach_interfaces_except(&[Pair::HOST_LINK])).expect("off"), ["lo"]);
    assert_eq!(program_on(&pair.host, "lo"), None);
    assert!(program_on(&pair.host, Pair::HOST_LINK).is_some());
}

#[test]
fn an_interface_that_was_made_again_or_renamed_is_taken_again() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let pair = Pair::new().expect("a pair");
    let mut datapath = open(&pin_dir(&bpffs));
    let links = pin_dir(&bpffs).join("links");
    let name = "host0.100";
    let wire = |host: &str, client: &str| {
        let end = |namespace, name, last| End { namespace, name, mac: [2, 0, 0, 0, 0x30, last] };
        veth(end(&pair.host, host, 1), end(&pair.client, client, 2)).expect("a wire");
    };
    wire(name, "far0");
    pair.host.run(|| datapath.attach(name, Attach::Native)).expect("a link");
    assert_eq!(entries(&links), ["host0:100"]);
    pair.host.delete_link(name).expect("it goes");
    assert!(pair.host.run(|| datapath.status()).expect("a status").interfaces.is_empty());
    wire(name, "far0");
    let again = pair.host.run(|| datapath.attach(name, Attach::Native)).expect("a link");
    assert!(!again.replaced);
    assert_eq!(entries(&links), ["host0:100"]);

    // Renamed, it is still ours, and the name is free for another.
    let index = pair.host.index(name).expect("an index");
    let down = |up: bool| pair.host.set_up(if up { "old0" } else { name }, up).expect("up or down");
    down(false);
    let link = LinkUnspec::new_with_index(index).name("old0".to_owned()).build();
    netlink(&pair.host, async |handle| handle.link().set(link).execute().await);
    down(true);
    assert!(pair.host.run(|| datapath.attach("old0", Attach::Auto)).expect("the link").replaced);
    wire(name, "far1");
    assert!(!pair.host.run(|| datapath.attach(name, Attach::Auto)).expect("a link").replaced);
    assert_eq!(entries(&links).len(), 2);
    let detached = pair.host.run(|| datapath.remove()).expect("everything goes");
    assert_eq!(detached.interfaces.len(), 2);
    assert!(
        detached.interfaces.contains(&"old0".to_owned()) && detached.interfaces.contains(&name.to_owned())
    );
    assert!(!pin_dir(&bpffs).exists());
    assert_eq!((program_on(&pair.host, name), program_on(&pair.host, "old0")), (None, None));
}
