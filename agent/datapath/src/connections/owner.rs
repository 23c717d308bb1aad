//! The owners of sockets, from `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The names of the processes that hold these sockets, by the inodes of the sockets. Leaves out processes
/// that have ended or are not accessible. Reads the descriptors of all processes: some milliseconds for a few
/// hundred.
pub(super) fn names(inodes: &BTreeSet<u32>) -> BTreeMap<u32, String> {
    let mut names = BTreeMap::new();
    if inodes.is_empty() {
        return names;
    }
    let Ok(processes) = fs::read_dir("/proc") else { return names };
    for process in processes.filter_map(Result::ok).map(|entry| entry.path()) {
        let of = sockets(&process);
        let wanted = of.intersection(inodes).filter(|inode| !names.contains_key(*inode)).copied();
        let wanted: Vec<u32> = wanted.collect();
        if wanted.is_empty() {
            continue;
        }
        if let Ok(name) = fs::read_to_string(process.join("comm")) {
            names.extend(wanted.into_iter().map(|inode| (inode, name.trim_end().to_owned())));
        }
    }
    names
}

/// The inodes of a process's sockets; empty if the process has ended or is not accessible.
fn sockets(process: &Path) -> BTreeSet<u32> {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return BTreeSet::new() };
    let links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.filter_map(|link| inode(link.to_str()?)).collect()
}

/// Parses `socket:[12345]`.
fn inode(link: &str) -> Option<u32> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd as _;

    use super::{inode, names};

    #[test]
    fn a_socket_of_this_process_is_found_by_its_name() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).expect("a link");
        let inode = inode(link.to_str().expect("text")).expect("a socket's inode");
        let own = std::fs::read_to_string("/proc/self/comm").expect("a name");
        let names = names(&BTreeSet::from([inode]));
        assert_eq!(names.get(&inode).map(String::as_str), Some(own.trim_end()));
    }

    #[test]
    fn only_sockets_have_the_inode_of_one() {
        assert_eq!(inode("socket:[4026531840]"), Some(4_026_531_840));
        assert_eq!(inode("pipe:[17]"), None);
        assert_eq!(inode("/dev/null"), None);
    }
}
