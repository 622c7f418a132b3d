//! The budget of all reviews together: how many are worked on, how many wait, and how many bytes of
//! their bodies are in memory.
//!
//! More reviews at the same time make each slower, and past some number none is answered in time. So
//! [`WORKING`] reviews are worked on, and the others wait with their bodies unread, which costs
//! memory neither here nor in the kernel. A review that only waits for members lends its place, and
//! takes none back: what remains to be done is little.
//!
//! While the queue is short, the first to come is the first to go. Once a review has waited for
//! [`PATIENCE`], the newest goes first. A queue that is always served from its old end is made of
//! reviews whose time is nearly over, and none of them is answered. Served from its new end, it
//! answers as many as it can, and is quick for new reviews as soon as the load is over.
//!
//! A review that waits because it is large gives its place to another one and needs none any more. At most
//! [`ASIDE`] do so until they are answered, and one more is answered at once: busy. So a writer of large
//! documents waits for other large ones, and small reviews wait for none. A namespace has no more
//! than a part of what large reviews share ([`shares`]), so the large reviews of one leave room for those of
//! others.
//!
//! A review that has waited so long that its verdict would come too late is answered without one:
//! busy. Its body is read for that, because the direction of the change decides the answer. Growth
//! that would pass unjudged still gets a look at the bounds, [`TURNS`] at a time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use pgscale_guard::read::{Address, MemberClient, RestRequest, RestResponse};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use self::shares::{Share, Shares};
use super::budget::VALUES;
use crate::metrics::Metrics;

mod shares;

/// The most reviews that are worked on at the same time. Each makes up to 10 requests.
const WORKING: usize = 16;
/// The most reviews that are in memory, those included that wait for members only.
const HELD: usize = 128;
/// The most reviews that wait. One more makes the oldest give up, whose time is nearly over.
const WAITING: usize = 1024;
/// The most reviews without a place that look at the bounds at the same time.
const TURNS: usize = 8;
/// The most large reviews in memory that have waited for each other, and so hold no place.
const ASIDE: usize = 8;
/// The wait of the oldest after which the newest goes first.
const PATIENCE: Duration = Duration::from_millis(100);

/// The most bytes of an ordinary body. Nearly every review is far below.
const ORDINARY: u64 = 256 << 10;
/// The bytes that all ordinary bodies have together at most, in units of [`UNIT`].
const ROOM: usize = 8 << 10;
/// The unit in which the room is given out.
const UNIT: u64 = 1 << 10;

/// The JSON values of a review that weigh nothing. The operator's complete manifest has about 240
/// with all that it has in comments, and a review holds two objects.
const LIGHT: usize = 500;
/// The most JSON values beyond [`LIGHT`] that all reviews in flight have together. Two reviews of
/// the largest size that is judged fit in.
const WEIGHT: usize = 2 * VALUES;

/// Returned for a review that got no place in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy;

impl Busy {
    /// The reason, for people.
    pub(crate) const WHY: &'static str = "pgscale is busy with other changes. Try again";
}

/// The places and the room, shared by all reviews.
#[derive(Clone)]
pub(crate) struct Limits {
    gate: Arc<Gate>,
    ordinary: Arc<Semaphore>,
    /// One larger body at a time: it may have megabytes.
    large: Arc<Semaphore>,
    weight: Arc<Semaphore>,
    aside: Arc<Semaphore>,
    /// The part that each namespace has of the last two.
    shares: Shares,
    turns: Arc<Semaphore>,
}

struct Gate {
    working: usize,
    held: usize,
    waiting: usize,
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    working: usize,
    held: usize,
    /// The number of the next review that waits.
    next: u64,
    /// Those that wait, in the order in which they came.
    waiting: BTreeMap<u64, Waiter>,
}

struct Waiter {
    since: Instant,
    turn: oneshot::Sender<Place>,
}

impl Limits {
    /// Returns the budget of a webhook.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self::of(WORKING, HELD, WAITING, metrics)
    }

    fn of(working: usize, held: usize, waiting: usize, metrics: Arc<Metrics>) -> Self {
        let gate = Gate { working, held, waiting, state: Mutex::default(), metrics };
        Self {
            gate: Arc::new(gate),
            ordinary: Arc::new(Semaphore::new(ROOM)),
            large: Arc::new(Semaphore::new(1)),
            weight: Arc::new(Semaphore::new(WEIGHT)),
            aside: Arc::new(Semaphore::new(ASIDE)),
            shares: Shares::default(),
            turns: Arc::new(Semaphore::new(TURNS)),
        }
    }

    /// Waits for a place, until `latest`.
    ///
    /// # Errors
    /// There was none in time.
    pub(crate) async fn place(&self, latest: Instant) -> Result<Place, Busy> {
        let place = self.gate.place(latest).await;
        if place.is_err() {
            self.gate.metrics.busy();
        }
        place
    }

    /// Returns whether a body of this length waits for other large ones. `None` is the length of one whose
    /// sender does not say it.
    pub(crate) fn is_large(length: Option<u64>) -> bool {
        length.is_none_or(|length| length > ORDINARY)
    }

    /// Waits for the room that a body of this length needs until it is decoded. `None` for one
    /// whose length its sender does not say. The `namespace` matters for large ones.
    ///
    /// # Errors
    /// There was none before `until`, or too many large ones wait for it.
    pub(crate) async fn room(
        &self,
        place: Option<&mut Place>,
        length: Option<u64>,
        namespace: Option<&str>,
        until: Instant,
    ) -> Result<OwnedSemaphorePermit, Busy> {
        let ordinary = length.filter(|length| *length <= ORDINARY);
        let units = ordinary.and_then(|length| u32::try_from(length.div_ceil(UNIT).max(1)).ok());
        if let Some(units) = units {
            return taken(&self.ordinary, units, until).await;
        }
        if let Ok(permit) = Arc::clone(&self.large).try_acquire_owned() {
            return Ok(permit);
        }
        if let Some(place) = place {
            self.step_aside(place, &self.shares.of(namespace))?;
        }
        taken(&self.large, 1, until).await
    }

    /// Lets others be worked on, because this review waits for large ones.
    fn step_aside(&self, place: &mut Place, share: &Arc<Share>) -> Result<(), Busy> {
        if place.aside.is_none() {
            let own = share.aside()?;
            let of_all = Arc::clone(&self.aside).try_acquire_owned().map_err(|_| Busy)?;
            place.aside = Some([own, of_all]);
            place.share = Some(Arc::clone(share));
        }
        place.lend();
        Ok(())
    }

    /// Waits for the turn of a review that got no place. `None` where there are too many.
    pub(crate) async fn turn_without_place(&self) -> Option<OwnedSemaphorePermit> {
        let turn = Arc::clone(&self.turns).acquire_owned();
        tokio::time::timeout(PATIENCE, turn).await.ok()?.ok()
    }

    /// Waits until a review of this many JSON values may be judged, until `latest`.
    ///
    /// # Errors
    /// There were too many large ones until then.
    pub(crate) async fn weigh(
        &self,
        place: &mut Place,
        values: usize,
        namespace: Option<&str>,
        latest: Instant,
    ) -> Result<(), Busy> {
        let heavy = values.saturating_sub(LIGHT).min(VALUES);
        let Ok(heavy @ 1..) = u32::try_from(heavy) else { return Ok(()) };
        let share = self.shares.of(namespace);
        // Its own part comes first: what waits for that stands in the way of no other namespace.
        let parts = [share.weight(), &self.weight];
        let mut taken_parts = parts.map(|part| Arc::clone(part).try_acquire_many_owned(heavy).ok());
        if taken_parts.iter().any(Option::is_none) {
            taken_parts = [None, None];
            let stepped = self.step_aside(place, &share);
            stepped.inspect_err(|_| self.gate.metrics.busy())?;
            for (part, own) in parts.into_iter().zip(&mut taken_parts) {
                let permit = taken(part, heavy, latest).await;
                *own = Some(permit.inspect_err(|_| self.gate.metrics.busy())?);
            }
        }
        place.weight = taken_parts;
        place.share = Some(share);
        Ok(())
    }
}

/// Takes some of what reviews share, before `until`.
async fn taken(
    shared: &Arc<Semaphore>,
    count: u32,
    until: Instant,
) -> Result<OwnedSemaphorePermit, Busy> {
    let permit = Arc::clone(shared).acquire_many_owned(count);
    // It is never closed.
    timeout_at(until, permit).await.ok().and_then(Result::ok).ok_or(Busy)
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn place(self: &Arc<Self>, latest: Instant) -> Result<Place, Busy> {
        let now = Instant::now();
        if now >= latest {
            return Err(Busy);
        }
        let (turn, mine) = oneshot::channel();
        let (number, given_up) = {
            let mut state = self.state();
            if state.waiting.is_empty() && state.has_place(self) {
                return Ok(self.taken(&mut state));
            }
            let number = state.next;
            state.next += 1;
            state.waiting.insert(number, Waiter { since: now, turn });
            let full = state.waiting.len() > self.waiting;
            let given_up = full.then(|| state.waiting.pop_first()).flatten();
            self.publish(&state);
            (number, given_up)
        };
        drop(given_up);
        self.metrics.waited();
        let left = Left { gate: self, number };
        let got = timeout_at(latest, mine).await;
        drop(left);
        match got {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(Busy),
        }
    }

    fn taken(self: &Arc<Self>, state: &mut State) -> Place {
        state.working += 1;
        state.held += 1;
        self.publish(state);
        Place {
            gate: Arc::clone(self),
            lent: AtomicBool::new(false),
            weight: [None, None],
            aside: None,
            share: None,
        }
    }

    /// Gives free places to those that wait.
    fn serve(self: &Arc<Self>) {
        loop {
            let (turn, place) = {
                let mut state = self.state();
                if !state.has_place(self) {
                    return;
                }
                let Some(waiter) = state.next_waiter() else { return };
                (waiter.turn, self.taken(&mut state))
            };
            // One that waits no longer gives the place back as it is dropped.
            drop(turn.send(place));
        }
    }

    fn publish(&self, state: &State) {
        self.metrics.reviews(state.held, state.waiting.len());
    }
}

impl State {
    fn has_place(&self, gate: &Gate) -> bool {
        self.working < gate.working && self.held < gate.held
    }

    fn next_waiter(&mut self) -> Option<Waiter> {
        let oldest = self.waiting.first_entry()?;
        if oldest.get().since.elapsed() < PATIENCE {
            return Some(oldest.remove());
        }
        self.waiting.pop_last().map(|(_, newest)| newest)
    }
}

/// Takes a review out of the queue, whatever ended its wait.
struct Left<'a> {
    gate: &'a Gate,
    number: u64,
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.waiting.remove(&self.number);
        self.gate.publish(&state);
    }
}

/// The place of one review that is worked on.
pub(crate) struct Place {
    gate: Arc<Gate>,
    lent: AtomicBool,
    /// Held for as long as the review is in memory: of the namespace's part, and of all.
    weight: [Option<OwnedSemaphorePermit>; 2],
    /// The same, for one that has waited because it is large.
    aside: Option<[OwnedSemaphorePermit; 2]>,
    /// The part of its namespace, which another review of the namespace finds for as long as this one is
    /// here.
    share: Option<Arc<Share>>,
}

impl Place {
    /// Lets another review be worked on, because this one waits for members, or for a body that does
    /// not arrive.
    pub(crate) fn lend(&self) {
        if !self.lent.swap(true, Ordering::Relaxed) {
            self.gate.state().working -= 1;
            self.gate.serve();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        {
            let mut state = self.gate.state();
            state.held -= 1;
            if !self.lent.load(Ordering::Relaxed) {
                state.working -= 1;
            }
            self.gate.publish(&state);
        }
        self.gate.serve();
    }
}

/// The way to the members, for a review that lends its place while it waits for them.
pub(crate) struct Lending {
    /// The way itself.
    pub(crate) inner: Arc<dyn MemberClient>,
    /// The place of the review.
    pub(crate) place: Arc<Place>,
}

impl MemberClient for Lending {
    fn exchange<'a>(
        &'a self,
        pod: &'a Address,
        request: RestRequest,
    ) -> BoxFuture<'a, Result<RestResponse, String>> {
        self.place.lend();
        self.inner.exchange(pod, request)
    }
}

#[cfg(test)]
pub(crate) mod tests;
