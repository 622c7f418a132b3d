//! The values that stay equal from one look at a cluster to the next: states without positions,
//! ages and counts of bytes.
//!
//! Two looks are compared by these values, and never by the texts that people read.

use pgscale_guard::facts::{Health, Problem, Waiting};

/// Returns the reason why a pod does not run, without the sentence: the scheduler counts nodes in
/// it, and the kubelet seconds.
pub(crate) fn waiting(waiting: &Waiting) -> Waiting {
    Waiting { message: None, ..waiting.clone() }
}

/// Returns a health without numbers, and without the reasons in words.
pub(crate) fn health(health: &Health) -> Health {
    match health {
        Health::Healthy => Health::Healthy,
        Health::Unhealthy(problems) => {
            Health::Unhealthy(problems.iter().cloned().map(problem).collect())
        }
        Health::Unknown(_) => Health::Unknown(String::new()),
    }
}

fn problem(problem: Problem) -> Problem {
    match problem {
        Problem::Behind(_) => Problem::Behind(0),
        Problem::PodNotRunning(_) => Problem::PodNotRunning(String::new()),
        Problem::ReplayBehind { limit, .. } => Problem::ReplayBehind { bytes: 0, limit },
        Problem::Silent(_) => Problem::Silent(String::new()),
        Problem::StoreUnreached(_) => Problem::StoreUnreached(0),
        Problem::Timeline { .. } => Problem::Timeline { own: 0, leader: 0 },
        same @ (Problem::Missing
        | Problem::NodeNotReady(_)
        | Problem::NoFailover
        | Problem::NotReplicating
        | Problem::NotRunning(_)
        | Problem::Rebuilding(_)
        | Problem::ReplayPaused
        | Problem::Terminating
        | Problem::WatchdogFailed
        | Problem::WrongRole) => same,
    }
}

#[cfg(test)]
mod tests {
    use pgscale_guard::facts::LagLimit;

    use super::*;

    #[test]
    fn only_values_that_differ_from_look_to_look_are_left_out() {
        let unhealthy = |problems: &[Problem]| health(&Health::Unhealthy(problems.to_vec()));
        let limit = LagLimit::Patroni;
        let behind =
            |bytes| unhealthy(&[Problem::Behind(bytes), Problem::ReplayBehind { bytes, limit }]);
        assert_eq!(behind(990), behind(1200));
        let silent = |why: &str| unhealthy(&[Problem::Silent(why.into())]);
        assert_eq!(silent("timed out"), silent("connection refused"));
        assert_ne!(behind(990), silent("timed out"));
        let rebuilding = |how: &str| unhealthy(&[Problem::Rebuilding(how.into())]);
        assert_ne!(rebuilding("creating replica"), rebuilding("stopped, without data"));
        let crash = |message: &str| Waiting {
            reason: Some("CrashLoopBackOff".into()),
            ..Waiting::from(message)
        };
        assert_eq!(waiting(&crash("back-off 20s")), waiting(&crash("back-off 40s")));
        assert_ne!(waiting(&crash("back-off 20s")), waiting(&Waiting::from("0/3 nodes")));
    }
}
