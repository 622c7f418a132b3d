//! The memory for what peers have sent and no handler has consumed: handshakes, headers, bodies.
//!
//! It is bounded for the process, and for one address. A connection that finds no room reads no
//! further, so that the peer has to wait. Three things keep the others from waiting for a peer that
//! never goes on: few bytes are free of charge, the oldest request always goes on, and once others
//! have waited for it, an old one that is unfinished is given up.
//!
//! Headers have a room of their own, a quarter of that for bodies: any peer can send headers, and only one
//! that knows the secret path is asked for a body. So peers that never end their headers wait for each
//! other, and the bodies of reviews for none of them.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The bytes that a connection may send free of charge: handshakes, headers and small reviews pass
/// however little room there is.
const FREE: usize = 4 << 10;
/// The same before the end of the headers. The API server's client sends them with the beginning of the body
/// in one piece of 4 KiB (`bufio.Writer` of Go's net/http), which TLS makes somewhat longer.
const FREE_HEADERS: usize = 6 << 10;
/// The part of the room that headers have: a quarter.
const HEADERS: usize = 4;
/// The most that one connection is charged for. What comes after that, a handler throws away.
const CHARGED: usize = 8 << 20;
/// The number of bytes for which one waiting connection is woken.
const READ: usize = 16 << 10;

/// The bounds of the memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoomLimits {
    /// The most bytes of all bodies, and one request above that. Headers have a quarter of it beside.
    pub(crate) most: usize,
    /// The same for one address.
    pub(crate) share: usize,
    /// The time that an unfinished request may hold room for which others wait.
    pub(crate) grace: Duration,
}

/// The room that all connections of both ports share.
#[derive(Debug)]
pub(crate) struct Room {
    limits: RoomLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    headers: Part,
    bodies: Part,
    waiting: BTreeMap<u64, Waker>,
}

/// The room for headers, or for bodies.
#[derive(Debug, Default)]
struct Part {
    used: usize,
    by_address: HashMap<IpAddr, usize>,
    /// The requests that hold room, the oldest first.
    holders: BTreeMap<u64, Holder>,
}

/// The present request of a connection.
#[derive(Clone, Copy, Debug, Default)]
struct Present {
    /// Its number, once it has sent a byte.
    id: Option<u64>,
    /// Its headers are complete.
    body: bool,
}

#[derive(Debug)]
struct Holder {
    address: IpAddr,
    bytes: usize,
    since: Instant,
    given_up: Arc<Notify>,
}

/// The room that one connection holds, free again when dropped.
#[derive(Debug)]
pub(super) struct Held {
    room: Arc<Room>,
    address: IpAddr,
    present: Mutex<Present>,
    /// The sign that its request is given up.
    pub(super) given_up: Arc<Notify>,
}

impl Room {
    /// Returns an empty room.
    pub(crate) fn new(limits: RoomLimits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default() })
    }

    /// Returns a connection that holds nothing.
    pub(super) fn connection(self: &Arc<Self>, address: IpAddr) -> Held {
        Held {
            room: Arc::clone(self),
            address: address.to_canonical(),
            present: Mutex::default(),
            given_up: Arc::new(Notify::new()),
        }
    }

    /// Lets every waiting connection look again, because time has passed.
    pub(super) fn look_again(&self) {
        let waiting = std::mem::take(&mut self.state().waiting);
        waiting.into_values().for_each(Waker::wake);
    }

    /// Returns the number of bytes that are held.
    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        let state = self.state();
        state.headers.used + state.bodies.used
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn part(&mut self, body: bool) -> &mut Part {
        if body { &mut self.bodies } else { &mut self.headers }
    }

    /// Takes out those that wait first, for as many bytes as have become free.
    fn woken(&mut self, bytes: usize) -> Vec<Waker> {
        let woken = 1 + bytes / READ;
        std::iter::from_fn(|| self.waiting.pop_first())
            .take(woken)
            .map(|(_, waker)| waker)
            .collect()
    }
}

impl Part {
    /// Returns the oldest request in the way of this one, of its address or of all; `None` where it
    /// may go on.
    fn in_the_way(&self, id: u64, most: usize, share: usize) -> Option<&Holder> {
        let holder = self.holders.get(&id)?;
        let older = |address: Option<IpAddr>| {
            let mut holders = self.holders.range(..id).map(|(_, holder)| holder);
            holders.find(|holder| address.is_none_or(|address| holder.address == address))
        };
        let of_address = self.by_address.get(&holder.address).copied().unwrap_or(0);
        if of_address >= share
            && let Some(older) = older(Some(holder.address))
        {
            return Some(older);
        }
        if self.used >= most { older(None) } else { None }
    }

    /// Adds bytes to what the request holds.
    fn add(&mut self, id: u64, bytes: usize, new: impl FnOnce() -> Holder) {
        let holder = self.holders.entry(id).or_insert_with(new);
        let bytes = bytes.min(CHARGED - holder.bytes);
        holder.bytes += bytes;
        self.used += bytes;
        *self.by_address.entry(holder.address).or_default() += bytes;
    }

    fn take(&mut self, id: u64) -> Option<Holder> {
        let holder = self.holders.remove(&id)?;
        self.used -= holder.bytes;
        if let Some(bytes) = self.by_address.get_mut(&holder.address) {
            *bytes -= holder.bytes;
            if *bytes == 0 {
                self.by_address.remove(&holder.address);
            }
        }
        Some(holder)
    }
}

impl Held {
    /// Returns whether the connection may read on. It is woken when it may.
    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        let Present { id: Some(id), body } = *self.present() else { return Poll::Ready(()) };
        let mut state = self.room.state();
        let part = state.part(body);
        let bytes = part.holders.get(&id).map_or(0, |holder| holder.bytes);
        let RoomLimits { most, share, grace } = self.room.limits;
        let (free, of) = if body { (FREE, 1) } else { (FREE_HEADERS, HEADERS) };
        if !(free..CHARGED).contains(&bytes) {
            return Poll::Ready(());
        }
        let Some(older) = part.in_the_way(id, most / of, share / of) else {
            return Poll::Ready(());
        };
        if older.since.elapsed() >= grace {
            older.given_up.notify_one();
        }
        state.waiting.insert(id, context.waker().clone());
        Poll::Pending
    }

    /// Counts bytes that were read.
    fn charge(&self, bytes: usize) {
        let mut present = self.present();
        let mut state = self.room.state();
        let id = *present.id.get_or_insert_with(|| {
            state.next += 1;
            state.next
        });
        state.part(present.body).add(id, bytes, || Holder {
            address: self.address,
            bytes: 0,
            since: Instant::now(),
            given_up: Arc::clone(&self.given_up),
        });
    }

    /// Notes that the headers are complete: what comes now, and what has come with them, is the body.
    pub(super) fn headers_end(&self) {
        let woken = {
            let mut present = self.present();
            present.body = true;
            let Some(id) = present.id else { return };
            let mut state = self.room.state();
            let Some(holder) = state.headers.take(id) else { return };
            let bytes = holder.bytes;
            state.bodies.add(id, bytes, || Holder { bytes: 0, ..holder });
            state.waiting.remove(&id);
            state.woken(bytes)
        };
        woken.into_iter().for_each(Waker::wake);
    }

    /// Gives back everything: a handler has consumed it.
    pub(super) fn release(&self) {
        let woken = {
            let present = std::mem::take(&mut *self.present());
            let Some(id) = present.id else { return };
            let mut state = self.room.state();
            state.waiting.remove(&id);
            let Some(holder) = state.part(present.body).take(id) else { return };
            state.woken(holder.bytes)
        };
        woken.into_iter().for_each(Waker::wake);
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release();
    }
}

/// A stream whose reads are counted, and wait for room.
#[derive(Debug)]
pub(super) struct Counted<S> {
    stream: S,
    held: Arc<Held>,
}

impl<S> Counted<S> {
    /// Counts the reads of `stream`.
    pub(super) fn new(stream: S, held: Arc<Held>) -> Self {
        Self { stream, held }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.held.poll_ready(context).is_pending() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        if bytes > 0 {
            this.held.charge(bytes);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, buffer)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const MIB: usize = 1 << 20;

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    fn room() -> Arc<Room> {
        Room::new(RoomLimits { most: 3 * MIB, share: 2 * MIB, grace: Duration::from_secs(1) })
    }

    /// Returns a connection whose request has complete headers.
    fn body(room: &Arc<Room>, last: u8) -> Held {
        let held = room.connection(address(last));
        held.headers_end();
        held
    }

    fn may_read(held: &Held) -> bool {
        held.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    async fn given_up(held: &Held) -> bool {
        tokio::time::timeout(Duration::ZERO, held.given_up.notified()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn oldest_request_always_goes_on() {
        let room = room();
        let [first, second] = [1, 1].map(|last| body(&room, last));
        first.charge(MIB);
        second.charge(MIB);
        assert!(may_read(&first) && !may_read(&second), "the share is used up");
        first.charge(MIB);
        assert!(may_read(&first) && !may_read(&second));
        first.release();
        assert!(may_read(&second));
        assert_eq!(room.used(), MIB);
        drop(second);
        assert_eq!(room.used(), 0);
        assert!(room.state().bodies.by_address.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn headers_of_strangers_take_no_room_of_bodies() {
        let room = room();
        let strangers: Vec<_> =
            (0..200).map(|at| room.connection(address(2 + u8::from(at % 2 == 0)))).collect();
        for held in &strangers {
            // 30 KiB without an end, as far as each may send them.
            for _ in 0..15 {
                if may_read(held) {
                    held.charge(2 << 10);
                }
            }
        }
        assert!(room.state().headers.used <= room.limits.most / HEADERS + 200 * (8 << 10));
        // A review comes with its first 4 KiB, and TLS around them.
        let review = room.connection(address(1));
        review.charge(4 << 10);
        assert!(may_read(&review));
        review.charge(1 << 10);
        review.headers_end();
        assert_eq!(room.state().headers.by_address.get(&address(1)), None);
        for _ in 0..32 {
            assert!(may_read(&review));
            review.charge(16 << 10);
        }
        // Its next request begins with headers again.
        review.release();
        review.charge(FREE_HEADERS);
        assert!(!may_read(&review));
        drop(strangers);
        assert!(may_read(&review));
    }

    #[tokio::test(start_paused = true)]
    async fn other_addresses_have_room_beside_a_greedy_one() {
        let room = room();
        let greedy = [1, 1, 1].map(|last| body(&room, last));
        for held in &greedy {
            held.charge(MIB / 2 + FREE);
        }
        greedy[0].charge(MIB / 2);
        assert!(!may_read(&greedy[1]) && !may_read(&greedy[2]));
        let other = body(&room, 2);
        other.charge(MIB / 2);
        assert!(may_read(&other));
    }

    #[tokio::test(start_paused = true)]
    async fn unfinished_request_is_given_up_only_for_others_and_after_its_grace() {
        let room = room();
        let [old, young] = [1, 1].map(|last| body(&room, last));
        old.charge(MIB + MIB / 2);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(may_read(&old) && !given_up(&old).await, "no other request waits");
        young.charge(MIB);
        assert!(!may_read(&young));
        assert!(given_up(&old).await);
        let small = body(&room, 1);
        small.charge(FREE - 1);
        assert!(may_read(&small), "few bytes are free of charge");
        old.release();
        assert!(may_read(&young));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_are_thrown_away_are_not_charged() {
        let room = room();
        let held = body(&room, 1);
        held.charge(3 * CHARGED);
        assert_eq!(room.used(), CHARGED);
        let older_is_gone = body(&room, 2);
        older_is_gone.charge(MIB);
        assert!(may_read(&held));
    }
}
