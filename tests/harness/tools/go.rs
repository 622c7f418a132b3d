//! Builds with the Go toolchain, outside of the checkout so that nothing in it changes.

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use super::modules::Module;
use crate::progress::Step;

/// The number of the compiler's last lines in an error.
const TAIL: usize = 15;

/// A module in a directory of its own.
pub(super) struct Workspace {
    directory: TempDir,
}

impl Workspace {
    pub(super) fn new(module: &Module) -> Result<Self> {
        let directory = tempfile::tempdir().context("failed to make a temporary directory")?;
        for (name, text) in [("go.mod", module.requirements), ("go.sum", module.checksums)] {
            fs::write(directory.path().join(name), text)
                .with_context(|| format!("failed to write {name}"))?;
        }
        Ok(Self { directory })
    }

    /// Builds `package` into the file `program`: static, and the same on every machine.
    pub(super) fn build(
        &self,
        package: &str,
        linker_flags: &str,
        program: &Path,
        step: &Step,
    ) -> Result<()> {
        let mut compiler = self
            .go()
            .env("CGO_ENABLED", "0")
            .args(["build", "-v", "-trimpath", "-mod=readonly", "-buildvcs=false"])
            .args(["-ldflags", linker_flags, "-o"])
            .args([program.as_os_str(), package.as_ref()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(not_installed)?;
        let stderr = compiler.stderr.take().context("go has no stderr")?;
        let mut said = Vec::new();
        let mut packages = 0;
        for line in BufReader::new(stderr).lines() {
            let line = line.context("failed to read the output of go")?;
            if !line.contains(' ') {
                // With -v, go names each package that it compiles.
                packages += 1;
                step.detail(&format!("{packages} packages compiled"));
            }
            said.push(line);
        }
        let status = compiler.wait().context("failed to wait for go")?;
        let tail = said.get(said.len().saturating_sub(TAIL)..).unwrap_or_default().join("\n  ");
        ensure!(status.success(), "`go build {package}` failed ({status}):\n  {tail}");
        Ok(())
    }

    /// Returns the directory of the module at `path` in the Go module cache.
    pub(super) fn directory_of(&self, path: &str) -> Result<PathBuf> {
        let found = self
            .go()
            .args(["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", path])
            .output()
            .map_err(not_installed)?;
        let directory = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        if !found.status.success() || directory.is_empty() {
            let stderr = String::from_utf8_lossy(&found.stderr);
            bail!("`go list -m {path}` failed: {}", stderr.trim());
        }
        Ok(directory.into())
    }

    fn go(&self) -> Command {
        let mut go = Command::new("go");
        // A go.work of the caller must not change the build.
        go.current_dir(self.directory.path()).env("GOWORK", "off").stdin(Stdio::null());
        go
    }
}

fn not_installed(error: std::io::Error) -> anyhow::Error {
    if error.kind() == ErrorKind::NotFound {
        return anyhow::anyhow!(
            "the test bed builds Kubernetes and the operator with Go 1.26 or newer, and `go` is \
             not in PATH; install it from https://go.dev/dl or with your package manager"
        );
    }
    anyhow::Error::new(error).context("failed to run go")
}
