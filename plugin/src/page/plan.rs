//! The preview of a change, and the button that sends it.

use maud::{Markup, html};
use pgscale_guard::remedy::Command;

use super::layout;
use super::model::{Finding, Outcome, Plan, Step};
use super::words;

/// Returns the page.
pub(super) fn page(plan: &Plan) -> Markup {
    let cluster = &plan.metadata;
    let place = format!("{}/{}", cluster.namespace, cluster.name);
    let (word, class) = match plan.outcome {
        Outcome::Ready => ("Ready", "good"),
        Outcome::Refused => ("Refused", "bad"),
        Outcome::Nothing => ("Nothing to do", "unknown"),
    };
    let main = html! {
        p.lead { span class={ "badge " (class) } { (word) } " " (sentence(plan)) "." }
        @if !plan.findings.is_empty() {
            h2 { "Findings" }
            ul.cards { @for it in sorted(&plan.findings) { (finding(it)) } }
        }
        @if plan.outcome == Outcome::Refused && !plan.nearest_allowed.is_empty() {
            h2 { "What would be admitted" }
            ul { @for count in &plan.nearest_allowed {
                li { a href={ (words::cluster(cluster)) "/plan?to=" (count) } { (count) " instances" } }
            } }
        }
        @if !plan.steps.is_empty() {
            h2 { "Steps" }
            ol { @for it in &plan.steps { li { (step(it)) } } }
        }
        @if let Some(moved) = &plan.leader_move {
            p.small { "Why the leader moves: " (moved.why) }
        }
        @if !plan.leaving.is_empty() {
            h2 { "Members that go" }
            ul { @for it in &plan.leaving { li { (it.pod)
                @if let Some(role) = &it.role { " (" (role) ")" }
                @if let Some(claim) = &it.claim { ", claim " (claim) } } } }
        }
        @if !plan.coming.is_empty() || plan.coming_besides > 0 {
            h2 { "Members that come" }
            ul { @for it in &plan.coming { li { (it.pod)
                    @if let Some(claim) = &it.claim { ", claim " (claim) } } }
                @if plan.coming_besides > 0 { li { "and " (plan.coming_besides) " more" } } }
        }
        @if !plan.unfit.is_empty() {
            h2 { "Members that cannot lead" }
            ul { @for (pod, why) in &plan.unfit { li { (pod) ": " (why) } } }
        }
        @for writer in &plan.other_writers {
            p.note.warn { strong { "Writes the count too: " } (writer) }
        }
        @if plan.outcome == Outcome::Ready { (send(plan, &place)) }
    };
    let title = format!("{place}: plan for {}", plan.asked);
    layout::page(&title, &[(place.clone(), words::cluster(cluster))], &main)
}

/// Returns what the button does, without a full stop.
pub(super) fn sentence(plan: &Plan) -> String {
    if plan.outcome == Outcome::Nothing {
        return format!("It runs {} already", plan.from);
    }
    let names = |all: &[super::model::Passing]| {
        all.iter().map(|it| it.pod.as_str()).collect::<Vec<_>>().join(", ")
    };
    let mut parts = Vec::new();
    let verb = |count: usize, one, many| if count == 1 { one } else { many };
    if !plan.leaving.is_empty() {
        let verb = verb(plan.leaving.len(), "goes", "go");
        parts.push(format!("{} {verb}", names(&plan.leaving)));
    }
    if !plan.coming.is_empty() {
        let besides = match plan.coming_besides {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let count = plan.coming.len() + usize::from(plan.coming_besides > 0);
        let verb = verb(count, "comes", "come");
        parts.push(format!("{}{besides} {verb}", names(&plan.coming)));
    }
    if let Some(moved) = &plan.leader_move {
        parts.push(format!("leader moves from {} to {}", moved.from, moved.to));
    }
    let all = if parts.is_empty() { String::new() } else { format!(": {}", parts.join("; ")) };
    format!("Run {} instead of {}{all}", plan.to, plan.from)
}

/// The findings, those that refuse first.
fn sorted(all: &[Finding]) -> Vec<&Finding> {
    let mut all: Vec<&Finding> = all.iter().collect();
    all.sort_by_key(|finding| finding.severity != "Deny");
    all
}

fn finding(finding: &Finding) -> Markup {
    let (word, class) =
        if finding.severity == "Deny" { ("Refuses", "bad") } else { ("Warns", "warn") };
    html! {
        li class={ "card " (class) } {
            h3 { span class={ "badge " (class) } { (word) } " " code { (finding.rule) } }
            p { (finding.message) }
            @if let Some(remedy) = &finding.remedy { (layout::remedy(remedy)) }
        }
    }
}

fn step(step: &Step) -> String {
    match step {
        Step::AskAgain { instances } => format!("Ask the guard again about {instances}"),
        Step::Checkpoint { member } => format!("Checkpoint on {member}"),
        Step::Converge { instances } => format!("Wait until the cluster runs {instances}"),
        Step::MoveLeader { from, to } => format!("Move the leader from {from} to {to}"),
        Step::SetCount { instances } => format!("Set the count to {instances}"),
    }
}

fn send(plan: &Plan, place: &str) -> Markup {
    let cluster = &plan.metadata;
    html! {
        h2 { "Do it" }
        // The script sends it. Without script there is no way to press the button.
        form #scale autocomplete="off" data-namespace=(cluster.namespace) data-name=(cluster.name)
            data-to=(plan.asked) data-hash=(plan.hash) {
            label for="reason" { "Reason, for the history (may be empty)" }
            input #reason type="text" maxlength="200";
            @if plan.asked == 0 {
                label for="confirm" { "All members go. Type " code { (place) } " to confirm" }
                input #confirm type="text" required data-confirm=(place) autocapitalize="off" spellcheck="false";
            }
            p { button #send.primary.danger[plan.asked < plan.from] type="submit" disabled {
                (sentence(plan)) } }
        }
        div #answer role="alert" {}
        p.small #by-hand { "The button needs the script of this page. The same as a command:" }
        pre tabindex="0" { code { (command(plan, place)) } }
        p.small { "Plan " code { (plan.hash) } ". It is refused where the cluster has changed since." }
    }
}

/// Returns the command that does the same.
fn command(plan: &Plan, place: &str) -> String {
    let verb = if plan.asked < plan.from { "down" } else { "up" };
    let (count, cluster) = (plan.asked.to_string(), &plan.metadata);
    let mut words =
        vec!["pgscale", verb, &cluster.name, "--to", &count, "--expect-plan", &plan.hash];
    if plan.asked == 0 {
        words.extend(["--confirm", place]);
    }
    words.extend(["-n", &cluster.namespace]);
    Command::kubectl(words).to_string()
}
