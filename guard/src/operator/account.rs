//! The service accounts of operators.
//!
//! A label proves nothing. A user who may create a Deployment in any namespace may label it as an
//! operator, and its limits would then decide the result of every change of the count. The
//! platform's administrators decide who may run pods under the operator's account, in the
//! operator's namespace.

use std::fmt;
use std::str::FromStr;

use crate::remedy::Command;

/// The namespace of the ConfigMap that lists the accounts. Every user can be allowed to read it.
pub const LIST_NAMESPACE: &str = "kube-public";
/// The name of that ConfigMap.
pub const LIST_NAME: &str = "pgscale-operators";
/// The key in it: one account per line, as `NAMESPACE/SERVICEACCOUNT`.
pub const LIST_KEY: &str = "accounts";
/// The API server's prefix for the user of a service account, before its namespace.
const PREFIX: &str = "system:serviceaccount:";

/// A service account.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Account {
    /// Returns the account's user, as the API server names it.
    pub fn user(&self) -> String {
        format!("{PREFIX}{}:{}", self.namespace, self.name)
    }
}

impl fmt::Display for Account {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

/// A text that names no service account.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no service account such as postgres-operator/postgres-operator (NAMESPACE/NAME)")]
pub struct NoAccount(String);

impl FromStr for Account {
    type Err = NoAccount;

    /// Reads `NAMESPACE/NAME`, or the user of the account.
    fn from_str(text: &str) -> Result<Self, NoAccount> {
        let pair = match text.strip_prefix(PREFIX) {
            Some(rest) => rest.split_once(':'),
            None => text.split_once('/'),
        };
        let fits = |part: &str| {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
            !part.is_empty() && part.chars().all(fits)
        };
        match pair {
            Some((namespace, name)) if fits(namespace) && fits(name) => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            Some(_) | None => Err(NoAccount(text.to_owned())),
        }
    }
}

/// Reads the list of accounts: one per line or between commas, without empty lines and `#`
/// comments.
///
/// # Errors
/// A line is no account, or there is no account: an empty list would mean that no operator exists.
pub fn listed(text: &str) -> Result<Vec<Account>, String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let lines = lines.flat_map(|line| line.split(',')).map(str::trim);
    let accounts: Vec<Account> = lines
        .filter(|line| !line.is_empty())
        .map(|line| line.parse().map_err(|error: NoAccount| error.to_string()))
        .collect::<Result<_, _>>()?;
    if accounts.is_empty() {
        return Err(format!("its key {LIST_KEY} lists no account"));
    }
    Ok(accounts)
}

/// Returns the command that creates the list of all operators' accounts.
pub fn create_list() -> Command {
    let accounts =
        format!("--from-literal={LIST_KEY}=NAMESPACE/SERVICEACCOUNT,NAMESPACE/SERVICEACCOUNT");
    Command::kubectl(["create", "configmap", LIST_NAME, "-n", LIST_NAMESPACE, &accounts])
}

/// Returns the command that adds accounts to the list.
pub fn edit_list() -> Command {
    Command::kubectl(["edit", "configmap", LIST_NAME, "-n", LIST_NAMESPACE])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_is_read_in_both_spellings() {
        for text in ["ops/pg", "system:serviceaccount:ops:pg"] {
            let account: Account = text.parse().unwrap();
            assert_eq!(account.to_string(), "ops/pg");
            assert_eq!(account.user(), "system:serviceaccount:ops:pg");
        }
        for text in
            ["", "pg", "ops/", "/pg", "ops/pg/x", "system:serviceaccount:ops", "Ops/pg", "a b/c"]
        {
            assert!(text.parse::<Account>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn list_without_accounts_is_an_error() {
        let read = |text: &str| {
            listed(text).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let two = "# ours\nops/pg\n\n  system:serviceaccount:db:second  # of the tenants\n";
        assert_eq!(read(two).unwrap(), ["ops/pg", "db/second"]);
        assert!(read("").is_err() && read("# none\n").is_err());
        assert_eq!(
            read("ops/pg\npg").unwrap_err(),
            "\"pg\" is no service account such as postgres-operator/postgres-operator (NAMESPACE/NAME)"
        );
    }
}
