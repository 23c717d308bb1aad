//! Packets by interface. The program counts by the kernel's interface number modulo the number of cells.
//! Users ask by name, and an interface that is created anew gets another number.

use std::collections::{BTreeMap, BTreeSet};

use lyncwall_common::abi::interface_cell;
use serde::{Deserialize, Serialize};

/// Passed and dropped packets.
type Pair = [u64; 2];

/// Which cell belongs to which interface, and since when. Outlives the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Traffic {
    named: BTreeMap<String, Counted>,
    /// The value of a cell when its last interface went.
    ended: BTreeMap<usize, Pair>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counted {
    /// The kernel's number; 0 if no such interface exists now.
    ifindex: u32,
    /// The value of its cell when the interface got it.
    start: Pair,
    /// Packets under earlier numbers.
    earlier: Pair,
    /// Interfaces that shared its cell, so that some of their packets are counted here.
    #[serde(default)]
    shared: BTreeSet<String>,
}

impl Traffic {
    /// Notes the guarded interfaces by name and number. `cells` are the program's counters. True if anything
    /// changed.
    pub(super) fn follow<'a>(
        &mut self,
        guarded: impl IntoIterator<Item = (&'a str, u32)>,
        cells: &[Pair],
    ) -> bool {
        let before = self.clone();
        let guarded: BTreeMap<&str, u32> = guarded.into_iter().collect();
        for (name, counted) in &mut self.named {
            if counted.ifindex != 0 && guarded.get(&**name) != Some(&counted.ifindex) {
                counted.earlier = counted.total(cells);
                self.ended.insert(interface_cell(counted.ifindex), at(cells, counted.ifindex));
                (counted.ifindex, counted.start) = (0, Pair::default());
            }
        }
        for (name, ifindex) in &guarded {
            if self.named.get(*name).is_some_and(|counted| counted.ifindex != 0) {
                continue;
            }
            let cell = interface_cell(*ifindex);
            let taken =
                self.named.values().any(|other| other.ifindex != 0 && interface_cell(other.ifindex) == cell);
            // Packets since attaching, before this note, belong to the interface, unless another one is
            // counted in the cell too.
            let start =
                if taken { at(cells, *ifindex) } else { self.ended.get(&cell).copied().unwrap_or_default() };
            let counted = self.named.entry((*name).to_owned()).or_default();
            (counted.ifindex, counted.start) = (*ifindex, start);
        }
        for (name, ifindex) in &guarded {
            let others = guarded.iter().filter(|(other, number)| {
                *other != name && interface_cell(**number) == interface_cell(*ifindex)
            });
            let others: Vec<String> = others.map(|(other, _)| (*other).to_owned()).collect();
            if let Some(counted) = self.named.get_mut(*name) {
                counted.shared.extend(others);
            }
        }
        *self != before
    }

    /// Packets by interface, including interfaces that are gone, by name.
    pub(super) fn read(&self, cells: &[Pair]) -> Vec<(String, Pair)> {
        self.named.iter().map(|(name, counted)| (name.clone(), counted.total(cells))).collect()
    }

    /// Interfaces that share or shared the cell of an interface, so that some of their packets are counted as
    /// its own.
    pub(super) fn shared(&self, name: &str) -> Vec<String> {
        self.named.get(name).map(|counted| counted.shared.iter().cloned().collect()).unwrap_or_default()
    }
}

impl Counted {
    fn total(&self, cells: &[Pair]) -> Pair {
        if self.ifindex == 0 {
            return self.earlier;
        }
        let now = at(cells, self.ifindex);
        std::array::from_fn(|n| self.earlier[n].wrapping_add(now[n].wrapping_sub(self.start[n])))
    }
}

fn at(cells: &[Pair], ifindex: u32) -> Pair {
    cells.get(interface_cell(ifindex)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::Traffic;

    /// The indices of cells that are not zero.
    fn cells(counts: &[(usize, [u64; 2])]) -> Vec<[u64; 2]> {
        let mut cells = vec![[0; 2]; 256];
        for (cell, count) in counts {
            cells[*cell] = *count;
        }
        cells
    }

    #[test]
    fn an_interface_that_is_made_again_goes_on_counting() {
        let mut traffic = Traffic::default();
        assert!(traffic.follow([("eth0", 2)], &cells(&[])));
        assert!(!traffic.follow([("eth0", 2)], &cells(&[(2, [5, 1])])));
        assert!(traffic.follow([("eth0", 7)], &cells(&[(2, [10, 3]), (7, [1, 0])])));
        assert_eq!(traffic.read(&cells(&[(2, [10, 3]), (7, [4, 4])])), [("eth0".to_owned(), [14, 7])]);
        // It is gone, and another interface gets its cell.
        traffic.follow([("eth1", 258)], &cells(&[(2, [10, 3]), (7, [4, 4])]));
        let now = cells(&[(2, [12, 3]), (7, [4, 4])]);
        assert_eq!(traffic.read(&now), [("eth0".to_owned(), [14, 7]), ("eth1".to_owned(), [2, 0])]);
    }

    #[test]
    fn two_interfaces_that_share_a_cell_say_so() {
        let mut traffic = Traffic::default();
        traffic.follow([("eth0", 2), ("eth1", 258), ("eth2", 3)], &cells(&[]));
        assert_eq!(traffic.shared("eth0"), ["eth1"]);
        assert!(traffic.shared("eth2").is_empty());
        // A newcomer does not inherit the count of the cell, and mixed counts stay marked.
        let mut traffic = Traffic::default();
        traffic.follow([("eth0", 20)], &cells(&[]));
        traffic.follow([("eth0", 20), ("eth2", 276)], &cells(&[(20, [0, 7036])]));
        traffic.follow([("eth2", 276)], &cells(&[(20, [0, 7036])]));
        let read = traffic.read(&cells(&[(20, [0, 7036])]));
        assert_eq!(read, [("eth0".to_owned(), [0, 7036]), ("eth2".to_owned(), [0, 0])]);
        assert_eq!(traffic.shared("eth2"), ["eth0"]);
    }
}
