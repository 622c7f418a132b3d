//! Everything a bed is made of, provisioned by the owner outside and handed to the program inside.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::programs::Programs;
use crate::python::Environment;
use crate::sandbox;
use crate::tools::Tools;

/// The file in the sandbox's directory that carries them inside.
const FILE: &str = "supplies.json";

/// What the owner of a sandbox provisions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Supplies {
    /// The programs of others.
    pub tools: Tools,
    /// Patroni and PostgreSQL.
    pub python: Environment,
    /// The project's own programs; nothing for a bed that does without.
    pub programs: Option<Programs>,
}

impl Supplies {
    /// Provisions everything, telling on stderr what takes long.
    ///
    /// # Errors
    /// When something cannot be had; the error names the command that mends it.
    pub fn provision() -> Result<Self> {
        Ok(Self { programs: Some(Programs::build()?), ..Self::without_programs()? })
    }

    /// Provisions all but the project's own programs.
    ///
    /// # Errors
    /// As [`Supplies::provision`].
    pub fn without_programs() -> Result<Self> {
        Ok(Self { tools: Tools::provision()?, python: Environment::provision()?, programs: None })
    }

    /// Leaves them in the directory of a sandbox that is about to start.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn leave(&self, directory: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).context("failed to encode the supplies")?;
        fs::write(directory.join(FILE), text).context("failed to leave the supplies")
    }

    /// Takes them up inside the sandbox.
    ///
    /// # Errors
    /// When the owner left none.
    pub fn take() -> Result<Self> {
        let text = fs::read(sandbox::directory()?.join(FILE)).context("the owner left nothing")?;
        serde_json::from_slice(&text).context("failed to decode the supplies")
    }
}
