//! A client of the agent's socket that behaves badly, for the tests: `rude SOCKET WAY COUNT`. It goes on until it is killed.
//! What becomes of its connections is of no interest to it, so no error ends it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::{Parser, ValueEnum};

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Way {
    /// Sends half a head, and waits.
    Half,
    /// Asks for events, and never reads.
    Events,
    /// Sends bytes that mean nothing.
    Rubbish,
    /// Sends a body without an end.
    Huge,
    /// Sends a body that stops in the middle.
    Short,
    /// Asks again and again, as fast as it is answered.
    Flood,
    /// Connects and leaves, as fast as it goes.
    Knock,
}

#[derive(Debug, Parser)]
struct Options {
    socket: PathBuf,
    way: Way,
    /// Connections at once.
    count: usize,
}

fn main() {
    let options = Options::parse();
    let clients: Vec<_> = (0..options.count)
        .map(|_| {
            let (socket, way) = (options.socket.clone(), options.way);
            thread::spawn(move || {
                loop {
                    if matches!(way, Way::Knock) {
                        UnixStream::connect(&socket).ok();
                        continue;
                    }
                    // It was refused, or thrown out: once more.
                    if let Ok(stream) = UnixStream::connect(&socket) {
                        behave(stream, way).ok();
                    }
                    thread::sleep(Duration::from_millis(10));
                }
            })
        })
        .collect();
    for client in clients {
        client.join().ok();
    }
}

fn behave(mut stream: UnixStream, way: Way) -> std::io::Result<()> {
    const POST: &str = "POST /v1/preview HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    match way {
        Way::Half => stream.write_all(b"GET /v1/status HTTP/1.1\r\nHo")?,
        Way::Events => {
            stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: a\r\n\r\n")?;
            // Long after the test: what is not read stays in the socket.
            thread::sleep(Duration::from_secs(600));
        }
        Way::Rubbish => {
            let mut state = 0x2545_F491_4F6C_DD1D_u64;
            loop {
                let mut bytes = [0; 65_536];
                for byte in &mut bytes {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    *byte = state as u8;
                }
                stream.write_all(&bytes)?;
            }
        }
        Way::Huge => {
            stream.write_all(format!("{POST}Transfer-Encoding: chunked\r\n\r\n").as_bytes())?;
            let chunk = [b"10000\r\n".as_slice(), &[b' '; 65_536], b"\r\n"].concat();
            loop {
                stream.write_all(&chunk)?;
            }
        }
        Way::Short => stream.write_all(format!("{POST}Content-Length: 60000\r\n\r\n{{").as_bytes())?,
        Way::Knock => {}
        Way::Flood => loop {
            stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: a\r\n\r\n")?;
            let mut answer = [0; 65_536];
            if stream.read(&mut answer)? == 0 {
                return Ok(());
            }
        },
    }
    // Until it is thrown out.
    std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
}
