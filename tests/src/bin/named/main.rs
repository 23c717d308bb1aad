//! A server with a name of its choice, for the tests: `named NAME PORT` waits on a UDP port of all addresses until its
//! stdin ends.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, UdpSocket};

use clap::Parser;

#[derive(Debug, Parser)]
struct Options {
    /// At most 15 bytes; the kernel takes any but zero, as for prctl(PR_SET_NAME).
    name: String,
    port: u16,
}

fn main() -> std::io::Result<()> {
    let Options { name, port } = Options::parse();
    fs::write("/proc/self/comm", name)?;
    let _socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
    std::io::stdout().write_all(b"ready\n")?;
    std::io::stdin().read_to_end(&mut Vec::new()).map(drop)
}
