//! Makes the staged faults of one running member true, and undoes them.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use tokio::time::Instant;

use super::container::{Process, Processes};
use super::identity::replace;
use super::launch::Launch;
use crate::patroni::Conduct;
use crate::postgres::Session;
use crate::stage::{Fault, Faults};

/// How long Patroni needs until a SIGHUP finds its handler and does not kill it.
const SETTLED: Duration = Duration::from_secs(5);

/// How often PostgreSQL is asked whether a fault that lives in it still holds: a restart or a
/// rebuild ends it.
const REVIEW: Duration = Duration::from_secs(1);

/// A library path that leads nowhere. A WAL receiver loads `libpqwalreceiver` through this path
/// when it starts; nothing else does (`$libdir/...` names pass it by).
const NOWHERE: &str = "/staged/stalled-receiver";

/// Keeps one container the way its stage says.
#[derive(Debug)]
pub(super) struct Enforcer {
    launch: Launch,
    processes: Processes,
    started: Instant,
    conduct: Conduct,
    base_backup: String,
    frozen: bool,
    stopping: Option<Instant>,
    /// Whether the WAL receiver is stalled; unknown in a new life on an old volume.
    stalled: Option<bool>,
    paused: bool,
    reviewed: Option<Instant>,
}

impl Enforcer {
    /// For a container that was started with `launch`.
    pub(super) fn new(launch: Launch, processes: Processes, faults: &Faults) -> Self {
        Self {
            conduct: faults.conduct(),
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

    /// Takes one step towards `faults`; called again and again.
    ///
    /// # Errors
    /// When a step failed: it is taken again next time.
    pub(super) async fn enforce(&mut self, faults: &Faults) -> Result<()> {
        if faults.has(Fault::Crashing) {
            self.processes.signal_first(Signal::KILL);
        }
        self.shape_base_backup(faults).await?;
        // Again after a while: a process 1 that has no handler yet does not hear the first one.
        let asked = self.stopping.is_some_and(|asked| asked.elapsed() < REVIEW);
        if faults.has(Fault::StoppedPatroni) && !asked {
            self.stopping = Some(Instant::now());
            self.processes.signal_first(Signal::TERM);
        }
        self.freeze(faults.has(Fault::FrozenPatroni));
        self.change_conduct(faults.conduct()).await?;
        self.hold_receivers(faults.has(Fault::StalledReceiver));
        self.review_postgres(faults).await
    }

    /// Tells the program that stands in for `pg_basebackup` what to do from now on. A running base
    /// backup is ended when its throttle is gone: Patroni starts over in five seconds.
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

    /// Stops every process of Patroni in its tracks, or lets them go on.
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

    /// Rewrites Patroni's configuration and has it read again.
    async fn change_conduct(&mut self, wanted: Conduct) -> Result<()> {
        if wanted != self.conduct && self.started.elapsed() >= SETTLED {
            self.launch.write_configuration(wanted).await?;
            self.processes.signal_first(Signal::HUP);
            self.conduct = wanted;
        }
        Ok(())
    }

    /// Stops WAL receivers, or lets them go on. One that PostgreSQL asks to end is let go: a
    /// receiver whose network is gone would end too, and a promotion waits for that end.
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

    /// Looks after the faults that live inside PostgreSQL.
    async fn review_postgres(&mut self, faults: &Faults) -> Result<()> {
        let stall = faults.has(Fault::StalledReceiver);
        let pause = faults.has(Fault::PausedReplay);
        let settled = !stall && !pause && self.stalled == Some(false) && !self.paused;
        if settled || self.reviewed.is_some_and(|last| last.elapsed() < REVIEW) {
            return Ok(());
        }
        self.reviewed = Some(Instant::now());
        // PostgreSQL that does not answer yet has nothing to hold back; it is asked again.
        let Ok(session) = Session::open_as(self.launch.address, self.launch.superuser()).await
        else {
            return Ok(());
        };
        let stalled = receivers_barred(&session).await?;
        if stalled != stall {
            bar_receivers(&session, stall).await?;
        }
        // Believed only once a new connection sees it: from then on new receivers see it too.
        self.stalled = Some(stalled);
        if pause || self.paused {
            self.paused = pause_replay(&session, pause).await?;
        }
        Ok(())
    }
}

/// Whether a base backup runs with a throttle.
pub(super) fn is_throttled(process: &Process) -> bool {
    process.command.contains("pg_basebackup") && process.command.contains("--max-rate=")
}

/// Whether this is PostgreSQL's WAL receiver.
pub(super) fn is_receiver(process: &Process) -> bool {
    process.command.starts_with("postgres:") && process.command.contains("walreceiver")
}

/// Whether new WAL receivers fail to start.
pub(super) async fn receivers_barred(session: &Session) -> Result<bool> {
    Ok(session.word("SHOW dynamic_library_path").await?.as_deref() == Some(NOWHERE))
}

async fn bar_receivers(session: &Session, bar: bool) -> Result<()> {
    let statement = if bar {
        format!("ALTER SYSTEM SET dynamic_library_path = '{NOWHERE}'")
    } else {
        "ALTER SYSTEM RESET dynamic_library_path".to_owned()
    };
    session.word(&statement).await?;
    session.word("SELECT pg_reload_conf()").await?;
    Ok(())
}

/// Pauses or resumes the replay of a standby; whether it is paused now.
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

/// `paused`, `pause requested` or `not paused`; `None` on a leader.
pub(super) async fn replay_state(session: &Session) -> Result<Option<String>> {
    session
        .word("SELECT CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() END")
        .await
        .context("failed to ask whether replay is paused")
}

/// The script that stands in for `pg_basebackup`: it asks the stage before it does its work.
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

/// Whether anything refuses connections at `address`: the port is closed.
pub(super) async fn refuses(address: Ipv4Addr, port: u16) -> bool {
    tokio::net::TcpStream::connect((address, port))
        .await
        .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}
