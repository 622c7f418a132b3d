//! The guard decides whether a PostgreSQL cluster run by the Zalando postgres-operator may change its
//! number of instances now; the plugin and the webhook ask it.
//!
//! The crate is pure: [`Facts`] in, [`Verdict`] out. Clock, network and policy arrive as data. The one
//! exception is the module `read`, behind the feature of that name, which fetches the objects and asks
//! the members.

pub mod assessment;
pub mod capacity;
pub mod change;
pub mod duration;
pub mod evidence;
pub mod facts;
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
pub mod rules;
pub mod verdict;

pub use assessment::{Assessed, Assessment};
pub use change::Change;
pub use facts::{Facts, Seen};
pub use policy::Policies;
pub use rules::evaluate;
pub use verdict::Verdict;
