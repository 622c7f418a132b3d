//! A relay to a server that can lose answers.
//!
//! Answers of the server arrive late, so that a test can react to an event at the server before the
//! client sees the answer. Requests of the client pass at once.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, copy_bidirectional};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// The number of bytes that are read at a time.
const CHUNK: usize = 64 * 1024;

/// The treatment of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// Answers arrive late.
    Late,
    /// Answers wait.
    Held,
    /// Earlier connections are closed, and their waiting answers lost. Answers of new connections
    /// pass at once.
    Cut,
}

/// A listening relay. Its connections end when it is dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    flow: watch::Sender<Flow>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Listens on a port of the loopback address and relays to `server`. Answers take `delay`.
    ///
    /// # Errors
    /// Fails when it cannot listen.
    pub async fn start(server: SocketAddr, delay: Duration) -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("failed to listen")?;
        let address = listener.local_addr().context("the relay has no address")?;
        let (flow, seen) = watch::channel(Flow::Late);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, server, delay, seen.clone()));
            }
        });
        Ok(Self { address, flow, task })
    }

    /// Returns the address of the relay.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Holds all answers from now on.
    pub fn hold(&self) {
        self.flow.send_replace(Flow::Held);
    }

    /// Ends every connection and loses the answers that have not reached the client. New
    /// connections pass at once.
    pub fn cut(&self) {
        self.flow.send_replace(Flow::Cut);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn serve(
    mut client: TcpStream,
    server: SocketAddr,
    delay: Duration,
    flow: watch::Receiver<Flow>,
) {
    // A side that closes is expected here. The other side sees it.
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    if *flow.borrow() == Flow::Cut {
        _ = copy_bidirectional(&mut client, &mut server).await;
        return;
    }
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let mut cut = flow.clone();
    let there = async {
        _ = copy(&mut from_client, &mut to_server).await;
        _ = to_server.shutdown().await;
    };
    let back = answers(from_server, to_client, delay, flow);
    tokio::select! {
        ((), ()) = futures::future::join(there, back) => {}
        _ = cut.wait_for(|flow| *flow == Flow::Cut) => {}
    }
}

/// Relays the answers of the server, each piece `delay` after it arrived.
async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    delay: Duration,
    mut flow: watch::Receiver<Flow>,
) {
    let (sender, mut pieces) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let read = async move {
        let mut piece = vec![0; CHUNK];
        while let Ok(length @ 1..) = from.read(&mut piece).await {
            let due = Instant::now() + delay;
            let bytes = piece.iter().copied().take(length).collect();
            if sender.send((due, bytes)).is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            let passes = flow.wait_for(|flow| *flow != Flow::Held).await;
            let passes = passes.is_ok_and(|flow| *flow == Flow::Late);
            if !passes || to.write_all(&piece).await.is_err() {
                return;
            }
        }
        _ = to.shutdown().await;
    };
    futures::join!(read, write);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts a server that returns its input, and returns its address.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (mut from, mut to) = stream.into_split();
                tokio::spawn(async move { copy(&mut from, &mut to).await });
            }
        });
        address
    }

    async fn ask(stream: &mut TcpStream) -> std::io::Result<[u8; 4]> {
        stream.write_all(b"ping").await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.map(|_| answer)
    }

    #[tokio::test]
    async fn answers_are_late_then_lost_and_then_prompt() {
        let delay = Duration::from_millis(200);
        let relay = Relay::start(echo().await, delay).await.unwrap();
        let mut old = TcpStream::connect(relay.address()).await.unwrap();
        let start = Instant::now();
        assert_eq!(ask(&mut old).await.unwrap(), *b"ping");
        assert!(start.elapsed() >= delay);

        relay.hold();
        let lost = tokio::spawn(async move { ask(&mut old).await });
        tokio::time::sleep(2 * delay).await;
        assert!(!lost.is_finished(), "an answer passed that should have been held");
        relay.cut();
        assert!(lost.await.unwrap().is_err(), "an answer passed that should have been lost");

        let mut new = TcpStream::connect(relay.address()).await.unwrap();
        assert_eq!(ask(&mut new).await.unwrap(), *b"ping");
    }
}
