//! The programs: the only place where a verdict becomes an XDP action.
#![no_std]
#![no_main]

mod answer;
mod clock;
mod ctx;
mod egress;
mod explain;
mod log;
mod maps;
mod raw;
mod report;
mod subprograms;

use aya_ebpf::{
    bindings::{
        TC_ACT_UNSPEC,
        xdp_action::{XDP_DROP, XDP_PASS, XDP_TX},
    },
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use lyncwall_common::{
    judge::judge_and,
    verdict::{Settle, Verdict},
};

use crate::{ctx::Frame, maps::Kernel, raw::Context, report::Fate};

// For kernels before 5.18.
#[xdp]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands the context in by value")]
fn ingress(context: XdpContext) -> u32 {
    act::<false>(&context)
}

// For kernel 5.18 and later, which may hand in frames in several buffers.
#[xdp(frags)]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands the context in by value")]
fn ingress_frags(context: XdpContext) -> u32 {
    act::<true>(&context)
}

// An outgoing packet always goes on to the next program in the chain.
#[classifier]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands the context in by value")]
fn egress(context: TcContext) -> i32 {
    egress::track(&context);
    TC_ACT_UNSPEC
}

#[inline(always)]
fn act<const FRAGS: bool>(context: &XdpContext) -> u32 {
    let context = Context::new(context);
    let frame = Frame::<FRAGS>::of(context);
    let Some(kernel) = Kernel::new(context) else { return XDP_DROP };
    judge_and::<_, _, Enforce>(frame, &kernel)
}

/// Counts a verdict, reports it, and makes it an action.
struct Enforce;

impl<'a, const FRAGS: bool> Settle<Frame<'a, FRAGS>, Kernel<Context<'a>>> for Enforce {
    type Output = u32;

    #[inline(always)]
    fn settle(frame: Frame<'a, FRAGS>, kernel: &Kernel<Context<'a>>, verdict: Verdict) -> u32 {
        match report::account(frame, kernel, verdict) {
            Fate::Passes => XDP_PASS,
            Fate::Answered if answer::is_made(frame.context()) => XDP_TX,
            Fate::Answered | Fate::Dropped => XDP_DROP,
        }
    }
}

// The helpers for time, jiffies and buffer lengths are for programs under a GPL-compatible licence only.
#[expect(unsafe_code, reason = "the attributes name a section and a symbol")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
