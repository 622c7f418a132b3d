//! The page of all clusters.

use maud::{Markup, html};

use super::layout;
use super::model::{Fleet, Status};
use super::words;

/// Returns the page.
pub(super) fn page(fleet: &Fleet) -> Markup {
    let mut all: Vec<&Status> = fleet.items.iter().collect();
    all.sort_by(|one, other| {
        let key = |it: &Status| (it.verdict, it.worst_lag_bytes.is_some());
        key(one)
            .cmp(&key(other))
            .then_with(|| other.worst_lag_bytes.cmp(&one.worst_lag_bytes))
            .then_with(|| place(one).cmp(&place(other)))
    });
    let main = html! {
        @if all.is_empty() {
            p.lead { "No cluster was found. Either there is none, or you may not list them." }
        } @else {
            (summary(&all))
            ul.cards { @for status in all { (card(status)) } }
        }
        @if !fleet.budgets.is_empty() { (budgets(fleet)) }
    };
    layout::page("Clusters", &[], &main)
}

fn place(status: &Status) -> (&str, &str) {
    (&status.metadata.namespace, &status.metadata.name)
}

fn summary(all: &[&Status]) -> Markup {
    let mut counts: Vec<(super::model::Health, usize)> = Vec::new();
    for status in all {
        match counts.last_mut() {
            Some((health, count)) if *health == status.verdict => *count += 1,
            _ => counts.push((status.verdict, 1)),
        }
    }
    let oldest = all.iter().map(|status| status.time.as_str()).min().unwrap_or_default();
    html! {
        p.lead {
            @for (health, count) in counts { (layout::badge(health)) " " (count) " " }
        }
        p.small { "As of " (words::clock(oldest)) ". Reload the page to look again." }
    }
}

fn card(status: &Status) -> Markup {
    let (_, class) = words::health(status.verdict);
    html! {
        li class={ "card " (class) } {
            h2 {
                a href=(words::cluster(&status.metadata)) {
                    span.dim { (status.metadata.namespace) "/" } (status.metadata.name)
                }
                " " (layout::badge(status.verdict))
            }
            @if !status.reasons.is_empty() {
                ul.reasons { @for reason in &status.reasons { li { (reason) } } }
            }
            @if !status.warnings.is_empty() {
                ul.reasons { @for warning in &status.warnings { li { "Worth a look: " (warning) } } }
            }
            dl.facts {
                div { dt { "Declared" } dd { (words::count(status.declared)) } }
                div { dt { "Running" } dd { (words::count(status.running)) } }
                div { dt { "Healthy" } dd { (words::count(status.healthy_members)) } }
                div { dt { "Leader" } dd { (status.leader.as_deref().unwrap_or("none")) } }
                div { dt { "Most lag" } dd { (words::lag(status.worst_lag_bytes)) } }
            }
        }
    }
}

fn budgets(fleet: &Fleet) -> Markup {
    html! {
        h2 { "Budgets" }
        div.scroll tabindex="0" role="region" aria-label="Budgets" {
            table {
                thead { tr {
                    th scope="col" { "Namespace" } th.number scope="col" { "At most" }
                    th.number scope="col" { "Used" } th.number scope="col" { "Free" }
                } }
                tbody { @for budget in &fleet.budgets { tr {
                    th scope="row" { (budget.namespace) }
                    td.number { (budget.instances) }
                    @if let Some(why) = &budget.unreadable {
                        td colspan="2" { "not known: " (why) }
                    } @else {
                        td.number { (words::count(budget.used)) }
                        td.number { (words::count(budget.free)) }
                    }
                } } }
            }
        }
    }
}
