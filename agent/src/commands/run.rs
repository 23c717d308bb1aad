//! `lyncwall run`: the agent.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use lyncwall::firewall::{Firewall, Store};
use lyncwall::object;
use lyncwall::server::{Asker, Daemon, Socket, serve};
use lyncwall_datapath::{host, listening};
use lyncwall_policy::config::{Management, OnExit};
use lyncwall_policy::plan::Plan;
use lyncwall_policy::problem::Problem;
use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{self, SignalKind, signal};

use super::check::{ConfigOption, STDIN};
use crate::output::log;

/// From then on after a boot, each service has started.
const BOOT: Duration = Duration::from_secs(300);

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    config: ConfigOption,

    #[command(flatten)]
    pub(crate) log: log::Options,
}

pub(crate) async fn run(options: &Options, socket: &Path, pin_dir: &Path, state_dir: &Path) -> Result<()> {
    // The parent process may have blocked them.
    let signals: SigSet = [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    signals.thread_unblock().context("unblocking signals")?;
    // Signals are caught before the program loads, so that an early one is handled afterwards.
    let mut hangup = signal(SignalKind::hangup()).context("waiting for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("waiting for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for signals")?;

    if options.config.config == Path::new(STDIN) {
        let fix = "name a file with --config: the agent reads it again at each reload";
        return Err(Problem::new("the agent cannot read its configuration from stdin", fix).into());
    }
    let plan = Plan::read(&options.config.config)?;
    let store = Store::open(state_dir);
    let management = plan.config.management.clone();
    let (firewall, bound) =
        Firewall::start(plan, object::require()?, pin_dir, store, options.log.program(), || {
            Socket::bind(socket)
        })?;
    let status = firewall.status()?;
    let guarded = |interface: &lyncwall_api::Interface| format!("{} ({})", interface.name, interface.mode);
    let interfaces = status.interfaces.iter().map(guarded).collect::<Vec<_>>().join(", ");
    let mode = super::mode(status.mode, status.targets.iter().map(|target| (&*target.name, target.mode)));
    let generation = status.generation;
    tracing::info!(
        generation,
        load_ms = status.program.load_ms,
        interfaces,
        mode,
        "guarding {interfaces}: {mode}, generation {generation}; {}",
        super::roles_of(&firewall.target_states())
    );
    for difference in firewall.differences_from_file() {
        tracing::warn!("set at run time, and kept against the file: {difference}");
    }
    for warning in &status.warnings {
        tracing::warn!("{warning}");
    }
    let daemon = Daemon::new(firewall)?;
    // Everything that must not start before the box is closed may start now.
    if let Err(error) = notify("READY=1") {
        tracing::warn!("cannot tell systemd that the box is guarded: {error}");
    }
    let serving = serve(daemon.clone(), bound);
    tracing::info!(socket = %socket.display(), "serving requests on {}", socket.display());
    tokio::select! {
        served = serving => served?,
        () = reload_on(&mut hangup, &daemon) => {}
        followed = daemon.follow_machine() => followed?,
        () = warn_of_silence(management) => {}
        () = daemon.watch_links() => {}
        _ = terminate.recv() => tracing::info!("stopping: SIGTERM"),
        _ = interrupt.recv() => tracing::info!("stopping: SIGINT"),
        () = daemon.detached() => {}
    }
    end(daemon).await
}

/// Warns once if nothing listens at the management ports, then waits for ever. At a boot, the services get
/// some time to start.
async fn warn_of_silence(management: Option<Management>) {
    tokio::time::sleep(BOOT.saturating_sub(host::since_boot())).await;
    if let Some(warning) = listening::warning(management.as_ref()) {
        tracing::warn!("{warning}");
    }
    std::future::pending::<()>().await;
}

/// Tells the service manager about this process, as sd_notify(3) does; does nothing without one.
fn notify(state: &str) -> io::Result<()> {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match socket.as_encoded_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

/// Reloads the configuration at each SIGHUP, for ever.
async fn reload_on(hangup: &mut unix::Signal, daemon: &Daemon) {
    while hangup.recv().await.is_some() {
        // Its log lines say how it went.
        daemon.reload(Asker::Hangup, None, None).await.ok();
    }
}

async fn end(daemon: Daemon) -> Result<()> {
    let Some(mut firewall) = daemon.into_firewall().await else { return Ok(()) };
    firewall.note_usage();
    match firewall.on_exit() {
        OnExit::Keep => {
            tracing::info!("stopped: the kernel keeps the rules; `lyncwall detach` opens the box");
        }
        OnExit::Detach => {
            let detached = firewall.remove().context("opening the box")?;
            let failed = detached.failed.join("; ");
            anyhow::ensure!(
                detached.guarded.is_empty(),
                "stopped, and still guarded: {}: {failed}",
                detached.guarded.join(", ")
            );
            tracing::warn!("detached: the box is open");
            anyhow::ensure!(failed.is_empty(), "the box is open, but: {failed}");
        }
    }
    Ok(())
}
