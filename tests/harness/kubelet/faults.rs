//! Enforces the staged faults of one running member, and undoes them.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use tokio::time::Instant;

use super::container::{Process, Processes};
use super::identity::replace;
use super::launch::Launch;
use crate::patroni::RuntimeSettings;
use crate::postgres::Session;
use crate::stage::{Fault, Faults};

/// The time until Patroni has a handler for SIGHUP. Before, the signal kills it.
const SETTLED: Duration = Duration::from_secs(5);

/// The interval at which PostgreSQL is asked whether a fault inside it still holds: a restart or a
/// rebuild ends such a fault.
const REVIEW: Duration = Duration::from_secs(1);

/// The time that Patroni has to end. After it every process is killed, as a kubelet does after the
/// grace period.
///
/// Patroni takes a lock in its handler of SIGTERM. A signal that arrives while its main thread holds
/// that lock waits for it for ever (`received_sigterm` and `sigterm_handler`, patroni/daemon.py). And
/// process 1 may have had no child to pass the signal on to.
const GRACE: Duration = Duration::from_secs(20);

/// A library path without libraries. A WAL receiver loads `libpqwalreceiver` through this path when
/// it starts. Nothing else uses it (`$libdir/...` names bypass it).
const NOWHERE: &str = "/staged/stalled-receiver";

/// The enforcer of the faults of one container.
#[derive(Debug)]
pub(super) struct Enforcer {
    launch: Launch,
    processes: Processes,
    started: Instant,
    settings: RuntimeSettings,
    base_backup: String,
    frozen: bool,
    stopping: Option<Instant>,
    /// True if the WAL receiver is stalled. `None` after a start on an old volume, when that is
    /// unknown.
    stalled: Option<bool>,
    paused: bool,
    reviewed: Option<Instant>,
}

impl Enforcer {
    /// Returns the enforcer for a container that was started with `launch`.
    pub(super) fn new(launch: Launch, processes: Processes, faults: &Faults) -> Self {
        Self {
            settings: faults.runtime_settings(),
            base_backup: faults.base_backup(),
            launch,
            processes,
            started: Instant::now(),
            frozen: false,
            stopping: None,
            stalled: None,
            paused: false,
            reviewed: None,
        }
    }

    /// Takes one step towards `faults`. It is called again and again.
    ///
    /// # Errors
    /// Fails when a step failed. The next call repeats it.
    pub(super) async fn enforce(&mut self, faults: &Faults) -> Result<()> {
        if faults.has(Fault::Crashing) {
            self.processes.signal_first(Signal::KILL);
        }
        self.shape_base_backup(faults).await?;
        if faults.has(Fault::StoppedPatroni) {
            self.stop();
        }
        self.freeze(faults.has(Fault::FrozenPatroni));
        self.change_settings(faults.runtime_settings()).await?;
        self.hold_receivers(faults.has(Fault::StalledReceiver));
        self.review_postgres(faults).await
    }

    /// Asks Patroni to end, or kills it and all else in the container when it has not ended in time.
    fn stop(&mut self) {
        match self.stopping {
            None if self.processes.first_catches_term() => {
                self.stopping = Some(Instant::now());
                self.processes.signal_first(Signal::TERM);
            }
            Some(asked) if asked.elapsed() >= GRACE => self.processes.signal_first(Signal::KILL),
            None | Some(_) => {}
        }
    }

    /// Writes the instruction for the program that stands in for `pg_basebackup`. A running base
    /// backup is ended when its throttle is lifted: Patroni starts again in five seconds.
    async fn shape_base_backup(&mut self, faults: &Faults) -> Result<()> {
        let wanted = faults.base_backup();
        if wanted == self.base_backup {
            return Ok(());
        }
        replace(&self.launch.base_backup_stage(), &wanted).await?;
        for backup in self.processes.list() {
            if is_throttled(&backup) {
                backup.signal(Signal::TERM);
            }
        }
        self.base_backup = wanted;
        Ok(())
    }

    /// Stops every process of Patroni, or continues it.
    fn freeze(&mut self, wanted: bool) {
        if !wanted && !self.frozen {
            return;
        }
        for process in self.processes.list() {
            if self.launch.is_patroni(&process.command) && process.stopped != wanted {
                process.signal(if wanted { Signal::STOP } else { Signal::CONT });
            }
        }
        self.frozen = wanted;
    }

    /// Rewrites Patroni's configuration and makes Patroni reload it.
    async fn change_settings(&mut self, wanted: RuntimeSettings) -> Result<()> {
        if wanted != self.settings && self.started.elapsed() >= SETTLED {
            self.launch.write_configuration(wanted).await?;
            self.processes.signal_first(Signal::HUP);
            self.settings = wanted;
        }
        Ok(())
    }

    /// Stops WAL receivers, or continues them. A receiver to which PostgreSQL has sent SIGTERM is
    /// continued: a receiver without a network would end too, and a promotion waits for that end.
    fn hold_receivers(&self, wanted: bool) {
        if !wanted && self.stalled != Some(true) {
            return;
        }
        for process in self.processes.list() {
            let hold = wanted && self.stalled == Some(true) && !process.asked_to_end;
            if is_receiver(&process) && process.stopped != hold {
                process.signal(if hold { Signal::STOP } else { Signal::CONT });
            }
        }
    }

    /// Enforces the faults inside PostgreSQL.
    async fn review_postgres(&mut self, faults: &Faults) -> Result<()> {
        let stall = faults.has(Fault::StalledReceiver);
        let pause = faults.has(Fault::PausedReplay);
        let settled = !stall && !pause && self.stalled == Some(false) && !self.paused;
        if settled || self.reviewed.is_some_and(|last| last.elapsed() < REVIEW) {
            return Ok(());
        }
        self.reviewed = Some(Instant::now());
        // A PostgreSQL that does not answer yet is asked again later.
        let Ok(session) = Session::open_as(self.launch.address, self.launch.superuser()).await
        else {
            return Ok(());
        };
        let stalled = receivers_blocked(&session).await?;
        if stalled != stall {
            block_receivers(&session, stall).await?;
        }
        // The setting counts only once a new connection sees it: from then on new receivers see it
        // too.
        self.stalled = Some(stalled);
        if pause || self.paused {
            self.paused = pause_replay(&session, pause).await?;
        }
        Ok(())
    }
}

/// Returns whether `process` is a throttled base backup.
pub(super) fn is_throttled(process: &Process) -> bool {
    process.command.contains("pg_basebackup") && process.command.contains("--max-rate=")
}

/// Returns whether `process` is PostgreSQL's WAL receiver.
pub(super) fn is_receiver(process: &Process) -> bool {
    process.command.starts_with("postgres:") && process.command.contains("walreceiver")
}

/// Returns whether new WAL receivers fail to start.
pub(super) async fn receivers_blocked(session: &Session) -> Result<bool> {
    Ok(session.word("SHOW dynamic_library_path").await?.as_deref() == Some(NOWHERE))
}

async fn block_receivers(session: &Session, block: bool) -> Result<()> {
    let statement = if block {
        format!("ALTER SYSTEM SET dynamic_library_path = '{NOWHERE}'")
    } else {
        "ALTER SYSTEM RESET dynamic_library_path".to_owned()
    };
    session.word(&statement).await?;
    session.word("SELECT pg_reload_conf()").await?;
    Ok(())
}

/// Pauses or resumes the replay of a replica. Returns whether it is paused now.
async fn pause_replay(session: &Session, pause: bool) -> Result<bool> {
    let state = replay_state(session).await?;
    let leads = state.is_none();
    // A leader replays nothing.
    let paused = state.is_some_and(|state| state != "not paused");
    match (paused, pause) {
        (false, true) if leads => Ok(false),
        (false, true) => session.word("SELECT pg_wal_replay_pause()").await.map(|_| true),
        (true, false) => session.word("SELECT pg_wal_replay_resume()").await.map(|_| false),
        (as_it_is, _) => Ok(as_it_is),
    }
}

/// Returns `paused`, `pause requested` or `not paused`, or `None` on a leader.
pub(super) async fn replay_state(session: &Session) -> Result<Option<String>> {
    session
        .word("SELECT CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() END")
        .await
        .context("failed to ask whether replay is paused")
}

/// Returns the script that stands in for `pg_basebackup`. It reads the instruction before it
/// starts.
pub(super) fn base_backup_script(stage: &Path, bin_dir: &Path) -> String {
    format!(
        "#!/bin/sh\n\
         stage=$(cat '{stage}' 2>/dev/null)\n\
         case $stage in\n\
         fail) echo 'pg_basebackup: error: staged to fail' >&2; exit 1 ;;\n\
         ?*) exec '{bin}/pg_basebackup' --max-rate=\"$stage\" \"$@\" ;;\n\
         esac\n\
         exec '{bin}/pg_basebackup' \"$@\"\n",
        stage = stage.display(),
        bin = bin_dir.display(),
    )
}

/// Returns whether connections to `address` are refused, because the port is closed.
pub(super) async fn refuses(address: Ipv4Addr, port: u16) -> bool {
    tokio::net::TcpStream::connect((address, port))
        .await
        .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}
