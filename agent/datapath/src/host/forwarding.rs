//! Whether this box forwards.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result};

/// True if this network namespace forwards packets of either family, on any interface.
///
/// # Errors
/// If `/proc/sys` cannot be read.
pub fn forwards() -> Result<bool> {
    for family in ["ipv4", "ipv6"] {
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
            match fs::read_to_string(place.join(&name).join("forwarding")) {
                Ok(value) if value.trim() != "0" => return Ok(true),
                Ok(_) => {}
                // It has just gone.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| place.display().to_string()),
            }
        }
    }
    Ok(false)
}
