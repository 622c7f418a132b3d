//! Patroni's store: in the template and the pods, and by all that the operator takes it from.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use k8s_openapi::jiff::SignedDuration;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::seen;
use crate::facts::{Elsewhere, Facts, Live, Seen};
use crate::patroni::Store;
use crate::rules::testing::now;

/// The store of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Stores {
    template: Store,
    /// A pod that was made with another.
    odd: Option<(usize, Store)>,
    setting: Option<bool>,
    major: Option<u32>,
    /// The minutes after the operator's start at which it wrote the template.
    written: Option<i64>,
    environment: Seen<BTreeMap<String, bool>>,
    elsewhere: Seen<Elsewhere>,
}

/// The loss of the store by some members, and the watchdogs that failed.
#[derive(Clone, Debug)]
pub(super) struct Losses {
    lost: Vec<bool>,
    watchdogs: Vec<bool>,
}

fn store() -> impl Strategy<Value = Store> {
    select(vec![Store::Endpoints, Store::Endpoints, Store::ConfigMaps])
}

/// Returns nothing for most clusters: their pods are of no operator that is known.
pub(super) fn stores() -> impl Strategy<Value = Option<Stores>> {
    let variable = || Just(BTreeMap::from([("KUBERNETES_USE_CONFIGMAPS".to_owned(), true)]));
    let environment = prop_oneof![
        8 => Just(Seen::Absent),
        1 => seen(variable()),
    ];
    let left = (store(), option::of(Just("7".to_owned())), option::of(0_i64..48)).prop_map(
        |(store, initialize, hours)| Elsewhere {
            store,
            initialize,
            last_leader: Some("acid-a-1".to_owned()),
            renewed: hours.map(|hours| now() - SignedDuration::from_hours(hours)),
        },
    );
    let elsewhere = prop_oneof![3 => Just(Seen::Absent), 1 => seen(left)];
    let odd = option::weighted(0.1, (0_usize..8, store()));
    let major = select(vec![Some(1), Some(2), Some(2), None]);
    let setting = select(vec![None, Some(false), Some(false), Some(true)]);
    let written = option::of(-5_i64..5);
    let all = (store(), odd, setting, major, written, environment, elsewhere).prop_map(
        |(template, odd, setting, major, written, environment, elsewhere)| Stores {
            template,
            odd,
            setting,
            major,
            written,
            environment,
            elsewhere,
        },
    );
    option::weighted(0.25, all)
}

pub(super) fn losses() -> impl Strategy<Value = Losses> {
    let rarely = || prop::collection::vec(prop::bool::weighted(0.04), 8);
    (rarely(), rarely()).prop_map(|(lost, watchdogs)| Losses { lost, watchdogs })
}

impl Stores {
    pub(super) fn befall(self, facts: &mut Facts) {
        let started = now() - SignedDuration::from_hours(1);
        if let Seen::Known(operator) = &mut facts.operator {
            operator.settings.use_config_maps = self.setting;
            operator.major = self.major;
            operator.started = Some(started);
            operator.settings.pods.environment = self.environment;
            if operator.settings.pods.environment != Seen::Absent {
                operator.settings.pods.environment_map = Some("default/pods".to_owned());
            }
        }
        if let Seen::Known(set) = &mut facts.stateful_set {
            set.store = Some(self.template);
            set.written = self.written.map(|after| started + SignedDuration::from_mins(after));
        }
        if let Seen::Known(members) = &mut facts.members {
            for (index, member) in members.iter_mut().enumerate() {
                let odd = self.odd.filter(|(odd, _)| *odd == index).map(|(_, store)| store);
                member.pod.store = Some(odd.unwrap_or(self.template));
            }
        }
        facts.elsewhere = self.elsewhere.map(Box::new);
    }
}

impl Losses {
    pub(super) fn befall(self, facts: &mut Facts) {
        let Seen::Known(members) = &mut facts.members else { return };
        for (member, (lost, watchdog)) in
            members.iter_mut().zip(self.lost.into_iter().zip(self.watchdogs))
        {
            if let Live::Answered(answer) = &mut member.live {
                let seen = now().as_second() - if lost { 3600 } else { 0 };
                answer.dcs_last_seen = NonZeroU32::new(seen.try_into().unwrap());
                answer.watchdog_failed = watchdog;
            }
        }
    }
}
