//! A program whose stderr is read line by line, so that a test can act at a certain line.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::bed::Said;

/// A running program. It is killed when this is dropped.
#[derive(Debug)]
pub struct Followed {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    seen: String,
}

impl Followed {
    /// Starts `command`. Its stdout is kept for the end, and must fit into a pipe until then.
    ///
    /// # Errors
    /// Fails when it cannot be started.
    pub fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("failed to start {:?}", command.as_std()))?;
        let stderr = child.stderr.take().context("the program has no stderr")?;
        Ok(Self { child, lines: BufReader::new(stderr).lines(), seen: String::new() })
    }

    /// Reads until a line of stderr is the awaited one. Returns whether such a line came before the
    /// end.
    ///
    /// # Errors
    /// Fails when its stderr cannot be read.
    pub async fn says(&mut self, awaited: impl Fn(&str) -> bool) -> Result<bool> {
        while let Some(line) = self.line().await? {
            if awaited(&line) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Kills the program without a chance to clean up (SIGKILL).
    ///
    /// # Errors
    /// Fails when its end cannot be observed.
    pub async fn kill(mut self) -> Result<Said> {
        self.child.kill().await.context("failed to kill the program")?;
        self.end().await
    }

    /// Waits for the end of the program.
    ///
    /// # Errors
    /// Fails when its end cannot be observed, or its output is not text.
    pub async fn end(mut self) -> Result<Said> {
        while self.line().await?.is_some() {}
        let mut stdout = String::new();
        if let Some(mut pipe) = self.child.stdout.take() {
            pipe.read_to_string(&mut stdout).await.context("failed to read stdout")?;
        }
        let status = self.child.wait().await.context("failed to wait for the program")?;
        Ok(Said { stdout, stderr: self.seen, code: status.code() })
    }

    /// Reads the next line of stderr. Returns `None` at its end.
    ///
    /// # Errors
    /// Fails when its stderr cannot be read.
    pub async fn line(&mut self) -> Result<Option<String>> {
        let line = self.lines.next_line().await.context("failed to read stderr")?;
        if let Some(line) = &line {
            self.seen.push_str(line);
            self.seen.push('\n');
        }
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Followed {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Followed::start(command).unwrap()
    }

    #[tokio::test]
    async fn lines_are_read_as_they_are_written() {
        let mut program = shell("echo one >&2; echo 'and two' >&2; echo out; exit 3");
        assert!(program.says(|line| line.contains("two")).await.unwrap());
        assert!(!program.says(|line| line.contains("three")).await.unwrap());
        let said = program.end().await.unwrap();
        assert_eq!((said.code, said.stdout.as_str()), (Some(3), "out\n"));
        assert_eq!(said.stderr, "one\nand two\n");
    }

    #[tokio::test]
    async fn a_killed_program_leaves_no_exit_code() {
        let mut program = shell("echo ready >&2; exec sleep 60");
        assert!(program.says(|line| line == "ready").await.unwrap());
        assert_eq!(program.kill().await.unwrap().code, None);
    }
}
