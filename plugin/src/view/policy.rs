//! The effective policy, and the effect of new policies, as a person reads them.

use pgscale_guard::policy::Mode;

use super::plan::counted;
use crate::document::{EffectivePolicy, NamespaceBudget, PolicyTest, Spent, Tried, Verdicts};
use crate::policy::Effect;
use crate::terminal::text::{Cell, fitted, wrap};
use crate::terminal::{BAD, BOLD, CARE, GOOD};

/// Renders the effective policy: the values that decide or are on trial. `wide` shows the weaker
/// ones too.
pub(crate) fn render(effective: &EffectivePolicy, wide: bool, width: Option<usize>) -> String {
    let matched: Vec<String> =
        effective.policies.iter().map(|it| format!("{} ({:?})", it.name, it.mode)).collect();
    let matched = match matched.join(", ") {
        _ if !effective.installed => {
            "none: the kinds ScalePolicy and ClusterScalePolicy (pgscale.dev/v1alpha1) are not \
             installed"
                .to_owned()
        }
        none if none.is_empty() => "none".to_owned(),
        matched => matched,
    };
    let mut title = vec![
        format!("{BOLD}Effective policy of {}{BOLD:#}", effective.place()),
        wrap(&format!("Policies:  {matched}"), width, 2),
    ];
    if !effective.selective.is_empty() {
        title.push(format!("For some clusters only:  {}", effective.selective.join(", ")));
    }
    title.extend(effective.budget.as_ref().map(budget));
    for policy in &effective.undecodable {
        title.push(format!("Cannot be decoded:  {}: {}", policy.name, policy.reason));
    }
    for allowed in &effective.allowed {
        let when = match allowed.next {
            _ if allowed.now => "now".to_owned(),
            Some(next) => format!("from {next}"),
            None => "at an unknown time".to_owned(),
        };
        title.push(format!("The calendar allows {}:  {when}", allowed.direction));
    }
    let shown = effective.fields.iter().filter(|it| wide || it.effect != Effect::Weaker);
    let rows: Vec<Vec<Cell>> = shown
        .map(|entry| {
            let effect = match entry.effect {
                Effect::InForce => Cell::styled("in force", GOOD),
                Effect::Weaker => Cell::from("a stricter one decides"),
                Effect::Warns => Cell::styled("warns", CARE),
                Effect::Recorded => Cell::styled("recorded", CARE),
                Effect::Powerless => Cell::styled("none: not in builtIn.loosenable", CARE),
            };
            vec![
                Cell::from(&entry.field),
                Cell::from(&entry.value),
                Cell::from(&entry.source),
                effect,
            ]
        })
        .collect();
    let title = wrap(&title.join("\n"), width, 2);
    format!("{title}\n\n{}", fitted(&["FIELD", "VALUE", "FROM", "EFFECT"], &rows, width))
}

/// Returns `Budget:  12 instances in all clusters, 8 used, 1 reserved, 3 free`.
fn budget(spent: &Spent) -> String {
    format!("Budget:  {}", sums(spent))
}

/// Returns `Budget of db:  12 instances in all clusters, 8 used, 1 reserved, 3 free`.
pub(crate) fn budget_of(budget: &NamespaceBudget) -> String {
    format!("Budget of {}:  {}", budget.namespace, sums(&budget.spent))
}

fn sums(spent: &Spent) -> String {
    let Spent { instances, used, reserved, free, settles, unreadable } = spent;
    let sums = if let (Some(used), Some(reserved), Some(free)) = (used, reserved, free) {
        format!("{used} used, {reserved} reserved, {free} free")
    } else {
        let why = unreadable.as_deref().unwrap_or("they are not there");
        format!("{CARE}the sums could not be read{CARE:#}: {why}")
    };
    let settles = settles.map_or(String::new(), |until| format!(", no growth before {until:.0}"));
    format!("{instances} instances in all clusters, {sums}{settles}")
}

/// Renders the effect of new policies, one line per cluster.
pub(crate) fn trial(test: &PolicyTest, everywhere: bool, width: Option<usize>) -> String {
    let mut header = vec!["NAME", "INSTANCES", "AS IT IS", "ONE LESS", "ONE MORE"];
    if everywhere {
        header.insert(0, "NAMESPACE");
    }
    let rows: Vec<Vec<Cell>> = test.items.iter().map(|item| row(item, everywhere)).collect();
    fitted(&header, &rows, width)
}

fn row(item: &Tried, everywhere: bool) -> Vec<Cell> {
    let broken: Vec<String> = item
        .violations
        .iter()
        .map(|it| format!("breaks {}: {} ({})", it.field, it.value, source(&it.source, it.mode)))
        .collect();
    let enforced = item.violations.iter().any(|it| it.mode == Mode::Enforce);
    let as_it_is = match (broken.is_empty(), enforced) {
        (true, _) => Cell::styled("within bounds", GOOD),
        (false, true) => Cell::styled(broken.join(", "), BAD),
        (false, false) => Cell::styled(broken.join(", "), CARE),
    };
    let change = |to: i64| {
        let verdicts = item.changes.iter().find(|change| change.to == to);
        verdicts.map_or(Cell::default(), verdict)
    };
    let mut row = vec![
        Cell::from(&item.name),
        Cell::from(item.instances.to_string()),
        as_it_is,
        change(item.instances.saturating_sub(1)),
        change(item.instances.saturating_add(1)),
    ];
    if everywhere {
        row.insert(0, Cell::from(&item.namespace));
    }
    row
}

/// Returns the source of a bound, with the mode of a policy that does less than refuse.
pub(super) fn source(source: &str, mode: Mode) -> String {
    let mode = match mode {
        Mode::Enforce => "",
        Mode::Warn => ", only warns",
        Mode::Audit => ", only recorded",
    };
    format!("{source}{mode}")
}

fn verdict(verdicts: &Verdicts) -> Cell {
    let (says, today, style) = match (verdicts.allowed, verdicts.allowed_today) {
        (true, true) if verdicts.rules.is_empty() => ("allowed", "", GOOD),
        (true, true) => ("allowed", "", CARE),
        (true, false) => ("allowed", " (refused today)", CARE),
        (false, true) => ("refused", " (allowed today)", BAD),
        (false, false) => ("refused", "", BAD),
    };
    let rules = verdicts.rules.join(", ");
    let by = match (rules.is_empty(), verdicts.allowed) {
        (true, _) => String::new(),
        (false, true) => {
            format!(", {}: {rules}", counted(verdicts.rules.len(), "warning"))
        }
        (false, false) => format!(" by {rules}"),
    };
    Cell::styled(format!("{says}{by}{today}"), style)
}
