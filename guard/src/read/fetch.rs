//! Quorum reads of objects under one deadline.
//!
//! The requests carry no resource version. So the API server answers from etcd's quorum, and never
//! from a cache that may be behind.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::api::{ApiResource, DynamicObject, GetParams, ListParams, Request};
use kube::core::{ObjectList, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::duration::exact;
use crate::facts::Seen;
use crate::policy::decode;
use crate::postgresql::Malformed;
use crate::read::bounded::{bounded_text, is_too_large, too_large};
use crate::read::lean::without_managed_fields;
use crate::read::shared::{Age, Moment, Sharing, Text};

mod pages;

/// The reason for which one or several clusters could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The API server did not answer in time.
    #[error("failed to {asked}: no answer within {}", exact(*.after))]
    Deadline {
        /// The request, as `verb resource name in namespace`.
        asked: String,
        /// The time that was waited.
        after: Duration,
    },
    /// The API server refused, or could not be reached.
    #[error("failed to {asked}: {}", words(.source))]
    Kube {
        /// The request, as `verb resource name in namespace`.
        asked: String,
        /// The client's error.
        source: Arc<kube::Error>,
    },
    /// The object cannot be judged.
    #[error("failed to understand {object}: {source}")]
    Malformed {
        /// The object, as `resource namespace/name`.
        object: String,
        /// The malformed part.
        source: Malformed,
    },
}

impl ReadError {
    /// Returns the client's own error, where the API server or the way to it is the cause.
    pub fn kube(&self) -> Option<&kube::Error> {
        match self {
            Self::Kube { source, .. } => Some(source),
            Self::Deadline { .. } | Self::Malformed { .. } => None,
        }
    }

    /// Returns whether the object or its kind does not exist.
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(|status| status.code == NOT_FOUND)
    }

    /// Returns whether the permission to read it is missing.
    pub fn is_forbidden(&self) -> bool {
        self.status().is_some_and(|status| status.code == FORBIDDEN)
    }

    /// Returns whether the answer has more than is decoded.
    fn is_too_large(&self) -> bool {
        self.kube().is_some_and(is_too_large)
    }

    fn status(&self) -> Option<&kube::core::Status> {
        if let kube::Error::Api(status) = self.kube()? { Some(status) } else { None }
    }
}

/// The code is compared, and not the reason: where no CRD of a group is installed, the API server
/// answers with plain text, and kube sets its own reason (`handle_api_errors`, kube-client).
const NOT_FOUND: u16 = 404;
const FORBIDDEN: u16 = 403;
/// The word for a missing permission in a reason.
const FORBIDDEN_WORD: &str = "forbidden";

/// The number of objects in one page.
const PAGE: u32 = 250;

/// The most policies, or overrides, of one list. A review looks at the selector of each.
const OURS: usize = 1_000;

/// One kind of object, with its name in messages.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    resource: String,
    /// The path of all its objects.
    pub(super) path: String,
    namespace: Option<String>,
    metadata_only: bool,
}

impl Kind {
    /// Names a kind with a known type.
    pub(super) fn of<K: Resource<DynamicType = ()>>(namespace: Option<&str>) -> Self {
        Self {
            resource: K::plural(&()).into_owned(),
            path: K::url_path(&(), namespace),
            namespace: namespace.map(str::to_owned),
            metadata_only: K::metadata_api(),
        }
    }

    /// Names a kind without a type, by its names.
    pub(super) fn foreign(
        group: &str,
        version: &str,
        kind: &str,
        plural: &str,
        namespace: Option<&str>,
    ) -> Self {
        let resource = ApiResource::from_gvk_with_plural(
            &kube::api::GroupVersionKind::gvk(group, version, kind),
            plural,
        );
        Self {
            resource: plural.to_owned(),
            path: DynamicObject::url_path(&resource, namespace),
            namespace: namespace.map(str::to_owned),
            metadata_only: false,
        }
    }
}

/// The answer to a list of at most one page.
#[derive(Clone, Debug)]
pub(super) enum OnePage<K> {
    /// All objects.
    All(Vec<K>),
    /// There are more than a page holds.
    More,
    /// The permission to list them is missing, or the kind does not exist.
    Refused,
}

/// Objects of this project's own type. A newer version may have written some that this one cannot
/// decode.
#[derive(Clone, Debug)]
pub(super) struct Ours<K> {
    /// The objects that could be decoded.
    pub(super) decoded: Arc<Vec<K>>,
    /// The others, as they are stored, each with the decoder's message.
    pub(super) undecodable: Vec<(Value, String)>,
}

impl<K> Default for Ours<K> {
    fn default() -> Self {
        Self { decoded: Arc::default(), undecodable: Vec::new() }
    }
}

impl<K: DeserializeOwned> Ours<K> {
    /// Decodes a list, unless it has more than [`OURS`] objects. The error is that of a text that is no
    /// list, or of one that is too long.
    fn of(text: &str) -> Result<Arc<Self>, Arc<kube::Error>> {
        let list: ObjectList<Box<RawValue>> =
            serde_json::from_str(text).map_err(|error| Arc::new(kube::Error::SerdeError(error)))?;
        if list.items.len() > OURS {
            return Err(Arc::new(too_large(format!("{OURS} objects"))));
        }
        let (mut decoded, mut undecodable) = (Vec::new(), Vec::new());
        for object in list.items {
            if let Ok(object) = serde_json::from_str(object.get()) {
                decoded.push(object);
                continue;
            }
            // Once more, for the words that name the fields at fault.
            let object: Value = serde_json::from_str(object.get())
                .map_err(|error| Arc::new(kube::Error::SerdeError(error)))?;
            match decode(&object) {
                Ok(object) => decoded.push(object),
                Err(why) => undecodable.push((object, why)),
            }
        }
        Ok(Arc::new(Self { decoded: Arc::new(decoded), undecodable }))
    }
}

/// A request, or the reason for which it could not be built.
type Built = Result<http::Request<Vec<u8>>, kube::core::request::Error>;

/// Reads from the API server, until a deadline.
#[derive(Clone)]
pub(super) struct Objects {
    pub(super) client: Client,
    pub(super) until: Instant,
    /// The time limit from its start, for messages.
    pub(super) patience: Duration,
    /// The answers that it shares with other readers. `None` where each read asks for itself.
    pub(super) sharing: Option<Sharing>,
    /// Its answers may serve other readers for a second: there are as many as policies and operators,
    /// and not as clusters.
    pub(super) lasting: bool,
    /// Its own answers may have any size. Shared ones never do.
    pub(super) unbounded: bool,
}

impl Objects {
    /// Returns a reader that has this much time from now on, and shares no answers.
    pub(super) fn of(client: Client, patience: Duration) -> Self {
        let until = Instant::now() + patience;
        Self { client, until, patience, sharing: None, lasting: false, unbounded: false }
    }

    /// Returns the same for objects that do not belong to one cluster.
    #[must_use]
    pub(super) fn lasting(&self) -> Self {
        Self { lasting: true, ..self.clone() }
    }

    /// Returns the same with answers of requests that begin after this moment.
    #[must_use]
    pub(super) fn since(&self, moment: Moment) -> Self {
        let sharing = self.sharing.as_ref().map(|sharing| sharing.aged(Age::Since(moment)));
        Self { sharing, ..self.clone() }
    }

    /// Reads one object of a known type, in `namespace`. `None` for types without a namespace.
    pub(super) async fn get<K>(&self, namespace: Option<&str>, name: &str) -> Seen<K>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        self.get_of(&Kind::of::<K>(namespace), name).await
    }

    /// Reads one object.
    pub(super) async fn get_of<T: DeserializeOwned>(&self, kind: &Kind, name: &str) -> Seen<T> {
        match self.try_get(kind, name).await {
            Ok(object) => Seen::Known(object),
            Err(error) if error.is_not_found() => Seen::Absent,
            Err(error) => Seen::Unreadable(reason("get", kind, &error)),
        }
    }

    /// Reads all objects of a known type, with the labels of `selector` if there is one. The error
    /// is a reason.
    pub(super) async fn list<K>(
        &self,
        namespace: Option<&str>,
        selector: Option<&str>,
    ) -> Result<Vec<K>, String>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone,
    {
        let kind = Kind::of::<K>(namespace);
        // A person's program may list all nodes, which have any size. A review never does.
        let objects = Self { unbounded: namespace.is_none(), ..self.clone() };
        let request = matching(&kind, selector);
        let list = objects.send_lean(|| attempt("list", &kind, None), request).await;
        let list: ObjectList<K> = list.map_err(|error| reason("list", &kind, &error))?;
        Ok(list.items)
    }

    /// Reads the objects of a known type with the labels of `selector`, of which one page is more
    /// than a cluster can have.
    ///
    /// # Errors
    /// A reason: they could not be read, or there are more.
    pub(super) async fn list_few<K>(
        &self,
        namespace: &str,
        selector: &str,
    ) -> Result<Vec<K>, String>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone,
    {
        let asked = || attempt("list", &Kind::of::<K>(Some(namespace)), None);
        match self.one_page(namespace, selector).await? {
            OnePage::All(objects) => Ok(objects),
            OnePage::More => Err(format!("{}: more than {PAGE} match {selector}", asked())),
            OnePage::Refused => Err(forbidden("list", &K::plural(&()), Some(namespace))),
        }
    }

    /// Reads the objects of a known type with the labels of `selector`, if they fit in one page.
    ///
    /// # Errors
    /// A reason, for any failure but a missing permission.
    pub(super) async fn one_page<K>(
        &self,
        namespace: &str,
        selector: &str,
    ) -> Result<OnePage<K>, String>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone,
    {
        let kind = Kind::of::<K>(Some(namespace));
        let params = ListParams {
            label_selector: Some(selector.to_owned()),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        let request = Request::new(kind.path.clone());
        let request =
            if kind.metadata_only { request.list_metadata(&params) } else { request.list(&params) };
        match self.send_lean::<ObjectList<K>>(|| attempt("list", &kind, None), request).await {
            Ok(list) if list.metadata.continue_.as_ref().is_none_or(String::is_empty) => {
                Ok(OnePage::All(list.items))
            }
            Ok(_) => Ok(OnePage::More),
            Err(error) if error.is_forbidden() || error.is_not_found() => Ok(OnePage::Refused),
            Err(error) => Err(reason("list", &kind, &error)),
        }
    }

    /// Reads all objects of this project's own type, each decoded on its own. None where its CRD is
    /// not installed. Readers that share an answer share what is decoded from it.
    pub(super) async fn ours<K>(&self, namespace: Option<&str>) -> Result<Arc<Ours<K>>, ReadError>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Send + Sync + 'static,
    {
        let kind = Kind::of::<K>(namespace);
        let asked = || attempt("list", &kind, None);
        let request = Request::new(kind.path.clone()).list(&ListParams::default());
        let text = match self.text(&asked, request).await {
            Err(error) if error.is_not_found() => return Ok(Arc::default()),
            text => text?,
        };
        let decoded = text.decoded(Ours::of);
        text.leave();
        match &*decoded {
            Ok(ours) => Ok(Arc::clone(ours)),
            Err(source) => Err(ReadError::Kube { asked: asked(), source: Arc::clone(source) }),
        }
    }

    /// Reads one object. The error holds the whole cause.
    pub(super) async fn try_get<T: DeserializeOwned>(
        &self,
        kind: &Kind,
        name: &str,
    ) -> Result<T, ReadError> {
        let request = Request::new(kind.path.clone());
        let request = if kind.metadata_only {
            request.get_metadata(name, &GetParams::default())
        } else {
            request.get(name, &GetParams::default())
        };
        self.send(|| attempt("get", kind, Some(name)), request).await
    }

    /// Reads one object without decoding it. The error holds the whole cause.
    pub(super) async fn try_get_text(&self, kind: &Kind, name: &str) -> Result<String, ReadError> {
        let request = Request::new(kind.path.clone()).get(name, &GetParams::default());
        let text = self.text(&|| attempt("get", kind, Some(name)), request).await?;
        text.leave();
        Ok(text.as_str().to_owned())
    }

    /// Reads all objects that match `selector`, for a person: they may be all clusters, and have any
    /// size. The error holds the whole cause.
    pub(super) async fn try_list<K: DeserializeOwned + Clone>(
        &self,
        kind: &Kind,
        selector: Option<&str>,
    ) -> Result<Vec<K>, ReadError> {
        let whole = Self { unbounded: true, ..self.clone() };
        let request = matching(kind, selector);
        let list: ObjectList<K> = whole.send(|| attempt("list", kind, None), request).await?;
        Ok(list.items)
    }

    async fn send<T: DeserializeOwned>(
        &self,
        asked: impl Fn() -> String,
        request: Built,
    ) -> Result<T, ReadError> {
        let text = self.text(&asked, request).await?;
        decoded(&text, text.as_str(), asked)
    }

    /// Does the same for objects whose writers nothing asks for.
    async fn send_lean<T: DeserializeOwned>(
        &self,
        asked: impl Fn() -> String,
        request: Built,
    ) -> Result<T, ReadError> {
        let text = self.text(&asked, request).await?;
        decoded(&text, &without_managed_fields(text.as_str()), asked)
    }

    /// Returns the text of an answer. The error holds the whole cause.
    async fn text(
        &self,
        asked: &impl Fn() -> String,
        request: Built,
    ) -> Result<Arc<Text>, ReadError> {
        let failed = |source| ReadError::Kube { asked: asked(), source };
        let request =
            request.map_err(|error| failed(Arc::new(kube::Error::BuildRequest(error))))?;
        // Boxed: every read waits here, and would be as large as the client's own future.
        let answer = Box::pin(async {
            if let Some(sharing) = &self.sharing {
                return sharing.ask(request, self.lasting).await;
            }
            let text = if self.unbounded {
                self.client.request_text(request).await
            } else {
                bounded_text(&self.client, request).await
            };
            text.map(|text| Text::of((text, None))).map_err(Arc::new)
        });
        tokio::time::timeout_at(self.until, answer)
            .await
            .map_err(|_| ReadError::Deadline { asked: asked(), after: self.patience })?
            .map_err(failed)
    }
}

/// Decodes the `text` of an answer, and gives back its place.
fn decoded<T: DeserializeOwned>(
    answer: &Text,
    text: &str,
    asked: impl Fn() -> String,
) -> Result<T, ReadError> {
    let decoded = serde_json::from_str(text);
    answer.leave();
    decoded.map_err(|error| ReadError::Kube {
        asked: asked(),
        source: Arc::new(kube::Error::SerdeError(error)),
    })
}

/// Returns the request for all objects that match `selector`.
fn matching(kind: &Kind, selector: Option<&str>) -> Built {
    let label_selector = selector.map(str::to_owned);
    Request::new(kind.path.clone()).list(&ListParams { label_selector, ..Default::default() })
}

fn attempt(verb: &str, kind: &Kind, name: Option<&str>) -> String {
    asked(verb, &kind.resource, name, kind.namespace.as_deref())
}

fn asked(verb: &str, resource: &str, name: Option<&str>, namespace: Option<&str>) -> String {
    let name = name.map(|name| format!(" {name}")).unwrap_or_default();
    let place = namespace.map(|namespace| format!(" in {namespace}")).unwrap_or_default();
    format!("{verb} {resource}{name}{place}")
}

/// Returns the reason of facts that could not be read because this permission is missing.
///
/// A table of permissions yields the missing one by this text, so that no text is taken apart.
pub fn forbidden(verb: &str, resource: &str, namespace: Option<&str>) -> String {
    format!("{}: {}", asked(verb, resource, None, namespace), FORBIDDEN_WORD)
}

/// Returns a reason such as `get statefulsets in db: forbidden`.
fn reason(verb: &str, kind: &Kind, error: &ReadError) -> String {
    let why = match error {
        ReadError::Deadline { after, .. } => format!("no answer within {}", exact(*after)),
        // One object of many may be the large one, so it is named.
        ReadError::Kube { asked, source } if is_too_large(source) => {
            return format!("{asked}: {}", words(source));
        }
        ReadError::Kube { source, .. } => words(source),
        ReadError::Malformed { source, .. } => source.to_string(),
    };
    format!("{}: {why}", attempt(verb, kind, None))
}

/// Returns the cause of a failed read in few words: of the API server, or of the way to it.
fn words(error: &kube::Error) -> String {
    let kube::Error::Api(status) = error else { return innermost(error).to_string() };
    match status.code {
        FORBIDDEN => FORBIDDEN_WORD.to_owned(),
        NOT_FOUND => "not found".to_owned(),
        401 => "unauthorized".to_owned(),
        code => format!("{code} {}", status.message).trim().to_owned(),
    }
}

/// Returns the cause at the bottom: transport errors are wrapped several times, and each layer says
/// only "error".
fn innermost<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error
}
