//! Rotated rounds: every program over every packet once per round, each round beginning with another program, so that
//! a machine that gets slower or faster meanwhile does so for all.

use anyhow::{Result, ensure};
use lyncwall_tests::run;

use crate::contenders::{Contender, REFERENCE};

/// What one program costs.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// By packet; `None` where the program's policy is not about it.
    pub(crate) cells: [Option<Cell>; 5],
}

/// What one program costs over one packet.
#[derive(Clone, Copy)]
pub(crate) struct Cell {
    /// CPU nanoseconds per packet, the test run's own loop included.
    pub(crate) total: Summary,
    /// The same without what an empty program with the same answer costs in the same round.
    pub(crate) net: Summary,
    /// The median of `net` by that of the reference.
    pub(crate) ratio: f64,
}

/// Of one figure per round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Summary {
    /// Of at least one figure.
    pub(crate) fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let middle = figures.len() / 2;
        let median = if figures.len() % 2 == 1 {
            figures[middle]
        } else {
            f64::midpoint(figures[middle - 1], figures[middle])
        };
        Self { median, least: figures[0], most: figures[figures.len() - 1] }
    }
}

/// Measures all of them. The first two are the empty programs, one that passes and one that drops.
pub(crate) fn measure(contenders: &[Contender<'_>], rounds: u32, repeat: u32) -> Result<Vec<Row>> {
    // By contender, packet, round.
    let mut figures = vec![[const { Vec::new() }; 5]; contenders.len()];
    for round in 0..rounds as usize {
        eprintln!("bench: round {} of {rounds}", round + 1);
        for turn in 0..contenders.len() {
            let number = (turn + round) % contenders.len();
            let contender = contenders[number];
            for (packet, expected) in contender.expected.into_iter().enumerate() {
                let Some(expected) = expected else { continue };
                let cost = run::measure(contender.program, &contender.frames[packet], repeat)?;
                ensure!(cost.action == expected, "{} answered {:?}", contender.name, cost.action);
                figures[number][packet].push(cost.nanoseconds());
            }
        }
    }
    Ok(rows(contenders, &figures))
}

fn rows(contenders: &[Contender<'_>], figures: &[[Vec<f64>; 5]]) -> Vec<Row> {
    let net = |number: usize, packet: usize| {
        let drops = contenders[number].expected[packet] == Some(run::Action::Drop);
        let empty = &figures[usize::from(drops)][packet];
        Summary::of(figures[number][packet].iter().zip(empty).map(|(all, empty)| all - empty).collect())
    };
    let reference = contenders.iter().position(|contender| contender.name == REFERENCE);
    let cell = |number: usize, packet: usize| {
        contenders[number].expected[packet]?;
        let own = net(number, packet);
        let least = net(reference?, packet).median;
        Some(Cell {
            total: Summary::of(figures[number][packet].clone()),
            net: own,
            ratio: own.median / least,
        })
    };
    contenders
        .iter()
        .enumerate()
        .map(|(number, contender)| Row {
            name: contender.name,
            cells: std::array::from_fn(|packet| cell(number, packet)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::Summary;

    #[test]
    fn the_median_is_in_the_middle() {
        let summary = |median, least, most| Summary { median, least, most };
        assert_eq!(Summary::of(vec![3.0, 1.0, 9.0]), summary(3.0, 1.0, 9.0));
        assert_eq!(Summary::of(vec![4.0, 1.0, 2.0, 9.0]), summary(3.0, 1.0, 9.0));
        assert_eq!(Summary::of(vec![7.0]), summary(7.0, 7.0, 7.0));
    }
}
