use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::{PortRange, PortRangeError, Prefix, PrefixError, address, overlaps};

fn prefix(text: &str) -> Result<Prefix, PrefixError> {
    text.parse()
}

#[test]
fn a_bare_address_is_a_prefix_of_one_address() {
    assert_eq!(prefix("192.0.2.10").map(|p| p.to_string()), Ok("192.0.2.10/32".to_owned()));
    assert_eq!(prefix("2001:db8::1").map(|p| p.to_string()), Ok("2001:db8::1/128".to_owned()));
}

#[test]
fn host_bits_are_refused_with_the_prefix_that_was_meant() {
    let corrected =
        Prefix::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8).expect("10.0.0.0/8 has no host bits");
    assert_eq!(prefix("10.1.2.3/8"), Err(PrefixError::HostBits { corrected }));
    assert!(matches!(prefix("2001:db8::1/32"), Err(PrefixError::HostBits { .. })));
}

#[test]
fn a_prefix_length_has_the_bounds_of_its_family() {
    assert!(prefix("0.0.0.0/0").is_ok());
    assert!(prefix("::/0").is_ok());
    assert!(prefix("::/128").is_ok());
    assert_eq!(prefix("10.0.0.0/33"), Err(PrefixError::Length { longest: 32 }));
    assert_eq!(prefix("::/129"), Err(PrefixError::Length { longest: 128 }));
    assert_eq!(prefix("::/99999999999999999999"), Err(PrefixError::Length { longest: 128 }));
}

#[test]
fn an_ipv4_address_in_ipv6_form_is_that_address_or_refused() {
    let text = |text: &str| prefix(text).map(|prefix| prefix.to_string());
    for (written, meant) in [
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("::FFFF:c000:201", "192.0.2.1/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:0:0/97", "0.0.0.0/1"),
    ] {
        assert_eq!(text(written), Ok(meant.to_owned()), "{written}");
    }
    // These are addresses of IPv6, which packets carry: 6to4, NAT64, and what lists of forged sources name.
    for own in
        ["2002:c000:201::/48", "64:ff9b::c000:201/128", "::ffff:0.0.0.0/96", "::/96", "::/0", "::1/128"]
    {
        assert_eq!(text(own), Ok(own.to_owned()));
    }
    let corrected = Prefix::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8).expect("a prefix");
    assert_eq!(prefix("::ffff:10.1.0.0/104"), Err(PrefixError::HostBits { corrected }));
    let meant = Ipv4Addr::new(192, 0, 2, 1);
    for written in ["::192.0.2.1", "::c000:201/128"] {
        assert_eq!(prefix(written), Err(PrefixError::Compatible { meant }), "{written}");
    }
    assert_eq!(address("::ffff:192.0.2.1"), Ok(meant.into()));
    assert_eq!(address("::192.0.2.1"), Err(PrefixError::Compatible { meant }));
    assert_eq!(address("::1"), Ok(Ipv6Addr::LOCALHOST.into()));
    assert_eq!(address("192.0.2.0/24"), Err(PrefixError::Syntax));
}

#[test]
fn what_is_no_prefix_is_refused() {
    for text in
        ["", "/8", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/08", "10.0.0/8", "host", "fe80::1%eth0", " ::/0"]
    {
        assert_eq!(prefix(text), Err(PrefixError::Syntax), "{text:?}");
    }
}

#[test]
fn a_prefix_holds_its_first_and_last_address_and_not_the_next() {
    let p = prefix("10.0.0.0/8").expect("a prefix");
    assert_eq!(p.last(), IpAddr::V4(Ipv4Addr::new(10, 255, 255, 255)));
    assert!(p.contains(p.addr()) && p.contains(p.last()));
    assert!(!p.contains(IpAddr::V4(Ipv4Addr::new(11, 0, 0, 0))));
    assert!(!prefix("0.0.0.0/0").expect("a prefix").contains(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
}

#[test]
fn port_ranges_have_their_bounds() {
    let range = |text: &str| text.parse::<PortRange>();
    assert_eq!(range("1-65535"), PortRange::new(1, 65535));
    assert_eq!(range("443"), PortRange::new(443, 443));
    assert_eq!(range("0"), Err(PortRangeError::Bounds));
    assert_eq!(range("65536"), Err(PortRangeError::Bounds));
    assert_eq!(range("70000-80000"), Err(PortRangeError::Bounds));
    assert_eq!(range("2-1"), Err(PortRangeError::Backwards));
    for text in ["", "-", "1-", "-1", "1 -2", "1--2", "1-2-3", "+1", "01", "http"] {
        assert_eq!(range(text), Err(PortRangeError::Syntax), "{text:?}");
    }
}

#[test]
fn an_overlap_past_a_contained_range_is_found() {
    let ranges: Vec<PortRange> =
        ["1-100", "5", "90-95", "101"].map(|t| t.parse().expect("a range")).into_iter().collect();
    assert_eq!(overlaps(&ranges), [(0, 1), (0, 2)]);
}

fn any_prefix() -> impl Strategy<Value = Prefix> {
    // Few address bits, so that overlaps are frequent; both families share bit patterns.
    let v4 = (any::<u8>(), 0u8..=32).prop_map(|(bits, length)| (IpAddr::from([bits, 0, 0, bits]), length));
    let v6 = (any::<u8>(), 0u8..=128).prop_map(|(bits, length)| {
        let bits = (u128::from(bits) << 120) | u128::from(bits);
        (IpAddr::V6(Ipv6Addr::from_bits(bits)), length)
    });
    prop_oneof![v4, v6].prop_map(|(addr, length)| match Prefix::new(addr, length) {
        Ok(prefix) | Err(PrefixError::HostBits { corrected: prefix }) => prefix,
        Err(error) => unreachable!("{addr}/{length}: {error}"),
    })
}

fn any_range(highest: u16) -> impl Strategy<Value = PortRange> {
    (1..=highest, 1..=highest).prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).expect("a valid range"))
}

/// Whether two prefixes share an address: one holds the start of the other.
fn share_address(a: &Prefix, b: &Prefix) -> bool {
    a.contains(b.addr()) || b.contains(a.addr())
}

fn share_port(a: &PortRange, b: &PortRange) -> bool {
    (a.first()..=a.last()).any(|port| b.contains(port))
}

/// `overlaps` against a look at every pair.
fn agrees<T: super::Span>(items: &[T], share: impl Fn(&T, &T) -> bool) -> Result<(), TestCaseError> {
    let found = overlaps(items);
    for &(low, high) in &found {
        prop_assert!(low < high && share(&items[low], &items[high]));
    }
    let mut sorted: Vec<&T> = items.iter().collect();
    sorted.sort_by_key(|item| item.span());
    let inside =
        (0..sorted.len()).filter(|&n| sorted[..n].iter().any(|before| share(before, sorted[n]))).count();
    prop_assert_eq!(found.len(), inside);
    Ok(())
}

proptest! {
    #[test]
    fn a_prefix_reads_back_as_written(addr: IpAddr, length in 0u8..=128) {
        let p = match Prefix::new(addr, length) {
            Ok(p) | Err(PrefixError::HostBits { corrected: p }) => p,
            Err(_) => Prefix::host(addr),
        };
        prop_assert_eq!(p.to_string().parse(), p.meant());
        prop_assert!(p.contains(p.addr()) && p.contains(p.last()));
    }

    #[test]
    fn a_port_range_reads_back_as_written(range in any_range(u16::MAX)) {
        prop_assert_eq!(range.to_string().parse(), Ok(range));
    }

    #[test]
    fn overlapping_prefixes_are_found(prefixes in prop::collection::vec(any_prefix(), 0..8)) {
        agrees(&prefixes, share_address)?;
    }

    #[test]
    fn overlapping_port_ranges_are_found(ranges in prop::collection::vec(any_range(40), 0..6)) {
        agrees(&ranges, share_port)?;
    }

    #[test]
    fn no_text_makes_the_readers_panic(text in "\\PC*") {
        let _read = (text.parse::<Prefix>(), text.parse::<PortRange>());
    }
}
