//! What people see of packets: explanations, events, captured drops, log lines.

mod capture;
mod events;
mod everywhere;
mod explain;
