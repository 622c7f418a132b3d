//! The page of one cluster.

use maud::{Markup, html};

use super::layout;
use super::model::{Member, Status, WouldSay};
use super::words;

/// Returns the page.
pub(super) fn page(status: &Status) -> Markup {
    let cluster = &status.metadata;
    let title = format!("{}/{}", cluster.namespace, cluster.name);
    let address = words::cluster(cluster);
    let main = html! {
        div #cluster data-namespace=(cluster.namespace) data-name=(cluster.name) {
            p.lead { (layout::badge(status.verdict)) " "
                "Declared " (words::count(status.declared))
                ", running " (words::count(status.running))
                ", healthy " (words::count(status.healthy_members)) "."
                @if status.declared.is_some_and(|declared| declared != status.effective) {
                    " The operator makes it " (status.effective) "."
                }
            }
            @if !status.reasons.is_empty() {
                ul.reasons { @for reason in &status.reasons { li { (reason) } } }
            }
            @if !status.warnings.is_empty() {
                ul.reasons { @for warning in &status.warnings { li { "Worth a look: " (warning) } } }
            }
            p.small { "As of " span #as-of { (words::clock(&status.time)) } ". "
                span #freshness role="status" { "Reload the page to look again." } }
        }
        @for cause in &status.why {
            section.note.warn { h2 { "What holds it up" } p { (cause.what) } (layout::remedy(&cause.next)) }
        }
        h2 { "Members" }
        (members(status))
        section #lag hidden {
            h2 { "Lag over time" }
            div #chart {}
            ul #legend.legend {}
            details { summary { "The same as a table" }
                div.scroll tabindex="0" role="region" aria-label="Lag over time" {
                    table { caption { "Lag of each replica in bytes, since this page was opened" }
                        thead { tr { th scope="col" { "Replica" } th.number scope="col" { "Now" }
                            th.number scope="col" { "Least" } th.number scope="col" { "Most" }
                            th.number scope="col" { "Change" } } }
                        tbody #lag-table {} } } }
        }
        h2 { "Another count" }
        @match &status.would_say {
            Some(all) if !all.is_empty() => { ul.cards { @for it in all { (would_say(it, &address)) } } }
            Some(_) => { p { "No other count was judged." } }
            None => { p { "What other counts would get was not looked up." } }
        }
        form.row method="get" action={ (address) "/plan" } {
            label for="to" { "Instances" }
            input #to type="number" name="to" min="0" max="999" required
                value=(status.declared.unwrap_or(status.effective));
            button type="submit" { "Show the plan" }
        }
    };
    layout::page(&title, &[], &main)
}

fn members(status: &Status) -> Markup {
    html! {
        @if status.members.is_empty() {
            p { @if status.running.is_none() { "The pods could not be listed." }
                @else { "There are none." } }
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Members" {
                table {
                    thead { tr {
                        th scope="col" { "Member" } th scope="col" { "Role" }
                        th scope="col" { "Health" } th.number scope="col" { "Lag" }
                        th scope="col" { "Node" }
                    } }
                    tbody { @for member in &status.members {
                        (row(member, status.leader.as_deref() == Some(&member.name)))
                    } }
                }
            }
        }
    }
}

fn row(member: &Member, leads: bool) -> Markup {
    let (word, class) = match member.healthy {
        Some(true) => ("Healthy", "good"),
        Some(false) => ("Not healthy", "bad"),
        None => ("Not known", "unknown"),
    };
    html! {
        tr data-member=(member.name) {
            th scope="row" { (member.name) }
            td data-cell="role" { (member.role) }
            td data-cell="health" { span class={ "badge " (class) } { (word) }
                @if member.healthy != Some(true) { br; span.small { (member.health) } }
                @else { " " span.small { (member.state) } } }
            td.number data-cell="lag" {
                @if leads { "leads" } @else { (words::lag(member.lag_bytes)) }
            }
            td { (member.node.as_deref().unwrap_or("none"))
                @if let Some(zone) = &member.zone { " " span.small { (zone) } } }
        }
    }
}

fn would_say(it: &WouldSay, address: &str) -> Markup {
    html! {
        li class={ "card " (if it.allowed { "good" } else { "bad" }) } {
            h3 {
                a href={ (address) "/plan?to=" (it.to) } { (it.to)
                    @if it.to == 1 { " instance" } @else { " instances" } }
                " "
                @if it.allowed { span.badge.good { "Admitted" } } @else { span.badge.bad { "Refused" } }
            }
            p.small { @if it.by == "Edit" { "As a plain edit, which moves no leader first." }
                @else { "By this page or the command." } }
            @if let Some(leader) = &it.leader_moves_to { p { "The leader moves to " (leader) "." } }
            @if let Some(message) = &it.message { p { (message) } }
            @if !it.rules.is_empty() {
                p.small { "Rules: " @for (i, rule) in it.rules.iter().enumerate() {
                    @if i > 0 { ", " } code { (rule) } } }
            }
        }
    }
}
