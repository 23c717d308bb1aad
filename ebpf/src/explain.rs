//! The verdict over a frame that nobody sent, for the agent: it runs this program by a test run and attaches it nowhere.
//!
//! It judges by the code and the maps of the programs that are attached. What those leave behind of a packet, the object
//! that is loaded for this one does not: see `EXPLAINED`.

use aya_ebpf::{macros::xdp, programs::XdpContext};
use lyncwall_common::{
    abi::Explained,
    decide::{Settle, Verdict, judge_and},
};

use crate::{ctx::Frame, maps::Kernel, raw::Context};

/// What no verdict is.
const NOTHING: u32 = 0;

#[xdp]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands the context in by value")]
fn explain(context: XdpContext) -> u32 {
    let context = Context::new(&context);
    let frame = Frame::<false>::of(context);
    let Some(kernel) = Kernel::new(context) else { return NOTHING };
    judge_and::<_, _, Tell>(frame, &kernel)
}

/// Makes a verdict the answer.
struct Tell;

impl<P, T> Settle<P, T> for Tell {
    type Output = u32;

    #[inline(always)]
    fn settle(_: P, _: &T, verdict: Verdict) -> u32 {
        Explained::new(verdict.reason, verdict.action, verdict.judged, verdict.counter).0
    }
}
