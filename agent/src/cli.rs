//! The command line: global options and commands.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::commands;

mod help;

use help::example;

/// Host firewall for the Linux boxes in front of Microsoft Lync pools.
#[derive(Debug, Parser)]
#[command(name = "lyncwall", version, propagate_version = true, disable_help_flag = true)]
#[command(help_template = help::overview(), subcommand_value_name = "COMMAND")]
pub(crate) struct Cli {
    // `help::overview` lists the global options; the help of a command refers to that list.
    /// Print JSON instead of text.
    #[arg(long, global = true, hide = true)]
    pub(crate) json: bool,

    /// The agent's Unix socket.
    #[arg(long, global = true, hide = true, value_name = "PATH")]
    #[arg(default_value = "/run/lyncwall/lyncwall.sock")]
    pub(crate) socket: PathBuf,

    /// The directory on a BPF file system where the maps and links of the program outlive the agent.
    #[arg(long, global = true, hide = true, value_name = "DIR", default_value = "/sys/fs/bpf/lyncwall")]
    pub(crate) pin_dir: PathBuf,

    /// The directory of the state that survives a reboot: the confirmed roles and configuration, the
    /// block-list.
    #[arg(long, global = true, hide = true, value_name = "DIR", default_value = "/var/lib/lyncwall")]
    pub(crate) state_dir: PathBuf,

    /// Print help.
    #[arg(long, short, global = true, display_order = 999, action = clap::ArgAction::HelpShort)]
    help: Option<bool>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

// The first paragraph of a command is its line in `lyncwall --help`: at most `help::WIDTH` characters.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the agent.
    #[command(after_help = example!(
        "The agent stays in the foreground. It attaches the program, enforces the\n\
         configuration and serves the other commands.",
        "lyncwall run --config /etc/lyncwall/lyncwall.toml"
    ))]
    Run(commands::run::Options),
    /// Show mode, ports, health.
    #[command(after_help = example!(
        "Shows what is enforced, on which interfaces, and which ports are open.",
        "lyncwall status --json"
    ))]
    Status,
    /// Try a change on paper.
    #[command(after_help = example!(
        "Changes nothing. Shows ports, local servers and existing connections that\n\
         other roles or another mode would open or cut.",
        "lyncwall preview --mode enforce"
    ))]
    Preview(commands::preview::Options),
    /// Change a target's roles.
    #[command(after_help = example!(
        "The switch is one step for all packets. The configuration file stays unchanged.\n\
         Connections that the box opened continue in any case.",
        "lyncwall switch director-vip --confirm 60s"
    ))]
    Switch(commands::switch::Options),
    /// Enforce, or only audit.
    #[command(after_help = example!(
        "The configuration file stays unchanged.",
        "lyncwall mode enforce --confirm 5min"
    ))]
    Mode(commands::mode::Options),
    /// Read the file again.
    #[command(after_help = example!(
        "A file with mistakes changes nothing. A file that would cut an existing\n\
         management session is refused too, unless --confirm is given.",
        "lyncwall reload --confirm 60s"
    ))]
    Reload(commands::switch::ReloadOptions),
    /// Keep a change on trial.
    #[command(after_help = example!(
        "Keeps a switch, mode or reload that was made with --confirm.",
        "lyncwall confirm"
    ))]
    Confirm,
    /// Undo a change on trial.
    #[command(after_help = example!(
        "Undoes a switch, mode or reload that still waits for `lyncwall confirm`.",
        "lyncwall rollback"
    ))]
    Rollback,
    /// Drop some sources.
    #[command(after_help = example!(
        "Only management still gets in from a blocked source. Blocks hold in audit mode too.",
        "lyncwall block 203.0.113.0/24 --for 1h"
    ))]
    Block(commands::block::Options),
    /// Unblock sources.
    #[command(after_help = example!("Removes prefixes from the block-list.", "lyncwall unblock 203.0.113.0/24"))]
    Unblock(commands::block::UnblockOptions),
    /// List blocked sources.
    #[command(after_help = example!(
        "Shows each blocked prefix and for how long it stays blocked.",
        "lyncwall blocked"
    ))]
    Blocked,
    /// Save drops as pcapng.
    #[command(after_help = example!("", "lyncwall capture -w drops.pcapng --port tcp/5061 --for 60s"))]
    Capture(commands::capture::Options),
    /// Explain one packet.
    #[command(after_help = example!("", "lyncwall explain tcp/5061 --from 192.0.2.7 --to 198.51.100.10"))]
    Explain(commands::explain::Options),
    /// Watch packets live.
    #[command(after_help = example!(
        "Shows packets and drops live by reason, rule, port and source.",
        "lyncwall watch"
    ))]
    Watch(commands::watch::Options),
    /// List the busiest rules.
    #[command(after_help = example!("Lists the rules that let the most packets in.", "lyncwall top --over 10s"))]
    Top(commands::usage::TopOptions),
    /// List unused rows.
    #[command(after_help = example!(
        "Lists rows of the live roles that let no packet in: a hint what you may close.\n\
         Times are exact to the minute. A packet counts for all rows that share its port.",
        "lyncwall unused --for 30d"
    ))]
    Unused(commands::usage::UnusedOptions),
    /// Print drops live.
    #[command(after_help = example!(
        "Prints a sample: each CPU reports at most 100 drops a second for each reason.\n\
         In audit mode, prints packets that enforcing would drop.",
        "lyncwall events --reason closed,source --from 203.0.113.0/24"
    ))]
    Events(commands::events::Options),
    /// Open the box.
    #[command(after_help = example!(
        "Takes the firewall off all interfaces and drops the block-list, with or without a\n\
         running agent. The next start restores the roles and modes that were set at run\n\
         time, unless --forget is given.",
        "lyncwall detach"
    ))]
    Detach(commands::detach::Options),
    /// Acknowledge lost state.
    #[command(after_help = example!(
        "After damage to stored state, `lyncwall status` and the metrics say what was lost\n\
         until somebody acknowledges it.",
        "lyncwall ack"
    ))]
    Ack,
    /// Check a configuration.
    #[command(after_help = example!(
        "Reports mistakes, and servers of this box on ports that the file opens. Needs\n\
         neither root nor an agent; the interfaces need not exist.",
        "lyncwall check --config new.toml"
    ))]
    Check(commands::check::Options),
    /// Check this machine.
    #[command(after_help = example!(
        "Tells whether lyncwall can run here, and what it uses where the kernel lacks a\n\
         feature. Changes nothing and needs no agent; run it as root for all checks.",
        "lyncwall doctor"
    ))]
    Doctor(commands::doctor::Options),
    /// List all roles.
    #[command(after_help = example!("", "lyncwall roles"))]
    Roles(commands::roles::Options),
    /// Show the ports of roles.
    #[command(after_help = example!("", "lyncwall show front-end --reading literal"))]
    Show(commands::show::Options),
    /// Show the printed rows.
    #[command(after_help = example!("", "lyncwall catalogue server.14"))]
    Catalogue(commands::catalogue::Options),
}

#[cfg(test)]
mod tests;
