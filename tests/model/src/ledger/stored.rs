//! The ledger of a state as the guard's own type, and back. Every transition is the guard's.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use pgscale_guard::ledger::{
    self, Ask, Base as AskBase, Found, LAND_WITHIN, Ledger, Listing, Raised, Revision, Terms,
};

use crate::ledger::state::{Base, Creation, EDITS, Entry, Held, Kind, Live, State};

/// How many times of the model pass until a request is not stored any more.
pub(super) const LANDS_WITHIN: u8 = 2;

/// Returns a time of the model as the guard's.
pub(super) fn time(time: u8) -> Timestamp {
    let half = LAND_WITHIN.as_secs() / i64::from(LANDS_WITHIN);
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(half * i64::from(time))
}

fn time_of(timestamp: Timestamp) -> u8 {
    let half = LAND_WITHIN.as_secs() / i64::from(LANDS_WITHIN);
    u8::try_from(timestamp.as_second() / half).unwrap_or(u8::MAX)
}

/// Returns the one policy of the model.
pub(super) fn basis() -> BTreeSet<String> {
    BTreeSet::from(["policy".to_owned()])
}

fn small(number: impl TryInto<u8>) -> u8 {
    number.try_into().unwrap_or(u8::MAX)
}

fn revision(at: u8) -> Revision {
    Revision(at.into())
}

/// Returns the ledger of a state.
pub(super) fn ledger_of(state: &State) -> Ledger {
    let mut clusters = BTreeMap::new();
    for (number, name) in state.names.iter().enumerate() {
        if let Some(entry) = &name.entry {
            clusters.insert(number.to_string(), entry_of(entry));
        }
    }
    Ledger {
        basis: basis(),
        settles: state.settles.map(time),
        swept: revision(state.swept),
        clusters,
    }
}

fn entry_of(entry: &Entry) -> ledger::Entry {
    let until = Timestamp::UNIX_EPOCH;
    let held = entry.held.map(|held| ledger::Held {
        uid: held.uid.to_string(),
        committed: held.committed.into(),
        raised: held.raised.map(|to| Raised { to: to.into(), until }),
    });
    let creations = entry.creations.iter().flatten().map(|creation| ledger::Creation {
        uid: Some(creation.uid.to_string()),
        to: creation.to.into(),
        until: time(creation.until),
    });
    ledger::Entry { at: revision(entry.at), held, creations: creations.collect() }
}

/// Puts a ledger into a state.
pub(super) fn store(state: &mut State, ledger: &Ledger) {
    for (number, name) in state.names.iter_mut().enumerate() {
        name.entry = ledger.clusters.get(&number.to_string()).map(taken);
    }
    state.swept = small(ledger.swept.0);
    state.settles = ledger.settles.map(time_of);
}

fn taken(entry: &ledger::Entry) -> Entry {
    let uid = |uid: &str| uid.parse().unwrap_or(u8::MAX);
    let held = entry.held.as_ref().map(|held| Held {
        uid: uid(&held.uid),
        committed: small(held.committed),
        raised: held.raised.map(|raised| small(raised.to)),
    });
    let mut creations = [None; EDITS];
    for (place, creation) in creations.iter_mut().zip(&entry.creations) {
        *place = Some(Creation {
            uid: creation.uid.as_deref().map_or(u8::MAX, uid),
            to: small(creation.to),
            until: time_of(creation.until),
        });
    }
    // Their order says nothing.
    creations.sort_unstable();
    Entry { at: small(entry.at.0), held, creations }
}

/// Returns what the API server asks about an edit.
pub(super) fn ask(name: u8, kind: Kind, base: Base) -> Ask {
    let (base_of, to) = match kind {
        Kind::Create(to) => (AskBase::Creation, to),
        Kind::Update(to) => (AskBase::Update { at: revision(base.at), from: base.from.into() }, to),
        Kind::Delete => (AskBase::Update { at: revision(base.at), from: base.from.into() }, 0),
    };
    Ask {
        name: name.to_string(),
        uid: base.uid.to_string(),
        base: base_of,
        to: to.into(),
        dry_run: false,
    }
}

/// Returns the terms of a state.
pub(super) fn terms<'a>(state: &State, basis: &'a BTreeSet<String>) -> Terms<'a> {
    Terms { budget: state.budget.unwrap_or(0).into(), basis, now: time(state.now) }
}

/// Returns a list of clusters as the guard's.
pub(super) fn listing(at: u8, begun: u8, clusters: impl Iterator<Item = Option<Live>>) -> Listing {
    let found = |(number, live): (usize, Option<Live>)| {
        live.map(|live| Found {
            name: number.to_string(),
            uid: live.uid.to_string(),
            at: revision(live.at),
            instances: live.count.into(),
        })
    };
    Listing {
        at: revision(at),
        begun: Some(time(begun)),
        clusters: clusters.enumerate().filter_map(found).collect(),
    }
}
