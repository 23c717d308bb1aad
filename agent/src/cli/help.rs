//! The text of `lyncwall --help`, and what the help of each command ends with.

use std::fmt::Write as _;

use clap::Subcommand as _;

use super::Command;

/// The commands by what people use them for.
pub(super) const GROUPS: [(&str, &[&str]); 4] = [
    ("Everyday", &["run", "status", "watch", "events", "explain", "capture"]),
    ("Change", &["switch", "mode", "reload", "confirm", "rollback", "block", "unblock", "blocked"]),
    ("Look", &["preview", "top", "unused", "roles", "show", "catalogue"]),
    ("Machine", &["check", "doctor", "detach", "ack"]),
];

/// The longest summary of a command, in characters: two commands with their summaries fit 80 columns.
pub(super) const WIDTH: usize = 24;

/// The template of `lyncwall --help`: the commands in groups, two in a line, and the global options.
pub(super) fn overview() -> String {
    let commands = Command::augment_subcommands(clap::Command::new("lyncwall"));
    let mut text = "{about}\n\nUsage: lyncwall [OPTIONS] COMMAND\n\n".to_owned();
    for (heading, names) in GROUPS {
        let mut heading = heading;
        for pair in names.chunks(2) {
            let mut line = format!("{heading:<9}");
            for name in pair {
                let about = commands.find_subcommand(name).and_then(clap::Command::get_about);
                let about = about.map(ToString::to_string).unwrap_or_default();
                write!(line, " {name:<9} {about:<WIDTH$}").ok();
            }
            text += line.trim_end();
            text.push('\n');
            heading = "";
        }
    }
    text += "
Options   --json           Print JSON instead of text
          --socket PATH    The agent's socket      [/run/lyncwall/lyncwall.sock]
          --pin-dir DIR    Kernel objects          [/sys/fs/bpf/lyncwall]
          --state-dir DIR  State across reboots    [/var/lib/lyncwall]
          -h, --help; -V, --version; more: `lyncwall COMMAND --help`

Example:  lyncwall preview --mode enforce
";
    text
}

/// The end of a command's help: what else to know, one example, and where the global options are.
macro_rules! example {
    ("", $example:literal) => {
        concat!("Example: ", $example, "\nGlobal options: see `lyncwall --help`.")
    };
    ($more:literal, $example:literal) => {
        concat!($more, "\n\nExample: ", $example, "\nGlobal options: see `lyncwall --help`.")
    };
}

pub(super) use example;
