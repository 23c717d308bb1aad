//! Reads packets from a capture file.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use lyncwall_datapath::LONGEST;
use lyncwall_policy::problem::{Problem, Problems};
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, PcapError};

/// The type of a section header block, equal in both byte orders (draft-ietf-opsawg-pcapng, 4.1).
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// A packet of a file.
pub(super) struct Packet {
    /// The capturing interface, if the file names it.
    pub(super) interface: Option<String>,
    /// The frame. Zeroes replace the bytes that the capture cut off: a verdict depends on headers and lengths
    /// only.
    pub(super) hexadecimal: String,
}

/// The first `most` packets of a file.
///
/// # Errors
/// [`Problems`] if the file cannot be read, or holds no Ethernet frames.
pub(super) fn read(path: &Path, most: usize) -> Result<Vec<Packet>, Problems> {
    let place = path.display().to_string();
    let unread = |error: io::Error| Problem::new(format!("{place}: {error}"), "name a pcap or pcapng file");
    let mut input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(unread)?)
    };
    let mut magic = [0; 4];
    input.read_exact(&mut magic).map_err(unread)?;
    let whole = BufReader::new(magic.chain(input));
    let found = if magic == PCAPNG { pcapng(whole, most) } else { pcap(whole, most) };
    found.map_err(|wrong| {
        let (message, fix) = match wrong {
            Wrong::Format(error) => (format!("{error}"), "name a pcap or pcapng file"),
            Wrong::Link(link) => {
                (format!("the frames are {link:?}, not Ethernet"), "capture on an Ethernet interface")
            }
        };
        Problem::new(format!("{place}: {message}"), fix).into()
    })
}

/// What is wrong with a capture file.
enum Wrong {
    Format(PcapError),
    Link(DataLink),
}

impl From<PcapError> for Wrong {
    fn from(error: PcapError) -> Self {
        Self::Format(error)
    }
}

fn pcap(input: impl Read, most: usize) -> Result<Vec<Packet>, Wrong> {
    let mut reader = PcapReader::new(input)?;
    ethernet(reader.header().datalink)?;
    let mut packets = Vec::new();
    while packets.len() < most
        // Raw blocks: the library's checked reader rejects packets that the capture cut off.
        && let Some(packet) = reader.next_raw_packet()
    {
        let packet = packet?;
        packets.push(Packet { interface: None, hexadecimal: whole(&packet.data, packet.orig_len) });
    }
    Ok(packets)
}

fn pcapng(input: impl Read, most: usize) -> Result<Vec<Packet>, Wrong> {
    use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;

    let mut reader = PcapNgReader::new(input)?;
    let mut packets = Vec::new();
    while packets.len() < most
        && let Some(block) = reader.next_block()
    {
        let Block::EnhancedPacket(packet) = block? else { continue };
        let packet = packet.into_owned();
        let described = reader.packet_interface(&packet);
        ethernet(described.map_or(DataLink::ETHERNET, |interface| interface.linktype))?;
        let name = described.and_then(|interface| {
            interface.options.iter().find_map(|option| match option {
                InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                _ => None,
            })
        });
        packets.push(Packet { interface: name, hexadecimal: whole(&packet.data, packet.original_len) });
    }
    Ok(packets)
}

fn ethernet(link: DataLink) -> Result<(), Wrong> {
    if link == DataLink::ETHERNET { Ok(()) } else { Err(Wrong::Link(link)) }
}

/// The frame at its original length, up to the length that the program accepts.
fn whole(captured: &[u8], length: u32) -> String {
    let length = (length as usize).clamp(captured.len(), LONGEST.max(captured.len()));
    let rest = std::iter::repeat_n(&0, length - captured.len());
    captured.iter().chain(rest).map(|byte| format!("{byte:02x}")).collect()
}
