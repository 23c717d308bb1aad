//! The agent's state between two agents: one blob in the map `STATE`, kept as two copies that are written in
//! turn, so that an interrupted write leaves the older one.
//!
//! A copy is a header and the blob, over the elements of its half of the map. Numbers are little-endian:
//!
//! | bytes | |
//! |---|---|
//! | 0-7 | `lyncwall` |
//! | 8-11 | [`ABI_VERSION`] of the writer: the place of these twelve bytes never changes |
//! | 12-15 | length of the blob |
//! | 16-23 | sequence: the greater one is the newer copy |
//! | 24-31 | FNV-1a of bytes 8-23 and the blob |

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::maps::{Array, MapData};
use lyncwall_common::abi::{ABI_VERSION, STATE_BYTES, STATE_ELEMENTS, map};

use super::load::take;

type Element = [u8; STATE_BYTES];

const MAGIC: &[u8; 8] = b"lyncwall";
const HEADER: usize = 32;
const COPIES: u32 = 2;
const ELEMENTS: u32 = STATE_ELEMENTS / COPIES;

/// The largest state, in bytes: 1 MiB less a header.
pub const LARGEST: usize = ELEMENTS as usize * STATE_BYTES - HEADER;

/// The state that an earlier agent stored beside the maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredState {
    /// None yet: the maps are new, or their first agent ended early.
    Nothing,
    /// The newer of the intact copies.
    Held(Vec<u8>),
    /// It was stored, and no copy is intact.
    Torn,
}

/// The map, and which copy is the newer one.
pub(super) struct StateMap {
    map: Array<MapData, Element>,
    newest: Option<u64>,
}

impl StateMap {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        Self::new(take(ebpf, map::STATE)?)
    }

    /// Finds the newer copy.
    pub(super) fn new(map: Array<MapData, Element>) -> Result<Self> {
        let mut state = Self { map, newest: None };
        state.newest = state.load()?.map(|(sequence, _)| sequence);
        Ok(state)
    }

    /// The newer of the intact copies, with its sequence.
    pub(super) fn load(&self) -> Result<Option<(u64, Vec<u8>)>> {
        let mut newest: Option<(u64, Vec<u8>)> = None;
        for copy in 0..COPIES {
            let found = self.load_copy(copy)?;
            if let Some(found) = found
                && newest.as_ref().is_none_or(|(sequence, _)| found.0 > *sequence)
            {
                newest = Some(found);
            }
        }
        Ok(newest)
    }

    /// True if a copy with a header is not intact.
    pub(super) fn is_torn(&self) -> Result<bool> {
        for copy in 0..COPIES {
            if self.element(copy, 0)?[..8] == *MAGIC && self.load_copy(copy)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The version of the writer of any copy; `None` before the first write.
    pub(super) fn version(&self) -> Result<Option<u32>> {
        for copy in 0..COPIES {
            let first = self.element(copy, 0)?;
            if first[..8] == *MAGIC {
                return Ok(Some(u32_at(&first, 8)));
            }
        }
        Ok(None)
    }

    /// Writes `blob` over the older copy.
    pub(super) fn store(&mut self, blob: &[u8]) -> Result<()> {
        let sequence = self.newest.map_or(1, |newest| newest + 1);
        let copy = (sequence % u64::from(COPIES)) as u32;
        // The header comes last: before it, the copy's checksum does not match.
        for (number, element) in encode(sequence, blob)?.iter().enumerate().rev() {
            self.map.set(copy * ELEMENTS + number as u32, element, 0).with_context(|| {
                format!("writing element {number} of copy {copy} of the map {}", map::STATE)
            })?;
        }
        self.newest = Some(sequence);
        Ok(())
    }

    fn load_copy(&self, copy: u32) -> Result<Option<(u64, Vec<u8>)>> {
        let mut bytes = self.element(copy, 0)?.to_vec();
        let Some(elements) = elements(&bytes) else { return Ok(None) };
        for number in 1..elements {
            bytes.extend_from_slice(&self.element(copy, number)?);
        }
        Ok(decode(&bytes).map(|(sequence, blob)| (sequence, blob.to_vec())))
    }

    fn element(&self, copy: u32, number: u32) -> Result<Element> {
        self.map
            .get(&(copy * ELEMENTS + number), 0)
            .with_context(|| format!("reading element {number} of copy {copy} of the map {}", map::STATE))
    }
}

/// A copy as the elements to write.
fn encode(sequence: u64, blob: &[u8]) -> Result<Vec<Element>> {
    ensure!(blob.len() <= LARGEST, "the agent's state has {} bytes, but at most {LARGEST} fit", blob.len());
    let mut bytes = Vec::with_capacity(HEADER + blob.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&ABI_VERSION.to_le_bytes());
    bytes.extend_from_slice(&(blob.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&sequence.to_le_bytes());
    let checksum = checksum(&[&bytes[8..], blob]);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.extend_from_slice(blob);
    let element = |chunk: &[u8]| {
        let mut element = [0; STATE_BYTES];
        element[..chunk.len()].copy_from_slice(chunk);
        element
    };
    Ok(bytes.chunks(STATE_BYTES).map(element).collect())
}

/// The number of elements in the copy that begins with these bytes; `None` for another version.
fn elements(bytes: &[u8]) -> Option<u32> {
    if bytes.len() < HEADER || bytes[..8] != *MAGIC || u32_at(bytes, 8) != ABI_VERSION {
        return None;
    }
    let length = u32_at(bytes, 12) as usize;
    (length <= LARGEST).then(|| (HEADER + length).div_ceil(STATE_BYTES) as u32)
}

/// Sequence and blob of an intact copy; `None` for a torn one.
fn decode(bytes: &[u8]) -> Option<(u64, &[u8])> {
    elements(bytes)?;
    let blob = bytes.get(HEADER..HEADER + u32_at(bytes, 12) as usize)?;
    let whole = checksum(&[&bytes[8..24], blob]) == u64_at(bytes, 24);
    whole.then(|| (u64_at(bytes, 16), blob))
}

/// 64-bit FNV-1a: enough to detect a torn write; only root can write here.
fn checksum(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().copied().flatten();
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|n| bytes[at + n]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|n| bytes[at + n]))
}

#[cfg(test)]
mod tests {
    use super::{HEADER, LARGEST, checksum, decode, encode};

    #[test]
    fn what_was_encoded_is_decoded() {
        for length in [0, 1, 1000, 32 * 1024 - HEADER, 32 * 1024 - HEADER + 1, LARGEST] {
            let blob: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let bytes = encode(7, &blob).expect("it fits").concat();
            assert_eq!(decode(&bytes), Some((7, &blob[..])));
        }
        encode(7, &vec![0; LARGEST + 1]).expect_err("it does not fit");
    }

    #[test]
    fn a_copy_with_a_changed_byte_is_torn() {
        let bytes = encode(7, b"some state").expect("it fits").concat();
        for at in (0..32).chain([HEADER, HEADER + 9]) {
            let mut torn = bytes.clone();
            torn[at] ^= 0x10;
            assert_eq!(decode(&torn), None, "byte {at}");
        }
    }

    #[test]
    fn a_new_header_over_an_old_blob_is_torn() {
        let old = encode(6, &vec![1; 50_000]).expect("it fits");
        let new = encode(8, &vec![2; 50_000]).expect("it fits");
        assert_eq!(decode(&[new[0], old[1]].concat()), None);
        assert_eq!(decode(&[old[0], new[1]].concat()), None);
    }

    #[test]
    fn the_checksum_is_fnv_1a() {
        // Test vectors of draft-eastlake-fnv.
        assert_eq!(checksum(&[b""]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(checksum(&[b"foo", b"bar"]), 0x8594_4171_f739_67e8);
    }
}
