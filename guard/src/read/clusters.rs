//! Reads the `postgresql` objects themselves.

use serde_json::Value;

use crate::postgresql::{GROUP, KIND, PLURAL, Postgresql, VERSION};
use crate::read::Reader;
use crate::read::fetch::{Kind, ReadError};

impl Reader {
    /// Reads the cluster itself.
    ///
    /// # Errors
    /// It does not exist, the permission is missing, the API server does not answer, or the object
    /// is malformed.
    pub async fn cluster(&self, namespace: &str, name: &str) -> Result<Postgresql, ReadError> {
        let kind = Kind::foreign(GROUP, VERSION, KIND, PLURAL, Some(namespace));
        let object: Value = self.objects(self.deadline).try_get(&kind, name).await?;
        cluster_of(&object)
    }

    /// Returns the JSON of a cluster as the API server sends it, for callers that limit their
    /// decoding.
    ///
    /// # Errors
    /// It does not exist, the permission is missing, or the API server does not answer.
    pub async fn cluster_text(&self, namespace: &str, name: &str) -> Result<String, ReadError> {
        let kind = Kind::foreign(GROUP, VERSION, KIND, PLURAL, Some(namespace));
        self.objects(self.deadline).try_get_text(&kind, name).await
    }

    /// Reads the clusters of a namespace, or of all for `None`, that match a label selector.
    ///
    /// # Errors
    /// The permission is missing, the API server does not answer, or one of them is malformed.
    pub async fn clusters(
        &self,
        namespace: Option<&str>,
        selector: Option<&str>,
    ) -> Result<Vec<Postgresql>, ReadError> {
        let kind = Kind::foreign(GROUP, VERSION, KIND, PLURAL, namespace);
        let objects: Vec<Value> = self.objects(self.deadline).try_list(&kind, selector).await?;
        objects.iter().map(cluster_of).collect()
    }
}

fn cluster_of(object: &Value) -> Result<Postgresql, ReadError> {
    Postgresql::of(object).map_err(|source| {
        let part = |name: &str| {
            object
                .pointer(&format!("/metadata/{name}"))
                .and_then(Value::as_str)
                .unwrap_or("?")
                .to_owned()
        };
        ReadError::Malformed {
            object: format!("{PLURAL} {}/{}", part("namespace"), part("name")),
            source,
        }
    })
}
