//! The page of a change that runs or has ended.

use maud::{Markup, html};

use super::layout;
use super::model::Operation;
use super::words;

/// Returns the page.
pub(super) fn page(operation: &Operation) -> Markup {
    let cluster = &operation.metadata;
    let place = format!("{}/{}", cluster.namespace, cluster.name);
    let last = operation.lines.last().map_or(0, |line| line.seq);
    let events = format!("/operations/{}/events", words::segment(&operation.id));
    let main = html! {
        p.lead #progress role="status" {
            @match (&operation.result, &operation.message) {
                (None, _) => { span.badge.warn { "Runs" } " It goes on when you close this page." }
                (Some(result), None) => { span.badge.good { (result) } " It has ended." }
                (Some(result), Some(message)) => { span.badge.bad { (result) } " " (message) }
            }
        }
        ul #hints hidden[operation.hints.is_empty()] {
            @for hint in &operation.hints { li { code { (hint) } } }
        }
        h2 { "Timeline" }
        ol #timeline.timeline aria-live="polite" aria-relevant="additions"
            data-events=[operation.result.is_none().then_some(events)] data-seq=(last) {
            @for line in &operation.lines {
                li data-seq=(line.seq) { time datetime=(line.at) { (words::clock(&line.at)) } " "
                    span { (line.text) } }
            }
        }
        @if operation.lines.is_empty() {
            p.small #empty { "Nothing has happened yet. Reload the page to look again." }
        }
        p.small { "Operation " code { (operation.id) } }
        p { a href=(words::cluster(cluster)) { "See " (place) } }
    };
    let title = format!("{place}: {}", operation.title);
    layout::page(&title, &[(place, words::cluster(cluster))], &main)
}
