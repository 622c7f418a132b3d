//! The kubeconfig, from the files that kubectl would read.

use std::ffi::OsStr;
use std::path::PathBuf;

use kube::config::{Kubeconfig, KubeconfigError};

/// The variable that lists kubeconfig files.
const VARIABLE: &str = "KUBECONFIG";

/// Reads the kubeconfig at `path`, or else those that the environment names.
///
/// # Errors
/// As for [`of_files`].
pub(crate) fn read(path: Option<&PathBuf>) -> Result<Kubeconfig, KubeconfigError> {
    if let Some(path) = path {
        return Kubeconfig::read_from(path);
    }
    let listed = listed(std::env::var_os(VARIABLE).as_deref());
    if listed.is_empty() { Kubeconfig::read() } else { of_files(&listed) }
}

/// Returns the files that the variable lists.
fn listed(variable: Option<&OsStr>) -> Vec<PathBuf> {
    let files = variable.into_iter().flat_map(std::env::split_paths);
    files.filter(|path| !path.as_os_str().is_empty()).collect()
}

/// Reads and merges kubeconfig files. Those that do not exist are left out, as long as one does
/// (client-go, `ClientConfigLoadingRules.Load`).
///
/// # Errors
/// The first file that cannot be read, or that does not exist where none does.
fn of_files(files: &[PathBuf]) -> Result<Kubeconfig, KubeconfigError> {
    let mut merged: Option<Kubeconfig> = None;
    let mut missing = None;
    for file in files {
        match Kubeconfig::read_from(file) {
            Ok(mut next) => {
                // `kubectl config` writes an empty name for none.
                next.current_context = next.current_context.filter(|name| !name.is_empty());
                merged = Some(match merged {
                    Some(before) => before.merge(next)?,
                    None => next,
                });
            }
            Err(error) if super::is_missing(&error) => {
                missing.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    merged.ok_or_else(|| missing.unwrap_or(KubeconfigError::FindPath))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_file_of_a_list_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: here\n";
        std::fs::write(path("one.yaml"), text).unwrap();
        std::fs::write(path("broken.yaml"), "clusters: 1\n").unwrap();
        let read = |names: &[&str]| of_files(&names.iter().map(|it| path(it)).collect::<Vec<_>>());
        for names in [&["one.yaml", "gone.yaml"][..], &["gone.yaml", "one.yaml"], &["one.yaml"]] {
            let context = read(names).unwrap().current_context;
            assert_eq!(context.as_deref(), Some("here"), "{names:?}");
        }
        let why = read(&["gone.yaml", "away.yaml"]).unwrap_err();
        assert!(
            matches!(&why, KubeconfigError::ReadConfig(_, file) if file.ends_with("gone.yaml"))
        );
        assert!(read(&["one.yaml", "broken.yaml"]).is_err(), "a file that is there must be sound");
    }

    #[test]
    fn empty_entries_name_no_file() {
        assert_eq!(listed(None), Vec::<PathBuf>::new());
        assert_eq!(listed(Some(OsStr::new(""))), Vec::<PathBuf>::new());
        let list = std::env::join_paths(["a", "", "b"]).unwrap();
        assert_eq!(listed(Some(&list)), [PathBuf::from("a"), PathBuf::from("b")]);
    }
}
