//! Answers of the API server that several reads share.
//!
//! Reviews that arrive together ask for the same objects. One request then serves all of them, if it
//! began after each of them arrived: so it shows every write that its reader may know of. What
//! [`Objects::lasting`] reads may serve later readers for a second. Every reader says how old an answer
//! may be ([`Age`]), and the age of an answer is the age of its request.
//!
//! A request runs in a task of its own, with its own deadline. A reader that leaves takes nothing from
//! the others, and the request ends with its last reader. An error reaches those that wait for it, and
//! no later reader; that an object does not exist is no error. Nothing here grows with the number of clusters: an answer about one cluster is gone
//! with its last reader.
//!
//! [`Objects::lasting`]: super::fetch::Objects::lasting

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use http::header::ACCEPT;
use kube::Client;
use tokio::sync::watch;
use tokio::time::Instant;

mod text;

use super::bounded::{Places, bounded};
use super::nodes::Remembered;
pub(super) use text::Text;

/// The bytes that are counted for an object that does not exist.
const ABSENCE: usize = 1 << 10;
/// The age up to which an answer may serve a reader that did not wait for it.
const LASTS: Duration = Duration::from_secs(1);
/// The time for one request. Each reader has a deadline of its own, mostly an earlier one.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// The most answers that are awaited or kept. A further reader asks alone.
const MOST: usize = 2048;
/// The most bytes of all answers that are kept for later readers.
const MOST_BYTES: usize = 3 << 19;
/// The most bytes of one of them.
const MOST_BYTES_EACH: usize = 1 << 20;

/// A moment in the life of this process: which of two came first is certain, whatever the resolution of
/// the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// Returns the present moment, which is later than all others so far.
    #[must_use]
    pub fn now() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::SeqCst))
    }
}

/// The age that an answer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Its request began later.
    Since(Moment),
    /// Its request began later, or it began within the last second and a watch has announced no change
    /// of its resource since then.
    Unchanged(Moment),
    /// Its request began within the last second: good for a guess, which another read confirms.
    Recent,
}

/// The way in which a reader got its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// By a request of its own.
    Asked,
    /// By the request of another reader.
    Shared,
}

/// A function that is called for each answer that a reader asks for.
pub type Observe = Arc<dyn Fn(Served) + Send + Sync>;

/// A request for an object, or for several.
type Request = http::Request<Vec<u8>>;

/// An answer, or the client's error.
pub(super) type Answer = Result<Arc<Text>, Arc<kube::Error>>;

/// Answers of one API server that several readers share.
#[derive(Clone)]
pub struct Shared(Arc<Inner>);

struct Inner {
    client: Client,
    observe: Observe,
    table: Mutex<Table>,
    large: Places,
    nodes: Remembered,
}

#[derive(Default)]
struct Table {
    /// The requests whose answers may be shared. A reader or a task owns each.
    requests: HashMap<String, Weak<Asked>>,
    /// The bytes of the answers that are kept for later readers.
    kept: usize,
    /// The resources for which a watch announces changes, by the path of all their objects.
    watched: HashMap<String, Moment>,
}

/// A request that was sent, with its answer as soon as it is there.
struct Asked {
    key: String,
    /// Its beginning. Unset before that: then it serves every reader.
    begun: OnceLock<(Moment, Instant)>,
    answer: watch::Receiver<Option<Answer>>,
    inner: Weak<Inner>,
}

impl Asked {
    async fn answer(&self) -> Answer {
        let mut answer = self.answer.clone();
        match answer.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(answer)) => answer.clone(),
            Ok(None) | Err(_) => Err(ended("the request ended without an answer")),
        }
    }

    /// Returns the answer, if it is there.
    fn text(&self) -> Option<Arc<Text>> {
        self.answer.borrow().as_ref().and_then(|answer| answer.as_ref().ok().cloned())
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.upgrade() {
            inner.forget(self);
        }
    }
}

/// The part of a reader that shares answers.
///
/// It holds the lasting answers that it read until it is dropped, so that another read of the same
/// review finds them.
#[derive(Clone)]
pub struct Sharing {
    shared: Shared,
    age: Age,
    held: Arc<Mutex<Vec<Arc<Asked>>>>,
}

impl Sharing {
    /// Returns the same with answers of this age.
    #[must_use]
    pub fn aged(&self, age: Age) -> Self {
        Self { age, ..self.clone() }
    }

    /// Returns the moment since which a watch has announced no change. `None` without a watch.
    pub(super) fn unchanged_since(&self, root: &str) -> Option<Moment> {
        self.shared.unchanged_since(root)
    }

    /// Returns what reviews have read of the nodes of members.
    pub(super) fn nodes(&self) -> &Remembered {
        &self.shared.0.nodes
    }

    /// Reads an answer: one that is shared, or that of a new request.
    pub(super) async fn ask(&self, request: Request, lasting: bool) -> Answer {
        let asked = match self.shared.find_or_ask(self.age, request, lasting) {
            Ok((asked, served)) => {
                (self.shared.0.observe)(served);
                asked
            }
            Err(request) => {
                (self.shared.0.observe)(Served::Asked);
                let Inner { client, large, .. } = &*self.shared.0;
                let answer = bounded(client, *request, large).await;
                return answer.map(Text::of).map_err(Arc::new);
            }
        };
        if lasting {
            locked(&self.held).push(Arc::clone(&asked));
        }
        asked.answer().await
    }
}

impl Shared {
    /// Returns a layer over `client` without any answer, which calls `observe` for each reader.
    pub fn new(client: Client, observe: Observe) -> Self {
        let (table, large, nodes) = (Mutex::default(), Places::default(), Remembered::default());
        Self(Arc::new(Inner { client, observe, table, large, nodes }))
    }

    /// Returns the sharing of a reader that takes answers of this age.
    pub fn aged(&self, age: Age) -> Sharing {
        Sharing { shared: self.clone(), age, held: Arc::default() }
    }

    /// Records that a watch announces every change of the resource from now on. `root` is the path of
    /// all objects of the resource.
    ///
    /// Answers of earlier requests count as older than their last change.
    pub fn announced(&self, root: &str) {
        locked(&self.0.table).watched.insert(root.to_owned(), Moment::now());
    }

    /// Records a change of the resource, which a watch has just announced.
    pub fn changed(&self, root: &str) {
        if let Some(last) = locked(&self.0.table).watched.get_mut(root) {
            *last = Moment::now();
        }
    }

    /// Records that no watch announces changes of the resource any more.
    pub fn unannounced(&self, root: &str) {
        locked(&self.0.table).watched.remove(root);
    }

    /// Returns the moment since which a watch has announced no change of the resource. `None` where no
    /// watch announces its changes.
    pub fn unchanged_since(&self, root: &str) -> Option<Moment> {
        locked(&self.0.table).watched.get(root).copied()
    }

    /// Returns the bytes of the answers that are kept for later readers.
    pub fn kept_bytes(&self) -> usize {
        locked(&self.0.table).kept
    }

    /// Finds a request whose answer is young enough, or sends this one.
    ///
    /// # Errors
    /// Too many wait already: the request, for its reader alone.
    fn find_or_ask(
        &self,
        age: Age,
        request: Request,
        lasting: bool,
    ) -> Result<(Arc<Asked>, Served), Box<Request>> {
        let accept = request.headers().get(ACCEPT).map_or(&[][..], |accept| accept.as_bytes());
        let key = format!("{} {}", request.uri(), String::from_utf8_lossy(accept));
        let mut table = locked(&self.0.table);
        let known = table.requests.get(&key).and_then(Weak::upgrade);
        let mut before = None;
        if let Some(known) = known {
            if table.is_young(&known, age, request.uri().path()) {
                return Ok((known, Served::Shared));
            }
            before = known.text();
            // Its last owner may be this one, and the end of a request locks the table.
            drop(table);
            drop(known);
            table = locked(&self.0.table);
        }
        if table.requests.len() >= MOST {
            return Err(Box::new(request));
        }
        let (answered, answer) = watch::channel(None);
        let (begun, inner) = (OnceLock::new(), Arc::downgrade(&self.0));
        let asked = Arc::new(Asked { key: key.clone(), begun, answer, inner });
        table.requests.insert(key, Arc::downgrade(&asked));
        drop(table);
        let run =
            Run { inner: Arc::clone(&self.0), asked: Arc::downgrade(&asked), before, lasting };
        tokio::spawn(run.run(request, answered));
        Ok((asked, Served::Asked))
    }
}

/// A request on its way.
struct Run {
    inner: Arc<Inner>,
    asked: Weak<Asked>,
    /// The last answer to the same request, which may be decoded already.
    before: Option<Arc<Text>>,
    lasting: bool,
}

impl Run {
    /// Sends the request, gives its answer to those that wait, and keeps one that lasts until it is too
    /// old.
    async fn run(self, request: Request, answered: watch::Sender<Option<Answer>>) {
        let Self { inner, asked, before, lasting } = self;
        let begun = Instant::now();
        match asked.upgrade() {
            Some(asked) => drop(asked.begun.set((Moment::now(), begun))),
            None => return,
        }
        let request =
            tokio::time::timeout(REQUEST_TIME, bounded(&inner.client, request, &inner.large));
        let answer: Answer = tokio::select! {
            answer = request => match answer {
                Ok(Ok(text)) => Ok(Text::after(text, before.as_deref())),
                Ok(Err(error)) => Err(Arc::new(error)),
                Err(_) => Err(ended("the API server did not answer within 10s")),
            },
            // The last reader has left.
            () = answered.closed() => return,
        };
        drop(before);
        let Some(asked) = asked.upgrade() else { return };
        let length = match &answer {
            Ok(text) if lasting => Some(text.as_str().len()),
            // That something does not exist is an answer, too.
            Err(error) if lasting && is_not_found(error) => Some(ABSENCE),
            Ok(_) => None,
            Err(_) => {
                inner.forget(&asked);
                None
            }
        };
        answered.send_replace(Some(answer));
        let Some(length) = length.filter(|length| *length <= MOST_BYTES_EACH) else { return };
        if !inner.keep(length) {
            return;
        }
        if let Some(text) = asked.text() {
            // The room for answers that are kept counts it from now on.
            text.leave();
        }
        tokio::time::sleep_until(begun + LASTS).await;
        drop(asked);
        locked(&inner.table).kept -= length;
    }
}

impl Inner {
    /// Makes a request unknown to later readers.
    fn forget(&self, asked: &Asked) {
        let mut table = locked(&self.table);
        if table.requests.get(&asked.key).is_some_and(|it| std::ptr::eq(it.as_ptr(), asked)) {
            table.requests.remove(&asked.key);
        }
    }

    /// Takes room for an answer. Returns whether there is any.
    fn keep(&self, length: usize) -> bool {
        let mut table = locked(&self.table);
        let fits = table.kept + length <= MOST_BYTES;
        if fits {
            table.kept += length;
        }
        fits
    }
}

impl Table {
    /// Returns whether the answer to a request for `path` has this age.
    fn is_young(&self, asked: &Asked, age: Age, path: &str) -> bool {
        let Some((begun, at)) = asked.begun.get() else { return true };
        let recent = at.elapsed() <= LASTS;
        match age {
            Age::Since(moment) => *begun > moment,
            Age::Recent => recent,
            Age::Unchanged(moment) => {
                let last = self.watched.get(&root(path));
                *begun > moment || recent && last.is_some_and(|last| begun > last)
            }
        }
    }
}

/// Returns the path of all objects of the resource that `path` is about: the namespace is left out, and
/// for a namespace its name.
fn root(path: &str) -> String {
    match path.split_once("/namespaces/") {
        Some((group, rest)) => match rest.split_once('/') {
            Some((_, resource)) => format!("{group}/{resource}"),
            None => format!("{group}/namespaces"),
        },
        None => path.to_owned(),
    }
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

fn ended(why: &'static str) -> Arc<kube::Error> {
    Arc::new(kube::Error::Service(why.into()))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
