//! The page of `serve`: documents in, HTML out.
//!
//! Everything here is pure. Names, reasons and messages come from strangers; they reach the page only
//! through `maud`, which escapes texts and attributes. The page works without its script for reading;
//! a change needs the script, because it is sent as JSON, which a form of another origin cannot do.

use maud::Markup;

mod assets;
mod cluster;
mod fleet;
mod layout;
mod model;
mod operation;
mod plan;
#[cfg(test)]
mod tests;
mod words;

pub(crate) use assets::{HEADERS, PAGE_CACHE, asset};
pub(crate) use layout::failure;
pub(crate) use model::{Fleet, Line, Metadata, Operation, Plan, Status};

/// Returns the page at `/`: every cluster, the worst first.
pub(crate) fn fleet(fleet: &Fleet) -> Markup {
    fleet::page(fleet)
}

/// Returns the page at `/cluster/{namespace}/{name}`.
pub(crate) fn cluster(status: &Status) -> Markup {
    cluster::page(status)
}

/// Returns the page at `/cluster/{namespace}/{name}/plan?to=N`.
pub(crate) fn plan(plan: &Plan) -> Markup {
    plan::page(plan)
}

/// Returns the page at `/operation/{id}`.
pub(crate) fn operation(operation: &Operation) -> Markup {
    operation::page(operation)
}
