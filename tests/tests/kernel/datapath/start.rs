//! Starts and ends: what is pinned, adopted, refused and taken away.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Instant;
use std::{env, fs};

use aya::maps::{Array, Map, MapData, PerCpuArray};
use lyncwall_common::abi::{ABI_VERSION, STATE_BYTES, map};
use lyncwall_datapath::Datapath;
use lyncwall_policy::problem::Problems;
use lyncwall_tests::bpffs::Bpffs;
use lyncwall_tests::kernel;
use lyncwall_tests::prerequisites::require_root;

use super::{MAPS, PINS, entries, object, open, open_ports, pin_dir, policy, problem};

/// The object with programs that no verifier takes: their first instructions are none.
fn broken_object() -> Vec<u8> {
    let mut bytes = object();
    let parsed = aya_obj::Object::parse(&bytes).expect("the object can be parsed");
    for function in parsed.functions.values() {
        let beginning: Vec<u8> = function.instructions[..8]
            .iter()
            .flat_map(|instruction| {
                let registers = instruction._bitfield_1.get(0, 8) as u8;
                let [off, imm] =
                    [instruction.off.to_ne_bytes().to_vec(), instruction.imm.to_ne_bytes().to_vec()];
                [vec![instruction.code, registers], off, imm].concat()
            })
            .collect();
        let at = bytes.windows(beginning.len()).position(|window| window == beginning);
        bytes[at.expect("the program lies in the object")] = 0xff;
    }
    bytes
}

#[test]
fn a_first_start_pins_everything_and_judges() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    let start = Instant::now();
    let mut datapath = open(&directory);
    let opened = start.elapsed();
    let start = Instant::now();
    assert_eq!(datapath.install(&policy(&[443])).expect("a generation"), 1);
    let installed = start.elapsed();
    assert_eq!(open_ports(&datapath, &[80, 443, 444]), [443]);
    let status = datapath.status().expect("a status");
    let start = Instant::now();
    datapath.retire();
    let retired = start.elapsed();
    println!(
        "open {opened:?}, of it loading {:?}; install {installed:?}; retire {retired:?}",
        status.load_time
    );
    println!("{status:?}");
    let frags = kernel::takes_frags().expect("the kernel says so");
    println!("this kernel takes XDP programs for frames in several buffers: {frags}");
    assert_eq!(status.program, if frags { "ingress_frags" } else { "ingress" });
    assert!(status.interfaces.is_empty() && status.id != 0 && status.map_memory > 1_000_000);
    // The kernel gives up at a million. Older ones do not tell, and say so in the same way elsewhere.
    let told = kernel::verified_instructions(datapath.program().expect("a program")).expect("an answer");
    println!("this kernel tells of {told:?} verified instructions");
    assert_eq!(status.verified_instructions, told);
    assert!(told.is_none_or(|count| (1..500_000).contains(&count)), "{status:?}");
    assert_eq!(entries(&directory).len(), PINS, "the maps, the links and what goes out");
    let metadata = fs::metadata(&directory).expect("the directory is there");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o700);
    assert_eq!(datapath.load_state().expect("the state can be read"), None);
}

#[test]
fn a_second_agent_is_refused_until_the_first_is_gone() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    let first = open(&directory);
    let error = Datapath::open(&object(), &directory).err().expect("the directory is locked");
    assert!(problem(&error).contains("another lyncwall agent uses"), "{error}");
    let error = Datapath::detach(&directory).expect_err("the directory is locked");
    assert!(problem(&error).contains("another lyncwall agent uses"), "{error}");
    assert_eq!(entries(&directory).len(), PINS);
    drop(first);
    open(&directory);
}

#[test]
fn no_bpf_file_system_is_a_problem_with_its_fix() {
    require_root();
    let error = Datapath::open(&object(), Path::new("/tmp/lyncwall-pins")).err().expect("no bpffs there");
    assert!(problem(&error).contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
    assert!(!Path::new("/tmp/lyncwall-pins").exists());
    let error = Datapath::detach(&env::temp_dir()).expect_err("nothing of ours can be there");
    assert!(problem(&error).contains("is not on a BPF file system"), "{error}");
}

#[test]
fn a_failed_first_start_leaves_no_pins() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let broken = broken_object();
    let error = Datapath::open(&broken, &pin_dir(&bpffs)).err().expect("the verifier refuses");
    let text = format!("{error:#}");
    assert!(
        text.contains("ingress: ") && text.contains("ingress_frags: ") && text.contains("unknown opcode"),
        "{text}"
    );
    assert!(!pin_dir(&bpffs).exists());

    // Over the maps of an agent that ran, it takes nothing away.
    let mut datapath = open(&pin_dir(&bpffs));
    datapath.install(&policy(&[443])).expect("a generation");
    drop(datapath);
    Datapath::open(&broken, &pin_dir(&bpffs)).err().expect("the verifier refuses");
    assert_eq!(entries(&pin_dir(&bpffs)).len(), PINS);
    assert_eq!(open_ports(&open(&pin_dir(&bpffs)), &[442, 443]), [443]);
}

#[test]
fn the_rest_of_a_start_that_was_cut_short_is_replaced() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    drop(open(&directory));
    // As if the agent was killed before it wrote its version.
    fs::remove_file(directory.join(map::STATE)).expect("a pin to remove");
    let mut datapath = open(&directory);
    assert_eq!(entries(&directory).len(), PINS);
    assert_eq!(datapath.install(&policy(&[443])).expect("a generation"), 1);
}

#[test]
fn pinned_maps_of_another_shape_are_refused() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    drop(open(&directory));
    let pin = directory.join(map::CPU);
    fs::remove_file(&pin).expect("a pin to remove");
    let other = aya_obj::Map::new_from_params(
        aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY as u32,
        4,
        16,
        7,
        0,
    );
    let other = MapData::create(other, "CPU", None).expect("a map");
    other.pin(&pin).expect("a pin");
    let error = Datapath::open(&object(), &directory).err().expect("another shape");
    let problems = error.downcast_ref::<Problems>().expect("problems of the user");
    let text = problems.to_string();
    assert_eq!(problems.iter().count(), 2, "{text}");
    assert!(
        text.contains("the map CPU") && text.contains("value size 16") && text.contains("lyncwall detach")
    );
    assert!(text.contains("maximum of entries 7, and this lyncwall needs 1"), "{text}");
    let kept: PerCpuArray<_, u128> =
        Map::PerCpuArray(MapData::from_pin(&pin).expect("the pin is there")).try_into().expect("its type");
    assert_eq!(kept.len(), 7);
}

#[test]
fn pinned_maps_of_another_version_are_refused() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    drop(open(&directory));
    edit_state(&directory, |elements| {
        for copy in [0, 32] {
            elements(copy, &mut |element| element[8] = 77);
        }
    });
    let error = Datapath::open(&object(), &directory).err().expect("another version");
    let text = problem(&error);
    assert!(
        text.contains("version 77")
            && text.contains(&format!("has version {ABI_VERSION}"))
            && text.contains("lyncwall detach"),
        "{text}"
    );
    assert_eq!(Datapath::detach(&directory).expect("the fix works").maps.len(), MAPS);
    open(&directory);
}

type Edit<'a> = &'a mut dyn FnMut(&mut [u8; STATE_BYTES]);

/// Changes elements of the pinned state in place.
fn edit_state(directory: &Path, edit: impl FnOnce(&mut dyn FnMut(u32, Edit<'_>))) {
    let map = MapData::from_pin(directory.join(map::STATE)).expect("the pin is there");
    let mut map: Array<_, [u8; STATE_BYTES]> = Map::Array(map).try_into().expect("an array");
    edit(&mut |number, change| {
        let mut element = map.get(&number, 0).expect("an element");
        change(&mut element);
        map.set(number, element, 0).expect("an element");
    });
}

#[test]
fn the_state_survives_the_agent_and_a_torn_write() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    let mut datapath = open(&directory);
    let older: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    let newer = vec![9; 70_000];
    datapath.store_state(&older).expect("it fits");
    datapath.store_state(&newer).expect("it fits");
    assert_eq!(datapath.load_state().expect("readable"), Some(newer.clone()));
    datapath.store_state(&vec![0; 1 << 20]).expect_err("a header is needed as well");
    drop(datapath);
    let datapath = open(&directory);
    assert_eq!(datapath.load_state().expect("readable"), Some(newer));
    drop(datapath);
    // The third store went to the second half of the map: tear its last element.
    edit_state(&directory, |elements| elements(32 + 2, &mut |element| element[0] ^= 1));
    let mut datapath = open(&directory);
    assert_eq!(datapath.load_state().expect("readable"), Some(older));
    datapath.store_state(b"again").expect("it fits");
    assert_eq!(datapath.load_state().expect("readable"), Some(b"again".to_vec()));
}

#[test]
fn what_is_not_ours_in_the_pin_directory_stays() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    let datapath = open(&directory);
    fs::create_dir(directory.join("strange")).expect("a directory");
    let detached = datapath.remove().expect("ours goes");
    assert_eq!(detached.left, ["strange"]);
    assert_eq!(entries(&directory), ["strange"]);
}

/// Kinds of maps and of programs have the numbers of kinds of links: a per-CPU array that of an XDP link.
#[test]
fn what_is_no_link_is_none_of_ours() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let directory = pin_dir(&bpffs);
    let datapath = open(&directory);
    fs::hard_link(directory.join("RULE_HITS"), directory.join("links/strange")).expect("a second pin");
    for links in ["links", "egress"] {
        fs::create_dir(directory.join(links).join("stranger")).expect("a directory");
    }
    let mut detached = datapath.remove().expect("ours goes");
    detached.left.sort();
    assert_eq!(detached.left, ["egress", "links"]);
    assert_eq!(entries(&directory.join("links")), ["strange", "stranger"]);
}
