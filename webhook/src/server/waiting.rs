//! The connections that were accepted and have no place yet: at a table whose every connection has
//! a request in flight.

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::table::{NoPlace, Slot, Table};

/// The most connections that wait. The next one stays in the kernel's queue.
const MOST: usize = 512;
/// The most of one address. The next one is dropped, so that one address cannot hold the queue.
const SHARE: usize = 256;

/// The connections that wait for a place in a table.
#[derive(Debug)]
pub(super) struct Waiting {
    table: Arc<Table>,
    patience: Duration,
    queue: VecDeque<(Instant, TcpStream, IpAddr)>,
}

impl Waiting {
    /// Returns an empty queue. A connection waits for `patience` at most.
    pub(super) fn new(table: Arc<Table>, patience: Duration) -> Self {
        Self { table, patience, queue: VecDeque::new() }
    }

    /// Returns whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns whether no other connection may wait.
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= MOST
    }

    /// Lets a connection wait. Returns `false` and drops it where too many of its address wait.
    pub(super) fn push(&mut self, stream: TcpStream, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let same = self.queue.iter().filter(|(.., waiting)| *waiting == address).count();
        let room = same < SHARE;
        if room {
            self.queue.push_back((Instant::now(), stream, address));
        }
        room
    }

    /// Calls `begin` for each connection that has a place now, the one that waits for longest
    /// first. Returns the number of those that have waited for too long, and drops them.
    pub(super) fn seat(&mut self, mut begin: impl FnMut(TcpStream, IpAddr, Slot)) -> usize {
        let mut greedy = HashSet::new();
        let mut full = false;
        let mut late = 0;
        for (since, stream, address) in std::mem::take(&mut self.queue) {
            let place = if full || greedy.contains(&address) {
                None
            } else {
                match self.table.place(address) {
                    Ok(slot) => Some(slot),
                    Err(NoPlace::Table) => {
                        full = true;
                        None
                    }
                    Err(NoPlace::Address) => {
                        greedy.insert(address);
                        None
                    }
                }
            };
            match place {
                Some(slot) => begin(stream, address, slot),
                None if since.elapsed() >= self.patience => late += 1,
                None => self.queue.push_back((since, stream, address)),
            }
        }
        late
    }
}
