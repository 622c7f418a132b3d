//! Files of the repository that are generated from the code, and the one command that writes them.
//!
//! The tests of all three crates include this file by its path: a test helper is no part of the
//! guard, and a feature for it would build the guard twice.

use std::env;
use std::fs;
use std::path::Path;

/// The command that writes every generated file.
const COMMAND: &str = "UPDATE=1 cargo unit";

/// Checks that the file at `path`, relative to the root of the repository, equals `wanted` by
/// `same`. With `UPDATE=1` in the environment, writes it instead.
///
/// The update passes, so that one run reaches the generated files of every crate.
pub(crate) fn check(path: &str, wanted: &str, same: impl Fn(&str, &str) -> bool) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    let stored = fs::read_to_string(&file).unwrap_or_default();
    if same(&stored, wanted) {
        return;
    }
    assert!(
        env::var_os("UPDATE").is_some_and(|value| value == "1"),
        "{path} is not what the code generates now; write it with:\n{COMMAND}"
    );
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, wanted).unwrap();
}
