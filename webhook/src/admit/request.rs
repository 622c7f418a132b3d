//! The question that a review asks the guard: a pure reading of the `AdmissionReview`.
//!
//! The webhook reviews `postgresqls`, `statefulsets` and the `scale` subresource of both.
//! Everything else arrives here by a mistake in the registration, and is refused: a guard that lets
//! pass what it cannot read is easy to bypass.

use kube::core::admission::Operation;
use pgscale_guard::Change;
use pgscale_guard::postgresql::{GROUP, KIND, PLURAL, Postgresql, VERSION};
use pgscale_guard::rules::AFTER_SWITCHOVER;

use super::advice::{Wanted, advice};
use super::budget::{QUOTED, Refusal};
use super::object::{Object, stored};
use super::review::{Received, Review};
use super::text::cut;

/// StatefulSets, as (group, version, plural). A write of their replicas goes past the operator.
pub(crate) const STATEFUL_SETS: (&str, &str, &str) = ("apps", "v1", "statefulsets");

/// The question of a review.
#[derive(Debug, PartialEq)]
pub(crate) enum Question {
    /// Nothing has to be judged.
    Nothing(Exemption),
    /// A change of the count through the `scale` subresource, of a cluster that is still to be
    /// read.
    Scale(CountWrite),
    /// A change of the replicas of a StatefulSet, past its operator. The webhook never refuses it.
    PastTheOperator(CountWrite),
    /// A write of the object itself.
    Write(Box<Change>),
}

/// The reason why a write needs no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exemption {
    /// It deletes the cluster.
    Deletion,
    /// It is a connection, which changes nothing.
    Connection,
    /// The API server takes nothing but the status from it.
    Status,
    /// The cluster is being deleted, and the write adds no member.
    Terminating,
    /// The effective count is the same before and after.
    SameCount,
    /// It is not about the replicas of a StatefulSet.
    OtherStatefulSetWrite,
    /// The StatefulSet has the same replicas before and after.
    SameReplicas,
    /// The StatefulSet cannot be read, and the webhook never refuses a write of one.
    UnreadableStatefulSet,
    /// An operator scales its own StatefulSet.
    OperatorWrite,
}

impl Exemption {
    /// Returns the reason in words, for the log.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Deletion => "the cluster is deleted, not scaled",
            Self::Connection => "a connection changes nothing",
            Self::Status => "a status holds no count",
            Self::Terminating => "the cluster is being deleted",
            Self::SameCount => "the count does not change",
            Self::OtherStatefulSetWrite => "the write is not about a StatefulSet's replicas",
            Self::SameReplicas => "the replicas do not change",
            Self::UnreadableStatefulSet => "the StatefulSet cannot be read",
            Self::OperatorWrite => "an operator scales its own StatefulSet",
        }
    }
}

/// A write of the count alone: through the `scale` subresource, or of a StatefulSet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CountWrite {
    /// Namespace of the cluster and of its StatefulSet.
    pub(crate) namespace: String,
    /// The name of both.
    pub(crate) name: String,
    /// `spec.replicas` before.
    pub(crate) from: i64,
    /// `spec.replicas` after.
    pub(crate) to: i64,
    /// The API server will store nothing.
    pub(crate) dry_run: bool,
    /// The user who writes.
    pub(crate) user: Option<String>,
}

/// The reason why a review cannot be judged.
#[derive(Debug, thiserror::Error, PartialEq)]
pub(crate) enum Unjudgeable {
    /// It is about something else.
    #[error(
        "pgscale does not judge {0}. It judges {PLURAL}.{GROUP} {VERSION}, statefulsets.apps v1 \
         and the scale subresource of both. Correct the rules of the ValidatingWebhookConfiguration"
    )]
    Foreign(String),
    /// The API server did not send what this operation needs.
    #[error("the review has no {0}")]
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

impl Question {
    /// Reads a review.
    pub(crate) fn of(received: &Received<'_>) -> Result<Self, Unjudgeable> {
        let review = &received.review;
        match review.operation {
            Operation::Delete => return Ok(Self::Nothing(Exemption::Deletion)),
            Operation::Connect => return Ok(Self::Nothing(Exemption::Connection)),
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
            ("status", _) => Ok(Self::Nothing(Exemption::Status)),
            _ => Err(foreign(review)),
        }
    }

    /// Returns whether the change certainly leads to more instances, or to a new cluster. A fact
    /// that is not known about it then becomes a warning, and does not refuse the write.
    ///
    /// That is certain only where the annotations are the same, because some of them lift the
    /// operator's limits: with other annotations even a higher number may mean fewer instances.
    pub(crate) fn grows(&self) -> bool {
        match self {
            Self::Nothing(_) | Self::PastTheOperator(_) => true,
            Self::Scale(write) => write.to > write.from,
            Self::Write(change) => change.old.as_ref().is_none_or(|old| {
                change.new.instances.unwrap_or(0) > old.instances.unwrap_or(0)
                    && change.new.annotations == old.annotations
            }),
        }
    }

    /// Returns whether the change brings a cluster back from zero instances.
    ///
    /// Then there is no member whose data the new ones copy: what they start from is judged by
    /// `return-from-zero` and `dcs-store-changing`, which take no unread fact for fine.
    pub(crate) fn returns_from_zero(&self) -> bool {
        match self {
            Self::Nothing(_) | Self::PastTheOperator(_) => false,
            Self::Scale(write) => write.from <= 0 && write.to > 0,
            Self::Write(change) => change.old.as_ref().is_some_and(|old| {
                old.instances.unwrap_or(0) <= 0 && change.new.instances.unwrap_or(0) > 0
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

/// Returns the reason why `change` needs no verdict, `None` where it needs one. No live state is
/// read for it.
pub(crate) fn exemption(change: &Change) -> Option<Exemption> {
    let old = change.old.as_ref()?;
    let new = &change.new;
    let (from, to) = (old.instances.unwrap_or(0), new.instances.unwrap_or(0));
    // A refusal of anything but growth would only prevent the removal of finalizers.
    if new.terminating && to <= from {
        return Some(Exemption::Terminating);
    }
    (!change.may_change_count()).then_some(Exemption::SameCount)
}

fn write(received: &Received<'_>) -> Result<Question, Unjudgeable> {
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
    // The head is enough for most writes that leave the count as it is. A write that removes a part
    // which is too large to judge must pass, so no more than the head is decoded for it.
    let plain = |refusal| undecoded(refusal, received, None);
    let head = change(
        old.map(|old| old.head(budget)).transpose().map_err(plain)?,
        new.head(budget).map_err(plain)?,
    );
    let alike = old.is_some_and(|old| old.switches_alike(new));
    if (alike || head.new.terminating)
        && let Some(why) = exemption(&head)
    {
        return Ok(Question::Nothing(why));
    }
    let too_large = |refusal| undecoded(refusal, received, head.new.instances);
    let stored = old.map(|old| old.judged(Some(new), budget)).transpose().map_err(too_large)?;
    let change = change(stored, new.judged(old, budget).map_err(too_large)?);
    Ok(match exemption(&change) {
        Some(why) => Question::Nothing(why),
        None => Question::Write(Box::new(change)),
    })
}

/// Returns `cluster` with the names in the request, which count where the object says otherwise.
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

fn scale(received: &Received<'_>) -> Result<CountWrite, Unjudgeable> {
    // Omitted means 0: the field is an `int32` with `omitempty`.
    count_write(received, 0)
}

/// Returns the change that a `Scale` stands for. Everything but the count is as in `text`, the
/// cluster as the API server has it now.
pub(crate) fn change_of_scale(write: &CountWrite, text: &str) -> Result<Change, Unjudgeable> {
    let CountWrite { namespace, name, from, to, dry_run, user } = write;
    let stored = stored(text).map_err(|refusal| {
        let wanted = Some(Wanted { namespace, name, count: *to });
        Unjudgeable::Undecoded { advice: advice(&refusal, false, wanted), refusal }
    })?;
    let mut old = stored.with_instances(*from);
    if stored.instances.unwrap_or(0) != *from {
        // It was written since the API server asked, so that its revision is not the one asked about.
        old.resource_version.clear();
    }
    Ok(Change { dry_run: *dry_run, user: user.clone(), ..Change::of_count(old, *to) })
}

/// Reads a write of a StatefulSet. It passes whatever it is, so one that cannot be read is no
/// reason to refuse it.
fn past_the_operator(received: &Received<'_>) -> Question {
    let review = &received.review;
    let read = match (review.sub_resource.as_deref().unwrap_or(""), &*review.kind.kind) {
        ("scale", "Scale") => scale(received),
        // Omitted means 1 (`SetDefaults_StatefulSet`, pkg/apis/apps/v1/defaults.go).
        ("", "StatefulSet") => count_write(received, 1),
        _ => return Question::Nothing(Exemption::OtherStatefulSetWrite),
    };
    match read {
        Ok(write) if write.from != write.to => Question::PastTheOperator(write),
        Ok(_) => Question::Nothing(Exemption::SameReplicas),
        Err(_) => Question::Nothing(Exemption::UnreadableStatefulSet),
    }
}

/// Reads the counts before and after; a missing one is `omitted`.
fn count_write(received: &Received<'_>, omitted: i32) -> Result<CountWrite, Unjudgeable> {
    let review = &received.review;
    let replicas = |which, side| {
        let replicas = object(which, side, received)?.replicas(&received.budget);
        let replicas = replicas.map_err(|refusal| undecoded(refusal, received, None))?;
        Ok(i64::from(replicas.unwrap_or(omitted)))
    };
    Ok(CountWrite {
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
mod tests;
