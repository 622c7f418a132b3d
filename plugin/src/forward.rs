//! The way to the members: through the API server, because a person's machine seldom reaches pods.
//!
//! Port-forward comes first. A user who may not port-forward but may exec gets the answer through
//! exec, with the `curl` of the Spilo images.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::AttachParams;
use kube::client::UpgradeConnectionError;
use kube::{Api, Client};
use pgscale_guard::duration::exact;
use pgscale_guard::read::{Address, MemberClient, RestRequest, RestResponse, exchange_over};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use crate::error::chain;
use crate::exec::{Exec, ExecError, ended};

/// The container that runs Patroni and PostgreSQL (`constants.PostgresContainerName` of the
/// operator).
const CONTAINER: &str = "postgres";

/// A client that asks members through the API server.
#[derive(Clone)]
pub(crate) struct Forward {
    client: Client,
}

impl Forward {
    /// Goes through `client`'s API server, as its user.
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn forwarded(
        &self,
        pod: &Address,
        request: &RestRequest,
    ) -> Result<RestResponse, Refused> {
        let port = pod.port.clone().map_err(Refused::Otherwise)?;
        let mut forwarder = self
            .pods(&pod.namespace)
            .portforward(&pod.pod, &[port])
            .await
            .map_err(|error| Refused::of(&error, "pods/portforward"))?;
        let stream = forwarder
            .take_stream(port)
            .ok_or_else(|| Refused::Otherwise("the port-forward has no stream".to_owned()))?;
        let trouble = forwarder.take_error(port);
        let host = format!("{}:{port}", pod.ip.as_deref().unwrap_or("localhost"));
        let answer = exchange_over(stream, &host, request).await;
        let answer = match (answer, trouble) {
            // The pod's end of the forward reports more than "connection closed".
            (Err(why), Some(trouble)) => match trouble.now_or_never().flatten() {
                Some(trouble) => Err(Refused::Otherwise(last_words(&trouble))),
                None => Err(Refused::Otherwise(why)),
            },
            (answer, _) => answer.map_err(Refused::Otherwise),
        };
        forwarder.abort();
        answer
    }

    async fn executed(
        &self,
        pod: &Address,
        request: &RestRequest,
    ) -> Result<RestResponse, Refused> {
        let port = pod.port.clone().map_err(Refused::Otherwise)?;
        let host = pod.ip.as_deref().unwrap_or("localhost");
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let mut command = vec![
            "curl".to_owned(),
            "--silent".to_owned(),
            "--show-error".to_owned(),
            format!("--max-time={}", request.timeout.as_secs().max(1)),
            format!("--request={}", request.method),
            "--write-out=\n%{http_code}".to_owned(),
        ];
        if let Some(body) = &request.body {
            command.push("--header=Content-Type: application/json".to_owned());
            command.push(format!("--data={body}"));
        }
        command.push(format!("http://{host}:{port}{}", request.path));
        let output = self.execute(pod, &command).await?;
        let (body, status) = output
            .rsplit_once('\n')
            .ok_or_else(|| Refused::Otherwise(format!("exec answered {output:?}")))?;
        let status = status
            .trim()
            .parse()
            .map_err(|_| Refused::Otherwise(format!("exec answered the status {status:?}")))?;
        Ok(RestResponse { status, body: body.to_owned() })
    }

    /// Runs a command in the PostgreSQL container, and returns its output where it succeeds.
    async fn execute(&self, pod: &Address, command: &[String]) -> Result<String, Refused> {
        let how = AttachParams::default().container(CONTAINER).stdin(false);
        let mut process = self
            .pods(&pod.namespace)
            .exec(&pod.pod, command, &how)
            .await
            .map_err(|error| Refused::of(&error, "pods/exec"))?;
        let (mut printed, mut errors) = (String::new(), String::new());
        let (stdout, stderr) = (process.stdout(), process.stderr());
        let read_out = async {
            match stdout {
                Some(mut stdout) => stdout.read_to_string(&mut printed).await.map(drop),
                None => Ok(()),
            }
        };
        let read_err = async {
            match stderr {
                Some(mut stderr) => stderr.read_to_string(&mut errors).await.map(drop),
                None => Ok(()),
            }
        };
        let (out, err) = futures::join!(read_out, read_err);
        out.and(err).map_err(|error| Refused::Otherwise(format!("exec broke off: {error}")))?;
        let status = match process.take_status() {
            Some(status) => status.await,
            None => None,
        };
        match status {
            Some(status) if status.status.as_deref() == Some("Success") => Ok(printed),
            status => {
                let last = errors.trim().lines().last().unwrap_or_default().to_owned();
                let code = status.as_ref().and_then(exit_code);
                let message = status.and_then(|status| status.message).unwrap_or_default();
                Err(Refused::Ended(code, if last.is_empty() { message } else { last }))
            }
        }
    }
}

impl MemberClient for Forward {
    fn exchange<'a>(
        &'a self,
        pod: &'a Address,
        request: RestRequest,
    ) -> BoxFuture<'a, Result<RestResponse, String>> {
        async move {
            let patience = request.timeout;
            let work = async {
                match self.forwarded(pod, &request).await {
                    Err(Refused::Permission(first)) => match self.executed(pod, &request).await {
                        Err(Refused::Permission(second)) => {
                            Err(format!("neither {first} nor {second} is permitted"))
                        }
                        Err(Refused::Ended(_, why) | Refused::Otherwise(why)) => {
                            Err(format!("{first} is not permitted, and exec failed: {why}"))
                        }
                        Ok(answer) => Ok(answer),
                    },
                    Err(Refused::Ended(_, why) | Refused::Otherwise(why)) => Err(why),
                    Ok(answer) => Ok(answer),
                }
            };
            timeout(patience, work)
                .await
                .unwrap_or_else(|_| Err(format!("timed out after {}", exact(patience))))
        }
        .boxed()
    }
}

impl Exec for Forward {
    fn run<'a>(
        &'a self,
        pod: &'a Address,
        command: Vec<String>,
        patience: Duration,
    ) -> BoxFuture<'a, Result<String, ExecError>> {
        async move {
            match timeout(patience, self.execute(pod, &command)).await {
                Ok(Ok(printed)) => Ok(printed),
                Ok(Err(Refused::Permission(what))) => Err(ExecError::Forbidden(what)),
                Ok(Err(Refused::Ended(code, why))) => Err(ended(&command, code, why)),
                Ok(Err(Refused::Otherwise(why))) => Err(ExecError::Failed(why)),
                Err(_) => Err(ExecError::Failed(format!("not done within {}", exact(patience)))),
            }
        }
        .boxed()
    }
}

/// The reason for which there was no answer.
enum Refused {
    /// The permission for this subresource is missing.
    Permission(String),
    /// The program ended with this code, and said this.
    Ended(Option<i32>, String),
    /// Any other reason.
    Otherwise(String),
}

impl Refused {
    fn of(error: &kube::Error, subresource: &str) -> Self {
        let by_status = matches!(error, kube::Error::Api(status) if status.is_forbidden());
        let by_upgrade = matches!(
            error,
            kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(
                http::StatusCode::FORBIDDEN
            ))
        );
        if by_status || by_upgrade {
            Self::Permission(subresource.to_owned())
        } else {
            Self::Otherwise(chain(error))
        }
    }
}

/// Returns the code with which a program in a container ended (`k8s.io/client-go/util/exec`).
fn exit_code(status: &Status) -> Option<i32> {
    let causes = &status.details.as_ref()?.causes.as_ref()?[..];
    let code = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"))?;
    code.message.as_ref()?.parse().ok()
}

/// Returns the end of "error forwarding port 8008 to pod …: … : connect: connection refused".
fn last_words(trouble: &str) -> String {
    let trouble = trouble.trim();
    if trouble.contains("connection refused") {
        return "connection refused".to_owned();
    }
    trouble.rsplit(": ").next().unwrap_or(trouble).to_owned()
}
