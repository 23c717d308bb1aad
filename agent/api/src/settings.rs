//! What the configuration says and an answer repeats, as both write it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whether the program drops packets or only judges them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Drops every packet that no rule lets in.
    #[default]
    Enforce,
    /// Lets every packet pass; counts and reports those that enforcing would drop.
    Audit,
}

impl Mode {
    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        }
    }
}

/// The fate of the rules when the agent stops.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnExit {
    /// The kernel continues to enforce.
    #[default]
    Keep,
    /// The programs are detached and the box is open.
    Detach,
}

/// How the printed tables are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reading {
    /// Honours the printed directions and sources.
    #[default]
    Strict,
    /// Opens the ports of every printed row inbound, from anywhere.
    Literal,
}

impl Reading {
    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Literal => "literal",
        }
    }
}
