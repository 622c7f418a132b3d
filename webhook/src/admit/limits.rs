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

use super::budget::VALUES;
use crate::metrics::Metrics;

/// The most reviews that are worked on at the same time. Each makes up to 10 requests.
const WORKING: usize = 16;
/// The most reviews that are in memory, those included that wait for members only.
const HELD: usize = 128;
/// The most reviews that wait. One more makes the oldest give up, whose time is nearly over.
const WAITING: usize = 1024;
/// The most reviews without a place that look at the bounds at the same time.
const TURNS: usize = 8;
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

    /// Waits for the room that a body of this length needs until it is decoded. `None` for one
    /// whose length its sender does not say.
    ///
    /// # Errors
    /// There was none before `until`.
    pub(crate) async fn room(
        &self,
        length: Option<u64>,
        until: Instant,
    ) -> Result<OwnedSemaphorePermit, Busy> {
        let ordinary = length.filter(|length| *length <= ORDINARY);
        let permit = async {
            match ordinary.and_then(|length| u32::try_from(length.div_ceil(UNIT).max(1)).ok()) {
                Some(units) => Arc::clone(&self.ordinary).acquire_many_owned(units).await,
                None => Arc::clone(&self.large).acquire_owned().await,
            }
        };
        match timeout_at(until, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            // Neither is ever closed.
            Ok(Err(_)) | Err(_) => Err(Busy),
        }
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
        latest: Instant,
    ) -> Result<(), Busy> {
        let heavy = values.saturating_sub(LIGHT).min(WEIGHT);
        let Ok(heavy @ 1..) = u32::try_from(heavy) else { return Ok(()) };
        let weight = Arc::clone(&self.weight).acquire_many_owned(heavy);
        if let Ok(Ok(weight)) = timeout_at(latest, weight).await {
            place.weight = Some(weight);
            return Ok(());
        }
        self.gate.metrics.busy();
        Err(Busy)
    }
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
        Place { gate: Arc::clone(self), lent: AtomicBool::new(false), weight: None }
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
    /// Held for as long as the review is in memory.
    weight: Option<OwnedSemaphorePermit>,
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
pub(crate) mod tests {
    use tokio::time::{advance, sleep};

    use super::*;

    const WORK: Duration = Duration::from_millis(40);
    /// The time that a review may wait.
    const TIME: Duration = Duration::from_secs(8);

    fn limits(working: usize, held: usize, waiting: usize) -> Limits {
        Limits::of(working, held, waiting, Arc::new(Metrics::new()))
    }

    /// Returns a budget of few places, for tests of what waits for them.
    pub(crate) fn places(count: usize, metrics: Arc<Metrics>) -> Limits {
        Limits::of(count, count, WAITING, metrics)
    }

    /// Returns how one review ends, and after which time.
    async fn review(limits: Limits) -> (bool, Duration) {
        let start = Instant::now();
        let place = limits.place(start + TIME).await;
        if place.is_ok() {
            sleep(WORK).await;
        }
        (place.is_ok(), start.elapsed())
    }

    fn gauge(limits: &Limits, name: &str) -> String {
        let text = limits.gate.metrics.text();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("pgscale_{name} ")));
        line.unwrap_or("not there").to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn overload_costs_at_most_a_fifth_of_the_capacity() {
        // 4 places of 40 ms are 100 reviews a second, and 300 arrive.
        let limits = limits(4, 64, 1024);
        let mut reviews = Vec::new();
        for _ in 0..9000 {
            reviews.push(tokio::spawn(review(limits.clone())));
            sleep(Duration::from_micros(3333)).await;
        }
        let over = Instant::now();
        // Normal again at once: a new review does not wait for the old ones.
        for _ in 0..20 {
            let (judged, took) = review(limits.clone()).await;
            assert!(judged && took <= 3 * WORK, "{took:?}");
        }
        assert!(over.elapsed() < Duration::from_secs(3));
        let mut judged = 0;
        for ended in reviews {
            let (one, took) = ended.await.unwrap();
            judged += usize::from(one);
            assert!(took <= TIME + WORK, "{took:?}");
        }
        assert!(judged >= 2400, "{judged} of 3000 that it could judge in that time");
        assert_eq!(
            (gauge(&limits, "reviews_in_flight"), gauge(&limits, "reviews_waiting")),
            ("0".into(), "0".into())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn thousand_at_once_are_all_answered_in_time() {
        let limits = limits(4, 64, 512);
        let reviews: Vec<_> = (0..1000).map(|_| tokio::spawn(review(limits.clone()))).collect();
        let mut judged = 0;
        for ended in reviews {
            let (one, took) = ended.await.unwrap();
            judged += usize::from(one);
            assert!(took <= TIME + WORK, "{took:?}");
        }
        // 4 at once, and 512 that may wait.
        assert_eq!(judged, 516);
        assert_eq!(gauge(&limits, "reviews_busy_total"), "484");
    }

    #[tokio::test(start_paused = true)]
    async fn short_queue_is_served_in_order_and_a_long_one_from_its_new_end() {
        for (wait, want) in [(Duration::from_millis(10), "first"), (PATIENCE, "last")] {
            let limits = limits(1, 8, 8);
            let latest = Instant::now() + TIME;
            let held = limits.place(latest).await.unwrap();
            let named = |name: &'static str| {
                let limits = limits.clone();
                tokio::spawn(async move { limits.place(latest).await.map(|place| (name, place)) })
            };
            let (first, last) = (named("first"), named("last"));
            sleep(wait).await;
            drop(held);
            let (served, _place) = tokio::select! {
                first = first => first.unwrap().unwrap(),
                last = last => last.unwrap().unwrap(),
            };
            assert_eq!(served, want);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn review_that_gives_up_leaves_its_place_to_the_next() {
        let limits = limits(1, 8, 8);
        let latest = Instant::now() + TIME;
        let held = limits.place(latest).await.unwrap();
        let mut gone = Box::pin(limits.place(latest));
        assert!(futures::poll!(gone.as_mut()).is_pending());
        let mut next = Box::pin(limits.place(latest));
        assert!(futures::poll!(next.as_mut()).is_pending());
        // The place is sent to one that is not there to take it.
        drop(held);
        drop(gone);
        assert!(next.await.is_ok());
        assert_eq!(gauge(&limits, "reviews_in_flight"), "0");
        assert_eq!(gauge(&limits, "reviews_waiting"), "0");
        let late = limits.place(Instant::now()).await;
        assert_eq!(late.err(), Some(Busy), "its time is over already");
    }

    #[tokio::test(start_paused = true)]
    async fn review_that_waits_for_members_lends_its_place() {
        let limits = limits(1, 2, 8);
        let latest = Instant::now() + TIME;
        let first = limits.place(latest).await.unwrap();
        first.lend();
        first.lend();
        let second = limits.place(latest).await.unwrap();
        second.lend();
        // There is a place, and no room for a third review.
        let third = limits.place(Instant::now() + WORK).await;
        assert_eq!(third.err(), Some(Busy));
        drop((first, second));
        let held = limits.place(latest).await.unwrap();
        assert_eq!(limits.place(Instant::now() + WORK).await.err(), Some(Busy));
        drop(held);
        assert_eq!(gauge(&limits, "reviews_in_flight"), "0");
    }

    #[tokio::test(start_paused = true)]
    async fn large_reviews_wait_for_each_other_and_ordinary_ones_for_none() {
        let limits = limits(8, 8, 8);
        let mut places = Vec::new();
        for (values, fits) in [(VALUES, true), (VALUES, true), (VALUES, false), (LIGHT, true)] {
            let latest = Instant::now() + WORK;
            let mut place = limits.place(latest).await.unwrap();
            let weighed = limits.weigh(&mut place, values, latest).await;
            assert_eq!(weighed.is_ok(), fits, "{values}");
            places.push(place);
        }
        places.clear();
        let latest = Instant::now() + WORK;
        let mut place = limits.place(latest).await.unwrap();
        assert_eq!(limits.weigh(&mut place, usize::MAX, latest).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_wait_for_room_and_large_ones_for_each_other_only() {
        let limits = limits(1, 1, 1);
        let until = Instant::now() + WORK;
        let mut held = Vec::new();
        for _ in 0..ROOM as u64 * UNIT / ORDINARY {
            held.push(limits.room(Some(ORDINARY), until).await.unwrap());
        }
        assert_eq!(limits.room(Some(1), until).await.err(), Some(Busy));
        advance(WORK).await;
        let until = Instant::now() + WORK;
        let large = limits.room(Some(ORDINARY + 1), until).await.unwrap();
        assert_eq!(limits.room(None, until).await.err(), Some(Busy));
        drop((held, large));
        let until = Instant::now() + WORK;
        assert!(limits.room(None, until).await.is_ok());
        assert!(limits.room(Some(1), until).await.is_ok());
    }
}
