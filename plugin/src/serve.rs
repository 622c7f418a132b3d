//! The HTTP API of `kubectl pgscale serve`: the same acts as on the command line, for programs.
//!
//! Nothing is judged here. A request becomes a command line (`verbs`), and runs in the name of its
//! caller (`callers`): the API server's own permissions decide what each one may do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use pgscale_guard::remedy::Command;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use self::app::App;
use self::callers::{Caller, Callers as _, To};
use self::listen::{Limits, Port, Tls};
use self::names::Naming;
use self::operations::Operation;
use self::routes::router;
use crate::commands::serve::Args;
use crate::connect::clock::server_time;
use crate::connect::{Flags, Way};
use crate::error::{Failure, Kind};
use crate::session::{Interruption, chance};
use crate::terminal::Output;

mod answers;
mod app;
mod body;
mod callers;
mod changes;
mod fence;
mod following;
mod listen;
mod metrics;
mod names;
#[cfg(test)]
mod openapi;
mod operations;
mod pages;
mod problem;
mod reads;
mod routes;
#[cfg(test)]
mod tests;
mod verbs;

/// The time that operations have to end after the server was asked to stop.
const LAST: Duration = Duration::from_secs(20 * 60);

/// Listens on an address. All addresses of a node without IPv6 are those of IPv4.
async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(_) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

/// Serves until it is interrupted.
pub(crate) async fn run(
    args: Args,
    flags: Flags,
    manager: Option<String>,
    out: &Arc<Output>,
    interruption: Interruption,
) -> Result<(), Failure> {
    args.check()?;
    let own = !args.pass_token;
    let reach = flags.to_repeat();
    // A kubeconfig that leads nowhere is reported now, and not to the first caller.
    let callers = To { way: Arc::new(Way::of(flags)?), manager };
    if own {
        callers.session(Caller::Own, Arc::clone(out)).await?;
    }
    let tls = match (args.tls_cert_file, args.tls_private_key_file) {
        (Some(certificate), Some(key)) => {
            Some(Arc::new(Tls::of(certificate, key, Arc::clone(out))?))
        }
        _ => None,
    };
    let naming = Naming { cluster: args.cluster_template, namespace: args.namespace_template };
    let mut app = App::new(Arc::new(callers), naming, server_time, chance);
    app.passes_tokens = args.pass_token;
    app.hosts = args.accept_hosts;
    let app = Arc::new(app);
    let address = SocketAddr::new(args.address, args.port);
    let listener = listen(address).await.map_err(|error| {
        Failure::error(format!("cannot listen on {address}: {error}"))
            .hint_to("take a port that is free", Command::kubectl(["pgscale", "serve", "--port=0"]))
            .reached_by(&reach)
    })?;
    let address = listener.local_addr().unwrap_or(address);
    let scheme = if tls.is_some() { "https" } else { "http" };
    out.said(&format!("Serving on {scheme}://{address}"))?;

    let (stop, stopping) = watch::channel(false);
    let port = Port {
        listener,
        router: router(Arc::clone(&app)),
        tls,
        limits: Limits::default(),
        stopping,
    };
    let served = tokio::spawn(port.run());
    interruption.ends_only(std::future::pending()).await;
    app.stopping.store(true, Ordering::Release);
    let running = app.operations.running();
    if !running.is_empty() {
        let all: Vec<Operation> = running.iter().map(|act| act.operation()).collect();
        out.note(&format!(
            "Stopping when these changes have ended: {}. Interrupt again to leave them as they are.",
            clusters(&all)
        ));
        interruption.is(left(Kind::Interrupted, &all).reached_by(&reach));
        if timeout(LAST, join_all(running.iter().map(|act| act.ended()))).await.is_err() {
            return Err(left(Kind::Timeout, &all).reached_by(&reach));
        }
    }
    stop.send_replace(true);
    served.await.ok();
    Ok(())
}

fn clusters(operations: &[Operation]) -> String {
    let names = operations.iter().map(|it| format!("{}/{}", it.namespace, it.name));
    names.collect::<Vec<_>>().join(", ")
}

/// Returns the failure of a server that ends before its operations have.
fn left(kind: Kind, operations: &[Operation]) -> Failure {
    let what = "left in the middle of a change, and what was written stays";
    let failure = Failure::new(kind, format!("{}: {what}", clusters(operations)));
    operations.iter().fold(failure, |failure, it| {
        let words = ["pgscale", "status", &it.name, "--why", "-n", &it.namespace];
        failure
            .hint_to(format!("see where {}/{} is", it.namespace, it.name), Command::kubectl(words))
    })
}
