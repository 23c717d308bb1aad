//! What this kernel makes of lyncwall, in one line `figures: {json}`. `cargo xtask vm` runs it in each of its guests.

mod devices;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use aya::maps::MapType;
use aya::programs::links::FdLink;
use aya::programs::xdp::XdpMode;
use aya::programs::{Program, Xdp};
use lyncwall_datapath::Datapath;
use lyncwall_tests::bpffs::Bpffs;
use lyncwall_tests::kernel;
use lyncwall_tests::netns::Netns;
use lyncwall_tests::object::object;
use lyncwall_tests::policy::open_tcp;
use lyncwall_tests::verifier::Verifiable;
use serde_json::{Value, json};

fn main() -> ExitCode {
    match figures() {
        Ok(figures) => {
            println!("figures: {figures}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// All that is asked for. What a kernel lacks is a value; what goes wrong is an error.
fn figures() -> Result<Value> {
    let bpffs = Bpffs::mount()?;
    let mut datapath = Datapath::open(object(), &bpffs.path().join("lyncwall"))?;
    datapath.install(&open_tcp(&[443]))?;
    let program = datapath.status()?.program;
    let verifiable = Verifiable::new(object(), program, &bpffs.directory("verified")?)?;
    let mut runs = [verifiable.verify()?, verifiable.verify()?, verifiable.verify()?];
    runs.sort_by_key(|run| run.time);
    let median = runs[1];
    Ok(json!({
        "kernel": nix::sys::utsname::uname()?.release().to_string_lossy(),
        "program": program,
        // Verifying the program and compiling it to machine code, without the maps: the median of three.
        "load_ms": (median.time.as_secs_f64() * 1e4).round() / 10.0,
        "verified_instructions": median.instructions,
        // The sum of the depths that the verifier printed, along the deepest chain of calls.
        "stack_bytes": median.stack,
        "xdp": if links(&bpffs, program)? { "link" } else { "netlink" },
        "egress": if kernel::has_tcx()? { "tcx" } else { "clsact" },
        "test_run_interface": kernel::takes_interface_in_test_runs(datapath.program()?)?,
        "ring_buffer": aya::sys::is_map_supported(MapType::RingBuf)?,
        "devices": devices::figures(&mut datapath)?,
    }))
}

/// Whether the kernel attaches XDP programs by links. aya takes netlink where it does not.
fn links(bpffs: &Bpffs, name: &str) -> Result<bool> {
    let mut ebpf = aya::EbpfLoader::new()
        .btf(None)
        .default_map_pin_directory(bpffs.directory("linked")?)
        .load(object())
        .context("making the maps")?;
    let program: &mut Xdp = match ebpf.program_mut(name) {
        Some(Program::Xdp(program)) => program,
        _ => anyhow::bail!("the object has no XDP program {name}"),
    };
    program.load()?;
    let namespace = Netns::new()?;
    let id = namespace.run(|| program.attach("lo", XdpMode::Skb))?;
    Ok(FdLink::try_from(program.take_link(id)?).is_ok())
}
