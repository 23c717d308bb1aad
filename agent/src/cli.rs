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

    /// The directory on a BPF file system where the program's maps and links outlive the agent.
    #[arg(long, global = true, value_name = "DIR", default_value = "/sys/fs/bpf/lyncwall")]
    pub(crate) pin_dir: PathBuf,

    /// The directory where the roles and the configuration that hold for good outlive a reboot.
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/lyncwall")]
    pub(crate) state_dir: PathBuf,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the agent in the foreground: load the firewall, enforce a configuration, serve the other commands.
    Run(commands::run::Options),
    /// Show what is enforced, on which interfaces, and which ports are open.
    Status,
    /// Show what a switch to some roles, or another mode, would do, and change nothing: ports, local servers, connections that
    /// stand.
    Preview(commands::preview::Options),
    /// Give a target other roles, in one step for all packets; the file stays as it is.
    Switch(commands::switch::Options),
    /// Drop what no rule lets in, or only count it: on the whole box or for one target; the file stays as it is.
    Mode(commands::mode::Options),
    /// Have the agent read its configuration file again; a file with mistakes changes nothing, nor does one that shuts a
    /// standing management session out, unless it is to be confirmed.
    Reload(commands::switch::ReloadOptions),
    /// Keep a switch, a mode or a reload that was made with --confirm.
    Confirm,
    /// Go back to what was before a switch, a mode or a reload that waits to be confirmed, at once.
    Rollback,
    /// Let nothing but management in from some sources, for a time or for good; in audit mode as well.
    Block(commands::block::Options),
    /// Take prefixes off the block-list.
    Unblock(commands::block::UnblockOptions),
    /// Show the block-list, and how long each prefix is blocked still.
    Blocked,
    /// Write the dropped packets themselves, with the reason of each as its comment, for Wireshark and tcpdump.
    Capture(commands::capture::Options),
    /// Say what the program would do with a packet, and why: by which rule, from which printed row. Nothing is sent, and nothing is
    /// counted or remembered of it.
    Explain(commands::explain::Options),
    /// Show packets and drops as they move, by reason, rule, port and source, on a screen with keys; as text in a pipe.
    Watch(commands::watch::Options),
    /// Show the rules that let the most packets in.
    Top(commands::usage::TopOptions),
    /// Show the rows of the live roles that let nothing in, and since when: a hint for what may be closed. Times are exact to
    /// the minute; where rows share a port, a packet counts for all of them.
    Unused(commands::usage::UnusedOptions),
    /// Print packets as they are dropped (in audit mode: would be): a sample, as each CPU's rate is limited.
    Events(commands::events::Options),
    /// Open the box: take the firewall off all interfaces, with or without a running agent.
    Detach,
    /// Look for mistakes in a configuration file, and for servers of this box in ranges that it opens. Needs neither root nor
    /// an agent, and the interfaces need not be there.
    Check(commands::check::Options),
    /// Say whether lyncwall can run on this machine, and what stands in for what its kernel does not have. Needs no
    /// agent, and changes nothing; without root it says what it could not ask.
    Doctor(commands::doctor::Options),
    /// List the roles a box can have.
    Roles(commands::roles::Options),
    /// Show what a role, or several together, would open.
    Show(commands::show::Options),
    /// List the printed port rows, or show some in full.
    Catalogue(commands::catalogue::Options),
}

#[cfg(test)]
mod tests;
