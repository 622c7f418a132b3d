//! The time without writes during a switchover, measured from here and not taken from any report.
//!
//! Both members are asked again and again while Patroni works. The pause is bounded from above. It
//! began no earlier than the last answer of the old leader that it takes writes, and it was over at
//! the first such answer of the new one.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pgscale_guard::patroni::{Answer, State};
use pgscale_guard::read::{Address, RestRequest};
use tokio::time::{Instant, sleep};

use crate::session::Session;

/// One look at one member.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    pod: String,
    asked: Instant,
    answered: Instant,
    /// The member ran as the primary.
    writable: bool,
}

/// The samples so far.
#[derive(Debug, Default)]
pub(super) struct Samples(Mutex<Vec<Sample>>);

impl Samples {
    /// Looks at both members until dropped.
    pub(super) async fn take(&self, session: &Session, old: &Address, new: &Address) -> Infallible {
        let (never, _) = futures::join!(self.watch(session, old), self.watch(session, new));
        never
    }

    async fn watch(&self, session: &Session, pod: &Address) -> Infallible {
        loop {
            let asked = Instant::now();
            let answer = session.ask.exchange(pod, RestRequest::get("/patroni")).await;
            let writable = answer.is_ok_and(|answer| takes_writes(&answer.body));
            let sample = Sample { pod: pod.pod.clone(), asked, answered: Instant::now(), writable };
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
            sleep(session.pace.sample).await;
        }
    }

    /// Returns the longest time for which writes may have stopped between the leaders `old` and
    /// `new`. `None` where either was not seen to take writes.
    pub(super) fn pause(&self, old: &str, new: &str) -> Option<Duration> {
        between(&self.0.lock().unwrap_or_else(PoisonError::into_inner), old, new)
    }
}

fn between(samples: &[Sample], old: &str, new: &str) -> Option<Duration> {
    let writable = |pod: &str| {
        let pod = pod.to_owned();
        samples.iter().filter(move |sample| sample.writable && sample.pod == pod)
    };
    let last = writable(old).map(|sample| sample.asked).max()?;
    let first = writable(new).map(|sample| sample.answered).min()?;
    Some(first.saturating_duration_since(last))
}

/// Returns whether PostgreSQL runs there, and not in recovery (`get_postgresql_status`,
/// patroni/api.py).
fn takes_writes(body: &str) -> bool {
    serde_json::from_str(body)
        .ok()
        .and_then(|value| Answer::of(&value))
        .is_some_and(|answer| answer.state == State::Running && answer.role.leads())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_is_bounded_from_above_by_what_was_seen() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let sample = |pod: &str, asked, answered, writable| Sample {
            pod: pod.to_owned(),
            asked: at(asked),
            answered: at(answered),
            writable,
        };
        let mut samples = vec![
            sample("old", 0, 20, true),
            sample("new", 0, 20, false),
            sample("old", 100, 130, true),
            sample("old", 200, 240, false),
            sample("new", 900, 950, false),
        ];
        assert_eq!(between(&samples, "old", "new"), None, "no member takes writes again yet");
        samples.push(sample("new", 1000, 1060, true));
        samples.push(sample("new", 1100, 1150, true));
        assert_eq!(between(&samples, "old", "new"), Some(Duration::from_millis(960)));
        assert_eq!(between(&samples, "old", "other"), None);
    }

    #[test]
    fn only_a_running_primary_takes_writes() {
        for (body, want) in [
            (r#"{"state":"running","role":"primary"}"#, true),
            (r#"{"state":"running","role":"master"}"#, true),
            (r#"{"state":"stopping","role":"primary"}"#, false),
            (r#"{"state":"running","role":"replica"}"#, false),
            ("no JSON", false),
        ] {
            assert_eq!(takes_writes(body), want, "{body}");
        }
    }
}
