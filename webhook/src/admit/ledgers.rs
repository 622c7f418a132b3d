//! The budgets of namespaces: growth is reserved in the ledger of its namespace before it is
//! admitted.
//!
//! All reviews of one namespace that wait at the same time are one [`Course`], so they cost one
//! write. The reviews of other namespaces do not wait for them. Nothing here is done for a
//! namespace without a budget.
//!
//! After a reservation this process looks at the namespace again, until the reservation is decided.
//! [`keep`](Ledgers::keep) does so for those that other replicas have left behind. No review waits
//! for either.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use kube::Client;
use pgscale_guard::facts::{Booking, Spending};
use pgscale_guard::ledger::{Answer, Ask, Course, Next, NotReady, Stored};
use pgscale_guard::read::{
    Age, KnownOperators, MemberClient, Operators, ReadScope, Reader, machine_time,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

pub(crate) use self::edge::FENCE;
use self::edge::{Edge, Written};
use super::internal;
use crate::metrics::Metrics;

mod edge;
mod heal;
mod keep;

/// The most changes that wait in one namespace.
const WAITING: usize = 512;
/// The most changes of one course.
const AT_ONCE: usize = 128;
/// The most namespaces whose last ledger is remembered.
const REMEMBERED: usize = 256;
/// The time for which a ledger is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(5);
/// The time for one course. The reviews in it have deadlines of their own.
const COURSE_TIME: Duration = Duration::from_secs(8);
/// The time for one request of a course.
const REQUEST_TIME: Duration = Duration::from_secs(3);
/// The most steps of one course. Each conflict takes two.
const STEPS: usize = 100;

/// The budgets that growth has to be reserved in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// The smallest budget of the namespace.
    pub(super) budget: u32,
    /// The policies that set one.
    pub(super) basis: BTreeSet<String>,
}

/// A change that waits for its answer.
#[derive(Debug)]
struct Waiting {
    ask: Ask,
    terms: Terms,
    answer: oneshot::Sender<Result<Spending, String>>,
}

/// What this process knows of one namespace.
#[derive(Debug, Default)]
struct Space {
    waiting: Vec<Waiting>,
    /// A task answers the changes that wait.
    working: bool,
    /// The ledger that was read or written last, and when.
    remembered: Option<(Instant, Stored)>,
    /// The last reservation.
    reserved: Option<Instant>,
    /// A task looks after what was reserved.
    healing: bool,
}

/// The ledgers of all namespaces with a budget.
#[derive(Clone)]
pub(crate) struct Ledgers {
    client: Client,
    ask: Arc<dyn MemberClient>,
    operators: KnownOperators,
    metrics: Arc<Metrics>,
    spaces: Arc<Mutex<BTreeMap<String, Space>>>,
}

impl Ledgers {
    /// Returns the ledgers behind this API server.
    pub(crate) fn new(
        client: Client,
        ask: Arc<dyn MemberClient>,
        operators: KnownOperators,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { client, ask, operators, metrics, spaces: Arc::default() }
    }

    /// Asks the ledger of a namespace for one change, and returns what it says, after the growth is
    /// reserved. Without an answer by `until` it is an error, and the growth is not admitted.
    ///
    /// # Errors
    /// A reason, for people.
    pub(super) async fn reserve(
        &self,
        namespace: &str,
        ask: Ask,
        terms: Terms,
        until: Instant,
    ) -> Result<Spending, String> {
        let (answer, answered) = oneshot::channel();
        {
            let mut spaces = self.spaces();
            let space = spaces.entry(namespace.to_owned()).or_default();
            if space.waiting.len() >= WAITING {
                return Err("too many changes wait for it".to_owned());
            }
            space.waiting.push(Waiting { ask, terms, answer });
            if !space.working {
                space.working = true;
                tokio::spawn(self.clone().work(namespace.to_owned()));
            }
        }
        match tokio::time::timeout_at(until, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err("pgscale itself failed".to_owned()),
            Err(_) => Err("the API server did not answer in time".to_owned()),
        }
    }

    /// Answers the changes that wait in a namespace, until none does.
    async fn work(self, namespace: String) {
        while let Some((batch, remembered)) = self.next(&namespace) {
            let asks: Vec<Ask> = batch.iter().map(|it| it.ask.clone()).collect();
            let Some(terms) = batch.first().map(|first| first.terms.clone()) else { return };
            let course = Course::new(asks, terms.budget, terms.basis.clone(), remembered);
            let gone = AssertUnwindSafe(self.go(&namespace, course)).catch_unwind();
            let answers = match tokio::time::timeout(COURSE_TIME, gone).await {
                Ok(Ok(answers)) => answers,
                Ok(Err(panic)) => Err(internal(panic.as_ref())),
                Err(_) => Err("the API server did not answer in time".to_owned()),
            };
            let reserved = |it: &(Spending, bool)| it.1;
            if answers.as_ref().is_ok_and(|answers| answers.iter().any(reserved)) {
                self.look_after(&namespace, &terms);
            }
            match answers {
                Ok(answers) => {
                    for (waiting, (spending, _)) in batch.into_iter().zip(answers) {
                        drop(waiting.answer.send(Ok(spending)));
                    }
                }
                Err(why) => {
                    tracing::warn!(namespace, why, "nothing could be reserved");
                    // What was remembered may be what it failed on.
                    self.remember(&namespace, None);
                    for waiting in batch {
                        drop(waiting.answer.send(Err(why.clone())));
                    }
                }
            }
        }
    }

    /// Returns the changes of the next course, all under the same budgets, with the ledger that is
    /// remembered. `None` where no change waits: the work then ends.
    fn next(&self, namespace: &str) -> Option<(Vec<Waiting>, Option<Stored>)> {
        let mut spaces = self.spaces();
        let space = spaces.get_mut(namespace)?;
        // A review that has given up is not admitted, and must reserve nothing.
        space.waiting.retain(|waiting| !waiting.answer.is_closed());
        let Some(terms) = space.waiting.first().map(|first| first.terms.clone()) else {
            space.working = false;
            spaces.retain(|_, space| space.is_of_use());
            return None;
        };
        let mut batch = Vec::new();
        let mut rest = Vec::new();
        for waiting in space.waiting.drain(..) {
            let together = waiting.terms == terms && batch.len() < AT_ONCE;
            if together { batch.push(waiting) } else { rest.push(waiting) }
        }
        space.waiting = rest;
        let remembered = space.remembered.as_ref().filter(|it| it.0.elapsed() < REMEMBERED_FOR);
        Some((batch, remembered.map(|(_, stored)| stored.clone())))
    }

    /// Goes a course to its end. Returns what the ledger says to each change, and whether growth
    /// was reserved for it.
    async fn go(
        &self,
        namespace: &str,
        mut course: Course,
    ) -> Result<Vec<(Spending, bool)>, String> {
        let edge = self.edge(namespace);
        for _ in 0..STEPS {
            match course.next(machine_time()) {
                Next::Read => course.read(edge.read().await?),
                Next::List => course.listed(edge.list().await?),
                Next::Fence(fences) => course.fenced(edge.fence(fences).await?),
                Next::Write { ledger, replaces } => {
                    let object = course.object(namespace, ledger, replaces);
                    match edge.write(&object).await? {
                        Written::Version(version) => {
                            let stored = course.written(version);
                            self.remember(namespace, stored);
                        }
                        Written::Conflict => {
                            self.metrics.budget_conflict();
                            course.conflict();
                        }
                    }
                }
                Next::Answer(answers) => {
                    let said = course.asks().iter().zip(answers);
                    return Ok(said.map(|(ask, answer)| says(&course, ask, &answer)).collect());
                }
            }
        }
        Err("its ledger was written by others each time".to_owned())
    }

    fn edge(&self, namespace: &str) -> Edge {
        Edge::new(self.reader(), namespace)
    }

    fn reader(&self) -> Reader {
        Reader {
            client: self.client.clone(),
            ask: Arc::clone(&self.ask),
            deadline: REQUEST_TIME,
            breadth: ReadScope::Review,
            operators: Operators::Known(self.operators.aged(Age::Recent)),
            clock: machine_time,
            sharing: None,
        }
    }

    /// Remembers the ledger of a namespace, or forgets it.
    fn remember(&self, namespace: &str, stored: Option<Stored>) {
        let mut spaces = self.spaces();
        let fresh = |space: &Space| space.remembered.is_some();
        if stored.is_some() && spaces.values().filter(|space| fresh(space)).count() >= REMEMBERED {
            for space in spaces.values_mut() {
                space.remembered = None;
            }
        }
        if let Some(space) = spaces.get_mut(namespace) {
            space.remembered = stored.map(|stored| (Instant::now(), stored));
        }
    }

    fn spaces(&self) -> MutexGuard<'_, BTreeMap<String, Space>> {
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Space {
    /// Returns whether it has to be kept.
    fn is_of_use(&self) -> bool {
        let remembered = self.remembered.as_ref();
        self.working
            || self.healing
            || !self.waiting.is_empty()
            || remembered.is_some_and(|(when, _)| when.elapsed() < REMEMBERED_FOR)
    }
}

/// Returns what a course says to one change, and whether growth was reserved for it.
fn says(course: &Course, ask: &Ask, answer: &Answer) -> (Spending, bool) {
    let booking = match answer {
        Answer::Free(_) | Answer::Reserved => Booking::Granted(ask.to.into()),
        Answer::Over(_) => Booking::Looked,
        Answer::NotReady(NotReady::Settling(until)) => Booking::Settling(*until),
        Answer::NotReady(NotReady::OtherBasis) | Answer::Contended => Booking::Contended,
        Answer::Full => Booking::Full,
    };
    let ledger = course.ledger();
    let mut spending = ledger.map_or_else(
        || Spending { booking, ..Spending::assumed(ask.to.into()) },
        |ledger| Spending::of(ledger, &ask.name, booking),
    );
    if let Answer::Over(over) = answer {
        // The sums at the very moment of the answer: others of the same course were answered later.
        (spending.used, spending.reserved) = (over.used, over.reserved);
        spending.own = u64::from(ask.to).saturating_sub(over.wanted);
    }
    (spending, *answer == Answer::Reserved)
}
