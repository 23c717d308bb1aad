//! The settings of a generation, and the zone of each interface and VLAN.

use core::hint::black_box;

use super::{FlowTimes, Limit, MAX_POLICIES, SLOTS, SourceRecord};

/// Zones in a generation; they are numbered from 0.
pub const ZONES: usize = 8;

/// Numbers that a zone may have: four bits. So a table by zone needs no check of its bounds, on which verifier and
/// compiler seldom agree.
pub const ZONE_NUMBERS: usize = 16;

/// The zone of a packet whose interface is in no zone: the interface has just appeared. Only management is open there.
pub const NO_ZONE: u32 = 15;

/// Interfaces in a generation.
pub const MAX_INTERFACES: usize = 32;

/// Numbers of interfaces in a generation: bonds and their members each have one.
pub const MAX_NUMBERS: usize = 128;

/// Buckets of [`Generation::interfaces`]; a power of two. A seed that keeps 128 numbers apart in so many is found in some
/// thousand tries.
pub const INTERFACE_BUCKETS: usize = 1024;

/// The bit of [`Generation::audit`] for packets without a target: the low bits of [`NO_POLICY`](super::NO_POLICY).
pub const REST: u32 = 31;

/// The interface is a DHCP client: replies to it pass.
pub const FLAG_DHCP_CLIENT: u16 = 1;

/// The settings of one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Interface {
    /// The kernel's number of it; 0 where the entry is not in use.
    pub ifindex: u32,
    /// [`FLAG_DHCP_CLIENT`].
    pub flags: u16,
    /// The zone of its untagged frames, and of tagged ones where `vlans` is 0. Below [`ZONES`].
    pub zone: u8,
    /// One more than the number of its [`VlanTable`]; 0 where all VLANs are in one zone.
    pub vlans: u8,
}

/// The zone of each VLAN on one interface, by identifier.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct VlanTable(pub [u8; 4096]);

impl VlanTable {
    /// The zone of a VLAN identifier.
    #[must_use]
    #[inline(always)]
    pub fn zone(&self, vlan: u16) -> u32 {
        // Verifiers up to 6.12 know nothing of a number whose bytes were swapped, and the compiler would mask it before that.
        self.0[usize::from(black_box(vlan) & 0xfff)].into()
    }
}

/// The key of a [`VlanTable`] in the map `VLANS`. `slot` below [`SLOTS`], `number` below [`MAX_INTERFACES`].
#[must_use]
#[inline(always)]
pub const fn vlans_index(slot: u32, number: u32) -> u32 {
    slot * MAX_INTERFACES as u32 + number
}

/// Elements of the map `VLANS`.
pub const VLAN_TABLES: u32 = SLOTS * MAX_INTERFACES as u32;

/// The settings of a generation. On the common path, packets need only the zones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Generation {
    /// Counts up with every switch and reload; 0 where the slot was never filled.
    pub number: u64,
    /// How long flows live.
    pub flow_times: FlowTimes,
    /// The zones where packets to destinations in no target pass, as bits.
    pub unmatched_pass: u32,
    /// The set of sources in `SOURCES_V4` and `SOURCES_V6`, below [`SLOTS`]. Generations with equal sources share a set.
    pub sources: u32,
    /// The policies whose targets are in audit mode, as bits; bit [`REST`] is for packets without a target. Read with
    /// [`Features::MODES`](super::Features::MODES) only.
    pub audit: u32,
    /// The zones where everything is in audit mode, as bits: all targets of the zone, and packets without a target. For
    /// packets that do not tell their target. Read with [`Features::MODES`](super::Features::MODES) only.
    pub audit_zones: u32,
    /// Later fragments that each CPU lets in before their first one, per second; 0 for none.
    pub early_fragments: u32,
    /// The policies whose targets answer packets at closed ports, as bits.
    pub answers: u32,
    /// Makes [`Generation::bucket`] free of collisions; odd.
    pub interface_seed: u64,
    /// The interfaces, by bucket: one look-up finds an interface.
    pub interfaces: [Interface; INTERFACE_BUCKETS],
    /// How many connections a source may open, by policy.
    pub limits: [Limit; MAX_POLICIES as usize],
    /// The groups and `[[allow]]` rules of everybody behind a zone, by the zone's number.
    pub zone_sources: [SourceRecord; ZONE_NUMBERS],
    /// The Ethernet address of each interface that may answer, by bucket, in 16-bit units; 0 for one that may not.
    pub ethernet: [[u16; 3]; INTERFACE_BUCKETS],
}

const _: () = assert!(size_of::<Interface>() == 8);
const _: () = assert!(size_of::<VlanTable>() == 4096);
const _: () = assert!(
    size_of::<Generation>() == 48 + 14 * INTERFACE_BUCKETS + 16 * (MAX_POLICIES as usize + ZONE_NUMBERS)
);

impl Generation {
    /// A slot that was never filled.
    pub const EMPTY: Self = Self {
        number: 0,
        flow_times: FlowTimes::DEFAULT,
        unmatched_pass: 0,
        sources: 0,
        audit: 0,
        audit_zones: 0,
        early_fragments: 0,
        answers: 0,
        interface_seed: 1,
        interfaces: [Interface { ifindex: 0, flags: 0, zone: 0, vlans: 0 }; INTERFACE_BUCKETS],
        limits: [Limit::NONE; MAX_POLICIES as usize],
        zone_sources: [SourceRecord { rules: 0, groups: 0, reserved: 0 }; ZONE_NUMBERS],
        ethernet: [[0; 3]; INTERFACE_BUCKETS],
    };

    /// The settings of an interface.
    #[must_use]
    #[inline(always)]
    pub fn interface(&self, ifindex: u32) -> Option<Interface> {
        let interface = self.interfaces[Self::bucket(self.interface_seed, ifindex)];
        (interface.ifindex == ifindex).then_some(interface)
    }

    /// True where the interface is marked as a DHCP client.
    #[must_use]
    #[inline(always)]
    pub fn is_dhcp_client(&self, ifindex: u32) -> bool {
        self.interface(ifindex).is_some_and(|interface| interface.flags & FLAG_DHCP_CLIENT != 0)
    }

    /// True where targets of this policy answer packets at closed ports; false for
    /// [`NO_POLICY`](super::NO_POLICY).
    #[must_use]
    #[inline(always)]
    pub const fn answers(&self, policy: u32) -> bool {
        policy < MAX_POLICIES && self.answers >> (policy & REST) & 1 != 0
    }

    /// The Ethernet address of an interface that may answer; 0 for any other.
    #[must_use]
    #[inline(always)]
    pub fn ethernet(&self, ifindex: u32) -> [u16; 3] {
        let bucket = Self::bucket(self.interface_seed, ifindex);
        if self.interfaces[bucket].ifindex == ifindex { self.ethernet[bucket] } else { [0; 3] }
    }

    /// True where packets to destinations in no target of this zone pass.
    #[must_use]
    #[inline(always)]
    pub const fn passes_unmatched(&self, zone: u32) -> bool {
        self.unmatched_pass >> (zone & 31) & 1 != 0
    }

    /// True where targets of this policy are in audit mode; with [`NO_POLICY`](super::NO_POLICY), packets without a target.
    #[must_use]
    #[inline(always)]
    pub const fn audits(&self, policy: u32) -> bool {
        self.audit >> (policy & REST) & 1 != 0
    }

    /// True where all targets of a zone, and packets without a target, are in audit mode.
    #[must_use]
    #[inline(always)]
    pub const fn audits_zone(&self, zone: u32) -> bool {
        self.audit_zones >> (zone & 31) & 1 != 0
    }

    /// The groups and `[[allow]]` rules of everybody behind a zone.
    #[must_use]
    #[inline(always)]
    pub const fn sources_behind(&self, zone: u32) -> SourceRecord {
        // The compiler knows that a zone is below 16, and drops the mask; the verifier of 5.10 does not know it.
        self.zone_sources[black_box(zone) as usize & (ZONE_NUMBERS - 1)]
    }

    /// The bucket of an interface under a seed.
    #[must_use]
    #[inline(always)]
    pub const fn bucket(seed: u64, ifindex: u32) -> usize {
        ((ifindex as u64).wrapping_mul(seed) >> (64 - INTERFACE_BUCKETS.trailing_zeros())) as usize
    }
}
