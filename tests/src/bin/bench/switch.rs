//! How long a switch takes: from the compiled policy to the store that makes it judge.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::contenders::Contenders;
use crate::rounds::Summary;

/// What switches take.
pub(crate) struct Switches {
    pub(crate) count: usize,
    /// Between two switches.
    pub(crate) pause: Duration,
    /// Wall-clock microseconds.
    pub(crate) micros: Summary,
}

/// Switches to and fro between two policies: 49152-65535 and 40 ports, against the benchmark's 40 ports.
pub(crate) fn measure(contenders: &mut Contenders, long: bool) -> Result<Switches> {
    let (count, pause) = if long { (1000, 50) } else { (200, 5) };
    let pause = Duration::from_millis(pause);
    let (datapath, policies) = contenders.pair_to_switch()?;
    let mut micros = Vec::with_capacity(count);
    for policy in policies.iter().cycle().take(count) {
        let start = Instant::now();
        datapath.install(policy)?;
        micros.push(start.elapsed().as_secs_f64() * 1e6);
        // The wait until the old slot may be filled again comes after the answer, as in the agent.
        datapath.retire();
        thread::sleep(pause);
    }
    Ok(Switches { count, pause, micros: Summary::of(micros) })
}
