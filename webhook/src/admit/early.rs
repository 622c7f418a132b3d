//! Refusals before anything of the cluster is read.
//!
//! A change that policies or the operator's limits refuse whatever the cluster's live state is, needs no
//! look at it ([`refused_unseen`]). What such a refusal rests on is read consistently: by a request that
//! began after the review arrived, or within the last second while a watch announced no change
//! ([`super::changes`]). So a policy that was relaxed a moment ago, and an override that was written a
//! moment ago, count. Nothing is admitted here: without a refusal, the look at everything decides, on
//! reads of its own.

use std::time::Duration;

use pgscale_guard::overrides::Overrides;
use pgscale_guard::read::{Age, Reader};
use pgscale_guard::rules::{refusable_unseen, refused_unseen};
use pgscale_guard::{Change, Policies};

use super::deadlines::Deadlines;
use super::decision::JudgedChange;

/// The most time for it. Then the look at everything goes on, with what was asked for until then.
const TIME: Duration = Duration::from_millis(250);

/// The readers of one early look.
///
/// What they read stays with them: the look at everything finds it there, and asks for none of it again.
pub(super) struct Early {
    /// Reads what is certainly not older than its last change.
    certain: Reader,
    /// Reads what may be a second old.
    recent: Reader,
}

impl Early {
    /// Returns the early look of a review, through a reader that shares answers.
    pub(super) fn of(reader: &Reader, deadlines: Deadlines) -> Self {
        let aged = |age| {
            let sharing = reader.sharing.as_ref().map(|sharing| sharing.aged(age));
            Reader { sharing, operators: reader.operators.aged(age), ..reader.clone() }
        };
        Self { certain: aged(Age::Unchanged(deadlines.arrived)), recent: aged(Age::Recent) }
    }

    /// Returns the policies that hold for a change.
    pub(super) async fn policies(&self, change: &Change) -> Policies {
        self.certain.policies(change).await
    }

    /// Returns the refusal of a change that no live fact can save. `None` where that is not certain in
    /// time.
    pub(super) async fn refusal(&self, change: &Change) -> Option<JudgedChange> {
        if !refusable_unseen(change) {
            return None;
        }
        let time = TIME.min(self.certain.deadline / 8);
        // Boxed: the state between these answers would make every caller's future large.
        tokio::time::timeout(time, Box::pin(self.look(change))).await.ok().flatten()
    }

    async fn look(&self, change: &Change) -> Option<JudgedChange> {
        let now = (self.certain.clock)();
        let mut policies = self.certain.policies(change).await;
        let mut operator = None;
        let refused = refused_unseen(change, now, &policies, None);
        if refused.is_none() {
            // Nearly every change passes the operator's limits: a guess by what was read for another
            // review spares it the wait for the operator alone.
            let guess = self.recent.operator(&change.new).await;
            refused_unseen(change, now, &policies, Some(guess.known()?))?;
            operator = Some(self.certain.operator(&change.new).await.known()?.clone());
        }
        policies.overrides = self.certain.overrides(&change.new).await;
        if policies.overrides.unreadable.is_some() {
            return None;
        }
        // Only overrides change what was judged before them, and nearly every cluster has none.
        let refused = refused.filter(|_| policies.overrides == Overrides::default());
        let (facts, verdict) = match refused {
            Some(refused) => refused,
            None => refused_unseen(change, now, &policies, operator.as_ref())?,
        };
        Some(JudgedChange { unseen: true, ..JudgedChange::new(&facts, &policies, verdict) })
    }
}
