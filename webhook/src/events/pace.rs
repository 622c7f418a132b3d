//! The pace of Events: what one namespace, and all together, may have written.
//!
//! Who may create clusters may have any number of them refused, each under another name, and
//! nothing of that is stored. Each Event is a write in the webhook's name, outside of that user's
//! own limits.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// The time in which a namespace earns one Event.
const EARNED_EACH: Duration = Duration::from_secs(2);
/// The Events that a namespace can have in a row.
const IN_A_ROW: u32 = 30;
/// The time in which all namespaces together earn one Event.
const ALL_EARNED_EACH: Duration = Duration::from_millis(100);
/// The Events that all can have in a row.
const ALL_IN_A_ROW: u32 = 200;

/// The Events that were written, as the time at which the last of them is paid for.
#[derive(Debug, Default)]
pub(super) struct Pace {
    by_namespace: HashMap<String, Instant>,
    all: Option<Instant>,
}

impl Pace {
    /// Returns whether an Event in `namespace` may be written at `now`, and counts it.
    pub(super) fn admits(&mut self, namespace: &str, now: Instant) -> bool {
        // What is paid for says no more than what was never written. By the pace of all, the rest
        // are a few hundred.
        self.by_namespace.retain(|_, paid| *paid > now);
        let own = after(self.by_namespace.get(namespace).copied(), now, EARNED_EACH);
        let all = after(self.all, now, ALL_EARNED_EACH);
        let admits =
            own <= now + EARNED_EACH * IN_A_ROW && all <= now + ALL_EARNED_EACH * ALL_IN_A_ROW;
        if admits {
            self.by_namespace.insert(namespace.to_owned(), own);
            self.all = Some(all);
        }
        admits
    }
}

/// Returns the time at which one more is paid for.
fn after(paid: Option<Instant>, now: Instant, each: Duration) -> Instant {
    paid.map_or(now, |paid| paid.max(now)) + each
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_that_is_refused_without_end_leaves_room_for_others() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let written = (0..6000).filter(|_| pace.admits("flood", start)).count();
        assert_eq!(written, 30);
        assert!(pace.admits("other", start));
        let later = start + Duration::from_secs(60);
        assert_eq!((0..100).filter(|_| pace.admits("flood", later)).count(), 30);
    }

    #[test]
    fn many_namespaces_are_held_to_the_pace_of_all_and_forgotten() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let written = (0..6000).filter(|it| pace.admits(&format!("n{it}"), start)).count();
        assert_eq!((written, pace.by_namespace.len()), (200, 200));
        assert!(pace.admits("later", start + Duration::from_secs(60)));
        assert_eq!(pace.by_namespace.len(), 1);
    }
}
