//! The verdict over a frame: parses it, and asks the rows.

use crate::{
    abi::{Features, PortTransport},
    decide::{decide, decide_port},
    ends::Ports,
    judging::Judging,
    mode::Place,
    packet::Packet,
    parse::{Headers, parse, parse_plain},
    reason::Reason,
    subprograms::Subprograms,
    summary::Summary,
    verdict::{Settle, Verdict, VerdictOnly},
    zone,
};

/// Judges a frame.
#[inline(always)]
pub fn judge<P: Packet, T: Subprograms>(packet: P, tables: &T) -> Verdict {
    judge_and::<P, T, VerdictOnly>(packet, tables)
}

/// Judges a frame, and settles the verdict by `S`.
///
/// Frames of the usual form take a short way of their own through the rows. `S` becomes part of each way, so that the
/// compiler knows there what the verdict is.
#[inline(always)]
pub fn judge_and<P: Packet, T: Subprograms, S: Settle<P, T>>(packet: P, tables: &T) -> S::Output {
    let mut headers = Headers::UNREAD;
    match parse_plain(packet, &mut headers) {
        Some(PortTransport::Tcp) => {
            judge_ports::<P, T, S>(packet, tables, Ports::of(&headers, PortTransport::Tcp))
        }
        Some(PortTransport::Udp) => {
            judge_ports::<P, T, S>(packet, tables, Ports::of(&headers, PortTransport::Udp))
        }
        None => judge_other::<P, T, S>(packet, tables),
    }
}

/// Judges a TCP or UDP packet of the usual form.
#[inline(always)]
fn judge_ports<P: Packet, T: Subprograms, S: Settle<P, T>>(packet: P, tables: &T, ports: Ports) -> S::Output {
    let Some(judging) = Judging::now(tables) else {
        return S::settle(packet, tables, Verdict::of(Reason::Internal));
    };
    if judging.features == Features::default() {
        // The rows once more, compiled for a generation that uses no feature.
        let judging = Judging { features: Features::default(), ..judging };
        return decide_port::<P, T, S>(packet, tables, ports, judging);
    }
    let at = ports.at.in_zone(zone::of(packet, tables, judging));
    decide_port::<P, T, S>(packet, tables, Ports { at, ..ports }, judging)
}

/// Judges a frame of any form. Out of line: it is long, and would take the registers of the short way.
#[inline(never)]
fn judge_other<P: Packet, T: Subprograms, S: Settle<P, T>>(packet: P, tables: &T) -> S::Output {
    let mut headers = Headers::UNREAD;
    let parsed = parse(packet, &mut headers);
    let summary = Summary::new(parsed, &headers);
    let [first, second] = packet.forget([summary.first, summary.second]);
    let Some(judging) = Judging::now(tables) else {
        return S::settle(packet, tables, Verdict::of(Reason::Internal));
    };
    let summary = Summary { first, second }.in_zone(zone::of(packet, tables, judging));
    let verdict = decide(packet, tables, summary, judging);
    judging.settle::<P, T, S>(packet, tables, Place::of(summary, verdict.reason), verdict)
}
