//! The embedded BPF object.

use lyncwall_policy::problem::Problem;

/// The embedded BPF object (an ELF file, aligned to 8 bytes); `None` in a build without one.
#[must_use]
pub fn embedded() -> Option<&'static [u8]> {
    OBJECT
}

/// The embedded BPF object.
///
/// # Errors
/// A [`Problem`] with the command that builds one in.
pub fn require() -> Result<&'static [u8], Problem> {
    embedded().ok_or_else(|| Problem::new("this build has no BPF object", "build with `cargo xtask build`"))
}

#[cfg(bpf_object)]
const OBJECT: Option<&[u8]> =
    Some(lyncwall_datapath::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lyncwall-ebpf")));
#[cfg(not(bpf_object))]
const OBJECT: Option<&[u8]> = None;

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(bpf_object)]
    #[test]
    fn the_object_is_an_aligned_bpf_elf() {
        let object = require().expect("this build has an object");
        assert!(object.starts_with(b"\x7fELF"));
        assert_eq!(object.as_ptr().addr() % 8, 0);
        assert_eq!(u16::from_le_bytes([object[18], object[19]]), 247, "EM_BPF");
    }

    #[cfg(bpf_object)]
    #[test]
    fn the_map_types_are_those_of_the_object() {
        use lyncwall_datapath::MAP_TYPES;

        let object = aya_obj::Object::parse(require().expect("an object")).expect("it parses");
        let mut wanted: Vec<u32> = MAP_TYPES.iter().map(|kind| *kind as u32).collect();
        wanted.push(aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_RINGBUF as u32);
        for (name, map) in &object.maps {
            assert!(
                wanted.contains(&map.map_type()),
                "{name}: a kind of map that the probe does not ask for"
            );
        }
    }

    #[cfg(not(bpf_object))]
    #[test]
    fn a_build_without_an_object_says_how_to_get_one() {
        let problem = require().expect_err("this build has no object");
        assert_eq!(problem.to_string(), "this build has no BPF object; build with `cargo xtask build`");
    }
}
