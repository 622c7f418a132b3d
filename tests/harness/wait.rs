//! Waits for a condition, never for a time.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// The pause between two looks at the same condition.
const PAUSE: Duration = Duration::from_millis(100);

/// The result of one look at a condition.
#[derive(Debug)]
pub enum Attempt<T> {
    /// The condition holds. The value is the awaited one.
    Done(T),
    /// The condition does not hold yet. The text describes what was seen instead.
    NotYet(String),
}

/// Calls `look` until it returns [`Attempt::Done`].
///
/// # Errors
/// Fails when `look` itself fails, which ends the wait, or when `deadline` has passed: the error
/// then names the awaited condition `what` and what was seen last.
pub async fn until<T>(
    what: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Result<Attempt<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        match look().await? {
            Attempt::Done(found) => return Ok(found),
            Attempt::NotYet(seen) if start.elapsed() >= deadline => {
                bail!("waited {} s for {what}; last seen: {seen}", deadline.as_secs())
            }
            Attempt::NotYet(_) => sleep(PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn returns_what_was_found_as_soon_as_it_is_there() {
        let mut looks = 0;
        let found = until("three looks", Duration::from_secs(5), async || {
            looks += 1;
            Ok(if looks == 3 { Attempt::Done(looks) } else { Attempt::NotYet("early".into()) })
        });
        assert_eq!(found.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn names_what_was_waited_for_and_what_was_seen() {
        let error = until::<()>("a leader", Duration::ZERO, async || {
            Ok(Attempt::NotYet("two replicas".into()))
        });
        assert_eq!(
            error.await.unwrap_err().to_string(),
            "waited 0 s for a leader; last seen: two replicas"
        );
    }
}
