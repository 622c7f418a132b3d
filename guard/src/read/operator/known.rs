//! The operators that a process has found, for many changes.
//!
//! A review that read them itself would cost four requests, and without a list of accounts the
//! Deployments of the whole Kubernetes cluster. So reviews share the Deployments that are at most
//! [`MAX_AGE`] old. What could not be read is never kept.
//!
//! They share the settings, too, at most [`MAX_AGE`] old, while a watch announces every change of them, of
//! the Deployments and of the list of accounts ([`KnownOperators::sources`]). Then the Deployments may be
//! twice as old. Without these watches the settings are read again for each review that is not refused
//! before. An operator reads its settings once, as it starts (`initOperatorConfig`,
//! pkg/controller/controller.go). So an edit that a watch announces late is none that an operator runs by
//! yet. While changes are admitted, a task reads all of this again before it is too old, and none waits.
//!
//! Without a list of accounts the operator is the only Deployment that may be one. A task lists the
//! Deployments of all namespaces every few seconds, and reviews read by name what it found.
//! A second Deployment that may be one therefore makes the operator unknown within that time. Until
//! then the first one counts: a look-alike takes its place at no time.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::Found;
use super::candidates::{listed_accounts, only_of, only_one, possible, under};
use super::settings::{Starts, place};
use crate::duration::exact;
use crate::objects::deployment::account;
use crate::operator::account::{LIST_NAME, LIST_NAMESPACE};
use crate::operator::{Account, Operator};
use crate::read::fetch::{Kind, Objects};
use crate::read::shared::{Age, Moment};

/// The age at which a look at the operators serves no further change.
const MAX_AGE: Duration = Duration::from_secs(1);
/// The age at which the next look is taken while this one still serves, so that no review waits for it.
const RENEWED_AT: Duration = Duration::from_millis(800);
/// The most objects of operators whose changes are to be announced.
const SOURCES: usize = 32;
/// The shortest time between two searches through the Deployments of all namespaces.
const SEARCH_INTERVAL: Duration = Duration::from_secs(5);
/// The longest time between two searches, and the longest time that one may take.
const LONGEST: Duration = Duration::from_secs(60);
/// The share of the time in which it searches: a 50th. A search through thousands of Deployments
/// costs more, and is rarer.
const SHARE: u32 = 50;
/// The age at which a search is not trusted any more, and a review searches itself: the last ones
/// have failed.
const SEARCHED_WITHIN: Duration = Duration::from_secs(200);
/// The most Deployments that are read by name.
const READ_BY_NAME: usize = 8;

/// The operators, shared by the changes that one process judges.
#[derive(Clone, Debug)]
pub struct KnownOperators {
    shared: Arc<Shared>,
    /// The age that a look may have.
    age: Age,
}

impl Default for KnownOperators {
    fn default() -> Self {
        Self { shared: Arc::default(), age: Age::Recent }
    }
}

/// One object that the operators' settings, or the question which operators there are, rest on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The path of all objects of its kind in its namespace.
    pub collection: String,
    /// Its name.
    pub name: String,
}

impl Source {
    fn of(kind: Kind, name: &str) -> Self {
        Self { collection: kind.path, name: name.to_owned() }
    }

    /// Returns its own path.
    pub fn path(&self) -> String {
        format!("{}/{}", self.collection, self.name)
    }
}

#[derive(Debug, Default)]
struct Shared {
    /// The last look. The lock is held while one is taken, so that all who need it wait for it.
    look: Mutex<Option<Look>>,
    /// Held while the next look is taken beside the reviews.
    renewing: Arc<Mutex<()>>,
    /// The Deployments that the last search has found.
    searched: RwLock<Option<Search>>,
    /// An operator of an earlier look, of any age.
    last: RwLock<Option<Operator>>,
    /// The starts of the operators' pods.
    starts: Starts,
    /// The objects that the last look rests on.
    sources: watch::Sender<BTreeSet<Source>>,
}

/// One look at the operators.
#[derive(Clone, Debug)]
struct Look {
    /// The beginning of the read of the Deployments.
    began: Instant,
    /// The same.
    first: Moment,
    /// The beginning of the read of the settings.
    read: Instant,
    /// The same.
    moment: Moment,
    accounts: Arc<Vec<Account>>,
    deployments: Arc<Vec<Deployment>>,
    found: Arc<Found>,
    sources: Arc<BTreeSet<Source>>,
}

/// One search through the Deployments of all namespaces.
#[derive(Clone, Debug)]
struct Search {
    began: Instant,
    /// Namespace and name of each Deployment that may be an operator.
    names: Arc<Vec<(String, String)>>,
    /// The reason for which none of them is accepted, where there are many.
    many: Option<String>,
}

impl PartialEq for KnownOperators {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared) && self.age == other.age
    }
}

impl Eq for KnownOperators {}

impl Look {
    /// Reads the settings of the same Deployments again.
    async fn again(&self, objects: &Objects, starts: &Starts) -> Self {
        let (read, moment) = (Instant::now(), Moment::now());
        let found = Found::of(&objects.since(moment), &self.deployments, None, Some(starts)).await;
        Self { read, moment, found: Arc::new(found), ..self.clone() }
    }

    /// Returns whether the Deployments were at most a second old when the settings were read.
    fn is_of_one_second(&self) -> bool {
        self.read.duration_since(self.began) <= MAX_AGE
    }

    /// Returns whether watches announce every change of what it rests on, and have announced none.
    fn is_unchanged(&self, objects: &Objects) -> bool {
        let Some(sharing) = &objects.sharing else { return false };
        let unchanged = |source: &Source| sharing.unchanged_since(&source.path());
        self.sources.len() <= SOURCES
            && self.sources.iter().all(|it| unchanged(it).is_some_and(|since| since < self.first))
    }

    /// Returns whether the Deployments and the accounts need no further read yet.
    fn is_lasting(&self, objects: &Objects) -> bool {
        self.began.elapsed() <= 2 * MAX_AGE && self.is_unchanged(objects)
    }

    /// Returns whether it serves every reader: a read of the last second confirms the settings, and no
    /// watch has announced a change of anything since the look began.
    fn is_certain(&self, objects: &Objects) -> bool {
        self.read.elapsed() <= MAX_AGE && self.is_lasting(objects)
    }
}

impl KnownOperators {
    /// Searches for operators every few seconds where the platform lists no accounts, and never
    /// ends.
    ///
    /// Without this task, reviews search themselves.
    pub async fn keep_searching(self, client: Client) {
        loop {
            let began = Instant::now();
            let objects = Objects::of(client.clone(), LONGEST);
            if matches!(listed_accounts(&objects).await, Ok(None)) {
                // An error shows in the age of the last search.
                self.search(&objects).await.ok();
            }
            let pause = (began.elapsed() * SHARE).clamp(SEARCH_INTERVAL, LONGEST);
            tokio::time::sleep(pause).await;
        }
    }

    /// Returns the same operators for a reader that takes settings of this age, and, for what admits a
    /// change, Deployments that are at most a second old. Readers that wait together share one look.
    #[must_use]
    pub fn aged(&self, age: Age) -> Self {
        Self { age, ..self.clone() }
    }

    /// Returns the objects that the last look rests on, now and whenever they change. A watch is to
    /// announce every change of each, by its [path](Source::path).
    pub fn sources(&self) -> watch::Receiver<BTreeSet<Source>> {
        self.shared.sources.subscribe()
    }

    /// Returns the operators.
    pub(super) async fn found(&self, objects: &Objects) -> Result<Arc<Found>, String> {
        Ok(self.look(objects).await?.found)
    }

    /// Returns the service accounts of operators.
    pub(super) async fn accounts(&self, objects: &Objects) -> Result<Vec<Account>, String> {
        Ok(self.look(objects).await?.accounts.to_vec())
    }

    /// Returns an operator of an earlier look, which may be outdated.
    pub(super) fn last(&self) -> Option<Operator> {
        self.shared.last.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn look(&self, objects: &Objects) -> Result<Look, String> {
        let asked = Instant::now();
        let held = tokio::time::timeout_at(objects.until, self.shared.look.lock()).await;
        let mut held = held
            .map_err(|_| format!("the operators: no answer within {}", exact(objects.patience)))?;
        if let Some(look) = held.as_ref().filter(|look| self.takes(look, asked, objects)) {
            // Refusals wait once in a second: they may cost a tenth of a request each, and this costs more.
            let admits = matches!(self.age, Age::Since(_));
            if admits && look.read.elapsed() >= RENEWED_AT && look.is_certain(objects) {
                self.renew(look, objects);
            }
            return Ok(look.clone());
        }
        let kept = held
            .as_ref()
            .filter(|look| look.began.elapsed() <= MAX_AGE || look.is_lasting(objects));
        let look = self.next(kept, objects).await?;
        *held = look.found.is_complete().then(|| look.clone());
        Ok(look)
    }

    /// Takes the look after one that still serves, in a task of its own.
    fn renew(&self, look: &Look, objects: &Objects) {
        let Ok(renewing) = Arc::clone(&self.shared.renewing).try_lock_owned() else { return };
        let (known, look, patience) = (self.clone(), look.clone(), MAX_AGE);
        let objects = Objects { until: Instant::now() + patience, patience, ..objects.clone() };
        tokio::spawn(async move {
            // The Deployments are read by every other look, before they are too old.
            let kept = Some(&look).filter(|look| look.began.elapsed() <= MAX_AGE);
            // An error is that of the review that meets it.
            if let Ok(next) = known.next(kept, &objects).await
                && next.found.is_complete()
            {
                let mut held = known.shared.look.lock().await;
                if held.as_ref().is_none_or(|held| held.moment < next.moment) {
                    *held = Some(next);
                }
            }
            drop(renewing);
        });
    }

    /// Takes a look. Only the settings are read where the Deployments of an earlier one are `kept`.
    async fn next(&self, kept: Option<&Look>, objects: &Objects) -> Result<Look, String> {
        let look = match kept {
            Some(look) => look.again(objects, &self.shared.starts).await,
            None => self.take_look(objects).await?,
        };
        let first = look.found.operators.iter().find_map(|(_, operator)| operator.as_ref().ok());
        if let Some(first) = first {
            let mut last = self.shared.last.write().unwrap_or_else(PoisonError::into_inner);
            *last = Some(first.clone());
        }
        Ok(look)
    }

    /// Returns whether a look is young enough for a reader that `asked` then.
    fn takes(&self, look: &Look, asked: Instant, objects: &Objects) -> bool {
        if look.is_certain(objects) {
            return true;
        }
        match self.age {
            Age::Since(moment) => look.moment > moment && look.is_of_one_second(),
            Age::Recent => look.read >= asked || look.read.elapsed() <= MAX_AGE,
            Age::Unchanged(moment) => look.moment > moment,
        }
    }

    async fn take_look(&self, objects: &Objects) -> Result<Look, String> {
        let (began, moment) = (Instant::now(), Moment::now());
        // Whatever age the reader takes: the look counts as young as this moment.
        let objects = &objects.since(moment);
        let (accounts, deployments) = if let Some(accounts) = listed_accounts(objects).await? {
            let deployments = under(objects, &accounts).await?;
            (accounts, deployments)
        } else {
            let deployments = self.only_candidate(objects).await?;
            (deployments.iter().map(account).collect(), deployments)
        };
        let found = Found::of(objects, &deployments, None, Some(&self.shared.starts)).await;
        let sources = Arc::new(sources(&deployments, &found));
        self.shared.sources.send_if_modified(|last| {
            let new = *last != *sources && sources.len() <= SOURCES;
            if new {
                last.clone_from(&sources);
            }
            new
        });
        Ok(Look {
            began,
            first: moment,
            read: began,
            moment,
            accounts: Arc::new(accounts),
            deployments: Arc::new(deployments),
            found: Arc::new(found),
            sources,
        })
    }

    /// Returns the Deployments of the only possible operator, by the last search.
    async fn only_candidate(&self, objects: &Objects) -> Result<Vec<Deployment>, String> {
        let searched = self.shared.searched.read().unwrap_or_else(PoisonError::into_inner).clone();
        match searched.filter(|search| search.began.elapsed() <= SEARCHED_WITHIN) {
            Some(Search { many: Some(why), .. }) => Err(why),
            Some(Search { names, .. }) => only_of(objects, &names).await,
            None => only_one(self.search(objects).await?),
        }
    }

    /// Lists the Deployments of all namespaces that may be operators, and keeps their names.
    async fn search(&self, objects: &Objects) -> Result<Vec<Deployment>, String> {
        let began = Instant::now();
        let found = possible(objects).await?;
        let names = found.iter().take(READ_BY_NAME).map(|deployment| {
            let part = |part: &Option<String>| part.clone().unwrap_or_default();
            (part(&deployment.metadata.namespace), part(&deployment.metadata.name))
        });
        let names = Arc::new(names.collect());
        let many = (found.len() > READ_BY_NAME).then(|| only_one(found.clone()).err()).flatten();
        let mut searched = self.shared.searched.write().unwrap_or_else(PoisonError::into_inner);
        *searched = Some(Search { began, names, many });
        drop(searched);
        Ok(found)
    }
}

/// Returns the objects that a look rests on: the list of accounts, the Deployments and the settings.
fn sources(deployments: &[Deployment], found: &Found) -> BTreeSet<Source> {
    let list = Source::of(Kind::of::<ConfigMap>(Some(LIST_NAMESPACE)), LIST_NAME);
    let deployments = deployments.iter().filter_map(|deployment| {
        let kind = Kind::of::<Deployment>(Some(deployment.metadata.namespace.as_deref()?));
        Some(Source::of(kind, deployment.metadata.name.as_deref()?))
    });
    let settings = found.operators.iter().filter_map(|(candidate, _)| place(&candidate.settings));
    let settings = settings.map(|(kind, name)| Source::of(kind, name));
    [list].into_iter().chain(deployments).chain(settings).collect()
}
