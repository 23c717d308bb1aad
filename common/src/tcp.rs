//! TCP's control bits (RFC 9293, 3.1).

/// The sender has no more data.
pub const FIN: u8 = 0x01;
/// The sender tells its first sequence number.
pub const SYN: u8 = 0x02;
/// The sender ends the connection.
pub const RST: u8 = 0x04;
/// Data is to be handed on at once: the end of most writes has it.
pub const PSH: u8 = 0x08;
/// The acknowledgment number counts.
pub const ACK: u8 = 0x10;
/// FIN, SYN, RST, PSH, ACK, URG: all but those of congestion notification.
pub const CONTROL_BITS: u8 = 0x3f;

/// True for what opens a connection: SYN without ACK, whatever its other bits.
#[must_use]
#[inline(always)]
pub const fn opens(flags: u8) -> bool {
    flags & (SYN | ACK) == SYN
}

/// True for ACK and no other control bit: data or not, nothing begins or ends.
#[must_use]
#[inline(always)]
pub const fn is_plain_ack(flags: u8) -> bool {
    flags & CONTROL_BITS == ACK
}

/// None of the control bits, or SYN together with FIN or RST.
#[must_use]
#[inline(always)]
pub const fn is_bad(flags: u8) -> bool {
    flags & CONTROL_BITS == 0 || (flags & SYN != 0 && flags & (FIN | RST) != 0)
}
