//! `lyncwall capture`.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use lyncwall_api::client::Client;
use lyncwall_api::{Capture, Counters};
use lyncwall_policy::problem::Problem;
use lyncwall_policy::text::counted;
use tokio::signal::unix::{SignalKind, signal};

use super::events::FilterOptions;
use super::switch::seconds;
use crate::output::Output;

/// The default of `--max-size`, in MiB.
const MEBIBYTES: u64 = 100;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Accepted and ignored: every capture is one of drops.
    #[arg(long = "drops", hide = true)]
    _drops: bool,
    /// The pcapng file to write or replace; `-` is stdout.
    #[arg(long, short = 'w', value_name = "FILE")]
    write: PathBuf,
    /// Bytes of each packet, 14 to 65000 [default: 65000]
    #[arg(long, short = 's', value_name = "BYTES", value_parser = clap::value_parser!(u16).range(14..=65_000))]
    snap: Option<u16>,
    /// End after this number of packets.
    #[arg(long, short = 'n', value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time, at most 1day [default: 1h]
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    time: Option<u64>,
    /// End before the file exceeds this size.
    #[arg(long, value_name = "MIB", default_value_t = MEBIBYTES, value_parser = clap::value_parser!(u64).range(1..))]
    max_size: u64,
    #[command(flatten)]
    filter: FilterOptions,
}

pub(crate) async fn run(options: &Options, client: &Client, output: &Output) -> Result<()> {
    let stdout = options.write == Path::new("-");
    if stdout && io::stdout().is_terminal() {
        let fix = "write to a file, or use a pipe: `lyncwall capture -w - | tcpdump -r -`";
        return Err(Problem::new("a terminal cannot show a capture", fix).into());
    }
    let lost = |counters: &Counters| counters.captures_lost;
    let before = lost(&client.get("/v1/counters").await?);
    let asked = asked(options)?;
    let mut body = client.bytes(&client.query("/v1/capture", &asked)?).await?;
    let unmade = |error: io::Error| {
        Problem::new(format!("{}: {error}", options.write.display()), "name another file with -w")
    };
    let file = if stdout { None } else { Some(File::create(&options.write).map_err(unmade)?) };
    let most = if stdout { u64::MAX } else { options.max_size << 20 };
    let mut blocks = Blocks { file, output, rest: Vec::new(), written: 0, packets: 0, most };
    let mut interrupted = signal(SignalKind::interrupt()).context("waiting for ^C")?;
    let mut terminated = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    loop {
        tokio::select! {
            _ = interrupted.recv() => break,
            _ = terminated.recv() => break,
            piece = body.next() => match piece? {
                Some(piece) if blocks.write(&piece)? => {}
                Some(_) => {
                    output.warn(&format!("stopped at {} MiB (--max-size)", options.max_size));
                    break;
                }
                None => break,
            },
        }
    }
    drop(body);
    let lost = lost(&client.get("/v1/counters").await?).saturating_sub(before);
    let place = if stdout { String::new() } else { format!(" in {}", options.write.display()) };
    output.say(&format!("{}{place}", counted(blocks.packets, "packet", "packets")));
    if lost > 0 {
        let missed = counted(lost, "more drop", "more drops");
        output.warn(&format!("the capture missed {missed}, which came too fast"));
    }
    Ok(())
}

fn asked(options: &Options) -> Result<Capture, Problem> {
    let seconds = match options.time {
        Some(time) if !(1..=86_400).contains(&time) => {
            return Err(Problem::new("the time of a capture must be from 1s to 1day", "change --for"));
        }
        time => time,
    };
    let lyncwall_api::Wanted { reason, from, port, rule, target, interface } = options.filter.wanted();
    let (snap, count) = (options.snap, options.count);
    Ok(Capture { snap, count, seconds, reason, from, port, rule, target, interface })
}

/// Writes only whole blocks of a pcapng file, so that the file can be read wherever it ends.
struct Blocks<'a> {
    /// `None` for stdout.
    file: Option<File>,
    output: &'a Output,
    rest: Vec<u8>,
    written: u64,
    packets: u64,
    /// The limit in bytes.
    most: u64,
}

impl Blocks<'_> {
    /// The type of an enhanced packet block (draft-ietf-opsawg-pcapng, 4.3).
    const PACKET: u32 = 6;
    /// Longer than any packet with its comment, in bytes.
    const LONGEST: usize = 1 << 20;

    /// Writes the complete blocks of what was received; false when the limit is reached.
    fn write(&mut self, piece: &[u8]) -> Result<bool> {
        self.rest.extend_from_slice(piece);
        // Each block begins with its type and its length, in the byte order of the writer, which is this
        // machine.
        while let Some(([kind, length], _)) = self.rest.as_chunks::<4>().0.split_first_chunk::<2>() {
            let (kind, length) = (u32::from_ne_bytes(*kind), u32::from_ne_bytes(*length) as usize);
            anyhow::ensure!(
                (12..=Self::LONGEST).contains(&length),
                "the agent sent a block of {length} bytes"
            );
            if self.rest.len() < length {
                break;
            }
            if self.written + length as u64 > self.most {
                return Ok(false);
            }
            let block = &self.rest[..length];
            match &mut self.file {
                Some(file) => file.write_all(block).context("writing the capture")?,
                None => self.output.bytes(block)?,
            }
            self.rest.drain(..length);
            self.written += length as u64;
            self.packets += u64::from(kind == Self::PACKET);
        }
        Ok(true)
    }
}
