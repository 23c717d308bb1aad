//! VLAN tags that a driver takes out of frames before the program sees them.

use anyhow::{Context as _, Result};
use lyncwall_policy::config::Interface;
use lyncwall_policy::problem::Problem;
use nix::libc::ENODEV;

use crate::sys;

/// True where VLANs on an interface are in another zone than the interface itself.
pub(super) fn has_vlan_zones(interface: &Interface) -> bool {
    interface.vlans.iter().any(|(_, zone)| *zone != interface.zone)
}

/// What is wrong where the zones of VLANs cannot be told, as the tags are taken out of the frames before the program sees
/// them. Nothing where the interface is not there.
pub(super) fn stripped(interface: &Interface) -> Result<Option<Problem>> {
    let (name, place) = (&interface.name, interface.vlans_place.as_ref().unwrap_or(&interface.place));
    let stripped = stripped_tags(name).with_context(|| format!("asking what {name} does with VLAN tags"))?;
    Ok((!stripped.is_empty()).then(|| {
        Problem::at(
            place.clone(),
            format!("{name} takes the tags out of frames before they are judged ({})", stripped.join(", ")),
            format!(
                "stop it with `ethtool -K {name}{}`, or name the VLAN's own interface in an `[[interface]]`",
                stripped.iter().map(|feature| format!(" {feature} off")).collect::<String>()
            ),
        )
    }))
}

/// Features that take the tags of 802.1Q and of 802.1ad out of frames, and what `ethtool -K` calls them.
const STRIPPING: [(&str, &str); 2] =
    [("rx-vlan-hw-parse", "rxvlan"), ("rx-vlan-stag-hw-parse", "rx-vlan-stag-hw-parse")];

/// What an interface of the calling thread's network namespace does to VLAN tags before the program sees its frames, by
/// ethtool's names: nothing where they stay bytes of the frame, and where there is no such interface.
fn stripped_tags(interface: &str) -> Result<Vec<&'static str>> {
    let offloads = match sys::offloads(interface) {
        Err(error) if error.raw_os_error() == Some(ENODEV) => return Ok(Vec::new()),
        offloads => offloads.context("asking for its offloads")?,
    };
    let on = |feature: &str| offloads.iter().any(|(name, on)| *on && name == feature);
    Ok(STRIPPING.into_iter().filter(|(feature, _)| on(feature)).map(|(_, name)| name).collect())
}
