//! What every page has, and the page of a failure.

use maud::{DOCTYPE, Markup, html};

use super::assets::{SCRIPT, STYLE};
use super::model::{Health, Remedy};
use super::words;

/// Returns a whole page.
pub(super) fn page(title: &str, trail: &[(String, String)], main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · pgscale" }
                link rel="stylesheet" href=(STYLE.path);
                script src=(SCRIPT.path) defer {}
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header {
                    nav aria-label="Where you are" {
                        a href="/" { "Clusters" }
                        @for (text, address) in trail {
                            span aria-hidden="true" { " / " }
                            a href=(address) { (text) }
                        }
                    }
                }
                main #main {
                    h1 { (title) }
                    (main)
                }
            }
        }
    }
}

/// Returns the page of a failure: what went wrong, and what may help.
pub(crate) fn failure(status: u16, title: &str, message: &str, hints: &[String]) -> Markup {
    let main = html! {
        p.lead { span.badge.bad { (status) } " " (message) }
        @if !hints.is_empty() {
            h2 { "What may help" }
            ul { @for hint in hints { li { (hint) } } }
        }
        p { a href="/" { "Back to the clusters" } }
    };
    page(title, &[], &main)
}

/// Returns how a cluster is: a word beside a colour.
pub(super) fn badge(health: Health) -> Markup {
    let (word, class) = words::health(health);
    html! { span class={ "badge " (class) } { (word) } }
}

/// Returns what to do, with commands that can be pasted.
pub(super) fn remedy(remedy: &Remedy) -> Markup {
    html! {
        @if let Some(note) = &remedy.note { p { (note) } }
        @for command in &remedy.commands {
            @if let Some(why) = &command.why { p.small { (why) ":" } }
            pre tabindex="0" { code { (words::command(command)) } }
        }
    }
}
