//! The verdict over a frame that nobody sent, for the agent: it runs this program by a test run and attaches it nowhere.
//!
//! It judges by the code and the maps of the programs that are attached. What those leave behind of a packet, the object
//! that is loaded for this one does not: see `EXPLAINED`.

use aya_ebpf::{bindings::xdp_action::XDP_ABORTED, macros::xdp, programs::XdpContext};
use lyncwall_common::{
    abi::Explained,
    decide::{Settle, Verdict, judge_and},
};

use crate::{ctx::Frame, maps::Kernel, raw::Context};

#[xdp]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands the context in by value")]
fn explain(context: XdpContext) -> u32 {
    let context = Context::new(&context);
    let frame = Frame::<false>::of(context);
    let Some(kernel) = Kernel::new(context) else { return XDP_ABORTED };
    judge_and::<_, _, Tell>(frame, &kernel);
    kernel.explained()
}

/// Makes a verdict the answer. By way of memory: where the compiler hands an output on in a register, the ways that have none
/// leave something else in it, which verifiers refuse to see widened.
struct Tell;

impl<'a> Settle<Frame<'a, false>, Kernel<Context<'a>>> for Tell {
    type Output = ();

    #[inline(always)]
    fn settle(_: Frame<'a, false>, kernel: &Kernel<Context<'a>>, verdict: Verdict) {
        kernel.explain(Explained::new(verdict.reason, verdict.action, verdict.judged, verdict.counter));
    }
}
