//! The look after what was reserved: it is released as soon as it is decided.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use pgscale_guard::ledger::{Heal, Ledger, Step, Stored};
use pgscale_guard::read::machine_time;
use tokio::time::Instant;

use super::edge::Written;
use super::{COURSE_TIME, Ledgers, Terms};
use crate::admit::internal;

/// The most steps of one look.
const STEPS: usize = 8;
/// The time after a reservation for which this process looks itself. Beyond the time of a fence.
const LOOKED_FOR: Duration = Duration::from_secs(15);

/// Returns the time until the next look, by the time since the last reservation. Most changes are
/// stored at once, and a fence is due after ten seconds.
fn pause(since: Duration) -> Duration {
    Duration::from_secs(if since < Duration::from_secs(2) { 1 } else { 2 })
}

impl Ledgers {
    /// Looks at a namespace again after a reservation, until nothing there is undecided.
    pub(super) fn look_after(&self, namespace: &str, terms: &Terms) {
        let mut spaces = self.spaces();
        let space = spaces.entry(namespace.to_owned()).or_default();
        space.reserved = Some(Instant::now());
        if !space.healing {
            space.healing = true;
            tokio::spawn(self.clone().keep_looking(namespace.to_owned(), terms.clone()));
        }
    }

    async fn keep_looking(self, namespace: String, terms: Terms) {
        loop {
            let reserved = self.spaces().get(&namespace).and_then(|space| space.reserved);
            let since = reserved.map_or(LOOKED_FOR, |when| when.elapsed());
            tokio::time::sleep(pause(since)).await;
            let looked = AssertUnwindSafe(self.heal(&namespace, &terms)).catch_unwind().await;
            let decided = match looked {
                Ok(Ok(ledger)) => ledger.is_some_and(|ledger| ledger.undecided().next().is_none()),
                Ok(Err(why)) => {
                    tracing::warn!(namespace, why, "could not look after its budget");
                    false
                }
                Err(panic) => {
                    tracing::error!(namespace, why = internal(panic.as_ref()), "the look failed");
                    false
                }
            };
            let mut spaces = self.spaces();
            let Some(space) = spaces.get_mut(&namespace) else { return };
            let newer = space.reserved != reserved;
            let over = space.reserved.is_none_or(|when| when.elapsed() > LOOKED_FOR);
            // What is left is for the look at all ledgers.
            if !newer && (decided || over) {
                (space.healing, space.reserved) = (false, None);
                return;
            }
        }
    }

    /// Takes in what was decided in a namespace, and fences what is overdue. Returns the ledger as
    /// it is then; `None` where another write came first.
    pub(in crate::admit) async fn heal(
        &self,
        namespace: &str,
        terms: &Terms,
    ) -> Result<Option<Ledger>, String> {
        let look = self.heal_once(namespace, terms);
        let looked = tokio::time::timeout(COURSE_TIME, look).await;
        let ledger = looked.map_err(|_| "the API server did not answer in time".to_owned())??;
        if let Some(ledger) = &ledger {
            let now = machine_time();
            self.metrics.budget(namespace, terms.budget, ledger.totals(), ledger.oldest(now));
        }
        Ok(ledger)
    }

    async fn heal_once(&self, namespace: &str, terms: &Terms) -> Result<Option<Ledger>, String> {
        let edge = self.edge(namespace);
        let before = edge.read().await?;
        let known = before.as_ref().map(|stored| stored.ledger.clone());
        let mut heal = Heal::of(before, terms.basis.clone());
        for _ in 0..STEPS {
            match heal.next(machine_time()) {
                Step::List => heal.listed(edge.list().await?),
                Step::Fence(fences) => heal.fenced(edge.fence(fences).await?),
                Step::Write { ledger, replaces } => {
                    return match edge.write_ledger(ledger.clone(), terms.budget, replaces).await? {
                        Written::Version(version) => {
                            let stored = Stored { ledger: ledger.clone(), version };
                            self.remember(namespace, Some(stored));
                            Ok(Some(ledger))
                        }
                        Written::Conflict => {
                            self.metrics.budget_conflict();
                            Ok(None)
                        }
                    };
                }
                Step::Done => return Ok(known),
            }
        }
        Ok(None)
    }
}
