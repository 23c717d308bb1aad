//! What an agent stores for the next one. The program makes and pins the map with the others, and does not read it.

use lyncwall_common::abi::STATE_BYTES;

use super::map;

map!(STATE: Array<[u8; STATE_BYTES]>);
