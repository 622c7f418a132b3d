//! The effect of a change: figures before and after it.

use std::collections::BTreeSet;

use pgscale_guard::duration::exact;

use super::status::reads::{rate, whole};
use crate::effect::{Effect, Figures, Shot};
use crate::terminal::text::{Cell, bytes, fitted, wrap};
use crate::terminal::{BOLD, CARE};
use crate::usage::millicores;

/// The titles of the figures.
const TITLES: [&str; 5] = ["MEMBER", "CPU", "MEMORY", "LAG", "ROWS/S"];

/// Renders the figures as a table, with the answer below.
pub(crate) fn effect(effect: &Effect, width: Option<usize>) -> String {
    let rows: Vec<Vec<Cell>> =
        rows(effect).into_iter().map(|row| row.into_iter().map(Cell::from).collect()).collect();
    let mut lines =
        vec![format!("{BOLD}Did it help?{BOLD:#} {}", when(effect)), fitted(&TITLES, &rows, width)];
    lines.extend(summary(effect).iter().map(|line| wrap(line, width, 2)));
    let unread = |what: &String| wrap(&format!("{CARE}Not known{CARE:#}: {what}"), width, 2);
    lines.extend(unread_of(effect).iter().map(unread));
    lines.join("\n")
}

/// Returns the figures as lines of a page: a table in Markdown, the answer, and what is not known.
pub(super) fn page(effect: &Effect) -> Vec<String> {
    let bars = |cells: Vec<String>| {
        let cells = cells.into_iter().map(|it| if it.is_empty() { "-".to_owned() } else { it });
        format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
    };
    let mut lines = vec![
        String::new(),
        "## Did it help?".to_owned(),
        String::new(),
        format!("{}.", when(effect)),
        String::new(),
        bars(TITLES.map(str::to_owned).to_vec()),
        "|---|---|---|---|---|".to_owned(),
    ];
    lines.extend(rows(effect).into_iter().map(bars));
    lines.push(String::new());
    lines.extend(summary(effect).into_iter().map(|line| format!("- {line}")));
    lines.extend(unread_of(effect).into_iter().map(|what| format!("- Not known: {what}")));
    lines
}

fn when(effect: &Effect) -> String {
    match &effect.after {
        Ok(_) => format!("Before the change, and {} after it converged", exact(effect.settled)),
        Err(_) => "Before the change".to_owned(),
    }
}

fn rows(effect: &Effect) -> Vec<Vec<String>> {
    let after = effect.after.as_ref().ok();
    let names: BTreeSet<&(i64, String)> = effect
        .before
        .members
        .keys()
        .chain(after.into_iter().flat_map(|shot| shot.members.keys()))
        .collect();
    let row = |name: &(i64, String)| {
        let (one, other) = (effect.before.members.get(name), after.map(|it| it.members.get(name)));
        let turn = |figure: &dyn Fn(&Figures) -> Option<String>| {
            let of = |figures: Option<&Figures>| figures.and_then(figure);
            match other {
                None => of(one).unwrap_or_default(),
                Some(other) => match (of(one), of(other)) {
                    (None, None) => String::new(),
                    (one, other) => {
                        let text = |it: Option<String>| it.unwrap_or_else(|| "-".to_owned());
                        format!("{} -> {}", text(one), text(other))
                    }
                },
            }
        };
        let leads = |shot: &Shot| shot.leader.as_ref() == Some(&name.1);
        let led = leads(after.unwrap_or(&effect.before));
        vec![
            if led { format!("{} (leader)", name.1) } else { name.1.clone() },
            turn(&|it| it.millicores.map(millicores)),
            turn(&|it| it.memory.map(bytes)),
            turn(&|it| it.lag.map(bytes)),
            turn(&|it| it.rows.map(rate)),
        ]
    };
    names.into_iter().map(row).collect()
}

/// Returns the answer: the reads of all members, and of the leader.
fn summary(effect: &Effect) -> Vec<String> {
    let after = match &effect.after {
        Ok(after) => after,
        Err(why) => return vec![format!("Not measured after the change: {why}.")],
    };
    let line = |what: &str, before: Option<f64>, after: Option<f64>| {
        let (before, after) = before.zip(after)?;
        let turn = format!("{} -> {}", rate(before), rate(after));
        let share = match (whole(before), whole(after)) {
            (0, _) => String::new(),
            (one, other) if one == other => ", the same".to_owned(),
            _ => format!(" ({:+.0} %)", (after - before) / before * 100.0),
        };
        Some(format!("Rows read per second {what}: {turn}{share}"))
    };
    let all = line("by all members", effect.before.rows(), after.rows());
    let leader =
        line("by the leader", effect.before.rows_of_the_leader(), after.rows_of_the_leader());
    all.into_iter().chain(leader).collect()
}

/// Returns what is not known, each once.
fn unread_of(effect: &Effect) -> Vec<String> {
    let after = effect.after.as_ref().ok();
    let mut all = effect.before.unread.clone();
    for what in after.into_iter().flat_map(|shot| &shot.unread) {
        if !all.contains(what) {
            all.push(what.clone());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn shot(leader: &str, figures: &[(i64, Figures)]) -> Shot {
        Shot {
            leader: Some(leader.to_owned()),
            members: figures
                .iter()
                .map(|(ordinal, it)| ((*ordinal, format!("acid-a-{ordinal}")), *it))
                .collect(),
            unread: Vec::new(),
        }
    }

    fn figures(millicores: u64, lag: Option<u64>, rows: Option<f64>) -> Figures {
        Figures { millicores: Some(millicores), memory: Some(1 << 30), lag, rows }
    }

    fn helped() -> Effect {
        Effect {
            settled: Duration::from_secs(60),
            before: shot(
                "acid-a-0",
                &[(0, figures(900, None, Some(1200.0))), (1, figures(50, Some(0), Some(0.0)))],
            ),
            after: Ok(shot(
                "acid-a-0",
                &[
                    (0, figures(400, None, Some(500.0))),
                    (1, figures(300, Some(2048), Some(400.0))),
                    (10, figures(310, Some(0), Some(410.0))),
                ],
            )),
        }
    }

    fn plain(effect: &Effect) -> String {
        anstream::adapter::strip_str(&super::effect(effect, Some(80))).to_string()
    }

    #[test]
    fn figures_before_and_after_answer_whether_it_helped() {
        insta::assert_snapshot!(plain(&helped()), @"
        Did it help? Before the change, and 1m after it converged
        MEMBER             CPU           MEMORY              LAG             ROWS/S
        acid-a-0 (leader)  900m -> 400m  1.0 GiB -> 1.0 GiB  -               1200 -> 500
        acid-a-1           50m -> 300m   1.0 GiB -> 1.0 GiB  0 B -> 2.0 KiB  0 -> 400
        acid-a-10          - -> 310m     - -> 1.0 GiB        - -> 0 B        - -> 410
        Rows read per second by all members: 1200 -> 1310 (+9 %)
        Rows read per second by the leader: 1200 -> 500 (-58 %)
        ");
        insta::assert_snapshot!(page(&helped()).join("\n"), @"
        ## Did it help?

        Before the change, and 1m after it converged.

        | MEMBER | CPU | MEMORY | LAG | ROWS/S |
        |---|---|---|---|---|
        | acid-a-0 (leader) | 900m -> 400m | 1.0 GiB -> 1.0 GiB | - | 1200 -> 500 |
        | acid-a-1 | 50m -> 300m | 1.0 GiB -> 1.0 GiB | 0 B -> 2.0 KiB | 0 -> 400 |
        | acid-a-10 | - -> 310m | - -> 1.0 GiB | - -> 0 B | - -> 410 |

        - Rows read per second by all members: 1200 -> 1310 (+9 %)
        - Rows read per second by the leader: 1200 -> 500 (-58 %)
        ");
    }

    #[test]
    fn unknown_figures_are_neither_zero_nor_summed() {
        let mut effect = helped();
        effect.before.unread = vec!["CPU and memory: metrics.k8s.io is not served here".to_owned()];
        for figures in effect.before.members.values_mut() {
            (figures.millicores, figures.memory) = (None, None);
        }
        if let Some(figures) = effect.before.members.get_mut(&(1, "acid-a-1".to_owned())) {
            figures.rows = None;
        }
        insta::assert_snapshot!(plain(&effect), @"
        Did it help? Before the change, and 1m after it converged
        MEMBER              CPU         MEMORY         LAG              ROWS/S
        acid-a-0 (leader)   - -> 400m   - -> 1.0 GiB   -                1200 -> 500
        acid-a-1            - -> 300m   - -> 1.0 GiB   0 B -> 2.0 KiB   - -> 400
        acid-a-10           - -> 310m   - -> 1.0 GiB   - -> 0 B         - -> 410
        Rows read per second by the leader: 1200 -> 500 (-58 %)
        Not known: CPU and memory: metrics.k8s.io is not served here
        ");
        effect.after =
            Err("interrupted while it settled; the change itself has converged".to_owned());
        insta::assert_snapshot!(plain(&effect), @"
        Did it help? Before the change
        MEMBER              CPU   MEMORY   LAG   ROWS/S
        acid-a-0 (leader)   -     -        -     1200
        acid-a-1            -     -        0 B   -
        Not measured after the change: interrupted while it settled; the change itself
          has converged.
        Not known: CPU and memory: metrics.k8s.io is not served here
        ");
    }
}
