//! What an interruption means: the end of the program, or only of a wait.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::error::{Failure, Kind};

/// The state that an interruption now would leave behind. The code that acts keeps it up to date.
#[derive(Clone, Default)]
pub(crate) struct Interruption {
    meaning: Arc<Mutex<Option<Failure>>>,
    waits: Arc<Waits>,
}

/// The waits that an interruption ends instead of the program.
#[derive(Default)]
struct Waits {
    open: AtomicUsize,
    ended: Notify,
}

impl Interruption {
    /// Returns one that shares the waits, with a meaning of its own.
    pub(super) fn beside(&self) -> Self {
        Self { meaning: Arc::default(), waits: Arc::clone(&self.waits) }
    }

    /// Sets the state that an interruption leaves behind from now on.
    pub(crate) fn means(&self, what: impl Into<String>) {
        self.is(Failure::new(Kind::Interrupted, what));
    }

    /// Sets the failure that an interruption is from now on.
    pub(crate) fn is(&self, failure: Failure) {
        *self.meaning.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }

    /// Returns the failure that an interruption is now; nothing was changed where no code said otherwise.
    pub(crate) fn failure(&self) -> Failure {
        let failure = self.meaning.lock().unwrap_or_else(PoisonError::into_inner).clone();
        failure
            .unwrap_or_else(|| Failure::new(Kind::Interrupted, "interrupted; nothing was changed"))
    }

    /// Waits, and returns whether an interruption ended the wait. The program goes on then.
    pub(crate) async fn ends_only(&self, wait: impl Future<Output = ()>) -> bool {
        let _open = Open::of(&self.waits);
        tokio::select! {
            () = wait => false,
            () = self.waits.ended.notified() => true,
        }
    }

    /// Ends the waits that are open, and returns whether there was one.
    pub(crate) fn ended_a_wait(&self) -> bool {
        let waited = self.waits.open.load(Ordering::SeqCst) > 0;
        self.waits.ended.notify_waiters();
        waited
    }
}

/// An open wait, however it ends.
struct Open<'a>(&'a Waits);

impl<'a> Open<'a> {
    fn of(waits: &'a Waits) -> Self {
        waits.open.fetch_add(1, Ordering::SeqCst);
        Self(waits)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn interruption_ends_an_open_wait_and_else_the_program() {
        let interruption = Interruption::default();
        assert!(!interruption.ended_a_wait());
        let other = interruption.beside();
        let (waited, ended) =
            futures::join!(other.ends_only(sleep(Duration::from_secs(60))), async {
                sleep(Duration::from_secs(1)).await;
                interruption.ended_a_wait()
            });
        assert!(waited && ended);
        assert!(!interruption.ends_only(sleep(Duration::from_secs(1))).await);
        assert!(!interruption.ended_a_wait());
    }
}
