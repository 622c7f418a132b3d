//! The cache of built programs: by content, readable to every user, one builder at a time.

use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use ring::digest::{Context, SHA256};

use crate::progress::say;

/// Root's cache, which every user may read.
const SHARED: &str = "/var/cache/pgscale";
/// The bytes of a digest that distinguish entries.
const KEY_BYTES: usize = 6;

/// Returns the cache to which this user writes: `$PGSCALE_CACHE`, else root's shared one, else
/// below `$XDG_CACHE_HOME` or `~/.cache`.
///
/// # Errors
/// Fails when none of these variables is set.
pub fn directory() -> Result<PathBuf> {
    chosen(|name| env::var_os(name).map(PathBuf::from), rustix::process::geteuid().is_root())
        .ok_or_else(|| anyhow!("no place for the cache: set PGSCALE_CACHE or HOME"))
}

fn chosen(variable: impl Fn(&str) -> Option<PathBuf>, root: bool) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.as_os_str().is_empty());
    set("PGSCALE_CACHE")
        .or_else(|| root.then(|| SHARED.into()))
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("pgscale")))
        .or_else(|| Some(set("HOME")?.join(".cache/pgscale")))
}

/// Returns the finished entry called `name`, from this user's cache or the shared one. If there is
/// none yet, `make` makes it in a new directory.
///
/// Processes make entries one after the other. An entry is complete or does not exist: it is
/// renamed into place at the end.
///
/// # Errors
/// Fails when the cache cannot be written, or `make` fails.
pub fn entry(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let own = directory()?;
    if let Some(found) = find(name, &own) {
        return Ok(found);
    }
    fs::create_dir_all(&own).with_context(|| unwritable(&own))?;
    let _one_at_a_time = lock(&own)?;
    // Another process may have made the entry while this one waited for the lock.
    if let Some(found) = find(name, &own) {
        return Ok(found);
    }
    let making = tempfile::Builder::new()
        .prefix(".making-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(&own)
        .with_context(|| unwritable(&own))?;
    make(making.path())?;
    let finished = own.join(name);
    fs::rename(making.path(), &finished)
        .with_context(|| format!("failed to move {name} into the cache"))?;
    // The directory was renamed, so nothing is left to remove.
    _ = making.keep();
    Ok(finished)
}

/// Returns a short name for the inputs of an entry: equal inputs, equal name.
pub fn key<'a>(inputs: impl IntoIterator<Item = &'a str>) -> String {
    let mut context = Context::new(&SHA256);
    for input in inputs {
        context.update(&input.len().to_le_bytes());
        context.update(input.as_bytes());
    }
    let digest = context.finish();
    let (short, _) = digest.as_ref().split_at(KEY_BYTES);
    short.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

fn find(name: &str, own: &Path) -> Option<PathBuf> {
    [own, Path::new(SHARED)].map(|cache| cache.join(name)).into_iter().find(|path| path.is_dir())
}

/// Waits until no other process makes an entry.
fn lock(own: &Path) -> Result<File> {
    let path = own.join("lock");
    let file = File::create(&path).with_context(|| unwritable(own))?;
    if file.try_lock().is_err() {
        say(&format!("waiting for another process that fills {} …", own.display()));
        file.lock().with_context(|| format!("failed to lock {}", path.display()))?;
    }
    Ok(file)
}

fn unwritable(own: &Path) -> String {
    format!("failed to write to the cache {}; choose another with PGSCALE_CACHE", own.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_chosen_by_environment_and_account() {
        let environment = |pairs: &'static [(&str, &str)]| {
            move |name: &str| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value))
            }
        };
        let home = &[("HOME", "/home/a"), ("PGSCALE_CACHE", "")];
        let xdg = &[("HOME", "/home/a"), ("XDG_CACHE_HOME", "/home/a/c")];
        let own = &[("HOME", "/home/a"), ("PGSCALE_CACHE", "/c")];
        assert_eq!(chosen(environment(home), false), Some("/home/a/.cache/pgscale".into()));
        assert_eq!(chosen(environment(xdg), false), Some("/home/a/c/pgscale".into()));
        assert_eq!(chosen(environment(own), true), Some("/c".into()));
        assert_eq!(chosen(environment(home), true), Some(SHARED.into()));
        assert_eq!(chosen(environment(&[]), false), None);
    }

    #[test]
    fn keys_distinguish_inputs_and_their_borders() {
        assert_eq!(key(["ab", "c"]), key(["ab", "c"]));
        assert_ne!(key(["ab", "c"]), key(["a", "bc"]));
        assert_eq!(key(["ab"]).len(), 12);
    }
}
