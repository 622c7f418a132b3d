//! What a review asks of the guard: a pure reading of the `AdmissionReview`.
//!
//! Reviewed are `postgresqls`, `statefulsets` and the `scale` subresource of both. Everything else that is sent
//! here is a mistake of the registration, and refused: to wave through what one cannot read is how guards are
//! walked past.

use kube::core::admission::Operation;
use pgscale_guard::Change;
use pgscale_guard::postgresql::{GROUP, KIND, PLURAL, Postgresql, VERSION};
use pgscale_guard::rules::AFTER_SWITCHOVER;

use super::advice::{Wanted, advice};
use super::budget::{QUOTED, Refusal};
use super::object::{Object, stored};
use super::review::{Received, Review};
use super::text::cut;

/// The resource behind the side door, as (group, version, plural).
pub(crate) const STATEFUL_SETS: (&str, &str, &str) = ("apps", "v1", "statefulsets");

/// What it asks.
#[derive(Debug, PartialEq)]
pub(crate) enum Asked {
    /// Nothing the guard has an opinion on; the text says why.
    Nothing(&'static str),
    /// A change of the count through the `scale` subresource: of a cluster that is still to be read.
    Scale(Scaled),
    /// A change of the replicas of a StatefulSet, past its operator: of what is not ours to refuse.
    PastTheOperator(Scaled),
    /// A write of the object itself.
    Write(Box<Change>),
}

/// A change of the count alone: through the `scale` subresource, or of a StatefulSet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scaled {
    /// Namespace of the cluster and of its StatefulSet.
    pub(crate) namespace: String,
    /// The name of both.
    pub(crate) name: String,
    /// `spec.replicas` before.
    pub(crate) from: i64,
    /// `spec.replicas` after.
    pub(crate) to: i64,
    /// Nothing will be stored.
    pub(crate) dry_run: bool,
    /// Who writes.
    pub(crate) user: Option<String>,
}

/// Why a review cannot be judged.
#[derive(Debug, thiserror::Error, PartialEq)]
pub(crate) enum Unjudgeable {
    /// It is about something else.
    #[error(
        "{0} is nothing pgscale judges: it knows {PLURAL}.{GROUP} {VERSION}, statefulsets.apps v1 and the \
         scale subresource of both; correct the rules of the ValidatingWebhookConfiguration"
    )]
    Foreign(String),
    /// The API server did not send what this operation needs.
    #[error("the review carries no {0}")]
    Missing(&'static str),
    /// An object is malformed or too large.
    #[error("{}", refusal.advised(advice))]
    Undecoded {
        /// The reason.
        refusal: Refusal,
        /// Advice for the writer where it is too large.
        advice: String,
    },
}

impl Unjudgeable {
    /// Returns whether an object is too large. Then even growth does not pass unjudged: otherwise a
    /// writer could pass every limit by making the object large.
    pub(crate) fn is_too_large(&self) -> bool {
        matches!(self, Self::Undecoded { refusal: Refusal::TooLarge { .. }, .. })
    }
}

impl Asked {
    /// Reads a review.
    pub(crate) fn of(received: &Received<'_>) -> Result<Self, Unjudgeable> {
        let review = &received.review;
        match review.operation {
            Operation::Delete => return Ok(Self::Nothing("deleting a cluster is not scaling it")),
            Operation::Connect => return Ok(Self::Nothing("connecting changes nothing")),
            Operation::Create | Operation::Update => {}
        }
        let resource = &review.resource;
        match (&*resource.group, &*resource.version, &*resource.resource) {
            (GROUP, VERSION, PLURAL) => {}
            STATEFUL_SETS => return Ok(past_the_operator(received)),
            _ => return Err(foreign(review)),
        }
        let kind = (&*review.kind.group, &*review.kind.version, &*review.kind.kind);
        match (review.sub_resource.as_deref().unwrap_or(""), kind) {
            ("", (GROUP, VERSION, KIND)) => write(received),
            ("scale", ("autoscaling", "v1", "Scale")) => scale(received).map(Self::Scale),
            // The API server takes nothing but the status from such a write.
            ("status", _) => Ok(Self::Nothing("a status holds no count")),
            _ => Err(foreign(review)),
        }
    }

    /// The change certainly leads to more instances, or to a new cluster: what is not known about it is told
    /// to the writer, and does not stop them.
    ///
    /// Only where annotations stay, because some of them lift the operator's limits: then even a higher
    /// number may mean fewer instances.
    pub(crate) fn grows(&self) -> bool {
        match self {
            Self::Nothing(_) | Self::PastTheOperator(_) => true,
            Self::Scale(scaled) => scaled.to > scaled.from,
            Self::Write(change) => change.old.as_ref().is_none_or(|old| {
                change.new.instances.unwrap_or(0) > old.instances.unwrap_or(0)
                    && change.new.annotations == old.annotations
            }),
        }
    }
}

/// Returns whether the writer asks for the verdict as it will be after a switchover: a dry run
/// under the field manager of that name. The name means nothing for a write that is stored.
///
/// A patch arrives with the options of an update, its field manager included
/// (`patchToUpdateOptions`, apiserver/pkg/endpoints/handlers/patch.go).
pub(crate) fn asks_after_switchover(review: &Review) -> bool {
    review.dry_run && review.field_manager.as_deref() == Some(AFTER_SWITCHOVER)
}

/// Why `change` needs no judgement, if it needs none: no live state is read for it.
pub(crate) fn settled(change: &Change) -> Option<&'static str> {
    let old = change.old.as_ref()?;
    let new = &change.new;
    let (from, to) = (old.instances.unwrap_or(0), new.instances.unwrap_or(0));
    // Refusing anything but growth would only keep its finalizers from being removed.
    if new.terminating && to <= from {
        return Some("the cluster is being deleted");
    }
    // The effective count depends on the count, on two annotations whose names the operator's
    // configuration knows, and on whether the cluster is a standby.
    let same =
        from == to && old.annotations == new.annotations && old.is_standby() == new.is_standby();
    same.then_some("the count stays")
}

fn write(received: &Received<'_>) -> Result<Asked, Unjudgeable> {
    let Received { review, budget, .. } = received;
    let new = object("object", &received.object, received)?;
    let old = match review.operation {
        Operation::Create => None,
        Operation::Update | Operation::Delete | Operation::Connect => {
            Some(object("oldObject", &received.old_object, received)?)
        }
    };
    let change = |old: Option<Postgresql>, new: Postgresql| Change {
        old: old.map(|old| named(old, review)),
        new: named(new, review),
        dry_run: review.dry_run,
        undo: false,
        user: review.user.clone(),
    };
    // The head settles most writes that leave the count. A write that takes out a part which is too
    // large to judge must pass, so no more than the head is decoded for it.
    let plain = |refusal| undecoded(refusal, received, None);
    let head = change(
        old.map(|old| old.head(budget)).transpose().map_err(plain)?,
        new.head(budget).map_err(plain)?,
    );
    let alike = old.is_some_and(|old| old.switches_alike(new));
    if (alike || head.new.terminating)
        && let Some(why) = settled(&head)
    {
        return Ok(Asked::Nothing(why));
    }
    let asked = |refusal| undecoded(refusal, received, head.new.instances);
    let stored = old.map(|old| old.judged(Some(new), budget)).transpose().map_err(asked)?;
    let change = change(stored, new.judged(old, budget).map_err(asked)?);
    Ok(match settled(&change) {
        Some(why) => Asked::Nothing(why),
        None => Asked::Write(Box::new(change)),
    })
}

/// Returns `cluster` with the names in the request, which is the authority on them.
fn named(mut cluster: Postgresql, review: &Review) -> Postgresql {
    if let Some(namespace) = &review.namespace {
        cluster.namespace.clone_from(namespace);
    }
    if !review.name.is_empty() {
        cluster.name.clone_from(&review.name);
    }
    cluster
}

fn object<'r, 'a>(
    which: &'static str,
    object: &'r Result<Option<Object<'a>>, Refusal>,
    received: &Received<'_>,
) -> Result<&'r Object<'a>, Unjudgeable> {
    match object {
        Ok(Some(object)) => Ok(object),
        Ok(None) => Err(Unjudgeable::Missing(which)),
        Err(refusal) => Err(undecoded(refusal.clone(), received, None)),
    }
}

fn undecoded(refusal: Refusal, received: &Received<'_>, count: Option<i64>) -> Unjudgeable {
    let Review { name, namespace, .. } = &received.review;
    let created = matches!(received.old_object, Ok(None));
    let wanted = namespace.as_deref().zip(count);
    let wanted = wanted.map(|(namespace, count)| Wanted { namespace, name, count });
    Unjudgeable::Undecoded { advice: advice(&refusal, created, wanted), refusal }
}

fn scale(received: &Received<'_>) -> Result<Scaled, Unjudgeable> {
    // Omitted means 0: the field is an `int32` with `omitempty`.
    scaled(received, 0)
}

/// The change behind a `Scale`: everything but the count is as `text`, the cluster as the API
/// server has it now.
pub(crate) fn behind(scaled: &Scaled, text: &str) -> Result<Change, Unjudgeable> {
    let Scaled { namespace, name, from, to, dry_run, user } = scaled;
    let stored = stored(text).map_err(|refusal| {
        let wanted = Some(Wanted { namespace, name, count: *to });
        Unjudgeable::Undecoded { advice: advice(&refusal, false, wanted), refusal }
    })?;
    let old = stored.with_instances(*from);
    Ok(Change { dry_run: *dry_run, user: user.clone(), ..Change::of_count(old, *to) })
}

/// Such a write passes whatever it is, so one that cannot be read is no reason to refuse it.
fn past_the_operator(received: &Received<'_>) -> Asked {
    let review = &received.review;
    let read = match (review.sub_resource.as_deref().unwrap_or(""), &*review.kind.kind) {
        ("scale", "Scale") => scale(received),
        // Omitted means 1 (`SetDefaults_StatefulSet`, pkg/apis/apps/v1/defaults.go).
        ("", "StatefulSet") => scaled(received, 1),
        _ => return Asked::Nothing("no write of a StatefulSet's replicas"),
    };
    match read {
        Ok(scaled) if scaled.from != scaled.to => Asked::PastTheOperator(scaled),
        Ok(_) => Asked::Nothing("the replicas stay"),
        Err(_) => Asked::Nothing("a StatefulSet that cannot be read"),
    }
}

/// Reads the counts before and after, `omitted` where one is missing.
fn scaled(received: &Received<'_>, omitted: i32) -> Result<Scaled, Unjudgeable> {
    let review = &received.review;
    let replicas = |which, side| {
        let replicas = object(which, side, received)?.replicas(&received.budget);
        let replicas = replicas.map_err(|refusal| undecoded(refusal, received, None))?;
        Ok(i64::from(replicas.unwrap_or(omitted)))
    };
    Ok(Scaled {
        namespace: review.namespace.clone().ok_or(Unjudgeable::Missing("namespace"))?,
        name: review.name.clone(),
        from: replicas("oldObject", &received.old_object)?,
        to: replicas("object", &received.object)?,
        dry_run: review.dry_run,
        user: review.user.clone(),
    })
}

fn foreign(review: &Review) -> Unjudgeable {
    let resource = &review.resource;
    let mut name = format!("{}.{}/{}", resource.resource, resource.group, resource.version);
    if let Some(subresource) = &review.sub_resource {
        name = format!("{name} subresource {subresource}");
    }
    Unjudgeable::Foreign(cut(&format!("{name} as kind {}", review.kind.kind), QUOTED))
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A `postgresql` object of `count` instances.
    pub(crate) fn object(count: i64) -> Value {
        json!({
            "apiVersion": "acid.zalan.do/v1", "kind": "postgresql",
            "metadata": {"namespace": "db", "name": "acid-a", "uid": "c1", "resourceVersion": "7"},
            "spec": {"numberOfInstances": count, "teamId": "acid", "volume": {"size": "1Gi"},
                     "postgresql": {"version": "17"}},
        })
    }

    /// The review of an UPDATE.
    pub(crate) fn update(old: &Value, new: &Value) -> Value {
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "r1",
                "kind": {"group": "acid.zalan.do", "version": "v1", "kind": "postgresql"},
                "resource": {"group": "acid.zalan.do", "version": "v1", "resource": "postgresqls"},
                "name": "acid-a", "namespace": "db", "operation": "UPDATE",
                "userInfo": {"username": "dba", "groups": ["system:authenticated"]},
                "object": new, "oldObject": old, "dryRun": false,
                "options": {"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1"},
            },
        })
    }

    /// The review of a CREATE.
    pub(crate) fn create(new: &Value) -> Value {
        let mut review = update(&Value::Null, new);
        review["request"]["operation"] = json!("CREATE");
        review
    }

    /// The review of a write of `postgresqls/scale`; `None` leaves `spec.replicas` out.
    pub(crate) fn scale(from: Option<i64>, to: Option<i64>) -> Value {
        let scale = |replicas: Option<i64>| {
            let mut scale = json!({
                "apiVersion": "autoscaling/v1", "kind": "Scale",
                "metadata": {"namespace": "db", "name": "acid-a", "uid": "c1"},
                "spec": {}, "status": {"replicas": 3},
            });
            if let Some(replicas) = replicas {
                scale["spec"]["replicas"] = json!(replicas);
            }
            scale
        };
        let mut review = update(&scale(from), &scale(to));
        review["request"]["kind"] =
            json!({"group": "autoscaling", "version": "v1", "kind": "Scale"});
        review["request"]["subResource"] = json!("scale");
        review
    }

    /// The same of a StatefulSet, itself or through its `scale`.
    pub(crate) fn stateful_set(from: i64, to: i64, by_scale: bool) -> Value {
        let mut review = if by_scale {
            scale(Some(from), Some(to))
        } else {
            let set = |replicas: i64| {
                json!({
                    "apiVersion": "apps/v1", "kind": "StatefulSet",
                    "metadata": {"namespace": "db", "name": "acid-a", "uid": "s1"},
                    "spec": {"replicas": replicas, "selector": {}, "template": {}},
                })
            };
            let mut review = update(&set(from), &set(to));
            review["request"]["kind"] =
                json!({"group": "apps", "version": "v1", "kind": "StatefulSet"});
            review
        };
        review["request"]["resource"] =
            json!({"group": "apps", "version": "v1", "resource": "statefulsets"});
        review
    }

    fn read(review: &Value) -> Result<Asked, Unjudgeable> {
        let body = review.to_string();
        Asked::of(&Received::of(body.as_bytes()).unwrap())
    }

    fn change(review: &Value) -> Change {
        let Asked::Write(change) = read(review).unwrap() else { panic!("no write: {review}") };
        *change
    }

    #[test]
    fn an_update_is_read_with_both_sides() {
        let read = change(&update(&object(3), &object(5)));
        assert_eq!((read.old.unwrap().instances, read.new.instances), (Some(3), Some(5)));
        assert_eq!((read.new.namespace.as_str(), read.new.name.as_str()), ("db", "acid-a"));
        assert_eq!((read.dry_run, read.user.as_deref()), (false, Some("dba")));
        assert_eq!(change(&create(&object(3))).old, None);
    }

    #[test]
    fn a_scale_is_read_and_its_omitted_count_is_zero() {
        let counts = |review: &Value| {
            let Asked::Scale(scaled) = read(review).unwrap() else { panic!("no scale: {review}") };
            (scaled.from, scaled.to)
        };
        assert_eq!(counts(&scale(Some(3), Some(5))), (3, 5));
        assert_eq!(counts(&scale(Some(3), None)), (3, 0));
        let mut no_spec = scale(Some(3), None);
        no_spec["request"]["object"]["spec"] = Value::Null;
        assert_eq!(counts(&no_spec), (3, 0));
    }

    #[test]
    fn a_stateful_set_is_read_by_its_replicas_and_never_a_reason_to_refuse() {
        for by_scale in [false, true] {
            let Ok(Asked::PastTheOperator(scaled)) = read(&stateful_set(3, 5, by_scale)) else {
                panic!("no write of a StatefulSet")
            };
            assert_eq!((scaled.from, scaled.to, scaled.name.as_str()), (3, 5, "acid-a"));
            assert!(matches!(read(&stateful_set(3, 3, by_scale)), Ok(Asked::Nothing(_))));
            let mut odd = stateful_set(3, 5, by_scale);
            odd["request"]["object"]["spec"]["replicas"] = json!("five");
            assert!(matches!(read(&odd), Ok(Asked::Nothing(_))));
            odd["request"]["object"] = Value::Null;
            assert!(matches!(read(&odd), Ok(Asked::Nothing(_))));
        }
        let mut status = stateful_set(3, 5, false);
        status["request"]["subResource"] = json!("status");
        assert!(matches!(read(&status), Ok(Asked::Nothing(_))));
    }

    #[test]
    fn what_is_no_write_of_the_count_is_nothing() {
        for operation in ["DELETE", "CONNECT"] {
            let mut review = update(&object(3), &Value::Null);
            review["request"]["operation"] = json!(operation);
            assert!(matches!(read(&review), Ok(Asked::Nothing(_))), "{operation}");
        }
        let mut status = update(&object(3), &object(5));
        status["request"]["subResource"] = json!("status");
        assert!(matches!(read(&status), Ok(Asked::Nothing(_))));
    }

    #[test]
    fn unknown_shapes_are_refused() {
        let change = |path: &str, value: Value| {
            let mut review = update(&object(3), &object(5));
            *review.pointer_mut(path).unwrap() = value;
            review
        };
        let mut exec = update(&object(3), &object(5));
        exec["request"]["subResource"] = json!("exec");
        let mut text = scale(Some(3), Some(5));
        text["request"]["object"]["spec"]["replicas"] = json!("five");
        for (review, want) in [
            (change("/request/kind/kind", json!("Postgresql")), "nothing pgscale judges"),
            (change("/request/resource/version", json!("v2")), "postgresqls.acid.zalan.do/v2"),
            (change("/request/resource/group", json!("apps")), "nothing pgscale judges"),
            (exec, "subresource exec"),
            (change("/request/object", Value::Null), "carries no object"),
            (change("/request/oldObject", Value::Null), "carries no oldObject"),
            (change("/request/object/spec/numberOfInstances", json!(2.5)), "not a whole number"),
            (change("/request/object/spec/numberOfInstances", json!("5")), "object is malformed"),
            (text, "object is malformed"),
        ] {
            let error = read(&review).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn what_needs_no_judgement_is_told_from_what_does() {
        let terminating = |count| {
            let mut object = object(count);
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            object
        };
        let annotated = |count| {
            let mut object = object(count);
            object["metadata"]["annotations"] = json!({"acid.zalan.do/controller": "other"});
            object
        };
        let promoted = {
            let mut object = object(1);
            object["spec"]["standby"] = json!({"standby_host": "elsewhere"});
            object
        };
        for (name, old, new, want) in [
            ("the count stays", object(3), object(3), true),
            ("it falls", object(3), object(2), false),
            ("it rises", object(3), object(4), false),
            ("another operator takes over", object(3), annotated(3), false),
            ("a standby is promoted", promoted, object(1), false),
            ("being deleted", object(3), terminating(3), true),
            ("being deleted and shrinking", object(3), terminating(0), true),
            ("being deleted and growing", object(3), terminating(4), false),
        ] {
            let asked = read(&update(&old, &new)).unwrap();
            assert_eq!(matches!(asked, Asked::Nothing(_)), want, "{name}: {asked:?}");
        }
        assert!(matches!(read(&create(&object(3))), Ok(Asked::Write(_))));
    }

    #[test]
    fn only_a_dry_run_by_its_field_manager_asks_after_a_switchover() {
        for (dry_run, options, want) in [
            (true, json!({"fieldManager": "pgscale-after-switchover"}), true),
            (false, json!({"fieldManager": "pgscale-after-switchover"}), false),
            // The request says whether it is a dry run, and not the options.
            (false, json!({"fieldManager": "pgscale-after-switchover", "dryRun": ["All"]}), false),
            (true, json!({"fieldManager": "kubectl-pgscale"}), false),
            (true, json!({"fieldManager": "pgscale-after-switchover "}), false),
            (true, json!({}), false),
            (true, Value::Null, false),
        ] {
            let mut review = update(&object(5), &object(3));
            review["request"]["dryRun"] = json!(dry_run);
            review["request"]["options"] = options.clone();
            let body = review.to_string();
            let asks = asks_after_switchover(&Received::of(body.as_bytes()).unwrap().review);
            assert_eq!(asks, want, "{dry_run} {options}");
        }
    }

    #[test]
    fn growth_is_only_what_certainly_is() {
        let mut annotated = object(5);
        annotated["metadata"]["annotations"] = json!({"x": "y"});
        for (review, want) in [
            (update(&object(3), &object(5)), true),
            (update(&object(3), &annotated), false),
            (update(&object(5), &object(3)), false),
            (create(&object(3)), true),
            (scale(Some(3), Some(5)), true),
            (scale(Some(3), None), false),
        ] {
            assert_eq!(read(&review).unwrap().grows(), want, "{review}");
        }
    }
}
