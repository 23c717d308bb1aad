//! The report, for people and as JSON.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::utsname::uname;
use serde_json::{Value, json};

use crate::Options;
use crate::contenders::PACKETS;
use crate::rounds::{Cell, Row, Summary};
use crate::switch::Switches;

/// What loading one data path cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// For the maps and the verifier.
    pub(crate) time: Duration,
    /// Instructions that the verifier walked; `None` before kernel 5.16.
    pub(crate) verified: Option<u32>,
}

/// Everything that was measured, and where.
pub(crate) struct Report {
    machine: Machine,
    cpu: usize,
    rounds: u32,
    repeat: u32,
    rows: Vec<Row>,
    /// Milliseconds.
    load: Summary,
    verified: Option<u32>,
    switches: Switches,
}

struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
}

impl Report {
    pub(crate) fn new(
        options: &Options,
        cpu: usize,
        rows: Vec<Row>,
        loads: &[Load],
        switches: Switches,
    ) -> Result<Self> {
        Ok(Self {
            machine: Machine::this()?,
            cpu,
            rounds: options.rounds,
            repeat: options.repeat,
            rows,
            load: Summary::of(loads.iter().map(|load| load.time.as_secs_f64() * 1e3).collect()),
            verified: loads.first().and_then(|load| load.verified),
            switches,
        })
    }

    pub(crate) fn print_table(&self) {
        let Machine { processor, cores, kernel } = &self.machine;
        println!("{processor}, {cores} CPUs, Linux {kernel}");
        println!("{} rounds of {} runs on CPU {}; medians", self.rounds, self.repeat, self.cpu);
        self.block("CPU ns per packet (least-most)", |cell| range(cell.total));
        self.block("net of an empty program (least-most)", |cell| range(cell.net));
        self.block("net cost by that of the reference", |cell| format!("{:.2}", cell.ratio));
        let verified = self.verified.map_or_else(String::new, |n| format!(", {n} instructions verified"));
        println!("\nload: {} ms{verified}", range(self.load));
        let Switches { count, pause, micros } = &self.switches;
        println!("switch: {} µs, {count} switches {} ms apart", range(*micros), pause.as_millis());
    }

    fn block(&self, title: &str, text: impl Fn(Cell) -> String) {
        const FIRST: usize = 26;
        const OTHERS: usize = 19;
        println!("\n{title}\n{:FIRST$}{}", "", PACKETS.map(|packet| format!("{packet:>OTHERS$}")).concat());
        for row in &self.rows {
            let cells = row.cells.map(|cell| format!("{:>OTHERS$}", cell.map_or("-".to_owned(), &text)));
            println!("{:FIRST$}{}", row.name, cells.concat());
        }
    }

    pub(crate) fn print_json(&self) -> Result<()> {
        let rows: Vec<_> = self.rows.iter().map(row_json).collect();
        let Switches { count, pause, micros } = &self.switches;
        let report = json!({
            "machine": {
                "processor": self.machine.processor,
                "cpus": self.machine.cores,
                "kernel": self.machine.kernel,
            },
            "cpu": self.cpu,
            "rounds": self.rounds,
            "repeat": self.repeat,
            "programs": rows,
            "load": { "ms": summary_json(self.load), "verified_instructions": self.verified },
            "switch": { "us": summary_json(*micros), "count": count, "pause_ms": pause.as_millis() },
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
        Ok(())
    }
}

fn range(summary: Summary) -> String {
    let Summary { median, least, most } = summary;
    format!("{median:.1} ({least:.1}-{most:.1})")
}

fn row_json(row: &Row) -> Value {
    let packets: serde_json::Map<_, _> = PACKETS
        .iter()
        .zip(row.cells)
        .filter_map(|(packet, cell)| {
            let Cell { total, net, ratio } = cell?;
            let value = json!({ "ns": summary_json(total), "net_ns": summary_json(net), "ratio": ratio });
            Some(((*packet).to_owned(), value))
        })
        .collect();
    json!({ "name": row.name, "packets": packets })
}

fn summary_json(summary: Summary) -> Value {
    json!({ "median": summary.median, "least": summary.least, "most": summary.most })
}

impl Machine {
    fn this() -> Result<Self> {
        let processors = fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
        let model = processors
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map_or("unknown processor", |rest| rest.trim_start_matches([' ', '\t', ':']));
        let release = uname().context("the kernel's release")?.release().to_string_lossy().into_owned();
        // What follows the version says who built the kernel.
        let kernel = release.split('-').next().unwrap_or(&release).to_owned();
        // Not those that this thread may use: that is one by now.
        let cores = processors.lines().filter(|line| line.starts_with("processor")).count();
        Ok(Self { processor: model.to_owned(), cores, kernel })
    }
}
