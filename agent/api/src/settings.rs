//! What the configuration says and an answer repeats, as both write it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whether packets are dropped or only judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// What no rule lets in is dropped.
    #[default]
    Enforce,
    /// Everything passes; what would have been dropped is counted and reported.
    Audit,
}

impl Mode {
    /// As the configuration writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        }
    }
}

/// What happens to the enforcement when the agent is told to stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnExit {
    /// The kernel goes on enforcing.
    #[default]
    Keep,
    /// The programs are detached and the box is open.
    Detach,
}

/// How the printed tables are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reading {
    /// Directions and sources are honoured.
    #[default]
    Strict,
    /// Every printed row opens its ports inbound, from anywhere.
    Literal,
}

impl Reading {
    /// As the configuration writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Literal => "literal",
        }
    }
}
