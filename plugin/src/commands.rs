//! One module per verb, with its flags, its help and its work.

pub(crate) mod autoscale;
pub(crate) mod completion;
pub(crate) mod doctor;
pub(crate) mod down;
mod each;
pub(crate) mod history;
pub(crate) mod install;
pub(crate) mod lint;
pub(crate) mod overrides;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod rbac;
pub(crate) mod rules;
mod scale;
pub(crate) mod serve;
pub(crate) mod set;
pub(crate) mod snapshot;
pub(crate) mod status;
pub(crate) mod switchover;
pub(crate) mod top;
pub(crate) mod undo;
pub(crate) mod uninstall;
pub(crate) mod up;
pub(crate) mod upgrade;
pub(crate) mod verify;
pub(crate) mod version;
pub(crate) mod wait;
