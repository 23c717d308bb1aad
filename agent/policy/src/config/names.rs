//! Names with a checked shape.

use std::fmt;
use std::ops::Deref;

use serde::Serialize;

use crate::problem::Named;
use crate::reader::Node;

/// The name of a target, a zone, a group or a role: 1 to 32 of `a-z`, `0-9` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    /// The name `text`.
    ///
    /// # Errors
    /// The mistake in `text`, as a sentence.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            Err("a name cannot be empty")
        } else if text.len() > 32 {
            Err("a name has at most 32 characters")
        } else if text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            Ok(Self(text.to_owned()))
        } else {
            Err("a name may contain only a-z, 0-9 and `-`")
        }
    }

    /// The name `named`, written at or in `node`; reports a wrong shape.
    pub(super) fn read(node: &Node<'_>, named: &Named) -> Option<Self> {
        let shape = "use 1 to 32 of a-z, 0-9 and `-`";
        let wrong = |why| node.problem_at(&named.place, format!("`{}`: {why}", named.name), shape);
        Self::new(&named.name).map_err(wrong).ok()
    }
}

/// The name of a network interface, by the rules of the kernel: 1 to 15 bytes, not `.` or `..`, without `/`,
/// `:` and white space (`dev_valid_name` in the kernel's net/core/dev.c).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// The interface name `text`.
    ///
    /// # Errors
    /// The mistake in `text`, as a sentence.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        // The kernel's isspace includes 0xA0, the no-break space of Latin-1, in any encoding. A zero byte
        // would end the name early.
        let refused = |b: u8| matches!(b, 0 | b'/' | b':' | b' ' | 9..=13 | 0xA0);
        if text.is_empty() {
            Err("an interface name cannot be empty")
        } else if text.len() > 15 {
            Err("an interface name has at most 15 bytes")
        } else if text == "." || text == ".." {
            Err("`.` and `..` are not interface names")
        } else if text.bytes().any(refused) {
            Err("an interface name cannot contain `/`, `:` or white space")
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Deref for InterfaceName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
