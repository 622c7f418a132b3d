//! The log of the kubelet's actions and errors, one line each.

use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use k8s_openapi::jiff::Timestamp;

/// A log file.
#[derive(Debug)]
pub(super) struct Journal(Mutex<File>);

impl Journal {
    /// Opens `path` to append, and creates it if needed.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(path);
        Ok(Self(Mutex::new(file.with_context(|| format!("failed to open {}", path.display()))?)))
    }

    /// Adds a line. An error is ignored, because a full disk has other causes.
    pub(super) fn write(&self, line: fmt::Arguments<'_>) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        _ = writeln!(file, "{} {line}", Timestamp::now());
    }
}
