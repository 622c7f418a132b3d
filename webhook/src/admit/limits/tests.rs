use tokio::time::{advance, sleep};

use super::shares::OWN_ASIDE;
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
    for (namespace, values, fits) in
        [("a", VALUES, true), ("b", VALUES, true), ("c", VALUES, false), ("c", LIGHT, true)]
    {
        let latest = Instant::now() + WORK;
        let mut place = limits.place(latest).await.unwrap();
        let weighed = limits.weigh(&mut place, values, Some(namespace), latest).await;
        assert_eq!(weighed.is_ok(), fits, "{values}");
        places.push(place);
    }
    places.clear();
    let latest = Instant::now() + WORK;
    let mut place = limits.place(latest).await.unwrap();
    assert_eq!(limits.weigh(&mut place, usize::MAX, Some("a"), latest).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn large_reviews_that_wait_hold_no_place_and_are_few() {
    for by_length in [true, false] {
        let limits = limits(4, 128, 8);
        let latest = Instant::now() + TIME;
        let large = |namespace: &'static str| large(&limits, namespace, by_length, latest);
        // Both have all that large reviews share.
        let first = if by_length {
            vec![large("a").await]
        } else {
            vec![large("a").await, large("b").await]
        };
        let waiting = (0..ASIDE).map(|at| if at < ASIDE / 2 { "a" } else { "b" });
        let mut waiting: Vec<_> = waiting.map(|namespace| Box::pin(large(namespace))).collect();
        for one in &mut waiting {
            assert!(futures::poll!(one.as_mut()).is_pending());
        }
        let start = Instant::now();
        assert!(large("c").await.is_none(), "one more is answered at once");
        // Places beside those of the first ones.
        for _ in 0..3 * 100 {
            drop(limits.place(latest).await.unwrap());
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        // Each of them is judged in the end.
        assert!(first.iter().all(Option::is_some));
        drop(first);
        for one in waiting {
            assert!(one.await.is_some());
        }
        assert!(large("c").await.is_some());
        assert_eq!(gauge(&limits, "reviews_in_flight"), "0");
    }
}

/// Waits for what a large review needs: room for its body, or for its values.
async fn large(
    limits: &Limits,
    namespace: &str,
    by_length: bool,
    latest: Instant,
) -> Option<(Place, Option<OwnedSemaphorePermit>)> {
    let mut place = limits.place(latest).await.unwrap();
    if by_length {
        let room = limits.room(Some(&mut place), None, Some(namespace), latest).await;
        return Some((place, Some(room.ok()?)));
    }
    let weighed = limits.weigh(&mut place, usize::MAX, Some(namespace), latest).await;
    weighed.is_ok().then_some((place, None))
}

/// A namespace whose large reviews never end takes half of what they share, and of the wait for it.
#[tokio::test(start_paused = true)]
async fn large_reviews_of_one_namespace_leave_room_for_those_of_others() {
    for by_length in [true, false] {
        let limits = limits(4, 128, 8);
        let latest = Instant::now() + TIME;
        let large = |namespace: &'static str| large(&limits, namespace, by_length, latest);
        let first = large("greedy").await.unwrap();
        let mut waiting: Vec<_> = (0..OWN_ASIDE).map(|_| Box::pin(large("greedy"))).collect();
        for one in &mut waiting {
            assert!(futures::poll!(one.as_mut()).is_pending());
        }
        let start = Instant::now();
        assert!(large("greedy").await.is_none(), "one more is answered at once");
        let mut other = Box::pin(large("db"));
        if by_length {
            // One body at a time: the next turn after those that wait.
            assert!(futures::poll!(other.as_mut()).is_pending());
            drop(first);
            for one in waiting {
                drop(one.await.unwrap());
            }
            assert!(other.await.is_some());
        } else {
            assert!(other.await.is_some(), "its part is free, however many of the other wait");
            assert!(futures::poll!(waiting[0].as_mut()).is_pending());
            drop((first, waiting));
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(gauge(&limits, "reviews_in_flight"), "0");
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_wait_for_room_and_large_ones_for_each_other_only() {
    let limits = limits(1, 1, 1);
    let until = Instant::now() + WORK;
    let mut held = Vec::new();
    for _ in 0..ROOM as u64 * UNIT / ORDINARY {
        held.push(limits.room(None, Some(ORDINARY), None, until).await.unwrap());
    }
    assert_eq!(limits.room(None, Some(1), None, until).await.err(), Some(Busy));
    advance(WORK).await;
    let until = Instant::now() + WORK;
    let large = limits.room(None, Some(ORDINARY + 1), None, until).await.unwrap();
    assert_eq!(limits.room(None, None, None, until).await.err(), Some(Busy));
    drop((held, large));
    let until = Instant::now() + WORK;
    assert!(limits.room(None, None, None, until).await.is_ok());
    assert!(limits.room(None, Some(1), None, until).await.is_ok());
}
