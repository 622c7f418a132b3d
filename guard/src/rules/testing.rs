//! Facts for table tests: a healthy cluster, then one thing broken.

use std::cell::RefCell;
use std::collections::BTreeSet;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::assessment::Assessment;
use crate::capacity::Template;
use crate::change::Change;
use crate::evidence::Evidence;
use crate::facts::{Capacity, Facts, Live, Member, Pod, Seen, StatefulSet};
use crate::object_ref::{Kind, ObjectRef};
use crate::operator::{Operator, Settings};
use crate::patroni::{Answer, Configuration, LeaderLock, Report, SyncState, Synchronous};
use crate::policy::{Limit, Mode, Policies, Weight};
use crate::postgresql::Postgresql;
use crate::rule_id::RuleId;
use crate::rules::{RULES, Rule, evaluate, generated, rule, scenarios};
use crate::verdict::{Outcome, Severity, Verdict};

/// Returns the time at which the test facts were read.
pub fn now() -> Timestamp {
    "2026-11-24T10:00:00Z".parse().unwrap()
}

/// Returns a healthy cluster of `from` members, led by ordinal 0, that is to become `to`.
pub fn healthy(from: i64, to: i64) -> Facts {
    let old = Postgresql::of(&json!({
        "metadata": {"namespace": "db", "name": "acid-a", "uid": "u1", "resourceVersion": "7"},
        "spec": {"numberOfInstances": from, "teamId": "acid", "volume": {"size": "1Gi"},
                 "postgresql": {"version": "15"}},
        "status": {"PostgresClusterStatus": "Running"},
    }))
    .unwrap();
    Facts {
        now: now(),
        change: Change::of_count(old.clone(), to),
        operator: Seen::Known(Operator {
            deployment: ObjectRef::new(Kind::Deployment, "postgres-operator")
                .in_namespace("default"),
            account: "default/postgres-operator".parse().unwrap(),
            major: Some(1),
            source: ObjectRef::new(Kind::ConfigMap, "postgres-operator").in_namespace("default"),
            settings: Settings::default(),
            available: Some(true),
            stale_settings: Some(false),
            watched_namespace: None,
            started: Some(now() - SignedDuration::from_hours(24)),
        }),
        operator_before: None,
        stateful_set: Seen::Known(StatefulSet {
            name: "db/acid-a".into(),
            replicas: from,
            generation: 4,
            observed_generation: 4,
            compared: Box::new(Settings::default().compared(&old).unwrap()),
            ..StatefulSet::default()
        }),
        members: Seen::Known((0..from).map(|ordinal| member(ordinal, ordinal == 0)).collect()),
        leader: Seen::Known(lock("acid-a-0")),
        configuration: Seen::Known(Configuration {
            maximum_lag_on_failover: 33_554_432,
            ..Configuration::default()
        }),
        failover: Seen::Absent,
        sync: Seen::Absent,
        claims: Seen::Known(Vec::new()),
        last_leader: Seen::Absent,
        initialize: Seen::Known("7401122334455667788".into()),
        elsewhere: Seen::Absent,
        capacity: Box::new(Capacity {
            template: Seen::Known(Template::default()),
            quotas: Some(Seen::Known(Vec::new())),
            limit_ranges: Some(Seen::Known(Vec::new())),
            ..Capacity::default()
        }),
    }
}

/// Returns five members, led by the last, that are to become `to`.
pub fn led_by_the_last(to: i64) -> Facts {
    healthy(5, to).with_leader(4)
}

/// Returns a cluster that is only now created, with this count.
pub fn created(count: i64) -> Facts {
    let mut facts = healthy(0, count);
    facts.change.old = None;
    facts.stateful_set = Seen::Absent;
    facts.initialize = Seen::Absent;
    facts
}

/// Returns the lock, held by `leader` and just renewed.
pub fn lock(leader: &str) -> LeaderLock {
    LeaderLock {
        source: ObjectRef::new(Kind::ConfigMap, "acid-a-leader"),
        holder: Some(leader.into()),
        renewed: Some(now()),
        acquired: Some(now() - SignedDuration::from_hours(1)),
        ttl: 30,
        transitions: Some(0),
        optime: Some(1000),
    }
}

/// Returns the annotation of a healthy member.
pub fn report(leads: bool, timeline: u64) -> Value {
    json!({"state": "running", "role": role(leads), "version": "4.1.4", "timeline": timeline,
        "xlog_location": 1000, "replication_state": if leads { None } else { Some("streaming") }})
}

/// Returns the answer of a healthy member.
pub fn answer(leads: bool, timeline: u64) -> Value {
    json!({"state": "running", "role": role(leads), "timeline": timeline, "server_version": 150_004,
        "replication_state": if leads { None } else { Some("streaming") },
        "xlog": if leads { json!({"location": 1000}) }
                else { json!({"received_location": 1000, "replayed_location": 1000}) },
        "patroni": {"version": "4.1.4"}})
}

fn role(leads: bool) -> &'static str {
    if leads { "primary" } else { "replica" }
}

/// Returns a healthy member.
pub fn member(ordinal: i64, leads: bool) -> Member {
    Member {
        name: format!("acid-a-{ordinal}"),
        ordinal,
        pod: Pod {
            phase: "Running".into(),
            ready: true,
            containers_running: true,
            ip: Some(format!("10.244.0.{}", 10 + ordinal)),
            role: Some(if leads { "master" } else { "replica" }.into()),
            node: Some(format!("node-{ordinal}")),
            node_ready: Some(true),
            ..Pod::default()
        },
        report: Seen::Known(Report::of(&report(leads, 1).to_string()).unwrap()),
        live: Live::Answered(Answer::of(&answer(leads, 1)).unwrap()),
    }
}

impl Facts {
    /// Assesses these facts by Patroni's own limit on the lag.
    pub fn assess(&self) -> Assessment<'_> {
        Assessment::new(self, None)
    }

    /// Changes one member in place.
    pub fn with_member(mut self, ordinal: i64, change: impl FnOnce(&mut Member)) -> Self {
        if let Seen::Known(members) = &mut self.members {
            change(members.iter_mut().find(|member| member.ordinal == ordinal).unwrap());
        }
        self
    }

    /// Changes one member's live answer in place.
    pub fn with_answer(self, ordinal: i64, change: impl FnOnce(&mut Answer)) -> Self {
        self.with_member(ordinal, |member| match &mut member.live {
            Live::Answered(answer) => change(answer),
            Live::NotAsked | Live::Silent(_) => panic!("member {ordinal} has no answer to change"),
        })
    }

    /// Lets another member lead, and nothing else change.
    pub fn with_leader(mut self, ordinal: i64) -> Self {
        let name = format!("acid-a-{ordinal}");
        if let Seen::Known(members) = &mut self.members {
            for member in members {
                *member = self::member(member.ordinal, member.ordinal == ordinal);
            }
        }
        self.leader = Seen::Known(lock(&name));
        self
    }

    /// Stalls members' WAL receivers: they answer, and lack what the leader has written since.
    pub fn stalled(self, ordinals: impl IntoIterator<Item = i64>) -> Self {
        ordinals.into_iter().fold(self, |facts, ordinal| {
            facts.with_answer(ordinal, |answer| {
                answer.received = Some(400);
                answer.replayed = Some(400);
            })
        })
    }

    /// Freezes a member's Patroni: its annotation stays as it was, and it does not answer.
    pub fn frozen(self, ordinal: i64) -> Self {
        self.with_member(ordinal, |member| member.live = Live::Silent("no answer in 1s".into()))
    }

    /// Lets a member answer, and report, that it is being cloned.
    pub fn cloning(self, ordinal: i64) -> Self {
        self.with_member(ordinal, |member| {
            let words = json!({"state": "creating replica", "role": "replica", "version": "4.1.4"});
            member.report = Seen::Known(Report::of(&words.to_string()).unwrap());
            member.live = Live::Answered(Answer::of(&words).unwrap());
        })
    }

    /// Tags a member `nofailover`.
    pub fn nofailover(self, ordinal: i64) -> Self {
        self.with_member(ordinal, |member| {
            if let Seen::Known(report) = &mut member.report {
                report.tags.nofailover = true;
            }
            if let Live::Answered(answer) = &mut member.live {
                answer.tags.nofailover = true;
            }
        })
    }

    /// Puts Patroni into maintenance mode.
    pub fn pause(self) -> Self {
        self.with_configuration(|configuration| configuration.paused = true)
    }

    /// Makes replication synchronous with these standbys of the present leader.
    pub fn synchronous(self, standbys: &[&str]) -> Self {
        let leader = self.leader_name().map(str::to_owned);
        let mut facts =
            self.with_configuration(|configuration| configuration.synchronous = Synchronous::On);
        facts.sync = Seen::Known(SyncState {
            leader,
            standbys: standbys.iter().map(|&standby| standby.to_owned()).collect(),
        });
        facts
    }

    /// Removes a member's pod.
    pub fn without(mut self, ordinal: i64) -> Self {
        if let Seen::Known(members) = &mut self.members {
            members.retain(|member| member.ordinal != ordinal);
        }
        self
    }

    /// Leaves a member's pod Pending for ever, because no node takes it.
    pub fn pending(self, ordinal: i64) -> Self {
        self.with_member(ordinal, |member| {
            member.pod = Pod {
                phase: "Pending".into(),
                waiting: Some("0/3 nodes are available".into()),
                ..Pod::default()
            };
            member.report = Seen::Absent;
            member.live = Live::Silent("it has no address".into());
        })
    }

    /// Hides the cluster's pods.
    pub fn without_sight_of_members(mut self) -> Self {
        self.members = Seen::Unreadable("pods is forbidden".into());
        self
    }

    /// Hides the leader lock.
    pub fn without_sight_of_the_lock(mut self) -> Self {
        self.leader = Seen::Unreadable("configmaps is forbidden".into());
        self
    }

    /// Hides the StatefulSet.
    pub fn without_sight_of_the_set(mut self) -> Self {
        self.stateful_set = Seen::Unreadable("statefulsets is forbidden".into());
        self
    }

    /// Asks for other counts of the same members.
    pub fn with_count(mut self, from: i64, to: i64) -> Self {
        let old = self.change.new.with_instances(from);
        self.change = Change::of_count(old, to);
        self
    }

    /// Lets the same write change something else, too.
    pub fn editing(mut self, edit: impl FnOnce(&mut Value)) -> Self {
        edit(&mut self.change.new.spec);
        self
    }

    /// Changes Patroni's configuration in place.
    pub fn with_configuration(mut self, change: impl FnOnce(&mut Configuration)) -> Self {
        if let Seen::Known(configuration) = &mut self.configuration {
            change(configuration);
        }
        self
    }

    /// Changes the StatefulSet in place.
    pub fn with_stateful_set(mut self, change: impl FnOnce(&mut StatefulSet)) -> Self {
        if let Seen::Known(set) = &mut self.stateful_set {
            change(set);
        }
        self
    }

    /// Annotates the StatefulSet by another writer than the operator.
    pub fn with_annotation(self, key: &str, writer: &str) -> Self {
        self.with_stateful_set(|set| {
            set.compared.annotations.insert(key.to_owned(), "x".to_owned());
            set.foreign_annotations.push((key.to_owned(), writer.to_owned()));
        })
    }

    /// Lets pods come and go at once, by the StatefulSet and by the operator's setting.
    pub fn in_parallel(self) -> Self {
        self.with_stateful_set(|set| set.parallel = true)
            .with_settings(|settings| settings.shaping.parallel = true)
    }

    /// Changes the operator's settings in place.
    pub fn with_settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        if let Seen::Known(operator) = &mut self.operator {
            change(&mut operator.settings);
        }
        self
    }
}

/// The outcome that a table row expects from a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Want {
    Pass,
    NotApplicable,
    Deny,
    Warn,
    Unknown,
}

/// Facts, and the policies by which they are judged.
pub type Situation = (Facts, Policies);

/// The situations that tables and scenarios have gone through.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// The outcomes that the tables show for each rule, as (rule, expectation).
    pub(crate) outcomes: BTreeSet<(RuleId, Want)>,
    /// The situations that were judged.
    pub(crate) situations: Vec<Situation>,
}

thread_local! {
    /// The situations that the tables and scenarios of this thread have shown so far.
    static SHOWN: RefCell<Shown> = RefCell::default();
}

/// Returns the situations and outcomes that `run` shows.
pub(crate) fn shown(run: impl FnOnce()) -> Shown {
    SHOWN.take();
    run();
    SHOWN.take()
}

/// Returns the situations of every rule's table.
pub fn of_tables() -> Vec<Situation> {
    shown(|| RULES.iter().for_each(|rule| (rule.table)())).situations
}

/// Returns the situations that real clusters were in.
pub fn of_scenarios() -> Vec<Situation> {
    shown(scenarios::run).situations
}

/// Returns the first `count` generated situations, the same in every run.
pub fn by_chance(count: usize) -> Vec<Situation> {
    generated::situations(count)
}

/// Judges the facts, and keeps them for [`shown`].
pub(crate) fn judged(facts: &Facts, policies: &Policies) -> Verdict {
    let situation = (facts.clone(), policies.clone());
    SHOWN.with_borrow_mut(|shown| shown.situations.push(situation));
    evaluate(facts, policies)
}

/// Checks one rule, without repairs and policy, against a table of (name, facts, expectation).
pub(crate) fn table(id: &str, rows: Vec<(&str, Facts, Want)>) {
    table_with(id, &Policies::default(), rows);
}

/// Checks one rule in the same way under `policies`.
pub(crate) fn table_with(id: &str, policies: &Policies, rows: Vec<(&str, Facts, Want)>) {
    let rule = rule(id).unwrap();
    for (name, facts, want) in rows {
        let outcome = rule.judge(&Assessment::of(&facts, policies), policies);
        let got = match &outcome {
            Outcome::NotApplicable => Want::NotApplicable,
            Outcome::Pass => Want::Pass,
            Outcome::Found(finding) if finding.severity == Severity::Deny => Want::Deny,
            Outcome::Found(_) => Want::Warn,
            Outcome::Unknown(_) | Outcome::Unsaid { .. } => Want::Unknown,
        };
        assert_eq!(got, want, "{id}, {name}: {outcome:?}");
        explained(rule, &outcome, &facts, policies, name);
        SHOWN.with_borrow_mut(|shown| {
            shown.outcomes.insert((rule.id, got));
            shown.situations.push((facts, policies.clone()));
        });
    }
}

/// Checks that every outcome can be verified by the objects that the rule looked at, and that each
/// finding names an object and a remedy.
fn explained(rule: &Rule, outcome: &Outcome, facts: &Facts, policies: &Policies, name: &str) {
    let all = rule.looks_at(&Assessment::of(facts, policies), policies);
    let id = rule.id;
    assert!(!all.is_empty(), "{id}, {name}: looks at nothing");
    let printed = |it: &Evidence| !it.object.to_string().is_empty() && !it.value.is_empty();
    assert!(all.iter().all(printed), "{id}, {name}: {all:?}");
    // A fact that could not be read is named there, too.
    if let Outcome::Unknown(why) = outcome
        && let Some((_, reason)) = why.rsplit_once('(')
        && let reason = reason.trim_end_matches(')')
        && reason.contains("forbidden")
    {
        assert!(all.iter().any(|it| it.value.contains(reason)), "{id}, {name}: {why}: {all:?}");
    }
    let Outcome::Found(finding) = outcome else { return };
    assert!(!finding.evidence.is_empty(), "{id}, {name}: no evidence for {finding}");
    assert!(finding.evidence.iter().all(printed), "{id}, {name}: {finding}");
    assert!(finding.remedy.is_some(), "{id}, {name}: no way out of {finding}");
}

/// Returns the policies of a platform that leaves the leader to the operator's own switchover:
/// every other rule about a removed leader then stands for itself.
pub fn lowered() -> Policies {
    let source = ObjectRef::new(Kind::ClusterScalePolicy, "p");
    let warn = Limit { value: Weight::Warn, source, mode: Mode::Enforce };
    Policies {
        rules: [(RuleId::LEADER_CONDEMNED.to_string(), vec![warn])].into(),
        ..Policies::default()
    }
}

/// Returns the text of a rule's finding, for snapshots.
///
/// The policy is the default one. Where that makes the finding evidence for `leader-condemned`, it
/// is a policy that lowers that rule.
pub(crate) fn text(id: &str, facts: &Facts) -> String {
    let default = judged(facts, &Policies::default());
    let folded = default.folded.iter().any(|finding| finding.rule == id);
    let verdict = if folded { judged(facts, &lowered()) } else { default };
    verdict.finding(id).map_or_else(|| "nothing found".to_owned(), ToString::to_string)
}
