//! VLAN tags that a driver takes out of frames before the program sees them.

use anyhow::{Context as _, Result};
use lyncwall_policy::config::Interface;
use lyncwall_policy::problem::Problem;
use nix::libc::ENODEV;

use crate::sys;

/// True if a VLAN on the interface is in another zone than the interface.
pub(super) fn has_vlan_zones(interface: &Interface) -> bool {
    interface.vlans.iter().any(|(_, zone)| *zone != interface.zone)
}

/// The problem of VLANs whose zones are unknown, as an offload takes the tags out of frames before the
/// program sees them. None if the interface does not exist.
pub(super) fn stripped(interface: &Interface) -> Result<Option<Problem>> {
    let (name, place) = (&interface.name, interface.vlans_place.as_ref().unwrap_or(&interface.place));
    let stripped = stripped_tags(name).with_context(|| format!("asking what {name} does with VLAN tags"))?;
    Ok((!stripped.is_empty()).then(|| {
        Problem::at(
            place.clone(),
            format!("{name} takes the VLAN tags out of frames before the program sees them ({})", stripped.join(", ")),
            format!(
                "disable that with `ethtool -K {name}{}`, or guard the VLAN's own interface with an `[[interface]]`",
                stripped.iter().map(|feature| format!(" {feature} off")).collect::<String>()
            ),
        )
    }))
}

/// Offloads that take the tags of 802.1Q and 802.1ad out of frames, with their names in `ethtool -K`.
const STRIPPING: [(&str, &str); 2] =
    [("rx-vlan-hw-parse", "rxvlan"), ("rx-vlan-stag-hw-parse", "rx-vlan-stag-hw-parse")];

/// The VLAN offloads of an interface in the calling thread's network namespace, by ethtool's names. Empty if
/// the tags stay in the frame, and if the interface does not exist.
pub(super) fn stripped_tags(interface: &str) -> Result<Vec<&'static str>> {
    let offloads = match sys::offloads(interface) {
        Err(error) if error.raw_os_error() == Some(ENODEV) => return Ok(Vec::new()),
        offloads => offloads.context("asking for its offloads")?,
    };
    let on = |feature: &str| offloads.iter().any(|(name, on)| *on && name == feature);
    Ok(STRIPPING.into_iter().filter(|(feature, _)| on(feature)).map(|(_, name)| name).collect())
}
