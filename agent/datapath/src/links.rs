//! The XDP program on its interfaces. A link is pinned as `links/<interface>`; the kernel tells its
//! interface, as interfaces may be renamed.

mod examine;
mod refusal;

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aya::programs::Xdp;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;

use super::pinned_links::{self, Pinned, pin_name, unpin};
use super::sys::LinkKind;
use super::xdp::{self, Interface, Mode};
pub use examine::Examined;
pub(super) use examine::examine;
use lyncwall_policy::config::Attach;
use lyncwall_policy::problem::{Error, Problem, Problems};
use refusal::Refusal;

/// An interface with the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// Its name.
    pub interface: String,
    /// The kernel's number of the interface.
    pub ifindex: u32,
    /// The mode.
    pub mode: Mode,
    /// True if it replaced an earlier agent's program in one step.
    pub replaced: bool,
    /// Why the driver refused the program, if [`Attach::Auto`] fell back to generic mode.
    pub native_refused: Option<String>,
}

/// The step for an interface.
enum Step {
    /// `stale`: the place of the pin has a link whose interface was destroyed.
    New {
        interface: String,
        ifindex: u32,
        attach: Attach,
        pin: PathBuf,
        stale: bool,
    },
    Replace {
        interface: String,
        ifindex: u32,
        mode: Mode,
        pin: PathBuf,
    },
}

/// Attaches the program to all of `wanted`, or to none: reports all visible obstacles at once, before
/// changing anything.
/// once and before anything is changed.
pub(super) fn attach_all(
    program: &mut Xdp,
    links: &Path,
    wanted: &[(&str, Attach)],
) -> Result<Vec<Attached>> {
    let (new, replace): (Vec<_>, Vec<_>) =
        plan(links, wanted)?.into_iter().partition(|step| matches!(step, Step::New { .. }));
    let mut attached = Vec::new();
    let mut undo = Undo(Vec::new());
    // New links first: a driver may refuse them, and they can be undone. Replacing a program keeps the maps
    // and their policy.
    for step in new.into_iter().chain(replace) {
        attached.push(match step {
            Step::New { interface, ifindex, attach, pin, stale } => {
                let (link, mode, native_refused) = link_as(program, &interface, ifindex, attach)
                    .with_context(|| format!("attaching to {interface}"))?;
                if stale {
                    unpin(&pin)?;
                }
                // The pin keeps the link alive; the descriptor is closed.
                drop(link.pin(&pin).with_context(|| format!("pinning the link at {}", pin.display()))?);
                undo.0.push(pin);
                Attached { interface, ifindex, mode, replaced: false, native_refused }
            }
            Step::Replace { interface, ifindex, mode, pin } => {
                replace_program(program, &pin)
                    .with_context(|| format!("replacing the program on {interface}"))?;
                Attached { interface, ifindex, mode, replaced: true, native_refused: None }
            }
        });
    }
    undo.0.clear();
    let place = |attached: &Attached| wanted.iter().position(|(name, _)| *name == attached.interface);
    attached.sort_by_key(place);
    Ok(attached)
}

/// Checks for visible obstacles to [`attach_all`].
pub(super) fn check(links: &Path, wanted: &[(&str, Attach)]) -> Result<()> {
    plan(links, wanted).map(drop)
}

/// Pins to remove on drop, together with the program.
struct Undo(Vec<PathBuf>);

impl Drop for Undo {
    fn drop(&mut self) {
        for pin in &self.0 {
            if let Err(error) = unpin(pin) {
                tracing::warn!("undoing an attachment: {error:#}");
            }
        }
    }
}

fn plan(links: &Path, wanted: &[(&str, Attach)]) -> Result<Vec<Step>> {
    let interfaces = xdp::all()?;
    let pinned = PinnedLinks::read(links)?;
    let mut steps = Vec::new();
    let mut problems = Problems::default();
    for (name, attach) in wanted {
        let (interface, own) = match obstacle(&interfaces, &pinned, name) {
            Ok(found) => found,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        steps.push(match own {
            None => {
                let (pin, stale) = pinned.place_for(links, interface);
                let (interface, ifindex) = (interface.name.clone(), interface.index);
                Step::New { interface, ifindex, attach: *attach, pin, stale }
            }
            Some(own) => {
                let mode =
                    interface.mode.with_context(|| format!("the kernel reports no XDP mode for {name}"))?;
                let kept = match attach {
                    Attach::Auto => true,
                    Attach::Native => mode == Mode::Native,
                    Attach::Generic => mode == Mode::Generic,
                };
                if !kept {
                    problems.push(Problem::new(
                        format!("`{name}` is attached in {mode} mode; lyncwall cannot change the mode without a gap"),
                        "keep the mode, or run `lyncwall detach`, which opens the box, and start again",
                    ));
                    continue;
                }
                let (interface, ifindex) = (interface.name.clone(), interface.index);
                Step::Replace { interface, ifindex, mode, pin: own.path.clone() }
            }
        });
    }
    Ok(problems.or(steps)?)
}

/// The interface of this name, and our link on it; or the obstacle.
fn obstacle<'a>(
    interfaces: &'a [Interface],
    pinned: &'a PinnedLinks,
    name: &str,
) -> Result<(&'a Interface, Option<&'a Pinned>), Problem> {
    let Some(interface) = interfaces.iter().find(|interface| interface.name == name) else {
        let names: Vec<_> = interfaces.iter().map(|interface| interface.name.as_str()).collect();
        return Err(Problem::new(
            format!("unknown interface `{name}`"),
            format!("the interfaces here are {}", names.join(", ")),
        ));
    };
    if !interface.ethernet {
        return Err(Problem::new(
            format!("`{name}` has frames without an Ethernet header, which the program cannot judge"),
            "guard the interface below it; the program judges a tunnel's packets there",
        ));
    }
    let own = pinned.holding(interface);
    let foreign = interface.programs.iter().find(|id| own.is_none_or(|own| own.info.program != **id));
    if let Some(id) = foreign {
        return Err(Problem::new(
            format!("`{name}` has the foreign XDP program {id}"),
            format!(
                "look at it with `bpftool prog show id {id}` and `bpftool net show dev {name}`, and stop its owner; \
                 if another lyncwall owns it, use its --pin-dir, or open \
                 what it guards: run `lyncwall detach` with that"
            ),
        ));
    }
    Ok((interface, own))
}

/// Attaches in the requested mode; returns the reason if the driver refused and generic mode replaced native.
fn link_as(
    program: &mut Xdp,
    interface: &str,
    ifindex: u32,
    attach: Attach,
) -> Result<(FdLink, Mode, Option<String>)> {
    let native_refused = match attach {
        Attach::Generic => None,
        Attach::Auto | Attach::Native => match link(program, ifindex, Mode::Native).map_err(Error::from) {
            Ok(link) => return Ok((link, Mode::Native, None)),
            // An error of the kernel, in any mode.
            Err(Error::Mistakes(problems)) => return Err(problems.into()),
            Err(Error::Unexpected(error)) => {
                let refusal = Refusal::of(&error, Mode::Native);
                let refusal = refusal.unwrap_or_else(|| Refusal::unknown(&error));
                if attach == Attach::Native {
                    return Err(refusal.problem(interface, Mode::Native).into());
                }
                Some(refusal.why)
            }
        },
    };
    match link(program, ifindex, Mode::Generic) {
        Ok(link) => Ok((link, Mode::Generic, native_refused)),
        Err(error) => {
            let refusal = Refusal::of(&error, Mode::Generic).unwrap_or_else(|| Refusal::unknown(&error));
            Err(refusal.problem(interface, Mode::Generic).into())
        }
    }
}

/// Attaches with a link. Only links outlive the agent and can be replaced in one step.
fn link(program: &mut Xdp, ifindex: u32, mode: Mode) -> Result<FdLink> {
    let id = program.attach_to_if_index(ifindex, mode.xdp())?;
    let link = program.take_link(id)?;
    // aya falls back to netlink if the kernel answers a link with EINVAL, and converting such an attachment
    // does not detach it.
    match FdLink::try_from(link) {
        Ok(link) => Ok(link),
        Err(_) => {
            xdp::clear(ifindex, mode, program.fd()?.as_fd())?;
            Err(Problem::new(
                "this kernel attaches XDP programs over netlink only, so they end with the agent and cannot be replaced \
                in one step; Linux 5.9 has links",
                "boot Linux 5.10 or later",
            )
            .into())
        }
    }
}

/// Replaces the program in one step: each packet is judged by the old program or by the new one.
fn replace_program(program: &mut Xdp, pin: &Path) -> Result<()> {
    let pinned = PinnedLink::from_pin(pin).with_context(|| format!("opening {}", pin.display()))?;
    let link = XdpLink::try_from(FdLink::from(pinned)).with_context(|| pin.display().to_string())?;
    let id = program.attach_to_link(link)?;
    // An open descriptor would keep the link alive after the removal of its pin.
    drop(program.take_link(id)?);
    Ok(())
}

/// The pins in `links/`.
pub(super) struct PinnedLinks(Vec<Pinned>);

impl PinnedLinks {
    /// Reads the directory; empty without one.
    pub(super) fn read(links: &Path) -> Result<Self> {
        pinned_links::links(links, LinkKind::Xdp).map(Self)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = Pinned> {
        self.0.into_iter()
    }

    /// True if a link holds this program on the interface with this number.
    pub(super) fn runs(&self, index: u32, program: u32) -> bool {
        self.0.iter().any(|pinned| pinned.info.ifindex == index && pinned.info.program == program)
    }

    /// The link on an interface. In another network namespace, another interface may have this number; its
    /// program tells.
    fn holding(&self, interface: &Interface) -> Option<&Pinned> {
        self.0.iter().find(|pinned| pinned.holds(interface))
    }

    /// Where to pin a new link of an interface, and whether the place has a link whose interface was
    /// destroyed.
    fn place_for(&self, links: &Path, interface: &Interface) -> (PathBuf, bool) {
        let name = pin_name(&interface.name);
        let mut place = links.join(&name);
        if self.0.iter().any(|pinned| pinned.path == place && pinned.info.ifindex != 0) {
            // Another interface had this name at the time of attaching.
            place = links.join(format!("{name}:{}", interface.index));
        }
        let stale = self.0.iter().any(|pinned| pinned.path == place && pinned.info.ifindex == 0);
        (place, stale)
    }
}

impl Pinned {
    fn holds(&self, interface: &Interface) -> bool {
        self.info.ifindex == interface.index && interface.programs.contains(&self.info.program)
    }

    /// The name of its interface; that of the pin if the interface is not here.
    pub(super) fn interface(&self, interfaces: &[Interface]) -> String {
        let name = interfaces.iter().find(|interface| self.holds(interface)).map(|found| found.name.clone());
        let pin = || self.path.file_name().unwrap_or_default().to_string_lossy().replace(':', ".");
        name.unwrap_or_else(pin)
    }
}

/// Interfaces with the program now.
pub(super) fn attached(links: &Path) -> Result<Vec<Attached>> {
    let interfaces = xdp::all()?;
    let pinned = PinnedLinks::read(links)?;
    let mut attached = Vec::new();
    for interface in &interfaces {
        if let (Some(_), Some(mode)) = (pinned.holding(interface), interface.mode) {
            attached.push(Attached {
                interface: interface.name.clone(),
                ifindex: interface.index,
                mode,
                replaced: false,
                native_refused: None,
            });
        }
    }
    Ok(attached)
}

/// Takes the program off all interfaces but those named, and removes the pins of interfaces that are gone.
pub(super) fn detach_except(links: &Path, keep: &[&str]) -> Result<Vec<String>> {
    let interfaces = xdp::all()?;
    let mut detached = Vec::new();
    for pinned in PinnedLinks::read(links)?.into_iter() {
        let name = pinned.interface(&interfaces);
        if !keep.contains(&name.as_str()) || pinned.info.ifindex == 0 {
            pinned.unpin()?;
            detached.push(name);
        }
    }
    Ok(detached)
}
