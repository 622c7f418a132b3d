//! Generated clusters, policies and mishaps, for the properties.

use k8s_openapi::jiff::SignedDuration;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::json;

use crate::change::Direction;
use crate::facts::{Claim, Facts, Live, Member, RestRefusal, Seen};
use crate::patroni::{
    Answer, ApiUrl, Configuration, LeaderLock, PendingFailover, Report, Role, State, SyncState,
    Synchronous, Tags,
};
use crate::policy::Policies;
use crate::rules::testing::{Situation, healthy, member, now};

mod mishaps;
mod policies;
mod stores;
mod surroundings;

pub(super) use mishaps::{Hidden, Worse, hidden, hide, worse, worsen};
pub(super) use policies::{TIGHTENINGS, opinionated, policy, restrictive};

fn state() -> impl Strategy<Value = State> {
    prop_oneof![
        6 => Just(State::Running),
        1 => select(vec!["creating replica", "stopped", "starting", "crashed", "", "levitating"])
            .prop_map(State::of),
    ]
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![
        6 => Just(Role::Replica),
        1 => select(vec!["primary", "demoted", "uninitialized", "standby_leader", "odd"])
            .prop_map(Role::of),
    ]
}

fn position() -> impl Strategy<Value = Option<u64>> {
    option::weighted(0.9, select(vec![0, 400, 1000, 1000, 1000, 1001, 40_000_000, u64::MAX]))
}

fn tags() -> impl Strategy<Value = Tags> {
    let source = option::weighted(0.1, (0_i64..8).prop_map(|ordinal| format!("acid-a-{ordinal}")));
    (prop::bool::weighted(0.2), source).prop_map(|(nofailover, replicate_from)| Tags {
        nofailover,
        replicate_from,
        ..Tags::default()
    })
}

fn report() -> impl Strategy<Value = Report> {
    let replication = option::of(Just("streaming".to_owned()));
    let version = option::of(select(vec!["4.1.4", "3.0.1", "x"]).prop_map(str::to_owned));
    let url = option::weighted(
        0.2,
        select(vec!["http://10.244.0.11:8009/patroni", "https://acid-a-1:8008/patroni"]),
    );
    (state(), role(), replication, version, tags(), prop::bool::weighted(0.1), url).prop_map(
        |(state, role, replication_state, version, tags, pending_restart, url)| Report {
            state,
            role,
            timeline: Some(1),
            position: Some(1000),
            replication_state,
            version,
            tags,
            pending_restart,
            api_url: url.and_then(ApiUrl::of),
        },
    )
}

fn answer() -> impl Strategy<Value = Answer> {
    let timeline = option::weighted(0.9, 0_u64..3);
    (
        state(),
        role(),
        timeline,
        position(),
        position(),
        position(),
        any::<bool>(),
        tags(),
        prop::bool::weighted(0.1),
    )
        .prop_map(
            |(
                state,
                role,
                timeline,
                location,
                received,
                replayed,
                replay_paused,
                tags,
                pending_restart,
            )| {
                Answer {
                    state,
                    role,
                    timeline,
                    location: location.filter(|_| role.leads()),
                    received,
                    replayed,
                    replay_paused,
                    tags,
                    pending_restart,
                    ..Answer::of(&json!({"state": "running"})).unwrap()
                }
            },
        )
}

fn seen<T: Clone + std::fmt::Debug>(
    known: impl Strategy<Value = T>,
) -> impl Strategy<Value = Seen<T>> {
    prop_oneof![
        20 => known.prop_map(Seen::Known),
        1 => Just(Seen::Absent),
        1 => Just(Seen::Unreadable("hidden".to_owned())),
    ]
}

fn odd_member() -> impl Strategy<Value = Member> {
    let live = prop_oneof![
        6 => answer().prop_map(Live::Answered),
        1 => Just(Live::NotAsked),
        2 => Just(Live::Silent("no answer in 1s".to_owned())),
    ];
    let phase = prop_oneof![6 => Just("Running"), 1 => Just("Pending"), 1 => Just("Failed")];
    let label = select(vec![Some("replica"), Some("replica"), None, Some("master"), Some("odd")]);
    let rarely = || prop::bool::weighted(0.2);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), rarely(), rarely());
    (seen(report()), live, phase, label, option::of(any::<bool>()), flags).prop_map(
        |(
            report,
            live,
            phase,
            label,
            node_ready,
            (containers, critical, address, busy, unready),
        )| {
            let mut odd = member(0, false);
            odd.report = report;
            odd.live = live;
            odd.pod.phase = phase.to_owned();
            odd.pod.role = label.map(str::to_owned);
            odd.pod.node_ready = node_ready;
            odd.pod.containers_running = containers;
            odd.pod.critical_operation = critical;
            odd.pod.ready = !unready;
            odd.pod.terminating = busy && critical;
            odd.pod.rolling_update_required = busy && containers;
            odd.pod.ip = odd.pod.ip.filter(|_| address);
            if critical && !busy {
                odd.pod.rest_refusals = vec![RestRefusal {
                    field: "env APIPORT".to_owned(),
                    value: "set".to_owned(),
                    certain: containers,
                }];
            }
            odd
        },
    )
}

/// Returns the first `count` situations, the same in every run.
pub(super) fn situations(count: usize) -> Vec<Situation> {
    let mut runner = TestRunner::deterministic();
    let any = (facts(), vec(opinionated(), 0..4));
    let one = |_| {
        let (facts, policies) = any.new_tree(&mut runner).unwrap().current();
        let policies = Policies::combine(&policies, &facts.change.new);
        (facts, policies)
    };
    (0..count).map(one).collect()
}

/// Returns any change of any cluster.
pub(super) fn facts() -> impl Strategy<Value = Facts> {
    let count = || prop_oneof![20 => 0_i64..8, 1 => any::<i64>()];
    cluster((0_i64..8, count(), count()))
}

/// Returns a shrink of any cluster.
pub(super) fn shrinks() -> impl Strategy<Value = Facts> {
    let counts = (2_i64..8, 0_i64..8, 0_i64..8).prop_map(|(pods, from, to)| {
        // Mostly the cluster has the pods that it asks for.
        let from = if from % 4 == 0 { from.max(1) } else { pods };
        (pods, from, to % from)
    });
    cluster(counts).prop_filter("grows once the operator's limits are applied", |facts| {
        facts.direction() == Direction::Down
    })
}

/// Returns growth of any cluster.
pub(super) fn growths() -> impl Strategy<Value = Facts> {
    let counts = (0_i64..7, 0_i64..7, 1_i64..8).prop_map(|(pods, from, more)| {
        let from = if from % 4 == 0 { from } else { pods };
        (pods, from, from + more)
    });
    cluster(counts).prop_filter("no growth once the operator's limits are applied", |facts| {
        facts.direction() == Direction::Up
    })
}

/// Returns a cluster with these pods and counts: mostly healthy, led by any member, with any number
/// of oddities.
fn cluster(counts: impl Strategy<Value = (i64, i64, i64)>) -> impl Strategy<Value = Facts> {
    let leader = option::weighted(0.95, any::<Index>());
    let members = vec(option::weighted(0.15, odd_member()), 8);
    let gone = vec(prop::bool::weighted(0.04), 8);
    let configuration = seen(
        (
            prop::bool::weighted(0.15),
            select(vec![Synchronous::Off, Synchronous::Off, Synchronous::On, Synchronous::Quorum]),
            select(vec![33_554_432_u64, 100]),
            prop::bool::weighted(0.2),
            select(vec![1_u64, 1, 2, u64::MAX]),
        )
            .prop_map(
                |(paused, synchronous, maximum_lag_on_failover, strict, synchronous_node_count)| {
                    Configuration {
                        paused,
                        maximum_lag_on_failover,
                        synchronous,
                        synchronous_strict: strict,
                        synchronous_node_count,
                        ..Configuration::default()
                    }
                },
            ),
    );
    let age = prop_oneof![12 => Just(0_i64), 1 => select(vec![30, 90, -90, i64::MAX])];
    let set = seen((
        option::weighted(0.1, 0_i64..8),
        prop::bool::weighted(0.05),
        prop::bool::weighted(0.05),
        prop::bool::weighted(0.05),
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.05),
    ));
    let limits = seen(prop_oneof![3 => Just((-1_i64, -1_i64)), 1 => (-1_i64..4, -1_i64..8)]);
    let surroundings = (
        set,
        limits,
        configuration,
        seen(vec(0_i64..7, 0..3)),
        seen(vec(0_i64..7, 0..2)),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.05),
        prop::bool::weighted(0.1),
        (prop::bool::weighted(0.05), doings()),
    );
    let cluster = (counts, leader, members, gone, age, surroundings).prop_map(
        |(counts, leader, odd, gone, age, surroundings)| {
            let (pods, from, to) = counts;
            let (set, limits, configuration, sync, claims, mixed, no_members, unlimited, more) =
                surroundings;
            let (edited, doings) = more;
            let mut facts = healthy(pods, pods).with_count(from, to);
            for cluster in facts.change.old.iter_mut().chain([&mut facts.change.new]) {
                cluster.labels.insert("env".to_owned(), "prod".to_owned());
            }
            if let Some(leader) = leader {
                facts = facts.with_leader(i64::try_from(leader.index(8)).unwrap() % pods.max(1));
            } else {
                facts.leader = Seen::Absent;
            }
            if let Seen::Known(lock) = &mut facts.leader {
                *lock = aged(lock.clone(), age);
            }
            if let Seen::Known(members) = &mut facts.members {
                for (member, odd) in members.iter_mut().zip(odd) {
                    if let Some(odd) = odd {
                        *member =
                            Member { name: member.name.clone(), ordinal: member.ordinal, ..odd };
                        agree(member);
                    }
                }
                let mut gone = gone.into_iter();
                members.retain(|_| !gone.next().unwrap_or(false));
            }
            if no_members {
                facts.members = Seen::Unreadable("hidden".to_owned());
            }
            facts.stateful_set =
                set.map(|(replicas, behind, terminating, foreign, parallel, relabelled)| {
                    let mut set = facts.stateful_set.known().unwrap().clone();
                    set.replicas = replicas.unwrap_or(from);
                    set.observed_generation -= i64::from(behind);
                    set.terminating = terminating;
                    set.parallel = parallel;
                    if relabelled {
                        set.compared.pod_labels.insert("team".to_owned(), "other".to_owned());
                    }
                    if foreign {
                        set.compared.annotations.insert("a".to_owned(), "x".to_owned());
                        set.foreign_annotations = vec![("a".to_owned(), "b".to_owned())];
                    }
                    set
                });
            facts.operator = limits.map(|(min, max)| {
                let mut operator = facts.operator.known().unwrap().clone();
                operator.settings.min_instances = min;
                operator.settings.max_instances = max;
                operator.settings.ignore_limits_annotation = Some("ignore-limits".to_owned());
                operator.settings.shaping.parallel =
                    facts.stateful_set.known().is_some_and(|set| set.parallel);
                operator
            });
            facts.configuration = configuration;
            facts.sync = sync.map(|standbys| SyncState {
                leader: facts.leader_name().map(str::to_owned),
                standbys: standbys.iter().map(|ordinal| facts.pod_name(*ordinal)).collect(),
            });
            facts.claims = claims.map(|ordinals| {
                let claim = |ordinal| Claim { name: "c".to_owned(), ordinal, ..Claim::default() };
                ordinals.into_iter().map(claim).collect()
            });
            doings.befall(&mut facts);
            if mixed {
                facts = facts.editing(|spec| spec["volume"]["size"] = json!("2Gi"));
            }
            if edited && let Some(old) = &mut facts.change.old {
                old.writes.spec = Some(facts.now - SignedDuration::from_secs(60));
                old.writes.status = Some(facts.now - SignedDuration::from_secs(90));
            }
            if unlimited && let Some(old) = &mut facts.change.old {
                old.annotations.insert("ignore-limits".to_owned(), "true".to_owned());
            }
            facts
        },
    );
    (cluster, surroundings::surroundings(), stores::stores(), stores::losses()).prop_map(
        |(facts, surroundings, stores, losses)| {
            let mut facts = surroundings.around(facts);
            losses.befall(&mut facts);
            if let Some(stores) = stores {
                stores.befall(&mut facts);
            }
            facts
        },
    )
}

/// The work of other actors on the cluster, and the places of its members.
#[derive(Clone, Debug)]
struct Doings {
    failover: Seen<PendingFailover>,
    last_leader: Seen<String>,
    available: Option<bool>,
    /// All pods are labelled critical-operation.
    critical: bool,
    status: &'static str,
    upgrade_failed: bool,
    zones: Vec<Option<&'static str>>,
}

fn doings() -> impl Strategy<Value = Doings> {
    let name = || (0_i64..8).prop_map(|ordinal| format!("acid-a-{ordinal}"));
    let pending = (name(), option::of(name()), option::of(Just("2026-11-25T03:00:00Z".to_owned())))
        .prop_map(|(leader, candidate, scheduled)| PendingFailover {
            leader: Some(leader),
            candidate,
            scheduled,
        });
    let failover = prop_oneof![
        16 => Just(Seen::Absent),
        3 => pending.prop_map(Seen::Known),
        1 => Just(Seen::Unreadable("hidden".to_owned())),
    ];
    let available = prop_oneof![16 => Just(Some(true)), 3 => Just(Some(false)), 1 => Just(None)];
    (
        failover,
        seen(name()),
        available,
        prop::bool::weighted(0.05),
        select(vec!["Running", "Running", "Updating", "SyncFailed", "Invalid", ""]),
        prop::bool::weighted(0.05),
        vec(select(vec![None, Some("a"), Some("a"), Some("b")]), 8),
    )
        .prop_map(
            |(failover, last_leader, available, critical, status, upgrade_failed, zones)| Doings {
                failover,
                last_leader,
                available,
                critical,
                status,
                upgrade_failed,
                zones,
            },
        )
}

impl Doings {
    fn befall(self, facts: &mut Facts) {
        facts.failover = self.failover;
        facts.last_leader = self.last_leader;
        if let Seen::Known(operator) = &mut facts.operator {
            operator.available = self.available;
        }
        if let Seen::Known(members) = &mut facts.members {
            for (member, zone) in members.iter_mut().zip(self.zones) {
                member.pod.critical_operation |= self.critical;
                member.pod.zone = zone.map(str::to_owned);
            }
        }
        for cluster in facts.change.old.iter_mut().chain([&mut facts.change.new]) {
            cluster.status = Some(self.status.to_owned());
            if self.upgrade_failed {
                cluster.annotations.insert("last-major-upgrade-failure".to_owned(), String::new());
            }
        }
    }
}

fn aged(mut lock: LeaderLock, age: i64) -> LeaderLock {
    if age == i64::MAX {
        lock.ttl = i64::MAX;
    } else {
        lock.renewed = Some(now() - SignedDuration::from_secs(age));
        // Some leaders have taken the lock just now.
        lock.acquired = lock.renewed.filter(|_| age % 2 == 1).or(lock.acquired);
    }
    lock
}

/// Makes a member's last report agree with its answer, as far as the report is all that remains
/// once the member is silent: whether it is being built, whether it leads, and on which timeline.
///
/// By the tables, a silent member whose last report said that it streams is no rebuild, whatever it
/// might have answered.
fn agree(member: &mut Member) {
    let Live::Answered(answer) = &member.live else { return };
    if member.report == Seen::Absent {
        member.report = self::member(0, false).report;
    }
    if let Seen::Known(report) = &mut member.report {
        report.timeline = answer.timeline;
        report.role = answer.role;
        let nothing_yet = answer.received.is_none() && answer.replayed.is_none();
        if answer.state != State::Running || answer.role.leads() || nothing_yet {
            report.state = answer.state.clone();
            report.replication_state = None;
            report.version = Some("4.1.4".to_owned());
        }
    }
}
