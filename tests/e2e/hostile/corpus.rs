//! Reviews that cost more to judge than their size suggests, and ordinary ones beside them.

use std::fmt::Write as _;

/// The uid of every review.
pub(super) const UID: &str = "r1";
/// The maximum size of a body, as the webhook limits it.
const MOST: usize = 7 << 20;
/// The bytes of a part that still pass etcd's limit of 1.5 MB for an object.
const STORABLE: usize = 1_400_000;

/// A body and the answer that it must get.
pub(super) struct Row {
    /// Its name.
    pub(super) name: &'static str,
    /// The body.
    pub(super) body: Vec<u8>,
    /// The answer.
    pub(super) answer: Answer,
}

/// The answer that a body must get.
pub(super) enum Answer {
    /// A refusal with 403 before anything is read, with these texts in its message.
    Refused(&'static [&'static str]),
    /// An answer that rests on a verdict with this rule.
    Judged {
        /// True if the write passes.
        allowed: bool,
        /// `rule=effect`, or empty for none.
        rule: &'static str,
    },
    /// An HTTP status.
    Status(u16),
}

/// An UPDATE of a cluster from 3 to 9 instances, with additional text at the places that a writer
/// controls.
struct Edit {
    counts: (u32, u32),
    /// Additional text of the old and the new metadata.
    metadata: (String, String),
    /// Additional text of the old and the new spec.
    spec: (String, String),
    /// Additional text of the old and the new object.
    object: (String, String),
    /// Additional text of `request.userInfo`.
    user: String,
    /// Additional text of the request.
    request: String,
}

impl Default for Edit {
    fn default() -> Self {
        let none = || (String::new(), String::new());
        let (user, request) = none();
        Self { counts: (3, 9), metadata: none(), spec: none(), object: none(), user, request }
    }
}

impl Edit {
    fn text(&self) -> String {
        let object = |count: u32, metadata: &str, spec: &str, more: &str| {
            format!(
                r#"{{"apiVersion":"acid.zalan.do/v1","kind":"postgresql","metadata":{{
"namespace":"db","name":"acid-a","uid":"c1","resourceVersion":"7"{metadata}}},
"spec":{{"teamId":"acid","postgresql":{{"version":"17"}},
"volume":{{"size":"1Gi"}},"numberOfInstances":{count}{spec}}}{more}}}"#
            )
        };
        let (from, to) = self.counts;
        let old = object(from, &self.metadata.0, &self.spec.0, &self.object.0);
        let new = object(to, &self.metadata.1, &self.spec.1, &self.object.1);
        let (user, request) = (&self.user, &self.request);
        review(
            r#"{"group":"acid.zalan.do","version":"v1","kind":"postgresql"}"#,
            r#"{"group":"acid.zalan.do","version":"v1","resource":"postgresqls"}"#,
            &format!(
                r#""userInfo":{{"username":"dba"{user}}}{request},"oldObject":{old},"object":{new}"#
            ),
        )
    }

    fn body(&self) -> Vec<u8> {
        self.text().into_bytes()
    }
}

fn review(kind: &str, resource: &str, rest: &str) -> String {
    format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{
"uid":"{UID}","kind":{kind},"resource":{resource},"name":"acid-a","namespace":"db",
"operation":"UPDATE","dryRun":false,{rest}}}}}"#
    )
}

/// Returns the review of a write of a StatefulSet from 5 to 1 replicas, with additional text in its
/// spec.
fn stateful_set(spec: &str) -> Vec<u8> {
    let set = |count: u32| {
        format!(
            r#"{{"apiVersion":"apps/v1","kind":"StatefulSet","metadata":{{
"name":"acid-a","namespace":"db","uid":"s1"}},"spec":{{"replicas":{count}{spec}}}}}"#
        )
    };
    let (old, new) = (set(5), set(1));
    review(
        r#"{"group":"apps","version":"v1","kind":"StatefulSet"}"#,
        r#"{"group":"apps","version":"v1","resource":"statefulsets"}"#,
        &format!(r#""userInfo":{{"username":"dba"}},"oldObject":{old},"object":{new}"#),
    )
    .into_bytes()
}

/// Returns the review of a write of the `scale` of a cluster, with additional text in its metadata.
fn scale(metadata: &str) -> Vec<u8> {
    let scale = |count: u32| {
        format!(
            r#"{{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{{
"name":"acid-a","namespace":"db"{metadata}}},"spec":{{"replicas":{count}}}}}"#
        )
    };
    let (old, new) = (scale(3), scale(9));
    review(
        r#"{"group":"autoscaling","version":"v1","kind":"Scale"}"#,
        r#"{"group":"acid.zalan.do","version":"v1","resource":"postgresqls"}"#,
        &format!(
            r#""subResource":"scale","userInfo":{{"username":"dba"}},
"oldObject":{old},"object":{new}"#
        ),
    )
    .into_bytes()
}

/// Returns a review of growth past the maximum, without anything unusual.
pub(super) fn ordinary() -> Vec<u8> {
    Edit::default().body()
}

/// Returns `,"key":[item,item,…]` of about `bytes` bytes.
fn list(key: &str, item: &str, bytes: usize) -> String {
    let count = bytes / (item.len() + 1);
    format!(r#","{key}":[{}]"#, vec![item; count].join(","))
}

/// Returns `,"0":0,"1":0,…`: `count` different fields.
fn fields(count: usize, value: &str) -> String {
    let mut text = String::new();
    for number in 0..count {
        _ = write!(text, r#","{number:x}":{value}"#);
    }
    text
}

/// Returns `,"key":{"x":0,"0":0,…}`: an object with `count` different fields and one more.
fn keys(key: &str, count: usize, value: &str) -> String {
    format!(r#","{key}":{{"x":{value}{}}}"#, fields(count, value))
}

/// Returns `,"key":[[[…]]]` with this many levels.
fn deep(key: &str, levels: usize) -> String {
    format!(r#","{key}":{}{}"#, "[".repeat(levels), "]".repeat(levels))
}

/// Returns the largest edit that a tenant can store in etcd, which the webhook refuses.
pub(super) fn storable() -> Vec<u8> {
    let odd = list("initContainers", r#"{"a":0}"#, STORABLE);
    Edit { spec: (String::new(), odd), ..Edit::default() }.body()
}

/// Returns all rows in the order in which they are sent.
pub(super) fn rows() -> Vec<Row> {
    let empty = String::new;
    let odd = || list("initContainers", r#"{"a":0}"#, STORABLE);
    let new_spec = |new: String| Edit { spec: (empty(), new), ..Edit::default() }.body();
    let row = |name, body, answer| Row { name, body, answer };
    let refused = Answer::Refused;
    let above_max = || Answer::Judged { allowed: false, rule: "above-max=deny" };
    let objects = |bytes: usize| list("initContainers", r#"{"":0}"#, bytes);
    vec![
        row(
            "as many objects as are still read, each in the last",
            {
                let chain = format!("{}0{}", r#"{"":"#.repeat(40), "}".repeat(40));
                new_spec(list("initContainers", &chain, 110 * (chain.len() + 1)))
            },
            above_max(),
        ),
        row(
            "as many objects as are still read, side by side",
            new_spec(objects(2_400 * 7)),
            above_max(),
        ),
        row(
            "as many differences as are still read, each behind long keys",
            {
                let nested =
                    |items: &str| format!(r#","patroni":{{"{}":[{items}]}}"#, "k".repeat(1_000));
                let items = vec!["0"; 4_800].join(",");
                Edit { spec: (nested(""), nested(&items)), ..Edit::default() }.body()
            },
            above_max(),
        ),
        row(
            "as many items as are still read, all of them taken out",
            {
                let nested =
                    |items: &str| format!(r#","patroni":{{"{}":[{items}]}}"#, "k".repeat(1_000));
                let items = vec!["0"; 4_800].join(",");
                Edit { spec: (nested(&items), nested("")), ..Edit::default() }.body()
            },
            above_max(),
        ),
        row(
            "1.4 MB of init containers in the new object",
            storable(),
            refused(&[
                "spec.initContainers of the new object",
                "JSON values",
                "kubectl pgscale set acid-a 9 -n db",
            ]),
        ),
        row(
            "1.4 MB of init containers in both objects",
            Edit { spec: (odd(), odd()), ..Edit::default() }.body(),
            refused(&[
                "spec.initContainers of the stored object",
                "leaves numberOfInstances as it is",
                "kubectl pgscale set acid-a 9 -n db",
            ]),
        ),
        row(
            "the same is taken out and the count changed at once",
            Edit { spec: (odd(), empty()), ..Edit::default() }.body(),
            refused(&["spec.initContainers of the stored object"]),
        ),
        row(
            "the same is taken out and the count stays",
            Edit { spec: (odd(), empty()), counts: (9, 9), ..Edit::default() }.body(),
            Answer::Judged { allowed: true, rule: "" },
        ),
        row(
            "3 MB that no rule reads, the same in both objects",
            {
                let users = || keys("users", 200_000, "[]");
                Edit { spec: (users(), users()), ..Edit::default() }.body()
            },
            above_max(),
        ),
        row(
            "7 MiB of objects in the spec",
            new_spec(objects(MOST - 2048)),
            refused(&["spec.initContainers of the new object"]),
        ),
        row(
            "7 MiB of objects and no review",
            format!("[{}]", vec![r#"{"":0}"#; (MOST - 2) / 7].join(",")).into_bytes(),
            Answer::Status(400),
        ),
        row(
            "a million levels in the spec",
            new_spec(deep("initContainers", 1_000_000)),
            refused(&["spec.initContainers of the new object", "64 levels"]),
        ),
        row(
            "three million levels in userInfo.extra",
            Edit { user: deep("extra", 3_000_000), ..Edit::default() }.body(),
            refused(&["request.userInfo", "64 levels"]),
        ),
        row(
            "three million levels and no review",
            format!("{}{}", "[".repeat(3_000_000), "]".repeat(3_000_000)).into_bytes(),
            Answer::Status(400),
        ),
        row(
            "seven million levels that never end",
            "[".repeat(MOST).into_bytes(),
            Answer::Status(400),
        ),
        row(
            "a megabyte of small annotations",
            {
                let annotations = keys("annotations", 90_000, r#""""#);
                Edit { metadata: (empty(), annotations), ..Edit::default() }.body()
            },
            refused(&["metadata.annotations of the new object", "JSON values"]),
        ),
        row(
            "three megabytes in one annotation",
            {
                let long = format!(r#","annotations":{{"a":"{}"}}"#, "x".repeat(3 << 20));
                Edit { metadata: (empty(), long), ..Edit::default() }.body()
            },
            refused(&["metadata.annotations of the new object", "text"]),
        ),
        row(
            "three megabytes of escapes in one annotation",
            {
                let long = format!(r#","annotations":{{"a":"{}"}}"#, "\\u0001".repeat(500_000));
                Edit { metadata: (empty(), long), ..Edit::default() }.body()
            },
            above_max(),
        ),
        row(
            "600,000 different keys in userInfo.extra",
            Edit { user: keys("extra", 600_000, "0"), ..Edit::default() }.body(),
            refused(&["request.userInfo", "JSON values"]),
        ),
        row(
            "a million keys in userInfo.extra",
            Edit { user: list("extra", r#"{"":0}"#, 6_900_000), ..Edit::default() }.body(),
            refused(&["request.userInfo", "JSON values"]),
        ),
        row(
            "500,000 groups",
            Edit { user: list("groups", r#""g12345""#, 4_500_000), ..Edit::default() }.body(),
            refused(&["request.userInfo", "JSON values"]),
        ),
        row(
            "a million values in the options",
            Edit {
                request: format!(r#","options":{{"a":0{}}}"#, list("b", "0", 2_000_000)),
                ..Edit::default()
            }
            .body(),
            refused(&["request.options", "JSON values"]),
        ),
        row(
            "500,000 unknown fields of the request",
            Edit { request: fields(500_000, "0"), ..Edit::default() }.body(),
            refused(&["request", "JSON values"]),
        ),
        row(
            "a million entries of managedFields",
            {
                let managed = || list("managedFields", "{}", 3_000_000);
                Edit { metadata: (managed(), managed()), ..Edit::default() }.body()
            },
            above_max(),
        ),
        row(
            "a status of three megabytes",
            {
                let status = keys("status", 250_000, "0");
                Edit { object: (status, empty()), ..Edit::default() }.body()
            },
            above_max(),
        ),
        row(
            "600,000 keys of a spec",
            new_spec(fields(600_000, "0")),
            refused(&["spec of the new object", "JSON values"]),
        ),
        row(
            "a key as long as the object, over and over in the differences",
            {
                let nested =
                    |items: &str| format!(r#","patroni":{{"{}":[{items}]}}"#, "k".repeat(700_000));
                let items = vec!["0"; 4_000].join(",");
                Edit { spec: (nested(""), nested(&items)), ..Edit::default() }.body()
            },
            refused(&["spec.patroni", "bytes of keys"]),
        ),
        row(
            "the count twice",
            Edit { spec: (empty(), r#","numberOfInstances":3"#.to_owned()), ..Edit::default() }
                .body(),
            refused(&["numberOfInstances", "twice"]),
        ),
        row(
            "the count twice, once in disguise",
            Edit {
                spec: (empty(), r#","\u006eumberOfInstances":3"#.to_owned()),
                ..Edit::default()
            }
            .body(),
            refused(&["numberOfInstances", "twice"]),
        ),
        row(
            "the object twice",
            Edit { request: r#","object":{}"#.to_owned(), ..Edit::default() }.body(),
            refused(&["object", "twice"]),
        ),
        row(
            "a number of a megabyte",
            Edit {
                spec: (empty(), format!(r#","patroni":{{"ttl":{}}}"#, "9".repeat(1 << 20))),
                ..Edit::default()
            }
            .body(),
            refused(&["spec.patroni", "out of range"]),
        ),
        row(
            "a StatefulSet with 1.4 MB of containers",
            stateful_set(&list("template", r#"{"a":0}"#, STORABLE)),
            Answer::Judged { allowed: true, rule: "statefulset-scaled=warn" },
        ),
        row(
            "a StatefulSet, a million levels deep",
            stateful_set(&deep("template", 1_000_000)),
            Answer::Judged { allowed: true, rule: "statefulset-scaled=warn" },
        ),
        row(
            "a Scale with three megabytes of labels",
            scale(&keys("labels", 250_000, "0")),
            // The cluster of the Scale does not exist, so growth passes with a warning.
            Answer::Judged { allowed: true, rule: "cannot-be-judged=warn" },
        ),
        row("a review without a uid", ordinary_without_uid(), Answer::Status(400)),
        row(
            "bytes after the review",
            [Edit::default().body(), b"{}".to_vec()].concat(),
            Answer::Status(400),
        ),
        row(
            "bytes that are no UTF-8",
            Edit { user: ",\"a\":\"\u{1}\"".to_owned(), ..Edit::default() }
                .body()
                .into_iter()
                .map(|byte| if byte == 1 { 0xff } else { byte })
                .collect(),
            Answer::Status(400),
        ),
        row("more than a review may have", vec![b' '; MOST + 1], Answer::Status(413)),
    ]
}

fn ordinary_without_uid() -> Vec<u8> {
    Edit::default().text().replacen(&format!(r#""uid":"{UID}","#), "", 1).into_bytes()
}
