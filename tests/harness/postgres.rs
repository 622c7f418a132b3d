//! Connections to the PostgreSQL of a pod.

use std::net::Ipv4Addr;
use std::ops::Deref;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::patroni::POSTGRES_PORT;

/// The limit for a connection or a statement.
const TIMEOUT: Duration = Duration::from_secs(3);

/// A connection, closed when dropped. It has all methods of a [`Client`].
#[derive(Debug)]
pub struct Session {
    client: Client,
    connection: JoinHandle<()>,
}

impl Session {
    /// Connects to the database `postgres` of the pod with this address as its superuser.
    ///
    /// # Errors
    /// Fails when there is no connection within three seconds.
    pub async fn open(address: Ipv4Addr) -> Result<Self> {
        Self::open_as(address, "postgres").await
    }

    /// Connects as another user.
    ///
    /// # Errors
    /// Fails when there is no connection within three seconds.
    pub async fn open_as(address: Ipv4Addr, user: &str) -> Result<Self> {
        let mut config = Config::new();
        config.host(address.to_string()).port(POSTGRES_PORT).dbname("postgres").user(user);
        let opened = timeout(TIMEOUT, config.connect(NoTls))
            .await
            .with_context(|| format!("no answer from PostgreSQL at {address} within 3 s"))?;
        let (client, connection) =
            opened.with_context(|| format!("failed to connect to PostgreSQL at {address}"))?;
        // A waiting statement gets the error of the connection.
        let connection = tokio::spawn(async move { _ = connection.await });
        Ok(Self { client, connection })
    }

    /// Returns the first column of the first row as text. `None` for no row or SQL NULL.
    ///
    /// # Errors
    /// Fails when the statement fails or takes longer than three seconds.
    pub async fn word(&self, statement: &str) -> Result<Option<String>> {
        let rows = timeout(TIMEOUT, self.client.simple_query(statement))
            .await
            .with_context(|| format!("no answer to {statement:?} within 3 s"))?
            .with_context(|| format!("failed to run {statement:?}"))?;
        Ok(rows.iter().find_map(|message| {
            let SimpleQueryMessage::Row(row) = message else { return None };
            row.get(0).map(str::to_owned)
        }))
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
