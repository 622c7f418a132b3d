//! The Linux namespaces of the bed, entered without root and removed without a trace.
//!
//! A program that needs a bed runs as three processes of the same file, distinguished by [`role`]:
//!
//! 1. The **owner** ([`Role::Outside`]) provisions parts that need the network. Then it has `unshare`
//!    start the init.
//! 2. The **init** ([`Role::Init`]) is process 1 of new user, network, PID, IPC and mount namespaces.
//!    It makes the pod network local and starts the program. It reaps orphans, and ends when the
//!    program does.
//! 3. The **program** proper ([`Role::Inside`]) runs the bed.
//!
//! Inside, every address of [`POD_NETWORK`] is local: Endpoints refuse loopback addresses, and so
//! each pod has a routable address of its own and two beds are isolated. When the init ends, the
//! kernel ends every process and every mount of the sandbox. The init ends by itself when the owner
//! is gone, however the owner died.
//!
//! Root takes the same path as other users: inside, it appears as an unprivileged account, because
//! PostgreSQL refuses to run as root. It can still read files of root.

mod diagnosis;
mod init;
mod kept;
mod owner;

use std::env;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

pub use init::{init, path_with_sbin};
pub use kept::{Kept, enter, keep, kept, stop};
pub use owner::{Ended, launch, prepare};

/// The addresses of pods. All of them are local inside the sandbox.
pub const POD_NETWORK: &str = "10.244.0.0/16";

/// The variable with the role of this process.
const ROLE: &str = "PGSCALE_SANDBOX_ROLE";
/// The variable with the directory that owner, init and program share.
const DIRECTORY: &str = "PGSCALE_SANDBOX_DIRECTORY";
/// The socket in [`DIRECTORY`] on which the owner listens.
const CONTROL: &str = "control.sock";
/// The file in [`DIRECTORY`] that the processes of the sandbox hold locked.
const LOCK: &str = "lock";

/// The roles of a process, which the module's documentation explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Outside of the sandbox: the process may use the network and knows no pod address.
    Outside,
    /// Process 1 of the sandbox.
    Init,
    /// The program proper, inside the sandbox.
    Inside,
}

/// Returns the role of this process.
pub fn role() -> Role {
    match env::var(ROLE).as_deref() {
        Ok("init") => Role::Init,
        Ok("inside") => Role::Inside,
        Ok(_) | Err(_) => Role::Outside,
    }
}

/// Returns the directory of this sandbox: readable to every user, removed when the sandbox ends.
///
/// # Errors
/// Fails outside of a sandbox.
pub fn directory() -> Result<PathBuf> {
    env::var_os(DIRECTORY).map(PathBuf::from).context("this program runs outside of the sandbox")
}
