//! The positions of all members that have not settled, the time spent there, and the next command
//! to look at.

use std::collections::{BTreeMap, BTreeSet};

use pgscale_guard::object_ref::ObjectRef;
use pgscale_guard::remedy::Command;
use tokio::time::Instant;

use super::leaving::Leaving;
use super::phase::Phase;
use super::{Goal, Lack, Snapshot, converged};

/// The position of a member or of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// A member in a phase that is not the last.
    At(Phase),
    /// The cluster as a whole with this lack.
    Cluster(Lack),
    /// A member without a pod.
    NoPod,
}

impl Progress {
    /// Returns the position in words.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::At(phase) => phase.to_string(),
            Self::Cluster(lack) => lack.to_string(),
            Self::NoPod => "no pod yet".to_owned(),
        }
    }

    /// Returns the command that shows more. `subject` is the member, or the cluster.
    pub(crate) fn command(
        &self,
        goal: &Goal,
        subject: &str,
        operator: Option<&ObjectRef>,
    ) -> Command {
        let Goal { namespace, name, .. } = goal;
        let here = |words: &[&str]| Command::kubectl([words, &["-n", namespace]].concat());
        let logs = |more: &[&str]| {
            here(&[&["logs", subject, "-c", "postgres"], more, &["--tail=50"]].concat())
        };
        match self {
            Self::NoPod => here(&["describe", "statefulset", name]),
            Self::Cluster(_) | Self::At(Phase::Leaving(Leaving::NotActed(_))) => match operator {
                Some(operator) => {
                    let place = operator.namespace.as_deref().unwrap_or(namespace);
                    Command::kubectl(["logs", &operator.argument(), "--tail=50", "-n", place])
                }
                None => here(&["describe", "postgresql", name]),
            },
            Self::At(Phase::Leaving(leaving)) => {
                here(&["describe", "pod", leaving.waits_for().unwrap_or(subject)])
            }
            Self::At(Phase::Created(Some(why))) if why.crashes() => logs(&["--previous"]),
            Self::At(Phase::Created(_) | Phase::Stopping) => here(&["describe", "pod", subject]),
            Self::At(Phase::Streaming | Phase::InService(_)) => {
                let slices = format!("kubernetes.io/service-name={name}-repl");
                here(&["get", "endpointslices", "-l", &slices])
            }
            Self::At(Phase::Behind(_) | Phase::Cloning | Phase::Configured | Phase::Started) => {
                logs(&[])
            }
        }
    }
}

/// Returns the positions of all members that have not settled, by name. The lacks of the cluster as
/// a whole are under its own name.
pub(crate) fn progress_of_all(
    goal: &Goal,
    snapshot: &Snapshot,
    phases: &BTreeMap<String, Phase>,
) -> BTreeMap<String, Progress> {
    let facts = &snapshot.facts;
    let mut progress_of_all: BTreeMap<String, Progress> = phases
        .iter()
        .filter(|(_, phase)| !matches!(phase, Phase::InService(_)))
        .map(|(name, phase)| (name.clone(), Progress::At(phase.clone())))
        .collect();
    let (absent, _) = converged::absent(goal, facts);
    progress_of_all.extend(absent.into_iter().map(|name| (name, Progress::NoPod)));
    if let Some(lack) = converged::of_the_whole(facts).into_iter().next() {
        progress_of_all.insert(goal.name.clone(), Progress::Cluster(lack));
    }
    progress_of_all
}

/// The time that each subject has spent at its position.
#[derive(Debug, Default)]
pub(crate) struct Stands(BTreeMap<String, Stand>);

/// The time that one subject has spent at its position.
#[derive(Debug)]
pub(crate) struct Stand {
    /// The position.
    pub(crate) progress: Progress,
    /// Looks since the last move.
    pub(crate) looks: u32,
    /// The time since which it is here, moving or not.
    pub(crate) since: Instant,
}

impl Stands {
    /// Takes one look into account. Subjects in `moved` make progress although their position is
    /// the same.
    pub(crate) fn observe(&mut self, now: BTreeMap<String, Progress>, moved: &BTreeSet<String>) {
        let mut before = std::mem::take(&mut self.0);
        for (subject, progress) in now {
            let stand = match before.remove(&subject) {
                Some(stand) if stand.progress == progress => {
                    let looks = if moved.contains(&subject) { 0 } else { stand.looks + 1 };
                    Stand { looks, ..stand }
                }
                Some(_) | None => Stand { progress, looks: 0, since: Instant::now() },
            };
            self.0.insert(subject, stand);
        }
    }

    /// Returns all of them, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Stand)> {
        self.0.iter()
    }

    /// Returns the position of `subject`, with the time spent there.
    pub(crate) fn get(&self, subject: &str) -> Option<&Stand> {
        self.0.get(subject)
    }
}

#[cfg(test)]
mod tests {
    use pgscale_guard::facts::Waiting;
    use pgscale_guard::object_ref::Kind;

    use super::*;

    #[test]
    fn looks_count_until_something_moves() {
        let mut stands = Stands::default();
        let cloning = || BTreeMap::from([("acid-a-3".to_owned(), Progress::At(Phase::Cloning))]);
        let moved = BTreeSet::from(["acid-a-3".to_owned()]);
        let mut seen = Vec::new();
        for (now, moved) in [
            (cloning(), &BTreeSet::new()),
            (cloning(), &BTreeSet::new()),
            (cloning(), &moved),
            (cloning(), &BTreeSet::new()),
            (BTreeMap::from([("acid-a-3".to_owned(), Progress::NoPod)]), &BTreeSet::new()),
            (BTreeMap::new(), &BTreeSet::new()),
        ] {
            stands.observe(now, moved);
            seen.push(stands.get("acid-a-3").map(|stand| stand.looks));
        }
        assert_eq!(seen, [Some(0), Some(1), Some(0), Some(1), Some(0), None]);
    }

    #[test]
    fn every_position_has_a_command_that_shows_more() {
        let goal = Goal { namespace: "db".into(), name: "acid-a".into(), ..Goal::default() };
        let created = |why: Waiting| Progress::At(Phase::Created(Some(why)));
        let reason = Some("CrashLoopBackOff".to_owned());
        let operator =
            ObjectRef::new(Kind::Deployment, "postgres-operator").in_namespace("zalando");
        let lack = Progress::Cluster(Lack::NoLeader);
        for (progress, want) in [
            (Progress::NoPod, "kubectl describe statefulset acid-a -n db"),
            (created("0/3 nodes are available".into()), "kubectl describe pod acid-a-3 -n db"),
            (
                created(Waiting { reason, ..Waiting::default() }),
                "kubectl logs acid-a-3 -c postgres --previous --tail=50 -n db",
            ),
            (
                created(Waiting { exit_code: Some(1), ..Waiting::default() }),
                "kubectl logs acid-a-3 -c postgres --previous --tail=50 -n db",
            ),
            (Progress::At(Phase::Cloning), "kubectl logs acid-a-3 -c postgres --tail=50 -n db"),
            (
                Progress::At(Phase::Streaming),
                "kubectl get endpointslices -l kubernetes.io/service-name=acid-a-repl -n db",
            ),
            (lack.clone(), "kubectl logs deployment/postgres-operator --tail=50 -n zalando"),
        ] {
            let command = progress.command(&goal, "acid-a-3", Some(&operator));
            assert_eq!(command.to_string(), want);
        }
        let command = lack.command(&goal, "acid-a", None);
        assert_eq!(command.to_string(), "kubectl describe postgresql acid-a -n db");
    }
}
