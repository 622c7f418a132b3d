//! The open connections of one port: how many there may be, and which one has to go.
//!
//! A connection is silent while no request is in flight. Once the table is full, a new connection
//! takes the place of the one that has been silent for longest, of those that have never asked
//! anything if there are any. A connection with a request in flight keeps its place. One address may hold most of the table, because the API server may be
//! one address, but never all: once it has its share, its new connections take the places of its
//! own.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

/// The part of a table that is kept for other addresses than the one that has most: an eighth.
const KEPT_FOR_OTHERS: usize = 8;

/// The reason why there is no place for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// Every connection has a request in flight.
    Table,
    /// Every connection of this address has one, and the address has its share.
    Address,
}

/// The last event of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// It was opened, and nothing was asked.
    Opened(Instant),
    /// A request arrived, and is in flight.
    Asked(Instant),
    /// The last request was answered.
    Answered(Instant),
}

/// The connections of one port.
#[derive(Debug)]
pub(crate) struct Table {
    most: usize,
    share: usize,
    places: Mutex<Places>,
    /// A sign that a connection that found no place may find one now.
    pub(super) freed: Notify,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    taken: HashMap<u64, Place>,
    /// The silent ones: first those that have never asked anything, then the one that has been
    /// silent for longest.
    silent: BTreeSet<(Silence, u64)>,
    by_address: HashMap<IpAddr, usize>,
}

/// The silence of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Silence {
    /// True if it has asked something before: the API server may be about to ask again.
    asked: bool,
    since: Instant,
}

#[derive(Debug)]
struct Place {
    address: IpAddr,
    silence: Option<Silence>,
    evicted: Arc<Notify>,
}

/// A connection's place in a table, free again when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    table: Arc<Table>,
    id: u64,
    activity: Mutex<Activity>,
    /// The sign that another connection has taken this place.
    pub(super) evicted: Arc<Notify>,
}

impl Table {
    /// Returns an empty table of `most` places.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        let share = (most - most / KEPT_FOR_OTHERS).max(1);
        Arc::new(Self { most, share, places: Mutex::default(), freed: Notify::new() })
    }

    /// Returns a place for a new connection of `address`, if need be that of another connection.
    pub(super) fn place(self: &Arc<Self>, address: IpAddr) -> Result<Slot, NoPlace> {
        let address = address.to_canonical();
        let now = Instant::now();
        let mut places = self.places();
        if places.by_address.get(&address).is_some_and(|held| *held >= self.share) {
            let idlest = places.idlest(Some(address)).ok_or(NoPlace::Address)?;
            places.evict(idlest);
        } else if places.taken.len() >= self.most {
            let idlest = places.idlest(None).ok_or(NoPlace::Table)?;
            places.evict(idlest);
        }
        let silence = Silence { asked: false, since: now };
        let id = places.next;
        places.next += 1;
        let evicted = Arc::new(Notify::new());
        let place = Place { address, silence: Some(silence), evicted: Arc::clone(&evicted) };
        places.taken.insert(id, place);
        places.silent.insert((silence, id));
        *places.by_address.entry(address).or_default() += 1;
        drop(places);
        let activity = Mutex::new(Activity::Opened(now));
        Ok(Slot { table: Arc::clone(self), id, activity, evicted })
    }

    /// Evicts the connection that has been silent for longest. Returns whether there was one.
    pub(super) fn evict_idlest(&self) -> bool {
        let mut places = self.places();
        let idlest = places.idlest(None);
        if let Some(idlest) = idlest {
            places.evict(idlest);
        }
        idlest.is_some()
    }

    /// Returns the number of connections.
    pub(crate) fn len(&self) -> usize {
        self.places().taken.len()
    }

    /// Returns whether a new connection would find no place: every place is taken, and every
    /// connection has a request in flight.
    pub(crate) fn is_full(&self) -> bool {
        let places = self.places();
        places.taken.len() >= self.most && places.silent.is_empty()
    }

    /// Returns the number of connections without a request in flight.
    #[cfg(test)]
    pub(super) fn silent(&self) -> usize {
        self.places().silent.len()
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    /// Returns the connection that has been silent for longest, of one address or of all.
    fn idlest(&self, of: Option<IpAddr>) -> Option<u64> {
        let mut silent = self.silent.iter().map(|(_, id)| *id);
        match of {
            None => silent.next(),
            Some(address) => {
                silent.find(|id| self.taken.get(id).is_some_and(|place| place.address == address))
            }
        }
    }

    fn evict(&mut self, id: u64) {
        if let Some(place) = self.remove(id) {
            place.evicted.notify_one();
        }
    }

    fn remove(&mut self, id: u64) -> Option<Place> {
        let place = self.taken.remove(&id)?;
        if let Some(silence) = place.silence {
            self.silent.remove(&(silence, id));
        }
        if let Some(held) = self.by_address.get_mut(&place.address) {
            *held -= 1;
            if *held == 0 {
                self.by_address.remove(&place.address);
            }
        }
        Some(place)
    }

    /// Notes the silence of a connection; `None` while a request is in flight.
    fn note(&mut self, id: u64, silence: Option<Silence>) {
        let Some(place) = self.taken.get_mut(&id) else { return };
        let before = std::mem::replace(&mut place.silence, silence);
        if let Some(silence) = before {
            self.silent.remove(&(silence, id));
        }
        if let Some(silence) = silence {
            self.silent.insert((silence, id));
        }
    }
}

impl Slot {
    /// Notes that a request arrived.
    pub(super) fn asked(&self) {
        self.now(Activity::Asked(Instant::now()));
    }

    /// Notes that it was answered, or given up.
    pub(super) fn answered(&self) {
        self.now(Activity::Answered(Instant::now()));
        self.table.freed.notify_one();
    }

    /// Returns the last event.
    pub(super) fn activity(&self) -> Activity {
        *self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self, activity: Activity) {
        let silence = match activity {
            Activity::Opened(since) => Some(Silence { asked: false, since }),
            Activity::Answered(since) => Some(Silence { asked: true, since }),
            Activity::Asked(_) => None,
        };
        // In this order, because a connection that is evicted meanwhile reads its activity.
        *self.activity.lock().unwrap_or_else(PoisonError::into_inner) = activity;
        self.table.places().note(self.id, silence);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        drop(self.table.places().remove(self.id));
        self.table.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    /// Returns whether the connection has lost its place.
    async fn evicted(slot: &Slot) -> bool {
        tokio::time::timeout(Duration::ZERO, slot.evicted.notified()).await.is_ok()
    }

    async fn later() {
        tokio::time::advance(Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn connection_with_a_request_in_flight_keeps_its_place() {
        let table = Table::new(2);
        let first = table.place(address(1)).unwrap();
        later().await;
        let second = table.place(address(2)).unwrap();
        first.asked();
        assert!(!table.is_full());
        later().await;
        let third = table.place(address(3)).unwrap();
        assert!(evicted(&second).await && !evicted(&first).await);
        third.asked();
        assert!(table.is_full());
        assert_eq!(table.place(address(4)).unwrap_err(), NoPlace::Table);
        first.answered();
        assert!(!table.is_full());
        later().await;
        let fourth = table.place(address(4)).unwrap();
        assert!(evicted(&first).await && !evicted(&third).await);
        drop((first, second, third, fourth));
        assert_eq!(table.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn address_with_its_share_takes_its_own_places() {
        let table = Table::new(16);
        let other = table.place(address(9)).unwrap();
        let mut greedy = Vec::new();
        for _ in 0..14 {
            later().await;
            greedy.push(table.place(address(1)).unwrap());
        }
        later().await;
        let next = table.place(address(1)).unwrap();
        assert!(evicted(&greedy[0]).await && !evicted(&other).await);
        for slot in greedy.iter().chain([&next]) {
            slot.asked();
        }
        let mapped = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().into();
        assert_eq!(table.place(mapped).unwrap_err(), NoPlace::Address);
        let others = [table.place(address(2)).unwrap(), table.place(address(3)).unwrap()];
        assert!(evicted(&other).await, "the only silent one of a full table");
        drop(others);
    }
}
