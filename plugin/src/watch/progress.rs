//! Where everybody who is not in their place stands, for how long, and what to look at next.

use std::collections::{BTreeMap, BTreeSet};

use pgscale_guard::object_ref::ObjectRef;
use tokio::time::Instant;

use super::phase::Phase;
use super::{Goal, Snapshot, converged};

/// Where somebody stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// A member in a phase that is not the last.
    At(Phase),
    /// The cluster as a whole lacks this.
    Cluster(String),
    /// A member without a pod.
    NoPod,
}

impl Progress {
    /// In words.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::At(phase) => phase.to_string(),
            Self::Cluster(what) => what.clone(),
            Self::NoPod => "no pod yet".to_owned(),
        }
    }

    /// The command that tells more: `subject` is the member, or the cluster.
    pub(crate) fn command(
        &self,
        goal: &Goal,
        subject: &str,
        operator: Option<&ObjectRef>,
    ) -> String {
        let Goal { namespace, name, .. } = goal;
        let logs = |more: &str| format!("kubectl logs {subject} -n {namespace} -c postgres {more}");
        match self {
            Self::NoPod => format!("kubectl describe statefulset {name} -n {namespace}"),
            Self::Cluster(_) => match operator {
                Some(operator) => {
                    let place = operator.namespace.as_deref().unwrap_or(namespace);
                    format!("kubectl logs {} -n {place} --tail=50", operator.argument())
                }
                None => format!("kubectl describe postgresql {name} -n {namespace}"),
            },
            Self::At(Phase::Created(Some(why)))
                if why.contains("CrashLoopBackOff") || why.contains("exit code") =>
            {
                logs("--previous --tail=50")
            }
            Self::At(Phase::Created(_) | Phase::Stopping) => {
                format!("kubectl describe pod {subject} -n {namespace}")
            }
            Self::At(Phase::Streaming | Phase::InService(_)) => format!(
                "kubectl get endpointslices -n {namespace} -l kubernetes.io/service-name={name}-repl"
            ),
            Self::At(Phase::Behind(_) | Phase::Cloning | Phase::Configured | Phase::Started) => {
                logs("--tail=50")
            }
        }
    }
}

/// Everybody who is not in their place, by name; what the cluster lacks as a whole is under its own name.
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

/// How long everybody has stood where they stand.
#[derive(Debug, Default)]
pub(crate) struct Stands(BTreeMap<String, Stand>);

/// How long one has.
#[derive(Debug)]
pub(crate) struct Stand {
    /// Where.
    pub(crate) progress: Progress,
    /// Looks since anything moved.
    pub(crate) looks: u32,
    /// Since when it stands here, moving or not.
    pub(crate) since: Instant,
}

impl Stands {
    /// Takes one look into account. Those in `moved` go on although they stand where they stood.
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

    /// All of them, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Stand)> {
        self.0.iter()
    }

    /// How long `subject` has stood where it stands.
    pub(crate) fn get(&self, subject: &str) -> Option<&Stand> {
        self.0.get(subject)
    }
}

#[cfg(test)]
mod tests {
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
    fn every_standing_has_a_command_that_tells_more() {
        let goal = Goal { namespace: "db".into(), name: "acid-a".into(), ..Goal::default() };
        let created = |why: &str| Progress::At(Phase::Created(Some(why.into())));
        let operator =
            ObjectRef::new(Kind::Deployment, "postgres-operator").in_namespace("zalando");
        let lack = Progress::Cluster("the operator has not acted yet".into());
        for (progress, want) in [
            (Progress::NoPod, "kubectl describe statefulset acid-a -n db"),
            (created("0/3 nodes are available"), "kubectl describe pod acid-a-3 -n db"),
            (
                created("container postgres: CrashLoopBackOff"),
                "kubectl logs acid-a-3 -n db -c postgres --previous --tail=50",
            ),
            (Progress::At(Phase::Cloning), "kubectl logs acid-a-3 -n db -c postgres --tail=50"),
            (
                Progress::At(Phase::Streaming),
                "kubectl get endpointslices -n db -l kubernetes.io/service-name=acid-a-repl",
            ),
            (lack.clone(), "kubectl logs deployment/postgres-operator -n zalando --tail=50"),
        ] {
            assert_eq!(progress.command(&goal, "acid-a-3", Some(&operator)), want);
        }
        assert_eq!(lack.command(&goal, "acid-a", None), "kubectl describe postgresql acid-a -n db");
    }
}
