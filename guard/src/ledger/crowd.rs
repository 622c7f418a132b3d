//! Courses of many edits, by three replicas at once, in every order that chance makes: on a store
//! that refuses old writes, with replicas that end in the middle, edits that are stored late or
//! never, and answers of the API server that are old.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;

const REPLICAS: usize = 3;

/// A source of chance that a property can repeat.
struct Chance(u64);

impl Chance {
    /// Returns a number below `bound` (splitmix64).
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((word ^ (word >> 31)) % bound as u64).unwrap()
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

/// An edit that raises one cluster.
#[derive(Clone, Debug)]
struct Edit {
    name: String,
    to: u32,
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    /// The API server has to read the cluster, and to ask.
    New,
    /// It waits for this replica.
    Waits(usize, Ask),
    Admitted(Ask),
    Stored,
    /// The ledger's answer.
    Refused(Answer),
    /// The replica ended, or the writer gave up.
    Lost,
}

/// The edits of a course, and where it is.
struct Work {
    course: Course,
    edits: Vec<usize>,
    doing: Option<Next>,
}

/// What may go wrong.
#[derive(Clone, Copy, Default)]
struct Mishaps {
    /// Replicas end in the middle.
    ends: bool,
    /// Writers give up what was admitted.
    gives_up: bool,
}

struct Crowd {
    chance: Chance,
    mishaps: Mishaps,
    budget: u32,
    now: Timestamp,
    clusters: BTreeMap<String, Found>,
    revision: u64,
    /// The ledger in the store, and how often it was written.
    ledger: Ledger,
    writes: u64,
    edits: Vec<Edit>,
    replicas: [Option<Work>; REPLICAS],
    remembered: [Option<Stored>; REPLICAS],
    conflicts: u32,
}

fn basis() -> BTreeSet<String> {
    BTreeSet::from(["policy".to_owned()])
}

impl Crowd {
    /// Returns `count` clusters of one instance.
    fn new(seed: u64, count: usize, budget: u32, mishaps: Mishaps) -> Self {
        let found = |number: usize| {
            let name = format!("acid-{number:02}");
            (name.clone(), Found { uid: name.clone(), name, at: Revision(1), instances: 1 })
        };
        let clusters: BTreeMap<String, Found> = (0..count).map(found).collect();
        let mut ledger = Ledger::unsettled(basis(), Timestamp::MIN);
        let now = Timestamp::UNIX_EPOCH;
        let listed = clusters.values().cloned().collect();
        let listing = Listing { at: Revision(1), begun: Some(now), clusters: listed };
        ledger.observe_all(&listing).unwrap();
        Self {
            chance: Chance(seed),
            mishaps,
            budget,
            now,
            clusters,
            revision: 1,
            ledger,
            writes: 0,
            edits: Vec::new(),
            replicas: [const { None }; REPLICAS],
            remembered: [const { None }; REPLICAS],
            conflicts: 0,
        }
    }

    fn edit(&mut self, name: usize, to: u32) {
        let name = format!("acid-{name:02}");
        self.edits.push(Edit { name, to, phase: Phase::New });
    }

    fn used(&self) -> u32 {
        self.clusters.values().map(|cluster| cluster.instances).sum()
    }

    fn stored(&self) -> Stored {
        Stored { ledger: self.ledger.clone(), version: self.writes.to_string() }
    }

    fn listing(&self) -> Listing {
        let clusters = self.clusters.values().cloned().collect();
        Listing { at: Revision(self.revision), begun: Some(self.now), clusters }
    }

    /// Moves one edit or one replica on.
    fn step(&mut self) {
        self.now += SignedDuration::from_millis(1);
        if self.chance.one_in(2) {
            let replica = self.chance.below(REPLICAS);
            self.work(replica);
        } else {
            let edit = self.chance.below(self.edits.len());
            self.move_on(edit);
        }
        assert!(self.used() <= self.budget.max(u32::try_from(self.clusters.len()).unwrap()));
    }

    fn move_on(&mut self, number: usize) {
        let Edit { name, to, phase } = self.edits[number].clone();
        match phase {
            Phase::New => {
                let cluster = &self.clusters[&name];
                let base = Base::Update { at: cluster.at, from: cluster.instances };
                let ask = Ask { name, uid: cluster.uid.clone(), base, to, dry_run: false };
                // Another edit was faster, and as large.
                self.edits[number].phase = if ask.grows() {
                    Phase::Waits(self.chance.below(REPLICAS), ask)
                } else {
                    Phase::Stored
                };
            }
            Phase::Admitted(ask) => {
                if self.mishaps.gives_up && self.chance.one_in(4) {
                    self.edits[number].phase = Phase::Lost;
                    return;
                }
                let cluster = self.clusters.get_mut(&name).unwrap();
                let Base::Update { at, .. } = ask.base else { unreachable!() };
                if cluster.at == at {
                    self.revision += 1;
                    (cluster.at, cluster.instances) = (Revision(self.revision), to);
                    self.edits[number].phase = Phase::Stored;
                } else {
                    self.edits[number].phase = Phase::New;
                }
            }
            Phase::Waits(..) | Phase::Stored | Phase::Refused(_) | Phase::Lost => {}
        }
    }

    fn work(&mut self, replica: usize) {
        let Some(mut work) = self.replicas[replica].take() else {
            self.begin(replica);
            return;
        };
        if self.mishaps.ends && self.chance.one_in(20) {
            self.remembered[replica] = None;
            // A write may have been on its way.
            if self.chance.one_in(2)
                && let Some(Next::Write { ledger, replaces }) = work.doing
                && replaces == Some(self.writes.to_string())
            {
                (self.ledger, self.writes) = (ledger, self.writes + 1);
            }
            for edit in work.edits {
                self.edits[edit].phase = Phase::Lost;
            }
            return;
        }
        // A request takes a step, and others work meanwhile.
        let Some(doing) = work.doing.take() else {
            work.doing = Some(work.course.next(self.now));
            self.replicas[replica] = Some(work);
            return;
        };
        match doing {
            Next::Read => work.course.read(Some(self.stored())),
            Next::List => work.course.listed(self.listing()),
            Next::Fence(fences) => {
                let mut found = Vec::new();
                for fence in fences {
                    let cluster = self.clusters.get_mut(&fence.name).unwrap();
                    if cluster.at == fence.at {
                        self.revision += 1;
                        cluster.at = Revision(self.revision);
                    }
                    found.push(cluster.clone());
                }
                work.course.fenced(found);
            }
            Next::Write { ledger, replaces } => {
                if replaces == Some(self.writes.to_string()) {
                    (self.ledger, self.writes) = (ledger, self.writes + 1);
                    self.remembered[replica] = work.course.written(self.writes.to_string());
                } else {
                    work.course.conflict();
                    self.remembered[replica] = None;
                }
            }
            Next::Answer(answers) => {
                self.conflicts += work.course.conflicts();
                for (edit, answer) in work.edits.iter().zip(answers) {
                    let edit = &mut self.edits[*edit];
                    let Phase::Waits(_, ask) = edit.phase.clone() else { unreachable!() };
                    edit.phase =
                        if answer.admits() { Phase::Admitted(ask) } else { Phase::Refused(answer) };
                }
                return;
            }
        }
        self.replicas[replica] = Some(work);
    }

    /// Begins a course of all edits that wait for a replica.
    fn begin(&mut self, replica: usize) {
        let waiting = |(number, edit): (usize, &Edit)| {
            let Phase::Waits(at, ask) = &edit.phase else { return None };
            (*at == replica).then(|| (number, ask.clone()))
        };
        let (edits, asks): (Vec<usize>, Vec<Ask>) =
            self.edits.iter().enumerate().filter_map(waiting).unzip();
        if !edits.is_empty() {
            let remembered = self.remembered[replica].clone();
            let course = Course::new(asks, self.budget, basis(), remembered);
            self.replicas[replica] = Some(Work { course, edits, doing: None });
        }
    }

    /// Goes on until every edit has ended.
    fn run(&mut self) {
        let ended =
            |edit: &Edit| matches!(edit.phase, Phase::Stored | Phase::Refused(_) | Phase::Lost);
        for _ in 0..200_000 {
            if self.edits.iter().all(ended) && self.replicas.iter().all(Option::is_none) {
                return;
            }
            self.step();
        }
        panic!("it does not end");
    }

    fn stored_edits(&self) -> usize {
        self.edits.iter().filter(|edit| edit.phase == Phase::Stored).count()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn edits_that_all_fit_are_all_admitted(seed in any::<u64>()) {
        let mut crowd = Crowd::new(seed, 50, 150, Mishaps::default());
        for name in 0..50 {
            crowd.edit(name, 3);
        }
        crowd.run();
        prop_assert_eq!((crowd.stored_edits(), crowd.used()), (50, 150));
        prop_assert!(crowd.writes <= 50, "{} writes", crowd.writes);
    }

    #[test]
    fn budget_is_used_up_and_not_passed(seed in any::<u64>(), room in 0..40_u32) {
        let mut crowd = Crowd::new(seed, 20, 20 + room, Mishaps::default());
        for name in 0..20 {
            crowd.edit(name, 3);
        }
        crowd.run();
        // Each takes two, and one may be left.
        prop_assert_eq!(crowd.used(), 20 + room / 2 * 2);
        for edit in &crowd.edits {
            let contended = matches!(edit.phase, Phase::Refused(Answer::Contended));
            prop_assert!(!contended, "{} conflicts", crowd.conflicts);
        }
    }

    #[test]
    fn many_edits_of_one_cluster_count_once(seed in any::<u64>()) {
        let mut crowd = Crowd::new(seed, 2, 7, Mishaps::default());
        for to in [2, 3, 4, 5, 2, 3, 4, 5, 6, 6, 6, 2, 2] {
            crowd.edit(0, to);
        }
        crowd.run();
        prop_assert_eq!((crowd.stored_edits(), crowd.used()), (13, 7));
    }

    #[test]
    fn mishaps_pass_no_budget_and_leave_nothing(seed in any::<u64>(), room in 0..30_u32) {
        let mishaps = Mishaps { ends: true, gives_up: true };
        let mut crowd = Crowd::new(seed, 10, 10 + room, mishaps);
        for name in 0..40 {
            crowd.edit(name % 10, 2 + u32::try_from(name / 10).unwrap());
        }
        crowd.run();
        // A later edit takes what is left, whatever was lost before: without a controller.
        crowd.mishaps = Mishaps::default();
        crowd.now += FENCE_AFTER;
        let left = 10 + room - crowd.used();
        let first = crowd.clusters["acid-00"].instances;
        crowd.edits.clear();
        crowd.edit(0, first + left);
        crowd.edit(0, first + left + 1);
        crowd.run();
        prop_assert_eq!(crowd.used(), 10 + room);
        prop_assert!(matches!(crowd.edits[1].phase, Phase::Refused(Answer::Over(_))));
    }
}

#[test]
fn ten_thousand_edits_pass_no_budget() {
    let mishaps = Mishaps { ends: true, gives_up: true };
    let mut crowd = Crowd::new(16, 100, 600, mishaps);
    for round in 0..10 {
        for name in 0..100 {
            for _ in 0..10 {
                let to = u32::try_from(2 + crowd.chance.below(10)).unwrap();
                crowd.edit(name, to);
            }
        }
        crowd.run();
        crowd.edits.clear();
        crowd.now += FENCE_AFTER;
        // Room for the next round.
        let revision = crowd.revision;
        for (cluster, at) in crowd.clusters.values_mut().zip(revision + 1..) {
            (cluster.at, cluster.instances) = (Revision(at), 1 + round % 3);
        }
        crowd.revision += 100;
    }
}
