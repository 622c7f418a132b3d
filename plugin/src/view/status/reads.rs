//! The reads of every member, below the members: rows and blocks, lag, slots, tables.

use k8s_openapi::jiff::Timestamp;
use pgscale_guard::facts::Facts;

use crate::exec::ExecError;
use crate::reads::{HeldSlot, Measured, MemberReads, Reads, Replica, TableReads};
use crate::status::{has_pod, owner};
use crate::terminal::text::{Cell, age, bytes, fitted, laid_out, spared, wrap};
use crate::terminal::{BAD, CARE};

/// Renders the sections, and what could not be read. One reason of all members is named once.
pub(super) fn sections(reads: &Reads, facts: &Facts, width: Option<usize>) -> Vec<String> {
    let all = reads.members.as_slice();
    let answered: Vec<(&str, &Measured)> =
        all.iter().filter_map(|one| Some((one.member.as_str(), one.said.as_ref().ok()?))).collect();
    let mut sections = Vec::new();
    if !answered.is_empty() {
        sections.push(members(&answered, facts.now, width));
    }
    let lag = of_each(&answered, |measured| &measured.sample.replicas, lag);
    let title = ["REPLICA", "FROM", "WRITE", "FLUSH", "REPLAY", "W/F/R SEC"];
    sections.extend(table(&title, &lag, width));
    let slots = of_each(&answered, |measured| &measured.sample.slots, |on, it| slot(facts, on, it));
    let title = ["SLOT", "ON", "FOR", "IN USE", "WAL HELD", "WAL STATE"];
    sections.extend(table(&title, &slots, width));
    let tables = of_each(&answered, |measured| &measured.tables, of_table);
    let title = ["TABLE", "ON", "SEQ SCANS", "SEQ ROWS", "IDX SCANS", "IDX ROWS"];
    sections.extend(table(&title, &tables, width));
    let mut unread: Vec<String> = unread(all).iter().map(|line| wrap(line, width, 2)).collect();
    unread.extend(reads.check.iter().map(|check| laid_out(&check.behind("  check:"), width, 2)));
    if !unread.is_empty() {
        sections.push(unread.join("\n"));
    }
    sections
}

fn of_each<'a, T: 'a>(
    answered: &[(&'a str, &'a Measured)],
    rows: impl Fn(&'a Measured) -> &'a Vec<T>,
    row: impl Fn(&str, &T) -> Vec<Cell>,
) -> Vec<Vec<Cell>> {
    let of_one = |&(on, measured): &(&'a str, &'a Measured)| {
        rows(measured).iter().map(|it| row(on, it)).collect::<Vec<_>>()
    };
    answered.iter().flat_map(of_one).collect()
}

fn table(title: &[&str], rows: &[Vec<Cell>], width: Option<usize>) -> Option<String> {
    (!rows.is_empty()).then(|| fitted(title, rows, width))
}

fn members(answered: &[(&str, &Measured)], now: Timestamp, width: Option<usize>) -> String {
    let title =
        ["MEMBER", "ROWS/S", "ROWS READ", "BY INDEX", "CACHE HIT", "BLOCKS READ", "WAL/S", "SINCE"];
    let row = |(member, measured): &(&str, &Measured)| {
        let counters = &measured.sample.counters;
        let rates = measured.rates.as_ref().ok();
        let wal = rates.and_then(|rates| rates.wal);
        vec![
            Cell::from(*member),
            rates.and_then(|rates| rates.rows).map(rate).unwrap_or_default().into(),
            short(counters.returned).into(),
            short(counters.fetched).into(),
            counters.hit_ratio().map(percent).unwrap_or_default().into(),
            short(counters.blocks_read).into(),
            wal.map(|wal| bytes(whole(wal))).unwrap_or_default().into(),
            age(counters.since, now).into(),
        ]
    };
    let rows = answered.iter().map(row).collect();
    let (title, rows) = spared(&title, rows, width, &["SINCE", "BLOCKS READ"]);
    let note = "ROWS/S, WAL/S: now; the others since the statistics of the member began";
    format!("{}\n{}", fitted(&title, &rows, width), wrap(note, width, 2))
}

fn lag(from: &str, replica: &Replica) -> Vec<Cell> {
    let held = |count: Option<u64>| Cell::from(count.map(bytes).unwrap_or_default());
    vec![
        Cell::from(&replica.name),
        from.into(),
        held(replica.write),
        held(replica.flush),
        held(replica.replay),
        super::written(replica.delays).into(),
    ]
}

fn slot(facts: &Facts, on: &str, slot: &HeldSlot) -> Vec<Cell> {
    let reader = match (&slot.database, owner(facts, &slot.name)) {
        (Some(database), _) => Cell::from(format!("database {database}")),
        // Patroni drops the slot later. Until then it holds WAL that no member will fetch.
        (None, Some(member)) if has_pod(facts, &member) == Some(false) => {
            Cell::styled(format!("{member}, no pod"), CARE)
        }
        (None, Some(member)) => Cell::from(member),
        (None, None) => Cell::from("no member"),
    };
    let state = slot.state.as_deref().unwrap_or_default();
    vec![
        Cell::from(&slot.name),
        on.into(),
        reader,
        if slot.active { "yes" } else { "no" }.into(),
        slot.held.map(bytes).unwrap_or_default().into(),
        match state {
            // Its reader cannot go on: WAL that it needs is removed, or will be.
            "lost" | "unreserved" => Cell::styled(state, BAD),
            state => Cell::from(state),
        },
    ]
}

fn of_table(on: &str, table: &TableReads) -> Vec<Cell> {
    let some = |count: Option<u64>| Cell::from(count.map(short).unwrap_or_default());
    vec![
        Cell::from(format!("{}.{}.{}", table.database, table.schema, table.name)),
        on.into(),
        some(Some(table.seq_scan)),
        some(Some(table.seq_tup_read)),
        some(table.idx_scan),
        some(table.idx_tup_fetch),
    ]
}

/// Returns what is not known, each reason once.
fn unread(all: &[MemberReads]) -> Vec<String> {
    let line = |what: &str, why: &str| format!("{CARE}Not known{CARE:#}: {what}: {why}");
    let failed = |one: &MemberReads| one.said.as_ref().err().map(ExecError::to_string);
    let first = all.first().and_then(failed);
    if let Some(why) = &first
        && all.iter().all(|one| failed(one).as_ref() == Some(why))
    {
        return vec![line("what the members read", why)];
    }
    let mut lines = Vec::new();
    for one in all {
        match &one.said {
            Err(why) => lines.push(line(&format!("what {} reads", one.member), &why.to_string())),
            Ok(measured) => {
                let rates = measured.rates.as_ref().err();
                lines.extend(rates.map(|why| line(&format!("rates of {}", one.member), why)));
                lines.extend(measured.unread.iter().map(|what| line(&one.member, what)));
                let shown = u64::try_from(measured.sample.slots.len()).unwrap_or(u64::MAX);
                let besides = measured.sample.slots_in_all.saturating_sub(shown);
                if besides > 0 {
                    lines.push(format!(
                        "{}: {besides} more slots, which hold back less",
                        one.member
                    ));
                }
            }
        }
    }
    lines
}

/// Returns a part as per cent. Only all is 100 %.
pub(in crate::view) fn percent(ratio: f64) -> String {
    format!("{:.1}%", (ratio * 1000.0).floor() / 10.0)
}

/// Returns a rate as a number for people.
pub(in crate::view) fn rate(rate: f64) -> String {
    if rate > 0.0 && rate < 10.0 { format!("{rate:.1}") } else { short(whole(rate)) }
}

/// Returns a rate without its fraction.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
pub(in crate::view) fn whole(rate: f64) -> u64 {
    rate.round() as u64
}

/// Returns a count in four digits and a letter.
pub(in crate::view) fn short(count: u64) -> String {
    const UNITS: [&str; 4] = ["k", "M", "G", "T"];
    if count < 10_000 {
        return count.to_string();
    }
    let mut tenths = u128::from(count) / 100;
    let mut unit = UNITS[0];
    for larger in &UNITS[1..] {
        if tenths < 10_000 {
            break;
        }
        tenths /= 1000;
        unit = larger;
    }
    format!("{}.{}{unit}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_rates_are_short_and_never_rounded_to_all() {
        for (count, want) in [
            (0, "0"),
            (9999, "9999"),
            (10_000, "10.0k"),
            (1_234_567, "1.2M"),
            (999_999, "999.9k"),
            (u64::MAX, "18446744.0T"),
        ] {
            assert_eq!(short(count), want);
        }
        for (ratio, want) in [(1.0, "100.0%"), (0.99996, "99.9%"), (0.0, "0.0%")] {
            assert_eq!(percent(ratio), want);
        }
        for (per_second, want) in [(0.0, "0"), (0.5, "0.5"), (12.4, "12"), (45_678.0, "45.6k")] {
            assert_eq!(rate(per_second), want);
        }
    }
}
