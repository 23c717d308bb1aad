//! The egress program. If the kernel has tcx (6.6), a link pinned as `egress/<interface>` holds it. An older
//! kernel uses a filter of clsact, which cannot be pinned: a directory `egress/<interface number>` marks its
//! interface, and priority and handle identify the filter.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Error, Result};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcAttachType, TcError, TcHandle, qdisc_add_clsact,
};
use aya::programs::{Link as _, LinkOrder, SchedClassifier};
use nix::errno::Errno;
use rtnetlink::packet_core::NLM_F_DUMP;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{self, TcAttribute, TcFilterBpfOption, TcMessage, TcOption};
use rtnetlink::sys::protocols::NETLINK_ROUTE;

use super::netlink::ask;
use super::pinned_links::{Pinned, entries, links, pin_name, unpin};
use super::sys::{self, LinkKind};
use super::xdp::{self, Interface};

/// Before filters that end the chain: `tc` numbers its own from 49,152.
const PRIORITY: u16 = 7;

/// "lync" in ASCII.
const HANDLE: TcHandle = TcHandle::new(0x6c79, 0x6e63);

/// How to attach the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    /// By links, since kernel 6.6.
    Tcx,
    /// By netlink.
    Clsact,
}

/// Attaches the program to all these interfaces, or replaces that of an earlier agent. Returns the names of
/// interfaces that had none.
///
/// # Errors
/// If an interface does not exist or refuses. Earlier attachments stay: the program changes no packet.
pub(super) fn attach_all(
    program: &mut SchedClassifier,
    directory: &Path,
    hook: Hook,
    wanted: &[&str],
) -> Result<Vec<String>> {
    let interfaces = xdp::all()?;
    let mut new = Vec::new();
    for name in wanted {
        let interface = interfaces
            .iter()
            .find(|interface| interface.name == *name)
            .with_context(|| format!("unknown interface {name}"))?;
        let attached = match hook {
            Hook::Tcx => attach_link(program, directory, interface),
            Hook::Clsact => attach_filter(program, directory, interface),
        };
        if attached.with_context(|| format!("attaching to the egress of {name}"))? {
            new.push((*name).to_owned());
        }
    }
    Ok(new)
}

/// True if a program of lyncwall is on all these interfaces.
pub(super) fn is_on(directory: &Path, wanted: &[&str]) -> Result<bool> {
    let attachments = Attachments::read(directory)?;
    let interfaces = xdp::all()?;
    for name in wanted {
        match interfaces.iter().find(|interface| interface.name == *name) {
            Some(interface) if attachments.program(interface.index)?.is_some() => {}
            Some(_) | None => return Ok(false),
        }
    }
    Ok(true)
}

/// The attachments that the directory names. Other tools may have ended them.
pub(super) struct Attachments {
    links: Vec<Pinned>,
    markers: Vec<(PathBuf, u32)>,
}

/// The program of an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attached {
    Known(u32),
    /// An old kernel does not tell a filter's program.
    Unknown,
}

impl Attachments {
    pub(super) fn read(directory: &Path) -> Result<Self> {
        Ok(Self { links: links(directory, LinkKind::Tcx)?, markers: markers(directory)? })
    }

    /// True if this program is on the interface.
    pub(super) fn runs(&self, index: u32, program: u32) -> Result<bool> {
        Ok(self
            .program(index)?
            .is_some_and(|there| matches!(there, Attached::Unknown) || there == Attached::Known(program)))
    }

    fn program(&self, index: u32) -> Result<Option<Attached>> {
        if self.links.iter().any(|pinned| pinned.info.ifindex == index) {
            let there = sys::tcx_programs(index).context("listing the tcx programs")?;
            // In another network namespace, another interface may have this number; its programs tell.
            let own = self
                .links
                .iter()
                .find(|pinned| pinned.info.ifindex == index && there.contains(&pinned.info.program));
            if let Some(own) = own {
                return Ok(Some(Attached::Known(own.info.program)));
            }
        }
        let marked = self.markers.iter().any(|(_, marked)| *marked == index);
        if marked { filter_program(index) } else { Ok(None) }
    }
}

/// The program of our filter on the egress of an interface. Removing clsact removes the filter, and nothing
/// else shows that.
fn filter_program(index: u32) -> Result<Option<Attached>> {
    let mut request = TcMessage::with_index(index.cast_signed());
    request.header.parent = tc::TcHandle { minor: tc::TcHandle::MIN_EGRESS, ..tc::TcHandle::CLSACT };
    let filters = ask(NETLINK_ROUTE, RouteNetlinkMessage::GetTrafficFilter(request), NLM_F_DUMP)
        .context("listing the filters of clsact")?;
    Ok(filters.into_iter().find_map(|answer| {
        let RouteNetlinkMessage::NewTrafficFilter(filter) = answer else { return None };
        // The priority is the upper half of this field.
        let priority = filter.header.info >> 16;
        (priority == u32::from(PRIORITY) && u32::from(filter.header.handle) == u32::from(HANDLE))
            .then_some(())?;
        let options = filter.attributes.iter().find_map(|attribute| match attribute {
            TcAttribute::Options(options) => Some(options),
            _ => None,
        });
        let id = options.into_iter().flatten().find_map(|option| match option {
            TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => Some(*id),
            _ => None,
        });
        Some(id.map_or(Attached::Unknown, Attached::Known))
    }))
}

/// True if there was no link yet.
fn attach_link(program: &mut SchedClassifier, directory: &Path, interface: &Interface) -> Result<bool> {
    let there = sys::tcx_programs(interface.index).context("listing the tcx programs")?;
    let pins = links(directory, LinkKind::Tcx)?;
    // In another network namespace, another interface may have this number; its programs tell.
    let ours = |pin: &&Pinned| pin.info.ifindex == interface.index && there.contains(&pin.info.program);
    if let Some(Pinned { path: pin, .. }) = pins.iter().find(ours) {
        let pinned = PinnedLink::from_pin(pin).with_context(|| format!("opening {}", pin.display()))?;
        let link = SchedClassifierLink::try_from(FdLink::from(pinned))
            .with_context(|| format!("{} is not a tcx link", pin.display()))?;
        let id = program.attach_to_link(link)?;
        drop(program.take_link(id)?);
        return Ok(false);
    }
    // First in the chain, so that no other program can end the chain before it.
    let order = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(&interface.name, TcAttachType::Egress, order)?;
    let link = FdLink::try_from(program.take_link(id)?)?;
    let mut pin = directory.join(pin_name(&interface.name));
    match pins.iter().find(|pinned| pinned.path == pin) {
        Some(pinned) if pinned.info.ifindex == 0 => unpin(&pin)?,
        // Another interface had this name at the time of attaching.
        Some(_) => pin = directory.join(format!("{}:{}", pin_name(&interface.name), interface.index)),
        None => {}
    }
    drop(link.pin(&pin).with_context(|| format!("pinning the link at {}", pin.display()))?);
    Ok(true)
}

/// True if there was no filter yet.
fn attach_filter(program: &mut SchedClassifier, directory: &Path, interface: &Interface) -> Result<bool> {
    add_clsact(&interface.name)?;
    let marker = directory.join(interface.index.to_string());
    let marked = match fs::create_dir(&marker) {
        Ok(()) => false,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => true,
        Err(error) => return Err(error).with_context(|| format!("creating {}", marker.display())),
    };
    // Ask the kernel: the interface may have been created anew, clsact deleted, or only the marker removed.
    let known = filter_program(interface.index)?.is_some();
    let mut replaced = false;
    let id = match known.then(|| program.attach_to_link(filter(&interface.name)?).map_err(Error::from)) {
        Some(Ok(id)) => {
            replaced = true;
            id
        }
        // It has gone just now.
        Some(Err(_)) | None => {
            let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
            let options = TcAttachOptions::Netlink(options);
            let attached = program.attach_with_options(&interface.name, TcAttachType::Egress, options);
            attached.context("a filter of clsact; an `ingress` queueing discipline may be in its place")?
        }
    };
    // Dropping it would take the program off again.
    std::mem::forget(program.take_link(id)?);
    // A filter without its marker may have noted flows in other maps.
    Ok(!(replaced && marked))
}

/// Adds the queueing discipline for the filter; keeps an existing one.
fn add_clsact(interface: &str) -> Result<()> {
    match qdisc_add_clsact(interface) {
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(Errno::EEXIST as i32) => Ok(()),
        added => added.context("adding the clsact queueing discipline"),
    }
}

fn filter(interface: &str) -> std::io::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(interface, TcAttachType::Egress, PRIORITY, HANDLE, None)
}

/// Takes the program off the egress of all interfaces but those named.
pub(super) fn detach_except(directory: &Path, keep: &[&str]) -> Result<()> {
    let interfaces = xdp::all()?;
    let kept = |index: u32| {
        interfaces.iter().any(|known| known.index == index && keep.contains(&known.name.as_str()))
    };
    for pinned in links(directory, LinkKind::Tcx)? {
        if !kept(pinned.info.ifindex) {
            pinned.unpin()?;
        }
    }
    for (marker, index) in markers(directory)? {
        if kept(index) {
            continue;
        }
        // A destroyed interface took its filter along, or the interface is in another network namespace.
        if let Some(interface) = interfaces.iter().find(|interface| interface.index == index) {
            match filter(&interface.name).map_err(Error::from).and_then(|link| Ok(link.detach()?)) {
                Ok(()) => {}
                Err(error) => tracing::warn!(
                    interface = interface.name,
                    "the egress program may still be attached: {error:#}"
                ),
            }
        }
        fs::remove_dir(&marker).with_context(|| format!("removing {}", marker.display()))?;
    }
    Ok(())
}

/// The markers of filters, with the numbers of their interfaces.
fn markers(directory: &Path) -> Result<Vec<(PathBuf, u32)>> {
    let directories = entries(directory)?.into_iter().filter(|path| path.is_dir());
    let number = |path: PathBuf| Some((path.clone(), path.file_name()?.to_str()?.parse().ok()?));
    Ok(directories.filter_map(number).collect())
}
