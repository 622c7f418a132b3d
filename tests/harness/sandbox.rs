//! The Linux namespaces the bed lives in, entered without root and left without a trace.
//!
//! A program that wants a bed starts *itself* three times, told apart by [`role`]:
//!
//! 1. the **owner** ([`Role::Outside`]) provisions what needs the network, then has `unshare` start
//! 2. the **init** ([`Role::Init`]), process 1 of fresh user, network, PID, IPC and mount namespaces.
//!    It makes the pod network local, starts
//! 3. the **program** proper ([`Role::Inside`]), reaps orphans, and ends when the program does.
//!
//! Inside, every address of [`POD_NETWORK`] is local: Endpoints refuse loopback addresses, and this
//! way each pod has a routable address of its own and two beds never meet. When the init ends, the
//! kernel ends every process and every mount with it; it ends by itself when the owner is gone,
//! however the owner died.
//!
//! Root takes the same path as anybody else: inside, it is shown as an unprivileged account, because
//! PostgreSQL refuses to run as root, and still reads what only root may read.

mod diagnosis;
mod init;
mod kept;
mod owner;

use std::env;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

pub use init::{init, path_with_sbin};
pub use kept::{Kept, enter, keep, kept, stop};
pub use owner::{Ended, own, prepare};

/// The addresses pods get; all of them are local inside the sandbox.
pub const POD_NETWORK: &str = "10.244.0.0/16";

/// Which of the three processes this is.
const ROLE: &str = "PGSCALE_SANDBOX_ROLE";
/// The directory owner, init and program share.
const DIRECTORY: &str = "PGSCALE_SANDBOX_DIRECTORY";
/// The socket in [`DIRECTORY`] on which the owner listens.
const CONTROL: &str = "control.sock";
/// The file in [`DIRECTORY`] that whoever lives in it holds locked.
const LOCK: &str = "lock";

/// The parts a process plays; see the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// In the world as it is: may use the network, knows no pod address.
    Outside,
    /// Process 1 of the sandbox.
    Init,
    /// The program proper, inside the sandbox.
    Inside,
}

/// The part this process plays.
pub fn role() -> Role {
    match env::var(ROLE).as_deref() {
        Ok("init") => Role::Init,
        Ok("inside") => Role::Inside,
        Ok(_) | Err(_) => Role::Outside,
    }
}

/// The directory of this sandbox: readable to everybody, removed when the sandbox ends.
///
/// # Errors
/// Outside of a sandbox.
pub fn directory() -> Result<PathBuf> {
    env::var_os(DIRECTORY).map(PathBuf::from).context("this program runs outside of the sandbox")
}
