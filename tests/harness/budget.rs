//! Clusters that no operator owns, in a namespace with a budget whose ledger has settled, and edits
//! of their counts.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use pgscale_guard::ledger::{InstanceLedger, InstanceLedgerSpec, NAME as LEDGER};
use pgscale_guard::policy::{ClusterScalePolicy, ScalePolicy};
use serde_json::{Value, json};

use crate::cluster::resource;
use crate::pki::write;
use crate::trial::TestCtx;
use crate::wait::{Attempt, until};

pub mod edits;

use edits::Answer;

/// The limit within which every reservation is decided on a busy machine. Fifteen seconds are
/// promised after the last edit, and the look itself takes some.
pub const DECIDED: Duration = Duration::from_secs(30);

/// The clusters of one namespace.
pub struct Field {
    client: Client,
    namespace: String,
    /// The number of clusters.
    pub clusters: usize,
    /// The instances that all of them may have.
    pub budget: i64,
}

/// Returns the name of a cluster.
pub fn name(number: usize) -> String {
    format!("acid-b{number:03}")
}

/// Returns a new cluster of one instance.
pub fn cluster(number: usize) -> Value {
    json!({
        "apiVersion": "acid.zalan.do/v1", "kind": "postgresql",
        "metadata": {
            "name": name(number), "annotations": {"acid.zalan.do/controller": "no-operator"},
        },
        "spec": {
            "teamId": "acid", "numberOfInstances": 1,
            "postgresql": {"version": "17"}, "volume": {"size": "1Gi"},
        },
    })
}

impl Field {
    /// Creates the clusters, and a budget with `room` beyond one instance for each of them.
    ///
    /// # Errors
    /// Fails when the API server refuses an object.
    pub async fn stage(ctx: &TestCtx, clusters: usize, room: i64) -> Result<Self> {
        let items: Vec<Value> = (0..clusters).map(cluster).collect();
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": items});
        let file = write(ctx.bed.directory(), "budget-field.json", &objects.to_string())?;
        let file = file.to_string_lossy();
        let create = ["create", "--namespace", &ctx.namespace, "--filename", &file];
        ctx.bed.kubectl(&create).await?.ok()?;
        let budget = i64::try_from(clusters)? + room;
        let namespace = ctx.namespace.clone();
        let field = Self { client: ctx.bed.client(), namespace, clusters, budget };
        field.set_budget().await?;
        Ok(field)
    }

    /// Lets counts become less, though nothing runs that could be judged.
    ///
    /// # Errors
    /// Fails when the API server refuses the policy.
    pub async fn loosen(&self) -> Result<()> {
        let policies: Api<ClusterScalePolicy> = Api::all(self.client.clone());
        let policy = json!({
            "apiVersion": "pgscale.dev/v1alpha1", "kind": "ClusterScalePolicy",
            "metadata": {"name": self.namespace},
            "spec": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}},
                "builtIn": {"mode": "Audit"},
            },
        });
        let apply = PatchParams::apply("bed").force();
        policies
            .patch(&self.namespace, &apply, &Patch::Apply(policy))
            .await
            .context("no policy")?;
        Ok(())
    }

    async fn set_budget(&self) -> Result<()> {
        let apply = PatchParams::apply("bed").force();
        let policies: Api<ScalePolicy> = Api::namespaced(self.client.clone(), &self.namespace);
        let policy = json!({
            "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
            "metadata": {"name": "budget"}, "spec": {"budget": {"instances": self.budget}},
        });
        let policy = policies.patch("budget", &apply, &Patch::Apply(policy)).await?;
        let uid = policy.metadata.uid.context("a policy without a uid")?;
        // A new ledger settles for three minutes. This one has.
        let ledger = json!({
            "apiVersion": "pgscale.dev/v1alpha1", "kind": "InstanceLedger",
            "metadata": {"name": LEDGER},
            "spec": {
                "budget": self.budget, "used": 0, "reserved": 0, "free": 0,
                "basis": [format!("{uid}@1")], "settles": "2026-01-01T00:00:00Z", "swept": "0",
                "clusters": {},
            },
        });
        self.ledgers().patch(LEDGER, &apply, &Patch::Apply(ledger)).await.context("no ledger")?;
        Ok(())
    }

    /// Takes the budget away.
    ///
    /// # Errors
    /// Fails when the API server refuses.
    pub async fn without_budget(&self) -> Result<()> {
        let policies: Api<ScalePolicy> = Api::namespaced(self.client.clone(), &self.namespace);
        policies.delete("budget", &DeleteParams::default()).await?;
        Ok(())
    }

    /// Returns the clusters, as this client sees them.
    pub fn api(&self, client: Client) -> Api<DynamicObject> {
        Api::namespaced_with(client, &self.namespace, &resource())
    }

    fn own(&self) -> Api<DynamicObject> {
        self.api(self.client.clone())
    }

    fn ledgers(&self) -> Api<InstanceLedger> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Raises every cluster to two, all at once.
    pub async fn raise_all(&self) -> Vec<(Answer, Duration)> {
        let clusters = self.own();
        join_all((0..self.clusters).map(|number| edits::set(&clusters, number, 2))).await
    }

    /// Lowers every cluster to one. This has to be admitted.
    ///
    /// # Errors
    /// Fails when one of them is not admitted.
    pub async fn lower_all(&self) -> Result<()> {
        let clusters = self.own();
        for number in 0..self.clusters {
            let (answer, _) = edits::set(&clusters, number, 1).await;
            ensure!(answer == Answer::Admitted, "{} to 1: {answer:?}", name(number));
        }
        Ok(())
    }

    /// Returns the sum of what is stored.
    ///
    /// # Errors
    /// Fails when the clusters cannot be listed.
    pub async fn stored(&self) -> Result<i64> {
        let stored = self.own().list(&ListParams::default()).await?;
        Ok(stored.items.iter().filter_map(count).sum())
    }

    /// Returns the ledger.
    ///
    /// # Errors
    /// Fails when there is none.
    pub async fn ledger(&self) -> Result<InstanceLedgerSpec> {
        Ok(self.ledgers().get(LEDGER).await?.spec)
    }

    /// Waits until no reservation is left, as after edits that were all answered.
    ///
    /// # Errors
    /// Fails when one is left for longer than [`DECIDED`].
    pub async fn settled(&self) -> Result<()> {
        self.settled_within(DECIDED).await
    }

    /// Waits until no reservation is left.
    ///
    /// # Errors
    /// Fails when one is left for longer.
    pub async fn settled_within(&self, limit: Duration) -> Result<()> {
        until("no reservation to be left", limit, async || {
            let ledger = self.ledger().await?;
            Ok(if ledger.reserved == 0 {
                Attempt::Done(())
            } else {
                Attempt::NotYet(format!("{} used, {} reserved", ledger.used, ledger.reserved))
            })
        })
        .await
    }
}

/// Returns the stored count of a cluster.
pub fn count(cluster: &DynamicObject) -> Option<i64> {
    cluster.data.pointer("/spec/numberOfInstances")?.as_i64()
}
