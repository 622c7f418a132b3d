//! One row of the matrix: the same input through both programs.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{LazyLock, Mutex};

use pgscale_tests::programs::Programs;
use pgscale_tests::tools::Tools;

use crate::proxy::{self, Manner};
use crate::server::{Authority, Log, NAMES, api_server, tls};

/// What one program did.
#[derive(Debug, PartialEq, Eq)]
struct Deed {
    succeeded: bool,
    asked: BTreeSet<String>,
}

/// A place for the files of one test, with a server and its authority.
pub(crate) struct Stage {
    folder: tempfile::TempDir,
    pub(crate) authority: Authority,
    pub(crate) log: Log,
    /// The usual API server.
    pub(crate) server: SocketAddr,
    /// What is not equal, for one report at the end.
    wrong: Mutex<Vec<String>>,
}

/// The input of one row, beside the files on the stage.
#[derive(Default)]
pub(crate) struct Input<'a> {
    pub(crate) environment: Vec<(&'a str, String)>,
    pub(crate) flags: Vec<String>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let authority = Authority::new("test-ca");
        let log = Log::default();
        let tls = tls(&authority.server(&NAMES), Some(&authority));
        let server = api_server("server", Some(tls), Log::clone(&log));
        let folder = tempfile::tempdir().unwrap();
        Self { folder, authority, log, server, wrong: Mutex::default() }
    }

    /// Returns the path of a file on the stage.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Starts a proxy in front of the usual server.
    pub(crate) fn proxy(&self, name: &'static str, manner: Manner) -> SocketAddr {
        proxy::start(name, manner, self.server, Log::clone(&self.log))
    }

    /// Returns the usual cluster entry: the address of the server as `host` names it, and its
    /// authority.
    pub(crate) fn cluster(&self, host: &str) -> String {
        format!(
            "server: 'https://{host}:{}', certificate-authority-data: {}",
            self.server.port(),
            base64(&self.authority.certificate)
        )
    }

    /// Holds that both programs do the same with the kubeconfig `text`, and that it `works` or not.
    pub(crate) fn with(&self, row: &str, works: bool, text: &str) {
        self.row(row, works, text, Input::default());
    }

    /// The same, with flags.
    pub(crate) fn flags(&self, row: &str, works: bool, text: &str, flags: &[&str]) {
        let flags = flags.iter().map(ToString::to_string).collect();
        self.row(row, works, text, Input { flags, ..Input::default() });
    }

    /// The same, with variables of the environment.
    pub(crate) fn environment(&self, row: &str, works: bool, text: &str, all: &[(&str, String)]) {
        let environment = all.to_vec();
        self.row(row, works, text, Input { environment, ..Input::default() });
    }

    fn row(&self, row: &str, works: bool, text: &str, mut input: Input<'_>) {
        let file = self.file("kubeconfig", text);
        input.environment.push(("KUBECONFIG", file));
        self.compare(row, works, &input);
    }

    /// Holds the same for an input with files of its own.
    pub(crate) fn compare(&self, row: &str, works: bool, input: &Input<'_>) {
        let path = "/apis/acid.zalan.do/v1/namespaces/shop/postgresqls";
        let (kubectl, plugin) = programs();
        let (theirs, their_words) = self.run(kubectl, &["get", "--raw", path], input);
        let (ours, our_words) = self.run(plugin, &["status", "-n", "shop"], input);
        if ours != theirs || ours.succeeded != works {
            self.wrong.lock().unwrap().push(format!(
                "{row} (to work: {works})\n  kubectl: {theirs:?}\n    {their_words}\n  pgscale: {ours:?}\n    {our_words}"
            ));
        }
    }

    fn run(&self, program: &Path, words: &[&str], input: &Input<'_>) -> (Deed, String) {
        self.log.lock().unwrap().clear();
        let output = Command::new(program)
            .args(words)
            .args(["--request-timeout=3s"])
            .args(&input.flags)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path().join("home"))
            .envs(input.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let Output { status, stderr, .. } = output;
        let asked = self.log.lock().unwrap().iter().cloned().collect();
        let words = String::from_utf8_lossy(&stderr).trim().replace('\n', "\n    ");
        (Deed { succeeded: status.success(), asked }, words)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let wrong = self.wrong.lock().unwrap();
        if !std::thread::panicking() {
            assert!(wrong.is_empty(), "{} rows differ:\n{}", wrong.len(), wrong.join("\n"));
        }
    }
}

/// Returns a kubeconfig of one cluster, one user and one context.
pub(crate) fn kubeconfig(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: c, cluster: {{{cluster}}}}}]\n\
         users: [{{name: u, user: {{{user}}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c, user: u, namespace: shop}}}}]\n"
    )
}

/// Returns a text as Base64.
pub(crate) fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Returns the real kubectl and our own program.
///
/// # Panics
/// Where one of them cannot be built.
pub(crate) fn programs() -> &'static (PathBuf, PathBuf) {
    static PROGRAMS: LazyLock<(PathBuf, PathBuf)> =
        LazyLock::new(|| (Tools::kubectl().unwrap(), Programs::build().unwrap().plugin));
    &PROGRAMS
}
