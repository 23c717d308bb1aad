//! The agent as its users meet it: commands, files, signals, its socket, what it tells.

mod agent;
mod api;
mod catalogue;
mod cli;
mod confirm;
mod listening;
mod logs;
mod ports;
mod preview;
mod see;
mod standing;
mod watch;
mod words;
