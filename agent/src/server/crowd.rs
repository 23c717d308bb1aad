//! The connections of a listener, and which of them goes when there is no more room.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::unistd::Uid;
use tokio::sync::Notify;

/// The most connections of root.
pub(super) const OF_ROOT: usize = 64;
/// The most connections of any other user.
pub(super) const OF_USER: usize = 16;
/// The most connections of all other users together.
pub(super) const OF_USERS: usize = 128;
/// The most connections to one TCP address.
pub(super) const OF_TCP: usize = 32;

/// Whether a whole request has arrived on a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked(Arc<AtomicBool>);

impl Asked {
    /// Notes that one has.
    pub(super) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Connections by their owner, in the order in which they came.
#[derive(Debug)]
pub(super) struct Crowd<K>(Arc<Mutex<Vec<Entry<K>>>>);

#[derive(Debug)]
struct Entry<K> {
    owner: K,
    asked: Asked,
    /// Ends the connection.
    end: Arc<Notify>,
}

/// The place of one connection. Dropping it makes room.
#[derive(Debug)]
pub(super) struct Place<K> {
    crowd: Crowd<K>,
    /// What the connection has to note.
    pub(super) asked: Asked,
    end: Arc<Notify>,
}

impl<K> Place<K> {
    /// Returns when another connection needs the place.
    pub(super) async fn ended(&self) {
        self.end.notified().await;
    }
}

impl<K> Drop for Place<K> {
    fn drop(&mut self) {
        self.crowd.change(|all| all.retain(|entry| !Arc::ptr_eq(&entry.end, &self.end)));
    }
}

impl<K> Default for Crowd<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K> Crowd<K> {
    fn change<T>(&self, change: impl FnOnce(&mut Vec<Entry<K>>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, all: &mut Vec<Entry<K>>, owner: K) -> Place<K> {
        let (asked, end) = (Asked::default(), Arc::new(Notify::new()));
        all.push(Entry { owner, asked: asked.clone(), end: Arc::clone(&end) });
        Place { crowd: Self(Arc::clone(&self.0)), asked, end }
    }
}

/// Ends the oldest of these connections that has not asked anything yet, or else the oldest of all. True if
/// one goes.
fn end_one<K>(all: &mut Vec<Entry<K>>, is_of: impl Fn(&K) -> bool) -> bool {
    let idle = all.iter().position(|entry| is_of(&entry.owner) && !entry.asked.0.load(Ordering::Relaxed));
    let oldest = || all.iter().position(|entry| is_of(&entry.owner));
    let Some(place) = idle.or_else(oldest) else { return false };
    // A permit is stored for a connection that has not begun to wait.
    all.remove(place).end.notify_one();
    true
}

impl Crowd<Uid> {
    /// A place for one more connection of a user; `None` at the limit. Root has its own limit, and there its
    /// oldest connection goes. A connection of others goes for none: their groups must be looked up for each
    /// new one, so a user who connects quickly would keep all threads busy.
    pub(super) fn enter(&self, uid: Uid) -> Option<Place<Uid>> {
        self.change(|all| {
            let of_others = all.iter().filter(|entry| !entry.owner.is_root()).count();
            let here = all.iter().filter(|entry| entry.owner == uid).count();
            let is_full =
                if uid.is_root() { here >= OF_ROOT } else { here >= OF_USER || of_others >= OF_USERS };
            let room = !is_full || uid.is_root() && end_one(all, |owner| owner.is_root());
            room.then(|| self.add(all, uid))
        })
    }
}

impl Crowd<IpAddr> {
    /// A place for one more connection from an address. At the limit, one of the address with the most
    /// connections goes.
    pub(super) fn enter(&self, from: IpAddr) -> Place<IpAddr> {
        self.change(|all| {
            if all.len() >= OF_TCP
                && let Some(most) = most_frequent(all.iter().map(|entry| entry.owner))
            {
                end_one(all, |owner| *owner == most);
            }
            self.add(all, from)
        })
    }
}

fn most_frequent<K: Copy + Eq + Hash>(all: impl Iterator<Item = K>) -> Option<K> {
    let mut counts = HashMap::new();
    all.for_each(|one| *counts.entry(one).or_insert(0u32) += 1);
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(one, _)| one)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use nix::unistd::Uid;

    use super::{Crowd, OF_ROOT, OF_TCP, OF_USER, OF_USERS, Place};

    fn counted<K>(crowd: &Crowd<K>) -> usize {
        crowd.change(|all| all.len())
    }

    fn asking(place: Place<Uid>) -> Place<Uid> {
        place.asked.note();
        place
    }

    #[test]
    fn each_user_has_so_many_places_and_root_has_its_own() {
        let crowd = Crowd::<Uid>::default();
        let enter = |uid| crowd.enter(Uid::from_raw(uid)).map(asking);
        let one: Vec<_> = (0..OF_USER).map(|_| enter(70_000).expect("a place")).collect();
        assert!(enter(70_000).is_none());
        let others: Vec<_> = (0..OF_USERS - OF_USER).map(|n| enter(70_001 + n as u32)).collect();
        assert!(others.iter().all(Option::is_some));
        assert!(enter(80_000).is_none(), "all users together have no more");
        let root: Vec<_> = (0..OF_ROOT).map(|_| enter(0).expect("a place")).collect();
        assert!(enter(0).is_some(), "the oldest of root goes for it");
        drop((one, others, root));
        assert_eq!(counted(&crowd), 0);
        assert!(enter(70_000).is_some());
    }

    #[tokio::test]
    async fn who_has_asked_nothing_yet_goes_first() {
        let crowd = Crowd::<Uid>::default();
        let enter = || crowd.enter(Uid::from_raw(0)).expect("a place");
        let all: Vec<_> = (0..OF_ROOT).map(|n| if n == 7 { enter() } else { asking(enter()) }).collect();
        let more = asking(enter());
        all[7].ended().await;
        assert_eq!(counted(&crowd), OF_ROOT);
        let _next = enter();
        all[0].ended().await;
        drop((all, more));
    }

    #[tokio::test]
    async fn the_address_with_most_connections_gives_way() {
        let crowd = Crowd::<IpAddr>::default();
        let from = |last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
        let scraper = crowd.enter(from(1));
        let stranger: Vec<_> = (1..OF_TCP).map(|_| crowd.enter(from(2))).collect();
        let _more: Vec<_> = (0..8).map(|n| crowd.enter(from(3 + n))).collect();
        for gone in &stranger[..8] {
            gone.ended().await;
        }
        assert_eq!(counted(&crowd), OF_TCP);
        let still = tokio::time::timeout(std::time::Duration::from_millis(10), scraper.ended()).await;
        assert!(still.is_err(), "the scraper keeps its place");
    }
}
