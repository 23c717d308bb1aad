//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::commands;

/// Host firewall for the Linux boxes in front of Microsoft Lync pools.
#[derive(Debug, Parser)]
#[command(name = "lyncwall", version, propagate_version = true)]
pub(crate) struct Cli {
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// The agent's Unix socket.
    #[arg(long, global = true, value_name = "PATH", default_value = "/run/lyncwall/lyncwall.sock")]
    pub(crate) socket: PathBuf,

    /// The directory, on a BPF file system, that the kernel side is pinned in.
    #[arg(long, global = true, value_name = "DIR", default_value = "/sys/fs/bpf/lyncwall")]
    pub(crate) pin_dir: PathBuf,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Enforce a configuration: the agent, in the foreground.
    Run(commands::run::Options),
    /// Say what is enforced, where, and how it stands.
    Status,
    /// Give a target other roles, at once and as a whole.
    Switch(commands::switch::Options),
    /// Read the configuration file again.
    Reload,
    /// Show the counters, by reason, rule and dropped port.
    Watch(commands::watch::Options),
    /// Print dropped packets as they come: a sample, as their rate is limited.
    Events(commands::events::Options),
    /// Open the box: take the firewall off all interfaces, with or without a running agent.
    Detach,
    /// Say whether a configuration file is good.
    Check(commands::check::Options),
    /// List the roles a box can have.
    Roles(commands::roles::Options),
    /// Show what a role, or several together, would open.
    Show(commands::show::Options),
    /// List the printed port rows, or show some in full.
    Catalogue(commands::catalogue::Options),
}
