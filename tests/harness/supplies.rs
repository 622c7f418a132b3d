//! All parts of a bed: the owner provisions them outside and hands them to the program inside.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::programs::Programs;
use crate::python::Environment;
use crate::sandbox;
use crate::tools::Tools;

/// The file in the sandbox's directory with the supplies.
const FILE: &str = "supplies.json";

/// The parts that the owner of a sandbox provisions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Supplies {
    /// The programs of other projects.
    pub tools: Tools,
    /// Patroni and PostgreSQL.
    pub python: Environment,
    /// The project's own programs. `None` for a bed without them.
    pub programs: Option<Programs>,
}

impl Supplies {
    /// Provisions everything, with progress on stderr.
    ///
    /// # Errors
    /// Fails when a part cannot be provisioned. The error names the command that helps.
    pub fn provision() -> Result<Self> {
        Ok(Self { programs: Some(Programs::build()?), ..Self::without_programs()? })
    }

    /// Provisions all but the project's own programs.
    ///
    /// # Errors
    /// Fails like [`Supplies::provision`].
    pub fn without_programs() -> Result<Self> {
        Ok(Self { tools: Tools::provision()?, python: Environment::provision()?, programs: None })
    }

    /// Writes the supplies into the directory of a sandbox that is about to start.
    ///
    /// # Errors
    /// Fails when it cannot be written.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).context("failed to encode the supplies")?;
        fs::write(directory.join(FILE), text).context("failed to write the supplies")
    }

    /// Reads the supplies inside the sandbox.
    ///
    /// # Errors
    /// Fails when the owner wrote none.
    pub fn read() -> Result<Self> {
        let text =
            fs::read(sandbox::directory()?.join(FILE)).context("the owner wrote no supplies")?;
        serde_json::from_slice(&text).context("failed to decode the supplies")
    }
}
