//! Counters, summed over the CPUs.

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray};
use lyncwall_common::abi::{
    COUNTER_BLOCK, CounterBlock, CpuRecord, INTERFACE_CELLS, NetPort, PORT_DROP_BLOCKS, PortTransport,
    RULE_BLOCKS, map, port_drop_cell,
};
use lyncwall_common::reason::{Action, Reason};

use super::load::take;

/// Packet counters since the maps were created. They survive switches, restarts and upgrades.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    /// Every reason with every action, including zeros.
    pub reasons: Vec<(Reason, Action, u64)>,
    /// By rule counter, up to the last one that is not zero.
    pub rules: Vec<u64>,
    /// Packets by the cell of an interface: passed and dropped.
    pub interfaces: Vec<[u64; 2]>,
    /// Drops without an event, because the rate or the ring buffer was exhausted, by reason, without zeros.
    pub events_lost: Vec<(Reason, u64)>,
    /// Drops that a capture missed, because the rate or the buffer was exhausted.
    pub captures_lost: u64,
    /// Fragment verdicts that could not be stored.
    pub fragments_lost: u64,
    /// Flows added to the tables.
    pub flows_added: u64,
    /// Flows that could not be added.
    pub flows_lost: u64,
    /// Dropped packets that got an answer, by [`PortTransport`].
    pub answered: [u64; PortTransport::ALL.len()],
}

impl Counters {
    /// Packets with this reason and action.
    #[must_use]
    pub fn of(&self, reason: Reason, action: Action) -> u64 {
        self.reasons.iter().find(|(r, a, _)| (*r, *a) == (reason, action)).map_or(0, |(_, _, count)| *count)
    }
}

/// The maps with counters.
pub(super) struct CounterMaps {
    cpu: PerCpuArray<MapData, CpuRecord>,
    rules: PerCpuArray<MapData, CounterBlock>,
    ports: PerCpuArray<MapData, CounterBlock>,
}

impl CounterMaps {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            cpu: take(ebpf, map::CPU)?,
            rules: take(ebpf, map::RULE_HITS)?,
            ports: take(ebpf, map::PORT_DROPS)?,
        })
    }

    pub(super) fn read(&self) -> Result<Counters> {
        let cpus = self.cpu.get(&0, 0).with_context(|| format!("reading the map {}", map::CPU))?;
        let sum = |pick: &dyn Fn(&CpuRecord) -> u64| {
            cpus.iter().map(pick).fold(0, |total: u64, count| total.wrapping_add(count))
        };
        let mut reasons = Vec::with_capacity(Reason::ALL.len() * Action::ALL.len());
        for reason in Reason::ALL {
            for action in Action::ALL {
                let count = sum(&|record| record.reasons[*reason as usize][action as usize]);
                reasons.push((*reason, action, count));
            }
        }
        let mut rules = Vec::with_capacity(RULE_BLOCKS as usize * COUNTER_BLOCK);
        for block in 0..RULE_BLOCKS {
            rules.extend_from_slice(&summed(&self.rules, block, map::RULE_HITS)?);
        }
        let used = rules.iter().rposition(|count| *count != 0).map_or(0, |last| last + 1);
        rules.truncate(used);
        Ok(Counters {
            reasons,
            rules,
            interfaces: (0..INTERFACE_CELLS)
                .map(|cell| Action::ALL.map(|action| sum(&|record| record.interfaces[cell][action as usize])))
                .collect(),
            events_lost: Reason::ALL
                .iter()
                .map(|reason| (*reason, sum(&|record| record.events_lost[*reason as usize])))
                .filter(|(_, lost)| *lost != 0)
                .collect(),
            captures_lost: sum(&|record| record.captures_lost),
            fragments_lost: sum(&|record| record.fragments_lost),
            flows_added: sum(&|record| record.flows_added),
            flows_lost: sum(&|record| record.flows_lost),
            answered: PortTransport::ALL.map(|transport| sum(&|record| record.answered[transport as usize])),
        })
    }

    pub(super) fn port_drops(&self) -> Result<Vec<(PortTransport, u16, u64)>> {
        let blocks = (0..PORT_DROP_BLOCKS)
            .map(|block| summed(&self.ports, block, map::PORT_DROPS))
            .collect::<Result<Vec<_>>>()?;
        let mut drops = Vec::new();
        for transport in PortTransport::ALL {
            for port in 0..=u16::MAX {
                let (block, cell) = port_drop_cell(transport, NetPort::new(port));
                let count = blocks[block as usize][cell];
                if count != 0 {
                    drops.push((transport, port, count));
                }
            }
        }
        Ok(drops)
    }
}

/// One block, summed over the CPUs. Wrapping sums keep differences right.
fn summed(counters: &PerCpuArray<MapData, CounterBlock>, block: u32, name: &'static str) -> Result<Vec<u64>> {
    let cpus = counters.get(&block, 0).with_context(|| format!("reading block {block} of the map {name}"))?;
    let mut total = vec![0u64; COUNTER_BLOCK];
    for cpu in cpus.iter() {
        for (sum, count) in total.iter_mut().zip(&cpu.0) {
            *sum = sum.wrapping_add(*count);
        }
    }
    Ok(total)
}
