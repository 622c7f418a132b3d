//! The time to wait for a change where a person gives none: it follows the base backups that are
//! expected.
//!
//! A timeout ends only the wait, and the change goes on. So the time is generous: twice what the
//! copies should take, and the time of a change without any.

use std::time::Duration;

use pgscale_guard::Change;
use pgscale_guard::duration::human;
use pgscale_guard::facts::{Facts, Seen};
use pgscale_guard::postgresql::Postgresql;
use pgscale_guard::read::AskWhom;

use crate::impact::Impact;
use crate::session::Session;
use crate::status::Vitals;
use crate::terminal::text::bytes;

/// The time without a base backup, and the least.
pub(crate) const LEAST: Duration = Duration::from_secs(30 * 60);

/// The longest time.
const MOST: Duration = Duration::from_secs(24 * 60 * 60);

/// Bytes per second that a base backup is taken to reach. Most are faster. One that runs now and is
/// slower is believed.
const RATE: u64 = 20 << 20;

/// The time to wait, and its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    /// The time.
    pub(crate) limit: Duration,
    /// The number of base backups that are expected, and the bytes of each.
    copies: Option<(i64, u64)>,
}

impl Patience {
    /// Returns the time for so many base backups of `size` bytes, at the pace of one that runs now.
    /// All of them read from one leader, so it matters little whether they run together.
    fn expected(copies: i64, size: Option<u64>, pace: Option<u64>) -> Self {
        let Some(size) = size.filter(|_| copies > 0) else {
            return Self { limit: LEAST, copies: None };
        };
        let rate = pace.unwrap_or(RATE).clamp(1, RATE);
        let count = u64::try_from(copies).unwrap_or_default();
        let seconds = size.div_ceil(rate).saturating_mul(count).saturating_mul(2);
        let limit = LEAST.saturating_add(Duration::from_secs(seconds)).min(MOST);
        Self { limit, copies: Some((copies, size)) }
    }

    /// Returns the time for the change with this `impact`. Kept volumes count, too: a member may
    /// have to copy everything all the same.
    pub(crate) fn of_change(impact: Option<&Impact>) -> Self {
        let seeding = impact.and_then(|impact| impact.seeding.as_ref());
        let data = seeding.and_then(|seeding| seeding.data.as_ref().ok().copied());
        // No copy is larger than its volume.
        let volume = impact.and_then(|impact| impact.new_volume.as_ref().ok().copied().flatten());
        let pace = seeding.and_then(|seeding| seeding.pace.as_ref().ok().copied().flatten());
        Self::expected(seeding.map_or(0, |seeding| seeding.coming), data.or(volume), pace)
    }

    /// Returns the time for a change of `cluster` that was made before: for its members that have no
    /// pod, or are being built.
    pub(crate) async fn of_cluster(session: &Session, cluster: &Postgresql) -> Self {
        let count = cluster.instances.unwrap_or(0);
        let change = Change::of_count(cluster.clone(), count);
        let facts = session.reader.facts(change, AskWhom::AsNeeded).await;
        let copies = copies(&facts);
        if copies == 0 {
            return Self::expected(0, None, None);
        }
        let data = Vitals::ask(session, &facts, false).await.data.ok();
        Self::expected(copies, data.or_else(|| volume(&facts)), None)
    }

    /// Tells the person why the wait may be long.
    pub(crate) fn tell(self, session: &Session) {
        let Some((copies, size)) = self.copies.filter(|_| self.limit > LEAST) else { return };
        let (limit, size) = (human(self.limit), bytes(size));
        let copies = match copies {
            1 => format!("1 base backup of {size}"),
            copies => format!("{copies} base backups of {size} each"),
        };
        session.out.note(&format!("waiting for {limit} at most: {copies} may be needed"));
    }
}

/// Returns the number of members that have to copy everything, or may have to.
fn copies(facts: &Facts) -> i64 {
    let building = facts.survivors().filter(|it| facts.rebuilding(it).is_some()).count();
    let missing = facts.pods_to_come(facts.to()).unwrap_or(0);
    missing.saturating_add(i64::try_from(building).unwrap_or(i64::MAX))
}

/// Returns the bytes of the largest volume of the cluster.
fn volume(facts: &Facts) -> Option<u64> {
    let claims = match &facts.claims {
        Seen::Known(claims) => claims.as_slice(),
        Seen::Absent | Seen::Unreadable(_) => &[],
    };
    claims.iter().filter_map(|claim| claim.capacity).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_timeout_follows_the_expected_base_backup_within_bounds() {
        let minutes =
            |copies, size, pace| Patience::expected(copies, size, pace).limit.as_secs() / 60;
        let gib = |count: u64| Some(count << 30);
        assert_eq!(minutes(0, gib(500), None), 30, "nothing is copied");
        assert_eq!(minutes(1, None, None), 30, "the size is not known");
        assert_eq!(minutes(1, gib(1), None), 31);
        // 100 GiB at 20 MiB/s take 85 minutes.
        assert_eq!(minutes(1, gib(100), None), 200);
        assert_eq!(minutes(2, gib(100), None), 371, "both read from one leader");
        assert_eq!(minutes(1, gib(100), Some(200 << 20)), 200, "a fast one may become slow");
        assert_eq!(minutes(1, gib(100), Some(10 << 20)), 371, "a slow one is believed");
        assert_eq!(minutes(1, gib(100_000), None), 24 * 60);
        assert_eq!(minutes(i64::MAX, Some(u64::MAX), Some(0)), 24 * 60);
    }
}
