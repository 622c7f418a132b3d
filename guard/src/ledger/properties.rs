//! Properties of long random histories. The model (`tests/model`) searches short ones exhaustively.

use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// One thing that happens. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Happens {
    /// An edit is asked about, on what was stored some writes ago.
    Asked { name: u8, to: u32, ago: usize },
    /// A creation is asked about.
    Created { name: u8, to: u32 },
    /// An admitted edit is stored, if it still can be.
    Stored(usize),
    /// An admitted edit is given up.
    GivenUp(usize),
    /// The cluster is deleted.
    Deleted(u8),
    /// Another writer edits something else.
    Touched(u8),
    /// One cluster is seen, as it was some writes ago.
    Seen { name: u8, ago: usize },
    /// All clusters are listed, as they were some writes ago.
    Listed { ago: usize },
    /// The budget changes.
    Budget(u32),
    /// Seconds pass.
    Passed(i64),
}

fn happens() -> impl Strategy<Value = Happens> {
    use Happens::*;
    let name = || 0..5_u8;
    prop_oneof![
        6 => (name(), 0..6_u32, 0..4_usize).prop_map(|(name, to, ago)| Asked { name, to, ago }),
        2 => (name(), 0..6_u32).prop_map(|(name, to)| Created { name, to }),
        6 => any::<usize>().prop_map(Stored),
        1 => any::<usize>().prop_map(GivenUp),
        1 => name().prop_map(Deleted),
        2 => name().prop_map(Touched),
        3 => (name(), 0..6_usize).prop_map(|(name, ago)| Seen { name, ago }),
        2 => (0..6_usize).prop_map(|ago| Listed { ago }),
        1 => (0..25_u32).prop_map(Budget),
        2 => (1..200_i64).prop_map(Passed),
    ]
}

/// An admitted change on its way to the store.
#[derive(Clone, Debug)]
struct Admitted {
    ask: Ask,
    until: i64,
}

/// The API server, with all that it ever held, and the ledger beside it.
struct World {
    /// The clusters after each write, with the time of that write.
    history: Vec<(i64, BTreeMap<String, Found>)>,
    admitted: Vec<Admitted>,
    ledger: Ledger,
    budget: u32,
    now: i64,
    uids: u32,
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

fn key(name: u8) -> String {
    format!("acid-{name}")
}

impl World {
    fn new() -> Self {
        let mut ledger = Ledger::unsettled(BTreeSet::from(["p".to_owned()]), Timestamp::MIN);
        let listing = Listing { at: Revision(1), begun: Some(time(0)), clusters: Vec::new() };
        ledger.observe_all(&listing).unwrap();
        let history = vec![(0, BTreeMap::new())];
        Self { history, admitted: Vec::new(), ledger, budget: 10, now: 0, uids: 0 }
    }

    /// Returns the clusters as they were some writes ago, their revision, and the time at which
    /// that state ended.
    fn past(&self, ago: usize) -> (BTreeMap<String, Found>, Revision, i64) {
        let place = self.history.len() - 1 - ago.min(self.history.len() - 1);
        let ended = self.history.get(place + 1).map_or(self.now, |(time, _)| *time);
        (self.history[place].1.clone(), Revision(place as u64 + 1), ended)
    }

    fn live(&self) -> &BTreeMap<String, Found> {
        &self.history.last().unwrap().1
    }

    fn write(&mut self, change: impl FnOnce(&mut BTreeMap<String, Found>, Revision)) {
        let mut next = self.live().clone();
        change(&mut next, Revision(self.history.len() as u64 + 1));
        self.history.push((self.now, next));
    }

    fn ask(&mut self, ask: Ask) -> Answer {
        let basis = self.ledger.basis.clone();
        let terms = Terms { budget: self.budget, basis: &basis, now: time(self.now) };
        let before = self.ledger.totals().counted();
        let answer = self.ledger.reserve(&ask, &terms);
        let after = self.ledger.totals().counted();
        assert!(after <= before.max(self.budget.into()), "{ask:?}: {answer:?}");
        if answer.admits() {
            self.admitted.push(Admitted { ask, until: self.now + LAND_WITHIN.as_secs() });
        }
        answer
    }

    fn store(&mut self, place: usize) {
        let Admitted { ask, .. } = self.admitted.swap_remove(place);
        let live = self.live().get(&ask.name);
        let fits = match ask.base {
            Base::Creation => live.is_none(),
            Base::Update { at, .. } => live.is_some_and(|it| it.at == at && it.uid == ask.uid),
        };
        if fits {
            self.write(|clusters, at| {
                let Ask { name, uid, to, .. } = ask;
                clusters.insert(name.clone(), Found { name, uid, at, instances: to });
            });
        }
    }

    /// Returns the greatest count that a name holds, or may come to hold by what is admitted.
    fn worst(&self, name: &str) -> u32 {
        let live = self.live().get(name);
        let admitted = self.admitted.iter().filter(|it| it.ask.name == name);
        let admitted = admitted.filter_map(|Admitted { ask, .. }| match ask.base {
            Base::Creation => Some(ask.to),
            Base::Update { at, .. } => live.filter(|it| it.at == at).map(|_| ask.to),
        });
        admitted.chain(live.map(|it| it.instances)).max().unwrap_or(0)
    }

    fn happen(&mut self, what: &Happens) {
        match *what {
            Happens::Asked { name, to, ago } => {
                let Some(old) = self.past(ago).0.remove(&key(name)) else { return };
                let base = Base::Update { at: old.at, from: old.instances };
                self.ask(Ask { name: old.name, uid: old.uid, base, to, dry_run: false });
            }
            Happens::Created { name, to } => {
                self.uids += 1;
                let uid = format!("uid-{}", self.uids);
                let (name, base) = (key(name), Base::Creation);
                self.ask(Ask { name, uid, base, to, dry_run: false });
            }
            Happens::Stored(place) if !self.admitted.is_empty() => {
                self.store(place % self.admitted.len());
            }
            Happens::GivenUp(place) if !self.admitted.is_empty() => {
                self.admitted.swap_remove(place % self.admitted.len());
            }
            Happens::Stored(_) | Happens::GivenUp(_) => {}
            Happens::Deleted(name) => self.write(|clusters, _| _ = clusters.remove(&key(name))),
            Happens::Touched(name) => self.write(|clusters, at| {
                if let Some(cluster) = clusters.get_mut(&key(name)) {
                    cluster.at = at;
                }
            }),
            Happens::Seen { name, ago } => {
                let seen = self.past(ago).0.remove(&key(name));
                let before = self.ledger.totals().counted();
                if let Some(seen) = seen {
                    self.ledger.observe(&seen);
                }
                assert!(self.ledger.totals().counted() <= before, "what is seen adds nothing");
            }
            Happens::Listed { ago } => {
                let (clusters, at, ended) = self.past(ago);
                let clusters = clusters.into_values().collect();
                let before = self.ledger.totals().counted();
                let listing = Listing { at, begun: Some(time(ended)), clusters };
                self.ledger.observe_all(&listing).unwrap();
                assert!(self.ledger.totals().counted() <= before, "a list adds nothing");
            }
            Happens::Budget(budget) => self.budget = budget,
            Happens::Passed(seconds) => {
                self.now += seconds;
                let now = self.now;
                // Only creations end by the clock. Updates may be stored at any time.
                self.admitted.retain(|it| it.ask.base != Base::Creation || it.until > now);
            }
        }
        for number in 0..5 {
            let name = key(number);
            let counted = self.ledger.clusters.get(&name).map_or(0, Entry::counted);
            assert!(counted >= self.worst(&name), "{name} after {what:?}: {:?}", self.ledger);
        }
    }

    /// Fences what is undecided and lists all clusters, late enough for creations.
    fn heal(&mut self) {
        for fence in self.ledger.overdue(Timestamp::MAX) {
            let still = |found: &&mut Found| found.at == fence.at && found.uid == fence.uid;
            self.write(|clusters, at| {
                if let Some(cluster) = clusters.get_mut(&fence.name).filter(still) {
                    cluster.at = at;
                }
            });
        }
        let (clusters, at, _) = self.past(0);
        let begun = Some(time(self.now + LAND_WITHIN.as_secs()));
        let clusters = clusters.into_values().collect();
        self.ledger.observe_all(&Listing { at, begun, clusters }).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn what_is_stored_or_may_be_is_counted_and_nothing_stays(all in vec(happens(), 0..120)) {
        let mut world = World::new();
        for what in &all {
            world.happen(what);
        }
        world.admitted.clear();
        world.heal();
        let live: u64 = world.live().values().map(|it| u64::from(it.instances)).sum();
        prop_assert_eq!(world.ledger.totals(), Totals { used: live, reserved: 0 });
        prop_assert_eq!(world.ledger.undecided().count(), 0);
    }

    #[test]
    fn order_in_which_clusters_are_seen_says_nothing(
        seen in vec((0..3_u8, 1..40_u64), 1..12),
        order in any::<u64>(),
    ) {
        let found = |(name, revision): &(u8, u64)| {
            let (name, at) = (key(*name), Revision(*revision));
            // What is seen at one revision is always the same.
            let instances = u32::try_from(revision * 7 % 5).unwrap();
            Found { uid: format!("{name}-{}", revision / 10), name, at, instances }
        };
        let taken = |seen: &[Found]| {
            let mut ledger = Ledger::unsettled(BTreeSet::new(), Timestamp::MIN);
            for found in seen {
                ledger.observe(found);
            }
            ledger
        };
        let mut all: Vec<Found> = seen.iter().map(found).collect();
        let first = taken(&all);
        all.sort_by_key(|found| found.at.0.wrapping_mul(order | 1));
        prop_assert_eq!(taken(&all), first);
    }
}
