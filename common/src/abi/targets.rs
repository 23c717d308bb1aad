//! The destination addresses of a generation: one look-up finds the target of an address in every zone.

use super::{NO_POLICY, ZONE_NUMBERS};

/// Buckets of a [`TargetTable`]; a power of two.
pub const TARGET_BUCKETS: usize = 4096;

/// The most addresses in a [`TargetTable`]: for more, the search for a seed without a collision takes long.
pub const MAX_TARGET_ADDRESSES: usize = 256;

/// The target that a destination belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Its policy, or [`NO_POLICY`].
    pub policy: u32,
    /// True where the destination is, or may be, the box itself: management reaches it.
    pub host: bool,
    /// True where the destination is in no target of the zone, and the policy says which ports hosts behind the zone may
    /// call. The groups are then those of the destination.
    pub outbound: bool,
}

impl Target {
    /// The box itself, as the only target.
    pub const HOST: Self = Self { policy: 0, host: true, outbound: false };
    /// No target.
    pub const NONE: Self = Self { policy: NO_POLICY, host: false, outbound: false };
}

/// A [`Target`] in one byte: bits 0-4 one more than the policy, or 0 for none; bit 5 [`TargetCode::elsewhere`]; bits 6 and
/// 7 `outbound` and `host`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct TargetCode(pub u8);

impl TargetCode {
    /// No target.
    pub const UNSAID: Self = Self(0);
    const POLICY: u8 = 0x1f;
    const ELSEWHERE: u8 = 0x20;
    const OUTBOUND: u8 = 0x40;
    const HOST: u8 = 0x80;

    /// The code of a target with a policy below [`MAX_POLICIES`](super::MAX_POLICIES), or [`NO_POLICY`] and `host`.
    #[must_use]
    pub const fn of(target: Target) -> Self {
        let policy = target.policy.wrapping_add(1) as u8 & Self::POLICY;
        let outbound = if target.outbound { Self::OUTBOUND } else { 0 };
        let host = if target.host { Self::HOST } else { 0 };
        Self(policy | outbound | host)
    }

    /// This code, for addresses that are neither those of a target nor, as far as the agent knows, the box's.
    #[must_use]
    pub const fn elsewhere(self) -> Self {
        Self(self.0 | Self::ELSEWHERE)
    }

    /// True for an address that is neither that of a target nor, as far as the agent knows, the box's.
    #[must_use]
    #[inline(always)]
    pub const fn is_elsewhere(self) -> bool {
        self.0 & Self::ELSEWHERE != 0
    }

    /// The target.
    #[must_use]
    #[inline(always)]
    pub const fn target(self) -> Target {
        Target {
            policy: ((self.0 & Self::POLICY) as u32).wrapping_sub(1),
            host: self.0 & Self::HOST != 0,
            outbound: self.0 & Self::OUTBOUND != 0,
        }
    }
}

/// The destination addresses of a generation, in a table with a seed that keeps them apart: one look-up finds an address.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct TargetTable {
    /// Makes [`TargetTable::bucket`] free of collisions; both odd.
    pub seed: [u64; 2],
    /// By bucket.
    pub entries: [TargetEntry; TARGET_BUCKETS],
    /// By zone: the target of all other addresses. Unused numbers are zones without targets.
    pub zones: [ZoneTargets; ZONE_NUMBERS],
}

/// One destination address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct TargetEntry {
    /// The address as two words in network byte order; an IPv4 address is mapped (RFC 4291, 2.5.5.2).
    pub address: [u64; 2],
    /// Its target in each zone; all of them [`TargetCode::UNSAID`] where the entry is not in use.
    pub zones: [TargetCode; ZONE_NUMBERS],
}

/// The targets of a zone for addresses that are not in the table, or have none of this zone there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct ZoneTargets {
    /// Of unicast addresses: `host` where the box does not forward; a policy of outbound calls; or none. Each may be an
    /// address of the box, so that management reaches it. Where the box forwards, its addresses are listed, and these
    /// are elsewhere.
    pub others: TargetCode,
    /// Of multicast groups and the broadcast address: `host`, or none.
    pub groups: TargetCode,
}

const _: () = assert!(core::mem::offset_of!(TargetTable, entries) == 16);
const _: () = assert!(size_of::<TargetEntry>() == 32);
const _: () = assert!(size_of::<TargetTable>() == 16 + 32 * TARGET_BUCKETS + 2 * ZONE_NUMBERS);

impl TargetEntry {
    /// An entry that is not in use.
    pub const UNUSED: Self = Self { address: [0; 2], zones: [TargetCode::UNSAID; ZONE_NUMBERS] };
}

impl ZoneTargets {
    /// A zone without targets.
    pub const NONE: Self = {
        let unknown = TargetCode::of(Target { host: true, ..Target::NONE });
        Self { others: unknown, groups: unknown }
    };
}

impl TargetTable {
    /// The bucket of an address under a seed.
    ///
    /// Without the shift, two addresses that differ in the highest bit of both words would collide under every seed.
    #[must_use]
    #[inline(always)]
    pub const fn bucket(seed: [u64; 2], address: [u64; 2]) -> usize {
        let first = address[0].wrapping_mul(seed[0]);
        let sum = (first ^ (first >> 32)).wrapping_add(address[1]).wrapping_mul(seed[1]);
        (sum >> (64 - TARGET_BUCKETS.trailing_zeros())) as usize
    }

    /// The target of an address in a zone, where the table lists the address for this zone.
    #[must_use]
    #[inline(always)]
    pub const fn listed(&self, zone: u32, address: [u64; 2]) -> Option<Target> {
        match self.code_of(zone, address) {
            Some(code) => Some(code.target()),
            None => None,
        }
    }

    #[inline(always)]
    const fn code_of(&self, zone: u32, address: [u64; 2]) -> Option<TargetCode> {
        let entry = &self.entries[Self::bucket(self.seed, address)];
        if entry.address[0] == address[0] && entry.address[1] == address[1] {
            let code = entry.zones[zone as usize & (ZONE_NUMBERS - 1)];
            if code.0 != 0 {
                return Some(code);
            }
        }
        None
    }

    /// The target of any address in a zone.
    #[must_use]
    #[inline(always)]
    pub const fn find(&self, zone: u32, address: [u64; 2]) -> Target {
        self.code(zone, address).target()
    }

    /// The code of any address in a zone.
    #[must_use]
    #[inline(always)]
    pub const fn code(&self, zone: u32, address: [u64; 2]) -> TargetCode {
        if let Some(code) = self.code_of(zone, address) {
            return code;
        }
        let rest = &self.zones[zone as usize & (ZONE_NUMBERS - 1)];
        if is_to_many(address) { rest.groups } else { rest.others }
    }
}

/// True for multicast groups, and 255.255.255.255.
#[inline(always)]
const fn is_to_many([first, second]: [u64; 2]) -> bool {
    let (first, second) = (u64::from_le(first), u64::from_le(second));
    let is_ipv4 = first == 0 && second as u32 == 0xffff_0000;
    let v4 = (second >> 32) as u32;
    first as u8 == 0xff || is_ipv4 && (v4 as u8 & 0xf0 == 0xe0 || v4 == u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Target, TargetCode, is_to_many};
    use crate::abi::{MAX_POLICIES, NO_POLICY};

    #[test]
    fn a_target_survives_its_code() {
        for policy in (0..MAX_POLICIES).chain([NO_POLICY]) {
            for (host, outbound) in [(false, false), (true, false), (true, true)] {
                let target = Target { policy, host, outbound };
                let code = TargetCode::of(target);
                assert_eq!((code.target(), code.is_elsewhere()), (target, false));
                assert_eq!((code.elsewhere().target(), code.elsewhere().is_elsewhere()), (target, true));
            }
        }
        assert_eq!(TargetCode::UNSAID.target(), Target::NONE);
    }

    #[test]
    fn groups_and_the_broadcast_address_are_known() {
        let known = |text: &str| {
            let address: std::net::IpAddr = text.parse().expect("an address");
            let bytes = match address {
                std::net::IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                std::net::IpAddr::V6(address) => address.octets(),
            };
            let (first, second) = bytes.split_at(8);
            is_to_many([first, second].map(|half| u64::from_ne_bytes(half.try_into().expect("eight bytes"))))
        };
        for many in ["224.0.0.0", "239.255.255.255", "255.255.255.255", "ff02::1", "ffff::"] {
            assert!(known(many), "{many}");
        }
        for one in
            ["223.255.255.255", "240.0.0.1", "255.255.255.254", "0.0.0.0", "::", "fe80::1", "2001:db8::ff"]
        {
            assert!(!known(one), "{one}");
        }
    }
}
