//! The commands, one file each: its options and what it does.

pub(crate) mod catalogue;
pub(crate) mod check;
pub(crate) mod detach;
pub(crate) mod events;
pub(crate) mod roles;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod switch;
pub(crate) mod watch;
