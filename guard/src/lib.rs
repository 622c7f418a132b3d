//! Decides whether a PostgreSQL cluster of the Zalando postgres-operator may change its number of
//! instances now.
//!
//! The plugin and the webhook both call [`evaluate`], so they cannot disagree. The crate is pure:
//! [`Facts`] and [`Policies`] in, [`Verdict`] out. Clock, network and policies arrive as data. The
//! one exception is the module `read`, behind the feature of that name, which fetches the objects
//! and asks the members.
//!
//! # Example
//!
//! Three facts are enough for a denial: the count goes from 3 to 2, so the operator deletes
//! `acid-a-2`. That pod runs. It also holds the leader lock.
//!
//! ```
//! use k8s_openapi::jiff::Timestamp;
//! use pgscale_guard::facts::{Live, Member, Pod};
//! use pgscale_guard::object_ref::{Kind, ObjectRef};
//! use pgscale_guard::patroni::LeaderLock;
//! use pgscale_guard::postgresql::Postgresql;
//! use pgscale_guard::{Change, Facts, Policies, Seen, evaluate};
//!
//! let now: Timestamp = "2026-11-24T10:00:00Z".parse()?;
//! let cluster = Postgresql {
//!     namespace: "db".into(),
//!     name: "acid-a".into(),
//!     instances: Some(3),
//!     ..Postgresql::default()
//! };
//! let leader = Member {
//!     name: "acid-a-2".into(),
//!     ordinal: 2,
//!     pod: Pod { phase: "Running".into(), containers_running: true, ..Pod::default() },
//!     report: Seen::Absent,
//!     live: Live::NotAsked,
//! };
//! let lock = LeaderLock {
//!     source: ObjectRef::new(Kind::Endpoints, "acid-a"),
//!     holder: Some("acid-a-2".into()),
//!     renewed: Some(now),
//!     acquired: None,
//!     ttl: 30,
//!     transitions: None,
//!     optime: None,
//! };
//! let facts = Facts {
//!     members: Seen::Known(vec![leader]),
//!     leader: Seen::Known(lock),
//!     // Nothing else was read. An unread fact never allows anything.
//!     ..Facts::unread(Change::of_count(cluster, 2), now)
//! };
//!
//! let verdict = evaluate(&facts, &Policies::default());
//!
//! assert!(!verdict.allows());
//! assert!(verdict.denials().any(|denial| denial.rule == "leader-condemned"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Modules
//!
//! [`change`] and [`facts`] are the question, [`policy`] and [`overrides`] the stored resources,
//! [`rules`] the checks, [`verdict`] the answer. [`objects`], [`operator`], [`patroni`] and
//! [`postgresql`] decode what the API server and the members send.
pub mod assessment;
pub mod autoscale;
pub mod capacity;
pub mod change;
pub mod duration;
pub mod evidence;
pub mod facts;
pub mod ledger;
pub mod object_ref;
pub mod objects;
pub mod operator;
pub mod overrides;
pub mod patroni;
pub mod policy;
pub mod postgresql;
pub mod printable;
pub mod quantity;
#[cfg(feature = "read")]
pub mod read;
pub mod remedy;
pub mod rule_id;
pub mod rules;
pub mod seen;
pub mod selector;
pub mod severity;
pub mod snapshot;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod verdict;

pub use assessment::{Assessed, Assessment};
pub use change::Change;
pub use facts::Facts;
pub use policy::Policies;
pub use rule_id::RuleId;
pub use rules::evaluate;
pub use seen::Seen;
pub use verdict::Verdict;
