//! The flags that verbs share, and the words of a command line: raw words become ready-to-use
//! values here, once.

mod acting;
mod connection;
mod names;
mod output;
mod release;
mod targets;
mod values;
mod which;

pub(crate) use acting::{Acting, DryRun, ReportFormat, WaitOptions, Why, reason};
pub(crate) use connection::ConnectionFlags;
pub(crate) use names::{NAME_IN_TEMPLATE, is_label, name_template};
pub(crate) use output::{Shape, expression};
pub(crate) use release::{ChartValues, Rehearsal, ReleaseFlag};
pub(crate) use targets::{Target, Targets, cluster_name};
use values::duration;
pub(crate) use values::{count, positive, step, timeout};
pub(crate) use which::{Listing, Which};
