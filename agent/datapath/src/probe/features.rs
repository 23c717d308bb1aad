//! The kernel features that lyncwall uses, and their replacements.

use aya::maps::MapType;

use lyncwall_policy::problem::{Problem, Problems};

/// The oldest tested kernel.
const OLDEST: (u32, u32) = (5, 10);

/// The map types in the BPF object, except the ring buffer, which is a feature of its own.
pub const MAP_TYPES: [MapType; 5] =
    [MapType::Array, MapType::PerCpuArray, MapType::LruHash, MapType::LpmTrie, MapType::PerfEventArray];

/// A feature of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Id {
    /// The map types.
    MapTypes,
    /// The kernel's BTF type information.
    KernelTypes,
    /// An array map that a process can map into its memory.
    MappedArray,
    /// The ring buffer of events.
    RingBuffer,
    /// The helper that reads the kernel's tick counter.
    Jiffies,
    /// XDP programs attached with a link.
    XdpLink,
    /// Replacing the program of a link.
    LinkUpdate,
    /// XDP programs for frames in several buffers.
    Frags,
    /// Egress programs, attached with a link.
    Tcx,
    /// Egress programs, attached over netlink.
    Clsact,
    /// Test runs that name an interface.
    TestRunInterface,
    /// A barrier that waits for running programs.
    Barrier,
    /// The kernel's compiler of BPF programs.
    Jit,
}

impl Id {
    /// All features, in the order of listings.
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

    /// The stable name for programs.
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

    /// The description for users.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::MapTypes => "BPF maps: array, per-CPU array, LRU hash, LPM trie, perf events",
            Self::KernelTypes => "the kernel's own types (BTF, CONFIG_DEBUG_INFO_BTF)",
            Self::MappedArray => "array maps that a process can map into its memory",
            Self::RingBuffer => "BPF ring buffers",
            Self::Jiffies => "the helper bpf_jiffies64",
            Self::XdpLink => "XDP programs attached with a link",
            Self::LinkUpdate => "replacing the program of an XDP link",
            Self::Frags => "XDP programs for frames in several buffers",
            Self::Tcx => "tcx: egress programs, attached with a link",
            Self::Clsact => "clsact: egress programs, attached over netlink",
            Self::TestRunInterface => "test runs of a program that name an interface",
            Self::Barrier => "waiting until all running programs have ended",
            Self::Jit => "compiling BPF programs to machine code",
        }
    }

    /// The first kernel with it, major and minor.
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

    /// True if it has no replacement, so that a start without it is refused.
    #[must_use]
    pub const fn is_needed(self) -> bool {
        self.stand_in().is_none()
    }

    /// The replacement for a missing feature; `None` if the start is refused without it.
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
            Self::Frags => {
                Some("`ingress`, for frames in one buffer; a driver whose MTU needs more refuses native mode")
            }
            Self::Tcx => Some("clsact over netlink, for the egress program"),
            Self::Clsact => Some("nothing, if tcx is missing too: the box's outgoing packets cannot be seen"),
            Self::TestRunInterface => {
                Some("the verdict's code outside the kernel, for a question about one interface")
            }
            Self::Barrier => {
                Some("a wait of one second after a switch, before the old slot is written again")
            }
            Self::Jit => Some(
                "the kernel's interpreter, which costs several times more for each packet; \
                 `sysctl -w net.core.bpf_jit_enable=1` enables the compiler",
            ),
        }
    }
}

/// Whether a feature exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It exists.
    Found,
    /// It does not exist.
    Missing,
    /// Unknown: not asked, or the question failed.
    Unknown,
}

/// A feature, and whether this kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// The feature.
    pub id: Id,
    /// Whether it exists.
    pub answer: Answer,
    /// How lyncwall found out, or why it could not.
    pub asked: String,
}

impl Feature {
    /// The consequence, in words: the replacement, or that there is none.
    #[must_use]
    pub fn detail(&self) -> String {
        let (major, minor) = self.id.since();
        match (self.answer, self.id.stand_in()) {
            (Answer::Found, _) => self.id.title().to_owned(),
            (Answer::Missing, Some(stand_in)) => stand_in.to_owned(),
            (Answer::Missing, None) => format!("required: needs Linux {major}.{minor}"),
            (Answer::Unknown, _) => self.asked.clone(),
        }
    }
}

/// The features of this kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    /// The kernel's release, as `uname -r` prints it.
    pub release: String,
    /// One for each [`Id`], in the order of [`Id::ALL`].
    pub features: Vec<Feature>,
}

impl Features {
    /// The missing features.
    pub fn missing(&self) -> impl Iterator<Item = &Feature> {
        self.features.iter().filter(|feature| feature.answer == Answer::Missing)
    }

    /// The problem of missing required features: all together, each with its first kernel.
    #[must_use]
    pub fn problems(&self) -> Problems {
        let needed: Vec<Id> = self.missing().map(|feature| feature.id).filter(|id| id.is_needed()).collect();
        let Some(newest) = needed.iter().map(|id| id.since()).max() else { return Problems::default() };
        let name = |id: &Id| format!("{} (Linux {}.{})", id.title(), id.since().0, id.since().1);
        let named: Vec<String> = needed.iter().map(name).collect();
        let (major, minor) = newest.max(OLDEST);
        let fix = match version(&self.release) {
            Some(running) if running >= newest => {
                "boot a kernel built with them; distribution kernels are".to_owned()
            }
            _ => format!("boot Linux {major}.{minor} or later"),
        };
        Problem::new(format!("this kernel, {}, does not have {}", self.release, named.join("; ")), fix).into()
    }

    /// The problem of a required feature that the kernel did not answer for.
    #[must_use]
    pub(super) fn forbidden(&self) -> Problems {
        let unknown = |feature: &&Feature| feature.answer == Answer::Unknown && feature.id.is_needed();
        let Some(first) = self.features.iter().find(unknown) else { return Problems::default() };
        let message =
            format!("the kernel refuses this process's question about {}: {}", first.id.title(), first.asked);
        Problem::new(message, "run lyncwall as root, outside of a container that forbids BPF").into()
    }
}

/// The major and minor number of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests;
