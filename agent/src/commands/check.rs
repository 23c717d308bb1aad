//! `lyncwall check`: is the configuration file good?

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::config;
use crate::problem::Problems;

/// What to check.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/lyncwall/lyncwall.toml")]
    pub config: PathBuf,
}

/// Reads the file and says what it would protect.
///
/// # Errors
/// Every mistake in the file.
pub fn run(args: &CheckArgs) -> Result<Checked, Problems> {
    let config = config::read(&args.config)?;
    Ok(Checked {
        interfaces: config.interfaces.iter().map(|interface| interface.name.to_string()).collect(),
        targets: config.targets.iter().map(CheckedTarget::from).collect(),
        allow: config.allow.iter().map(|rule| rule.name.clone()).collect(),
        warnings: config.warnings(),
    })
}

/// What a good configuration protects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The names of the interfaces.
    pub interfaces: Vec<String>,
    /// The targets.
    pub targets: Vec<CheckedTarget>,
    /// The names of the `[[allow]]` rules.
    pub allow: Vec<String>,
    /// What is allowed but may not be meant, one sentence each.
    pub warnings: Vec<String>,
}

/// A target and its roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckedTarget {
    /// Its name.
    pub name: String,
    /// The keys of its roles.
    pub roles: Vec<String>,
}

impl From<&config::Target> for CheckedTarget {
    fn from(target: &config::Target) -> Self {
        let roles = target.roles.iter().map(|role| role.key.clone()).collect();
        Self { name: target.name.to_string(), roles }
    }
}

impl fmt::Display for Checked {
    /// A few lines for people; warnings last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration is good\ninterfaces: {}", self.interfaces.join(", "))?;
        for CheckedTarget { name, roles } in &self.targets {
            let roles = if roles.is_empty() { "no role".to_owned() } else { roles.join(", ") };
            write!(f, "\ntarget {name}: {roles}")?;
        }
        if !self.allow.is_empty() {
            write!(f, "\nallow rules: {}", self.allow.join(", "))?;
        }
        self.warnings.iter().try_for_each(|warning| write!(f, "\nwarning: {warning}"))
    }
}
