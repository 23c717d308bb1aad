//! The kernel's clock, for the agent: it runs this program by a test run and attaches it nowhere.

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_PASS},
    macros::xdp,
    programs::XdpContext,
};

use crate::raw::{Context, now};

// Writes jiffies over the first eight bytes of the frame, in the byte order of the host.
#[xdp]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands the context in by value")]
fn clock(context: XdpContext) -> u32 {
    if Context::new(&context).replace_start(now()) { XDP_PASS } else { XDP_ABORTED }
}
