use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::*;
use crate::netns::Pair;
use crate::packet::{Ethernet, Packet, Tcp, Udp, Vlan, arp_request};
use crate::prerequisites::require_root;

const HOST: [IpAddr; 2] = [IpAddr::V4(Pair::HOST_V4), IpAddr::V6(Pair::HOST_V6)];
/// For an answer that comes.
const PATIENT: Duration = Duration::from_secs(5);
/// For an answer that does not.
const BRIEF: Duration = Duration::from_millis(150);

#[test]
fn tcp_is_answered_refused_or_silent() {
    require_root();
    let pair = Pair::new().expect("a pair");
    for address in HOST {
        let server = TcpEcho::start(&pair.host, (address, 5061)).expect("a server");
        let open = SocketAddr::from((address, 5061));
        assert_eq!(tcp_connect(&pair.client, open, PATIENT).expect("a try"), Outcome::Answered);
        let closed = SocketAddr::from((address, 5062));
        assert_eq!(tcp_connect(&pair.client, closed, PATIENT).expect("a try"), Outcome::Refused);

        let standing = tcp_open(&pair.client, open, PATIENT).expect("a connection");
        assert_eq!(tcp_exchange(&standing, PATIENT).expect("a try"), Outcome::Answered);
        assert_eq!(tcp_exchange(&standing, PATIENT).expect("a try"), Outcome::Answered);
        drop(server);
        assert_eq!(tcp_exchange(&standing, PATIENT).expect("a try"), Outcome::Refused);
        assert_eq!(tcp_connect(&pair.client, open, PATIENT).expect("a try"), Outcome::Refused);
    }
}

#[test]
fn silence_is_a_time_out() {
    require_root();
    let pair = Pair::new().expect("a pair");
    pair.introduce().expect("neighbours");
    let server = TcpEcho::start(&pair.host, (Pair::HOST_V4, 443)).expect("a server");
    let standing =
        tcp_open(&pair.client, server.address().expect("an address"), PATIENT).expect("a connection");
    pair.host.set_up(Pair::HOST_LINK, false).expect("the link down");
    // The client's side must not notice that the wire is dead, or it gives an error of its own.
    assert_eq!(tcp_exchange(&standing, BRIEF).expect("a try"), Outcome::TimedOut);
}

#[test]
fn frames_to_nobody_are_a_time_out() {
    require_root();
    let pair = Pair::new().expect("a pair");
    // A neighbour with somebody else's MAC: the host's interface takes nothing that is not for it.
    for address in HOST {
        pair.client.add_neighbour(Pair::CLIENT_LINK, address, [2, 0, 0, 0, 9, 9]).expect("a neighbour");
        let tcp = tcp_connect(&pair.client, (address, 443).into(), BRIEF).expect("a try");
        let udp = udp_exchange(&pair.client, 0, (address, 443).into(), BRIEF).expect("a try");
        let echo = ping(&pair.client, address, BRIEF).expect("a try");
        assert_eq!([tcp, udp, echo], [Outcome::TimedOut; 3], "{address}");
    }
}

#[test]
fn udp_and_ping_are_answered() {
    require_root();
    let pair = Pair::new().expect("a pair");
    for address in HOST {
        assert_eq!(ping(&pair.client, address, PATIENT).expect("a try"), Outcome::Answered);
        let server = UdpEcho::start(&pair.host, (address, 3478)).expect("a server");
        let open = SocketAddr::from((address, 3478));
        for source in [0, 53, 40_000] {
            let outcome = udp_exchange(&pair.client, source, open, PATIENT).expect("a try");
            assert_eq!(outcome, Outcome::Answered, "from {source} to {open}");
        }
        drop(server);
        assert_eq!(udp_exchange(&pair.client, 0, open, PATIENT).expect("a try"), Outcome::Refused);
    }
}

#[test]
fn frames_arrive_as_they_were_sent() {
    require_root();
    let pair = Pair::new().expect("a pair");
    let sender = FrameSocket::open(&pair.client, Pair::CLIENT_LINK).expect("a socket");
    let receiver = FrameSocket::open(&pair.host, Pair::HOST_LINK).expect("a socket");
    let inner = || Pair::frame().with(Vlan::new(7));
    let host = Pair::HOST_V4.into();
    let frames = [
        Pair::frame_v4().with(Udp::new(1, 2)).with(b"plain").build(),
        inner().with(crate::packet::ip(Pair::CLIENT_V4.into(), host)).with(Tcp::syn(1, 2)).build(),
        Pair::frame().with(Vlan::service(9)).with(Vlan { priority: 6, ..Vlan::new(4095) }).build(),
        Packet::ethernet(Ethernet::new([2; 6], Ethernet::BROADCAST)).with(b"whatever").padded().build(),
        Pair::frame_v4().with(Udp::new(1, 2)).truncated(40).build(),
    ];
    for frame in frames {
        sender.send(&frame).expect("a frame to send");
        let found = receiver.receive(PATIENT, |received| received == frame).expect("a socket that works");
        assert_eq!(found, Some(frame));
    }
    assert_eq!(receiver.receive(BRIEF, |frame| frame == b"never sent").expect("a socket that works"), None);
    sender.send(&[0; 13]).expect_err("less than an Ethernet header");
}

#[test]
fn the_stack_answers_what_the_builder_asks() {
    require_root();
    let pair = Pair::new().expect("a pair");
    let socket = FrameSocket::open(&pair.client, Pair::CLIENT_LINK).expect("a socket");
    socket.send(&arp_request(Pair::CLIENT_MAC, Pair::CLIENT_V4, Pair::HOST_V4).build()).expect("a frame");
    let reply = socket.receive(PATIENT, |frame| frame[12..14] == [8, 6] && frame[21] == 2).expect("a socket");
    assert_eq!(reply.expect("an ARP reply")[22..28], Pair::HOST_MAC);
}

#[test]
fn the_stack_puts_the_builders_fragments_together() {
    require_root();
    let pair = Pair::new().expect("a pair");
    let sender = FrameSocket::open(&pair.client, Pair::CLIENT_LINK).expect("a socket");
    for (address, frame) in HOST.into_iter().zip([Pair::frame_v4(), Pair::frame_v6()]) {
        let receiver = pair.host.run(|| UdpSocket::bind((address, 3478))).expect("a socket");
        receiver.set_read_timeout(Some(PATIENT)).expect("a time-out");
        let text = (0..3000).map(|n| n as u8).collect::<Vec<_>>();
        for fragment in frame.with(Udp::new(40_000, 3478)).with(text.clone()).fragments(1024, 77) {
            sender.send(&fragment.build()).expect("a fragment");
        }
        let mut buffer = [0; 4000];
        // Only a datagram with the right checksum gets here.
        let length = receiver.recv(&mut buffer).expect("the whole datagram");
        assert_eq!(buffer[..length], text);
    }
}

#[test]
fn a_million_numbered_frames_arrive_or_are_known_to_be_lost() {
    require_root();
    let pair = Pair::new().expect("a pair");
    pair.introduce().expect("neighbours");
    let packets =
        [Pair::frame_v4().with(Udp::new(40_000, 5061)), Pair::frame_v6().with(Tcp::ack(40_000, 443))];
    let receiver = StreamReceiver::start(&pair.host, Pair::HOST_LINK, packets.len()).expect("a receiver");
    let each = 500_000;
    let sent = send_streams(&pair.client, Pair::CLIENT_LINK, &packets, each, None).expect("two streams");
    assert_eq!(sent.frames, each * 2);
    let received = receiver.finish().expect("the numbers");
    let dropped = pair.client.statistics(Pair::CLIENT_LINK).expect("counts").tx_dropped;
    println!("{sent:?}, {} lost by the receiver, {dropped} dropped by the wire", received.lost);
    let arrived = received.sequences.iter().map(|numbers| numbers.len() as u64).sum::<u64>();
    assert_eq!(arrived + received.lost, each * 2);
    assert_eq!((received.lost, dropped), (0, sent.retries));
    for numbers in &received.sequences {
        assert!(numbers.iter().copied().eq(0..each), "the numbers are not in order");
    }
}

#[test]
fn a_pace_is_kept() {
    require_root();
    let pair = Pair::new().expect("a pair");
    let packets = [Pair::frame_v4().with(Udp::new(1, 2))];
    let sent =
        send_streams(&pair.client, Pair::CLIENT_LINK, &packets, 5_000, Some(50_000)).expect("a stream");
    assert!(sent.duration >= Duration::from_millis(99), "{:?}", sent.duration);
}
