//! The rows of the table, one function for each load.

mod memory;
mod overload;
mod reviews;
mod start;

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::report::Line;
use crate::rig::Rig;

/// A row, or several that one load shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// From the start of the webhook to the first right answer
    Start,
    /// A refusal that needs no live state, through the API server
    Early,
    /// The same, straight to the webhook
    EarlyStraight,
    /// Growth that is admitted, through the API server
    Growth,
    /// A shrink of five members, all of which answer
    Shrink,
    /// The same with a member that does not answer
    Silent,
    /// A freeze, and the next shrink
    Freeze,
    /// 300 reviews a second for 30 seconds
    Overload,
    /// 1,000 reviews at once
    Burst,
    /// Memory at rest, and beside many clusters, namespaces and policies
    Memory,
}

/// The extent of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// The number of repeats.
    pub(crate) repeats: u32,
    /// Whether it only shows that everything works.
    pub(crate) quick: bool,
}

/// What a load showed.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The figures.
    pub(crate) lines: Vec<Line>,
    /// What explains them.
    pub(crate) notes: Vec<String>,
}

impl Extent {
    /// Returns a time, shortened for a quick run.
    fn time(self, seconds: u64) -> Duration {
        Duration::from_secs(if self.quick { seconds.min(2) } else { seconds })
    }

    /// Returns a number, lowered for a quick run.
    fn number(self, whole: usize) -> usize {
        if self.quick { whole.div_ceil(50) } else { whole }
    }
}

impl What {
    /// Returns the time after which a load is given up.
    pub(crate) fn limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::Start | Self::Silent | Self::Freeze => 90,
            Self::Early | Self::EarlyStraight | Self::Growth | Self::Shrink | Self::Burst => 180,
            Self::Overload | Self::Memory => 360,
        })
    }

    /// Puts the load on the rig.
    ///
    /// # Errors
    /// Fails when a part of the rig does not answer.
    pub(crate) async fn run(self, rig: &Rig, extent: Extent) -> Result<Found> {
        match self {
            Self::Start => start::start(rig, extent).await,
            Self::Early => reviews::early(rig, extent).await,
            Self::EarlyStraight => reviews::early_straight(rig, extent).await,
            Self::Growth => reviews::growth(rig, extent).await,
            Self::Shrink => reviews::shrink(rig, extent).await,
            Self::Silent => reviews::silent(rig, extent).await,
            Self::Freeze => start::freeze(rig, extent).await,
            Self::Overload => overload::overload(rig, extent).await,
            Self::Burst => overload::burst(rig, extent).await,
            Self::Memory => memory::memory(rig, extent).await,
        }
    }
}
