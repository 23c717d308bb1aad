//! Writes captured packets as a pcapng file (draft-ietf-opsawg-pcapng), piece by piece.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use pcap_file::pcapng::PcapNgBlock as _;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, Endianness};

/// The unit of timestamps is 10 to the minus this many seconds.
const NANOSECONDS: u8 = 9;

/// Produces the bytes of a file, in the byte order of this machine.
pub struct Pcapng {
    writer: PcapNgWriter<Vec<u8>>,
    interfaces: HashMap<String, u32>,
    snap: u32,
}

impl Pcapng {
    /// A file with at most `snap` bytes of each packet.
    ///
    /// # Errors
    /// Never, as memory accepts all writes.
    pub fn new(snap: u32) -> Result<Self> {
        let name = concat!("lyncwall ", env!("CARGO_PKG_VERSION"));
        let section = SectionHeaderBlock {
            endianness: Endianness::native(),
            options: vec![SectionHeaderOption::UserApplication(Cow::Borrowed(name))],
            ..SectionHeaderBlock::default()
        };
        let writer = PcapNgWriter::with_section_header(Vec::new(), section).context("beginning a capture")?;
        Ok(Self { writer, interfaces: HashMap::new(), snap })
    }

    /// Adds a packet from this interface, at `time` since 1970, originally of `length` bytes; `bytes` are its
    /// beginning.
    ///
    /// # Errors
    /// As [`Pcapng::new`].
    pub fn packet(
        &mut self,
        interface: &str,
        time: Duration,
        length: u32,
        bytes: &[u8],
        comment: String,
    ) -> Result<()> {
        let packet = EnhancedPacketBlock {
            interface_id: self.interface(interface)?,
            timestamp: time,
            original_len: length,
            data: Cow::Borrowed(bytes),
            options: vec![EnhancedPacketOption::Comment(Cow::Owned(comment))],
        };
        self.writer.write_block(&packet.into_block()).context("writing a packet")?;
        Ok(())
    }

    /// The bytes since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.get_mut())
    }

    /// The number of an interface in the file; the file describes it before its first packet.
    fn interface(&mut self, name: &str) -> Result<u32> {
        if let Some(number) = self.interfaces.get(name) {
            return Ok(*number);
        }
        let described = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: self.snap,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Owned(name.to_owned())),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        };
        self.writer.write_block(&described.into_block()).context("describing an interface")?;
        let number = u32::try_from(self.interfaces.len()).context("more interfaces than a file numbers")?;
        self.interfaces.insert(name.to_owned(), number);
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pcap_file::pcapng::{Block, PcapNgReader};

    use super::Pcapng;

    #[test]
    fn pieces_make_a_file() {
        let mut file = Pcapng::new(262_144).expect("a file");
        let mut bytes = file.take();
        for (n, interface) in ["eth0", "eth1", "eth0"].into_iter().enumerate() {
            let time = Duration::new(1_700_000_000, n as u32);
            file.packet(interface, time, 60, &[n as u8; 33], format!("closed {n}")).expect("a packet");
            bytes.extend(file.take());
        }
        let mut reader = PcapNgReader::new(&bytes[..]).expect("a file");
        let mut seen = Vec::new();
        while let Some(block) = reader.next_block() {
            if let Block::EnhancedPacket(packet) = block.expect("a block") {
                let (time, length) = (packet.timestamp.subsec_nanos(), packet.original_len);
                seen.push((packet.interface_id, time, length, packet.data.len()));
            }
        }
        assert_eq!(seen, [(0, 0, 60, 33), (1, 1, 60, 33), (0, 2, 60, 33)]);
    }
}
