//! What the agent finds of the kernel, against what the tests find in ways of their own.

use lyncwall_common::abi::program;
use lyncwall_datapath::{Answer, FeatureId, Features};
use lyncwall_tests::bpffs::Bpffs;
use lyncwall_tests::kernel;
use lyncwall_tests::prerequisites::require_root;

use super::{open, pin_dir};

#[test]
fn the_agent_finds_what_the_kernel_has() {
    require_root();
    let bpffs = Bpffs::mount().expect("a BPF file system");
    let datapath = open(&pin_dir(&bpffs));
    let status = datapath.status().expect("a status");
    let found = |id| {
        let feature = status.features.features.iter().find(|feature| feature.id == id).expect("it is listed");
        println!("{}: {:?}, by {}", id.name(), feature.answer, feature.asked);
        feature.answer
    };
    let expected = |has: bool| if has { Answer::Found } else { Answer::Missing };

    let frags = kernel::takes_frags().expect("an answer");
    assert_eq!(found(FeatureId::Frags), expected(frags));
    assert_eq!(status.program, if frags { program::INGRESS_FRAGS } else { program::INGRESS });
    let tcx = kernel::has_tcx().expect("an answer");
    assert_eq!(found(FeatureId::Tcx), expected(tcx));
    // Where there is tcx, nobody asks for what stands in.
    assert_eq!(found(FeatureId::Clsact), if tcx { Answer::Unknown } else { Answer::Found });
    let named = kernel::takes_interface_in_test_runs(datapath.program().expect("loaded")).expect("an answer");
    assert_eq!(found(FeatureId::TestRunInterface), expected(named));

    // The program is loaded and the maps are made, so all that is needed is there.
    for id in FeatureId::ALL.into_iter().filter(|id| id.is_needed()) {
        assert_eq!(found(id), Answer::Found);
    }
    let again = Features::ask().expect("the kernel tells");
    let answers =
        |features: &Features| features.features.iter().map(|feature| feature.answer).collect::<Vec<_>>();
    assert_eq!(answers(&again), answers(&status.features));
}
