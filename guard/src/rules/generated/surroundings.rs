//! The surroundings of a cluster: the room there is, the operator that owned it before, and the
//! template.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::SignedDuration;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::seen;
use crate::capacity::Template;
use crate::facts::{
    Backup, Booking, Capacity, Claim, DisruptionBudget, Draining, Facts, Live, Node, Seen,
    Spending, Taint,
};
use crate::operator::upgrade::Mode;
use crate::operator::{Operator, Upgrades};
use crate::patroni::Sender;
use crate::postgresql::CONTROLLER_ANNOTATION;
use crate::rules::testing::{healthy, now};

/// All surroundings of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    capacity: Capacity,
    claims: Vec<Claim>,
    /// The operator that owned the cluster before, where the write moves it.
    before: Option<Seen<Operator>>,
    oddities: Oddities,
    /// The WAL senders and replication slots that the leader may have.
    senders: (u64, u64),
    /// The streams between members, as (leader or not, standby).
    streams: Vec<(usize, i64)>,
    /// The document of Patroni's configuration.
    document: Value,
    /// The operator's settings about major upgrades.
    upgrades: Upgrades,
    past: Past,
}

/// The past of the cluster and of its members, and the future of their nodes.
#[derive(Clone, Debug)]
struct Past {
    /// The days since the cluster was created.
    founded: Option<i64>,
    /// The hours since each member's container started.
    started: Vec<Option<i64>>,
    /// The members whose nodes are being emptied.
    emptied: Vec<bool>,
    /// The members that were made with another image than new ones.
    old_image: Vec<bool>,
    /// The member whose data are of another cluster.
    stranger: Option<usize>,
    /// The characters of the newest revision.
    revision: Option<usize>,
}

fn past() -> impl Strategy<Value = Past> {
    let rarely = || vec(prop::bool::weighted(0.1), 8);
    (
        option::of(0_i64..90),
        vec(option::of(0_i64..4), 8),
        rarely(),
        rarely(),
        option::weighted(0.1, 0_usize..8),
        option::weighted(0.3, select(vec![17_usize, 63, 64])),
    )
        .prop_map(|(founded, started, emptied, old_image, stranger, revision)| Past {
            founded,
            started,
            emptied,
            old_image,
            stranger,
            revision,
        })
}

impl Past {
    fn befall(self, facts: &mut Facts) {
        let created = self.founded.map(|days| now() - SignedDuration::from_hours(24 * days));
        for cluster in facts.change.old.iter_mut().chain([&mut facts.change.new]) {
            cluster.created = created;
        }
        if let Seen::Known(set) = &mut facts.stateful_set {
            set.image = Some("new".to_owned());
            set.revision = self.revision.map(|length| "a".repeat(length));
        }
        let Seen::Known(members) = &mut facts.members else { return };
        let lots = self.started.into_iter().zip(self.emptied).zip(self.old_image).enumerate();
        for (member, (index, ((started, emptied), old))) in members.iter_mut().zip(lots) {
            member.pod.started = started.map(|hours| now() - SignedDuration::from_hours(hours));
            member.pod.draining = emptied.then_some(Draining::Cordoned);
            member.pod.image = Some(if old { "old" } else { "new" }.to_owned());
            if let Live::Answered(answer) = &mut member.live
                && self.stranger == Some(index)
            {
                answer.system_identifier = "7309999999999999999".parse().ok();
            }
        }
    }
}

/// The rare oddities, each drawn by itself.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "drawn one by one")]
struct Oddities {
    deletes_volumes: bool,
    failsafe: bool,
    followed: bool,
    nosync: bool,
    probed: bool,
    stale_settings: Option<bool>,
    standby: bool,
    undo: bool,
}

pub(super) fn surroundings() -> impl Strategy<Value = Surroundings> {
    let rarely = || prop::bool::weighted(0.1);
    let stale = prop_oneof![8 => Just(Some(false)), 1 => Just(Some(true)), 1 => Just(None)];
    let patroni = (rarely(), rarely(), rarely());
    let oddities = (rarely(), patroni, rarely(), stale, rarely(), prop::bool::weighted(0.03))
        .prop_map(|(deletes_volumes, patroni, probed, stale_settings, standby, undo)| {
            let (nosync, failsafe, followed) = patroni;
            Oddities {
                deletes_volumes,
                failsafe,
                followed,
                nosync,
                probed,
                stale_settings,
                standby,
                undo,
            }
        });
    let before = option::weighted(0.06, seen((-1_i64..4, -1_i64..8).prop_map(limited)));
    let senders = (select(vec![10_u64, 10, 3, 0]), select(vec![10_u64, 10, 2]));
    let streams = vec((0_usize..8, 0_i64..8), 0..2);
    let patroni = (senders, streams, document(), upgrades(), past());
    (capacity().boxed(), vec(claim(), 0..4), before, oddities, patroni.boxed()).prop_map(
        |(capacity, claims, before, oddities, (senders, streams, document, upgrades, past))| {
            Surroundings {
                capacity,
                claims,
                before,
                oddities,
                senders,
                streams,
                document,
                upgrades,
                past,
            }
        },
    )
}

/// Returns documents that say what a manifest says, and others.
fn document() -> impl Strategy<Value = Value> {
    let parameters = || json!({"parameters": {"max_connections": 100}});
    let slot = json!({"type": "logical", "database": "a", "plugin": "pgoutput"});
    select(vec![
        json!(null),
        json!({"postgresql": parameters()}),
        json!({"postgresql": parameters(), "synchronous_mode": true, "ttl": 60}),
        json!({"postgresql": parameters(), "failsafe_mode": true}),
        json!({"postgresql": {"parameters": {"synchronous_standby_names": "ANY 1 (*)",
            "synchronized_standby_slots": "acid_a_3"}}}),
        json!({"postgresql": parameters(), "slots": {"cdc": slot}}),
        json!({"postgresql": parameters(), "synchronous_mode": "quorum", "slots": {"cdc": slot}}),
    ])
}

fn upgrades() -> impl Strategy<Value = Upgrades> {
    let mode = select(vec![Mode::Manual, Mode::Off, Mode::Full]);
    let windows = select(vec![vec![], vec![], vec!["01:00-06:00".to_owned()]]);
    (mode, any::<bool>(), windows).prop_map(|(mode, team, windows)| Upgrades {
        mode,
        teams: if team { vec!["acid".to_owned()] } else { vec![] },
        windows,
        ..Upgrades::default()
    })
}

fn limited((min, max): (i64, i64)) -> Operator {
    let mut operator = healthy(1, 1).operator.known().unwrap().clone();
    operator.settings.min_instances = min;
    operator.settings.max_instances = max;
    operator
}

fn claim() -> impl Strategy<Value = Claim> {
    let resizing = option::weighted(0.3, Just("Resizing".to_owned()));
    (0_i64..8, option::of(0_i64..90), resizing, any::<bool>(), any::<bool>()).prop_map(
        |(ordinal, days, resizing, grown, terminating)| Claim {
            name: format!("pgdata-acid-a-{ordinal}"),
            ordinal,
            created: days.map(|days| now() - SignedDuration::from_hours(24 * days)),
            capacity: Some(1 << 30),
            requested: Some(if grown { 2 << 30 } else { 1 << 30 }),
            resizing,
            terminating,
        },
    )
}

/// Returns the answers of an API server, or nothing where they were not requested.
fn capacity() -> impl Strategy<Value = Capacity> {
    let template = seen(select(vec![
        json!({"pod": {"containers": []}, "claims": []}),
        json!({"pod": {"containers": [{"name": "postgres", "resources": {
            "requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}}}]},
            "claims": [{"resources": {"requests": {"storage": "1Gi"}}}]}),
        json!({"pod": {"containers": [{"name": "postgres"}], "affinity": {"podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname",
                "labelSelector": {"matchLabels": {"cluster-name": "acid-a"}}}]}}},
            "labels": {"cluster-name": "acid-a"}, "claims": []}),
    ]))
    .prop_map(|it| it.map(|object| template(&object)));
    let quota = (
        select(vec!["pods", "requests.cpu", "limits.memory", "requests.storage"]),
        0..12_u32,
        0..12_u32,
    )
        .prop_map(|(what, hard, used)| {
            let (hard, used) =
                (json!({(what): hard.to_string()}), json!({(what): used.to_string()}));
            serde_json::from_value(json!({"metadata": {"name": "q"}, "spec": {"hard": hard},
                "status": {"hard": hard, "used": used}}))
            .unwrap()
        });
    let range = select(vec![
        json!({"type": "Container", "max": {"cpu": "500m"}}),
        json!({"type": "Pod", "max": {"memory": "8Gi"}}),
        json!({"type": "PersistentVolumeClaim", "min": {"storage": "2Gi"}}),
    ])
    .prop_map(|limit| {
        serde_json::from_value(json!({"metadata": {"name": "l"}, "spec": {"limits": [limit]}}))
            .unwrap()
    });
    let node =
        (0..8_u32, any::<bool>(), any::<bool>()).prop_map(|(number, unschedulable, tainted)| {
            let name = format!("node-{number}");
            let taint = Taint { key: "a".to_owned(), value: None, effect: "NoSchedule".to_owned() };
            Node {
                labels: [("kubernetes.io/hostname".to_owned(), name.clone())].into(),
                name,
                taints: if tainted { vec![taint] } else { vec![] },
                unschedulable,
            }
        });
    let budget =
        (option::of(0..3_i32), any::<bool>()).prop_map(|(min, leader_only)| DisruptionBudget {
            name: "b".to_owned(),
            min_available: min.map(IntOrString::Int),
            max_unavailable: None,
            expected: Some(1),
            leader_only,
        });
    let backup = (option::of(0_i64..60), any::<bool>()).prop_map(|(hours, suspended)| Backup {
        name: "logical-backup-acid-a".to_owned(),
        succeeded: hours.map(|hours| now() - SignedDuration::from_hours(hours)),
        suspended,
    });
    (
        template,
        option::weighted(0.9, seen(vec(quota, 0..2))),
        option::weighted(0.9, seen(vec(range, 0..2))),
        option::of(seen(vec(node, 0..8))),
        option::of(seen(vec(budget, 0..2))),
        option::weighted(0.9, seen(backup)),
    )
        .prop_map(|(template, quotas, limit_ranges, nodes, disruption_budgets, backup)| {
            // Made of what is there, so that every other fact is drawn as it was without it.
            let budget = Some(spending(nodes.as_ref(), backup.as_ref()));
            Capacity { template, quotas, limit_ranges, nodes, disruption_budgets, backup, budget }
        })
}

/// Returns what counts against a budget, and what the ledger said.
fn spending(nodes: Option<&Seen<Vec<Node>>>, backup: Option<&Seen<Backup>>) -> Seen<Spending> {
    let booking = match backup {
        Some(Seen::Unreadable(why)) => return Seen::Unreadable(why.clone()),
        Some(Seen::Known(backup)) if backup.suspended => Booking::Contended,
        Some(Seen::Known(_) | Seen::Absent) => Booking::Looked,
        None => Booking::Granted(4),
    };
    let others = nodes.and_then(Seen::known).map_or(0, Vec::len);
    Seen::Known(Spending {
        used: u64::try_from(others).unwrap_or(0) + 3,
        reserved: 1,
        own: 3,
        holders: Vec::new(),
        others: 0,
        booking,
        budget: None,
    })
}

fn template(object: &Value) -> Template {
    let part = |name: &str| object.get(name).cloned().unwrap_or_default();
    Template {
        pod: serde_json::from_value(part("pod")).unwrap(),
        labels: serde_json::from_value(part("labels")).unwrap_or_default(),
        claims: serde_json::from_value(part("claims")).unwrap(),
        admitted: false,
    }
}

impl Surroundings {
    /// Puts a cluster into these surroundings.
    pub(super) fn around(self, mut facts: Facts) -> Facts {
        facts.capacity = Box::new(self.capacity);
        self.past.befall(&mut facts);
        if let Seen::Known(claims) = &mut facts.claims {
            claims.extend(self.claims);
        }
        if let Seen::Known(set) = &mut facts.stateful_set {
            set.deletes_volumes = self.oddities.deletes_volumes;
            set.probed = self.oddities.probed;
        }
        if let Seen::Known(operator) = &mut facts.operator {
            operator.stale_settings = self.oddities.stale_settings;
            operator.settings.deletes_volumes = self.oddities.deletes_volumes;
            operator.settings.failsafe = self.oddities.failsafe;
            *operator.settings.upgrades = self.upgrades;
        }
        if let Seen::Known(configuration) = &mut facts.configuration {
            (configuration.max_wal_senders, configuration.max_replication_slots) = self.senders;
            configuration.standby_cluster = self.oddities.followed;
            configuration.document = Arc::new(self.document);
        }
        facts.change.undo = self.oddities.undo;
        for cluster in facts.change.old.iter_mut().chain([&mut facts.change.new]) {
            if self.oddities.standby && cluster.spec.is_object() {
                cluster.spec["standby"] = json!({"standby_host": "elsewhere"});
            }
        }
        if let (Some(before), Some(old)) = (self.before, &mut facts.change.old) {
            old.annotations.insert(CONTROLLER_ANNOTATION.to_owned(), "first".to_owned());
            facts.operator_before = Some(Box::new(before));
        }
        if let Seen::Known(members) = &mut facts.members {
            for (from, to) in self.streams {
                if let Some(member) = members.get_mut(from)
                    && let Live::Answered(answer) = &mut member.live
                {
                    answer.replication.push(Sender {
                        name: format!("acid-a-{to}"),
                        state: "streaming".to_owned(),
                        sync_state: "async".to_owned(),
                    });
                }
            }
            if let Some(member) = members.last_mut()
                && let Live::Answered(answer) = &mut member.live
            {
                answer.tags.nosync = self.oddities.nosync;
            }
        }
        facts
    }
}
