//! The program on its interfaces. A link is pinned as `links/<interface>`; which interface it holds is asked of the
//! kernel, as interfaces may be renamed.

mod examine;
mod refusal;

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aya::programs::Xdp;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;

use super::pinned::{self, Pinned, pin_name, unpin};
use super::sys::LinkKind;
use super::xdp::{self, Interface, Mode};
pub use examine::Examined;
pub(super) use examine::examine;
use lyncwall_policy::config::Attach;
use lyncwall_policy::problem::{Error, Problem, Problems};
use refusal::Refusal;

/// An interface that the program is attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// Its name.
    pub interface: String,
    /// The kernel's number of it.
    pub ifindex: u32,
    /// Where the program runs.
    pub mode: Mode,
    /// True where an earlier agent's program was replaced in one step.
    pub replaced: bool,
    /// Why the driver did not take the program, where [`Attach::Auto`] fell back to generic mode.
    pub native_refused: Option<String>,
}

/// What has to be done for an interface.
enum Step {
    /// `stale`: at the place of the pin is one whose interface was destroyed.
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

/// Attaches the program to all of `wanted`, or to none: whatever can be seen to stand in the way is reported at
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
    // New ones first: they may be refused and can be undone. Replacing keeps the maps and thereby the policy.
    for step in new.into_iter().chain(replace) {
        attached.push(match step {
            Step::New { interface, ifindex, attach, pin, stale } => {
                let (link, mode, native_refused) = link_as(program, &interface, ifindex, attach)
                    .with_context(|| format!("attaching to {interface}"))?;
                if stale {
                    unpin(&pin)?;
                }
                // The link lives on by its pin; the descriptor goes.
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

/// Whether nothing that can be seen beforehand stands in the way of [`attach_all`].
pub(super) fn check(links: &Path, wanted: &[(&str, Attach)]) -> Result<()> {
    plan(links, wanted).map(drop)
}

/// Pins that are removed on drop, and the program with them.
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
                    interface.mode.with_context(|| format!("the kernel tells no XDP mode of {name}"))?;
                let kept = match attach {
                    Attach::Auto => true,
                    Attach::Native => mode == Mode::Native,
                    Attach::Generic => mode == Mode::Generic,
                };
                if !kept {
                    problems.push(Problem::new(
                        format!("`{name}` is attached in {mode} mode, which cannot change without a gap"),
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

/// The interface of this name, and our link that holds it; or what stands in the way of the program.
fn obstacle<'a>(
    interfaces: &'a [Interface],
    pinned: &'a PinnedLinks,
    name: &str,
) -> Result<(&'a Interface, Option<&'a Pinned>), Problem> {
    let Some(interface) = interfaces.iter().find(|interface| interface.name == name) else {
        let names: Vec<_> = interfaces.iter().map(|interface| interface.name.as_str()).collect();
        return Err(Problem::new(
            format!("there is no interface `{name}`"),
            format!("the interfaces here are {}", names.join(", ")),
        ));
    };
    if !interface.ethernet {
        return Err(Problem::new(
            format!("`{name}` carries packets without an Ethernet header, which the program cannot judge"),
            "guard the interface that its traffic comes in by; a tunnel's own packets are judged there",
        ));
    }
    let own = pinned.holding(interface);
    let foreign = interface.programs.iter().find(|id| own.is_none_or(|own| own.info.program != **id));
    if let Some(id) = foreign {
        return Err(Problem::new(
            format!("`{name}` has the XDP program {id} of somebody else"),
            format!(
                "look at it with `bpftool prog show id {id}` and `bpftool net show dev {name}`, and stop who attached \
                 it; where it is another lyncwall's, name that one's --pin-dir, or run `lyncwall detach` with it"
            ),
        ));
    }
    Ok((interface, own))
}

/// Attaches as asked for; with the reason where the driver refused and generic mode was taken instead.
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
            // Of the kernel, whatever the mode.
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

/// Attaches by a link. Only links outlive the agent and can be replaced in one step.
fn link(program: &mut Xdp, ifindex: u32, mode: Mode) -> Result<FdLink> {
    let id = program.attach_to_if_index(ifindex, mode.xdp())?;
    let link = program.take_link(id)?;
    // aya falls back to netlink where the kernel answers a link with EINVAL, and a link that is none does not detach
    // itself when it is converted.
    match FdLink::try_from(link) {
        Ok(link) => Ok(link),
        Err(_) => {
            xdp::clear(ifindex, mode, program.fd()?.as_fd())?;
            Err(Problem::new(
                "this kernel attaches XDP programs by netlink only, which neither outlives the agent nor is replaced \
                 in one step; Linux 5.9 has links",
                "boot Linux 5.10 or later",
            )
            .into())
        }
    }
}

/// One step: each packet is judged by the old program or by the new one.
fn replace_program(program: &mut Xdp, pin: &Path) -> Result<()> {
    let pinned = PinnedLink::from_pin(pin).with_context(|| format!("opening {}", pin.display()))?;
    let link = XdpLink::try_from(FdLink::from(pinned)).with_context(|| pin.display().to_string())?;
    let id = program.attach_to_link(link)?;
    // A descriptor that we kept would keep the link alive when its pin is removed.
    drop(program.take_link(id)?);
    Ok(())
}

/// What is pinned in `links/`.
pub(super) struct PinnedLinks(Vec<Pinned>);

impl PinnedLinks {
    /// Reads the directory; empty where there is none.
    pub(super) fn read(links: &Path) -> Result<Self> {
        pinned::links(links, LinkKind::Xdp).map(Self)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = Pinned> {
        self.0.into_iter()
    }

    /// The link that holds an interface. In another network namespace the same number is another interface, which
    /// its program shows.
    fn holding(&self, interface: &Interface) -> Option<&Pinned> {
        self.0.iter().find(|pinned| pinned.holds(interface))
    }

    /// Where a new link of an interface is pinned, and whether a pin is there whose interface was destroyed.
    fn place_for(&self, links: &Path, interface: &Interface) -> (PathBuf, bool) {
        let name = pin_name(&interface.name);
        let mut place = links.join(&name);
        if self.0.iter().any(|pinned| pinned.path == place && pinned.info.ifindex != 0) {
            // Another interface had this name when it was attached.
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

    /// The name of its interface; that of the pin where there is no such interface here.
    pub(super) fn interface(&self, interfaces: &[Interface]) -> String {
        let name = interfaces.iter().find(|interface| self.holds(interface)).map(|found| found.name.clone());
        let pin = || self.path.file_name().unwrap_or_default().to_string_lossy().replace(':', ".");
        name.unwrap_or_else(pin)
    }
}

/// Interfaces that the program is attached to now.
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
