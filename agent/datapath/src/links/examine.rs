//! Examines interfaces before attaching.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use anyhow::Result;

use super::{PinnedLinks, obstacle};
use crate::xdp::{self, Interface};
use lyncwall_policy::problem::Problem;

/// An interface to guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// Its name.
    pub interface: String,
    /// Its driver or kind, as `virtio_net` or `bond`; `None` if neither is known.
    pub driver: Option<String>,
    /// Its state in words.
    pub state: String,
    /// Why it cannot be guarded, if that shows beforehand.
    pub problem: Option<Problem>,
}

/// Examines `wanted`; `links` may hold some of them. Needs no privilege.
pub(in super::super) fn examine(links: &Path, wanted: &[&str]) -> Result<Vec<Examined>> {
    let interfaces = xdp::all()?;
    let pinned = match PinnedLinks::read(links) {
        Ok(pinned) => Some(pinned),
        Err(error) if is_forbidden(&error) => None,
        Err(error) => return Err(error),
    };
    let examined = wanted.iter().map(|name| {
        let found = interfaces.iter().find(|interface| interface.name == *name);
        let (state, problem) = match (found, &pinned) {
            (Some(interface), None) if interface.ethernet && !interface.programs.is_empty() => {
                (format!("has {}; only root can see its owner", programs(interface)), None)
            }
            _ => match obstacle(&interfaces, pinned.as_ref().unwrap_or(&PinnedLinks(Vec::new())), name) {
                Err(problem) => ("cannot be guarded".to_owned(), Some(problem)),
                Ok((interface, Some(_))) => {
                    let mode = interface.mode.map_or("an unknown", |mode| mode.name());
                    (format!("guarded, in {mode} mode"), None)
                }
                Ok((_, None)) => {
                    let state = "free; only attaching shows whether its driver takes the program";
                    (state.to_owned(), None)
                }
            },
        };
        Examined { interface: (*name).to_owned(), driver: found.and_then(driver), state, problem }
    });
    Ok(examined.collect())
}

fn is_forbidden(error: &anyhow::Error) -> bool {
    let kind = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    kind == Some(ErrorKind::PermissionDenied)
}

fn programs(interface: &Interface) -> String {
    let ids: Vec<String> = interface.programs.iter().map(u32::to_string).collect();
    format!("XDP program {}", ids.join(", "))
}

/// The driver of the device of an interface; the kind of an interface without a device.
fn driver(interface: &Interface) -> Option<String> {
    if let Some(kind) = &interface.kind {
        return Some(kind.clone());
    }
    let folder = Path::new("/sys/class/net").join(&interface.name);
    // The mounted sysfs may be that of another network namespace, with another interface of this name.
    let number = fs::read_to_string(folder.join("ifindex")).ok()?;
    if number.trim() != interface.index.to_string() {
        return None;
    }
    let driver = fs::read_link(folder.join("device/driver")).ok()?;
    Some(driver.file_name()?.to_string_lossy().into_owned())
}
