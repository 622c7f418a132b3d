//! The message of a refusal: every reason with its evidence and its remedy.
//!
//! People read it in one line of kubectl's: `Error from server (Forbidden): admission webhook
//! "shrink.pgscale.dev" denied the request: `, then this message with its line breaks. Argo CD and
//! Flux fold it into one line. So each reason starts with the ids of its rules, and none depends on
//! the layout.

use std::fmt::Write as _;

use pgscale_guard::remedy::Command;
use pgscale_guard::rules::{Recreation, Volumes};
use pgscale_guard::verdict::grouped;

use super::decision::JudgedChange;
use super::text::{cut, printable};

/// The most bytes of a message that people still read; far below the limits of the API server and
/// of kubectl.
pub(super) const MESSAGE_LIMIT: usize = 8 * 1024;
/// The most bytes of one reason in it.
const REASON_LIMIT: usize = 2 * 1024;
/// The most objects that a message names of those that are left of a deleted cluster.
const NAMED: usize = 8;

/// Returns the message for a refused change, empty for one that passes.
///
/// Reasons that do not fit are named by their rule's id.
pub(super) fn refusal(judged: &JudgedChange) -> String {
    let reasons = grouped(judged.verdict.denials());
    let mut message = heading(judged);
    match reasons.len() {
        0 => return String::new(),
        1 => message.push(':'),
        several => append(&mut message, format_args!(", for {several} reasons:")),
    }
    let mut left_out = Vec::new();
    for reason in reasons {
        let text = cut(&printable(&reason.to_string()), REASON_LIMIT);
        if message.len() + text.len() > MESSAGE_LIMIT {
            left_out.push(reason.ids());
        } else {
            append(&mut message, format_args!("\n- {}", text.replace('\n', "\n  ")));
        }
    }
    if !left_out.is_empty() {
        append(&mut message, format_args!("\n- also refused by {}", left_out.join(", ")));
    }
    if let Some(recreation) = &judged.recreation {
        append(&mut message, format_args!("\n{}", deleted(judged, recreation)));
    }
    if judged.from.is_some() {
        let JudgedChange { namespace, name, requested, .. } = judged;
        let unseen = if judged.unseen {
            "\nThe live state of the cluster was not looked at: it cannot change this."
        } else {
            ""
        };
        append(
            &mut message,
            format_args!(
                "{unseen}\nEverything the guard sees:\n    kubectl pgscale plan {name} --to {requested} \
                 -n {namespace}"
            ),
        );
    }
    message
}

fn heading(judged: &JudgedChange) -> String {
    let cluster = format!("{}/{}", judged.namespace, judged.name);
    let count = if judged.requested == judged.to {
        judged.to.to_string()
    } else {
        format!("{} (asked for: {})", judged.to, judged.requested)
    };
    let instances = if judged.to == 1 { "instance" } else { "instances" };
    match judged.from {
        None => format!("pgscale refuses to create {cluster} with {count} {instances}"),
        Some(from) => {
            let assumed = judged.assumed_leader.as_ref();
            let moved = assumed.map_or_else(String::new, |leader| {
                format!(", even after a switchover to {leader}")
            });
            format!("pgscale refuses to scale {cluster} from {from} to {count} {instances}{moved}")
        }
    }
}

/// Returns what the refusal of a CREATE means for a cluster that was deleted a moment ago, and the
/// command that brings the cluster back.
fn deleted(judged: &JudgedChange, recreation: &Recreation) -> String {
    let JudgedChange { namespace, name, .. } = judged;
    let Recreation { left, count, volumes } = recreation;
    let more = left.len().saturating_sub(NAMED);
    let mut shown: Vec<String> = left.iter().take(NAMED).map(ToString::to_string).collect();
    if more > 0 {
        shown.push(format!("{more} more"));
    }
    let way_back = match volumes {
        Volumes::Kept => bring_back(namespace, *count),
        Volumes::Deleted { by, claims } => {
            let keep = keep_disks(namespace, claims);
            format!("Its volumes are deleted, too ({by}). Their data is in backups only.{keep}")
        }
        Volumes::Unknown => format!(
            "The settings of the operator could not be read. They say whether it deletes the \
             volumes, too. If it keeps them: {}",
            bring_back(namespace, *count)
        ),
    };
    format!(
        "postgresql {namespace}/{name} was deleted, and it stays deleted while this write is \
         refused. These objects are left: {}.\n{way_back}",
        shown.join(", ")
    )
}

fn bring_back(namespace: &str, count: Option<i64>) -> String {
    let Some(count) = count else {
        return "No number of instances would be allowed now. Solve the problems above, then create \
                the cluster again."
            .to_owned();
    };
    let patch = format!("{{\"spec\":{{\"numberOfInstances\":{count}}}}}");
    let patch = ["patch", "--local", "-f", "MANIFEST", "--type=merge", "-o", "yaml", "-p", &patch];
    let create = ["kubectl", "create", "-n", namespace, "-f", "-"];
    let command = Command::kubectl(patch).piped_into(create);
    format!("To bring it back with {count}:\n    {command}")
}

fn keep_disks(namespace: &str, claims: &[String]) -> String {
    if claims.is_empty() {
        return String::new();
    }
    let names = "custom-columns=:.spec.volumeName";
    let get = ["get", "pvc"].into_iter().chain(claims.iter().map(String::as_str));
    let get = get.chain(["-n", namespace, "-o", names, "--no-headers"]);
    let retain = r#"{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}"#;
    let patch = ["xargs", "kubectl", "patch", "pv", "-p", retain];
    let command = Command::kubectl(get).piped_into(patch);
    format!("\nTo keep the disks that are still there:\n    {command}")
}

fn append(message: &mut String, text: std::fmt::Arguments<'_>) {
    let written = message.write_fmt(text);
    debug_assert!(written.is_ok(), "writing to a String");
}
