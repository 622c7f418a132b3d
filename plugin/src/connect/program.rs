//! Credentials from a program that the kubeconfig names (`exec`).
//!
//! The rules are those of client-go (plugin/pkg/client/auth/exec/exec.go): the program runs once
//! and again when its credentials have expired, writes to our stderr, reads from our stdin only
//! where that is a terminal, and its stdout is read and never shown. kube runs it once for each
//! part of a connection, and its errors show stdout and the environment.

use std::io::IsTerminal as _;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;

use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request};
use k8s_openapi::jiff::Timestamp;
use kube::config::{ExecConfig, ExecInteractiveMode};
use pgscale_guard::printable::printable;
use serde::{Deserialize, Deserializer};
use serde_json::json;
use tokio::sync::Mutex;
use tower::BoxError;
use tower::filter::AsyncPredicate;

use crate::error::NoCredentials;

/// The variable with the question to the program.
const QUESTION: &str = "KUBERNETES_EXEC_INFO";

/// The credentials that a program gave.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Given {
    #[serde(default)]
    expiration_timestamp: Option<Timestamp>,
    #[serde(default, deserialize_with = "text")]
    token: String,
    #[serde(default, deserialize_with = "text")]
    client_certificate_data: String,
    #[serde(default, deserialize_with = "text")]
    client_key_data: String,
}

/// Reads a text. `null` is an empty one.
fn text<'a, D: Deserializer<'a>>(from: D) -> Result<String, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// The answer of a program.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    status: Option<Given>,
}

/// A client certificate with its key, PEM.
pub(super) struct Certificate {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// A program with the credentials that it gave last.
pub(super) struct Program {
    config: ExecConfig,
    attended: bool,
    given: Given,
}

impl Program {
    /// Runs the program of `config`.
    ///
    /// `attended` where a person is there, who may answer it and see its stderr.
    pub(super) fn run(config: ExecConfig, attended: bool) -> Result<Self, NoCredentials> {
        let given = run(&config, attended)?;
        Ok(Self { config, attended, given })
    }

    /// Returns the client certificate, if it gave one.
    pub(super) fn certificate(&self) -> Option<Certificate> {
        let Given { client_certificate_data, client_key_data, .. } = &self.given;
        (!client_certificate_data.is_empty()).then(|| Certificate {
            certificate: client_certificate_data.clone(),
            key: client_key_data.clone(),
        })
    }

    fn has_expired(&self) -> bool {
        self.given.expiration_timestamp.is_some_and(|end| Timestamp::now() > end)
    }
}

/// The token of a program for each request.
#[derive(Clone)]
pub(super) struct Tokens(Arc<Mutex<Program>>);

impl Tokens {
    pub(super) fn of(program: Program) -> Self {
        Self(Arc::new(Mutex::new(program)))
    }
}

impl<B: Send + 'static> AsyncPredicate<Request<B>> for Tokens {
    type Future = BoxFuture<'static, Result<Request<B>, BoxError>>;
    type Request = Request<B>;

    fn check(&mut self, mut request: Request<B>) -> Self::Future {
        let program = Arc::clone(&self.0);
        Box::pin(async move {
            let mut program = program.lock().await;
            if program.has_expired() {
                let (config, attended) = (program.config.clone(), program.attended);
                // It may wait for a person.
                let given = tokio::task::spawn_blocking(move || run(&config, attended)).await?;
                program.given = given?;
            }
            if !program.given.token.is_empty() {
                let mut value =
                    HeaderValue::try_from(format!("Bearer {}", program.given.token.trim()))?;
                value.set_sensitive(true);
                request.headers_mut().insert(AUTHORIZATION, value);
            }
            Ok(request)
        })
    }
}

/// Runs the program and reads its answer.
fn run(config: &ExecConfig, attended: bool) -> Result<Given, NoCredentials> {
    let name = config.command.as_deref().unwrap_or_default();
    let arguments = config.args.as_deref().unwrap_or_default();
    let shown = shown(name, arguments);
    let terminal = attended && std::io::stdin().is_terminal();
    let interactive = match config.interactive_mode {
        Some(ExecInteractiveMode::Never) => false,
        Some(ExecInteractiveMode::Always) if !terminal => {
            let why = "it needs a person, and standard input is not a terminal";
            return Err(NoCredentials::new(format!("`{shown}` was not run: {why}")));
        }
        Some(ExecInteractiveMode::Always | ExecInteractiveMode::IfAvailable) | None => terminal,
    };
    let mut command = Command::new(name);
    command.args(arguments);
    for variable in config.env.iter().flatten() {
        if let (Some(name), Some(value)) = (variable.get("name"), variable.get("value")) {
            command.env(name, value);
        }
    }
    let mut spec = json!({"interactive": interactive});
    if let (true, Some(cluster), Some(spec)) =
        (config.provide_cluster_info, &config.cluster, spec.as_object_mut())
    {
        spec.insert("cluster".to_owned(), json!(cluster));
    }
    let question =
        json!({"apiVersion": config.api_version, "kind": "ExecCredential", "spec": spec});
    command
        .env(QUESTION, question.to_string())
        .stdin(if interactive { Stdio::inherit() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(if attended { Stdio::inherit() } else { Stdio::null() });
    let output = command.spawn().and_then(std::process::Child::wait_with_output);
    let output = output.map_err(|error| NoCredentials {
        why: format!("`{shown}` cannot be run: {error}"),
        hint: config.install_hint.as_deref().map(printable),
    })?;
    if !output.status.success() {
        return Err(NoCredentials::new(format!("`{shown}` {}", ended(output.status))));
    }
    understood(&output.stdout, config.api_version.as_deref().unwrap_or_default())
        .map_err(|why| NoCredentials::new(format!("the output of `{shown}` {why}")))
}

/// Returns the command as a person would type it, without the values that may be secrets.
fn shown(name: &str, arguments: &[String]) -> String {
    let mut words = vec![name.to_owned()];
    let mut secret = false;
    for word in arguments {
        let (flag, value) =
            word.split_once('=').map_or((word.as_str(), None), |(flag, value)| (flag, Some(value)));
        let named = flag.starts_with('-') && is_secret(flag);
        words.push(match value {
            _ if secret => HIDDEN.to_owned(),
            Some(_) if named => format!("{flag}={HIDDEN}"),
            _ => word.clone(),
        });
        secret = named && value.is_none();
    }
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| name.to_owned())
}

/// Stands for a value that is not shown.
const HIDDEN: &str = "...";

/// Returns whether the value of this flag may be a secret.
fn is_secret(flag: &str) -> bool {
    let flag = flag.to_ascii_lowercase();
    ["secret", "token", "password", "passwd", "key", "credential", "assertion"]
        .iter()
        .any(|word| flag.contains(word))
}

/// Returns the end of a program in words.
fn ended(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("failed with exit code {code}"),
        None => "was ended by a signal".to_owned(),
    }
}

/// Reads the answer of a program. The error never quotes it: it may hold a secret.
fn understood(stdout: &[u8], version: &str) -> Result<Given, String> {
    // client-go reads YAML, too.
    let answer: Answer =
        serde_saphyr::from_slice(stdout).map_err(|_| "is no ExecCredential".to_owned())?;
    if answer.api_version != version {
        return Err(format!(
            "has another apiVersion than {version}, which the kubeconfig asks for"
        ));
    }
    let given = answer.status.ok_or("has no status")?;
    let (certificate, key) = (&given.client_certificate_data, &given.client_key_data);
    match (given.token.is_empty(), certificate.is_empty(), key.is_empty()) {
        (true, true, true) => Err("has neither a token nor a certificate".to_owned()),
        (_, true, false) => Err("has a key without a certificate".to_owned()),
        (_, false, true) => Err("has a certificate without its key".to_owned()),
        _ => Ok(given),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    const VERSION: &str = "client.authentication.k8s.io/v1";

    fn program(script: &str) -> ExecConfig {
        ExecConfig {
            api_version: Some(VERSION.to_owned()),
            command: Some("sh".to_owned()),
            args: Some(vec!["-c".to_owned(), script.to_owned()]),
            ..ExecConfig::default()
        }
    }

    fn answer(status: &str) -> String {
        format!(r#"{{"apiVersion":"{VERSION}","kind":"ExecCredential","status":{status}}}"#)
    }

    fn failed(script: &str) -> String {
        match Program::run(program(script), false) {
            Ok(_) => "no error".to_owned(),
            Err(error) => error.failure("list postgresql clusters").to_string(),
        }
    }

    #[test]
    fn secrets_among_the_arguments_of_a_program_are_not_shown() {
        let words = |all: &[&str]| {
            let all: Vec<String> = all.iter().map(|&word| word.to_owned()).collect();
            shown("kubelogin", &all)
        };
        assert_eq!(
            words(&["get-token", "--oidc-client-secret=s3cret", "--token", "s3cret", "--user=a"]),
            "kubelogin get-token '--oidc-client-secret=...' --token ... '--user=a'"
        );
    }

    #[test]
    fn failing_credential_program_is_named_and_its_stdout_is_never_shown() {
        insta::assert_snapshot!(failed("printf 's3%s' cret; exit 3"), @r#"
        error: failed to list postgresql clusters: the credentials could not be obtained: `sh -c "printf 's3%s' cret; exit 3"` failed with exit code 3
        hint: log in again, or check the user of the context:
            kubectl config view --minify
        "#);
        let text = failed("printf 's3%s' cret; kill -9 $$");
        assert!(text.contains("was ended by a signal") && !text.contains("s3cret"), "{text}");
        let missing = ExecConfig {
            command: Some("/nowhere/login".to_owned()),
            install_hint: Some("install it with brew".to_owned()),
            ..program("")
        };
        let Err(error) = Program::run(missing, false) else { panic!("it ran") };
        insta::assert_snapshot!(error.failure("read"), @"
        error: failed to read: the credentials could not be obtained: `/nowhere/login -c ''` cannot be run: No such file or directory (os error 2)
        hint: install it with brew
        hint: log in again, or check the user of the context:
            kubectl config view --minify
        ");
    }

    #[test]
    fn answer_that_cannot_be_used_is_never_quoted() {
        for (stdout, why) in [
            ("s3cret", "is no ExecCredential"),
            ("", "has another apiVersion"),
            (r#"{"apiVersion":"v1","status":{"token":"s3cret"}}"#, "has another apiVersion"),
            (&answer("null"), "has no status"),
            (&answer("{}"), "has neither a token nor a certificate"),
            (&answer(r#"{"clientKeyData":"s3cret"}"#), "has a key without a certificate"),
        ] {
            let Err(error) = understood(stdout.as_bytes(), VERSION) else { panic!("{stdout}") };
            assert!(error.contains(why) && !error.contains("s3cret"), "{stdout} -> {error}");
        }
    }

    #[tokio::test]
    async fn program_runs_again_only_when_its_credentials_have_expired() {
        for (end, runs) in [("2100-01-01T00:00:00Z", 1), ("2020-01-01T00:00:00Z", 3)] {
            let folder = tempfile::tempdir().unwrap();
            let log = folder.path().join("log");
            let status = format!(r#"{{"token":"t","expirationTimestamp":"{end}"}}"#);
            let script = format!("echo run >> {}; echo '{}'", log.display(), answer(&status));
            let mut tokens = Tokens::of(Program::run(program(&script), false).unwrap());
            for _ in 0..2 {
                let request = tokens.check(Request::new(())).await.unwrap();
                assert_eq!(request.headers()[AUTHORIZATION], "Bearer t");
            }
            assert_eq!(std::fs::read_to_string(&log).unwrap().lines().count(), runs, "{end}");
        }
    }
}
