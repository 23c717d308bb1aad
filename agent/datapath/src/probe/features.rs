//! What of the kernel lyncwall uses: what must be there, and what stands in for the rest.

use aya::maps::MapType;

use lyncwall_policy::problem::{Problem, Problems};

/// The oldest kernel that the program is tested on.
const OLDEST: (u32, u32) = (5, 10);

/// The kinds of maps in the BPF object besides the ring buffer, which is a feature of its own.
pub const MAP_TYPES: [MapType; 5] =
    [MapType::Array, MapType::PerCpuArray, MapType::LruHash, MapType::LpmTrie, MapType::PerfEventArray];

/// A feature of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Id {
    /// The kinds of maps.
    MapTypes,
    /// What the kernel says of its own types.
    KernelTypes,
    /// An array map that the agent maps into its memory.
    MappedArray,
    /// The ring buffer of events.
    RingBuffer,
    /// The helper that reads the kernel's tick counter.
    Jiffies,
    /// XDP programs that are attached by a link.
    XdpLink,
    /// Replacing the program of a link.
    LinkUpdate,
    /// XDP programs that take frames in several buffers.
    Frags,
    /// Programs on what the box sends, attached by a link.
    Tcx,
    /// The same, attached by netlink.
    Clsact,
    /// Test runs that name an interface.
    TestRunInterface,
    /// Waiting for the programs that run.
    Barrier,
    /// The kernel's compiler of BPF programs.
    Jit,
}

impl Id {
    /// All, in the order that they are listed in.
    pub const ALL: [Self; 13] = [
        Self::MapTypes,
        Self::KernelTypes,
        Self::MappedArray,
        Self::RingBuffer,
        Self::Jiffies,
        Self::XdpLink,
        Self::LinkUpdate,
        Self::Frags,
        Self::Tcx,
        Self::Clsact,
        Self::TestRunInterface,
        Self::Barrier,
        Self::Jit,
    ];

    /// The name for programs; it never changes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MapTypes => "map-types",
            Self::KernelTypes => "kernel-types",
            Self::MappedArray => "mapped-array",
            Self::RingBuffer => "ring-buffer",
            Self::Jiffies => "jiffies",
            Self::XdpLink => "xdp-link",
            Self::LinkUpdate => "link-update",
            Self::Frags => "frags",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
            Self::TestRunInterface => "test-run-interface",
            Self::Barrier => "barrier",
            Self::Jit => "jit",
        }
    }

    /// What it is, for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::MapTypes => "BPF maps: array, per-CPU array, LRU hash, LPM trie, perf events",
            Self::KernelTypes => "the kernel's own types (BTF, CONFIG_DEBUG_INFO_BTF)",
            Self::MappedArray => "array maps that a process can map into its memory",
            Self::RingBuffer => "BPF ring buffers",
            Self::Jiffies => "the helper bpf_jiffies64",
            Self::XdpLink => "XDP programs that are attached by a link",
            Self::LinkUpdate => "replacing the program of an XDP link",
            Self::Frags => "XDP programs for frames in several buffers",
            Self::Tcx => "tcx: programs on what the box sends, attached by a link",
            Self::Clsact => "clsact: programs on what the box sends, attached by netlink",
            Self::TestRunInterface => "test runs of a program that name an interface",
            Self::Barrier => "waiting until all running programs have ended",
            Self::Jit => "compiling BPF programs to machine code",
        }
    }

    /// The first kernel that has it, major and minor.
    #[must_use]
    pub const fn since(self) -> (u32, u32) {
        match self {
            Self::MapTypes => (4, 11),
            Self::KernelTypes => (5, 4),
            Self::MappedArray => (5, 5),
            Self::RingBuffer => (5, 8),
            Self::Jiffies => (5, 6),
            Self::XdpLink | Self::LinkUpdate => (5, 9),
            Self::Frags => (5, 18),
            Self::Tcx => (6, 6),
            Self::Clsact => (4, 5),
            Self::TestRunInterface => (5, 14),
            Self::Barrier => (4, 3),
            Self::Jit => (3, 16),
        }
    }

    /// True where nothing stands in for it, and a start without it is refused.
    #[must_use]
    pub const fn is_needed(self) -> bool {
        self.stand_in().is_none()
    }

    /// What stands in where it is missing; `None` where nothing can, and the start is refused.
    #[must_use]
    pub const fn stand_in(self) -> Option<&'static str> {
        match self {
            Self::MapTypes
            | Self::KernelTypes
            | Self::MappedArray
            | Self::RingBuffer
            | Self::Jiffies
            | Self::XdpLink
            | Self::LinkUpdate => None,
            Self::Frags => Some(
                "`ingress` is taken, for frames in one buffer; a driver whose MTU needs more refuses native mode",
            ),
            Self::Tcx => Some("clsact by netlink, for programs on what the box sends"),
            Self::Clsact => Some("nothing, where tcx is missing too: what the box sends cannot be looked at"),
            Self::TestRunInterface => {
                Some("the same code outside the kernel, where a verdict is asked for one interface")
            }
            Self::Barrier => Some("after a switch, a second of waiting before its old slot is written again"),
            Self::Jit => Some(
                "the kernel's interpreter, with a several times higher cost for each packet; \
                 `sysctl -w net.core.bpf_jit_enable=1` turns the compiler on",
            ),
        }
    }
}

/// Whether a feature is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is.
    Found,
    /// It is not.
    Missing,
    /// That was not asked, or could not be.
    Unknown,
}

/// A feature, and whether this kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// Which.
    pub id: Id,
    /// Whether it is there.
    pub answer: Answer,
    /// How that was found out, or why it was not.
    pub asked: String,
}

impl Feature {
    /// What follows, in words: what stands in, or that nothing can.
    #[must_use]
    pub fn detail(&self) -> String {
        let (major, minor) = self.id.since();
        match (self.answer, self.id.stand_in()) {
            (Answer::Found, _) => self.id.title().to_owned(),
            (Answer::Missing, Some(stand_in)) => stand_in.to_owned(),
            (Answer::Missing, None) => format!("needed; Linux {major}.{minor} has it"),
            (Answer::Unknown, _) => self.asked.clone(),
        }
    }
}

/// What this kernel can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    /// The kernel's release, as `uname -r` prints it.
    pub release: String,
    /// One for each [`Id`], in the order of [`Id::ALL`].
    pub features: Vec<Feature>,
}

impl Features {
    /// Those that are not there.
    pub fn missing(&self) -> impl Iterator<Item = &Feature> {
        self.features.iter().filter(|feature| feature.answer == Answer::Missing)
    }

    /// That something is missing which nothing stands in for: all of it together, each with the kernel that has it.
    #[must_use]
    pub fn problems(&self) -> Problems {
        let needed: Vec<Id> = self.missing().map(|feature| feature.id).filter(|id| id.is_needed()).collect();
        let Some(newest) = needed.iter().map(|id| id.since()).max() else { return Problems::default() };
        let name = |id: &Id| format!("{} (Linux {}.{})", id.title(), id.since().0, id.since().1);
        let named: Vec<String> = needed.iter().map(name).collect();
        let (major, minor) = newest.max(OLDEST);
        let fix = match version(&self.release) {
            Some(running) if running >= newest => {
                "boot a kernel that is built with them, as those of the distributions are".to_owned()
            }
            _ => format!("boot Linux {major}.{minor} or later"),
        };
        Problem::new(format!("this kernel, {}, does not have {}", self.release, named.join("; ")), fix).into()
    }

    /// That the kernel did not even answer for something that is needed.
    #[must_use]
    pub(super) fn forbidden(&self) -> Problems {
        let unknown = |feature: &&Feature| feature.answer == Answer::Unknown && feature.id.is_needed();
        let Some(first) = self.features.iter().find(unknown) else { return Problems::default() };
        let message =
            format!("the kernel does not let this process ask for {}: {}", first.id.title(), first.asked);
        Problem::new(message, "run lyncwall as root, outside of a container that keeps BPF from it").into()
    }
}

/// The major and minor number of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests;
