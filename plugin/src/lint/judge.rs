//! The verdict on each manifest, by what is known about its cluster.

use k8s_openapi::jiff::Timestamp;
use pgscale_guard::facts::Facts;
use pgscale_guard::postgresql::Postgresql;
use pgscale_guard::read::AskWhom;
use pgscale_guard::rules::judge_offline;
use pgscale_guard::verdict::Finding;
use pgscale_guard::{Change, Policies, evaluate};
use serde_json::Value;

use super::current::{Current, patched};
use super::manifest::Document;
use super::merge::{applied, checked_count};
use super::objects::{Laws, Manifest, Objects};
use super::recorded::Recorded;
use super::{Checked, Problem, Report, Said};
use crate::error::Failure;
use crate::session::Session;

/// What a manifest was compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Basis {
    /// Nothing: it was judged as a new cluster.
    Nothing,
    /// The objects in a file.
    Stored,
    /// The manifests of another revision.
    Revision,
    /// A record of this time.
    Recorded(Timestamp),
    /// The cluster itself.
    Live,
}

/// Everything that manifests are judged by.
pub(crate) struct Lint<'a> {
    /// The present time, or the time that was asked for.
    pub(crate) now: Timestamp,
    /// The state before.
    pub(crate) current: Current,
    /// The records of clusters.
    pub(crate) recorded: Vec<Recorded>,
    /// Patches of the current state.
    pub(crate) patches: Vec<Document>,
    /// The count that records are judged for, where no manifest is.
    pub(crate) to: Option<i64>,
    /// The session that reads the rest.
    pub(crate) live: Option<&'a Session>,
}

/// Judges the clusters of `objects`.
///
/// # Errors
/// With a session: the API server could not be asked at all.
pub(crate) async fn check(lint: &Lint<'_>, objects: &Objects) -> Result<Report, Failure> {
    let mut report = Report {
        problems: objects.problems.clone(),
        strangers: objects.strangers.clone(),
        others: objects.others,
        policies: objects.laws.policies(),
        ..Report::default()
    };
    let mut manifests = objects.clusters.clone();
    for patch in &lint.patches {
        match patched(&lint.patched(), patch) {
            Ok(manifest) => manifests.push(manifest),
            Err(problem) => report.problems.push(problem),
        }
    }
    if manifests.is_empty() && lint.patches.is_empty() {
        report.clusters.extend(lint.recorded.iter().map(|it| replayed(it, lint.to)));
    }
    let unused =
        lint.recorded.iter().filter(|it| !manifests.is_empty() && !it.is_of_any(&manifests));
    report.notes.extend(unused.map(|it| {
        Problem::new(
            it.place.clone(),
            "no manifest is of the cluster in this record, so it is not used",
        )
    }));
    if let Err(problem) = objects.laws.operator() {
        report.problems.push(problem);
    }
    for manifest in &manifests {
        match one(lint, &objects.laws, manifest).await? {
            Ok(checked) => report.clusters.push(checked),
            Err(problem) => report.problems.push(problem),
        }
    }
    report.clusters.extend(lint.current.removed(&manifests).map(removed));
    Ok(report)
}

impl Lint<'_> {
    /// Returns the state that patches are for.
    fn patched(&self) -> Current {
        match &self.current {
            Current::Unknown if !self.recorded.is_empty() => {
                Current::Stored(self.recorded.iter().map(Recorded::manifest).collect())
            }
            known @ (Current::Unknown | Current::Stored(_) | Current::Revision(_)) => known.clone(),
        }
    }
}

async fn one(
    lint: &Lint<'_>,
    laws: &Laws,
    manifest: &Manifest,
) -> Result<Result<Checked, Problem>, Failure> {
    let recorded = lint.recorded.iter().find(|it| it.is_of(&manifest.namespace, &manifest.name));
    Ok(match (lint.live, recorded) {
        (Some(session), _) => live(session, laws, manifest).await?,
        (None, Some(recorded)) => by_record(recorded, laws, manifest),
        (None, None) => offline(lint, laws, manifest),
    })
}

/// Judges a manifest by what is in files.
fn offline(lint: &Lint<'_>, laws: &Laws, manifest: &Manifest) -> Result<Checked, Problem> {
    let before = lint.current.before(manifest)?;
    let (object, basis) = match (&lint.current, before) {
        (Current::Stored(_), Some(live)) => {
            (applied(live, &manifest.document.value), Basis::Stored)
        }
        (Current::Revision(_), Some(_)) => (manifest.document.value.clone(), Basis::Revision),
        (_, _) => (manifest.document.value.clone(), Basis::Nothing),
    };
    let change = change(before, &object, manifest)?;
    let mut policies = laws.written(&manifest.namespace).of(&change);
    policies.overrides = laws.overrides(&manifest.namespace, &manifest.name);
    let unchanged = !change.may_change_count();
    let from = change.old.as_ref().map(|old| old.instances.unwrap_or(0));
    let to = change.new.instances;
    let mut notes = Vec::new();
    if basis == Basis::Nothing {
        notes.push(match &lint.current {
            Current::Unknown => {
                "no current state was given, so it is judged as a new cluster: steps, freezes and \
                                 windows need --current, --diff, --facts or --live"
                    .to_owned()
            }
            Current::Stored(_) => {
                "it is not in the current state, so it is judged as a new cluster".to_owned()
            }
            Current::Revision(_) => {
                "it is not in the other revision, so it is judged as a new cluster".to_owned()
            }
        });
    }
    let operator = laws.operator().unwrap_or_default();
    if operator.is_none() && !unchanged {
        notes.push(
            "the operator's own limits are not known, so the written counts are judged: --operator-config gives them"
                .to_owned(),
        );
    }
    let judged = judge_offline(change, lint.now, &policies, operator);
    let findings = spoken(judged.verdict.findings);
    let checked = Checked {
        namespace: manifest.namespace.clone(),
        name: manifest.name.clone(),
        place: manifest.document.count_place(),
        from,
        to,
        basis,
        said: Said::SoFar,
        findings,
        certain: judged.certain,
        not_judged: judged.not_judged,
        notes,
    };
    if unchanged {
        let (findings, certain, not_judged) = (Vec::new(), Vec::new(), Vec::new());
        return Ok(Checked { said: Said::Unchanged, findings, certain, not_judged, ..checked });
    }
    let refused = checked.denials().next().is_some();
    Ok(Checked { said: if refused { Said::Refused } else { Said::SoFar }, ..checked })
}

/// Judges a manifest as it would be judged in the recorded cluster, at that time.
fn by_record(recorded: &Recorded, laws: &Laws, manifest: &Manifest) -> Result<Checked, Problem> {
    let before = recorded.manifest().document.value;
    let (object, kept) = recorded.after(applied(&before, &manifest.document.value));
    let new = change(Some(&before), &object, manifest)?.new;
    let mut snapshot = recorded.snapshot.changed_to(recorded.completed(new));
    snapshot.policies = laws.beside(snapshot.policies, &manifest.namespace);
    let own = laws.overrides(&manifest.namespace, &manifest.name);
    snapshot.overrides.granted.extend(own.granted);
    snapshot.overrides.undecodable.extend(own.undecodable);
    let (facts, policies) = snapshot.replay();
    let mut checked = whole(&facts, &policies, Basis::Recorded(facts.now));
    checked.place = manifest.document.count_place();
    if kept > 0 {
        checked.notes.push(format!(
            "{kept} values stand where the record has a redacted secret, and are taken as unchanged"
        ));
    }
    Ok(checked)
}

/// Judges the recorded change again, or a change to the count `to`.
fn replayed(recorded: &Recorded, to: Option<i64>) -> Checked {
    let snapshot = match to {
        Some(to) => recorded.snapshot.changed_to(recorded.snapshot.cluster().with_instances(to)),
        None => recorded.snapshot.clone(),
    };
    let (facts, policies) = snapshot.replay();
    Checked {
        place: recorded.place.clone(),
        ..whole(&facts, &policies, Basis::Recorded(facts.now))
    }
}

/// Judges a manifest in the cluster itself.
async fn live(
    session: &Session,
    laws: &Laws,
    manifest: &Manifest,
) -> Result<Result<Checked, Problem>, Failure> {
    let Manifest { namespace, name, document } = manifest;
    let asked = format!("read postgresql {namespace}/{name}");
    let before = session.clusters(namespace).get_opt(name).await;
    let before = before.map_err(|error| Failure::of_kube(&error, &asked))?;
    let before = before.map(|it| serde_json::to_value(it).unwrap_or_default());
    let object = match &before {
        Some(before) => applied(before, &document.value),
        None => document.value.clone(),
    };
    let change = match change(before.as_ref(), &object, manifest) {
        Ok(change) => change,
        Err(problem) => return Ok(Err(problem)),
    };
    let written = laws.beside(session.reader.written_policies(namespace).await, namespace);
    let mut policies = written.of(&change);
    policies.overrides = session.reader.overrides(&change.new).await;
    let own = laws.overrides(namespace, name);
    policies.overrides.granted.extend(own.granted);
    policies.overrides.undecodable.extend(own.undecodable);
    let facts = session.reader.facts(change, AskWhom::All).await;
    let checked = whole(&facts, &policies, Basis::Live);
    Ok(Ok(Checked { place: document.count_place(), ..checked }))
}

/// Judges a change of which everything was read.
fn whole(facts: &Facts, policies: &Policies, basis: Basis) -> Checked {
    let change = &facts.change;
    let verdict = evaluate(facts, policies);
    // Not one of them is assumed: a client may lack the permission to read nearly everything.
    let unread: Vec<_> =
        verdict.unjudged().map(|finding| (finding.rule, finding.message.clone())).collect();
    let checked = Checked {
        namespace: change.new.namespace.clone(),
        name: change.new.name.clone(),
        place: super::Place::file(""),
        from: change.old.as_ref().map(|old| old.instances.unwrap_or(0)),
        to: change.new.instances,
        basis,
        said: match verdict.allows() {
            true if unread.is_empty() => Said::Allowed,
            true => Said::SoFar,
            false => Said::Refused,
        },
        certain: verdict.denials().map(|finding| finding.rule).collect(),
        findings: spoken(verdict.findings),
        not_judged: unread,
        notes: Vec::new(),
    };
    if change.may_change_count() {
        return checked;
    }
    Checked { said: Said::Unchanged, findings: Vec::new(), certain: Vec::new(), ..checked }
}

/// Returns the findings that a writer reads.
fn spoken(findings: Vec<Finding>) -> Vec<Finding> {
    findings.into_iter().filter(|finding| !finding.audit_only).collect()
}

/// Returns the change from `before` to `object`.
fn change(before: Option<&Value>, object: &Value, manifest: &Manifest) -> Result<Change, Problem> {
    let place = || manifest.document.count_place();
    checked_count(object).map_err(|why| Problem::new(place(), why))?;
    let cluster = |value: &Value, whose: &str| {
        Postgresql::of(value).map_err(|error| Problem::new(place(), format!("{whose}{error}")))
    };
    let old = before.map(|before| cluster(before, "the current state: ")).transpose()?;
    let new = cluster(object, "")?;
    Ok(Change { old, new, dry_run: false, undo: false, user: None })
}

fn removed(old: &Manifest) -> Checked {
    let from = old.document.value.pointer("/spec/numberOfInstances").and_then(Value::as_i64);
    Checked {
        namespace: old.namespace.clone(),
        name: old.name.clone(),
        place: super::Place::file(&old.document.place.file),
        from,
        to: None,
        basis: Basis::Revision,
        said: Said::Removed,
        findings: Vec::new(),
        certain: Vec::new(),
        not_judged: Vec::new(),
        notes: vec!["it is not in the manifests any more: rules judge changes of the count, and no deletion".to_owned()],
    }
}
