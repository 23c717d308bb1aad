//! The parser: bytes to offsets.

use std::net::IpAddr;

use lyncwall_common::abi::PortTransport;
use lyncwall_common::fields::{IpAt, part};
use lyncwall_common::parse::{
    Family, Fragment, Headers, Kind, MAX_TAGS, ParseError, TAGGED, USUAL_TAGS, parse, parse_plain,
};
use proptest::prelude::*;

use crate::frames::{Built, Extension, Ip, Opt, Payload, Spec, spec};

/// What there is to read in a frame that is sound.
fn expected(spec: &Spec) -> Result<Kind, ParseError> {
    if spec.tags.len() > MAX_TAGS {
        return Err(ParseError::VlanDepth);
    }
    match &spec.ip {
        Ip::V4 { options, .. } => {
            let upto_end = options.iter().take_while(|option| **option != Opt::End);
            if upto_end.into_iter().any(|o| matches!(o, Opt::LooseSourceRoute | Opt::StrictSourceRoute)) {
                return Err(ParseError::SourceRoute);
            }
        }
        Ip::V6 { extensions, .. } => {
            for (position, extension) in extensions.iter().enumerate() {
                if position == 6 {
                    return Err(ParseError::Chain);
                }
                match extension {
                    Extension::Routing { kind: 0, .. } => return Err(ParseError::Rh0),
                    Extension::Fragment(part) if part.start != 0 => return Ok(Kind::LaterFragment),
                    Extension::Fragment(_)
                    | Extension::HopByHop(_)
                    | Extension::Destination(_)
                    | Extension::Routing { .. } => {}
                }
            }
        }
    }
    if spec.part().is_some_and(|part| part.start != 0) {
        return Ok(Kind::LaterFragment);
    }
    Ok(match (&spec.payload, &spec.ip) {
        (Payload::Tcp { .. }, _) => Kind::Ports(PortTransport::Tcp),
        (Payload::Udp { .. }, _) => Kind::Ports(PortTransport::Udp),
        (Payload::Icmp { .. }, _) => Kind::Icmp,
        (Payload::Other { .. }, _) => Kind::Other,
    })
}

fn check_offsets(bytes: &[u8], result: Result<Kind, ParseError>, headers: &Headers) {
    assert!(headers.network <= bytes.len(), "{headers:?}");
    assert!(headers.end <= bytes.len(), "{headers:?}");
    if headers.family.is_some() {
        assert!(headers.network + 20 <= headers.end, "{headers:?}");
    }
    if headers.transport != 0 {
        assert!(headers.network < headers.transport && headers.transport <= headers.end, "{headers:?}");
    }
    if headers.fragment_header != 0 {
        assert!(headers.network + 40 <= headers.fragment_header, "{headers:?}");
        assert!(headers.fragment_header + 8 <= headers.end, "{headers:?}");
    }
    match result {
        Ok(Kind::Ports(transport)) => {
            assert_eq!(headers.ports, Some(transport));
            let header = if transport == PortTransport::Tcp { 20 } else { 8 };
            assert!(headers.transport + header <= headers.end, "{headers:?}");
        }
        Ok(Kind::Icmp) => assert!(headers.transport + 8 <= headers.end, "{headers:?}"),
        Ok(Kind::NonIp) => assert_eq!(headers.family, None),
        Ok(Kind::Other | Kind::LaterFragment) => assert!(headers.family.is_some()),
        Err(_) => {}
    }
}

fn check_sound(spec: &Spec, built: &Built) {
    let mut headers = Headers::UNREAD;
    let result = parse(&built.bytes[..], &mut headers);
    assert_eq!(result, expected(spec), "{built:?}");
    check_offsets(&built.bytes, result, &headers);

    let vlan: Vec<u16> = spec.tags.iter().map(|(_, vid)| vid | TAGGED).chain([0, 0]).take(2).collect();
    assert_eq!(headers.vlan.to_vec(), vlan);
    if result == Err(ParseError::VlanDepth) {
        assert_eq!(headers.family, None);
        return;
    }
    assert_eq!(headers.network, built.network);
    assert_eq!(headers.end, built.end);
    let destination = match spec.ip {
        Ip::V4 { destination, .. } => IpAddr::V4(destination),
        Ip::V6 { destination, .. } => IpAddr::V6(destination),
    };
    let broadcast = spec.link_broadcast || destination.to_string() == "255.255.255.255";
    if result.is_ok() {
        assert_eq!((headers.broadcast, headers.group), (broadcast, destination.is_multicast()));
    }
    let family = if matches!(spec.ip, Ip::V4 { .. }) { Family::V4 } else { Family::V6 };
    assert_eq!(headers.family, Some(family));
    let Ok(kind) = result else { return };
    if kind == Kind::LaterFragment {
        let start = spec.part().map(|part| u32::from(part.start) * 8);
        assert_eq!(headers.fragment, Fragment::Later);
        let part = part(&built.bytes[..], IpAt::of(&headers)).expect("the part it is");
        assert_eq!(Some(part.start), start);
        assert_eq!(
            (headers.ports, headers.destination_port.number()),
            (None, 0),
            "ports of a later fragment"
        );
        return;
    }
    match (spec.part(), headers.fragment) {
        (None, Fragment::Whole) => {}
        (Some(_), Fragment::First) => {
            let part = part(&built.bytes[..], IpAt::of(&headers)).expect("the part it is");
            assert_eq!(part.length as usize, headers.end - built.part);
        }
        (part, found) => panic!("{part:?} was read as {found:?}"),
    }
    assert_eq!(headers.transport, built.transport);
    assert_eq!(headers.protocol, spec.protocol());
    match spec.payload {
        Payload::Tcp { source, destination, flags, .. } => {
            assert_eq!(
                (headers.source_port.number(), headers.destination_port.number()),
                (source, destination)
            );
            assert_eq!(headers.flags, flags);
        }
        Payload::Udp { source, destination, .. } => {
            assert_eq!(
                (headers.source_port.number(), headers.destination_port.number()),
                (source, destination)
            );
        }
        Payload::Icmp { kind, code, .. } => assert_eq!((headers.flags, headers.code), (kind, code)),
        Payload::Other { .. } => assert_eq!(headers.ports, None),
    }
}

/// A sound frame with some bytes changed, cut off or added.
pub(crate) fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (spec(), changes, any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..20)).prop_map(
        |(spec, changes, cut, tail)| {
            let mut bytes = spec.build().bytes;
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if tail.len() % 2 == 0 {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            bytes.extend(tail);
            bytes
        },
    )
}

/// Bytes behind an Ethernet header that promises IP.
pub(crate) fn noise() -> impl Strategy<Value = Vec<u8>> {
    let types: [&[u8]; 6] = [&[8, 0, 0x45], &[0x86, 0xdd, 0x60], &[8, 0], &[0x81, 0], &[0x88, 0xa8], &[]];
    (prop::sample::select(types.to_vec()), prop::collection::vec(any::<u8>(), 0..120))
        .prop_map(|(ether_type, rest)| [&[0xee; 12], ether_type, &rest].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn random_bytes_never_lead_outside_the_frame(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut headers = Headers::UNREAD;
        let result = parse(&bytes[..], &mut headers);
        check_offsets(&bytes, result, &headers);
    }

    #[test]
    fn noise_and_damage_never_lead_outside_the_frame(bytes in prop_oneof![noise(), damaged()]) {
        let mut headers = Headers::UNREAD;
        let result = parse(&bytes[..], &mut headers);
        check_offsets(&bytes, result, &headers);
    }

    #[test]
    fn a_sound_frame_is_read_as_it_was_built(spec in spec()) {
        check_sound(&spec, &spec.build());
    }

    #[test]
    fn the_short_way_reads_what_the_parser_reads(bytes in prop_oneof![
        noise(),
        damaged(),
        spec().prop_map(|spec| spec.build().bytes),
    ]) {
        let (mut short, mut full) = (Headers::UNREAD, Headers::UNREAD);
        if let Some(transport) = parse_plain(&bytes[..], &mut short) {
            prop_assert_eq!(parse(&bytes[..], &mut full), Ok(Kind::Ports(transport)));
            prop_assert_eq!(short, full);
            prop_assert!(!full.group && !full.broadcast && full.fragment == Fragment::Whole);
        }
    }

    #[test]
    fn only_unusual_frames_take_the_long_way(spec in spec()) {
        let built = spec.build();
        let mut headers = Headers::UNREAD;
        let result = parse(&built.bytes[..], &mut headers);
        let length = if headers.family == Some(Family::V6) { 40 } else { 20 };
        let usual = matches!(result, Ok(Kind::Ports(_)))
            && spec.tags.len() <= USUAL_TAGS
            && headers.fragment == Fragment::Whole
            && headers.transport == headers.network + length
            && built.bytes[..2] != [0xff; 2]
            && !(headers.group || headers.broadcast);
        let short = parse_plain(&built.bytes[..], &mut Headers::UNREAD.clone());
        // Beyond multicast: 240.0.0.0/4, which nobody has.
        let class_e = headers.family == Some(Family::V4) && built.bytes[headers.network + 16] >= 240;
        prop_assert_eq!(short.is_some(), usual && !class_e);
    }

    #[test]
    fn a_frame_that_ends_early_is_never_sound(spec in spec(), cut in any::<prop::sample::Index>()) {
        let built = spec.build();
        let bytes = &built.bytes[..cut.index(built.end)];
        let error = parse(bytes, &mut Headers::UNREAD.clone()).expect_err("the IP packet is not whole");
        let early = [ParseError::Ethernet, ParseError::VlanDepth, ParseError::Ipv4, ParseError::Ipv6];
        prop_assert!(early.contains(&error), "{:?}", error);
    }

    #[test]
    fn a_first_fragment_without_its_whole_tcp_header_is_tiny(spec in spec(), eights in 1..7usize) {
        let Payload::Tcp { options, .. } = spec.payload else { return Ok(()) };
        let first = spec.part().is_some_and(|part| part.start == 0);
        if !first || expected(&spec) != Ok(Kind::Ports(PortTransport::Tcp)) || eights * 8 >= 20 + 4 * options {
            return Ok(());
        }
        let built = spec.build();
        let mut bytes = built.bytes;
        let (field, before) = match spec.ip {
            Ip::V4 { .. } => (built.network + 2, built.network),
            Ip::V6 { .. } => (built.network + 4, built.network + 40),
        };
        let length = (built.transport - before + eights * 8) as u16;
        bytes[field..field + 2].copy_from_slice(&length.to_be_bytes());
        prop_assert_eq!(parse(&bytes[..], &mut Headers::UNREAD.clone()), Err(ParseError::Tiny));
    }
}
