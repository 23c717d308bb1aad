//! `lyncwall run`: the agent.

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::Args;
use lyncwall::firewall::{Firewall, Store};
use lyncwall::object;
use lyncwall::server::{Asker, Daemon, Socket, serve};
use lyncwall_api::Existing;
use lyncwall_policy::config::OnExit;
use lyncwall_policy::plan::Plan;
use lyncwall_policy::problem::Problem;
use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{self, SignalKind, signal};

use super::check::{ConfigOption, STDIN};
use crate::output::log;

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    config: ConfigOption,

    #[command(flatten)]
    pub(crate) log: log::Options,
}

pub(crate) async fn run(options: &Options, socket: &Path, pin_dir: &Path, state_dir: &Path) -> Result<()> {
    // Whoever started the agent may have blocked them.
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
    let said = plan.warnings(&plan.settings());
    for warning in &said {
        tracing::warn!("{warning}");
    }
    let store = Store::open(state_dir);
    let metrics = plan.config.metrics.clone();
    let (firewall, bound) =
        Firewall::start(plan, object::require()?, pin_dir, store, options.log.program(), || {
            Socket::bind(socket, &metrics)
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
    for warning in status.warnings.iter().filter(|warning| !said.contains(warning)) {
        tracing::warn!("{warning}");
    }
    let daemon = Daemon::new(firewall)?;
    let serving = serve(daemon.clone(), bound);
    tracing::info!(socket = %socket.display(), "serving requests on {}", socket.display());
    tokio::select! {
        served = serving => served?,
        () = reload_on(&mut hangup, &daemon) => {}
        followed = daemon.follow_machine() => followed?,
        _ = terminate.recv() => tracing::info!("stopping: SIGTERM"),
        _ = interrupt.recv() => tracing::info!("stopping: SIGINT"),
        () = daemon.detached() => {}
    }
    end(daemon).await
}

/// Reloads the configuration at each SIGHUP, for ever.
async fn reload_on(hangup: &mut unix::Signal, daemon: &Daemon) {
    while hangup.recv().await.is_some() {
        // Its log lines say how it went.
        daemon.reload(Asker::Hangup, None, Existing::Cut).await.ok();
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
