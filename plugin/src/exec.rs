//! Commands inside a member's PostgreSQL container, and SQL through its `psql`.
//!
//! PostgreSQL itself answers the questions that Patroni and Kubernetes cannot answer. The user is
//! the local superuser of every Spilo image: no password is read, and none is needed. Every answer
//! is optional: a user who may not exec gets less.

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use pgscale_guard::read::Address;

/// The time limit of a checkpoint. After it, the switchover continues without.
pub(crate) const CHECKPOINT_PATIENCE: Duration = Duration::from_secs(60);

/// Separates columns in `psql`'s output: ASCII's unit separator, which none of the values holds.
const COLUMN: char = '\u{1f}';

/// Separates rows: ASCII's record separator.
const ROW: char = '\u{1e}';

/// The way to run commands in members.
pub(crate) trait Exec: Send + Sync {
    /// Runs a command in the PostgreSQL container of `pod`, and returns its stdout where it
    /// succeeds within `patience`.
    ///
    /// The error is one line for people.
    fn run<'a>(
        &'a self,
        pod: &'a Address,
        command: Vec<String>,
        patience: Duration,
    ) -> BoxFuture<'a, Result<String, ExecError>>;
}

/// The reason why a command in a member did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ExecError {
    /// The caller may not do this, such as `pods/exec`.
    Forbidden(String),
    /// PostgreSQL takes no connections.
    NoConnection,
    /// Anything else, in one line for people.
    Failed(String),
}

impl fmt::Display for ExecError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden(what) => write!(out, "{what} is not permitted"),
            Self::NoConnection => {
                write!(out, "not available while the leader moves, or PostgreSQL restarts")
            }
            Self::Failed(why) => write!(out, "{why}"),
        }
    }
}

/// Returns the rows of one SQL statement, each column as text. NULL is the empty text.
///
/// # Errors
/// One line for people: no permission to exec, PostgreSQL's own message, no answer in time.
pub(crate) async fn sql(
    exec: &dyn Exec,
    pod: &Address,
    statement: &str,
    patience: Duration,
) -> Result<Vec<Vec<String>>, ExecError> {
    sql_in(exec, pod, "postgres", statement, patience).await
}

/// Returns the rows of one SQL statement in one database.
///
/// # Errors
/// As for [`sql`].
pub(crate) async fn sql_in(
    exec: &dyn Exec,
    pod: &Address,
    database: &str,
    statement: &str,
    patience: Duration,
) -> Result<Vec<Vec<String>>, ExecError> {
    let printed = exec.run(pod, psql(database, statement), patience).await?;
    Ok(rows(&printed))
}

/// Writes a checkpoint on `pod` within `patience`, so that its shutdown is short.
///
/// # Errors
/// As for [`sql`].
pub(crate) async fn checkpoint(
    exec: &dyn Exec,
    pod: &Address,
    patience: Duration,
) -> Result<(), ExecError> {
    sql(exec, pod, "CHECKPOINT", patience).await.map(drop)
}

/// The exit code of `psql` without a connection (psql's manual, "Exit Status").
const NO_CONNECTION: i32 = 2;

/// Returns the reason for which `command` ended with `code`, and said `why`.
pub(crate) fn ended(command: &[String], code: Option<i32>, why: String) -> ExecError {
    let psql = command.first().is_some_and(|program| program == "psql");
    if psql && code == Some(NO_CONNECTION) {
        return ExecError::NoConnection;
    }
    ExecError::Failed(why)
}

fn psql(database: &str, statement: &str) -> Vec<String> {
    ["psql", "-X", "-q", "-A", "-t", "-F"]
        .into_iter()
        .map(str::to_owned)
        .chain([COLUMN.to_string(), "-R".to_owned(), ROW.to_string()])
        .chain(["-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d"].map(str::to_owned))
        .chain([named(database), "-c".to_owned(), statement.to_owned()])
        .collect()
}

/// Returns a database for `-d`, where `psql` takes a text with `=` for a whole connection string
/// (libpq, "Connection Strings").
fn named(database: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if database.chars().all(plain) && !database.is_empty() {
        return database.to_owned();
    }
    format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Returns the error of rows that are not those of the statement.
pub(crate) fn odd(rows: &[Vec<String>]) -> String {
    format!("psql printed unexpected rows: {rows:?}")
}

fn rows(printed: &str) -> Vec<Vec<String>> {
    let printed = printed.strip_suffix('\n').unwrap_or(printed);
    if printed.is_empty() {
        return Vec::new();
    }
    printed.split(ROW).map(|row| row.split(COLUMN).map(str::to_owned).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_psql_is_rows_of_columns() {
        assert_eq!(rows(""), Vec::<Vec<String>>::new());
        assert_eq!(rows("\n"), Vec::<Vec<String>>::new());
        assert_eq!(rows("t\n"), [["t"]]);
        assert_eq!(rows("a\u{1f}b|c\u{1e}\u{1f}\n"), [["a", "b|c"], ["", ""]]);
    }

    #[test]
    fn psql_without_a_connection_is_no_failure_of_the_statement() {
        let why = || "psql: error: FATAL: the database system is shutting down".to_owned();
        assert_eq!(ended(&psql("postgres", "SELECT 1"), Some(2), why()), ExecError::NoConnection);
        let said = ExecError::NoConnection.to_string();
        assert!(said.starts_with("not available while the leader moves"), "{said}");
        for (command, code) in
            [(psql("postgres", "SELECT 1"), Some(1)), (vec!["df".to_owned()], Some(2))]
        {
            assert_eq!(ended(&command, code, why()), ExecError::Failed(why()));
        }
    }

    #[test]
    fn database_of_any_name_is_one_word_and_no_other_parameter() {
        for (name, want) in [
            ("shop", "shop"),
            ("my-shop_2", "my-shop_2"),
            ("host=evil", "dbname='host=evil'"),
            ("it's \\", "dbname='it\\'s \\\\'"),
            ("postgresql://evil/x", "dbname='postgresql://evil/x'"),
        ] {
            assert_eq!(named(name), want);
        }
    }

    #[test]
    fn psql_reads_no_start_file_and_stops_at_errors() {
        let command = psql("postgres", "SELECT 1");
        assert_eq!(command.first().map(String::as_str), Some("psql"));
        assert!(
            command.contains(&"-X".to_owned()) && command.contains(&"ON_ERROR_STOP=1".to_owned())
        );
        assert_eq!(command.last().map(String::as_str), Some("SELECT 1"));
    }
}
