//! Text for people, one file per document. Only commands call it.

pub(crate) mod batch;
pub(crate) mod doctor;
pub(crate) mod effect;
pub(crate) mod history;
pub(crate) mod impact;
pub(crate) mod lint;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod report;
pub(crate) mod rules;
pub(crate) mod status;
pub(crate) mod top;
pub(crate) mod verify;
pub(crate) mod version;
