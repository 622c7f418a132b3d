//! Volumes: a directory per claim, provisioned like those of an external provisioner.
//!
//! The controller manager binds the volumes of [`Volumes`]. A claim that outlives its pod keeps its
//! data. The directory is deleted with its claim.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tokio::sync::OwnedMutexGuard;

/// The name of the storage class, the default of the bed.
const CLASS: &str = "standard";

/// The name of the provisioner, and the annotation that marks its volumes.
const PROVISIONER: &str = "bed.pgscale.dev";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// The volumes of the bed, below one directory.
pub(super) struct Volumes {
    client: Client,
    directory: PathBuf,
    /// The locks of the claims: one pod at a time mounts a volume, even if a pod was deleted by
    /// force and its successor exists already.
    users: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// A mounted volume. Dropping it unmounts the volume.
#[derive(Debug)]
pub(super) struct Mount {
    path: PathBuf,
    _user: OwnedMutexGuard<()>,
}

impl Mount {
    /// Returns the directory with the data.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Volumes {
    /// Creates the default storage class.
    pub(super) async fn new(client: Client, directory: PathBuf) -> Result<Self> {
        let class = json!({
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": CLASS,
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": PROVISIONER,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "Immediate",
            "allowVolumeExpansion": true,
        });
        Api::<StorageClass>::all(client.clone())
            .patch(CLASS, &PatchParams::apply(super::MANAGER), &Patch::Apply(&class))
            .await
            .with_context(|| format!("failed to create storage class {CLASS}"))?;
        Ok(Self { client, directory, users: Mutex::default() })
    }

    /// Mounts the volume of a claim for one pod, after the present user has unmounted it.
    ///
    /// Returns `None` while the claim is missing or not bound.
    pub(super) async fn mount(&self, namespace: &str, claim: &str) -> Result<Option<Mount>> {
        let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), namespace);
        let Some(claim) = api.get_opt(claim).await? else { return Ok(None) };
        let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
        let (Some("Bound"), Some(uid)) = (phase, claim.uid()) else { return Ok(None) };
        let user = {
            let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(users.entry(uid.clone()).or_default())
        };
        let path = self.path(namespace, &uid);
        tokio::fs::create_dir_all(&path)
            .await
            .with_context(|| format!("failed to create the volume {}", path.display()))?;
        Ok(Some(Mount { path, _user: user.lock_owned().await }))
    }

    /// Provisions and removes volumes while it is polled.
    pub(super) async fn serve(&self, journal: &super::Journal) {
        let claims = watcher(Api::all(self.client.clone()), watcher::Config::default())
            .default_backoff()
            .applied_objects()
            .map_ok(|claim| Change::Claim(Box::new(claim)));
        let volumes = watcher(Api::all(self.client.clone()), watcher::Config::default())
            .default_backoff()
            .applied_objects()
            .map_ok(|volume| Change::Volume(Box::new(volume)));
        let mut changes = stream::select(claims.boxed(), volumes.boxed());
        while let Some(change) = changes.next().await {
            let done = match change {
                Ok(Change::Claim(claim)) => self.provision(&claim).await,
                Ok(Change::Volume(volume)) => self.reclaim(&volume).await,
                Err(error) => Err(error.into()),
            };
            if let Err(error) = done {
                journal.write(format_args!("volumes: {error:#}"));
            }
        }
    }

    /// Creates the volume for which a pending claim waits.
    async fn provision(&self, claim: &PersistentVolumeClaim) -> Result<()> {
        let (Some(spec), Some(uid)) = (&claim.spec, claim.uid()) else { return Ok(()) };
        let class = spec.storage_class_name.as_deref();
        let waiting = spec.volume_name.is_none() && claim.metadata.deletion_timestamp.is_none();
        if !waiting || class.is_some_and(|class| class != CLASS) {
            return Ok(());
        }
        let namespace = claim.namespace().unwrap_or_default();
        let volume = serde_json::from_value(json!({
            "metadata": {"name": format!("pvc-{uid}"), "annotations": {PROVISIONED_BY: PROVISIONER}},
            "spec": {
                "accessModes": spec.access_modes,
                "capacity": spec.resources.as_ref().and_then(|resources| resources.requests.clone()),
                "claimRef": {
                    "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                    "namespace": namespace, "name": claim.name_any(), "uid": uid,
                },
                "csi": {"driver": PROVISIONER, "volumeHandle": uid},
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": class.unwrap_or_default(),
            },
        }))?;
        let api = Api::<PersistentVolume>::all(self.client.clone());
        match api.create(&PostParams::default(), &volume).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            created => created.map(drop).context("failed to create a volume"),
        }
    }

    /// Removes the volume of a deleted claim, with its data, unless its policy is Retain.
    async fn reclaim(&self, volume: &PersistentVolume) -> Result<()> {
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        let ours = volume.annotations().get(PROVISIONED_BY).is_some_and(|by| by == PROVISIONER);
        let claim = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        let policy =
            volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
        if policy == Some("Retain") {
            return Ok(());
        }
        let (true, Some("Released"), Some(claim)) = (ours, phase, claim) else { return Ok(()) };
        let namespace = claim.namespace.clone().unwrap_or_default();
        let path = self.path(&namespace, claim.uid.as_deref().unwrap_or("none"));
        match tokio::fs::remove_dir_all(&path).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("failed to remove {}", path.display()))?;
            }
            _ => {}
        }
        let api = Api::<PersistentVolume>::all(self.client.clone());
        match api.delete(&volume.name_any(), &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            deleted => deleted.map(drop).context("failed to delete a volume"),
        }
    }

    fn path(&self, namespace: &str, claim: &str) -> PathBuf {
        self.directory.join(namespace).join(claim)
    }
}

/// A change that the provisioner may have to handle.
enum Change {
    Claim(Box<PersistentVolumeClaim>),
    Volume(Box<PersistentVolume>),
}
