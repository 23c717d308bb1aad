//! Packet memory, map memory and helpers, behind functions that cannot be called wrongly. The only unsafe code of this
//! crate.
#![expect(unsafe_code, reason = "packet memory, map memory and helpers")]

use core::marker::PhantomData;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_CURRENT_CPU, xdp_md},
    helpers::{
        bpf_jiffies64, bpf_ktime_get_ns, bpf_perf_event_output, bpf_skb_pull_data, bpf_xdp_adjust_head,
        bpf_xdp_adjust_tail, bpf_xdp_get_buff_len,
    },
    maps::{Array, LruHashMap, PerCpuArray, PerfEventArray, ring_buf::RingBufEntry},
    programs::{TcContext, XdpContext},
};
use lyncwall_common::{
    abi::{Capture, Captured, Control, Event, FlowPorts, Live, NetPort, PortTransport, ReasonSet},
    packet::Wire,
};

/// The context of a frame.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    context: *mut xdp_md,
    lifetime: PhantomData<&'a XdpContext>,
}

impl<'a> Context<'a> {
    #[inline(always)]
    pub(crate) fn new(context: &'a XdpContext) -> Self {
        Self { context: context.ctx, lifetime: PhantomData }
    }

    /// The context in a subprogram, whose first argument the verifier knows to be one.
    #[inline(always)]
    pub(crate) fn of_kernel(context: *mut xdp_md) -> Self {
        Self { context, lifetime: PhantomData }
    }

    /// The argument for a subprogram.
    #[inline(always)]
    pub(crate) fn to_kernel(self) -> *mut xdp_md {
        self.context
    }

    /// The number of the interface.
    #[inline(always)]
    pub(crate) fn ifindex(self) -> u32 {
        // SAFETY: the context that the kernel handed in.
        unsafe { (*self.context).ingress_ifindex }
    }

    /// Where the frame begins.
    #[inline(always)]
    pub(crate) fn data(self) -> usize {
        // SAFETY: the context that the kernel handed in.
        unsafe { (*self.context).data as usize }
    }

    /// Where the first buffer of the frame ends.
    #[inline(always)]
    pub(crate) fn data_end(self) -> usize {
        // SAFETY: the context that the kernel handed in.
        let end = unsafe { &raw const (*self.context).data_end };
        // SAFETY: the context that the kernel handed in. Volatile, so that each use
        // loads it again, and none keeps it on the stack.
        unsafe { end.read_volatile() as usize }
    }

    /// The length of the frame in all its buffers (kernel 5.18).
    #[inline(always)]
    pub(crate) fn length_of_all(self) -> usize {
        // SAFETY: the context that the kernel handed in.
        let length = unsafe { bpf_xdp_get_buff_len(self.context) };
        length as usize
    }

    /// The `T` at `offset`; `None` where the first buffer ends before it does.
    #[inline(always)]
    pub(crate) fn header<T: Wire>(self, offset: usize) -> Option<&'a T> {
        // SAFETY: both bounds are those of the context's packet.
        unsafe { header(self.data(), self.data_end(), offset) }
    }

    /// Takes so many bytes off the end of the frame, and puts so many before its beginning; false where the kernel cannot.
    /// Nothing that was read of the packet may be kept.
    #[inline(always)]
    pub(crate) fn resize(self, off: usize, front: usize) -> bool {
        // SAFETY: the context that the kernel handed in; headers that were read before are not used after.
        let shortened = unsafe { bpf_xdp_adjust_tail(self.context, -(off as i32)) } == 0;
        if !shortened || front == 0 {
            return shortened;
        }
        // SAFETY: as above.
        let grown = unsafe { bpf_xdp_adjust_head(self.context, -(front as i32)) };
        grown == 0
    }

    /// The `T` at `offset`, to be changed by `change`: for a frame that becomes this program's answer. `None` where the frame
    /// ends before.
    #[inline(always)]
    pub(crate) fn change<T: Wire>(self, offset: usize, change: impl FnOnce(&mut T)) -> Option<()> {
        let start = self.data() + offset;
        if start + size_of::<T>() > self.data_end() {
            return None;
        }
        // SAFETY: the bytes lie between data and data_end, which the verifier checks again; any bytes are a `T`, aligned as
        // in `header`. `change` gets no context, so that it can reach the frame by no other way.
        change(unsafe { &mut *(start as *mut T) });
        Some(())
    }

    /// Writes over the first bytes of a frame that nobody else looks at; false where it is shorter.
    #[inline(always)]
    pub(crate) fn replace_start(self, value: u64) -> bool {
        let start = self.data();
        if start + size_of::<u64>() > self.data_end() {
            return false;
        }
        // SAFETY: the eight bytes lie between data and data_end, which the verifier checks again; the frame is a test
        // run's own copy.
        unsafe { (start as *mut u64).write_unaligned(value) };
        true
    }
}

/// The `T` at `offset` bytes from `data`; `None` where `data_end` comes before its end.
///
/// # Safety
/// The bounds must be those of a packet that lives as long as `'a`.
#[inline(always)]
unsafe fn header<'a, T: Wire>(data: usize, data_end: usize, offset: usize) -> Option<&'a T> {
    let start = data + offset;
    if start + size_of::<T>() > data_end {
        return None;
    }
    // SAFETY: `start` and the size of a `T` behind it lie between data and data_end, which the verifier checks
    // again; any bytes are a `T`. Frames begin at an even address (the verifier refuses the load on machines where
    // that would matter), and headers lie at even offsets, so a `T` is aligned. Nobody writes to the frame meanwhile.
    Some(unsafe { &*(start as *const T) })
}

/// The context of an outgoing packet.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    context: *mut __sk_buff,
    lifetime: PhantomData<&'a TcContext>,
}

impl<'a> Outgoing<'a> {
    #[inline(always)]
    pub(crate) fn new(context: &'a TcContext) -> Self {
        Self { context: context.skb.skb, lifetime: PhantomData }
    }

    /// The length of the frame in all its buffers.
    #[inline(always)]
    pub(crate) fn length(self) -> usize {
        // SAFETY: the context that the kernel handed in.
        unsafe { (*self.context).len as usize }
    }

    /// The number of the interface that the packet goes out by.
    #[inline(always)]
    pub(crate) fn ifindex(self) -> u32 {
        // SAFETY: the context that the kernel handed in.
        unsafe { (*self.context).ifindex }
    }

    /// The number of the interface that the packet came in by; 0 for a packet of this box itself.
    #[inline(always)]
    pub(crate) fn came_in_by(self) -> u32 {
        // SAFETY: the context that the kernel handed in.
        unsafe { (*self.context).ingress_ifindex }
    }

    /// The VLAN identifier of the tag that the kernel keeps beside the frame.
    #[inline(always)]
    pub(crate) fn tag(self) -> Option<u16> {
        // SAFETY: the context that the kernel handed in.
        let present = unsafe { (*self.context).vlan_present };
        // SAFETY: the context that the kernel handed in.
        (present != 0).then(|| unsafe { (*self.context).vlan_tci } as u16 & 0xfff)
    }

    /// Where the frame begins.
    #[inline(always)]
    fn data(self) -> usize {
        // SAFETY: the context that the kernel handed in.
        unsafe { (*self.context).data as usize }
    }

    /// Where the readable part of the frame ends.
    #[inline(always)]
    fn data_end(self) -> usize {
        // SAFETY: the context that the kernel handed in.
        let end = unsafe { &raw const (*self.context).data_end };
        // SAFETY: the context that the kernel handed in. Volatile, so that each use
        // loads it again, and none keeps it on the stack.
        unsafe { end.read_volatile() as usize }
    }

    /// Bytes of the frame that can be read.
    #[inline(always)]
    pub(crate) fn readable(self) -> usize {
        self.data_end() - self.data()
    }

    /// Makes so many bytes readable. Where the kernel cannot, reads of them return `None`.
    #[inline(always)]
    pub(crate) fn pull(self, length: usize) {
        // SAFETY: the context that the kernel handed in; nothing that was read of the packet is kept.
        let _ = unsafe { bpf_skb_pull_data(self.context, length as u32) };
    }

    /// The `T` at `offset`; `None` where the readable part ends before the end of the `T`.
    #[inline(always)]
    pub(crate) fn header<T: Wire>(self, offset: usize) -> Option<&'a T> {
        // SAFETY: both bounds are those of the context's packet.
        unsafe { header(self.data(), self.data_end(), offset) }
    }
}

/// The value of the map `CONTROL`, which the agent changes while programs run.
#[derive(Clone, Copy)]
pub(crate) struct ControlPage(*const Control);

impl ControlPage {
    #[inline(always)]
    pub(crate) fn of(map: &Array<Control>) -> Option<Self> {
        map.get_ptr(0).map(Self)
    }

    /// The live word. The agent stores it whole, and each packet reads it once.
    #[inline(always)]
    pub(crate) fn live(self) -> Live {
        // SAFETY: a map value, which lives as long as the program.
        let live = unsafe { &raw const (*self.0).live };
        // SAFETY: a map value, which lives as long as the program.
        Live(unsafe { live.read_volatile() })
    }

    /// Whether somebody captures. The word is beside the live word, which every packet has read before.
    #[inline(always)]
    pub(crate) fn capture(self) -> Capture {
        // SAFETY: a map value, which lives as long as the program.
        let capture = unsafe { &raw const (*self.0).capture };
        // SAFETY: a map value, which lives as long as the program.
        Capture(unsafe { capture.read_volatile() })
    }

    /// The slots whose generation answers packets at closed ports, as bits.
    #[inline(always)]
    pub(crate) fn answering(self) -> u64 {
        // SAFETY: a map value, which lives as long as the program.
        let answering = unsafe { &raw const (*self.0).answering };
        // SAFETY: a map value, which lives as long as the program.
        unsafe { answering.read_volatile() }
    }

    /// The reasons whose packets are captured.
    #[inline(always)]
    pub(crate) fn captured(self) -> ReasonSet {
        // SAFETY: a map value, which lives as long as the program.
        let captured = unsafe { &raw const (*self.0).captured };
        // SAFETY: a map value, which lives as long as the program.
        ReasonSet(unsafe { captured.read_volatile() })
    }

    /// Until when TCP connections are picked up in the middle, in jiffies.
    #[inline(always)]
    pub(crate) fn learning(self) -> u64 {
        // SAFETY: a map value, which lives as long as the program.
        let learning = unsafe { &raw const (*self.0).learning };
        // SAFETY: a map value, which lives as long as the program.
        unsafe { learning.read_volatile() }
    }

    /// Eight management ports.
    #[inline(always)]
    pub(crate) fn management(self, transport: PortTransport, byte: usize) -> u8 {
        // SAFETY: a map value, which lives as long as the program; the index is checked.
        unsafe { (*self.0).management[transport as usize].0[byte] }
    }
}

/// This CPU's value of a per-CPU map.
pub(crate) struct PerCpu<T>(*mut T);

impl<T> Clone for PerCpu<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for PerCpu<T> {}

impl<T> PerCpu<T> {
    #[inline(always)]
    pub(crate) fn of(map: &PerCpuArray<T>, index: u32) -> Option<Self> {
        map.get_ptr_mut(index).map(Self)
    }

    /// Applies `f` to the value; `f` must not call this function again.
    #[inline(always)]
    pub(crate) fn with<R>(self, f: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: this CPU's value, which lives as long as the program. XDP programs of one CPU run with softirqs off, one
        // after the other, and the agent only reads. No caller nests.
        f(unsafe { &mut *self.0 })
    }
}

/// The room for an event in the ring buffer. The caller sets every field.
#[inline(always)]
pub(crate) fn event(entry: &mut RingBufEntry<Event>) -> &mut Event {
    // SAFETY: the ring buffer handed out the room of an `Event`, and any bytes are one.
    unsafe { entry.assume_init_mut() }
}

/// A copy of a map's value. Where the kernel reuses the element meanwhile, the copy is of another entry: for a fragment's
/// verdict no worse than a collision of identifications.
#[inline(always)]
pub(crate) fn copied<K, V: Copy>(map: &LruHashMap<K, V>, key: &K) -> Option<V> {
    // SAFETY: copied out at once, and any bytes are a `V` of the maps here.
    unsafe { map.get(key) }.copied()
}

/// Applies `change` to a value and, with `keep`, stores a result that differs.
///
/// Where the kernel reuses the element meanwhile, a flow that was just made gets this flow's state and time; both carry
/// packets. A token bucket has two words, and another CPU may see an old one beside a new one: that costs an event or two.
#[inline(always)]
pub(crate) fn changed<K, V: Copy + PartialEq, R>(
    map: &LruHashMap<K, V>,
    key: &K,
    keep: bool,
    change: impl FnOnce(&mut V) -> R,
) -> Option<R> {
    let value = map.get_ptr_mut(key)?;
    // SAFETY: a map value, which lives as long as the program; any words are a `V` of the maps here.
    let before = unsafe { value.read_volatile() };
    let mut after = before;
    let result = change(&mut after);
    if keep && after != before {
        // SAFETY: a map value, which lives as long as the program.
        unsafe { value.write_volatile(after) };
    }
    Some(result)
}

/// Sets the stamp of a local port.
#[inline(always)]
pub(crate) fn stamp(map: &Array<FlowPorts>, transport: PortTransport, port: NetPort, stamp: u8) {
    let Some(ports) = map.get_ptr_mut(0) else { return };
    // SAFETY: a map value, which lives as long as the program; the index is checked. Every CPU may write a byte.
    let place = unsafe { &raw mut (*ports).0[transport as usize][port.index()] };
    // SAFETY: a map value, which lives as long as the program.
    unsafe { place.write_volatile(stamp) };
}

/// Puts `header` and then the first bytes of a packet into this CPU's perf buffer; false where the buffer has no room or no
/// reader. `header.captured` is at most the length of the frame.
#[inline(always)]
pub(crate) fn output(context: Context<'_>, map: &PerfEventArray<Captured>, header: &mut Captured) -> bool {
    let flags = u64::from(header.captured) << 32 | BPF_F_CURRENT_CPU;
    let (map, size) = (core::ptr::from_ref(map).cast_mut().cast(), size_of::<Captured>() as u64);
    let header = core::ptr::from_mut(header).cast();
    // SAFETY: the context that the kernel handed in, a map, and as many bytes as there are behind the pointer. The upper half of
    // the flags is the number of bytes of the packet (kernel 4.18 for XDP), which the helper checks.
    let result = unsafe { bpf_perf_event_output(context.context.cast(), map, flags, header, size) };
    result == 0
}

/// Nanoseconds since boot, without time asleep.
#[inline(always)]
pub(crate) fn monotonic() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// Jiffies.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: a helper without arguments (kernel 5.6); the verifier inlines it.
    unsafe { bpf_jiffies64() }
}
