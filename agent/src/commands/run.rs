//! `lyncwall run`: the agent.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use lyncwall::firewall::{Firewall, Store};
use lyncwall::object;
use lyncwall::server::{Daemon, Socket, serve};
use lyncwall_datapath::{host, listening};
use lyncwall_policy::config::{Management, OnExit};
use lyncwall_policy::plan::Plan;
use lyncwall_policy::problem::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::check::ConfigOption;
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
    // Signals are caught before the program loads, so that an early one is handled afterwards.
    let mut hangup = signal(SignalKind::hangup()).context("waiting for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("waiting for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for signals")?;

    let plan = Plan::read(&options.config.config)?;
    let said = plan.warnings(&plan.settings());
    for warning in &said {
        tracing::warn!("{warning}");
    }
    let store = Store::open(state_dir);
    let metrics = plan.config.metrics.clone();
    let management = plan.config.management.clone();
    let (firewall, bound) =
        Firewall::start(plan, object::require()?, pin_dir, store, options.log.program(), || {
            Socket::bind(socket, &metrics)
        })?;
    let status = firewall.status()?;
    tracing::info!(
        generation = status.generation,
        load_ms = status.program.load_ms,
        interfaces = %status.interfaces.iter().map(|interface| format!("{} ({})", interface.name, interface.mode)).collect::<Vec<_>>().join(", "),
        mode = super::mode(status.mode, status.targets.iter().map(|target| (&*target.name, target.mode))),
        "guarding"
    );
    for warning in status.warnings.iter().filter(|warning| !said.contains(warning)) {
        tracing::warn!("{warning}");
    }
    let daemon = Daemon::new(firewall)?;
    let serving = serve(daemon.clone(), bound);
    tracing::info!(socket = %socket.display(), "serving");
    tokio::select! {
        served = serving => served?,
        () = reload_on(&mut hangup, &daemon) => {}
        followed = daemon.follow_machine() => followed?,
        () = warn_of_silence(management) => {}
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

/// Reloads the configuration at each SIGHUP, for ever.
async fn reload_on(hangup: &mut Signal, daemon: &Daemon) {
    while hangup.recv().await.is_some() {
        match daemon.reload(None, None).await {
            Ok(switched) => {
                for change in &switched.changes {
                    tracing::info!("{change}");
                }
                tracing::info!(
                    generation = switched.generation,
                    opened = switched.opened.len(),
                    closed = switched.closed.len(),
                    "reloaded"
                );
            }
            Err(error) => match error.into() {
                Error::Mistakes(problems) => {
                    for problem in problems.iter() {
                        tracing::error!("not reloaded: {problem}");
                    }
                }
                Error::Unexpected(error) => tracing::error!("not reloaded: {error:#}"),
            },
        }
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
            firewall.remove().context("opening the box")?;
            tracing::warn!("detached: the box is open");
        }
    }
    Ok(())
}
