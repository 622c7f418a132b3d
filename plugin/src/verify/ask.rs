//! The questions, and the reading of their answers.

use std::time::Duration;

use futures::future::join_all;
use pgscale_guard::facts::Facts;
use pgscale_guard::read::Address;

use super::{Follower, Receiver, Testimony, Words};
use crate::exec::{Exec, ExecError, odd, sql};
use crate::session::{Session, address};

/// The question for a member's identity.
///
/// A new leader's control file may lag behind its promotion, so its timeline is read from the name
/// of the WAL file it writes. `CASE` keeps that away from standbys, where it is an error.
const WHO: &str = "SELECT pg_is_in_recovery(), (SELECT system_identifier FROM pg_control_system()), \
    CASE WHEN pg_is_in_recovery() THEN (SELECT lpad(to_hex(received_tli), 8, '0') FROM pg_stat_wal_receiver) \
         ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END, \
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() - '0/0'::pg_lsn \
         ELSE pg_current_wal_lsn() - '0/0'::pg_lsn END, \
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() - '0/0'::pg_lsn END";

/// The question for a member's receiver. It leaves out `conninfo`, which may hold a password.
const RECEIVER: &str = "SELECT status, slot_name, sender_host FROM pg_stat_wal_receiver";

/// The question for the receivers of a member's WAL. Base backups are listed as well, and follow no
/// member.
const FOLLOWERS: &str = "SELECT application_name, state, sync_state FROM pg_stat_replication \
    WHERE state <> 'backup' ORDER BY application_name";

/// The time limit of one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks every member of the cluster, all at once.
pub(crate) async fn ask(session: &Session, facts: &Facts) -> Vec<Testimony> {
    let members = facts.all_members().iter().map(async |member| {
        let pod = address(facts, &member.name);
        Testimony { member: member.name.clone(), words: words(session.exec.as_ref(), &pod).await }
    });
    join_all(members).await
}

async fn words(exec: &dyn Exec, pod: &Address) -> Result<Words, ExecError> {
    let (who, receiver, followers) = futures::join!(
        sql(exec, pod, WHO, PATIENCE),
        sql(exec, pod, RECEIVER, PATIENCE),
        sql(exec, pod, FOLLOWERS, PATIENCE),
    );
    let (who, receiver, followers) = (who?, receiver?, followers?);
    read(&who, &receiver, &followers).map_err(ExecError::Failed)
}

/// Reads the three answers.
fn read(
    who: &[Vec<String>],
    receiver: &[Vec<String>],
    followers: &[Vec<String>],
) -> Result<Words, String> {
    let [row] = who else { return Err(odd(who)) };
    let [in_recovery, system_identifier, timeline, written, replayed] = row.as_slice() else {
        return Err(odd(who));
    };
    Ok(Words {
        in_recovery: in_recovery == "t",
        system_identifier: system_identifier.clone(),
        timeline: u64::from_str_radix(timeline, 16).ok(),
        written: written.parse().ok(),
        replayed: replayed.parse().ok(),
        receiver: match receiver {
            [] => None,
            [row] => match row.as_slice() {
                [status, slot, sender] => Some(Receiver {
                    status: status.clone(),
                    slot: slot.clone(),
                    sender: sender.clone(),
                }),
                _ => return Err(odd(receiver)),
            },
            _ => return Err(odd(receiver)),
        },
        followers: followers
            .iter()
            .map(|row| match row.as_slice() {
                [name, state, sync] => {
                    Ok(Follower { name: name.clone(), state: state.clone(), sync: sync.clone() })
                }
                _ => Err(odd(followers)),
            })
            .collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &[&[&str]]) -> Vec<Vec<String>> {
        text.iter().map(|row| row.iter().map(|&word| word.to_owned()).collect()).collect()
    }

    #[test]
    fn answers_are_read() {
        let leader = read(
            &rows(&[&["f", "7100", "0000000A", "1000", ""]]),
            &[],
            &rows(&[&["acid-a-1", "streaming", "async"]]),
        )
        .unwrap();
        assert_eq!((leader.in_recovery, leader.timeline), (false, Some(10)));
        assert_eq!((leader.written, leader.replayed), (Some(1000), None));
        assert_eq!(leader.followers[0].name, "acid-a-1");
        let standby = read(
            &rows(&[&["t", "7100", "0000000a", "1000", "900"]]),
            &rows(&[&["streaming", "acid_a_1", "10.0.0.1"]]),
            &[],
        )
        .unwrap();
        assert_eq!((standby.timeline, standby.replayed), (Some(10), Some(900)));
        assert_eq!(standby.receiver.unwrap().slot, "acid_a_1");
        // A standby without a receiver has no timeline of its own to report.
        let alone = read(&rows(&[&["t", "7100", "", "", "900"]]), &[], &[]).unwrap();
        assert_eq!((alone.timeline, alone.written, alone.receiver), (None, None, None));
    }

    #[test]
    fn unreadable_answer_is_an_error() {
        assert!(read(&[], &[], &[]).is_err());
        assert!(read(&rows(&[&["t"]]), &[], &[]).is_err());
        let who = rows(&[&["t", "7100", "", "", ""]]);
        assert!(read(&who, &rows(&[&["streaming"]]), &[]).is_err());
        assert!(read(&who, &[], &rows(&[&["acid-a-1"]])).is_err());
    }
}
