//! The verdict over a made-up frame, for the agent: it runs this program by a test run and attaches it nowhere.
//!
//! It judges by the code and the maps of the attached programs. It changes no map: see `EXPLAINED`.

use aya_ebpf::{bindings::xdp_action::XDP_ABORTED, macros::xdp, programs::XdpContext};
use lyncwall_common::{
    abi::Explained,
    judge::judge_and,
    verdict::{Settle, Verdict},
};

use crate::{ctx::Frame, maps::Kernel, raw::Context};

#[xdp]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands the context in by value")]
fn explain(context: XdpContext) -> u32 {
    let context = Context::new(&context);
    let frame = Frame::<false>::of(context);
    let Some(kernel) = Kernel::new(context) else { return XDP_ABORTED };
    judge_and::<_, _, Answer>(frame, &kernel);
    kernel.explained()
}

/// Stores the verdict, so that the program can return it. It goes by way of a map: in a register, the ways through the
/// program without an output would leave another value, which verifiers refuse to see widened.
struct Answer;

impl<'a> Settle<Frame<'a, false>, Kernel<Context<'a>>> for Answer {
    type Output = ();

    #[inline(always)]
    fn settle(_: Frame<'a, false>, kernel: &Kernel<Context<'a>>, verdict: Verdict) {
        kernel.explain(Explained::new(verdict.reason, verdict.action, verdict.judged, verdict.counter));
    }
}
