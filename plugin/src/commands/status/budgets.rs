//! What counts against the budgets of the namespaces of a list.

use std::collections::BTreeSet;

use futures::{StreamExt as _, stream};
use kube::api::{Api, ListParams};
use pgscale_guard::ledger::{InstanceLedger, NAME as LEDGER};

use crate::commands::policy::spent;
use crate::document::NamespaceBudget;
use crate::error::Failure;
use crate::session::Session;
use crate::status::Status;

/// The most ledgers that are read for a list.
const MOST: u32 = 100;
/// The number of namespaces that are read at a time.
const AT_ONCE: usize = 4;

/// The budgets of the namespaces of a list.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    pub(super) read: Vec<NamespaceBudget>,
    /// What was not read, in words.
    pub(super) unread: Option<String>,
}

/// Reads the budgets of all namespaces of the list that have a ledger: the webhook makes one where a
/// policy sets a budget.
pub(super) async fn read(session: &Session, all: &[Status]) -> Budgets {
    let listed: BTreeSet<&str> =
        all.iter().map(|status| status.snapshot.facts.change.new.namespace.as_str()).collect();
    let ledgers: Api<InstanceLedger> = match listed.iter().copied().collect::<Vec<_>>()[..] {
        [] => return Budgets::default(),
        [namespace] => Api::namespaced(session.client.clone(), namespace),
        _ => Api::all(session.client.clone()),
    };
    let found = match ledgers.list_metadata(&ListParams::default().limit(MOST)).await {
        Ok(found) => found,
        // The definition is not installed, so there is no budget.
        Err(kube::Error::Api(status)) if status.code == 404 => return Budgets::default(),
        Err(error) => {
            let why = Failure::of_kube(&error, "list instanceledgers").text();
            let unread = Some(format!("budgets of namespaces are not shown: {why}"));
            return Budgets { unread, ..Budgets::default() };
        }
    };
    let more = found.metadata.continue_.as_ref().is_some_and(|token| !token.is_empty());
    let unread = more.then(|| {
        format!(
            "only the budgets of the first {MOST} namespaces are shown; all of them: kubectl get \
             instanceledgers -A"
        )
    });
    let of_a_budget = found.items.into_iter().filter_map(|ledger| {
        let metadata = ledger.metadata;
        metadata.namespace.filter(|_| metadata.name.as_deref() == Some(LEDGER))
    });
    let namespaces: Vec<String> =
        of_a_budget.filter(|namespace| listed.contains(namespace.as_str())).collect();
    let mut read: Vec<NamespaceBudget> = stream::iter(namespaces)
        .map(|namespace| one(session, namespace))
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    read.sort_by(|one, other| one.namespace.cmp(&other.namespace));
    Budgets { read, unread }
}

/// Reads the budget of one namespace. `None` where no policy sets one any more.
async fn one(session: &Session, namespace: String) -> Option<NamespaceBudget> {
    let budgets = session.reader.written_policies(&namespace).await.budgets();
    let spent = spent(session, &namespace, &budgets).await?;
    Some(NamespaceBudget { namespace, spent })
}

#[cfg(test)]
mod tests {
    use crate::testing::{World, run};

    #[tokio::test]
    async fn budget_of_a_namespace_stands_below_the_list() {
        let (screen, code, _) = run(&World::new(3, 0).budget(12), "status", None).await;
        assert_eq!(code, 0);
        assert!(!screen.stdout().contains("Budget"), "{}", screen.stdout());
        insta::assert_snapshot!(screen.stderr(), @"Budget of db:  12 instances in all clusters, 3 used, 0 reserved, 9 free");
        let (screen, ..) = run(&World::new(3, 0).budget(12), "status -o json", None).await;
        let list: serde_json::Value = serde_json::from_str(&screen.stdout()).unwrap();
        insta::assert_snapshot!(list["budgets"], @r#"[{"free":9,"instances":12,"namespace":"db","reserved":0,"settles":null,"unreadable":null,"used":3}]"#);
    }

    #[tokio::test]
    async fn ledgers_that_may_not_be_listed_are_named_beside_the_list() {
        let world = World::new(3, 0).budget(12).ledgers_hidden();
        let (screen, code, _) = run(&world, "status", None).await;
        assert_eq!(code, 0);
        assert!(screen.stdout().contains("acid-a"), "{}", screen.stdout());
        insta::assert_snapshot!(screen.stderr(), @"Warning: budgets of namespaces are not shown: failed to list instanceledgers: not permitted: instanceledgers.pgscale.dev is forbidden");
    }

    #[tokio::test]
    async fn list_without_a_budget_says_nothing_about_one() {
        let (screen, ..) = run(&World::new(3, 0), "status", None).await;
        assert!(!screen.stderr().contains("udget"), "{}", screen.stderr());
        let (screen, ..) = run(&World::new(3, 0), "status -o json", None).await;
        let list: serde_json::Value = serde_json::from_str(&screen.stdout()).unwrap();
        assert!(list["items"].is_array() && list["budgets"].is_null(), "{list}");
    }
}
