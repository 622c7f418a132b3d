//! Generated writes, judged by the API server's own floor and by the guard's rule `outside-floor`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Error, ResourceExt as _};
use pgscale_guard::change::{Change, Direction};
use pgscale_guard::facts::{Facts, Seen};
use pgscale_guard::policy::{ClusterScalePolicy, ScalePolicy, Written};
use pgscale_guard::postgresql::Postgresql;
use pgscale_guard::rules::{Read, Reads, judge_with};
use serde_json::{Value, json};

use super::random_walk::Chance;
use crate::cluster::resource;
use crate::patroni::overlay;
use crate::trial::TestCtx;
use crate::wait::{Attempt, until};

/// The rule, as both judges name it.
const RULE: &str = "outside-floor";
/// The number of writes that are under way at the same time.
const AT_ONCE: usize = 8;
/// The greatest count that is written.
const MOST: i64 = 10;
/// The label of the clusters that only show whether a policy is in force.
const PROBE: &str = "probe";
/// The limit for the API server to see a policy.
const SOON: Duration = Duration::from_secs(60);

/// What was judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// The writes.
    pub writes: usize,
    /// Those that both judges refused.
    pub refused: usize,
    /// Shrinks that the guard refuses, and the API server leaves to the webhook.
    pub shrinks: usize,
}

/// Lets the API server and the guard judge `writes` dry runs of clusters in the namespace of the
/// test, which must not be guarded by a webhook.
///
/// # Errors
/// Fails at the first write on which they differ, with both answers.
pub async fn agree(ctx: &TestCtx, writes: usize, seed: u64) -> Result<Agreement> {
    let mut chance = Chance(seed);
    let clusters = clusters(ctx).await?;
    let platform = Platform::lay_down(ctx).await?;
    let own = own(ctx).await?;
    let namespaces = Api::<Namespace>::all(ctx.bed.client());
    let labels = namespaces.get(&ctx.namespace).await?.labels().clone();
    let written = Written {
        own: Arc::new(own),
        everywhere: Arc::new(platform.policies.clone()),
        undecodable: Vec::new(),
        labels: Seen::Known(labels),
        unreadable: None,
    };
    let held = in_force(ctx).await;
    let all: Vec<Write> =
        (0..writes).map(|number| Write::by_chance(&mut chance, &clusters, number)).collect();
    let judged = async {
        held?;
        stream::iter(all)
            .map(|write| judged(ctx, &written, write))
            .buffer_unordered(AT_ONCE)
            .try_fold(Agreement::default(), async |sum, one| {
                Ok(Agreement {
                    writes: sum.writes + one.writes,
                    refused: sum.refused + one.refused,
                    shrinks: sum.shrinks + one.shrinks,
                })
            })
            .await
    };
    let judged = judged.await;
    platform.take_up(ctx).await?;
    let agreement = judged.with_context(|| format!("with seed {seed}"))?;
    ensure!(
        agreement.refused > 0 && agreement.refused < writes,
        "nothing was compared: {agreement:?}"
    );
    Ok(agreement)
}

/// One write.
struct Write {
    before: Option<DynamicObject>,
    after: DynamicObject,
}

impl Write {
    fn by_chance(chance: &mut Chance, clusters: &[DynamicObject], number: usize) -> Self {
        let counts: Vec<i64> = (0..=MOST).collect();
        let count = chance.pick(&counts).copied().unwrap_or_default();
        let labels = chance.pick(&labelled()).cloned().unwrap_or_default();
        let before =
            chance.pick(clusters).filter(|_| chance.pick(&[true, true, false]) == Some(&true));
        let mut after = before.cloned().unwrap_or_else(|| cluster(&format!("acid-new-{number}")));
        // A third of the writes leaves the labels as they are.
        if before.is_none() || chance.pick(&[true, true, false]) == Some(&true) {
            after.metadata.labels = Some(labels);
        }
        set(&mut after, count);
        Self { before: before.cloned(), after }
    }
}

#[expect(clippy::disallowed_methods, reason = "nothing is stored, and every field is there")]
async fn judged(ctx: &TestCtx, written: &Written, write: Write) -> Result<Agreement> {
    let clusters = api(ctx);
    let Write { before, after } = &write;
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let answer = match before {
        None => clusters.create(&dry, after).await,
        Some(_) => clusters.replace(&after.name_any(), &dry, after).await,
    };
    let refusal = match answer {
        Ok(_) => None,
        Err(Error::Api(status)) if status.message.contains(RULE) => Some(status.message.clone()),
        Err(error) => return Err(error).context("the API server could not judge a write"),
    };
    let of = |object: &DynamicObject| -> Result<Postgresql> {
        Ok(Postgresql::of(&serde_json::to_value(object)?)?)
    };
    let old = before.as_ref().map(of).transpose()?;
    let change = Change { old, new: of(after)?, dry_run: true, undo: false, user: None };
    let policies = written.of(&change);
    let facts = Facts::unread(change, Timestamp::UNIX_EPOCH);
    let judged = judge_with(&facts, &policies, Reads::of(&[Read::Policies, Read::Operator]));
    let found = judged.verdict.findings.iter().find(|finding| finding.rule == RULE);
    let agreement = Agreement { writes: 1, ..Agreement::default() };
    match (refusal, found) {
        (None, None) => Ok(agreement),
        (Some(_), Some(_)) if facts.direction() != Direction::Down => {
            Ok(Agreement { refused: 1, ..agreement })
        }
        (None, Some(_)) if facts.direction() == Direction::Down => {
            Ok(Agreement { shrinks: 1, ..agreement })
        }
        (refusal, found) => bail!(
            "the API server says {refusal:?}, and the guard {:?}, of {before:?} -> {after:?}",
            found.map(ToString::to_string)
        ),
    }
}

/// Waits until the API server has seen the last policy of either kind, and with it all before: it
/// hears of them in their order.
async fn in_force(ctx: &TestCtx) -> Result<()> {
    for kind in ["ScalePolicy", "ClusterScalePolicy"] {
        let mut probe = cluster("acid-probe");
        probe.metadata.labels = Some(of(&[(PROBE, kind)]));
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        until(&format!("the floor of each {kind} to be in force"), SOON, async || {
            Ok(match api(ctx).create(&dry, &probe).await {
                Err(Error::Api(status)) if status.message.contains(RULE) => Attempt::Done(()),
                other => Attempt::NotYet(format!("{other:?}")),
            })
        })
        .await?;
    }
    Ok(())
}

fn api(ctx: &TestCtx) -> Api<DynamicObject> {
    Api::namespaced_with(ctx.bed.client(), &ctx.namespace, &resource())
}

/// Returns a cluster that no operator owns.
fn cluster(name: &str) -> DynamicObject {
    let mut cluster = DynamicObject::new(name, &resource()).data(json!({"spec": {
        "teamId": "acid", "numberOfInstances": 3,
        "postgresql": {"version": "17"}, "volume": {"size": "1Gi"},
    }}));
    let controller = "acid.zalan.do/controller".to_owned();
    cluster.annotations_mut().insert(controller, "no-operator".to_owned());
    cluster
}

/// Sets the count of a cluster.
fn set(cluster: &mut DynamicObject, count: i64) {
    overlay(&mut cluster.data, &json!({"spec": {"numberOfInstances": count}}));
}

fn of(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Returns the labels that clusters have.
fn labelled() -> Vec<BTreeMap<String, String>> {
    vec![
        of(&[]),
        of(&[("tier", "gold")]),
        of(&[("tier", "silver")]),
        of(&[("env", "prod")]),
        of(&[("tier", "gold"), ("env", "prod")]),
        of(&[("tier", "silver"), ("env", "test")]),
    ]
}

/// Creates the clusters, one for each set of labels, with counts between few and many.
async fn clusters(ctx: &TestCtx) -> Result<Vec<DynamicObject>> {
    let mut all = Vec::new();
    for (labels, (number, count)) in labelled().into_iter().zip((0..).zip([0_i64, 1, 3, 5, 8, 10]))
    {
        let mut one = cluster(&format!("acid-old-{number}"));
        one.metadata.labels = Some(labels);
        set(&mut one, count);
        all.push(api(ctx).create(&PostParams::default(), &one).await?);
    }
    Ok(all)
}

/// Writes the policies of the namespace: every kind of selector, and floors of one side and both.
async fn own(ctx: &TestCtx) -> Result<Vec<ScalePolicy>> {
    let specs = [
        json!({"floor": {"max": 9}, "mode": "Audit"}),
        json!({"floor": {"min": 2}, "clusterSelector": {"matchLabels": {"tier": "gold"}}}),
        json!({"floor": {"min": 1, "max": 6}, "clusterSelector": {"matchExpressions": [
            {"key": "env", "operator": "In", "values": ["prod", "stage"]},
            {"key": "tier", "operator": "NotIn", "values": ["silver"]}]}}),
        json!({"floor": {"max": 7}, "clusterSelector": {"matchExpressions": [
            {"key": "tier", "operator": "Exists"}]}}),
        json!({"floor": {"min": 3}, "clusterSelector": {"matchExpressions": [
            {"key": "tier", "operator": "DoesNotExist"}], "matchLabels": {"env": "prod"}}}),
        json!({"instances": {"max": 2}}),
        json!({"floor": {"max": 1}, "clusterSelector": {"matchLabels": {PROBE: "ScalePolicy"}}}),
    ];
    let policies = Api::<ScalePolicy>::namespaced(ctx.bed.client(), &ctx.namespace);
    let mut all = Vec::new();
    for (number, spec) in specs.into_iter().enumerate() {
        let policy = ScalePolicy::new(&format!("own-{number}"), serde_json::from_value(spec)?);
        let name = policy.name_any();
        let params = PatchParams::apply("pgscale-tests");
        all.push(policies.patch(&name, &params, &Patch::Apply(&policy)).await?);
    }
    Ok(all)
}

/// The policies of the platform, for the namespace of the test and for others.
struct Platform {
    policies: Vec<ClusterScalePolicy>,
}

impl Platform {
    async fn lay_down(ctx: &TestCtx) -> Result<Self> {
        let name = "kubernetes.io/metadata.name";
        let here = |mut spec: Value| -> Value {
            let selector = json!({"matchLabels": {name: ctx.namespace}});
            overlay(&mut spec, &json!({"namespaceSelector": selector}));
            spec
        };
        let specs = [
            here(json!({"floor": {"max": 8}})),
            here(json!({"floor": {"min": 2}, "clusterSelector": {"matchLabels": {"env": "test"}}})),
            json!({"floor": {"max": 1}, "namespaceSelector": {"matchExpressions": [
                {"key": name, "operator": "In", "values": [format!("not-{}", ctx.namespace)]}]}}),
            here(json!({"floor": {"max": 1},
                "clusterSelector": {"matchLabels": {PROBE: "ClusterScalePolicy"}}})),
        ];
        let policies = Api::<ClusterScalePolicy>::all(ctx.bed.client());
        let mut all = Vec::new();
        for (number, spec) in specs.into_iter().enumerate() {
            let name = format!("{}-{number}", ctx.namespace);
            let policy = ClusterScalePolicy::new(&name, serde_json::from_value(spec)?);
            let params = PatchParams::apply("pgscale-tests");
            all.push(policies.patch(&name, &params, &Patch::Apply(&policy)).await?);
        }
        Ok(Self { policies: all })
    }

    /// Deletes them: they would hold for the next run in this namespace.
    async fn take_up(self, ctx: &TestCtx) -> Result<()> {
        let policies = Api::<ClusterScalePolicy>::all(ctx.bed.client());
        for policy in self.policies {
            policies.delete(&policy.name_any(), &DeleteParams::default()).await?;
        }
        Ok(())
    }
}
