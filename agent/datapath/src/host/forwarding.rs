//! Whether this box forwards.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result};

/// The switches of each family and interface. Since Linux 6.17, `force_forwarding` makes an interface forward IPv6
/// whatever `forwarding` of `all` says.
const SWITCHES: [(&str, &[&str]); 2] =
    [("ipv4", &["forwarding"]), ("ipv6", &["forwarding", "force_forwarding"])];

/// True if this network namespace forwards packets of either family that come in by any interface, in a VRF or not.
///
/// # Errors
/// If `/proc/sys` cannot be read.
pub fn forwards() -> Result<bool> {
    for (family, switches) in SWITCHES {
        let place = Path::new("/proc/sys/net").join(family).join("conf");
        let interfaces = match fs::read_dir(&place) {
            Ok(interfaces) => interfaces,
            // The kernel may lack a family.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| place.display().to_string()),
        };
        for interface in interfaces {
            let name = interface.with_context(|| place.display().to_string())?.file_name();
            // The default for future interfaces.
            if name == "default" {
                continue;
            }
            for switch in switches {
                match fs::read_to_string(place.join(&name).join(switch)) {
                    Ok(value) if value.trim() != "0" => return Ok(true),
                    Ok(_) => {}
                    // The interface has just gone, or the kernel lacks the switch.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error).with_context(|| place.display().to_string()),
                }
            }
        }
    }
    Ok(false)
}
