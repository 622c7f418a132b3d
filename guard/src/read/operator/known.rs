//! The operators that a process has found, for many changes.
//!
//! A review that read them itself would cost four requests, and without a list of accounts the
//! Deployments of the whole Kubernetes cluster. So reviews share the Deployments that are at most
//! [`MAX_AGE`] old. Their settings are read again for each review that is not refused before: an
//! operator that starts a second later has the new ones. What could not be read is never kept.
//!
//! Without a list of accounts the operator is the only Deployment that may be one. A task lists the
//! Deployments of all namespaces every few seconds, and reviews read by name what it found.
//! A second Deployment that may be one therefore makes the operator unknown within that time. Until
//! then the first one counts: a look-alike takes its place at no time.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Found;
use super::candidates::{listed_accounts, only_of, only_one, possible, under};
use crate::duration::exact;
use crate::objects::deployment::account;
use crate::operator::{Account, Operator};
use crate::read::fetch::Objects;
use crate::read::shared::Moment;

/// The age at which a look at the operators serves no further change.
const MAX_AGE: Duration = Duration::from_secs(1);
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
#[derive(Clone, Debug, Default)]
pub struct KnownOperators {
    shared: Arc<Shared>,
    /// Only a look serves that began after this moment.
    since: Option<Moment>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The last look. The lock is held while one is taken, so that all who need it wait for it.
    look: Mutex<Option<Look>>,
    /// The Deployments that the last search has found.
    searched: RwLock<Option<Search>>,
    /// An operator of an earlier look, of any age.
    last: RwLock<Option<Operator>>,
}

/// One look at the operators.
#[derive(Clone, Debug)]
struct Look {
    began: Instant,
    moment: Moment,
    accounts: Arc<Vec<Account>>,
    deployments: Arc<Vec<Deployment>>,
    found: Arc<Found>,
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
        Arc::ptr_eq(&self.shared, &other.shared) && self.since == other.since
    }
}

impl Eq for KnownOperators {}

impl Look {
    /// Reads the settings of the same Deployments again.
    async fn again(&self, objects: &Objects) -> Self {
        let moment = Moment::now();
        let found = Found::of(objects, &self.deployments, None).await;
        Self { moment, found: Arc::new(found), ..self.clone() }
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

    /// Returns the same operators for a reader that takes no settings from before this moment, and
    /// Deployments that are at most a second old. Readers that wait together share one look.
    #[must_use]
    pub fn since(&self, moment: Moment) -> Self {
        Self { since: Some(moment), ..self.clone() }
    }

    /// Returns the same operators for a reader that takes any look of the last second, for a guess.
    #[must_use]
    pub fn recent(&self) -> Self {
        Self { since: None, ..self.clone() }
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
        let recent = |look: &&Look| match self.since {
            Some(since) => look.moment > since,
            None => look.began >= asked || look.began.elapsed() <= MAX_AGE,
        };
        if let Some(look) = held.as_ref().filter(recent) {
            return Ok(look.clone());
        }
        let look = match held.as_ref().filter(|look| look.began.elapsed() <= MAX_AGE) {
            Some(look) => look.again(objects).await,
            None => self.take_look(objects).await?,
        };
        let first = look.found.operators.iter().find_map(|(_, operator)| operator.as_ref().ok());
        if let Some(first) = first {
            let mut last = self.shared.last.write().unwrap_or_else(PoisonError::into_inner);
            *last = Some(first.clone());
        }
        *held = look.found.is_complete().then(|| look.clone());
        Ok(look)
    }

    async fn take_look(&self, objects: &Objects) -> Result<Look, String> {
        let (began, moment) = (Instant::now(), Moment::now());
        let (accounts, deployments) = if let Some(accounts) = listed_accounts(objects).await? {
            let deployments = under(objects, &accounts).await?;
            (accounts, deployments)
        } else {
            let deployments = self.only_candidate(objects).await?;
            (deployments.iter().map(account).collect(), deployments)
        };
        let found = Found::of(objects, &deployments, None).await;
        let (accounts, deployments) = (Arc::new(accounts), Arc::new(deployments));
        Ok(Look { began, moment, accounts, deployments, found: Arc::new(found) })
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
